"""Unit tests of train.loop.feeder."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError

import pytest

from bert_rt.errors import InputError
from tests.support.toy_task.objective import ToyObjective
from train.loop.feeder import Feeder


def _threads() -> list[str]:
    return [one.name for one in threading.enumerate() if one.name.startswith("micro-batches")]


def test_the_next_micro_batch_is_made_meanwhile() -> None:
    is_made = {index: threading.Event() for index in range(3)}
    objective = ToyObjective(before=lambda index: is_made[index].set())
    with Feeder(objective) as feeder:
        first = feeder.take(0, 1)
        assert is_made[1].wait(10)  # without anybody asking
        assert not is_made[2].is_set()
        second = feeder.take(1, 2)
    assert first.tensors["x"].equal(objective.x_BD[:4])
    assert second.tensors["x"].equal(objective.x_BD[4:8])
    assert objective.made[:2] == [0, 1]


def test_another_one_than_announced() -> None:
    objective = ToyObjective()
    with Feeder(objective) as feeder:
        feeder.take(0, 1)
        assert feeder.take(5, 6).tensors["x"].equal(objective.x_BD[20:24])
        assert feeder.take(5, 6).tensors["x"].equal(objective.x_BD[20:24])


def test_an_error_crosses_threads_where_its_micro_batch_is_taken() -> None:
    def fail(index: int) -> None:
        if index == 1:
            raise InputError("row 7: got nothing")

    objective = ToyObjective(before=fail)
    with Feeder(objective) as feeder:
        feeder.take(0, 1)
        with pytest.raises(InputError, match="row 7: got nothing"):
            feeder.take(1, 2)
        # The thread lives on.
        assert feeder.take(2, 3).tensors["x"].equal(objective.x_BD[8:12])


def test_an_error_of_what_nobody_takes_is_no_error() -> None:
    def fail(index: int) -> None:
        if index == 1:
            raise InputError("behind the end of the run")

    with Feeder(ToyObjective(before=fail)) as feeder:
        feeder.take(0, 1)
    assert _threads() == []


def test_the_end_waits_for_the_one_that_is_being_made_and_starts_no_other() -> None:
    is_begun, may_end = threading.Event(), threading.Event()

    def wait(index: int) -> None:
        if index == 1:
            is_begun.set()
            assert may_end.wait(10)

    def take_two_more(feeder: Feeder) -> None:
        with pytest.raises(CancelledError):
            feeder.take(2, 3)
        was_cancelled.set()

    was_cancelled = threading.Event()
    objective = ToyObjective(before=wait)
    with Feeder(objective) as feeder:
        feeder.take(0, 1)
        assert is_begun.wait(10)
        # Two more are wanted, and never begun.
        taker = threading.Thread(target=take_two_more, args=(feeder,))
        taker.start()
        threading.Timer(0.2, may_end.set).start()
    taker.join(10)
    assert was_cancelled.is_set()
    assert _threads() == []
    assert objective.made[:2] == [0, 1]
    assert 3 not in objective.made
    with pytest.raises(RuntimeError, match="after shutdown"):
        feeder.take(4, 5)

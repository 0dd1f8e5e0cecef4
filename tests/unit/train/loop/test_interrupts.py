"""Unit tests of train.loop.interrupts and train.loop.scoring: signals during a run."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from tests.support.toy_task.objective import ToyObjective, make_model
from train.loop.interrupts import refuse_passes, stop_on_signals
from train.loop.scoring import score

SIGNALS = (signal.SIGTERM, signal.SIGINT)


@pytest.fixture
def seen() -> Iterator[list[int]]:
    """Handle both signals as a program around the run would, and return which came."""
    came: list[int] = []
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number in SIGNALS:
        signal.signal(number, lambda got, _: came.append(got))
    yield came
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_asks_and_the_second_does_what_it_did_before(
    seen: list[int], number: int
) -> None:
    with stop_on_signals() as stop:
        assert not stop.is_set()
        os.kill(os.getpid(), number)
        assert stop.wait(10)
        assert seen == []
        os.kill(os.getpid(), number)
        assert seen == [number]
    os.kill(os.getpid(), number)
    assert seen == [number, number]


def test_handlers_come_back_after_an_error(seen: list[int]) -> None:
    handlers = [signal.getsignal(number) for number in SIGNALS]

    def fail() -> None:
        with stop_on_signals():
            raise RuntimeError("the run failed")

    with pytest.raises(RuntimeError, match="the run failed"):
        fail()
    assert [signal.getsignal(number) for number in SIGNALS] == handlers


def test_another_thread_takes_no_signals(seen: list[int]) -> None:
    handlers = [signal.getsignal(number) for number in SIGNALS]
    found: list[object] = []

    def run() -> None:
        with stop_on_signals() as stop:
            found.extend([stop.is_set(), *(signal.getsignal(number) for number in SIGNALS)])

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(10)
    assert found == [False, *handlers]


def test_passes_are_refused_once_the_event_is_set() -> None:
    model, stop = make_model(), threading.Event()
    x = torch.ones(1, 3)
    with refuse_passes(model, once=stop):
        model(x)
        stop.set()
        with pytest.raises(InterruptedError):
            model(x)
    model(x)  # as before


# Scoring


class _Watched(ToyObjective):
    """Notes the model's mode; a signal comes, or an error, before the pass."""

    stop: threading.Event | None = None
    error: Exception | None = None
    modes: list[bool]

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        self.modes = [model.training, torch.is_inference_mode_enabled()]
        if self.stop is not None:
            self.stop.set()
        if self.error is not None:
            raise self.error
        return dict(super().evaluate(model))


@pytest.mark.parametrize("was_training", [True, False])
def test_a_score_leaves_the_model_as_it_was(was_training: bool) -> None:
    objective, model = _Watched(scores=(0.5,)), make_model().train(was_training)
    assert score(model, objective, threading.Event()) == {"r2": 0.5}
    assert objective.modes == [False, True]
    assert model.training == was_training


def test_a_score_that_a_signal_meets_is_given_up() -> None:
    objective, model, stop = _Watched(scores=(0.5,)), make_model(), threading.Event()
    objective.stop = stop
    assert score(model, objective, stop) is None
    assert model.training
    model(torch.ones(1, 3))


@pytest.mark.parametrize("is_stopped", [False, True])
def test_an_error_of_a_score_is_one_unless_a_signal_came(is_stopped: bool) -> None:
    objective, model, stop = _Watched(scores=(0.5,)), make_model(), threading.Event()
    objective.error = ValueError("no such file")
    if is_stopped:
        objective.stop = stop
        assert score(model, objective, stop) is None
    else:
        with pytest.raises(ValueError, match="no such file"):
            score(model, objective, stop)
    assert model.training

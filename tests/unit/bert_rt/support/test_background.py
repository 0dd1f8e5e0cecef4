"""A function in a thread of its own."""

from __future__ import annotations

import threading

import pytest

from bert_rt.support.background import Background


def test_it_runs_beside_its_caller_and_returns_its_result() -> None:
    go = threading.Event()

    def function() -> int:
        assert go.wait(60)
        return threading.get_ident()

    background = Background(function)
    go.set()
    assert background.result() == background.result() != threading.get_ident()


def test_its_error_is_raised_where_the_result_is_wanted() -> None:
    def function() -> None:
        raise KeyError("damaged")

    background = Background(function)
    background.wait()
    with pytest.raises(KeyError, match="damaged"):
        background.result()

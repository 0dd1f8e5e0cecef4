"""bert_rt.pipeline returns what the pipeline of Transformers 4.57 returns."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bert_rt import pipeline
from tests.golden.pipeline.pipeline_cases import CASES, GOLDEN_FILE, write_checkpoint
from tests.tolerances import FLOAT32_ATOL

_GOLDEN = json.loads(GOLDEN_FILE.read_text())


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function from a checkpoint's name to its directory, written when first wanted."""
    root = tmp_path_factory.mktemp("checkpoints")

    def path_of(name: str) -> Path:
        if not (root / name).is_dir():
            write_checkpoint(name, root / name)
        return root / name

    return path_of


def assert_same(got: Any, want: Any, place: str) -> None:
    """Compare nested results: shapes, names and texts exactly, numbers closely."""
    assert type(got) is type(want), f"{place}: {got} {want}"
    if isinstance(want, list):
        assert len(got) == len(want), f"{place}: {got} {want}"
        for index, (ours, theirs) in enumerate(zip(got, want, strict=True)):
            assert_same(ours, theirs, f"{place}[{index}]")
    elif isinstance(want, dict):
        assert got.keys() == want.keys(), place
        for name in want:
            assert_same(got[name], want[name], f"{place}.{name}")
    elif isinstance(want, float):
        # Two programs of the same weights: probabilities are no more apart than logits are.
        assert got == pytest.approx(want, abs=FLOAT32_ATOL), place
    else:
        assert got == want, place


def run_case(name: str, model: Path) -> None:
    case = CASES[name]
    num_threads = torch.get_num_threads()
    with warnings.catch_warnings(), pipeline(case.task, str(model), **case.options) as pipe:
        warnings.filterwarnings("ignore", "return_all_scores", UserWarning)
        for index, (args, kwargs) in enumerate(case.calls):
            want = _GOLDEN["cases"][name][index]
            assert_same(pipe(*args, **kwargs), want, f"{name}[{index}]")
    torch.set_num_threads(num_threads)


def test_the_golden_results_are_of_the_release_that_we_replace() -> None:
    assert _GOLDEN["versions"]["transformers"].startswith("4.57.")
    calls = {name: len(case.calls) for name, case in CASES.items()}
    assert {name: len(results) for name, results in _GOLDEN["cases"].items()} == calls


@pytest.mark.parametrize("name", [name for name in CASES if CASES[name].checkpoint != "shared"])
def test_same_results(name: str, checkpoint: Callable[[str], Path]) -> None:
    run_case(name, checkpoint(CASES[name].checkpoint))


def test_same_results_of_a_trained_model(shared_dir: Path) -> None:
    run_case("lighthouse", shared_dir / "models" / "minilm-l6-squad")

"""bert_rt.pipeline labels tokens as the pipeline of Transformers 4.57 does."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
import torch

from bert_rt import pipeline
from tests.golden.pipeline.test_pipeline import assert_same
from tests.golden.tokens.token_cases import CASES, GOLDEN_FILE, write_checkpoint

_GOLDEN = json.loads(GOLDEN_FILE.read_text())


def test_the_golden_results_are_of_the_release_that_we_replace() -> None:
    assert _GOLDEN["versions"]["transformers"].startswith("4.57.")
    calls = {name: len(case.calls) for name, case in CASES.items()}
    assert {name: len(results) for name, results in _GOLDEN["cases"].items()} == calls


def test_the_golden_results_are_of_many_kinds() -> None:
    found = json.dumps(_GOLDEN["cases"])
    assert all(f'"entity_group": "{kind}"' in found for kind in ("PER", "LOC", "MISC"))
    assert all(f'"entity": "{label}"' in found for label in ("B-PER", "I-LOC", "PER"))
    assert '"word": "##' in found and '"word": "\\u0120' in found and '"word": "\\u2581' in found


@pytest.mark.parametrize("name", [*CASES])
def test_same_results(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    write_checkpoint(case.checkpoint, tmp_path / "checkpoint")
    num_threads = torch.get_num_threads()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*(deprecated|does not mark words)", UserWarning)
        with pipeline(case.task, str(tmp_path / "checkpoint"), **case.options) as pipe:
            for index, (args, kwargs) in enumerate(case.calls):
                want = _GOLDEN["cases"][name][index]
                assert_same(pipe(*args, **kwargs), want, f"{name}[{index}]")
    torch.set_num_threads(num_threads)

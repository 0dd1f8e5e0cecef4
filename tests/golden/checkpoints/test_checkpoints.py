"""Checkpoints as people really have them give the results of Transformers 4.57."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from bert_rt import pipeline
from bert_rt.errors import CheckpointError, InputError
from bert_rt.tasks.checkpoints import load_model
from tests.golden.checkpoints.checkpoint_cases import CASES, GOLDEN_FILE, call_of, write_case
from tests.golden.pipeline.test_pipeline import assert_same
from tests.support.checkpoints import edit_config

_GOLDEN = json.loads(GOLDEN_FILE.read_text())
# Transformers computes in the checkpoint's own precision, 11 and 8 bits of mantissa; here it is
# float32. Twenty roundings on the way to a probability below 1.
_ATOL = {"float16": 20 * 2.0**-11, "bfloat16": 20 * 2.0**-8}


def run_case(name: str, directory: Path) -> Any:
    """Make the call of a case on its checkpoint."""
    num_threads = torch.get_num_threads()
    with pipeline(CASES[name].task, str(directory)) as pipe:
        got = pipe(**call_of(CASES[name]))
    torch.set_num_threads(num_threads)
    return got


def test_the_golden_results_are_of_the_release_that_we_replace() -> None:
    assert _GOLDEN["versions"]["transformers"].startswith("4.57.")
    assert _GOLDEN["cases"].keys() == CASES.keys()


@pytest.mark.parametrize("name", CASES)
def test_same_results(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_case(name, tmp_path / "c")
    with caplog.at_level(logging.WARNING):
        got = run_case(name, tmp_path / "c")
    want = _GOLDEN["cases"][name]
    if name in _ATOL:
        assert [item["label"] for item in got] == [item["label"] for item in want]
        scores = [item["score"] for item in want]
        assert [item["score"] for item in got] == pytest.approx(scores, abs=_ATOL[name])
    else:
        assert_same(got, want, name)
    messages = [
        record.getMessage() for record in caplog.records if "surplus" in record.getMessage()
    ]
    assert len(messages) == ("left over" in name)


def test_shared_models_with_a_pooler_left_over(
    shared_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = shared_dir / "cases" / "c2_roberta"
    with pipeline("text-classification", str(path), top_k=None) as pipe:
        got = pipe("good film")
    scores = {item["label"]: item["score"] for item in got[0]}
    want = {"neutral": 0.7781, "positive": 0.1445, "negative": 0.0774}
    assert scores == pytest.approx(want, abs=5e-5)
    assert "ignored 2 surplus keys (roberta.pooler.dense.bias, " in caplog.text
    # The other one has no tokenizer that Transformers reads; its weights are as whole.
    loaded = load_model(shared_dir / "cases" / "c2_xlmr")
    assert (loaded.task, loaded.new_keys, len(loaded.unused_keys)) == ("text-classification", (), 2)


def test_a_model_of_one_token_type_takes_no_second_text(tmp_path: Path) -> None:
    # Transformers raises an IndexError within the model.
    write_case("one token type", tmp_path / "c")
    message = r"inputs\[0\]\.text_pair: got a second text, want none: .*type_vocab_size 1"
    pair = {"text": "the cat", "text_pair": "the mat"}
    with (
        pipeline("text-classification", str(tmp_path / "c")) as pipe,
        pytest.raises(InputError, match=message),
    ):
        pipe(pair)
    edit_config(tmp_path / "c", architectures=None)
    with pytest.raises(CheckpointError, match="type_vocab_size: got 1, want at least 2 for quest"):
        pipeline("question-answering", str(tmp_path / "c"))

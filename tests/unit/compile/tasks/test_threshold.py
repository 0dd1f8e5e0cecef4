"""Tests of the threshold of "no answer", in compile.tasks.question_answering."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from bert_rt.api import Runtime
from bert_rt.artifact.manifest import ManifestFields
from bert_rt.errors import CalibrationError
from bert_rt.model.config import to_dict
from bert_rt.tasks.question_answering.evaluation import evaluate
from compile.tasks.question_answering import check_both_kinds, tune_threshold
from tests.support.artifacts import CONFIG, LIMITS, make_model, write_tiny_artifact
from tests.support.data.text import make_tokenizer
from tests.unit.compile import tiny


def test_the_runtime_scores_what_was_promised(tmp_path: Path) -> None:
    limits = dataclasses.replace(LIMITS, version_2_with_negative=True)
    asked = tiny.examples(60, seed=4)
    artifact = write_tiny_artifact(tmp_path / "plain", limits=limits)
    never = dataclasses.replace(limits, null_score_diff_threshold=1e6)
    with Runtime.load(artifact.path, engine="onnxruntime", config=never) as runtime:
        spans = runtime.answer_batch([(e.question, e.context) for e in asked])
    # Every second question has what the model says for gold; the others have no answer.
    asked = [
        dataclasses.replace(e, answers=(a.text,), answer_starts=(a.start,), is_impossible=False)
        if index % 2
        else e
        for index, (e, a) in enumerate(zip(asked, spans, strict=True))
    ]
    files = {"model.onnx": make_model(), "tokenizer.json": make_tokenizer().to_json()}
    fields = ManifestFields(
        task="question-answering", architecture=CONFIG, precision="float32", limits=to_dict(limits)
    )
    found = tune_threshold(files, fields, asked)
    assert found.f1 > 50.0
    for value, wanted in ((found.value, found.f1), (0.0, found.f1_at_zero)):
        config = dataclasses.replace(limits, null_score_diff_threshold=value)
        with Runtime.load(artifact.path, engine="onnxruntime", config=config) as runtime:
            assert evaluate(runtime, asked).f1 == pytest.approx(wanted)


def test_one_kind_of_questions_finds_no_threshold() -> None:
    impossible = tiny.examples(4)
    answered = [dataclasses.replace(e, is_impossible=False) for e in impossible]
    check_both_kinds([*impossible, *answered])
    for one_kind, count in ((impossible, 4), (answered, 0), ([], 0)):
        with pytest.raises(CalibrationError, match=f"got {count} questions without an answer"):
            check_both_kinds(one_kind)

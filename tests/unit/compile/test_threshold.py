"""Tests of compile.threshold."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from bert_rt.api import Runtime
from bert_rt.evaluation import evaluate
from bert_rt.manifest import ManifestFields
from compile.threshold import best_threshold, tune_threshold
from tests.support.artifacts import CONFIG, LIMITS, make_model, write_tiny_artifact
from tests.support.text import make_tokenizer
from tests.unit.compile import tiny


@pytest.mark.parametrize("seed", range(20))
def test_as_good_as_trying_them_all(seed: int) -> None:
    random = np.random.default_rng(seed)
    count = int(random.integers(1, 40))
    # Few different margins, so that many are equal.
    margins = random.integers(-4, 5, count) / 2.0
    spans, nulls = random.random(count), random.integers(0, 2, count).astype(float)

    def f1(threshold: float) -> float:
        return 100 * float(np.where(margins > threshold, nulls, spans).mean())

    found = best_threshold(margins, spans, nulls)
    assert found.f1 == pytest.approx(f1(found.value))
    assert found.f1_at_zero == pytest.approx(f1(0.0))
    assert found.f1 >= max(f1(threshold) for threshold in np.arange(-6, 6, 0.25)) - 1e-9
    # No margin is near, which another engine's rounding could carry over it.
    assert np.abs(margins - found.value).min() >= 0.25


def test_always_and_never() -> None:
    margins = np.array([-3.0, 1.0, 2.0])
    assert best_threshold(margins, np.ones(3), np.zeros(3)).value == 2.5
    assert best_threshold(margins, np.zeros(3), np.ones(3)).value == -3.5
    assert best_threshold(margins, np.ones(3), np.ones(3)).value == -3.5


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
        task="question-answering", architecture=CONFIG, precision="float32", limits=limits
    )
    found = tune_threshold(files, fields, asked)
    assert found.f1 > 50.0
    for value, wanted in ((found.value, found.f1), (0.0, found.f1_at_zero)):
        config = dataclasses.replace(limits, null_score_diff_threshold=value)
        with Runtime.load(artifact.path, engine="onnxruntime", config=config) as runtime:
            assert evaluate(runtime, asked).f1 == pytest.approx(wanted)

"""Tests of compile.judge.temperature."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from bert_rt.api import Runtime
from bert_rt.artifact.manifest import ManifestFields
from bert_rt.model.config import to_dict
from bert_rt.tasks.metrics import reliability
from bert_rt.tasks.question_answering.evaluation import evaluate
from bert_rt.tasks.question_answering.squad import SquadExample
from bert_rt.tasks.text_classification.evaluation import evaluate_classes
from bert_rt.tasks.text_classification.head import ClassifierHead
from bert_rt.tasks.text_classification.labelled import LabelledText
from bert_rt.types import TextInput
from compile.judge.temperature import (
    MIN_EXAMPLES,
    Confidence,
    best_temperature,
    score_receipt,
    tune_temperature,
)
from compile.tasks.base import Settings
from compile.tasks.question_answering import QuestionAnswering
from compile.tasks.text_classification import MultiLabel, SingleLabel
from tests.support.artifacts import (
    CLASSIFIER_LIMITS,
    CONFIG,
    LABELS,
    LIMITS,
    make_model,
    write_tiny_artifact,
    write_tiny_classifier,
)
from tests.support.data.text import make_tokenizer
from tests.unit.compile import tiny, tiny_classifier

SPANS = QuestionAnswering(Settings())
CLASSES = SingleLabel(Settings(), labels=LABELS, head=ClassifierHead())


@pytest.mark.parametrize("wanted", [0.06, 0.3, 1.0, 1.37, 4.0, 19.0])
def test_the_bottom_of_a_valley(wanted: float) -> None:
    asked = []

    def log_loss(temperature: float) -> float:
        asked.append(temperature)
        return (math.log(temperature) - math.log(wanted)) ** 2

    assert best_temperature(log_loss) == pytest.approx(wanted, rel=1e-3)
    assert len(asked) < 50


def test_the_deeper_of_two_valleys() -> None:
    def log_loss(temperature: float) -> float:
        return min(0.05 + math.log(temperature / 0.4) ** 2, math.log(temperature / 6.0) ** 2)

    assert best_temperature(log_loss) == pytest.approx(6.0, rel=1e-3)


def test_a_slope_ends_at_the_bounds() -> None:
    assert best_temperature(lambda temperature: temperature) == pytest.approx(0.05, rel=1e-3)
    assert best_temperature(lambda temperature: -temperature) == pytest.approx(20.0, rel=1e-3)


def asked_of(path: Path, *, sure: float, count: int = 400) -> list[SquadExample]:
    """Return questions whose gold is drawn as if scores with the temperature sure were true."""
    asked = tiny.examples(count, seed=4)
    random = np.random.default_rng(0)
    with Runtime.load(path, engine="onnxruntime") as runtime:
        options = dataclasses.replace(runtime.options(), score_temperature=sure)
        answers = list(runtime.ask_stream([(e.question, e.context) for e in asked], options))
    return [
        dataclasses.replace(
            e,
            answers=(a.text if random.random() < a.score else "zzz",),
            answer_starts=(0,),
            is_impossible=False,
        )
        for e, a in zip(asked, answers, strict=True)
    ]


@pytest.mark.parametrize("sure", [0.2, 0.4])
def test_questions_that_are_right_as_often_as_scores_say(sure: float, tmp_path: Path) -> None:
    artifact = write_tiny_artifact(tmp_path / "plain")
    asked = asked_of(artifact.path, sure=sure)
    with Runtime.load(artifact.path, engine="onnxruntime") as runtime:
        counter = tiny.Silent()
        found = SPANS.fit_temperature(runtime, asked, counter)
        plain = evaluate(runtime, asked, raw_scores=True)
    assert (counter.count, found.total, found.verdict) == (400, 400, "fitted")
    # Within three standard errors or so of a draw of 400.
    assert found.score_temperature == pytest.approx(sure, rel=0.2)
    assert found.log_loss < found.log_loss_at_one
    write_tiny_artifact(tmp_path / "cooled", score_temperature=found.score_temperature)
    with Runtime.load(tmp_path / "cooled", engine="onnxruntime") as runtime:
        cooled = evaluate(runtime, asked, raw_scores=True)
    assert cooled.predictions == plain.predictions
    before = reliability(plain.score_N, plain.exact_N).expected_calibration_error
    after = reliability(cooled.score_N, cooled.exact_N).expected_calibration_error
    assert after < before / 2
    # The loss that was promised is the loss of the scores that are answered.
    probability = np.where(cooled.exact_N == 1, cooled.score_N, 1 - cooled.score_N)
    assert -np.log(probability).mean() == pytest.approx(found.log_loss, rel=1e-3)
    np.testing.assert_allclose(cooled.raw_score_N, plain.score_N, rtol=1e-3)


def labelled(path: Path, *, sure: float, count: int = 600) -> list[LabelledText]:
    """Return texts whose label is drawn as if scores with the temperature sure were true."""
    texts = tiny_classifier.texts(count, seed=5)
    random = np.random.default_rng(0)
    with Runtime.load(path, engine="onnxruntime") as runtime:
        logits = np.array([result.logits for result in runtime.classify_batch(texts)])
    weights = np.exp((logits - logits.max(axis=1, keepdims=True)) / sure)
    weights /= weights.sum(axis=1, keepdims=True)
    return [
        LabelledText(TextInput(text), LABELS[random.choice(len(LABELS), p=row)], f"f, line {n}")
        for n, (text, row) in enumerate(zip(texts, weights, strict=True))
    ]


@pytest.mark.parametrize("sure", [0.5, 2.0])
def test_classes_that_are_right_as_often_as_scores_say(sure: float, tmp_path: Path) -> None:
    artifact = write_tiny_classifier(tmp_path / "plain")
    asked = labelled(artifact.path, sure=sure)
    with Runtime.load(artifact.path, engine="onnxruntime") as runtime:
        found = CLASSES.fit_temperature(runtime, asked, tiny.Silent())
        results = list(runtime.classify_stream(e.input for e in asked))
        plain = evaluate_classes(runtime, asked)
    assert found.score_temperature == pytest.approx(sure, rel=0.25)
    assert found.verdict == "fitted" and found.log_loss < found.log_loss_at_one
    logits = torch.tensor([result.logits for result in results])
    gold = torch.tensor([LABELS.index(e.label) for e in asked])
    for temperature, loss in (
        (found.score_temperature, found.log_loss),
        (1.0, found.log_loss_at_one),
    ):
        wanted = torch.nn.functional.cross_entropy(logits / temperature, gold)
        assert loss == pytest.approx(float(wanted), rel=1e-5)
    np.testing.assert_array_equal(plain.score_Q, plain.raw_score_Q)


def test_the_fit_of_files(tmp_path: Path) -> None:
    artifact = write_tiny_artifact(tmp_path / "plain")
    asked = asked_of(artifact.path, sure=0.3)
    files = {"model.onnx": make_model(), "tokenizer.json": make_tokenizer().to_json()}
    fields = ManifestFields(
        task="question-answering", architecture=CONFIG, precision="float32", limits=to_dict(LIMITS)
    )
    found = tune_temperature(files, fields, asked, SPANS.fit_temperature)
    # What stands there already has no say.
    fields["score_temperature"] = 5.0
    assert tune_temperature(files, fields, asked, SPANS.fit_temperature) == found


@pytest.mark.parametrize("text", ["zzz", None])
def test_questions_that_are_all_wrong_or_all_right(text: str | None, tmp_path: Path) -> None:
    artifact = write_tiny_artifact(tmp_path / "plain")
    asked = tiny.examples(MIN_EXAMPLES, seed=4)
    with Runtime.load(artifact.path, engine="onnxruntime") as runtime:
        answers = runtime.answer_batch([(e.question, e.context) for e in asked])
        asked = [
            dataclasses.replace(e, answers=(text or a.text,), answer_starts=(0,))
            for e, a in zip(asked, answers, strict=True)
        ]
        found = SPANS.fit_temperature(runtime, asked, tiny.Silent())
        few = SPANS.fit_temperature(runtime, asked[1:], tiny.Silent())
    right = 0 if text else MIN_EXAMPLES
    assert found.score_temperature == few.score_temperature == 1.0
    assert found.verdict == f"not fitted: got {right} right of 50, want right and wrong ones"
    assert found.log_loss == found.log_loss_at_one > 0
    assert few.verdict == "not fitted: got 49 examples, want at least 50"


def test_no_answer_is_an_answer_to_be_sure_of(tmp_path: Path) -> None:
    limits = dataclasses.replace(
        LIMITS, version_2_with_negative=True, null_score_diff_threshold=1e6
    )
    spans = write_tiny_artifact(tmp_path / "spans", limits=limits)
    with Runtime.load(spans.path, engine="onnxruntime") as runtime:
        pairs = [(e.question, e.context) for e in tiny.examples(400, seed=4)]
        median = np.median([a.null_score - a.logit for a in runtime.answer_batch(pairs)])
    limits = dataclasses.replace(limits, null_score_diff_threshold=float(median))
    artifact = write_tiny_artifact(tmp_path / "plain", limits=limits)
    with Runtime.load(artifact.path, engine="onnxruntime") as runtime:
        answers = runtime.answer_batch(pairs)
    # Every third answer is right, whether it is a span or none.
    asked = [
        dataclasses.replace(e, answers=(a.text or "zzz",), answer_starts=(0,), is_impossible=False)
        for e, a in zip(tiny.examples(400, seed=4), answers, strict=True)
    ]
    asked = [
        dataclasses.replace(e, answers=() if not a.text else e.answers)
        if index % 3 == 0
        else dataclasses.replace(e, answers=("zzz",))
        for index, (e, a) in enumerate(zip(asked, answers, strict=True))
    ]
    assert 20 < sum(not e.answers for e in asked) < 120
    with Runtime.load(artifact.path, engine="onnxruntime") as runtime:
        found = SPANS.fit_temperature(runtime, asked, tiny.Silent())
        want = evaluate(runtime, asked)
        got = evaluate(runtime, asked, raw_scores=True)
    assert found.verdict == "fitted" and found.log_loss <= found.log_loss_at_one
    # Evaluation looks at spans, and yet tells the scores of what is answered.
    for scores in (want.score_N, got.score_N, got.raw_score_N):
        np.testing.assert_allclose(scores, [a.score for a in answers], rtol=1e-3)
    probability = np.where(want.exact_N == 1, want.score_N, 1 - want.score_N)
    assert -np.log(probability).mean() == pytest.approx(found.log_loss_at_one, rel=1e-3)


def test_the_receipt_of_scores() -> None:
    correct = np.array([1.0, 0.0])
    receipt = score_receipt(Confidence(2.0, np.array([0.99, 0.99]), np.array([0.6, 0.5]), correct))
    assert receipt["score_temperature"] == 2.0
    assert receipt["before"]["num_examples"] == [0] * 14 + [2]
    assert receipt["before"]["expected_calibration_error"] == pytest.approx(0.49)
    assert receipt["after"]["expected_calibration_error"] == pytest.approx(0.45)
    assert sum(receipt["after"]["num_examples"]) == 2
    assert receipt["after"]["mean_score"][7:9] == [0.5, 0.6]
    assert receipt["after"]["accuracy"][7:9] == [0.0, 1.0]


def test_limits_of_classification_change_nothing(tmp_path: Path) -> None:
    artifact = write_tiny_classifier(tmp_path / "plain", limits=CLASSIFIER_LIMITS)
    asked = [dataclasses.replace(e, label=LABELS[0]) for e in labelled(artifact.path, sure=1.0)]
    with Runtime.load(artifact.path, engine="onnxruntime") as runtime:
        results = runtime.classify_batch([e.input for e in asked])
        right = [dataclasses.replace(e, label=r.label) for e, r in zip(asked, results, strict=True)]
        found = CLASSES.fit_temperature(runtime, right, tiny.Silent())
    assert found.score_temperature == 1.0
    assert found.verdict == "not fitted: got 600 right of 600, want right and wrong ones"


@pytest.mark.parametrize("sure", [0.5, 2.0])
def test_labels_that_are_right_as_often_as_scores_say(sure: float, tmp_path: Path) -> None:
    head = ClassifierHead(problem_type="multi_label_classification", function_to_apply="sigmoid")
    artifact = write_tiny_classifier(tmp_path / "plain", head=head.to_manifest())
    texts = tiny_classifier.texts(600, seed=5)
    random = np.random.default_rng(0)
    with Runtime.load(artifact.path, engine="onnxruntime") as runtime:
        logits = np.array([result.logits for result in runtime.classify_batch(texts)])
        drawn = random.random(logits.shape) < 1 / (1 + np.exp(-logits / sure))
        asked = [
            LabelledText(
                TextInput(text), json.dumps([LABELS[i] for i in np.flatnonzero(row)]), "f, line 2"
            )
            for text, row in zip(texts, drawn, strict=True)
        ]
        task = MultiLabel(Settings(), labels=LABELS, head=head)
        found = task.fit_temperature(runtime, asked, tiny.Silent())
        plain = task.evaluate(runtime, asked, progress=tiny.Silent())
    assert found.score_temperature == pytest.approx(sure, rel=0.2)
    assert (found.verdict, found.total) == ("fitted", 600)
    wanted = torch.nn.functional.binary_cross_entropy_with_logits(
        torch.from_numpy(logits / found.score_temperature), torch.from_numpy(drawn.astype(float))
    )
    assert found.log_loss == pytest.approx(float(wanted), rel=1e-5)
    assert plain.metrics["label_accuracy"] == pytest.approx(100 * ((logits > 0) == drawn).mean())

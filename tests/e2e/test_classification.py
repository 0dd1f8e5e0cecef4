"""Text classification from a checkpoint to classes, on every engine."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bert_rt.api import Runtime
from bert_rt.artifact.artifact import load_artifact
from bert_rt.engines.registry import missing
from bert_rt.errors import EngineError
from bert_rt.model.checkpoint import save_checkpoint
from bert_rt.support.cli import run_command
from bert_rt.tasks.checkpoints import build_model
from bert_rt.tasks.text_classification.evaluation import evaluate_classes
from bert_rt.tasks.text_classification.labelled import read_labelled
from compile import export, verify
from compile.graph.fuse import expected_counts
from compile.graph.head import GraphHead
from tests.tolerances import FLOAT32_ATOL
from tests.unit.compile import tiny, tiny_classifier

_ENGINES = ("onnxruntime", "openvino", "native", "reference")
# Root of the mean squared difference of logits over their spread, as in tests/parity/test_native.
MAX_INT8_DIFFERENCE = 0.05


def run(command: object, *arguments: object) -> int:
    return run_command(command.main, [str(argument) for argument in arguments])  # type: ignore[attr-defined]


def logits(path: Path, engine: str, texts: list[str], **options: object) -> np.ndarray:
    with Runtime.load(path, engine=engine, **options) as runtime:  # type: ignore[arg-type]
        return np.array([result.logits for result in runtime.classify_batch(texts)])


def test_the_float_artifact_is_the_checkpoint() -> None:
    made = tiny_classifier.exports()
    manifest = load_artifact(made.float_dir).manifest
    assert (manifest.task, manifest.labels) == ("text-classification", tiny_classifier.LABELS)
    assert manifest.fusions == expected_counts(tiny.CONFIG, GraphHead(fusions={"gemm": 2}))
    assert manifest.receipt is None and len(manifest.self_test) >= 5
    assert manifest.limits == {"max_seq_length": tiny.LIMITS.max_seq_length}
    texts = tiny_classifier.texts(40, seed=11)
    want = logits(made.float_dir, "torch", texts, checkpoint=made.checkpoint)
    assert want.std() > 1000 * FLOAT32_ATOL
    for engine in ("onnxruntime", "openvino", "reference"):
        np.testing.assert_allclose(
            logits(made.float_dir, engine, texts), want, rtol=0, atol=FLOAT32_ATOL
        )


def test_int8_on_every_engine() -> None:
    made = tiny_classifier.exports()
    artifact = load_artifact(made.int8_dir)
    assert artifact.manifest.precision == "int8"
    assert set(artifact.manifest.quantization["layers"]) == set(tiny.ENCODER_LINEARS)
    texts = tiny_classifier.texts(60, seed=12)
    results = {
        engine: logits(made.int8_dir, engine, texts)
        for engine in _ENGINES
        if missing(engine, artifact) is None
    }
    assert {"onnxruntime", "reference"} <= set(results)
    want = results["onnxruntime"]
    for engine, got in results.items():
        error = np.sqrt(((got - want) ** 2).mean()) / want.std()
        assert error < MAX_INT8_DIFFERENCE, engine


def test_the_native_engine_does_not_care_for_company() -> None:
    made = tiny_classifier.exports()
    if missing("native", load_artifact(made.int8_dir)) is not None:
        pytest.skip("the native engine is not built")
    texts = tiny_classifier.texts(60, seed=13)
    together = logits(made.int8_dir, "native", texts, num_threads=2)
    with Runtime.load(made.int8_dir, engine="native", num_threads=1) as runtime:
        alone = np.array([runtime.classify(text).logits for text in texts])
    # To the last bit.
    assert np.array_equal(together, alone)


def test_the_receipt_is_what_is_measured() -> None:
    made = tiny_classifier.exports()
    artifact = load_artifact(made.int8_dir)
    receipt = artifact.manifest.receipt
    assert receipt is not None
    assert receipt["dataset"]["total"] == 200
    assert receipt["float"]["accuracy"] == receipt["float"]["macro_f1"] == 100
    for engine, scores in receipt["int8"].items():
        with Runtime.load(made.int8_dir, engine=engine) as runtime:
            result = evaluate_classes(runtime, read_labelled(made.eval_file))
        assert scores["accuracy"] == pytest.approx(result.accuracy)
        assert 80 < result.accuracy <= 100
        # The gold labels are float's.
        assert scores["equal_labels"] == pytest.approx(result.accuracy / 100)
        low, high = scores["accuracy_difference_interval"]
        assert low <= scores["accuracy_difference"] <= high
    able = [name for name in _ENGINES[:3] if missing(name, artifact) is None]
    assert list(receipt["int8"]) == sorted(able)


def test_the_report_tells_accuracy() -> None:
    made = tiny_classifier.exports()
    report = (made.int8_dir / "report.html").read_text()
    for part in ("macro F1", "All 200 texts of", "evaluation.tsv", "Gate: passed", "encoder.layer"):
        assert part in report
    # Of engines that change a class, its text is shown.
    assert "<th>float&#x27;s class</th>" in report


def test_verify(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = tiny_classifier.exports()
    output_json = tmp_path / "output.json"
    flags = ["--artifact", made.int8_dir, "--eval_file", made.eval_file, "--json", output_json]
    assert run(verify, *flags) == 0
    out = capsys.readouterr().out
    assert "onnxruntime: self-test passed" in out
    receipt = load_artifact(made.int8_dir).manifest.receipt
    assert receipt is not None
    for engine, scores in receipt["int8"].items():
        want = f"{engine}: accuracy {scores['accuracy']:.2f}, macro F1 {scores['macro_f1']:.2f}"
        error = scores["score_calibration"]["after"]["expected_calibration_error"]
        assert f"{want}, expected calibration error {error:.4f}: confirmed" in out
    scores = json.loads(output_json.read_text())["scores"]
    assert scores["onnxruntime"]["accuracy"] == pytest.approx(
        receipt["int8"]["onnxruntime"]["accuracy"]
    )


def test_a_self_test_of_another_model_is_refused(tmp_path: Path) -> None:
    made = tiny_classifier.exports()
    path = tmp_path / "artifact"
    path.mkdir()
    for file in made.int8_dir.iterdir():
        (path / file.name).write_bytes(file.read_bytes())
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["self_test"][3]["logits"][0] += 1
    (path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(EngineError, match=r"self_test\[3\]\.logits: got"):
        Runtime.load(path, engine="onnxruntime")


# What is not written


def failure(capsys: pytest.CaptureFixture[str], tmp_path: Path, *arguments: object) -> str:
    """Run an export that must fail, and return its error."""
    output_dir = tmp_path / "art"
    flags = ["--output_dir", output_dir, *tiny_classifier.LIMIT_FLAGS, *arguments]
    assert run(export, *flags) == 2
    assert not output_dir.exists()
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("error: ")
    return line


def test_a_label_that_is_not_the_models(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = tiny_classifier.exports()
    strange = tiny_classifier.write_tsv(tmp_path / "a.tsv", [("cat", "good"), ("mat", "awful")])
    flags = ["--model_name_or_path", made.checkpoint, "--eval_file", strange]
    assert "a.tsv, line 3: label: got 'awful'" in failure(capsys, tmp_path, *flags)


def test_calibration_on_what_is_evaluated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = tiny_classifier.exports()
    flags = ["--model_name_or_path", made.checkpoint, "--int8"]
    files = ["--calibration_file", made.eval_file, "--eval_file", made.eval_file]
    line = failure(capsys, tmp_path, *flags, *files)
    assert "shares 200 texts with eval_file, want none" in line


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--min_accuracy_ratio", 1.5], "min_accuracy_ratio: got 1.5, want a number from 0 to 1"),
        (["--max_accuracy_loss", 0], "max_accuracy_loss: got 0.0, want a number above 0"),
        (["--max_seq_length", 65], "max_seq_length: got 65, want at most the model's longest"),
        (["--label_column", "gold"], "want 'gold' among them"),
    ],
)
def test_flags_that_cannot_be_followed(
    flags: list[object], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = tiny_classifier.exports()
    files = ["--model_name_or_path", made.checkpoint, "--eval_file", made.eval_file]
    assert message in failure(capsys, tmp_path, *files, *flags)


@pytest.mark.parametrize(
    ("num_labels", "extra", "message"),
    [
        (2, {"problem_type": "regression"}, "labels: got 2 for regression, want exactly one"),
        (1, {"problem_type": "single_label_classification"}, "function_to_apply: got 'sigmoid'"),
        (2, {"problem_type": "ranking"}, "problem_type: got 'ranking', want one of"),
        (2, {"id2label": {"0": "a", "1": "a"}}, "got the labels ['a', 'a'], want all different"),
    ],
)
def test_heads_that_do_not_compile(
    num_labels: int,
    extra: dict[str, object],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    files = {"vocab.txt": (tiny_classifier.exports().checkpoint / "vocab.txt").read_bytes()}
    model = build_model("text-classification", tiny.CONFIG, num_labels)
    checkpoint = tmp_path / "checkpoint"
    save_checkpoint(checkpoint, model, tiny.CONFIG, tokenizer_files=files, extra=extra)
    assert message in failure(capsys, tmp_path, "--model_name_or_path", checkpoint)

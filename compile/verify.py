"""python -m compile.verify: check an artifact's hashes, self-test and accuracy receipt."""

from __future__ import annotations

import reprlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bert_rt.api import Runtime
from bert_rt.artifact.artifact import Artifact, default_artifact_path, load_artifact
from bert_rt.engines.base import missing
from bert_rt.errors import ArtifactFormatError, InputError, ParityError
from bert_rt.model.config import Columns
from bert_rt.support.cli import (
    add_column_flags,
    add_json_flag,
    columns,
    make_parser,
    run_command,
    write_json,
)
from bert_rt.support.faults import Dropped
from bert_rt.tasks.metrics import reliability
from bert_rt.tasks.question_answering.evaluation import evaluate
from bert_rt.tasks.question_answering.squad import read_squad
from bert_rt.tasks.text_classification.evaluation import evaluate_classes
from bert_rt.tasks.text_classification.labelled import read_labelled
from compile.judge.gate import data_hash, measure

__all__ = ["main"]

_ENGINES = ("onnxruntime", "openvino", "native")
_CALIBRATION_ERROR = "expected_calibration_error"
# As much as one example in a hundred moves it that is right here and wrong there.
_CALIBRATION_TOLERANCE = 0.01


@dataclass(frozen=True, slots=True)
class _Measure:
    """How a task's receipt is measured again.

    Attributes:
        names: Field of the receipt and the evaluation to its name for people; the first one is
            compared.
        tolerance: Percent points that another machine's instruction set may move it.
        correct: Field of the evaluation that says what is right.
        scores: Field of the evaluation with the scores.
        read: Reads the evaluation file.
        score: Makes the evaluation.
    """

    names: Mapping[str, str]
    tolerance: float
    correct: str
    scores: str
    read: Callable[[Path, Columns, Dropped | None], Sequence[Any]]
    score: Callable[..., Any]


_MEASURES = {
    # Measured between ISAs on the reference model.
    "question-answering": _Measure(
        names={"f1": "F1", "exact_match": "exact match"},
        tolerance=0.1,
        correct="exact_N",
        scores="score_N",
        read=lambda path, _, dropped: read_squad(path, dropped=dropped),
        score=evaluate,
    ),
    # A text is right or wrong, and files are small: four texts of SST-2's 872.
    "text-classification": _Measure(
        names={"accuracy": "accuracy", "macro_f1": "macro F1"},
        tolerance=0.5,
        correct="correct_Q",
        scores="score_Q",
        read=lambda path, columns, dropped: read_labelled(path, columns, dropped=dropped),
        score=evaluate_classes,
    ),
}


def main(argv: Sequence[str]) -> int:
    """Verify as the command line says, and print a line for every check.

    Args:
        argv: The arguments.

    Returns:
        0 where everything holds; every failure is an exception.
    """
    parser = make_parser("compile.verify", "Check an artifact.")
    parser.add_argument("--artifact", metavar="ART", type=Path, help="left out: the embedded one")
    parser.add_argument("--eval_file", metavar="F", type=Path, help="measure the receipt again")
    add_column_flags(parser)
    add_json_flag(parser)
    args = parser.parse_args(argv)
    path = args.artifact or default_artifact_path()

    artifact = load_artifact(path)
    manifest = artifact.manifest
    result: dict[str, Any] = {"artifact": str(path), "engines": {}}
    print(f"hashes: {len(manifest.files)} files are as the manifest says")
    for engine in _ENGINES:
        reason = missing(engine, artifact)
        if reason is None:
            # Opening runs the self-test.
            Runtime.open(artifact, engine=engine).close()
            print(f"{engine}: self-test passed, {len(manifest.self_test)} items")
        else:
            print(f"{engine}: not checked: {reason}")
        result["engines"][engine] = reason or "passed"
    if args.eval_file is not None:
        result["scores"] = _verify_receipt(artifact, args.eval_file, columns(args))
    write_json(args.json, result)
    return 0


def _verify_receipt(artifact: Artifact, eval_file: Path, columns: Columns) -> dict[str, Any]:
    manifest = artifact.manifest
    if manifest.receipt is None:
        raise InputError(f"eval_file: {artifact.path} carries no receipt to compare with")
    measure_of = _MEASURES[manifest.task]
    field, field_name = next(iter(measure_of.names.items()))
    name, wanted_hash, claimed = _claims(manifest.receipt, field)
    got_hash = data_hash(eval_file)
    if got_hash != wanted_hash:
        raise InputError(
            f"eval_file: {eval_file} is not the receipt's {name}: got SHA-256 {got_hash}, want "
            f"{wanted_hash}"
        )
    # As the export read it.
    drops = manifest.receipt["dataset"].get("drop_invalid") is True
    examples = measure_of.read(eval_file, columns, Dropped() if drops else None)
    results = measure(artifact, examples, engines=tuple(claimed), score=measure_of.score)
    scores = {}
    for engine, measured in results.items():
        scores[engine] = {metric: getattr(measured, metric) for metric in measure_of.names}
        got, wanted = scores[engine][field], claimed[engine]
        if abs(got - wanted) > measure_of.tolerance:
            raise ParityError(
                f"receipt: {engine} has {field_name} {got:.2f} here, the receipt says "
                f"{wanted:.2f}; want a difference of at most {measure_of.tolerance}"
            )
        told = [f"{told} {scores[engine][metric]:.2f}" for metric, told in measure_of.names.items()]
        error = reliability(
            getattr(measured, measure_of.scores), getattr(measured, measure_of.correct)
        ).expected_calibration_error
        scores[engine][_CALIBRATION_ERROR] = error
        if _is_confirmed(engine, error, manifest.receipt):
            told.append(f"expected calibration error {error:.4f}")
        print(f"{engine}: {', '.join(told)}: confirmed")
    return scores


def _is_confirmed(engine: str, error: float, receipt: Mapping[str, Any]) -> bool:
    """Compare an engine's calibration error; False where the receipt, an older one, tells none."""
    scores = (receipt.get("int8") or {"onnxruntime": receipt["float"]})[engine]
    if "score_calibration" not in scores:
        return False
    try:
        wanted = float(scores["score_calibration"]["after"][_CALIBRATION_ERROR])
    except (KeyError, TypeError, ValueError):
        raise ArtifactFormatError(
            f"manifest.receipt: got {reprlib.repr(scores['score_calibration'])}, want "
            f"score_calibration.after.{_CALIBRATION_ERROR} for every engine"
        ) from None
    # Written so that NaN is a difference, too.
    if not abs(error - wanted) <= _CALIBRATION_TOLERANCE:
        raise ParityError(
            f"receipt: {engine} has an expected calibration error of {error:.4f} here, the receipt "
            f"says {wanted:.4f}; want a difference of at most {_CALIBRATION_TOLERANCE}"
        )
    return True


def _claims(receipt: Mapping[str, Any], field: str) -> tuple[str, str, dict[str, float]]:
    """Return the data's name and hash, and the score claimed for every engine.

    The manifest's reader leaves a receipt's form open, so it may hold anything.
    """
    try:
        scores = receipt.get("int8") or {"onnxruntime": receipt["float"]}
        claimed = {name: float(score[field]) for name, score in scores.items() if name in _ENGINES}
        return str(receipt["dataset"]["name"]), str(receipt["dataset"]["sha256"]), claimed
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ArtifactFormatError(
            f"manifest.receipt: got {reprlib.repr(receipt)}, want dataset.name, dataset.sha256 and "
            f"{field} for every engine"
        ) from error


if __name__ == "__main__":
    sys.exit(run_command(main))

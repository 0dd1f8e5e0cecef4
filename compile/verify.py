"""python -m compile.verify: check an artifact's hashes, self-test and accuracy receipt."""

from __future__ import annotations

import reprlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bert_rt.api import Runtime
from bert_rt.artifact.artifact import Artifact, default_artifact_path, load_artifact
from bert_rt.engines.registry import judged_engines, missing
from bert_rt.errors import ArtifactFormatError, InputError, ParityError
from bert_rt.support.cli import (
    add_json_flag,
    make_parser,
    run_command,
    write_json,
)
from bert_rt.support.faults import Dropped
from bert_rt.support.scratch import private_temporary_directory
from bert_rt.tasks.base import Evaluation
from bert_rt.tasks.flags import add_layout_flags, given_layout
from compile.int8.pairs import check_pairs
from compile.judge.receipt import data_hash, float_engine, measure
from compile.tasks.base import CompileTask
from compile.tasks.registry import task_of_manifest

__all__ = ["main"]

_CALIBRATION_ERROR = "expected_calibration_error"
# As much as one example in a hundred moves it that is right here and wrong there.
_CALIBRATION_TOLERANCE = 0.01


@private_temporary_directory()
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
    add_layout_flags(parser)
    add_json_flag(parser)
    args = parser.parse_args(argv)
    path = args.artifact or default_artifact_path()

    artifact = load_artifact(path)
    manifest = artifact.manifest
    result: dict[str, Any] = {"artifact": str(path), "engines": {}}
    print(f"hashes: {len(manifest.files)} files are as the manifest says")
    if manifest.is_pair_safe:
        files = [entry.file for entry in manifest.models.values()]
        num_weights = sum(check_pairs(artifact.read(file)) for file in files)
        print(f"pair_safe: holds for {num_weights} INT8 weights")
    for engine in judged_engines():
        reason = missing(engine, artifact)
        if reason is None:
            # Opening runs the self-test.
            Runtime.open(artifact, engine=engine).close()
            print(f"{engine}: self-test passed, {len(manifest.self_test)} items")
        else:
            print(f"{engine}: not checked: {reason}")
        result["engines"][engine] = reason or "passed"
    if args.eval_file is not None:
        result["scores"] = _verify_receipt(artifact, args.eval_file, given_layout(args))
    write_json(args.json, result)
    return 0


def _verify_receipt(
    artifact: Artifact, eval_file: Path, layout: Mapping[str, Any]
) -> dict[str, Any]:
    manifest = artifact.manifest
    if manifest.receipt is None:
        raise InputError(f"eval_file: {artifact.path} carries no receipt to compare with")
    task = task_of_manifest(manifest, layout)
    name, wanted_hash, claimed = _claims(manifest.receipt, task.measure.metric)
    got_hash = data_hash(*task.data_files(eval_file))
    if got_hash != wanted_hash:
        raise InputError(
            f"eval_file: {eval_file} is not the receipt's {name}: got SHA-256 {got_hash}, want "
            f"{wanted_hash}"
        )
    # As the export read it.
    drops = manifest.receipt["dataset"].get("drop_invalid") is True
    examples = task.read(eval_file, Dropped() if drops else None)
    results = measure(artifact, examples, engines=tuple(claimed), score=task.evaluate)
    return {
        engine: _confirm(engine, result, claimed[engine], task, manifest.receipt)
        for engine, result in results.items()
    }


def _confirm(
    engine: str, result: Evaluation, wanted: float, task: CompileTask, receipt: Mapping[str, Any]
) -> dict[str, float]:
    """Compare what was measured on an engine with the receipt, and print it."""
    task_measure = task.measure
    scores = {metric: result.metrics[metric] for metric in task_measure.metrics}
    got = scores[task_measure.metric]
    # Written so that NaN is a difference, too.
    if not abs(got - wanted) <= task_measure.tolerance:
        raise ParityError(
            f"receipt: {engine} has {task_measure.title} {got:.2f} here, the receipt says "
            f"{wanted:.2f}; want a difference of at most {task_measure.tolerance}"
        )
    figures = [
        f"{task_measure.metrics[name]} {task_measure.show(name, scores[name])}" for name in scores
    ]
    confidence = task.confidence(result)
    if confidence is not None:
        error = confidence.calibration_error
        scores[_CALIBRATION_ERROR] = error
        if _is_confirmed(engine, error, receipt):
            figures.append(f"expected calibration error {error:.4f}")
    print(f"{engine}: {', '.join(figures)}: confirmed")
    return scores


def _is_confirmed(engine: str, error: float, receipt: Mapping[str, Any]) -> bool:
    """Compare an engine's calibration error; False where the receipt, an older one, tells none."""
    scores = (receipt.get("int8") or {float_engine(): receipt["float"]})[engine]
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
        scores = receipt.get("int8") or {float_engine(): receipt["float"]}
        known = judged_engines()
        claimed = {name: float(score[field]) for name, score in scores.items() if name in known}
        return str(receipt["dataset"]["name"]), str(receipt["dataset"]["sha256"]), claimed
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ArtifactFormatError(
            f"manifest.receipt: got {reprlib.repr(receipt)}, want dataset.name, dataset.sha256 and "
            f"{field} for every engine"
        ) from error


if __name__ == "__main__":
    sys.exit(run_command(main))

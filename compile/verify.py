"""python -m compile.verify: check an artifact's hashes, self-test and accuracy receipt."""

from __future__ import annotations

import reprlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bert_rt.api import Runtime
from bert_rt.artifact import default_artifact_path, load_artifact
from bert_rt.cli import add_json_flag, make_parser, run_command, write_json
from bert_rt.engine import missing
from bert_rt.errors import ArtifactFormatError, InputError, ParityError
from bert_rt.squad import read_squad
from compile.gate import data_hash, measure

__all__ = ["main"]

# What another machine's instruction set may move: measured between ISAs on the reference model.
_MAX_F1_DIFFERENCE = 0.1
_ENGINES = ("onnxruntime", "openvino", "native")


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
            # Loading runs the self-test.
            Runtime.load(path, engine=engine).close()
            print(f"{engine}: self-test passed, {len(manifest.self_test)} items")
        else:
            print(f"{engine}: not checked: {reason}")
        result["engines"][engine] = reason or "passed"
    if args.eval_file is not None:
        if manifest.receipt is None:
            raise InputError(f"eval_file: {path} carries no receipt to compare with")
        result["scores"] = _verify_receipt(path, manifest.receipt, args.eval_file)
    write_json(args.json, result)
    return 0


def _verify_receipt(path: Path, receipt: Mapping[str, Any], eval_file: Path) -> dict[str, Any]:
    name, wanted_hash, claimed = _claims(receipt)
    got_hash = data_hash(eval_file)
    if got_hash != wanted_hash:
        raise InputError(
            f"eval_file: {eval_file} is not the receipt's {name}: got SHA-256 {got_hash}, want "
            f"{wanted_hash}"
        )
    examples = read_squad(eval_file)
    scores = {}
    for engine, measured in measure(path, examples, engines=tuple(claimed)).items():
        wanted = claimed[engine]
        if abs(measured.f1 - wanted) > _MAX_F1_DIFFERENCE:
            raise ParityError(
                f"receipt: {engine} has F1 {measured.f1:.2f} here, the receipt says {wanted:.2f}; "
                f"want a difference of at most {_MAX_F1_DIFFERENCE}"
            )
        print(f"{engine}: F1 {measured.f1:.2f}, exact match {measured.exact_match:.2f}: confirmed")
        scores[engine] = {"f1": measured.f1, "exact_match": measured.exact_match}
    return scores


def _claims(receipt: Mapping[str, Any]) -> tuple[str, str, dict[str, float]]:
    """Return the data's name and hash, and the F1 claimed for every engine.

    The manifest's reader leaves a receipt's form open, so it may hold anything.
    """
    try:
        scores = receipt.get("int8") or {"onnxruntime": receipt["float"]}
        claimed = {name: float(score["f1"]) for name, score in scores.items() if name in _ENGINES}
        return str(receipt["dataset"]["name"]), str(receipt["dataset"]["sha256"]), claimed
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ArtifactFormatError(
            f"manifest.receipt: got {reprlib.repr(receipt)}, want dataset.name, dataset.sha256 and "
            "an f1 for every engine"
        ) from error


if __name__ == "__main__":
    sys.exit(run_command(main))

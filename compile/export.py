"""python -m compile.export: compile a checkpoint into an artifact."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bert_rt.cli import (
    add_answering_flags,
    add_json_flag,
    answering_config,
    int_at_least,
    make_parser,
    run_command,
    write_json,
)
from bert_rt.config import AnsweringConfig

__all__ = ["main"]


def main(argv: Sequence[str]) -> int:
    """Compile as the command line says, and print where the artifact is.

    Args:
        argv: The arguments.

    Returns:
        0; every failure is an exception.
    """
    parser = make_parser("compile.export", "Compile a checkpoint to an artifact.")
    parser.add_argument("--model_name_or_path", required=True, metavar="DIR", type=Path)
    parser.add_argument("--output_dir", required=True, metavar="ART", type=Path)
    parser.add_argument("--int8", action="store_true", help="quantize to INT8")
    parser.add_argument("--calibration_file", metavar="F", type=Path, help="SQuAD-style JSON[.gz]")
    parser.add_argument("--eval_file", metavar="F", type=Path, help="SQuAD-style JSON[.gz]")
    parser.add_argument("--min_f1_ratio", type=float, default=0.99, metavar="R")
    parser.add_argument("--max_f1_loss", type=float, default=0.5, metavar="F1")
    parser.add_argument("--calibration_samples", type=int_at_least(1), default=256, metavar="N")
    parser.add_argument("--seed", type=int_at_least(0), default=0, metavar="N")
    add_answering_flags(parser)
    add_json_flag(parser)
    args = parser.parse_args(argv)

    # After the flags: torch takes seconds to import, and --help should not.
    from compile.compiler import CompileOptions, compile_checkpoint
    from compile.gate import Gate
    from compile.quantize import QuantConfig

    artifact = compile_checkpoint(
        CompileOptions(
            model_name_or_path=args.model_name_or_path,
            output_dir=args.output_dir,
            int8=args.int8,
            calibration_file=args.calibration_file,
            eval_file=args.eval_file,
            limits=answering_config(args, AnsweringConfig()),
            quant=QuantConfig(num_samples=args.calibration_samples, seed=args.seed),
            gate=Gate(min_f1_ratio=args.min_f1_ratio, max_f1_loss=args.max_f1_loss),
        )
    )
    manifest = artifact.manifest
    print(f"{args.output_dir}: {manifest.precision}, {manifest.files['model.onnx'].size} bytes")
    if manifest.receipt is None:
        print("accuracy: not measured; --eval_file puts a receipt into the artifact")
    else:
        print(f"accuracy: {_told(manifest.receipt)}")
    write_json(args.json, {"artifact": str(args.output_dir), "receipt": manifest.receipt})
    return 0


def _told(receipt: Mapping[str, Any]) -> str:
    parts = [f"float F1 {receipt['float']['f1']:.2f}"]
    for engine, scores in receipt.get("int8", {}).items():
        parts.append(f"{engine} INT8 F1 {scores['f1']:.2f} ({scores['f1_ratio']:.2%})")
    return ", ".join(parts)


if __name__ == "__main__":
    sys.exit(run_command(main))

"""python -m compile.export: compile a checkpoint into an artifact."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bert_rt.artifact.manifest import Manifest
from bert_rt.support.cli import (
    add_drop_flag,
    add_json_flag,
    int_at_least,
    make_parser,
    run_command,
    write_json,
)
from bert_rt.support.scratch import private_temporary_directory
from bert_rt.tasks.flags import (
    add_layout_flags,
    add_limit_flags,
    data_files,
    given_layout,
    given_limits,
)
from compile.tasks.base import Settings
from compile.tasks.registry import COMPILE_TASKS, all_bars, task_of_manifest

__all__ = ["main"]


@private_temporary_directory()
def main(argv: Sequence[str]) -> int:
    """Compile as the command line says, and print where the artifact is.

    Args:
        argv: The arguments.

    Returns:
        0; every failure is an exception.
    """
    args = _parser().parse_args(argv)

    # After the flags: torch takes seconds to import, and --help should not.
    from compile.compiler import CompileOptions, compile_checkpoint
    from compile.int8.quantize import QuantConfig

    artifact = compile_checkpoint(
        CompileOptions(
            model_name_or_path=args.model_name_or_path,
            output_dir=args.output_dir,
            task=args.task,
            int8=args.int8,
            calibration_file=args.calibration_file,
            eval_file=args.eval_file,
            score_calibration_file=args.score_calibration_file,
            settings=Settings(
                limits=given_limits(args),
                bars={name: value for name, value in vars(args).items() if name in all_bars()},
                layout=given_layout(args),
            ),
            quant=QuantConfig(
                num_samples=args.calibration_samples,
                num_held_out=args.held_out_samples,
                max_float_share=args.max_float_share,
                pair_safe=args.pair_safe,
                seed=args.seed,
            ),
            drop_invalid=args.drop_invalid,
        )
    )
    manifest = artifact.manifest
    size = sum(manifest.files[entry.file].size for entry in manifest.models.values())
    print(f"{args.output_dir}: {manifest.precision}, {size} bytes")
    fitted = manifest.provenance.get("score_calibration")
    if fitted is not None:
        print(
            f"scores: temperature {fitted['score_temperature']:.3f}, for {fitted['total']} "
            f"examples of {fitted['data']}: {fitted['verdict']}"
        )
    if manifest.receipt is None:
        print("accuracy: not measured; --eval_file puts a receipt into the artifact")
    else:
        print(f"accuracy: {_accuracy(manifest)}")
    write_json(args.json, {"artifact": str(args.output_dir), "receipt": manifest.receipt})
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("compile.export", "Compile a checkpoint to an artifact.")
    parser.add_argument("--model_name_or_path", required=True, metavar="DIR", type=Path)
    parser.add_argument("--output_dir", required=True, metavar="ART", type=Path)
    parser.add_argument(
        "--task",
        choices=tuple(COMPILE_TASKS),
        help="what the model does, where its config.json has no architectures",
    )
    parser.add_argument("--int8", action="store_true", help="quantize to INT8")
    parser.add_argument("--calibration_file", metavar="F", type=Path, help=data_files())
    parser.add_argument("--eval_file", metavar="F", type=Path, help=data_files())
    parser.add_argument(
        "--score_calibration_file",
        metavar="F",
        type=Path,
        help="the same, of examples that the model was not trained on: scores are made "
        "probabilities on them; left out: on those of the calibration file that are set aside",
    )
    group = parser.add_argument_group("gate", "what INT8 must keep; those of the model's task")
    for name, (title, default) in all_bars().items():
        # SUPPRESS leaves no attribute, so that a bar of another task differs from none.
        group.add_argument(
            f"--{name}",
            type=float,
            default=argparse.SUPPRESS,
            metavar="R" if name.endswith("_ratio") else "X",
            help=f"of models judged by {title}; left out: {default:g}",
        )
    parser.add_argument("--calibration_samples", type=int_at_least(1), default=256, metavar="N")
    parser.add_argument("--held_out_samples", type=int_at_least(0), default=1000, metavar="N")
    parser.add_argument("--max_float_share", type=float, default=0.5, metavar="R")
    pairs = parser.add_mutually_exclusive_group()
    pairs.add_argument(
        "--pair_safe",
        action="store_true",
        help="INT8 weights whose products saturate on no x86 processor without VNNI, so that "
        "ONNX Runtime needs no slower exact mode there",
    )
    pairs.add_argument(
        "--no_pair_safe",
        dest="pair_safe",
        action="store_false",
        help="weights of any size (default)",
    )
    parser.set_defaults(pair_safe=False)
    parser.add_argument("--seed", type=int_at_least(0), default=0, metavar="N")
    add_limit_flags(parser)
    add_layout_flags(parser)
    add_drop_flag(parser)
    add_json_flag(parser)
    return parser


def _accuracy(manifest: Manifest) -> str:
    assert manifest.receipt is not None, "asked only where there is one"
    measure, receipt = task_of_manifest(manifest).measure, manifest.receipt
    title, metric = measure.title, measure.metric
    parts = [f"float {title} {receipt['float'][metric]:.2f}"]
    for engine, scores in receipt.get("int8", {}).items():
        ratio = scores[f"{metric}_ratio"]
        parts.append(f"{engine} INT8 {title} {scores[metric]:.2f} ({ratio:.2%})")
    return ", ".join(parts)


if __name__ == "__main__":
    sys.exit(run_command(main))

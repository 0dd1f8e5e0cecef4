"""python -m runtime.bench: engines side by side in one run, each in its best configuration."""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from bert_rt.artifact.artifact import (
    TOKENIZER_NAME,
    Artifact,
    default_artifact_path,
    load_artifact,
)
from bert_rt.engines.threads import resolve_num_threads
from bert_rt.errors import ConfigError
from bert_rt.support.cli import (
    add_drop_flag,
    add_json_flag,
    dropped,
    int_at_least,
    make_parser,
    run_command,
    writable_path,
    write_json,
)
from bert_rt.support.files import atomic_write_bytes
from bert_rt.support.scratch import private_temporary_directory
from bert_rt.tasks.limits import AnsweringConfig
from bert_rt.tasks.question_answering.answering import QuestionAnswering
from bert_rt.text.tokenization import Tokenizer
from bert_rt.types import Feature
from runtime.bench.measure import SCOPES, Clock
from runtime.bench.peers.base import Setup
from runtime.bench.peers.openvino import CALIBRATION_WINDOWS
from runtime.bench.peers.qualify import DEFAULT_FINALISTS
from runtime.bench.peers.registry import PEERS
from runtime.bench.plot import plot
from runtime.bench.render import markdown, terminal
from runtime.bench.run import Plan, run
from runtime.bench.thresholds import check, read_thresholds, thresholds_of
from runtime.bench.workload import read_workload

__all__ = ["main"]


# Of architectures that do the same work.
_MAY_DIFFER = (
    "num_split_layers",
    "passage_position_offset",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "initializer_range",
)


@private_temporary_directory()
def main(argv: Sequence[str]) -> int:
    """Measure as the command line says, write and print the result.

    Args:
        argv: The arguments.

    Returns:
        0, or 1 where --check found a ratio below its threshold.
    """
    args = _parser().parse_args(argv)
    thresholds = None if args.check is None else read_thresholds(args.check)
    result = run(_plan(args), clock=Clock())
    write_json(args.json, result)
    if args.markdown is not None:
        atomic_write_bytes(args.markdown, markdown(result).encode())
    if args.plot is not None:
        plot(result, args.plot)
    print(terminal(result))
    if thresholds is None:
        return 0
    isas = result["machine"]["isas"]
    thresholds = thresholds_of(thresholds, isas[0] if isas else "none")
    failures = check(result["ratios"], thresholds)
    for failure in failures:
        print(f"check: {failure}", file=sys.stderr)
    print(f"check: {len(thresholds) - len(failures)} of {len(thresholds)} thresholds hold")
    return 1 if failures else 0


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("runtime.bench", "Measure engines side by side, each at its best.")
    add = parser.add_argument
    add("--artifact", metavar="ART", help="INT8 artifact; left out: the embedded default")
    add(
        "--data", required=True, metavar="F", help="SQuAD or flat JSON, or JSON Lines, plain or .gz"
    )
    add("--engines", metavar="E,...", help=f"of {','.join(PEERS)}; left out: all that can run")
    add("--num_threads", type=int_at_least(1), metavar="N", help="of every engine")
    add("--limit", type=int_at_least(1), default=2000, metavar="Q", help="questions (2000)")
    add("--rounds", type=int_at_least(1), default=5, metavar="R", help="rounds (5)")
    add(
        "--latency_limit",
        type=int_at_least(1),
        default=500,
        metavar="Q",
        help="questions that are also asked one by one, per engine and scope (500)",
    )
    add("--scopes", default=",".join(SCOPES), metavar="S,...", help="engine,text_to_answer")
    add("--seed", type=int, default=0, metavar="N", help="of the order of the questions")
    add("--native_isa", default="", metavar="I,...", help="also force these instruction sets")
    add("--float_artifact", metavar="ART", help="the same checkpoint in float, for peers' own INT8")
    add("--calibration_file", metavar="F", help="SQuAD text for OpenVINO's NNCF, such as train")
    add("--checkpoint", metavar="DIR", help="the checkpoint, for torch")
    add("--cache_dir", metavar="DIR", help="keep models that NNCF quantized here")
    add(
        "--finalists",
        type=int_at_least(1),
        default=DEFAULT_FINALISTS,
        metavar="N",
        help=f"INT8 configurations of an engine that go on after the short round "
        f"({DEFAULT_FINALISTS})",
    )
    add(
        "--batch_sizes",
        type=_batch_sizes,
        default=(1, 8, 32),
        metavar="N,...",
        help="sequences of a padded batch, for engines that pad (1,8,32)",
    )
    _add_reuse_flags(parser)
    add("--int8_only", action="store_true", help="leave float configurations out")
    add("--loadgen", action="store_true", help="also run MLPerf's scenarios (mlcommons-loadgen)")
    add_drop_flag(parser)
    add_json_flag(parser)
    add("--markdown", metavar="FILE", type=writable_path, help="write the result as a page")
    add("--plot", metavar="FILE", type=writable_path, help="draw the result as PNG")
    add("--check", metavar="FILE", help="fail where a ratio is not within this file's thresholds")
    return parser


def _add_reuse_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--split_artifact",
        action="append",
        default=[],
        metavar="ART",
        help="INT8 artifact with split layers, otherwise like --artifact, for the native engine, "
        "too; once for each",
    )
    add(
        "--questions_per_context",
        type=_questions_per_context,
        metavar="N",
        help="so many questions on every passage, one behind the other, or all that it has; left "
        "out: passages mixed",
    )
    add("--warm_contexts", action="store_true", help="passages are kept before a timer starts")
    add(
        "--max_context_cache_mb",
        type=int_at_least(0),
        metavar="MB",
        help="for kept passages; left out: as Runtime.load",
    )


def _batch_sizes(text: str) -> tuple[int, ...]:
    return tuple(map(int_at_least(1), _names(text))) or (int_at_least(1)(text),)


def _questions_per_context(text: str) -> int:
    try:
        return 0 if text == "all" else int_at_least(1)(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"got {text!r}, want an integer of at least 1, or all"
        ) from None


def _plan(args: argparse.Namespace) -> Plan:
    num_threads = resolve_num_threads(args.num_threads)
    # Tokenization has as many threads as the engines; read when it first runs in parallel.
    os.environ.setdefault("RAYON_NUM_THREADS", str(num_threads))
    artifact = load_artifact(args.artifact or default_artifact_path())
    manifest = artifact.manifest
    if manifest.task != QuestionAnswering.name:
        raise ConfigError(
            f"--artifact: got a {manifest.task} artifact, want {QuestionAnswering.name}"
        )
    if manifest.architecture.num_split_layers:
        raise ConfigError(
            f"--artifact: got one with {manifest.architecture.num_split_layers} split layers, want "
            "an ordinary one, and this one as --split_artifact"
        )
    split = _split_artifacts(args, artifact)
    tokenizer = Tokenizer.from_bytes(artifact.read("tokenizer.json"))
    limits = QuestionAnswering().read_limits(manifest)
    work = read_workload(
        args.data,
        tokenizer,
        limits,
        limit=args.limit,
        seed=args.seed,
        dropped=dropped(args),
        questions_per_context=args.questions_per_context,
        has_split=bool(split),
    )
    setup = Setup(
        artifact=artifact,
        float_artifact=_float_artifact(args.float_artifact, artifact),
        calibration=_calibration(args, tokenizer, limits),
        checkpoint=args.checkpoint,
        num_threads=num_threads,
        native_isas=_names(args.native_isa),
        batch_sizes=args.batch_sizes,
        cache_dir=None if args.cache_dir is None else Path(args.cache_dir),
        split_artifacts=split,
        max_context_cache_mb=args.max_context_cache_mb,
    )
    return Plan(
        setup=setup,
        tokenizer=tokenizer,
        limits=limits,
        work=work,
        data=str(args.data),
        num_rounds=min(args.rounds, len(work.groups)),
        latency_limit=args.latency_limit,
        scopes=_known(_names(args.scopes), SCOPES, "--scopes"),
        engines=_known(_names(args.engines or ""), tuple(PEERS), "--engines"),
        with_loadgen=args.loadgen,
        finalists=args.finalists,
        int8_only=args.int8_only,
        is_warm=args.warm_contexts,
    )


def _calibration(
    args: argparse.Namespace, tokenizer: Tokenizer, limits: AnsweringConfig
) -> tuple[Feature, ...]:
    if args.calibration_file is None:
        return ()
    text = read_workload(
        args.calibration_file,
        tokenizer,
        limits,
        limit=CALIBRATION_WINDOWS,
        seed=args.seed,
        dropped=dropped(args),
    )
    return tuple(windows[0] for windows in text.windows)


def _split_artifacts(args: argparse.Namespace, ordinary: Artifact) -> tuple[Artifact, ...]:
    """Load the artifacts with split layers, which are to do the same work."""
    found: dict[int, Artifact] = {}
    for path in args.split_artifact:
        artifact = load_artifact(path)
        config = artifact.manifest.architecture
        if not config.num_split_layers or config.num_split_layers in found:
            raise ConfigError(
                f"--split_artifact: got {path} with {config.num_split_layers} split layers, want "
                "some, and another number for each artifact"
            )
        # Training may have another dropout.
        alike = {name: getattr(ordinary.manifest.architecture, name) for name in _MAY_DIFFER}
        plain = dataclasses.replace(config, **alike)
        for field, got, want in (
            ("architecture", plain, ordinary.manifest.architecture),
            ("limits", artifact.manifest.limits, ordinary.manifest.limits),
            ("tokenizer", *(a.manifest.files[TOKENIZER_NAME].sha256 for a in (artifact, ordinary))),
        ):
            if got != want:
                raise ConfigError(f"--split_artifact: {path} has another {field} than --artifact")
        found[config.num_split_layers] = artifact
    if found and args.engines is not None and "native" not in _names(args.engines):
        raise ConfigError("--split_artifact: got no native among --engines, which alone runs it")
    for flag in ("warm_contexts", "max_context_cache_mb"):
        if getattr(args, flag) and not found:
            raise ConfigError(f"--{flag}: got {getattr(args, flag)}, want --split_artifact with it")
    return tuple(found.values())


def _float_artifact(path: str | None, artifact: Artifact) -> Artifact | None:
    if path is None:
        return None
    other = load_artifact(path)
    if other.manifest.precision != "float32":
        raise ConfigError(
            f"--float_artifact: got precision {other.manifest.precision!r}, want float32"
        )
    if other.manifest.architecture != artifact.manifest.architecture:
        raise ConfigError("--float_artifact: got another architecture than --artifact's")
    return other


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _known(names: Sequence[str], known: Sequence[str], flag: str) -> tuple[str, ...]:
    for name in names:
        if name not in known:
            raise ConfigError(f"{flag}: got {name!r}, want some of {', '.join(known)}")
    return tuple(dict.fromkeys(names))


if __name__ == "__main__":
    sys.exit(run_command(main))

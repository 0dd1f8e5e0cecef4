"""The flags that every command which answers questions has, and the Runtime they ask for."""

from __future__ import annotations

import argparse
from typing import Any

from bert_rt.api import Runtime
from bert_rt.artifact.artifact import default_artifact_path, load_artifact
from bert_rt.engines.registry import engine_names
from bert_rt.support.cli import int_at_least
from bert_rt.tasks.base import Task
from bert_rt.tasks.flags import add_limit_flags, given_limits
from bert_rt.tasks.registry import task_of_artifact

__all__ = ["add_runtime_flags", "load_runtime"]


def add_runtime_flags(
    parser: argparse.ArgumentParser,
    *tasks: Task[Any, Any, Any],
    has_artifact: bool = True,
    keeps_contexts: bool = False,
) -> None:
    """Add the flags of load_runtime: which artifact, on what engine, with which limits.

    Args:
        parser: The command's parser.
        *tasks: What the command is for; none for every task.
        has_artifact: Whether to add --artifact; a command that takes several adds its own.
        keeps_contexts: Whether to add --max_context_cache_mb: for commands that may ask the same
            passage again.
    """
    *some, last = engine_names()
    known = ", ".join(some), last
    if has_artifact:
        parser.add_argument(
            "--artifact", metavar="ART", help="artifact directory; left out: the embedded default"
        )
    parser.add_argument(
        "--engine",
        default="auto",
        metavar="E",
        help=f"auto (the default: the quickest that can run), {known[0]} or {known[1]}",
    )
    parser.add_argument(
        "--device",
        default="cpu",
        metavar="D",
        help="cpu (the default), cuda or an OpenVINO device name",
    )
    parser.add_argument(
        "--num_threads",
        type=int_at_least(1),
        metavar="N",
        help="left out: the cores that this process may use",
    )
    parser.add_argument(
        "--checkpoint", metavar="DIR", help="what the artifact was made of, for --engine torch"
    )
    if keeps_contexts:
        parser.add_argument(
            "--max_context_cache_mb",
            type=int_at_least(0),
            metavar="MB",
            help="most megabytes of passages that a model with split layers keeps for further "
            "questions on them, on the native engine; left out: 64",
        )
    add_limit_flags(parser, tasks)


def load_runtime(
    args: argparse.Namespace,
    *,
    max_batch_ms: float | None = None,
    engine_nice: int = 0,
    is_one_of_several: bool = False,
) -> Runtime:
    """Load what the flags of add_runtime_flags ask for.

    Args:
        args: The parsed command line.
        max_batch_ms: As in Runtime.open.
        engine_nice: As in Runtime.open.
        is_one_of_several: Whether flags are for several models: --max_context_cache_mb is then for
            those with split layers, where else it is an error for a model without.

    Returns:
        The Runtime, self-tested.

    Raises:
        BertRtError: The artifact, the engine or a flag is not what can be used.
    """
    artifact = load_artifact(args.artifact or default_artifact_path())
    given = given_limits(args)
    max_context_cache_mb = getattr(args, "max_context_cache_mb", None)
    if is_one_of_several and not artifact.manifest.architecture.num_split_layers:
        max_context_cache_mb = None
    config: Any = None
    if given:
        task = task_of_artifact(artifact.manifest.task)
        config = task.make_limits(given, task.read_limits(artifact.manifest))
    return Runtime.open(
        artifact,
        engine=args.engine,
        device=args.device,
        num_threads=args.num_threads,
        checkpoint=args.checkpoint,
        config=config,
        max_batch_ms=max_batch_ms,
        engine_nice=engine_nice,
        max_context_cache_mb=max_context_cache_mb,
    )

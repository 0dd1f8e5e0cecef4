"""The flags that every command which answers questions has, and the Runtime they ask for."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

from bert_rt.api import Runtime
from bert_rt.artifact.artifact import default_artifact_path, load_artifact
from bert_rt.errors import ConfigError
from bert_rt.model.config import AnsweringConfig
from bert_rt.support.cli import add_answering_flags, int_at_least
from bert_rt.tasks.registry import task_of_artifact

__all__ = ["add_runtime_flags", "load_runtime"]


def add_runtime_flags(parser: argparse.ArgumentParser, *, has_artifact: bool = True) -> None:
    """Add the flags of load_runtime: which artifact, on what engine, with which limits.

    Args:
        parser: The command's parser.
        has_artifact: Whether to add --artifact; a command that takes several adds its own.
    """
    if has_artifact:
        parser.add_argument(
            "--artifact", metavar="ART", help="artifact directory; left out: the embedded default"
        )
    parser.add_argument(
        "--engine",
        default="auto",
        metavar="E",
        help="auto (the default), native, onnxruntime, openvino or torch",
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
    add_answering_flags(parser)


def load_runtime(args: argparse.Namespace) -> Runtime:
    """Load what the flags of add_runtime_flags ask for.

    Args:
        args: The parsed command line.

    Returns:
        The Runtime, self-tested.

    Raises:
        BertRtError: The artifact, the engine or a flag is not what can be used.
    """
    artifact = load_artifact(args.artifact or default_artifact_path())
    given = [
        field.name for field in dataclasses.fields(AnsweringConfig) if hasattr(args, field.name)
    ]
    config: Any = None
    if given:
        limits = task_of_artifact(artifact.manifest.task).read_limits(artifact.manifest)
        known = [field.name for field in dataclasses.fields(limits)]
        unknown = [name for name in given if name not in known]
        if unknown:
            raise ConfigError(
                f"--{unknown[0]}: got {getattr(args, unknown[0])!r}, which means nothing for "
                f"{artifact.manifest.task}; want one of its limits: {', '.join(known)}"
            )
        config = dataclasses.replace(limits, **{name: getattr(args, name) for name in given})
    return Runtime.open(
        artifact,
        engine=args.engine,
        device=args.device,
        num_threads=args.num_threads,
        checkpoint=args.checkpoint,
        config=config,
    )

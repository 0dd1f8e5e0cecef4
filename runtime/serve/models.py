"""The models that the flags name, loaded for a process that only serves."""

from __future__ import annotations

import argparse
import gc

from bert_rt.api import Runtime
from runtime.loading import load_runtime

__all__ = ["load_model"]


def load_model(args: argparse.Namespace, path: str | None) -> Runtime:
    """Load one of the models.

    Args:
        args: The flags of the server.
        path: The artifact's; None for the embedded model.

    Returns:
        The Runtime, self-tested.

    Raises:
        BertRtError: The artifact, the engine or a flag is not what can be used.
    """
    runtime = load_runtime(
        argparse.Namespace(**{**vars(args), "artifact": path}),
        max_batch_ms=args.max_batch_ms,
        engine_nice=args.engine_nice,
        is_one_of_several=len(args.artifact) > 1,
    )
    # What is there now stays: looking through all of it for garbage held up every request for
    # 50 to 150 ms. Workers that are forked later go on sharing its memory, too.
    gc.collect()
    gc.freeze()
    return runtime

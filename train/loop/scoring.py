"""Score a model on held-out data, unless a signal comes meanwhile."""

from __future__ import annotations

import threading

import torch
from torch import nn

from train.loop.interrupts import refuse_passes
from train.loop.objective import Objective

__all__ = ["score"]


def score(model: nn.Module, objective: Objective, stop: threading.Event) -> dict[str, float] | None:
    """Let an objective score a model.

    Args:
        model: The plain model; in eval mode meanwhile, afterwards in the mode that it was in.
        objective: Its task.
        stop: Set where a signal has come.

    Returns:
        The objective's scores by name; None where stop was set meanwhile: the machine may go away
        before all is scored.
    """
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode(), refuse_passes(model, once=stop):
            return dict(objective.evaluate(model))
    except Exception:
        if stop.is_set():
            return None
        raise
    finally:
        model.train(was_training)

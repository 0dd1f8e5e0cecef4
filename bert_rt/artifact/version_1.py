"""What version 1 of the format meant by what it did not say. It is frozen: history, not design.

It knew two tasks. A manifest had no "models": with labels the graph was that of a text classifier,
without them one that answers questions.
"""

from __future__ import annotations

from collections.abc import Sequence

from bert_rt.support.outputs import PER_SEQUENCE, PER_TOKEN

__all__ = ["MODEL_FILE", "outputs_of"]

MODEL_FILE = "model.onnx"


def outputs_of(labels: Sequence[str]) -> dict[str, str]:
    """Return names and kinds of the graph's outputs.

    Args:
        labels: The manifest's.

    Returns:
        Those of a text classifier where there are labels, else those of question answering.
    """
    if labels:
        return {"logits": PER_SEQUENCE}
    return {"start_logits": PER_TOKEN, "end_logits": PER_TOKEN}

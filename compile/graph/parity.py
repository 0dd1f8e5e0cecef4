"""Is the exported float graph the same function as the PyTorch model?"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import torch

from bert_rt.engines.onnxruntime import open_session
from bert_rt.engines.threads import available_cpus
from bert_rt.errors import ParityError
from bert_rt.model.checkpoint import LoadedModel
from bert_rt.support.progress import Progress
from compile.graph.trace import INPUT_NAMES

__all__ = ["NUM_SHAPES", "check_parity"]

NUM_SHAPES = 16
_MAX_BATCH_SIZE = 9
# One unit in the third decimal of a logit: two orders above what the order of float32 sums moves
# in twelve layers, and two below what changes an answer.
_MAX_LOGIT_ERROR = 1e-3


def check_parity(
    model: ir.Model, loaded: LoadedModel, *, seed: int, progress: Progress
) -> dict[str, float]:
    """Compare graph and model over random batches, lengths, token types and masks.

    Args:
        model: The fused float graph.
        loaded: The model that it was traced from.
        seed: Of the inputs.
        progress: Advanced at every shape.

    Returns:
        "max_abs_error" over all logits, "num_shapes" and the "limit" that it was held against.

    Raises:
        ParityError: A logit differs by more than the limit, or is not finite.
    """
    random = np.random.default_rng(seed)
    session = open_session(ir.to_proto(model).SerializeToString(), num_threads=available_cpus())
    worst = 0.0
    # Where types are not read, neither of the two that windows have may matter.
    num_types = loaded.config.type_vocab_size if loaded.config.uses_token_types else 2
    for batch_size, length in _shapes(random, loaded.config.max_sequence_length):
        shape = (batch_size, length)
        feeds = {
            "input_ids": random.integers(0, loaded.config.vocab_size, shape),
            "attention_mask": random.integers(0, 2, shape),
            "token_type_ids": random.integers(0, num_types, shape),
        }
        # Some rows attend to everything, and every row at least to its first token.
        feeds["attention_mask"][::3] = 1
        feeds["attention_mask"][:, 0] = 1
        with torch.no_grad():
            wanted = loaded.model(*(torch.from_numpy(feeds[name]) for name in INPUT_NAMES))
        wanted = (wanted,) if isinstance(wanted, torch.Tensor) else wanted
        names = loaded.model.spec.outputs
        got = session.run(list(names), feeds)
        for name, got_logits, wanted_logits in zip(names, got, wanted, strict=True):
            error = float(np.abs(got_logits - wanted_logits.numpy()).max())
            # Written so that NaN fails, too.
            if not error <= _MAX_LOGIT_ERROR:
                raise ParityError(
                    f"{name}: the exported graph differs from PyTorch by {error:.3g} at batch size "
                    f"{batch_size}, length {length}; want at most {_MAX_LOGIT_ERROR}"
                )
            worst = max(worst, error)
        progress.advance(1)
    return {"max_abs_error": worst, "num_shapes": NUM_SHAPES, "limit": _MAX_LOGIT_ERROR}


def _shapes(random: np.random.Generator, max_length: int) -> list[tuple[int, int]]:
    """Return the corners, and random shapes between them."""
    corners = [(1, 1), (_MAX_BATCH_SIZE, 1), (1, max_length), (_MAX_BATCH_SIZE, max_length)]
    between = [
        (int(random.integers(1, _MAX_BATCH_SIZE + 1)), int(random.integers(1, max_length + 1)))
        for _ in range(NUM_SHAPES - len(corners))
    ]
    return corners + between

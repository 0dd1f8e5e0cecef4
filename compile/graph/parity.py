"""Is the exported float graph the same function as the PyTorch model?"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray

from bert_rt.engines.onnxruntime import open_session
from bert_rt.engines.threads import available_cpus
from bert_rt.errors import ParityError
from bert_rt.model.checkpoint import LoadedModel
from bert_rt.model.config import BertConfig
from bert_rt.support.progress import Progress
from compile.graph.trace import INPUT_NAMES

__all__ = ["MAX_LOGIT_ERROR", "NUM_SHAPES", "check_close", "check_parity"]

NUM_SHAPES = 16
_MAX_BATCH_SIZE = 9
# One unit in the third decimal of a logit: two orders above what the order of float32 sums moves
# in twelve layers, and two below what changes an answer.
MAX_LOGIT_ERROR = 1e-3


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
    for batch_size, length in _shapes(random, loaded.config.max_sequence_length):
        shape = (batch_size, length)
        feeds = {
            "input_ids": random.integers(0, loaded.config.vocab_size, shape),
            "attention_mask": random.integers(0, 2, shape),
            "token_type_ids": _token_types(random, shape, loaded.config),
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
            where = f"at batch size {batch_size}, length {length}"
            worst = max(worst, check_close(name, got_logits, wanted_logits, where))
        progress.advance(1)
    return {"max_abs_error": worst, "num_shapes": NUM_SHAPES, "limit": MAX_LOGIT_ERROR}


def _token_types(
    random: np.random.Generator, shape: tuple[int, int], config: BertConfig
) -> NDArray[np.int64]:
    """Return random types; with split layers two texts, the second of any length that fits."""
    if not config.num_split_layers:
        # Where types are not read, neither of the two that windows have may matter.
        return random.integers(0, config.type_vocab_size if config.uses_token_types else 2, shape)
    rows, length = shape
    longest = min(length, config.max_sequence_length - config.passage_position_offset)
    lengths = random.integers(0, longest + 1, (rows, 1))
    return (np.arange(length) >= length - lengths).astype(np.int64)


def check_close(
    name: str,
    got: NDArray[np.float32],
    wanted: torch.Tensor,
    where: str,
    *,
    limit: float = MAX_LOGIT_ERROR,
) -> float:
    """Compare an output of a graph with PyTorch's.

    Args:
        name: The output.
        got: What the graph gives.
        wanted: What PyTorch gives.
        where: The shapes, for the message.
        limit: The largest difference that may be.

    Returns:
        The largest difference.

    Raises:
        ParityError: It is above the limit, or a value is not finite.
    """
    error = float(np.abs(got - wanted.numpy()).max(initial=0.0))
    # Written so that NaN fails, too.
    if not error <= limit:
        raise ParityError(
            f"{name}: the exported graph differs from PyTorch by {error:.3g} {where}; want at most "
            f"{limit:.3g}"
        )
    return error


def _shapes(random: np.random.Generator, max_length: int) -> list[tuple[int, int]]:
    """Return the corners, and random shapes between them."""
    corners = [(1, 1), (_MAX_BATCH_SIZE, 1), (1, max_length), (_MAX_BATCH_SIZE, max_length)]
    between = [
        (int(random.integers(1, _MAX_BATCH_SIZE + 1)), int(random.integers(1, max_length + 1)))
        for _ in range(NUM_SHAPES - len(corners))
    ]
    return corners + between

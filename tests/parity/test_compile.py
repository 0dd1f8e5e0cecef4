"""PyTorch = traced graph = fused graph = each engine, link by link, in float32."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.tolerances import FLOAT32_ATOL
from tests.unit.compile import tiny

Feeds = dict[str, NDArray[np.int64]]

# Up to the longest that the model takes; 17 and 2 are what the trace was made with.
_LENGTHS = (1, 2, 3, 7, 16, 17, 33, 63, 64)
_BATCH_SIZES = range(1, 10)


def torch_logits(feeds: Feeds) -> NDArray[np.float32]:
    return tiny.torch_logits(tiny.loaded_model().model, feeds)


def traced_logits(feeds: Feeds) -> NDArray[np.float32]:
    return tiny.ort_logits(tiny.traced_bytes(), feeds)


def fused_logits(feeds: Feeds) -> NDArray[np.float32]:
    return tiny.ort_logits(tiny.fused_bytes(), feeds)


def openvino_logits(feeds: Feeds) -> NDArray[np.float32]:
    return tiny.openvino_logits(tiny.fused_bytes(), feeds)


Link = Callable[[Feeds], NDArray[np.float32]]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (torch_logits, traced_logits),
        (traced_logits, fused_logits),
        (fused_logits, openvino_logits),
    ],
    ids=["torch-traced", "traced-fused", "onnxruntime-openvino"],
)
@pytest.mark.parametrize("batch_size", _BATCH_SIZES)
def test_the_same_logits(one: Link, other: Link, batch_size: int) -> None:
    for length in _LENGTHS:
        feeds = tiny.make_feeds(batch_size, length, seed=100 * batch_size + length)
        np.testing.assert_allclose(one(feeds), other(feeds), rtol=0, atol=FLOAT32_ATOL)


def test_the_logits_are_worth_comparing() -> None:
    logits = torch_logits(tiny.make_feeds(9, 64))
    assert logits.std() > 1000 * FLOAT32_ATOL
    assert np.abs(logits[0] - logits[1]).max() > 1000 * FLOAT32_ATOL


@pytest.mark.parametrize("logits", [torch_logits, fused_logits, openvino_logits])
def test_padding_changes_nothing(logits: Link) -> None:
    feeds = tiny.make_feeds(2, 20)
    feeds["attention_mask"][:] = 1
    padded: dict[str, Any] = {
        name: np.pad(array, ((0, 0), (0, 30))) for name, array in feeds.items()
    }
    padded["input_ids"][:, 20:] = 7
    got = logits(padded)[..., :20]
    np.testing.assert_allclose(got, logits(feeds), rtol=0, atol=FLOAT32_ATOL)


@pytest.mark.parametrize("logits", [torch_logits, fused_logits, openvino_logits])
def test_a_batch_is_its_rows(logits: Link) -> None:
    feeds = tiny.make_feeds(5, 31)
    together = logits(feeds)
    for row in range(5):
        alone = logits({name: array[row : row + 1] for name, array in feeds.items()})
        np.testing.assert_allclose(together[:, row : row + 1], alone, rtol=0, atol=FLOAT32_ATOL)

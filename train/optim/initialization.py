"""Where pretraining starts: a first layer that sees its neighbours.

A masked token knows nothing of itself: all that a model can tell of it comes through attention.
With weights drawn at random attention is flat, and small models stay long where the frequency of
tokens takes them, until heads form that look at the token before or behind. Trained BERTs have
such heads (Clark et al. 2019, arXiv:1906.04341, section 3.1). Here the first layer has them from
the first step, made of the position vectors that the Transformer began with.

Position vectors are sines and cosines (Vaswani et al. 2017, arXiv:1706.03762, section 3.5), with
wavelengths from 2 tokens on: v(p) holds (sin w p, cos w p) for every w. A head's keys are some of
these pairs as they are, its queries the same pairs turned by w d, so that the score of positions p
and j is the sum of cos(w (j - p - d)) over the pairs: greatest at j = p + d. All of it are weights
like any others, and are trained on.

Shape suffixes: P positions, D hidden, H head dim.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from bert_rt.model.encoder import BertModel

__all__ = ["initialize_local"]

_LONGEST_WAVE = 20000.0  # tokens; 10,000 times the shortest
# Pairs whose waves are at most 20 tokens long tell neighbours apart; they are a fourth of all.
_LOCAL_SHARE = 4
_MOST_LOCAL_HEADS = 8
# What the score of the token looked at is above those far away, before softmax, where position is
# a third of what the embeddings sum up.
_PEAK_SCORE = 4.5
_POSITION_SHARE = 1 / 3
# Weights between the layers have this deviation over the root of the hidden size: 0.018 for base,
# where the paper has 0.02, and as much signal through narrower models.
_WEIGHT_SCALE = 0.5


@torch.no_grad()
def initialize_local(model: BertModel, std: float) -> None:
    """Set position vectors, the first layer's heads and the scale of weights, in place.

    The heads of the first layer, at most eight of them, look at the offsets -1, 1, -2, 2 and so on.

    Args:
        model: A model as BertModel makes it. One whose head or hidden size is too small to hold a
            wave keeps its random heads.
        std: The deviation that its weights were drawn with, and that of position vectors.
    """
    frequencies = _set_positions(model.embeddings.position_embeddings.weight, std)
    layers: Any = model.encoder.layer
    attention = layers[0].attention["self"]
    hidden = attention.query.in_features
    for layer in layers:
        for dense in (
            layer.attention["self"].value,
            layer.attention["output"].dense,
            layer.intermediate["dense"],
            layer.output.dense,
        ):
            dense.weight.mul_(_WEIGHT_SCALE / math.sqrt(hidden) / std)
    chosen = _chosen_pairs(len(frequencies), attention.head_dim)
    if model.embeddings_project is not None or not len(chosen):
        return
    for head in range(min(attention.num_heads, _MOST_LOCAL_HEADS)):
        offset = (head // 2 + 1) * (1 if head % 2 else -1)
        rows = slice(head * attention.head_dim, (head + 1) * attention.head_dim)
        for projection, turn in ((attention.query, offset), (attention.key, 0)):
            shape = projection.weight[rows].shape
            projection.weight[rows] = _turned(chosen, frequencies, turn, shape)


def _set_positions(position_PD: Tensor, std: float) -> Tensor:
    """Fill the table with pairs of waves and return their frequencies in radians a token."""
    num_positions, width = position_PD.shape
    pairs = width // 2
    wavelengths = 2.0 * (_LONGEST_WAVE / 2.0) ** (torch.arange(pairs) / max(1, pairs))
    frequencies = 2 * math.pi / wavelengths
    angles = torch.arange(num_positions)[:, None] * frequencies
    position_PD[:, 0 : 2 * pairs : 2] = std * math.sqrt(2) * torch.sin(angles)
    position_PD[:, 1 : 2 * pairs : 2] = std * math.sqrt(2) * torch.cos(angles)
    return frequencies


def _chosen_pairs(pairs: int, head_dim: int) -> Tensor:
    """Return which pairs a head looks at: as many as it holds, spread over the short waves."""
    num_local = pairs // _LOCAL_SHARE
    count = min(head_dim // 2, num_local)
    return torch.arange(count) * num_local // max(1, count)


def _turned(chosen: Tensor, frequencies: Tensor, offset: int, shape: torch.Size) -> Tensor:
    """Return the projection, of shape (H, D), that picks pairs and moves them by offset tokens."""
    # q k / sqrt(H) adds up one cosine a pair, of the size that normalized embeddings give it.
    pair_share = 2 * _POSITION_SHARE * len(chosen)
    size = math.sqrt(_PEAK_SCORE * math.sqrt(shape[0]) / pair_share)
    weight_HD = torch.zeros(shape)
    sine_rows = 2 * torch.arange(len(chosen))
    sine_columns = 2 * chosen
    angle = frequencies[chosen] * offset
    weight_HD[sine_rows, sine_columns] = size * torch.cos(angle)
    weight_HD[sine_rows, sine_columns + 1] = size * torch.sin(angle)
    weight_HD[sine_rows + 1, sine_columns] = -size * torch.sin(angle)
    weight_HD[sine_rows + 1, sine_columns + 1] = size * torch.cos(angle)
    return weight_HD

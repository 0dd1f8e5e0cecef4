"""A checkpoint made to fail: channels many times wider than the rest, where BERT's own are.

INT8 with one scale a tensor loses everything else beside such a channel.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

__all__ = ["scale_channels"]


def scale_channels(
    model: torch.nn.Module,
    factor: float,
    *,
    num_layers: int,
    head_channels: Sequence[int],
    ffn_channels: Sequence[int],
) -> None:
    """Widen channels inside every encoder layer, and narrow what reads them, in place.

    Keys against queries, and values against the layer behind attention: there the function stays
    the same. The feed-forward channels are behind a GELU, which is no straight line, so that the
    model becomes another one; it is compared with its own float self.

    Args:
        model: A BERT of bert_rt.model.heads.
        factor: How much wider.
        num_layers: Encoder layers.
        head_channels: Channels of keys and values, by their place in the hidden size.
        ffn_channels: Channels of the feed-forward layer.
    """
    heads, ffn = list(head_channels), list(ffn_channels)
    with torch.no_grad():
        for number in range(num_layers):
            prefix = f"bert.encoder.layer.{number}."
            for wide, narrow, channels in (
                ("attention.self.key", "attention.self.query", heads),
                ("attention.self.value", "attention.output.dense", heads),
                ("intermediate.dense", "output.dense", ffn),
            ):
                for kind in ("weight", "bias"):
                    model.get_parameter(f"{prefix}{wide}.{kind}")[channels] *= factor
                reader = model.get_parameter(f"{prefix}{narrow}.weight")
                if narrow.endswith("query"):
                    reader[channels] /= factor
                    model.get_parameter(f"{prefix}{narrow}.bias")[channels] /= factor
                else:
                    reader[:, channels] /= factor

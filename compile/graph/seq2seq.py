"""An encoder-decoder as two graphs: sources to keys and values, and one step of the targets.

compile.graph.seq2seq_modules says what they compute, docs/artifact-format.md which inputs and
outputs they have.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir
import torch

from bert_rt.model.encoder_decoder import EncoderDecoder
from bert_rt.model.encoder_decoder_config import EncoderDecoderConfig
from bert_rt.support.seq2seq import (
    ATTENTION_MASK,
    INPUT_IDS,
    LOG_PROBS,
    LOGITS,
    PAST_MASK,
    POSITION_IDS,
    SOURCE_MASK,
    cross_names,
    past_names,
    present_names,
)
from compile.graph.caches import fuse_past
from compile.graph.fuse import apply_all
from compile.graph.linear import DECODER, name_linear_layers
from compile.graph.rules.attention import AttentionRule
from compile.graph.rules.gelu import GeluRule
from compile.graph.rules.merge_qkv import MergeQkvRule
from compile.graph.rules.residual_layer_norm import ResidualLayerNormRule
from compile.graph.seq2seq_modules import DecoderStep, SourceEncoder
from compile.graph.siblings import merge_siblings
from compile.graph.trace import export_graph

__all__ = ["fuse_decoder", "fuse_encoder", "trace_decoder", "trace_encoder"]

_PROJECTION = "enc_to_dec_proj"
_CROSS = f"{DECODER}cross_keys_values"
_HEAD = (f"{DECODER}cls.predictions.transform.dense", f"{DECODER}cls.predictions.decoder")
_MAX_ROWS = 2**20
_MAX_BEAMS = 2**10


def trace_encoder(model: EncoderDecoder) -> ir.Model:
    """Trace what reads sources.

    Args:
        model: In eval mode.

    Returns:
        A graph with inputs input_ids and attention_mask [sources, source_length], int64, and the
        outputs cross_names, [sources, source_length, D], float32.

    Raises:
        UnsupportedOpError: It cannot be traced.
    """
    config = model.config
    length = config.max_source_length
    dims = _sources() | {1: torch.export.Dim("source_length", min=1, max=length)}
    traced = export_graph(
        SourceEncoder(model).eval(),
        tuple(_ones(2, min(17, length)) for _ in range(2)),
        input_names=(INPUT_IDS, ATTENTION_MASK),
        output_names=cross_names(config.decoder.num_hidden_layers),
        dynamic_shapes=(dims, dims),
    )
    _name_sizes(traced.graph.outputs, ["sources", "source_length"])
    return traced


def trace_decoder(model: EncoderDecoder) -> ir.Model:
    """Trace one step of the targets.

    Args:
        model: In eval mode.

    Returns:
        A graph with the inputs and outputs of docs/artifact-format.md, but that the heads of the
        past stand side by side: shape (B, P, D).

    Raises:
        UnsupportedOpError: It cannot be traced.
    """
    config = model.config
    width, num_layers = config.decoder.hidden_size, config.decoder.num_hidden_layers
    # Different sizes, all above 1, so that the tracer takes none for another or for a constant.
    sources, beams, length, past = 2, 3, min(5, config.max_source_length), 4
    rows_dims: dict[int, Any] = _sources() | {1: torch.export.Dim("beams", min=1, max=_MAX_BEAMS)}
    past_dim: Any = torch.export.Dim("past_length", min=0, max=_MAX_ROWS)
    source_dims = _sources()
    source_dims[1] = torch.export.Dim("source_length", min=1, max=config.max_source_length)
    past_dims = _sources() | {1: past_dim}
    num_arrays = 2 * num_layers
    examples = (
        *(_ones(sources, beams) for _ in range(2)),
        _ones(sources, beams, past),
        _ones(sources, length),
        [torch.zeros(sources, length, width) for _ in range(num_arrays)],
        [torch.zeros(sources, past, width) for _ in range(num_arrays)],
    )
    shapes = (
        *(rows_dims for _ in range(2)),
        rows_dims | {2: past_dim},
        source_dims,
        [source_dims] * num_arrays,
        [past_dims] * num_arrays,
    )
    traced = export_graph(
        DecoderStep(model).eval(),
        examples,
        input_names=(
            *(INPUT_IDS, POSITION_IDS, PAST_MASK, SOURCE_MASK),
            *cross_names(num_layers),
            *past_names(num_layers),
        ),
        output_names=(LOGITS, LOG_PROBS, *present_names(num_layers)),
        dynamic_shapes=shapes,
    )
    _name_sizes(traced.graph.outputs[:2], ["sources", "beams"])
    _name_sizes(traced.graph.outputs[2:], ["sources", "length"])
    return traced


def fuse_encoder(model: ir.Model, config: EncoderDecoderConfig) -> dict[str, int]:
    """Fuse what trace_encoder made, in place.

    Args:
        model: The graph.
        config: The architecture.

    Returns:
        Rule name to number of rewrites.

    Raises:
        UnsupportedOpError: A rule matched more or less often than the architecture says.
    """
    encoder = config.encoder
    layers = encoder.num_hidden_layers
    counts = apply_all(
        model,
        {
            "gelu": GeluRule(),
            "attention": AttentionRule(encoder.num_attention_heads, encoder.head_dim),
            "merged_qkv": MergeQkvRule(),
            "residual_layer_norm": ResidualLayerNormRule(),
            "merged_cross_attention": merge_siblings,
        },
        {
            "gelu": layers,
            "attention": layers,
            "merged_qkv": layers,
            "residual_layer_norm": 2 * layers,
            "merged_cross_attention": 1,
        },
    )
    head = (_PROJECTION, _CROSS) if config.is_projected else (_CROSS,)
    name_linear_layers(model, head)
    return counts


def fuse_decoder(model: ir.Model, config: EncoderDecoderConfig) -> dict[str, int]:
    """Fuse what trace_decoder made, in place; arguments and result as in fuse_encoder."""
    decoder = config.decoder
    layers = decoder.num_hidden_layers
    counts = apply_all(
        model,
        {
            "gelu": GeluRule(),
            "attention": AttentionRule(decoder.num_attention_heads, decoder.head_dim),
            "residual_layer_norm": ResidualLayerNormRule(),
            "merged_qkv": merge_siblings,
            "attention_past": fuse_past,
        },
        {
            # One more in front of the vocabulary.
            "gelu": layers + 1,
            "attention": 2 * layers,
            "residual_layer_norm": 3 * layers,
            "merged_qkv": layers,
            "attention_past": layers,
        },
    )
    name_linear_layers(model, _HEAD, part=DECODER)
    return counts


def _sources() -> dict[int, Any]:
    return {0: torch.export.Dim("sources", min=1, max=_MAX_ROWS)}


def _ones(*shape: int) -> torch.Tensor:
    return torch.ones(shape, dtype=torch.int64)


def _name_sizes(values: Sequence[ir.Value], names: Sequence[str]) -> None:
    """Give the first sizes of outputs their names, which the exporter makes up."""
    for value in values:
        assert value.shape is not None, "the exporter says the rank of every output"
        value.shape = ir.Shape([*names, *value.shape[len(names) :]])

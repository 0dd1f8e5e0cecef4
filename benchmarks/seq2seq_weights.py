"""Weights of an encoder-decoder by two kinds of names: those of checkpoints, and the builders'.

The builders are tests.kernels.seq2seq_graphs and bench_translate.convert. Their linear layers are
of shape (K, N), and what a graph computes by one product is one layer there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from tests.kernels.graphs import Array
from tests.kernels.seq2seq_graphs import Seq2SeqSpec

__all__ = ["from_state", "to_state"]

_HEAD = "decoder.cls.predictions"


def to_state(spec: Seq2SeqSpec, weights: Mapping[str, Mapping[str, Array]]) -> dict[str, Array]:
    """Return the state of an EncoderDecoder.

    Args:
        spec: The sizes.
        weights: Of "encoder" and "decoder" by the builders' names.

    Returns:
        By the names of checkpoints.
    """
    state: dict[str, Array] = {}
    for part, name, key in _tensors(spec):
        state[key] = weights[part][name]
    for part, name, keys in _linears(spec):
        parts = (
            np.split(weights[part][f"{name}.{kind}"], len(keys), axis=-1)
            for kind in ("weight", "bias")
        )
        for key, weight, bias in zip(keys, *parts, strict=True):
            state[f"{key}.weight"] = np.ascontiguousarray(weight.T)
            state[f"{key}.bias"] = np.ascontiguousarray(bias)
    state[f"{_HEAD}.bias"] = state[f"{_HEAD}.decoder.bias"]
    return state


def from_state(spec: Seq2SeqSpec, state: Mapping[str, Array]) -> dict[str, dict[str, Array]]:
    """Do the reverse of to_state."""
    weights: dict[str, dict[str, Array]] = {"encoder": {}, "decoder": {}}
    for part, name, key in _tensors(spec):
        weights[part][name] = state[key]
    for part, name, keys in _linears(spec):
        matrices = [state[f"{key}.weight"].T for key in keys]
        weights[part][f"{name}.weight"] = np.concatenate(matrices, axis=1)
        weights[part][f"{name}.bias"] = np.concatenate([state[f"{key}.bias"] for key in keys])
    return weights


def _layers(spec: Seq2SeqSpec) -> Iterator[tuple[str, int, str]]:
    """Yield of every layer the part, its number, and its prefix in a checkpoint."""
    for part, prefix, count in (
        ("encoder", "encoder.", spec.encoder.num_hidden_layers),
        ("decoder", "decoder.bert.", spec.decoder.num_hidden_layers),
    ):
        for i in range(count):
            yield part, i, f"{prefix}encoder.layer.{i}"


def _tensors(spec: Seq2SeqSpec) -> Iterator[tuple[str, str, str]]:
    """Yield the part, the name and the key of embeddings and layer norms."""
    norms = [("decoder", "transform", f"{_HEAD}.transform.LayerNorm")]
    for part, prefix in (("encoder", "encoder."), ("decoder", "decoder.bert.")):
        for name in ("word", "position", "type"):
            kind = "token_type" if name == "type" else name
            yield part, name, f"{prefix}embeddings.{kind}_embeddings.weight"
        norms.append((part, "embeddings", f"{prefix}embeddings.LayerNorm"))
    for part, i, layer in _layers(spec):
        last = "norm2" if part == "encoder" else "norm3"
        norms.append((part, f"{i}.norm1", f"{layer}.attention.output.LayerNorm"))
        norms.append((part, f"{i}.{last}", f"{layer}.output.LayerNorm"))
        if part == "decoder":
            norms.append((part, f"{i}.norm2", f"{layer}.crossattention.output.LayerNorm"))
    for part, name, key in norms:
        yield part, f"{name}.gamma", f"{key}.weight"
        yield part, f"{name}.beta", f"{key}.bias"


def _linears(spec: Seq2SeqSpec) -> Iterator[tuple[str, str, list[str]]]:
    """Yield the part, the name and the keys of linear layers, of which one is several there."""
    memory: list[str] = []
    for part, i, layer in _layers(spec):
        inner = f"{layer}.attention.self"
        yield part, f"{i}.qkv", [f"{inner}.{name}" for name in ("query", "key", "value")]
        yield part, f"{i}.attention", [f"{layer}.attention.output.dense"]
        yield part, f"{i}.ffn1", [f"{layer}.intermediate.dense"]
        yield part, f"{i}.ffn2", [f"{layer}.output.dense"]
        if part == "decoder":
            cross = f"{layer}.crossattention"
            yield part, f"{i}.cross_query", [f"{cross}.self.query"]
            yield part, f"{i}.cross_attention", [f"{cross}.output.dense"]
            memory += [f"{cross}.self.{name}" for name in ("key", "value")]
    yield "encoder", "0.memory", memory
    yield "decoder", "0.transform", [f"{_HEAD}.transform.dense"]
    yield "decoder", "0.vocabulary", [f"{_HEAD}.decoder"]

"""Small encoder-decoder graphs for the native engine's tests: random weights, calibrated scales.

The graphs follow docs/artifact-format.md (the same nodes that the compile stage writes).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from bert_rt.support.seq2seq import empty_past, past_names, present_names
from tests.kernels.graphs import Array, GraphBuilder, GraphSpec, random_weights, session

__all__ = ["SMALL", "Pair", "Seq2SeqSpec", "build_pair", "random_sources"]


@dataclass(frozen=True, kw_only=True)
class Seq2SeqSpec:
    """What to build. The decoder's linear layers are named "0.qkv", "0.cross_query" and so on.

    Attributes:
        encoder: The encoder.
        decoder: The decoder; its vocabulary is the target's.
    """

    encoder: GraphSpec
    decoder: GraphSpec


SMALL = Seq2SeqSpec(
    encoder=GraphSpec(token_types="first", max_position_embeddings=48),
    decoder=GraphSpec(vocab_size=83, intermediate_size=112, max_position_embeddings=40),
)


def pair_weights(spec: Seq2SeqSpec, seed: int = 0) -> dict[str, dict[str, Array]]:
    """Weights of both parts, by the names that the builders use."""
    encoder, decoder = (random_weights(s, seed + i) for i, s in enumerate(_parts(spec)))
    rng = np.random.default_rng(seed + 2)
    e, d, v = spec.encoder.hidden_size, spec.decoder.hidden_size, spec.decoder.vocab_size

    def linear(w: dict[str, Array], name: str, k: int, n: int, gain: float = 1.0) -> None:
        w[f"{name}.weight"] = (rng.standard_normal((k, n)) * gain / np.sqrt(k)).astype(np.float32)
        w[f"{name}.bias"] = (rng.standard_normal(n) * 0.1).astype(np.float32)

    if e != d:
        linear(encoder, "states", e, d)
    linear(encoder, "0.memory", d, 2 * d * spec.decoder.num_hidden_layers, 1.4)
    for i in range(spec.decoder.num_hidden_layers):
        linear(decoder, f"{i}.cross_query", d, d, 1.4)
        linear(decoder, f"{i}.cross_attention", d, d)
        for part in ("gamma", "beta"):
            decoder[f"{i}.norm3.{part}"] = decoder[f"{i}.norm1.{part}"][::-1].copy()
    linear(decoder, "0.transform", d, d)
    linear(decoder, "0.vocabulary", d, v, 3.0)
    decoder["transform.gamma"], decoder["transform.beta"] = (
        decoder["0.norm2.gamma"],
        decoder["0.norm2.beta"],
    )
    return {"encoder": encoder, "decoder": decoder}


def _parts(spec: Seq2SeqSpec) -> tuple[GraphSpec, GraphSpec]:
    return spec.encoder, spec.decoder


_BOTH = ("keys", "values")


class _Encoder(GraphBuilder):
    """An encoder that ends in keys and values for some layers of a decoder."""

    num_layers = 0
    width = 0

    def heads(self, x: str) -> list[onnx.ValueInfoProto]:
        if "states.weight" in self.w:
            x = self.linear("states", x)
        names = [f"cross_{k}.{i}" for i in range(self.num_layers) for k in _BOTH]
        both = self.linear("0.memory", x)
        self.nodes.append(helper.make_node("Split", [both], names, axis=-1, num_outputs=len(names)))
        return [_value(n, ["sources", "length", self.width], TensorProto.FLOAT) for n in names]


def _value(name: str, shape: Sequence[Any], kind: int = TensorProto.INT64) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, list(shape))


class _Decoder(GraphBuilder):
    """One step of a decoder."""

    def step(self) -> onnx.ModelProto:
        x = self.word_embeddings()
        masks = self.step_masks()
        made = []
        for i in range(self.spec.num_hidden_layers):
            x, more = self.layer(i, x, masks)
            made += more
        x = self.linear("0.transform", x)
        gamma, beta = (
            self.const(f"transform.{p}", self.w[f"transform.{p}"]) for p in ("gamma", "beta")
        )
        x = self.op(
            "LayerNormalization", [self.op("Gelu", [x]), gamma, beta], axis=-1, epsilon=1e-12
        )
        self.op("LogSoftmax", [self.linear("0.vocabulary", x, out="logits")], out="log_probs")
        return self.finish(made)

    def word_embeddings(self) -> str:
        words = self.words()
        words = self.op("Add", [words, self.const("type", self.w["type"][0])])
        table = self.const("position", self.w["position"])
        return self.norm("embeddings", words, self.op("Gather", [table, "position_ids"]))

    def step_masks(self) -> tuple[str, str]:
        """Masks of both attentions, true where a key may be looked at."""
        axis = self.const("axis", np.array([1]))
        beams = self.op("Shape", ["input_ids"], start=1, end=2)
        ends = [self.const("zero", np.int64(0)), self.const("one", np.int64(1))]
        rows = self.op("Range", [ends[0], self.op("Squeeze", [beams]), ends[1]])
        own = self.op("Equal", [self.op("Unsqueeze", [rows, axis]), rows])
        past = self.op("Cast", ["past_mask"], to=TensorProto.BOOL)
        sources = self.op("Shape", ["input_ids"], start=0, end=1)
        size = self.op("Concat", [sources, beams, beams], axis=0)
        own = self.op("Concat", [past, self.op("Expand", [own, size])], axis=2)
        cross = self.op("Cast", ["source_mask"], to=TensorProto.BOOL)
        cross = self.op("Unsqueeze", [cross, self.const("middle", np.array([1, 2]))])
        size = self.op("Concat", [axis, axis, beams, self.last_size("source_mask")], axis=0)
        return self.op("Unsqueeze", [own, axis]), self.op("Expand", [cross, size])

    def last_size(self, value: str) -> str:
        return str(self.op("Shape", [value], start=-1))

    def layer(self, i: int, x: str, masks: tuple[str, str]) -> tuple[str, list[str]]:
        heads, d = self.spec.num_attention_heads, self.spec.hidden_size
        common = {"q_num_heads": heads, "kv_num_heads": heads, "scale": float((d // heads) ** -0.5)}
        qkv = self.op("Split", [self.linear(f"{i}.qkv", x)], n=3, axis=-1, num_outputs=3)
        past, made = ([f"{kind}_{name}.{i}" for name in _BOTH] for kind in ("past", "present"))
        context = f"context.{i}"
        inputs = [*qkv, masks[0], *past]
        self.nodes.append(helper.make_node("Attention", inputs, [context, *made], **common))
        x = self.norm(f"{i}.norm1", self.linear(f"{i}.attention", context), x)
        q = self.linear(f"{i}.cross_query", x)
        cross = [f"cross_{name}.{i}" for name in _BOTH]
        context = self.op("Attention", [q, *cross, masks[1]], **common)
        x = self.norm(f"{i}.norm2", self.linear(f"{i}.cross_attention", context), x)
        hidden = self.op("Gelu", [self.linear(f"{i}.ffn1", x)])
        return self.norm(f"{i}.norm3", self.linear(f"{i}.ffn2", hidden), x), made

    def finish(self, made: Sequence[str]) -> onnx.ModelProto:
        d, heads, rows = self.spec.hidden_size, self.spec.num_attention_heads, ["sources", "beams"]
        inputs = [_value(n, rows) for n in ("input_ids", "position_ids")]
        inputs.append(_value("past_mask", [*rows, "past"]))
        inputs.append(_value("source_mask", ["sources", "length"]))
        past, present = (["sources", heads, p, d // heads] for p in ("past", "present"))
        for kind, shape in (("cross", ["sources", "length", d]), ("past", past)):
            for i in range(self.spec.num_hidden_layers):
                inputs += [_value(f"{kind}_{n}.{i}", shape, TensorProto.FLOAT) for n in _BOTH]
        scores = [*rows, self.spec.vocab_size]
        outputs = [_value(n, scores, TensorProto.FLOAT) for n in ("logits", "log_probs")]
        outputs += [_value(n, present, TensorProto.FLOAT) for n in made]
        graph = helper.make_graph(self.nodes, "step", inputs, outputs, list(self.inits.values()))
        opset = [helper.make_opsetid("", 23)]
        return helper.make_model(graph, opset_imports=opset, ir_version=10)


def random_sources(spec: Seq2SeqSpec, lengths: Sequence[int], seed: int = 0) -> list[Array]:
    """Sources of those lengths, int32."""
    rng = np.random.default_rng(seed)
    return [rng.integers(0, spec.encoder.vocab_size, n, dtype=np.int32) for n in lengths]


def _source_feeds(ids: Array, mask: Array) -> dict[str, Array]:
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}


class Pair:
    """Both graphs, and what ONNX Runtime makes of them."""

    def __init__(
        self, spec: Seq2SeqSpec, encoder: onnx.ModelProto, decoder: onnx.ModelProto
    ) -> None:
        self.spec = spec
        self.encoder, self.decoder = encoder.SerializeToString(), decoder.SerializeToString()
        self.sessions = session(encoder), session(decoder)

    def memory(self, sources: Sequence[Array]) -> dict[str, Array]:
        """Keys and values of cross attention, and source_mask."""
        longest = max(map(len, sources))
        ids = np.stack([np.pad(s, (0, longest - len(s))) for s in sources]).astype(np.int64)
        mask = np.stack([np.arange(longest) < len(s) for s in sources]).astype(np.int64)
        outputs = self.sessions[0].run(None, _source_feeds(ids, mask))
        names = [o.name for o in self.sessions[0].get_outputs()]
        return {**dict(zip(names, outputs, strict=True)), "source_mask": mask}

    def start(self, sources: Sequence[Array]) -> PaddedSteps:
        """Begin to decode sources, as many rows of each at every step."""
        return PaddedSteps(self, self.memory(sources))


class PaddedSteps:
    """Steps by ONNX Runtime: all rows have equally many tokens, and no source leaves."""

    def __init__(self, pair: Pair, memory: Mapping[str, Array]) -> None:
        self._pair, self._memory = pair, memory
        self.num_sources = len(memory["source_mask"])
        spec = pair.spec.decoder
        heads = spec.num_attention_heads, spec.hidden_size // spec.num_attention_heads
        empty = empty_past(self.num_sources, *heads)
        self._past = dict.fromkeys(past_names(spec.num_hidden_layers), empty)
        self._num_steps = 0
        self._seen = np.zeros((self.num_sources, 0), np.int64)

    def feeds(self, tokens: Array, beam_idx: Array) -> dict[str, Array]:
        """The inputs of a step."""
        shape = (self.num_sources, -1)
        ids = tokens.reshape(shape).astype(np.int64)
        return {
            "input_ids": ids,
            "position_ids": np.full_like(ids, self._num_steps),
            "past_mask": self._seen[beam_idx].reshape(*ids.shape, self._seen.shape[1]),
            **self._memory,
            **self._past,
        }

    def step(self, tokens: Array, beam_idx: Array) -> Array:
        """Return logits of shape (R, V)."""
        results = self._pair.sessions[1].run(None, self.feeds(tokens, beam_idx))
        names = [o.name for o in self._pair.sessions[1].get_outputs()]
        named = dict(zip(names, results, strict=True))
        logits: Array = named["logits"]
        present = present_names(self._pair.spec.decoder.num_hidden_layers)
        self._past = {n: named[p] for n, p in zip(self._past, present, strict=True)}
        own = np.tile(np.eye(logits.shape[1], dtype=np.int64), (self.num_sources, 1))
        self._seen = np.concatenate([self._seen[beam_idx], own], axis=1)
        self._num_steps += 1
        return logits.reshape(len(tokens), -1)


def build_pair(
    spec: Seq2SeqSpec = SMALL, weights: Mapping[str, Mapping[str, Array]] | None = None
) -> Pair:
    """Both graphs; INT8 scales are calibrated on random sources and targets."""
    weights = weights or pair_weights(spec)
    plain = _float_pair(spec, weights)
    sources = random_sources(spec, (20, 11, 7, 16), seed=5)
    rng = np.random.default_rng(6)
    ranges: dict[str, dict[str, tuple[Array, Array]]] = {"encoder": {}, "decoder": {}}
    models = [onnx.load_from_string(m) for m in (plain.encoder, plain.decoder)]
    taps = [_tapped(m, t) for m, t in zip(models, plain.taps, strict=True)]
    memory = plain.memory(sources)
    longest = memory["source_mask"].shape[1]
    ids = np.stack([np.pad(s, (0, longest - len(s))) for s in sources]).astype(np.int64)
    feeds = _source_feeds(ids, memory["source_mask"])
    _observe(ranges["encoder"], taps[0], plain.taps[0], feeds)
    steps = plain.start(sources)
    rows = np.arange(len(sources))
    for _ in range(12):
        tokens = rng.integers(0, spec.decoder.vocab_size, len(rows))
        _observe(ranges["decoder"], taps[1], plain.taps[1], steps.feeds(tokens, rows))
        steps.step(tokens, rows)
    encoder = _encoder(spec, spec.encoder, weights["encoder"], ranges["encoder"])
    decoder = _Decoder(spec.decoder, weights["decoder"], ranges["decoder"])
    return Pair(spec, encoder.model(), decoder.step())


class _FloatPair(Pair):
    """With what enters each linear layer, by its name."""

    taps: tuple[list[tuple[str, str]], list[tuple[str, str]]]


def _float_pair(spec: Seq2SeqSpec, weights: Mapping[str, Mapping[str, Array]]) -> _FloatPair:
    encoder = _encoder(spec, replace(spec.encoder, int8=False), weights["encoder"], {})
    decoder = _Decoder(replace(spec.decoder, int8=False), weights["decoder"], {})
    pair = _FloatPair(spec, encoder.model(), decoder.step())
    pair.taps = encoder.taps, decoder.taps
    return pair


def _encoder(
    spec: Seq2SeqSpec,
    part: GraphSpec,
    weights: Mapping[str, Array],
    ranges: Mapping[str, tuple[Array, Array]],
) -> _Encoder:
    encoder = _Encoder(part, weights, ranges)
    encoder.num_layers = spec.decoder.num_hidden_layers
    encoder.width = spec.decoder.hidden_size
    return encoder


def _tapped(model: onnx.ModelProto, taps: Sequence[tuple[str, str]]) -> Any:
    known = {o.name for o in model.graph.output}
    for tap in dict.fromkeys(t for _, t in taps):
        if tap not in known:
            model.graph.output.append(helper.make_tensor_value_info(tap, TensorProto.FLOAT, None))
    return session(model)


def _observe(
    ranges: dict[str, tuple[Array, Array]],
    tapped: Any,
    taps: Sequence[tuple[str, str]],
    feeds: Mapping[str, Array],
) -> None:
    values = tapped.run([t for _, t in taps], dict(feeds))
    for (name, _), value in zip(taps, values, strict=True):
        rows = value.reshape(-1, value.shape[-1])
        low, high = rows.min(0), rows.max(0)
        if name in ranges:
            low, high = np.minimum(low, ranges[name][0]), np.maximum(high, ranges[name][1])
        ranges[name] = low, high

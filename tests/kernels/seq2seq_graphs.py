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

from bert_rt.support.seq2seq import empty_past
from tests.kernels.graphs import Array, GraphBuilder, GraphSpec, random_weights, session

__all__ = ["SMALL", "Pair", "Seq2SeqSpec", "build_pair", "random_sources"]


@dataclass(frozen=True, kw_only=True)
class Seq2SeqSpec:
    """What to build. The decoder's linear layers are named "0.qkv", "0.cross_query" and so on.

    Attributes:
        encoder: The encoder.
        decoder: The decoder; its vocabulary is the target's.
        joins_past: Whether Concat joins the past with a new token, as in graphs that were compiled
            earlier, in place of Attention.
    """

    encoder: GraphSpec
    decoder: GraphSpec
    joins_past: bool = False


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


class _Encoder(GraphBuilder):
    """An encoder that ends in keys and values for some layers of a decoder."""

    num_layers = 0
    width = 0

    def heads(self, x: str) -> list[onnx.ValueInfoProto]:
        if "states.weight" in self.w:
            x = self.linear("states", x)
        names = [f"cross_{k}.{i}" for i in range(self.num_layers) for k in ("keys", "values")]
        both = self.linear("0.memory", x)
        self.nodes.append(helper.make_node("Split", [both], names, axis=-1, num_outputs=len(names)))
        return [_value(n, ["sources", "length", self.width], TensorProto.FLOAT) for n in names]


def _value(name: str, shape: Sequence[Any], kind: int = TensorProto.INT64) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, list(shape))


class _Decoder(GraphBuilder):
    """One step of a decoder."""

    def step(self, *, joins_past: bool) -> onnx.ModelProto:
        self.joins_past = joins_past
        spec, d = self.spec, self.spec.hidden_size
        rows = self.const("rows", np.array([-1, 1, d]))
        flat = self.const("flat", np.array([-1]))
        x = self.op("Reshape", [self.word_embeddings(), rows])
        beam = self.op("Reshape", ["beam_idx", flat])
        masks = self.step_masks()
        outputs = []
        for i in range(spec.num_hidden_layers):
            x, made = self.layer(i, x, beam, masks)
            outputs += made
        x = self.linear("0.transform", x)
        gamma, beta = (
            self.const(f"transform.{p}", self.w[f"transform.{p}"]) for p in ("gamma", "beta")
        )
        x = self.op(
            "LayerNormalization", [self.op("Gelu", [x]), gamma, beta], axis=-1, epsilon=1e-12
        )
        shape = self.op("Shape", ["input_ids"])
        last = self.op("Concat", [shape, flat], axis=0)
        self.op("Reshape", [self.linear("0.vocabulary", x), last], out="logits")
        return self.finish(outputs)

    def word_embeddings(self) -> str:
        words = self.words()
        words = self.op("Add", [words, self.const("type", self.w["type"][0])])
        table = self.const("position", self.w["position"])
        return self.norm("embeddings", words, self.op("Gather", [table, "position_ids"]))

    def step_masks(self) -> tuple[str, str]:
        """Masks of both attentions, true where a key may be looked at."""
        axis = self.const("axis", np.array([1]))
        ends = self.op("Unsqueeze", ["input_ids", self.const("behind", np.array([2]))])
        ones = self.op("Greater", [ends, self.const("below", np.int64(-1))])
        past = self.op("Cast", ["past_mask"], to=TensorProto.BOOL)
        own = self.op("Concat", [past, ones], axis=2)
        shape = self.op("Concat", [self.const("flat", np.array([-1])), self.last_size(own)], axis=0)
        own = self.op("Reshape", [own, shape])
        own = self.op("Unsqueeze", [own, self.const("middle", np.array([1, 2]))])
        cross = self.op("Cast", ["source_mask"], to=TensorProto.BOOL)
        cross = self.op("Unsqueeze", [cross, self.const("middle", np.array([1, 2]))])
        beams = self.op("Shape", ["input_ids"], start=1, end=2)
        size = self.op("Concat", [axis, axis, beams, self.last_size("source_mask")], axis=0)
        return own, self.op("Expand", [cross, size])

    def last_size(self, value: str) -> str:
        return str(self.op("Shape", [value], start=-1))

    def layer(self, i: int, x: str, beam: str, masks: tuple[str, str]) -> tuple[str, list[str]]:
        heads, d = self.spec.num_attention_heads, self.spec.hidden_size
        common = {"q_num_heads": heads, "kv_num_heads": heads, "scale": float((d // heads) ** -0.5)}
        q, *new = self.op("Split", [self.linear(f"{i}.qkv", x)], n=3, axis=-1, num_outputs=3)
        names = ("keys", "values")
        past = [self.op("Gather", [f"past_{name}.{i}", beam], axis=0) for name in names]
        made = [f"present_{name}.{i}" for name in names]
        if self.joins_past:
            for pair, out in zip(zip(past, new, strict=True), made, strict=True):
                self.op("Concat", [*pair], out=out, axis=1)
            context = self.op("Attention", [q, *made, masks[0]], **common)
        else:
            context = f"context.{i}"
            inputs = [q, *new, masks[0], *past]
            self.nodes.append(helper.make_node("Attention", inputs, [context, *made], **common))
        x = self.norm(f"{i}.norm1", self.linear(f"{i}.attention", context), x)
        shape = self.op("Shape", ["input_ids"])
        sources = self.op("Concat", [shape, self.const("width", np.array([d]))], axis=0)
        q = self.op("Reshape", [self.linear(f"{i}.cross_query", x), sources])
        cross = [f"cross_keys.{i}", f"cross_values.{i}"]
        context = self.op("Attention", [q, *cross, masks[1]], **common)
        context = self.op("Reshape", [context, "rows"])
        x = self.norm(f"{i}.norm2", self.linear(f"{i}.cross_attention", context), x)
        hidden = self.op("Gelu", [self.linear(f"{i}.ffn1", x)])
        return self.norm(f"{i}.norm3", self.linear(f"{i}.ffn2", hidden), x), made

    def finish(self, made: Sequence[str]) -> onnx.ModelProto:
        d, rows = self.spec.hidden_size, ["sources", "beams"]
        inputs = [_value(n, rows) for n in ("input_ids", "position_ids", "beam_idx")]
        inputs.append(_value("past_mask", [*rows, "past"]))
        inputs.append(_value("source_mask", ["sources", "length"]))
        past, present = self.past_sizes("past_rows", "past"), self.past_sizes("rows", "present")
        for kind, shape in (("cross", ["sources", "length", d]), ("past", past)):
            for i in range(self.spec.num_hidden_layers):
                inputs += [
                    _value(f"{kind}_{what}.{i}", shape, TensorProto.FLOAT)
                    for what in ("keys", "values")
                ]
        outputs = [_value("logits", [*rows, self.spec.vocab_size], TensorProto.FLOAT)]
        outputs += [_value(n, present, TensorProto.FLOAT) for n in made]
        graph = helper.make_graph(self.nodes, "step", inputs, outputs, list(self.inits.values()))
        opset = [helper.make_opsetid("", 23)]
        return helper.make_model(graph, opset_imports=opset, ir_version=10)

    def past_sizes(self, rows: str, length: str) -> list[Any]:
        heads, d = self.spec.num_attention_heads, self.spec.hidden_size
        return [rows, length, d] if self.joins_past else [rows, heads, length, d // heads]


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
        self._past = {
            value.name: empty_past(value.shape, self.num_sources)
            for value in pair.sessions[1].get_inputs()
            if value.name.startswith("past_") and value.name != "past_mask"
        }

    def feeds(self, tokens: Array, beam_idx: Array) -> dict[str, Array]:
        """The inputs of a step."""
        shape = (self.num_sources, -1)
        length = self._past["past_keys.0"].shape[-2]
        ids = tokens.reshape(shape).astype(np.int64)
        return {
            "input_ids": ids,
            "position_ids": np.full_like(ids, length),
            "beam_idx": beam_idx.reshape(shape).astype(np.int64),
            "past_mask": np.ones((*ids.shape, length), np.int64),
            **self._memory,
            **self._past,
        }

    def step(self, tokens: Array, beam_idx: Array) -> Array:
        """Return logits of shape (R, V)."""
        results = self._pair.sessions[1].run(None, self.feeds(tokens, beam_idx))
        names = [o.name for o in self._pair.sessions[1].get_outputs()]
        named = dict(zip(names, results, strict=True))
        logits: Array = named.pop("logits")
        self._past = {n.replace("present", "past"): v for n, v in named.items()}
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
    return Pair(spec, encoder.model(), decoder.step(joins_past=spec.joins_past))


class _FloatPair(Pair):
    """With what enters each linear layer, by its name."""

    taps: tuple[list[tuple[str, str]], list[tuple[str, str]]]


def _float_pair(spec: Seq2SeqSpec, weights: Mapping[str, Mapping[str, Array]]) -> _FloatPair:
    encoder = _encoder(spec, replace(spec.encoder, int8=False), weights["encoder"], {})
    decoder = _Decoder(replace(spec.decoder, int8=False), weights["decoder"], {})
    pair = _FloatPair(spec, encoder.model(), decoder.step(joins_past=spec.joins_past))
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

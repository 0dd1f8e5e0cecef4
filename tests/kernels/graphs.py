"""Small BERT graphs for the native engine's tests: random weights, calibrated scales, any size.

The graphs follow docs/artifact-format.md (the same nodes that the compile stage writes).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class GraphSpec:
    """What to build.

    Attributes:
        float_linears: Names of linear layers ("0.qkv", "1.ffn2", ...) that stay in float.
        smooth_linears: Names of linear layers with a smoothing Mul before their quantization.
        outlier_linears: Names of ffn2 layers with three channels that stay in float.
        token_types: "learned", "first" (one row for all tokens) or "none" (no table).
        position_offset: Row of the table of positions that the first token takes.
        embedding_size: Width of embeddings that are projected; 0 for none.
        pooler: Operator between a classifier's two layers; "" for one layer over all tokens.
    """

    vocab_size: int = 97
    hidden_size: int = 64
    num_hidden_layers: int = 2
    num_attention_heads: int = 2
    intermediate_size: int = 128
    max_position_embeddings: int = 64
    type_vocab_size: int = 2
    num_labels: int = 0
    int8_embeddings: bool = True
    int8: bool = True
    float_linears: frozenset[str] = field(default_factory=frozenset)
    smooth_linears: frozenset[str] = field(default_factory=frozenset)
    outlier_linears: frozenset[str] = field(default_factory=frozenset)
    token_types: str = "learned"
    position_offset: int = 0
    embedding_size: int = 0
    pooler: str = "Tanh"


TINY = GraphSpec()
MINILM = GraphSpec(
    vocab_size=30522,
    hidden_size=384,
    num_hidden_layers=6,
    num_attention_heads=12,
    intermediate_size=1536,
    max_position_embeddings=512,
)
BASE = replace(MINILM, hidden_size=768, num_hidden_layers=12, intermediate_size=3072)


def random_weights(spec: GraphSpec, seed: int = 0) -> dict[str, Array]:
    """Weights of a BERT of that size, by the names that the builder uses, [in, out] matrices."""
    rng = np.random.default_rng(seed)
    d, f = spec.hidden_size, spec.intermediate_size

    def normal(*shape: int, scale: float) -> Array:
        return (rng.standard_normal(shape, dtype=np.float32) * np.float32(scale)).astype(np.float32)

    e = spec.embedding_size or d
    w = {
        "word": normal(spec.vocab_size, e, scale=0.05),
        "type": normal(spec.type_vocab_size, e, scale=0.02),
        "position": normal(spec.position_offset + spec.max_position_embeddings, e, scale=0.02),
    }

    def norm(name: str, width: int = d) -> None:
        w[f"{name}.gamma"] = 1 + normal(width, scale=0.1)
        w[f"{name}.beta"] = normal(width, scale=0.1)

    def linear(name: str, k: int, n: int, gain: float = 1.0) -> None:
        w[f"{name}.weight"] = normal(k, n, scale=gain / np.sqrt(k))
        w[f"{name}.bias"] = normal(n, scale=0.1)

    norm("embeddings", e)
    if spec.embedding_size:
        linear("project", e, d)
    for i in range(spec.num_hidden_layers):
        linear(f"{i}.qkv", d, 3 * d, 1.4)
        linear(f"{i}.attention", d, d)
        linear(f"{i}.ffn1", d, f)
        linear(f"{i}.ffn2", f, d)
        norm(f"{i}.norm1")
        norm(f"{i}.norm2")
    if spec.num_labels:
        linear("pooler", d, d)
    linear("head", d, spec.num_labels or 2)
    return w


def checkpoint_weights(directory: str) -> dict[str, Array]:
    """Weights of a Hugging Face question-answering checkpoint, by the builder's names."""
    from safetensors.numpy import load_file

    h = load_file(f"{directory}/model.safetensors")
    w = {
        "word": h["bert.embeddings.word_embeddings.weight"],
        "type": h["bert.embeddings.token_type_embeddings.weight"],
        "position": h["bert.embeddings.position_embeddings.weight"],
        "head.weight": h["qa_outputs.weight"].T,
        "head.bias": h["qa_outputs.bias"],
    }

    def norm(name: str, source: str) -> None:
        w[f"{name}.gamma"] = h[f"bert.{source}.weight"]
        w[f"{name}.beta"] = h[f"bert.{source}.bias"]

    norm("embeddings", "embeddings.LayerNorm")
    for i in range(100):
        p = f"bert.encoder.layer.{i}"
        if f"{p}.output.dense.weight" not in h:
            break
        parts = [f"{p}.attention.self.{n}" for n in ("query", "key", "value")]
        w[f"{i}.qkv.weight"] = np.concatenate([h[f"{n}.weight"] for n in parts]).T
        w[f"{i}.qkv.bias"] = np.concatenate([h[f"{n}.bias"] for n in parts])
        for name, source in (
            ("attention", "attention.output"),
            ("ffn1", "intermediate"),
            ("ffn2", "output"),
        ):
            w[f"{i}.{name}.weight"] = h[f"{p}.{source}.dense.weight"].T
            w[f"{i}.{name}.bias"] = h[f"{p}.{source}.dense.bias"]
        norm(f"{i}.norm1", f"encoder.layer.{i}.attention.output.LayerNorm")
        norm(f"{i}.norm2", f"encoder.layer.{i}.output.LayerNorm")
    return w


class GraphBuilder:
    """The nodes and constants of a graph as it grows."""

    def __init__(
        self,
        spec: GraphSpec,
        weights: Mapping[str, Array],
        ranges: Mapping[str, tuple[Array, Array]],
    ) -> None:
        self.spec, self.w, self.ranges = spec, weights, ranges
        self.nodes: list[onnx.NodeProto] = []
        self.inits: dict[str, onnx.TensorProto] = {}
        self.taps: list[tuple[str, str]] = []

    def const(self, name: str, value: Any) -> str:
        array = np.ascontiguousarray(value).reshape(np.shape(value))
        self.inits[name] = numpy_helper.from_array(array, name)
        return name

    def op(self, kind: str, inputs: Sequence[str], *, out: str = "", n: int = 1, **kw: Any) -> Any:
        name = out or f"{kind.lower()}_{len(self.nodes)}"
        outputs = [name] if n == 1 else [f"{name}.{i}" for i in range(n)]
        self.nodes.append(helper.make_node(kind, list(inputs), outputs, name=name, **kw))
        return name if n == 1 else outputs

    @staticmethod
    def outliers(w: Array) -> Array:
        return np.array([1, len(w) // 2, len(w) - 1])

    def quantized(self, name: str, x: str, w: Array) -> tuple[str, str, Array]:
        low, high = self.ranges[name]
        outliers = name in self.spec.outlier_linears
        if name in self.spec.smooth_linears or outliers:
            peak = np.maximum(np.abs(low), np.abs(high)) + 1e-3
            smooth = np.sqrt(np.abs(w).max(1) / peak).astype(np.float32)
            smooth /= smooth.mean()
            if name in self.spec.outlier_linears:
                smooth[self.outliers(w)] = 0
            x = self.op("Mul", [x, self.const(f"{name}.smooth", smooth)])
            w = np.divide(w, smooth[:, None], out=np.zeros_like(w), where=smooth[:, None] > 0)
            low, high = low * smooth, high * smooth
        bottom, top = min(float(low.min()), 0.0), max(float(high.max()), 0.0)
        scale = np.float32(max(top - bottom, 1e-3) / 255)
        zero = np.uint8(np.clip(np.round(-bottom / scale), 0, 255))
        pair = [self.const(f"{name}.scale", scale), self.const(f"{name}.zero", zero)]
        x = self.op("DequantizeLinear", [self.op("QuantizeLinear", [x, *pair]), *pair])
        ws = (np.maximum(np.abs(w).max(0), 1e-6) / 127).astype(np.float32)
        wq = np.clip(np.round(w / ws), -127, 127).astype(np.int8)
        matrix = self.op(
            "DequantizeLinear",
            [
                self.const(f"{name}.weight_q", wq),
                self.const(f"{name}.weight_scale", ws),
                self.const(f"{name}.weight_zero", np.zeros(len(ws), np.int8)),
            ],
            axis=1,
        )
        return x, matrix, w

    def linear(self, name: str, x: str, out: str = "") -> str:
        source = x
        w = full = self.w[f"{name}.weight"].astype(np.float32)
        self.taps.append((name, x))
        is_int8 = self.spec.int8 and name[0].isdigit() and name not in self.spec.float_linears
        if is_int8:
            x, matrix, w = self.quantized(name, x, w)
        else:
            matrix = self.const(f"{name}.weight", w)
        product = self.op("MatMul", [x, matrix])
        if is_int8 and name in self.spec.outlier_linears:
            channels = self.outliers(full)
            index = self.const(f"{name}.outlier_channels", channels)
            rows = self.const(f"{name}.outlier_weight", full[channels])
            some = self.op("Gather", [source, index], axis=-1)
            product = self.op("Add", [product, self.op("MatMul", [some, rows])])
        bias = self.const(f"{name}.bias", self.w[f"{name}.bias"].astype(np.float32))
        return str(self.op("Add", [product, bias], out=out))

    def norm(self, name: str, x: str, y: str) -> str:
        total = self.op("Add", [x, y])
        gamma = self.const(f"{name}.gamma", self.w[f"{name}.gamma"])
        beta = self.const(f"{name}.beta", self.w[f"{name}.beta"])
        return str(self.op("LayerNormalization", [total, gamma, beta], axis=-1, epsilon=1e-12))

    def words(self) -> str:
        word = self.w["word"]
        if self.spec.int8_embeddings and self.spec.int8:
            scale = (np.maximum(np.abs(word).max(1, keepdims=True), 1e-6) / 127).astype(np.float32)
            table = np.clip(np.round(word / scale), -127, 127).astype(np.int8)
            rows = self.op("Gather", [self.const("word_q", table), "input_ids"])
            cast = self.op("Cast", [rows], to=TensorProto.FLOAT)
            scales = self.op("Gather", [self.const("word_scale", scale), "input_ids"])
            return str(self.op("Mul", [cast, scales]))
        return str(self.op("Gather", [self.const("word", word), "input_ids"]))

    def embeddings(self) -> str:
        words = self.words()
        if self.spec.token_types == "learned":
            types = self.op("Gather", [self.const("type", self.w["type"]), "token_type_ids"])
            words = self.op("Add", [words, types])
        elif self.spec.token_types == "first":
            words = self.op("Add", [words, self.const("type", self.w["type"][0])])
        length = self.op("Shape", ["input_ids"], start=1, end=2, out="length")
        zero = self.const("zero", np.array([0]))
        first = self.const("first_position", np.array([self.spec.position_offset]))
        last = self.op("Add", [length, first])
        table = self.const("position", self.w["position"])
        x = self.norm("embeddings", words, self.op("Slice", [table, first, last, zero]))
        return self.linear("project", x) if self.spec.embedding_size else x

    def mask(self) -> str:
        axes = self.const("axes", np.array([1, 2]))
        flags = self.op("Cast", ["attention_mask"], to=TensorProto.BOOL)
        flags = self.op("Unsqueeze", [flags, axes])
        one = self.const("ones", np.array([1, 1]))
        shape = self.op("Concat", [one, "length", "length"], axis=0)
        return str(self.op("Expand", [flags, shape]))

    def model(self) -> onnx.ModelProto:
        spec, heads = self.spec, self.spec.num_attention_heads
        x = self.embeddings()
        mask = self.mask()
        for i in range(spec.num_hidden_layers):
            q, k, v = self.op("Split", [self.linear(f"{i}.qkv", x)], n=3, axis=-1, num_outputs=3)
            context = self.op(
                "Attention",
                [q, k, v, mask],
                q_num_heads=heads,
                kv_num_heads=heads,
                scale=float((spec.hidden_size // heads) ** -0.5),
            )
            x = self.norm(f"{i}.norm1", self.linear(f"{i}.attention", context), x)
            hidden = self.op("Gelu", [self.linear(f"{i}.ffn1", x)])
            x = self.norm(f"{i}.norm2", self.linear(f"{i}.ffn2", hidden), x)
        outputs = self.heads(x)
        names = ("input_ids", "attention_mask", "token_type_ids")
        shape = ["batch_size", "sequence_length"]
        inputs = [helper.make_tensor_value_info(n, TensorProto.INT64, shape) for n in names]
        graph = helper.make_graph(self.nodes, "bert", inputs, outputs, list(self.inits.values()))
        opset = [helper.make_opsetid("", 23)]
        return helper.make_model(graph, opset_imports=opset, ir_version=10)

    def heads(self, x: str) -> list[onnx.ValueInfoProto]:
        if self.spec.num_labels and not self.spec.pooler:
            self.linear("head", x, out="logits")
            shape = ["batch_size", "sequence_length", self.spec.num_labels]
            return [helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape)]
        if self.spec.num_labels:
            first = self.op("Gather", [x, self.const("first", np.int64(0))], axis=1)
            pooled = self.op(self.spec.pooler, [self.linear("pooler", first)])
            self.linear("head", pooled, out="logits")
            shape = ["batch_size", self.spec.num_labels]
            return [helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape)]
        both = self.op("Split", [self.linear("head", x)], n=2, axis=-1, num_outputs=2)
        last = self.const("last", np.array([-1]))
        values = []
        for name, part in zip(("start_logits", "end_logits"), both, strict=True):
            self.op("Squeeze", [part, last], out=name)
            shape = ["batch_size", "sequence_length"]
            values.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        return values


def random_batch(
    spec: GraphSpec, lengths: Sequence[int], seed: int = 0
) -> tuple[Array, Array, Array]:
    """Packed (input_ids, token_type_ids, cu_seqlens), int32."""
    rng = np.random.default_rng(seed)
    total = sum(lengths)
    ids = rng.integers(0, spec.vocab_size, total, dtype=np.int32)
    types = rng.integers(0, spec.type_vocab_size, total, dtype=np.int32)
    return ids, types, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)


def padded_inputs(ids: Array, types: Array, cu_seqlens: Array) -> dict[str, Array]:
    """The same batch as a graph takes it: int64, padded, masked."""
    lengths = np.diff(cu_seqlens)
    shape = (len(lengths), int(lengths.max()))
    feeds = {
        n: np.zeros(shape, np.int64) for n in ("input_ids", "attention_mask", "token_type_ids")
    }
    for b, (start, n) in enumerate(zip(cu_seqlens[:-1], lengths, strict=True)):
        feeds["input_ids"][b, :n] = ids[start : start + n]
        feeds["token_type_ids"][b, :n] = types[start : start + n]
        feeds["attention_mask"][b, :n] = 1
    return feeds


def session(model: onnx.ModelProto) -> Any:
    """ONNX Runtime on a model."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # Exact on x86 without VNNI, too, as the engine sets it.
    options.add_session_config_entry("session.x64quantprecision", "1")
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def calibrate(
    spec: GraphSpec, weights: Mapping[str, Array], feeds: Mapping[str, Array]
) -> dict[str, tuple[Array, Array]]:
    """Least and greatest value of every channel that enters a linear layer, by name."""
    builder = GraphBuilder(replace(spec, int8=False), weights, {})
    model = builder.model()
    names = [n for n, _ in builder.taps]
    known = {o.name for o in model.graph.output}
    for tap in dict.fromkeys(t for _, t in builder.taps):
        if tap not in known:
            model.graph.output.append(helper.make_tensor_value_info(tap, TensorProto.FLOAT, None))
    values = session(model).run([t for _, t in builder.taps], dict(feeds))
    keep = feeds["attention_mask"].astype(bool)
    ranges = {}
    for name, value in zip(names, values, strict=True):
        rows = value[keep] if value.ndim == 3 else value
        ranges[name] = (rows.min(0), rows.max(0))
    return ranges


def build(
    spec: GraphSpec, weights: Mapping[str, Array] | None = None, seed: int = 0
) -> onnx.ModelProto:
    """A model of that size; its INT8 scales are calibrated on random tokens."""
    weights = weights or random_weights(spec, seed)
    lengths = [min(spec.max_position_embeddings, n) for n in (48, 17)]
    ranges = calibrate(spec, weights, padded_inputs(*random_batch(spec, lengths, seed + 1)))
    return GraphBuilder(spec, weights, ranges).model()


def build_calibrated(
    spec: GraphSpec, weights: Mapping[str, Array], feeds: Mapping[str, Array]
) -> onnx.ModelProto:
    """The same for given calibration inputs."""
    return GraphBuilder(spec, weights, calibrate(spec, weights, feeds)).model()


def ort_logits(model: onnx.ModelProto, ids: Array, types: Array, cu_seqlens: Array) -> Any:
    """ONNX Runtime's results, packed: (start, end) of shape (T,), or logits of (T, C) or (B, C)."""
    feeds = padded_inputs(ids, types, cu_seqlens)
    results = session(model).run(None, feeds)
    keep = feeds["attention_mask"].astype(bool)
    if len(results) == 1:
        return results[0][keep] if results[0].ndim == 3 else results[0]
    return tuple(r[keep] for r in results)

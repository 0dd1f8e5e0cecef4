"""Measure translation by the native engine beside CTranslate2 on the same float weights.

    pip install ctranslate2
    python -m benchmarks.bench_translate [--layers 6] [--beams 1,4] [--threads 2]

Weights are random, both sides quantize them to INT8 by their own means. The end token is out of
reach, so both write equally many tokens, `--length` a source. CTranslate2 has no place for the
transform before BERT's vocabulary and leaves it out. Each side has its best of some configurations,
found first; then both are timed in turns, and the ratio of every turn is what counts. Token ids go
in and come out: no tokenizer is timed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bert_rt import _native
from bert_rt.engines.seq2seq.generating import hypotheses_of
from bert_rt.engines.seq2seq.native import NativeEncoderDecoder
from bert_rt.engines.seq2seq.writing import Writing
from bert_rt.generation.config import GenerationConfig
from bert_rt.support.cli import int_at_least
from tests.kernels.graphs import Array, GraphSpec
from tests.kernels.seq2seq_graphs import Seq2SeqSpec, build_pair, pair_weights

_START, _END, _PAD = 1, 2, 0
_MAX_ROWS = (32, 64, 128, 256)
_BATCHES = (8, 16, 32, 64)


def make_spec(layers: int, width: int, inner: int, vocab_size: int) -> Seq2SeqSpec:
    """Return an encoder and a decoder of the same size."""
    part = GraphSpec(
        vocab_size=vocab_size,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=width // 32,
        intermediate_size=inner,
        max_position_embeddings=128,
        token_types="first",
    )
    return Seq2SeqSpec(encoder=part, decoder=part)


def out_of_reach(weights: dict[str, dict[str, Array]]) -> dict[str, dict[str, Array]]:
    """Make the end token less likely than any other."""
    weights["decoder"]["0.vocabulary.bias"][_END] = -1e4
    return weights


def _linear(spec: Any, w: Mapping[str, Array], name: str, columns: slice | None = None) -> None:
    weight, bias = w[f"{name}.weight"], w[f"{name}.bias"]
    if columns is not None:
        weight, bias = weight[:, columns], bias[columns]
    spec.weight, spec.bias = np.ascontiguousarray(weight.T), np.ascontiguousarray(bias)


def _norm(spec: Any, w: Mapping[str, Array], name: str) -> None:
    spec.gamma, spec.beta = w[f"{name}.gamma"], w[f"{name}.beta"]


def _embeddings(spec: Any, embeddings: Any, w: Mapping[str, Array]) -> None:
    embeddings.weight = w["word"]
    spec.position_encodings.encodings = w["position"] + w["type"][0]
    spec.scale_embeddings = False
    _norm(spec.layernorm_embedding, w, "embeddings")


def convert(
    weights: Mapping[str, Mapping[str, Array]],
    spec: Seq2SeqSpec,
    directory: str,
    *,
    start: int = _START,
    end: int = _END,
    quantization: str | None = "int8",
) -> None:
    """Write the weights as a model of CTranslate2; token i is "t<i>"."""
    from ctranslate2.specs import common_spec, transformer_spec

    d = spec.decoder.hidden_size
    model = transformer_spec.TransformerSpec.from_config(
        (spec.encoder.num_hidden_layers, spec.decoder.num_hidden_layers),
        spec.decoder.num_attention_heads,
        pre_norm=False,
        activation=common_spec.Activation.GELU,
        layernorm_embedding=True,
    )
    encoder, decoder = weights["encoder"], weights["decoder"]
    _embeddings(model.encoder, model.encoder.embeddings[0], encoder)
    _embeddings(model.decoder, model.decoder.embeddings, decoder)
    for layers, w, last in (
        (model.encoder.layer, encoder, "norm2"),
        (model.decoder.layer, decoder, "norm3"),
    ):
        for i, layer in enumerate(layers):
            _linear(layer.self_attention.linear[0], w, f"{i}.qkv")
            _linear(layer.self_attention.linear[1], w, f"{i}.attention")
            _norm(layer.self_attention.layer_norm, w, f"{i}.norm1")
            _linear(layer.ffn.linear_0, w, f"{i}.ffn1")
            _linear(layer.ffn.linear_1, w, f"{i}.ffn2")
            _norm(layer.ffn.layer_norm, w, f"{i}.{last}")
    for i, layer in enumerate(model.decoder.layer):
        cross = layer.attention
        _linear(cross.linear[0], decoder, f"{i}.cross_query")
        _linear(cross.linear[1], encoder, "0.memory", slice(2 * d * i, 2 * d * (i + 1)))
        _linear(cross.linear[2], decoder, f"{i}.cross_attention")
        _norm(cross.layer_norm, decoder, f"{i}.norm2")
    _linear(model.decoder.projection, decoder, "0.vocabulary")
    special = {start: "<s>", end: "</s>"}
    words = [f"t{i}" for i in range(max(part.vocab_size for part in (spec.encoder, spec.decoder)))]
    model.register_source_vocabulary(words[: spec.encoder.vocab_size])
    names = [special.get(i, word) for i, word in enumerate(words)]
    model.register_target_vocabulary(names[: spec.decoder.vocab_size])
    model.config.layer_norm_epsilon = 1e-12
    model.validate()
    model.optimize(quantization=quantization)
    model.save(directory)


class Native:
    """Our side."""

    def __init__(self, pair: Any, threads: int, isa: str) -> None:
        self._engine = NativeEncoderDecoder(
            _native, pair.encoder, pair.decoder, num_threads=threads, isa=isa
        )
        self.name = f"bert-rt {self._engine.info.version} {self._engine.info.isa}"

    def translate(
        self, sources: Sequence[Array], beams: int, length: int, max_rows: int
    ) -> list[tuple[int, ...]]:
        """Return the targets' tokens, without the start token."""
        config = GenerationConfig(
            decoder_start_token_id=_START,
            eos_token_ids=(_END,),
            pad_token_id=_PAD,
            num_beams=beams,
            max_new_tokens=length,
        )
        writing = Writing(self._engine, config, max_rows=max_rows)
        writing.take([(source, None) for source in sources])
        return [hypotheses_of(outputs)[0].token_ids[1:] for outputs in writing.finish()]


class CTranslate2:
    """The peer: all threads on one batch, or each on a batch of its own."""

    def __init__(self, directory: str, threads: int) -> None:
        import ctranslate2

        both = {(1, threads), (threads, 1)}
        self._translators = {
            inter: ctranslate2.Translator(
                directory,
                device="cpu",
                compute_type="int8",
                inter_threads=inter,
                intra_threads=intra,
            )
            for inter, intra in both
        }
        self.settings = [(inter, size) for inter in self._translators for size in _BATCHES]
        self.name = f"CTranslate2 {ctranslate2.__version__} int8"

    def translate(
        self, sources: Sequence[Sequence[str]], beams: int, length: int, setting: tuple[int, int]
    ) -> list[list[str]]:
        """Return the targets' tokens."""
        inter, size = setting
        results = self._translators[inter].translate_batch(
            sources, beam_size=beams, max_batch_size=size, max_decoding_length=length
        )
        return [result.hypotheses[0] for result in results]


def seconds(run: Callable[[], Any]) -> float:
    """Time one call."""
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def quickest(run: Callable[[Any], Any], settings: Sequence[Any]) -> Any:
    """Return the setting that takes the least time, of two rounds."""
    times = {s: min(seconds(lambda s=s: run(s)) for _ in range(2)) for s in settings}  # type: ignore[misc]
    return min(times, key=times.__getitem__)


def compare(
    ours: Callable[[], Any], theirs: Callable[[], Any], rounds: int
) -> tuple[float, float, list[float]]:
    """Return the median seconds of both, and how many times quicker ours is, turn by turn."""
    pairs = [(seconds(ours), seconds(theirs)) for _ in range(rounds)]
    a, b = (float(np.median([pair[i] for pair in pairs])) for i in (0, 1))
    return a, b, sorted(theirs_s / ours_s for ours_s, theirs_s in pairs)


def make_parser(doc: str | None) -> argparse.ArgumentParser:
    """Return the flags of a comparison: the model, and what is translated by it."""
    parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    parser.add_argument("--layers", type=int_at_least(1), default=6)
    parser.add_argument("--width", type=int_at_least(32), default=384)
    parser.add_argument("--inner", type=int_at_least(16), default=1536)
    parser.add_argument("--vocab_size", type=int_at_least(16), default=8000)
    parser.add_argument("--beams", default="1,4")
    parser.add_argument("--threads", type=int_at_least(1), default=2)
    parser.add_argument("--sources", type=int_at_least(1), default=128)
    parser.add_argument("--length", type=int_at_least(1), default=14)
    parser.add_argument("--rounds", type=int_at_least(1), default=5)
    return parser


def main() -> None:
    """Print one line a beam width: tokens a second on both sides, then one sentence alone."""
    parser = make_parser(__doc__)
    parser.add_argument("--isa", default="")
    options = parser.parse_args()
    spec = make_spec(options.layers, options.width, options.inner, options.vocab_size)
    weights = out_of_reach(pair_weights(spec))
    rng = np.random.default_rng(0)
    lengths = rng.integers(8, 24, options.sources)
    ids = [rng.integers(3, options.vocab_size, n, dtype=np.int32) for n in lengths]
    words = [[f"t{i}" for i in source] for source in ids]
    pair = build_pair(spec, weights)
    with tempfile.TemporaryDirectory() as directory:
        convert(weights, spec, directory)
        for threads, count in ((options.threads, options.sources), (1, 1)):
            ours, peer = Native(pair, threads, options.isa), CTranslate2(directory, threads)
            print(f"{ours.name} | {peer.name} | {threads} threads, {count} sources", flush=True)
            for beams in map(int, options.beams.split(",")):
                run = (ids[:count], words[:count])
                length = options.length
                rows = quickest(lambda s: ours.translate(run[0], beams, length, s), _MAX_ROWS)  # noqa: B023
                best = quickest(lambda s: peer.translate(run[1], beams, length, s), peer.settings)  # noqa: B023
                found = ours.translate(run[0], beams, length, rows)
                other = peer.translate(run[1], beams, length, best)
                assert {len(f) for f in found} == {len(o) for o in other} == {length}
                a, b, ratios = compare(
                    lambda: ours.translate(run[0], beams, length, rows),  # noqa: B023
                    lambda: peer.translate(run[1], beams, length, best),  # noqa: B023
                    options.rounds if count > 1 else 4 * options.rounds,
                )
                tokens = count * length
                print(
                    f"beams {beams}: {tokens / a:.0f} tokens/s, {1000 * a:.1f} ms ({rows} rows) | "
                    f"{tokens / b:7.0f} tokens/s, {1000 * b:7.1f} ms (inter, batch {best}) | ratio "
                    f"{np.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})",
                    flush=True,
                )


if __name__ == "__main__":
    main()

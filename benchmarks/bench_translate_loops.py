"""Measure translation by ONNX Runtime's engine beside the loop over PyTorch, the same weights.

    python -m benchmarks.bench_translate_loops [--layers 6] [--beams 1,4] [--threads 2]

The weights are the random ones of bench_translate. The loop over PyTorch is that of training's
held-out scores: float32, caches of keys and values, the same search. ONNX Runtime's engine runs
the INT8 graphs that the compiler makes of them (pair safe, all layers INT8). Both write equally
many tokens, `--length` a source. Each side has its best number of rows, found first; then both are
timed in turns, and the ratio of every turn is what counts. Token ids go in and come out.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.bench_translate import compare, make_parser, make_spec, quickest
from benchmarks.seq2seq_weights import to_state
from bert_rt.artifact.artifact import Artifact, build_artifact
from bert_rt.artifact.decoder import DecoderEntry
from bert_rt.artifact.entries import ModelEntry
from bert_rt.engines.base import EngineOptions
from bert_rt.engines.onnxruntime import open_seq2seq
from bert_rt.engines.seq2seq.generating import hypotheses_of
from bert_rt.engines.seq2seq.writing import Writing
from bert_rt.generation.config import GenerationConfig
from bert_rt.generation.loop import generate
from bert_rt.model.config import BertConfig
from bert_rt.model.encoder_decoder import CachedDecoder, EncoderDecoder
from bert_rt.model.encoder_decoder_config import EncoderDecoderConfig
from bert_rt.support.outputs import PER_TOKEN
from bert_rt.support.seq2seq import cross_names
from bert_rt.types import IntArray
from compile.int8.quantize import QuantConfig
from tests.kernels.graphs import Array, GraphSpec
from tests.kernels.seq2seq_graphs import Seq2SeqSpec, pair_weights
from tests.support import seq2seq_artifacts

_PAD, _START, _END = 0, 2, 3
_ROWS = (32, 64, 128, 256)


def part_config(part: GraphSpec) -> BertConfig:
    """Return the architecture of a part."""
    return BertConfig(
        vocab_size=part.vocab_size,
        hidden_size=part.hidden_size,
        num_hidden_layers=part.num_hidden_layers,
        num_attention_heads=part.num_attention_heads,
        intermediate_size=part.intermediate_size,
        max_position_embeddings=part.max_position_embeddings,
        type_vocab_size=part.type_vocab_size,
    )


def make_artifact(model: EncoderDecoder, sources: Sequence[IntArray]) -> Artifact:
    """Return what the compiler makes of a model; its tokenizers are the tests'."""
    config, length = model.config, model.config.max_target_length
    fields = seq2seq_artifacts.artifact_fields("int8")
    entry = fields["decoder"]
    assert entry is not None
    fields["architecture"] = config.encoder
    fields["decoder"] = DecoderEntry(
        architecture=config.decoder,
        tokenizer=entry.tokenizer,
        generation=entry.generation,
    )
    fields["limits"] = {"max_seq_length": length, "max_target_length": length}
    layers = config.decoder.num_hidden_layers
    outputs = dict.fromkeys(cross_names(layers), PER_TOKEN)
    encoder = ModelEntry(file="encoder.onnx", outputs=outputs)
    fields["models"] = {**fields["models"], "encoder": encoder}
    fields["quantization"] = {"pair_safe": True}
    graphs = seq2seq_artifacts.quantized_graphs(
        seq2seq_artifacts.fused_graphs(model),
        config,
        sources,
        [[_START, *source.tolist()] for source in sources],
        QuantConfig(num_samples=len(sources), max_rows=256, num_outliers=0, pair_safe=True),
    )
    files = {f"{name}.onnx": data for name, data in graphs.items()}
    return build_artifact(files={**seq2seq_artifacts.tokenizer_files(), **files}, **fields)


def make_model(spec: Seq2SeqSpec, weights: Mapping[str, Mapping[str, Array]]) -> EncoderDecoder:
    """Return the model of these weights."""
    config = EncoderDecoderConfig(
        encoder=part_config(spec.encoder),
        decoder=part_config(spec.decoder),
        decoder_start_token_id=_START,
        eos_token_id=_END,
        pad_token_id=_PAD,
        tie_word_embeddings=False,
    )
    model = EncoderDecoder(config).eval()
    state = to_state(spec, weights)
    model.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
    return model


class OnnxRuntime:
    """Our engine: sources that end make room for others."""

    def __init__(self, artifact: Artifact, threads: int) -> None:
        self._engine = open_seq2seq(artifact, EngineOptions(num_threads=threads))
        info = self._engine.info
        self.name = f"bert-rt, ONNX Runtime {info.version}, {info.precision}"

    def translate(
        self, sources: Sequence[IntArray], config: GenerationConfig, rows: int
    ) -> list[tuple[int, ...]]:
        """Return the targets' tokens, without the start token."""
        writing = Writing(self._engine, config, max_rows=rows)
        writing.take([(source, None) for source in sources])
        return [hypotheses_of(outputs)[0].token_ids[1:] for outputs in writing.finish()]


class Torch:
    """The peer: batch after batch, each padded to its longest source."""

    def __init__(self, model: EncoderDecoder, threads: int) -> None:
        torch.set_num_threads(threads)
        self._model = model
        self.name = f"PyTorch {torch.__version__}, float32"

    def translate(
        self, sources: Sequence[IntArray], config: GenerationConfig, rows: int
    ) -> list[tuple[int, ...]]:
        """Return the targets' tokens, without the start token."""
        places = max(1, rows // config.num_beams)
        found = []
        for first in range(0, len(sources), places):
            batch = sources[first : first + places]
            shape = (len(batch), max(map(len, batch)))
            ids_BS, mask_BS = torch.full(shape, _PAD), torch.zeros(shape, dtype=torch.int64)
            for row, source in enumerate(batch):
                ids_BS[row, : len(source)] = torch.from_numpy(source)
                mask_BS[row, : len(source)] = 1
            found += generate(CachedDecoder(self._model, ids_BS, mask_BS), len(batch), config)
        return [best.token_ids[1:] for best, *_ in found]


def main() -> None:
    """Print one line a beam width: tokens a second on both sides, then one sentence alone."""
    options = make_parser(__doc__).parse_args()
    spec = make_spec(options.layers, options.width, options.inner, options.vocab_size)
    weights = pair_weights(spec)
    model = make_model(spec, weights)
    rng = np.random.default_rng(0)
    lengths = rng.integers(8, 24, options.sources)
    ids = [rng.integers(5, options.vocab_size, n, dtype=np.int32) for n in lengths]
    artifact = make_artifact(model, ids[:16])
    for threads, count in ((options.threads, options.sources), (1, 1)):
        ours, peer = OnnxRuntime(artifact, threads), Torch(model, threads)
        print(f"{ours.name} | {peer.name} | {threads} threads, {count} sources", flush=True)
        for beams in map(int, options.beams.split(",")):
            report(ours, peer, ids[:count], make_search(beams, options.length), options)


def make_search(beams: int, length: int) -> GenerationConfig:
    """Return a search whose targets all have the same length."""
    return GenerationConfig(
        decoder_start_token_id=_START,
        eos_token_ids=(_END,),
        pad_token_id=_PAD,
        num_beams=beams,
        min_new_tokens=length,
        max_new_tokens=length,
    )


def report(
    ours: OnnxRuntime,
    peer: Torch,
    sources: Sequence[IntArray],
    search: GenerationConfig,
    options: argparse.Namespace,
) -> None:
    """Time both sides in turns, and print what came out."""
    sides: tuple[OnnxRuntime | Torch, ...] = (ours, peer)
    rows = [quickest(lambda r, s=s: s.translate(sources, search, r), _ROWS) for s in sides]  # type: ignore[misc]
    for side, best in zip(sides, rows, strict=True):
        found = side.translate(sources, search, best)
        assert {len(target) for target in found} == {options.length}, side.name
    turns = options.rounds if len(sources) > 1 else 4 * options.rounds
    a, b, ratios = compare(
        lambda: ours.translate(sources, search, rows[0]),
        lambda: peer.translate(sources, search, rows[1]),
        turns,
    )
    tokens = len(sources) * options.length
    figures = (
        f"{tokens / s:.0f} tokens/s, {1000 * s:.1f} ms ({best} rows)"
        for s, best in zip((a, b), rows, strict=True)
    )
    print(
        f"beams {search.num_beams}: {' | '.join(figures)} | ratio {np.median(ratios):.2f} "
        f"({ratios[0]:.2f} to {ratios[-1]:.2f})",
        flush=True,
    )


if __name__ == "__main__":
    main()

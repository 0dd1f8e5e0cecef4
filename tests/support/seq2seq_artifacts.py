"""Artifacts of a small random encoder-decoder, float and INT8, without the command and its gate.

python -m tests.support.seq2seq_artifacts DIR      writes DIR/float and DIR/int8
"""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import torch

from bert_rt.artifact.artifact import Artifact, build_artifact, write_artifact
from bert_rt.artifact.decoder import DecoderEntry
from bert_rt.artifact.entries import ModelEntry
from bert_rt.artifact.manifest import ManifestFields
from bert_rt.engines.onnxruntime import open_session
from bert_rt.generation.config import GenerationConfig
from bert_rt.model.encoder_decoder import EncoderDecoder
from bert_rt.model.encoder_decoder_config import EncoderDecoderConfig
from bert_rt.support.outputs import PER_SEQUENCE, PER_TOKEN
from bert_rt.support.seq2seq import LOGITS, cross_names
from bert_rt.types import TokenSequence
from compile.graph.seq2seq import fuse_decoder, fuse_encoder, trace_decoder, trace_encoder
from compile.int8.drives import SequenceDrive, TargetDrive
from compile.int8.quantize import QuantConfig, quantize
from compile.int8.recipe import FloatGraph, plan_graph
from tests.support import encoder_decoders as support
from tests.support.data.text import VOCAB

__all__ = [
    "artifact_fields",
    "artifact_files",
    "float_graphs",
    "fused_graphs",
    "int8_graphs",
    "make_artifact",
    "make_model",
    "quantized_graphs",
    "random_sources",
    "tokenizer_files",
]

QUANT = QuantConfig(num_samples=24, max_rows=512)


@functools.cache
def make_model() -> EncoderDecoder:
    """Return the model whose artifacts these are: with opinions of its own, and ends of targets."""
    config = support.make_config()
    # The native engine wants widths that are multiples of 16.
    decoder = dataclasses.replace(config.decoder, hidden_size=32)
    model = EncoderDecoder(dataclasses.replace(config, decoder=decoder)).eval()
    rng = np.random.default_rng(16)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            values = rng.standard_normal(parameter.shape) * (0.1 if name.endswith("bias") else 0.45)
            values += 1.0 if name.endswith("LayerNorm.weight") else 0.0
            parameter.copy_(torch.from_numpy(values.astype(np.float32)))
        model.decoder.cls.predictions.bias[support.SEP] += 3.0
    return model


@functools.cache
def float_graphs() -> dict[str, bytes]:
    """Return the fused float graphs."""
    return fused_graphs(make_model())


def fused_graphs(model: EncoderDecoder) -> dict[str, bytes]:
    """Return what the compiler makes of a model before it quantizes."""
    encoder, decoder = trace_encoder(model), trace_decoder(model)
    fuse_encoder(encoder, model.config)
    fuse_decoder(decoder, model.config)
    return {"encoder": _to_bytes(encoder), "decoder": _to_bytes(decoder)}


@functools.cache
def int8_graphs() -> dict[str, bytes]:
    """Return the quantized graphs, calibrated on random pairs."""
    config = make_model().config
    sources = random_sources(QUANT.num_samples)
    rng = np.random.default_rng(7)
    targets = [
        [support.CLS, *rng.integers(5, config.decoder.vocab_size, rng.integers(1, 8)).tolist()]
        for _ in sources
    ]
    return quantized_graphs(float_graphs(), config, sources, targets, QUANT)


def quantized_graphs(
    graphs: Mapping[str, bytes],
    config: EncoderDecoderConfig,
    sources: Sequence[np.ndarray],
    targets: Sequence[Sequence[int]],
    quant: QuantConfig,
) -> dict[str, bytes]:
    """Return the quantized graphs of what fused_graphs made, calibrated on pairs."""
    sequences = [TokenSequence(ids, np.zeros_like(ids)) for ids in sources]
    models = {name: ir.from_proto(onnx.load_from_string(data)) for name, data in graphs.items()}
    session = open_session(graphs["encoder"], num_threads=1)
    pad_id, decoder = config.encoder.pad_token_id, config.decoder
    drives = {
        "encoder": SequenceDrive(sequences, pad_id),
        "decoder": TargetDrive(session, sequences, targets, pad_id, decoder.num_hidden_layers),
    }
    heads = {"encoder": config.encoder, "decoder": decoder}
    return {
        name: _to_bytes(
            quantize(
                model,
                plan_graph(FloatGraph(model, drives[name], heads[name].num_attention_heads), quant),
            )
        )
        for name, model in models.items()
    }


def random_sources(count: int, *, seed: int = 0) -> list[np.ndarray]:
    """Return sources of different lengths, from the start token to the end token, int32."""
    rng = np.random.default_rng(seed)
    return [
        np.array([2, *rng.integers(5, len(VOCAB), rng.integers(1, 12)), 3], np.int32)
        for _ in range(count)
    ]


def artifact_fields(precision: str, **generation: object) -> ManifestFields:
    """Return the manifest's fields; generation holds fields of GenerationConfig."""
    config = make_model().config
    ids = {"decoder_start_token_id": support.CLS, "pad_token_id": support.PAD}
    values = {"num_beams": 4, "max_length": 24, **ids, **generation}
    cross = cross_names(config.decoder.num_hidden_layers)
    return ManifestFields(
        task="translation",
        architecture=config.encoder,
        precision=precision,
        limits={"max_seq_length": 32, "max_target_length": 24},
        models={
            "encoder": ModelEntry(file="encoder.onnx", outputs=dict.fromkeys(cross, PER_TOKEN)),
            "decoder": ModelEntry(file="decoder.onnx", outputs={LOGITS: PER_SEQUENCE}),
        },
        decoder=DecoderEntry(
            architecture=config.decoder,
            tokenizer="target_tokenizer.json",
            generation=GenerationConfig(eos_token_ids=(support.SEP,), **values),  # type: ignore[arg-type]
        ),
    )


def artifact_files(*, is_int8: bool) -> dict[str, bytes]:
    """Return the artifact's files."""
    graphs = int8_graphs() if is_int8 else float_graphs()
    return {
        **{f"{name}.onnx": data for name, data in graphs.items()},
        **tokenizer_files(),
    }


def tokenizer_files() -> dict[str, bytes]:
    """Return the artifact's tokenizers."""
    return {
        "tokenizer.json": support.tokenizer_files(VOCAB)["tokenizer.json"],
        "target_tokenizer.json": support.tokenizer_files(support.TARGET_VOCAB)["tokenizer.json"],
    }


def make_artifact(*, is_int8: bool = False, **generation: object) -> Artifact:
    """Return an artifact in memory."""
    fields = artifact_fields("int8" if is_int8 else "float32", **generation)
    return build_artifact(files=artifact_files(is_int8=is_int8), **fields)


def _to_bytes(model: ir.Model) -> bytes:
    data: bytes = ir.to_proto(model).SerializeToString(deterministic=True)
    return data


if __name__ == "__main__":
    for name, is_int8 in (("float", False), ("int8", True)):
        write_artifact(
            Path(sys.argv[1]) / name,
            files=artifact_files(is_int8=is_int8),
            **artifact_fields("int8" if is_int8 else "float32"),
        )

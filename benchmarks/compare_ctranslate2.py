"""Count how many translations CTranslate2's INT8 of a checkpoint keeps as they are in float.

    pip install ctranslate2
    python -m benchmarks.compare_ctranslate2 --model EN-DE --sources test_2016_flickr.en

CTranslate2 has no place for the transform before BERT's vocabulary. It is written as one decoder
layer more, which is the same function: its attentions give nothing, so that their layer norms see
what is normalized already (gamma and beta of the layer before go into its weights), its
feed-forward layer is the transform times a factor, beside which the residual is lost, and its last
layer norm divides by that. In INT8 this costs one rounding more, of what enters that norm. The
script says how many of CTranslate2's translations in float are those of PyTorch, and how many
PyTorch keeps with that rounding alone.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.bench_translate import convert
from benchmarks.seq2seq_weights import from_state
from bert_rt.model.encoder_decoder import EncoderDecoder
from bert_rt.model.encoder_decoder_checkpoint import load_encoder_decoder
from bert_rt.support.cli import int_at_least
from bert_rt.text.tokenization import Tokenizer
from tests.kernels.graphs import Array, GraphSpec
from tests.kernels.seq2seq_graphs import Seq2SeqSpec
from train.tasks.translation.translating import translate

# What is left of a residual of about 1 beside it is less than float32 keeps of the sum.
_FACTOR = 1e8


def add_transform(weights: Mapping[str, dict[str, Array]], i: int) -> None:
    """Write the transform as decoder layer i, behind the last one, in place."""
    encoder, w = weights["encoder"], weights["decoder"]
    gamma, beta = w[f"{i - 1}.norm3.gamma"], w[f"{i - 1}.norm3.beta"]
    d = len(gamma)
    w[f"{i}.ffn1.bias"] = w["0.transform.bias"] + beta @ w["0.transform.weight"]
    w[f"{i}.ffn1.weight"] = gamma[:, None] * w["0.transform.weight"]
    w[f"{i}.ffn2.weight"] = np.float32(_FACTOR) * np.eye(d, dtype=np.float32)
    w[f"{i}.ffn2.bias"] = np.zeros(d, np.float32)
    for norm in (f"{i - 1}.norm3", f"{i}.norm1", f"{i}.norm2"):
        w[f"{norm}.gamma"], w[f"{norm}.beta"] = np.ones_like(gamma), np.zeros_like(beta)
    for name in ("gamma", "beta"):
        w[f"{i}.norm3.{name}"] = w[f"transform.{name}"]
    for name, width in (("qkv", 3 * d), ("attention", d), ("cross_query", d)):
        w[f"{i}.{name}.weight"] = np.zeros((d, width), np.float32)
        w[f"{i}.{name}.bias"] = np.zeros(width, np.float32)
    w[f"{i}.cross_attention.weight"] = np.zeros((d, d), np.float32)
    w[f"{i}.cross_attention.bias"] = np.zeros(d, np.float32)
    for part, shape in (("weight", (d, 2 * d)), ("bias", (2 * d,))):
        both = [encoder[f"0.memory.{part}"], np.zeros(shape, np.float32)]
        encoder[f"0.memory.{part}"] = np.concatenate(both, axis=-1)


def spec_of(model: EncoderDecoder) -> Seq2SeqSpec:
    """Return the sizes."""
    parts = [
        GraphSpec(
            vocab_size=part.vocab_size,
            hidden_size=part.hidden_size,
            num_hidden_layers=part.num_hidden_layers,
            num_attention_heads=part.num_attention_heads,
            intermediate_size=part.intermediate_size,
            max_position_embeddings=part.max_position_embeddings,
        )
        for part in (model.config.encoder, model.config.decoder)
    ]
    return Seq2SeqSpec(encoder=parts[0], decoder=parts[1])


def _rounded(_module: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Round as CTranslate2 does: 8 bits, by the greatest value of a token."""
    scale = inputs[0].abs().amax(-1, keepdim=True) / 127
    return ((inputs[0] / scale).round() * scale,)


def by_ctranslate2(
    directory: str, compute_type: str, sources: Sequence[Array], search: Mapping[str, Any]
) -> list[list[str]]:
    """Return the best target of each source."""
    import ctranslate2

    translator = ctranslate2.Translator(directory, device="cpu", compute_type=compute_type)
    words = [[f"t{i}" for i in source] for source in sources]
    results = translator.translate_batch(words, max_batch_size=32, **search)
    return [result.hypotheses[0] for result in results]


def main() -> None:
    """Print the shares."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--sources", type=Path, required=True, help="a text a line")
    parser.add_argument("--num_beams", type=int_at_least(1), default=5)
    parser.add_argument("--max_length", type=int_at_least(2), default=128)
    options = parser.parse_args()
    model = load_encoder_decoder(options.model).model
    tokenizer = Tokenizer.from_directory(options.model)
    texts = options.sources.read_text(encoding="utf-8").splitlines()
    sources = [
        np.array([tokenizer.cls_id, *encoding.input_ids, tokenizer.sep_id])
        for encoding in tokenizer.encode_batch(texts)
    ]
    end = model.config.eos_token_id

    def by_torch() -> list[list[str]]:
        ids = translate(model, sources, num_beams=options.num_beams, max_length=options.max_length)
        return [[f"t{i}" for i in row[1:] if i != end] for row in ids]

    torch = by_torch()
    hook = model.decoder.cls.predictions.transform.LayerNorm.register_forward_pre_hook(_rounded)
    rounded = by_torch()
    hook.remove()
    search = {"beam_size": options.num_beams, "max_decoding_length": options.max_length - 1}
    spec, count = spec_of(model), model.config.decoder.num_hidden_layers
    weights = from_state(spec, {name: array.numpy() for name, array in model.state_dict().items()})
    add_transform(weights, count)
    spec = replace(spec, decoder=replace(spec.decoder, num_hidden_layers=count + 1))
    with tempfile.TemporaryDirectory() as directory:
        start = model.config.decoder_start_token_id
        convert(weights, spec, directory, start=start, end=end, quantization=None)
        found = {
            kind: by_ctranslate2(directory, kind, sources, search) for kind in ("float32", "int8")
        }
    for name, a, b in (
        ("CTranslate2's float32 as PyTorch's", found["float32"], torch),
        ("CTranslate2's INT8 as its float32", found["int8"], found["float32"]),
        ("PyTorch's with the additional rounding alone as without it", rounded, torch),
    ):
        share = np.mean([x == y for x, y in zip(a, b, strict=True)])
        print(f"{name}: {100 * share:.1f} % of {len(texts)} translations")


if __name__ == "__main__":
    main()

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
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.bench_translate import convert
from bert_rt.model.encoder_decoder import EncoderDecoder
from bert_rt.model.encoder_decoder_checkpoint import load_encoder_decoder
from bert_rt.support.cli import int_at_least
from bert_rt.text.tokenization import Tokenizer
from tests.kernels.graphs import Array, GraphSpec
from tests.kernels.seq2seq_graphs import Seq2SeqSpec
from train.tasks.translation.translating import translate

# What is left of a residual of about 1 beside it is less than float32 keeps of the sum.
_FACTOR = 1e8


def weights_of(model: EncoderDecoder) -> dict[str, dict[str, Array]]:
    """Return weights by the names of tests.kernels.seq2seq_graphs, with the layer more."""
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    count = model.config.decoder.num_hidden_layers
    encoder: dict[str, Array] = {}
    decoder: dict[str, Array] = {}
    for w, part, layers, norm in (
        (encoder, "encoder.", model.config.encoder.num_hidden_layers, "norm2"),
        (decoder, "decoder.bert.", count, "norm3"),
    ):
        table = f"{part}embeddings"
        w["word"] = state[f"{table}.word_embeddings.weight"]
        w["position"] = state[f"{table}.position_embeddings.weight"]
        w["type"] = state[f"{table}.token_type_embeddings.weight"]
        _norm(w, "embeddings", state, f"{table}.LayerNorm")
        for i in range(layers):
            layer = f"{part}encoder.layer.{i}"
            qkv = [f"{layer}.attention.self.{name}" for name in ("query", "key", "value")]
            _linear(w, f"{i}.qkv", state, *qkv)
            _linear(w, f"{i}.attention", state, f"{layer}.attention.output.dense")
            _norm(w, f"{i}.norm1", state, f"{layer}.attention.output.LayerNorm")
            _linear(w, f"{i}.ffn1", state, f"{layer}.intermediate.dense")
            _linear(w, f"{i}.ffn2", state, f"{layer}.output.dense")
            _norm(w, f"{i}.{norm}", state, f"{layer}.output.LayerNorm")
    crosses = [f"decoder.bert.encoder.layer.{i}.crossattention" for i in range(count)]
    both = [f"{cross}.self.{name}" for cross in crosses for name in ("key", "value")]
    _linear(encoder, "0.memory", state, *both)
    for i, cross in enumerate(crosses):
        _linear(decoder, f"{i}.cross_query", state, f"{cross}.self.query")
        _linear(decoder, f"{i}.cross_attention", state, f"{cross}.output.dense")
        _norm(decoder, f"{i}.norm2", state, f"{cross}.output.LayerNorm")
    _linear(decoder, "0.vocabulary", state, "decoder.cls.predictions.decoder")
    _add_transform(encoder, decoder, state, count)
    return {"encoder": encoder, "decoder": decoder}


def _linear(w: dict[str, Array], name: str, state: Mapping[str, Array], *keys: str) -> None:
    w[f"{name}.weight"] = np.concatenate([state[f"{key}.weight"].T for key in keys], axis=1)
    w[f"{name}.bias"] = np.concatenate([state[f"{key}.bias"] for key in keys])


def _norm(w: dict[str, Array], name: str, state: Mapping[str, Array], key: str) -> None:
    w[f"{name}.gamma"], w[f"{name}.beta"] = state[f"{key}.weight"], state[f"{key}.bias"]


def _add_transform(
    encoder: dict[str, Array], decoder: dict[str, Array], state: Mapping[str, Array], i: int
) -> None:
    """Write the transform as decoder layer i, behind the last one."""
    transform = "decoder.cls.predictions.transform"
    _linear(decoder, f"{i}.ffn1", state, f"{transform}.dense")
    gamma, beta = decoder[f"{i - 1}.norm3.gamma"], decoder[f"{i - 1}.norm3.beta"]
    d = len(gamma)
    weight = decoder[f"{i}.ffn1.weight"]
    decoder[f"{i}.ffn1.bias"] = decoder[f"{i}.ffn1.bias"] + beta @ weight
    decoder[f"{i}.ffn1.weight"] = gamma[:, None] * weight
    decoder[f"{i}.ffn2.weight"] = np.float32(_FACTOR) * np.eye(d, dtype=np.float32)
    decoder[f"{i}.ffn2.bias"] = np.zeros(d, np.float32)
    _norm(decoder, f"{i}.norm3", state, f"{transform}.LayerNorm")
    for norm in (f"{i - 1}.norm3", f"{i}.norm1", f"{i}.norm2"):
        decoder[f"{norm}.gamma"], decoder[f"{norm}.beta"] = np.ones_like(gamma), np.zeros_like(beta)
    for name, width in (("qkv", 3 * d), ("attention", d), ("cross_query", d)):
        decoder[f"{i}.{name}.weight"] = np.zeros((d, width), np.float32)
        decoder[f"{i}.{name}.bias"] = np.zeros(width, np.float32)
    decoder[f"{i}.cross_attention.weight"] = np.zeros((d, d), np.float32)
    decoder[f"{i}.cross_attention.bias"] = np.zeros(d, np.float32)
    for part, zeros in (("weight", np.zeros((d, 2 * d))), ("bias", np.zeros(2 * d))):
        both = [encoder[f"0.memory.{part}"], zeros.astype(np.float32)]
        encoder[f"0.memory.{part}"] = np.concatenate(both, axis=-1)


def spec_of(model: EncoderDecoder) -> Seq2SeqSpec:
    """Return the sizes, with the layer more."""
    parts = [
        GraphSpec(
            vocab_size=part.vocab_size,
            hidden_size=part.hidden_size,
            num_hidden_layers=part.num_hidden_layers + more,
            num_attention_heads=part.num_attention_heads,
            intermediate_size=part.intermediate_size,
            max_position_embeddings=part.max_position_embeddings,
        )
        for part, more in ((model.config.encoder, 0), (model.config.decoder, 1))
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
    with tempfile.TemporaryDirectory() as directory:
        start = model.config.decoder_start_token_id
        convert(
            weights_of(model), spec_of(model), directory, start=start, end=end, quantization=None
        )
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

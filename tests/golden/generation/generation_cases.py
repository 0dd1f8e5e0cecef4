"""Random encoder-decoders and what they are asked to write, for the golden file and its test.

Weights are drawn by NumPy in the order of their names, so that this project's model and that of
Transformers get the same ones from a seed. No torch is needed to import this.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

GOLDEN_FILE = Path(__file__).with_name("generation.json")
NUM_CASES = 200
NUM_SOURCES = 3
START, EOS, PAD, OTHER_EOS = 1, 2, 0, 5

_SIZES = (
    {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24},
    {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 32},
)
_COMMON = {"max_position_embeddings": 48, "type_vocab_size": 2, "pad_token_id": PAD}


def model_of(index: int) -> dict[str, Any]:
    """Return the architecture of a case's model, in the names of config.json, and its seed."""
    shape = index % 4
    encoder = {**_SIZES[shape % 2], **_COMMON, "vocab_size": 40}
    # Of another width and vocabulary; of another vocabulary; sharing all weights.
    decoder = {**_SIZES[(shape + 1) % 2 if shape == 0 else shape % 2], **_COMMON, "vocab_size": 32}
    is_tied = shape == 3
    return {
        "encoder": encoder,
        "decoder": encoder if is_tied else decoder,
        "tie_encoder_decoder": is_tied,
        "tie_word_embeddings": shape != 2,
        "seed": index % 12,
    }


def weight(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Draw one weight: large ones, so that the model has opinions of its own."""
    values = rng.standard_normal(shape) * (0.1 if name.endswith("bias") else 0.45)
    if name.endswith("LayerNorm.weight"):
        values += 1.0
    if name == "decoder.cls.predictions.bias":
        # Ends come now early and now late.
        values[EOS] += rng.uniform(-1.0, 3.0)
    return values.astype(np.float32)


def make_weights(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, np.ndarray]:
    """Draw all weights of a model, in the order of their names."""
    rng = np.random.default_rng(seed)
    return {name: weight(name, shapes[name], rng) for name in sorted(shapes)}


def sources_of(index: int) -> list[list[int]]:
    """Return the token ids of a case's sources, of different lengths."""
    rng = np.random.default_rng(1000 + index)
    lengths = rng.integers(2, 14, NUM_SOURCES)
    return [rng.integers(3, 32, length).tolist() for length in lengths]


def options_of(index: int) -> dict[str, Any]:
    """Return the arguments of a case's call of generate."""
    rng = np.random.default_rng(2000 + index)

    def one(*values: Any) -> Any:
        return values[int(rng.integers(len(values)))]

    num_beams = one(1, 2, 3, 4, 5, 6)
    options: dict[str, Any] = {"num_beams": num_beams, "do_sample": False}
    options[one("max_length", "max_new_tokens")] = one(2, 6, 12, 20, 30)
    if num_beams > 1:
        options["length_penalty"] = one(0.0, 0.6, 1.0, 1.0, 2.0, -0.5)
        options["early_stopping"] = one(True, False, "never")
        options["num_return_sequences"] = one(1, 1, num_beams)
    longest = options.get("max_length", 1 + options.get("max_new_tokens", 0))
    if one(True, False) and longest > 4:
        options[one("min_length", "min_new_tokens")] = one(2, 4, longest // 2)
    options["no_repeat_ngram_size"] = one(0, 0, 1, 2, 3) if longest < 24 else one(0, 2, 3)
    if one(True, False, False):
        options["repetition_penalty"] = one(0.8, 1.3, 2.0)
    # With one forced token only, all beams but the first are made of nothing but ties.
    if one(True, False, False, False) and longest > 2:
        options["forced_bos_token_id"] = 7
    if one(True, False, False, False):
        options["forced_eos_token_id"] = EOS
    if one(True, False, False, False):
        options["eos_token_id"] = [EOS, OTHER_EOS]
    return options

"""Calls of the token-classification pipeline whose results in Transformers 4.57 are kept.

Weights come from NumPy's generator, as in tests.golden.pipeline, and tokenizers are the same every
time: the trainer of SentencePiece's model is not.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bert_rt.model.checkpoint import save_checkpoint
from bert_rt.model.config import BertConfig
from bert_rt.tasks.checkpoints import build_model
from tests.support.families import write_byte_level_bpe, write_pieces, write_wordpiece

__all__ = ["CASES", "CHECKPOINTS", "GOLDEN_FILE", "Case", "write_checkpoint"]

GOLDEN_FILE = Path(__file__).with_name("tokens.json")

_BERT = {"model_type": "bert", "max_position_embeddings": 64}
_ROBERTA = {
    "model_type": "roberta",
    "max_position_embeddings": 66,
    "type_vocab_size": 1,
    "pad_token_id": 1,
    "layer_norm_eps": 1e-5,
}
_CHUNKS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-MISC", "I-MISC")
# Name: architecture, what writes the tokenizer, tokenizer_config.json, labels.
CHECKPOINTS: dict[str, tuple[dict[str, Any], Any, dict[str, Any], tuple[str, ...]]] = {
    "wordpiece": (_BERT, write_wordpiece, {"tokenizer_class": "BertTokenizer"}, _CHUNKS),
    "plain": (_BERT, write_wordpiece, {"tokenizer_class": "BertTokenizer"}, ("O", "PER", "LOC")),
    "bytes": (_ROBERTA, write_byte_level_bpe, {"tokenizer_class": "RobertaTokenizer"}, _CHUNKS),
    "spaced bytes": (
        _ROBERTA,
        write_byte_level_bpe,
        {"tokenizer_class": "RobertaTokenizer", "add_prefix_space": True},
        _CHUNKS,
    ),
    "unigram": (
        _ROBERTA | {"model_type": "xlm-roberta"},
        write_pieces,
        {"tokenizer_class": "XLMRobertaTokenizer"},
        _CHUNKS,
    ),
}


@dataclass(frozen=True)
class Case:
    """One pipeline and some calls of it, each (args, kwargs)."""

    checkpoint: str
    calls: tuple[tuple[tuple[Any, ...], dict[str, Any]], ...]
    options: dict[str, Any] = field(default_factory=dict)
    task: str = "token-classification"


_SHORT = "The cat sat on the mat in Paris; who is unaffable?"
_HARD = "na\u00efve caf\u00e9  in\tParis: (42%) \U0001f600 \u4e2d\u6587\u5b57, e\u0301. "
_LONG = "unaffable cats (42%) sat on the mat in paris, where the cat is; who is on it? " * 4
_STRATEGIES = ("none", "simple", "first", "average", "max")
_WORDS = ["The", "unaffable", "cat", "is", "in", "Paris", "."]

_EVERY = (
    ((_SHORT,), {}),
    *(((text,), {"aggregation_strategy": s}) for s in _STRATEGIES for text in (_SHORT, _HARD)),
    ((_LONG,), {}),
    *(((_LONG,), {"aggregation_strategy": s, "stride": 9}) for s in _STRATEGIES[1:]),
    ((_LONG,), {"aggregation_strategy": "simple", "stride": 0}),
    ((_LONG,), {"stride": 20}),
    ((_SHORT,), {"ignore_labels": []}),
    ((_SHORT,), {"ignore_labels": ["PER", "B-PER"], "aggregation_strategy": "first"}),
    ((_SHORT,), {"ignore_labels": ["O", "B-PER", "I-LOC"]}),
    (([_SHORT, _HARD],), {"aggregation_strategy": "simple"}),
    (([_SHORT],), {}),
)
_OLD = (
    ((_SHORT,), {"grouped_entities": True}),
    ((_SHORT,), {"grouped_entities": True, "ignore_subwords": True}),
    ((_SHORT,), {"grouped_entities": False}),
    ((_SHORT,), {"ignore_subwords": True}),
)
_SPLIT = (
    ((_WORDS,), {"is_split_into_words": True}),
    ((_WORDS,), {"is_split_into_words": True, "delimiter": "", "aggregation_strategy": "simple"}),
    (([_WORDS, ["in", "Paris"]],), {"is_split_into_words": True, "aggregation_strategy": "first"}),
    ((_WORDS * 7,), {"is_split_into_words": True, "aggregation_strategy": "max", "stride": 5}),
)

CASES: dict[str, Case] = {
    "wordpiece": Case("wordpiece", (*_EVERY, *_OLD, *_SPLIT)),
    "wordpiece as ner": Case(
        "wordpiece",
        (((_LONG,), {}), ((_LONG,), {"ignore_labels": ["LOC"]}), (([_SHORT],), {})),
        {"aggregation_strategy": "first", "stride": 4, "ignore_labels": ["O", "PER"]},
        task="ner",
    ),
    "plain labels": Case("plain", _EVERY),
    "bytes": Case("bytes", _EVERY),
    # Without a stride: 4.57 gives an entity without characters twice.
    "spaced bytes": Case("spaced bytes", (*_EVERY, *_SPLIT[:-1])),
    "unigram": Case("unigram", (*_EVERY, *_SPLIT)),
}


def write_checkpoint(name: str, directory: Path) -> None:
    """Write the checkpoint of a name, the same weights every time."""
    architecture, write_tokenizer, settings, labels = CHECKPOINTS[name]
    directory.mkdir(parents=True)
    config = BertConfig(
        vocab_size=write_tokenizer(directory),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        **architecture,
    )
    (directory / "tokenizer_config.json").write_text(
        json.dumps({"model_max_length": 48, "unk_token": _unknown(architecture), **settings})
    )
    files = {path.name: path.read_bytes() for path in directory.iterdir()}
    model = build_model("token-classification", config, len(labels))
    generator = np.random.default_rng([*CHECKPOINTS].index(name))
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            is_scale = key.endswith("LayerNorm.weight")
            # Tokens differ by their embeddings, so that they get many labels.
            is_wide = "embeddings" in key or key == "classifier.weight"
            scale = 0.05 if is_scale else 0.8 if is_wide else 0.1
            values = generator.normal(float(is_scale), scale, parameter.shape)
            # In float32 before it is used, so that both sides read the same numbers.
            parameter.copy_(torch.from_numpy(values.astype(np.float32)))
    names = {str(index): label for index, label in enumerate(labels)}
    save_checkpoint(directory, model, config, tokenizer_files=files, extra={"id2label": names})


def _unknown(architecture: dict[str, Any]) -> str:
    return "[UNK]" if architecture is _BERT else "<unk>"

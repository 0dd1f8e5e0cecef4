"""Checkpoints as people really have them, each a small change of a plain one.

The weights come from NumPy's generator, as those of pipeline_cases do; what the pipeline of
Transformers 4.57 makes of each is in checkpoints.json (see update_checkpoints.py).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import torch
from safetensors.torch import load_file, save_file
from tokenizers import decoders, models, pre_tokenizers, processors

from bert_rt.model.checkpoint import save_checkpoint
from bert_rt.model.config import BertConfig
from bert_rt.tasks.checkpoints import build_model
from tests.support.families import write_byte_level_bpe, write_wordpiece

__all__ = ["CASES", "GOLDEN_FILE", "Case", "call_of", "write_case", "write_plain"]

GOLDEN_FILE = Path(__file__).with_name("checkpoints.json")

_WEIGHTS = "model.safetensors"
_HIDDEN_SIZE = 32


def _write_unigram(directory: Path) -> int:
    """Write a fixed tokenizer.json of the unigram kind: training gives another every time."""
    words = [f"\u2581{word}" for word in ["the", "cat", "sat", "on", "mat", "in", "paris", "who"]]
    tokens = [
        "<s>",
        "<pad>",
        "</s>",
        "<unk>",
        *words,
        *"\u2581abcdefghijklmnopqrstuvwxyz?",
        "<mask>",
    ]
    scores = [(token, -float(index)) for index, token in enumerate(tokens)]
    backend = tokenizers.Tokenizer(models.Unigram(scores, unk_id=3, byte_fallback=False))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    backend.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    (directory / "tokenizer.json").write_text(backend.to_str(), encoding="utf-8")
    return backend.get_vocab_size()


_WRITE_TOKENIZER: dict[str, Callable[[Path], int]] = {
    "bert": write_wordpiece,
    "distilbert": write_wordpiece,
    "electra": write_wordpiece,
    "roberta": write_byte_level_bpe,
    "xlm-roberta": _write_unigram,
    "camembert": _write_unigram,
}


def _ignore(_: Path) -> None:
    """Change nothing."""


@dataclass(frozen=True)
class Case:
    """One checkpoint: a plain one of an architecture and a task, and what is changed."""

    model_type: str
    change: Callable[[Path], None]
    task: str = "text-classification"
    type_vocab_size: int = 2


def write_plain(case: Case, directory: Path) -> None:
    """Write the checkpoint that a case changes, the same weights every time."""
    directory.mkdir(parents=True)
    num_tokens = _WRITE_TOKENIZER[case.model_type](directory)
    follows_padding = case.model_type in ("roberta", "xlm-roberta", "camembert")
    config = BertConfig(
        model_type=case.model_type,
        vocab_size=num_tokens,
        hidden_size=_HIDDEN_SIZE,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=66,
        type_vocab_size=0 if case.model_type == "distilbert" else case.type_vocab_size,
        pad_token_id=int(follows_padding),
        embedding_size=16 if case.model_type == "electra" else None,
    )
    model = build_model(case.task, config, 3)
    generator = np.random.default_rng(sorted(_WRITE_TOKENIZER).index(case.model_type))
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            is_scale = key.endswith("LayerNorm.weight")
            values = generator.normal(float(is_scale), 0.05 if is_scale else 0.3, parameter.shape)
            parameter.copy_(torch.from_numpy(values.astype(np.float32)))
    is_classifier = case.task == "text-classification"
    extra = {"id2label": {"0": "bad", "1": "fair", "2": "good"}} if is_classifier else {}
    save_checkpoint(directory, model, config, tokenizer_files={}, extra=extra)


def write_case(name: str, directory: Path) -> None:
    """Write the checkpoint of a case."""
    case = CASES[name]
    write_plain(case, directory)
    case.change(directory)


def call_of(case: Case) -> dict[str, Any]:
    """Return the arguments of the call whose result is kept."""
    if case.task == "question-answering":
        return {"question": "who sat on the mat?", "context": "the cat sat on the mat in paris"}
    return {"inputs": "the cat sat on the mat", "top_k": None}


def _edit_config(**values: Any) -> Callable[[Path], None]:
    """Return what sets fields of config.json; "absent" removes one."""

    def edit(directory: Path) -> None:
        file = directory / "config.json"
        raw = {**json.loads(file.read_bytes()), **values}
        kept = {name: value for name, value in raw.items() if value != "absent"}
        file.write_text(json.dumps(kept))

    return edit


def _write_text_into_config(text: str) -> Callable[[Path], None]:
    """Return what puts fields as they stand, JSON or not quite, in front of config.json."""

    def edit(directory: Path) -> None:
        file = directory / "config.json"
        file.write_text(file.read_text().replace("{", "{" + text + ",", 1))

    return edit


def _add_weights(*keys: str) -> Callable[[Path], None]:
    """Return what adds weights of any values, and constants under the names of constants."""

    def edit(directory: Path) -> None:
        tensors = load_file(directory / _WEIGHTS)
        for key in keys:
            is_buffer = key.endswith("_ids")
            tensors[key] = torch.arange(66)[None] if is_buffer else torch.full((32, 32), 0.5)
        save_file(tensors, directory / _WEIGHTS, metadata={"format": "pt"})

    return edit


def _convert(dtype: torch.dtype) -> Callable[[Path], None]:
    def edit(directory: Path) -> None:
        tensors = {key: t.to(dtype) for key, t in load_file(directory / _WEIGHTS).items()}
        save_file(tensors, directory / _WEIGHTS, metadata={"format": "pt"})

    return edit


def _without_metadata(directory: Path) -> None:
    save_file(load_file(directory / _WEIGHTS), directory / _WEIGHTS)


def _pickled(directory: Path) -> None:
    """Write three shards of pytorch_model.bin, and no safetensors."""
    tensors = load_file(directory / _WEIGHTS)
    (directory / _WEIGHTS).unlink()
    names = sorted(tensors)
    weight_map = {}
    for index in range(3):
        file = f"pytorch_model-{index + 1:05}-of-00003.bin"
        shard = {name: tensors[name] for name in names[index::3]}
        torch.save(shard, directory / file)
        weight_map |= dict.fromkeys(shard, file)
    size = sum(tensor.nbytes for tensor in tensors.values())
    index_file = directory / "pytorch_model.bin.index.json"
    index_file.write_text(json.dumps({"metadata": {"total_size": size}, "weight_map": weight_map}))


def _both(directory: Path) -> None:
    """Write other weights into pytorch_model.bin, beside the safetensors."""
    tensors = {key: tensor * 2 for key, tensor in load_file(directory / _WEIGHTS).items()}
    torch.save(tensors, directory / "pytorch_model.bin")


_ROBERTA_LEFTOVERS = (
    "roberta.pooler.dense.weight",
    "roberta.pooler.dense.bias",
    "roberta.embeddings.position_ids",
    "roberta.embeddings.token_type_ids",
    "lm_head.bias",
    "lm_head.dense.weight",
    "lm_head.layer_norm.weight",
    "lm_head.decoder.weight",
    "qa_outputs.weight",
    "classifier.weight",
)
_LEFTOVERS = {
    "bert": (
        "bert.embeddings.position_ids",
        "bert.embeddings.token_type_ids",
        "cls.predictions.bias",
        "cls.predictions.decoder.weight",
        "cls.predictions.transform.dense.weight",
        "cls.seq_relationship.weight",
        "qa_outputs.weight",
    ),
    "distilbert": (
        "distilbert.embeddings.position_ids",
        "vocab_transform.weight",
        "vocab_layer_norm.weight",
        "vocab_projector.weight",
        "vocab_projector.bias",
        "qa_outputs.weight",
    ),
    "electra": (
        "electra.embeddings.position_ids",
        "electra.embeddings.token_type_ids",
        "discriminator_predictions.dense.weight",
        "discriminator_predictions.dense_prediction.bias",
        "generator_predictions.LayerNorm.weight",
        "generator_lm_head.bias",
        "classifier.weight",
    ),
    "roberta": _ROBERTA_LEFTOVERS,
    "xlm-roberta": _ROBERTA_LEFTOVERS,
    "camembert": _ROBERTA_LEFTOVERS,
}

CASES: dict[str, Case] = {
    **{
        f"{model_type} with weights left over": Case(model_type, _add_weights(*keys))
        for model_type, keys in _LEFTOVERS.items()
    },
    "answering with weights left over": Case(
        "bert",
        _add_weights("classifier.weight", "classifier.bias", "bert.pooler.dense.weight"),
        "question-answering",
    ),
    "no architectures": Case("bert", _edit_config(architectures="absent")),
    "null architectures": Case("distilbert", _edit_config(architectures=None)),
    "empty architectures, answering": Case(
        "roberta", _edit_config(architectures=[]), "question-answering"
    ),
    "one token type": Case("bert", _ignore, type_vocab_size=1),
    "one token type, ELECTRA": Case("electra", _ignore, type_vocab_size=1),
    "one token type, RoBERTa": Case("roberta", _ignore, "question-answering", type_vocab_size=1),
    "gelu_python": Case("bert", _edit_config(hidden_act="gelu_python")),
    "gelu_python, DistilBERT": Case("distilbert", _edit_config(activation="gelu_python")),
    "shards of pytorch_model.bin": Case("bert", _pickled),
    "both kinds of weights": Case("bert", _both),
    "no metadata": Case("bert", _without_metadata),
    "float16": Case("bert", _convert(torch.float16)),
    "bfloat16": Case("bert", _convert(torch.bfloat16)),
    "odd values that nobody reads": Case(
        "bert",
        _write_text_into_config(
            f'"a": NaN, "b": -Infinity, "c": 1{"0" * 400}, "d": 1e999, "e": "\\ud800", '
            f'"f": {"[" * 60}{"]" * 60}, "g": 1, "g": 2'
        ),
    ),
    "a field twice": Case("bert", _write_text_into_config('"hidden_act": "relu"')),
    "no id2label": Case("bert", _edit_config(id2label=None, label2id=None, num_labels=3)),
    "label2id alone": Case(
        "bert", _edit_config(id2label="absent", label2id={"x": 0, "y": 1, "z": 2}, num_labels=3)
    ),
    "num_labels contradicts": Case("bert", _edit_config(num_labels=7)),
    "keys of id2label as they were padded": Case(
        "bert", _edit_config(id2label={"02": "good", " 1": "fair", "0": "bad"})
    ),
    "id2label contradicts label2id": Case("bert", _edit_config(label2id={"bad": 2})),
    "labels of an answering model": Case(
        "bert", _edit_config(id2label={"0": "x", "1": "y"}, num_labels=9), "question-answering"
    ),
}

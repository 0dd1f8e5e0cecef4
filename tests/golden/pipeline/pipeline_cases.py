"""Pipeline calls whose results in Transformers 4.57 are kept, and tiny checkpoints to make them on.

The weights come from NumPy's generator, whose numbers are the same everywhere and for ever, so the
checkpoints need not be kept: only the results are, in pipeline.json (see update_pipeline.py).
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
from tests.support.data.text import VOCAB, make_tokenizer

__all__ = ["CASES", "CHECKPOINTS", "GOLDEN_FILE", "Case", "write_checkpoint"]

GOLDEN_FILE = Path(__file__).with_name("pipeline.json")

_CONFIG = BertConfig(
    vocab_size=len(VOCAB),
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=64,
    max_position_embeddings=64,
)
# Name: task of the model, and what its config.json says besides.
CHECKPOINTS: dict[str, tuple[str, dict[str, Any]]] = {
    "squad": ("question-answering", {}),
    "three": ("text-classification", {"id2label": {"0": "bad", "1": "fair", "2": "good"}}),
    "many": (
        "text-classification",
        {
            "id2label": {"0": "red", "1": "green", "2": "blue"},
            "problem_type": "multi_label_classification",
        },
    ),
    "number": (
        "text-classification",
        {"id2label": {"0": "stars"}, "problem_type": "regression"},
    ),
    "masked": ("pretraining", {}),
    "encoder": ("encoder", {}),
}


@dataclass(frozen=True)
class Case:
    """One pipeline and some calls of it, each (args, kwargs)."""

    task: str
    checkpoint: str
    calls: tuple[tuple[tuple[Any, ...], dict[str, Any]], ...]
    options: dict[str, Any] = field(default_factory=dict)


_SHORT = "The cat sat on the mat in Paris."
_LONG = "unaffable cats (42%) sat on the mat in paris, where the cat is; who is on it? " * 5
_QA = {"question": "who sat on the mat?", "context": _SHORT}
_QA_LONG = {"question": "where is the cat?", "context": _LONG}
_PAIR = {"text": "the cat is in paris", "text_pair": "where is the mat on the cat" * 4}
_LIGHTHOUSE = (
    "The lighthouse on Fair Isle was designed by David Stevenson and lit in 1892. Keepers rowed "
    "six kilometres for bread. In 1941 a bomb broke the lantern, and two people were killed. An "
    "engineer called Roderick Macaulay repaired it within a week. Electricity came in 1962. The "
    "last keeper, Angus Hutchison, left on 31 March 1998, when the light was automated. Today a "
    "computer in Edinburgh watches over it, some 500 kilometres away. "
)
_WEATHER = "Rain fell on the island for most of the day, and nobody went out. " * 30
_LIGHT_QUESTIONS = [
    "Who designed the lighthouse?",
    "When was it lit?",
    "How far did the keepers row?",
    "Who repaired the lantern?",
    "What is watched from Edinburgh?",
    "What is the price of a ticket?",
]

CASES: dict[str, Case] = {
    "questions": Case(
        "question-answering",
        "squad",
        (
            ((), _QA),
            ((), _QA | {"top_k": 3}),
            ((), _QA | {"handle_impossible_answer": True, "top_k": 4}),
            ((), _QA | {"align_to_words": False, "top_k": 4, "max_answer_len": 3}),
            ((), _QA_LONG),
            ((), _QA_LONG | {"top_k": 4}),
            ((), _QA_LONG | {"max_seq_len": 24, "doc_stride": 8, "top_k": 3}),
            ((), _QA_LONG | {"max_seq_len": 30, "doc_stride": 0, "align_to_words": False}),
            ((), _QA_LONG | {"handle_impossible_answer": True, "max_answer_len": 1, "top_k": 2}),
            ((), {"question": "who " * 12, "context": _LONG, "max_question_len": 4}),
            (({"question": "who?", "context": _SHORT},), {}),
            (([_QA, _QA_LONG],), {"top_k": 2}),
            (([_QA],), {}),
            ((), {"question": ["who?", "where?"], "context": _SHORT}),
            ((), {"question": ["who?", "where?"], "context": [_SHORT, _LONG]}),
        ),
    ),
    "question defaults": Case(
        "question-answering",
        "squad",
        (((), _QA_LONG), ((), _QA_LONG | {"top_k": 1})),
        {"top_k": 2, "doc_stride": 4, "handle_impossible_answer": True},
    ),
    "classes": Case(
        "text-classification",
        "three",
        (
            ((_SHORT,), {}),
            ((_SHORT,), {"top_k": 1}),
            ((_SHORT,), {"top_k": 2}),
            ((_SHORT,), {"top_k": None}),
            ((_SHORT,), {"function_to_apply": "sigmoid", "top_k": None}),
            ((_SHORT,), {"function_to_apply": "none"}),
            ((_SHORT,), {"return_all_scores": True}),
            ((_SHORT,), {"return_all_scores": False}),
            (([_SHORT, "who is it"],), {}),
            (([_SHORT, "who is it"],), {"top_k": None}),
            (([_SHORT],), {"return_all_scores": True}),
            ((_PAIR,), {"truncation": True, "max_length": 20}),
            ((_PAIR,), {"truncation": "only_second", "max_length": 21}),
            (([_PAIR, {"text": "in paris"}],), {"truncation": True}),
            (([[["the cat", "the mat"]]],), {}),
            ((_LONG,), {"truncation": True}),
            ((_LONG,), {"max_length": 9}),
        ),
    ),
    "all classes": Case("sentiment-analysis", "three", (((_SHORT,), {}),), {"top_k": None}),
    "many classes": Case(
        "text-classification", "many", (((_SHORT,), {}), ((_SHORT,), {"top_k": None}))
    ),
    "a number": Case("text-classification", "number", (((_SHORT,), {}), ((_SHORT,), {"top_k": 1}))),
    "masks": Case(
        "fill-mask",
        "masked",
        (
            (("the [MASK] sat on the mat.",), {}),
            (("the [MASK] sat on the mat.",), {"top_k": 2}),
            (("who [MASK] on the [MASK]?",), {"top_k": 3}),
            (("the [MASK] sat",), {"targets": ["cat", "paris", "unaffable"]}),
            (("the [MASK] sat",), {"targets": "cat"}),
            ((["the [MASK] sat", "where is [MASK]"],), {"top_k": 2}),
            ((["the [MASK] sat"],), {"top_k": 2}),
            (
                ("a [MASK] " + "b " * 99,),
                {"top_k": 1, "tokenizer_kwargs": {"truncation": True}},
            ),
        ),
    ),
    "states": Case(
        "feature-extraction",
        "encoder",
        (
            (("the cat",), {}),
            ((["the cat", "is it in paris?"],), {}),
            (("cat " * 99,), {"tokenize_kwargs": {"truncation": True, "max_length": 5}}),
        ),
    ),
    # On ../shared/models/minilm-l6-squad.
    "lighthouse": Case(
        "question-answering",
        "shared",
        (
            ((), {"question": _LIGHT_QUESTIONS, "context": _LIGHTHOUSE}),
            ((), {"question": _LIGHT_QUESTIONS, "context": _WEATHER + _LIGHTHOUSE, "top_k": 3}),
            (
                (),
                {
                    "question": _LIGHT_QUESTIONS,
                    "context": _LIGHTHOUSE + _WEATHER,
                    "max_seq_len": 100,
                    "handle_impossible_answer": True,
                },
            ),
        ),
    ),
}


def write_checkpoint(name: str, directory: Path) -> None:
    """Write the checkpoint of a name, the same weights every time."""
    task, extra = CHECKPOINTS[name]
    model = build_model(task, _CONFIG, len(extra.get("id2label", "ab")))
    generator = np.random.default_rng(sorted(CHECKPOINTS).index(name))
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            is_scale = key.endswith("LayerNorm.weight")
            values = generator.normal(float(is_scale), 0.05 if is_scale else 0.3, parameter.shape)
            # In float32 before it is used, so that both sides read the same numbers.
            parameter.copy_(torch.from_numpy(values.astype(np.float32)))
    settings = {
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": True,
        "model_max_length": 48,
    }
    files = {
        "tokenizer.json": make_tokenizer().to_json(),
        "vocab.txt": "".join(f"{token}\n" for token in VOCAB).encode(),
        "tokenizer_config.json": json.dumps(settings).encode(),
    }
    save_checkpoint(directory, model, _CONFIG, tokenizer_files=files, extra=extra)

"""Random calls of the question-answering pipeline over every kind of tokenizer.

Checkpoints and calls come from NumPy's generator, so only results are kept, in spans.json: what
Transformers 4.57 returns (see update_spans.py).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import torch
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from bert_rt.model.checkpoint import save_checkpoint
from bert_rt.model.config import BertConfig
from bert_rt.tasks.checkpoints import build_model
from tests.support.data.text import VOCAB

__all__ = ["GOLDEN_FILE", "KINDS", "NUM_CALLS", "make_calls", "write_kind"]

GOLDEN_FILE = Path(__file__).with_name("spans.json")
NUM_CALLS = 200

_BPE_SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
_WORDS = (
    *("the", "team", "won", "a", "match", "in", "paris", "who", "where", "cat", "sat", "on"),
    *("mat", "is", "it", "42", "caf\u00e9"),
)
# White space of many kinds, letters of several bytes, marks, and what a normalizer rewrites.
_PIECES = (
    *_WORDS,
    "The",
    "Team",
    "\ud55c\uad6d",
    "na\u00efve",
    "e\u0301t\u00e9",
    "\U0001f600",
    "\U0001f469\u200d\U0001f52c",
    "\u4e2d\u6587",
    "unaffable",
    "(42%)",
    "won.",
    "it's",
    "\ufb01ne",
    "\u0130stanbul",
    "x-y_z",
    "so\u00adft",
    "\u2014",
)
_GAPS = (" ",) * 12 + ("  ", "   ", "\n", "\t", "\r\n", "\u00a0", "\u3000", "", ", ", " - ")


def _write_wordpiece(directory: Path, *, do_lower_case: bool) -> int:
    (directory / "vocab.txt").write_text("".join(f"{t}\n" for t in VOCAB), encoding="utf-8")
    settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": do_lower_case}
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))
    return len(VOCAB)


def _write_bpe(directory: Path, *, words: Sequence[str], add_prefix_space: bool) -> int:
    """Write vocab.json and merges.txt in which each of some words is built letter by letter."""
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    merges: dict[tuple[str, str], None] = {}
    for word in words:
        ((text, _),) = byte_level.pre_tokenize_str(word)
        for end in range(1, len(text)):
            merges[text[:end], text[end]] = None
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = dict.fromkeys([*_BPE_SPECIAL, *letters, *(a + b for a, b in merges)])
    (directory / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(tokens)}))
    lines = ["#version: 0.2", *(f"{a} {b}" for a, b in merges), ""]
    (directory / "merges.txt").write_text("\n".join(lines), encoding="utf-8")
    settings = {"tokenizer_class": "RobertaTokenizer", "add_prefix_space": add_prefix_space}
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))
    return len(tokens)


def _write_unigram(directory: Path, *, splits_first: bool) -> int:
    """Write a tokenizer.json with or without splitting at white space first, as there are both."""
    pieces = [f"\u2581{word}" for word in _WORDS] + ["\u2581", *_WORDS, "won.", "\ud55c", "un"]
    letters = sorted({letter for piece in pieces for letter in piece})
    scores = dict.fromkeys(("<s>", "<pad>", "</s>", "<unk>"), 0.0)
    scores |= {piece: -3.0 - 0.01 * i for i, piece in enumerate(pieces)}
    scores |= {letter: -8.0 - 0.01 * i for i, letter in enumerate(letters) if letter not in scores}
    scores["<mask>"] = 0.0
    backend = tokenizers.Tokenizer(models.Unigram(list(scores.items()), unk_id=3))
    backend.add_special_tokens([*_BPE_SPECIAL])
    backend.normalizer = normalizers.NFKC()
    metaspace = pre_tokenizers.Metaspace()
    backend.pre_tokenizer = (
        pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), metaspace])
        if splits_first
        else metaspace
    )
    backend.decoder = decoders.Metaspace()
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    backend.save(str(directory / "tokenizer.json"))
    settings = {"tokenizer_class": "XLMRobertaTokenizerFast"}
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))
    return len(scores)


_SOME = [f" {word}" for word in _WORDS] + ["The", " \ud55c\uad6d", " won", "  "]
# Name: architecture, what writes its tokenizer, and its options.
KINDS: dict[str, tuple[str, Callable[..., int], dict[str, Any]]] = {
    "wordpiece": ("bert", _write_wordpiece, {"do_lower_case": True}),
    "wordpiece-cased": ("bert", _write_wordpiece, {"do_lower_case": False}),
    "bpe": ("roberta", _write_bpe, {"words": _SOME, "add_prefix_space": False}),
    "bpe-small": ("roberta", _write_bpe, {"words": ["th", " a"], "add_prefix_space": False}),
    "bpe-prefix": ("roberta", _write_bpe, {"words": _SOME[:6], "add_prefix_space": True}),
    "unigram": ("xlm-roberta", _write_unigram, {"splits_first": True}),
    "unigram-spaces": ("xlm-roberta", _write_unigram, {"splits_first": False}),
}


def write_kind(name: str, directory: Path) -> None:
    """Write the checkpoint of a kind of tokenizer, the same every time."""
    model_type, write, options = KINDS[name]
    directory.mkdir(parents=True, exist_ok=True)
    num_tokens = write(directory, **options)
    files = {path.name: path.read_bytes() for path in directory.iterdir()}
    is_bert = model_type == "bert"
    config = BertConfig(
        model_type=model_type,
        vocab_size=num_tokens,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=128 if is_bert else 130,
        type_vocab_size=2 if is_bert else 1,
        pad_token_id=0 if is_bert else 1,
    )
    model = build_model("question-answering", config, 2)
    generator = np.random.default_rng(list(KINDS).index(name))
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            is_scale = key.endswith("LayerNorm.weight")
            values = generator.normal(float(is_scale), 0.05 if is_scale else 0.3, parameter.shape)
            parameter.copy_(torch.from_numpy(values.astype(np.float32)))
    save_checkpoint(directory, model, config, tokenizer_files=files)


def make_calls(name: str) -> list[dict[str, Any]]:
    """Return the keyword arguments of a kind's random calls."""
    generator = np.random.default_rng(100 + list(KINDS).index(name))

    def pick(choices: Sequence[Any]) -> Any:
        return choices[int(generator.integers(len(choices)))]

    def text(num_pieces: int) -> str:
        return "".join(pick(_PIECES) + pick(_GAPS) for _ in range(num_pieces))

    calls: list[dict[str, Any]] = [
        {"question": "who won?", "context": "The team \ud55c\uad6d won.", "top_k": 12}
    ]
    while len(calls) < NUM_CALLS:
        calls.append(
            {
                "question": text(int(generator.integers(1, 4))) + "who?",
                # Mostly one window, sometimes many, which open in the middle of words.
                "context": pick(("", "", " "))
                + text(int(generator.integers(1, pick((6, 12, 40))))),
                "top_k": pick((1, 1, 2, 3, 12)),
                "align_to_words": pick((True, True, True, False)),
                "max_answer_len": pick((3, 15)),
                "handle_impossible_answer": pick((False, False, True)),
                "max_seq_len": pick((48, 64)),
                "doc_stride": pick((0, 8)),
            }
        )
    return calls

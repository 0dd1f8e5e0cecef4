"""Checkpoint directories with every kind of tokenizer files, drawn by a seed.

Only files that say how text is split are written, and as much of config.json as AutoTokenizer
reads. Most directories are whole; some contradict themselves, as real ones do.
"""

from __future__ import annotations

import json
import random
import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

__all__ = ["CONTROL_TEXTS", "TEXTS", "write_checkpoint"]

_WORDS = (
    "the cat sat on the mat merkel was born in hamburg vaccine covid mrna karl cafe unaffable "
    "don't 42 % . , - a\u00df \u4e2d \u6587 e1 x [ ] / < > paris"
)
_BERT = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_FAIRSEQ = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
_BERT_ROLES = dict(
    zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), _BERT, strict=True)
)
_FAIRSEQ_ROLES = {
    "bos_token": "<s>",
    "eos_token": "</s>",
    "cls_token": "<s>",
    "sep_token": "</s>",
    "pad_token": "<pad>",
    "unk_token": "<unk>",
    "mask_token": "<mask>",
}
# What makers of checkpoints add: markers, words, tokens with white space, accents, capitals, with
# pieces of each other, and one that is a word of the vocabulary.
_ADDED = ("[E1]", "[/E1]", "covid19", "mRNA", "Caf\u00e9", "new york", "\u4e2d\u6587", "@user")
_ADDED += ("E1", "cat", "<ent>", "http", "##x", "\u00df")
_PARTS = (
    *("[E1] Merkel [/E1] was born in Hamburg", "covid19 mrna vaccine", "Karl a\u00df Caf\u00e9"),
    *("COVID19 mRNA MRNA", "new york New  York", "\u4e2d\u6587\u4e2d", "cafe\u0301 CAF\u00c9"),
    *("@user@USER http://x.y", "<ent>the cat<ent>", "e1 E1xE1 [e1]", "unaffable, 42%", "\u1e9e"),
    *(
        "so\u00adft\u200b\ufeff",
        "\U0001f600\U0001f469\u200d\U0001f52c",
        "\t\r\n  x",
        "\u0130stanbul",
    ),
    *("\ufb01ne \u2460 \u3000", "don't can't", "\u05e9\u05dc\u05d5\u05dd", "a##x ##x", "the  cat "),
    *(" leading", "trailing ", "x" * 120, "\ud55c\uad6d \u65e5\u672c\u8a9e", "\u0007bell\u0085"),
    *("covid20 @other COVID20", "[Q] the [/Q]cat"),
    *("_ \u2581the \u0120the", "1,234.5", "\u00e9\u0301\u0301", "concat cats"),
)


def _texts() -> tuple[str, ...]:
    draw = random.Random(7)
    mixed = (
        draw.choice(("", " ", "  ")).join(draw.sample(_PARTS, draw.randint(2, 5)))
        for _ in range(50 - len(_PARTS))
    )
    return (*_PARTS, *mixed)


TEXTS = _texts()
"""Fifty texts without a control token in them."""

CONTROL_TEXTS = tuple(
    text for token in (*_BERT, *_FAIRSEQ) for text in (token, f"the {token} cat{token}")
)
"""Texts with control tokens, which are only text for us."""


def write_checkpoint(directory: Path, draw: random.Random) -> None:
    """Write one checkpoint's tokenizer files.

    Args:
        directory: Where to; it is made.
        draw: Chooses.
    """
    directory.mkdir(parents=True)
    model_type = draw.choice(_MODEL_TYPES)
    kind = _KIND_OF[model_type] if draw.random() < 0.85 else draw.choice([*_WRITERS])
    roles = dict(_BERT_ROLES if kind == "wordpiece" else _FAIRSEQ_ROLES)
    vocab = _WRITERS[kind](directory, draw)
    values: dict[str, Any] = {}
    _choose_class(values, kind, model_type, draw)
    _choose_options(values, kind, draw)
    if draw.random() < 0.5:
        values |= {name: _token(token, draw) for name, token in roles.items()}
    _choose_added(directory, values, roles, vocab, draw)
    config: dict[str, Any] = {"model_type": model_type, "vocab_size": 1000}
    if draw.random() < 0.15:
        config["tokenizer_class"] = draw.choice(_CLASSES[kind])
    _write(directory / "config.json", config)
    if values or draw.random() < 0.5:
        _write(directory / "tokenizer_config.json", values)


_MODEL_TYPES = ("bert", "distilbert", "electra", "roberta", "xlm-roberta", "camembert")
_KIND_OF = {
    "bert": "wordpiece",
    "distilbert": "wordpiece",
    "electra": "wordpiece",
    "roberta": "bpe",
    "xlm-roberta": "unigram",
    "camembert": "unigram",
}
_CLASSES: Mapping[str, Sequence[str]] = {
    "wordpiece": ("BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer"),
    "bpe": ("RobertaTokenizer",),
    "unigram": ("XLMRobertaTokenizer", "CamembertTokenizer"),
}
_OTHER_CLASSES = ("HerbertTokenizer", "BertJapaneseTokenizer", "KoBertTokenizer", "AlbertTokenizer")


def _write(file: Path, values: Any) -> None:
    file.write_text(json.dumps(values, ensure_ascii=False), encoding="utf-8")


def _choose_class(values: dict[str, Any], kind: str, model_type: str, draw: random.Random) -> None:
    chance = draw.random()
    if chance < 0.45:
        values["tokenizer_class"] = draw.choice(_CLASSES[kind]) + draw.choice(("", "Fast"))
    elif chance < 0.60:
        values["tokenizer_class"] = "PreTrainedTokenizerFast"
    elif chance < 0.65:
        values["tokenizer_class"] = draw.choice(_OTHER_CLASSES)
    elif chance < 0.70:
        values["tokenizer_class"] = draw.choice([c for row in _CLASSES.values() for c in row])


def _choose_options(values: dict[str, Any], kind: str, draw: random.Random) -> None:
    pool: dict[str, Sequence[Any]] = {
        "model_max_length": (512, 10**30, 1e30, -1, 1000000000000000019884624838656),
        "clean_up_tokenization_spaces": (True, False),
        "name_or_path": ("somewhere",),
        "split_special_tokens": (False, True),
        "padding_side": ("right", "right", "left"),
        "tokenizer_file": (None,),
        "do_basic_tokenize": (True, True, False),
        "never_split": (None, [], ["covid19"]),
        "add_prefix_space": (True, False),
        "model_input_names": (
            ["input_ids", "attention_mask"],
            ["input_ids", "token_type_ids", "attention_mask"],
        ),
    }
    if kind == "wordpiece":
        pool |= {
            "do_lower_case": (True, False),
            "strip_accents": (True, False, None),
            "tokenize_chinese_chars": (True, False),
        }
    if kind == "bpe":
        pool |= {"trim_offsets": (True, False), "errors": ("replace",)}
    rare = {"split_special_tokens", "padding_side", "tokenizer_file", "never_split"}
    for name, choices in pool.items():
        chance = 0.05 if name in rare or name == "do_basic_tokenize" else 0.35
        if draw.random() < chance:
            values[name] = draw.choice(choices)


def _token(token: str, draw: random.Random) -> Any:
    if draw.random() < 0.8:
        return token
    return {"__type": "AddedToken", "content": token, **_flags(draw)}


def _flags(draw: random.Random) -> dict[str, bool]:
    return {
        "lstrip": draw.random() < 0.2,
        "normalized": draw.random() < 0.5,
        "rstrip": draw.random() < 0.2,
        "single_word": draw.random() < 0.3,
    }


def _choose_added(
    directory: Path,
    values: dict[str, Any],
    roles: Mapping[str, str],
    vocab: Mapping[str, int],
    draw: random.Random,
) -> None:
    added = draw.sample(_ADDED, draw.choice((0, 0, 1, 2, 4)))
    next_id = len(vocab)
    ids: dict[str, int] = {}
    for token in added:
        if token in vocab:
            ids[token] = vocab[token]
        else:
            ids[token] = next_id
            next_id += 1
    if draw.random() < 0.05:
        ids = {token: index + 1 for token, index in ids.items()}
    in_files = {token: index for token, index in ids.items() if draw.random() < 0.7}
    if draw.random() < 0.35:
        decoder = {vocab[t]: t for t in roles.values() if t in vocab}
        decoder |= {index: token for token, index in in_files.items()}
        values["added_tokens_decoder"] = {
            str(index): {
                "content": token,
                **_flags(draw),
                "special": token in roles.values() or draw.random() < 0.5,
            }
            for index, token in sorted(decoder.items())
        }
    if in_files and draw.random() < 0.5:
        _write(directory / "added_tokens.json", in_files)
    special = [token for token in added if draw.random() < 0.4]
    if special and draw.random() < 0.6:
        values["additional_special_tokens"] = [_token(token, draw) for token in special]
    if special and draw.random() < 0.15:
        values["extra_special_tokens"] = {f"x{i}_token": t for i, t in enumerate(special)}
    if draw.random() < 0.35:
        chosen: dict[str, Any] = {
            name: token if draw.random() < 0.6 else {"content": token, **_flags(draw)}
            for name, token in roles.items()
        }
        if special:
            chosen["additional_special_tokens"] = [
                token if draw.random() < 0.6 else {"content": token, **_flags(draw)}
                for token in special
            ]
        _write(directory / "special_tokens_map.json", chosen)


def _write_wordpiece(directory: Path, draw: random.Random) -> dict[str, int]:
    letters = [*string.ascii_letters, *string.digits, *string.punctuation, "\u00df", "\u4e2d"]
    pieces = [f"##{c}" for c in (*string.ascii_letters, *string.digits)]
    words = ("the", "cat", "merkel", "was", "born", "co", "##vid", "##19", "vaccine", "cafe")
    tokens = [*_BERT, *letters, *pieces, *words, "Karl", "Caf\u00e9", "\u2581the"]
    tokens = list(dict.fromkeys(tokens))
    if draw.random() < 0.05:
        tokens.remove(draw.choice(_BERT))
    if draw.random() < 0.1:
        tokens.append(draw.choice(("cat", "", "[MASK]")))
    vocab = {token: index for index, token in enumerate(tokens)}
    line = draw.choice(("\n", "\n", "\n", "\r\n"))
    has_json = draw.random() < 0.6
    if not has_json or draw.random() < 0.6:
        text = "".join(token + line for token in tokens)
        (directory / "vocab.txt").write_bytes(text.encode())
    if has_json and "[UNK]" in vocab and "[CLS]" in vocab and "[SEP]" in vocab:
        backend = tokenizers.Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
        backend.normalizer = draw.choice(
            (
                normalizers.BertNormalizer(lowercase=draw.random() < 0.5),
                normalizers.BertNormalizer(strip_accents=False, handle_chinese_chars=False),
                normalizers.BertNormalizer(),
                normalizers.Sequence([normalizers.NFC(), normalizers.BertNormalizer()]),
            )
        )
        if draw.random() < 0.03:
            backend.normalizer = None
        backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        backend.decoder = decoders.WordPiece()
        backend.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B:1 [SEP]:1",
            special_tokens=[(token, vocab[token]) for token in ("[CLS]", "[SEP]")],
        )
        _save(directory, backend, _BERT, draw)
    return vocab


def _save(
    directory: Path, backend: tokenizers.Tokenizer, special: Sequence[str], draw: random.Random
) -> None:
    known = backend.get_vocab()
    backend.add_special_tokens([token for token in special if token in known])
    if draw.random() < 0.3:
        token = draw.choice(_ADDED)
        backend.add_tokens([tokenizers.AddedToken(token, special=draw.random() < 0.5)])
    if draw.random() < 0.1:
        backend.enable_truncation(16)
    backend.save(str(directory / "tokenizer.json"))


def _write_bpe(directory: Path, draw: random.Random) -> dict[str, int]:
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    if draw.random() < 0.1:
        alphabet = alphabet[:-20]
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=[*_FAIRSEQ],
        initial_alphabet=alphabet,
        show_progress=False,
    )
    backend.train_from_iterator([_WORDS] * 8, trainer)
    vocab = dict(sorted(backend.get_vocab().items(), key=lambda item: item[1]))
    has_json = draw.random() < 0.5
    if not has_json or draw.random() < 0.6:
        backend.model.save(str(directory))
    if has_json:
        prefix = draw.random() < 0.5
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
        backend.decoder = decoders.ByteLevel()
        backend.post_processor = processors.RobertaProcessing(
            ("</s>", vocab["</s>"]), ("<s>", vocab["<s>"]), True, prefix
        )
        _save(directory, backend, _FAIRSEQ, draw)
    return vocab


def _write_unigram(directory: Path, draw: random.Random) -> dict[str, int]:
    letters = sorted(set(_WORDS.replace(" ", "") + string.ascii_lowercase + string.digits))
    words = (f"\u2581{word}" for word in _WORDS.split() if len(word) > 1)
    scores = [(token, 0.0) for token in _FAIRSEQ]
    scores += [("\u2581", -2.0), *((letter, -4.5) for letter in letters)]
    scores += [(word, -6.0 - i / 8) for i, word in enumerate(dict.fromkeys(words))]
    backend = tokenizers.Tokenizer(models.Unigram(scores, unk_id=3))
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    vocab: dict[str, int] = backend.get_vocab()
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", vocab["<s>"]), ("</s>", vocab["</s>"])],
    )
    _save(directory, backend, _FAIRSEQ, draw)
    return vocab


_WRITERS = {"wordpiece": _write_wordpiece, "bpe": _write_bpe, "unigram": _write_unigram}

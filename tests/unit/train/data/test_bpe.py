"""Tests of train.data.bpe."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from bert_rt.errors import ConfigError, EmptyInputError
from bert_rt.text.tokenization import Tokenizer
from train.data.bpe import SPECIAL_TOKENS, train_bpe

TEXTS = [
    "Ein Mann im T-Shirt, der (vielleicht) l\u00e4chelt.",
    'Sie sagt: "Wie sch\u00f6n!" und l\u00e4chelt auch.',
    "Der Mann und der Hund l\u00e4cheln nicht...",
] * 3


def tokenizer(files: Mapping[str, bytes], directory: Path) -> Tokenizer:
    for name, content in files.items():
        (directory / name).write_bytes(content)
    return Tokenizer.from_directory(directory)


@pytest.mark.parametrize("vocab_size", [60, 90])
def test_tokens_give_the_text_back(tmp_path: Path, vocab_size: int) -> None:
    made = tokenizer(train_bpe(TEXTS, vocab_size=vocab_size), tmp_path)
    assert made.vocab_size <= vocab_size
    for text in [*TEXTS, 'T-Shirt-Mann (sch\u00f6n), "Hund"!']:
        ids = [made.cls_id, *made.encode(text).input_ids.tolist(), made.sep_id]
        assert made.decode(ids, skip_special_tokens=True) == text
    ids = made.encode(" ein\t\n Mann  ").input_ids.tolist()
    assert made.decode(ids, skip_special_tokens=True) == "ein Mann"


def test_special_tokens_come_first_and_case_is_kept(tmp_path: Path) -> None:
    files = train_bpe(TEXTS, vocab_size=90, max_length=99)
    made = tokenizer(files, tmp_path)
    vocab = made.get_vocab()
    assert [vocab[token] for token in SPECIAL_TOKENS] == [0, 1, 2, 3, 4]
    assert (made.pad_id, made.cls_id, made.sep_id) == (0, 2, 3)
    assert made.encode("der").input_ids.tolist() != made.encode("Der").input_ids.tolist()
    assert made.encode("\u65e5").input_ids.tolist()[-1] == vocab["[UNK]"]
    settings = json.loads(files["tokenizer_config.json"])
    assert settings["model_max_length"] == 99 and settings["unk_token"] == "[UNK]"


def test_the_same_text_gives_the_same_bytes() -> None:
    assert train_bpe(TEXTS, vocab_size=90) == train_bpe(iter(TEXTS), vocab_size=90)


def test_what_no_vocabulary_can_be_made_of() -> None:
    with pytest.raises(EmptyInputError, match="vocabulary: got no words, want text"):
        train_bpe(["", " "], vocab_size=90)
    with pytest.raises(ConfigError, match=r"vocab_size: got 20, want at least \d+ for the char"):
        train_bpe(TEXTS, vocab_size=20)

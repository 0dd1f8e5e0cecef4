"""Unit tests of bert_rt.model.vocabulary."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bert_rt.errors import CheckpointError
from bert_rt.model.vocabulary import check_vocabulary, read_tokenizer_files, vocabulary_lines

_VOCAB = b"[PAD]\na\nb\n"


def encoded(**files: Any) -> dict[str, bytes]:
    return {f"{name}.json": json.dumps(values).encode() for name, values in files.items()}


@pytest.mark.parametrize(
    ("content", "tokens"),
    [
        (b"a\nb\n", ["a", "b"]),
        (b"a\nb", ["a", "b"]),
        (b"a\r\nb\r\n", ["a", "b"]),
        (b"a\rb\r", ["a", "b"]),
        (b"\xef\xbb\xbfa\nb\n", ["a", "b"]),
        (b"a\n\nb\n\n", ["a", "", "b", ""]),
        ("a\u2028\n\x0bb\x85\n".encode(), ["a\u2028", "\x0bb\x85"]),
    ],
)
def test_lines_of_a_vocabulary(content: bytes, tokens: list[str]) -> None:
    assert vocabulary_lines(content) == tokens


@pytest.mark.parametrize(
    ("files", "num_ids"),
    [
        ({}, 3),
        ({"vocab.txt": _VOCAB + b"\n"}, 3),  # a blank last line
        (encoded(added_tokens={"c": 3, "d": 4}), 5),
        (encoded(tokenizer_config={"added_tokens_decoder": {"6": {"content": "c"}}}), 7),
        (encoded(tokenizer_config={"added_tokens_decoder": {}}, added_tokens={"c": 3}), 3),
        (encoded(tokenizer_config={"additional_special_tokens": ["c", "a"]}), 4),
        (encoded(tokenizer_config={"extra_special_tokens": {"x": "c", "y": "d"}}), 5),
        (encoded(special_tokens_map={"additional_special_tokens": [{"content": "c"}]}), 4),
        (encoded(tokenizer={"model": {"vocab": {"a": 4}}, "added_tokens": []}), 5),
        (encoded(tokenizer={"model": {"vocab": [["a", 0.0], ["b", -1.0]]}}), 2),
    ],
)
def test_ids_are_counted_and_what_no_token_uses_is_reported(
    files: dict[str, bytes], num_ids: int, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    files = {"vocab.txt": _VOCAB} | files
    check_vocabulary(tmp_path, files, num_ids, warn=True)
    assert not caplog.records
    with pytest.raises(CheckpointError, match=rf"got {num_ids} token ids, want at most vocab_size"):
        check_vocabulary(tmp_path, files, num_ids - 1)
    check_vocabulary(tmp_path, files, num_ids + 2, warn=True)
    (record,) = caplog.records
    assert record.getMessage().startswith(
        f"{tmp_path}: {num_ids} token ids and vocab_size {num_ids + 2}: the model has 2 embeddings"
    )


def test_embeddings_that_are_padded_are_no_warning(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    for vocab_size in (64, 128):
        check_vocabulary(tmp_path, {"vocab.txt": _VOCAB}, vocab_size, warn=True)
    assert not caplog.records
    check_vocabulary(tmp_path, {"vocab.txt": _VOCAB}, 192, warn=True)
    assert len(caplog.records) == 1


def test_every_file_of_a_tokenizer_is_kept(tmp_path: Path) -> None:
    names = {"tokenizer.json", "vocab.txt", "vocab.json", "merges.txt", "tokenizer_config.json"}
    names |= {"special_tokens_map.json", "added_tokens.json", "sentencepiece.bpe.model"}
    for name in (*names, "config.json", "README.md"):
        (tmp_path / name).write_text(name)
    assert read_tokenizer_files(tmp_path) == {name: name.encode() for name in names}

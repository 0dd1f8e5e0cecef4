"""Unit tests of bert_rt.text.wordpiece: the native tokenizer gives what the library gives."""

from __future__ import annotations

import json
import os
import random
import sys
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from bert_rt.artifact.artifact import TOKENIZER_NAME, default_artifact_path
from bert_rt.tasks.question_answering.squad import read_squad
from bert_rt.text.tokenization import Tokenizer
from bert_rt.text.wordpiece import NativeWordPiece
from tests.support.data.text import VOCAB, make_tokenizer, texts

_native = pytest.importorskip("bert_rt._native")

UNCASED = make_tokenizer()
CASED = make_tokenizer(do_lower_case=False)

# Where words end, what the normalizer takes away, words that are too long or unknown.
_PIECES = (
    " ", "  ", "\n", "\x0b", "\x1f", "\x7f", "\0", "\x85", "\u00a0", "\u2028", "\u3000", "\ufffd",
    "-", "'s", "##aff", "_", "[SEP]", "\u03a3\u0391\u03a3", "Unaff", "a" * 99, "a" * 100, "a" * 101,
    "qu\u00e9", "\u0e01\u0e33", "the",
)  # fmt: skip


def by_library(tokenizer: Tokenizer, text: str) -> tuple[list[int], list[list[int]]]:
    """Encode by the library alone."""
    encoding = tokenizer._to_encoding(
        tokenizer._backend.encode(text, add_special_tokens=False), text
    )
    return encoding.input_ids.tolist(), encoding.offsets.tolist()


def natively(tokenizer: Tokenizer, text: str) -> tuple[list[int], list[list[int]]] | None:
    """Encode by the native module and, where it says so, by both; None: by the library alone."""
    assert tokenizer._native is not None
    arrays = tokenizer._native.encode(text)
    return None if arrays is None else (arrays[0].tolist(), arrays[1].tolist())


@given(
    st.one_of(texts, st.lists(st.sampled_from(_PIECES), max_size=12).map("".join)),
    st.sampled_from([UNCASED, CASED]),
)
def test_any_text_gives_the_librarys_tokens_and_spans(text: str, tokenizer: Tokenizer) -> None:
    assert natively(tokenizer, text) in (None, by_library(tokenizer, text))


def test_a_text_in_english_never_falls_to_the_library_as_a_whole(tokenizer: Tokenizer) -> None:
    text = "The \u201ccat\u201d sat \u2013 on the mat, in Paris: a caf\u00e9.\x07 Unaffable"
    text += " The cat sat on the mat. Who is where?" * 2
    found = natively(tokenizer, text)
    assert found is not None
    assert found == by_library(tokenizer, text)


def test_a_text_in_another_script_falls_to_the_library_where_that_is_faster(
    tokenizer: Tokenizer,
) -> None:
    apart, adjacent = "\u00e9 cat " * 9, "\u00e9 \u00e8 " * 9 + "cat"
    assert natively(tokenizer, apart) is None
    assert natively(tokenizer, adjacent) == by_library(tokenizer, adjacent)
    for text in (apart, adjacent):
        assert tokenizer.encode(text).offsets.tolist() == by_library(tokenizer, text)[1]
    batch = tokenizer.encode_batch([adjacent, apart, "cat"])
    assert [encoding.offsets.tolist() for encoding in batch] == [
        by_library(tokenizer, text)[1] for text in (adjacent, apart, "cat")
    ]


def test_long_texts_that_release_the_gil_are_equal_too(tokenizer: Tokenizer) -> None:
    text = "the cat sat on the mat. " * 4000 + "caf\u00e9 unaffable"
    assert natively(tokenizer, text) == by_library(tokenizer, text)


def test_passages_of_squad_are_equal(shared_dir: Path) -> None:
    """2,000 passages and questions; all 124,782 with BERT_RT_LONG_TESTS=1."""
    artifact = default_artifact_path()
    tokenizer = Tokenizer.from_bytes((artifact / TOKENIZER_NAME).read_bytes())
    is_long = os.environ.get("BERT_RT_LONG_TESTS") == "1"
    names = ("dev-v1.1", "dev-v2.0", "train-v1.1") if is_long else ("dev-v1.1",)
    found = set()
    for name in names:
        for one in read_squad(shared_dir / "data" / "squad" / f"{name}.json.gz"):
            found |= {one.context, one.question}
    chosen = sorted(found) if is_long else random.Random(0).sample(sorted(found), 2000)
    by_both = [natively(tokenizer, text) for text in chosen]
    assert by_both.count(None) < len(chosen) / 20
    differ = [
        text
        for text, both in zip(chosen, by_both, strict=True)
        if both not in (None, by_library(tokenizer, text))
    ]
    assert not differ


def changed(tokenizer: Tokenizer, change: Any) -> NativeWordPiece | None:
    """Return the native double of a tokenizer whose file was changed."""
    content = json.loads(tokenizer.to_json())
    change(content)
    backend = tokenizers.Tokenizer.from_str(json.dumps(content))
    return NativeWordPiece.of(backend, backend.get_vocab())


@pytest.mark.parametrize(
    "change",
    [
        lambda file: file["normalizer"].update(clean_text=False),
        lambda file: file.update(normalizer={"type": "Lowercase"}),
        lambda file: file.update(pre_tokenizer={"type": "Whitespace"}),
        lambda file: file["model"].update(max_input_chars_per_word=257),
        lambda file: file["model"].update(unk_token="[none]"),
        lambda file: file["added_tokens"].append(
            {
                **file["added_tokens"][0],
                "id": len(VOCAB),
                "content": "the cat",
                "special": False,
            }
        ),
    ],
)
def test_what_is_not_berts_tokenizer_has_no_double(tokenizer: Tokenizer, change: Any) -> None:
    assert changed(tokenizer, change) is None
    assert changed(tokenizer, lambda file: None) is not None


def test_an_added_special_token_is_no_piece_of_a_word(tokenizer: Tokenizer) -> None:
    content = json.loads(tokenizer.to_json())
    content["added_tokens"].append(
        {**content["added_tokens"][0], "id": len(VOCAB), "content": "thecat"}
    )
    loaded = Tokenizer.from_bytes(json.dumps(content).encode())
    assert loaded.vocab_size == len(VOCAB) + 1
    for text in ("thecat sat", "the cat"):
        assert natively(loaded, text) == by_library(loaded, text)


@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("single_word", [False, True])
@pytest.mark.parametrize("content", ["thecat", "[E1]", "Caf\u00e9", "\u00e9", "##zz", "On"])
def test_added_tokens_are_found_by_either(
    tokenizer: Tokenizer, content: str, single_word: bool, normalized: bool
) -> None:
    file = json.loads(tokenizer.to_json())
    flags = {"special": False, "normalized": normalized, "single_word": single_word}
    one = {**file["added_tokens"][0], "id": len(VOCAB), "content": content, **flags}
    file["added_tokens"].append(one)
    loaded = Tokenizer.from_bytes(json.dumps(file).encode())
    assert loaded._native is not None
    found = 0
    for before in ("", "the cat ", "x", "\u4e2d", "e\u0301"):
        for after in ("", " sat.", "x", "]", "\u0301"):
            for word in (content, content.upper(), content.lower()):
                text = f"{before}{word}{after}"
                encoding = loaded.encode(text)
                got = encoding.input_ids.tolist(), encoding.offsets.tolist()
                assert got == by_library(loaded, text), text
                found += len(VOCAB) in got[0]
    assert found


@pytest.mark.parametrize("prefix", ["", "a"])
def test_other_prefixes_of_pieces_that_continue_a_word(tokenizer: Tokenizer, prefix: str) -> None:
    content = json.loads(tokenizer.to_json())
    content["model"]["continuing_subword_prefix"] = prefix
    loaded = Tokenizer.from_bytes(json.dumps(content).encode())
    for text in ("unaffable cat", "a aff mat", "aaaa"):
        assert natively(loaded, text) == by_library(loaded, text)


def test_without_the_native_module_the_library_encodes(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = UNCASED.encode("The cat sat, unaffable")
    monkeypatch.setitem(sys.modules, "bert_rt._native", None)
    monkeypatch.delattr("bert_rt._native")
    tokenizer = make_tokenizer()
    assert tokenizer._native is None
    encoding = tokenizer.encode("The cat sat, unaffable")
    assert encoding.input_ids.tolist() == expected.input_ids.tolist()
    assert encoding.offsets.tolist() == expected.offsets.tolist()


@pytest.mark.parametrize(
    ("ids", "max_chars", "message"),
    [
        ([0], 100, "ids: got 1, want one for each of 2 tokens"),
        ([0, 1], 257, "max_chars: got 257, want 0 to 256"),
        ([0, 1], -1, "max_chars: got -1, want 0 to 256"),
    ],
)
def test_bad_settings_are_one_clear_error(ids: list[int], max_chars: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _native.WordPiece(
            ["a", "##b"], ids, prefix="##", unknown_id=0, max_chars=max_chars, lowercase=True
        )


def test_a_lone_surrogate_is_refused_by_the_module_too() -> None:
    native = _native.WordPiece(["a"], [0], prefix="##", unknown_id=0, max_chars=100, lowercase=True)
    with pytest.raises(UnicodeEncodeError):
        native.encode("a\ud83d")
    assert native.encode("") is not None

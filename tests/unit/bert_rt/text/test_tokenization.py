"""Unit tests of bert_rt.text.tokenization."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers

from bert_rt.errors import ArtifactFormatError, CheckpointError, InputError
from bert_rt.text.tokenization import Tokenizer
from tests.support.data.text import SPECIAL_TOKENS, VOCAB, make_tokenizer, write_vocab


def pieces(tokenizer: Tokenizer, text: str) -> list[str]:
    """Return the slices of the text that its tokens stand for."""
    return [text[start:end] for start, end in tokenizer.encode(text).offsets.tolist()]


def tokens(tokenizer: Tokenizer, text: str) -> list[str]:
    """Return the tokens of a text by name."""
    return [VOCAB[index] for index in tokenizer.encode(text).input_ids.tolist()]


def test_encode_gives_wordpieces_and_their_characters(tokenizer: Tokenizer) -> None:
    text = "The unaffZ\tcat"
    encoding = tokenizer.encode(text)
    assert tokens(tokenizer, text) == ["the", "un", "##aff", "##z", "cat"]
    assert encoding.offsets.tolist() == [[0, 3], [4, 6], [6, 9], [9, 10], [11, 14]]
    assert encoding.input_ids.dtype == encoding.offsets.dtype == np.int32


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\U0001f600\U0001f600 cat", ["\U0001f600\U0001f600", "cat"]),
        ("e\u0301 cat", ["e", "cat"]),
        ("e\u0301q", ["e", "q"]),
        ("caf\u00e9", ["c", "a", "f", "\u00e9"]),
        ("cat\r\nsat", ["cat", "sat"]),
        ("c\u200bat", ["c\u200bat"]),
        ("\ufeffcat", ["cat"]),
        ("\u4e2d\u6587cat", ["\u4e2d", "\u6587", "cat"]),
        ("\u0130z", ["\u0130", "z"]),
        ("(cat)", ["(", "cat", ")"]),
    ],
)
def test_offsets_are_characters_of_the_callers_string(
    tokenizer: Tokenizer, text: str, expected: list[str]
) -> None:
    assert pieces(tokenizer, text) == expected


def test_composed_and_decomposed_text_give_the_same_tokens(tokenizer: Tokenizer) -> None:
    text = "caf\u00e9 \u00fcn"
    decomposed = unicodedata.normalize("NFD", text)
    assert decomposed != text
    assert tokens(tokenizer, decomposed) == tokens(tokenizer, text)


@pytest.mark.parametrize("special", SPECIAL_TOKENS)
def test_special_tokens_in_user_text_are_only_text(tokenizer: Tokenizer, special: str) -> None:
    text = f"cat {special} sat"
    found = tokens(tokenizer, text)
    assert not set(found) & set(SPECIAL_TOKENS)
    assert found[1] == "[" and found[-2] == "]"
    assert tokens(Tokenizer.from_bytes(tokenizer.to_json()), text) == found


def test_text_without_tokens_gives_empty_arrays(tokenizer: Tokenizer) -> None:
    encoding = tokenizer.encode("\u0007 \u200b")
    assert encoding.input_ids.shape == (0,)
    assert encoding.offsets.shape == (0, 2)


def test_encode_batch_gives_what_encode_gives(tokenizer: Tokenizer) -> None:
    texts = ["the cat", "", "sat on the mat", "the cat", "\U0001f600"]
    batch = tokenizer.encode_batch(texts)
    assert len(batch) == len(texts)
    for text, encoding in zip(texts, batch, strict=True):
        single = tokenizer.encode(text)
        np.testing.assert_array_equal(encoding.input_ids, single.input_ids)
        np.testing.assert_array_equal(encoding.offsets, single.offsets)
    assert batch[0] is batch[3]
    assert tokenizer.encode_batch([]) == []


def test_encodings_cannot_be_written_to(tokenizer: Tokenizer) -> None:
    encoding = tokenizer.encode("the cat")
    with pytest.raises(ValueError, match="read-only"):
        encoding.input_ids[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        encoding.offsets[0, 0] = 1


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("a\ud83d cat", r"question: got the lone surrogate '\\ud83d' at character 1, want text"),
        (b"cat", "question: got bytes, want str"),
        (None, "question: got NoneType, want str"),
    ],
)
def test_text_that_cannot_be_encoded_is_one_clear_error(
    tokenizer: Tokenizer, bad: Any, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        tokenizer.encode(bad, field="question")
    with pytest.raises(InputError, match=message.replace("question", r"question\[1\]")):
        tokenizer.encode_batch(["cat", bad], field="question")


def test_special_ids_and_vocab_size(tokenizer: Tokenizer) -> None:
    ids = (tokenizer.pad_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id)
    assert ids == (0, 2, 3, 4)
    assert tokenizer.vocab_size == len(VOCAB)


def test_vocab_size_covers_the_largest_id(tmp_path: Path) -> None:
    # A token that stands twice has the later id, as in Transformers: fewer tokens than ids.
    write_vocab(tmp_path, (*VOCAB, "cat"))
    tokenizer = Tokenizer.from_directory(tmp_path)
    assert tokenizer.encode("cat").input_ids.tolist() == [len(VOCAB)]
    assert tokenizer.vocab_size == len(VOCAB) + 1


def test_an_id_that_is_no_int32_is_refused(tokenizer: Tokenizer) -> None:
    content = json.loads(tokenizer.to_json())
    content["model"]["vocab"]["dog"] = 2**31
    with pytest.raises(ArtifactFormatError, match="'dog' has the id 2147483648, want at most"):
        Tokenizer.from_bytes(json.dumps(content).encode())


def test_truncation_and_padding_of_the_file_are_switched_off(tokenizer: Tokenizer) -> None:
    backend = tokenizers.Tokenizer.from_buffer(tokenizer.to_json())
    backend.enable_truncation(2)
    backend.enable_padding(length=32)
    loaded = Tokenizer.from_bytes(backend.to_str().encode())
    assert len(loaded.encode("the cat sat on the mat").input_ids) == 6
    content = json.loads(loaded.to_json())
    assert content["truncation"] is None and content["padding"] is None


def test_to_json_is_a_tokenizer_of_the_library(tokenizer: Tokenizer) -> None:
    backend = tokenizers.Tokenizer.from_buffer(tokenizer.to_json())
    assert backend.encode("the cat", "sat").tokens == [
        "[CLS]", "the", "cat", "[SEP]", "sat", "[SEP]",
    ]  # fmt: skip
    assert Tokenizer.from_bytes(tokenizer.to_json()).to_json() == tokenizer.to_json()


@pytest.mark.parametrize(
    ("options", "text", "expected"),
    [
        ({"do_lower_case": True}, "Caf\u00e9", ["c", "##a", "##f", "##e"]),
        ({"do_lower_case": False}, "Zu", ["Z", "##u"]),
        ({"do_lower_case": False}, "\u00e9", ["[UNK]"]),
        ({"do_lower_case": False, "strip_accents": True}, "\u00c9", ["E"]),
        ({"do_lower_case": True, "strip_accents": False}, "\u00e9", ["[UNK]"]),
        ({"tokenize_chinese_chars": True}, "\u4e2d\u6587", ["\u4e2d", "\u6587"]),
        ({"tokenize_chinese_chars": False}, "\u4e2d\u6587", ["[UNK]"]),
    ],
)
def test_options_of_tokenizer_config_are_honoured(
    options: dict[str, Any], text: str, expected: list[str]
) -> None:
    assert tokens(make_tokenizer(**options), text) == expected


def test_directory_prefers_tokenizer_json(tmp_path: Path) -> None:
    write_vocab(tmp_path, do_lower_case=True)
    (tmp_path / "tokenizer.json").write_bytes(make_tokenizer(do_lower_case=False).to_json())
    assert tokens(Tokenizer.from_directory(tmp_path), "Z") == ["Z"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokenizer.json", b"{", r"tokenizer\.json: tokenizer\.json: cannot be read"),
        ("tokenizer.json", b"\xff\xfe", "cannot be read"),
        ("vocab.txt", b"\xff\n", r"vocab\.txt: not UTF-8 at byte 0"),
        ("vocab.txt", b"[PAD]\n[UNK]\n[CLS]\n[MASK]\n", r"\['\[SEP\]'\] are not in the vocab"),
        ("tokenizer_config.json", b"{", "not JSON"),
        ("tokenizer_config.json", b"[]", "got a JSON list, want an object"),
        ("tokenizer_config.json", b'{"do_lower_case": "yes"}', "do_lower_case: got 'yes'"),
    ],
)
def test_damaged_checkpoint_is_one_clear_error(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    write_vocab(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        Tokenizer.from_directory(tmp_path)


def test_directory_without_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"neither tokenizer\.json nor vocab\.txt"):
        Tokenizer.from_directory(tmp_path)


def damage(tokenizer: Tokenizer, **model: Any) -> bytes:
    """Return the tokenizer's file with other values in its model and no added tokens."""
    content = json.loads(tokenizer.to_json())
    content["added_tokens"] = []
    content["post_processor"] = None
    content["model"].update(model)
    return json.dumps(content).encode()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"type": "Nonsense"}, "cannot be read"),
        ({"vocab": {"a": 0, "[UNK]": 1}}, r"token '\[CLS\]' is not in the vocabulary"),
        ({"unk_token": "[NONE]"}, r"unk_token '\[NONE\]' is not in the vocabulary"),
    ],
)
def test_damaged_tokenizer_json_is_one_clear_error(
    tokenizer: Tokenizer, model: dict[str, Any], message: str
) -> None:
    assert Tokenizer.from_bytes(damage(tokenizer)).cls_id == tokenizer.cls_id
    with pytest.raises(ArtifactFormatError, match=message):
        Tokenizer.from_bytes(damage(tokenizer, **model))


def test_vocab_txt_and_tokenizer_json_of_the_checkpoint_agree(
    shared_dir: Path, tmp_path: Path
) -> None:
    source = shared_dir / "models" / "minilm-l6-squad"
    for name in ("vocab.txt", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((source / name).read_bytes())
    from_vocab = Tokenizer.from_directory(tmp_path)
    from_json = Tokenizer.from_directory(source)
    text = "Beyonc\u00e9's 3rd\r\nalbum \u4e2d\u6587 \U0001f600 \u2014 r\u0329e\u0301sume\u0301"
    for one, other in zip(
        (from_vocab.encode(text), from_vocab.encode("unaffable")),
        (from_json.encode(text), from_json.encode("unaffable")),
        strict=True,
    ):
        np.testing.assert_array_equal(one.input_ids, other.input_ids)
        np.testing.assert_array_equal(one.offsets, other.offsets)
    assert from_vocab.vocab_size == from_json.vocab_size == 30522

"""Unit tests of bert_rt.text.tokenizer_files, and of tokenizers other than BERT's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import transformers
from tokenizers import processors

from bert_rt.errors import ArtifactFormatError, CheckpointError, ConfigError
from bert_rt.model.checkpoint import read_tokenizer_files
from bert_rt.tasks.checkpoints import load_model
from bert_rt.tasks.limits import AnsweringConfig
from bert_rt.tasks.question_answering.features import make_features
from bert_rt.tasks.text_classification.sequences import make_sequence
from bert_rt.text.tokenization import Tokenizer
from bert_rt.text.tokenizer_files import load_tokenizer_files
from tests.support.families import FAMILIES, write_byte_level_bpe, write_unigram

# Accents in one and in two code points, an emoji of several, CJK, white space of every kind, and
# special tokens as text.
TEXTS = (
    "The cat sat on the mat.",
    " caf\u00e9 cafe\u0301  na\u00efve\n\nx ",
    "\U0001f600 \U0001f469\u200d\U0001f52c\u4e2d\u6587",
    "</s> is <mask> text",
    "don't \u00a0 42%",
)


@pytest.fixture
def bpe_dir(tmp_path: Path) -> Path:
    write_byte_level_bpe(tmp_path)
    return tmp_path


def pieces(tokenizer: Tokenizer, text: str) -> list[str]:
    return [text[start:end] for start, end in tokenizer.encode(text).offsets.tolist()]


@pytest.mark.parametrize("add_prefix_space", [False, True, None])
def test_vocab_and_merges_make_the_tokenizer_of_transformers(
    bpe_dir: Path, add_prefix_space: bool | None
) -> None:
    options = {} if add_prefix_space is None else {"add_prefix_space": add_prefix_space}
    if options:
        (bpe_dir / "tokenizer_config.json").write_text(json.dumps(options))
    assert not (bpe_dir / "tokenizer.json").exists()
    ours = Tokenizer.from_directory(bpe_dir)
    theirs = transformers.RobertaTokenizer.from_pretrained(bpe_dir, **options)
    for text in TEXTS:
        if "<" in text:
            continue  # Theirs takes it for special tokens.
        wanted = theirs(text, add_special_tokens=False, return_offsets_mapping=True)
        got = ours.encode(text)
        assert got.input_ids.tolist() == wanted["input_ids"]
        for mine, his in zip(got.offsets.tolist(), wanted["offset_mapping"], strict=True):
            # Theirs gives white space no character, also where it is put in front of a text.
            piece = text[slice(*his)].strip()
            assert not piece or text[slice(*mine)].strip() == piece


def test_spans_of_byte_level_bpe(bpe_dir: Path) -> None:
    tokenizer = Tokenizer.from_directory(bpe_dir)
    assert pieces(tokenizer, " the cat") == ["the", "cat"]
    assert set(pieces(tokenizer, "\U0001f600")) == {"\U0001f600"}
    assert len(tokenizer.encode("\U0001f600").input_ids) > 1
    assert "".join(pieces(tokenizer, "cafe\u0301")).startswith("caf")
    assert pieces(tokenizer, "\n\n") == ["\n", "\n"]


def test_special_tokens_in_text_are_text(bpe_dir: Path) -> None:
    tokenizer = Tokenizer.from_directory(bpe_dir)
    specials = {tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id, tokenizer.pad_id}
    assert not specials & set(tokenizer.encode("<s> a </s> <mask><pad>").input_ids.tolist())


@pytest.mark.parametrize("write", [write_byte_level_bpe, write_unigram])
def test_roles_come_from_the_file_and_survive_the_artifact(write: Any, tmp_path: Path) -> None:
    write(tmp_path)
    tokenizer = Tokenizer.from_directory(tmp_path)
    again = Tokenizer.from_bytes(tokenizer.to_json())
    for one in (tokenizer, again):
        assert (one.cls_id, one.pad_id, one.sep_id, one.mask_id) == (0, 1, 2, 4)
        assert (one.num_separators, one.mask_token) == (2, "<mask>")
    assert again.to_json() == tokenizer.to_json()
    for text in TEXTS:
        assert again.encode(text).input_ids.tolist() == tokenizer.encode(text).input_ids.tolist()
        assert again.encode(text).offsets.tolist() == tokenizer.encode(text).offsets.tolist()


@pytest.mark.parametrize(
    ("pair", "wanted"),
    [
        (None, (0, 2, 2)),  # as RoBERTa joins texts, by the names of its tokens
        ("<s> $A </s> $B </s>", (0, 2, 1)),
        ("<s> $A </s> </s> $B </s>", (0, 2, 2)),
        ("<mask> $A <pad> $B <pad>", (4, 1, 1)),
    ],
)
def test_how_two_texts_are_joined(
    bpe_dir: Path, pair: str | None, wanted: tuple[int, int, int]
) -> None:
    tokenizer = Tokenizer.from_bytes(with_pair(bpe_dir, pair))
    assert (tokenizer.cls_id, tokenizer.sep_id, tokenizer.num_separators) == wanted


@pytest.mark.parametrize("pair", ["<s> $A $B </s>", "$A </s> $B </s>", "<s> $A </s> $B <pad>"])
def test_texts_that_are_joined_otherwise_are_refused(bpe_dir: Path, pair: str) -> None:
    with pytest.raises(ArtifactFormatError, match=r"two texts get the special tokens \['"):
        Tokenizer.from_bytes(with_pair(bpe_dir, pair))


def with_pair(bpe_dir: Path, pair: str | None) -> bytes:
    """Return a tokenizer.json whose template joins two texts like that; None for no template."""
    backend = load_tokenizer_files(bpe_dir).backend
    content = json.loads(backend.to_str())
    content["post_processor"] = None
    backend = tokenizers.Tokenizer.from_str(json.dumps(content))
    if pair is not None:
        names = ("<s>", "<pad>", "</s>", "<mask>")
        backend.post_processor = processors.TemplateProcessing(
            single="$A",
            pair=pair,
            special_tokens=[(name, backend.token_to_id(name)) for name in names],
        )
    return backend.to_str().encode()


def test_windows_and_pairs_have_two_separators(bpe_dir: Path) -> None:
    tokenizer = Tokenizer.from_directory(bpe_dir)
    theirs = transformers.RobertaTokenizer.from_pretrained(bpe_dir)
    ids = {"cls_id": 0, "sep_id": 2, "num_separators": 2}
    question, context = "who is the cat", " ".join(["the mat"] * 30)
    config = AnsweringConfig(max_seq_length=24, doc_stride=6, max_query_length=14)
    asked, encoding = tokenizer.encode(question), tokenizer.encode(context)
    windows = make_features(0, asked, encoding, config=config, **ids)
    wanted = theirs(
        question,
        context,
        max_length=24,
        stride=6,
        truncation="only_second",
        return_overflowing_tokens=True,
    )
    assert len(windows) > 2
    assert [window.input_ids.tolist() for window in windows] == wanted["input_ids"]
    for window in windows:
        at = window.context_offset
        assert window.input_ids[at - 2 : at].tolist() == [2, 2]
        assert window.input_ids[at : at + window.context_length].tolist() == (
            encoding.input_ids[window.context_start :][: window.context_length].tolist()
        )
    pair = make_sequence(asked, encoding, max_seq_length=20, **ids)
    assert pair.num_tokens == 20 and pair.input_ids.tolist().count(2) == 3


def test_windows_that_two_separators_keep_from_moving_are_refused(bpe_dir: Path) -> None:
    tokenizer = Tokenizer.from_directory(bpe_dir)
    encoding = tokenizer.encode("x" * 40)
    config = AnsweringConfig(max_seq_length=24, doc_stride=4, max_query_length=16)
    ids = {"cls_id": 0, "sep_id": 2}
    make_features(0, encoding, encoding, config=config, **ids)
    with pytest.raises(ConfigError, match=r"doc_stride: got 4, want less than 4 .* - 20 tokens of"):
        make_features(0, encoding, encoding, config=config, num_separators=2, **ids)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("vocab.json", "{", r"vocab\.json: not JSON"),
        ("vocab.json", '{"a": 0}', r"special tokens \['<unk>', '<s>', '</s>'\]"),
        ("merges.txt", "a b c d", r"merges\.txt: got 'a b c d' to '', want a first line '#version"),
        ("merges.txt", "#version: 0.2\na b\nt h", r"merges\.txt: .* and a line break at the end"),
        ("merges.txt", "#version: 0.2\na b c d\n", r"merges\.txt:2: got 'a b c d', want two"),
        ("merges.txt", "#version: 0.2\nqq zz\n", "with merges.txt: cannot be read"),
        ("tokenizer_config.json", '{"add_prefix_space": 1}', "add_prefix_space: got 1, want"),
    ],
)
def test_damaged_files_are_named(bpe_dir: Path, name: str, content: str, message: str) -> None:
    if content == '{"a": 0}':
        (bpe_dir / "merges.txt").write_text("#version: 0.2\n")
    (bpe_dir / name).write_text(content)
    with pytest.raises(CheckpointError, match=message):
        Tokenizer.from_directory(bpe_dir)


@pytest.mark.parametrize("name", ["sentencepiece.bpe.model", "spiece.model"])
def test_sentencepiece_alone_is_refused_with_what_to_do(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x0a\x0e")
    with pytest.raises(CheckpointError, match=rf"has {name} and no tokenizer\.json.*AutoTokenizer"):
        Tokenizer.from_directory(tmp_path)


def test_merges_alone_are_no_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    with pytest.raises(CheckpointError, match=r"neither .* nor vocab\.json with merges\.txt"):
        Tokenizer.from_directory(tmp_path)


@pytest.mark.parametrize("name", ["roberta", "xlm-roberta"])
def test_files_travel_and_are_checked_against_the_model(name: str, tmp_path: Path) -> None:
    FAMILIES[name].write_checkpoint(tmp_path / "c")
    files = read_tokenizer_files(tmp_path / "c")
    wanted = {"roberta": {"vocab.json", "merges.txt"}, "xlm-roberta": {"tokenizer.json"}}[name]
    assert files.keys() == wanted
    raw = json.loads((tmp_path / "c" / "config.json").read_bytes())
    num_tokens = raw["vocab_size"]
    if name == "roberta":
        vocab = json.loads(files["vocab.json"]) | {"more": num_tokens}
        (tmp_path / "c" / "vocab.json").write_text(json.dumps(vocab))
    else:
        content = json.loads(files["tokenizer.json"])
        content["model"]["vocab"].append(["more", -1.0])
        (tmp_path / "c" / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=rf"got {num_tokens + 1} token ids, want at most"):
        load_model(tmp_path / "c")

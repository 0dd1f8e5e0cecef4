from __future__ import annotations

import gzip
import itertools
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import train.data.corpus
from bert_rt.errors import EmptyInputError, InputError
from bert_rt.text.tokenization import Tokenizer
from tests.support.data.corpora import make_text, tokenizer_files, write_text
from tests.support.data.text import VOCAB
from train.data.corpus import Corpus, open_corpus, prepare_corpus
from train.data.text import read_documents


def _document_ids(corpus: Corpus, document: int) -> list[list[int]]:
    first, last = corpus.document_starts[document : document + 2]
    starts = corpus.sentence_starts[first : last + 1]
    return [corpus.tokens[begin:end].tolist() for begin, end in itertools.pairwise(starts)]


def test_tokens_are_those_of_the_runtime(tmp_path: Path) -> None:
    file = write_text(tmp_path / "a.txt", 20)
    # "[SEP]" as text is no special token, and a sentence of control characters has no tokens.
    with file.open("a", encoding="utf-8") as stream:
        stream.write("\nthe cat [SEP] sat on the mat in paris\n\x07\x07\nwho is the cat . " * 2)
    corpus = prepare_corpus([file], tokenizer_files(), tmp_path / "cache")
    tokenizer = Tokenizer.from_bytes(tokenizer_files()["tokenizer.json"])
    documents = list(read_documents([file], max_sentences=1000))
    assert corpus.report.num_documents == len(documents) == 21
    assert corpus.tokens.dtype == np.uint16
    for index, sentences in enumerate(documents):
        wanted = [tokenizer.encode(sentence).input_ids.tolist() for sentence in sentences]
        assert _document_ids(corpus, index) == [ids for ids in wanted if ids]
    assert tokenizer.sep_id not in corpus.tokens
    assert corpus.report.num_tokens == len(corpus.tokens)
    assert corpus.report.num_sentences == len(corpus.sentence_starts) - 1


def test_batches_do_not_change_the_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_text(tmp_path / "a.txt", 12)
    whole = prepare_corpus([file], tokenizer_files(), tmp_path / "whole")
    monkeypatch.setattr(train.data.corpus, "_BATCH_SENTENCES", 1)
    single = prepare_corpus([file], tokenizer_files(), tmp_path / "single")
    for name in ("tokens", "sentence_starts", "document_starts", "document_hashes"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(single, name))


def test_duplicates_and_near_empty_documents_are_dropped_and_counted(tmp_path: Path) -> None:
    text = make_text(5)
    # The same text in other lines, and two documents of almost nothing.
    file = tmp_path / "a.txt"
    file.write_text(f"{text}\nthe cat .\n\n{text.replace(' .', ' .  ')}\n\nwho is ?\n")
    report = prepare_corpus([file], tokenizer_files(), tmp_path / "cache").report
    assert (report.num_documents, report.num_duplicate_documents) == (5, 5)
    assert report.num_short_documents == 2
    assert "dropped 5 duplicate and 2 near-empty documents" in report.summary()


def test_unknown_tokens_are_counted(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text(make_text(1) + "\u5b57 " * 7, encoding="utf-8")
    assert prepare_corpus([file], tokenizer_files(), tmp_path).report.num_unknown_tokens == 7


def test_the_cache_is_used_and_keyed_by_all_that_matters(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    file = write_text(tmp_path / "a.txt")
    prepare_corpus([file], tokenizer_files(), cache)
    (made,) = cache.iterdir()
    stamp = (made / "tokens.bin").stat().st_mtime_ns
    # Another name for the same text.
    prepare_corpus([file.rename(tmp_path / "b.txt")], tokenizer_files(), cache)
    assert (made / "tokens.bin").stat().st_mtime_ns == stamp
    assert len(list(cache.iterdir())) == 1
    packed = tmp_path / "b.txt.gz"
    packed.write_bytes(gzip.compress((tmp_path / "b.txt").read_bytes()))
    prepare_corpus([packed], tokenizer_files(), cache)
    assert len(list(cache.iterdir())) == 2
    with (tmp_path / "b.txt").open("a") as stream:
        stream.write("the end .\n")
    prepare_corpus([tmp_path / "b.txt"], tokenizer_files(), cache)
    assert len(list(cache.iterdir())) == 3
    other = tokenizer_files()["tokenizer.json"].replace(b'"paris"', b'"parma"')
    prepare_corpus([tmp_path / "b.txt"], {"tokenizer.json": other}, cache)
    assert len(list(cache.iterdir())) == 4


def test_two_processes_at_once_end_with_one_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    file = write_text(tmp_path / "a.txt", 6)
    alone = prepare_corpus([file], tokenizer_files(), tmp_path / "alone")
    (name,) = (path.name for path in (tmp_path / "alone").iterdir())
    write = train.data.corpus._write

    def write_while_another_finishes(directory: Path, *arguments: Any) -> None:
        write(directory, *arguments)
        shutil.copytree(tmp_path / "alone" / name, cache / name)

    monkeypatch.setattr(train.data.corpus, "_write", write_while_another_finishes)
    corpus = prepare_corpus([file], tokenizer_files(), cache)
    np.testing.assert_array_equal(corpus.tokens, alone.tokens)
    assert [path.name for path in cache.iterdir()] == [name]


def test_ids_beyond_16_bits(tmp_path: Path) -> None:
    vocab = [*VOCAB, *(f"w{number}" for number in range(70_000))]
    files = {"vocab.txt": "".join(f"{token}\n" for token in vocab).encode()}
    file = tmp_path / "a.txt"
    file.write_text("w69999 w0 " * 10)
    corpus = prepare_corpus([file], files, tmp_path / "cache")
    assert corpus.tokens.dtype == np.uint32
    assert corpus.tokens.tolist() == [len(vocab) - 1, len(VOCAB)] * 10


def test_a_failed_run_leaves_nothing(tmp_path: Path) -> None:
    file = write_text(tmp_path / "a.txt")
    with file.open("ab") as stream:
        stream.write(b"\n\xff")
    with pytest.raises(InputError, match=r"a\.txt, line \d+: not UTF-8 at byte \d+: 0xff"):
        prepare_corpus([file], tokenizer_files(), tmp_path / "cache")
    assert list(tmp_path.iterdir()) == [file]


def test_an_empty_corpus_is_named(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("\n\nthe cat\n\n")
    with pytest.raises(EmptyInputError, match=r"a\.txt: got no document of at least 16 tokens"):
        prepare_corpus([file], tokenizer_files(), tmp_path / "cache")


@pytest.mark.parametrize("name", ["tokens", "sentences", "documents", "hashes"])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_damage_is_found_when_opened(name: str, damage: str, tmp_path: Path) -> None:
    prepare_corpus([write_text(tmp_path / "a.txt", 6)], tokenizer_files(), tmp_path / "cache")
    (directory,) = (tmp_path / "cache").iterdir()
    file = directory / f"{name}.bin"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    if damage == "remove":
        file.unlink()
    else:
        file.write_bytes(data if damage == "flip" else data[:-8])
    with pytest.raises(InputError, match="damaged corpus cache"):
        open_corpus(directory)


@pytest.mark.parametrize("manifest", ["[]", "{}", '{"format": "x", "version": 1}', "no JSON"])
def test_a_wrong_manifest_is_refused(manifest: str, tmp_path: Path) -> None:
    (tmp_path / "corpus.json").write_text(manifest)
    with pytest.raises(InputError, match="damaged corpus cache"):
        open_corpus(tmp_path)


def test_the_split_is_stable_and_nothing_leaks(tmp_path: Path) -> None:
    texts = make_text(300, num_sentences=3).split("\n\n")

    def held_out_texts(order: list[str], name: str) -> tuple[set[str], set[str]]:
        file = tmp_path / f"{name}.txt"
        file.write_text("\n\n".join(order))
        corpus = prepare_corpus([file], tokenizer_files(), tmp_path / "cache")
        sides = corpus.split(0.2)
        assert sorted(np.concatenate(sides).tolist()) == list(range(corpus.report.num_documents))
        training, held_out = (
            {str(_document_ids(corpus, document)) for document in side.tolist()} for side in sides
        )
        return training, held_out

    training, held_out = held_out_texts(texts, "a")
    # A share of 0.2 of 300: within four standard deviations, sqrt(300 * 0.2 * 0.8) = 6.9.
    assert abs(len(held_out) - 60) < 4 * math.sqrt(300 * 0.2 * 0.8)
    # Reversed, with every document a second time, and without some: each stays on its side.
    more_training, more_held_out = held_out_texts((texts + texts)[::-1], "b")
    assert (more_training, more_held_out) == (training, held_out)
    assert not training & held_out
    fewer_training, fewer_held_out = held_out_texts(texts[:150], "c")
    assert fewer_training < training and fewer_held_out < held_out


def test_at_least_two_documents_are_held_out_of_four(tmp_path: Path) -> None:
    corpus = prepare_corpus(
        [write_text(tmp_path / "a.txt", 8)], tokenizer_files(), tmp_path / "cache"
    )
    assert [len(side) for side in corpus.split(1e-9)] == [6, 2]
    assert [len(side) for side in corpus.split(0.0)] == [8, 0]

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from bert_rt.errors import ConfigError, EmptyInputError
from bert_rt.support.cli import run_command
from bert_rt.text.tokenization import Tokenizer
from train.vocab import SPECIAL_TOKENS, main, train_vocabulary

# Every pair of letters is as frequent as many others: merges are ties.
_TIES = " ".join(a + b + c for a in "abcdefgh" for b in "ijklmnop" for c in "qrstuv")
_TEXT = f"{_TIES}\n{_TIES}\n" + 20 * "Caf\u00e9 \u4e2d\u6587, the Cat's caf\u00e9!\nthe cat\n"


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    file = tmp_path / "corpus.txt"
    file.write_text(_TEXT, encoding="utf-8")
    return file


def _tokens(files: Mapping[str, bytes]) -> list[str]:
    return files["vocab.txt"].decode().split("\n")[:-1]


def test_ids_are_those_of_vocab_txt_and_the_runtime_reads_them(
    corpus: Path, tmp_path: Path
) -> None:
    files = train_vocabulary([corpus], vocab_size=300)
    tokens = _tokens(files)
    assert tuple(tokens[:5]) == SPECIAL_TOKENS
    assert len(tokens) == len(set(tokens)) == 300
    directory = tmp_path / "tokenizer"
    directory.mkdir()
    (directory / "vocab.txt").write_bytes(files["vocab.txt"])
    (directory / "tokenizer_config.json").write_bytes(files["tokenizer_config.json"])
    for tokenizer in (
        Tokenizer.from_bytes(files["tokenizer.json"]),
        Tokenizer.from_directory(directory),
    ):
        ids = tokenizer.encode("The CAT's caf\u00e9 \u4e2d").input_ids.tolist()
        wanted = ["the", "cat", "'", "s", "cafe", "\u4e2d"]
        assert [tokens[index] for index in ids] == wanted


def test_punctuation_and_chinese_characters_continue_no_word(corpus: Path) -> None:
    tokens = _tokens(train_vocabulary([corpus], vocab_size=300))
    assert "\u4e2d" in tokens and "!" in tokens and "##a" in tokens
    assert "##\u4e2d" not in tokens and "##!" not in tokens


def test_cased_keeps_case_and_accents(corpus: Path) -> None:
    files = train_vocabulary([corpus], vocab_size=300, cased=True)
    tokens = _tokens(files)
    assert {"C", "\u00e9"} <= set(tokens)
    tokenizer = Tokenizer.from_bytes(files["tokenizer.json"])
    assert tokens[tokenizer.encode("C").input_ids[0]] == "C"
    assert json.loads(files["tokenizer_config.json"])["do_lower_case"] is False


def test_processes_agree_to_the_byte(corpus: Path) -> None:
    # Hash tables are seeded anew in every process; so one process proves nothing.
    code = (
        "import hashlib, pathlib, sys; from train.vocab import train_vocabulary as train; "
        "files = train([pathlib.Path(sys.argv[1])], vocab_size=200); "
        "sys.stdout.write(hashlib.sha256(repr(files).encode()).hexdigest())"
    )
    root = Path(__file__).parents[3]
    hashes = {
        subprocess.run(
            [sys.executable, "-c", code, str(corpus)],
            cwd=root,
            capture_output=True,
            check=True,
            timeout=120,
        ).stdout
        for _ in range(3)
    }
    assert len(hashes) == 1


def test_min_frequency(corpus: Path) -> None:
    frequent = _tokens(train_vocabulary([corpus], vocab_size=2000, min_frequency=3))
    rare = _tokens(train_vocabulary([corpus], vocab_size=2000, min_frequency=1))
    # Every made-up word comes twice.
    assert "aiq" in rare and "aiq" not in frequent


def test_too_small_a_vocabulary_says_how_large_it_must_be(corpus: Path) -> None:
    with pytest.raises(ConfigError, match=r"vocab_size: got 20, want at least (\d+)") as caught:
        train_vocabulary([corpus], vocab_size=20)
    smallest = int(str(caught.value).split("at least ")[1].split()[0])
    assert len(_tokens(train_vocabulary([corpus], vocab_size=smallest))) == smallest


def test_no_words(tmp_path: Path) -> None:
    file = tmp_path / "blank.txt"
    file.write_text(" \n\n")
    with pytest.raises(EmptyInputError, match=r"blank\.txt: got no words"):
        train_vocabulary([file], vocab_size=100)


def test_the_command(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    packed = tmp_path / "corpus.gz"
    packed.write_bytes(gzip.compress(corpus.read_bytes()))
    out = tmp_path / "out"
    flags = ["--vocab-size", "250", "--output_dir", str(out)]
    assert run_command(main, ["--corpus", str(packed), *flags]) == 0
    assert "250 tokens, uncased" in capsys.readouterr().out
    wanted = train_vocabulary([corpus], vocab_size=250)
    assert {file.name: file.read_bytes() for file in out.iterdir()} == wanted
    # Again, into the directory that is there now.
    assert run_command(main, ["--corpus", str(corpus), *flags]) == 0
    assert {file.name: file.read_bytes() for file in out.iterdir()} == wanted
    assert run_command(main, ["--corpus", str(tmp_path / "absent"), *flags]) == 2
    assert "absent: cannot be read" in capsys.readouterr().err

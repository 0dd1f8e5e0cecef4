"""Tests of train.tasks.unanswerable."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from bert_rt.errors import ConfigError, InputError
from bert_rt.support.cli import run_command
from bert_rt.tasks.question_answering.squad import SquadExample, read_squad
from tests.support.data.articles import make_articles
from train.tasks.question_answering.squad_file import squad_document
from train.tasks.unanswerable.command import (
    KINDS,
    add_unanswerable,
    main,
    split_articles,
)
from train.tasks.unanswerable.passage_swaps import holds_answer
from train.tasks.unanswerable.wording import content_words, words_of


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> list[SquadExample]:
    return read_squad(make_articles(tmp_path_factory.mktemp("squad") / "train.json"))


def kind_of(example: SquadExample) -> str:
    return example.id.rpartition("-")[2]


def source_of(example: SquadExample, examples: list[SquadExample]) -> SquadExample:
    (source,) = [e for e in examples if e.id == example.id.rpartition("-")[0]]
    return source


@pytest.mark.parametrize("share", [0.01, 1 / 3, 0.5, 0.6])
def test_the_share_is_as_wanted_and_no_answer_is_lost(
    examples: list[SquadExample], share: float
) -> None:
    result = add_unanswerable(examples, share=share, seed=0)
    assert [e for e in result if not e.is_impossible] == examples
    impossible = [e for e in result if e.is_impossible]
    assert len(impossible) / len(result) == pytest.approx(share, abs=1 / len(result))
    assert len({e.id for e in result}) == len(result)
    assert not any(e.answers for e in impossible)


def test_no_question_has_an_answer_by_construction(examples: list[SquadExample]) -> None:
    asked = {(e.question, e.context) for e in examples}
    impossible = [e for e in add_unanswerable(examples, share=0.6, seed=1) if e.is_impossible]
    assert set(map(kind_of, impossible)) == set(KINDS)
    for new in impossible:
        source = source_of(new, examples)
        assert new.title == source.title
        assert (new.question, new.context) not in asked
        if kind_of(new) in ("other_paragraph", "removed_sentence"):
            assert new.question == source.question
            assert new.context != source.context
            assert not holds_answer(new.context, source.answers)
        else:
            assert new.question.lower() != source.question.lower()
            assert new.context == source.context


def test_new_questions_are_as_close_to_their_paragraphs_as_others(
    examples: list[SquadExample],
) -> None:
    for new in add_unanswerable(examples, share=0.5, seed=2):
        words = content_words(new.question)
        num_shared = len(words & set(words_of(new.context)))
        assert 2 * num_shared >= len(words) or not new.is_impossible


def test_kinds_are_mixed(examples: list[SquadExample]) -> None:
    result = add_unanswerable(examples, share=1 / 3, seed=0)
    counts = Counter(kind_of(e) for e in result if e.is_impossible)
    assert set(counts) == set(KINDS)
    assert counts["name"] == max(counts.values())


def test_the_seed_decides(examples: list[SquadExample]) -> None:
    first, again, other = (add_unanswerable(examples, share=0.3, seed=s) for s in (5, 5, 6))
    assert first == again != other


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5, float("nan")])
def test_shares_out_of_range(examples: list[SquadExample], share: float) -> None:
    with pytest.raises(ConfigError, match=r"unanswerable_share: got .*, want a number above 0"):
        add_unanswerable(examples, share=share, seed=0)


def test_more_than_the_questions_yield(examples: list[SquadExample]) -> None:
    with pytest.raises(ConfigError, match=r"got 0.95, want at most 0\.\d+: these questions yield"):
        add_unanswerable(examples, share=0.95, seed=0)


def test_questions_that_cannot_be_used(examples: list[SquadExample]) -> None:
    with pytest.raises(InputError, match="got 0 questions"):
        add_unanswerable([], share=0.3, seed=0)
    bad = replace(examples[3], answers=(), answer_starts=(), is_impossible=True)
    with pytest.raises(InputError, match=f"question '{bad.id}' has no answer already"):
        add_unanswerable([*examples[:3], bad], share=0.3, seed=0)
    taken = [replace(e, id=f"{e.id}-{kind}") for e in examples for kind in KINDS]
    with pytest.raises(InputError, match="this id is wanted"):
        add_unanswerable([*examples, *taken], share=0.3, seed=0)


def test_articles_are_set_aside_as_a_whole(examples: list[SquadExample]) -> None:
    kept, held_out = split_articles(examples, fraction=0.3, seed=0)
    assert sorted(e.id for e in (*kept, *held_out)) == sorted(e.id for e in examples)
    assert not {e.title for e in kept} & {e.title for e in held_out}
    assert len(held_out) == len(examples) // 2
    for fraction in (0.0, 1.0, 0.9):
        with pytest.raises(ConfigError, match="held_out_fraction: got"):
            split_articles(examples, fraction=fraction, seed=0)


def test_the_document_is_read_back(examples: list[SquadExample], tmp_path: Path) -> None:
    result = add_unanswerable(examples, share=0.4, seed=0)
    file = tmp_path / "v2.json"
    file.write_text(json.dumps(squad_document(result)))
    assert sorted(read_squad(file), key=lambda e: e.id) == sorted(result, key=lambda e: e.id)
    document = json.loads(file.read_text())
    assert document["version"] == "v2.0"
    for article in document["data"]:
        contexts = [paragraph["context"] for paragraph in article["paragraphs"]]
        assert len(set(contexts)) == len(contexts)


def test_the_command_writes_the_same_bytes_in_every_process(tmp_path: Path) -> None:
    train = make_articles(tmp_path / "train.json")
    written = []
    for number in range(2):
        names = [tmp_path / f"{name}-{number}.json.gz" for name in ("train", "dev")]
        command = [sys.executable, "-m", "train.unanswerable", "--train_file", str(train)]
        command += ["--output_file", str(names[0]), "--held_out_file", str(names[1])]
        command += ["--unanswerable-share", "0.3", "--held_out_fraction", "0.2"]
        environment = {**os.environ, "PYTHONHASHSEED": str(number)}
        subprocess.run(command, check=True, env=environment, timeout=100, capture_output=True)
        written.append([name.read_bytes() for name in names])
    assert written[0] == written[1]
    parts = [read_squad(tmp_path / f"{name}-0.json.gz") for name in ("train", "dev")]
    for part, share in zip(parts, (0.3, 0.5), strict=True):
        assert sum(e.is_impossible for e in part) == pytest.approx(share * len(part), abs=1)
    assert not {e.title for e in parts[0]} & {e.title for e in parts[1]}


def test_the_command_names_what_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train, out, result = (tmp_path / name for name in ("train.json", "v2.json", "r.json"))
    make_articles(train)
    argv = ["--train_file", str(train), "--output_file", str(out)]
    assert run_command(main, [*argv, "--held_out_file", str(out)]) == 2
    assert "which is the output_file, too" in capsys.readouterr().err
    before = train.read_bytes()
    assert run_command(main, ["--train_file", str(train), "--output_file", str(train)]) == 2
    assert "which is the train_file, too" in capsys.readouterr().err
    assert train.read_bytes() == before
    assert run_command(main, [*argv, "--unanswerable_share", "2"]) == 2
    assert "unanswerable_share: got 2.0" in capsys.readouterr().err
    assert not out.exists()
    assert run_command(main, [*argv, "--json", str(result)]) == 0
    assert "100 questions, 50 without" not in capsys.readouterr().out
    counts = json.loads(result.read_text())[str(out)]
    assert counts["impossible"] == sum(counts[kind] for kind in KINDS)
    assert run_command(main, ["--train_file", str(out), "--output_file", str(tmp_path / "x")]) == 2
    assert f"{out}: question " in capsys.readouterr().err

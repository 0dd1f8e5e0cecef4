"""Tests of train.tasks.pseudo_label."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bert_rt import Runtime
from bert_rt.errors import InputError
from bert_rt.support.cli import run_command
from bert_rt.tasks.question_answering.squad import SquadExample, read_squad
from tests.support.artifacts import write_tiny_classifier
from tests.support.data.articles import make_articles
from train.tasks.pseudo_label import add_questions, main


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> list[SquadExample]:
    return read_squad(make_articles(tmp_path_factory.mktemp("squad") / "train.json"))


@pytest.fixture(scope="module")
def runtime() -> Iterator[Runtime]:
    with Runtime.load(num_threads=1) as runtime:
        yield runtime


def test_passages_are_asked_what_others_of_their_article_are(
    examples: list[SquadExample], runtime: Runtime
) -> None:
    result = add_questions(examples, runtime, per_passage=3, seed=0)
    sources = {example.id: example for example in examples}
    assert [example for example in result if example.id in sources] == examples
    new = [example for example in result if example.id not in sources]
    assert len({example.id for example in result}) == len(result)
    assert set(Counter(example.context for example in new).values()) == {3}
    for example in new:
        source = sources[str(example.id).partition("-over-")[0]]
        assert (example.title, example.question) == (source.title, source.question)
        assert example.context != source.context
        (answer,), (start,) = example.answers, example.answer_starts
        assert answer and example.context[start:].startswith(answer)
        assert answer == runtime.answer(example.question, example.context).text
    titles = [example.title for example in result]
    assert titles == sorted(titles)  # behind their articles


def test_the_seed_decides_and_an_article_may_have_no_more(
    examples: list[SquadExample], runtime: Runtime
) -> None:
    first, again, other = (
        add_questions(examples, runtime, per_passage=2, seed=seed) for seed in (1, 1, 2)
    )
    assert first == again != other
    alone = [example for example in examples if example.context == examples[0].context]
    assert add_questions(alone, runtime, per_passage=2, seed=0) == alone


def test_an_id_that_is_taken_is_named(examples: list[SquadExample], runtime: Runtime) -> None:
    made = add_questions(examples, runtime, per_passage=1, seed=0)
    (taken, *_) = [example.id for example in made if "-over-" in str(example.id)]
    renamed = [replace(examples[0], title="another", id=taken), *examples]
    with pytest.raises(InputError, match=f"'{taken}': this id is wanted for a new question"):
        add_questions(renamed, runtime, per_passage=100, seed=0)


def test_what_cannot_be_asked_is_named(
    examples: list[SquadExample],
    runtime: Runtime,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    impossible = replace(examples[0], answers=(), answer_starts=(), is_impossible=True)
    with pytest.raises(InputError, match="has no answer, want questions that have one"):
        add_questions([impossible, *examples[1:]], runtime, per_passage=1, seed=0)
    train = make_articles(tmp_path / "train.json")
    before = train.read_bytes()
    argv = ["--train_file", str(train), "--output_file"]
    assert run_command(main, [*argv, str(tmp_path / "." / "train.json")]) == 2
    assert "output_file: got" in (err := capsys.readouterr().err)
    assert "which is the train_file, too" in err
    classifier = tmp_path / "classifier"
    write_tiny_classifier(classifier)
    out = tmp_path / "out.json"
    assert run_command(main, [*argv, str(out), "--artifact", str(classifier)]) == 2
    assert "artifact: got one of text-classification" in capsys.readouterr().err
    assert train.read_bytes() == before and not out.exists()


def test_the_command_writes_what_training_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train, out, summary = (tmp_path / name for name in ("train.json", "out.json.gz", "r.json"))
    make_articles(train)
    argv = ["--train_file", str(train), "--output_file", str(out), "--json", str(summary)]
    assert run_command(main, [*argv, "--questions_per_passage", "2"]) == 0
    counts = json.loads(summary.read_text())
    assert f"{counts['total']} questions, {counts['new']} of them new" in capsys.readouterr().out
    assert len(read_squad(out, check_positions=True)) == counts["total"]
    assert counts["new"] == 2 * 4 * 5
    first = out.read_bytes()
    assert run_command(main, [*argv, "--questions_per_passage", "2"]) == 0
    assert out.read_bytes() == first

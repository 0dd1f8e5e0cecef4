"""Tests of bert_rt.tasks.summarization.rouge and lead."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from bert_rt.support.cli import run_command
from bert_rt.tasks.summarization.documents import SummarizedText
from bert_rt.tasks.summarization.lead import compare_with_lead, lead
from bert_rt.tasks.summarization.rouge import best_rouge, rouge_convention

# By hand: (words in common, with their ends taken off) 2 * hits / (words of both).
CASES = [
    ("The cats sat on the mat.", "A cat was on the mats", [800 / 12, 400 / 10, 800 / 12]),
    ("running", "runs", [100, 0, 100]),
    ("x", "y", [0, 0, 0]),
    ("?", "!", [0, 0, 0]),
]


@pytest.mark.parametrize(("summary", "reference", "want"), CASES)
def test_rouge_has_a_stemmer(summary: str, reference: str, want: list[float]) -> None:
    assert best_rouge(summary, [reference]) == pytest.approx(want)
    assert best_rouge(reference, [summary]) == pytest.approx(want)


def test_the_reference_of_the_highest_rouge_1_gives_all_three() -> None:
    # ROUGE-2 alone would take the second one.
    references = ["z z z z", "a b x x x x x", "c b a", "x"]
    one, two, longest = best_rouge("a b c", references)
    assert (one, two) == (100, 0) and longest == pytest.approx(100 / 3)
    assert "rouge-score 0." in rouge_convention() and "stemmer" in rouge_convention()


def test_the_package_is_imported_when_something_is_scored() -> None:
    code = (
        "import sys, bert_rt.tasks.registry as r, bert_rt.tasks.summarization.evaluation\n"
        "assert not {'rouge_score', 'nltk', 'absl'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=100)


def test_without_the_package_a_command_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from bert_rt.tasks.summarization import rouge

    monkeypatch.setitem(sys.modules, "rouge_score", None)
    monkeypatch.setitem(sys.modules, "rouge_score.rouge_scorer", None)
    rouge._scorer.cache_clear()

    def score(argv: object) -> int:
        del argv
        return int(best_rouge("a", ["a"])[0])

    assert run_command(score, []) == 2
    want = "error: rouge_score is not installed; pip install 'bert-rt[evaluate]'\n"
    assert capsys.readouterr().err == want


def test_figures_beside_the_first_sentences() -> None:
    text = "The cat sat. The dog ran! Who was it?"
    assert lead(text, 2) == "The cat sat. The dog ran!" and lead(text, 9) == text
    rows = [SummarizedText(text, (("cat sat", "dog ran")[n % 2],), "here") for n in range(40)]
    got = compare_with_lead(rows, np.array([[70.0, 50.0, 60.0]] * 40), 1)
    # The first sentence is right of every other text only: 2 of its 3 words, 1 of its 2 pairs.
    first = best_rouge("The cat sat.", ["cat sat"])
    assert got.lead == pytest.approx([value / 2 for value in first])
    assert got.interval == ((70, 70), (50, 50), (60, 60))
    for (low, high), mine, base in zip(got.gain_interval, (70, 50, 60), got.lead, strict=True):
        assert low < mine - base < high
        # The deviation of a mean of 40 draws of 0 or 2 * base is base / sqrt(40).
        assert high - low == pytest.approx(2 * 1.96 * base / 40**0.5, rel=0.15)
    assert got == compare_with_lead(rows, np.array([[70.0, 50.0, 60.0]] * 40), 1)

"""Tests of bert_rt.tasks.translation.scores."""

from __future__ import annotations

import sys

import pytest

from bert_rt.support.cli import run_command
from bert_rt.tasks.translation.scores import bleu_of, bleu_statistics, score_translations

REFERENCES = ["Ein Hund rennt durch den Schnee.", "Zwei Kinder spielen im Park ."]


def test_the_scores_of_known_translations() -> None:
    perfect = score_translations(REFERENCES, REFERENCES)
    assert perfect.bleu == pytest.approx(100) and perfect.chrf == pytest.approx(100)
    # Of 13 tokens 12 are right, of 11 pairs 9, of 9 triples 6, of 7 quadruples 4.
    given = ["Ein Hund rennt durch den Schnee .", "Zwei Kinder sitzen im Park."]
    want = 100 * (12 / 13 * 9 / 11 * 6 / 9 * 4 / 7) ** 0.25
    scores = score_translations(given, REFERENCES)
    assert scores.bleu == pytest.approx(want)
    assert 0 < scores.chrf < 100


def test_case_counts_and_the_signature_says_so() -> None:
    scores = score_translations([text.lower() for text in REFERENCES], REFERENCES)
    assert scores.bleu < 60
    assert "case:mixed" in scores.bleu_signature and "tok:13a" in scores.bleu_signature
    assert "nc:6" in scores.chrf_signature and "version:" in scores.chrf_signature


def test_without_the_package_a_command_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("sacrebleu", "sacrebleu.metrics", "sacrebleu.metrics.bleu"):
        monkeypatch.setitem(sys.modules, name, None)

    def score(argv: object) -> int:
        del argv
        return int(score_translations(REFERENCES, REFERENCES).bleu)

    assert run_command(score, []) == 2
    want = "error: sacrebleu is not installed; pip install 'bert-rt[evaluate]'\n"
    assert capsys.readouterr().err == want


def test_sums_of_statistics_are_those_of_all_texts() -> None:
    given = ["a cat sat on the mat", "the dog ran", "a b c d e", "so"]
    references = ["a cat sat on a mat", "the dog ran fast", "a b c d e", "no"]
    statistics = bleu_statistics(given, references)
    assert statistics.shape == (4, 10)
    for rows in ([0, 1, 2, 3], [0, 2], [1, 3, 3], [3]):
        want = score_translations([given[i] for i in rows], [references[i] for i in rows]).bleu
        assert bleu_of(statistics[rows].sum(axis=0)) == pytest.approx(want, abs=1e-9)

"""Answers over every kind of tokenizer stand where those of Transformers 4.57 stand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from bert_rt import pipeline
from tests.golden.spans.span_cases import GOLDEN_FILE, KINDS, NUM_CALLS, make_calls, write_kind

_GOLDEN = json.loads(GOLDEN_FILE.read_text())
# The file keeps six digits, and two programs agree within float32 rounding of their logits.
_ATOL = 1e-5


def spans_above(answers: list[list[Any]], least: float) -> set[tuple[int, int]]:
    return {(start, end) for score, start, end in answers if score > least}


def check(got: list[dict[str, Any]], want: list[list[Any]], context: str, place: str) -> None:
    """Compare answers; those whose scores are equal within rounding may come in any order."""
    ours = [[a["score"], a["start"], a["end"]] for a in got]
    message = f"{place}: got {ours}, want {want}"
    assert [score for score, _, _ in ours] == pytest.approx([s for s, _, _ in want], abs=_ATOL), (
        message
    )
    last = want[-1][0] if want else 0.0
    for near in [score for score, _, _ in want[:-1]] if len(want) > 1 else []:
        assert spans_above(ours, near + 2 * _ATOL) <= spans_above(want, near - 2 * _ATOL), message
        assert spans_above(want, near + 2 * _ATOL) <= spans_above(ours, near - 2 * _ATOL), message
    if last > 4 * _ATOL and (len(want) == 1 or want[-2][0] - last > 4 * _ATOL):
        assert ours[-1][1:] == want[-1][1:], message
    assert all(context[a["start"] : a["end"]] == a["answer"] for a in got), message


def test_the_golden_answers_are_of_the_release_that_we_replace() -> None:
    assert _GOLDEN["versions"]["transformers"].startswith("4.57.")
    assert {name: len(_GOLDEN[name]) for name in KINDS} == dict.fromkeys(KINDS, NUM_CALLS)


@pytest.mark.parametrize("name", KINDS)
def test_same_spans(name: str, tmp_path: Path) -> None:
    write_kind(name, tmp_path)
    num_threads = torch.get_num_threads()
    wrong = []
    with pipeline("question-answering", tmp_path) as pipe:
        for index, call in enumerate(make_calls(name)):
            result = pipe(**call)
            answers = result if isinstance(result, list) else [result]
            try:
                check(answers, _GOLDEN[name][index], call["context"], f"{name}[{index}]")
            except AssertionError as error:
                wrong.append(f"{call}\n{error}")
    torch.set_num_threads(num_threads)
    assert not wrong, f"{len(wrong)} of {NUM_CALLS}:\n" + "\n".join(wrong[:5])


def test_a_span_has_no_space_that_belongs_to_a_token_alone(tmp_path: Path) -> None:
    write_kind("bpe-small", tmp_path)
    num_threads = torch.get_num_threads()
    with pipeline("question-answering", tmp_path) as pipe:
        answers = pipe(question="who won?", context="The team \ud55c\uad6d won.", top_k=12)
    torch.set_num_threads(num_threads)
    assert ("\ud55c\uad6d", 9, 11) in {(a["answer"], a["start"], a["end"]) for a in answers}

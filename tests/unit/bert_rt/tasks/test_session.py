"""Tests of bert_rt.tasks.session: chunks, caching, order and errors at their place."""

from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest

from bert_rt.api import Runtime
from bert_rt.errors import EmptyInputError
from bert_rt.tasks import session as session_module
from bert_rt.tasks.base import CallOptions
from bert_rt.tasks.question_answering.answering import QuestionAnswering
from bert_rt.tasks.session import Session
from tests.support.artifacts import LIMITS, PAIRS, write_tiny_artifact

TASK = QuestionAnswering()
OPTIONS = CallOptions(limits=LIMITS)


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    path = tmp_path_factory.mktemp("session") / "artifact"
    write_tiny_artifact(path)
    with Runtime.load(path, engine="onnxruntime", num_threads=1) as runtime:
        yield runtime.session


def test_chunks_do_not_change_answers(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = list(PAIRS) * 4
    want = list(session.stream(TASK, pairs, OPTIONS))
    assert len(want) == len(pairs)
    for name, value in (("_CHUNK_ITEMS", 3), ("_CHUNK_CHARS", 40)):
        monkeypatch.setattr(session_module, name, value)
        got = list(session.stream(TASK, iter(pairs), OPTIONS))
        assert [(a.text, a.start) for a in got] == [(a.text, a.start) for a in want]


def test_an_endless_stream_is_answered_in_bounded_memory(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "_CHUNK_ITEMS", 8)
    taken = itertools.count()
    num_taken = 0

    def endless() -> Iterator[tuple[str, str]]:
        nonlocal num_taken
        for num_taken in taken:
            yield f"who is {num_taken}", f"{num_taken} is the cat. " * 4

    answers = session.stream(TASK, endless(), OPTIONS)
    for number, answer in enumerate(itertools.islice(answers, 40)):
        assert answer.text in f"{number} is the cat. " * 4
        assert num_taken < number + 8  # never more than a chunk ahead
    tracemalloc.start()
    try:
        for answer in itertools.islice(answers, 400):
            assert answer.score > 0
        assert tracemalloc.get_traced_memory()[0] < 1_000_000
    finally:
        tracemalloc.stop()
        answers.close()


def test_a_bad_pair_raises_at_its_place(session: Session) -> None:
    answers = session.stream(TASK, [*PAIRS[:2], ("", "x"), PAIRS[2]], OPTIONS)
    assert next(answers).text in PAIRS[0][1]
    assert next(answers).text in PAIRS[1][1]
    with pytest.raises(EmptyInputError, match=r"pairs\[2\]\.question: got ''"):
        next(answers)


def test_text_without_a_token_raises_at_its_place(session: Session) -> None:
    answers = session.stream(TASK, [PAIRS[0], ("who", "\u0301\u200b"), PAIRS[1]], OPTIONS)
    next(answers)
    with pytest.raises(EmptyInputError, match=r"pairs\[1\]\.context: got text without a single"):
        next(answers)


def test_an_error_of_the_iterable_comes_after_the_answers_before_it(session: Session) -> None:
    def pairs() -> Iterator[tuple[str, str]]:
        yield PAIRS[0]
        raise OSError("the disk is gone")

    answers = session.stream(TASK, pairs(), OPTIONS)
    next(answers)
    with pytest.raises(OSError, match="the disk is gone"):
        next(answers)


def test_nothing_is_answered_with_nothing(session: Session) -> None:
    assert list(session.stream(TASK, [], OPTIONS)) == []


class CountingTokenizer:
    """Counts the texts that are encoded."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.texts: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def encode(self, text: str) -> Any:
        self.texts.append(text)
        return self._inner.encode(text)

    def encode_batch(self, texts: list[str]) -> Any:
        self.texts += texts
        return self._inner.encode_batch(texts)


def test_a_context_is_encoded_once(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    counting = CountingTokenizer(session.tokenizer)
    monkeypatch.setattr(session, "tokenizer", counting)
    context = "the cat in paris sat on it"
    list(session.stream(TASK, [(f"who {i}", context) for i in range(40)], OPTIONS))
    list(session.stream(TASK, [("where", context)], OPTIONS))
    assert counting.texts.count(context) == 1
    assert len(counting.texts) == 42


def test_the_cache_is_bounded(session: Session) -> None:
    long_context = "the cat " * 5000
    pairs = [("who", f"cat {i}") for i in range(200)] + [("who", long_context)]
    assert len(list(session.stream(TASK, pairs, OPTIONS))) == 201
    assert len(session._cache) == session_module._CACHE_TEXTS
    assert long_context not in session._cache
    assert "cat 199" in session._cache

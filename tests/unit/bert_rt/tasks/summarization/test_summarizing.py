"""Tests of bert_rt.tasks.summarization.summarizing, documents and the methods of Runtime."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bert_rt import Summary
from bert_rt.api import Runtime
from bert_rt.errors import ArtifactFormatError, EmptyInputError, EngineInternalError, InputError
from bert_rt.model.config import to_dict
from bert_rt.support.faults import Dropped
from bert_rt.tasks.selftest import make_self_test
from bert_rt.tasks.summarization.documents import read_documents
from bert_rt.tasks.summarization.evaluation import evaluate_summaries
from bert_rt.tasks.summarization.rouge import best_rouge
from bert_rt.tasks.summarization.summarizing import Summarization
from bert_rt.text.sentences import sentence_spans
from tests.support.artifacts import SUMMARY_LIMITS, write_tiny_summarizer

TASK = Summarization()
TEXT = (
    "The cat sat on the mat. Dr. Who is in Paris!  Is it 42?\n\n"
    "A line without an end\n \nThe cat sat on the mat in Paris. (Unaffable.) Who is it"
)
LONG = "The cat sat on mat 42. Who is in Paris? Unaffable a b c d. " * 12


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    path = tmp_path_factory.mktemp("summarizer") / "artifact"
    write_tiny_summarizer(path)
    with Runtime.load(path, engine="onnxruntime") as opened:
        yield opened


def check(summary: Summary, text: str, count: int) -> None:
    spans = sentence_spans(text)
    assert len(summary.sentences) <= count
    for sentence in summary.sentences:
        assert text[sentence.start : sentence.end] == sentence.text
        assert spans[sentence.index] == (sentence.start, sentence.end)
        assert 0 <= sentence.score <= 1
    indices = [sentence.index for sentence in summary.sentences]
    assert indices == sorted(set(indices))
    assert summary.text == " ".join(sentence.text for sentence in summary.sentences)


@pytest.mark.parametrize("text", [TEXT, LONG, "x", "\u4e2d\u6587 \U0001f600", "a b " * 3000])
@pytest.mark.parametrize("count", [1, 3, 50])
def test_sentences_are_slices_in_order(runtime: Runtime, text: str, count: int) -> None:
    summary = runtime.summarize(text, max_sentences=count, trigram_blocking=False)
    check(summary, text, count)
    assert len(summary.sentences) == min(count, len(sentence_spans(text)))


def test_the_best_are_chosen(runtime: Runtime) -> None:
    every = runtime.summarize(TEXT, max_sentences=50, trigram_blocking=False).sentences
    best = sorted(every, key=lambda s: -s.logit)[:3]
    got = runtime.summarize(TEXT, trigram_blocking=False)
    assert {s.index for s in got.sentences} == {s.index for s in best}
    blocked = runtime.summarize(TEXT, max_sentences=50)
    # Of the two sentences about the cat on the mat one is left.
    assert sum("sat on the mat" in s.text for s in blocked.sentences) == 1


def test_the_beginning_of_a_document(tmp_path: Path) -> None:
    """With one window, what stands behind it changes nothing, however long it is."""
    limits = {**to_dict(SUMMARY_LIMITS), "max_windows": 1}
    write_tiny_summarizer(tmp_path / "artifact", limits=limits)
    with Runtime.load(tmp_path / "artifact", engine="onnxruntime") as one:
        got = one.summarize(LONG * 200, max_sentences=50, trigram_blocking=False)
        assert got == one.summarize(LONG, max_sentences=50, trigram_blocking=False)
    check(got, LONG, 50)
    assert 1 < len(got.sentences) < len(sentence_spans(LONG))
    assert [sentence.index for sentence in got.sentences] == [*range(len(got.sentences))]


def test_an_artifact_without_a_limit_of_later(tmp_path: Path) -> None:
    limits = to_dict(SUMMARY_LIMITS)
    del limits["max_windows"]
    write_tiny_summarizer(tmp_path / "artifact", limits=limits)
    with Runtime.load(tmp_path / "artifact", engine="onnxruntime") as opened:
        assert opened.options().limits == SUMMARY_LIMITS
    for name in ("doc_stride", "max_sentences"):
        short = {key: value for key, value in limits.items() if key != name}
        write_tiny_summarizer(tmp_path / name, limits=short)
        with pytest.raises(ArtifactFormatError, match=r"limits: got .*, want the fields"):
            Runtime.load(tmp_path / name, engine="onnxruntime")


def test_batch_stream_and_async_give_the_same(runtime: Runtime) -> None:
    texts = [TEXT, LONG, "the cat"] * 3
    one = [runtime.summarize(text, max_sentences=2) for text in texts]

    async def ask() -> list[Summary]:
        calls = (runtime.summarize_async(text, max_sentences=2) for text in texts)
        return list(await asyncio.gather(*calls))

    for got in (
        runtime.summarize_batch(texts, max_sentences=2),
        [*runtime.summarize_stream(texts, max_sentences=2)],
        asyncio.run(ask()),
    ):
        assert [summary.text for summary in got] == [summary.text for summary in one]


@pytest.mark.parametrize("count", [0, -1, 10_001, 1.5, True, "3"])
def test_numbers_of_sentences_that_are_none(runtime: Runtime, count: Any) -> None:
    with pytest.raises(InputError, match=r"max_sentences: got .*, want an integer from 1 to 10000"):
        runtime.summarize(TEXT, max_sentences=count)


@pytest.mark.parametrize(
    ("item", "kind", "message"),
    [
        ("", EmptyInputError, "text: got ''"),
        ("\u200b", EmptyInputError, "text: got text without a single token"),
        (["a"], InputError, "text: got list, want str"),
    ],
)
def test_bad_input_is_named(runtime: Runtime, item: Any, kind: type, message: str) -> None:
    with pytest.raises(kind, match=f"^{message}"):
        runtime.summarize(item)
    with pytest.raises(kind, match=rf"^texts\[1\]\.{message}"):
        runtime.summarize_batch(["the cat", item])


def test_infinite_logits_are_an_error(runtime: Runtime) -> None:
    (item,) = TASK.prepare(["The cat. The mat."], runtime.session, runtime.options())
    logits = np.full((item.windows[0].num_tokens, 1), np.inf, np.float32)
    with pytest.raises(EngineInternalError, match="logits: got NaN"):
        TASK.decode(item, [{"logits": logits}], runtime.options())


def test_the_self_test_of_an_artifact(runtime: Runtime, tmp_path: Path) -> None:
    items = make_self_test(runtime.session, TASK, [TEXT], runtime.options())
    assert len(items[0]["logits"]) == len(sentence_spans(TEXT))
    write_tiny_summarizer(tmp_path / "good", self_test=items)
    Runtime.load(tmp_path / "good", engine="onnxruntime").close()
    write_tiny_summarizer(tmp_path / "bad", self_test=(items[0] | {"logits": [0.0]},))
    with pytest.raises(Exception, match=r"self_test\[0\]\.logits: got "):
        Runtime.load(tmp_path / "bad", engine="onnxruntime")
    write_tiny_summarizer(tmp_path / "labels", labels=("a",))
    with pytest.raises(ArtifactFormatError, match="want none for summarization"):
        Runtime.load(tmp_path / "labels", engine="onnxruntime")


def test_files_are_read_and_evaluated(runtime: Runtime, tmp_path: Path) -> None:
    rows = [
        {"source": ["The cat sat.", "Who is it?"], "target": ["a cat sat", "who"]},
        {"text": TEXT, "summary": "The cat sat on the mat in Paris."},
    ]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    examples = read_documents(path)
    assert examples[0].text == "The cat sat. Who is it?"
    assert examples[0].references == ("a cat sat", "who")
    result = evaluate_summaries(runtime, examples)
    assert [*result.metrics] == ["rouge1", "rouge2", "rougeL"] and result.total == 2
    want = best_rouge(result.summaries[0].text, examples[0].references)
    assert result.rouge_Q3[0].tolist() == pytest.approx(want)
    assert result.predictions["1"] == result.summaries[1].text
    assert "ROUGE-1 / 2 / L" in result.describe() and result.to_dict()["total"] == 2
    with pytest.raises(InputError, match="examples: got 0 texts"):
        evaluate_summaries(runtime, [])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": "a"}, r"got the fields \['text'\]; want one of 'summary'"),
        ({"text": "a", "source": "b", "summary": "c"}, "got the fields .*want one of 'text'"),
        ({"text": " ", "summary": "c"}, "text: got ' '"),
        ({"text": ["a", 3], "summary": "c"}, r"text\[1\]: got int, want str"),
        ({"text": "a", "summary": []}, "summary: got none, want at least one"),
    ],
)
def test_faults_of_files_are_named(row: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"text": "a", "summary": "b"}) + "\n" + json.dumps(row) + "\n")
    with pytest.raises(InputError, match=f"line 2: {message}"):
        read_documents(path)
    dropped = Dropped()
    assert len(read_documents(path, dropped=dropped)) == 1 and dropped.items == 1

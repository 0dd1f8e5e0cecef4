"""Texts in, translations out: sentences, searches, alternatives, and what is refused."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from bert_rt import Runtime
from bert_rt.artifact.artifact import build_artifact
from bert_rt.errors import (
    ArtifactFormatError,
    DeadlineExceededError,
    EmptyInputError,
    EngineError,
    InputError,
)
from bert_rt.generation.config import GenerationConfig
from bert_rt.tasks.base import CallOptions
from bert_rt.tasks.selftest import make_self_test
from bert_rt.tasks.translation.sources import make_sources
from tests.support import seq2seq_artifacts
from tests.support.data.text import make_tokenizer

pytestmark = pytest.mark.timeout(600)
DOCUMENT = "  The cat sat. Who is in Paris?\n\nThe mat, on the mat.\n"
_SEARCH = GenerationConfig(decoder_start_token_id=2, eos_token_ids=(3,), pad_token_id=0)


@pytest.fixture(scope="module")
def runtime() -> Iterator[Runtime]:
    artifact = seq2seq_artifacts.make_artifact()
    with Runtime.open(artifact, engine="onnxruntime", num_threads=1) as opened:
        yield opened


def test_a_document_is_translated_sentence_by_sentence(runtime: Runtime) -> None:
    found = runtime.translate(DOCUMENT)
    sources = [DOCUMENT[sentence.start : sentence.end] for sentence in found.sentences]
    assert sources == ["The cat sat.", "Who is in Paris?", "The mat, on the mat."]
    alone = [runtime.translate(source).text for source in sources]
    assert found.text == f"{alone[0]} {alone[1]}\n\n{alone[2]}".strip()
    assert [sentence.text for sentence in found.sentences] == alone
    whole = runtime.translate(DOCUMENT, split_sentences=False)
    assert len(whole.sentences) == 1 and whole.text != found.text


def test_texts_together_are_texts_alone(runtime: Runtime) -> None:
    texts = ["the cat", DOCUMENT, "who sat on the mat in paris", "x 42"]
    together = runtime.translate_batch(texts, num_beams=3)
    assert together == list(runtime.translate_stream(texts, num_beams=3))
    for text, found in zip(texts, together, strict=True):
        (alone,) = [runtime.translate(text, num_beams=3)]
        assert [s.token_ids for s in alone.sentences] == [s.token_ids for s in found.sentences]
    later = asyncio.run(runtime.translate_async("the cat", num_beams=3))
    assert later.text == together[0].text


def test_the_search_is_the_callers(runtime: Runtime) -> None:
    (best,) = runtime.translate("who sat on the mat", top_k=3).sentences
    scores = [best.score, *(other.score for other in best.alternatives)]
    assert len(scores) == 3 and scores == sorted(scores, reverse=True)
    assert len({best.token_ids, *(other.token_ids for other in best.alternatives)}) == 3
    (short,) = runtime.translate("who sat on the mat", max_new_tokens=2).sentences
    assert len(short.token_ids) == 3
    (long,) = runtime.translate("who sat on the mat", min_new_tokens=15, num_beams=1).sentences
    assert len(long.token_ids) >= 16
    (plain,) = runtime.translate("who sat", no_repeat_ngram_size=1, num_beams=2).sentences
    assert len(set(plain.token_ids)) == len(plain.token_ids)


@pytest.mark.parametrize("num_beams", [1, 3])
def test_a_translation_is_shown_as_it_grows(runtime: Runtime, num_beams: int) -> None:
    asked = {"num_beams": num_beams, "no_repeat_ngram_size": 2}
    shown = list(runtime.translate_live(DOCUMENT, **asked))
    assert shown[-1] == runtime.translate(DOCUMENT, **asked).text
    # More each time, and never another beginning; WordPiece takes white space before marks back.
    for earlier, later in itertools.pairwise(shown):
        assert later != earlier
        assert later.replace(" ", "").startswith(earlier.replace(" ", ""))
    assert len(shown) > (10 if num_beams == 1 else 1)
    with pytest.raises(InputError, match="num_beams: got 0"):
        next(runtime.translate_live("the cat", num_beams=0))
    with pytest.raises(EmptyInputError):
        next(runtime.translate_live(" "))
    with pytest.raises(DeadlineExceededError):
        list(runtime.translate_live("the cat", timeout_s=-1.0))
    next(growing := runtime.translate_live(DOCUMENT, num_beams=1))
    growing.close()
    assert runtime.translate("the cat").text


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens: got 0, want an integer from 1"),
        ({"max_new_tokens": 24}, "max_new_tokens: got 24, want at most 23"),
        ({"num_beams": 0}, "num_beams: got 0"),
        ({"num_beams": 2.5}, "num_beams: got 2.5"),
        ({"top_k": 5}, r"top_k: got 5, want at most as many as num_beams \(4\)"),
        ({"top_k": 0}, "top_k: got 0"),
        ({"length_penalty": "x"}, "length_penalty: got 'x'"),
        ({"early_stopping": "soon"}, "early_stopping: got 'soon'"),
        ({"min_new_tokens": 9, "max_new_tokens": 3}, "min_length: got at least 10 tokens"),
        ({"split_sentences": 1}, "split_sentences: got 1"),
        ({"temperature": 1.0}, "temperature: got 1.0, but translations have no such setting"),
    ],
)
def test_what_cannot_be_asked_is_named(runtime: Runtime, asked: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        runtime.translate("the cat", **asked)


@pytest.mark.parametrize("text", ["", " \n ", "\u200b", "\u200b.\u200b"[:1]])
def test_text_without_a_token_is_refused(runtime: Runtime, text: str) -> None:
    with pytest.raises(EmptyInputError, match=r"^text: got"):
        runtime.translate(text)
    with pytest.raises(EmptyInputError, match=r"^texts\[1\].*text: got"):
        runtime.translate_batch(["the cat", text])


def test_other_values_and_other_scripts(runtime: Runtime) -> None:
    with pytest.raises(InputError, match="text: got int, want str"):
        runtime.translate(5)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="NUL"):
        runtime.translate("a\0b")
    assert runtime.translate("\u4e2d\u6587 \u0416\u0416").sentences


def test_one_endless_sentence_and_a_long_document(runtime: Runtime) -> None:
    text = "the cat sat on the mat in paris " * 40
    found = runtime.translate(text, num_beams=1, max_new_tokens=4)
    pieces = [text[sentence.start : sentence.end] for sentence in found.sentences]
    # Nothing is lost, and no word is cut.
    assert " ".join(pieces) == text.strip()
    assert len(pieces) > 5
    unbroken = "x" * 400
    cut = runtime.translate(unbroken, num_beams=1, max_new_tokens=4)
    assert "".join(unbroken[s.start : s.end] for s in cut.sentences) == unbroken
    document = "The cat sat on the mat. " * 4200
    assert len(document) > 100_000
    written = runtime.translate(document, num_beams=1, max_new_tokens=2)
    assert len(written.sentences) == 4200


def test_pieces_of_a_sentence_fit() -> None:
    tokenizer = make_tokenizer()
    text = "the cat sat on the mat, who is in paris"
    for longest in (8, 9, 12, 64):
        sources = make_sources(text, tokenizer, _SEARCH, max_seq_length=longest)
        assert max(source.num_tokens for source in sources) <= longest
        assert " ".join(text[s.start : s.end] for s in sources) == text
        ids = np.concatenate([source.input_ids[1:-1] for source in sources])
        assert np.array_equal(ids, tokenizer.encode(text).input_ids)


def test_the_self_test_finds_an_engine_that_writes_something_else(runtime: Runtime) -> None:
    options = CallOptions(limits=runtime.limits, head=runtime.head)
    asked = ["the cat", "who sat on the mat", "paris"]
    items = make_self_test(runtime.session, runtime.task, asked, options)
    assert [item["text"] for item in items] == asked and "lead" not in items[0]
    files = seq2seq_artifacts.artifact_files(is_int8=False)
    fields = seq2seq_artifacts.artifact_fields("float32")
    for engine in ("onnxruntime", "openvino"):
        fields["self_test"] = items
        Runtime.open(build_artifact(files=files, **fields), engine=engine).close()
    start, first, *rest = items[1]["target_ids"][0]
    target_ids = [[start, first ^ 1, *rest]]
    fields["self_test"] = (items[0], items[1] | {"target_ids": target_ids})
    with pytest.raises(EngineError, match=r"self_test\[1\].target_ids: got"):
        Runtime.open(build_artifact(files=files, **fields), engine="onnxruntime")
    fields["self_test"] = (items[0] | {"target_ids": "x"},)
    with pytest.raises(ArtifactFormatError, match=r"self_test\[0\].target_ids: got 'x'"):
        Runtime.open(build_artifact(files=files, **fields), engine="onnxruntime")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"decoder": None}, "manifest.decoder: got None, want a decoder"),
        ({"limits": {"max_seq_length": 32}}, "manifest.limits: got"),
        (
            {"limits": {"max_seq_length": 32, "max_target_length": 33}},
            "limits.max_target_length: got 33, want 'at most 32'|max_target_length: got 33",
        ),
        ({"labels": ("a",)}, "manifest.labels: got 1 labels"),
        ({"head": {"problem_type": "regression"}}, "manifest.head: got"),
    ],
)
def test_manifests_that_are_none_of_its_own(change: Any, message: str) -> None:
    fields = {**seq2seq_artifacts.artifact_fields("float32"), **change}
    files = seq2seq_artifacts.artifact_files(is_int8=False)
    with pytest.raises(ArtifactFormatError, match=message):
        Runtime.open(build_artifact(files=files, **fields), engine="onnxruntime")

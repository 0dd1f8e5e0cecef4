"""Tests of bert_rt.tasks.token_classification.tagging, and of the methods of Runtime."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bert_rt import Entity, Tagging
from bert_rt.api import Runtime
from bert_rt.artifact.artifact import load_artifact
from bert_rt.errors import (
    ArtifactFormatError,
    ConfigError,
    DeadlineExceededError,
    EmptyInputError,
    EngineInternalError,
    InputError,
    InputTooLongError,
)
from bert_rt.tasks.base import CallOptions
from bert_rt.tasks.limits import WindowLimits
from bert_rt.tasks.selftest import make_self_test
from bert_rt.tasks.token_classification.chunks import find_chunks
from bert_rt.tasks.token_classification.tagging import TokenClassification, word_logits
from tests.support.artifacts import (
    CONFIG,
    TAGGER_LIMITS,
    TAGS,
    write_tiny_artifact,
    write_tiny_tagger,
)

TASK = TokenClassification()
SHORT = "The cat, unaffable: sat in Paris."
LONG = "unaffable cats (42%) sat on the mat in paris, where the cat is; who is on it? " * 4
TEXTS = (SHORT, LONG, "x", "caf\u00e9 \u4e2d\u6587 \U0001f600 [SEP] e\u0301.", "a b c " * 30)


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    path = tmp_path_factory.mktemp("tagger") / "artifact"
    write_tiny_tagger(path, score_temperature=2.0)
    with Runtime.load(path, engine="onnxruntime") as opened:
        yield opened


def check(result: Tagging, text: str) -> None:
    assert result.text == text
    for item in (*result.words, *result.entities):
        assert text[item.start : item.end] == item.text and 0 < item.score <= 1
    chunks = find_chunks([word.label for word in result.words])
    want = [
        Entity(
            text[result.words[first].start : result.words[end - 1].end],
            result.words[first].start,
            result.words[end - 1].end,
            kind,
            pytest.approx(np.mean([word.score for word in result.words[first:end]])),
        )
        for kind, first, end in chunks
    ]
    assert [*result.entities] == want


@pytest.mark.parametrize("text", TEXTS)
def test_words_and_entities_are_slices_of_the_text(runtime: Runtime, text: str) -> None:
    check(runtime.tag(text), text)


def test_labels_and_scores_are_of_the_logits(runtime: Runtime) -> None:
    for word in runtime.tag(SHORT).words:
        logits = np.array(word.logits)
        weights = np.exp(logits / 2.0)  # the artifact's temperature
        assert word.index == logits.argmax() and word.label == TAGS[word.index]
        assert word.score == pytest.approx(weights[word.index] / weights.sum(), abs=1e-6)


def test_windows_show_every_word_once_and_best(runtime: Runtime) -> None:
    (item,) = TASK.prepare([TASK.check_input(LONG)], runtime.session, runtime.options())
    assert len(item.windows) > 4
    assert all(window.num_tokens <= TAGGER_LIMITS.max_seq_length for window in item.windows)
    counts = np.zeros(item.num_tokens, int)
    outputs = []
    for number, window in enumerate(item.windows):
        shown = slice(window.context_start, window.context_start + window.context_length)
        counts[shown] += window.is_max_context
        logits = np.full((window.num_tokens, 1), np.nan)
        # Each token's logit says token and window.
        logits[1:-1, 0] = np.arange(shown.start, shown.stop) + number / 100
        outputs.append({"logits": logits})
    assert (counts == 1).all()
    found = word_logits(item, outputs)[:, 0]
    assert (found.astype(int) == item.words.first_W).all()
    assert len({round(value % 1, 2) for value in found}) == len(item.windows)


def test_one_window_is_what_the_whole_text_gives(runtime: Runtime) -> None:
    # Shorter than a window: the same with other limits.
    limits = WindowLimits(max_seq_length=60, doc_stride=2)
    options = CallOptions(limits=limits, labels=TAGS, score_temperature=2.0)
    text = "the cat sat on the mat"
    assert runtime.ask(text, options) == runtime.tag(text)
    wide = runtime.ask(LONG[:120], options)
    narrow = runtime.tag(LONG[:120])
    assert [word.text for word in wide.words] == [word.text for word in narrow.words]
    assert [word.logits for word in wide.words] != [word.logits for word in narrow.words]


def test_words_that_are_given(runtime: Runtime) -> None:
    words = ["The", "un-affable", "cat", "in", "Paris", "."]
    result = runtime.tag(words)
    check(result, "The un-affable cat in Paris .")
    assert [word.text for word in result.words] == words
    assert runtime.tag(tuple(words)) == result
    # Where the text has the same words, they have the same labels.
    assert runtime.tag("the cat sat") == runtime.tag(["the", "cat", "sat"])


def test_batch_stream_and_async_give_the_same(runtime: Runtime) -> None:
    texts = [*TEXTS, ["the", "cat"]] * 2
    one = [runtime.tag(text) for text in texts]

    async def ask() -> list[Tagging]:
        return list(await asyncio.gather(*(runtime.tag_async(text) for text in texts)))

    for got in (runtime.tag_batch(texts), [*runtime.tag_stream(iter(texts))], asyncio.run(ask())):
        assert [[w.label for w in r.words] for r in got] == [
            [w.label for w in r.words] for r in one
        ]
        for mine, his in zip(got, one, strict=True):
            for word, other in zip(mine.words, his.words, strict=True):
                assert word.logits == pytest.approx(other.logits, abs=1e-4)


@pytest.mark.parametrize(
    ("item", "kind", "message"),
    [
        ("", EmptyInputError, "text: got ''"),
        (" \n", EmptyInputError, "text: got"),
        ("\u200b", EmptyInputError, "text: got text without a single token"),
        ("a\0", InputError, "text: got a NUL"),
        (3, InputError, "text: got int, want str"),
        ([], InputError, "words: got none, want at least one word"),
        (["a", ""], EmptyInputError, r"words\[1\]: got ''"),
        (["a", 3], InputError, r"words\[1\]: got int, want str"),
        (["a", "\u200b"], EmptyInputError, r"words\[1\]: got '\\u200b', a word without"),
        ("x" * 10_000_001, InputTooLongError, "text: got 10000001 characters"),
    ],
)
def test_bad_input_is_named(runtime: Runtime, item: Any, kind: type, message: str) -> None:
    with pytest.raises(kind, match=f"^{message}"):
        runtime.tag(item)
    with pytest.raises(kind, match=rf"^texts\[1\]\.{message}"):
        runtime.tag_batch(["the cat", item])


def test_deadline_and_other_tasks(runtime: Runtime, tmp_path: Path) -> None:
    with pytest.raises(DeadlineExceededError):
        runtime.tag("the cat", timeout_s=0.0)
    with pytest.raises(InputError, match="asked with `tag`; want question-answering"):
        runtime.answer("who", "the cat")
    write_tiny_artifact(tmp_path / "a")
    with (
        Runtime.load(tmp_path / "a", engine="onnxruntime") as other,
        pytest.raises(InputError, match="asked with `answer`; want token-classification"),
    ):
        other.tag("the cat")


def test_a_long_document(runtime: Runtime) -> None:
    text = LONG * 320
    assert len(text) > 90_000
    check(runtime.tag(text), text)
    endless = "x" * 3000
    (word,) = runtime.tag(endless).words
    assert word.text == endless


def test_infinite_logits_are_an_error(runtime: Runtime) -> None:
    (item,) = TASK.prepare([TASK.check_input("the cat")], runtime.session, runtime.options())
    logits = np.zeros((item.windows[0].num_tokens, len(TAGS)), np.float32)
    logits[1, 2] = np.nan
    with pytest.raises(EngineInternalError, match="logits: got NaN"):
        TASK.decode(item, [{"logits": logits}], runtime.options())


def test_the_self_test_of_an_artifact(runtime: Runtime, tmp_path: Path) -> None:
    items = make_self_test(runtime.session, TASK, [SHORT, "a cat"], runtime.options())
    assert [len(item["logits"]) for item in items] == [9, 2]
    write_tiny_tagger(tmp_path / "good", self_test=items)
    Runtime.load(tmp_path / "good", engine="onnxruntime").close()
    for name, rows in (("value", [[9.0] * 5] * 2), ("shape", [[0.0] * 5] * 3)):
        write_tiny_tagger(tmp_path / name, self_test=(items[1] | {"logits": rows},))
        with pytest.raises(Exception, match=r"self_test\[0\]\.logits: got "):
            Runtime.load(tmp_path / name, engine="onnxruntime")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"labels": ()}, "manifest.labels: got none, want at least one"),
        ({"labels": TAGS[:3]}, r"logits of shape \(2, 5\) for a sequence, want \(2, 3\)"),
        ({"head": {"a": 1}}, "manifest.head: got .* want none for token-classification"),
        ({"limits": {"max_seq_length": 24}}, "manifest.limits"),
        ({"limits": {"max_seq_length": 24, "doc_stride": 22}}, "doc_stride: got 22, want less"),
        (
            {"self_test": ({"text": "a", "logits": [[1.0]]},)},
            r"self_test\[0\].logits: got .* 5 num",
        ),
        ({"self_test": ({"text": "a", "logits": []},)}, r"self_test\[0\].logits: got"),
        ({"self_test": ({"text": 3, "logits": []},)}, r"self_test\[0\].text: got"),
    ],
)
def test_manifests_that_are_none_of_this_task(
    fields: dict[str, Any], message: str, tmp_path: Path
) -> None:
    write_tiny_tagger(tmp_path / "a", **fields)
    with pytest.raises(ArtifactFormatError, match=message):
        Runtime.load(tmp_path / "a", engine="onnxruntime")


def test_limits() -> None:
    assert WindowLimits() == WindowLimits(max_seq_length=384, doc_stride=128)
    for values in ({"max_seq_length": 7}, {"doc_stride": -1}, {"doc_stride": 382}):
        with pytest.raises(ConfigError, match=f"{next(iter(values))}: got"):
            WindowLimits(**values)


def test_longer_windows_than_the_model(tmp_path: Path) -> None:
    write_tiny_tagger(tmp_path / "a")
    longest = CONFIG.max_sequence_length
    with pytest.raises(ConfigError, match="max_seq_length: got 65"):
        Runtime.load(
            tmp_path / "a",
            engine="onnxruntime",
            config=WindowLimits(max_seq_length=longest + 1, doc_stride=4),
        )
    assert load_artifact(tmp_path / "a").manifest.outputs == {"logits": "token"}

"""Arguments of the pipelines: what is taken, what is refused, and what stands in the message."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch

import bert_rt
from bert_rt import Runtime, pipeline
from bert_rt.errors import (
    BertRtError,
    CheckpointError,
    ConfigError,
    EmptyInputError,
    InputError,
    InputTooLongError,
)
from bert_rt.pipelines.base import Pipeline
from bert_rt.text.tokenization import Tokenizer
from tests.golden.pipeline.pipeline_cases import write_checkpoint
from tests.golden.pipeline.test_pipeline import assert_same
from tests.support.artifacts import write_tiny_artifact, write_tiny_classifier
from tests.support.data.text import SPECIAL_TOKENS, make_tokenizer

QUESTION = {"question": "who sat on the mat?", "context": "The cat sat on the mat in Paris."}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with an artifact and checkpoints, by name."""
    root = tmp_path_factory.mktemp("models")
    write_tiny_artifact(root / "artifact")
    for name in ("squad", "three", "masked", "encoder"):
        write_checkpoint(name, root / name)
    return root


@pytest.fixture(scope="module")
def answers(models: Path) -> Iterator[Pipeline]:
    with pipeline("question-answering", models / "artifact", engine="onnxruntime") as pipe:
        yield pipe


@pytest.fixture(autouse=True)
def same_threads_afterwards() -> Iterator[None]:
    num_threads = torch.get_num_threads()
    yield
    torch.set_num_threads(num_threads)


def test_the_name_stays_a_function_once_it_was_used() -> None:
    assert callable(bert_rt.pipeline)
    assert bert_rt.pipeline is pipeline


def test_an_artifact_answers_like_its_runtime(models: Path, answers: Any) -> None:
    got = answers(**QUESTION)
    assert got.keys() == {"score", "start", "end", "answer"}
    assert QUESTION["context"][got["start"] : got["end"]] == got["answer"]
    with Runtime.load(models / "artifact", engine="onnxruntime") as runtime:
        shared = pipeline(None, runtime)
        assert shared(**QUESTION) == got
        logit = runtime.answer(**QUESTION).logit
    assert np.isfinite(logit)


def test_scores_are_those_of_transformers_whatever_the_artifacts_temperature(
    answers: Any, tmp_path: Path
) -> None:
    write_tiny_artifact(tmp_path / "answers", score_temperature=3.0)
    with pipeline("question-answering", tmp_path / "answers", engine="onnxruntime") as pipe:
        assert pipe(**QUESTION) == answers(**QUESTION)
    results = []
    for name, temperature in (("plain", 1.0), ("cooled", 3.0)):
        write_tiny_classifier(tmp_path / name, score_temperature=temperature)
        with pipeline("text-classification", tmp_path / name, engine="onnxruntime") as pipe:
            results.append(pipe("the cat sat on the mat", top_k=None))
    assert results[0] == results[1]


def test_all_ways_to_ask_are_one(answers: Any) -> None:
    want = answers(**QUESTION)
    example = SimpleNamespace(question_text=QUESTION["question"], context_text=QUESTION["context"])
    assert answers(QUESTION) == want
    assert answers([QUESTION]) == want
    assert answers(example) == want
    assert answers(data=QUESTION) == want
    assert answers(*QUESTION.values()) == want
    assert answers(QUESTION, example) == [want, want]
    assert answers([]) == []


def test_an_iterator_is_read_as_it_is_answered(answers: Any) -> None:
    read = []

    def examples() -> Iterator[dict[str, str]]:
        for index in range(5):
            read.append(index)
            yield QUESTION

    results = answers(examples(), batch_size=2)
    assert read == []
    assert next(results) == answers(**QUESTION)
    assert read == [0, 1]
    assert len(list(results)) == 4


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"top_k": 0}, InputError, "top_k: got 0, want an integer from 1"),
        ({"max_answer_len": 0}, InputError, "max_answer_len: got 0"),
        ({"max_seq_len": 65}, InputError, "max_seq_len: got 65, want an integer from 8 to 64"),
        ({"max_seq_len": 20, "doc_stride": 21}, InputError, "doc_stride: got 21"),
        ({"batch_size": 0}, InputError, "batch_size: got 0"),
        ({"topK": 1}, InputError, r"got \['topK'\], known are"),
        ({"context": " "}, EmptyInputError, r"inputs\[0\].context: got ' '"),
        ({"question": "who? " * 40}, InputTooLongError, "question: got 80 tokens, want less than"),
        ({"question": ["who?"], "context": ["a", "b"]}, InputError, "2 contexts for 1 questions"),
    ],
)
def test_bad_calls(
    answers: Any, kwargs: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        answers(**(QUESTION | kwargs))


@pytest.mark.parametrize("inputs", ["who?", 7, [7], {"question": "who?"}, [["who?", "x"]]])
def test_bad_inputs(answers: Any, inputs: Any) -> None:
    with pytest.raises(InputError, match="inputs"):
        answers(inputs)


def test_a_long_question_needs_no_stride_where_the_context_fits(answers: Any) -> None:
    result = answers(question="who? " * 8, context="the cat", max_seq_len=24, doc_stride=20)
    assert result["answer"] in ("the", "cat", "the cat")


@pytest.mark.parametrize(
    ("task", "model", "options", "message"),
    [
        ("translate", "squad", {}, "task: got 'translate', known are question-answering"),
        ("question-answering", "three", {}, "got a model for text-classification"),
        ("text-classification", "artifact", {}, "got a model for question-answering"),
        ("text-classification", None, {}, "model: got None"),
        ("fill-mask", None, {}, "runs on a checkpoint directory only"),
        ("fill-mask", "artifact", {}, "model: got an artifact; fill-mask runs on a checkpoint"),
        ("question-answering", "nothing", {}, "no such directory; nothing is downloaded"),
        ("question-answering", "squad", {"engine": "native"}, "'native' for a checkpoint"),
        ("question-answering", "squad", {"framework": "tf"}, "framework: got 'tf'"),
        ("question-answering", "squad", {"torch_dtype": "float16"}, "dtype: got float16"),
        ("question-answering", "squad", {"device_map": "auto"}, "device_map: got 'auto'"),
        ("question-answering", "squad", {"trust_remote_code": True}, "trust_remote_code"),
        ("question-answering", "squad", {"tokenizer": 7}, "tokenizer: got int"),
    ],
)
def test_what_cannot_be_met_is_refused(
    models: Path, task: str, model: str | None, options: dict[str, Any], message: str
) -> None:
    path = None if model is None else models / model
    with pytest.raises(ConfigError, match=message):
        pipeline(task, path, **options)


def test_a_runtime_stays_open_where_its_pipeline_is_refused(models: Path) -> None:
    with Runtime.load(models / "artifact", engine="onnxruntime") as runtime:
        with pytest.raises(InputError, match="top_k: got 0"):
            pipeline("question-answering", runtime, top_k=0)
        assert runtime.answer(**QUESTION).text


def test_the_error_for_a_model_that_is_no_directory_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match=r"save_pretrained\(DIR\)"):
        pipeline("question-answering", object())  # type: ignore[arg-type]


def test_what_transformers_has_as_its_default_is_taken(models: Path) -> None:
    options = {"framework": "pt", "device": -1, "torch_dtype": torch.float32, "use_fast": True}
    with pipeline("question-answering", models / "squad", **options) as pipe:
        assert pipe(**QUESTION)["answer"]


def test_a_device_has_its_engines_name(models: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has the device that must be missing")
    with pytest.raises(BertRtError, match="torch finds no CUDA device"):
        pipeline("question-answering", models / "squad", device=0)


def test_a_tokenizer_must_be_the_models(models: Path, tmp_path: Path) -> None:
    same = str(models / "squad")
    with pipeline("question-answering", models / "squad", tokenizer=same) as pipe:
        backend = tokenizers.Tokenizer.from_str(pipe.tokenizer.to_json().decode())
    given = SimpleNamespace(backend_tokenizer=backend)
    pipeline("question-answering", models / "squad", tokenizer=given).close()
    (tmp_path / "tokenizer.json").write_bytes(make_tokenizer(do_lower_case=False).to_json())
    with pytest.raises(
        ConfigError, match=r"its tokens are others .* token 0 of .* is 'K', want 'k'"
    ):
        pipeline("question-answering", models / "squad", tokenizer=tmp_path)


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("artifact", "question-answering"),
        ("squad", "question-answering"),
        ("three", "text-classification"),
        ("masked", "fill-mask"),
        ("encoder", "feature-extraction"),
    ],
)
def test_a_task_that_is_left_out_is_the_models(models: Path, name: str, task: str) -> None:
    with pipeline(model=models / name) as pipe:
        assert pipe.task == task


@pytest.mark.parametrize(
    ("task", "model", "args", "kwargs", "message"),
    [
        ("text-classification", "three", ("a " * 70,), {}, "got 72 tokens, want at most 64"),
        ("text-classification", "three", ("",), {}, "text: got ''"),
        ("text-classification", "three", (7,), {}, r"inputs\[0\]: got 7, want a text"),
        ("text-classification", "three", (["a", "b"], 7), {}, None),
        ("text-classification", "three", ("a",), {"top_k": 0}, "top_k: got 0"),
        ("text-classification", "three", ("a",), {"truncation": "x"}, "truncation: got 'x'"),
        ("text-classification", "three", ("a",), {"stride": 1}, r"got \['stride'\]"),
        ("text-classification", "three", ("a",), {"function_to_apply": "x"}, "got 'x', want one"),
        ("fill-mask", "masked", ("the cat",), {}, r"inputs\[0\]: got no \[MASK\]"),
        ("fill-mask", "masked", ("[MASK]",), {"top_k": 10_000}, "top_k: got 10000"),
        ("fill-mask", "masked", ("[MASK]",), {"targets": [" "]}, "want at least one token"),
        ("feature-extraction", "encoder", ("a " * 70,), {}, "truncation=True cuts off"),
        ("feature-extraction", "encoder", ("a",), {"pooling": 1}, r"got \['pooling'\]"),
    ],
)
def test_bad_calls_of_the_others(
    models: Path,
    task: str,
    model: str,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    message: str | None,
) -> None:
    error = TypeError if message is None else InputError
    with pipeline(task, models / model) as pipe, pytest.raises(error, match=message):
        pipe(*args, **kwargs)


def test_fill_mask_needs_a_masked_language_model(models: Path) -> None:
    with pytest.raises(CheckpointError, match="has no masked language model in it"):
        pipeline("fill-mask", models / "encoder")


def test_features_of_texts_that_are_computed_together(models: Path) -> None:
    texts = ["the cat", "where is the cat in paris?"]
    with pipeline("feature-extraction", models / "encoder", return_tensors=True) as pipe:
        together = pipe(texts, batch_size=2)
        alone = [pipe(text) for text in texts]
    for got, want in zip(together, alone, strict=True):
        torch.testing.assert_close(got, want, atol=1e-5, rtol=0)


def test_words_start_where_no_piece_continues_one(tokenizer: Tokenizer) -> None:
    words = tokenizer.word_spans("unaffZ, cat", tokenizer.encode("unaffZ, cat"))
    assert words.is_word_start.tolist() == [True, False, False, True, True]


def test_words_of_a_tokenizer_whose_tokens_do_not_tell() -> None:
    vocab = {token: index for index, token in enumerate((*SPECIAL_TOKENS, "a", "b"))}
    backend = tokenizers.Tokenizer(tokenizers.models.BPE(vocab, []))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    other = Tokenizer(backend)
    words = other.word_spans("ab a bb", other.encode("ab a bb"))
    assert words.is_word_start.tolist() == [True, False, True, True, False]


def test_tokens_become_text(tokenizer: Tokenizer) -> None:
    vocab = tokenizer.get_vocab()
    ids = [vocab[token] for token in ("[CLS]", "the", "un", "##aff", ".", "[SEP]")]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "the unaff."
    assert tokenizer.decode(ids, skip_special_tokens=False) == "[CLS] the unaff. [SEP]"


class Items(torch.utils.data.Dataset[Any]):
    """A dataset of torch that says what was read of it."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items
        self.read: list[int] = []

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        self.read.append(index)
        return self.items[index]


@pytest.mark.parametrize(
    ("task", "model", "items"),
    [
        ("question-answering", "squad", [QUESTION, QUESTION | {"question": "where?"}, QUESTION]),
        ("text-classification", "three", ["the cat", {"text": "a", "text_pair": "b"}, "paris"]),
        ("fill-mask", "masked", ["the [MASK]", "[MASK] sat", "on [MASK]"]),
        ("feature-extraction", "encoder", ["the cat", "sat", "on the mat"]),
    ],
)
def test_datasets_and_generators_are_answered_item_by_item(
    models: Path, task: str, model: str, items: list[Any]
) -> None:
    dataset = Items(items)
    with pipeline(task, models / model) as pipe:
        want = pipe(items)
        results = pipe(dataset)
        assert dataset.read == [] and len(results) == 3
        assert_same(next(results), want[0], "first")
        assert dataset.read == [0]
        # Each pass begins anew, as that of Transformers does.
        assert_same(list(results), want, "dataset")
        assert list(results) == list(results)
        lazy = pipe(item for item in items)
        assert_same([next(lazy), *lazy], want, "generator")


def test_lists_in_a_dictionary_are_questions(models: Path) -> None:
    context = QUESTION["context"]
    with pipeline("question-answering", models / "squad") as pipe:
        want = pipe(question=["who?", "where?"], context=[context] * 2)
        only = pipe(question="who?", context=context)
        for given in (
            {"question": ["who?", "where?"], "context": [context] * 2},
            {"question": ["who?", "where?"], "context": context},
        ):
            assert pipe(given) == pipe([given]) == pipe(data=given) == want
        assert pipe({"question": ["who?"], "context": [context]}) == [only]
        assert pipe([]) == []
        for bad, message in (
            ({"question": ["a"], "context": [context] * 2}, "got 2 contexts for 1 questions"),
            ([[QUESTION, QUESTION]], r"inputs\[0\]: got list"),
            ([{"question": ["a"], "context": [context]}] * 2, "got list, want str"),
        ):
            with pytest.raises(InputError, match=message):
                pipe(bad)

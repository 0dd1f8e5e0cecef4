"""The question-answering pipeline: arguments and results of Transformers 4.x.

Scores are those of Transformers, too: the artifact's score_temperature is left out, or whoever
comes from there with a threshold on scores would get other answers past it.
"""

from __future__ import annotations

import dataclasses
import reprlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bert_rt.errors import InputError, InputTooLongError
from bert_rt.pipelines.base import Pipeline, check_int, chunks, is_lazy, reject_unknown
from bert_rt.pipelines.loading import OpenModel
from bert_rt.pipelines.window_spans import SpanRules, find_answers
from bert_rt.tasks.base import CallOptions
from bert_rt.tasks.limits import AnsweringConfig
from bert_rt.tasks.question_answering.answering import PreparedQuestion, QuestionAnswering
from bert_rt.tasks.question_answering.features import make_features
from bert_rt.types import Encoding, Question

__all__ = ["QuestionAnsweringPipeline"]

_MAX_SEQ_LEN = 384
_DOC_STRIDE = 128
_INPUTS = ("question", "context", "data", "X")
# Windows are put together and padded by the engine; question tokens are never cut off (see
# AnswerOptions.max_question_len).
_WITHOUT_EFFECT = ("padding", "num_workers", "max_question_len")


@dataclass(frozen=True, kw_only=True, slots=True)
class AnswerOptions(SpanRules):
    """What a call may ask for; None stands for what the model sets.

    Attributes:
        max_seq_len: Longest window in tokens; None for 384, or less where the model ends earlier.
        doc_stride: Context tokens that neighbouring windows share; None for 128 or half a window,
            whichever is less.
    """

    max_seq_len: int | None = None
    doc_stride: int | None = None


class QuestionAnsweringPipeline(Pipeline):
    """Finds answers in passages. Thread-safe.

    Attributes:
        task: "question-answering".
        model: The open model: engine, tokenizer and limits.
        tokenizer: The model's tokenizer.
    """

    task = "question-answering"
    model: OpenModel

    def __init__(self, model: OpenModel, *, batch_size: int = 1, **options: Any) -> None:
        """Take over a model.

        Args:
            model: A question-answering model.
            batch_size: Questions that are read ahead from an iterator.
            **options: Defaults of later calls.

        Raises:
            InputError: An option is unknown or out of range.
        """
        super().__init__(model, batch_size)
        self._defaults = self._options(AnswerOptions(), options)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Answer questions.

        Args:
            *args: A dictionary with "question" and "context" (strings; lists of equal length; or
                a list of questions with one context), a list, an iterator or a dataset of
                dictionaries of strings, several of them, or two strings. Objects with
                question_text and context_text (a SquadExample) serve as well.
            **kwargs: question= and context= (strings; lists of equal length; or a list of
                questions with one context), or data= in place of them; top_k, doc_stride,
                max_answer_len, max_seq_len, handle_impossible_answer, align_to_words, batch_size.
                padding, num_workers and max_question_len are taken and have no effect, like the
                last one in Transformers 4.57 with a fast tokenizer.

        Returns:
            For one question a dictionary of score, start, end and answer, or a list of them where
            there are several; for a list of at least two questions a list of that; for an
            iterator an iterator.

        Raises:
            InputError: An argument is unknown or out of range, or a text is empty or unreadable.
            OverloadedError: Too much is waiting already.
            EngineError: The engine failed, or the pipeline is closed.
        """
        settings = {name: value for name, value in kwargs.items() if name not in _INPUTS}
        batch_size = self._batch_size_of(settings)
        options = self._options(self._defaults, settings)
        inputs = _find_inputs(args, kwargs)
        if is_lazy(inputs):
            return self._lazily(inputs, lambda items: self._stream(items, options, batch_size))
        examples, is_listed = _read_all(inputs)
        results = list(self._stream(examples, options, None))
        return results[0] if len(results) == 1 and not is_listed else results

    def _options(self, defaults: AnswerOptions, settings: Mapping[str, Any]) -> AnswerOptions:
        values = {name: value for name, value in settings.items() if value is not None}
        if "topk" in values:
            values.setdefault("top_k", values.pop("topk"))
            values.pop("topk", None)
        names = [field.name for field in dataclasses.fields(defaults)]
        known = {name: getattr(defaults, name) for name in names}
        for name in _WITHOUT_EFFECT:
            values.pop(name, None)
        reject_unknown(values, (*known, *_WITHOUT_EFFECT, *_INPUTS, "batch_size"))
        options = AnswerOptions(**(known | values))
        longest = self.model.max_sequence_length
        check_int("top_k", options.top_k, 1, 10_000)
        check_int("max_answer_len", options.max_answer_len, 1, 2**16)
        check_int("max_seq_len", self._max_seq_len(options), 8, longest)
        check_int("doc_stride", self._doc_stride(options), 0, self._max_seq_len(options))
        return options

    def _max_seq_len(self, options: AnswerOptions) -> int:
        if options.max_seq_len is not None:
            return options.max_seq_len
        return min(self.model.model_max_length, _MAX_SEQ_LEN)

    def _doc_stride(self, options: AnswerOptions) -> int:
        if options.doc_stride is not None:
            return options.doc_stride
        return min(self._max_seq_len(options) // 2, _DOC_STRIDE)

    def _stream(
        self, examples: Iterable[Any], options: AnswerOptions, batch_size: int | None
    ) -> Iterator[Any]:
        index = 0
        for chunk in chunks(examples, batch_size):
            questions = [_check(example, f"inputs[{index + i}]") for i, example in enumerate(chunk)]
            index += len(chunk)
            yield from self._answer(questions, options)

    def _answer(self, questions: Sequence[Question], options: AnswerOptions) -> Iterator[Any]:
        encodings = self.tokenizer.encode_batch(
            [text for item in questions for text in (item.question, item.context)]
        )
        prepared = [
            PreparedQuestion(item, context, self._cut(question, context, options))
            for item, question, context in zip(
                questions, encodings[::2], encodings[1::2], strict=True
            )
        ]
        # compute looks at no field of the configuration.
        logits = self.model.session.compute(prepared, CallOptions(limits=AnsweringConfig()))
        for item, windows in zip(prepared, logits, strict=True):
            words = self.tokenizer.word_spans(item.question.context, item.context)
            answers = find_answers(item.question.context, words, item.features, windows, options)
            yield answers[0] if len(answers) == 1 else answers

    def _cut(self, question: Encoding, context: Encoding, options: AnswerOptions) -> Any:
        """Cut a context into windows; the question is whole in each, as long as it fits."""
        length, stride = self._max_seq_len(options), self._doc_stride(options)
        num_question = len(question.input_ids)
        num_special = 2 + self.tokenizer.num_separators
        # With split layers a passage's windows are the same for all questions.
        longest = self.model.session.passage_position_offset - 2
        is_split = longest > 0
        if is_split and num_question > longest:
            raise InputTooLongError(
                f"question: got {num_question} tokens, want at most {longest}: the model has "
                f"split layers, and passages begin at its position {longest + 2}"
            )
        num_taken = longest if is_split else num_question
        room = length - num_taken - num_special
        if len(context.input_ids) <= room:
            stride = 0  # one window; it need not move
        elif room <= stride:
            raise InputTooLongError(
                f"question: got {num_taken} tokens, want less than "
                f"{length - num_special - stride} (max_seq_len {length} - {num_special} special "
                f"tokens - doc_stride {stride}), else the windows of this context cannot move"
            )
        config = AnsweringConfig(
            max_seq_length=length, doc_stride=stride, max_query_length=max(1, num_taken)
        )
        return make_features(
            0,
            question,
            context,
            config=config,
            is_split=is_split,
            **self.tokenizer.pair_tokens,
        )


def _find_inputs(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Return what is to be answered, wherever the caller put it."""
    if len(args) == 1:
        return args[0]
    if len(args) == 2 and all(isinstance(item, str) for item in args):
        return {"question": args[0], "context": args[1]}
    if args:
        return list(args)
    for name in ("X", "data"):
        if name in kwargs:
            return kwargs[name]
    if "question" not in kwargs or "context" not in kwargs:
        raise InputError(f"arguments: got {sorted(kwargs)}, want question= and context=")
    question, context = kwargs["question"], kwargs["context"]
    if not isinstance(question, list):
        return {"question": question, "context": context}
    return _spread(question, context)


def _spread(questions: list[Any], contexts: Any) -> list[dict[str, Any]]:
    """Make an example of every question, with a context of its own or with the only one."""
    if not isinstance(contexts, list):
        contexts = [contexts] * len(questions)
    if len(contexts) != len(questions):
        raise InputError(
            f"context: got {len(contexts)} contexts for {len(questions)} questions, want as many"
        )
    return [{"question": q, "context": c} for q, c in zip(questions, contexts, strict=True)]


def _read_all(inputs: Any) -> tuple[list[Any], bool]:
    """Return the examples, and whether the result is a list even for a single one."""
    if isinstance(inputs, list | tuple) and len(inputs) == 1 and isinstance(inputs[0], Mapping):
        (inputs,) = inputs
    if isinstance(inputs, Mapping) and isinstance(inputs.get("question"), list):
        return _spread(inputs["question"], inputs.get("context")), True
    if isinstance(inputs, Mapping) or hasattr(inputs, "question_text"):
        return [inputs], False
    if isinstance(inputs, str) or not isinstance(inputs, Iterable):
        got = reprlib.repr(inputs)
        raise InputError(f"inputs: got {got}, want {{'question': ..., 'context': ...}} or a list")
    return list(inputs), False


def _check(example: Any, place: str) -> Question:
    if isinstance(example, Mapping):
        absent = [name for name in ("question", "context") if name not in example]
        if absent:
            raise InputError(f"{place}: got {sorted(example)}, want 'question' and 'context'")
        pair = (example["question"], example["context"])
    elif hasattr(example, "question_text") and hasattr(example, "context_text"):
        pair = (example.question_text, example.context_text)
    else:
        got = type(example).__name__
        raise InputError(f"{place}: got {got}, want {{'question': ..., 'context': ...}}")
    return QuestionAnswering().check_input(pair, place)

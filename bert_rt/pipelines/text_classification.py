"""The text-classification pipeline: arguments and results of Transformers 4.x.

Scores are those of Transformers, too: the artifact's score_temperature is left out, or whoever
comes from there with a threshold on scores would get other classes past it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bert_rt.errors import InputError
from bert_rt.pipelines.base import Pipeline, check_int, chunks, is_lazy
from bert_rt.pipelines.loading import OpenModel
from bert_rt.pipelines.texts import Truncation, check_input, make_input, read_truncation
from bert_rt.tasks.base import CallOptions
from bert_rt.types import FloatArray

__all__ = ["TextClassificationPipeline"]

_FUNCTIONS = ("softmax", "sigmoid", "none")
_TOKENIZER = ("truncation", "max_length", "padding")


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassifyOptions:
    """What a call may ask for.

    Attributes:
        top_k: Classes wanted, best first; None for all.
        is_listed: Whether top_k was given: then a text's result is a list even for one class.
        function_to_apply: "softmax", "sigmoid" or "none"; None for the one that the model needs.
        truncation: What happens to texts that are too long.
    """

    top_k: int | None
    is_listed: bool
    function_to_apply: str | None
    truncation: Truncation


class TextClassificationPipeline(Pipeline):
    """Sorts texts, or pairs of texts, into a model's classes. Thread-safe.

    Attributes:
        task: "text-classification".
        model: The open model: engine, tokenizer and labels.
        tokenizer: The model's tokenizer.
    """

    task = "text-classification"
    model: OpenModel

    def __init__(self, model: OpenModel, *, batch_size: int = 1, **options: Any) -> None:
        """Take over a model.

        Args:
            model: A text classifier.
            batch_size: Texts that are read ahead from an iterator.
            **options: Defaults of later calls.

        Raises:
            InputError: An option is unknown or out of range.
        """
        super().__init__(model, batch_size)
        self._settings: dict[str, Any] = {}
        unset = ClassifyOptions(
            top_k=1,
            is_listed=False,
            function_to_apply=None,
            truncation=Truncation(None, model.max_sequence_length),
        )
        self._defaults = self._options(unset, options)
        self._settings = {name: options[name] for name in _TOKENIZER if name in options}

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        """Classify texts.

        Args:
            inputs: A text, a dictionary of "text" and "text_pair", or a list, an iterator or a
                dataset of these.
            **kwargs: top_k (None for all classes), function_to_apply ("softmax", "sigmoid" or
                "none"), return_all_scores (as before top_k), truncation, max_length, batch_size.
                padding and num_workers are taken and have no effect.

        Returns:
            The shapes of Transformers 4.x. A text's result is {"label", "score"}, or a list of
            them, best first, where top_k is given, or in the order of the labels where
            return_all_scores is. For a list of texts a list of results; for an iterator or
            a dataset an iterator; for a dictionary its result; for a single string its result
            where this call gives top_k, else a list that holds only the result.

        Raises:
            InputError: An argument is unknown or out of range, or a text is empty, unreadable, or
                too long without truncation.
            OverloadedError: Too much is waiting already.
            EngineError: The engine failed, or the pipeline is closed.
        """
        is_wrapped = isinstance(inputs, str) and "top_k" not in kwargs
        batch_size = self._batch_size_of(kwargs)
        options = self._options(self._defaults, kwargs)
        if is_lazy(inputs):
            return self._lazily(inputs, lambda items: self._stream(items, options, batch_size))
        if isinstance(inputs, list):
            return list(self._stream(inputs, options, None))
        (result,) = self._stream([inputs], options, None)
        return [result] if is_wrapped else result

    def _options(self, defaults: ClassifyOptions, settings: Mapping[str, Any]) -> ClassifyOptions:
        rest = dict(settings)
        rest.pop("num_workers", None)
        options = defaults
        top_k = rest.pop("top_k", "")
        all_scores = rest.pop("return_all_scores", None)
        if top_k != "":
            if top_k is not None:
                check_int("top_k", top_k, 1, 2**31)
            options = replace(options, top_k=top_k, is_listed=True)
        elif all_scores is not None:
            warnings.warn(
                "return_all_scores: deprecated in Transformers 4.x; top_k=None gives all classes",
                UserWarning,
                stacklevel=3,
            )
            options = replace(options, top_k=None if all_scores else 1)
        function = rest.pop("function_to_apply", None)
        if function is not None:
            name = str(getattr(function, "name", function)).lower()
            if name not in _FUNCTIONS:
                raise InputError(f"function_to_apply: got {function!r}, want one of {_FUNCTIONS}")
            options = replace(options, function_to_apply=name)
        return replace(options, truncation=read_truncation(self._settings | rest, self.model))

    def _stream(
        self, inputs: Iterable[Any], options: ClassifyOptions, batch_size: int | None
    ) -> Iterator[Any]:
        index = 0
        for chunk in chunks(inputs, batch_size):
            sequences = []
            for value in chunk:
                place = f"inputs[{index}]"
                item = check_input(_pair_of_old(value), place)
                sequences.append(
                    make_input(
                        self.tokenizer,
                        item,
                        options.truncation,
                        place=place,
                        num_token_types=self.model.session.num_token_types,
                    )
                )
                index += 1
            # Of the options only deadline and cancellation count here; neither is set.
            for outputs in self.model.session.run(sequences, CallOptions(limits=None)):
                yield self._result(outputs["logits"], options)

    def _result(self, logits_C: FloatArray, options: ClassifyOptions) -> Any:
        scores = _apply(
            options.function_to_apply or self.model.function_to_apply, logits_C
        ).tolist()
        result = [
            {"label": label, "score": score}
            for label, score in zip(self.model.labels, scores, strict=True)
        ]
        if not options.is_listed and options.top_k is None:
            return result
        result.sort(key=lambda item: -item["score"])
        return result[: options.top_k] if options.is_listed else result[0]


def _pair_of_old(value: Any) -> Any:
    """Take [["text", "second text"]], an old way to write a pair."""
    if isinstance(value, list) and len(value) == 1:
        (pair,) = value
        if isinstance(pair, list) and len(pair) == 2:
            return {"text": pair[0], "text_pair": pair[1]}
    return value


def _apply(function: str, logits_C: FloatArray) -> FloatArray:
    if function == "none":
        return logits_C
    if function == "sigmoid":
        # As 1 / (1 + exp(-x)), without its overflow.
        scores_C = 0.5 * (1.0 + np.tanh(0.5 * logits_C))
    else:
        weights_C = np.exp(logits_C - logits_C.max())
        scores_C = weights_C / weights_C.sum()
    return np.asarray(scores_C, np.float32)

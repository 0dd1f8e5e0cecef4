"""The token-classification pipeline: arguments and results of Transformers 4.x.

Scores are those of Transformers, too: the artifact's score_temperature is left out, or whoever
comes from there with a threshold on scores would get other entities past it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bert_rt.errors import EmptyInputError, InputError
from bert_rt.pipelines.base import Pipeline, check_int, chunks, is_lazy, reject_unknown
from bert_rt.pipelines.loading import OpenModel
from bert_rt.pipelines.token_groups import (
    STRATEGIES,
    WORD_STRATEGIES,
    TokenScores,
    group_tokens,
    merge_windows,
)
from bert_rt.tasks.base import CallOptions
from bert_rt.tasks.texts import MAX_TEXT_CHARS, check_text
from bert_rt.text.windows import cut_windows
from bert_rt.types import IntArray, Outputs, TokenSequence

__all__ = ["TokenClassificationPipeline"]

_NUM_SPECIAL = 2
_SETTINGS = (
    "aggregation_strategy",
    "batch_size",
    "delimiter",
    "grouped_entities",
    "ignore_labels",
    "ignore_subwords",
    "is_split_into_words",
    "num_workers",
    "stride",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class TagOptions:
    """What a call may ask for.

    Attributes:
        strategy: How tokens are grouped: one of STRATEGIES.
        ignore_labels: Labels, or kinds of groups, that are left out.
        stride: Tokens that neighbouring windows share; None to read one window and leave the rest
            of a long text.
        is_split_into_words: Whether inputs are lists of words.
        delimiter: What stands between such words in the text that spans are of.
    """

    strategy: str = "none"
    ignore_labels: tuple[str, ...] = ("O",)
    stride: int | None = None
    is_split_into_words: bool = False
    delimiter: str = " "


@dataclass(frozen=True, slots=True, eq=False)
class _Tokens:
    """A text as tokens: ids of shape (T,), spans of shape (T, 2); those that open a window."""

    text: str
    ids: IntArray
    offsets: IntArray
    opening_offsets: IntArray


class TokenClassificationPipeline(Pipeline):
    """Labels the tokens of texts, or finds their entities. Thread-safe.

    Attributes:
        task: "token-classification".
        model: The open model: engine, tokenizer and labels.
        tokenizer: The model's tokenizer.
    """

    task = "token-classification"
    model: OpenModel

    def __init__(self, model: OpenModel, *, batch_size: int = 1, **options: Any) -> None:
        """Take over a model.

        Args:
            model: A model that labels tokens.
            batch_size: Texts that are read ahead from an iterator.
            **options: Defaults of later calls.

        Raises:
            InputError: An option is unknown or out of range.
        """
        super().__init__(model, batch_size)
        self._defaults = self._options(TagOptions(), options)

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        """Label the tokens of texts.

        Args:
            inputs: A text, or a list, an iterator or a dataset of texts; with is_split_into_words
                a list of words, or several such lists.
            **kwargs: aggregation_strategy ("none", "simple", "first", "average" or "max"),
                ignore_labels, stride (with which all of a long text is read), is_split_into_words,
                delimiter, batch_size; grouped_entities and ignore_subwords, as before
                aggregation_strategy. num_workers is taken and has no effect.

        Returns:
            The shapes of Transformers 4.x: for a text a list of dictionaries, of entity, score,
            index, word, start and end for every token with "none", else of entity_group, score,
            word, start and end; for a list of texts, or for one list of words, a list of these; for
            an iterator or a dataset an iterator.

        Raises:
            InputError: An argument is unknown or out of range, or a text is empty or unreadable.
            OverloadedError: Too much is waiting already.
            EngineError: The engine failed, or the pipeline is closed.
        """
        batch_size = self._batch_size_of(kwargs)
        options = self._options(self._defaults, kwargs)
        if is_lazy(inputs):
            return self._lazily(inputs, lambda items: self._stream(items, options, batch_size))
        if isinstance(inputs, list | tuple) and inputs:
            is_one = options.is_split_into_words and not all(isinstance(i, list) for i in inputs)
            return list(self._stream([list(inputs)] if is_one else inputs, options, None))
        (result,) = self._stream([inputs], options, None)
        return result

    def _options(self, defaults: TagOptions, settings: Mapping[str, Any]) -> TagOptions:
        given = {name: value for name, value in settings.items() if value is not None}
        reject_unknown(given, _SETTINGS)
        options, strategy = defaults, given.get("aggregation_strategy")
        if strategy is None:
            strategy = _old_strategy(given)
        if strategy is not None:
            name = str(getattr(strategy, "value", strategy)).lower()
            if name not in STRATEGIES:
                raise InputError(
                    f"aggregation_strategy: got {strategy!r}, want one of {', '.join(STRATEGIES)}"
                )
            options = replace(options, strategy=name)
        if "ignore_labels" in given:
            labels = given["ignore_labels"]
            if isinstance(labels, str) or not isinstance(labels, Iterable):
                raise InputError(f"ignore_labels: got {labels!r}, want a list of labels")
            options = replace(options, ignore_labels=tuple(labels))
        if "stride" in given:
            room = self.model.model_max_length - _NUM_SPECIAL
            stride = check_int("stride", given["stride"], 0, room - 1)
            if strategy is not None and options.strategy == "none":
                raise InputError(
                    f"stride: got {stride} with aggregation_strategy 'none', want another strategy"
                )
            options = replace(options, stride=stride)
        return self._word_options(options, given)

    def _word_options(self, options: TagOptions, given: Mapping[str, Any]) -> TagOptions:
        is_split = given.get("is_split_into_words", options.is_split_into_words)
        delimiter = given.get("delimiter", options.delimiter)
        if not isinstance(is_split, bool):
            raise InputError(f"is_split_into_words: got {is_split!r}, want True or False")
        if not isinstance(delimiter, str):
            raise InputError(f"delimiter: got {delimiter!r}, want a string")
        if is_split and not self.tokenizer.token_texts.takes_words:
            raise InputError(
                "is_split_into_words: got True, and this tokenizer takes no single words: it was "
                "made without add_prefix_space"
            )
        return replace(options, is_split_into_words=is_split, delimiter=delimiter)

    def _stream(
        self, inputs: Iterable[Any], options: TagOptions, batch_size: int | None
    ) -> Iterator[list[dict[str, Any]]]:
        read = self._read_words if options.is_split_into_words else self._read_text
        if options.strategy in WORD_STRATEGIES and not self.tokenizer.token_texts.has_prefix:
            warnings.warn(
                "aggregation_strategy: this tokenizer does not mark words; white space ends them",
                UserWarning,
                stacklevel=3,
            )
        index = 0
        for chunk in chunks(inputs, batch_size):
            texts = [read(value, f"inputs[{index + i}]", options) for i, value in enumerate(chunk)]
            index += len(chunk)
            windows = [self._windows(text, options) for text in texts]
            sequences = [
                self._sequence(text, window)
                for text, own in zip(texts, windows, strict=True)
                for window in own
            ]
            # Of the options only deadline and cancellation count here; neither is set.
            outputs = iter(self.model.session.run(sequences, CallOptions(limits=None)))
            for text, own in zip(texts, windows, strict=True):
                yield self._result(text, own, [next(outputs) for _ in own], options)

    def _read_text(self, value: Any, place: str, options: TagOptions) -> _Tokens:
        del options
        check_text(place, value, max_chars=MAX_TEXT_CHARS)
        encoding = self.tokenizer.encode(value)
        if not len(encoding.input_ids):
            raise EmptyInputError(f"{place}: got text without a single token, want readable text")
        words = self.tokenizer.word_spans(value, encoding)
        if len(words.offsets) != len(encoding.input_ids):  # control tokens are text here
            return _Tokens(value, encoding.input_ids, encoding.offsets, encoding.offsets)
        return _Tokens(value, encoding.input_ids, words.offsets, words.opening_offsets)

    def _read_words(self, value: Any, place: str, options: TagOptions) -> _Tokens:
        if not isinstance(value, list) or not value:
            raise InputError(f"{place}: got {value!r}, want a list of words")
        parts = [
            self._read_text(word, f"{place}[{index}]", options) for index, word in enumerate(value)
        ]
        starts = np.cumsum([0, *(len(word) + len(options.delimiter) for word in value)])
        moved = [
            (part.offsets + np.int32(start), part.opening_offsets + np.int32(start))
            for part, start in zip(parts, starts[:-1], strict=True)
        ]
        offsets = np.concatenate([offsets for offsets, _ in moved])
        opening = np.concatenate([offsets for _, offsets in moved])
        ids = np.concatenate([part.ids for part in parts])
        return _Tokens(options.delimiter.join(value), ids, offsets, opening)

    def _windows(self, text: _Tokens, options: TagOptions) -> list[slice]:
        """Return the tokens of every window; without a stride there is one, of the beginning."""
        room = self.model.model_max_length - _NUM_SPECIAL
        if options.stride is None:
            return [slice(0, min(room, len(text.ids)))]
        starts, lengths = cut_windows(len(text.ids), room, room - options.stride, "inputs")
        return [slice(s, s + length) for s, length in zip(starts, lengths, strict=True)]

    def _sequence(self, text: _Tokens, window: slice) -> TokenSequence:
        tokenizer = self.tokenizer
        parts = ([tokenizer.cls_id], text.ids[window], [tokenizer.sep_id])
        ids = np.concatenate(parts, dtype=np.int32)
        return TokenSequence(ids, np.zeros(len(ids), np.int32))

    def _result(
        self, text: _Tokens, windows: list[slice], outputs: list[Outputs], options: TagOptions
    ) -> list[dict[str, Any]]:
        texts = self.tokenizer.token_texts
        found: list[dict[str, Any]] = []
        for window, output in zip(windows, outputs, strict=True):
            offsets = text.offsets[window].copy()
            offsets[0] = text.opening_offsets[window.start]
            tokens = TokenScores.of_window(
                text.text, text.ids[window].tolist(), offsets, output["logits"][1:-1], texts
            )
            found += group_tokens(
                tokens, self.model.labels, options.strategy, options.ignore_labels, texts
            )
        return merge_windows(found) if len(windows) > 1 else found


def _old_strategy(given: Mapping[str, Any]) -> str | None:
    """Return the strategy that the arguments before aggregation_strategy ask for."""
    names = [name for name in ("grouped_entities", "ignore_subwords") if name in given]
    if not names:
        return None
    strategy = "none"
    if given.get("grouped_entities"):
        strategy = "first" if given.get("ignore_subwords") else "simple"
    warnings.warn(
        f"{', '.join(names)}: deprecated in Transformers 4.x; this is "
        f"aggregation_strategy={strategy!r}",
        UserWarning,
        stacklevel=4,
    )
    return strategy

"""The summarization pipeline: results as in Transformers 4.x, by models that choose sentences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from bert_rt.errors import InputError
from bert_rt.pipelines.base import Pipeline, chunks, is_lazy, reject_unknown
from bert_rt.pipelines.loading import OpenModel
from bert_rt.tasks.limits import SummaryConfig
from bert_rt.tasks.summarization.summarizing import Summarization, SummaryOptions

__all__ = ["SummarizationPipeline"]

_TASK = Summarization()
_SETTINGS = ("batch_size", "max_sentences", "num_workers", "trigram_blocking", "truncation")
# Of models that write text. Transformers takes these.
_GENERATION = (
    "do_sample",
    "early_stopping",
    "length_penalty",
    "max_length",
    "max_new_tokens",
    "min_length",
    "no_repeat_ngram_size",
    "num_beams",
)


class SummarizationPipeline(Pipeline):
    """Sums texts up by their best sentences. Thread-safe.

    Attributes:
        task: "summarization".
        model: The open model: engine, tokenizer and limits.
        tokenizer: The model's tokenizer.
    """

    task = "summarization"
    model: OpenModel

    def __init__(self, model: OpenModel, *, batch_size: int = 1, **options: Any) -> None:
        """Take over a model.

        Args:
            model: A model that scores sentences.
            batch_size: Texts that are read ahead from an iterator.
            **options: Defaults of later calls.

        Raises:
            InputError: An option is unknown or out of range.
        """
        super().__init__(model, batch_size)
        length = model.model_max_length
        limits = model.limits or SummaryConfig(
            max_seq_length=length,
            doc_stride=length // 4,
            max_sentence_length=min(128, length - 2),
        )
        self._defaults = _options(SummaryOptions(limits=limits), options)

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        """Sum texts up.

        Args:
            inputs: A text, or a list, an iterator or a dataset of texts.
            **kwargs: max_sentences (of a summary; None for the model's), trigram_blocking (True:
                no sentence that repeats three words in a row of a better one), batch_size.
                truncation and num_workers are taken and have no effect: all of a text is read,
                or as much as the model's max_windows says.

        Returns:
            The shapes of Transformers 4.x: {"summary_text"} for every text, in a list also where
            there is one; for an iterator or a dataset an iterator.

        Raises:
            InputError: An argument is unknown or out of range, or a text is empty or unreadable.
            OverloadedError: Too much is waiting already.
            EngineError: The engine failed, or the pipeline is closed.
        """
        batch_size = self._batch_size_of(kwargs)
        options = _options(self._defaults, kwargs)
        if is_lazy(inputs):
            return self._lazily(inputs, lambda items: self._stream(items, options, batch_size))
        texts = inputs if isinstance(inputs, list) else [inputs]
        return list(self._stream(texts, options, None))

    def _stream(
        self, inputs: Iterable[Any], options: SummaryOptions, batch_size: int | None
    ) -> Iterator[dict[str, str]]:
        index = 0
        for chunk in chunks(inputs, batch_size):
            checked = [_TASK.check_input(v, f"inputs[{index + i}]") for i, v in enumerate(chunk)]
            index += len(chunk)
            for summary in self.model.session.stream(_TASK, checked, options):
                yield {"summary_text": summary.text}


def _options(defaults: SummaryOptions, settings: Mapping[str, Any]) -> SummaryOptions:
    for name in _GENERATION:
        if name in settings:
            raise InputError(
                f"{name}: got {settings[name]!r}, which is for models that write text; this one "
                "chooses sentences, as many as max_sentences says"
            )
    given = {name: value for name, value in settings.items() if value is not None}
    reject_unknown(given, _SETTINGS)
    fields = {
        name: value
        for name, value in given.items()
        if name in ("max_sentences", "trigram_blocking")
    }
    return replace(defaults, **fields)

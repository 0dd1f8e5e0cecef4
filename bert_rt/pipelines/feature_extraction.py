"""The feature-extraction pipeline: arguments and results of Transformers 4.x, on torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from bert_rt.errors import InputError
from bert_rt.pipelines.base import Pipeline, chunks, is_lazy, reject_unknown
from bert_rt.pipelines.texts import Truncation, check_input, make_input, read_truncation

if TYPE_CHECKING:
    from bert_rt.pipelines.torch_model import TorchModel

__all__ = ["FeatureExtractionPipeline"]


class FeatureExtractionPipeline(Pipeline):
    """Gives the encoder's last hidden states. Thread-safe.

    Attributes:
        task: "feature-extraction".
        model: The model.
        tokenizer: The model's tokenizer.
    """

    task = "feature-extraction"
    model: TorchModel

    def __init__(self, model: TorchModel, *, batch_size: int = 1, **options: Any) -> None:
        """Take over a model.

        Args:
            model: An encoder.
            batch_size: Texts that are computed together.
            **options: Defaults of later calls.

        Raises:
            InputError: An option is unknown or out of range.
        """
        super().__init__(model, batch_size)
        unset = Truncation(None, model.max_sequence_length)
        self._defaults = self._options((unset, False), options)

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        """Encode texts.

        Args:
            inputs: A text, or a list, an iterator or a dataset of texts.
            **kwargs: truncation, tokenize_kwargs (truncation and max_length), return_tensors,
                batch_size. num_workers is taken and has no effect.

        Returns:
            For a text its states of shape (1, T, D), special tokens included, as nested lists, or
            as a tensor of torch where return_tensors is true; for a list a list of that; for an
            iterator or a dataset an iterator. Unlike in Transformers, texts that are computed
            together are given without padding.

        Raises:
            InputError: An argument is unknown or out of range, or a text is empty, unreadable, or
                too long without truncation.
        """
        batch_size = self._batch_size_of(kwargs)
        options = self._options(self._defaults, kwargs)
        if is_lazy(inputs):
            return self._lazily(inputs, lambda items: self._stream(items, options, batch_size))
        if isinstance(inputs, list):
            return list(self._stream(inputs, options, batch_size))
        (result,) = self._stream([inputs], options, batch_size)
        return result

    def _options(
        self, defaults: tuple[Truncation, bool], settings: Mapping[str, Any]
    ) -> tuple[Truncation, bool]:
        """Return how texts are cut off, and whether tensors are wanted."""
        reject_unknown(settings, ("truncation", "tokenize_kwargs", "return_tensors", "num_workers"))
        truncation, is_tensor = defaults
        tokenize = dict(settings.get("tokenize_kwargs") or {})
        if settings.get("truncation") is not None:
            if "truncation" in tokenize:
                raise InputError("truncation: got it twice, as itself and in tokenize_kwargs")
            tokenize["truncation"] = settings["truncation"]
        if tokenize:
            truncation = read_truncation(tokenize, self.model)
        if settings.get("return_tensors") is not None:
            is_tensor = bool(settings["return_tensors"])
        return truncation, is_tensor

    def _stream(
        self, inputs: Iterable[Any], options: tuple[Truncation, bool], batch_size: int
    ) -> Iterator[Any]:
        truncation, is_tensor = options
        index = 0
        for chunk in chunks(inputs, batch_size):
            sequences = []
            for text in chunk:
                place = f"inputs[{index}]"
                index += 1
                item = check_input(text, place)
                sequences.append(make_input(self.tokenizer, item, truncation, place=place))
            for states_1TD in self.model.hidden_states(sequences):
                yield states_1TD if is_tensor else states_1TD.tolist()

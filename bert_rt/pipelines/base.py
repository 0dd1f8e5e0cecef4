"""What the pipelines of all tasks share."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import partial
from itertools import islice
from typing import Any, ClassVar, Self

from bert_rt.errors import ConfigError, InputError
from bert_rt.pipelines.loading import AnyModel
from bert_rt.text.tokenization import Tokenizer

__all__ = [
    "DatasetResults",
    "Pipeline",
    "check_int",
    "chunks",
    "is_dataset",
    "is_lazy",
    "reject_unknown",
]

# Enough to sort windows by length with little padding, and no more than some megabytes.
_CHUNK_SIZE = 128


class Pipeline:
    """A model that is called with texts, behind the arguments of Transformers 4.x.

    Attributes:
        task: The task's name.
        model: The open model.
        made_by: The function that made it and its arguments, or None.
    """

    task: ClassVar[str]

    def __init__(self, model: AnyModel, batch_size: int) -> None:
        """Hold a model.

        Args:
            model: The open model; close closes it.
            batch_size: Inputs that are read ahead from an iterator.

        Raises:
            InputError: batch_size is no positive integer.
        """
        self.model = model
        self._batch_size = check_int("batch_size", batch_size, 1, 2**20)
        self.made_by: tuple[Callable[..., Pipeline], dict[str, Any]] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Say how to make this pipeline in another process, or once more in this one.

        Returns:
            What pickle and copy want: the model's path and the arguments, but no weight.

        Raises:
            ConfigError: It was made by its class, not by `pipeline`.
        """
        if self.made_by is None:
            raise ConfigError(
                f"{type(self).__name__}: cannot be pickled or copied, since it was not made by "
                "bert_rt.pipeline"
            )
        function, arguments = self.made_by
        return partial(function, **arguments), ()

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer."""
        return self.model.tokenizer

    def close(self) -> None:
        """Free the model, or close the Runtime that was given. Calling it twice is harmless."""
        self.model.close()

    def __enter__(self) -> Self:
        """Return the pipeline itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close it."""
        self.close()

    def _lazily(self, inputs: Any, compute: Callable[[Iterable[Any]], Iterator[Any]]) -> Any:
        """Give the results of an iterator or a dataset one by one."""
        return DatasetResults(inputs, compute) if is_dataset(inputs) else compute(inputs)

    def _batch_size_of(self, settings: dict[str, Any]) -> int:
        """Take batch_size out of a call's settings."""
        batch_size = settings.pop("batch_size", None)
        if batch_size is None:
            return self._batch_size
        return check_int("batch_size", batch_size, 1, 2**20)


class DatasetResults(Iterator[Any]):
    """Results over a dataset, each computed when it is asked for.

    Like Transformers' PipelineIterator it begins anew with every `iter`, and has a length where
    the dataset has one.
    """

    def __init__(self, dataset: Any, compute: Callable[[Iterable[Any]], Iterator[Any]]) -> None:
        """Hold the dataset; nothing is read yet.

        Args:
            dataset: What is_dataset accepts.
            compute: Inputs to results, one by one.
        """
        self._dataset = dataset
        self._compute = compute
        self._results: Iterator[Any] | None = None

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self._dataset)

    def __iter__(self) -> Self:
        """Begin at the first item."""
        self._results = self._compute(_items(self._dataset))
        return self

    def __next__(self) -> Any:
        """Return the next item's result."""
        if self._results is None:
            iter(self)
        assert self._results is not None
        return next(self._results)


def is_dataset(inputs: Any) -> bool:
    """Tell whether inputs are a dataset of torch (such as KeyDataset) or stream from `datasets`.

    Args:
        inputs: What a pipeline was called with.

    Returns:
        True for an object of torch's class Dataset or of IterableDataset of `datasets`, or of a
        subclass. Neither library is imported.
    """
    return any(
        (cls.__name__ == "Dataset" and cls.__module__.startswith("torch.utils.data"))
        or (cls.__name__ == "IterableDataset" and cls.__module__.startswith("datasets."))
        for cls in type(inputs).__mro__
    )


def is_lazy(inputs: Any) -> bool:
    """Tell whether results of inputs are given one by one: of an iterator, or of a dataset."""
    return isinstance(inputs, Iterator) or is_dataset(inputs)


def _items(dataset: Any) -> Iterator[Any]:
    # As torch's DataLoader reads it: a dataset with a length by index, whether it can be iterated
    # or not; one without is iterated.
    if hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__"):
        return (dataset[index] for index in range(len(dataset)))
    return iter(dataset)


def chunks(inputs: Iterable[Any], batch_size: int | None = None) -> Iterator[list[Any]]:
    """Split inputs into lists.

    Args:
        inputs: Anything; pulled from one chunk at a time.
        batch_size: Most inputs of a chunk; None for what computes well.

    Yields:
        Lists of at least one input.
    """
    iterator = iter(inputs)
    while chunk := list(islice(iterator, batch_size or _CHUNK_SIZE)):
        yield chunk


def check_int(name: str, value: Any, low: int, high: int) -> int:
    """Check an integer that a user gave.

    Args:
        name: The argument's name.
        value: The user's value.
        low: Least value allowed.
        high: Greatest value allowed.

    Returns:
        The value.

    Raises:
        InputError: It is no integer or out of range.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        got = reprlib.repr(value)
        raise InputError(f"{name}: got {got}, want an integer from {low} to {high}")
    return value


def reject_unknown(settings: Mapping[str, Any], known: Collection[str]) -> None:
    """Refuse arguments of other names.

    Args:
        settings: What the caller gave.
        known: The names that there are.

    Raises:
        InputError: There is another one. Transformers would ignore it, with whatever was meant.
    """
    unknown = sorted(set(settings) - set(known))
    if unknown:
        raise InputError(f"arguments: got {unknown}, known are {', '.join(sorted(known))}")

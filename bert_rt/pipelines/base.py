"""What the pipelines of all tasks share."""

from __future__ import annotations

import reprlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar

from bert_rt.errors import InputError
from bert_rt.pipelines.loading import AnyModel
from bert_rt.text.tokenization import Tokenizer

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Pipeline", "check_int", "chunks", "reject_unknown"]

# Enough to sort windows by length with little padding, and no more than some megabytes.
_CHUNK_SIZE = 128


class Pipeline:
    """A model that is called with texts, behind the arguments of Transformers 4.x.

    Attributes:
        task: The task's name.
        model: The open model.
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

    def _batch_size_of(self, settings: dict[str, Any]) -> int:
        """Take batch_size out of a call's settings."""
        batch_size = settings.pop("batch_size", None)
        if batch_size is None:
            return self._batch_size
        return check_int("batch_size", batch_size, 1, 2**20)


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

"""Many inputs, some of them bad -> the fields of results, together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from bert_rt.api import Runtime
from bert_rt.errors import InputError
from bert_rt.tasks.base import CallOptions
from bert_rt.tasks.forms.rows import RowForm
from bert_rt.tasks.session import Session

__all__ = ["Computed", "compute"]

# For every input the fields of its result, or what is wrong with it; and the tokens that were read.
Computed = tuple[list[dict[str, Any] | InputError], int]


def compute(
    runtime: Runtime, form: RowForm, items: Sequence[Any | InputError], options: CallOptions
) -> Computed:
    """Compute inputs together; a bad one costs no other.

    Args:
        runtime: Computes.
        form: Makes fields of results.
        items: Checked inputs; those that are errors stay as they are.
        options: What is asked.

    Returns:
        Fields or an error for every item, and how many tokens the model read.

    Raises:
        EngineError: The engine failed.
    """
    task = _Counting(runtime.task)
    good = [item for item in items if not isinstance(item, InputError)]
    results: list[dict[str, Any] | InputError] = []
    while len(results) < len(good):
        # An input that turns out to be bad ends the stream behind the results before it.
        stream: Any = runtime.session.stream(task, good[len(results) :], options, place="")  # type: ignore[arg-type]
        try:
            results.extend(map(form.fields, stream))
        except InputError as error:
            results.append(error)
    computed = iter(results)
    return [it if isinstance(it, InputError) else next(computed) for it in items], task.num_tokens


class _Counting:
    """A task that counts the tokens of its inputs."""

    def __init__(self, task: Any) -> None:
        self._task = task
        self.num_tokens = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)

    def prepare(
        self, items: Sequence[Any], session: Session, options: CallOptions
    ) -> Iterator[Any]:
        """Prepare inputs, and count."""
        for prepared in self._task.prepare(items, session, options):
            self.num_tokens += sum(sequence.num_tokens for sequence in prepared.sequences)
            yield prepared

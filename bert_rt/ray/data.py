"""Rows of Ray Data: an engine an actor, which adds the columns of results."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bert_rt.api import Runtime
from bert_rt.computing import compute
from bert_rt.errors import ConfigError, InputError
from bert_rt.ray.artifacts import open_runtime

__all__ = ["answerer"]

_ERROR = "error"


def answerer(
    artifact: Any = None,
    *,
    columns: Mapping[str, str] | None = None,
    top_k: int | None = None,
    engine: str = "auto",
    device: str = "cpu",
    num_threads: int | None = None,
    max_context_cache_mb: int | None = None,
    on_error: str = "raise",
) -> type[Any]:
    """Make the class that Dataset.map_batches of Ray Data wants: an engine an actor.

    Args:
        artifact: As in open_runtime. The path must be readable on every machine.
        columns: Which columns hold what, by the names of the task's flags, such as
            {"question_column": "q"}.
        top_k: Results wanted of every row.
        engine: As in Runtime.load, like device.
        device: "cpu", "cuda" or an OpenVINO device name.
        num_threads: Threads of an engine; give map_batches the same as num_cpus. None for the
            cores that the actor's process may use.
        max_context_cache_mb: As in Runtime.load, of each actor.
        on_error: "raise", or "column" for a column "error" that is empty for good rows; the
            results of bad ones are None.

    Returns:
        A class. Called with a batch of columns it returns them with those of the results.

    Raises:
        ConfigError: on_error is another.
    """
    if on_error not in ("raise", "column"):
        raise ConfigError(f"on_error: got {on_error!r}, want raise or column")
    options = {
        "engine": engine,
        "device": device,
        "num_threads": num_threads,
        "max_context_cache_mb": max_context_cache_mb,
    }

    class Answerer(_Answerer):
        """An engine, loaded once."""

        def __init__(self) -> None:
            """Load it."""
            super().__init__(
                open_runtime(artifact, **options), columns or {}, top_k, on_error == "column"
            )

    return Answerer


class _Answerer:
    """Adds the columns of results to batches of columns."""

    def __init__(
        self,
        runtime: Runtime,
        columns: Mapping[str, str],
        top_k: int | None,
        has_error_column: bool,
    ) -> None:
        self._runtime = runtime
        self._form = runtime.task.rows()
        self._columns = self._form.make_columns(columns, runtime.task.name)
        self._options = runtime.options(top_k=top_k)
        self._has_error_column = has_error_column

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        names = self._form.required(batch.keys(), self._columns)
        num_rows = len(batch[names[0]])
        items: list[Any] = []
        for row in zip(*(batch[name] for name in names), strict=True):
            with self._catching(items):
                fields = {name: _plain(value) for name, value in zip(names, row, strict=True)}
                item = self._form.item(fields, self._columns)
                items.append(self._runtime.task.check_input(item))
        results = self._compute(items)
        made = [*self._form.names, *([_ERROR] if self._has_error_column else [])]
        added: dict[str, list[Any]] = {name: [] for name in made}
        for result in results:
            is_bad = isinstance(result, InputError)
            values = {_ERROR: str(result)} if isinstance(result, InputError) else result
            for name, column in added.items():
                column.append(values.get(name, None if is_bad or name != _ERROR else ""))
        assert len(results) == num_rows
        return {**batch, **added}

    @contextlib.contextmanager
    def _catching(self, items: list[Any]) -> Iterator[None]:
        try:
            yield
        except InputError as error:
            if not self._has_error_column:
                raise
            items.append(error)

    def _compute(self, items: Sequence[Any]) -> list[dict[str, Any] | InputError]:
        results, _ = compute(self._runtime, self._form, items, self._options)
        if not self._has_error_column:
            for result in results:
                if isinstance(result, InputError):
                    raise result
        return results


def _plain(value: Any) -> Any:
    """Return a value of NumPy as one of Python."""
    return value.item() if hasattr(value, "item") else value

"""Rows on a cluster: engines as actors of Ray. Needs `pip install 'bert-rt[ray]'`.

dataset.map_batches(bert_rt.ray.answerer("ART", num_threads=4), concurrency=8, num_cpus=4)
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bert_rt.api import Runtime
from bert_rt.artifact.artifact import MANIFEST_NAME, default_artifact_path, load_artifact
from bert_rt.computing import compute
from bert_rt.errors import ConfigError, InputError

__all__ = ["answerer", "open_runtime", "put_artifact"]

_ERROR = "error"


def put_artifact(path: str | os.PathLike[str] | None = None) -> Any:
    """Put an artifact into Ray's object store, for machines that cannot read its path.

    Args:
        path: The artifact directory; None for the embedded default model.

    Returns:
        A reference, which answerer takes in place of a path.

    Raises:
        ArtifactError: The artifact cannot be used.
    """
    import ray

    directory = Path(default_artifact_path() if path is None else path)
    names = [MANIFEST_NAME, *load_artifact(directory).manifest.files]
    return ray.put({name: (directory / name).read_bytes() for name in names})


def open_runtime(artifact: Any, **options: Any) -> Runtime:
    """Load a Runtime inside an actor.

    Args:
        artifact: A path, None for the embedded model, or what put_artifact gave.
        **options: As in Runtime.load.

    Returns:
        A Runtime that is ready to answer.

    Raises:
        BertRtError: As in Runtime.load.
    """
    if artifact is None or isinstance(artifact, str | os.PathLike):
        return Runtime.load(artifact, **options)
    import ray

    files: Mapping[str, bytes] = ray.get(artifact)
    with tempfile.TemporaryDirectory(prefix="bert_rt-") as folder:
        for name, data in files.items():
            place = Path(folder) / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
        return Runtime.load(folder, **options)


def answerer(
    artifact: Any = None,
    *,
    columns: Mapping[str, str] | None = None,
    top_k: int | None = None,
    engine: str = "auto",
    device: str = "cpu",
    num_threads: int | None = None,
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
        on_error: "raise", or "column" for a column "error" that is empty for good rows; the
            results of bad ones are None.

    Returns:
        A class. Called with a batch of columns it returns them with those of the results.

    Raises:
        ConfigError: on_error is another.
    """
    if on_error not in ("raise", "column"):
        raise ConfigError(f"on_error: got {on_error!r}, want raise or column")
    options = {"engine": engine, "device": device, "num_threads": num_threads}

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
    def _catching(self, items: list[Any]) -> Any:
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

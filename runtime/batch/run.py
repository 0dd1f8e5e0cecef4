"""A run: chunks are computed, their results written, and the journal says how far it has come."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from bert_rt.computing import Computed
from bert_rt.errors import InputError
from bert_rt.support.background import Background
from bert_rt.support.progress import Progress, progress
from bert_rt.tasks.forms.rows import ColumnsError
from runtime.batch.chunks import Chunk, Reading, make_chunks
from runtime.batch.encoding import Encoder, encode_lines
from runtime.batch.inputs import Inputs
from runtime.batch.journal import Done, Journal
from runtime.batch.parts import Growing, PartFile, Pipe, is_pipe, part_of
from runtime.batch.sources import Row, describe
from runtime.batch.streams import split_name

__all__ = ["ComputeAll", "Files", "Summary", "run"]

# Flushing to the disk takes a while on some; a crash costs this much work and a chunk.
_COMMIT_S = 2.0

ComputeAll = Callable[[Iterable[Chunk]], Generator[tuple[Chunk, Computed]]]
"""Computes chunks and gives them back in order, however many at a time."""


@dataclass(frozen=True, slots=True)
class Files:
    """What a run writes.

    Attributes:
        output: Results.
        errors: Bad rows; None where the first one ends the run.
        identity: What the run is of, beside its input: plain JSON values.
    """

    output: str
    errors: str | None
    identity: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run did.

    Attributes:
        rows: All rows, the bad ones and those of earlier runs included.
        bad: Bad ones.
        tokens: Tokens that the model read for all.
        resumed_rows: Rows that earlier runs did.
        seconds: Of this run.
    """

    rows: int
    bad: int
    tokens: int
    resumed_rows: int
    seconds: float


def run(
    inputs: Inputs, reading: Reading, encoder: Encoder, files: Files, compute_all: ComputeAll
) -> Summary:
    """Compute all rows that are not done yet.

    Args:
        inputs: The rows.
        reading: How they are read.
        encoder: Makes bytes of results.
        files: Where these go.
        compute_all: Computes chunks.

    Returns:
        What was done.

    Raises:
        InputError: A row is bad and none may be, or the output is another run's.
        OSError: A file cannot be written.
        BertRtError: Computing failed.
    """
    start_s = time.monotonic()
    with _Writing(files, inputs) as writing:
        before = writing.done
        if not before.complete:
            rows = inputs.rows(before.rows, before.input)
            with progress(
                "batch", total=inputs.num_rows, unit="rows", already_done=before.rows
            ) as shown:
                writing.begin(encoder)
                chunks = _checked(
                    make_chunks(rows, reading), files, inputs, is_first=not before.rows
                )
                if inputs.num_rows is not None:  # a pipe may not give more for hours
                    chunks = _ahead(chunks)
                with contextlib.closing(compute_all(chunks)) as all_computed:
                    for chunk, computed in all_computed:
                        _raise_first(chunk.rows, computed, files)
                        writing.add(chunk, computed, encoder)
                        _show(shown, writing.done, before, len(chunk.rows), start_s)
        writing.finish()
        done = writing.done
    seconds = time.monotonic() - start_s
    return Summary(done.rows, done.bad, done.tokens, before.rows, seconds)


class _Writing:
    """The files of a run, which grow by chunks.

    Attributes:
        done: What is written, on the disk or not yet.
    """

    def __init__(self, files: Files, inputs: Inputs) -> None:
        """Open them where the run ended, or begin.

        Args:
            files: Their names, and what the run is of.
            inputs: The rows.

        Raises:
            InputError: A file is of another run.
            OSError: A file cannot be written.
        """
        self._files = files
        self._journal: Journal | None = None
        self._parts: list[PartFile] = []
        self._pipes: list[Pipe] = []
        self._synced_s = time.monotonic()
        self.done = Done()
        if not is_pipe(files.output):
            run = {**files.identity, "inputs": inputs.identity}
            self._journal = Journal(files.output, run)
            self.done = self._journal.done
        with self._closing_on_error():
            self._output = self._open(files.output, self.done.output)
            self._errors = None
            if files.errors is not None:
                self._errors = self._open(files.errors, self.done.errors)
            elif self.done.errors:
                raise InputError(
                    f"errors: got none, but {self.done.bad} rows were bad already; give the same "
                    "--errors to go on"
                )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            # What is computed stays, unless the disk is what failed.
            with contextlib.suppress(OSError):
                self._commit()
        self._close()

    @contextlib.contextmanager
    def _closing_on_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self._close()
            raise

    def _open(self, name: str, size: int) -> Growing | None:
        if is_pipe(name) or self._journal is None:
            self._pipes.append(Pipe(name))
            return self._pipes[-1]
        if self.done.complete and not part_of(name).exists():
            return None  # It has its name already.
        if not size and Path(name).exists():
            raise InputError(f"{name}: exists already; remove it or name another file")
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        part = PartFile(name, size)
        self._parts.append(part)
        return part

    def begin(self, encoder: Encoder) -> None:
        """Write what stands before all rows, unless it is there."""
        if not self.done.output and self._output is not None:
            self._output.write(encoder.head())

    def add(self, chunk: Chunk, computed: Computed, encoder: Encoder) -> None:
        """Write the results of a chunk."""
        assert self._output is not None
        results, num_tokens = computed
        good, bad = [], []
        for row, label, result in zip(chunk.rows, chunk.labels, results, strict=True):
            if isinstance(result, InputError):
                place = {"file": row.file, "line": row.number, "error": str(result)}
                bad.append({**place, "row": describe(row)})
            else:
                good.append({**label, **result})
        self._output.write(encoder.encode(good))
        if bad:
            assert self._errors is not None and self._files.errors is not None
            self._errors.write(encode_lines(bad, split_name(self._files.errors)[1]))
        self.done = Done(
            rows=self.done.rows + len(chunk.rows),
            bad=self.done.bad + len(bad),
            tokens=self.done.tokens + num_tokens,
            output=self._output.size,
            errors=0 if self._errors is None else self._errors.size,
            input=chunk.input_hash,
        )
        if time.monotonic() - self._synced_s >= _COMMIT_S:
            self._commit()

    def _commit(self) -> None:
        if self._journal is None or self._journal.done == self.done:
            return
        for part in self._parts:
            part.sync()
        self._journal.commit(self.done)
        self._synced_s = time.monotonic()

    def finish(self) -> None:
        """Give the files their names, once the journal says that all is written."""
        self.done = dataclasses.replace(self.done, complete=True)
        self._commit()
        for part in reversed(self._parts):  # the output last
            part.finish()
        self._parts.clear()

    def _close(self) -> None:
        is_begun = self._journal is not None and (
            self._journal.done.rows or self._journal.done.complete
        )
        for pipe in self._pipes:
            pipe.close()
        for part in self._parts:
            if is_begun:
                part.close()
            else:
                part.remove()
        if self._journal is not None:
            self._journal.close()


def _ahead(chunks: Iterator[Chunk]) -> Iterator[Chunk]:
    """Read a chunk while the one before it is computed."""

    def read() -> Background[Chunk | None]:
        return Background(lambda: next(chunks, None))

    coming = read()
    try:
        while (chunk := coming.result()) is not None:
            coming = read()
            yield chunk
    finally:
        coming.wait()


def _checked(
    chunks: Iterable[Chunk], files: Files, inputs: Inputs, *, is_first: bool
) -> Iterator[Chunk]:
    """Refuse, before it is computed, a chunk with a bad row where none may be.

    A first chunk without a single usable row is refused anyway: then a flag is wrong, not a row.
    """
    for chunk in chunks:
        chunk.input_hash = inputs.hash_so_far()
        if is_first and all(isinstance(item, ColumnsError) for item in chunk.items):
            raise InputError(f"{chunk.rows[0].file}, {chunk.rows[0].place}: {chunk.items[0]}")
        is_first = False
        _raise_first(chunk.rows, (chunk.items, 0), files)
        yield chunk


def _raise_first(rows: list[Row], computed: tuple[list[Any], int], files: Files) -> None:
    """Raise the first error, where errors end the run."""
    if files.errors is not None:
        return
    for row, result in zip(rows, computed[0], strict=True):
        if isinstance(result, InputError):
            raise InputError(
                f"{row.file}, {row.place}: {result} (--errors FILE leaves such rows "
                "out and goes on)"
            )


def _show(shown: Progress, done: Done, before: Done, num_rows: int, start_s: float) -> None:
    seconds = max(time.monotonic() - start_s, 1e-9)
    note = f"{(done.tokens - before.tokens) / seconds:,.0f} tokens/s"
    if done.bad:
        note += f", {done.bad:,} bad rows"
    shown.advance(num_rows, note)

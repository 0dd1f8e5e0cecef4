"""Progress of long work: a bar on a terminal where Rich is installed, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import time
from collections.abc import Iterator
from typing import Protocol, TextIO

__all__ = ["Progress", "progress"]


class Progress(Protocol):
    """Shows how far long work has come."""

    def advance(self, count: int = 1, note: str = "") -> None:
        """Count work that is done.

        Args:
            count: How many units more are done.
            note: What to show beside the count until the next note, such as "loss 1.93".
        """
        ...


@contextlib.contextmanager
def progress(
    title: str,
    *,
    total: int | None,
    unit: str,
    already_done: int = 0,
    interval_s: float = 10.0,
    stream: TextIO | None = None,
) -> Iterator[Progress]:
    """Show the progress of what is done inside a with statement.

    Args:
        title: What is being done.
        total: How many units there are; None where nobody knows.
        unit: What is counted, in the plural, such as "questions".
        already_done: How many were done before, which says nothing of the speed.
        interval_s: Seconds between plain lines.
        stream: Where to write; None for stderr, which leaves stdout to the results.

    Yields:
        What to tell of every unit that is done.
    """
    stream = stream or sys.stderr
    if stream.isatty() and importlib.util.find_spec("rich") is not None:
        with _rich_bar(title, total, unit, already_done, stream) as bar:
            yield bar
        return
    lines = _Lines(title, total, unit, already_done, interval_s, stream)
    yield lines
    lines.show()


class _Lines:
    """Progress as plain lines, for logs and files."""

    def __init__(
        self,
        title: str,
        total: int | None,
        unit: str,
        already_done: int,
        interval_s: float,
        stream: TextIO,
    ) -> None:
        self._title = title
        self._total = total
        self._unit = unit
        self._interval_s = interval_s
        self._stream = stream
        self._done = self._already_done = already_done
        self._note = ""
        self._start_s = self._shown_s = time.monotonic()

    def advance(self, count: int = 1, note: str = "") -> None:
        self._done += count
        self._note = note or self._note
        if time.monotonic() - self._shown_s >= self._interval_s:
            self.show()

    def show(self) -> None:
        """Write one line on what is done."""
        self._shown_s = time.monotonic()
        rate = (self._done - self._already_done) / max(self._shown_s - self._start_s, 1e-9)
        line = f"{self._title}: {self._done}"
        if self._total:
            line += f"/{self._total} {self._unit} ({100 * self._done / self._total:.0f}%)"
        else:
            line += f" {self._unit}"
        line += f", {rate:.4g}/s"
        if self._total and rate > 0 and self._done < self._total:
            left_s = round((self._total - self._done) / rate)
            line += f", {left_s // 3600}:{left_s // 60 % 60:02d}:{left_s % 60:02d} left"
        if self._note:
            line += f", {self._note}"
        print(line, file=self._stream, flush=True)


@contextlib.contextmanager
def _rich_bar(
    title: str, total: int | None, unit: str, already_done: int, stream: TextIO
) -> Iterator[Progress]:
    # Only here: Rich takes longer to import than the first answer may take.
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as RichProgress

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with RichProgress(*columns, console=Console(file=stream)) as display:
        task = display.add_task(title, total=total, completed=already_done, note="")

        class Bar:
            def advance(self, count: int = 1, note: str = "") -> None:
                display.advance(task, count)
                if note:
                    display.update(task, note=note)

        yield Bar()

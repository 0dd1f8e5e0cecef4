"""All input files of a run, one behind the other: what they hold, and the rows of one shard."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bert_rt.errors import ConfigError, InputError
from runtime.batch.chunks import Reading
from runtime.batch.sources import Row, read_rows
from runtime.batch.streams import STDIN, digest

__all__ = ["Inputs", "Shard"]


@dataclass(frozen=True, slots=True)
class Shard:
    """A part of the rows.

    Attributes:
        index: Which one, from 1.
        count: How many there are.
    """

    index: int = 1
    count: int = 1

    def __post_init__(self) -> None:
        """Check that the part is one of those that there are; raises ConfigError."""
        if not 1 <= self.index <= self.count:
            raise ConfigError(f"shard: got {self.index}/{self.count}, want I/N with I from 1 to N")

    def bounds(self, num_rows: int) -> tuple[int, int]:
        """Return the first row of the part, and the one behind its last."""
        return (
            num_rows * (self.index - 1) // self.count,
            num_rows * self.index // self.count,
        )


class Inputs:
    """The rows of some files.

    Attributes:
        num_rows: Rows of the shard; None for a pipe.
        identity: What the files are, as plain JSON values.
    """

    def __init__(
        self, names: Sequence[str], format_name: str | None, reading: Reading, shard: Shard
    ) -> None:
        """Read all files once, for their hashes and their numbers of rows.

        Args:
            names: The files; or "-" alone.
            format_name: As in read_rows.
            reading: How rows are read.
            shard: Which rows.

        Raises:
            InputError: A file cannot be read, or has a column missing.
            ConfigError: A pipe is not alone, or is to be divided.
        """
        self._names = names
        self._format = format_name
        self._reading = reading
        self._hash: Any = None
        self.num_rows: int | None = None
        self.identity: list[Any] = []
        if STDIN in names:
            if len(names) > 1:
                raise ConfigError("input: got - beside files, want either")
            if shard.count > 1:
                raise ConfigError("shard: got rows from stdin, which cannot be divided; want files")
            self._hash = hashlib.sha256()
            self._start, self._stop = 0, None
            return
        before = [digest(name) for name in names]
        total = sum(1 for _ in self._all_rows())
        self._start, self._stop = shard.bounds(total)
        self.num_rows = self._stop - self._start
        # The names are part of the output where there are several.
        self.identity = before if len(names) == 1 else [*map(list, zip(names, before, strict=True))]

    def rows(self, skip: int, hash_before: str) -> Iterator[Row]:
        """Read the rows of the shard behind those that are done.

        Args:
            skip: How many are done.
            hash_before: Of a pipe, the hash that these had.

        Returns:
            The others, in order.

        Raises:
            InputError: A file cannot be read, or a pipe begins with other rows than before.
        """
        rows = self._all_rows()
        if self._hash is None:
            return itertools.islice(rows, self._start + skip, self._stop)
        rows = map(self._hashed, rows)
        count = sum(1 for _ in itertools.islice(rows, skip))
        if count < skip or (skip and self.hash_so_far() != hash_before):
            raise InputError(
                f"stdin: its first {skip} rows are others than when the run began; give the same "
                "input to go on"
            )
        return rows

    def hash_so_far(self) -> str:
        """Return the hash of a pipe's rows so far; "" for files."""
        return "" if self._hash is None else str(self._hash.hexdigest())

    def _hashed(self, row: Row) -> Row:
        content = row.content
        if not isinstance(content, bytes):
            content = json.dumps(content, default=str).encode()
        self._hash.update(b"%d:%d:" % (row.number, len(content)) + content)
        return row

    def _all_rows(self) -> Iterator[Row]:
        reading = self._reading
        for name in self._names:
            yield from read_rows(name, self._format, reading.form, reading.needed)

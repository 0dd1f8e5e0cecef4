"""Prepared passages in a file: what split layers made of them, for the next process.

    _MAGIC | tokens and states of window after window | index | its SHA-256 | its length

The index, JSON, says for which artifact and limits the file was made, and of every passage the
SHA-256 of its text and of its windows. It is verified whole before anything in it is believed, and
a window before it is kept. Numbers are little-endian: int32 tokens, float32 states.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, BinaryIO, TypeVar

import numpy as np

from bert_rt.engines.base import KeepingEngine
from bert_rt.errors import ConfigError
from bert_rt.support.files import atomic_file
from bert_rt.types import FloatArray, IntArray, PreparedContexts

__all__ = ["CHUNK_CONTEXTS", "CHUNK_WINDOWS", "Cut", "pieces", "prepare_with_file"]

# Windows that are computed at a time: what is asked meanwhile waits for no more.
CHUNK_WINDOWS = 16
CHUNK_CONTEXTS = 64

_MAGIC = b"bert-rt prepared passages 1\n"
_LENGTH_BYTES = 8
_HASH_BYTES = 32
_TAIL_BYTES = _HASH_BYTES + _LENGTH_BYTES
_LOG = logging.getLogger(__name__)

ItemT = TypeVar("ItemT")

Cut = Callable[[Sequence[str]], Iterable[list[IntArray]]]
"""Texts -> of each the tokens of its windows behind the question, (T,), int32."""


def pieces(items: Iterable[ItemT], size: int) -> Iterator[list[ItemT]]:
    """Yield the items, at most size at a time."""
    iterator = iter(items)
    while piece := list(islice(iterator, size)):
        yield piece


def prepare_with_file(
    engine: KeepingEngine,
    texts: Iterable[str],
    path: str | os.PathLike[str],
    *,
    made_for: Mapping[str, Any],
    cut: Cut,
) -> PreparedContexts:
    """Keep the passages that a file holds, compute the others, and write the file anew for them.

    Args:
        engine: Keeps them.
        texts: Checked passages; those that come twice count once.
        path: The file, which need not be there.
        made_for: What states depend on beside the text; hidden_size, an integer, among it.
        cut: Makes windows of texts.

    Returns:
        What was done.

    Raises:
        ConfigError: The engine has no room for any passage.
        EngineError: The engine failed.
        OSError: The file cannot be read or written.
    """
    by_hash = {_sha256(text.encode()): text for text in texts}
    with contextlib.ExitStack() as stack:
        stored = _open(path, made_for, stack)
        chosen = _choose(engine, by_hash, stored, cut)
        num_loaded = _load(engine, chosen, stored)
    loaded = (part for passage in chosen for part in passage.parts or ())
    for windows in pieces(loaded, CHUNK_WINDOWS):
        engine.prepare(windows)  # what is kept beside states, and not in a file
    absent = [passage for passage in chosen if passage.parts is None]
    for some in pieces(absent, CHUNK_CONTEXTS):
        for passage, parts in zip(some, cut([it.text for it in some]), strict=True):
            passage.parts = parts
    num_windows = sum(len(passage.parts or ()) for passage in chosen)
    if num_windows > num_loaded:
        _compute(engine, chosen, path if stored.is_ours else None, made_for)
    left_out = len(by_hash) - len(chosen)
    if left_out:
        _LOG.warning(
            "prepared: %d of %d passages have no room: raise max_context_cache_mb",
            left_out,
            len(by_hash),
        )
    return PreparedContexts(len(chosen), left_out, num_loaded, num_windows - num_loaded)


@dataclass(frozen=True, slots=True)
class _Window:
    """Where a window stands in a file."""

    offset: int
    num_tokens: int
    sha256: str


@dataclass(slots=True)
class _Passage:
    """A passage that there is room for; parts are the tokens of its windows, once known."""

    sha256: str
    text: str
    parts: list[IntArray] | None


@dataclass(slots=True)
class _Stored:
    """What a file holds; nothing where there is none, or one for another artifact.

    Attributes:
        path: The file.
        file: The same, open.
        hidden_size: Numbers of a state.
        windows: Of the passages, by the SHA-256 of their texts.
        is_ours: False where a file stands there that is no such file: it is not replaced.
    """

    path: str
    file: BinaryIO = field(default_factory=io.BytesIO)
    hidden_size: int = 0
    windows: dict[str, list[_Window]] = field(default_factory=dict)
    is_ours: bool = True

    def read(self, window: _Window) -> tuple[IntArray, FloatArray]:
        """Read tokens (T,) and states (T, D) of a window; raises _DamagedError."""
        num_ids, num_states = window.num_tokens, window.num_tokens * self.hidden_size
        self.file.seek(window.offset)
        data = self.file.read(4 * (num_ids + num_states))
        if _sha256(data) != window.sha256:
            raise _DamagedError(f"a window at byte {window.offset} is not what its SHA-256 says")
        ids = np.frombuffer(data, "<i4", num_ids).astype(np.int32)
        states = np.frombuffer(data, "<f4", num_states, 4 * num_ids).astype(np.float32)
        return ids, states.reshape(num_ids, self.hidden_size)


class _DamagedError(Exception):
    """A file does not hold what its hashes say."""


def _open(
    path: str | os.PathLike[str], made_for: Mapping[str, Any], stack: contextlib.ExitStack
) -> _Stored:
    """Open the file, if there is one, and read its index."""
    stored = _Stored(os.fspath(path))
    try:
        stored.file = open(path, "rb")  # noqa: SIM115
    except FileNotFoundError:
        return stored
    stack.enter_context(stored.file)
    try:
        index = _read_index(stored)
    except _DamagedError as error:
        _say_damaged(stored, error)
        return stored
    if index["made_for"] != made_for:
        _LOG.info("%s: was made for another artifact, version or limits; made anew", stored.path)
        return stored
    stored.hidden_size = made_for["hidden_size"]
    for passage in index["passages"]:
        windows = [_Window(*fields) for fields in passage["windows"]]
        stored.windows[passage["text_sha256"]] = windows
    return stored


def _read_index(stored: _Stored) -> dict[str, Any]:
    file = stored.file
    if file.read(len(_MAGIC)) != _MAGIC:
        stored.is_ours = False
        raise _DamagedError("begins unlike a file that prepared wrote, and is not replaced")
    end = file.seek(0, os.SEEK_END) - _TAIL_BYTES
    if end >= len(_MAGIC):
        file.seek(end)
        tail = file.read()
        length = int.from_bytes(tail[_HASH_BYTES:], "little")
        if length <= end - len(_MAGIC):
            file.seek(end - length)
            data = file.read(length)
            if hashlib.sha256(data).digest() == tail[:_HASH_BYTES]:
                index: dict[str, Any] = json.loads(data)
                return index
    raise _DamagedError("its index is not what its SHA-256 says, or its end is missing")


def _say_damaged(stored: _Stored, error: _DamagedError) -> None:
    _LOG.error("%s: prepared passages are damaged: %s; they are computed anew", stored.path, error)


def _choose(
    engine: KeepingEngine, by_hash: Mapping[str, str], stored: _Stored, cut: Cut
) -> list[_Passage]:
    """Take passages in order until the cache is full."""
    left = max_bytes = engine.context_cache()["max_bytes"]
    chosen: list[_Passage] = []
    for some in pieces(by_hash.items(), CHUNK_CONTEXTS):
        absent = [(key, text) for key, text in some if key not in stored.windows]
        parts = dict(zip([k for k, _ in absent], cut([t for _, t in absent]), strict=True))
        for key, text in some:
            if key in parts:
                lengths = [len(part) for part in parts[key]]
            else:
                lengths = [window.num_tokens for window in stored.windows[key]]
            left -= sum(map(engine.context_bytes, lengths))
            if left < 0:
                if not chosen:
                    raise ConfigError(
                        f"max_context_cache_mb: got {max_bytes // 2**20}, want at least "
                        f"{-(-(max_bytes - left) // 2**20)}: no passage has room"
                    )
                return chosen
            chosen.append(_Passage(key, text, parts.get(key)))
    return chosen


def _load(engine: KeepingEngine, chosen: Sequence[_Passage], stored: _Stored) -> int:
    """Keep what the file holds of the passages, and note its tokens; return how many windows.

    The first window is computed, too: another version's engine may round otherwise.
    """
    num_loaded = 0
    for some in pieces([it for it in chosen if it.sha256 in stored.windows], CHUNK_WINDOWS):
        for passage in some:
            try:
                read = [stored.read(window) for window in stored.windows[passage.sha256]]
            except _DamagedError as error:
                _say_damaged(stored, error)
                return num_loaded
            parts = [ids for ids, _ in read]
            if not num_loaded and not np.array_equal(engine.prepared_states(parts[:1]), read[0][1]):
                _LOG.info("%s: was made by another engine; made anew", stored.path)
                return 0
            for window in pieces(read, CHUNK_WINDOWS):
                engine.keep([ids for ids, _ in window], np.concatenate([x for _, x in window]))
            passage.parts = parts
            num_loaded += len(parts)
    return num_loaded


def _compute(
    engine: KeepingEngine,
    chosen: Sequence[_Passage],
    path: str | os.PathLike[str] | None,
    made_for: Mapping[str, Any],
) -> None:
    """Compute what is not kept yet, and write all of it."""
    windows = [(passage, part) for passage in chosen for part in passage.parts or ()]
    index: dict[str, list[list[Any]]] = {passage.sha256: [] for passage in chosen}
    with contextlib.nullcontext(io.BytesIO()) if path is None else atomic_file(path) as file:
        offset = file.write(_MAGIC)
        for some in pieces(windows, CHUNK_WINDOWS):
            states = engine.prepared_states([part for _, part in some])
            if path is None:
                continue
            begin = 0
            for passage, part in some:
                end = begin + len(part)
                data = part.astype("<i4").tobytes() + states[begin:end].astype("<f4").tobytes()
                index[passage.sha256].append([offset, len(part), _sha256(data)])
                offset += file.write(data)
                begin = end
        passages = [{"text_sha256": key, "windows": value} for key, value in index.items()]
        data = json.dumps({"made_for": made_for, "passages": passages}).encode("ascii")
        file.write(data + hashlib.sha256(data).digest())
        file.write(len(data).to_bytes(_LENGTH_BYTES, "little"))


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()

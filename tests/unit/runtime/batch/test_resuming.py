"""Runs that end in the middle and go on: nothing is lost or comes twice, no bit is another."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bert_rt.errors import EngineInternalError
from runtime.batch import here, parts
from tests.support.artifacts import write_tiny_artifact
from tests.unit.runtime.batch.support import batch, pairs, read_jsonl, write_jsonl
from tests.unit.runtime.batch.test_batch import _Stream, errors  # noqa: F401 (a fixture)

Errors = Callable[[], str]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    rows = pairs(30)
    return write_jsonl(tmp_path / "in.jsonl", [*rows[:10], "{", *rows[10:]])


@pytest.fixture
def run(tmp_path: Path, source: Path, flags: list[object]) -> Callable[..., int]:
    """Return what runs the command into a directory."""

    def start(name: str, *more: object, output: str = "out.jsonl") -> int:
        place = tmp_path / name
        files = ("--output", place / output, "--errors", place / "bad.jsonl")
        return batch("--input", source, *files, *flags, *more)

    return start


class _Crash(BaseException):
    """Ends a run as a crash does: nothing is cleaned up."""


def crash_at(monkeypatch: pytest.MonkeyPatch, name: str, count: int) -> None:
    """Let the count-th call of a method of PartFile end the run, and all cleaning up."""
    calls = [0]
    original = getattr(parts.PartFile, name)

    def wrapped(self: Any, *args: Any) -> Any:
        calls[0] += 1
        if calls[0] < count:
            return original(self, *args)
        if name == "write" and calls[0] == count:
            self._file.write(args[0][: len(args[0]) // 2])  # a torn write
        raise _Crash

    monkeypatch.setattr(parts.PartFile, name, wrapped)

    def end(self: Any, *_: object) -> None:
        for part in self._parts:
            part._file.close()
        self._journal._file.close()

    monkeypatch.setattr("runtime.batch.run._Writing.__exit__", end)


@pytest.mark.parametrize("output", ["out.jsonl", "out.csv", "out.jsonl.gz", "out.csv.zst"])
def test_after_a_crash_at_any_write(
    tmp_path: Path, run: Callable[..., int], monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    assert run("whole", output=output) == 0
    want = {name: (tmp_path / "whole" / name).read_bytes() for name in (output, "bad.jsonl")}
    few = {"write": [2, 6], "sync": [7], "finish": [1]}
    many = {"write": [*range(1, 11)], "sync": [1, 2, 5, 8, 16], "finish": [1, 2]}
    for name, counts in (many if output == "out.jsonl" else few).items():
        for count in counts:
            place = tmp_path / f"{name}-{count}"
            with monkeypatch.context() as patched:
                crash_at(patched, name, count)
                with pytest.raises(_Crash):
                    run(place.name, output=output)
            with monkeypatch.context() as patched:  # and again, before anything or behind it
                crash_at(patched, name, 2)
                with contextlib.suppress(_Crash):  # where so much is left to do
                    run(place.name, output=output)
            assert run(place.name, output=output) == 0
            got = {path.name: path.read_bytes() for path in place.iterdir()}
            assert got.keys() == {output, "bad.jsonl", f"{output}.journal"}
            assert {key: got[key] for key in want} == want, (name, count)
            assert run(place.name, output=output) == 0  # is complete
            assert (place / output).read_bytes() == want[output]
            shutil.rmtree(place)


def test_a_torn_journal_line_was_not_written(
    tmp_path: Path, run: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("whole") == 0
    with monkeypatch.context() as patched:
        crash_at(patched, "write", 5)
        with pytest.raises(_Crash):
            run("torn")
    journal = tmp_path / "torn" / "out.jsonl.journal"
    whole = journal.read_bytes()
    journal.write_bytes(whole + whole.splitlines(keepends=True)[-1][:-1])
    assert run("torn") == 0
    assert (tmp_path / "torn" / "out.jsonl").read_bytes() == (
        tmp_path / "whole" / "out.jsonl"
    ).read_bytes()


def interrupted(run: Callable[..., int], monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Make a run that an engine's failure ends in the middle."""
    original = here.compute

    def failing(runtime: Any, form: Any, items: Any, options: Any) -> Any:
        if any(repr(item).count(" x") == 13 for item in items):  # the fourth chunk
            raise EngineInternalError("engine: failed")
        return original(runtime, form, items, options)

    with monkeypatch.context() as patched:
        patched.setattr(here, "compute", failing)
        assert run(name) == 2


def test_what_changed_is_an_error_and_nothing_is_lost(
    tmp_path: Path,
    run: Callable[..., int],
    source: Path,
    flags: list[object],
    monkeypatch: pytest.MonkeyPatch,
    errors: Errors,  # noqa: F811
) -> None:
    interrupted(run, monkeypatch, "a")
    assert "engine: failed" in errors()
    place = tmp_path / "a"
    before = {path.name: path.read_bytes() for path in place.iterdir()}
    assert len(before) == 3 and before["out.jsonl.part"].count(b"\n") == 11
    other = tmp_path / "other"
    write_tiny_artifact(other, score_temperature=1.5)
    for more, field in (
        (("--artifact", other), "artifact: got"),
        (("--top_k", 2), "top_k: got 2, want 1"),
        (("--keep", "id"), 'keep: got ["id"], want null'),
        (("--shard", "1/2"), "inputs"),
        (("--max_answer_length", 3), "limits: got"),
        (("--engine", "reference"), "engine: got"),
    ):
        assert run("a", *more) == 2
        message = errors()
        assert "out.jsonl.journal: is the journal of another run: " in message
        assert field in message or "shard: got [1, 2], want [1, 1]" in message
        assert {path.name: path.read_bytes() for path in place.iterdir()} == before
    data = source.read_bytes()
    source.write_bytes(data + b"{}\n")
    assert run("a") == 2
    assert "another run: inputs: got" in errors()
    assert {path.name: path.read_bytes() for path in place.iterdir()} == before
    source.write_bytes(data)
    assert run("whole") == 0 and run("a") == 0
    assert (place / "out.jsonl").read_bytes() == (tmp_path / "whole" / "out.jsonl").read_bytes()


def test_outputs_of_others_are_left_alone(
    tmp_path: Path,
    run: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    errors: Errors,  # noqa: F811
) -> None:
    for name in ("out.jsonl", "out.jsonl.part", "bad.jsonl"):
        place = tmp_path / f"of-{name}"
        place.mkdir()
        (place / name).write_text("precious")
        assert run(place.name) == 2
        assert f"{name}: exists" in errors()
        assert [path.name for path in place.iterdir()] == [name]
        assert (place / name).read_text() == "precious"
    place = tmp_path / "journal"
    place.mkdir()
    (place / "out.jsonl.journal").write_text("my\ndiary\n")
    assert run("journal") == 2
    assert "is no journal that can be read" in errors()
    assert (place / "out.jsonl.journal").read_text() == "my\ndiary\n"
    interrupted(run, monkeypatch, "short")
    errors()
    part = tmp_path / "short" / "out.jsonl.part"
    part.write_bytes(part.read_bytes()[:-1])
    assert run("short") == 2
    assert "want at least the" in errors()
    assert run("gone") == 0
    (tmp_path / "gone" / "out.jsonl").unlink()
    assert run("gone") == 2
    assert "is gone, but" in errors()


def test_two_processes_do_not_write_one_output(
    tmp_path: Path,
    run: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    errors: Errors,  # noqa: F811
) -> None:
    pytest.importorskip("fcntl")
    codes: list[int | None] = []
    original = parts.PartFile.write

    def write(self: Any, data: bytes) -> None:
        if not codes:
            codes.append(None)
            codes[0] = run("a")
        original(self, data)

    monkeypatch.setattr(parts.PartFile, "write", write)
    assert run("a") == 0
    assert codes == [2] and "another process is writing it" in errors()
    assert len(read_jsonl(tmp_path / "a" / "out.jsonl")) == 30


def test_a_pipe_goes_on_where_it_ended(
    tmp_path: Path,
    source: Path,
    flags: list[object],
    monkeypatch: pytest.MonkeyPatch,
    errors: Errors,  # noqa: F811
) -> None:
    def piped(name: str, *more: object) -> int:
        monkeypatch.setattr("sys.stdin", _Stream(source.read_bytes()))
        place = tmp_path / name
        files = ("--output", place / "out.jsonl", "--errors", place / "bad.jsonl")
        return batch("--input", "-", *files, *flags, *more)

    assert piped("whole") == 0
    interrupted(piped, monkeypatch, "a")
    errors()
    data = source.read_bytes()
    source.write_bytes(data.replace(b'"q1"', b'"q!"'))
    assert piped("a") == 2
    assert "stdin: its first 12 rows are others than when the run began" in errors()
    source.write_bytes(data)
    assert piped("a") == 0
    for name in ("out.jsonl", "bad.jsonl"):
        got, want = ((tmp_path / it / name).read_bytes() for it in ("a", "whole"))
        assert got == want


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no full device")
def test_a_full_device(flags: list[object], source: Path, errors: Errors) -> None:  # noqa: F811
    code = batch("--input", source, "--output", "/dev/full", "--errors", "/dev/null", *flags)
    assert code == 2
    assert errors().endswith("No space left on device")


def test_a_full_disk_loses_nothing(
    tmp_path: Path,
    run: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    errors: Errors,  # noqa: F811
) -> None:
    assert run("whole") == 0
    original = parts.PartFile.write

    def write(self: Any, data: bytes) -> None:
        if self.size + len(data) > 1000:
            self._file.write(data[: 1000 - self.size])
            raise OSError(28, "No space left on device", str(self._part))
        original(self, data)

    with monkeypatch.context() as patched:
        patched.setattr(parts.PartFile, "write", write)
        assert run("a") == 2
    assert errors().endswith("out.jsonl.part: No space left on device")
    done = json.loads((tmp_path / "a" / "out.jsonl.journal").read_bytes().splitlines()[-1])
    assert done["rows"] == 4
    assert run("a") == 0
    assert (tmp_path / "a" / "out.jsonl").read_bytes() == (
        tmp_path / "whole" / "out.jsonl"
    ).read_bytes()

"""Files and directories appear whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
from pathlib import Path

import pytest

from bert_rt.support import files
from bert_rt.support.files import atomic_directory, atomic_write_bytes, atomic_write_json


def _names(directory: Path) -> list[str]:
    return sorted(entry.name for entry in directory.iterdir())


def _no_access() -> None:
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def _no_space(*_args: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_file_is_written_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.bin"
    atomic_write_bytes(path, b"one")
    atomic_write_bytes(path, memoryview(b"two"))
    assert path.read_bytes() == b"two"
    assert _names(path.parent) == ["b.bin"]


def test_a_new_file_has_the_mode_that_the_umask_leaves(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"")
    atomic_write_bytes(tmp_path / "atomic", b"")
    with atomic_directory(tmp_path / "directory"):
        pass
    plain = stat.S_IMODE((tmp_path / "plain").stat().st_mode)
    assert stat.S_IMODE((tmp_path / "atomic").stat().st_mode) == plain
    (tmp_path / "mkdir").mkdir()
    made = stat.S_IMODE((tmp_path / "mkdir").stat().st_mode)
    assert stat.S_IMODE((tmp_path / "directory").stat().st_mode) == made


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, call, _no_space)
    with pytest.raises(OSError, match="No space left on device") as caught:
        atomic_write_bytes(path, b"new")
    assert caught.value.filename == str(path)
    assert path.read_bytes() == b"old"
    assert _names(tmp_path) == ["f"]


def test_an_error_names_the_target_not_the_temporary_file(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        atomic_write_bytes(tmp_path / "d", b"")
    assert caught.value.filename == str(tmp_path / "d")
    long = tmp_path / ("n" * 300)
    with pytest.raises(OSError, match=f"File name too long: '{long}'"):
        atomic_write_bytes(long, b"")
    with pytest.raises(OSError, match=f"File name too long: '{long}'"), atomic_directory(long):
        pass


def test_the_longest_names_work(tmp_path: Path) -> None:
    atomic_write_bytes(tmp_path / ("n" * 255), b"x")
    with atomic_directory(tmp_path / ("d" * 255)):
        pass
    assert _names(tmp_path) == ["d" * 255, "n" * 255]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real")
    atomic_write_bytes(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"


def test_devices_are_written_to_not_replaced(tmp_path: Path) -> None:
    atomic_write_bytes("/dev/null", b"x")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_json_is_deterministic_and_strict(tmp_path: Path) -> None:
    atomic_write_json(tmp_path / "j", {"b": 1, "a": "\u00e9"})
    assert (tmp_path / "j").read_bytes() == b'{\n  "a": "\xc3\xa9",\n  "b": 1\n}\n'
    with pytest.raises(ValueError, match="Out of range float"):
        atomic_write_json(tmp_path / "k", {"a": float("nan")})
    assert json.loads((tmp_path / "j").read_text("utf-8"))["b"] == 1
    assert _names(tmp_path) == ["j"]


def test_a_directory_appears_when_it_is_complete(tmp_path: Path) -> None:
    with atomic_directory(tmp_path / "p" / "d") as temporary:
        (temporary / "sub").mkdir()
        (temporary / "sub" / "f").write_text("x")
        assert not (tmp_path / "p" / "d").exists()
        assert temporary.parent == tmp_path / "p"
    assert (tmp_path / "p" / "d" / "sub" / "f").read_text() == "x"
    assert _names(tmp_path / "p") == ["d"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_directory_that_is_not_finished_leaves_nothing(
    tmp_path: Path, error: type[BaseException]
) -> None:
    with pytest.raises(error), atomic_directory(tmp_path / "d") as temporary:  # noqa: PT012
        (temporary / "f").write_text("x")
        raise error
    assert _names(tmp_path) == []


def test_a_directory_is_replaced_only_where_that_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "old").write_text("x")
    with (
        pytest.raises(FileExistsError, match="is not empty"),
        atomic_directory(tmp_path / "d"),
    ):
        raise AssertionError("the body must not run")
    asked = []
    with atomic_directory(tmp_path / "d", can_replace=lambda path: not asked.append(path)) as new:
        (new / "new").write_text("y")
    assert _names(tmp_path / "d") == ["new"]
    assert set(asked) == {tmp_path / "d"}
    assert _names(tmp_path) == ["d"]


def test_what_appears_under_the_name_meanwhile_is_kept(tmp_path: Path) -> None:
    def write() -> None:
        with atomic_directory(tmp_path / "d"):
            (tmp_path / "d").mkdir()
            (tmp_path / "d" / "theirs").write_text("x")

    with pytest.raises(FileExistsError):
        write()
    assert _names(tmp_path) == ["d"]
    assert _names(tmp_path / "d") == ["theirs"]


def test_a_failure_leaves_no_directory_that_it_made(tmp_path: Path) -> None:
    def fail() -> None:
        with atomic_directory(tmp_path / "a" / "b" / "art") as place:
            (place / "file").write_text("x")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "a").mkdir()
    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]
    with pytest.raises(TypeError):
        atomic_write_bytes(tmp_path / "b" / "c" / "file", "no bytes")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


def test_windows_flushes_files_that_may_be_written_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed = []

    def fsync(descriptor: int) -> None:
        assert fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDWR
        flushed.append(os.fstat(descriptor).st_ino)

    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "file").write_bytes(b"content")
    monkeypatch.setattr(os, "name", "nt")
    monkeypatch.setattr(os, "fsync", fsync)
    # Windows opens no directory.
    monkeypatch.setattr(os, "open", lambda *_: _no_access())
    files._sync_tree(tmp_path)
    monkeypatch.undo()
    paths = (tmp_path / "file", tmp_path / "inner" / "file")
    assert sorted(flushed) == sorted(path.stat().st_ino for path in paths)


def test_a_directory_is_swapped_where_there_are_no_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_flock", None)
    for content in ("one", "two"):
        with atomic_directory(tmp_path / "made", can_replace=lambda _: True) as directory:
            (directory / "file").write_text(content)
    assert (tmp_path / "made" / "file").read_text() == "two"
    assert _names(tmp_path) == ["made"]

"""Two writers of one directory: one wins whole, the other says so."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bert_rt.support.files import DirectoryChangedError, atomic_directory, directory_state

_WRITER = """
import sys
from pathlib import Path
from bert_rt.support.files import atomic_directory
for number in range(150):
    with atomic_directory(sys.argv[1], can_replace=lambda _: True) as place:
        for name in "abc":
            (place / name).write_text(sys.argv[2])
"""


def write(target: Path, text: str) -> None:
    with atomic_directory(target, can_replace=lambda _: True) as place:
        (place / "a").write_text(text)


@pytest.mark.parametrize("exists", [False, True])
def test_the_first_to_finish_wins(exists: bool, tmp_path: Path) -> None:
    target = tmp_path / "art"
    if exists:
        write(target, "old")
    found = directory_state(target)
    write(target, "first")
    with (
        pytest.raises(DirectoryChangedError),
        atomic_directory(target, can_replace=lambda _: True, unchanged_since=found) as place,
    ):
        (place / "a").write_text("second")
    assert (target / "a").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["art"]


def test_alone_nothing_has_changed(tmp_path: Path) -> None:
    target = tmp_path / "art"
    for text in ("one", "two"):
        found = directory_state(target)
        with atomic_directory(target, can_replace=lambda _: True, unchanged_since=found) as place:
            (place / "a").write_text(text)
        assert (target / "a").read_text() == text
        assert directory_state(target) != found


def test_interrupted_writers_leave_nothing(tmp_path: Path) -> None:
    def write_half() -> None:
        with atomic_directory(tmp_path / "art") as place:
            (place / "a").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert [*tmp_path.iterdir()] == []


def test_swaps_at_once_leave_one_whole_directory(tmp_path: Path) -> None:
    target = tmp_path / "art"
    commands = [[sys.executable, "-c", _WRITER, str(target), text] for text in ("x", "y")]
    writers = [subprocess.Popen(command, stderr=subprocess.PIPE) for command in commands]
    failures = [writer.communicate()[1].decode() for writer in writers]
    assert failures == ["", ""]
    assert len({(target / name).read_text() for name in "abc"}) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["art"]

"""Command lines: flags in either spelling, one line for every mistake."""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from bert_rt.errors import ArtifactNotFoundError
from bert_rt.support.cli import (
    add_json_flag,
    int_at_least,
    make_parser,
    run_command,
    write_json,
)
from bert_rt.support.progress import progress
from bert_rt.support.scratch import private_temporary_directory
from bert_rt.support.signals import Terminated

_ROOT = Path(__file__).parents[4]


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("runtime.answer", "Answer questions.")
    parser.add_argument("--num_threads", type=int_at_least(1))
    parser.add_argument("--context_file")
    parser.add_argument("rest", nargs="*")
    add_json_flag(parser)
    parser.add_argument("--max_seq_length", type=int)
    return parser


# Flags


@pytest.mark.parametrize("flag", ["--context_file", "--context-file"])
@pytest.mark.parametrize("joined", [True, False])
def test_long_flags_take_both_spellings(flag: str, joined: bool) -> None:
    value = "--my-file_name" if joined else "my-file_name"
    argv = [f"{flag}={value}"] if joined else [flag, value]
    assert _parser().parse_args(argv).context_file == value


def test_values_and_what_follows_two_dashes_stay_as_they_are() -> None:
    args = _parser().parse_args(["a-b", "--", "--not-a-flag"])
    assert args.rest == ["a-b", "--not-a-flag"]


@pytest.mark.parametrize(
    "argv",
    [
        ["--num_threads", "0"],
        ["--num-threads=two"],
        ["--unknown", "1"],
        ["--context", "no abbreviations"],
        ["--max_seq_length", "3.5"],
    ],
)
def test_a_wrong_flag_is_one_line_and_exit_code_2(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        _parser().parse_args(argv)
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"python -m runtime\.answer: error: .*\n", err)


def test_a_wrong_integer_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        _parser().parse_args(["--num_threads", "-3"])
    assert "got '-3', want an integer of at least 1" in capsys.readouterr().err


def test_json_result(tmp_path: Path) -> None:
    args = _parser().parse_args(["--json", str(tmp_path / "r.json")])
    write_json(args.json, {"f1": 88.5})
    write_json(None, {"f1": 88.5})
    assert json.loads((tmp_path / "r.json").read_text()) == {"f1": 88.5}


# Errors


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ArtifactNotFoundError("no\n artifact"), 2, "error: no artifact\n"),
        (FileNotFoundError(2, "No such file", "q.json"), 2, "error: q.json: No such file\n"),
        (OSError("odd"), 2, "error: odd\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (Terminated(signal.SIGTERM), 143, "ended by SIGTERM\n"),
        (ModuleNotFoundError("?", name="torch.nn"), 2, "error: torch is not installed; pip "),
        (BrokenPipeError(), 141, ""),
    ],
)
def test_what_users_cause_is_one_line(
    error: BaseException, code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_argv: object) -> int:
        raise error

    assert run_command(fail, []) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(line)
    assert err.count("\n") == (1 if line else 0)


@pytest.mark.parametrize("error", [RuntimeError("bug"), ModuleNotFoundError("?", name="our.typo")])
def test_our_own_mistakes_are_not_hidden(error: Exception) -> None:
    def fail(_argv: object) -> int:
        raise error

    with pytest.raises(type(error)):
        run_command(fail, [])


def test_exit_codes_pass_through() -> None:
    assert run_command(len, ["a", "b", "c"]) == 3
    assert run_command(lambda _: None, []) == 0


_PRINT = """
import sys
from bert_rt.support.cli import run_command
def main(argv):
    print("x" * 10_000_000 if argv else "x")
sys.exit(run_command(main))
"""


def _start(stdout: int, *argv: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _PRINT, *argv],
        cwd=_ROOT,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("argv", [(), ("long",)])
def test_a_full_disk_behind_stdout_is_reported(argv: tuple[str, ...]) -> None:
    with open("/dev/full", "w") as full, _start(full.fileno(), *argv) as process:
        _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert err == "error: No space left on device\n"


def test_a_reader_that_goes_away_is_no_error() -> None:
    read, write = os.pipe()
    with _start(write, "long") as process:
        os.close(write)
        os.read(read, 10)
        os.close(read)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 141
    assert err == ""


# Progress


def test_progress_is_plain_lines_where_there_is_no_terminal() -> None:
    stream = io.StringIO()
    with progress("evaluate", total=4, unit="questions", interval_s=0, stream=stream) as bar:
        bar.advance(1, note="f1 88.1")
        bar.advance(3)
    first, second, last = stream.getvalue().splitlines()
    assert re.fullmatch(r"evaluate: 1/4 questions \(25%\), .*/s, 0:00:00 left, f1 88.1", first)
    assert re.fullmatch(r"evaluate: 4/4 questions \(100%\), [^ ]*/s, f1 88.1", second)
    assert last.startswith("evaluate: 4/4 questions")


def test_progress_without_a_total() -> None:
    stream = io.StringIO()
    with progress("train", total=None, unit="steps", stream=stream) as bar:
        bar.advance(5)
    assert re.fullmatch(r"train: 5 steps, .*/s\n", stream.getvalue())


def test_what_was_done_before_says_nothing_of_the_speed() -> None:
    stream = io.StringIO()
    with progress("train", total=9, unit="steps", already_done=7, stream=stream):
        pass
    assert stream.getvalue() == "train: 7/9 steps (78%), 0/s\n"


def test_progress_is_a_bar_on_a_terminal() -> None:
    pytest.importorskip("rich")

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    with progress("evaluate", total=2, unit="questions", stream=stream) as bar:
        bar.advance(2, note="f1 88.1")
    assert "2/2" in stream.getvalue()
    assert "f1 88.1" in stream.getvalue()


def test_errors_inside_progress_are_not_hidden() -> None:
    with (
        pytest.raises(ModuleNotFoundError),
        progress("x", total=1, unit="steps", stream=io.StringIO()),
    ):
        raise ModuleNotFoundError(name="rich")


# Signals


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGHUP", 129), ("SIGINT", 130)])
def test_a_signal_lets_a_command_clean_up(
    name: str, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    number = signal.Signals[name]
    # Under nohup SIGHUP is ignored, and would stay so.
    outer = signal.signal(
        number, signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL
    )
    before = signal.getsignal(number)

    def command(_argv: object) -> None:
        with private_temporary_directory():
            (Path(tempfile.gettempdir()) / "big").write_text("x")
            try:
                os.kill(os.getpid(), number)
            finally:
                (tmp_path / "where").write_text(os.environ["TMPDIR"])
                if number != signal.SIGINT:
                    os.kill(os.getpid(), number)  # again: cleaning up goes on
                    (tmp_path / "clean").touch()

    assert run_command(command, []) == code
    assert capsys.readouterr().err.count("\n") == 1
    assert (tmp_path / "clean").exists() == (number != signal.SIGINT)
    assert not Path((tmp_path / "where").read_text()).exists()
    assert signal.getsignal(number) == before
    signal.signal(number, outer)


def test_a_signal_that_somebody_handles_or_ignores_is_theirs() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        assert run_command(lambda _: os.kill(os.getpid(), signal.SIGTERM), []) == 0
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_temporary_files_go_where_they_went_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    before, directory = os.environ.get("TMPDIR"), tempfile.gettempdir()
    with private_temporary_directory():
        assert tempfile.gettempdir() == os.environ["TMPDIR"] != directory
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = tempfile.mkdtemp()  # as torch does
    assert (os.environ.get("TMPDIR"), tempfile.gettempdir()) == (before, directory)
    assert "TORCHINDUCTOR_CACHE_DIR" not in os.environ

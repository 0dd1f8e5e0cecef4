"""What the command lines of all programs share: flags, errors and results.

A command is a module with a `main(argv)` and, at its end,

    if __name__ == "__main__":
        sys.exit(run_command(main))

Nothing else in the library prints or knows of exit codes.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from bert_rt.errors import BertRtError
from bert_rt.support.faults import Dropped
from bert_rt.support.files import atomic_write_json
from bert_rt.support.signals import Terminated, ending_signals

__all__ = [
    "add_drop_flag",
    "add_json_flag",
    "dropped",
    "int_at_least",
    "make_parser",
    "run_command",
    "writable_path",
    "write_json",
]

EXIT_BAD_INPUT = 2
EXIT_SIGNAL = 128  # and the signal's number, as a shell reports it
EXIT_BROKEN_PIPE = 141  # EXIT_SIGNAL + SIGPIPE, which Windows does not have

# Which extra brings a library that a program may find missing; engines say it of theirs (SPEC).
_EXTRAS = {
    "httptools": "serve",
    "matplotlib": "train",
    "msgspec": "serve",
    "onnxscript": "compile",
    "opentelemetry": "traces",
    "prometheus_client": "serve",
    "pyarrow": "batch",
    "ray": "ray",
    "rich": "train",
    "rouge_score": "evaluate",
    "sacrebleu": "evaluate",
    "safetensors": "train",
    "starlette": "serve",
    "tensorboard": "train",
    "torch": "train",
    "uvicorn": "serve",
    "uvloop": "serve",
}


class _Parser(argparse.ArgumentParser):
    """Accepts `_` and `-` alike in long flags; a mistake is one line on stderr and exit code 2."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        given = sys.argv[1:] if args is None else list(args)
        return super().parse_known_args(_underscored(given), namespace)

    def error(self, message: str) -> NoReturn:
        line = " ".join(message.split())
        self.exit(EXIT_BAD_INPUT, f"{self.prog}: error: {line} (--help lists the flags)\n")


def _underscored(args: Sequence[str]) -> list[str]:
    """Write long flags with `_`, and leave their values and all after a lone `--` alone."""
    result: list[str] = []
    for index, arg in enumerate(args):
        if arg == "--":
            return [*result, *args[index:]]
        flag, equals, value = arg.partition("=")
        if flag.startswith("--"):
            flag = "--" + flag[2:].replace("-", "_")
        result.append(flag + equals + value)
    return result


def make_parser(module: str, description: str) -> argparse.ArgumentParser:
    """Make the parser of a command.

    Declare long flags with underscores (`--max_seq_length`); users may write either. Flags cannot
    be abbreviated, so that a new one never changes what an old script means.

    Args:
        module: The command's module, such as "runtime.answer".
        description: One sentence for --help.

    Returns:
        A parser that ends the program with one line and exit code 2 on a mistake.
    """
    return _Parser(prog=f"python -m {module}", description=description, allow_abbrev=False)


def int_at_least(low: int) -> Callable[[str], int]:
    """Make an argparse type for integers.

    Args:
        low: The smallest integer that is taken.

    Returns:
        A function from a flag's text to its number, for `type=`.
    """

    def convert(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if value < low:
            raise argparse.ArgumentTypeError(f"got {text!r}, want an integer of at least {low}")
        return value

    return convert


def writable_path(text: str) -> str:
    """Check a flag that names a file to write, before any work: an argparse type.

    Args:
        text: The flag's value.

    Returns:
        The same.

    Raises:
        argparse.ArgumentTypeError: It is a directory, what it lies in is none, or it cannot be
            written to. A directory that is missing is no error: it is made with the file.
    """
    path = Path(text)
    if not text or path.is_dir():
        raise argparse.ArgumentTypeError(f"got {text!r}, want a file, not a directory")
    # A terminal or pipe is written to; a file is written beside its name and renamed.
    written = path
    if not path.exists() or path.is_file():
        parents = Path(os.path.realpath(path)).parents
        written = next(parent for parent in parents if parent.exists())
        if not written.is_dir():
            raise argparse.ArgumentTypeError(f"got {text!r}, but {written} is no directory")
    if not os.access(written, os.W_OK):
        raise argparse.ArgumentTypeError(f"got {text!r}, but {written} cannot be written to")
    return text


def add_drop_flag(parser: argparse.ArgumentParser) -> None:
    """Add `--drop_invalid`, for dropped.

    Args:
        parser: The command's parser.
    """
    parser.add_argument(
        "--drop_invalid",
        action="store_true",
        help="leave out questions, answers and rows that cannot be used (blank texts, answers that "
        "are not at their answer_start, rows of another length), and say how many; left out: they "
        "are an error that lists them",
    )


def dropped(args: argparse.Namespace) -> Dropped | None:
    """Return what the flag of add_drop_flag says.

    Args:
        args: The parsed command line.

    Returns:
        A counter for readers of data files; None where what cannot be used is an error.
    """
    return Dropped() if args.drop_invalid else None


def add_json_flag(parser: argparse.ArgumentParser) -> None:
    """Add `--json FILE`, for write_json.

    Args:
        parser: The command's parser.
    """
    parser.add_argument(
        "--json", metavar="FILE", type=writable_path, help="write the result as JSON"
    )


def write_json(path: str | None, value: Any) -> None:
    """Write a command's result, whole or not at all.

    Args:
        path: What `--json` gave; None writes nothing.
        value: What json.dumps takes, without NaN or infinities.

    Raises:
        OSError: The file cannot be written.
    """
    if path is not None:
        atomic_write_json(path, value)


def run_command(
    main: Callable[[Sequence[str]], int | None], argv: Sequence[str] | None = None
) -> int:
    """Run a command and turn what users cause into one clear line and an exit code.

    Args:
        main: The command; takes the arguments and returns an exit code, None for success.
        argv: The arguments; None for those of this process.

    Returns:
        What main returned; 2 after a BertRtError, an OSError or a library that is not installed,
        130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP, 141 where nobody reads stdout any
        more. Anything else is our own mistake and is raised as it is.
    """
    try:
        with ending_signals():
            code = main(sys.argv[1:] if argv is None else argv)
        # Now, while a full disk is still distinguishable from success.
        sys.stdout.flush()
        return code or 0
    except Terminated as error:
        return _end(f"ended by {error}", EXIT_SIGNAL + error.number)
    except KeyboardInterrupt:
        return _end("interrupted", EXIT_SIGNAL + signal.SIGINT)
    except BrokenPipeError:
        _discard_stdout()
        return EXIT_BROKEN_PIPE
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if library not in _EXTRAS:
            raise
        advice = f"pip install 'bert-rt[{_EXTRAS[library]}]'"
        return _end(f"error: {library} is not installed; {advice}", EXIT_BAD_INPUT)
    except OSError as error:
        _discard_stdout()
        where = f"{error.filename}: " if error.filename is not None else ""
        return _end(f"error: {where}{error.strerror or error}", EXIT_BAD_INPUT)
    except BertRtError as error:
        return _end(f"error: {error}", EXIT_BAD_INPUT)


def _end(message: str, code: int) -> int:
    with contextlib.suppress(OSError):
        print(" ".join(message.split()), file=sys.stderr)
    return code


def _discard_stdout() -> None:
    # What could not be written is still buffered; the interpreter would try again when it ends,
    # fail again and change the exit code.
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        return
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

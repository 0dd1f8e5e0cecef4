"""The pages of the documentation, cut into blocks of code with what they print."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# Words that made comments, names and pages hard to read; usual words say the same.
UNUSUAL_WORDS = re.compile(r"(?<![A-Za-z])(?:told|lacks|placed)(?![A-Za-z])|_apart\b")
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NUMBER = re.compile(r"-?\d+\.\d+")


@dataclass(frozen=True)
class Block:
    """One block.

    Attributes:
        page: The page's path from the project's root.
        language: What stands behind the opening fence; "" for pictures.
        code: The lines.
        output: The text block that follows with nothing between, else None.
    """

    page: str
    language: str
    code: str
    output: str | None

    @property
    def name(self) -> str:
        """The page and the first line, which name a block in tests and tables."""
        return f"{self.page}: {self.code.splitlines()[0].strip()}"

    @property
    def lines(self) -> list[str]:
        """Its shell commands, continued lines joined, without comments."""
        found: list[str] = []
        command = ""
        for line in re.sub(r"\\\n\s*", " ", self.code).splitlines():
            command += line + "\n"
            try:
                words = shlex.split(command, comments=True)
            except ValueError:  # A quoted text goes on in the next line.
                continue
            found += [shlex.join(words)] if words else []
            command = ""
        assert not command.strip(), f"{self.page}: a quotation does not end: {command}"
        return found


def pages() -> list[Path]:
    """List the pages: all Markdown that is kept up to date; measured results are history."""
    found = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*.md")]
    return sorted([*found, ROOT / "benchmarks" / "README.md"])


def blocks() -> Iterator[Block]:
    """Cut all pages."""
    for path in pages():
        text = path.read_text(encoding="utf-8")
        matches = list(_FENCE.finditer(text))
        for index, match in enumerate(matches):
            following = matches[index + 1] if index + 1 < len(matches) else None
            output = None
            if following is not None and following[1] == "text":
                between = text[match.end() : following.start()]
                output = following[2] if not between.strip() else None
            name = path.relative_to(ROOT).as_posix()
            yield Block(name, match[1], match[2], output)


def commands(found: list[Block]) -> Iterator[list[str]]:
    """List the words of every `python -m MODULE` and `bert-rt VERB` in shell blocks."""
    for block in found:
        if block.language == "bash":
            for line in block.lines:
                words = shlex.split(line)
                if words[:2] == ["python", "-m"] or words[0] == "bert-rt":
                    yield words


def same_output(shown: str, printed: str, tolerance: float) -> bool:
    """Compare what a page shows with what was printed.

    Args:
        shown: The page's lines; a line of "..." stands for any number of lines.
        printed: The program's.
        tolerance: How far numbers with a decimal point may be apart; all else must be equal.

    Returns:
        Whether they agree.
    """
    rest = iter(printed.strip().splitlines())
    may_skip = False
    for line in shown.strip().splitlines():
        if line == "...":
            may_skip = True
            continue
        got = next(rest, None)
        while may_skip and got is not None and not _same_line(line, got, tolerance):
            got = next(rest, None)
        if got is None or not _same_line(line, got, tolerance):
            return False
        may_skip = False
    return may_skip or next(rest, None) is None


def _same_line(shown: str, printed: str, tolerance: float) -> bool:
    if _NUMBER.sub("#", shown).split() != _NUMBER.sub("#", printed).split():
        return False
    pairs = zip(_NUMBER.findall(shown), _NUMBER.findall(printed), strict=True)
    return all(abs(float(a) - float(b)) <= tolerance for a, b in pairs)

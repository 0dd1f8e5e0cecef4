"""README, docs and examples are true: their blocks run, and print what the pages show."""

from __future__ import annotations

import ast
import contextlib
import functools
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bert_rt.__main__ import VERBS
from bert_rt.model.architectures import ARCHITECTURES
from tests.support.pages import ROOT, Block, blocks, commands, pages, same_output

_BLOCKS = list(blocks())
_PYTHON = [block for block in _BLOCKS if block.language == "python"]
_BASH = [block for block in _BLOCKS if block.language == "bash"]

# Blocks for the shell that run here as they stand, and the tolerance of the numbers that they
# print: a model that was trained on another processor has other scores.
_RUN = {
    "README.md: python examples/own_classifier.py": 3.0,
    "examples/README.md: python examples/batch_file.py": 0.2,
}
# The others, by how a block's commands begin, and why they do not run here. The flags of every
# `python -m` and `bert-rt`, and the targets of every `make`, are checked all the same.
_NOT_RUN = {
    "apt-get": "changes the machine",
    "export": "sets variables of the shell around it",
    "git": "needs the repository's history, which an installed copy does not have",
    "make": "makes environments, or runs the tests that this is one of",
    ".venv/bin/python -m pytest": "runs the tests that this is one of",
    "pip install": "changes the environment",
    "python -m compile": "needs a model and data that are not in the repository",
    "python -m runtime": "needs an artifact or data that are not in the repository",
    "python -m train": "trains for minutes, on data that are not in the repository",
    "python benchmarks": "measures for minutes",
    "bert-rt": "the verb of a module that is named elsewhere",
    "SQUAD=": "sets a variable of the shell around it",
    "M30K=": "sets a variable of the shell around it",
    "echo": "writes a file for what follows",
    "python examples/aclsum_files.py": "needs a package of data; its own test runs it",
    "serve run": "needs a cluster of Ray",
    "uvicorn": "serves until it is stopped",
    "curl": "needs the service",
}


# Python of which only the imports run: it begins so.
_IMPORTED = {"import ray": "reads files that are not in the repository, on a cluster"}


def _tolerance(block: Block) -> float | None:
    return next((value for name, value in _RUN.items() if block.name.startswith(name)), None)


def _environment() -> dict[str, str]:
    """Return an environment in which `python` is this one and the project is importable."""
    directory = str(Path(sys.executable).parent)
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {
        "PATH": os.pathsep.join((directory, os.environ["PATH"])),
        "PYTHONPATH": os.pathsep.join(paths),
        # Threads would only wait for each other: the models are tiny.
        "OMP_NUM_THREADS": "1",
    }


def test_every_language_is_known() -> None:
    assert {block.language for block in _BLOCKS} <= {"", "python", "bash", "json", "text"}


@pytest.mark.parametrize("block", _PYTHON, ids=lambda block: block.name)
def test_python_runs(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    printed = io.StringIO()
    tree = ast.parse(block.code)
    if block.code.lstrip().startswith(tuple(_IMPORTED)):
        tree.body = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, block.page, "exec"), {"__name__": "block"})
    if block.output is not None:
        assert same_output(block.output, printed.getvalue(), 0.05), printed.getvalue()


@pytest.mark.timeout(900)  # training and compiling take a minute, more on a busy machine
@pytest.mark.parametrize(
    "block", [block for block in _BASH if _tolerance(block) is not None], ids=lambda b: b.name
)
def test_shell_runs(block: Block, tmp_path: Path) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    done = subprocess.run(
        ["bash", "-e", "-c", block.code],
        cwd=tmp_path,
        env=_environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert block.output is not None
    assert same_output(block.output, done.stdout, _tolerance(block) or 0), done.stdout


def test_the_blocks_that_run_are_there() -> None:
    for name in _RUN:
        assert any(block.name.startswith(name) for block in _BASH), name


@pytest.mark.parametrize("block", _BASH, ids=lambda block: block.name)
def test_what_does_not_run_says_why(block: Block) -> None:
    if _tolerance(block) is None:
        for line in block.lines:
            assert line.lstrip("'").startswith(tuple(_NOT_RUN)), line


@pytest.mark.parametrize(
    "block", [block for block in _BLOCKS if block.language == "json"], ids=lambda b: b.name
)
def test_json_parses(block: Block) -> None:
    # A block of several objects has one after the other.
    decoder, text = json.JSONDecoder(), block.code.strip()
    while text:
        value, end = decoder.raw_decode(text)
        assert value
        text = text[end:].strip()


@functools.cache
def _help(module: str) -> str:
    result = subprocess.run(
        [sys.executable, "-m", module, "--help"],
        env=_environment(),
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("words", list(commands(_BASH)), ids=" ".join)
def test_commands_take_the_flags_that_are_shown(words: list[str]) -> None:
    if words[0] == "bert-rt":
        module, rest = VERBS[words[1]], words[2:]
    else:
        module, rest = words[2], words[3:]
    shown = {word.partition("=")[0] for word in rest if word.startswith("--")}
    assert shown <= set(re.findall(r"--\w+", _help(module)))


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    lines = [line.split() for block in _BASH for line in block.lines]
    made = [words[1:] for words in lines if words[0] == "make"]
    shown = {word for words in made for word in words if "=" not in word}
    for path in pages():
        shown |= set(re.findall(r"`make ([a-z-]+)", path.read_text(encoding="utf-8")))
    assert {"demo", "test"} <= shown <= targets


@pytest.mark.parametrize("path", pages(), ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        file, _, anchor = target.partition("#")
        linked = (path.parent / file) if file else path
        assert linked.exists(), target
        if anchor:
            assert anchor in _anchors(linked), target


def _anchors(path: Path) -> set[str]:
    """List the anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.strip().replace(" ", "-") for heading in plain}


def test_readme_names_the_models_that_compile() -> None:
    section = (ROOT / "README.md").read_text().split("### Which models compile")[1]
    rows = re.findall(r"^\| `([a-z-]+)` \|", section.split("\n## ")[0], re.MULTILINE)
    assert set(rows) == set(ARCHITECTURES)
    assert len(rows) == len(ARCHITECTURES)


def test_figures_of_readme_are_on_their_pages() -> None:
    text = (ROOT / "README.md").read_text()
    rows = re.findall(r"^\|(.*\d.*)\| \[page\]\((benchmarks/results/\S+)\)", text, re.MULTILINE)
    assert len(rows) > 10
    for row, page in rows:
        numbers = re.findall(r"\d+\.\d+", (ROOT / page).read_text())
        for shown in re.findall(r"\b\d+\.\d+\b", row):
            digits = len(shown.partition(".")[2])
            assert any(round(float(n), digits) == float(shown) for n in numbers), (shown, page)

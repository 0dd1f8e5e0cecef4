"""The pages of docs that speak of the code: reference, errors, architecture."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest

import bert_rt
from bert_rt import errors
from docs import generate_reference
from tests.support.pages import ROOT, UNUSUAL_WORDS, pages

_DOCS = ROOT / "docs"
_ERRORS = (_DOCS / "errors.md").read_text()


def test_the_reference_is_what_the_code_says() -> None:
    assert generate_reference.PAGE.read_text() == generate_reference.render(), "run `make docs`"


@pytest.mark.parametrize("name", [name for name in bert_rt.__all__ if name != "__version__"])
def test_every_public_name_is_in_the_reference(name: str) -> None:
    text = generate_reference.PAGE.read_text()
    assert f"\n## {name}\n" in text or f"\n- `{name}`, derived from" in text


def test_the_reference_has_every_method_of_runtime() -> None:
    text = generate_reference.PAGE.read_text()
    names = [name for name in dir(bert_rt.Runtime) if not name.startswith("_")]
    assert {"load", "answer", "classify", "submit"} <= set(names)
    for name in names:
        assert f"\n### Runtime.{name}\n" in text


def _error_rows() -> dict[str, tuple[str, str]]:
    section = _ERRORS.split("## Classes\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (?:- )?`(\w+)` \| (.*?) \| (.*?) ?\|$", section, re.MULTILINE)
    return {name: (cause, remedy) for name, cause, remedy in rows}


def test_every_error_has_a_row() -> None:
    rows = _error_rows()
    assert sorted(rows) == sorted(errors.__all__)
    for name, (cause, remedy) in rows.items():
        assert cause
        assert remedy or name == "BertRtError"


def _template(node: ast.expr) -> str | None:
    """Render a string as it stands in the source, with "..." for its values."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(_template(part) or "..." for part in node.values)
    if isinstance(node, ast.BinOp):
        return f"{_template(node.left) or '...'}{_template(node.right) or '...'}"
    return None


def _templates() -> list[str]:
    found = []
    for package in ("bert_rt", "train", "compile", "runtime"):
        for path in (ROOT / package).rglob("*.py"):
            nodes: list[Any] = list(ast.walk(ast.parse(path.read_text())))
            found += [_template(node) for node in nodes if isinstance(node, ast.expr)]
    return [template for template in found if template]


def test_every_message_is_one_of_the_code() -> None:
    section = _ERRORS.split("## Messages\n")[1]
    rows = re.findall(r"^\| `(.+?)` \| (?:`(\w+)`|none)", section, re.MULTILINE)
    assert len(rows) > 15
    templates = _templates()
    for message, name in rows:
        assert any(_matches(message, template) for template in templates), message
        assert not name or name in errors.__all__


def _matches(message: str, template: str) -> bool:
    # A value of the message may be any text of the source, and the other way round.
    pattern = ".*".join(re.escape(part) for part in message.split("..."))
    return re.search(pattern, template) is not None


def test_the_rooms_of_architecture_are_there() -> None:
    text = (_DOCS / "architecture.md").read_text()
    assert text.count("\n") < 150
    first = text.split("\n## ")[0]
    assert (first.count("```"), first.count("| --- |")) == (2, 1)
    rooms = {path.stem for path in (ROOT / "bert_rt").iterdir() if path.suffix in ("", ".py")}
    rooms -= {"__init__", "__main__", "__pycache__", "default_model", "py"}
    assert sorted(room for room in rooms if f"`{room}" not in first) == []


@pytest.mark.parametrize("path", sorted(_DOCS.glob("adr/*.md")), ids=lambda path: path.name)
def test_decisions_are_short(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") < 60
    assert re.findall(r"^## (\w+)", text, re.MULTILINE) == [
        "Context",
        "Decision",
        "Numbers",
        "Consequences",
    ]


@pytest.mark.parametrize("path", pages(), ids=lambda path: path.name)
def test_pages_are_in_plain_english(path: Path) -> None:
    assert UNUSUAL_WORDS.findall(path.read_text()) == []


def test_readme_names_every_page() -> None:
    readme = (ROOT / "README.md").read_text()
    for path in [*_DOCS.glob("*.md"), ROOT / "CONTRIBUTING.md", ROOT / "examples" / "README.md"]:
        assert f"({path.relative_to(ROOT)})" in readme, path
    assert readme.count("\n") <= 240

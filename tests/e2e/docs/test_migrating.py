"""docs/migrating.md is true: what stands under "After" runs and answers."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

_TEXT = (Path(__file__).parents[3] / "docs" / "migrating.md").read_text()
_BLOCKS = re.findall(r"^```python\n(.*?)^```$", _TEXT, re.MULTILINE | re.DOTALL)


def test_every_way_has_a_block() -> None:
    sections = re.split(r"^## ", _TEXT, flags=re.MULTILINE)[1:]
    assert len(sections) == 4
    assert all("```python" in section and "```text" in section for section in sections)


@pytest.mark.parametrize("code", _BLOCKS)
def test_blocks_run(code: str) -> None:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "migrating.md", "exec"), {})
    assert printed.getvalue().startswith("Karl von Frisch 0.")

"""docs/extending.md names files and names that are there."""

from __future__ import annotations

import re

from tests.support.pages import ROOT

_EXTENDING = (ROOT / "docs" / "extending.md").read_text()


def test_what_extending_names_is_there() -> None:
    paths = set(
        re.findall(r"`((?:bert_rt|train|compile|runtime|tests|docs)/[\w./-]+)`", _EXTENDING)
    )
    paths = {path for path in paths if "NAME" not in path}
    assert len(paths) > 10
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []
    names = set(re.findall(r"`(\w+(?:\.\w+)*)\(?\)?` in\s+`([\w/]+\.\w+)`", _EXTENDING))
    assert len(names) > 5
    for name, path in names:
        source = (ROOT / path).read_text()
        assert re.search(rf"\b{name.rpartition('.')[2]}\b", source), (name, path)

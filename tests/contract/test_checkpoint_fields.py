"""docs/checkpoints.md says of every file and field of Transformers 4.57.6 what happens to it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from bert_rt.model.vocabulary import TOKENIZER_FILES
from bert_rt.text.tokenizer_classes import REFUSED_FIELDS, ROLES, TOKENIZER_CLASSES

_ROOT = Path(__file__).resolve().parents[2]
_GOLDEN = _ROOT / "tests" / "golden" / "checkpoints" / "fields.json"
_FIELDS = json.loads(_GOLDEN.read_text(encoding="utf-8"))
_WORDS = {"done", "refused", "ignored"}


def table(heading: str) -> dict[str, str]:
    """Return the names of a section's table, and what it says of each."""
    text = (_ROOT / "docs" / "checkpoints.md").read_text(encoding="utf-8")
    section = text.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    rows = [line.split("|")[1:3] for line in section.splitlines() if line.startswith("| `")]
    found = {name.strip(" `"): word.strip() for name, word in rows}
    assert len(found) == len(rows), "a name stands twice"
    assert {*found.values()} <= _WORDS
    return found


@pytest.mark.parametrize(
    ("heading", "key"),
    [
        ("Files", "files"),
        ("tokenizer_config.json", "tokenizer_config.json"),
        ("config.json", "config.json"),
    ],
)
def test_every_field_is_in_its_table(heading: str, key: str) -> None:
    names = {*_FIELDS[key]}
    # Which is no file of a tokenizer or a configuration.
    assert names ^ {*table(heading)} <= {"model.safetensors"}


def test_the_tables_say_what_the_code_does() -> None:
    fields = table("tokenizer_config.json")
    refused = {name for name, word in fields.items() if word == "refused"}
    paths = {"auto_map", "vocab_file", "merges_file", "tokenizer_file"}
    assert refused == {*REFUSED_FIELDS} | paths
    done = {name for name, word in fields.items() if word == "done"}
    options = {name for row in TOKENIZER_CLASSES.values() for name in row.options}
    assert {*ROLES} | options <= done
    files = {name for name, word in table("Files").items() if word == "done"}
    assert files - {"config.json", "model.safetensors"} <= {*TOKENIZER_FILES}


def test_every_class_is_named() -> None:
    text = (_ROOT / "docs" / "checkpoints.md").read_text(encoding="utf-8")
    section = text.split("\n## Tokenizer class\n", 1)[1].split("\n## ", 1)[0]
    for name in TOKENIZER_CLASSES:
        assert name in section


def test_the_fields_are_those_of_transformers(transformers4: Path, tmp_path: Path) -> None:
    script = _ROOT / "tests" / "golden" / "checkpoints" / "list_fields.py"
    out = tmp_path / "fields.json"
    subprocess.run([transformers4, script, out], check=True, capture_output=True)
    assert json.loads(out.read_bytes()) == _FIELDS

"""What an application imports: from bert_rt alone, and nothing that it needs is missing there."""

from __future__ import annotations

import ast
import importlib
import inspect
import itertools
import pkgutil
import re
import subprocess
import sys
import tomllib
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import bert_rt
from bert_rt import api, errors, pipelines
from bert_rt.support import cli

_ROOT = Path(__file__).parents[2]


def _own_types(hint: Any) -> Iterator[type]:
    """Yield the classes of bert_rt that an annotation names, however deep."""
    for part in (typing.get_origin(hint), *typing.get_args(hint)):
        if part is not None:
            yield from _own_types(part)
    if isinstance(hint, type) and hint.__module__.startswith("bert_rt"):
        yield hint


def _signature_types(function: Any) -> set[type]:
    hints = typing.get_type_hints(function)
    return {kind for hint in hints.values() for kind in _own_types(hint)}


def _public_methods() -> dict[str, Any]:
    names = [name for name in dir(api.Runtime) if not name.startswith("_")]
    members = {name: inspect.getattr_static(api.Runtime, name) for name in names}
    unwrapped = {name: getattr(member, "__func__", member) for name, member in members.items()}
    return {name: member for name, member in unwrapped.items() if inspect.isfunction(member)}


def test_every_exception_is_exported() -> None:
    assert set(errors.__all__) <= set(bert_rt.__all__)


def test_every_type_in_a_signature_is_exported() -> None:
    methods = _public_methods()
    assert {"load", "open", "close", "answer", "classify", "submit"} <= set(methods)
    functions = [*methods.values(), api.Runtime.__init__, pipelines.pipeline]
    functions += [bert_rt.load_artifact, inspect.getattr_static(bert_rt.Session, "stats").fget]
    found = {kind for function in functions for kind in _signature_types(function)}
    assert {bert_rt.Answer, bert_rt.Question, bert_rt.Artifact, bert_rt.Limits} <= found
    assert sorted({kind.__name__ for kind in found} - set(bert_rt.__all__)) == []


def test_options_of_every_task_are_exported() -> None:
    from bert_rt.tasks.registry import TASKS

    for task in TASKS.values():
        hint = typing.get_type_hints(type(task).read_limits)["return"]
        assert [kind.__name__ for kind in _own_types(hint)], task
        assert {kind.__name__ for kind in _own_types(hint)} <= set(bert_rt.__all__)


@pytest.mark.parametrize("name", bert_rt.__all__)
def test_a_name_is_the_one_of_its_module(name: str) -> None:
    value = getattr(bert_rt, name)
    if name != "__version__":
        assert value is getattr(importlib.import_module(bert_rt._HOMES[name]), name)


def test_types_are_checked_as_names_are_resolved() -> None:
    tree = ast.parse((_ROOT / "bert_rt" / "__init__.py").read_text())
    imported = {
        alias.name: node.module
        for branch in tree.body
        if isinstance(branch, ast.If)
        for node in branch.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert imported == bert_rt._HOMES
    assert sorted([*imported, "__version__"]) == sorted(bert_rt.__all__)


def test_nothing_else_is_there() -> None:
    assert dir(bert_rt) == sorted(bert_rt.__all__)
    with pytest.raises(AttributeError, match="module 'bert_rt' has no attribute 'Nonsense'"):
        bert_rt.Nonsense  # noqa: B018
    # A public name that a submodule has, too, would be the submodule once that is imported.
    assert not {module.name for module in pkgutil.iter_modules(bert_rt.__path__)} & set(
        bert_rt.__all__
    )


def test_a_star_import_needs_the_runtime_only() -> None:
    code = (
        "import sys\nfrom bert_rt import *\nassert Runtime and InputError and pipeline\n"
        "print('torch' in sys.modules, 'onnxruntime' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=_ROOT, capture_output=True, text=True, timeout=120
    )
    assert (result.stdout, result.stderr) == ("False False\n", "")


def test_questions_and_texts_are_asked_alike() -> None:
    methods = set(_public_methods())
    assert {"answer", "answer_batch", "stream", "answer_async"} <= methods
    assert {"classify", "classify_batch", "classify_stream", "classify_async"} <= methods
    for name, first in (("answer", "question context"), ("classify", "text text_pair")):
        for method in (name, f"{name}_async"):
            parameters = inspect.signature(getattr(bert_rt.Runtime, method)).parameters
            given = [p.name for p in parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
            assert given == ["self", *first.split()]


def _modules_imported() -> set[str]:
    """Return the names of all modules that the packages import, and of the packages above them.

    Dots are underscores, as in the names of distributions (opentelemetry-sdk).
    """
    found = set()
    for package in ("bert_rt", "train", "compile", "runtime"):
        for path in (_ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom) and node.module:
                    names = [node.module]
                else:
                    continue
                for name in names:
                    found |= set(itertools.accumulate(name.split("."), "{}_{}".format))
    return found


def test_every_extra_brings_what_something_uses() -> None:
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    used = _modules_imported()
    # tensorboard is used through torch.utils.tensorboard.
    assert "torch.utils.tensorboard" in (_ROOT / "train/loop/journal.py").read_text()
    used.add("tensorboard")
    # uvicorn brings its parser in by a module of its own, and takes uvloop where it is there.
    assert "httptools_impl" in (_ROOT / "runtime/serve/protocol.py").read_text()
    assert 'loop="auto"' in (_ROOT / "runtime/serve/server.py").read_text()
    used |= {"httptools", "uvloop"}
    for name, requirements in extras.items():
        if name not in ("dev", "wheels"):  # which bring programs to run
            libraries = {re.split(r"[>=;\[]", line)[0].replace("-", "_") for line in requirements}
            assert sorted(libraries - used) == [], name
    assert set(cli._EXTRAS.values()) <= set(extras)

"""The house style, as far as a test can tell (docs/architecture.md; `make lint` tells the rest)."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from bert_rt import errors
from bert_rt.__main__ import VERBS
from bert_rt.engines.registry import engine_names
from tests.support.pages import UNUSUAL_WORDS

_ROOT = Path(__file__).parents[2]
_PACKAGES = ("bert_rt", "train", "compile", "runtime")
_MAX_FILE_LINES = 400
_MAX_FUNCTION_LINES = 60
_MAX_ROOM_FILES = 14
# Unusual words that are data: this one is in a list of participles.
_DATA_WORDS = {"train/tasks/unanswerable/question_edits.py": ["told"]}

# Nothing that takes more than a moment to import comes with the library.
_HEAVY = ("matplotlib", "onnx", "onnxruntime", "openvino", "rich", "torch", "transformers")
# The modules that exist in order to wrap one of these.
_WRAPPERS = (
    "bert_rt.model.decoder",
    "bert_rt.model.encoder",
    "bert_rt.engines.",
    "bert_rt.model.heads",
    "bert_rt.pipelines.torch_model",
    "bert_rt.tasks.question_answering.model",
    "bert_rt.tasks.summarization.model",
    "bert_rt.tasks.text_classification.model",
    "bert_rt.tasks.token_classification.model",
)


def _python_files() -> list[Path]:
    return sorted(path for package in _PACKAGES for path in (_ROOT / package).rglob("*.py"))


def _cpp_files() -> list[Path]:
    csrc = _ROOT / "runtime" / "csrc"
    return sorted(path for path in csrc.rglob("*") if path.suffix in (".cc", ".h"))


def _name(path: Path) -> str:
    return path.relative_to(_ROOT).as_posix()


def _module(path: Path) -> str:
    return _name(path).removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _library_modules() -> list[str]:
    paths = sorted((_ROOT / "bert_rt").rglob("*.py"))
    return [_module(path) for path in paths if not _module(path).startswith(_WRAPPERS)]


def _public_names(path: Path) -> list[str] | None:
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            names: list[str] = ast.literal_eval(node.value)
            return names
    return None


def _sort_key(name: str) -> tuple[int, str]:
    """Constants, then classes, then the rest: the order that ruff keeps (RUF022)."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


def _function_lengths(source: str) -> dict[str, int]:
    """Lines of every function, by its classes and line: names alone hide methods of one name."""
    lengths = {}

    def visit(node: ast.AST, owner: str) -> None:
        for child in ast.iter_child_nodes(node):
            name = owner
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                name = f"{owner}{child.name}."
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                assert child.end_lineno is not None
                lengths[f"{owner}{child.name}:{child.lineno}"] = child.end_lineno - child.lineno + 1
            visit(child, name)

    visit(ast.parse(source), "")
    return lengths


@pytest.mark.parametrize(
    "path", [path for path in _python_files() if _name(path).startswith("bert_rt/")], ids=_name
)
def test_public_names_are_listed_and_sorted(path: Path) -> None:
    names = _public_names(path)
    if path.name == "__init__.py" and names is None:
        return  # a package that only holds modules
    assert names is not None, "has no __all__"
    assert names == sorted(set(names), key=_sort_key)


@pytest.mark.parametrize("path", [*_python_files(), *_cpp_files()], ids=_name)
def test_files_are_short_and_ascii(path: Path) -> None:
    text = path.read_bytes()
    assert text.isascii(), [line for line in text.splitlines() if not line.isascii()][:3]
    assert text.count(b"\n") < _MAX_FILE_LINES


@pytest.mark.parametrize("path", [*_python_files(), *_cpp_files()], ids=_name)
def test_comments_and_names_are_in_plain_english(path: Path) -> None:
    data = _DATA_WORDS.get(_name(path), [])
    assert UNUSUAL_WORDS.findall(path.read_text()) == data


def test_every_python_file_is_short() -> None:
    result = subprocess.run(
        ["git", "ls-files", "*.py"], cwd=_ROOT, capture_output=True, text=True, check=True
    )
    lines = {name: (_ROOT / name).read_bytes().count(b"\n") for name in result.stdout.split()}
    assert len(lines) > 400
    assert {name: n for name, n in lines.items() if n >= _MAX_FILE_LINES} == {}


def test_no_room_holds_too_many_files() -> None:
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--"]
    result = subprocess.run(
        [*listed, *_PACKAGES, "tests"], cwd=_ROOT, capture_output=True, text=True, check=True
    )
    paths = {path for path in map(_ROOT.joinpath, result.stdout.splitlines()) if path.exists()}
    rooms = Counter(_name(path.parent) for path in paths)
    assert len(rooms) > 50
    assert {room: n for room, n in rooms.items() if n > _MAX_ROOM_FILES} == {}


# The engines, and what bench opens of each.
_ENGINE_TABLES = ("bert_rt/engines/registry.py", "runtime/bench/peers/registry.py")


def _listed_strings(path: Path) -> Iterator[set[object]]:
    for node in ast.walk(ast.parse(path.read_text())):
        items: list[ast.expr | None] = []
        if isinstance(node, ast.List | ast.Tuple | ast.Set):
            items = [*node.elts]
        elif isinstance(node, ast.Dict):
            items = [*node.keys]
        yield {item.value for item in items if isinstance(item, ast.Constant)}


def test_no_second_list_of_engines() -> None:
    names = {*engine_names()}
    assert all(
        any(len(names & found) > 1 for found in _listed_strings(_ROOT / path))
        for path in _ENGINE_TABLES
    )
    lists = {
        _name(path): found & names
        for path in _python_files()
        for found in _listed_strings(path)
        if len(found & names) > 1 and _name(path) not in _ENGINE_TABLES
    }
    assert lists == {}


@pytest.mark.parametrize("path", _python_files(), ids=_name)
def test_functions_are_short(path: Path) -> None:
    lengths = _function_lengths(path.read_text())
    assert {name: lines for name, lines in lengths.items() if lines >= _MAX_FUNCTION_LINES} == {}


def test_the_library_calls_no_numpy_code_that_ends_a_process() -> None:
    """np.unique takes the GIL inside of C++ frames (bert_rt/support/shutdown.py)."""
    on_sets = {"in1d", "intersect1d", "isin", "setdiff1d", "setxor1d", "union1d"}
    on_sets |= {"unique", "unique_all", "unique_counts", "unique_inverse", "unique_values"}
    found = []
    for path in (_ROOT / "bert_rt").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("np."):
                # With a second result it sorts, in C.
                names = {keyword.arg for keyword in node.keywords}
                if node.func.attr in on_sets and "return_inverse" not in names:  # type: ignore[attr-defined]
                    found.append((_name(path), node.lineno))
    assert found == []


def test_functions_of_one_name_do_not_hide_each_other() -> None:
    source = """
class A:
    def run(self):
        x = 1
        y = 2

        def run():
            return x + y

        return run


class B:
    async def run(self):
        pass


if True:
    def run():
        pass


def run():
    return 1
"""
    assert _function_lengths(source) == {
        "A.run:3": 8,
        "A.run.run:7": 2,
        "B.run:14": 2,
        "run:19": 2,
        "run:23": 2,
    }


@pytest.mark.parametrize("name", errors.__all__)
def test_every_error_has_its_own_docstring_and_one_base(name: str) -> None:
    error = getattr(errors, name)
    assert issubclass(error, errors.BertRtError)
    assert error.__dict__["__doc__"], "has no docstring of its own"
    assert str(error("what was got and wanted")) == "what was got and wanted"


def test_every_error_is_public() -> None:
    classes = inspect.getmembers(errors, inspect.isclass)
    assert [name for name, _ in classes] == sorted(errors.__all__)


def _imported_by(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=_ROOT, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    return {module for module in result.stdout.split() if module in _HEAVY}


def test_the_library_imports_nothing_heavy() -> None:
    assert _imported_by("import bert_rt") == set()
    modules = [module for module in _library_modules() if module != "bert_rt.__main__"]
    assert _imported_by(f"import {', '.join(modules)}") == set()


def test_the_artifact_is_read_without_numpy() -> None:
    # A service that only checks artifacts, and the first answer, should not wait for it.
    code = (
        "import bert_rt.artifact.artifact, bert_rt.__main__, sys; sys.exit('numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=_ROOT, timeout=60).returncode == 0


@pytest.mark.parametrize("module", sorted(VERBS.values()))
def test_every_command_ends_the_same_way(module: str) -> None:
    path = _ROOT.joinpath(*module.split("."))
    path = path / "__main__.py" if path.is_dir() else path.with_suffix(".py")
    assert "sys.exit(run_command(main))" in path.read_text()


def test_every_environment_variable_is_documented() -> None:
    documented = (_ROOT / "docs" / "environment.md").read_text()
    places = [*_python_files(), *_cpp_files(), *(_ROOT / "tests").rglob("*.py")]
    # In quotes: C++ macros and CMake options have the same prefix and are no variables.
    used = {
        name
        for path in places
        for name in re.findall(r"\"(BERT_RT_[A-Z0-9_]+)\"", path.read_text())
    }
    assert sorted(name for name in used if f"`{name}`" not in documented) == []

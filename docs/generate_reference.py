"""Write docs/reference.md from the signatures and docstrings of the public names: `make docs`.

A test compares the page with what this makes (tests/contract/test_docs.py).
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path.insert(0, str(_ROOT))

import bert_rt
from bert_rt import errors
from bert_rt.__main__ import VERBS
from bert_rt.pipelines.feature_extraction import FeatureExtractionPipeline
from bert_rt.pipelines.fill_mask import FillMaskPipeline
from bert_rt.pipelines.question_answering import QuestionAnsweringPipeline
from bert_rt.pipelines.summarization import SummarizationPipeline
from bert_rt.pipelines.text_classification import TextClassificationPipeline
from bert_rt.pipelines.token_classification import TokenClassificationPipeline

PAGE = _ROOT / "docs" / "reference.md"
_PIPELINES = (
    QuestionAnsweringPipeline,
    TextClassificationPipeline,
    TokenClassificationPipeline,
    SummarizationPipeline,
    FillMaskPipeline,
    FeatureExtractionPipeline,
)
_HEAD = """\
<!-- Written by `make docs` from the docstrings of the code; edit those. -->

# Reference

Everything here is imported from `bert_rt`. Other modules are internal: they may change in any
release. What each exception means and what to do about it is in [errors.md](errors.md), terms are
in [glossary.md](glossary.md).
"""
_SECTION = re.compile(r"^(Args|Attributes|Returns|Raises|Yields|Source):[ \t]*(.*)$")


def render() -> str:
    """Return the page."""
    public = {name: getattr(bert_rt, name) for name in bert_rt.__all__ if name != "__version__"}
    raised = {name: getattr(errors, name) for name in errors.__all__}
    parts = [_HEAD]
    for name, value in sorted(public.items(), key=lambda item: item[0] != "Runtime"):
        if inspect.isclass(value) and name not in raised:
            parts.append(_class(name, value))
        elif inspect.isfunction(value):
            parts.append(_function(name, value, "##"))
    parts += ["## Calls of a pipeline\n"]
    parts += [_function(cls.__name__, cls.__call__, "###") for cls in _PIPELINES]
    parts += ["## Exceptions\n"]
    parts += [*(_error(name, value) for name, value in raised.items()), ""]
    parts += ["## Version\n", "`bert_rt.__version__` is a string.\n", _commands()]
    return "\n".join(parts)


def _class(name: str, cls: type) -> str:
    """Render a class: what it is, how it is made, and its public methods and properties."""
    parts = [f"## {name}\n"]
    if hasattr(cls, "__dataclass_fields__"):
        parts.append(_fence(_signature(name, cls)))
    parts.append(_doc(cls))
    for member, value in _members(cls):
        if isinstance(value, property) or not callable(value):
            function = getattr(value, "fget", None) or value.func
            summary = " ".join((inspect.getdoc(function) or "").split("\n\n")[0].split())
            parts.append(f"### {name}.{member}\n\nA property. {summary}\n")
        else:
            parts.append(_function(f"{name}.{member}", value, "###"))
    return "\n".join(parts)


def _members(cls: type) -> Iterator[tuple[str, Any]]:
    """List the public members of a class in the order in which they are written."""
    seen = set()
    for base in (cls, *cls.__mro__[1:]):
        for name, value in vars(base).items():
            is_field = name in getattr(cls, "__dataclass_fields__", {})
            if name.startswith("_") or name in seen or is_field or base is object:
                continue
            seen.add(name)
            if inspect.isclass(value):
                continue
            function = value.__func__ if isinstance(value, classmethod | staticmethod) else value
            if callable(function) or isinstance(function, property) or hasattr(function, "func"):
                yield name, function


def _function(name: str, function: Any, level: str) -> str:
    prefix = "async " if inspect.iscoroutinefunction(function) else ""
    title = name.removesuffix(".__call__")
    return f"{level} {title}\n\n{_fence(prefix + _signature(title, function))}\n{_doc(function)}"


def _signature(name: str, function: Any) -> str:
    signature = inspect.signature(function)
    parts = []
    previous = None
    for parameter in signature.parameters.values():
        if parameter.name in ("self", "cls"):
            continue
        is_keyword = parameter.kind is parameter.KEYWORD_ONLY
        if is_keyword and previous not in (parameter.KEYWORD_ONLY, parameter.VAR_POSITIONAL):
            parts.append("*")
        previous = parameter.kind
        parts.append(_parameter(parameter))
    returned = signature.return_annotation
    arrow = f" -> {returned}" if isinstance(returned, str) and returned != "None" else ""
    line = f"{name}({', '.join(parts)}){arrow}"
    if len(line) <= 96:
        return line
    return f"{name}(\n" + "".join(f"    {part},\n" for part in parts) + f"){arrow}"


def _parameter(parameter: inspect.Parameter) -> str:
    stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
    text = f"{stars}{parameter.name}"
    if parameter.annotation is not parameter.empty:
        text += f": {parameter.annotation}"
    if parameter.default is not parameter.empty:
        default = parameter.default
        # A dataclass's default_factory shows as a marker of its own.
        text += f" = {'...' if repr(default).startswith('<') else repr(default)}"
    return text


def _doc(documented: Any) -> str:
    """Turn a Google docstring into Markdown: prose stays, sections become lists."""
    lines = (inspect.getdoc(documented) or "").splitlines()
    prose: list[str] = []
    sections: dict[str, list[str]] = {}
    current = prose
    for line in lines:
        match = _SECTION.match(line)
        if match:
            current = sections.setdefault(match[1], [match[2]] if match[2] else [])
        else:
            current.append(line)
    parts = ["\n".join(prose).strip(), ""]
    for title, body in sections.items():
        text = textwrap.dedent("\n".join(body)).strip()
        if title in ("Args", "Attributes", "Raises"):
            parts += [f"{title}:\n", *_items(text), ""]
        else:
            parts += [f"{title}: {text}\n"]
    return "\n".join(parts)


def _items(text: str) -> Iterator[str]:
    for line in text.splitlines():
        match = re.match(r"^(\*{0,2}\w+): (.*)$", line)
        yield f"- `{match[1]}`: {match[2]}" if match else f"  {line.strip()}"


def _error(name: str, cls: type) -> str:
    bases = " and ".join(f"`{base.__name__}`" for base in cls.__bases__)
    return f"- `{name}`, derived from {bases}: {inspect.cleandoc(cls.__doc__ or '')}"


def _commands() -> str:
    """Render the verbs of the console script, each with the first line of its module."""
    rows = ["## Commands\n", "Each takes `--help`. `bert-rt VERB` is the same as the module.\n"]
    rows += ["| verb | module | |", "| --- | --- | --- |"]
    for verb, module in sorted(VERBS.items()):
        path = _ROOT.joinpath(*module.split("."))
        path = path / "__main__.py" if path.is_dir() else path.with_suffix(".py")
        doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        summary = doc.splitlines()[0].split(": ", 1)[-1]
        rows.append(f"| `bert-rt {verb}` | `python -m {module}` | {summary} |")
    return "\n".join(rows) + "\n"


def _fence(text: str) -> str:
    return f"```text\n{text}\n```\n"


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")

"""bert-rt: BERT from raw text to answers.

    from bert_rt import Runtime

    runtime = Runtime.load()
    answer = runtime.answer(question="...", context="...")

Names are resolved when they are first used, so importing the package loads nothing heavy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bert_rt.api import Runtime
    from bert_rt.errors import BertRtError
    from bert_rt.pipelines import pipeline
    from bert_rt.types import Answer, Classification

__all__ = ["Answer", "BertRtError", "Classification", "Runtime", "__version__", "pipeline"]

__version__ = "0.1.0"

_HOMES = {
    "Answer": "bert_rt.types",
    "BertRtError": "bert_rt.errors",
    "Classification": "bert_rt.types",
    "Runtime": "bert_rt.api",
    "pipeline": "bert_rt.pipelines",
}


def __getattr__(name: str) -> Any:
    """Resolve a public name on first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """List the public names."""
    return __all__

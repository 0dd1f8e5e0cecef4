"""bert-rt: BERT from raw text to answers.

    from bert_rt import Runtime

    runtime = Runtime.load()
    answer = runtime.answer(question="...", context="...")

The public interface is __all__: the Runtime, what it takes and returns, the pipelines, and every
exception. All other modules are internal and may change in any release, except those that a page of
docs/ names. Names are resolved when they are first used, so importing the package loads nothing
heavy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bert_rt.api import Runtime
    from bert_rt.artifact.artifact import Artifact, load_artifact
    from bert_rt.artifact.manifest import Manifest
    from bert_rt.engines.base import EngineInfo
    from bert_rt.errors import (
        ArtifactError,
        ArtifactFormatError,
        ArtifactNotFoundError,
        ArtifactVersionError,
        BertRtError,
        CalibrationError,
        CheckpointError,
        CompileError,
        ConfigError,
        DeadlineExceededError,
        EmptyInputError,
        EngineError,
        EngineInternalError,
        EngineUnavailableError,
        InputError,
        InputTooLongError,
        OverloadedError,
        ParityError,
        TrainingError,
        UnsupportedOpError,
    )
    from bert_rt.pipelines import pipeline
    from bert_rt.pipelines.base import Pipeline
    from bert_rt.scheduling.scheduler import QueueStats
    from bert_rt.tasks.base import CallOptions, Limits, Task
    from bert_rt.tasks.limits import (
        AnsweringConfig,
        SequenceLimits,
        SummaryConfig,
        WindowLimits,
        WritingLimits,
    )
    from bert_rt.tasks.session import Session
    from bert_rt.types import (
        Answer,
        Classification,
        Entity,
        PreparedContexts,
        Question,
        Summary,
        SummarySentence,
        TaggedWord,
        Tagging,
        TextInput,
        TranslatedSentence,
        TranslatedText,
    )

__all__ = [
    "Answer",
    "AnsweringConfig",
    "Artifact",
    "ArtifactError",
    "ArtifactFormatError",
    "ArtifactNotFoundError",
    "ArtifactVersionError",
    "BertRtError",
    "CalibrationError",
    "CallOptions",
    "CheckpointError",
    "Classification",
    "CompileError",
    "ConfigError",
    "DeadlineExceededError",
    "EmptyInputError",
    "EngineError",
    "EngineInfo",
    "EngineInternalError",
    "EngineUnavailableError",
    "Entity",
    "InputError",
    "InputTooLongError",
    "Limits",
    "Manifest",
    "OverloadedError",
    "ParityError",
    "Pipeline",
    "PreparedContexts",
    "Question",
    "QueueStats",
    "Runtime",
    "SequenceLimits",
    "Session",
    "Summary",
    "SummaryConfig",
    "SummarySentence",
    "TaggedWord",
    "Tagging",
    "Task",
    "TextInput",
    "TrainingError",
    "TranslatedSentence",
    "TranslatedText",
    "UnsupportedOpError",
    "WindowLimits",
    "WritingLimits",
    "__version__",
    "load_artifact",
    "pipeline",
]

__version__ = "0.1.0"

# The names of a module, as above; whatever is called an error is in bert_rt.errors.
_NAMES = {
    "bert_rt.api": "Runtime",
    "bert_rt.artifact.artifact": "Artifact load_artifact",
    "bert_rt.artifact.manifest": "Manifest",
    "bert_rt.engines.base": "EngineInfo",
    "bert_rt.scheduling.scheduler": "QueueStats",
    "bert_rt.errors": " ".join(name for name in __all__ if name.endswith("Error")),
    "bert_rt.pipelines": "pipeline",
    "bert_rt.pipelines.base": "Pipeline",
    "bert_rt.tasks.base": "CallOptions Limits Task",
    "bert_rt.tasks.limits": (
        "AnsweringConfig SequenceLimits SummaryConfig WindowLimits WritingLimits"
    ),
    "bert_rt.tasks.session": "Session",
    "bert_rt.types": (
        "Answer Classification Entity PreparedContexts Question Summary SummarySentence "
        "TaggedWord Tagging TextInput TranslatedSentence TranslatedText"
    ),
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    """Resolve a public name on first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    """List the public names."""
    return __all__

"""The pipelines of Transformers 4.x over the engines of bert-rt: a drop-in for nine tasks.

    from bert_rt import pipeline

    answer = pipeline("question-answering", model="ART-or-CHECKPOINT")
    answer(question="...", context="...")  # {"score", "start", "end", "answer"}

Names of arguments, their defaults, the arithmetic of scores and the shapes of results are those of
Transformers 4.57, the last line of releases that has them all. docs/migrating.md says what differs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any

from bert_rt.api import Runtime
from bert_rt.engines.base import EngineOptions
from bert_rt.errors import ConfigError
from bert_rt.pipelines.base import Pipeline
from bert_rt.pipelines.feature_extraction import FeatureExtractionPipeline
from bert_rt.pipelines.fill_mask import FillMaskPipeline
from bert_rt.pipelines.loading import (
    AnyModel,
    is_encoder_decoder,
    open_model,
    open_torch_model,
    task_of_directory,
)
from bert_rt.pipelines.question_answering import QuestionAnsweringPipeline
from bert_rt.pipelines.summarization import SummarizationPipeline
from bert_rt.pipelines.text2text_generation import (
    GeneratedSummaryPipeline,
    Text2TextGenerationPipeline,
    TranslationPipeline,
    open_generator,
)
from bert_rt.pipelines.text_classification import TextClassificationPipeline
from bert_rt.pipelines.token_classification import TokenClassificationPipeline
from bert_rt.text.probing import difference
from bert_rt.text.tokenization import Tokenizer

__all__ = ["pipeline"]

_ALIASES = {"sentiment-analysis": "text-classification", "ner": "token-classification"}
_ENGINE_TASKS: dict[str, Callable[..., Pipeline]] = {
    "question-answering": QuestionAnsweringPipeline,
    "summarization": SummarizationPipeline,
    "text-classification": TextClassificationPipeline,
    "token-classification": TokenClassificationPipeline,
}
_TORCH_TASKS: dict[str, Callable[..., Pipeline]] = {
    "fill-mask": FillMaskPipeline,
    "feature-extraction": FeatureExtractionPipeline,
}
# Models that write texts. Summaries are written, or chosen from the text, as the model is.
_WRITING_TASKS: dict[str, Callable[..., Pipeline]] = {
    "summarization": GeneratedSummaryPipeline,
    "text2text-generation": Text2TextGenerationPipeline,
    "translation": TranslationPipeline,
}
_LANGUAGE_PAIR = re.compile(r"translation_[^_]+_to_[^_]+")
# Arguments of Transformers that name what there is none of here, and what to do instead.
_REFUSED = {
    "config": "the configuration is in the model's directory",
    "device_map": "name one device=",
    "feature_extractor": "only texts are read",
    "image_processor": "only texts are read",
    "model_kwargs": "name engine=, device= and num_threads=",
    "pipeline_class": "call the class itself",
    "processor": "only texts are read",
    "revision": "give the directory of the revision that you want",
    "token": "nothing is downloaded",
    "trust_remote_code": "no code of a checkpoint is ever run",
    "use_fast": "there are fast tokenizers only",
}
_HARMLESS = {"trust_remote_code": False, "use_fast": True}


def pipeline(
    task: str | None = None,
    model: str | os.PathLike[str] | Runtime | None = None,
    config: None = None,
    tokenizer: Any = None,
    *,
    framework: str | None = None,
    device: Any = None,
    dtype: Any = None,
    torch_dtype: Any = None,
    engine: str = "auto",
    num_threads: int | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    **options: Any,
) -> Pipeline:
    """Make a pipeline.

    Args:
        task: A name of docs/migrating.md, such as "question-answering" or "translation"; None for
            what the model is for.
        model: An artifact directory, a checkpoint directory in the Hugging Face layout, or a
            Runtime that is open already. None for the embedded model, which answers questions.
            Fill-mask and feature-extraction are checkpoints only.
        config: Always None; here because Transformers has it in this place.
        tokenizer: None, or a directory or a tokenizer of Transformers that must be the model's.
        framework: None or "pt".
        device: None, "cpu", -1, a CUDA device (0, "cuda:0", a torch.device) or an OpenVINO name.
        dtype: None, "auto" or float32; the artifact decides whether an engine computes in INT8.
        torch_dtype: The older name of dtype.
        engine: As in Runtime.load. A checkpoint runs on torch.
        num_threads: Threads of the engine; None for the cores that this process may use.
        checkpoint: The checkpoint of an artifact, for engine="torch".
        **options: Defaults for the calls of the pipeline, such as top_k, and batch_size.

    Returns:
        The pipeline, which is called with texts.

    Raises:
        ConfigError: An argument is unknown, or cannot be met here; the message says what to do.
        BertRtError: The model cannot be opened.
    """
    _refuse({"config": config} | options)
    options = {name: value for name, value in options.items() if name not in _REFUSED}
    _check_precision(framework, dtype, torch_dtype)
    task = _task(task, model)
    opened: dict[str, Any] = {"num_threads": num_threads, "checkpoint": _absolute(checkpoint)}
    opened["device"] = _device_name(device)
    opened_model, make = _open(task, model, engine, EngineOptions(**opened))
    try:
        if tokenizer is not None:
            _check_tokenizer(tokenizer, opened_model.tokenizer)
        made = make(opened_model, **options)
    except BaseException:
        if not isinstance(model, Runtime):
            opened_model.close()
        raise
    opened |= {"task": task, "model": _absolute(model), "engine": engine}
    made.made_by = (pipeline, options | opened)
    return made


def _absolute(path: Any) -> Any:
    """Make a path hold in processes with another working directory."""
    return os.path.abspath(path) if isinstance(path, str | os.PathLike) else path


def _task(task: str | None, model: Any) -> str:
    """Return the task by the name that a pipeline has; what the model is for where none is said."""
    task = task_of_directory(model) if task is None else task
    task = _ALIASES.get(task, task)
    if _LANGUAGE_PAIR.fullmatch(task):
        # The model knows one pair of languages; Transformers reads the names for others.
        task = "translation"
    if task not in (*_ENGINE_TASKS, *_TORCH_TASKS, *_WRITING_TASKS):
        names = dict.fromkeys((*_ENGINE_TASKS, *_ALIASES, *_TORCH_TASKS, *_WRITING_TASKS))
        known = ", ".join((*names, "translation_xx_to_yy"))
        raise ConfigError(f"task: got {task!r}, known are {known}")
    return task


def _open(
    task: str, model: Any, engine: str, options: EngineOptions
) -> tuple[AnyModel, Callable[..., Pipeline]]:
    """Open the model; return it and what makes the pipeline of it."""
    if task in _WRITING_TASKS and (task not in _ENGINE_TASKS or is_encoder_decoder(model)):
        return open_generator(task, model, engine=engine, options=options), _WRITING_TASKS[task]
    if task in _ENGINE_TASKS:
        return open_model(task, model, engine=engine, options=options), _ENGINE_TASKS[task]
    return open_torch_model(task, model, engine=engine, options=options), _TORCH_TASKS[task]


def _refuse(arguments: dict[str, Any]) -> None:
    for name, value in arguments.items():
        if name in _REFUSED and value is not None and value is not _HARMLESS.get(name):
            raise ConfigError(f"{name}: got {value!r}, want none: {_REFUSED[name]}")


def _check_precision(framework: str | None, *dtypes: Any) -> None:
    """Check that what runs is what was asked for: PyTorch's numbers in float32, or an artifact."""
    if framework not in (None, "pt"):
        raise ConfigError(f"framework: got {framework!r}, want 'pt' or None")
    for value in dtypes:
        if value is not None and str(value).removeprefix("torch.") not in ("auto", "float32"):
            raise ConfigError(
                f"dtype: got {value}, want float32 or None; for speed compile the model to INT8: "
                "python -m compile.export --int8"
            )


def _device_name(device: Any) -> str:
    """Turn what Transformers takes for a device into an engine's name for it."""
    if device is None or device == -1:
        return "cpu"
    if isinstance(device, int) and not isinstance(device, bool):
        return f"cuda:{device}" if device else "cuda"
    return str(device)


def _check_tokenizer(given: Any, ours: Tokenizer) -> None:
    """Check that a tokenizer is the model's: another one would give other tokens."""
    if isinstance(given, str | os.PathLike):
        mismatch = difference(ours, Tokenizer.from_directory(os.fspath(given)))
    elif hasattr(given, "backend_tokenizer"):
        mismatch = difference(ours, given.backend_tokenizer)
    else:
        got = type(given).__name__
        raise ConfigError(f"tokenizer: got {got}, want a directory or a fast tokenizer")
    if mismatch is not None:
        raise ConfigError(f"tokenizer: its tokens are others than the model's: {mismatch}")

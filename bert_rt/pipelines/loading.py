"""A model for a pipeline: opened from an artifact, a checkpoint or a Runtime.

An artifact runs on every engine. A checkpoint in the Hugging Face layout runs on torch, in float32,
as it does in Transformers.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from bert_rt.api import Runtime, open_session
from bert_rt.artifact.artifact import MANIFEST_NAME
from bert_rt.engines.base import EngineInfo, EngineOptions
from bert_rt.engines.forking import ForkSafeEngine
from bert_rt.errors import CheckpointError, ConfigError, EngineUnavailableError
from bert_rt.model.checkpoint import label_names, read_config, read_raw_config
from bert_rt.model.encoder_decoder_checkpoint import ENCODER_DECODER
from bert_rt.model.weights import parse_object
from bert_rt.tasks.checkpoints import load_model, task_of
from bert_rt.tasks.registry import find_task
from bert_rt.tasks.session import Session
from bert_rt.tasks.text_classification.head import function_of_config
from bert_rt.text.tokenization import Tokenizer

if TYPE_CHECKING:
    from bert_rt.pipelines.torch_model import TorchModel

__all__ = [
    "AnyModel",
    "OpenModel",
    "check_task",
    "check_torch",
    "directory_of",
    "is_encoder_decoder",
    "longest_input",
    "open_model",
    "open_torch_model",
    "task_of_directory",
]


class AnyModel(Protocol):
    """What every pipeline needs of its model."""

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer."""
        ...

    @property
    def max_sequence_length(self) -> int:
        """Most tokens of a sequence."""
        ...

    @property
    def model_max_length(self) -> int:
        """Most tokens of a sequence where the caller does not say."""
        ...

    def close(self) -> None:
        """Free the model. Calling it twice is harmless."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class OpenModel:
    """A model with a head, behind a scheduler.

    Attributes:
        session: The path from texts to logits.
        info: The engine.
        max_sequence_length: Most tokens of a sequence.
        model_max_length: Most tokens of a sequence where the caller does not say: what the
            artifact was compiled for, or what the checkpoint's tokenizer_config.json says.
        labels: Names of a classifier's classes.
        function_to_apply: What makes scores of a classifier's logits where the caller does not
            say: "softmax", "sigmoid" or "none".
        limits: The artifact's limits; None for a checkpoint.
    """

    session: Session
    info: EngineInfo
    max_sequence_length: int
    model_max_length: int
    labels: tuple[str, ...] = ()
    function_to_apply: str = "softmax"
    limits: Any = None

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer."""
        return self.session.tokenizer

    def close(self) -> None:
        """Close the engine. Calling it twice is harmless."""
        self.session.close()


def open_model(
    task: str,
    model: str | os.PathLike[str] | Runtime | None,
    *,
    engine: str,
    options: EngineOptions,
) -> OpenModel:
    """Open the model of a pipeline that any engine runs.

    Args:
        task: The name of a task that artifacts are for, such as "question-answering".
        model: An artifact or a checkpoint directory, a Runtime, or None for the embedded model,
            which answers questions.
        engine: The engine's name or "auto"; for a checkpoint "auto" is torch.
        options: Device, threads, and the checkpoint of an artifact for the torch engine.

    Returns:
        The model.

    Raises:
        ConfigError: The model is for another task, or an option does not go with it.
        ArtifactError: The artifact cannot be used.
        CheckpointError: The checkpoint cannot be used.
        EngineError: The engine cannot run here.
    """
    if model is None and task != "question-answering":
        raise ConfigError(
            f"model: got None, want an artifact or a checkpoint for {task}; the embedded model "
            "answers questions only"
        )
    if isinstance(model, Runtime):
        return _from_runtime(task, model)
    if model is not None:
        path = directory_of(model)
        if not (path / MANIFEST_NAME).is_file() and (path / "config.json").is_file():
            return _from_checkpoint(task, path, engine, options)
    runtime = Runtime.load(
        model,
        engine=engine,
        device=options.device,
        num_threads=options.num_threads,
        checkpoint=options.checkpoint,
    )
    try:
        return _from_runtime(task, runtime)
    except ConfigError:
        runtime.close()
        raise


def open_torch_model(
    pipeline_task: str,
    model: str | os.PathLike[str] | Runtime | None,
    *,
    engine: str,
    options: EngineOptions,
) -> TorchModel:
    """Open the model of a pipeline that only torch runs: hidden states or vocabulary scores.

    Args:
        pipeline_task: "fill-mask" or "feature-extraction".
        model: A checkpoint directory.
        engine: "auto" or "torch".
        options: Device and threads.

    Returns:
        The model.

    Raises:
        ConfigError: It is no checkpoint, or an option does not go with it.
        CheckpointError: The checkpoint cannot be used.
        EngineUnavailableError: torch is missing, or the device.
    """
    is_path = isinstance(model, str | os.PathLike)
    path = directory_of(model) if is_path else None
    if path is None or (path / MANIFEST_NAME).is_file():
        got = "an artifact" if path is not None else repr(model)
        raise ConfigError(
            f"model: got {got}; {pipeline_task} runs on a checkpoint directory only, with torch: "
            "artifacts hold models of other tasks"
        )
    check_torch(engine, options)
    from bert_rt.pipelines.torch_model import TorchModel

    # Feature extraction takes the encoder of any checkpoint and leaves its head.
    wanted = {"fill-mask": "pretraining", "feature-extraction": "encoder"}[pipeline_task]
    loaded = load_model(path, wanted, allow_new_head=True)
    untrained = [key for key in loaded.new_keys if key.startswith("cls.predictions.")]
    if untrained:
        raise CheckpointError(
            f"{path}: has no masked language model in it (no {untrained[0]}), which fill-mask needs"
        )
    tokenizer = Tokenizer.from_directory(path)
    return TorchModel(loaded, tokenizer, longest_input(path, loaded.config), options)


def is_encoder_decoder(model: Any) -> bool:
    """Tell whether a model is a checkpoint of an encoder-decoder."""
    if not isinstance(model, str | os.PathLike):
        return False
    path = Path(model)
    if (path / MANIFEST_NAME).is_file() or not (path / "config.json").is_file():
        return False
    return read_raw_config(path)[1].get("model_type") == ENCODER_DECODER


def task_of_directory(model: str | os.PathLike[str] | Runtime | None) -> str:
    """Tell the pipeline that a model is for, where the caller names none.

    Args:
        model: As in open_model.

    Returns:
        The pipeline's task.

    Raises:
        ConfigError: There is no such directory.
        BertRtError: It is neither an artifact nor a checkpoint.
    """
    if model is None:
        return "question-answering"
    if isinstance(model, Runtime):
        return model.manifest.task
    path = directory_of(model)
    if (path / MANIFEST_NAME).is_file():
        from bert_rt.artifact.artifact import load_artifact

        return load_artifact(path).manifest.task
    if is_encoder_decoder(path):
        return "text2text-generation"
    task = task_of(read_config(path)[1])
    return {"pretraining": "fill-mask", "encoder": "feature-extraction"}.get(task, task)


def directory_of(model: Any) -> Path:
    """Return a model's directory; raises ConfigError where there is none."""
    if not isinstance(model, str | os.PathLike):
        raise ConfigError(
            f"model: got {type(model).__name__}, want a directory; save a model of Transformers "
            "with save_pretrained(DIR), its tokenizer too, and give DIR"
        )
    path = Path(model)
    if not path.is_dir():
        raise ConfigError(
            f"model: got {os.fspath(model)!r}, and there is no such directory; nothing is "
            "downloaded here: `hf download NAME --local-dir DIR` fetches a checkpoint"
        )
    return path


def _from_runtime(task: str, runtime: Runtime) -> OpenModel:
    manifest = runtime.manifest
    check_task(task, manifest.task)
    return OpenModel(
        runtime.session,
        runtime.info,
        manifest.architecture.max_sequence_length,
        runtime.limits.max_seq_length,
        manifest.labels,
        getattr(runtime.head, "function_to_apply", "none"),
        runtime.limits,
    )


def _from_checkpoint(task: str, path: Path, engine: str, options: EngineOptions) -> OpenModel:
    check_torch(engine, options)
    config, raw = read_config(path)
    task_of(raw, task)
    # Before the weights, which take longer.
    labels = label_names(raw) if find_task(task).head_spec.has_labels else ()
    is_classifier = task == "text-classification"
    function = function_of_config(raw, len(labels)) if is_classifier else "none"
    tokenizer = Tokenizer.from_directory(path)
    from bert_rt.engines.torch import TorchEngine

    outputs = find_task(task).outputs
    opened = ForkSafeEngine(lambda: TorchEngine(load_model(path, task), options, outputs))
    return OpenModel(
        open_session(opened, tokenizer, config),
        opened.info,
        config.max_sequence_length,
        longest_input(path, config),
        labels,
        function,
    )


def check_task(want: str, got: str) -> None:
    """Refuse a model for another task; raises ConfigError."""
    if got != want:
        raise ConfigError(f"model: got a model for {got}, want one for {want}")


def check_torch(engine: str, options: EngineOptions) -> None:
    """Check that a checkpoint can run with these options."""
    from bert_rt.engines.torch import missing

    if engine not in ("auto", "torch"):
        raise ConfigError(
            f"engine: got {engine!r} for a checkpoint, which torch runs; for other engines compile "
            "it: python -m compile.export --model_name_or_path CHECKPOINT --output_dir ART --int8"
        )
    reason = missing(None, options)
    if reason is not None:
        raise EngineUnavailableError(f"engine: 'torch' cannot run here: {reason}")


def longest_input(path: Path, config: Any) -> int:
    """Return the longest sequence by tokenizer_config.json, as far as the model goes."""
    file = path / "tokenizer_config.json"
    values: Mapping[str, Any] = parse_object(file.read_bytes(), file) if file.is_file() else {}
    name = "model_max_length" if "model_max_length" in values else "max_len"
    length = values.get(name)
    longest: int = config.max_sequence_length
    # Hugging Face writes 1e30 for "not said", other programs NaN or -1.
    if length is None or length == -1 or (isinstance(length, float) and not math.isfinite(length)):
        return longest
    if isinstance(length, bool) or not isinstance(length, int | float) or length < 1:
        raise CheckpointError(
            f"{file}: {name}: got {length!r}, want a positive integer, or -1 for no limit"
        )
    return min(int(length), longest)

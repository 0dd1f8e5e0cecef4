"""The Hugging Face directory layout, read and written.

A checkpoint is a directory with config.json, model.safetensors and the tokenizer's files. Reading
the configuration needs neither torch nor safetensors; the weights need both, which are imported
when they are first used. Weights are never unpickled freely: pytorch_model.bin is read by torch's
restricted loader only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bert_rt.errors import CheckpointError, ConfigError
from bert_rt.model.architectures import (
    ARCHITECTURES,
    EXACT_GELU,
    check_has_task,
    supported_model_types,
)
from bert_rt.model.config import BertConfig, architecture_fields, from_dict
from bert_rt.model.labels import label_names, problem_type
from bert_rt.model.vocabulary import TOKENIZER_FILES, check_vocabulary, read_tokenizer_files
from bert_rt.model.weights import (
    WEIGHTS_NAME,
    load_weights,
    parse_object,
    to_safetensors,
    weight_files,
)
from bert_rt.support.files import atomic_directory, atomic_write_bytes

if TYPE_CHECKING:
    from bert_rt.model.heads import TaskModel

__all__ = [
    "TASKS",
    "TOKENIZER_FILES",
    "LoadedModel",
    "checkpoint_hash",
    "label_names",
    "load_model",
    "problem_type",
    "read_config",
    "read_tokenizer_files",
    "save_checkpoint",
    "task_of",
]

_TASK_OF_CLASS = {
    row.class_prefix + ending: task
    for row in ARCHITECTURES.values()
    for task, endings in row.tasks.items()
    for ending in endings
}
TASKS = tuple(dict.fromkeys(_TASK_OF_CLASS.values()))
_CONFIG = "config.json"


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model as load_model makes it.

    Attributes:
        model: The module, float32, on the CPU, in eval mode.
        task: One of TASKS.
        config: The architecture.
        raw_config: All of config.json; pass it to save_checkpoint to keep what it says.
        new_keys: Parameters that the file does not have, freshly initialized.
        unused_keys: Weights in the file that this model has no place for.
    """

    model: TaskModel
    task: str
    config: BertConfig
    raw_config: dict[str, Any]
    new_keys: tuple[str, ...]
    unused_keys: tuple[str, ...]


def read_config(directory: str | Path) -> tuple[BertConfig, dict[str, Any]]:
    """Read config.json and check that it describes a model that this project computes.

    Args:
        directory: The checkpoint.

    Returns:
        The architecture, and all of config.json as it stands.

    Raises:
        CheckpointError: There is no such directory or no config.json in it, the file is not a
            JSON object, or the model is of no supported architecture or a variant with other
            arithmetic.
    """
    path = Path(directory)
    if not path.exists():
        raise CheckpointError(f"{path}: no such directory")
    if not path.is_dir():
        raise CheckpointError(f"{path}: not a directory, want one with {_CONFIG}")
    if not (path / _CONFIG).is_file():
        raise CheckpointError(f"{path}: no {_CONFIG} in it")
    file = path / _CONFIG
    raw = parse_object(file.read_bytes(), file)
    # Hugging Face writes null for "the default".
    values = {name: value for name, value in raw.items() if value is not None}
    model_type = values.get("model_type", "bert")
    row = ARCHITECTURES.get(model_type) if isinstance(model_type, str) else None
    if row is None:
        raise CheckpointError(
            f"{file}: model_type: got {model_type!r}, supported are {supported_model_types()}"
        )
    activation = row.config_names.get("hidden_act", "hidden_act")
    if values.pop(activation, "gelu") not in EXACT_GELU:
        raise CheckpointError(
            f"{file}: {activation}: got {raw[activation]!r}, supported are "
            f"{', '.join(map(repr, EXACT_GELU))}, which are the exact function"
        )
    for name, wanted in (
        ("position_embedding_type", "absolute"),
        ("is_decoder", False),
        ("add_cross_attention", False),
    ):
        if values.get(name, wanted) != wanted:
            raise CheckpointError(f"{file}: {name}: got {raw[name]!r}, supported is {wanted!r}")
    named = {
        name: values[row.config_names.get(name, name)]
        for name in architecture_fields(model_type)
        if row.config_names.get(name, name) in values
    }
    try:
        return from_dict(BertConfig, {**row.defaults, **named, **row.fixed}), raw
    except ConfigError as error:
        raise CheckpointError(f"{file}: {error}") from error


def task_of(raw_config: Mapping[str, Any], task: str | None = None) -> str:
    """Tell a checkpoint's task from its `architectures`, or from the user where it has none.

    Args:
        raw_config: All of config.json.
        task: What the user wants to do with it, if he says so: one of TASKS.

    Returns:
        One of TASKS.

    Raises:
        CheckpointError: No architecture is named and no task given, or an architecture that this
            project does not have.
        ConfigError: The architecture is for another task than the one given.
    """
    names = raw_config.get("architectures")
    if not names and task is not None:
        return task
    named = _TASK_OF_CLASS.get(str(names[0])) if isinstance(names, list) and names else None
    if named is None:
        supported = ", ".join(_TASK_OF_CLASS)
        hint = "" if names else "; where none is named, give the task (task=, or --task)"
        raise CheckpointError(
            f"{_CONFIG}: architectures: got {names!r}; supported are {supported}{hint}"
        )
    if task not in (None, named):
        raise ConfigError(
            f"model: got a model for {named}, want one for {task} ({_CONFIG}: architectures)"
        )
    return named


def load_model(
    directory: str | Path,
    task: str | None = None,
    *,
    allow_new_head: bool = False,
    num_labels: int | None = None,
) -> LoadedModel:
    """Load a checkpoint as the model of a task.

    Keys of old checkpoints are understood: gamma and beta, no "bert." in front, "module." before
    all of them. Constants and weights of heads that the model does not have are left out, with
    one line of warning.

    Args:
        directory: The checkpoint.
        task: One of TASKS; None for the one that config.json names.
        allow_new_head: Whether the file's pooler and heads may be others than the model's, as
            when fine-tuning starts from a pretrained encoder. Those that lack are initialized
            from torch's global generator.
        num_labels: Classes of a text classifier; None for as many as config.json names.

    Returns:
        The model, and which weights were new or left over.

    Raises:
        CheckpointError: The directory cannot be read, its weights are not those of the model, or
            its tokenizer has more ids than the model has embeddings; or it is to answer
            questions and has one token type only.
        ConfigError: There is no such task.
    """
    from bert_rt.model.heads import build_model

    path = Path(directory)
    config, raw = read_config(path)
    task = task_of(raw) if task is None else task
    # Without storage, so that nothing is initialized only to be overwritten.
    if task == "question-answering":
        _check_token_types(path, config)
    if num_labels is None:
        num_labels = len(label_names(raw)) if task == "text-classification" else 2
    model = build_model(task, config, num_labels, device="meta")
    check_vocabulary(path, read_tokenizer_files(path), config.vocab_size, warn=True)
    new, unused = load_weights(path, model, config, task, allow_new_head=allow_new_head)
    return LoadedModel(model.eval(), task, config, raw, new, unused)


def _check_token_types(path: Path, config: BertConfig) -> None:
    if config.num_token_types < 2:
        raise CheckpointError(
            f"{path / _CONFIG}: type_vocab_size: got {config.type_vocab_size}, want at least 2 for "
            "question-answering, where tokens of the context are of type 1"
        )


def checkpoint_hash(directory: str | Path) -> str:
    """Return the SHA-256 of the weights, in hexadecimal: what an artifact's provenance records.

    Args:
        directory: The checkpoint.

    Returns:
        The hash of the weights file, as sha256sum prints it; of a sharded checkpoint, that of
        the shards one behind the other in the order of their names.

    Raises:
        CheckpointError: There are no weights in the directory, or they cannot be read.
    """
    digest = hashlib.sha256()
    try:
        for file in weight_files(Path(directory)):
            with file.open("rb") as stream:
                while block := stream.read(1 << 20):
                    digest.update(block)
    except OSError as error:
        raise CheckpointError(f"{directory}: cannot be read: {error.strerror}") from error
    return digest.hexdigest()


def save_checkpoint(
    directory: str | Path,
    model: TaskModel,
    config: BertConfig,
    *,
    tokenizer_files: Mapping[str, bytes],
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write a checkpoint that Transformers and load_model read, whole or not at all.

    A new directory appears under its name when everything in it is on the disk. In one that
    already holds files, each file is replaced in one step and files of other names stay.

    Args:
        directory: The checkpoint; its parents are made.
        model: The module.
        config: Its architecture.
        tokenizer_files: Contents by name, as read_tokenizer_files gives them.
        extra: More of config.json, such as id2label, or the raw_config of the checkpoint that the
            model came from; what the model and its config say goes first.

    Raises:
        CheckpointError: The directory cannot be written, id2label does not fit the model, or
            the tokenizer has more ids than the model has embeddings.
        ConfigError: The architecture has no model of this kind, so that nothing could read it.
    """
    path = Path(directory)
    if path.exists() and not path.is_dir():
        raise CheckpointError(f"{path}: not a directory")
    check_vocabulary(path, tokenizer_files, config.vocab_size)
    task = _TASK_OF_CLASS[type(model).__name__]
    check_has_task(config.model_type, task)
    values = _config_values(model, config, task, extra or {})
    # What other programs wrote is kept as it was, also where it is NaN.
    text = json.dumps(values, indent=2, sort_keys=True) + "\n"
    # All of it is in memory before the disk is touched.
    files = {
        **tokenizer_files,
        _CONFIG: text.encode(),
        WEIGHTS_NAME: to_safetensors(model, config, task),
    }
    try:
        if path.is_dir() and any(path.iterdir()):
            for name, content in files.items():
                atomic_write_bytes(path / name, content)
        else:
            with atomic_directory(path) as staged:
                for name, content in files.items():
                    (staged / name).write_bytes(content)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written: {error}") from error


def _config_values(
    model: TaskModel, config: BertConfig, task: str, extra: Mapping[str, Any]
) -> dict[str, Any]:
    # What is said anew below, and the class names of a head that this model may not have.
    stale = ("torch_dtype", "num_labels", "id2label", "label2id")
    values = {name: value for name, value in extra.items() if name not in stale}
    dtype = next(model.parameters()).dtype
    row = config.architecture
    for name in architecture_fields(config.model_type):
        if name not in row.fixed:
            values[row.config_names.get(name, name)] = getattr(config, name)
    values |= {
        "architectures": [row.class_name(task)],
        "dtype": str(dtype).removeprefix("torch."),
    }
    classifier = getattr(model, "classifier", None)
    if classifier is not None:
        count = classifier.out_features
        names = label_names({**extra, "num_labels": count})
        if len(names) != count:
            raise CheckpointError(f"id2label: got {len(names)} names, want {count}")
        values["id2label"] = {str(index): name for index, name in enumerate(names)}
        values["label2id"] = {name: index for index, name in enumerate(names)}
    return values

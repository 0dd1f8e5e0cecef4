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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bert_rt.errors import CheckpointError, ConfigError
from bert_rt.model.architectures import ARCHITECTURES, EXACT_GELU, supported_model_types
from bert_rt.model.config import BertConfig, architecture_fields, from_dict
from bert_rt.model.head import HeadSpec
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
    from bert_rt.model.encoder import TaskModel

__all__ = [
    "TOKENIZER_FILES",
    "LoadedModel",
    "architecture_of",
    "architecture_values",
    "checkpoint_hash",
    "label_names",
    "load_checkpoint",
    "problem_type",
    "read_config",
    "read_raw_config",
    "read_tokenizer_files",
    "save_checkpoint",
    "write_files",
]

_CONFIG = "config.json"


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model as load_checkpoint makes it.

    Attributes:
        model: The module, float32, on the CPU, in eval mode.
        config: The architecture.
        raw_config: All of config.json; pass it to save_checkpoint to keep what it says.
        new_keys: Parameters that the file does not have, freshly initialized.
        unused_keys: Weights in the file that this model has no place for.
    """

    model: TaskModel
    config: BertConfig
    raw_config: dict[str, Any]
    new_keys: tuple[str, ...]
    unused_keys: tuple[str, ...]

    @property
    def task(self) -> str:
        """What the model is for: the name of its head."""
        return self.model.spec.name


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
    file, raw = read_raw_config(directory)
    return architecture_of(raw, str(file)), raw


def read_raw_config(directory: str | Path) -> tuple[Path, dict[str, Any]]:
    """Read config.json, whatever model it describes.

    Args:
        directory: The checkpoint.

    Returns:
        The file, and all that it says.

    Raises:
        CheckpointError: There is no such directory or no config.json in it, or the file is not a
            JSON object.
    """
    path = Path(directory)
    if not path.exists():
        raise CheckpointError(f"{path}: no such directory")
    if not path.is_dir():
        raise CheckpointError(f"{path}: not a directory, want one with {_CONFIG}")
    if not (path / _CONFIG).is_file():
        raise CheckpointError(f"{path}: no {_CONFIG} in it")
    file = path / _CONFIG
    return file, parse_object(file.read_bytes(), file)


def architecture_of(
    raw: Mapping[str, Any], place: str, *, prefix: str = "", is_decoder: bool = False
) -> BertConfig:
    """Check that a configuration describes a model that this project computes.

    Args:
        raw: All of config.json, or the part of it that describes one model.
        place: Where it stands, for messages.
        prefix: What stands before the names of its fields in messages.
        is_decoder: Whether it shall be a decoder with cross attention, and not an encoder.

    Returns:
        The architecture.

    Raises:
        CheckpointError: The model is of no supported architecture, or a variant with other
            arithmetic.
    """
    # Hugging Face writes null for "the default".
    values = {name: value for name, value in raw.items() if value is not None}
    model_type = values.get("model_type", "bert")
    row = ARCHITECTURES.get(model_type) if isinstance(model_type, str) else None
    if row is None:
        raise CheckpointError(
            f"{place}: {prefix}model_type: got {model_type!r}, supported are "
            f"{supported_model_types()}"
        )
    activation = row.config_names.get("hidden_act", "hidden_act")
    if values.pop(activation, "gelu") not in EXACT_GELU:
        raise CheckpointError(
            f"{place}: {prefix}{activation}: got {raw[activation]!r}, supported are "
            f"{', '.join(map(repr, EXACT_GELU))}, which are the exact function"
        )
    for name, default, wanted in (
        ("position_embedding_type", "absolute", "absolute"),
        ("is_decoder", False, is_decoder),
        ("add_cross_attention", False, is_decoder),
    ):
        if values.get(name, default) != wanted:
            got = raw.get(name)
            raise CheckpointError(f"{place}: {prefix}{name}: got {got!r}, supported is {wanted!r}")
    named = {
        name: values[row.config_names.get(name, name)]
        for name in architecture_fields(model_type, is_split=True)
        if row.config_names.get(name, name) in values
    }
    try:
        return from_dict(BertConfig, {**row.defaults, **named, **row.fixed})
    except ConfigError as error:
        raise CheckpointError(f"{place}: {prefix}{error}") from error


def load_checkpoint(
    directory: str | Path,
    head: HeadSpec,
    *,
    allow_new_head: bool = False,
    num_labels: int | None = None,
    changes: Mapping[str, Any] | None = None,
) -> LoadedModel:
    """Load a checkpoint as a model with a given head; bert_rt.tasks.checkpoints goes by names.

    Keys of old checkpoints are understood: gamma and beta, no "bert." in front, "module." before
    all of them. Constants and weights of heads that the model does not have are left out, with
    one line of warning.

    Args:
        directory: The checkpoint.
        head: What the model has behind its encoder; the architecture has such a head.
        allow_new_head: Whether the file's pooler and heads may be others than the model's, as
            when fine-tuning starts from a pretrained encoder. Missing ones are initialized
            from torch's global generator.
        num_labels: Labels of a head that has such; None for as many as config.json names.
        changes: Fields of BertConfig that shall be otherwise than config.json says; none of them
            changes the shape of a weight.

    Returns:
        The model, and which weights were new or left over.

    Raises:
        CheckpointError: The directory cannot be read, its weights are not those of the model, or
            its tokenizer has more ids than the model has embeddings; or it has fewer token types
            than the head reads.
        ConfigError: The architecture cannot have the changes.
    """
    from bert_rt.model.heads import make_model

    path = Path(directory)
    config, raw = read_config(path)
    config = replace(config, **(changes or {}))
    _check_token_types(path, config, head)
    if num_labels is None:
        num_labels = len(label_names(raw)) if head.has_labels else 2
    # Without storage, so that nothing is initialized only to be overwritten.
    model = make_model(head, config, num_labels, device="meta")
    check_vocabulary(path, read_tokenizer_files(path), config.vocab_size, warn=True)
    new, unused = load_weights(path, model, config, allow_new_head=allow_new_head)
    return LoadedModel(model.eval(), config, raw, new, unused)


def _check_token_types(path: Path, config: BertConfig, head: HeadSpec) -> None:
    if config.num_token_types < head.num_token_types:
        raise CheckpointError(
            f"{path / _CONFIG}: type_vocab_size: got {config.type_vocab_size}, want at least "
            f"{head.num_token_types} for {head.name}, whose texts are distinguished by their types"
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
    """Write a checkpoint that Transformers and load_checkpoint read, whole or not at all.

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
    model.spec.check_fits(config.model_type)
    check_vocabulary(path, tokenizer_files, config.vocab_size)
    values = _config_values(model, config, extra or {})
    # What other programs wrote is kept as it was, also where it is NaN.
    text = json.dumps(values, indent=2, sort_keys=True) + "\n"
    # All of it is in memory before the disk is touched.
    files = {
        **tokenizer_files,
        _CONFIG: text.encode(),
        WEIGHTS_NAME: to_safetensors(model, config),
    }
    write_files(path, files)


def write_files(path: Path, files: Mapping[str, bytes]) -> None:
    """Write a checkpoint's files: a new directory at once, in an old one each file in one step.

    Args:
        path: The directory.
        files: Contents by name; a name may have a subdirectory in front.

    Raises:
        CheckpointError: The directory cannot be written.
    """
    if path.exists() and not path.is_dir():
        raise CheckpointError(f"{path}: not a directory")
    try:
        if path.is_dir() and any(path.iterdir()):
            for name, content in files.items():
                (path / name).parent.mkdir(exist_ok=True)
                atomic_write_bytes(path / name, content)
        else:
            with atomic_directory(path) as staged:
                for name, content in files.items():
                    (staged / name).parent.mkdir(exist_ok=True)
                    (staged / name).write_bytes(content)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written: {error}") from error


def _config_values(
    model: TaskModel, config: BertConfig, extra: Mapping[str, Any]
) -> dict[str, Any]:
    # What is said anew below, and the class names of a head that this model may not have.
    stale = ("num_labels", "id2label", "label2id")
    kept = {name: value for name, value in extra.items() if name not in stale}
    dtype = next(model.parameters()).dtype
    values = architecture_values(config, kept) | {
        "architectures": [config.architecture.class_names(model.spec)[0]],
        "dtype": str(dtype).removeprefix("torch."),
    }
    count = model.num_labels
    if count is not None:
        names = label_names({**extra, "num_labels": count})
        if len(names) != count:
            raise CheckpointError(f"id2label: got {len(names)} names, want {count}")
        values["id2label"] = {str(index): name for index, name in enumerate(names)}
        values["label2id"] = {name: index for index, name in enumerate(names)}
    return values


def architecture_values(config: BertConfig, extra: Mapping[str, Any]) -> dict[str, Any]:
    """Return what config.json says of an architecture.

    Args:
        config: The architecture.
        extra: More of config.json; what the architecture says goes first.

    Returns:
        Fields and values, without class names and dtype.
    """
    # An ordinary model that was made of a split one says nothing of split layers.
    stale = {"torch_dtype", "num_split_layers", "passage_position_offset"}
    values = {name: value for name, value in extra.items() if name not in stale}
    row = config.architecture
    for name in architecture_fields(config.model_type, is_split=config.num_split_layers > 0):
        if name not in row.fixed:
            values[row.config_names.get(name, name)] = getattr(config, name)
    return values

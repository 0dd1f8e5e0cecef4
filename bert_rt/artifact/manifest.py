"""The manifest of an artifact: its fields, their checks and their one JSON form.

docs/artifact-format.md specifies what is read and written here, with MUST and MAY. Nothing in a
manifest is trusted: it may come from a stranger, so every field is checked for type and range, and
whatever is wrong with it raises ArtifactFormatError or ArtifactVersionError and nothing else.
"""

from __future__ import annotations

import dataclasses
import json
import re
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict, TypeVar

from bert_rt.artifact import version_1
from bert_rt.artifact.checks import (
    MAX_LABELS,
    check_choice,
    check_int,
    check_number,
    check_type,
    object_of,
    plain_list,
    plain_object,
    refuse,
)
from bert_rt.artifact.decoder import DecoderEntry, decoder_from_json, decoder_to_json
from bert_rt.artifact.entries import MAX_FILE_BYTES, FileEntry, ModelEntry, check_file_name
from bert_rt.errors import ArtifactFormatError, ArtifactVersionError, ConfigError
from bert_rt.model.architectures import ARCHITECTURES
from bert_rt.model.config import BertConfig, architecture_fields, from_dict, to_dict
from bert_rt.support.strict_json import parse_json

__all__ = [
    "FORMAT",
    "MAX_FILES",
    "MAX_FILE_BYTES",
    "MAX_MANIFEST_BYTES",
    "MAX_SCORE_TEMPERATURE",
    "MIN_SCORE_TEMPERATURE",
    "REQUIRED_FILES",
    "VERSION",
    "DecoderEntry",
    "FileEntry",
    "Manifest",
    "ManifestFields",
    "ModelEntry",
    "check_file_name",
    "manifest_from_json",
    "manifest_to_json",
]

FORMAT = "bert-rt-artifact"
VERSION = 2
REQUIRED_FILES = ("tokenizer.json",)

MAX_MANIFEST_BYTES = 16 * 2**20
MAX_FILES = 64
_MAX_SELF_TEST_ITEMS = 1024
# Beyond these a score says nothing any more: it is 0 or 1, or the same for every span.
MIN_SCORE_TEMPERATURE, MAX_SCORE_TEMPERATURE = 0.01, 100.0

_PRECISIONS = ("float32", "int8")
_EXTENSION_PREFIX = "x_"
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}", re.ASCII)
_MAX_MODELS = 16
_MODEL = "model"  # the name of the graph where there is one

ConfigT = TypeVar("ConfigT")


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Everything an artifact says of itself, checked when it is made.

    The free-form objects (quantization, provenance, receipt, self-test items, extensions) are
    copied into plain JSON values, so that a manifest equals what is read back from its JSON. What
    depends on the task (limits, labels, self-test items) is checked by the task
    (bert_rt.tasks.base.Task.check_manifest), not here.

    Attributes:
        task: The name of a task.
        architecture: Which architecture, and its sizes.
        precision: "int8" or "float32".
        limits: The task's settings; max_seq_length is among them and never above the
            architecture's max_sequence_length.
        files: File name to entry; tokenizer.json and the models' files are always there.
        models: Name to entry of every graph; where there is one, its name is "model".
        quantization: The scheme, for people and reports; empty for float32. Only its pair_safe is
            read, see is_pair_safe.
        fusions: Rule name to number of rewrites.
        labels: Class names in the order of the logits; empty for tasks without classes.
        head: What the logits mean, where the task has several kinds of heads; the task says which
            fields it has. Empty for the task's usual head.
        provenance: Where the weights and data came from: hashes and tool versions.
        receipt: Accuracy measured when the artifact was compiled, or None.
        self_test: Inputs and expected results, checked when a runtime opens; the task says which.
            An item may have token_ids, the token ids of each of its texts.
        score_temperature: What logits are divided by where scores are made of them, so that they
            are probabilities; 1 where nobody has measured.
        decoder: What writes texts, with its tokenizer; None for models without one.
        extensions: Top-level fields of other tools, their names starting with "x_".
        version: Of the format that it was or shall be written in.
    """

    task: str
    architecture: BertConfig
    precision: str
    limits: Mapping[str, Any]
    files: Mapping[str, FileEntry]
    models: Mapping[str, ModelEntry] = field(default_factory=dict)
    quantization: Mapping[str, Any] = field(default_factory=dict)
    fusions: Mapping[str, int] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    head: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    receipt: Mapping[str, Any] | None = None
    self_test: tuple[dict[str, Any], ...] = ()
    score_temperature: float = 1.0
    decoder: DecoderEntry | None = None
    extensions: Mapping[str, Any] = field(default_factory=dict)
    version: int = VERSION

    def __post_init__(self) -> None:
        """Check every field and replace free-form values by plain copies.

        Raises:
            ArtifactFormatError: A field has the wrong type or is out of range, or two fields
                contradict each other.
        """
        if not isinstance(self.task, str) or not _NAME.fullmatch(self.task):
            refuse("task", self.task, "the name of a task: lower-case letters, digits, '_' and '-'")
        check_choice("precision", self.precision, _PRECISIONS)
        check_type("architecture", self.architecture, BertConfig)
        longest = self.architecture.max_sequence_length
        object.__setattr__(self, "limits", plain_object("limits", self.limits))
        check_int("limits.max_seq_length", self.limits.get("max_seq_length"), 1, 2**31 - 1)
        if self.limits["max_seq_length"] > longest:
            got = self.limits["max_seq_length"]
            refuse(
                "limits.max_seq_length", got, f"at most the model's longest sequence ({longest})"
            )
        check_number(
            "score_temperature",
            self.score_temperature,
            MIN_SCORE_TEMPERATURE,
            MAX_SCORE_TEMPERATURE,
        )
        _check_files(self.files)
        object.__setattr__(self, "files", dict(self.files))
        for name in ("quantization", "fusions", "head", "provenance", "receipt", "extensions"):
            if name != "receipt" or self.receipt is not None:
                object.__setattr__(self, name, plain_object(name, getattr(self, name)))
        check_type("quantization.pair_safe", self.quantization.get("pair_safe", False), bool)
        for name, count in self.fusions.items():
            check_int(f"fusions.{reprlib.repr(name)}", count, 0, 2**31 - 1)
        for name in self.extensions:
            if not name.startswith(_EXTENSION_PREFIX):
                refuse("extensions", name, f"names that start with {_EXTENSION_PREFIX!r}")
        labels = plain_list("labels", self.labels, MAX_LABELS)
        if not all(isinstance(label, str) for label in labels) or len(set(labels)) != len(labels):
            refuse("labels", labels, "different strings")
        object.__setattr__(self, "labels", tuple(labels))
        items = plain_list("self_test", self.self_test, _MAX_SELF_TEST_ITEMS)
        for index, item in enumerate(items):
            object_of(f"self_test[{index}]", item)
        object.__setattr__(self, "self_test", tuple(items))
        if not self.models:
            entry = ModelEntry(file=version_1.MODEL_FILE, outputs=version_1.outputs_of(self.labels))
            object.__setattr__(self, "models", {_MODEL: entry})
        _check_models(self.models, self.files)
        if self.decoder is not None:
            check_type("decoder", self.decoder, DecoderEntry)
            if self.decoder.tokenizer not in self.files:
                refuse("files", sorted(self.files), f"{self.decoder.tokenizer} among them")

    @property
    def model(self) -> ModelEntry:
        """The graph that engines run, the one named "model"; raises ArtifactFormatError."""
        return self.graph(_MODEL)

    def graph(self, name: str) -> ModelEntry:
        """Return a graph by its name; raises ArtifactFormatError."""
        if name not in self.models:
            refuse("models", sorted(self.models), f"{name!r} among them")
        return self.models[name]

    @property
    def is_pair_safe(self) -> bool:
        """Whether INT8 products are exact where two of them are added in 16 bits.

        That is how x86 processors without VNNI multiply u8 by s8 (vpmaddubsw).
        """
        return self.quantization.get("pair_safe", False) is True

    @property
    def outputs(self) -> Mapping[str, str]:
        """Names and kinds of the outputs of that graph; raises ArtifactFormatError."""
        return self.model.outputs


class _RequiredFields(TypedDict):
    task: str
    architecture: BertConfig
    precision: str
    limits: Mapping[str, Any]


class ManifestFields(_RequiredFields, total=False):
    """The fields of Manifest that a writer gives; files is worked out from the content."""

    models: Mapping[str, ModelEntry]
    quantization: Mapping[str, Any]
    fusions: Mapping[str, int]
    labels: tuple[str, ...]
    head: Mapping[str, Any]
    provenance: Mapping[str, Any]
    receipt: Mapping[str, Any] | None
    self_test: tuple[dict[str, Any], ...]
    score_temperature: float
    decoder: DecoderEntry | None
    extensions: Mapping[str, Any]


def manifest_to_json(manifest: Manifest) -> bytes:
    """Write a manifest as JSON: ASCII, keys sorted, the same bytes for equal manifests.

    One that was read is written in the version that it was read in.

    Args:
        manifest: A manifest, which is checked already.

    Returns:
        The content of manifest.json.

    Raises:
        ArtifactFormatError: It is longer than MAX_MANIFEST_BYTES, so no reader would take it.
    """
    values = {item.name: getattr(manifest, item.name) for item in dataclasses.fields(manifest)}
    values |= values.pop("extensions")
    if values["score_temperature"] == 1:
        # So that releases which do not know the field read every artifact that has no need of it.
        del values["score_temperature"]
    if not values["head"]:
        del values["head"]
    if values["decoder"] is None:
        del values["decoder"]
    else:
        values["decoder"] = decoder_to_json(values["decoder"])
    values |= {
        "format": FORMAT,
        "architecture": {
            name: getattr(manifest.architecture, name)
            for name in architecture_fields(
                manifest.architecture.model_type,
                is_split=manifest.architecture.num_split_layers > 0,
            )
        },
        "files": {name: to_dict(entry) for name, entry in manifest.files.items()},
        "models": {name: to_dict(entry) for name, entry in manifest.models.items()},
    }
    if manifest.version == 1:
        del values["models"]
    text = json.dumps(values, indent=2, sort_keys=True, allow_nan=False)
    data = (text + "\n").encode("ascii")
    if len(data) > MAX_MANIFEST_BYTES:
        refuse("length", len(data), f"at most {MAX_MANIFEST_BYTES} bytes")
    return data


def manifest_from_json(data: bytes) -> Manifest:
    """Read a manifest and check every field of it.

    Args:
        data: The content of manifest.json.

    Returns:
        The manifest; manifest_to_json gives data back if data is in its canonical form.

    Raises:
        ArtifactFormatError: It is not JSON, or a field is unknown, missing or wrong.
        ArtifactVersionError: It was written in another version of the format.
    """
    try:
        values = parse_json(data, max_bytes=MAX_MANIFEST_BYTES)
    except ValueError as error:
        raise ArtifactFormatError(f"manifest: is not valid JSON: {error}") from None
    values = object_of("top level", values)
    check_choice("format", values.pop("format", None), (FORMAT,))
    version = values.pop("version", None)
    check_int("version", version, 0, 2**31 - 1)
    if not 1 <= version <= VERSION:
        raise ArtifactVersionError(
            f"manifest.version: got {version}, want 1 to {VERSION}, which this release of bert-rt "
            "reads; compile the checkpoint again or use another release"
        )
    extensions = {name: item for name, item in values.items() if _is_extension(name)}
    values = {name: item for name, item in values.items() if not _is_extension(name)}
    if "extensions" in values:  # a field of Manifest, but not of the file
        refuse("top level", "extensions", "no unknown field")
    for name in ("models", "head", "decoder"):
        if version == 1 and name in values:
            refuse("top level", name, "no field of version 2")
    values |= {"extensions": extensions, "version": version}
    # The fields that MAY be left out.
    values.setdefault("score_temperature", 1.0)
    values.setdefault("head", {})
    decoder = values.get("decoder")
    values["decoder"] = decoder_from_json(decoder) if "decoder" in values else None
    values["architecture"] = _architecture(values.get("architecture"))
    object_of("limits", values.get("limits"))
    if version == 1:
        values["models"] = {}
    else:
        models = object_of("models", values.get("models"))
        if not models:  # which the constructor takes for what version 1 means
            refuse("models", models, f"1 to {_MAX_MODELS} graphs")
        values["models"] = {
            name: _make(ModelEntry, "models.*", object_of("models.*", entry))
            for name, entry in models.items()
        }
    values["files"] = {
        name: _make(FileEntry, "files.*", object_of("files.*", entry))
        for name, entry in object_of("files", values.get("files")).items()
    }
    return _make(Manifest, "top level", values)


def _architecture(value: object) -> BertConfig:
    architecture = object_of("architecture", value)
    check_choice("architecture.model_type", architecture.get("model_type"), tuple(ARCHITECTURES))
    is_split = "num_split_layers" in architecture
    names = architecture_fields(architecture["model_type"], is_split=is_split)
    return _make(BertConfig, "architecture", architecture, names)


def _is_extension(name: str) -> bool:
    return name.startswith(_EXTENSION_PREFIX)


def _make(
    cls: type[ConfigT], where: str, values: Mapping[str, Any], names: Sequence[str] = ()
) -> ConfigT:
    # A default belongs to the writer: a reader that filled one in would guess at the model.
    wanted = set(names or (item.name for item in dataclasses.fields(cls)))  # type: ignore[arg-type]
    if set(values) != wanted:
        wrong = sorted(set(values) ^ wanted)
        refuse(where, sorted(values), f"every field and no other (wrong: {reprlib.repr(wrong)})")
    try:
        return from_dict(cls, values)
    except ConfigError as error:
        raise ArtifactFormatError(f"manifest.{where}: {str(error)[:500]}") from None


def _check_files(files: Mapping[str, FileEntry]) -> None:
    check_type("files", files, Mapping)
    if len(files) > MAX_FILES:
        refuse("files", f"{len(files)} files", f"at most {MAX_FILES}")
    for name, entry in files.items():
        check_file_name(name)
        check_type(f"files.{name}", entry, FileEntry)
    for name in REQUIRED_FILES:
        if name not in files:
            refuse("files", sorted(files), f"{name} among them")


def _check_models(models: Mapping[str, ModelEntry], files: Mapping[str, FileEntry]) -> None:
    check_type("models", models, Mapping)
    if not 1 <= len(models) <= _MAX_MODELS:
        refuse("models", sorted(models), f"1 to {_MAX_MODELS} graphs")
    for name, entry in models.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            refuse("models", name, "names of lower-case letters, digits, '_' and '-'")
        check_type(f"models.{name}", entry, ModelEntry)
        if entry.file not in files:
            refuse("files", sorted(files), f"{entry.file} among them")

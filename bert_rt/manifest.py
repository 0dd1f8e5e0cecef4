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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypedDict, TypeVar

from bert_rt.architectures import ARCHITECTURES
from bert_rt.config import AnsweringConfig, BertConfig, architecture_fields, from_dict, to_dict
from bert_rt.errors import ArtifactFormatError, ArtifactVersionError, ConfigError
from bert_rt.strict_json import parse_json, to_plain

__all__ = [
    "FORMAT",
    "MAX_FILES",
    "MAX_FILE_BYTES",
    "MAX_MANIFEST_BYTES",
    "REQUIRED_FILES",
    "TASKS",
    "VERSION",
    "FileEntry",
    "Manifest",
    "ManifestFields",
    "check_file_name",
    "manifest_from_json",
    "manifest_to_json",
]

FORMAT = "bert-rt-artifact"
VERSION = 1
TASKS = ("question-answering", "text-classification")
REQUIRED_FILES = ("model.onnx", "tokenizer.json")

MAX_MANIFEST_BYTES = 16 * 2**20
# A protobuf message, which an ONNX file is, cannot be larger.
MAX_FILE_BYTES = 2**31 - 1
MAX_FILES = 64
_MAX_LABELS = 2**16
_MAX_SELF_TEST_ITEMS = 1024

_PRECISIONS = ("float32", "int8")
_EXTENSION_PREFIX = "x_"
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)

ConfigT = TypeVar("ConfigT")


@dataclass(frozen=True, kw_only=True)
class FileEntry:
    """What the manifest says of one file.

    Attributes:
        sha256: Digest of the content, 64 lower-case hexadecimal digits.
        size: Length of the content in bytes.
    """

    sha256: str
    size: int

    def __post_init__(self) -> None:
        """Check both fields.

        Raises:
            ArtifactFormatError: The digest is no SHA-256 or the size is out of range.
        """
        if not isinstance(self.sha256, str) or not _SHA256.fullmatch(self.sha256):
            _refuse("files.*.sha256", self.sha256, "64 lower-case hexadecimal digits")
        _check_int("files.*.size", self.size, 0, MAX_FILE_BYTES)


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Everything an artifact says of itself, checked when it is made.

    The free-form objects (quantization, provenance, receipt, self-test items, extensions) are
    copied into plain JSON values, so that a manifest equals what is read back from its JSON.

    Attributes:
        task: "question-answering" or "text-classification".
        architecture: Which architecture, and its sizes.
        precision: "int8" or "float32".
        limits: Default window and span settings; max_seq_length is never above the
            architecture's max_sequence_length. Text classification uses max_seq_length only.
        files: File name to entry; model.onnx and tokenizer.json are always there.
        quantization: The scheme, for people and reports; empty for float32.
        fusions: Rule name to number of rewrites.
        labels: Class names in the order of the logits; empty for question answering.
        provenance: Where the weights and data came from: hashes and tool versions.
        receipt: Accuracy measured when the artifact was compiled, or None.
        self_test: Inputs and expected results, checked when a runtime opens. For question
            answering: question, context, text, start, end, start_logit, end_logit. For text
            classification: text, text_pair (or None), logits.
        extensions: Top-level fields of other tools, their names starting with "x_".
    """

    task: str
    architecture: BertConfig
    precision: str
    limits: AnsweringConfig
    files: Mapping[str, FileEntry]
    quantization: Mapping[str, Any] = field(default_factory=dict)
    fusions: Mapping[str, int] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    receipt: Mapping[str, Any] | None = None
    self_test: tuple[dict[str, Any], ...] = ()
    extensions: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check every field and replace free-form values by plain copies.

        Raises:
            ArtifactFormatError: A field has the wrong type or is out of range, or two fields
                contradict each other.
        """
        _check_choice("task", self.task, TASKS)
        _check_choice("precision", self.precision, _PRECISIONS)
        _check_type("architecture", self.architecture, BertConfig)
        _check_type("limits", self.limits, AnsweringConfig)
        longest = self.architecture.max_sequence_length
        if self.limits.max_seq_length > longest:
            got = self.limits.max_seq_length
            _refuse(
                "limits.max_seq_length", got, f"at most the model's longest sequence ({longest})"
            )
        _check_files(self.files)
        object.__setattr__(self, "files", dict(self.files))
        for name in ("quantization", "fusions", "provenance", "receipt", "extensions"):
            if name != "receipt" or self.receipt is not None:
                object.__setattr__(self, name, _plain_object(name, getattr(self, name)))
        for name, count in self.fusions.items():
            _check_int(f"fusions.{reprlib.repr(name)}", count, 0, 2**31 - 1)
        for name in self.extensions:
            if not name.startswith(_EXTENSION_PREFIX):
                _refuse("extensions", name, f"names that start with {_EXTENSION_PREFIX!r}")
        labels = _plain_list("labels", self.labels, _MAX_LABELS)
        _check_labels(self.task, labels)
        object.__setattr__(self, "labels", tuple(labels))
        items = _plain_list("self_test", self.self_test, _MAX_SELF_TEST_ITEMS)
        for index, item in enumerate(items):
            _check_self_test(f"self_test[{index}]", item, self.task, len(labels))
        object.__setattr__(self, "self_test", tuple(items))


class _RequiredFields(TypedDict):
    task: str
    architecture: BertConfig
    precision: str
    limits: AnsweringConfig


class ManifestFields(_RequiredFields, total=False):
    """The fields of Manifest that a writer gives; files is worked out from the content."""

    quantization: Mapping[str, Any]
    fusions: Mapping[str, int]
    labels: tuple[str, ...]
    provenance: Mapping[str, Any]
    receipt: Mapping[str, Any] | None
    self_test: tuple[dict[str, Any], ...]
    extensions: Mapping[str, Any]


def manifest_to_json(manifest: Manifest) -> bytes:
    """Write a manifest as JSON: ASCII, keys sorted, the same bytes for equal manifests.

    Args:
        manifest: A manifest, which is checked already.

    Returns:
        The content of manifest.json.

    Raises:
        ArtifactFormatError: It is longer than MAX_MANIFEST_BYTES, so no reader would take it.
    """
    values = {item.name: getattr(manifest, item.name) for item in dataclasses.fields(manifest)}
    values |= values.pop("extensions")
    values |= {
        "format": FORMAT,
        "version": VERSION,
        "architecture": {
            name: getattr(manifest.architecture, name)
            for name in architecture_fields(manifest.architecture.model_type)
        },
        "limits": to_dict(manifest.limits),
        "files": {name: to_dict(entry) for name, entry in manifest.files.items()},
    }
    text = json.dumps(values, indent=2, sort_keys=True, allow_nan=False)
    data = (text + "\n").encode("ascii")
    if len(data) > MAX_MANIFEST_BYTES:
        _refuse("length", len(data), f"at most {MAX_MANIFEST_BYTES} bytes")
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
    values = _object("top level", values)
    _check_choice("format", values.pop("format", None), (FORMAT,))
    version = values.pop("version", None)
    _check_int("version", version, 0, 2**31 - 1)
    if version != VERSION:
        raise ArtifactVersionError(
            f"manifest.version: got {version}, want {VERSION}, the only one that this release of "
            "bert-rt reads; compile the checkpoint again or use another release"
        )
    extensions = {name: item for name, item in values.items() if _is_extension(name)}
    values = {name: item for name, item in values.items() if not _is_extension(name)}
    if "extensions" in values:  # a field of Manifest, but not of the file
        _refuse("top level", "extensions", "no unknown field")
    values["extensions"] = extensions
    architecture = _object("architecture", values.get("architecture"))
    _check_choice("architecture.model_type", architecture.get("model_type"), tuple(ARCHITECTURES))
    names = architecture_fields(architecture["model_type"])
    values["architecture"] = _make(BertConfig, "architecture", architecture, names)
    values["limits"] = _make(AnsweringConfig, "limits", _object("limits", values.get("limits")))
    values["files"] = {
        name: _make(FileEntry, "files.*", _object("files.*", entry))
        for name, entry in _object("files", values.get("files")).items()
    }
    return _make(Manifest, "top level", values)


def check_file_name(name: str) -> None:
    """Check that a file name is one plain, portable name.

    Letters, digits, ".", "_" and "-", starting with a letter or digit: so it is never absolute,
    hidden or "..", and holds no separator of any system, no NUL and no drive letter.

    Args:
        name: A key of the manifest's "files".

    Raises:
        ArtifactFormatError: The name is anything else, or the manifest's own.
    """
    if not isinstance(name, str) or not _FILE_NAME.fullmatch(name) or name == "manifest.json":
        _refuse("files", name, "plain file names of letters, digits, '.', '_' and '-'")


def _refuse(where: str, got: object, want: str) -> NoReturn:
    # reprlib bounds the length, so that a hostile value cannot flood a log.
    raise ArtifactFormatError(f"manifest.{where}: got {reprlib.repr(got)}, want {want}")


def _is_extension(name: str) -> bool:
    return name.startswith(_EXTENSION_PREFIX)


def _make(
    cls: type[ConfigT], where: str, values: Mapping[str, Any], names: Sequence[str] = ()
) -> ConfigT:
    # A default belongs to the writer: a reader that filled one in would guess at the model.
    wanted = set(names or (item.name for item in dataclasses.fields(cls)))  # type: ignore[arg-type]
    if set(values) != wanted:
        wrong = sorted(set(values) ^ wanted)
        _refuse(where, sorted(values), f"every field and no other (wrong: {reprlib.repr(wrong)})")
    try:
        return from_dict(cls, values)
    except ConfigError as error:
        raise ArtifactFormatError(f"manifest.{where}: {str(error)[:500]}") from None


def _object(where: str, value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        _refuse(where, value, "an object")
    return value


def _plain_object(where: str, value: object) -> dict[str, Any]:
    try:
        return _object(where, to_plain(value))
    except ValueError as error:
        raise ArtifactFormatError(f"manifest.{where}: {error}") from None


def _plain_list(where: str, value: object, high: int) -> list[Any]:
    if not isinstance(value, list | tuple) or len(value) > high:
        _refuse(where, value, f"a list of at most {high}")
    try:
        return [to_plain(item) for item in value]
    except ValueError as error:
        raise ArtifactFormatError(f"manifest.{where}: {error}") from None


def _check_type(where: str, value: object, cls: type) -> None:
    if not isinstance(value, cls):
        _refuse(where, value, cls.__name__)


def _check_int(where: str, value: object, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        _refuse(where, value, f"an integer from {low} to {high}")


def _check_number(where: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        _refuse(where, value, "a number")


def _check_choice(where: str, value: object, choices: Sequence[str]) -> None:
    if not isinstance(value, str) or value not in choices:
        _refuse(where, value, f"one of {', '.join(choices)}")


def _check_files(files: Mapping[str, FileEntry]) -> None:
    _check_type("files", files, Mapping)
    if len(files) > MAX_FILES:
        _refuse("files", f"{len(files)} files", f"at most {MAX_FILES}")
    for name, entry in files.items():
        check_file_name(name)
        _check_type(f"files.{name}", entry, FileEntry)
    for name in REQUIRED_FILES:
        if name not in files:
            _refuse("files", sorted(files), f"{name} among them")


def _check_labels(task: str, labels: list[Any]) -> None:
    if not all(isinstance(label, str) for label in labels) or len(set(labels)) != len(labels):
        _refuse("labels", labels, "different strings")
    if bool(labels) != (task == "text-classification"):
        _refuse("labels", labels, "at least one for text-classification, none for other tasks")


def _check_string(where: str, value: object) -> None:
    _check_type(where, value, str)


def _check_optional_string(where: str, value: object) -> None:
    if value is not None:
        _check_type(where, value, str)


def _check_offset(where: str, value: object) -> None:
    _check_int(where, value, 0, MAX_MANIFEST_BYTES)


def _check_numbers(where: str, value: object) -> None:
    for number in _plain_list(where, value, _MAX_LABELS):
        _check_number(where, number)


_SELF_TEST_FIELDS: dict[str, dict[str, Callable[[str, object], None]]] = {
    "question-answering": {
        "question": _check_string,
        "context": _check_string,
        "text": _check_string,
        "start": _check_offset,
        "end": _check_offset,
        "start_logit": _check_number,
        "end_logit": _check_number,
    },
    "text-classification": {
        "text": _check_string,
        "text_pair": _check_optional_string,
        "logits": _check_numbers,
    },
}


def _check_self_test(where: str, item: Any, task: str, num_labels: int) -> None:
    fields = _SELF_TEST_FIELDS[task]
    if set(_object(where, item)) != set(fields):
        _refuse(where, sorted(item), f"the fields {', '.join(fields)}")
    for name, check in fields.items():
        check(f"{where}.{name}", item[name])
    if task == "question-answering":
        start, end, context = item["start"], item["end"], item["context"]
        if not start <= end <= len(context) or context[start:end] != item["text"]:
            _refuse(where, (start, end), "the span of text in context")
    elif len(item["logits"]) != num_labels:
        _refuse(f"{where}.logits", item["logits"], f"{num_labels} numbers, one a label")

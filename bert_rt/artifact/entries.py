"""What a manifest says of one file and of one graph."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass

from bert_rt.artifact.checks import check_choice, check_int, plain_object, refuse
from bert_rt.support.outputs import PER_SEQUENCE, PER_TOKEN

__all__ = ["MAX_FILE_BYTES", "FileEntry", "ModelEntry", "check_file_name"]

# A protobuf message, which an ONNX file is, cannot be larger.
MAX_FILE_BYTES = 2**31 - 1
_MAX_OUTPUTS = 1024
_KINDS = (PER_TOKEN, PER_SEQUENCE)
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)


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
            refuse("files.*.sha256", self.sha256, "64 lower-case hexadecimal digits")
        check_int("files.*.size", self.size, 0, MAX_FILE_BYTES)


@dataclass(frozen=True, kw_only=True)
class ModelEntry:
    """What the manifest says of one graph.

    Attributes:
        file: A name from "files", such as "model.onnx".
        outputs: Names of the graph's outputs, and their kind: "token" or "sequence".
    """

    file: str
    outputs: Mapping[str, str]

    def __post_init__(self) -> None:
        """Check both fields.

        Raises:
            ArtifactFormatError: The file's name is none, or an output's name or kind.
        """
        check_file_name(self.file, "models.*.file")
        outputs = plain_object("models.*.outputs", self.outputs)
        if not 1 <= len(outputs) <= _MAX_OUTPUTS:
            refuse("models.*.outputs", outputs, f"1 to {_MAX_OUTPUTS} outputs")
        for name, kind in outputs.items():
            check_choice(f"models.*.outputs.{reprlib.repr(name)}", kind, _KINDS)
        object.__setattr__(self, "outputs", outputs)


def check_file_name(name: str, where: str = "files") -> None:
    """Check that a file name is one plain, portable name.

    Letters, digits, ".", "_" and "-", starting with a letter or digit: so it is never absolute,
    hidden or "..", and holds no separator of any system, no NUL and no drive letter.

    Args:
        name: A key of the manifest's "files".
        where: The field that it stands in, for the message.

    Raises:
        ArtifactFormatError: The name is anything else, or the manifest's own.
    """
    if not isinstance(name, str) or not _FILE_NAME.fullmatch(name) or name == "manifest.json":
        refuse(where, name, "plain file names of letters, digits, '.', '_' and '-'")

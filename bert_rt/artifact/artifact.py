"""The artifact: the directory that compile writes and every runtime reads.

Reading trusts nothing: the manifest is checked field by field, and every file it names is read
once, measured and hashed before any byte of it is used. What `Artifact.read` returns is what was
hashed, so changing a file afterwards changes nothing. Writing is all or nothing.

The format is specified in docs/artifact-format.md.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Unpack

from bert_rt.artifact.manifest import (
    FORMAT,
    MAX_FILE_BYTES,
    MAX_MANIFEST_BYTES,
    VERSION,
    FileEntry,
    Manifest,
    ManifestFields,
    check_file_name,
    manifest_from_json,
    manifest_to_json,
)
from bert_rt.errors import ArtifactError, ArtifactFormatError, ArtifactNotFoundError
from bert_rt.support.files import (
    DirectoryChangedError,
    DirectoryState,
    atomic_directory,
    check_replaceable,
    directory_state,
)
from bert_rt.support.strict_json import parse_json

__all__ = [
    "FORMAT",
    "MANIFEST_NAME",
    "MODEL_NAME",
    "TOKENIZER_NAME",
    "VERSION",
    "Artifact",
    "FileEntry",
    "Manifest",
    "ManifestFields",
    "build_artifact",
    "check_output_dir",
    "default_artifact_path",
    "load_artifact",
    "write_artifact",
]

MANIFEST_NAME = "manifest.json"
MODEL_NAME = "model.onnx"
TOKENIZER_NAME = "tokenizer.json"

_COMPILE_COMMAND = "python -m compile.export --model_name_or_path {} --output_dir ART --int8"


class Artifact:
    """A verified artifact: its manifest and the bytes that were hashed.

    Safe to share between threads.
    """

    def __init__(
        self, manifest: Manifest, content: Mapping[str, bytes], path: Path | None = None
    ) -> None:
        """Hold a manifest and content that was checked against it.

        Use load_artifact or build_artifact, which do the checking.

        Args:
            manifest: The manifest.
            content: File name to bytes, for every file of the manifest.
            path: The directory it was read from; None for one that is only in memory.
        """
        self._manifest = manifest
        self._content = dict(content)
        self._path = path

    def __repr__(self) -> str:
        """Show where the artifact came from."""
        return f"Artifact({str(self._path)!r})" if self._path else "Artifact(in memory)"

    @property
    def manifest(self) -> Manifest:
        """What the artifact says of itself."""
        return self._manifest

    @property
    def path(self) -> Path | None:
        """The directory it was read from; None for one that is only in memory."""
        return self._path

    def read(self, name: str) -> bytes:
        """Return the verified content of a file.

        No copy is made: the same object is returned each time. After release, the file is read
        and verified again.

        Args:
            name: A name from manifest.files, such as "model.onnx".

        Returns:
            Exactly the bytes whose SHA-256 is in the manifest.

        Raises:
            ArtifactNotFoundError: The artifact has no file of that name.
            ArtifactFormatError: The content was released and the file has changed since.
            ArtifactError: The content was released and the file cannot be read again.
        """
        entry = self._manifest.files.get(name)
        if entry is None:
            known = ", ".join(sorted(self._manifest.files))
            raise ArtifactNotFoundError(f"artifact: has no file {name!r}; it has {known}")
        data = self._content.get(name)
        if data is None:
            # Only an artifact with a directory ever forgets content.
            assert self._path is not None
            data = _read_verified(self._path, name, entry)
        return data

    def release(self, name: str) -> None:
        """Forget the bytes of a file, once an engine has made its own form of them.

        An artifact that is only in memory keeps them, since nobody else does.

        Args:
            name: A name from manifest.files; forgetting twice is harmless.
        """
        if self._path is not None:
            self._content.pop(name, None)


def load_artifact(path: str | os.PathLike[str]) -> Artifact:
    """Read an artifact and verify all of it.

    Extra files in the directory are ignored. Each file is read and hashed once.

    Args:
        path: The artifact directory.

    Returns:
        The artifact, every file of it verified and in memory.

    Raises:
        ArtifactNotFoundError: There is no artifact at path.
        ArtifactVersionError: It was written in a format version that is not read here.
        ArtifactFormatError: It is damaged, tampered with or incomplete.
        ArtifactError: It cannot be read (no permission, a failing disk).
    """
    directory = _absolute(path)
    _check_is_artifact(directory)
    data = _read_file(directory, MANIFEST_NAME, MAX_MANIFEST_BYTES)
    try:
        manifest = manifest_from_json(data)
    except ArtifactError as error:
        raise type(error)(f"{directory}: {error}") from None
    # The smallest first: a wrong tokenizer is reported before a large model has been hashed.
    entries = sorted(manifest.files.items(), key=lambda item: item[1].size)
    content = {name: _read_verified(directory, name, entry) for name, entry in entries}
    return Artifact(manifest, content, directory)


def build_artifact(
    *, files: Mapping[str, bytes | Path], **fields: Unpack[ManifestFields]
) -> Artifact:
    """Make an artifact in memory, for instance to run gates on it before it is written.

    Args:
        files: File name to content, or to a file that holds it.
        **fields: The fields of Manifest other than files.

    Returns:
        The artifact, with path None.

    Raises:
        ArtifactFormatError: A file name or a field is not what the format allows.
        ArtifactError: A file cannot be read.
    """
    content = {}
    for name, source in files.items():
        check_file_name(name)
        content[name] = source if isinstance(source, bytes) else _read_source(source)
    entries = {
        name: FileEntry(sha256=hashlib.sha256(data).hexdigest(), size=len(data))
        for name, data in content.items()
    }
    return Artifact(Manifest(files=entries, **fields), content)


def write_artifact(
    directory: str | os.PathLike[str],
    *,
    files: Mapping[str, bytes | Path],
    unchanged_since: DirectoryState | None = None,
    **fields: Unpack[ManifestFields],
) -> Artifact:
    """Write an artifact, whole or not at all.

    It is written beside the target, flushed to the disk and renamed. An artifact that stands
    there is replaced, and removed only once the new one has its name.

    Args:
        directory: Where it shall appear: absent, empty, or an artifact with no other files in it.
        files: File name to content, or to a file that holds it.
        unchanged_since: What check_output_dir found there; whatever has been written there since
            then stays, and this is not written. None to replace any artifact.
        **fields: The fields of Manifest other than files.

    Returns:
        The artifact as written, with its content in memory.

    Raises:
        ArtifactFormatError: A file name or a field is not what the format allows.
        ArtifactError: It cannot be written (disk full, no permission), or something that is no
            artifact stands there; the message names path and reason, and nothing half-written
            stays.
    """
    built = build_artifact(files=files, **fields)
    content = {name: built.read(name) for name in built.manifest.files}
    with (
        _told(directory),
        atomic_directory(
            directory, can_replace=_is_only_an_artifact, unchanged_since=unchanged_since
        ) as place,
    ):
        for name, data in content.items():
            (place / name).write_bytes(data)
        (place / MANIFEST_NAME).write_bytes(manifest_to_json(built.manifest))
    return Artifact(built.manifest, content, _absolute(directory))


def check_output_dir(directory: str | os.PathLike[str]) -> DirectoryState:
    """Refuse before the work of compiling what write_artifact would refuse after it.

    Args:
        directory: Where an artifact shall appear.

    Returns:
        What stands there now, for write_artifact.

    Raises:
        ArtifactError: Something that is no artifact stands there.
    """
    with _told(directory):
        found = directory_state(directory)
        check_replaceable(directory, can_replace=_is_only_an_artifact)
    return found


@contextlib.contextmanager
def _told(directory: str | os.PathLike[str]) -> Iterator[None]:
    """Turn what fails while an artifact is written into one ArtifactError."""
    try:
        yield
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        if isinstance(error, DirectoryChangedError):
            reason = (
                "another process has written there since this one began, and what it wrote stays"
            )
        elif isinstance(error, FileExistsError):
            reason = "it holds files that are not part of an artifact; name another directory"
        raise ArtifactError(
            f"{os.fspath(directory)}: the artifact cannot be written: {reason}"
        ) from error


def default_artifact_path() -> Path:
    """Return the directory of the embedded default model.

    Returns:
        A directory inside the installed package.

    Raises:
        ArtifactNotFoundError: This installation was built without one.
    """
    path = Path(__file__).parents[1] / "default_model"
    if not (path / MANIFEST_NAME).is_file():
        raise ArtifactNotFoundError(
            f"artifact: this installation has no embedded default model ({path}); name one with "
            f"--artifact ART, made by `{_COMPILE_COMMAND.format('CHECKPOINT')}`"
        )
    return path


def _absolute(path: str | os.PathLike[str]) -> Path:
    # A file that was released is found again even where the process has changed its directory.
    return Path(os.path.abspath(path))


def _read_source(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read: {error.strerror}") from error


def _check_is_artifact(directory: Path) -> None:
    try:
        is_directory = stat.S_ISDIR(os.stat(directory).st_mode)
        names = os.listdir(directory) if is_directory else []
    except FileNotFoundError:
        raise ArtifactNotFoundError(f"{directory}: there is no such directory") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ArtifactError(f"{directory}: cannot be read: {reason}") from None
    if not is_directory:
        raise ArtifactNotFoundError(f"{directory}: is a file, want an artifact directory")
    if MANIFEST_NAME in names:
        return
    if "config.json" in names:
        raise ArtifactNotFoundError(
            f"{directory}: is a checkpoint, not an artifact; compile it first: "
            f"{_COMPILE_COMMAND.format(directory)}"
        )
    raise ArtifactNotFoundError(f"{directory}: is no artifact, it has no {MANIFEST_NAME}")


def _read_verified(directory: Path, name: str, entry: FileEntry) -> bytes:
    data = _read_file(directory, name, MAX_FILE_BYTES, entry.size)
    digest = hashlib.sha256(data).hexdigest()
    if digest != entry.sha256:
        raise ArtifactFormatError(
            f"{directory / name}: is damaged or was changed: its SHA-256 is {digest}, "
            f"the manifest says {entry.sha256}"
        )
    return data


def _read_file(directory: Path, name: str, max_bytes: int, size: int | None = None) -> bytes:
    """Read a regular file that lies inside the directory, into one buffer of the right size."""
    path = directory / name
    try:
        # Links inside the directory are usual (mounted volumes use them); one that leads out of
        # it would let an artifact name any file of this machine.
        if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(directory)):
            raise ArtifactFormatError(f"{path}: is a link that leaves the artifact directory")
        # O_NONBLOCK: opening a named pipe would otherwise wait for a writer for ever.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        with open(os.open(path, flags), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ArtifactFormatError(f"{path}: is no regular file")
            want = status.st_size if size is None else size
            if status.st_size != want or want > max_bytes:
                wanted = f"at most {max_bytes}" if size is None else str(size)
                raise ArtifactFormatError(f"{path}: has {status.st_size} bytes, want {wanted}")
            # One byte more shows a file that grew since it was measured.
            data = file.read(want + 1)
    except FileNotFoundError:
        raise ArtifactFormatError(f"{path}: is named in the manifest and missing") from None
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read: {error.strerror}") from error
    if len(data) != want:
        raise ArtifactFormatError(f"{path}: has {len(data)} bytes or more, want {want}")
    return data


def _is_only_an_artifact(directory: Path) -> bool:
    """Whether everything in a directory belongs to an artifact, of any format version."""
    try:
        data = _read_file(directory, MANIFEST_NAME, MAX_MANIFEST_BYTES)
        values = parse_json(data, max_bytes=MAX_MANIFEST_BYTES)
    except (ArtifactError, ValueError):
        return False
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        return False
    files = values.get("files")
    ours = {MANIFEST_NAME, *files} if isinstance(files, dict) else {MANIFEST_NAME}
    return {entry.name for entry in directory.iterdir()} <= ours

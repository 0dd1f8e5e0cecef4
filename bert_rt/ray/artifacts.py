"""Artifacts on a cluster: read from a path, or from Ray's object store."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bert_rt.api import Runtime
from bert_rt.artifact.artifact import MANIFEST_NAME, default_artifact_path, load_artifact

__all__ = ["open_runtime", "put_artifact"]


def put_artifact(path: str | os.PathLike[str] | None = None) -> Any:
    """Put an artifact into Ray's object store, for machines that cannot read its path.

    It stays there for as long as the calling process holds the reference.

    Args:
        path: The artifact directory; None for the embedded default model.

    Returns:
        A reference, which answerer takes in place of a path.

    Raises:
        ArtifactError: The artifact cannot be used.
    """
    import ray

    directory = Path(default_artifact_path() if path is None else path)
    names = [MANIFEST_NAME, *load_artifact(directory).manifest.files]
    return ray.put({name: (directory / name).read_bytes() for name in names})


def open_runtime(artifact: Any, **options: Any) -> Runtime:
    """Load a Runtime inside an actor.

    Args:
        artifact: A path, None for the embedded model, or what put_artifact gave.
        **options: As in Runtime.load.

    Returns:
        A Runtime that is ready to answer.

    Raises:
        BertRtError: As in Runtime.load.
    """
    if artifact is None or isinstance(artifact, str | os.PathLike):
        return Runtime.load(artifact, **options)
    import ray

    files: Mapping[str, bytes] = ray.get(artifact)
    with tempfile.TemporaryDirectory(prefix="bert_rt-") as folder:
        for name, data in files.items():
            place = Path(folder) / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
        return Runtime.load(folder, **options)

"""Tiny artifacts, and small chunks that are put onto the disk at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.batch import chunks, run
from tests.support.artifacts import write_tiny_artifact, write_tiny_classifier


@pytest.fixture(scope="session")
def artifact_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("batch") / "artifact"
    write_tiny_artifact(path)
    return path


@pytest.fixture(scope="session")
def classifier_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("batch") / "classifier"
    write_tiny_classifier(path)
    return path


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "_MAX_ROWS", 4)
    monkeypatch.setattr(run, "_COMMIT_S", 0.0)


@pytest.fixture
def flags(artifact_dir: Path, small_chunks: None) -> list[object]:
    return ["--artifact", artifact_dir, "--engine", "onnxruntime", "--num_threads", 1]

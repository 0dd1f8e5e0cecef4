"""Two small models behind one application."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bert_rt.api import Runtime
from bert_rt.serving import Application, Settings, app
from tests.support.artifacts import write_tiny_artifact, write_tiny_classifier


@pytest.fixture(scope="session")
def answering(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    path = tmp_path_factory.mktemp("answering") / "a"
    write_tiny_artifact(path)
    with Runtime.load(path, engine="onnxruntime", num_threads=1) as runtime:
        yield runtime


@pytest.fixture(scope="session")
def classifying(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    path = tmp_path_factory.mktemp("classifying") / "a"
    write_tiny_classifier(path)
    with Runtime.load(path, engine="onnxruntime", num_threads=1) as runtime:
        yield runtime


@pytest.fixture
def application(answering: Runtime, classifying: Runtime) -> Application:
    return app({"squad": answering, "mood": classifying}, Settings(max_items=8))

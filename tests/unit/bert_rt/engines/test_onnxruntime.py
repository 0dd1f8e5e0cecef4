"""How sessions of ONNX Runtime are opened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bert_rt.engines import onnxruntime as engine
from bert_rt.engines.base import EngineOptions
from tests.support import seq2seq_artifacts
from tests.support.artifacts import write_tiny_artifact


@pytest.fixture
def disabled(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What every session that is opened leaves out of its optimizations."""
    library, found = engine._library(), []
    open_really = library.InferenceSession

    def note(*arguments: Any, disabled_optimizers: list[str], **options: Any) -> Any:
        found.append(disabled_optimizers)
        return open_really(*arguments, disabled_optimizers=disabled_optimizers, **options)

    monkeypatch.setattr(library, "InferenceSession", note)
    return found


def test_layer_norms_are_unfused_in_int8_only(disabled: list[list[str]], tmp_path: Path) -> None:
    options = EngineOptions(num_threads=1)
    for is_int8 in (False, True):
        artifact = seq2seq_artifacts.make_artifact(is_int8=is_int8)
        disabled.clear()
        engine.open_seq2seq(artifact, options).close()
        assert disabled == [["SkipLayerNormFusion"] if is_int8 else []] * 2
    disabled.clear()
    artifact = write_tiny_artifact(tmp_path / "art")
    assert artifact.manifest.precision == "float32"
    engine.open_engine(artifact, options).close()
    assert disabled == [[]]

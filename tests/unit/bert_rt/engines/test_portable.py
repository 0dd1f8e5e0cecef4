"""Tests of the engines onnxruntime and openvino, side by side."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from bert_rt.artifact.artifact import Artifact, build_artifact
from bert_rt.engines import onnxruntime as ort_engine
from bert_rt.engines import openvino as openvino_engine
from bert_rt.engines.base import Engine, EngineOptions
from bert_rt.errors import ConfigError, EngineInternalError, EngineUnavailableError
from bert_rt.model.config import to_dict
from bert_rt.types import Outputs, PackedBatch
from tests.support.artifacts import CONFIG, LIMITS, make_model, write_tiny_artifact
from tests.tolerances import FLOAT32_ATOL

MODULES = [
    module
    for module, package in ((ort_engine, "onnxruntime"), (openvino_engine, "openvino"))
    if importlib.util.find_spec(package) is not None
]
LENGTHS = (3, 64, 1, 17)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return write_tiny_artifact(tmp_path_factory.mktemp("portable") / "artifact")


@pytest.fixture(params=MODULES, ids=lambda module: module.__name__.rpartition(".")[2])
def module(request: pytest.FixtureRequest) -> ModuleType:
    assert isinstance(request.param, ModuleType)
    return request.param


def make_batch(lengths: tuple[int, ...] = LENGTHS) -> PackedBatch:
    generator = np.random.default_rng(0)
    count = sum(lengths)
    return PackedBatch(
        input_ids=generator.integers(0, CONFIG.vocab_size, count).astype(np.int32),
        token_type_ids=generator.integers(0, 2, count).astype(np.int32),
        cu_seqlens=np.cumsum([0, *lengths]).astype(np.int32),
        max_seqlen=max(lengths),
    )


def run(engine: Engine, batch: PackedBatch) -> Outputs:
    logits = engine.run(batch)
    assert logits.keys() == engine.outputs.keys() == {"start_logits", "end_logits"}
    for array in logits.values():
        assert array.shape == (batch.num_tokens,)
        assert array.dtype == np.float32
    return logits


def test_padding_does_not_change_logits(module: ModuleType, artifact: Artifact) -> None:
    engine = module.open_engine(artifact, EngineOptions(num_threads=1))
    batch = make_batch()
    together = run(engine, batch)
    for start, end in zip(batch.cu_seqlens[:-1], batch.cu_seqlens[1:], strict=True):
        ids, types = batch.input_ids[start:end], batch.token_type_ids[start:end]
        alone = PackedBatch(ids, types, np.array([0, end - start], np.int32), int(end - start))
        want = run(engine, alone)
        for name in ("start_logits", "end_logits"):
            got = together[name][start:end]
            np.testing.assert_allclose(got, want[name], atol=FLOAT32_ATOL, rtol=0)


@pytest.mark.skipif(len(MODULES) < 2, reason="needs both libraries")
def test_engines_agree(artifact: Artifact) -> None:
    batch = make_batch()
    got, want = (run(m.open_engine(artifact, EngineOptions()), batch) for m in MODULES)
    for name in ("start_logits", "end_logits"):
        np.testing.assert_allclose(got[name], want[name], atol=FLOAT32_ATOL, rtol=0)


def test_results_survive_the_next_batch(module: ModuleType, artifact: Artifact) -> None:
    engine = module.open_engine(artifact, EngineOptions())
    first = run(engine, make_batch())
    before = first["start_logits"].copy()
    run(engine, make_batch((64, 64)))
    np.testing.assert_array_equal(first["start_logits"], before)


def test_failures_are_engine_errors(module: ModuleType, artifact: Artifact) -> None:
    engine = module.open_engine(artifact, EngineOptions())
    with pytest.raises(EngineInternalError, match="failed on a batch"):
        engine.run(make_batch((CONFIG.max_position_embeddings + 1,)))
    run(engine, make_batch())
    engine.close()
    engine.close()
    with pytest.raises(EngineInternalError, match="is closed"):
        engine.run(make_batch())


def test_a_model_that_is_none_is_refused(module: ModuleType) -> None:
    files: Any = {"model.onnx": make_model()[:-100] + b"\0" * 90, "tokenizer.json": b"{}"}
    broken = build_artifact(
        files=files,
        task="question-answering",
        architecture=CONFIG,
        precision="float32",
        limits=to_dict(LIMITS),
    )
    with pytest.raises(EngineInternalError, match=r"model\.onnx"):
        module.open_engine(broken, EngineOptions())


def _absent(name: str) -> str:
    raise importlib.metadata.PackageNotFoundError(name)


def test_what_is_missing_is_said(
    module: ModuleType, artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert module.missing(None, EngineOptions()) is None
    assert module.missing(artifact, EngineOptions()) is None
    with pytest.raises(ConfigError, match="num_threads: got 0"):
        module.open_engine(artifact, EngineOptions(num_threads=0))
    reason = module.missing(artifact, EngineOptions(device="TPU"))
    assert "device: got 'TPU', want" in reason
    with pytest.raises(EngineUnavailableError, match="device: got 'TPU'"):
        module.open_engine(artifact, EngineOptions(device="TPU"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(importlib.metadata, "version", _absent)
    assert "is not installed" in module.missing(None, EngineOptions())


def test_devices_that_are_absent_are_distinguished(artifact: Artifact) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        reason = ort_engine.missing(artifact, EngineOptions(device="cuda:0"))
        assert "no CUDAExecutionProvider" in str(reason)
    assert "want 'cpu'" in str(ort_engine.missing(artifact, EngineOptions(device="cpu:1")))
    if importlib.util.find_spec("openvino") is not None:
        reason = openvino_engine.missing(artifact, EngineOptions(device="NPU"))
        assert "OpenVINO finds here: ['CPU'" in str(reason)


def test_usage_reports_are_not_sent(module: ModuleType, tmp_path: Path) -> None:
    code = (
        f"import sys, {module.__name__} as m; m._library(); "
        "import os; print('openvino_telemetry' in sys.modules, len(os.listdir('/proc/self/task')))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[4],
        env={"HOME": str(tmp_path), "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.stdout.split()[0] == "False", result.stderr
    assert list(tmp_path.iterdir()) == []
    if module is ort_engine:
        assert result.stdout.split()[1] == "1"  # the reports' thread was not started


@pytest.mark.skipif(openvino_engine not in MODULES, reason="openvino is not installed")
def test_openvino_refuses_another_allocator(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would end the process: free(): invalid pointer."""
    monkeypatch.setenv("LD_PRELOAD", "libjemalloc.so.2")
    reason = openvino_engine.missing(None, EngineOptions())
    assert reason is not None and reason.startswith("LD_PRELOAD: got 'libjemalloc.so.2', and")

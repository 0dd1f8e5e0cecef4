"""Tests of bert_rt.engines.torch."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from bert_rt.engines import registry as engines
from bert_rt.engines.base import EngineOptions
from bert_rt.engines.torch import missing, open_engine
from bert_rt.errors import EngineInternalError, EngineUnavailableError
from bert_rt.model.checkpoint import checkpoint_hash, save_checkpoint
from bert_rt.model.config import BertConfig
from bert_rt.tasks.checkpoints import build_model
from bert_rt.tasks.registry import find_task
from bert_rt.types import PER_SEQUENCE, PER_TOKEN, PackedBatch
from tests.tolerances import FLOAT32_ATOL

CONFIG = BertConfig(
    vocab_size=50,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=24,
    max_position_embeddings=32,
)
LENGTHS = (3, 17, 1, 8)
# As a manifest has them: sorted by name.
OUTPUTS = {
    "question-answering": {"end_logits": PER_TOKEN, "start_logits": PER_TOKEN},
    "text-classification": {"logits": PER_SEQUENCE},
}


@pytest.fixture(autouse=True)
def same_threads_afterwards() -> Iterator[None]:
    """Opening the engine sets the threads of the process."""
    num_threads = torch.get_num_threads()
    yield
    torch.set_num_threads(num_threads)


def make_artifact(path: Path, task: str, sha256: str | None = None) -> Any:
    """Write a checkpoint, and return what the engine needs of an artifact that was made of it."""
    torch.manual_seed(0)
    save_checkpoint(path, build_model(task, CONFIG, 3), CONFIG, tokenizer_files={})
    provenance = {"checkpoint_sha256": sha256 or checkpoint_hash(path)}
    manifest = SimpleNamespace(
        task=task, provenance=provenance, outputs=OUTPUTS[task], decoder=None
    )
    return SimpleNamespace(manifest=manifest)


def options_of(artifact: Any, checkpoint: Path, num_threads: int | None = None) -> EngineOptions:
    head = find_task(artifact.manifest.task).head_spec
    return EngineOptions(num_threads=num_threads, checkpoint=str(checkpoint), head=head)


def make_batch(lengths: tuple[int, ...] = LENGTHS) -> PackedBatch:
    """Return random sequences of the given lengths."""
    generator = np.random.default_rng(0)
    num_tokens = sum(lengths)
    return PackedBatch(
        input_ids=generator.integers(0, CONFIG.vocab_size, num_tokens).astype(np.int32),
        token_type_ids=generator.integers(0, 2, num_tokens).astype(np.int32),
        cu_seqlens=np.cumsum([0, *lengths]).astype(np.int32),
        max_seqlen=max(lengths),
    )


def one_by_one(batch: PackedBatch) -> Iterator[PackedBatch]:
    """Yield each sequence of a batch as a batch of its own."""
    for start, end in zip(batch.cu_seqlens[:-1], batch.cu_seqlens[1:], strict=True):
        cu_seqlens = np.array([0, end - start], np.int32)
        ids, types = batch.input_ids[start:end], batch.token_type_ids[start:end]
        yield PackedBatch(ids, types, cu_seqlens, int(end - start))


def test_span_logits_do_not_depend_on_the_batch(tmp_path: Path) -> None:
    artifact = make_artifact(tmp_path, "question-answering")
    engine = open_engine(artifact, options_of(artifact, tmp_path, num_threads=1))
    batch = make_batch()
    got = engine.run(batch)
    assert got.keys() == engine.outputs.keys() == {"start_logits", "end_logits"}
    assert got["start_logits"].shape == got["end_logits"].shape == (sum(LENGTHS),)
    assert got["start_logits"].dtype == got["end_logits"].dtype == np.float32
    singles = [engine.run(single) for single in one_by_one(batch)]
    for name in ("start_logits", "end_logits"):
        want = np.concatenate([single[name] for single in singles])
        np.testing.assert_allclose(got[name], want, atol=FLOAT32_ATOL, rtol=0)


def test_class_logits(tmp_path: Path) -> None:
    artifact = make_artifact(tmp_path, "text-classification")
    engine = open_engine(artifact, options_of(artifact, tmp_path))
    got = engine.run(make_batch())
    assert got.keys() == engine.outputs.keys() == {"logits"}
    assert got["logits"].shape == (len(LENGTHS), 3)
    assert got["logits"].dtype == np.float32


def test_info_and_close(tmp_path: Path) -> None:
    artifact = make_artifact(tmp_path, "question-answering")
    options = options_of(artifact, tmp_path, num_threads=1)
    engine = engines.open_engine("torch", artifact, options)
    info = engine.info
    assert (info.name, info.version, info.device) == ("torch", torch.__version__, "cpu")
    assert (info.precision, info.num_threads, info.is_packed) == ("float32", 1, False)
    engine.close()
    engine.close()


def test_a_failure_of_torch_is_an_internal_error(tmp_path: Path) -> None:
    artifact = make_artifact(tmp_path, "question-answering")
    engine = open_engine(artifact, options_of(artifact, tmp_path))
    with pytest.raises(EngineInternalError, match="torch failed on a batch"):
        engine.run(make_batch((CONFIG.max_position_embeddings + 1,)))


def test_another_checkpoint_is_refused(tmp_path: Path) -> None:
    artifact = make_artifact(tmp_path, "question-answering", sha256="0" * 64)
    with pytest.raises(EngineUnavailableError, match=f"made of {'0' * 64}"):
        open_engine(artifact, options_of(artifact, tmp_path))


def test_what_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    artifact = make_artifact(tmp_path, "question-answering")
    assert missing(None, EngineOptions()) is None
    assert missing(artifact, EngineOptions(checkpoint=str(tmp_path))) is None
    assert "checkpoint: not given" in str(missing(artifact, EngineOptions()))
    assert "got 'GPU', want 'cpu' or 'cuda'" in str(missing(None, EngineOptions(device="GPU")))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "no CUDA device" in str(missing(None, EngineOptions(device="cuda")))
    with pytest.raises(EngineUnavailableError, match="checkpoint: not given"):
        open_engine(artifact, EngineOptions())
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "package torch is not installed" in str(missing(None, EngineOptions()))

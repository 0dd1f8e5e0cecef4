"""PyTorch in float32 and bfloat16: the model itself, eager."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bert_rt.engines.base import EngineInfo, EngineOptions
from bert_rt.engines.registry import missing
from runtime.bench.peers.base import Absent, Infer, PaddedRunner, Peer, Peers, Rectangle, Setup

__all__ = ["open_torch"]


def open_torch(setup: Setup) -> Peers:
    """Open PyTorch on the checkpoint, in float32 and with bfloat16 autocast.

    Args:
        setup: What to open it with.

    Returns:
        The peers.
    """
    peers = Peers()
    options = EngineOptions(num_threads=setup.num_threads, checkpoint=setup.checkpoint)
    reason = missing("torch", setup.artifact, options)
    if reason is not None:
        peers.absent.append(Absent("torch", "", reason))
        return peers
    assert setup.checkpoint is not None
    import torch

    from bert_rt.tasks.checkpoints import load_model

    torch.set_num_threads(setup.num_threads)
    loaded = load_model(setup.checkpoint, setup.artifact.manifest.task)
    if loaded.config != setup.artifact.manifest.architecture:
        reason = f"{setup.checkpoint} has another architecture than the artifact"
        peers.absent.append(Absent("torch", "", reason))
        return peers
    info = EngineInfo("torch", torch.__version__, "cpu", "float", setup.num_threads, is_packed=True)
    for name in ("float32", "bfloat16"):
        infer = _make_infer(loaded.model, is_bfloat16=name == "bfloat16")
        for batch_size in setup.batch_sizes[1:]:
            runner = PaddedRunner(
                info, infer, batch_size=batch_size, pad_id=loaded.config.pad_token_id
            )
            config = f"{name}, batch {batch_size}"
            threads = setup.num_threads
            peers.open.append(Peer("torch", config, "float", f"torch {name}", runner, threads))
    return peers


def _make_infer(model: Any, *, is_bfloat16: bool) -> Infer:
    import torch

    def infer(rectangles: Iterable[Rectangle], num_rectangles: int) -> list[Any]:
        results = []
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=is_bfloat16):
            for rectangle in rectangles:
                outputs = model(*(torch.from_numpy(array) for array in rectangle))
                results.append(tuple(logits_BS.float().numpy() for logits_BS in outputs))
        assert len(results) == num_rectangles
        return results

    return infer

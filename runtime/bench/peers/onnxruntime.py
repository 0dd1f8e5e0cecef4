"""ONNX Runtime in all the ways that could be its best."""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
import timeit
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bert_rt.artifact.artifact import MODEL_NAME
from bert_rt.engines.base import EngineInfo, EngineOptions
from bert_rt.engines.registry import missing
from runtime.bench.peers.base import Absent, Infer, PaddedRunner, Peer, Peers, Rectangle, Setup

__all__ = ["open_onnxruntime"]

_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_OUTPUTS = ("start_logits", "end_logits")
_SILENT = 4
# What it may leave out of its optimizations: on a CPU its fused layer norms are not always quicker.
_DISABLED: tuple[tuple[str, ...], ...] = ((), ("SkipLayerNormFusion",))


def open_onnxruntime(setup: Setup) -> Peers:
    """Open ONNX Runtime: our INT8 artifact, its own dynamic quantization, and float.

    Each with threads that share every operator (spinning between operators or not) or with one
    stream a thread, and with the quicker of fused and unfused layer norms; the dynamic quantization
    is of every MatMul, per channel.

    Args:
        setup: What to open it with.

    Returns:
        The peers.
    """
    peers = Peers()
    options = EngineOptions(num_threads=setup.num_threads)
    reason = missing("onnxruntime", setup.artifact, options)
    if reason is not None:
        peers.absent.append(Absent("onnxruntime", "", reason))
        return peers
    library = _library()
    models = {"artifact": ("int8", setup.artifact.read(MODEL_NAME))}
    if setup.artifact.manifest.precision != "int8":
        models = {"artifact": ("float", setup.artifact.read(MODEL_NAME))}
    if setup.float_artifact is None:
        reason = "needs --float_artifact"
        peers.absent.append(Absent("onnxruntime", "dynamic INT8, float", reason))
    else:
        model = setup.float_artifact.read(MODEL_NAME)
        models["dynamic"] = ("int8", _quantize_dynamic(model))
        models["float"] = ("float", model)
    for name, (precision, model) in models.items():
        _add_model(peers, setup, library, name, precision, model)
    return peers


def _add_model(
    peers: Peers, setup: Setup, library: ModuleType, name: str, precision: str, model: bytes
) -> None:
    # Float is there for orientation, not for a chance to win: one way to run it is enough.
    modes = _modes(setup.num_threads) if precision == "int8" else ("1 stream",)
    length = min(128, setup.artifact.manifest.architecture.max_sequence_length)
    batch_sizes = setup.batch_sizes if precision == "int8" else setup.batch_sizes[:2]
    for mode in modes:
        infer = _open(library, model, setup.num_threads, mode, length)
        info = EngineInfo(
            "onnxruntime", library.__version__, "cpu", precision, setup.num_threads, is_packed=True
        )
        for batch_size in batch_sizes:
            runner = PaddedRunner(
                info,
                infer,
                batch_size=batch_size,
                pad_id=setup.artifact.manifest.architecture.pad_token_id,
            )
            config = f"{name}, batch {batch_size}, {mode}"
            compiled = f"onnxruntime {name} {mode}"
            peers.open.append(
                Peer("onnxruntime", config, precision, compiled, runner, setup.num_threads)
            )


def _modes(num_threads: int) -> tuple[str, ...]:
    # With one thread there is nobody to spin or to share with.
    return ("1 stream",) if num_threads == 1 else ("1 stream", "1 stream spinning", "N streams")


def _open(library: ModuleType, model: bytes, num_threads: int, mode: str, length: int) -> Infer:
    settings = library.SessionOptions()
    settings.log_severity_level = _SILENT
    settings.enable_mem_pattern = False  # Shapes vary: a plan would be kept for each.
    settings.intra_op_num_threads = 1 if mode == "N streams" else num_threads
    is_spinning = "1" if "spinning" in mode else "0"
    settings.add_session_config_entry("session.intra_op.allow_spinning", is_spinning)
    # Between operators only: after a run, its threads sleep and leave the CPU to whoever is next.
    settings.add_session_config_entry("session.force_spinning_stop", "1")
    sessions = (_session(library, model, settings, disabled) for disabled in _DISABLED)
    session = min(sessions, key=lambda session: _seconds(session, length))
    pool = ThreadPoolExecutor(num_threads) if mode == "N streams" else None

    def one(rectangle: Rectangle) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        feeds = dict(zip(_INPUTS, rectangle, strict=True))
        start_BS, end_BS = session.run(_OUTPUTS, feeds)
        return start_BS, end_BS

    def infer(rectangles: Iterable[Rectangle], num_rectangles: int) -> list[Any]:
        if pool is None or num_rectangles == 1:
            return [one(rectangle) for rectangle in rectangles]
        return list(pool.map(one, rectangles))

    return infer


def _session(library: ModuleType, model: bytes, settings: Any, disabled: Sequence[str]) -> Any:
    providers = ["CPUExecutionProvider"]
    return library.InferenceSession(
        model, settings, providers=providers, disabled_optimizers=[*disabled]
    )


def _seconds(session: Any, length: int) -> float:
    """Return how long a batch of such a length takes, the best of some tries."""
    ids_BS = np.ones((4, length), np.int64)
    feeds = dict.fromkeys(_INPUTS, ids_BS)
    return min(timeit.repeat(lambda: session.run(_OUTPUTS, feeds), number=1, repeat=5))


def _quantize_dynamic(model: bytes) -> bytes:
    """Quantize as ONNX Runtime's documentation advises for transformers on CPU."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as directory, _quiet():
        source, target = Path(directory, "float.onnx"), Path(directory, "int8.onnx")
        source.write_bytes(model)
        # MatMul only: it takes the standard's Attention for its own older operator of that name.
        quantize_dynamic(
            source,
            target,
            per_channel=True,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["MatMul"],
        )
        return target.read_bytes()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    # Its advice to preprocess is for graphs that are not fused yet.
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def _library() -> ModuleType:
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    module: ModuleType = onnxruntime
    return module

"""OpenVINO in all the ways that could be its best."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from bert_rt.artifact.artifact import MODEL_NAME, Artifact
from bert_rt.engines.base import EngineInfo, EngineOptions, missing
from bert_rt.engines.packing import pack, pad
from runtime.bench.peers.base import Absent, Infer, PaddedRunner, Peer, Peers, Rectangle, Setup

__all__ = ["CALIBRATION_WINDOWS", "open_openvino"]

CALIBRATION_WINDOWS = 300

_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_OUTPUTS = ("start_logits", "end_logits")
_TELEMETRY = "openvino_telemetry"


def open_openvino(setup: Setup) -> Peers:
    """Open OpenVINO: its own NNCF post-training quantization, our INT8 artifact, and float.

    Each with one stream on all threads and with one stream a thread, in float32 and in the
    precision that OpenVINO picks by itself for what is not INT8 (bfloat16 where there is AMX).

    Args:
        setup: What to open it with.

    Returns:
        The peers.
    """
    peers = Peers()
    options = EngineOptions(num_threads=setup.num_threads)
    reason = missing("openvino", setup.artifact, options)
    if reason is not None:
        peers.absent.append(Absent("openvino", "", reason))
        return peers
    with _without_telemetry():
        import openvino
    core = openvino.Core()
    precision = "int8" if setup.artifact.manifest.precision == "int8" else "float"
    models = {"artifact": (precision, core.read_model(setup.artifact.read(MODEL_NAME)))}
    if setup.float_artifact is None:
        reason = "needs --float_artifact"
        peers.absent.append(Absent("openvino", "NNCF INT8, float", reason))
    else:
        models["float"] = ("float", core.read_model(setup.float_artifact.read(MODEL_NAME)))
        try:
            models["nncf"] = ("int8", _quantize(openvino, setup, setup.float_artifact))
        except _LacksError as error:
            peers.absent.append(Absent("openvino", "NNCF INT8", str(error)))
    for name, (kind, model) in models.items():
        _add_model(peers, setup, openvino, name, kind, core, model)
    return peers


def _add_model(
    peers: Peers, setup: Setup, openvino: Any, name: str, precision: str, core: Any, model: Any
) -> None:
    version = str(openvino.__version__).partition("-")[0]
    threads = setup.num_threads
    # Larger float batches leave the cache; they were never the best.
    batch_sizes = setup.batch_sizes if precision == "int8" else setup.batch_sizes[:2]
    for hint, streams in product(("f32", "default"), sorted({1, threads})):
        settings: dict[str, Any] = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": streams}
        if hint != "default":
            settings["INFERENCE_PRECISION_HINT"] = hint
        compiled = core.compile_model(model, "CPU", settings)
        infer = _make_infer(openvino, compiled, streams)
        info = EngineInfo("openvino", version, "cpu", precision, threads, is_packed=True)
        shape = f"{streams} stream" + ("s" if streams > 1 else "")
        for batch_size in batch_sizes:
            runner = PaddedRunner(
                info,
                infer,
                batch_size=batch_size,
                pad_id=setup.artifact.manifest.architecture.pad_token_id,
            )
            config = f"{name}, batch {batch_size}, {shape}, {hint}"
            key = f"openvino {name} {shape} {hint}"
            peer = Peer("openvino", config, precision, key, runner, threads, compiles_shapes=True)
            peers.open.append(peer)


def _make_infer(openvino: Any, compiled: Any, streams: int) -> Infer:
    request = compiled.create_infer_request()
    # One request more than streams: it is filled while they compute.
    queue = openvino.AsyncInferQueue(compiled, streams + 1)
    outputs = [compiled.output(name) for name in _OUTPUTS]

    def read(done: Any) -> tuple[Any, ...]:
        # Copied: the request is used again.
        return tuple(np.array(done.get_tensor(output).data) for output in outputs)

    def infer(rectangles: Iterable[Rectangle], num_rectangles: int) -> list[Any]:
        if num_rectangles == 1:
            (rectangle,) = rectangles
            inputs = dict(zip(_INPUTS, rectangle, strict=True))
            request.infer(inputs, share_inputs=True, share_outputs=True)
            return [read(request)]
        results: list[Any] = [None] * num_rectangles

        def keep(done: Any, index: int) -> None:
            results[index] = read(done)

        queue.set_callback(keep)
        alive = []  # Inputs are shared, so they must outlive the request.
        for index, rectangle in enumerate(rectangles):
            alive.append(dict(zip(_INPUTS, rectangle, strict=True)))
            queue.start_async(alive[-1], index, share_inputs=True)
        queue.wait_all()
        return results

    return infer


class _LacksError(Exception):
    """NNCF cannot run here."""


def _quantize(openvino: Any, setup: Setup, artifact: Artifact) -> Any:
    """Quantize the float model by NNCF's advice for transformers, or take it from the cache.

    Smooth quantization and fast bias correction are on by default for this model type, activations
    are asymmetric, weights symmetric and per channel.
    """
    if not setup.calibration:
        raise _LacksError("needs --calibration_file")
    try:
        with _without_telemetry(), contextlib.redirect_stdout(sys.stderr):
            import nncf
    except ImportError:
        message = "the package nncf is not installed (pip install 'bert-rt[bench]')"
        raise _LacksError(message) from None
    pad_id = artifact.manifest.architecture.pad_token_id
    items = []
    for feature in setup.calibration:
        batch = pack([feature], max_tokens=feature.num_tokens)
        items.append(dict(zip(_INPUTS, pad(batch, pad_id), strict=True)))
    data = artifact.read(MODEL_NAME)
    core = openvino.Core()
    cached = _cached(setup, data, items, f"{nncf.__version__} {openvino.__version__}")
    if cached is not None and cached.is_file():
        return core.read_model(cached)
    nncf.set_log_level("ERROR")
    with contextlib.redirect_stdout(sys.stderr):  # Its progress bars.
        quantized = nncf.quantize(
            core.read_model(data),
            nncf.Dataset(items),
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(items),
        )
    if cached is not None:
        _save(openvino, quantized, cached)
    return quantized


def _save(openvino: Any, model: Any, path: Path) -> None:
    """Write a model's .bin and .xml whole; the .xml, which says that it is there, comes last."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".", dir=path.parent) as directory:
        staged = Path(directory, path.name)
        openvino.save_model(model, staged, compress_to_fp16=False)
        for suffix in (".bin", ".xml"):
            os.replace(staged.with_suffix(suffix), path.with_suffix(suffix))


def _cached(setup: Setup, model: bytes, items: list[Any], versions: str) -> Path | None:
    """Return where this model is kept once quantized: by content, so never the wrong one."""
    if setup.cache_dir is None:
        return None
    digest = hashlib.sha256(versions.encode())
    digest.update(model)
    for item in items:
        digest.update(item["input_ids"].tobytes())
    return setup.cache_dir / f"nncf-{digest.hexdigest()[:16]}.xml"


@contextlib.contextmanager
def _without_telemetry() -> Iterator[None]:
    """Import OpenVINO and NNCF without their usage reports; both are prepared for its absence."""
    is_ours = _TELEMETRY not in sys.modules
    if is_ours:
        sys.modules[_TELEMETRY] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if is_ours:
            del sys.modules[_TELEMETRY]

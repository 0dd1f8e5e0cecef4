"""The native engine on artifacts with a decoder, against ONNX Runtime on the same INT8 graphs."""

from __future__ import annotations

import numpy as np
import pytest

from bert_rt.engines import native, onnxruntime
from bert_rt.engines.base import EngineOptions
from bert_rt.engines.registry import choose, open_engine
from bert_rt.engines.seq2seq.native import NativeEncoderDecoder
from bert_rt.errors import ArtifactFormatError, EngineInternalError, InputError
from tests.support import encoder_decoders as support
from tests.support.seq2seq_artifacts import make_artifact, random_sources

pytest.importorskip("bert_rt._native")

ONE_THREAD = EngineOptions(num_threads=1)


@pytest.fixture(scope="module")
def engine() -> NativeEncoderDecoder:
    return native.open_seq2seq(make_artifact(is_int8=True), ONE_THREAD)


def test_compiled_graphs_are_close_to_onnx_runtime(engine: NativeEncoderDecoder) -> None:
    """What attention in INT8 changes is less than what linear layers in INT8 have changed."""
    int8 = onnxruntime.open_seq2seq(make_artifact(is_int8=True), ONE_THREAD)
    exact = onnxruntime.open_seq2seq(make_artifact(), ONE_THREAD)
    sources = random_sources(6, seed=3)
    decoders = [each.start(sources) for each in (engine, int8, exact)]
    assert decoders[0].max_target_length == decoders[1].max_target_length
    rng = np.random.default_rng(1)
    beams, beam_idx, errors = 1, np.arange(6), []
    for _ in range(10):
        tokens = rng.integers(5, len(support.TARGET_VOCAB), len(beam_idx))
        ours, theirs, want = (decoder.step(tokens, beam_idx) for decoder in decoders)
        errors.append([np.sqrt(((x - theirs) ** 2).mean() / theirs.var()) for x in (ours, want)])
        first = np.repeat(np.arange(6) * beams, 3)
        beam_idx, beams = first + rng.integers(0, beams, 18), 3
    native_error, int8_error = np.mean(errors, axis=0)
    assert native_error < int8_error, errors


def test_auto_takes_it() -> None:
    artifact = make_artifact(is_int8=True)
    assert native.missing(artifact, ONE_THREAD) is None
    assert native.SPEC.generates
    assert native.missing(make_artifact(), ONE_THREAD) is not None
    opened = open_engine("native", artifact, ONE_THREAD)
    assert opened.info.name == "native"
    assert opened.info.is_packed
    assert choose(artifact, ONE_THREAD).name in ("native", "onnxruntime", "openvino")
    opened.close()


def test_errors_are_those_of_the_library(engine: NativeEncoderDecoder) -> None:
    with pytest.raises(InputError, match="cu_seqlens: sequence 0 has 33 tokens, want 1 to 32"):
        engine.start([np.full(33, 5, np.int32)])
    decoding = engine.start(random_sources(1))
    with pytest.raises(InputError, match=r"tokens\[0\]: got -1"):
        decoding.step(np.array([-1]), np.array([0]))
    with pytest.raises(InputError, match="count: got 0"):
        decoding.step_best(np.array([1]), np.array([0]), 0)
    artifact = make_artifact(is_int8=True)
    module = native._load_module()
    assert module is not None
    with pytest.raises(ArtifactFormatError, match=r"decoder\.onnx: "):
        NativeEncoderDecoder(module, artifact.read("encoder.onnx"), b"no graph", num_threads=1)
    other = native.open_seq2seq(artifact, ONE_THREAD)
    other.close()
    with pytest.raises(EngineInternalError, match="closed"):
        other.start(random_sources(1))

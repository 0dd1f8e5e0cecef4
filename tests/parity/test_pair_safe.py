"""The pairs that compile.int8.pairs bounds are those that engines add in 16 bits.

A graph with one INT8 product runs without the exact modes that our engines set on processors that
have no VNNI.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from bert_rt.api import Runtime
from bert_rt.artifact.artifact import load_artifact, write_artifact
from bert_rt.artifact.manifest import ManifestFields
from bert_rt.engines.cpu_info import cpu_info, has_exact_int8
from bert_rt.engines.onnxruntime import open_session
from bert_rt.engines.registry import judged_engines, missing
from bert_rt.support.cli import run_command
from compile import export, verify
from compile.int8.pairs import count_broken_pairs, find_partners, nearest_in_pairs
from tests.tolerances import INT8_TIE_ATOL
from tests.unit.compile import tiny

Run = Callable[[bytes, NDArray[np.float32]], NDArray[np.float32]]


def run_onnxruntime(model: bytes, x: NDArray[np.float32]) -> NDArray[np.float32]:
    session = open_session(model, num_threads=1, is_pair_safe=True)
    y: NDArray[np.float32] = session.run(None, {"x": x})[0]
    return y


def run_openvino(model: bytes, x: NDArray[np.float32]) -> NDArray[np.float32]:
    pytest.importorskip("openvino")
    from bert_rt.engines.openvino import _core, _settings

    core = _core()
    settings = _settings("CPU", 1)
    # The engine itself keeps float products, which are quicker there: this is what others meet.
    settings.pop("LP_TRANSFORMS_MODE", None)
    compiled = core.compile_model(core.read_model(model), "CPU", settings)
    y: NDArray[np.float32] = compiled({"x": x})["y"]
    return y


def product(weight_KN: NDArray[np.int8]) -> bytes:
    """Return a model of one linear layer as artifacts have it; scales are 1, and biases 0."""
    k, n = weight_KN.shape
    constants = {
        "scale": np.float32(1),
        "zero_point": np.uint8(0),
        "weight": weight_KN,
        "weight_scale": np.ones(n, np.float32),
        "weight_zero_point": np.zeros(n, np.int8),
        "bias": np.zeros(n, np.float32),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero_point"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero_point"], ["a"]),
        helper.make_node(
            "DequantizeLinear", ["weight", "weight_scale", "weight_zero_point"], ["w"], axis=1
        ),
        helper.make_node("MatMul", ["a", "w"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["y"]),
    ]
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "product",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["B", "S", k])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["B", "S", n])],
            [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 23)],
        ir_version=11,
    )
    content: bytes = model.SerializeToString()
    return content


def exact(weight_KN: NDArray[np.int8], x: NDArray[np.float32]) -> NDArray[np.float64]:
    y: NDArray[np.float64] = x.astype(np.float64) @ weight_KN.astype(np.float64)
    return y


@pytest.mark.parametrize("num_rows", [1, 7, 64])
@pytest.mark.parametrize("run", [run_onnxruntime, run_openvino])
def test_these_pairs_saturate(run: Run, num_rows: int) -> None:
    if has_exact_int8(cpu_info()):
        pytest.skip("this processor multiplies u8 by s8 exactly, whatever the weights are")
    k, n = 64, 32
    x = np.full((1, num_rows, k), 255, np.float32)
    for first in range(4):
        for second in range(first + 1, 8):
            weight_KN = np.zeros((k, n), np.int8)
            weight_KN[[first, second]] = 127
            got = run(product(weight_KN), x)
            is_pair = count_broken_pairs(weight_KN) > 0
            assert is_pair == (find_partners(np.arange(k))[first] == second)
            # What a 16-bit lane holds at most, in place of 2 * 127 * 255.
            want = 2**15 - 1 if is_pair else 2 * 127 * 255
            np.testing.assert_array_equal(got, want, err_msg=f"rows {first} and {second}")


@pytest.mark.parametrize("shape", [(1, 64, 32), (7, 384, 40), (33, 63, 17), (64, 1536, 384)])
@pytest.mark.parametrize("run", [run_onnxruntime, run_openvino])
def test_weights_within_the_bound_are_exact(run: Run, shape: tuple[int, int, int]) -> None:
    num_rows, k, n = shape
    random = np.random.default_rng(0)
    # Most pairs are on the bound, and half of the activations at their largest value.
    steps_KN = random.choice([-200.0, -90.0, 0.0, 90.0, 200.0], (k, n))
    weight_KN = nearest_in_pairs(steps_KN, find_partners(np.arange(k)))
    assert count_broken_pairs(weight_KN) == 0
    sums = weight_KN[: k // 2 * 2 : 2].astype(int) + weight_KN[1::2]
    assert (np.abs(sums) == 128).mean() > 0.2
    x = np.where(random.random((1, num_rows, k)) < 0.5, 255, random.integers(0, 256, k))
    x = x.astype(np.float32)
    # Sums are below 2^24 or lose the last bits in float32.
    want = exact(weight_KN, x)
    np.testing.assert_allclose(run(product(weight_KN), x), want, rtol=1e-6, atol=0.5)


def test_an_exported_artifact_is_exact_on_every_engine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tiny.exports()
    monkeypatch.setattr("compile.tasks.base.trace", lambda loaded: tiny.traced())
    for name, flag in (("art", "--pair_safe"), ("free", "--no-pair-safe")):
        flags = ["--model_name_or_path", made.checkpoint, "--output_dir", tmp_path / name]
        flags += [*tiny.LIMIT_FLAGS, "--int8", "--calibration_file", made.calibration_file, flag]
        assert run_command(export.main, [str(value) for value in flags]) == 0
    assert "pair_safe" not in load_artifact(tmp_path / "free").manifest.quantization
    artifact = load_artifact(tmp_path / "art")
    manifest = artifact.manifest
    assert manifest.quantization["pair_safe"] is True and manifest.is_pair_safe
    capsys.readouterr()
    assert run_command(verify.main, ["--artifact", str(tmp_path / "art")]) == 0
    assert "pair_safe: holds for 8 INT8 weights\n" in capsys.readouterr().out
    pairs = [(example.question, example.context) for example in tiny.examples(12, seed=5)]
    # The quick products of every engine are the exact ones.
    fields = ManifestFields(
        task=manifest.task,
        architecture=manifest.architecture,
        precision=manifest.precision,
        limits=manifest.limits,
    )
    files = {name: artifact.read(name) for name in manifest.files}
    write_artifact(tmp_path / "exact", files=files, **fields)
    for engine in judged_engines():
        if missing(engine, artifact) is not None:
            continue
        logits = []
        for name in ("art", "exact"):
            with Runtime.load(tmp_path / name, engine=engine) as runtime:
                logits.append([answer.logit for answer in runtime.answer_batch(pairs)])
        np.testing.assert_allclose(*logits, rtol=0, atol=INT8_TIE_ATOL)

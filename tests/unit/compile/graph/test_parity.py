"""Tests of compile.graph.parity."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from numpy.typing import NDArray

from bert_rt.errors import ParityError
from compile.graph.parity import NUM_SHAPES, check_parity
from compile.graph.trace import INPUT_NAMES
from tests.tolerances import FLOAT32_ATOL
from tests.unit.compile import tiny


def with_tensor(name: str, array: NDArray[np.float32]) -> ir.Model:
    """Return the fused graph with another weight."""
    proto = onnx.load_from_string(tiny.fused_bytes())
    (tensor,) = (tensor for tensor in proto.graph.initializer if tensor.name == name)
    tensor.CopyFrom(onnx.numpy_helper.from_array(array, name))
    return ir.from_proto(proto)


def test_the_fused_graph_passes() -> None:
    progress = tiny.Silent()
    receipt = check_parity(tiny.fused(), tiny.loaded_model(), seed=0, progress=progress)
    assert receipt["max_abs_error"] < FLOAT32_ATOL
    assert (receipt["num_shapes"], receipt["limit"]) == (NUM_SHAPES, 1e-3)
    assert progress.count == NUM_SHAPES


def test_a_difference_fails() -> None:
    bias = np.array([0.0, 0.0011], np.float32)
    bias += tiny.loaded_model().model.state_dict()["qa_outputs.bias"].numpy()
    with pytest.raises(ParityError, match=r"^end_logits: .* differs from PyTorch by 0\.0011 at"):
        check_parity(
            with_tensor("qa_outputs.bias", bias),
            tiny.loaded_model(),
            seed=0,
            progress=tiny.Silent(),
        )


def test_a_difference_below_the_limit_passes() -> None:
    bias = np.array([0.0, 0.0009], np.float32)
    bias += tiny.loaded_model().model.state_dict()["qa_outputs.bias"].numpy()
    receipt = check_parity(
        with_tensor("qa_outputs.bias", bias), tiny.loaded_model(), seed=0, progress=tiny.Silent()
    )
    np.testing.assert_allclose(receipt["max_abs_error"], 9e-4, rtol=0, atol=FLOAT32_ATOL)


def test_nan_fails() -> None:
    bias = np.full(2, np.nan, np.float32)
    with pytest.raises(ParityError, match=r"^start_logits: .* by nan"):
        check_parity(
            with_tensor("qa_outputs.bias", bias),
            tiny.loaded_model(),
            seed=0,
            progress=tiny.Silent(),
        )


@pytest.mark.parametrize("pair", [(0, 1), (0, 2), (1, 2)])
def test_mixed_up_inputs_fail(pair: tuple[int, int]) -> None:
    model = tiny.fused()
    one, other = (model.graph.inputs[index] for index in pair)
    one.name, other.name = other.name, one.name
    # Ids of the vocabulary are no token types, which ONNX Runtime tells by itself.
    with pytest.raises(Exception, match=r"differs from PyTorch|out of data bounds|out of bounds"):
        check_parity(model, tiny.loaded_model(), seed=0, progress=tiny.Silent())
    assert len(INPUT_NAMES) == 3

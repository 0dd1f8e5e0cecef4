"""Tests of compile.int8.pairs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from bert_rt.errors import ParityError
from compile.int8.pairs import (
    MAX_PAIR_SUM,
    check_pairs,
    choose_scales,
    count_broken_pairs,
    find_partners,
    nearest_in_pairs,
    pair_excess,
)

_ALL = np.arange(-127, 128)
_shapes = hnp.array_shapes(min_dims=2, max_dims=2, max_side=9)


def whole(k: int) -> NDArray[np.intp]:
    """Return the partners of a weight of which no row is left out."""
    return find_partners(np.arange(k))


def test_the_bound_is_what_16_bits_hold() -> None:
    first, second = np.meshgrid(_ALL, _ALL)
    sums = np.abs(first + second)
    # The largest of both activations is the worst only where the weights have one sign; of two
    # signs the larger one stands alone.
    alone = np.maximum(np.abs(first), np.abs(second))
    worst = 255 * np.where(first * second > 0, sums, alone)
    fits = worst <= np.iinfo(np.int16).max
    np.testing.assert_array_equal(fits, sums <= MAX_PAIR_SUM)


@pytest.mark.parametrize(
    ("rows", "want"),
    [
        ([[127], [1]], 0),
        ([[127], [2]], 1),
        ([[-64], [-64]], 0),
        ([[-64], [-65]], 1),
        ([[127], [-127]], 0),
        ([[0], [127], [127], [0]], 0),
        ([[1], [1], [127]], 0),
        ([[127, 0, 70], [127, 0, 70]], 2),
        ([[127]], 0),
    ],
)
def test_pairs_that_break_the_bound_are_counted(rows: list[list[int]], want: int) -> None:
    assert count_broken_pairs(np.array(rows, np.int8)) == want


def test_partners_are_neighbours_of_the_whole_weight() -> None:
    assert whole(5).tolist() == [1, 0, 3, 2, 4]
    # Rows 2 and 5 are left out, so that 3 and 4 are alone.
    assert find_partners(np.array([0, 1, 3, 4, 6, 7])).tolist() == [1, 0, 2, 3, 5, 4]


def test_excess() -> None:
    sums = np.array([0.0, 128.0, -128.0, 130.5, -129.0])
    assert pair_excess(sums).tolist() == [0.0, 0.0, 0.0, 2.5, -1.0]


@given(hnp.arrays(np.float64, _shapes, elements=st.floats(-300, 300)))
def test_nearest_pairs_within_the_bound(steps_KN: NDArray[np.float64]) -> None:
    rounded_KN = nearest_in_pairs(steps_KN, whole(len(steps_KN)))
    assert rounded_KN.dtype == np.int8
    assert np.abs(rounded_KN.astype(int)).max() <= 127
    assert count_broken_pairs(rounded_KN) == 0
    clipped_KN = np.clip(np.rint(steps_KN), -127, 127)
    if len(steps_KN) % 2:
        np.testing.assert_array_equal(rounded_KN[-1], clipped_KN[-1])
    pairs = slice(0, len(steps_KN) // 2 * 2)
    taken_KN = clipped_KN[pairs] - rounded_KN[pairs]
    # As much as the sum is beyond the bound, in halves.
    excess_PN = pair_excess(clipped_KN[pairs][::2] + clipped_KN[pairs][1::2])
    np.testing.assert_array_equal(taken_KN[::2] + taken_KN[1::2], excess_PN)
    assert (np.abs(taken_KN[::2] - taken_KN[1::2]) <= 1).all()


def test_every_column_takes_its_best_scale() -> None:
    def quantize(scale_N: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
        # The first column wants the smallest scale, the second one of 1.2, the third a wide one.
        weight_KN = np.rint(scale_N * 10).astype(np.int8)[None]
        return weight_KN, np.abs(scale_N - np.array([0.0, 1.2, 9.0]))

    weight_KN, scale_N = choose_scales(np.ones(3, np.float32), quantize)
    assert scale_N.dtype == np.float32
    assert (scale_N[0], scale_N[1]) == (1.0, np.float32(1.2))
    assert scale_N[2] > 1.2
    np.testing.assert_array_equal(weight_KN[0], np.rint(scale_N * 10))


# Checking a graph


def graph(weight_KN: NDArray[np.int8], *, is_looked_up: bool = False) -> bytes:
    """Return a model with an INT8 weight, as a product or as a table that is looked up."""
    num_rows, num_columns = weight_KN.shape
    constants = {
        "weight": weight_KN,
        "scale": np.ones(num_columns, np.float32),
        "zero": np.zeros(num_columns, np.int8),
    }
    if is_looked_up:
        nodes = [
            helper.make_node("Gather", ["weight", "x"], ["row"], name="gather"),
            helper.make_node("Cast", ["row"], ["y"], name="cast", to=TensorProto.FLOAT),
        ]
        kind = TensorProto.INT64
    else:
        nodes = [
            helper.make_node(
                "DequantizeLinear", ["weight", "scale", "zero"], ["w"], name="layer.weight", axis=1
            ),
            helper.make_node("MatMul", ["x", "w"], ["y"], name="layer.matmul"),
        ]
        kind = TensorProto.FLOAT
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info("x", kind, [1, num_rows])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(array, name) for name, array in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 23)],
    )
    content: bytes = model.SerializeToString()
    return content


def test_a_graph_that_keeps_the_bound() -> None:
    assert check_pairs(graph(np.array([[127, 3], [1, -127]], np.int8))) == 1


def test_a_graph_that_breaks_the_bound() -> None:
    model = graph(np.array([[127, 3], [2, -127]], np.int8))
    with pytest.raises(ParityError, match=r"pair_safe: got true, but in layer.weight 1 of 2 pairs"):
        check_pairs(model)


def test_tables_that_are_looked_up_have_no_pairs() -> None:
    assert check_pairs(graph(np.full((2, 2), 127, np.int8), is_looked_up=True)) == 0

"""What the rules' checks ask of constants."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

__all__ = ["is_scalar", "tensor_of"]


def tensor_of(value: ir.Value | None) -> np.ndarray | None:
    """Return the array of a constant value, or None where it is computed.

    Args:
        value: A value of the graph; None stands for an optional input that is left out.

    Returns:
        The constant's array.
    """
    constant = ir.convenience.get_const_tensor(value) if value is not None else None
    return None if constant is None else constant.numpy()


def is_scalar(value: ir.Value | None, wanted: float, *, rtol: float = 1e-6) -> bool:
    """Tell whether a value is a constant with one element that is near a number.

    Args:
        value: A value of the graph.
        wanted: The number.
        rtol: Relative distance that float32 rounding may leave.

    Returns:
        True where it is.
    """
    array = tensor_of(value)
    return array is not None and array.size == 1 and bool(np.isclose(array.item(), wanted, rtol))

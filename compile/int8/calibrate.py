"""What the inputs of linear layers look like on real text, observed in one streaming pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bert_rt.engines.onnxruntime import open_session
from bert_rt.engines.threads import available_cpus
from bert_rt.errors import CalibrationError
from bert_rt.support.progress import Progress
from compile.graph.linear import LinearLayer
from compile.int8.drives import Drive

__all__ = ["Observer", "observe"]


class Observer:
    """Watches one tensor: channel ranges over all tokens, and a fair sample of its rows.

    Memory does not grow with the data: the sample is a reservoir, in which every row seen so far
    stands with the same probability.

    Source: reservoir sampling, Vitter 1985, Random Sampling with a Reservoir, algorithm R.
    """

    def __init__(self, num_channels: int, *, max_rows: int, seed: int) -> None:
        """Prepare to watch rows of num_channels values and keep at most max_rows of them."""
        self._rows = np.empty((max_rows, num_channels), np.float32)
        self._random = np.random.default_rng(seed)
        self.num_seen = 0
        self.low_K = np.full(num_channels, np.inf, np.float32)
        self.high_K = np.full(num_channels, -np.inf, np.float32)

    @property
    def rows_RK(self) -> NDArray[np.float32]:
        """The sample, shape (R, K), float32, R at most max_rows."""
        return self._rows[: min(self.num_seen, len(self._rows))]

    def update(self, x_TK: NDArray[np.float32]) -> None:
        """See more rows.

        Args:
            x_TK: Shape (T, K), float32.

        Raises:
            CalibrationError: A value is NaN or infinite.
        """
        if not np.isfinite(x_TK).all():
            raise CalibrationError("an activation is NaN or infinite on the calibration text")
        np.minimum(self.low_K, x_TK.min(0), out=self.low_K)
        np.maximum(self.high_K, x_TK.max(0), out=self.high_K)
        count = self.num_seen + np.arange(len(x_TK))
        # Row number n takes a random place among n + 1; places beyond the reservoir drop it.
        place = (self._random.random(len(x_TK)) * (count + 1)).astype(np.int64)
        place = np.where(count < len(self._rows), count, place)
        kept = place < len(self._rows)
        self._rows[place[kept]] = x_TK[kept]
        self.num_seen += len(x_TK)

    def reorder(self, order_K: NDArray[np.intp]) -> None:
        """Make of what was seen what would have been seen with the channels in another order.

        Args:
            order_K: Shape (K,), the old place of every channel.
        """
        self._rows = self._rows[:, order_K]
        self.low_K, self.high_K = self.low_K[order_K], self.high_K[order_K]

    def shift(self, amount_K: NDArray[np.float32]) -> None:
        """Make of what was seen what would have been seen with a constant added to every row.

        Args:
            amount_K: Shape (K,), float32.
        """
        self._rows[: min(self.num_seen, len(self._rows))] += amount_K
        self.low_K = self.low_K + amount_K
        self.high_K = self.high_K + amount_K


def observe(
    model: ir.Model,
    layers: Sequence[LinearLayer],
    drive: Drive,
    *,
    max_rows: int,
    seed: int,
    progress: Progress,
) -> dict[str, Observer]:
    """Run the float model over the calibration data and watch the inputs of layers.

    Args:
        model: The fused float graph; it is not changed.
        layers: The layers whose inputs are watched.
        drive: Runs the graph over the calibration data; padding is not observed.
        max_rows: Rows kept of every layer's input.
        seed: Of the sampling.
        progress: Advanced at every sample.

    Returns:
        Layer name to the observer of its input.

    Raises:
        CalibrationError: An activation is NaN or infinite.
    """
    session = _session_with_outputs(model, sorted({str(layer.x.name) for layer in layers}))
    observers = {
        layer.name: Observer(len(layer.weight_KN), max_rows=max_rows, seed=seed + index)
        for index, layer in enumerate(layers)
    }
    for run in drive.run(session):
        for layer in layers:
            x = run.outputs[str(layer.x.name)]
            observers[layer.name].update(x.reshape(*run.is_token.shape, -1)[run.is_token])
        progress.advance(run.num_samples)
    return observers


def _session_with_outputs(model: ir.Model, names: Sequence[str]) -> Any:
    """Open a copy of a model that also gives the named values."""
    proto = ir.to_proto(model)
    for name in names:
        output = proto.graph.output.add()
        output.name = name
        # An output needs a type; the shape is left open.
        output.type.tensor_type.elem_type = ir.DataType.FLOAT.value
    return open_session(proto.SerializeToString(), num_threads=available_cpus())

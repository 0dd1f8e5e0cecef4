"""Tests of compile.int8.balance."""

from __future__ import annotations

import copy

import numpy as np
import onnx_ir as ir
import pytest
from numpy.typing import NDArray

from compile.graph.linear import LinearLayer, find_linear_layers
from compile.int8 import balance
from compile.int8.balance import balance_attention
from compile.int8.calibrate import Observer, observe
from compile.int8.drives import SequenceDrive
from tests.tolerances import FLOAT32_ATOL
from tests.unit.compile import tiny

_HEADS = tiny.CONFIG.num_attention_heads
_D = tiny.CONFIG.hidden_size
_H = _D // _HEADS


def copied_observers() -> dict[str, Observer]:
    """Return observers that may be changed."""
    return {name: copy.deepcopy(observer) for name, observer in tiny.observers().items()}


def balanced() -> tuple[dict[str, LinearLayer], dict[str, Observer], bytes]:
    """Return the tiny model's layers, observers and graph once they are balanced."""
    model = tiny.fused()
    observers = copied_observers()
    balance_attention(model, observers, num_heads=_HEADS)
    layers = {layer.name: layer for layer in find_linear_layers(model)}
    return layers, observers, tiny.to_bytes(model)


def qkv_rows(layer: LinearLayer, observer: Observer) -> list[NDArray[np.float32]]:
    rows = observer.rows_RK @ layer.weight_KN + layer.bias_N
    return np.split(rows, 3, axis=1)


def test_the_function_stays() -> None:
    feeds = tiny.make_feeds(3, 40)
    before, after = (tiny.ort_logits(data, feeds) for data in (tiny.fused_bytes(), balanced()[2]))
    np.testing.assert_allclose(after, before, rtol=0, atol=FLOAT32_ATOL)
    assert balanced()[2] != tiny.fused_bytes()


@pytest.mark.parametrize("number", range(tiny.NUM_LAYERS))
def test_keys_and_values_are_centred(number: int) -> None:
    name = f"encoder.layer.{number}.attention.self.qkv"
    layers, observers, _ = balanced()
    keys = qkv_rows(layers[name], observers[name])[1]
    np.testing.assert_allclose(keys.max(0), -keys.min(0), rtol=1e-3)
    observer = observers[f"encoder.layer.{number}.attention.output.dense"]
    np.testing.assert_allclose(observer.high_K, -observer.low_K, rtol=1e-4, atol=1e-6)


def test_the_layer_behind_attention_sees_what_its_observer_says() -> None:
    model = tiny.fused()
    observers = copied_observers()
    balance_attention(model, observers, num_heads=_HEADS)
    layers = [layer for layer in find_linear_layers(model) if layer.is_encoder]
    seen = observe(
        model,
        layers,
        SequenceDrive(tiny.features(), 0),
        max_rows=512,
        seed=0,
        progress=tiny.Silent(),
    )
    for name, observer in seen.items():
        for field in ("low_K", "high_K", "rows_RK"):
            np.testing.assert_allclose(
                getattr(observers[name], field), getattr(observer, field), rtol=1e-3, atol=1e-4
            )


def test_a_wide_channel_of_keys_is_shared_with_the_queries() -> None:
    name = "encoder.layer.0.attention.self.qkv"
    model = tiny.fused()
    layer = next(layer for layer in find_linear_layers(model) if layer.name == name)
    weight_KN, bias_N = layer.weight_KN.copy(), layer.bias_N.copy()
    # The same function: 50 times the key's channel, and a fiftieth of the query's.
    for array in (weight_KN, bias_N):
        array[..., 3] /= 50
        array[..., _D + 3] *= 50
    balance.replace_constants(model, layer, "wide", weight_KN, bias_N)
    before = spread(model, name)
    balance_attention(model, copied_observers(), num_heads=_HEADS)
    assert before > 20
    assert spread(model, name) < before / 5


def spread(model: ir.Model, name: str) -> float:
    """Return how much wider the first head's widest channel of keys is than the median one."""
    layer = next(layer for layer in find_linear_layers(model) if layer.name == name)
    keys = qkv_rows(layer, tiny.observers()[name])[1]
    width_H = np.abs(keys[:, :_H]).max(0)
    return float(width_H.max() / np.median(width_H))

"""Tests of compile.int8.sensitivity."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from compile.int8.drives import SequenceDrive
from compile.int8.quantize import quantize
from compile.int8.sensitivity import fewest_float_layers, layer_sensitivities
from tests.unit.compile import tiny

_NAMES = ("encoder.layer.0.attention.self.qkv", "encoder.layer.1.output.dense")


def test_the_error_of_one_layer_alone() -> None:
    progress = tiny.Silent()
    plans = {name: tiny.plans()[name] for name in _NAMES}
    features = tiny.features()[:4]
    got = layer_sensitivities(tiny.fused(), plans, SequenceDrive(features, 0), progress)
    assert progress.count == 2 and set(got) == set(_NAMES)
    # By hand: every window by itself, so that there is no padding.
    models = {"float": quantize(tiny.fused(), {})}
    models |= {name: quantize(tiny.fused(), {name: plans[name]}) for name in _NAMES}
    logits = {
        key: np.concatenate(
            [
                tiny.ort_logits(
                    tiny.to_bytes(model),
                    {
                        "input_ids": feature.input_ids[None].astype(np.int64),
                        "attention_mask": np.ones((1, feature.num_tokens), np.int64),
                        "token_type_ids": feature.token_type_ids[None].astype(np.int64),
                    },
                ).ravel()
                for feature in features
            ]
        )
        for key, model in models.items()
    }
    for name in _NAMES:
        error = np.square(logits[name] - logits["float"]).mean() / logits["float"].var()
        # What is left is the order of float sums, which may move a value over a rounding step.
        assert got[name] == pytest.approx(error, rel=0.05)


def test_the_worst_layer_comes_first() -> None:
    plans = dict(tiny.plans())
    broken = "encoder.layer.1.intermediate.dense"
    plans[broken] = dataclasses.replace(plans[broken], scale=plans[broken].scale * 30)
    got = layer_sensitivities(
        tiny.fused(), plans, SequenceDrive(tiny.features()[:4], 0), tiny.Silent()
    )
    assert next(iter(got)) == broken
    assert list(got.values()) == sorted(got.values(), reverse=True)
    assert min(got.values()) > 0


@pytest.mark.parametrize("most", range(9))
@pytest.mark.parametrize("needed", range(10))
def test_the_fewest_layers(needed: int, most: int) -> None:
    ranked = "abcdefgh"
    tried: list[int] = []

    def passes(names: tuple[str, ...]) -> bool:
        assert "".join(names) == ranked[: len(names)]
        tried.append(len(names))
        return len(names) >= needed

    found = fewest_float_layers(ranked, passes, most=most)
    assert found == (tuple(ranked[:needed]) if needed <= most else None)
    # An evaluation takes minutes: none is done twice, and there are few.
    assert len(set(tried)) == len(tried) <= 7
    assert max(tried) <= most

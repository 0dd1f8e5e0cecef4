from __future__ import annotations

import threading

import pytest
import torch

from bert_rt.errors import ConfigError
from bert_rt.tasks.checkpoints import build_model
from tests.support.training import CONFIG
from train.loop.feeder import Feeder
from train.loop.meter import Meter, encoder_flops, matmul_rate
from train.loop.objective import MicroBatch
from train.loop.processes import Processes, join_processes, pick_dtype


def test_means_and_rates() -> None:
    meter = Meter(peak_rate=1e12, flops_per_token=1e6)
    assert meter.is_empty
    for loss in (1.0, 3.0):
        meter.add({"loss": torch.tensor(loss)}, share=0.5)
        meter.add({"loss": torch.tensor(loss + 1)}, share=0.5)
        meter.count(steps=1, tokens=30, positions=40)
    assert meter.means() == {"loss": 2.5}
    assert meter.counts == (60, 80)
    rates = meter.rates(60, 80)
    assert rates["padding"] == pytest.approx(0.25)
    assert rates["mfu"] == pytest.approx(rates["tokens_per_second"] * 1e6 / 1e12)
    meter.restart()
    assert meter.is_empty


def test_operations_of_the_encoder() -> None:
    hidden, inner = CONFIG.hidden_size, CONFIG.intermediate_size
    a_layer = 4 * hidden**2 + 2 * hidden * inner
    model = build_model("pretraining", CONFIG)
    assert encoder_flops(model) == 6 * CONFIG.num_hidden_layers * a_layer


def test_the_rate_of_products_is_a_rate() -> None:
    # Between a millionth and a million times a core's.
    assert 1e6 < matmul_rate(torch.device("cpu"), None) < 1e16


def test_micro_batches_are_made_ahead_in_order() -> None:
    made: list[int] = []
    is_ahead = threading.Event()

    class Numbers:
        def micro_batch(self, index: int) -> MicroBatch:
            made.append(index)
            if index == 4:
                is_ahead.set()
            return MicroBatch({}, index, index)

    with Feeder(Numbers()) as feeder:  # type: ignore[arg-type]
        assert feeder.take(3, 4).num_tokens == 3
        assert is_ahead.wait(10)
        assert feeder.take(4, 5).num_tokens == 4
        assert feeder.take(9, 10).num_tokens == 9
    assert made[:2] == [3, 4]


def test_a_lone_process() -> None:
    with join_processes("cpu") as processes:
        assert processes == Processes(0, 1, torch.device("cpu"))
        assert processes.greatest(1.0, 2.0) == processes.total(1.0, 2.0) == [1.0, 2.0]
        model = build_model("encoder", CONFIG)
        assert processes.wrap(model) is model


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ConfigError, match="torch finds no CUDA device"), join_processes("cuda"):
        pass


def test_precision() -> None:
    cpu = torch.device("cpu")
    assert pick_dtype("fp32", cpu) is None
    assert pick_dtype("bf16", cpu) is torch.bfloat16
    assert pick_dtype("auto", cpu) in (None, torch.bfloat16)

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest

from bert_rt import api
from bert_rt.engine import EngineInfo
from bert_rt.types import SpanLogits
from runtime.bench.peers import PRODUCT_BATCH_TOKENS, PaddedRunner, Rectangle
from runtime.bench.workload import make_batches
from tests.unit.runtime.bench.fakes import make_work

_INFO = EngineInfo("fake", "1", "cpu", "int8", 1, is_packed=True)


def test_the_native_engine_is_measured_as_it_is_sold() -> None:
    assert PRODUCT_BATCH_TOKENS == api._MAX_BATCH_TOKENS


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_sorted_and_cut_batches_come_back_in_order(batch_size: int) -> None:
    (batch,) = make_batches(make_work([9, 1, 30, 4, 4]).features, max_tokens=2**20)
    shapes = []

    def infer(
        rectangles: Iterable[Rectangle], num_rectangles: int
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        outputs = []
        for ids_BS, mask_BS, types_BS in rectangles:
            shapes.append(ids_BS.shape)
            assert (ids_BS[mask_BS == 0] == 77).all()
            assert (types_BS[mask_BS == 0] == 0).all()
            outputs.append((ids_BS.astype(np.float32), -ids_BS.astype(np.float32)))
        assert len(outputs) == num_rectangles
        return outputs

    result = PaddedRunner(_INFO, infer, batch_size=batch_size, pad_id=77).run(batch)
    assert isinstance(result, SpanLogits)
    np.testing.assert_array_equal(result.start_logits, batch.input_ids)
    np.testing.assert_array_equal(result.end_logits, -batch.input_ids)
    widths = [width for _, width in shapes]
    assert widths == sorted(widths, reverse=True)
    assert [rows for rows, _ in shapes[:-1]] == [min(batch_size, 5)] * (len(shapes) - 1)

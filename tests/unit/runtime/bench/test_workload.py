from __future__ import annotations

from pathlib import Path

import numpy as np

from bert_rt.model.config import BertConfig
from runtime.bench.workload import (
    evenly_spaced,
    evenly_spaced_blocks,
    make_batches,
    num_operations,
    read_workload,
)
from tests.support.data.squad_file import write_squad
from tests.support.data.text import make_tokenizer
from tests.unit.runtime.bench.fakes import LIMITS, make_work


def test_evenly_spaced() -> None:
    assert evenly_spaced(10, 5) == [1, 3, 5, 7, 9]
    assert evenly_spaced(3, 10) == [0, 1, 2]
    chosen = evenly_spaced(10_570, 2000)
    assert len(set(chosen)) == 2000
    assert set(np.diff(chosen)) == {5, 6}


def test_rounds_share_out_all_questions() -> None:
    work = make_work(list(range(1, 12)))
    rounds = work.rounds(3)
    assert [len(part.examples) for part in rounds] == [4, 4, 3]
    ids = sorted(int(example.id) for part in rounds for example in part.examples)
    assert ids == list(range(11))


def test_tokens_are_counted_without_padding() -> None:
    work = make_work([1, 10, 30])
    (batch,) = make_batches(work.features, max_tokens=2**20)
    assert sum(work.lengths) == batch.num_tokens
    assert batch.num_tokens < batch.num_sequences * batch.max_seqlen
    assert work.lengths == [windows[0].num_tokens for windows in work.windows]


def test_blocks_are_of_like_length() -> None:
    work = make_work([(7 * index) % 40 + 1 for index in range(40)])
    lengths = [feature.num_tokens for feature in evenly_spaced_blocks(work.features, 4, 2)]
    assert len(lengths) == 8
    assert lengths[3] - lengths[0] == lengths[7] - lengths[4] == 3
    # A sample never holds a window twice, however small the whole is.
    few = evenly_spaced_blocks(work.features[:3], 3, 2)
    assert len({id(feature) for feature in few}) == len(few) == 3


def test_operations_of_minilm() -> None:
    # 21 million a token and 4 S D a token and layer: shared/design/native-engine.md.
    config = BertConfig(
        vocab_size=30522,
        hidden_size=384,
        num_hidden_layers=6,
        num_attention_heads=12,
        intermediate_size=1536,
    )
    assert num_operations(config, [1]) == 6 * (8 * 384**2 + 4 * 384 * 1536 + 4 * 384)
    two = num_operations(config, [100, 200])
    assert two == num_operations(config, [100]) + num_operations(config, [200])


def test_read_workload(tmp_path: Path) -> None:
    path = write_squad(tmp_path / "squad.json", 9)
    tokenizer = make_tokenizer()
    work = read_workload(path, tokenizer, LIMITS, limit=4, seed=0)
    assert len(work.examples) == 4
    again = read_workload(path, tokenizer, LIMITS, limit=4, seed=0)
    assert [example.id for example in again.examples] == [e.id for e in work.examples]

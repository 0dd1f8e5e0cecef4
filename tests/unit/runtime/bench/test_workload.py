from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bert_rt.errors import InputError
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


def write_many_questions(path: Path) -> Path:
    """Write three passages with 1, 2 and 3 questions."""
    paragraphs = [
        {
            "context": f"the cat sat on the mat {name}" + " in paris" * 18,
            "qas": [
                {
                    "id": f"{name}{number}",
                    "question": "who sat" + " on" * number,
                    "answers": [{"text": "cat", "answer_start": 4}],
                }
                for number in range(count)
            ],
        }
        for name, count in (("a", 1), ("b", 2), ("c", 3))
    ]
    path.write_text(json.dumps({"data": [{"title": "cats", "paragraphs": paragraphs}]}))
    return path


@pytest.mark.parametrize(
    ("count", "want"),
    [(0, "a0 b0 b1 c0 c1 c2"), (1, "a0 b0 c0"), (2, "b0 b1 c0 c1"), (3, "c0 c1 c2")],
)
def test_questions_on_a_passage_stay_together(tmp_path: Path, count: int, want: str) -> None:
    path = write_many_questions(tmp_path / "squad.json")
    work = read_workload(
        path, make_tokenizer(), LIMITS, limit=99, seed=0, questions_per_context=count
    )
    assert [example.id for example in work.examples] == want.split()
    rounds = work.rounds(len(work.groups))
    assert [len({example.context for example in part.examples}) for part in rounds] == [1] * len(
        rounds
    )
    ids = [example.id for part in rounds for example in part.examples]
    assert ids == want.split()


def test_more_questions_than_any_passage_has(tmp_path: Path) -> None:
    path = write_many_questions(tmp_path / "squad.json")
    with pytest.raises(InputError, match="no passage has 4 questions"):
        read_workload(path, make_tokenizer(), LIMITS, limit=9, seed=0, questions_per_context=4)


def test_a_limit_takes_whole_passages(tmp_path: Path) -> None:
    path = write_many_questions(tmp_path / "squad.json")
    work = read_workload(path, make_tokenizer(), LIMITS, limit=2, seed=0, questions_per_context=2)
    assert len(work.examples) == 2 == len(work.groups[0])


def test_split_windows_are_cut_as_for_the_longest_question(tmp_path: Path) -> None:
    path = write_many_questions(tmp_path / "squad.json")
    work = read_workload(
        path, make_tokenizer(), LIMITS, limit=99, seed=0, questions_per_context=3, has_split=True
    )
    split = work.as_read(is_split=True)
    assert split.examples == work.examples and work.as_read(is_split=False) is work
    assert len(split.features) > len(work.features)
    # One passage: the same windows, whatever is asked.
    assert len(split.passages) == len(split.windows[0])
    assert len(work.passages) > len(work.windows[0])
    part = work.part([1]).as_read(is_split=True)
    assert part.windows == split.windows[1:2] and part.by_context

"""The native encoder-decoder: bits that depend on nothing but the row, close to ONNX Runtime."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.kernels.graphs import Array
from tests.kernels.seq2seq_graphs import SMALL, Pair, build_pair, random_sources
from tests.kernels.support import ISAS, _native
from tests.support.memory import resident_mib

# Of logits with a deviation near 3: native attention is in INT8, ONNX Runtime's in float.
LOGITS_RELATIVE_ERROR = 0.04
_IS_LONG = os.environ.get("BERT_RT_LONG_TESTS") == "1"
_THREADS = (1, 2, 3)
# Of every instruction set with every number of threads.
_NUM_MIXES = -(-1000 // (len(ISAS) * len(_THREADS))) if _IS_LONG else 3


@functools.cache
def small_pair() -> Pair:
    """The smallest pair of graphs, all of it in INT8."""
    return build_pair(SMALL)


def open_engine(pair: Pair, **options: Any) -> Any:
    """A native engine, of one thread if nothing else is said."""
    return _native.EncoderDecoder(pair.encoder, pair.decoder, **{"num_threads": 1, **options})


def packed(sources: Sequence[Array]) -> tuple[Array, Array]:
    """Sources as the engine takes them."""
    lengths = np.cumsum([0, *(len(s) for s in sources)])
    return np.concatenate(sources), lengths.astype(np.int32)


class Alone:
    """Every row by an engine that decodes nothing beside it: what it must get in any company."""

    def __init__(self, engine: Any, source: Array) -> None:
        self._engine, self._source = engine, source
        self._known: dict[tuple[int, ...], Array] = {}

    def logits(self, target: tuple[int, ...]) -> Array:
        """Scores of what follows a target."""
        if target not in self._known:
            decoding = _native.Decoding(self._engine)
            decoding.add(*packed([self._source]))
            zero = np.zeros(1, np.int32)
            for token in target:
                last = decoding.step(np.array([token], np.int32), zero)
            self._known[target] = last[0]
        return self._known[target]


def run_mix(engine: Any, sources: Sequence[Array], oracles: Sequence[Alone], seed: int) -> int:
    """Decode sources that come and go, with random beams; return how many rows were compared."""
    rng = np.random.default_rng(seed)
    decoding = _native.Decoding(engine)
    rows: list[tuple[int, tuple[int, ...]]] = []  # source and target
    waiting, compared = list(range(len(sources))), 0
    limit = engine.info()["max_target_length"]
    while waiting or rows:
        joining = [waiting.pop() for _ in range(min(len(waiting), int(rng.integers(0, 3))))]
        if joining:
            decoding.add(*packed([sources[i] for i in joining]))
            rows += [(i, ()) for i in joining]
        parents = []
        for source in dict.fromkeys(source for source, _ in rows):
            own = [r for r, (i, _) in enumerate(rows) if i == source]
            length = len(rows[own[0]][1])
            if length > 0 and (rng.random() < 0.15 or length >= min(limit, 12)):
                continue  # it leaves
            parents += sorted(rng.choice(own, int(rng.integers(1, 5))).tolist())
        tokens = rng.integers(0, engine.info()["vocab_size"], len(parents))
        rows = [(rows[p][0], (*rows[p][1], int(t))) for p, t in zip(parents, tokens, strict=True)]
        if not rows and not waiting and not parents:
            decoding.step(np.zeros(0, np.int32), np.zeros(0, np.int32))
            break
        got = decoding.step(tokens.astype(np.int32), np.array(parents, np.int32))
        assert decoding.num_rows == len(rows)
        for row, (source, target) in zip(got, rows, strict=True):
            assert np.array_equal(row, oracles[source].logits(target))
            compared += 1
    assert decoding.num_cells == 0
    return compared


@pytest.mark.timeout(3600)  # the long form takes minutes
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("num_threads", _THREADS)
def test_rows_in_any_company_get_the_same_bits(isa: str, num_threads: int) -> None:
    """Equal bits whoever else is decoded, on how many threads, by which instruction set.

    1,000 mixes together with BERT_RT_LONG_TESTS=1.
    """
    pair = small_pair()
    sources = random_sources(SMALL, (1, 5, 48, 17, 2, 31), seed=1)
    alone = open_engine(pair, isa="scalar" if num_threads == 1 else ISAS[0])
    oracles = [Alone(alone, source) for source in sources]
    engine = open_engine(pair, isa=isa, num_threads=num_threads)
    assert engine.info()["isa"] == isa
    compared = sum(run_mix(engine, sources, oracles, seed) for seed in range(_NUM_MIXES))
    assert compared > 50


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"float_linears": frozenset({"0.qkv", "1.attention", "0.cross_query", "0.ffn1"})},
        {"float_linears": frozenset({"1.ffn2", "1.cross_attention", "0.transform"})},
        {"float_linears": frozenset({"0.vocabulary", "0.memory"}), "int8_embeddings": False},
        {"outlier_linears": frozenset({"0.ffn2"}), "smooth_linears": frozenset({"1.cross_query"})},
        {"hidden_size": 96, "num_attention_heads": 4},
    ],
    ids=["int8", "some float", "other float", "float ends", "outliers", "projected states"],
)
def test_close_to_onnx_runtime(change: dict[str, Any]) -> None:
    decoder = replace(SMALL.decoder, **change)
    encoder = replace(SMALL.encoder, float_linears=decoder.float_linears & {"0.memory"})
    pair = build_pair(replace(SMALL, encoder=encoder, decoder=decoder))
    spec, rng = pair.spec, np.random.default_rng(3)
    sources = random_sources(spec, (20, 3, 33), seed=2)
    steps, decoding = pair.start(sources), _native.Decoding(open_engine(pair))
    decoding.add(*packed(sources))
    beams, beam_idx = 1, np.arange(3)
    errors = []
    for _ in range(spec.decoder.max_position_embeddings):
        tokens = rng.integers(0, spec.decoder.vocab_size, len(beam_idx))
        want = steps.step(tokens, beam_idx)
        got = decoding.step(tokens.astype(np.int32), beam_idx.astype(np.int32))
        errors.append(np.sqrt(((got - want) ** 2).mean() / want.var()))
        first = np.repeat(np.arange(3) * beams, 4)
        beam_idx, beams = first + rng.integers(0, beams, 12), 4
        assert got.shape == (len(tokens), spec.decoder.vocab_size)
    assert max(errors) < LOGITS_RELATIVE_ERROR, errors
    assert len(errors) == spec.decoder.max_position_embeddings


@pytest.mark.parametrize("isa", ISAS)
def test_best_tokens(isa: str) -> None:
    pair = small_pair()
    sources = random_sources(SMALL, (9, 4), seed=4)
    both = [_native.Decoding(open_engine(pair, isa=isa)) for _ in range(2)]
    rows = np.arange(2, dtype=np.int32)
    for decoding in both:
        decoding.add(*packed(sources))
    for count in (1, 8, SMALL.decoder.vocab_size):
        logits = both[0].step(rows + 3, rows)
        log_probs, tokens = both[1].step_best(rows + 3, rows, count)
        order = np.argsort(-logits, axis=1, kind="stable")[:, :count]
        assert np.array_equal(tokens, order)
        shifted = logits.astype(np.float64) - logits.max(1, keepdims=True)
        exact = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
        np.testing.assert_allclose(
            log_probs, np.take_along_axis(exact, order, 1), atol=2e-6, rtol=1e-6
        )


def test_equal_scores_are_taken_in_the_order_of_tokens() -> None:
    """Columns with the same weights have the same scores in every row."""
    weights = dict(small_weights())
    decoder = dict(weights["decoder"])
    for part in ("weight", "bias"):
        full = decoder[f"0.vocabulary.{part}"].copy()
        full[..., 10:] = full[..., 10:11] + (30.0 if part == "bias" else 0.0)
        decoder[f"0.vocabulary.{part}"] = full
    pair = build_pair(SMALL, {**weights, "decoder": decoder})
    decoding = _native.Decoding(open_engine(pair))
    decoding.add(*packed(random_sources(SMALL, (6,))))
    zero = np.zeros(1, np.int32)
    _, tokens = decoding.step_best(zero, zero, 5)
    assert tokens.tolist() == [[10, 11, 12, 13, 14]]


def test_graphs_of_earlier_versions_are_refused() -> None:
    """Their pasts were rows of their own, which beam_idx chose."""
    pair = small_pair()
    decoder = onnx.load_from_string(pair.decoder)
    shape = ["sources", "beams"]
    decoder.graph.input.append(helper.make_tensor_value_info("beam_idx", TensorProto.INT64, shape))
    with pytest.raises(ValueError, match=r"^decoder.onnx: .* beam_idx, .*compile .* again$"):
        _native.EncoderDecoder(pair.encoder, decoder.SerializeToString(), num_threads=1)


@pytest.mark.parametrize(("first", "second"), [(4, 5), (1, 2)])
def test_a_step_whose_store_is_not_where_it_belongs_is_refused(first: int, second: int) -> None:
    pair = small_pair()
    decoder = onnx.load_from_string(pair.decoder)
    inputs = next(n for n in decoder.graph.node if n.op_type == "Attention").input
    inputs[first], inputs[second] = inputs[second], inputs[first]
    message = r"^decoder.onnx: .*want this token's keys and values behind past_keys\.0"
    with pytest.raises(ValueError, match=message):
        _native.EncoderDecoder(pair.encoder, decoder.SerializeToString(), num_threads=1)


def small_weights() -> dict[str, dict[str, Array]]:
    """Weights of small_pair."""
    from tests.kernels.seq2seq_graphs import pair_weights

    return pair_weights(SMALL)


def test_memory_is_that_of_what_is_decoded() -> None:
    """Cells are shared by beams, and free again when no row continues them."""
    pair = small_pair()
    engine = open_engine(pair)
    decoding = _native.Decoding(engine)
    sources = random_sources(SMALL, (40, 12), seed=1)
    rng = np.random.default_rng(0)
    most = 0
    for _ in range(60):
        decoding.add(*packed(sources))
        rows, beams = np.arange(2), 1
        for _ in range(int(rng.integers(2, 30))):
            first = np.repeat(np.arange(2) * beams, 4)
            rows = first + rng.integers(0, beams, 8) if beams > 1 else first
            beams = 4
            decoding.step(np.full(8, 5, np.int32), rows.astype(np.int32))
        most = max(most, decoding.num_cells)
        decoding.step(np.zeros(0, np.int32), np.zeros(0, np.int32))
        assert decoding.num_cells == 0
        assert decoding.num_rows == 0
    assert most <= 8 * 30
    # Slabs of 64 cells, as many as were used at once; the sources' memory is given back.
    slabs = -(-(most + 8) // 64)
    assert decoding.bytes <= (slabs + 1) * 64 * engine.info()["cell_bytes"]


@pytest.mark.timeout(3600)  # the long form takes minutes
def test_memory_stays_within_what_is_stated() -> None:
    """The ceiling and what is decoded; 10,000 random batches with BERT_RT_LONG_TESTS=1."""
    rng = np.random.default_rng(0)
    pair = small_pair()
    before = resident_mib()
    engine = open_engine(pair, num_threads=2, max_memory_mb=64)
    ceiling = engine.info()["ceiling_bytes"] / 2**20
    decoding = _native.Decoding(engine)
    beside = []  # what is resident, without what sources and targets take
    for _ in range(10_000 if _IS_LONG else 200):
        count = int(rng.integers(1, 33))
        decoding.add(*packed(random_sources(SMALL, rng.integers(1, 49, count).tolist(), seed=1)))
        beams, old = int(rng.integers(1, 6)), 1
        for _ in range(int(rng.integers(1, 5))):
            first = np.repeat(np.arange(count) * old, beams)
            rows = first + rng.integers(0, old, len(first))
            decoding.step(np.full(len(rows), 5, np.int32), rows.astype(np.int32))
            old = beams
        beside.append(resident_mib() - before - decoding.bytes / 2**20)
        decoding.step(np.zeros(0, np.int32), np.zeros(0, np.int32))
    # Logits and the allocator's slack.
    assert max(beside) < ceiling + 16
    assert beside[-1] - beside[len(beside) // 2] < 4


def test_bad_input_changes_nothing() -> None:
    pair = small_pair()
    engine = open_engine(pair)
    decoding = _native.Decoding(engine)
    source = random_sources(SMALL, (7,))
    decoding.add(*packed(source))
    zero, one = np.zeros(1, np.int32), np.ones(1, np.int32)
    before = decoding.step(zero, zero)
    for tokens, beams, message in (
        (zero, one, "beam_idx\\[0\\]: got 1, want 0 to 0"),
        (zero, -one, "beam_idx\\[0\\]: got -1, want 0 to 0"),
        (zero - 1, zero, "tokens\\[0\\]: got -1, want 0 to 82"),
        (zero + 83, zero, "tokens\\[0\\]: got 83, want 0 to 82"),
        (np.zeros(2, np.int32), zero, "beam_idx: got 1 rows, want the 2 of tokens"),
    ):
        with pytest.raises(ValueError, match=message):
            decoding.step(tokens, beams)
    for count in (0, 84):
        with pytest.raises(ValueError, match=rf"count: got {count}, want 1 to 83"):
            decoding.step_best(zero, zero, count)
    for ids, lengths in (([97], [0, 1]), ([1], [0, 2]), ([], [0, 0]), ([1] * 49, [0, 49])):
        with pytest.raises(ValueError, match=r"input_ids|cu_seqlens"):
            decoding.add(np.array(ids, np.int32), np.array(lengths, np.int32))
    assert decoding.num_rows == 1
    again = _native.Decoding(engine)
    again.add(*packed(source))
    assert np.array_equal(again.step(zero, zero), before)
    assert np.array_equal(again.step(one, zero), decoding.step(one, zero))
    for _ in range(SMALL.decoder.max_position_embeddings - 2):
        decoding.step(zero, zero)
    with pytest.raises(ValueError, match="a row of 40 tokens, want at most 39 before a step"):
        decoding.step(zero, zero)


def test_parts_that_do_not_belong_together_are_refused() -> None:
    pair = small_pair()
    three = build_pair(replace(SMALL, decoder=replace(SMALL.decoder, num_hidden_layers=3)))
    for encoder, decoder, message in (
        (three.encoder, pair.decoder, r"^encoder\.onnx: it has 6 keys and values, want the 4"),
        (pair.decoder, pair.encoder, r"^decoder\.onnx: value 'logits' must come from Add"),
        (pair.encoder[:2000], pair.decoder, r"^encoder\.onnx: "),
        (pair.encoder, pair.decoder[:2000], r"^decoder\.onnx: "),
    ):
        with pytest.raises(ValueError, match=message):
            _native.EncoderDecoder(encoder, decoder, num_threads=1)
    with pytest.raises(ValueError, match=r"model\.onnx: it ends in keys and values for a decoder"):
        _native.Engine(pair.encoder, num_threads=1)
    with pytest.raises(ValueError, match="max_memory_mb: got 1, want at least"):
        open_engine(pair, max_memory_mb=1, num_threads=16)

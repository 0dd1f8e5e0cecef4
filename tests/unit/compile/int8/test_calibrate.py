"""Tests of compile.int8.calibrate."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from numpy.typing import NDArray

from bert_rt.errors import CalibrationError
from bert_rt.tasks.question_answering.squad import SquadExample
from bert_rt.text.tokenization import Tokenizer
from bert_rt.types import Encoding, Feature
from compile.graph.linear import find_linear_layers
from compile.int8 import drives
from compile.int8.calibrate import Observer, observe
from compile.int8.drives import SequenceDrive
from compile.tasks.question_answering import calibration_features
from tests.tolerances import FLOAT32_ATOL
from tests.unit.compile import tiny
from tests.unit.compile.graphs import normal


def feed(observer: Observer, x_TK: NDArray[np.float32], sizes: Sequence[int] = (7, 1, 30)) -> None:
    """Show rows in pieces of uneven sizes."""
    start = index = 0
    while start < len(x_TK):
        end = start + sizes[index % len(sizes)]
        observer.update(x_TK[start:end])
        start, index = end, index + 1


def test_ranges_are_exact_over_all_rows() -> None:
    x_TK = normal(1000, 5) * np.array([1, 10, 1e-3, 0, -5], np.float32)
    observer = Observer(5, max_rows=16, seed=0)
    feed(observer, x_TK)
    assert observer.num_seen == 1000
    np.testing.assert_array_equal(observer.low_K, x_TK.min(0))
    np.testing.assert_array_equal(observer.high_K, x_TK.max(0))


def test_few_rows_are_all_kept_in_order() -> None:
    x_TK = normal(16, 3)
    observer = Observer(3, max_rows=16, seed=0)
    feed(observer, x_TK[:10])
    np.testing.assert_array_equal(observer.rows_RK, x_TK[:10])
    feed(observer, x_TK[10:])
    np.testing.assert_array_equal(observer.rows_RK, x_TK)


def test_the_sample_is_uniform() -> None:
    # Row n holds the number n. Each of 400 samples keeps 50 of 1,000 rows, so each tenth of the
    # rows is kept 2,000 times, give or take sqrt(20,000 * 0.1 * 0.9 * 0.95) = 41. Chi-square over
    # ten tenths, divided by 0.95 for drawing without replacement: 27.9 at nine degrees of freedom
    # is reached by chance once in a thousand times, and the seeds are fixed.
    x_TK = np.arange(1000, dtype=np.float32)[:, None]
    counts = np.zeros(10)
    for seed in range(400):
        observer = Observer(1, max_rows=50, seed=seed)
        feed(observer, x_TK, sizes=(13, 130, 1, 57))
        kept = observer.rows_RK[:, 0]
        assert len(set(kept.tolist())) == 50  # no row twice
        counts += np.bincount((kept // 100).astype(int), minlength=10)
    assert counts.sum() == 20_000
    assert ((counts - 2000) ** 2 / 2000).sum() / 0.95 < 27.9


def test_rows_are_kept_whole() -> None:
    x_TK = np.repeat(np.arange(500, dtype=np.float32)[:, None], 4, axis=1)
    observer = Observer(4, max_rows=20, seed=1)
    feed(observer, x_TK)
    assert (observer.rows_RK == observer.rows_RK[:, :1]).all()


def test_memory_does_not_grow_with_the_data() -> None:
    observer = Observer(8, max_rows=64, seed=0)
    x_TK = normal(4096, 8)
    observer.update(x_TK)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(20):
        observer.update(x_TK)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert observer.rows_RK.shape == (64, 8)
    assert grown < x_TK.nbytes / 8


def test_same_seed_same_sample() -> None:
    def sample(seed: int) -> NDArray[np.float32]:
        observer = Observer(2, max_rows=8, seed=seed)
        feed(observer, normal(300, 2))
        return observer.rows_RK

    np.testing.assert_array_equal(sample(3), sample(3))
    assert not np.array_equal(sample(3), sample(4))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_no_number(bad: float) -> None:
    observer = Observer(2, max_rows=4, seed=0)
    with pytest.raises(CalibrationError, match="NaN or infinite"):
        observer.update(np.array([[1, 2], [3, bad]], np.float32))
    assert observer.num_seen == 0


class _Recorder:
    """A tokenizer that remembers what it was asked."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.pair_tokens = tokenizer.pair_tokens
        self.texts: list[list[str]] = []

    def encode_batch(self, texts: list[str]) -> list[Encoding]:
        self.texts.append(list(texts))
        return self._tokenizer.encode_batch(texts)


def draw(
    tokenizer: Tokenizer, examples: list[SquadExample], num_samples: int, seed: int = 0
) -> tuple[list[Feature], list[str], list[str]]:
    """Return windows, questions and contexts that were drawn."""
    recorder = _Recorder(tokenizer)
    features = calibration_features(
        examples,
        recorder,  # type: ignore[arg-type]
        tiny.LIMITS,
        num_samples=num_samples,
        seed=seed,
    )
    return features, *recorder.texts  # type: ignore[return-value]


def test_at_most_one_question_a_passage(tokenizer: Tokenizer) -> None:
    examples = tiny.examples(40)
    features, questions, contexts = draw(tokenizer, examples, 100)
    assert len(features) == 20
    assert set(contexts) == {example.context for example in examples}
    asked = {example.question: example.context for example in examples}
    assert [asked[question] for question in questions] == contexts
    assert max(feature.num_tokens for feature in features) <= tiny.LIMITS.max_seq_length


def test_no_more_windows_than_wanted(tokenizer: Tokenizer) -> None:
    features, _, contexts = draw(tokenizer, tiny.examples(40), 5)
    assert len(features) == 5
    assert len(set(contexts)) == 5


def test_every_question_and_window_has_its_chance(tokenizer: Tokenizer) -> None:
    examples = tiny.examples(2, seed=3)
    examples = [
        SquadExample(e.id, "", e.question, "the cat sat on the mat " * 12, (), (), True)
        for e in examples
    ]
    questions, starts = set(), set()
    for seed in range(40):
        features, asked, _ = draw(tokenizer, examples, 1, seed)
        questions.update(asked)
        starts.add(features[0].context_start)
    assert questions == {example.question for example in examples}
    assert len(starts) > 1


def test_the_draw_follows_its_seed(tokenizer: Tokenizer) -> None:
    examples = tiny.examples(40)
    one, other = draw(tokenizer, examples, 8, 5), draw(tokenizer, examples, 8, 5)
    assert one[1:] == other[1:]
    for a, b in zip(one[0], other[0], strict=True):
        np.testing.assert_array_equal(a.input_ids, b.input_ids)
    assert draw(tokenizer, examples, 8, 6)[2] != one[2]


def test_nothing_to_draw_from(tokenizer: Tokenizer) -> None:
    with pytest.raises(CalibrationError, match=r"^calibration_file: "):
        draw(tokenizer, [], 8)


def _with_extreme_padding(model: ir.Model, pad_id: int) -> ir.Model:
    """Give the padding token an embedding unlike all others."""
    proto = onnx.load_from_string(tiny.to_bytes(model))
    for tensor in proto.graph.initializer:
        if tensor.name == "bert.embeddings.word_embeddings.weight":
            table = onnx.numpy_helper.to_array(tensor).copy()
            table[pad_id] = 0
            table[pad_id, ::16] = (300, -300)
            tensor.CopyFrom(onnx.numpy_helper.from_array(table, tensor.name))
    return ir.from_proto(proto)


def test_padded_positions_are_not_observed() -> None:
    model = _with_extreme_padding(tiny.fused(), 0)
    layers = [layer for layer in find_linear_layers(model) if layer.is_encoder]
    features = tiny.features()
    assert len({feature.num_tokens for feature in features}) > 3
    progress = tiny.Silent()
    together = observe(
        model, layers, SequenceDrive(features, 0), max_rows=512, seed=0, progress=progress
    )
    assert progress.count == len(features)
    num_tokens = sum(feature.num_tokens for feature in features)
    assert {observer.num_seen for observer in together.values()} == {num_tokens}
    # One by one, there is no padding.
    alone = [
        observe(
            model, layers, SequenceDrive([feature], 0), max_rows=1, seed=0, progress=tiny.Silent()
        )
        for feature in features
    ]
    for name, observer in together.items():
        low_K = np.min([single[name].low_K for single in alone], axis=0)
        high_K = np.max([single[name].high_K for single in alone], axis=0)
        np.testing.assert_allclose(observer.low_K, low_K, rtol=0, atol=FLOAT32_ATOL)
        np.testing.assert_allclose(observer.high_K, high_K, rtol=0, atol=FLOAT32_ATOL)
    # And padding would have been seen, had it been looked at.
    state = tiny.loaded_model().model.state_dict()
    gamma, beta = (state[f"bert.embeddings.LayerNorm.{kind}"][0] for kind in ("weight", "bias"))
    # Two of 32 channels hold all of its variance: 4 standard deviations each.
    padding = float(4 * gamma + beta)
    first = together[layers[0].name]
    assert not first.low_K[0] <= padding <= first.high_K[0]


def test_windows_longer_than_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    # As in a model for long texts. The windows are then computed one by one, or nearly so.
    monkeypatch.setattr(drives, "_MAX_BATCH_TOKENS", 8)
    model = tiny.fused()
    layers = find_linear_layers(model)[:1]
    seen = observe(
        model,
        layers,
        SequenceDrive(tiny.features(), 0),
        max_rows=8,
        seed=0,
        progress=tiny.Silent(),
    )
    num_tokens = sum(feature.num_tokens for feature in tiny.features())
    assert seen[layers[0].name].num_seen == num_tokens


def test_the_observed_values_are_torchs() -> None:
    # The first layer reads the normalized embeddings, which need no encoder.
    model = tiny.fused()
    layers = find_linear_layers(model)[:1]
    (feature,) = tiny.features()[:1]
    seen = observe(
        model, layers, SequenceDrive([feature], 0), max_rows=512, seed=0, progress=tiny.Silent()
    )
    embeddings = tiny.loaded_model().model.bert.embeddings  # type: ignore[union-attr]
    ids, types = (
        torch.from_numpy(np.int64(a)[None]) for a in (feature.input_ids, feature.token_type_ids)
    )
    with torch.inference_mode():
        want = embeddings(ids, types)[0].numpy()
    got = seen[layers[0].name].rows_RK
    np.testing.assert_allclose(got, want, rtol=0, atol=FLOAT32_ATOL)


def test_a_model_that_gives_nan() -> None:
    model = tiny.fused()
    layers = find_linear_layers(model)
    proto = onnx.load_from_string(tiny.to_bytes(model))
    for tensor in proto.graph.initializer:
        if tensor.name == "bert.encoder.layer.0.intermediate.dense.weight":
            bad = np.full(tensor.dims, np.nan, np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(bad, tensor.name))
    with pytest.raises(CalibrationError, match="NaN or infinite"):
        observe(
            ir.from_proto(proto),
            layers,
            SequenceDrive(tiny.features(), 0),
            max_rows=4,
            seed=0,
            progress=tiny.Silent(),
        )

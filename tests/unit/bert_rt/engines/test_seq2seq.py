"""Engines over the two graphs write what PyTorch writes, whatever goes with it in a batch."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from bert_rt.artifact.artifact import build_artifact
from bert_rt.engines.base import EngineOptions
from bert_rt.engines.packing import pack
from bert_rt.engines.registry import engine_spec, missing, open_engine
from bert_rt.engines.seq2seq import generating
from bert_rt.engines.seq2seq.base import Asked
from bert_rt.engines.seq2seq.generating import hypotheses_of
from bert_rt.engines.seq2seq.graphs import GraphDecoder, check_graphs
from bert_rt.errors import ArtifactFormatError, EngineInternalError, EngineUnavailableError
from bert_rt.generation.config import GenerationConfig
from bert_rt.generation.loop import generate
from bert_rt.generation.scores import best_of_rows
from bert_rt.generation.search import Hypothesis
from bert_rt.model.encoder_decoder import CachedDecoder
from bert_rt.support.seq2seq import LOG_PROBS, LOGITS, cross_names, past_names, present_names
from bert_rt.tasks.translation.sources import SourceSequence
from bert_rt.types import IntArray, TokenSequence
from tests.support import encoder_decoders, seq2seq_artifacts

pytestmark = pytest.mark.timeout(600)
ENGINES = ("onnxruntime", "openvino")
# Sums in another order, divided by the number of tokens.
_ATOL = 1e-4
_OPTIONS = EngineOptions(num_threads=1)
_TOKENS = {"decoder_start_token_id": 2, "eos_token_ids": (3,), "pad_token_id": 0}
CONFIGS = (
    GenerationConfig(**_TOKENS, max_length=24, no_repeat_ngram_size=2),
    GenerationConfig(**_TOKENS, num_beams=4, num_return_sequences=4, no_repeat_ngram_size=3),
    GenerationConfig(**_TOKENS, num_beams=3, early_stopping=True, length_penalty=2.0),
    GenerationConfig(**_TOKENS, num_beams=5, no_repeat_ngram_size=2, min_new_tokens=6),
)


def by_torch(sources: Sequence[IntArray], config: GenerationConfig) -> list[list[Hypothesis]]:
    longest = max(map(len, sources))
    ids = torch.tensor([[*row, *[0] * (longest - len(row))] for row in sources])
    decoder = CachedDecoder(seq2seq_artifacts.make_model(), ids, (ids > 0).long())
    return generate(decoder, len(sources), config)


@functools.cache
def engine(name: str, *, is_int8: bool = False) -> generating.GeneratingEngine:
    artifact = seq2seq_artifacts.make_artifact(is_int8=is_int8)
    opened = open_engine(name, artifact, _OPTIONS)
    assert isinstance(opened, generating.GeneratingEngine)
    return opened


def run(
    opened: generating.GeneratingEngine,
    sources: Sequence[IntArray],
    configs: Sequence[GenerationConfig],
) -> list[list[Hypothesis]]:
    sequences = [
        SourceSequence(ids, np.zeros_like(ids), 0, 1, Asked(config))
        for ids, config in zip(sources, configs, strict=True)
    ]
    outputs = opened.run(pack(sequences, max_tokens=10_000))
    return [
        hypotheses_of({name: array[i] for name, array in outputs.items()})
        for i in range(len(sources))
    ]


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("name", ENGINES)
def test_tokens_are_those_of_pytorch(name: str, config: GenerationConfig) -> None:
    # No near ties among them: of two scores that are closer than _ATOL either might win.
    sources = seq2seq_artifacts.random_sources(12, seed=5)
    want = by_torch(sources, config)
    got = run(engine(name), sources, [config] * len(sources))
    assert [[h.token_ids for h in group] for group in got] == [
        [h.token_ids for h in group] for group in want
    ]
    for group, wanted in zip(got, want, strict=True):
        assert [h.score for h in group] == pytest.approx([h.score for h in wanted], abs=_ATOL)
    # The sources end at different steps, so that rows leave the batch.
    assert len({len(group[0].token_ids) for group in got}) > 1


@pytest.mark.parametrize("name", ENGINES)
def test_waiting_sources_take_the_places_of_those_that_have_ended(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = seq2seq_artifacts.random_sources(16, seed=5)
    sources += sources[:2]
    # They are searched in two ways, end at different steps, and two have a place at a time.
    configs = [CONFIGS[1]] * 16 + [CONFIGS[3]] * 2
    monkeypatch.setattr(generating, "_MAX_ROWS", 8)
    admitted: list[int] = []
    admit = GraphDecoder.admit

    def count(decoder: GraphDecoder, more: Sequence[IntArray]) -> None:
        if decoder._seen_RP.any():  # others are under way
            admitted.append(len(more))
        admit(decoder, more)

    monkeypatch.setattr(GraphDecoder, "admit", count)
    got = run(engine(name), sources, configs)
    assert sum(admitted) >= 3
    for source, config, group in zip(sources, configs, got, strict=True):
        (want,) = by_torch([source], config)
        assert [h.token_ids for h in group] == [h.token_ids for h in want]


def test_rows_get_the_same_in_any_place_of_a_batch() -> None:
    """Sources come and go; places are taken again, left out, and not in the order of sources."""
    sources = seq2seq_artifacts.random_sources(24, seed=3)
    rng = np.random.default_rng(0)
    decoder = engine("onnxruntime")._engine.start(sources[:16])
    # Every row by its source and its tokens, two of each source after the first step.
    rows: list[tuple[IntArray, list[int]]] = [(source, []) for source in sources[:16]]
    first_rows, waiting, seen = list(range(16)), sources[16:], set()
    for step in range(8):
        if step == 0:
            beam_idx = first_rows
        else:
            stay = sorted(rng.choice(first_rows, -(-len(first_rows) * 3 // 4), replace=False))
            if step == 6:
                stay = first_rows[-3:]  # those that came last
            new, waiting = waiting[: step % 3], waiting[step % 3 :]
            decoder.admit(new)
            beams = 2 if step > 1 else 1
            beam_idx = [first + int(rng.integers(beams)) for first in stay for _ in "ab"]
            beam_idx += [len(rows) + index for index in range(len(new)) for _ in "ab"]
            rows += [(source, []) for source in new]
            first_rows = list(range(0, len(beam_idx), 2))
        tokens = rng.integers(4, 12, len(beam_idx))
        rows = [
            (rows[row][0], [*rows[row][1], int(token)])
            for row, token in zip(beam_idx, tokens, strict=True)
        ]
        logits = decoder.step(tokens, np.array(beam_idx))
        np.testing.assert_allclose(logits, [alone(*row) for row in rows], atol=_ATOL)
        log_probs, best = decoder.best(logits, 3)
        wanted, ids = best_of_rows(logits, 3)
        np.testing.assert_allclose(log_probs, wanted, atol=1e-5)
        assert np.array_equal(best, ids)
        seen.add((len(decoder._mask_BS) > len(first_rows), decoder._is_in_order))
    # Some places were idle, some taken by later sources; and some tokens were left out.
    assert {True, False} == {is_idle for is_idle, _ in seen} == {order for _, order in seen}
    assert decoder._seen_RP.shape[1] < 1 + 2 * 7


def alone(source: IntArray, target: Sequence[int]) -> Any:
    """Scores of what follows a target, by PyTorch."""
    ids = torch.from_numpy(source.astype(np.int64))[None]
    decoder = CachedDecoder(seq2seq_artifacts.make_model(), ids, torch.ones_like(ids))
    for token in target:
        logits = decoder.step(np.array([token]), np.array([0]))
    return logits[0]


@pytest.mark.parametrize("name", ENGINES)
def test_int8_writes_with_nearly_the_same_scores(name: str) -> None:
    sources = seq2seq_artifacts.random_sources(12, seed=5)
    assert engine(name, is_int8=True).info.precision == "int8"
    want = [best.score for best, *_ in by_torch(sources, CONFIGS[0])]
    got = run(engine(name, is_int8=True), sources, [CONFIGS[0]] * len(sources))
    # Random weights have many near ties: a single other token may lead a text elsewhere.
    apart = np.abs(np.subtract([best.score for best, *_ in got], want))
    assert 0 < np.median(apart) < 0.1, apart


def test_a_sequence_that_asks_for_nothing_gets_one_token() -> None:
    ids = seq2seq_artifacts.random_sources(1)[0]
    batch = pack([TokenSequence(ids, np.zeros_like(ids))], max_tokens=100)
    assert batch.options is None
    outputs = engine("onnxruntime").run(batch)
    assert outputs["token_ids"].shape == (1, 1, 2) and outputs["token_ids"][0, 0, 0] == 2
    assert outputs["scores"].shape == (1, 1)


def test_rows_of_sources_that_do_not_stand_together_are_a_fault() -> None:
    sources = seq2seq_artifacts.random_sources(2)
    decoder = engine("onnxruntime")._engine.start(sources)
    with pytest.raises(AssertionError, match="want those of one source together"):
        decoder.step(np.array([2, 2, 2]), np.array([0, 1, 0]))


def test_engines_without_a_decoder_say_so() -> None:
    artifact = seq2seq_artifacts.make_artifact()
    unable = "reference"
    assert not engine_spec(unable).generates
    reason = missing(unable, artifact)
    assert reason is not None and "does not run artifacts with a decoder" in reason
    with pytest.raises(EngineUnavailableError, match="onnxruntime"):
        open_engine(unable, artifact, _OPTIONS)


@pytest.mark.parametrize("name", ENGINES)
def test_a_graph_without_an_output_is_refused(name: str) -> None:
    files = seq2seq_artifacts.artifact_files(is_int8=False)
    files["decoder.onnx"] = files["encoder.onnx"]
    artifact = build_artifact(files=files, **seq2seq_artifacts.artifact_fields("float32"))
    with pytest.raises(ArtifactFormatError, match=r"^decoder.onnx: got the outputs"):
        open_engine(name, artifact, _OPTIONS)


@pytest.mark.parametrize("name", ENGINES)
def test_a_closed_engine_says_so(name: str) -> None:
    opened = open_engine(name, seq2seq_artifacts.make_artifact(), _OPTIONS)
    opened.close()
    opened.close()
    ids = np.array([encoder_decoders.CLS, encoder_decoders.SEP], np.int32)
    with pytest.raises(EngineInternalError, match="closed"):
        opened.run(pack([TokenSequence(ids, np.zeros_like(ids))], max_tokens=100))


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("past_keys.0", None),
        ("past_values.1", None),
        ("past_keys.0", ["rows", 4, "length", 8]),
        ("past_keys.1", ["rows", "length", 32]),  # heads side by side
        ("past_values.0", ["rows", 2, 5, 16]),
    ],
)
def test_a_past_of_other_sizes_is_refused(name: str, sizes: list[object] | None) -> None:
    inputs: dict[str, list[Any]] = {key: ["rows", 2, "length", 16] for key in past_names(2)}
    outputs = cross_names(2), (LOGITS, LOG_PROBS, *present_names(2))
    artifact = seq2seq_artifacts.make_artifact(is_int8=False)
    check_graphs(artifact, inputs, *outputs)
    if sizes is None:
        del inputs[name]
    else:
        inputs[name] = sizes
    with pytest.raises(ArtifactFormatError, match=rf"^decoder.onnx: {name}: got an input of sizes"):
        check_graphs(artifact, inputs, *outputs)


def test_graphs_of_earlier_versions_are_refused() -> None:
    """Their pasts were rows of their own, which beam_idx chose; they have no log probabilities."""
    inputs: dict[str, list[Any]] = {key: ["rows", 2, "length", 16] for key in past_names(2)}
    inputs["beam_idx"] = ["sources", "beams"]
    outputs = cross_names(2), (LOGITS, *present_names(2))
    artifact = seq2seq_artifacts.make_artifact(is_int8=False)
    with pytest.raises(
        ArtifactFormatError, match=r"^decoder.onnx: .* beam_idx, .*compile .* again$"
    ):
        check_graphs(artifact, inputs, *outputs)

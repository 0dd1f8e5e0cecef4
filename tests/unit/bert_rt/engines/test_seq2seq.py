"""Engines over the two graphs write what PyTorch writes, whatever goes with it in a batch."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
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
from bert_rt.generation.search import Hypothesis
from bert_rt.model.encoder_decoder import CachedDecoder
from bert_rt.support.seq2seq import LOGITS, cross_names, past_names, present_names
from bert_rt.tasks.translation.sources import SourceSequence
from bert_rt.types import IntArray, TokenSequence
from tests.kernels.seq2seq_graphs import SMALL, Pair, build_pair, random_sources
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
        admitted.append(len(more))
        assert decoder._length_of_row.max() > 0  # others are under way
        admit(decoder, more)

    monkeypatch.setattr(GraphDecoder, "admit", count)
    got = run(engine(name), sources, configs)
    assert sum(admitted) >= 3
    for source, config, group in zip(sources, configs, got, strict=True):
        (want,) = by_torch([source], config)
        assert [h.token_ids for h in group] == [h.token_ids for h in want]


def test_a_past_with_heads_side_by_side_goes_the_same_way() -> None:
    """As in graphs that were compiled earlier; rows come, go and have different lengths."""
    sources = random_sources(SMALL, (7, 12, 5))
    found = []
    for joins_past in (False, True):
        pair = build_pair(replace(SMALL, joins_past=joins_past))
        outputs = [value.name for value in pair.sessions[1].get_outputs()]
        sizes = {value.name: value.shape for value in pair.sessions[1].get_inputs()}["past_keys.0"]

        def read(more: Sequence[IntArray], pair: Pair = pair) -> tuple[dict[str, Any], Any]:
            memory = pair.memory(more)
            return memory, memory.pop("source_mask")

        def step(feeds: Any, pair: Pair = pair, names: Sequence[str] = outputs) -> dict[str, Any]:
            return dict(zip(names, pair.sessions[1].run(names, dict(feeds)), strict=True))

        decoder = GraphDecoder(read, step, sources[:2], past_sizes=sizes, max_target_length=20)
        rng = np.random.default_rng(0)
        logits = []
        for beam_idx in ([0, 0, 1, 1], [1, 0, 3, 3], None, [2, 3, 4, 4], [2, 2]):
            if beam_idx is None:
                decoder.admit(sources[2:])
                continue
            tokens = rng.integers(0, SMALL.decoder.vocab_size, len(beam_idx))
            logits.append(decoder.step(tokens, np.array(beam_idx)))
        found.append(logits)
    assert len(found[0]) == 4
    for ours, earlier in zip(*found, strict=True):
        np.testing.assert_array_equal(ours, earlier)


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
        ("past_keys.1", ["rows", "length", 32]),  # the other layers have their heads apart
        ("past_values.0", ["rows", 2, 5, 16]),
    ],
)
def test_a_past_of_other_sizes_is_refused(name: str, sizes: list[object] | None) -> None:
    inputs: dict[str, list[Any]] = {key: ["rows", 2, "length", 16] for key in past_names(2)}
    outputs = cross_names(2), (LOGITS, *present_names(2))
    artifact = seq2seq_artifacts.make_artifact(is_int8=False)
    assert check_graphs(artifact, inputs, *outputs) == ["rows", 2, "length", 16]
    if sizes is None:
        del inputs[name]
    else:
        inputs[name] = sizes
    # Of layers that differ the first one that is not like those before.
    with pytest.raises(ArtifactFormatError, match=rf"^decoder.onnx: {name}: got an input of sizes"):
        check_graphs(artifact, inputs, *outputs)

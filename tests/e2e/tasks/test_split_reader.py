"""A reader with split layers, from its checkpoint to answers with and without kept passages."""

from __future__ import annotations

import dataclasses
import functools
import pickle
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch

from bert_rt import pipeline
from bert_rt.api import Runtime
from bert_rt.artifact.artifact import default_artifact_path, load_artifact
from bert_rt.errors import ConfigError, EmptyInputError, EngineInternalError
from bert_rt.support.cli import run_command
from bert_rt.tasks.checkpoints import build_model
from bert_rt.types import Answer
from compile import export
from runtime.bench.__main__ import main as bench
from runtime.loading import load_runtime
from runtime.serve.flags import ENV_PREFIX, parse_flags
from tests.unit.compile import tiny

SPLIT = dataclasses.replace(
    tiny.CONFIG,
    num_hidden_layers=3,
    num_split_layers=2,
    passage_position_offset=tiny.LIMITS.max_query_length + 2,
)
# Passages of one to three windows, two questions each, in the order of a file.
PAIRS = [(example.question, example.context) for example in tiny.examples(40, seed=5)]


@functools.cache
def directory() -> TemporaryDirectory[str]:
    return TemporaryDirectory(prefix="bert-rt-test-")


@functools.cache
def artifact() -> Path:
    """Return an INT8 artifact with a receipt."""
    place = Path(directory().name)
    with torch.random.fork_rng(), torch.no_grad():
        generator = torch.manual_seed(1)
        model = build_model("question-answering", SPLIT).eval()
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    flags = [
        *("--model_name_or_path", tiny.write_checkpoint(place / "checkpoint", model, SPLIT)),
        *("--calibration_file", tiny.write_squad(place / "calibration.json", tiny.examples(40))),
        *("--output_dir", place / "int8", "--int8", *tiny.LIMIT_FLAGS),
    ]
    assert run_command(export.main, [str(flag) for flag in flags]) == 0
    return place / "int8"


def answers(runtime: Runtime) -> list[Answer]:
    return runtime.answer_batch(PAIRS, top_k=2)


def test_the_artifact_says_the_split_and_every_engine_runs_it() -> None:
    manifest = load_artifact(artifact()).manifest
    assert manifest.architecture == SPLIT and manifest.precision == "int8"
    for engine in ("native", "onnxruntime", "openvino"):
        with Runtime.load(artifact(), engine=engine, num_threads=1) as runtime:
            for (_, context), answer in zip(PAIRS, answers(runtime), strict=True):
                assert context[answer.start : answer.end] == answer.text


@pytest.mark.parametrize("size_mb", [None, 0, 1])
def test_answers_are_the_same_with_and_without_kept_passages(size_mb: int | None) -> None:
    with Runtime.load(artifact(), engine="native", max_context_cache_mb=0) as runtime:
        want = answers(runtime)
        assert runtime.context_cache["num_contexts"] == 0
    with Runtime.load(artifact(), engine="native", max_context_cache_mb=size_mb) as runtime:
        assert answers(runtime) == want
        again = [runtime.answer(*pair, top_k=2) for pair in reversed(PAIRS)]
        assert again[::-1] == want
        facts = runtime.context_cache
        assert facts["max_bytes"] == {None: 64, 0: 0, 1: 1}[size_mb] * 2**20
        assert facts["num_bytes"] <= facts["max_bytes"]
        assert (facts["num_hits"] > 0) == (size_mb != 0)


def test_prepared_passages_are_used() -> None:
    contexts = [context for _, context in PAIRS]
    with Runtime.load(artifact(), engine="native") as runtime:
        want = answers(runtime)
    with Runtime.load(artifact(), engine="native") as runtime:
        before = runtime.context_cache
        runtime.prepare(contexts[0])
        runtime.prepare(iter(contexts))
        prepared = runtime.context_cache
        assert prepared["num_contexts"] > before["num_contexts"] + len(set(contexts))
        assert answers(runtime) == want
        after = runtime.context_cache
    assert after["num_misses"] == prepared["num_misses"]
    assert after["num_hits"] > prepared["num_hits"]


def test_what_cannot_be_prepared_is_named() -> None:
    with Runtime.load(artifact(), engine="native") as runtime:
        with pytest.raises(EmptyInputError, match="context: got ''"):
            runtime.prepare("")
        with pytest.raises(EmptyInputError, match=r"^contexts\[1\]\.context: got ' '"):
            runtime.prepare(["the cat", " "])
    with pytest.raises(EngineInternalError, match="closed"):
        runtime.prepare("the cat")
    with (
        Runtime.load(artifact(), engine="onnxruntime") as runtime,
        pytest.raises(ConfigError, match="'onnxruntime', which keeps no passages"),
    ):
        runtime.prepare("the cat")
    with Runtime.load(engine="native") as runtime:
        with pytest.raises(ConfigError, match="split layers: the artifact has none"):
            runtime.prepare("the cat")
        with pytest.raises(ConfigError, match="split layers: the artifact has none"):
            _ = runtime.context_cache


def test_a_cache_that_cannot_be_is_named() -> None:
    for value in (-1, 1.5, True, 2**21):
        with pytest.raises(ConfigError, match=r"max_context_cache_mb: got .*, want an integer"):
            Runtime.load(artifact(), max_context_cache_mb=value)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="the engine onnxruntime keeps no passages"):
        Runtime.load(artifact(), engine="onnxruntime", max_context_cache_mb=8)
    with pytest.raises(ConfigError, match="the artifact has no split layers"):
        Runtime.load(max_context_cache_mb=8)
    Runtime.load(artifact(), engine="onnxruntime", max_context_cache_mb=0).close()


def test_the_flag_of_a_server_is_for_models_that_are_split() -> None:
    args = parse_flags(["--engine", "native"], {f"{ENV_PREFIX}MAX_CONTEXT_CACHE_MB": "3"})
    assert args.max_context_cache_mb == 3
    with pytest.raises(ConfigError, match="max_context_cache_mb: got 3, but the artifact has no"):
        load_runtime(args)
    load_runtime(args, is_one_of_several=True).close()
    args.artifact = artifact()
    for is_one_of_several in (False, True):
        with load_runtime(args, is_one_of_several=is_one_of_several) as runtime:
            assert runtime.context_cache["max_bytes"] == 3 * 2**20


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--artifact", "SPLIT"], "--artifact: got one with 2 split layers, want an ordinary one"),
        (["--split_artifact", "SPLIT"], "SPLIT has another architecture than --artifact"),
        (["--split_artifact", "PLAIN"], "--split_artifact: got PLAIN with 0 split layers"),
    ],
)
def test_the_bench_compares_artifacts_that_do_the_same_work(
    flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = {"SPLIT": str(artifact()), "PLAIN": str(default_artifact_path())}
    flags = [paths.get(flag, flag) for flag in flags]
    assert run_command(bench, ["--data", "absent.json", *flags]) == 2
    error = capsys.readouterr().err
    for name, path in paths.items():
        error = error.replace(path, name)
    assert message in error


def test_limits_that_the_split_cannot_have_are_named() -> None:
    limits = dataclasses.replace(tiny.LIMITS, max_query_length=17)
    with pytest.raises(ConfigError, match="max_query_length: got 17, want at most 16"):
        Runtime.load(artifact(), config=limits)


def test_a_pickled_runtime_has_the_same_cache() -> None:
    with Runtime.load(artifact(), engine="native", max_context_cache_mb=3) as runtime:
        copied = pickle.loads(pickle.dumps(runtime))
    with copied:
        assert copied.context_cache["max_bytes"] == 3 * 2**20


def test_the_pipeline_cuts_windows_as_the_split_wants_them() -> None:
    with Runtime.load(artifact(), engine="native") as runtime:
        answerer = pipeline("question-answering", runtime)
        for question, context in PAIRS[:6]:
            found = answerer(question=question, context=context, max_seq_len=48, doc_stride=12)
            assert context[found["start"] : found["end"]] == found["answer"]
        # The second question over a passage finds its windows kept.
        assert runtime.context_cache["num_hits"] >= 3

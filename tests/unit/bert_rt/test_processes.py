"""A Runtime and a pipeline among processes: forked, ended with threads at work, sent by pickle."""

from __future__ import annotations

import copy
import importlib.util
import multiprocessing
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from bert_rt import Runtime, pipeline
from bert_rt.errors import ArtifactError, ConfigError
from bert_rt.pipelines.question_answering import QuestionAnsweringPipeline
from tests.golden.pipeline.pipeline_cases import write_checkpoint
from tests.support import processes
from tests.support.artifacts import write_tiny_artifact

_ROOT = Path(processes.__file__).parents[2]
_ENGINES = [
    name
    for name in ("native", "onnxruntime", "openvino", "torch")
    if importlib.util.find_spec("bert_rt._native" if name == "native" else name) is not None
]
_IS_LONG = os.environ.get("BERT_RT_LONG_TESTS") == "1"
_NUM_FORKS = 40 if _IS_LONG else 10
_NUM_EXITS = 20 if _IS_LONG else 1
_QUESTION = {"question": "who sat?", "context": "the cat sat on the mat in paris"}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with an artifact and checkpoints, by name."""
    root = tmp_path_factory.mktemp("models")
    write_tiny_artifact(root / "artifact")
    for name in ("squad", "three", "masked"):
        write_checkpoint(name, root / name)
    return root


def run_program(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", "-m", processes.__name__, *arguments]
    return subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=1200)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.timeout(1300)
@pytest.mark.parametrize("engine", _ENGINES)
def test_children_of_a_busy_process_answer_or_refuse_in_time(engine: str, models: Path) -> None:
    result = run_program("fork", engine, str(models), str(_NUM_FORKS))
    assert result.returncode == 0, result.stderr


@pytest.mark.timeout(1300)
@pytest.mark.parametrize("engine", _ENGINES)
def test_a_process_ends_quietly_while_threads_answer(engine: str, models: Path) -> None:
    for _ in range(_NUM_EXITS):
        result = run_program("exit", engine, str(models))
        assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.skipif(os.name != "posix", reason="needs SIGTERM's handlers")
@pytest.mark.parametrize("engine", _ENGINES)
def test_a_signal_is_handled_after_another_thread_freed_the_model(
    engine: str, models: Path
) -> None:
    result = run_program("signal", engine, str(models))
    assert (result.returncode, result.stdout) == (0, "handled\n"), result.stderr


def ask_runtime(runtime: Runtime) -> str:
    """Answer in another process; a function of a module, so that it can be sent there."""
    with runtime:
        return runtime.answer(**_QUESTION).text


def ask_pipeline(pipe: Any) -> Any:
    with pipe:
        return pipe(**_QUESTION)


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_runtime_is_sent_to_a_pool(
    models: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(models)  # a relative path must hold elsewhere, too
    context = multiprocessing.get_context(method)
    with (
        Runtime.load("artifact", engine="onnxruntime", num_threads=1) as runtime,
        pipeline("question-answering", "artifact", engine="onnxruntime", top_k=2) as pipe,
        ProcessPoolExecutor(1, mp_context=context) as pool,
    ):
        assert pool.submit(ask_runtime, runtime).result(120) == runtime.answer(**_QUESTION).text
        assert pool.submit(ask_pipeline, pipe).result(120) == pipe(**_QUESTION)


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]
)
def test_a_copy_is_a_runtime_of_its_own(models: Path, copied: Callable[[Any], Any]) -> None:
    with Runtime.load(models / "artifact", engine="onnxruntime", num_threads=1) as runtime:
        other = copied(runtime)
        want = runtime.answer(**_QUESTION)
        assert (other.info, other.limits) == (runtime.info, runtime.limits)
    with other:  # the first one is closed
        assert other.answer(**_QUESTION) == want


@pytest.mark.parametrize(
    ("task", "model", "inputs"),
    [("text-classification", "three", "the cat"), ("fill-mask", "masked", "the [MASK]")],
)
def test_pipelines_of_torch_are_pickled(models: Path, task: str, model: str, inputs: str) -> None:
    num_threads = torch.get_num_threads()
    with (
        pipeline(task, models / model, num_threads=1, top_k=2) as pipe,
        pickle.loads(pickle.dumps(pipe)) as other,
    ):
        assert other(inputs) == pipe(inputs)
    torch.set_num_threads(num_threads)


def test_a_pipeline_over_a_runtime_is_pickled_with_it(models: Path) -> None:
    with Runtime.load(models / "artifact", engine="onnxruntime", num_threads=1) as runtime:
        pipe = pipeline("question-answering", runtime, top_k=3)
        with pickle.loads(pickle.dumps(pipe)) as other:
            assert other.model.session is not runtime.session
            assert other(**_QUESTION) == pipe(**_QUESTION)


def test_what_has_no_path_says_so(models: Path) -> None:
    with Runtime.load(models / "artifact", engine="onnxruntime", num_threads=1) as runtime:
        parts = Runtime(
            runtime.session, runtime.info, runtime.manifest, runtime.task, runtime.limits
        )
        with pytest.raises(ConfigError, match="was not loaded from a path"):
            pickle.dumps(parts)
        model = pipeline("question-answering", runtime).model
        with pytest.raises(ConfigError, match="was not made by"):
            copy.deepcopy(QuestionAnsweringPipeline(model))  # type: ignore[arg-type]


def test_another_artifact_in_its_place_is_refused(models: Path, tmp_path: Path) -> None:
    path = tmp_path / "artifact"
    write_tiny_artifact(path)
    with Runtime.load(path, engine="onnxruntime", num_threads=1) as runtime:
        data = pickle.dumps(runtime)
    path.rename(tmp_path / "old")
    tokenizer = (models / "squad" / "tokenizer.json").read_bytes() + b"\n"
    write_tiny_artifact(
        path,
        files={
            "model.onnx": (tmp_path / "old/model.onnx").read_bytes(),
            "tokenizer.json": tokenizer,
        },
    )
    with pytest.raises(ArtifactError, match="holds another artifact than the Runtime"):
        pickle.loads(data)

"""The commands as users start them: a process, its output and its exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bert_rt.artifact.artifact import default_artifact_path
from bert_rt.errors import ArtifactNotFoundError
from tests.support.artifacts import PAIRS, write_tiny_artifact
from tests.support.data.squad_file import write_squad

_ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def artifact_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("e2e") / "artifact"
    write_tiny_artifact(path)
    return path


def test_a_training_benchmark_without_steps_to_time_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    result = run(
        "benchmarks.bench_training",
        *("--model_name_or_path", tmp_path, "--train_file", tmp_path / "no"),
        *("--steps", 9, "--logging_steps", 9),
    )
    assert result.returncode == 2
    assert "--logging_steps: got 9, want 1 to 8, below --steps" in result.stderr


def test_comparing_builds_of_the_native_module(tmp_path: Path) -> None:
    native = pytest.importorskip("bert_rt._native")
    data = ("--data", write_squad(tmp_path / "squad.json", 9))
    program = "benchmarks.compare_builds"
    unread = run(program, native.__file__, "--data", tmp_path / "no.json")
    assert (unread.returncode, unread.stderr.count("\n")) == (2, 1)
    assert unread.stderr.startswith("error: ")
    absent = run(program, native.__file__, tmp_path / "no.so", *data)
    assert absent.returncode == 2
    assert f"SO: got {str(tmp_path / 'no.so')!r}, want a file" in absent.stderr
    refused = run(program, native.__file__, *data, "--isa", "neon")
    assert refused.returncode == 1
    assert "isa: got 'neon'" in refused.stderr
    builds = (native.__file__, native.__file__)
    uneven = run(program, *builds, native.__file__, *data, "--isa", "scalar", "--isa", "scalar")
    assert uneven.returncode == 2
    assert "--isa: got 2 of them, want 1 or 3" in uneven.stderr
    best = native.supported_isas()[0]
    isas = run(program, *builds, *data, "--batches", 2, "--isa", best, "--isa", "scalar")
    assert f"({best}): 1.000 times" in isas.stdout
    assert "(scalar): " in isas.stdout
    assert "unequal logits in 0" in isas.stdout
    twice = run(program, *builds, *data, "--batches", 3)
    assert twice.returncode == 0, twice.stderr
    assert twice.stdout.count("times as fast as the first") == 2
    assert "unequal logits in 0" in twice.stdout


def test_timing_the_steps_around_the_engine(tmp_path: Path) -> None:
    pytest.importorskip("bert_rt._native")
    program = ("benchmarks.bench_text", "--data", write_squad(tmp_path / "squad.json", 9))
    result = run(*program, "--limit", 4)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("native, 2 threads, 4 questions\n")
    for step in ("tokenize", "windows", "engine and batching", "decode"):
        assert f"\n{step} " in result.stdout
    refused = run(*program, "--limit", 1)
    assert refused.returncode == 2
    assert "got '1', want an integer of at least 2" in refused.stderr
    few = run(program[0], "--data", write_squad(tmp_path / "one.json", 1))
    assert (few.returncode, few.stderr) == (2, "error: --data: got 1 questions, want at least 2\n")
    absent = run(*program, "--artifact", tmp_path / "none")
    assert (absent.returncode, absent.stderr.count("\n")) == (2, 1)


def run(*argv: object, text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *map(str, argv)],
        cwd=_ROOT,
        input=text,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_stream_of_questions(artifact_dir: Path) -> None:
    text = "".join(json.dumps({"question": q, "context": c}) + "\n" for q, c in PAIRS)
    flags = ("--artifact", artifact_dir, "--engine", "onnxruntime")
    result = run("bert_rt", "answer", *flags, text=text)
    assert (result.returncode, result.stderr) == (0, "")
    for line, (_, context) in zip(result.stdout.splitlines(), PAIRS, strict=True):
        answer = json.loads(line)
        assert context[answer["start"] : answer["end"]] == answer["text"]
    broken = run("runtime.answer", *flags, text="nonsense\n")
    assert (broken.returncode, broken.stdout) == (2, "")
    assert broken.stderr.startswith("error: stdin, line 1: ")
    assert broken.stderr.count("\n") == 1


def test_an_engine_by_a_wrong_name(artifact_dir: Path) -> None:
    flags = ("--artifact", artifact_dir, "--engine", "quantum", "--data", "nothing.json")
    result = run("runtime.evaluate", *flags)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1


def test_doctor(artifact_dir: Path) -> None:
    result = run("runtime.doctor", "--artifact", artifact_dir)
    assert result.returncode == 0, result.stderr
    assert "engine     onnxruntime: can run" in result.stdout


def test_the_demo_answers_with_the_embedded_model() -> None:
    try:
        default_artifact_path()
    except ArtifactNotFoundError:
        pytest.skip("this tree has no embedded default model yet")
    result = run("runtime.demo")
    assert result.returncode == 0, result.stderr
    assert "Linda Morabito" in result.stdout
    assert "(unsure: " in result.stdout


def test_starting_a_runtime_imports_only_its_engine(artifact_dir: Path) -> None:
    code = (
        "import sys; from bert_rt import Runtime\n"
        f"Runtime.load({str(artifact_dir)!r}, engine='onnxruntime')"
        ".answer(question='who', context='the cat')\n"
        "print(sorted({'torch', 'openvino', 'onnx', 'rich', 'asyncio'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=_ROOT, capture_output=True, text=True, timeout=120
    )
    assert result.stdout == "[]\n", result.stderr

"""The whole command on a tiny float artifact, with ONNX Runtime only."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bert_rt.support.cli import run_command
from runtime.bench.__main__ import main
from tests.support.artifacts import write_tiny_artifact
from tests.support.data.squad_file import write_squad

_RATE = ("sequences_per_second", "tokens_per_second", "p50_ms", "p95_ms", "p99_ms")


@pytest.fixture
def arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("RAYON_NUM_THREADS", "1")
    write_tiny_artifact(tmp_path / "art")
    data = write_squad(tmp_path / "squad.json", 9)
    base = ["--artifact", str(tmp_path / "art"), "--data", str(data), "--num-threads", "1"]
    return [*base, "--limit", "6", "--rounds", "2"]


def test_smoke(arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime")
    thresholds = tmp_path / "thresholds.json"
    entry = {"ratio": "native/onnxruntime", "scope": "engine", "minimum": 1}
    thresholds.write_text(json.dumps({"thresholds": [entry]}))
    outputs = {name: tmp_path / f"out.{name}" for name in ("json", "markdown")}
    flags = [part for name, path in outputs.items() for part in (f"--{name}", str(path))]
    code = run_command(
        main,
        [*arguments, *flags, "--engines", "onnxruntime", "--check", str(thresholds)],
    )
    assert code == 1  # The native engine was not asked for, so its ratio does not hold.
    captured = capsys.readouterr()
    assert "native/onnxruntime, engine: was not measured" in captured.err
    assert "text_to_answer" in captured.out
    result = json.loads(outputs["json"].read_text())
    assert {"machine", "results", "ratios"} <= set(result)
    assert {row["scope"] for row in result["results"]} == {"engine", "text_to_answer"}
    assert {row["engine"] for row in result["results"]} == {"onnxruntime"}
    for row in result["results"]:
        assert all(row[name] > 0 for name in _RATE)
        assert row["p50_ms"] <= row["p95_ms"] <= row["p99_ms"]
    assert result["workload"]["questions"] == 6
    assert any(entry["config"] == "dynamic INT8, float" for entry in result["absent"])
    page = outputs["markdown"].read_text()
    assert page.startswith("# bert-rt bench")
    assert "inside the timer: text_to_answer" in page


def test_plot(arguments: list[str], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "out.png"
    flags = ["--engines", "onnxruntime", "--scopes", "engine", "--plot", str(picture)]
    assert run_command(main, [*arguments, *flags]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_an_engine_asked_for_by_name_must_run(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    # It runs INT8 artifacts only; where it is not built at all, that is the reason.
    assert run_command(main, [*arguments, "--engines", "native"]) == 2
    assert "'native' cannot run here" in capsys.readouterr().err


def test_float_configurations_may_be_left_out(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    # The artifact is a float one and nothing else is given: nothing is left.
    assert run_command(main, [*arguments, "--engines", "onnxruntime", "--int8_only"]) == 2
    assert "'onnxruntime' cannot run here" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--engines", "tensorflow"], "--engines: got 'tensorflow'"),
        (["--scopes", "all"], "--scopes: got 'all'"),
        (["--float_artifact", "absent"], "absent"),
        (["--check", "absent.json"], "absent.json"),
        (["--questions_per_context", "9"], "no passage has 9 questions"),
        (["--warm_contexts"], "--warm_contexts: got True, want --split_artifact"),
        (["--max_context_cache_mb", "3"], "--max_context_cache_mb: got 3, want --split_artifact"),
    ],
)
def test_bad_flags(
    arguments: list[str],
    flags: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_command(main, [*arguments, *flags]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("value", ["some", "0", "-1"])
def test_how_many_questions_a_passage_is_a_number_or_all(
    arguments: list[str], value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([*arguments, f"--questions_per_context={value}"])
    assert f"got '{value}', want an integer of at least 1, or all" in capsys.readouterr().err

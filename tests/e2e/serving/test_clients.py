"""Clients of other projects, unchanged: huggingface_hub, tritonclient and schemathesis."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError

from bert_rt.api import Runtime
from tests.support.artifacts import LABELS, write_tiny_artifact, write_tiny_classifier
from tests.support.serving.server import Served, served

_ROOT = Path(__file__).parents[3]
# As in tests/support/serving/triton_client.py, which only the clients' environment can import.
QUESTIONS = ["Where did the cat sit?", "Who sat?"]
CONTEXT = "The caf\u00e9's cat sat on the mat in Paris."


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    mood = tmp_path_factory.mktemp("mood") / "a"
    write_tiny_classifier(mood)
    default = _ROOT / "bert_rt" / "default_model"
    models = [f"--artifact=default={default}", f"--artifact=mood={mood}"]
    with served(["runtime.serve", "--port", "0", *models]) as server:
        yield server


@pytest.fixture(scope="module")
def runtime() -> Iterator[Runtime]:
    with Runtime.load() as runtime:
        yield runtime


def test_huggingface_hub(server: Served, runtime: Runtime) -> None:
    client = InferenceClient(model=f"http://127.0.0.1:{server.port}", token="t")
    want = runtime.answer(QUESTIONS[0], CONTEXT, top_k=2)
    one = client.question_answering(question=QUESTIONS[0], context=CONTEXT)
    assert (one.answer, one.start, one.end) == (want.text, want.start, want.end)
    two = client.question_answering(question=QUESTIONS[0], context=CONTEXT, top_k=2)
    assert [it.answer for it in two] == [want.text, want.alternatives[0].text]
    classes = client.text_classification("the cat", top_k=3)
    assert sorted(it.label for it in classes) == sorted(LABELS)
    with pytest.raises(HfHubHTTPError, match="question: got ' '"):
        client.question_answering(question=" ", context=CONTEXT)


def _client(program: str) -> Path:
    """Return a program of the clients' environment; without it the test is skipped."""
    path = _ROOT / ".venvclients" / "bin" / program
    if not path.is_file():
        if os.environ.get("BERT_RT_REQUIRE_CLIENTS") == "1":
            pytest.fail(f"BERT_RT_REQUIRE_CLIENTS=1, but there is no {path}")
        pytest.skip(f"no {path}: make .venvclients/.made")
    return path


def test_tritonclient(server: Served, runtime: Runtime) -> None:
    python = _client("python")
    script = _ROOT / "tests" / "support" / "serving" / "triton_client.py"
    command = [str(python), str(script), f"127.0.0.1:{server.port}"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert (found["live"], found["ready"], found["model_ready"]) == (True, True, True)
    assert found["not_ready"] is False
    assert found["server"]["name"] == "bert-rt"
    assert [it["name"] for it in found["metadata"]["inputs"]] == ["question", "context"]
    assert found["config"]["output"][0]["data_type"] == "TYPE_STRING"
    assert found["index"][0] == {"name": "default", "version": "1", "state": "READY", "reason": ""}
    want = runtime.answer_batch([(question, CONTEXT) for question in QUESTIONS])
    for form in ("binary", "json", "packed"):
        assert found[form]["answer"] == [it.text for it in want]
        assert found[form]["start"] == [it.start for it in want]
        assert found[form]["end"] == [it.end for it in want]
        assert found[form]["score"] == pytest.approx([it.score for it in want], rel=1e-4)
    (stats,) = found["statistics"]["model_stats"]
    assert stats["inference_stats"]["success"]["count"] >= 3
    assert "want one of default, mood" in found["unknown"][1]
    assert "inputs: got none of the name 'context'" in found["missing"][1]


# This check wants success for whatever the schema allows. What a field must be beyond its schema (a
# question that is not blank, the tensors of a model) is refused by 400, which other tests look at.
_EXCLUDED = "positive_data_acceptance"
# Deadlines of 1 ms are allowed, and what is too late for its own deadline is 504.
_CONFIG = """[checks.not_a_server_error]
expected-statuses = ["2xx", "3xx", "4xx", 504]
"""
_NUM_CASES = 2000


@pytest.mark.timeout(600)
def test_schemathesis(tmp_path: Path) -> None:
    write_tiny_artifact(tmp_path / "squad")
    write_tiny_classifier(tmp_path / "mood")
    models = [f"--artifact={tmp_path / name}" for name in ("squad", "mood")]
    (tmp_path / "schemathesis.toml").write_text(_CONFIG)
    with served(["runtime.serve", "--port", "0", "--no_access_log", *models]) as server:
        command = [str(_client("schemathesis")), "run", "--no-color", "--continue-on-failure"]
        command += ["--max-examples", "105", "--seed", "1", "--checks", "all"]
        command += ["--exclude-checks", _EXCLUDED]
        url = f"http://127.0.0.1:{server.port}/openapi.json"
        result = subprocess.run([*command, url], cwd=tmp_path, capture_output=True, text=True)
        paths = server.ask("/openapi.json")[1]["paths"]
    assert result.returncode == 0, result.stdout
    num_operations = sum(len(set(path) & {"get", "post"}) for path in paths.values())
    assert f"Tested: {num_operations}\n" in f"{result.stdout}\n", result.stdout
    cases = re.findall(r"(\d[\d,]*) generated", result.stdout)
    assert int(cases[0].replace(",", "")) >= _NUM_CASES, result.stdout

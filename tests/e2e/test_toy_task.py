"""A task that only tests know is trained, compiled, verified and asked on every engine.

Nothing else knows of it than one line of each registry: those of bert_rt, compile and train.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch

from bert_rt.api import Runtime
from bert_rt.artifact.artifact import load_artifact
from bert_rt.engines.registry import missing
from bert_rt.errors import ConfigError, InputError
from bert_rt.model.checkpoint import read_config
from bert_rt.support.cli import run_command
from bert_rt.tasks import registry as tasks_registry
from bert_rt.tasks.selftest import LOGIT_ATOL
from compile import export, verify
from compile.tasks import registry as compile_registry
from runtime import doctor, evaluate
from tests.support.toy_task.compiling import CompileWordShares
from tests.support.toy_task.task import COUNTED, WordShares
from tests.support.toy_task.training import TrainWordShares
from tests.support.training import make_checkpoint
from train import finetune
from train.tasks import registry as train_registry

_WORDS = ("the", "cat", "sat", "on", "mat", "in", "paris", "who", "is")
_TEXTS = (
    "the cat sat on the mat",
    "paris is in paris",
    "the mat is the cat in paris",
    "cat on cat",
)


@pytest.fixture(scope="module", autouse=True)
def registered() -> Iterator[None]:
    """Register the task, and forget it afterwards."""
    with (
        patch.dict(tasks_registry._TASKS),
        patch.dict(compile_registry._TASKS),
        patch.dict(train_registry._TASKS),
    ):
        tasks_registry.register(WordShares())
        compile_registry.register(CompileWordShares)
        train_registry.register(TrainWordShares())
        yield


def write_rows(path: Path, count: int, seed: int) -> Path:
    random = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        weights = random.dirichlet(np.full(len(_WORDS), 0.5))
        words = random.choice(_WORDS, random.integers(4, 24), p=weights).tolist()
        shares = [words.count(word) / len(words) for word in COUNTED]
        rows.append(json.dumps({"words": " ".join(words), "shares": shares}))
    path.write_text("\n".join(rows) + "\n")
    return path


# One test trains and one compiles, each a matter of a minute on a machine that does nothing else.
pytestmark = pytest.mark.timeout(900)


@dataclass(frozen=True)
class Made:
    start: Path
    data: dict[str, Path]
    model: Path
    artifact: Path


def run(command: Any, *arguments: object) -> int:
    return run_command(command.main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def trained(registered: None, tmp_path_factory: pytest.TempPathFactory) -> Made:
    place = tmp_path_factory.mktemp("toy")
    counts = {"train": 800, "dev": 150, "calibration": 80}
    data = {
        name: write_rows(place / f"{name}.jsonl", count, seed)
        for seed, (name, count) in enumerate(counts.items())
    }
    result = Made(make_checkpoint(place / "start"), data, place / "model", place / "artifact")
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # more cost more than they save on so small a model
    code = run(
        finetune,
        *("--task", "word-shares", "--model_name_or_path", result.start, "--max_steps", 130),
        *("--train_file", data["train"], "--validation_file", data["dev"]),
        *("--output_dir", result.model, "--huber_delta", 0.5, "--text_field", "words"),
    )
    torch.set_num_threads(num_threads)
    assert code == 0
    return result


@pytest.fixture(scope="module")
def made(trained: Made) -> Made:
    data = trained.data
    code = run(
        export,
        *("--model_name_or_path", trained.model, "--output_dir", trained.artifact, "--int8"),
        *("--calibration_file", data["calibration"], "--eval_file", data["dev"]),
        *("--text_field", "words", "--decimals", 4, "--min_closeness_ratio", 0.97),
        *("--held_out_samples", 20, "--max_seq_length", 40),
    )
    assert code == 0
    return trained


def gold(made: Made) -> np.ndarray:
    rows = [json.loads(line) for line in made.data["dev"].read_text().splitlines()]
    return np.array([row["shares"] for row in rows])


def test_it_is_trained(trained: Made) -> None:
    made = trained
    _, raw = read_config(made.model)
    assert raw["architectures"] == ["BertForWordShares"]
    lines = [json.loads(line) for line in (made.model / "metrics.jsonl").read_text().splitlines()]
    best = max(line["dev_closeness"] for line in lines if "dev_closeness" in line)
    always_mean = 100 * (1 - np.abs(gold(made) - gold(made).mean(axis=0)).mean())
    # At least half of the way from the best constant to what is right.
    assert best > (always_mean + 100) / 2


def test_it_is_compiled_within_its_own_gate(made: Made) -> None:
    manifest = load_artifact(made.artifact).manifest
    assert (manifest.task, manifest.precision) == ("word-shares", "int8")
    assert manifest.limits == {"max_seq_length": 40, "decimals": 4}
    assert manifest.outputs == {"logits": "sequence"}
    assert len(manifest.self_test) == 2
    receipt = manifest.receipt
    assert receipt is not None and receipt["float"]["closeness"] > 90
    assert receipt["int8"].keys() == {"onnxruntime", "openvino", "native"}
    for scores in receipt["int8"].values():
        assert scores["closeness_ratio"] >= 0.97
        assert 0 < scores["distance"] < 0.05


@pytest.mark.parametrize("flags", [(), ("--text_field", "words")])
def test_it_is_verified(
    made: Made, flags: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(verify, "--artifact", made.artifact, "--eval_file", made.data["dev"], *flags)
    out, err = capsys.readouterr()
    if flags:
        assert code == 0
        assert "native: closeness" in out and "onnxruntime: self-test passed, 2 items" in out
    else:
        assert code == 2 and "want 'text' in every line" in err


def results(made: Made, engine: str) -> np.ndarray:
    checkpoint = made.model if engine == "torch" else None
    with Runtime.load(made.artifact, engine=engine, checkpoint=checkpoint) as runtime:
        assert runtime.info.name == engine
        one = [runtime.ask(text) for text in _TEXTS]
        np.testing.assert_allclose(runtime.ask_batch(_TEXTS), one, rtol=0, atol=1e-3)
        assert all(value == round(value, 4) for row in one for value in row)
        with pytest.raises(InputError, match="a word-shares artifact, which is asked with `ask`"):
            runtime.answer("who", "the cat")
    return np.array(one)


@pytest.mark.parametrize("engine", ["native", "onnxruntime", "openvino", "torch", "reference"])
def test_every_engine_gives_the_same(made: Made, engine: str) -> None:
    if engine not in ("torch", "reference"):
        assert missing(engine, load_artifact(made.artifact)) is None
    want = np.array(
        [[text.split().count(word) / len(text.split()) for word in COUNTED] for text in _TEXTS]
    )
    got = results(made, engine)
    assert np.abs(got - want).max() < 0.3
    assert np.abs(got - results(made, "onnxruntime")).max() < min(0.1, LOGIT_ATOL["int8"])


def test_it_is_evaluated(made: Made, tmp_path: Path) -> None:
    code = run(
        evaluate,
        *("--artifact", made.artifact, "--data", made.data["dev"], "--text_field", "words"),
        *("--json", tmp_path / "r.json", "--predictions", tmp_path / "p.json", "--limit", 20),
    )
    assert code == 0
    result = json.loads((tmp_path / "r.json").read_text())
    assert result["total"] == 20 and result["closeness"] > 90
    assert len(json.loads((tmp_path / "p.json").read_text())) == 20


def test_flags_of_other_tasks_are_refused(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--task", "word-shares", "--model_name_or_path", made.start)
    flags = (*flags, "--train_file", made.data["train"], "--output_dir", tmp_path / "o")
    for flag, value, reason in (
        ("doc_stride", 4, "a word-shares model has no such setting; it has max_seq_length, decim"),
        ("label_column", "a", "a data file of word-shares has no such setting; it has text_field"),
        ("teacher_weight", 1, "training for word-shares has no such setting; it has huber_delta"),
    ):
        assert run(finetune, *flags, f"--{flag}", value) == 2
        assert f"{flag}: got" in (err := capsys.readouterr().err) and reason in err
    assert not (tmp_path / "o").exists()


def test_doctor_takes_its_artifact(made: Made) -> None:
    assert run(doctor, "--artifact", made.artifact) == 0


def test_it_is_forgotten_with_its_line(made: Made) -> None:
    with patch.dict(tasks_registry._TASKS):
        del tasks_registry._TASKS["word-shares"]
        with pytest.raises(ConfigError, match="'word-shares', want one of question-answering"):
            tasks_registry.find_task("word-shares")

"""Labels of words from end to end: trained, compiled, verified, asked on every engine."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bert_rt import pipeline
from bert_rt.api import Runtime
from bert_rt.artifact.artifact import load_artifact
from bert_rt.engines.registry import missing
from bert_rt.support.cli import run_command
from compile import export, verify
from runtime import doctor, evaluate, tag
from tests.support.training import make_checkpoint
from tests.unit.train.tasks.test_token_classification import LABELS, rows, write
from train import finetune

TEXT = "The cat, in Paris, sat; the cat sat in cat Paris."
# What the words are trained to mean, whatever stands around them.
WANT = [("cat", "ANI"), ("Paris", "LOC"), ("cat", "ANI"), ("cat", "ANI"), ("Paris", "LOC")]
ENGINES = ("native", "onnxruntime", "openvino", "torch", "reference")

pytestmark = pytest.mark.timeout(900)


@dataclass(frozen=True)
class Made:
    data: dict[str, Path]
    model: Path
    artifact: Path


def run(command: Any, *arguments: object) -> int:
    return run_command(command.main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    place = tmp_path_factory.mktemp("tags")
    counts = {"train": 400, "dev": 120, "calibration": 120}
    data = {
        name: write(place / f"{name}.jsonl", rows(count, seed))
        for seed, (name, count) in enumerate(counts.items())
    }
    result = Made(data, place / "model", place / "artifact")
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # more cost more than they save on so small a model
    code = run(
        finetune,
        *("--task", "token-classification", "--max_steps", 150, "--learning_rate", 3e-3),
        *("--model_name_or_path", make_checkpoint(place / "start"), "--max_seq_length", 24),
        *("--train_file", data["train"], "--validation_file", data["dev"]),
        *("--output_dir", result.model),
    )
    torch.set_num_threads(num_threads)
    assert code == 0
    code = run(
        export,
        *("--model_name_or_path", result.model, "--output_dir", result.artifact, "--int8"),
        *("--calibration_file", data["calibration"], "--eval_file", data["dev"]),
        *("--held_out_samples", 60, "--max_seq_length", 40, "--doc_stride", 8),
        *("--max_entity_f1_loss", 2),
    )
    assert code == 0
    return result


def test_it_is_trained_and_compiled_within_its_gate(made: Made) -> None:
    lines = [json.loads(line) for line in (made.model / "metrics.jsonl").read_text().splitlines()]
    best = max(line["dev_entity_f1"] for line in lines if "dev_entity_f1" in line)
    assert best > 70
    manifest = load_artifact(made.artifact).manifest
    assert (manifest.task, manifest.precision) == ("token-classification", "int8")
    assert manifest.labels == LABELS and manifest.outputs == {"logits": "token"}
    assert manifest.limits == {"max_seq_length": 40, "doc_stride": 8}
    assert len(manifest.self_test) == 4
    receipt = manifest.receipt
    assert receipt is not None and receipt["float"]["entity_f1"] == pytest.approx(best, abs=1)
    assert receipt["int8"].keys() == {"onnxruntime", "openvino", "native"}
    for scores in receipt["int8"].values():
        assert scores["entity_f1_ratio"] > 0.97 and scores["equal_labels"] > 0.97
        low, high = scores["entity_f1_difference_interval"]
        assert -2 < low <= scores["entity_f1_difference"] <= high


def test_it_is_verified_and_evaluated(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(verify, "--artifact", made.artifact, "--eval_file", made.data["dev"]) == 0
    assert "native: entity F1" in capsys.readouterr().out
    assert run(doctor, "--artifact", made.artifact) == 0
    code = run(
        evaluate,
        *("--artifact", made.artifact, "--data", made.data["dev"], "--limit", 30),
        *("--json", tmp_path / "r.json", "--predictions", tmp_path / "p.json"),
    )
    assert code == 0
    result = json.loads((tmp_path / "r.json").read_text())
    assert result["total"] == 30 and set(result["by_entity"]) == {"ANI", "LOC"}
    given = json.loads((tmp_path / "p.json").read_text())
    assert len(json.loads(given["0"])) == len(rows(1, 1)[0]["words"])


@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_finds_the_entities(made: Made, engine: str) -> None:
    if engine not in ("torch", "reference"):
        assert missing(engine, load_artifact(made.artifact)) is None
    checkpoint = made.model if engine == "torch" else None
    with Runtime.load(made.artifact, engine=engine, checkpoint=checkpoint) as runtime:
        assert runtime.info.name == engine
        result = runtime.tag(TEXT)
        # Over several windows, too.
        many = runtime.tag(f"{TEXT} " * 6)
    assert [(entity.text, entity.label) for entity in result.entities] == WANT
    assert [(entity.text, entity.label) for entity in many.entities] == WANT * 6
    for found in (result, many):
        for item in (*found.words, *found.entities):
            assert found.text[item.start : item.end] == item.text


def test_companions_do_not_change_a_label(made: Made) -> None:
    random = np.random.default_rng(4)
    texts = [" ".join(row["words"]) for row in rows(40, 9)]
    with Runtime.load(made.artifact, engine="native", num_threads=1) as runtime:
        alone = [runtime.tag(text) for text in texts]
    with Runtime.load(made.artifact, engine="native", num_threads=2) as runtime:
        for _ in range(5):
            order = random.permutation(len(texts)).tolist()
            got = runtime.tag_batch([texts[index] for index in order])
            assert got == [alone[index] for index in order]  # bits


def test_the_command(
    made: Made, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(tag, "--artifact", made.artifact, "--text", TEXT, "--words") == 0
    (line,) = capsys.readouterr().out.splitlines()
    got = json.loads(line)
    assert [(item["text"], item["label"]) for item in got["entities"]] == WANT
    assert [item["text"] for item in got["words"]][:4] == ["The", "cat", ",", "in"]
    stdin = tmp_path / "stdin"
    lines = [{"id": 7, "text": TEXT}, {"words": ["the", "cat"]}, {"words": "the"}]
    stdin.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with stdin.open() as opened:
        monkeypatch.setattr("sys.stdin", opened)
        assert run(tag, "--artifact", made.artifact) == 2
    out, err = capsys.readouterr()
    first, second = map(json.loads, out.splitlines())
    assert first["id"] == 7 and first["entities"][0]["text"] == "cat"
    assert second["entities"][0]["start"] == 4
    assert "stdin, line 3: words: got str, want a list of words" in err
    stdin.write_text("the cat\n\nparis\n")
    with stdin.open() as opened:
        monkeypatch.setattr("sys.stdin", opened)
        assert run(tag, "--artifact", made.artifact) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_the_pipeline_takes_the_artifact(made: Made) -> None:
    with pipeline("ner", str(made.artifact), aggregation_strategy="simple") as pipe:
        found = pipe(TEXT)
    assert [(item["word"], item["entity_group"]) for item in found] == [
        (word.lower(), kind) for word, kind in WANT
    ]
    assert all(TEXT[item["start"] : item["end"]].lower() == item["word"] for item in found)

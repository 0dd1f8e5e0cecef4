"""Extractive summaries from end to end: trained, compiled, verified, asked on every engine."""

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
from bert_rt.errors import InputError
from bert_rt.model.checkpoint import read_config
from bert_rt.support.cli import run_command
from bert_rt.tasks.selftest import LOGIT_ATOL
from bert_rt.tasks.summarization.rouge import best_rouge
from compile import export, verify
from runtime import evaluate, summarize
from tests.support.training import make_checkpoint
from train import finetune

_WORDS = ("the", "cat", "sat", "on", "mat", "in", "paris", "who", "is", "42")
# The sentence with this word is the summary.
_SIGN = "Unaffable"
TEXT = f"The cat sat. {_SIGN} is paris on the mat!\n\nWho is on it? The cat in paris sat on 42. "
WINDOWS = ("--max_seq_length", 40, "--max_sentences", 1)

pytestmark = pytest.mark.timeout(900)


@dataclass(frozen=True)
class Made:
    data: dict[str, Path]
    model: Path
    artifact: Path


def run(command: Any, *arguments: object) -> int:
    return run_command(command.main, [str(argument) for argument in arguments])


def write(path: Path, count: int, seed: int) -> Path:
    random = np.random.default_rng(seed)
    lines = []
    for _ in range(count):
        sentences = [
            random.choice(_WORDS, random.integers(4, 9)).tolist()
            for _ in range(random.integers(2, 9))
        ]
        best = sentences[int(random.integers(len(sentences)))]
        best[0] = _SIGN
        source = [" ".join(words).capitalize() + "." for words in sentences]
        # A word that no sentence has, so that no summary is perfect.
        lines.append(json.dumps({"source": source, "target": [" ".join([*best, "today"])]}))
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    place = tmp_path_factory.mktemp("summaries")
    counts = {"train": 300, "dev": 80, "calibration": 80}
    data = {
        name: write(place / f"{name}.jsonl", count, seed)
        for seed, (name, count) in enumerate(counts.items())
    }
    result = Made(data, place / "model", place / "artifact")
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # more cost more than they save on so small a model
    code = run(
        finetune,
        *("--task", "summarization", "--max_steps", 360, "--learning_rate", 3e-3, *WINDOWS),
        *("--per_device_train_batch_size", 8, "--dropout", 0),
        *("--model_name_or_path", make_checkpoint(place / "start")),
        *("--train_file", data["train"], "--validation_file", data["dev"]),
        *("--output_dir", result.model),
    )
    torch.set_num_threads(num_threads)
    assert code == 0
    code = run(
        export,
        *("--model_name_or_path", result.model, "--output_dir", result.artifact, "--int8"),
        *("--calibration_file", data["calibration"], "--eval_file", data["dev"], *WINDOWS),
        *("--doc_stride", 10, "--max_sentence_length", 30, "--held_out_samples", 20),
        *("--max_rouge1_loss", 10, "--min_rouge1_ratio", 0.9),
    )
    assert code == 0
    return result


def test_it_is_trained_and_compiled_within_its_gate(made: Made) -> None:
    assert read_config(made.model)[1]["architectures"] == ["BertForExtractiveSummarization"]
    lines = [json.loads(line) for line in (made.model / "metrics.jsonl").read_text().splitlines()]
    best = max(line["dev_rouge1"] for line in lines if "dev_rouge1" in line)
    # The right sentence is found nearly always; the first one of every text gives half as much.
    rows = [json.loads(line) for line in made.data["dev"].read_text().splitlines()]
    leads = [best_rouge(row["source"][0], row["target"])[0] for row in rows]
    assert best > 85 and np.mean(leads) < 50
    manifest = load_artifact(made.artifact).manifest
    assert (manifest.task, manifest.precision, manifest.labels) == ("summarization", "int8", ())
    assert manifest.outputs == {"logits": "token"} and len(manifest.self_test) == 2
    receipt = manifest.receipt
    assert receipt is not None and receipt["float"]["rouge1"] == pytest.approx(best, abs=1)
    for scores in receipt["int8"].values():
        assert scores["rouge1_ratio"] > 0.9 and scores["equal_summaries"] > 0.8


def test_it_is_verified_and_evaluated(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(verify, "--artifact", made.artifact, "--eval_file", made.data["dev"]) == 0
    assert "native: ROUGE-1" in capsys.readouterr().out
    flags = ("--artifact", made.artifact, "--data", made.data["dev"], "--limit", 20)
    assert run(evaluate, *flags, "--json", tmp_path / "r.json") == 0
    result = json.loads((tmp_path / "r.json").read_text())
    assert result["total"] == 20 and 0 < result["rouge2"] < result["rouge1"] < 100


def scores(made: Made, engine: str) -> list[float]:
    checkpoint = made.model if engine == "torch" else None
    with Runtime.load(made.artifact, engine=engine, checkpoint=checkpoint) as runtime:
        assert runtime.info.name == engine
        summary = runtime.summarize(TEXT * 3, max_sentences=99, trigram_blocking=False)
        (best,) = runtime.summarize(TEXT).sentences
    for sentence in summary.sentences:
        assert (TEXT * 3)[sentence.start : sentence.end] == sentence.text
    assert TEXT[best.start : best.end] == best.text
    return [sentence.logit for sentence in summary.sentences]


@pytest.mark.parametrize("engine", ["native", "openvino", "torch", "reference"])
def test_every_engine_gives_the_same_scores(made: Made, engine: str) -> None:
    want, got = scores(made, "onnxruntime"), scores(made, engine)
    assert len(want) == 12 and np.ptp(want) > 0.5
    assert np.abs(np.array(got) - want).max() < LOGIT_ATOL["int8"] / 3


def test_companions_do_not_change_a_score(made: Made) -> None:
    texts = [
        " ".join(json.loads(line)["source"])
        for line in made.data["dev"].read_text().splitlines()[:30]
    ]
    with Runtime.load(made.artifact, engine="native", num_threads=1) as runtime:
        alone = [runtime.summarize(text) for text in texts]
    with Runtime.load(made.artifact, engine="native", num_threads=2) as runtime:
        order = np.random.default_rng(4).permutation(len(texts)).tolist()
        got = runtime.summarize_batch([texts[index] for index in order])
    assert got == [alone[index] for index in order]  # bits


def test_the_command_and_the_pipeline(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(summarize, "--artifact", made.artifact, "--text", TEXT) == 0
    result = json.loads(capsys.readouterr().out)
    (sentence,) = result["sentences"]
    assert result["summary"] == sentence["text"] == TEXT[sentence["start"] : sentence["end"]]
    for model in (made.artifact, made.model):
        with pipeline("summarization", str(model), max_sentences=1) as pipe:
            (made_of_it,) = pipe(TEXT)
            assert made_of_it["summary_text"] in TEXT
            assert len(pipe([TEXT, "The cat."], max_sentences=2)) == 2
            with pytest.raises(InputError, match="num_beams: got 4, which is for models that"):
                pipe(TEXT, num_beams=4)

"""Artifacts of format version 1, written by the code of that time, answer what they answered."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bert_rt.api import Runtime
from bert_rt.artifact.artifact import default_artifact_path, load_artifact
from bert_rt.artifact.manifest import manifest_from_json, manifest_to_json
from bert_rt.errors import ArtifactFormatError
from bert_rt.tasks.limits import AnsweringConfig, SequenceLimits
from bert_rt.tasks.registry import TASKS
from bert_rt.types import PER_SEQUENCE, PER_TOKEN
from tests.kernels.support import ISAS

ROOT = Path(__file__).parent / "artifacts_v1"
# Later tasks have no artifacts of this version.
_TASKS = ("question-answering", "text-classification")
# Rounding of numpy's exp, which differs between processors. All else is compared to the bit.
SCORE_RTOL = 1e-12


def golden(task: str) -> tuple[list[Any], list[dict[str, Any]]]:
    """Return inputs and what they gave."""
    values = json.loads((ROOT / f"{task}.json").read_text())
    inputs = [tuple(item) if isinstance(item, list) else item for item in values["inputs"]]
    return inputs, values["results"]


def assert_same(got: dict[str, Any], want: dict[str, Any]) -> None:
    assert got.keys() == want.keys()
    for name, value in want.items():
        if name == "score":
            np.testing.assert_allclose(got[name], value, rtol=SCORE_RTOL)
        elif name == "alternatives":
            assert len(got[name]) == len(value)
            for one, other in zip(got[name], value, strict=True):
                assert_same(one, other)
        else:
            assert got[name] == value, name


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("task", _TASKS)
def test_the_native_engine_answers_the_same_to_the_bit(
    task: str, isa: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BERT_RT_ISA", isa)
    inputs, results = golden(task)
    assert len(inputs) == len(results) >= 3
    with Runtime.load(ROOT / task, engine="native") as runtime:
        assert (runtime.info.isa, runtime.task.name) == (isa, task)
        assert len(runtime.manifest.self_test) >= 2
        given = runtime.ask_batch(inputs, runtime.options(top_k=3))
    for got, want in zip(given, results, strict=True):
        assert_same(json.loads(json.dumps(dataclasses.asdict(got))), want)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino", "reference"])
@pytest.mark.parametrize("task", _TASKS)
def test_every_engine_opens_them_and_passes_their_self_test(task: str, engine: str) -> None:
    with Runtime.load(ROOT / task, engine=engine) as runtime:
        runtime.ask(golden(task)[0][0])


@pytest.mark.parametrize(
    "path", [*(ROOT / task for task in _TASKS), default_artifact_path()], ids=lambda path: path.name
)
def test_they_are_written_back_as_they_were(path: Path) -> None:
    data = (path / "manifest.json").read_bytes()
    manifest = manifest_from_json(data)
    assert manifest.version == 1 and b'"models"' not in data
    assert manifest_to_json(manifest) == data


def test_what_version_1_means() -> None:
    spans, classes = (load_artifact(ROOT / task).manifest for task in _TASKS)
    assert spans.outputs == {"start_logits": PER_TOKEN, "end_logits": PER_TOKEN}
    assert classes.outputs == {"logits": PER_SEQUENCE}
    assert spans.model.file == classes.model.file == "model.onnx"
    answering = TASKS["question-answering"].read_limits(spans)
    assert isinstance(answering, AnsweringConfig)
    assert (answering.doc_stride, answering.n_best_size) == (12, 10)
    # Classifiers had the limits of windows, too; only one of them means something.
    limits = TASKS["text-classification"].read_limits(classes)
    assert limits == SequenceLimits(max_seq_length=48)


@pytest.mark.parametrize("task", _TASKS)
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"doc_stride": -1}, r"manifest\.limits: .*doc_stride.* got -1"),
        ({"doc_stride": None}, r"manifest\.limits: .*doc_stride.* got None"),
        ({"more": 1}, r"manifest\.limits: got .*, want the fields doc_stride"),
    ],
)
def test_all_limits_of_version_1_are_checked(
    task: str, changes: dict[str, Any], message: str
) -> None:
    values = json.loads((ROOT / task / "manifest.json").read_text())
    values["limits"] |= changes
    with pytest.raises(ArtifactFormatError, match=message):
        TASKS[task].check_manifest(manifest_from_json(json.dumps(values).encode()))


def test_version_1_has_no_field_of_version_2() -> None:
    values = json.loads((ROOT / "question-answering/manifest.json").read_text())
    values["models"] = {"model": {"file": "model.onnx", "outputs": {"a": "token"}}}
    with pytest.raises(ArtifactFormatError, match="top level: got 'models', want no field of ver"):
        manifest_from_json(json.dumps(values).encode())

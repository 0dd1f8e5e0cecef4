"""Tests of Runtime.open: artifacts in memory, and those whose parts do not belong together."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bert_rt.api import Runtime
from bert_rt.artifact.artifact import Artifact, build_artifact, load_artifact
from bert_rt.artifact.manifest import ManifestFields, ModelEntry
from bert_rt.engines.registry import missing
from bert_rt.errors import ArtifactFormatError
from bert_rt.model.config import BertConfig, to_dict
from bert_rt.types import PER_SEQUENCE, PER_TOKEN
from tests.kernels import graphs
from tests.support.artifacts import CLASSIFIER_LIMITS, LABELS, LIMITS, PAIRS, write_tiny_artifact
from tests.support.data.text import VOCAB, make_tokenizer

ENGINES = [
    name
    for name in ("native", "onnxruntime", "openvino", "reference")
    if name in ("native", "reference") or importlib.util.find_spec(name) is not None
]
SPEC = graphs.GraphSpec(
    vocab_size=len(VOCAB),
    hidden_size=16,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=32,
)
GRAPHS = {
    count: graphs.build(dataclasses.replace(SPEC, num_labels=count)).SerializeToString()
    for count in (0, len(LABELS))
}
SPANS = {"start_logits": PER_TOKEN, "end_logits": PER_TOKEN}
CLASSES = {"logits": PER_SEQUENCE}


def artifact_of(task: str, num_labels: int, **fields: Any) -> Artifact:
    """Build an INT8 artifact over a graph with so many classes, or with spans for 0."""
    classifies = task == "text-classification"
    values = ManifestFields(
        task=task,
        architecture=BertConfig(
            vocab_size=len(VOCAB),
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=64,
        ),
        precision="int8",
        limits=to_dict(CLASSIFIER_LIMITS if classifies else LIMITS),
        labels=LABELS if classifies else (),
    )
    file = fields.pop("file", "model.onnx")
    outputs = fields.pop("outputs", CLASSES if classifies else SPANS)
    values["models"] = {"model": ModelEntry(file=file, outputs=outputs)}
    files = {file: GRAPHS[num_labels], "tokenizer.json": make_tokenizer().to_json()}
    return build_artifact(files=files, **{**values, **fields})


def opened(artifact: Artifact, engine: str) -> Runtime:
    assert missing(engine, artifact) is None
    return Runtime.open(artifact, engine=engine, num_threads=1)


@pytest.mark.parametrize("engine", ENGINES)
def test_an_artifact_in_memory(engine: str) -> None:
    artifact = artifact_of("question-answering", 0)
    # Twice: nothing that is only in memory is forgotten.
    for _ in range(2):
        with opened(artifact, engine) as runtime:
            assert runtime.answer(*PAIRS[0]).text in PAIRS[0][1]
            assert runtime.answer(*PAIRS[0]) == runtime.answer(
                question=PAIRS[0][0], context=PAIRS[0][1]
            )


def test_open_is_what_load_does(tmp_path: Path) -> None:
    write_tiny_artifact(tmp_path / "a")
    with (
        Runtime.open(load_artifact(tmp_path / "a"), engine="onnxruntime") as one,
        Runtime.load(tmp_path / "a", engine="onnxruntime") as other,
    ):
        assert one.info == other.info and one.manifest == other.manifest
        assert one.answer_batch(PAIRS) == other.answer_batch(PAIRS)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_graph_is_the_file_that_the_manifest_names(engine: str) -> None:
    named = artifact_of("question-answering", 0, file="spans.onnx")
    assert "model.onnx" not in named.manifest.files
    with (
        opened(named, engine) as one,
        opened(artifact_of("question-answering", 0), engine) as other,
    ):
        assert one.answer_batch(PAIRS) == other.answer_batch(PAIRS)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_order_of_outputs_means_nothing(engine: str) -> None:
    """A manifest that was read has them sorted by name."""
    swapped = dict(reversed(SPANS.items()))
    with (
        opened(artifact_of("question-answering", 0, outputs=swapped), engine) as one,
        opened(artifact_of("question-answering", 0), engine) as other,
    ):
        assert one.answer_batch(PAIRS) == other.answer_batch(PAIRS)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("task", "num_labels", "fields", "message"),
    [
        # The graph against the manifest, in both directions.
        ("text-classification", 0, {}, r"got the outputs .*start_logits.*, want .*\['logits'\]"),
        ("question-answering", 3, {}, r"got the outputs \['logits'\], want .*'start_logits'\]"),
        # The manifest against itself.
        ("text-classification", 3, {"outputs": SPANS}, "outputs: got .*, want 'logits' of kind"),
        ("question-answering", 0, {"outputs": CLASSES}, "outputs: got .*, want 'start_logits' of"),
        (
            "text-classification",
            3,
            {"outputs": {"logits": PER_TOKEN}},
            "outputs: got .*'token'.*, want 'logits' of kind 'sequence' for text-classification",
        ),
        (
            "question-answering",
            0,
            {"outputs": dict.fromkeys(SPANS, PER_SEQUENCE)},
            "outputs: got .*, want 'start_logits' of kind 'token' for question-answering",
        ),
        (
            "question-answering",
            0,
            {"outputs": {**SPANS, "more": PER_TOKEN}},
            "the outputs .*'more'",
        ),
        ("question-answering", 0, {"labels": ("a",)}, "labels: got 1 labels, want none for quest"),
        ("text-classification", 3, {"labels": ()}, "labels: got none, want at least one"),
        # Names against the graph's classes.
        ("text-classification", 3, {"labels": ("no", "yes")}, r"shape \(3,\) for .*, want \(2,\)"),
        ("text-classification", 3, {"labels": (*"abcd",)}, r"shape \(3,\) for .*, want \(4,\)"),
        ("poetry", 0, {}, "manifest.task: got 'poetry', want one of question-answering"),
    ],
)
def test_parts_that_do_not_belong_together(
    engine: str, task: str, num_labels: int, fields: dict[str, Any], message: str
) -> None:
    artifact = artifact_of(task, num_labels, **fields)
    with pytest.raises(ArtifactFormatError, match=message) as caught:
        opened(artifact, engine).close()
    assert type(caught.value) is ArtifactFormatError


@pytest.mark.parametrize("engine", ENGINES)
def test_parts_that_belong_together(engine: str) -> None:
    with opened(artifact_of("text-classification", 3), engine) as runtime:
        assert np.shape(runtime.classify("the cat").logits) == (3,)


@pytest.mark.parametrize("engine", [name for name in ENGINES if name != "native"])
def test_an_output_of_another_kind_than_the_graph_gives(engine: str) -> None:
    """Of an output that no task looks at; the native engine knows its kinds by itself."""
    import onnx

    model = onnx.load_from_string(GRAPHS[0])
    node = onnx.helper.make_node("ReduceMax", ["start_logits"], ["most"], keepdims=0)
    model.graph.node.append(node)
    model.graph.output.append(onnx.helper.make_tensor_value_info("most", 1, []))
    artifact = artifact_of("question-answering", 0, outputs={**SPANS, "most": PER_TOKEN})
    files = {
        "model.onnx": model.SerializeToString(),
        "tokenizer.json": artifact.read("tokenizer.json"),
    }
    fields = {
        field.name: getattr(artifact.manifest, field.name)
        for field in dataclasses.fields(artifact.manifest)
        if field.name not in ("files", "version")
    }
    with pytest.raises(
        ArtifactFormatError, match=r"outputs\.most: got 'token', and the graph give"
    ):
        Runtime.open(build_artifact(files=files, **fields), engine=engine)

"""Small artifacts for tests; the model bytes are not a model, since nothing here runs them."""

from __future__ import annotations

from pathlib import Path

from bert_rt.artifact.artifact import Artifact, ManifestFields, write_artifact
from bert_rt.artifact.manifest import ModelEntry
from bert_rt.model.config import BertConfig, to_dict
from bert_rt.tasks.limits import AnsweringConfig
from bert_rt.types import PER_TOKEN

FILES: dict[str, bytes] = {
    "model.onnx": bytes(range(256)) * 8,
    "tokenizer.json": b'{"version": "1.0"}',
    "report.html": b"<!doctype html>",
}


def sample_fields() -> ManifestFields:
    """Return every field of a question-answering manifest, none of them empty."""
    return ManifestFields(
        task="question-answering",
        architecture=BertConfig(hidden_size=32, num_attention_heads=4, num_hidden_layers=2),
        precision="int8",
        limits=to_dict(AnsweringConfig(max_seq_length=384)),
        models={
            "model": ModelEntry(
                file="model.onnx", outputs={"end_logits": PER_TOKEN, "start_logits": PER_TOKEN}
            )
        },
        quantization={"scheme": "u8s8s32", "activation": "per_tensor", "weight": "per_channel"},
        fusions={"layer_norm": 5, "attention": 2},
        labels=(),
        provenance={"checkpoint_sha256": "0" * 64, "tools": {"onnx": "1.20"}},
        receipt={"dataset": {"name": "squad", "total": 10}, "float": {"f1": 88.25}},
        self_test=(
            {
                "question": "Where?",
                "context": "Here, in Z\u00fcrich.",
                "text": "Z\u00fcrich",
                "start": 9,
                "end": 15,
                "start_logit": 7.5,
                "end_logit": -0.125,
            },
        ),
        score_temperature=1.25,
        extensions={"x_team": ["kernels", None, True]},
    )


def write_sample(directory: Path) -> Artifact:
    """Write a valid artifact."""
    return write_artifact(directory, files=FILES, **sample_fields())

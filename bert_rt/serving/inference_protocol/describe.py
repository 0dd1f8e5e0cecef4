"""What the Open Inference Protocol tells of the server and its models."""

from __future__ import annotations

from typing import Any

import bert_rt
from bert_rt.serving.models import Model, Models

__all__ = ["VERSION", "config", "index", "metadata", "server", "statistics"]

# A model has one version: what was loaded.
VERSION = "1"

_CONFIG_TYPES = {"BYTES": "TYPE_STRING", "FP32": "TYPE_FP32", "INT64": "TYPE_INT64"}
_NO_TIME = {"count": 0, "ns": 0}


def server() -> dict[str, Any]:
    """Describe the server."""
    return {
        "name": "bert-rt",
        "version": bert_rt.__version__,
        "extensions": ["binary_tensor_data", "model_configuration", "model_repository(index)"]
        + ["statistics"],
    }


def metadata(model: Model) -> dict[str, Any]:
    """Describe a model's tensors."""
    form = model.form
    assert model.runtime is not None
    inputs = (*form.inputs, *form.optional_inputs)
    return {
        "name": model.name,
        "versions": [VERSION],
        "platform": f"bert_rt_{model.runtime.info.name}",
        "inputs": [{"name": name, "datatype": "BYTES", "shape": [-1]} for name in inputs],
        "outputs": [
            {"name": name, "datatype": datatype, "shape": [-1]}
            for name, datatype in form.outputs.items()
        ],
    }


def config(model: Model) -> dict[str, Any]:
    """Describe a model as Triton's configuration does."""
    form = model.form
    assert model.runtime is not None
    return {
        "name": model.name,
        "platform": f"bert_rt_{model.runtime.info.name}",
        "backend": "bert_rt",
        "version_policy": {"latest": {"num_versions": 1}},
        "max_batch_size": 0,
        "input": [
            {"name": name, "data_type": "TYPE_STRING", "dims": [-1]}
            | ({"optional": True} if name in form.optional_inputs else {})
            for name in (*form.inputs, *form.optional_inputs)
        ],
        "output": [
            {"name": name, "data_type": _CONFIG_TYPES[datatype], "dims": [-1]}
            for name, datatype in form.outputs.items()
        ],
        "parameters": {
            "task": {"string_value": model.runtime.task.name},
            "max_seq_length": {"string_value": str(model.runtime.limits.max_seq_length)},
        },
    }


def statistics(model: Model) -> dict[str, Any]:
    """Tell how many requests and batches a model has had, as Triton's statistics do."""
    counts = model.counts
    return {
        "name": model.name,
        "version": VERSION,
        "last_inference": int(counts.last_s * 1000),
        "inference_count": counts.num_inputs,
        "execution_count": counts.num_batches,
        "inference_stats": {
            "success": {"count": counts.num_requests, "ns": int(counts.request_s * 1e9)},
            "fail": {"count": counts.num_failed, "ns": int(counts.failed_s * 1e9)},
            "queue": {"count": counts.num_inputs, "ns": int(counts.queue_s * 1e9)},
            "compute_input": {"count": counts.num_inputs, "ns": int(counts.tokenize_s * 1e9)},
            "compute_infer": {"count": counts.num_batches, "ns": int(counts.batch_s * 1e9)},
            "compute_output": _NO_TIME,
            "cache_hit": _NO_TIME,
            "cache_miss": _NO_TIME,
        },
        "batch_stats": [],
    }


def index(models: Models) -> list[dict[str, Any]]:
    """List the models of the repository with their states."""
    states = {"ready": "READY", "loading": "LOADING", "failed": "UNAVAILABLE"}
    return [
        {
            "name": model.name,
            "version": VERSION,
            "state": states.get(model.state, "UNAVAILABLE"),
            "reason": model.error,
        }
        for model in models
    ]

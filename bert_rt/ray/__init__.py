"""Engines on a cluster of Ray: rows of datasets, and the HTTP service.

dataset.map_batches(bert_rt.ray.answerer("ART", num_threads=4), concurrency=8, num_cpus=4)
serve run serve.yaml    # with import_path: bert_rt.ray:app

Needs `pip install 'bert-rt[ray]'`, for `app` 'bert-rt[ray,serve]'.
"""

from __future__ import annotations

from bert_rt.ray.artifacts import open_runtime, put_artifact
from bert_rt.ray.data import answerer
from bert_rt.ray.deployments import app
from bert_rt.ray.scaling import QueueTokens

__all__ = ["QueueTokens", "answerer", "app", "open_runtime", "put_artifact"]

"""The Open Inference Protocol, version 2, as KServe and Triton speak it over HTTP."""

from __future__ import annotations

from bert_rt.serving.inference_protocol.routes import routes

__all__ = ["routes"]

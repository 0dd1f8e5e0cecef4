"""Traces of requests for OpenTelemetry: a span each, with its stages as children.

What the standard variables say holds (OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_SERVICE_NAME,
OTEL_TRACES_SAMPLER, ...). A span holds no text of a caller.
"""

from __future__ import annotations

import time

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bert_rt.serving.middleware import Exchange

__all__ = ["traced"]

# Asked every few seconds by machines.
_UNTRACED = "/health,/v2/health/.*,/metrics"


def traced(application: ASGIApp, processor: SpanProcessor | None = None) -> ASGIApp:
    """Record a span of every request.

    A caller's `traceparent` header makes the span part of the caller's trace.

    Args:
        application: What answers.
        processor: Takes the spans; None sends them by OTLP over HTTP.

    Returns:
        The application, with spans. What is not sent yet is sent as the process ends.
    """
    resource = Resource.create()
    if str(resource.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):
        resource = resource.merge(Resource({SERVICE_NAME: "bert-rt"}))
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(processor or BatchSpanProcessor(OTLPSpanExporter()))
    return OpenTelemetryMiddleware(
        _Described(application, provider.get_tracer("bert_rt")),
        excluded_urls=_UNTRACED,
        exclude_spans=["receive", "send"],
        tracer_provider=provider,
        meter_provider=NoOpMeterProvider(),  # /metrics has the figures
    )


class _Described:
    """Adds to the span of a request what only the service knows."""

    def __init__(self, application: ASGIApp, tracer: trace.Tracer) -> None:
        self._application = application
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        span = trace.get_current_span()

        async def send_described(message: Message) -> None:
            # The span ends with the response, so what is known is said as that begins.
            if message["type"] == "http.response.start":
                self._describe(span, scope["bert_rt.exchange"])
            await send(message)

        await self._application(scope, receive, send_described)

    def _describe(self, span: trace.Span, exchange: Exchange) -> None:
        if not span.is_recording():
            return
        span.update_name(f"{exchange.method} {exchange.route}")
        span.set_attributes(
            {
                "http.route": exchange.route,
                "bert_rt.request_id": exchange.request_id,
                "bert_rt.model": exchange.model,
                "bert_rt.task": exchange.task,
                "bert_rt.inputs": exchange.num_inputs,
            }
        )
        to_epoch_ns = time.time_ns() - time.monotonic_ns()
        for stage in exchange.stages:
            child = self._tracer.start_span(
                stage.name, start_time=round(stage.began_s * 1e9) + to_epoch_ns
            )
            child.end(round(stage.ended_s * 1e9) + to_epoch_ns)

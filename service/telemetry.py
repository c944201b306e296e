"""OpenTelemetry and logs: traces and metrics over OTLP when configured, one JSON object a line on stderr always.

OTLP is on when OTEL_EXPORTER_OTLP_ENDPOINT (or its per-signal form) is set; the OTEL_* variables of the specification
apply. Names follow the semantic conventions of OpenTelemetry 1.45 for rpc, database and HTTP clients.
"""

import json
import logging
import os
import sys
import traceback
from contextvars import ContextVar
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Final
from uuid import uuid4

from opentelemetry import metrics, trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

log_fields: ContextVar[dict[str, str] | None] = ContextVar("log_fields", default=None)
"""What every log line of the current call carries: rpc, tenant, request id."""

TO_PARTNERS: Final = TraceContextTextMapPropagator()
"""Writes what a partner may know of our traces. The baggage that came with a call is for our own services."""


_STANDARD = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """One object a line. An exception is told by type and place: its text may quote a secret or a partner."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update(log_fields.get() or {})
        span = trace.get_current_span().get_span_context()
        if span.is_valid:
            line["trace_id"] = trace.format_trace_id(span.trace_id)
            line["span_id"] = trace.format_span_id(span.span_id)
        line.update({key: value for key, value in vars(record).items() if key not in _STANDARD})
        if record.exc_info and record.exc_info[1] is not None:
            line["exception"] = places(record.exc_info[1])
        return json.dumps(line, default=str, ensure_ascii=True)


def places(error: BaseException) -> list[str]:
    """The chain of exceptions as "Type at file:line in function", innermost frame last, without any message."""
    chain: list[str] = []
    current: BaseException | None = error
    while current is not None and len(chain) < 50:
        chain.append(f"{type(current).__module__}.{type(current).__qualname__}")
        chain += [f"{f.filename}:{f.lineno} in {f.name}" for f in traceback.extract_tb(current.__traceback__)[-15:]]
        current = current.__cause__ or current.__context__
    return chain


def configure_logging(level: str) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # These log headers, peers' texts or every poll; their warnings are ours to raise.
    for noisy in ("aiohttp", "asyncio", "grpc", "opentelemetry", "urllib3"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLevelName(level)))


def configure_telemetry() -> None:
    """Installs the SDK's providers with OTLP exporters for the signals that have an endpoint. Call once."""
    endpoint = os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    traces = endpoint or os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    measures = endpoint or os.environ.get("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT")
    if not traces and not measures:
        return
    from opentelemetry.sdk.resources import Resource

    instance = {"service.instance.id": str(uuid4())}  # so that what several processes measure adds up
    resource = Resource.create({"service.name": "evbridge", "service.version": version("evbridge"), **instance})
    if traces:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        provider = TracerProvider(resource=resource)
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        trace.set_tracer_provider(provider)
    if measures:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

        from service.export import joined

        reader = PeriodicExportingMetricReader(joined(OTLPMetricExporter()))
        metrics.set_meter_provider(MeterProvider(resource=resource, metric_readers=[reader]))


def shutdown_telemetry() -> None:
    """Sends what is still buffered. Blocks for a few seconds at most."""
    for provider in (trace.get_tracer_provider(), metrics.get_meter_provider()):
        shutdown = getattr(provider, "shutdown", None)
        if shutdown is not None:
            shutdown()

"""Measurements as they are exported, and log lines that tell no secret."""

import json
import logging
import math
from typing import Any

import pytest
from opentelemetry.sdk.metrics import Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    ExponentialHistogramDataPoint,
    Metric,
    MetricExporter,
    MetricExportResult,
    MetricsData,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation
from opentelemetry.sdk.trace import TracerProvider

import service.durations
from service.durations import Durations
from service.export import joined
from service.telemetry import JsonFormatter, log_fields


class _Kept(MetricExporter):
    """Keeps what is exported."""

    def __init__(self, **preferred: Any) -> None:
        super().__init__(**preferred)
        self.exported: list[MetricsData] = []

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **options: Any) -> MetricExportResult:
        self.exported.append(metrics_data)
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return True

    def shutdown(self, timeout_millis: float = 30_000, **options: Any) -> None:
        self.exported.clear()


class _Measured:
    """Durations and what a collection tells of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **preferred: Any) -> None:
        monkeypatch.setattr(Durations, "counted_here", False)
        monkeypatch.setattr(Durations, "every", [])
        self._exporter = _Kept(**preferred)
        self._reader = PeriodicExportingMetricReader(joined(self._exporter), export_interval_millis=math.inf)
        self._provider = MeterProvider(metric_readers=[self._reader])
        monkeypatch.setattr(service.durations.metrics, "get_meter", self._provider.get_meter)
        self.durations = Durations("test", "call.duration", "How long.", (0.1, 1.0))
        self._provider.get_meter("test").create_counter("other").add(1)

    def metric(self) -> Metric:
        self._reader.collect()
        (resource,) = self._exporter.exported[-1].resource_metrics
        (metric,) = (each for scope in resource.scope_metrics for each in scope.metrics if each.name != "other")
        return metric

    def points(self) -> dict[Any, Any]:
        points = self.metric().data.data_points
        return {(point.attributes or {}).get("kind"): point for point in points}


_DELTA = {Histogram: AggregationTemporality.DELTA}
_EXPONENTIAL = {Histogram: ExponentialBucketHistogramAggregation()}


@pytest.mark.parametrize("counted_here", [True, False])
def test_a_collection_sees_every_measurement(counted_here: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = _Measured(monkeypatch)
    monkeypatch.setattr(Durations, "counted_here", counted_here)  # what we count is what the SDK would count
    for number in range(1000):
        measured.durations.record(number / 500, {"kind": "even" if number % 2 == 0 else "odd"})
    metric, points = measured.metric(), measured.points()
    assert (metric.name, metric.unit, metric.description) == ("call.duration", "s", "How long.")
    assert {kind: point.count for kind, point in points.items()} == {"even": 500, "odd": 500}
    assert tuple(points["even"].explicit_bounds) == (0.1, 1.0)
    assert tuple(points["even"].bucket_counts) == (26, 225, 249)  # a bound belongs to the bucket below it
    assert (points["odd"].min, points["odd"].max) == (1 / 500, 999 / 500)
    assert points["odd"].sum == pytest.approx(sum(range(1, 1000, 2)) / 500)
    measured.durations.record(0.5, {"kind": "odd"})
    assert measured.points()["odd"].count == 501


@pytest.mark.parametrize("counted_here", [True, False])
def test_a_reader_of_deltas_is_told_what_came_since(counted_here: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = _Measured(monkeypatch, preferred_temporality=_DELTA)
    monkeypatch.setattr(Durations, "counted_here", counted_here)
    measured.durations.record(0.5, {"kind": "a"})
    first = measured.points()["a"]
    measured.durations.record(0.5, {"kind": "a"})
    measured.durations.record(0.5, {"kind": "a"})
    second = measured.points()["a"]
    assert (first.count, second.count) == (1, 2)
    assert second.start_time_unix_nano == first.time_unix_nano


@pytest.mark.parametrize("counted_here", [True, False])
def test_a_value_of_a_sampled_trace_is_its_example(counted_here: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = _Measured(monkeypatch)
    monkeypatch.setattr(Durations, "counted_here", counted_here)
    measured.durations.record(0.2, {"kind": "a"})
    with TracerProvider().get_tracer("test").start_as_current_span("call") as span:
        measured.durations.record(0.3, {"kind": "a"})
    (example,) = measured.points()["a"].exemplars
    context = span.get_span_context()
    assert (example.value, example.trace_id, example.span_id) == (0.3, context.trace_id, context.span_id)


def test_attributes_without_end_are_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = _Measured(monkeypatch)
    for number in range(2005):
        measured.durations.record(0.5, {"kind": str(number)})
    points = measured.points()
    assert len(points) == 2001
    assert (points[None].count, points[None].attributes) == (5, {"otel.metric.overflow": True})


@pytest.mark.parametrize("exponential", [True, False])
def test_what_needs_more_than_buckets_the_sdk_counts(exponential: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not exponential:
        monkeypatch.setenv("OTEL_METRICS_EXEMPLAR_FILTER", "always_on")
    measured = _Measured(monkeypatch, preferred_aggregation=_EXPONENTIAL if exponential else None)
    assert not Durations.counted_here
    measured.durations.record(0.5, {"kind": "a"})
    assert isinstance(measured.points()["a"], ExponentialHistogramDataPoint) == exponential


def _line(**changes: object) -> dict[str, object]:
    record = logging.makeLogRecord({"name": "n", "levelname": "INFO", "msg": "m", **changes})
    text = JsonFormatter().format(record)
    assert "\n" not in text
    line: dict[str, object] = json.loads(text)
    return line


def test_a_line_is_one_json_object_whatever_it_says() -> None:
    token = log_fields.set({"rpc": "a/b", "request_id": 'x\r\n\x1b[31m"}{'})
    try:
        line = _line(msg="%s", args=("line\nbreak \x1b[0m",), code="OK")
    finally:
        log_fields.reset(token)
    assert line["message"] == "line\nbreak \x1b[0m"
    assert (line["rpc"], line["code"], line["request_id"]) == ("a/b", "OK", 'x\r\n\x1b[31m"}{')


def test_an_exception_is_told_by_type_and_place_and_not_by_its_text() -> None:
    try:
        try:
            raise ValueError("password=hunter2")
        except ValueError as cause:
            raise RuntimeError("hunter2 again") from cause
    except RuntimeError as error:
        line = _line(exc_info=(type(error), error, error.__traceback__))
    assert "hunter2" not in json.dumps(line)
    assert "builtins.RuntimeError" in line["exception"]
    assert "builtins.ValueError" in line["exception"]

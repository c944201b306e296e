"""Measurements in batches, and log lines that tell no secret."""

import json
import logging

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader

from service import telemetry
from service.telemetry import Durations, JsonFormatter, log_fields


@pytest.mark.parametrize("count", [1, 63, 64, 65, 1000])
def test_a_collection_sees_every_measurement_and_no_second_metric(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider(metric_readers=[reader])
    monkeypatch.setattr(telemetry.metrics, "get_meter", provider.get_meter)
    durations = Durations("test", "call.duration", "How long.", (0.1, 1.0))
    for number in range(count):
        durations.record(0.5, {"kind": "a" if number else "b"})
    data = reader.get_metrics_data()
    assert data is not None
    (metric,) = data.resource_metrics[0].scope_metrics[0].metrics
    points = [point for point in metric.data.data_points if isinstance(point, HistogramDataPoint)]
    assert metric.name == "call.duration"
    assert metric.unit == "s"
    assert sum(point.count for point in points) == count
    assert {point.attributes["kind"]: point.count for point in points}["b"] == 1
    assert all(tuple(point.explicit_bounds) == (0.1, 1.0) for point in points)
    provider.shutdown()


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

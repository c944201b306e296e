"""An exporter to which the durations are joined that this process counts itself.

OpenTelemetry lets nothing enter its SDK that is counted already; what an exporter is given is plain data.
"""

import os
import time
from dataclasses import replace
from typing import Any

from opentelemetry.sdk.metrics import Exemplar, Histogram
from opentelemetry.sdk.metrics import export as sdk
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from service.durations import Durations, Series


def joined(exporter: sdk.MetricExporter) -> sdk.MetricExporter:
    """The exporter with all `Durations`, or as it is: what is not counted in given buckets the SDK counts.

    So it does where the settings name other exemplars than those of traces.
    """
    aggregation = (exporter._preferred_aggregation or {}).get(Histogram)
    exemplars = os.environ.get("OTEL_METRICS_EXEMPLAR_FILTER", "trace_based")
    if isinstance(aggregation, ExponentialBucketHistogramAggregation) or exemplars != "trace_based":
        return exporter
    Durations.counted_here = True
    return _Joined(exporter)


class _Joined(sdk.MetricExporter):
    def __init__(self, exporter: sdk.MetricExporter) -> None:
        preferred = exporter._preferred_temporality or {}
        super().__init__(preferred, exporter._preferred_aggregation)
        self._exporter = exporter
        self._temporality = preferred.get(Histogram, sdk.AggregationTemporality.CUMULATIVE)
        self._start_ns = time.time_ns()

    def export(
        self, metrics_data: sdk.MetricsData, timeout_millis: float = 10_000, **options: Any
    ) -> sdk.MetricExportResult:
        if metrics_data.resource_metrics:
            first, *others = metrics_data.resource_metrics
            metrics_data = sdk.MetricsData(
                [replace(first, scope_metrics=[*first.scope_metrics, *self._durations()]), *others]
            )
        return self._exporter.export(metrics_data, timeout_millis=timeout_millis, **options)

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return self._exporter.force_flush(timeout_millis)

    def shutdown(self, timeout_millis: float = 30_000, **options: Any) -> None:
        self._exporter.shutdown(timeout_millis, **options)

    def _durations(self) -> list[sdk.ScopeMetrics]:
        start_ns, now_ns = self._start_ns, time.time_ns()
        anew = self._temporality is sdk.AggregationTemporality.DELTA
        scopes = []
        for each in Durations.every:
            with each.counted(anew=anew) as counted:
                points = [_point(each, dict(key), series, start_ns, now_ns) for key, series in counted.items()]
            if points:
                data = sdk.Histogram(points, self._temporality)
                metric = sdk.Metric(each.name, each.description, "s", data)
                scopes.append(sdk.ScopeMetrics(InstrumentationScope(each.scope), [metric], ""))
        if anew:
            self._start_ns = now_ns
        return scopes


def _point(
    durations: Durations, attributes: dict[str, Any], series: Series, start_ns: int, now_ns: int
) -> sdk.HistogramDataPoint:
    return sdk.HistogramDataPoint(
        attributes=attributes,
        start_time_unix_nano=start_ns,
        time_unix_nano=now_ns,
        count=sum(series.counts),
        sum=series.total,
        bucket_counts=tuple(series.counts),
        explicit_bounds=durations.boundaries,
        min=series.lowest,
        max=series.highest,
        exemplars=[
            Exemplar({}, seconds, time_ns, span.span_id, span.trace_id)
            for seconds, time_ns, span in series.exemplars.values()
        ],
    )

"""Histograms of durations, which are measured several times in every call."""

import math
import threading
import time
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import ClassVar, Final

from opentelemetry import metrics, trace

Attributes = tuple[tuple[str, str | bool], ...]


class Series:
    """What a histogram counted for one set of attributes: in each bucket, and in all."""

    __slots__ = ("counts", "exemplars", "highest", "lowest", "total")

    def __init__(self, buckets: int) -> None:
        self.counts = [0] * buckets
        self.exemplars: dict[int, tuple[float, int, trace.SpanContext]] = {}
        """By bucket, the last value that belongs to a trace, and when it was measured."""
        self.lowest, self.highest, self.total = math.inf, 0.0, 0.0

    def add(self, bucket: int, seconds: float) -> None:
        self.counts[bucket] += 1
        self.total += seconds
        if seconds < self.lowest:
            self.lowest = seconds
        if seconds > self.highest:
            self.highest = seconds
        if (span := trace.get_current_span()) is not trace.INVALID_SPAN:
            context = span.get_span_context()
            if context.trace_flags.sampled:
                self.exemplars[bucket] = (seconds, time.time_ns(), context)


class Durations:
    """A histogram of seconds. OpenTelemetry's SDK counts, or for an exporter that joins it (`service.export`) we do.

    The SDK takes 10 to 20 us for a measurement, so that the two of a read cost a sixth of it; here they take one.
    """

    counted_here: ClassVar[bool] = False
    every: ClassVar[list["Durations"]] = []
    _MOST: Final = 2000
    """Sets of attributes. What comes with further ones is counted together, as the SDK does it."""
    _FURTHER: Final = (("otel.metric.overflow", True),)

    def __init__(self, scope: str, name: str, description: str, boundaries: Sequence[float]) -> None:
        self.scope, self.name, self.description, self.boundaries = scope, name, description, tuple(boundaries)
        self._histogram = metrics.get_meter(scope).create_histogram(
            name, unit="s", description=description, explicit_bucket_boundaries_advisory=boundaries
        )
        self._lock = threading.Lock()
        self._series: dict[Attributes, Series] = {}
        self.every.append(self)

    def record(self, seconds: float, attributes: Mapping[str, str]) -> None:
        if not self.counted_here:
            self._histogram.record(seconds, attributes)
            return
        key = tuple(attributes.items())
        bucket = bisect_left(self.boundaries, seconds)
        with self._lock:  # the thread that exports reads meanwhile
            series = self._series.get(key) or self._begun(key)
            series.add(bucket, seconds)

    def _begun(self, key: Attributes) -> Series:
        key = key if len(self._series) < self._MOST else self._FURTHER
        return self._series.setdefault(key, Series(len(self.boundaries) + 1))

    @contextmanager
    def counted(self, *, anew: bool) -> Iterator[Mapping[Attributes, Series]]:
        """What was counted, which stays as it is meanwhile; with `anew` counting begins at nothing afterwards."""
        with self._lock:
            yield self._series
            if anew:
                self._series = {}
            for series in self._series.values():
                series.exemplars = {}

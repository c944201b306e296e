"""When a tariff holds, and which do at the same time. Pure.

A connector has one of a type at a time, and having none is a type of its own. Source: OCPI 2.2.1, locations, Connector.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import pairwise

from evbridge.v1.tariff_pb2 import Tariff, TariffType
from google.protobuf.timestamp_pb2 import Timestamp

_ALWAYS = 1 << 62


def end_of(tariff: Tariff | None) -> datetime | None:
    """None for one without an end."""
    if tariff is None or not tariff.HasField("end_date_time"):
        return None
    return tariff.end_date_time.ToDatetime(UTC)


def has_ended(tariff: Tariff, at: datetime) -> bool:
    end = end_of(tariff)
    return end is not None and end <= at


def validity(tariff: Tariff) -> tuple[TariffType.ValueType, int, int]:
    """Its type, and from when until before when it holds, in nanoseconds."""
    return tariff.type, _time(tariff, "start_date_time", -_ALWAYS), _time(tariff, "end_date_time", _ALWAYS)


def are_together(one: Tariff, other: Tariff) -> bool:
    """Whether both hold at some instant for the same type of session."""
    (type, start, end), (other_type, other_start, other_end) = validity(one), validity(other)
    return type == other_type and start < other_end and other_start < end


def first_together(tariffs: Iterable[Tariff]) -> tuple[Tariff, Tariff] | None:
    """Two that are; None when no two are."""
    ordered = sorted(tariffs, key=validity)
    return next((pair for pair in pairwise(ordered) if are_together(*pair)), None)


def _time(tariff: Tariff, name: str, otherwise: int) -> int:
    time: Timestamp = getattr(tariff, name)
    return time.ToNanoseconds() if tariff.HasField(name) else otherwise  # type: ignore[arg-type]

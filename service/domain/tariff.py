"""When a tariff holds. Pure."""

from datetime import UTC, datetime

from evbridge.v1.tariff_pb2 import Tariff


def end_of(tariff: Tariff | None) -> datetime | None:
    """None for one without an end."""
    if tariff is None or not tariff.HasField("end_date_time"):
        return None
    return tariff.end_date_time.ToDatetime(UTC)


def has_ended(tariff: Tariff, at: datetime) -> bool:
    end = end_of(tariff)
    return end is not None and end <= at

"""The bytes of an EVSE, made so that SQL can give it another status without parsing them.

They are a serialized Location that holds nothing but the EVSE. What a status report changes stands at their end in a
known number of bytes: last_updated in 14, status_time in 15, the status in 2. Varints in it are as long as the highest,
which every parser reads. So is the length in front, as no serializer writes it: that tells these bytes from those that
an earlier build wrote, which are as good to read. `evse_report` in location.sql counts on all this.
"""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

from evbridge.v1.location_pb2 import Evse, EvseStatus, Location
from google.protobuf.timestamp_pb2 import Timestamp

_NUMBER_BYTES: Final = 5
_HIGHEST: Final = (1 << 7 * _NUMBER_BYTES) - 1
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

_VARINT, _MESSAGE = 0, 2
_TIME_BYTES: Final = bytes([2 + 2 * _NUMBER_BYTES])


def _tag(number: int, wire_type: int) -> bytes:
    low, high = (number << 3 | wire_type) & 0x7F, number >> 4
    return bytes([low | 0x80, high]) if high else bytes([low])


def _tag_of(message: type[Evse | Location | Timestamp], field: str, wire_type: int) -> bytes:
    return _tag(message.DESCRIPTOR.fields_by_name[field].number, wire_type)


_EVSE: Final = _tag_of(Location, "evses", _MESSAGE)
_LAST_UPDATED: Final = _tag_of(Evse, "last_updated", _MESSAGE) + _TIME_BYTES
_STATUS_TIME: Final = _tag_of(Evse, "status_time", _MESSAGE) + _TIME_BYTES
_STATUS: Final = _tag_of(Evse, "status", _VARINT)
_SECONDS: Final = _tag_of(Timestamp, "seconds", _VARINT)
_NANOS: Final = _tag_of(Timestamp, "nanos", _VARINT)


def evse_payload(evse: Evse) -> bytes:
    """Without both its times, or with one before 1970, an EVSE is written as protobuf writes it."""
    times = (evse.last_updated, evse.status_time)
    whole = evse.HasField("last_updated") and evse.HasField("status_time")
    if not whole or not all(0 <= time.seconds <= _HIGHEST for time in times):
        return Location(evses=[evse]).SerializeToString()
    rest = Evse()
    rest.CopyFrom(evse)
    for field in ("last_updated", "status_time", "status"):
        rest.ClearField(field)
    written = rest.SerializeToString()
    last_updated, status_time = (_joined_time(time.seconds, time.nanos) for time in times)
    tail = _joined(last_updated, status_time, evse.status)
    return _EVSE + _number(len(written) + len(tail)) + written + tail


def evse_tail(status: EvseStatus.ValueType, status_time: datetime, last_updated: datetime) -> bytes:
    """The last bytes of an EVSE that has this status. A status older than 1970 is written as of then."""
    return _joined(_time(last_updated), _time(status_time), status)


def _joined(last_updated: bytes, status_time: bytes, status: int) -> bytes:
    return _LAST_UPDATED + last_updated + _STATUS_TIME + status_time + _STATUS + bytes([status])


@lru_cache
def _time(time: datetime) -> bytes:
    seconds, rest = divmod(max(time - _EPOCH, timedelta()), timedelta(seconds=1))
    return _joined_time(seconds, rest.microseconds * 1000)


def _joined_time(seconds: int, nanos: int) -> bytes:
    return _SECONDS + _number(seconds) + _NANOS + _number(nanos)


def _number(number: int) -> bytes:
    """A varint of just _NUMBER_BYTES."""
    low = number & 0x7F | 0x80, number >> 7 & 0x7F | 0x80, number >> 14 & 0x7F | 0x80, number >> 21 & 0x7F | 0x80
    return bytes((*low, number >> 28))

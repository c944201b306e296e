"""What stands in a partner's view of an object, after what stood there before. Pure.

The object itself is updated when its view is; the times of its EVSEs and connectors are those of the parts, but of one
that rules changed it is the time of the view.
"""

from collections.abc import Iterable
from typing import Any, TypeVar

from evbridge.v1.location_pb2 import EVSE_STATUS_REMOVED, Connector, Evse, Location
from evbridge.v1.tariff_pb2 import Tariff
from evbridge.v1.token_pb2 import Token
from google.protobuf.timestamp_pb2 import Timestamp

M = TypeVar("M", Location, Tariff, Token)
P = TypeVar("P", Evse, Connector)

_OURS: tuple[Any, ...] = ("create_time", "etag", "last_updated", "origin", "overrides")


def tariff_shown(seen: Tariff | None) -> Tariff | None:
    """None: the partner is not shown it any more."""
    return _bare(seen) if seen else None


def token_shown(seen: Token | None, before: Token | None) -> Token | None:
    """One that was shown and is not any more is invalid, for OCPI knows no other way. None: it was never shown."""
    if seen is None and before is None:
        return None
    shown = _bare(seen or before or Token())
    shown.valid = shown.valid and seen is not None
    return shown


def location_shown(seen: Location | None, before: Location | None, now: Timestamp) -> Location | None:
    """EVSEs that were shown and are not any more are REMOVED, for OCPI knows no other way. None: it was never shown."""
    if seen is None and before is None:
        return None
    shown = _bare(seen or before or Location())
    if seen is None:
        del shown.evses[:]
    there = {evse.uid.casefold() for evse in shown.evses}
    for evse in before.evses if before else ():
        if evse.uid.casefold() not in there:
            gone = shown.evses.add()
            gone.CopyFrom(evse)
            gone.status = EVSE_STATUS_REMOVED
            for connector in gone.connectors:
                del connector.tariff_ids[:]
    _keep_times(shown.evses, {evse.uid.casefold(): evse for evse in before.evses} if before else {}, now)
    return shown


def _bare(object: M) -> M:
    """Without what concerns us alone."""
    bare = type(object)()
    bare.CopyFrom(object)
    for name in _OURS:
        if name in bare.DESCRIPTOR.fields_by_name:
            bare.ClearField(name)
    return bare


def _keep_times(evses: Iterable[Evse], before: dict[str, Evse], now: Timestamp) -> None:
    """Parts that say what they said have the times that they had; of others it is later than that."""
    for evse in evses:
        if held := before.get(evse.uid.casefold()):
            connectors = {connector.id.casefold(): connector for connector in held.connectors}
            for connector in evse.connectors:
                if same := connectors.get(connector.id.casefold()):
                    _keep_time(connector, same, now)
            _keep_time(evse, held, now)


def _keep_time(part: P, before: P, now: Timestamp) -> None:
    if _timeless(part) == _timeless(before):
        part.last_updated.CopyFrom(before.last_updated)
    elif part.last_updated.ToNanoseconds() <= before.last_updated.ToNanoseconds():
        part.last_updated.CopyFrom(now)


def _timeless(part: P) -> P:
    copy = type(part)()
    copy.CopyFrom(part)
    copy.ClearField("last_updated")
    if isinstance(copy, Evse):
        for connector in copy.connectors:
            connector.ClearField("last_updated")
    return copy

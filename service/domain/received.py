"""Documents that a partner sent: how parts of one are put into what is kept of it, and which of two is newer."""

from collections.abc import Iterable
from typing import Any, TypeGuard

from evbridge.v1.cdr_pb2 import Cdr
from evbridge.v1.hub_client_pb2 import HubClient
from evbridge.v1.invoice_reconciliation_pb2 import InvoiceReconciliationRecord
from evbridge.v1.location_pb2 import Connector, Evse, Location
from evbridge.v1.session_pb2 import Session
from evbridge.v1.tariff_pb2 import Tariff
from evbridge.v1.token_pb2 import Token
from google.protobuf.timestamp_pb2 import Timestamp

from service.domain.fields import clear_output_only
from service.domain.keys import is_segment

Document = dict[str, Any]
"""A JSON object, with exact numbers."""

_Message = Location | Tariff | Evse | Token | HubClient | Session | Cdr | InvoiceReconciliationRecord

_MAX_ID = 255
ID_RULE = f"a text of 1 to {_MAX_ID} printable characters that can stand in a URL"
_LISTS = {"evses": "uid", "connectors": "id"}
"""Lists of which each item has an id of its own: what is left out stays."""


def is_text(text: str) -> bool:
    """Whether a database takes it: no NUL, and no half of a character."""
    return not any(each == "\0" or "\ud800" <= each <= "\udfff" for each in text)


def is_id(value: Any) -> TypeGuard[str]:
    """Whether an object of that id can be kept, and asked for at a URL that holds the id."""
    if not isinstance(value, str) or len(value) > _MAX_ID:
        return False
    return bool(value.strip()) and value.isprintable() and is_segment(value)


def merged(kept: Document, patch: Document) -> Document:
    """What is kept with the members of the patch: objects are merged, null removes a member, lists are replaced.

    EVSEs and connectors are merged by their ids.
    """
    result = dict(kept)
    for name, value in patch.items():
        before = result.get(name)
        if value is None:
            result.pop(name, None)
        elif isinstance(value, dict) and isinstance(before, dict):
            result[name] = merged(before, value)
        elif name in _LISTS and isinstance(value, list) and isinstance(before, list):
            for item in value:
                before = with_item(before, item, name, patch=True)
            result[name] = before
        else:
            result[name] = value
    return result


def session_merged(kept: Document, patch: Document, version: str) -> Document:
    """A session with a patch, whose charging periods are added: one that begins when another did takes its place.

    Of a patch that is older than the session they are all that is taken. In 2.1.1, whose text says nothing of it, a
    list is replaced as any other member. Source: OCPI 2.2.1, sessions, PATCH method.
    """
    added = patch.get("charging_periods")
    if version == "2.1.1" or not isinstance(added, list):
        return merged(kept, patch)
    held = kept.get("charging_periods")
    periods = {_start(each, number): each for number, each in enumerate(held if isinstance(held, list) else ())}
    newer = str(patch.get("last_updated", "")) >= str(kept.get("last_updated", ""))
    for number, each in enumerate(added, len(periods)):
        start = _start(each, number)
        if newer or start not in periods:
            periods[start] = each
    others = {name: value for name, value in patch.items() if name != "charging_periods"}
    return (merged(kept, others) if newer else kept) | {"charging_periods": [periods[each] for each in sorted(periods)]}


def _start(period: Any, number: int) -> tuple[str, int]:
    """Where a charging period stands; those that do not say when they began keep their order."""
    start = period.get("start_date_time") if isinstance(period, dict) else None
    return (start.removesuffix("Z"), 0) if isinstance(start, str) else ("", number)


def with_item(items: list[Any], item: Any, name: str, *, patch: bool) -> list[Any]:
    """The items of the list called `name` with one in the place of that of its id, merged with it if it is a patch."""
    for place, other in enumerate(items):
        if item_id(other, name) == item_id(item, name):
            return [*items[:place], merged(other, item) if patch else item, *items[place + 1 :]]
    return [*items, item]


def item(items: Any, name: str, id: str) -> Document | None:
    """The item of that id, in any case."""
    found = (each for each in items if item_id(each, name) == id.casefold()) if isinstance(items, list) else ()
    return next(iter(found), None)


def item_id(item: Any, name: str) -> str:
    """The folded id of an item; "" when it has none."""
    id = item.get(_LISTS[name]) if isinstance(item, dict) else None
    return id.casefold() if isinstance(id, str) else ""


def cleared(message: _Message) -> None:
    """Takes out what only we set; the partner's times stay, and a tariff's members that are not understood.

    A time before 1970, such as .NET's 0001-01-01, is taken for 1970: asyncpg makes that one -infinity.
    """
    times = [(part, part.last_updated) for part in _parts(message) if part.HasField("last_updated")]
    kept = [(part, Timestamp(seconds=max(time.seconds, 0), nanos=time.nanos)) for part, time in times]
    tariffs = [message] if isinstance(message, Tariff) else message.tariffs if isinstance(message, Cdr) else ()
    not_understood = [[*tariff.not_understood] for tariff in tariffs]
    message.DiscardUnknownFields()
    clear_output_only(message)
    for part, time in kept:
        part.last_updated.CopyFrom(time)
    for tariff, pointers in zip(tariffs, not_understood, strict=True):
        tariff.not_understood.extend(pointers)


def settle_times(evse: Evse, otherwise: Timestamp) -> None:
    """An EVSE is as new as its newest connector; a part without a time is as old as what it stands in."""
    if not evse.HasField("last_updated"):
        evse.last_updated.CopyFrom(otherwise)
    for connector in evse.connectors:
        if not connector.HasField("last_updated"):
            connector.last_updated.CopyFrom(evse.last_updated)
        if is_older(evse.last_updated, connector.last_updated):
            evse.last_updated.CopyFrom(connector.last_updated)


def is_older(time: Timestamp, other: Timestamp) -> bool:
    return (time.seconds, time.nanos) < (other.seconds, other.nanos)


def _parts(message: _Message) -> Iterable[Any]:
    yield message
    if isinstance(message, Cdr):
        yield from message.tariffs
    evses: Iterable[Evse] = message.evses if isinstance(message, Location) else ()
    for evse in [message] if isinstance(message, Evse) else evses:
        if evse is not message:
            yield evse
        connectors: Iterable[Connector] = evse.connectors
        yield from connectors

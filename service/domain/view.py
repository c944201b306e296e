"""What stands in a partner's view of an object, after what stood there before. Pure.

The object itself is updated when its view is; the times of its EVSEs and connectors are those of the parts, but of one
that rules changed it is the time of the view.
"""

from collections.abc import Iterable
from typing import Any, TypeVar

from evbridge.v1.cdr_pb2 import Cdr
from evbridge.v1.hub_client_pb2 import HUB_CLIENT_STATUS_SUSPENDED, HubClient
from evbridge.v1.invoice_reconciliation_pb2 import InvoiceReconciliationRecord
from evbridge.v1.location_pb2 import EVSE_STATUS_REMOVED, Connector, Evse, Location
from evbridge.v1.pricing_pb2 import CDR_DIMENSION_TYPE_STATE_OF_CHARGE
from evbridge.v1.session_pb2 import Session
from evbridge.v1.tariff_pb2 import Tariff
from evbridge.v1.token_pb2 import Token
from google.protobuf.timestamp_pb2 import Timestamp

M = TypeVar("M", Location, Tariff, Token, Session, Cdr, InvoiceReconciliationRecord, HubClient)
P = TypeVar("P", Evse, Connector)

_OURS: tuple[Any, ...] = (
    *("create_time", "etag", "last_updated", "origin", "overrides"),
    *("charging_preferences", "recipient_integration_id"),
)


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


def hub_client_shown(seen: HubClient | None, before: HubClient | None) -> HubClient | None:
    """One that was shown and is not connected any more is SUSPENDED, for a hub deletes none."""
    if seen is None and before is None:
        return None
    shown = _bare(seen or before or HubClient())
    if seen is None:
        shown.status = HUB_CLIENT_STATUS_SUSPENDED
    return shown


def session_shown(
    seen: Session, before: Session | None, location: Location | None, *, state_of_charge: bool
) -> Session:
    """With where it is, as it was when it was first shown; without the state of charge where that is not told."""
    shown = _bare(seen)
    if before and before.HasField("location") and _place(before) == _place(seen):
        shown.location.CopyFrom(before.location)
    elif location:
        shown.location.CopyFrom(_bare(location))
        shown.location.last_updated.CopyFrom(location.last_updated)
        _keep_items(shown.location.evses, "uid", seen.evse_uid)
        for evse in shown.location.evses:
            _keep_items(evse.connectors, "id", seen.connector_id)
    for period in () if state_of_charge else shown.charging_periods:
        told = [each for each in period.dimensions if each.type != CDR_DIMENSION_TYPE_STATE_OF_CHARGE]
        if len(told) < len(period.dimensions):
            del period.dimensions[:]
            period.dimensions.extend(told)
    return shown


def cdr_shown(seen: Cdr) -> Cdr:
    return _bare(seen)


def invoice_reconciliation_shown(seen: InvoiceReconciliationRecord | None) -> InvoiceReconciliationRecord | None:
    """None: the partner is not shown it any more."""
    return _bare(seen) if seen else None


def _place(session: Session) -> tuple[str, ...]:
    return session.location_id, session.evse_uid, session.connector_id


def _keep_items(items: Any, name: str, id: str) -> None:
    kept = [each for each in items if getattr(each, name).casefold() == id.casefold()]
    del items[:]
    items.extend(kept)


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

"""What a location is when it is stored again: EVSEs that stay, times that move only with what changed, statuses."""

from collections.abc import Collection, Iterator
from datetime import datetime, timedelta

from evbridge.v1.location_pb2 import EVSE_STATUS_REMOVED, Connector, Evse, EvseStatusReport, Location
from google.protobuf.timestamp_pb2 import Timestamp

from service.domain.content import etag_of
from service.domain.keys import ObjectKey, key_of
from service.errors import InvalidArgument

_AHEAD = timedelta(minutes=5)


def keep_evses(location: Location, before: Location) -> None:
    """An EVSE or connector keeps the first spelling of its id; an EVSE that was left out stays, as REMOVED."""
    stored = _evses(before)
    for evse in location.evses:
        if old := stored.pop(evse.uid.casefold(), None):
            evse.uid = old.uid
            connectors = _connectors(old)
            for connector in evse.connectors:
                if same := connectors.get(connector.id.casefold()):
                    connector.id = same.id
    for old in stored.values():
        location.evses.add().CopyFrom(old)
        location.evses[-1].status = EVSE_STATUS_REMOVED


def stamp_evses(location: Location, before: Location | None, now: datetime) -> None:
    """Sets the times of EVSEs and connectors: those of `before` where nothing changed, else now."""
    stored = _evses(before) if before else {}
    for evse in location.evses:
        old = stored.get(evse.uid.casefold(), Evse())
        connectors = _connectors(old)
        for connector in evse.connectors:
            _stamp(connector, connectors.get(connector.id.casefold()), now)
        if evse.status == old.status:
            evse.status_time.CopyFrom(old.status_time)
        else:
            evse.status_time.FromDatetime(now)
        _stamp(evse, old, now)


def location_etag(location: Location) -> str:
    """The etag: the content, EVSEs taken in. Of their statuses it holds only which are REMOVED."""
    content = Location()
    content.CopyFrom(location)
    for evse in content.evses:
        if evse.status != EVSE_STATUS_REMOVED:
            evse.ClearField("status")
    return etag_of(content)


def unname(location: Location, tariffs: Collection[ObjectKey]) -> None:
    """No connector names the tariffs any more."""
    party = key_of(location).party
    for evse in location.evses:
        for connector in evse.connectors:
            connector.tariff_ids[:] = [id for id in connector.tariff_ids if ObjectKey.of(*party, id) not in tariffs]


def tariffs_named(location: Location) -> Iterator[tuple[str, ObjectKey]]:
    """(path, key) of every tariff that a connector names; an EVSE that is REMOVED sells nothing any more."""
    for row, evse in enumerate(location.evses):
        if evse.status != EVSE_STATUS_REMOVED:
            for column, connector in enumerate(evse.connectors):
                for number, tariff_id in enumerate(connector.tariff_ids):
                    path = f"evses[{row}].connectors[{column}].tariff_ids[{number}]"
                    yield (
                        path,
                        ObjectKey.of(*key_of(location).party, id=tariff_id, integration_id=location.integration_id),
                    )


def tariffs_shared(location: Location, before: Location | None) -> Iterator[tuple[str, list[ObjectKey]]]:
    """(path, keys) of each connector that names several tariffs, without those that named the same before."""
    stored = _evses(before) if before else {}
    for row, evse in enumerate(location.evses):
        if evse.status == EVSE_STATUS_REMOVED or all(len(each.tariff_ids) < 2 for each in evse.connectors):
            continue
        old = stored.get(evse.uid.casefold(), Evse())
        same = {} if old.status == EVSE_STATUS_REMOVED else _connectors(old)
        for column, connector in enumerate(evse.connectors):
            known = same.get(connector.id.casefold())
            if len(connector.tariff_ids) > 1 and not (known and known.tariff_ids == connector.tariff_ids):
                place, party = f"evses[{row}].connectors[{column}].tariff_ids", key_of(location).party
                ids = [
                    ObjectKey.of(*party, id=id, integration_id=location.integration_id) for id in connector.tariff_ids
                ]
                yield place, ids


def connector_at(location: Location, evse_uid: str, id: str) -> tuple[int, int] | None:
    """Where a connector stands: the places of its EVSE and of itself. None when there is none of that name."""
    for row, evse in enumerate(location.evses):
        for column, connector in enumerate(evse.connectors):
            if (evse.uid.casefold(), connector.id.casefold()) == (evse_uid.casefold(), id.casefold()):
                return row, column
    return None


def reported_time(report: EvseStatusReport, now: datetime, path: str) -> datetime:
    """Since when the status holds, to the microsecond. Raises InvalidArgument when that is far ahead."""
    if not report.HasField("status_time"):
        return now
    time = report.status_time.ToDatetime(tzinfo=now.tzinfo)
    if time > now + _AHEAD:
        raise InvalidArgument.field(f"{path}.status_time", "is more than 5 minutes ahead")
    return time


def _stamp(part: Evse | Connector, old: Evse | Connector | None, now: datetime) -> None:
    part.last_updated.CopyFrom(old.last_updated if old else Timestamp())
    if part != old:
        part.last_updated.FromDatetime(now)


def _evses(location: Location) -> dict[str, Evse]:
    return {evse.uid.casefold(): evse for evse in location.evses}


def _connectors(evse: Evse) -> dict[str, Connector]:
    return {connector.id.casefold(): connector for connector in evse.connectors}

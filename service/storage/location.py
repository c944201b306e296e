"""Locations as rows: the serialized message without EVSEs, and a row for each EVSE, which is a message in itself."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final, NamedTuple

import asyncpg
from evbridge.v1.location_pb2 import EVSE_STATUS_REMOVED, Evse, EvseStatus, ListLocationsRequest, Location
from google.protobuf.timestamp_pb2 import Timestamp

from service.domain.geography import Box, Point
from service.domain.keys import EvseKey, ObjectKey, columns, key_of
from service.domain.pages import MAX_BYTES
from service.errors import EtagMismatch, ResourceNotFound
from service.storage.connection import Connection
from service.storage.evse_payload import evse_payload, evse_tail
from service.storage.owned import in_order
from service.storage.pool import Database
from service.storage.statements import Statement, Statements

sql = Statements.beside(__file__)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class NewStatus(NamedTuple):
    """What is reported of an EVSE."""

    status: EvseStatus.ValueType
    time: datetime


class StoredEvse(NamedTuple):
    """An EVSE and its place among those of its location, from 0 on."""

    position: int
    evse: Evse


async def location_get(database: Database, tenant_id: str, key: ObjectKey) -> bytes:
    """The serialized location. Raises ResourceNotFound, also when it was deleted."""
    rows = await database.rows(sql.location_get, tenant_id, *key)
    if not rows:
        raise ResourceNotFound.of("location", key.shown)
    return _whole(rows[0])


async def location_get_many(database: Database, tenant_id: str, keys: Sequence[ObjectKey]) -> list[bytes]:
    """The serialized locations in the order of the keys. Raises ResourceNotFound for the first that does not exist."""
    return in_order("location", keys, await location_find(database, tenant_id, set(keys)))


async def location_find(database: Database, tenant_id: str, keys: Collection[ObjectKey]) -> dict[ObjectKey, bytes]:
    """Those of the locations that exist, serialized."""
    rows = await database.rows(sql.location_get_many, tenant_id, *columns(keys))
    return {ObjectKey.in_row(row): _whole(row) for row in rows}


async def location_page(
    database: Database, tenant_id: str, request: ListLocationsRequest, after: str, limit: int
) -> list[tuple[str, bytes]]:
    """(key, serialized location) after the key `after`, in their order, up to `limit` and about 1 MiB."""
    filters = (request.country_code.upper(), request.party_id.upper())
    key, origin = ObjectKey.parsed(after, request.integration_id), request.origin_integration_id
    rows = await database.rows(sql.location_page, tenant_id, *key, *filters, limit, MAX_BYTES, origin)
    return [(row["object_id"], _whole(row)) for row in rows]


async def location_known(conn: Connection, tenant_id: str, keys: Collection[ObjectKey]) -> set[ObjectKey]:
    """Those of the locations that exist."""
    return {ObjectKey(*row) for row in await conn.rows(sql.location_known, tenant_id, *columns(keys))}


async def location_imported(
    database: Database, tenant_id: str, integration_id: str, after: str, limit: int
) -> list[tuple[str, bytes]]:
    """(key, serialized location) of up to `limit` that were imported through the integration, after the key `after`."""
    rows = await database.rows(sql.location_imported, tenant_id, *ObjectKey.parsed(after), integration_id, limit)
    return [(row["object_id"], _whole(row)) for row in rows]


async def location_naming(
    database: Database, tenant_id: str, tariff: ObjectKey, after: str, limit: int
) -> list[tuple[str, bytes]]:
    """(folded id, serialized location) of up to `limit` that name the tariff, after the folded id `after`."""
    rows = await database.rows(sql.location_naming, tenant_id, *tariff, after, limit)
    return [(row["key"], _whole(row)) for row in rows]


async def evses_naming(
    conn: Connection, tenant_id: str, tariff: ObjectKey, other: ObjectKey, after: tuple[str, str], limit: int
) -> list[tuple[tuple[str, str], Evse]]:
    """(place, EVSE) of up to `limit` that name both tariffs, after a place: the folded ids of location and EVSE."""
    rows = await conn.rows(sql.evse_naming, tenant_id, *tariff, other.key, *after, limit)
    return [((row["location_key"], row["key"]), Location.FromString(row["payload"]).evses[0]) for row in rows]


async def location_near(
    database: Database,
    tenant_id: str,
    integration_id: str,
    boxes: Sequence[Box],
    point: Point,
    haversine: float,
    limit: int,
) -> list[bytes]:
    """Serialized locations up to that far from the point, nearest first. The boxes hold them all."""
    rows = await database.rows(
        sql.location_near, tenant_id, *zip(*boxes, strict=True), *point, haversine, limit, integration_id
    )
    return [_whole(row) for row in rows]


async def location_box(
    database: Database, tenant_id: str, integration_id: str, boxes: Sequence[Box], limit: int
) -> list[bytes]:
    """Serialized locations in the boxes."""
    rows = await database.rows(sql.location_box, tenant_id, *zip(*boxes, strict=True), limit, integration_id)
    return [_whole(row) for row in rows]


async def location_lock(
    conn: Connection, tenant_id: str, keys: Collection[ObjectKey]
) -> dict[ObjectKey, Location | None]:
    """The locations there are, kept with their EVSEs from other writers until the transaction ends.

    None where a tombstone is.
    """
    locations = await conn.rows(sql.location_lock, tenant_id, *columns(keys))
    evses = await conn.rows(sql.evse_lock, tenant_id, *columns(keys))
    parts: dict[ObjectKey, list[bytes]] = {}
    for row in sorted(evses, key=lambda row: row["position"]):
        parts.setdefault(_location_key(row), []).append(row["payload"])
    found: dict[ObjectKey, Location | None] = {}
    for row in locations:
        key = ObjectKey.in_row(row)
        location = found[key] = (
            None if row["delete_time"] else Location.FromString(b"".join((row["payload"], *parts.get(key, ()))))
        )
        if location:
            last_updated = max((row["last_updated"], *(_time(evse.last_updated) for evse in location.evses)))
            location.last_updated.FromDatetime(last_updated)
    return found


async def location_put(
    conn: Connection, tenant_id: str, locations: Sequence[Location], locked: Mapping[ObjectKey, Location | None]
) -> None:
    """Writes what changed over what `location_lock` found; a change of statuses alone leaves the location's own row.

    Raises EtagMismatch when another writer was first with a new location.
    """
    new = [location for location in locations if key_of(location) not in locked]
    revived = [location for location in locations if locked.get(key_of(location), location) is None]
    changed = [each for each in locations if (before := locked.get(key_of(each))) and before.etag != each.etag]
    if new and await _write(conn, sql.location_insert, tenant_id, new) < len(new):
        raise EtagMismatch("one of the locations was created by another call at this moment")
    if revived:
        await conn.run(sql.evse_forget, tenant_id, *columns(map(key_of, revived)))
    if replaced := revived + changed:
        await _write(conn, sql.location_replace, tenant_id, replaced)
    await evse_put(
        conn,
        tenant_id,
        {
            key: stored
            for location in locations
            for key, stored in _changed_evses(location, locked.get(key_of(location)))
        },
    )


async def location_tombstone(conn: Connection, tenant_id: str, key: ObjectKey) -> None:
    """Leaves a tombstone; the EVSEs stay below it."""
    await conn.run(sql.location_tombstone, tenant_id, *key)


async def evse_find(database: Database, tenant_id: str, keys: Collection[EvseKey]) -> dict[EvseKey, Evse]:
    """Those of the EVSEs that exist."""
    return {
        EvseKey(_location_key(row), row["key"]): Location.FromString(row["payload"]).evses[0]
        for row in await database.rows(
            sql.evse_find, tenant_id, *columns(key.location for key in keys), [key.key for key in keys]
        )
    }


async def evse_lock(conn: Connection, tenant_id: str, keys: Collection[EvseKey]) -> dict[EvseKey, StoredEvse]:
    """Those of the EVSEs that exist, kept from other writers until the transaction ends."""
    return {
        EvseKey(_location_key(row), row["key"]): (
            StoredEvse(row["position"], Location.FromString(row["payload"]).evses[0])
        )
        for row in await conn.rows(
            sql.evse_lock_each, tenant_id, *columns(key.location for key in keys), [key.key for key in keys]
        )
    }


async def evse_report(
    conn: Connection, tenant_id: str, now: datetime, reported: Mapping[EvseKey, NewStatus]
) -> tuple[list[EvseKey], set[EvseKey]]:
    """Gives EVSEs of ours a status that is newer than theirs; returns what changed, in order, and what is not there.

    One that is REMOVED is not there. `now` is the transaction's time.
    """
    keys = [*reported]
    # An id holds no line feed: the contract sees to it.
    lines = map("\n".join, (*columns(key.location for key in keys)[:3], [key.key for key in keys]))
    times = "\n".join([_microseconds(new.time) for new in reported.values()])
    tails = b"".join([evse_tail(new.status, new.time, now) for new in reported.values()])
    row = await conn.row(sql.evse_report, tenant_id, *lines, times, tails)
    known, changed, left = ({keys[number - 1] for number in numbers} for numbers in row or ((), (), ()))
    unknown = reported.keys() - known
    if left:
        others = {key: reported[key] for key in left}
        more_changed, more_unknown = await _evse_report_parsed(conn, tenant_id, now, others)
        changed |= more_changed
        unknown |= more_unknown
    return [key for key in keys if key in changed], unknown


async def _evse_report_parsed(
    conn: Connection, tenant_id: str, now: datetime, reported: Mapping[EvseKey, NewStatus]
) -> tuple[set[EvseKey], set[EvseKey]]:
    """The same for what an earlier build wrote last, or another call at this moment."""
    locked = await evse_lock(conn, tenant_id, reported.keys())
    stored = {key: each for key, each in locked.items() if each.evse.status != EVSE_STATUS_REMOVED}
    newer = {key: each for key, each in stored.items() if reported[key].time > _time(each.evse.status_time)}
    changed = {key for key, each in newer.items() if reported[key].status != each.evse.status}
    for key, (_, evse) in newer.items():
        evse.status = reported[key].status
        evse.status_time.FromDatetime(reported[key].time)
        if key in changed:
            evse.last_updated.FromDatetime(now)
    await evse_put(conn, tenant_id, newer)
    return changed, reported.keys() - stored.keys()


async def evse_put(conn: Connection, tenant_id: str, evses: Mapping[EvseKey, StoredEvse]) -> None:
    """Writes EVSEs that are locked, or that are new in a location that is."""
    if evses:
        positions, contents = zip(*evses.values(), strict=True)
        await conn.run(
            sql.evse_put,
            tenant_id,
            *columns(key.location for key in evses),
            [key.key for key in evses],
            positions,
            [evse.status for evse in contents],
            [_time(evse.status_time) for evse in contents],
            [_time(evse.last_updated) for evse in contents],
            [evse_payload(evse) for evse in contents],
            [_tariff_keys(evse) for evse in contents],
        )


async def _write(conn: Connection, statement: Statement, tenant_id: str, locations: Sequence[Location]) -> int:
    return await conn.run(
        statement,
        tenant_id,
        *columns(map(key_of, locations)),
        [float(location.coordinates.latitude) for location in locations],
        [float(location.coordinates.longitude) for location in locations],
        [location.etag for location in locations],
        [_own(location) for location in locations],
        [_time(location.last_updated) for location in locations],
        [location.origin.integration_id for location in locations],
    )


def _changed_evses(location: Location, before: Location | None) -> Iterator[tuple[EvseKey, StoredEvse]]:
    """Those that are not stored just so."""
    key, stored = key_of(location), before.evses if before else ()
    for position, evse in enumerate(location.evses):
        if position >= len(stored) or stored[position] != evse:
            yield EvseKey.of(key, evse.uid), StoredEvse(position, evse)


def _own(location: Location) -> bytes:
    """What a location's own row holds."""
    own = Location()
    own.CopyFrom(location)
    own.ClearField("evses")
    own.ClearField("last_updated")
    return own.SerializeToString()


def _whole(row: asyncpg.Record) -> bytes:
    payload: bytes = row["payload"]
    return payload + _last_updated(row["last_updated"])


@lru_cache(4096)
def _last_updated(time: datetime) -> bytes:
    last_updated = Timestamp()
    last_updated.FromDatetime(time)
    return Location(last_updated=last_updated).SerializeToString()


@lru_cache
def _microseconds(time: datetime) -> str:
    """Since 1970."""
    return str((time - _EPOCH) // timedelta(microseconds=1))


def _tariff_keys(evse: Evse) -> str:
    """One per line, for arrays of arrays must be rectangular."""
    return "\n".join(sorted({id.casefold() for connector in evse.connectors for id in connector.tariff_ids}))


def _location_key(row: asyncpg.Record) -> ObjectKey:
    return ObjectKey(row["country_code"], row["party_id"], row["location_key"], row["integration_id"])


def _time(timestamp: Timestamp) -> datetime:
    return timestamp.ToDatetime(tzinfo=UTC)

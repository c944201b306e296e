"""Audit events as rows, and the seals that chain them."""

from collections.abc import AsyncIterator, Collection
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import asyncpg
from evbridge.v1.audit_pb2 import ListAuditEventsRequest
from google.protobuf.timestamp_pb2 import Timestamp

from service.domain.pages import id_at, place_of, time_at
from service.errors import InvalidPageToken
from service.storage.connection import Connection
from service.storage.pool import Database
from service.storage.slices import SLICE, in_slices
from service.storage.statements import Statements

sql = Statements.beside(__file__)

_LOOKED = 10_000
_LAST = (datetime.max.replace(tzinfo=UTC), (1 << 63) - 1)


class AuditPlace(NamedTuple):
    """Where an event stands: the number that its transaction was given, and the transaction's time."""

    event_id: int
    time: datetime


class AuditRow(NamedTuple):
    """An event as it is stored. `open`: under way, as a call to a partner."""

    event_id: int
    event_time: datetime
    actor: str
    rpc: str
    object_id: str
    open: bool
    digest: bytes
    payload: bytes


class Seal(NamedTuple):
    """What is said of the events after the seal before, up to one. `anchor`: the seals before it were let go."""

    seal_id: int
    last_event_id: int
    event_count: int
    events_hash: bytes
    previous: bytes
    digest: bytes
    anchor: bytes | None
    seal_time: datetime


class Unsealed(NamedTuple):
    """The newest event of a tenant, and the transactions of that moment: the first open one, and the next to come."""

    tenant_id: str
    event_id: int
    open: int
    next: int


async def audit_place(conn: Connection) -> AuditPlace:
    """The place of an event of this transaction."""
    row = await conn.row(sql.audit_place)
    assert row is not None  # noqa: S101
    return AuditPlace(row["event_id"], row["time"])


async def audit_insert(conn: Connection, tenant_id: str, row: AuditRow) -> None:
    await conn.run(sql.audit_insert, tenant_id, *row)


async def audit_end(database: Database, tenant_id: str, row: AuditRow) -> None:
    """Says how an open one ended, unless that took too long."""
    await database.run(sql.audit_end, tenant_id, row.event_id, row.object_id, row.digest, row.payload)


async def audit_page(
    database: Database,
    tenant_id: str,
    request: ListAuditEventsRequest,
    object_ids: Collection[str],
    after: str,
    size: int,
) -> tuple[list[bytes], str]:
    """Serialized events after that place, newest first, and the place behind which there may be more; "" for none.

    `object_ids`: by what those of the object that the request names are found. Raises InvalidPageToken.
    """
    before = (time_at(after), _number(id_at(after))) if after else _LAST
    times = (_time(request.start_time), _time(request.end_time) if request.HasField("end_time") else _LAST[0])
    filters = (*before, *times, request.actor, request.rpc, _LOOKED, size + 1)
    if request.object_id:
        rows = await database.rows(sql.audit_page_of_object, tenant_id, *filters, object_ids)
    else:
        rows = await database.rows(sql.audit_page, tenant_id, *filters)
    page = rows[:size]
    more = len(rows) > size or (bool(rows) and rows[-1]["number"] == _LOOKED)
    last = place_of(page[-1]["event_time"], str(page[-1]["event_id"])) if more else ""
    return [row["payload"] for row in page if row["payload"] is not None], last


async def audit_unsealed(database: Database) -> list[Unsealed]:
    return [Unsealed(*row) for row in await database.rows(sql.audit_unsealed)]


async def audit_abandon(conn: Connection, tenant_id: str, after: timedelta) -> None:
    """Gives up calls to partners that began so long ago."""
    await conn.run(sql.audit_abandon, tenant_id, after)


async def audit_seal_last(conn: Connection, tenant_id: str) -> tuple[int, int, bytes]:
    """The number of the newest seal, its last event and its digest."""
    row = await conn.row(sql.audit_seal_last, tenant_id)
    return (0, 0, b"") if row is None else (row["seal_id"], row["last_event_id"], row["digest"])


async def audit_digests(conn: Connection, tenant_id: str, after: int, last: int) -> list[tuple[int, bytes]]:
    """(number, digest) of the events in between, a part of them when they are many, none from the first open one on."""
    found = []
    for row in await conn.rows(sql.audit_digests, tenant_id, after, last, SLICE):
        if row["open"]:
            break
        found.append((row["event_id"], row["digest"]))
    return found


async def audit_seal_insert(conn: Connection, tenant_id: str, seal: Seal) -> bool:
    """False when another process was first."""
    return await conn.value(sql.audit_seal_insert, tenant_id, *seal[:6]) is not None


async def audit_seals(database: Database, tenant_id: str) -> AsyncIterator[Seal]:
    """All of them, the oldest first."""
    after = 0
    while rows := await database.rows(sql.audit_seals, tenant_id, after, SLICE):
        for row in rows:
            yield Seal(*row)
        after = rows[-1]["seal_id"]


async def audit_events(database: Database, tenant_id: str, after: int, last: int = _LAST[1]) -> AsyncIterator[AuditRow]:
    """Those in between, the oldest first."""
    while rows := await database.rows(sql.audit_events, tenant_id, after, last, SLICE):
        for row in rows:
            yield AuditRow(*row)
        after = rows[-1]["event_id"]


async def audit_expired(database: Database, days: int) -> list[asyncpg.Record]:
    """The seal of each tenant up to which its events are older."""
    return await database.rows(sql.audit_expired, timedelta(days=days), SLICE)


async def audit_forget(database: Database, tenant_id: str, seal_id: int, last_event_id: int, anchor: bytes) -> None:
    """Lets the events go up to one with which a seal ends, and the seals before it."""
    async with database.transaction() as conn:
        await conn.run(sql.audit_anchor, tenant_id, seal_id, anchor)
        await conn.run(sql.audit_seals_sweep, tenant_id, seal_id)
    await in_slices(database, sql.audit_events_sweep, tenant_id, last_event_id)


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) > _LAST[1]:
        raise InvalidPageToken("the page token is damaged")
    return int(text)


def _time(timestamp: Timestamp) -> datetime:
    return timestamp.ToDatetime(tzinfo=UTC)

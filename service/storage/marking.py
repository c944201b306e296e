"""Marks that no caller makes: of many objects, a slice at a time, and of tariffs that end.

Each slice is a transaction of its own, so that none takes long however many objects there are.
"""

from collections.abc import Collection
from typing import NamedTuple

from evbridge.v1.delivery_pb2 import (
    OBJECT_KIND_COMPANY,
    OBJECT_KIND_HUB_CLIENT,
    OBJECT_KIND_INVOICE_RECONCILIATION_RECORD,
    OBJECT_KIND_LOCATION,
    OBJECT_KIND_SESSION,
    OBJECT_KIND_TARIFF,
    OBJECT_KIND_TOKEN,
    OBJECT_KIND_UNSPECIFIED,
    ObjectKind,
)
from evbridge.v1.tariff_pb2 import Tariff

from service.domain.keys import ObjectKey
from service.domain.tariff import end_of
from service.storage.changes import DELIVERED, delivery_mark, delivery_mark_at
from service.storage.clock import Clock
from service.storage.connection import Connection
from service.storage.delivery import delivery_count, delivery_redeliver
from service.storage.party import hubs_among
from service.storage.pool import Database
from service.storage.slices import SLICE
from service.storage.statements import Statements

sql = Statements.beside(__file__)

_NAMED = {
    OBJECT_KIND_TARIFF: sql.marking_tariffs,
    OBJECT_KIND_LOCATION: sql.marking_locations,
    OBJECT_KIND_TOKEN: sql.marking_tokens,
}


class _Marking(NamedTuple):
    """A row of the table. `tariff`: only locations that name it, or only the hub client of that name."""

    tenant_id: str
    integration_id: str
    object_kind: ObjectKind.ValueType
    tariff: str = ""
    redeliver: bool = False
    after: str = ""

    @property
    def key(self) -> tuple[str, str, ObjectKind.ValueType, str]:
        return self.tenant_id, self.integration_id, self.object_kind, self.tariff


async def mark_all(conn: Connection, tenant_id: str, integration_id: str, kind: ObjectKind.ValueType) -> None:
    """Makes all objects due at an integration that takes them: the first ones in this transaction."""
    await _begin(conn, _Marking(tenant_id, integration_id, kind))


async def redeliver_all(conn: Connection, tenant_id: str, integration_id: str, kind: ObjectKind.ValueType) -> int:
    """The same for the deliveries that there are, of one kind or (0) of all, whatever the partner is known to hold.

    A CDR is recorded once, so all kinds are all others. Returns how many they are.
    """
    kinds = (
        (*DELIVERED, OBJECT_KIND_SESSION, OBJECT_KIND_INVOICE_RECONCILIATION_RECORD)
        if kind == OBJECT_KIND_UNSPECIFIED
        else (kind,)
    )
    for each in kinds:
        await _begin(conn, _Marking(tenant_id, integration_id, each, redeliver=True))
    return await delivery_count(conn, tenant_id, integration_id, kinds)


async def mark_sharing(
    conn: Connection,
    tenant_id: str,
    kind: ObjectKind.ValueType,
    parties: Collection[str],
    ids: Collection[str] = ("",),
) -> None:
    """Makes objects due, in the background, at integrations that speak for one of the parties; "" for all objects."""
    await conn.run(sql.marking_begin_sharing, tenant_id, kind, [*parties], [*ids])


async def markings_due(database: Database) -> bool:
    """Marks the next slice. False when there is none."""
    async with database.transaction() as conn:
        row = await conn.row(sql.marking_next)
        if row is None:
            return False
        await _go_on(conn, _Marking(**dict(row)))
    return True


async def tariffs_due(database: Database, clock: Clock) -> bool:
    """Makes due what a tariff that ended, or that holds longer than it did, may concern. False when there is none."""
    async with database.transaction() as conn:
        now = await clock.now(conn)
        row = await conn.row(sql.tariff_due, now)
        if row is None:
            return False
        tenant_id, key = row["tenant_id"], ObjectKey.in_row(row)
        end = end_of(Tariff.FromString(row["payload"]))
        ended = end is not None and end <= now
        if ended or not row["first"]:
            await conn.run(sql.marking_begin_everywhere, tenant_id, OBJECT_KIND_LOCATION, str(key) if ended else "")
            await delivery_mark_at(conn, tenant_id, None, OBJECT_KIND_TARIFF, [key])
        await conn.run(sql.tariff_due_set, tenant_id, *key, None if ended else end)
    return True


async def _begin(conn: Connection, marking: _Marking) -> None:
    await conn.run(sql.marking_begin, *marking.key[:3], marking.redeliver)
    await _go_on(conn, marking)


async def _go_on(conn: Connection, marking: _Marking) -> None:
    ids = await _objects(conn, marking)
    if ids and marking.redeliver:
        await delivery_redeliver(conn, *marking.key[:3], ids)
    elif ids:
        await delivery_mark(conn, *marking.key[:3], ids)
    if len(ids) < SLICE:
        await conn.run(sql.marking_end, *marking.key)
    else:
        await conn.run(sql.marking_continue, *marking.key, ids[-1])


async def _objects(conn: Connection, marking: _Marking) -> list[str]:
    """The next ids, in their order."""
    tenant_id, integration_id, kind, tariff = marking.key
    after = ObjectKey.parsed(marking.after)[:3]
    if marking.redeliver:
        rows = await conn.rows(sql.marking_delivered, tenant_id, integration_id, kind, marking.after, SLICE)
    elif kind == OBJECT_KIND_HUB_CLIENT:
        return [tariff] if tariff else await _hub_clients(conn, marking)
    elif tariff:
        rows = await conn.rows(sql.marking_naming, tenant_id, integration_id, *after, SLICE, tariff)
    elif kind == OBJECT_KIND_COMPANY:
        rows = await conn.rows(sql.marking_companies, tenant_id, marking.after, SLICE)
    else:
        rows = await conn.rows(_NAMED[kind], tenant_id, *after, SLICE)
    return [row["object_id"] for row in rows]


async def _hub_clients(conn: Connection, marking: _Marking) -> list[str]:
    """Who is connected to a hub that the integration speaks for, and who was shown to its partner before."""
    tenant_id, integration_id, kind, _ = marking.key
    parties = await conn.value(sql.marking_parties, tenant_id, integration_id)
    hubs = await hubs_among(conn, tenant_id, parties or ())
    rows = await conn.rows(sql.marking_hub_clients, tenant_id, integration_id, kind, marking.after, SLICE, hubs)
    return [row["object_id"] for row in rows]

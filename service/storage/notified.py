"""Objects that partners notified us of, until they are read: by the ids that the partners gave them."""

from datetime import datetime, timedelta
from typing import Final

from evbridge.v1.delivery_pb2 import ObjectKind

from service.storage.connection import Connection
from service.storage.pool import Database
from service.storage.statements import Statements

sql = Statements.beside(__file__)

MAX_OBJECTS: Final = 10_000
"""Of an integration. What is told beyond that is found by the next import."""
EVERY: Final = timedelta(seconds=10)
"""How often those of one integration are read at most."""


async def notified_put(
    conn: Connection, tenant_id: str, integration_id: str, kind: ObjectKind.ValueType, external_id: str
) -> None:
    """Notes an object, which is due at once or a little later."""
    of = (tenant_id, integration_id)
    await conn.run(sql.notified_put, *of, kind, external_id, MAX_OBJECTS)
    await notified_is_due(conn, tenant_id, integration_id)


async def notified_is_due(conn: Connection, tenant_id: str, integration_id: str) -> None:
    """What is noted is to be read."""
    await conn.run(sql.notified_is_due, tenant_id, integration_id, EVERY)


async def notified_begin(conn: Connection) -> tuple[str, str, bool] | None:
    """(tenant, integration) of one whose notes are due, locked, and whether there are any; they are due no more."""
    row = await conn.row(sql.notified_begin)
    return (row["tenant_id"], row["integration_id"], row["is_noted"]) if row else None


async def notified_page(
    database: Database, tenant_id: str, integration_id: str, kind: ObjectKind.ValueType, limit: int
) -> dict[str, datetime]:
    """Some of those that are noted, and when they were told last."""
    rows = await database.rows(sql.notified_page, tenant_id, integration_id, kind, limit)
    return {row["external_id"]: row["notify_time"] for row in rows}


async def notified_read(
    conn: Connection, tenant_id: str, integration_id: str, kind: ObjectKind.ValueType, read: dict[str, datetime]
) -> None:
    """Forgets what `notified_page` gave, unless it was told again meanwhile."""
    await conn.run(sql.notified_read, tenant_id, integration_id, kind, [*read], [*read.values()])

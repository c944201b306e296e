"""What partners sent as rows: a document per tariff, per location without its EVSEs, and per EVSE."""

from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple

import asyncpg
from evbridge.v1.delivery_pb2 import ObjectKind

from service.storage.connection import Connection
from service.storage.pool import Database
from service.storage.statements import Statements

sql = Statements.beside(__file__)


class Stored(NamedTuple):
    """A part of an object: "" for itself, or the folded uid of an EVSE. `version` is OCPI's, `document` JSON text."""

    object_id: str
    part: str
    version: str
    last_updated: datetime
    document: str


async def documents_get(
    database: Database | Connection,
    tenant_id: str,
    integration_id: str,
    kind: ObjectKind.ValueType,
    object_ids: Collection[str],
) -> list[Stored]:
    """All parts of the objects. Who is about to change an object has locked it."""
    rows = await database.rows(sql.received_documents, tenant_id, integration_id, kind, [*object_ids])
    return [_stored(row) for row in rows]


async def document_get(
    conn: Connection, tenant_id: str, integration_id: str, kind: ObjectKind.ValueType, object_id: str, part: str
) -> Stored | None:
    """One part of an object."""
    row = await conn.row(sql.received_document_get, tenant_id, integration_id, kind, object_id, part)
    return _stored(row) if row else None


async def documents_put(
    conn: Connection, tenant_id: str, integration_id: str, kind: ObjectKind.ValueType, documents: Collection[Stored]
) -> None:
    if documents:
        await conn.run(sql.received_document_put, tenant_id, integration_id, kind, *zip(*documents, strict=True))


async def documents_delete(
    conn: Connection, tenant_id: str, integration_id: str, kind: ObjectKind.ValueType, object_id: str
) -> None:
    """All parts of an object."""
    await conn.run(sql.received_document_delete, tenant_id, integration_id, kind, object_id)


def _stored(row: asyncpg.Record) -> Stored:
    return Stored(row["object_id"], row["part"], row["version"], row["last_updated"], row["document"])

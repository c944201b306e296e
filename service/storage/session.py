"""Sessions as rows: the serialized message and the columns that lists filter by."""

from collections.abc import Collection, Mapping, Sequence

from evbridge.v1.session_pb2 import ListSessionsRequest, Session

from service.domain.keys import ObjectKey, columns, key_of
from service.errors import EtagMismatch, ResourceNotFound
from service.storage.charged import charged_columns, charged_filters
from service.storage.connection import Connection
from service.storage.pool import Database
from service.storage.statements import Statement, Statements

sql = Statements.beside(__file__)


async def session_get(database: Database | Connection, tenant_id: str, key: ObjectKey) -> bytes:
    """The serialized session. Raises ResourceNotFound."""
    payload: bytes | None = await database.value(sql.session_get, tenant_id, *key)
    if payload is None:
        raise ResourceNotFound.of("session", key.shown)
    return payload


async def session_get_many(database: Database, tenant_id: str, keys: Sequence[ObjectKey]) -> list[bytes]:
    """The serialized sessions in the order of the keys. Raises ResourceNotFound for the first that does not exist."""
    found = await session_find(database, tenant_id, set(keys))
    for key in keys:
        if key not in found:
            raise ResourceNotFound.of("session", key.shown)
    return [found[key] for key in keys]


async def session_find(database: Database, tenant_id: str, keys: Collection[ObjectKey]) -> dict[ObjectKey, bytes]:
    """Those of the sessions that exist, serialized."""
    rows = await database.rows(sql.session_get_many, tenant_id, *columns(keys))
    return {ObjectKey.in_row(row): row["payload"] for row in rows}


async def session_lock(conn: Connection, tenant_id: str, keys: Collection[ObjectKey]) -> dict[ObjectKey, Session]:
    """The sessions there are, kept from other writers until the transaction ends."""
    rows = await conn.rows(sql.session_lock, tenant_id, *columns(keys))
    return {ObjectKey.in_row(row): Session.FromString(row["payload"]) for row in rows}


async def session_put(
    conn: Connection, tenant_id: str, sessions: Sequence[Session], locked: Mapping[ObjectKey, Session | None]
) -> None:
    """Writes over what `session_lock` found. Raises EtagMismatch when another writer was first with a new session."""
    new = [session for session in sessions if key_of(session) not in locked]
    if new and await _write(conn, sql.session_insert, tenant_id, new) < len(new):
        raise EtagMismatch("one of the sessions was created by another call at this moment")
    if replaced := [session for session in sessions if key_of(session) in locked]:
        await _write(conn, sql.session_replace, tenant_id, replaced)


async def _write(conn: Connection, statement: Statement, tenant_id: str, sessions: Sequence[Session]) -> int:
    keys = columns([key_of(session) for session in sessions])
    places = [session.location_id for session in sessions]
    statuses = [session.status for session in sessions]
    return await conn.run(statement, tenant_id, *keys, statuses, *charged_columns(sessions, places))


async def session_page(
    database: Database, tenant_id: str, request: ListSessionsRequest, after: str, limit: int
) -> list[tuple[str, bytes]]:
    """(place, serialized session) after the place `after`, by their start, up to `limit` and about 1 MiB."""
    filters = charged_filters(request, after, limit)
    rows = await database.rows(sql.session_page, tenant_id, *filters, request.status)
    return [(row["place"], row["payload"]) for row in rows]

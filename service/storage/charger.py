"""Chargers as rows: the serialized message and the site it is looked up by."""

from collections.abc import Collection, Sequence

from evbridge.v1.charger_pb2 import Charger, ListChargersRequest

from service.domain.keys import charger_key
from service.domain.pages import MAX_BYTES
from service.errors import ResourceExists, ResourceNotFound
from service.storage.connection import Connection
from service.storage.pool import Database
from service.storage.statements import Statements

sql = Statements.beside(__file__)


async def charger_get(database: Database, tenant_id: str, key: str) -> bytes:
    """The serialized charger. Raises ResourceNotFound."""
    payload: bytes | None = await database.value(sql.charger_get, tenant_id, key)
    if payload is None:
        raise ResourceNotFound.of("charger", key)
    return payload


async def charger_lock_site(conn: Connection, tenant_id: str, site_id: str) -> list[Charger]:
    """The chargers of a site in the order of their keys, kept from other writers until the transaction ends.

    Up to as many as have more sockets than a location can have EVSEs.
    """
    return [Charger.FromString(row["payload"]) for row in await conn.rows(sql.charger_lock_site, tenant_id, site_id)]


async def charger_lock_many(conn: Connection, tenant_id: str, keys: Collection[str]) -> dict[str, Charger]:
    """Those of the chargers that there are, by their keys, kept from other writers until the transaction ends."""
    rows = await conn.rows(sql.charger_lock_many, tenant_id, sorted(keys))
    chargers = [Charger.FromString(row["payload"]) for row in rows]
    return {charger_key(charger.id): charger for charger in chargers}


async def charger_insert(conn: Connection, tenant_id: str, charger: Charger) -> None:
    """Raises ResourceExists."""
    key = charger_key(charger.id)
    row = (key, charger.site_id, charger.etag, charger.SerializeToString())
    if await conn.value(sql.charger_insert, tenant_id, *row) is None:
        raise ResourceExists(f"charger {key} already exists", resource="charger", id=key)


async def charger_replace(conn: Connection, tenant_id: str, chargers: Sequence[Charger]) -> None:
    """Writes over chargers that are locked."""
    if chargers:
        await conn.run(
            sql.charger_replace,
            tenant_id,
            [charger_key(charger.id) for charger in chargers],
            [charger.site_id for charger in chargers],
            [charger.etag for charger in chargers],
            [charger.SerializeToString() for charger in chargers],
        )


async def charger_delete(conn: Connection, tenant_id: str, key: str) -> None:
    await conn.run(sql.charger_delete, tenant_id, key)


async def charger_page(
    database: Database, tenant_id: str, request: ListChargersRequest, after: str, limit: int
) -> list[tuple[str, bytes]]:
    """(key, serialized charger) after the key `after`, in their order, up to `limit` and about 1 MiB."""
    rows = await database.rows(sql.charger_page, tenant_id, after, request.site_id, limit, MAX_BYTES)
    return [(row["key"], row["payload"]) for row in rows]

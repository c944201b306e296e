"""Parties as rows."""

from collections.abc import Iterable

from evbridge.v1.party_pb2 import Party

from service.domain.hub_client import hubs_of
from service.domain.keys import PartyKey
from service.domain.pages import MAX_BYTES
from service.errors import ResourceExists, ResourceNotFound
from service.storage.connection import Connection
from service.storage.pool import Database
from service.storage.statements import Statements

sql = Statements.beside(__file__)


async def party_get(database: Database, tenant_id: str, key: PartyKey) -> bytes:
    """The serialized party. Raises ResourceNotFound."""
    payload: bytes | None = await database.value(sql.party_get, tenant_id, *key)
    if payload is None:
        raise ResourceNotFound.of("party", str(key))
    return payload


async def parties_get(on: Database | Connection, tenant_id: str, keys: Iterable[PartyKey]) -> list[Party]:
    """Those of the parties that exist, in the order of the keys."""
    wanted = list(keys)
    columns = [key.country_code for key in wanted], [key.party_id for key in wanted]
    return [Party.FromString(row["payload"]) for row in await on.rows(sql.party_get_many, tenant_id, *columns)]


async def hubs_among(on: Database | Connection, tenant_id: str, parties: Iterable[str]) -> list[str]:
    """Those of our parties, such as "NLHUB", that are hubs."""
    return hubs_of(await parties_get(on, tenant_id, [PartyKey(each[:2], each[2:]) for each in parties]))


async def party_lock(conn: Connection, tenant_id: str, key: PartyKey) -> Party | None:
    """Kept from other writers until the transaction ends; None when there is none."""
    payload: bytes | None = await conn.value(sql.party_lock, tenant_id, *key)
    return None if payload is None else Party.FromString(payload)


async def parties_hold(conn: Connection, tenant_id: str, keys: Iterable[PartyKey]) -> set[PartyKey]:
    """Those of the parties that exist; they cannot be deleted until the transaction ends."""
    wanted = sorted(set(keys))
    countries, parties = [key.country_code for key in wanted], [key.party_id for key in wanted]
    return {PartyKey(*row) for row in await conn.rows(sql.party_hold, tenant_id, countries, parties)}


async def party_insert(conn: Connection, tenant_id: str, party: Party) -> None:
    """Raises ResourceExists."""
    key = PartyKey(party.country_code, party.party_id)
    if await conn.value(sql.party_insert, tenant_id, *key, party.etag, party.SerializeToString()) is None:
        raise ResourceExists(f"party {key} already exists", resource="party", id=str(key))


async def party_replace(conn: Connection, tenant_id: str, party: Party) -> None:
    row = (party.country_code, party.party_id, party.etag, party.SerializeToString())
    await conn.run(sql.party_replace, tenant_id, *row)


async def party_delete(conn: Connection, tenant_id: str, key: PartyKey) -> None:
    await conn.run(sql.party_delete, tenant_id, *key)


async def party_objects(conn: Connection, tenant_id: str, key: PartyKey) -> tuple[int, int, int, int]:
    """How many tariffs, locations and tokens the party owns, and how many integrations speak for it."""
    (row,) = await conn.rows(sql.party_objects, tenant_id, *key)
    return row["tariffs"], row["locations"], row["tokens"], row["integrations"]


async def party_page(database: Database, tenant_id: str, after: str, limit: int) -> list[tuple[str, bytes]]:
    """(key, serialized party) after the key `after`, in their order, up to `limit` and about 1 MiB."""
    rows = await database.rows(sql.party_page, tenant_id, after[:2], after[2:], limit, MAX_BYTES)
    return [(row["key"], row["payload"]) for row in rows]

"""Parties that are connected to hubs, as rows: the serialized message and the columns that lists filter by."""

from collections.abc import Collection, Mapping, Sequence

from evbridge.v1.hub_client_pb2 import HubClient, ListHubClientsRequest

from service.domain.hub_client import hub_client_key
from service.domain.keys import ObjectKey, columns
from service.domain.pages import MAX_BYTES
from service.storage.connection import Connection
from service.storage.pool import Database
from service.storage.statements import Statements

sql = Statements.beside(__file__)


async def hub_client_find(database: Database, tenant_id: str, keys: Collection[ObjectKey]) -> dict[ObjectKey, bytes]:
    """Those that are known, serialized."""
    rows = await database.rows(sql.hub_client_find, tenant_id, *columns(keys))
    return {ObjectKey.in_row(row): row["payload"] for row in rows}


async def hub_client_lock(
    conn: Connection, tenant_id: str, keys: Collection[ObjectKey]
) -> dict[ObjectKey, HubClient | None]:
    """Those that are known, kept from other writers until the transaction ends."""
    rows = await conn.rows(sql.hub_client_lock, tenant_id, *columns(keys))
    return {ObjectKey.in_row(row): HubClient.FromString(row["payload"]) for row in rows}


async def hub_client_put(
    conn: Connection, tenant_id: str, clients: Sequence[HubClient], locked: Mapping[ObjectKey, HubClient | None]
) -> None:
    await conn.run(
        sql.hub_client_put,
        tenant_id,
        *columns([hub_client_key(each) for each in clients]),
        [each.role for each in clients],
        [each.status for each in clients],
        [each.etag for each in clients],
        [each.SerializeToString() for each in clients],
    )


async def hub_client_page(
    database: Database, tenant_id: str, request: ListHubClientsRequest, after: str, limit: int
) -> list[tuple[str, bytes]]:
    """(key, serialized client) after the key `after`, in their order, up to `limit` and about 1 MiB."""
    key = ObjectKey.parsed(after, request.integration_id)
    filters = (request.country_code.upper(), request.party_id.upper(), request.role, request.status)
    rows = await database.rows(sql.hub_client_page, tenant_id, *key, *filters, limit, MAX_BYTES)
    return [(row["object_id"], row["payload"]) for row in rows]

"""Parties that are connected to hubs, as rows: the serialized message and the columns that lists filter by."""

from collections.abc import Mapping, Sequence
from typing import Any

from evbridge.v1.hub_client_pb2 import HubClient, ListHubClientsRequest

from service.domain.hub_client import hub_client_key
from service.domain.keys import ObjectKey
from service.domain.pages import MAX_BYTES
from service.storage.connection import Connection
from service.storage.owned import OwnedRows
from service.storage.pool import Database
from service.storage.statements import Statements

sql = Statements.beside(__file__)


def _columns(clients: Sequence[HubClient]) -> tuple[list[Any], ...]:
    return (
        [each.role for each in clients],
        [each.status for each in clients],
        [each.etag for each in clients],
        [each.SerializeToString() for each in clients],
    )


_ROWS = OwnedRows("hub_client", HubClient, sql, hub_client_key, _columns)

hub_client_find = _ROWS.find
hub_client_lock = _ROWS.lock


async def hub_client_put(
    conn: Connection, tenant_id: str, clients: Sequence[HubClient], locked: Mapping[ObjectKey, HubClient | None]
) -> None:
    await _ROWS.write(conn, "put", tenant_id, clients)


async def hub_client_page(
    database: Database, tenant_id: str, request: ListHubClientsRequest, after: str, limit: int
) -> list[tuple[str, bytes]]:
    """(key, serialized client) after the key `after`, in their order, up to `limit` and about 1 MiB."""
    key = ObjectKey.parsed(after, request.integration_id)
    filters = (request.country_code.upper(), request.party_id.upper(), request.role, request.status)
    rows = await database.rows(sql.hub_client_page, tenant_id, *key, *filters, limit, MAX_BYTES)
    return [(row["object_id"], row["payload"]) for row in rows]

"""Parties that are connected to hubs, as rows: the serialized message and the columns that lists filter by.

Who is connected to us stands with the integrations: see `connected_through`.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import asyncpg
from evbridge.v1.delivery_pb2 import OBJECT_KIND_HUB_CLIENT
from evbridge.v1.hub_client_pb2 import HubClient, ListHubClientsRequest

from service.domain.hub_client import hub_client_key
from service.domain.keys import ObjectKey
from service.domain.pages import MAX_BYTES
from service.storage.connection import Connection
from service.storage.marking import mark_sharing
from service.storage.owned import OwnedRows
from service.storage.party import hubs_among
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


async def hub_client_statuses(
    database: Database, tenant_id: str, key: ObjectKey, hubs: Collection[str], without: str
) -> list[int]:
    """How a party is connected to one of our `hubs` through each of its integrations, one left out."""
    rows = await database.rows(sql.hub_client_statuses, tenant_id, str(key), [*hubs], without)
    return [row["status"] for row in rows]


async def hub_clients_mark(
    conn: Connection, tenant_id: str, before: asyncpg.Record, parties: set[str], clients: Mapping[str, int]
) -> None:
    """Makes due who is connected to our hubs through an integration in another way than `before`: a locked row of it.

    `parties` are those of ours that it speaks for.
    """
    were: dict[str, int] = json.loads(before["hub_clients"])
    speaking = parties | {*before["parties"]}
    moved = parties != {*before["parties"]}
    changed = sorted(each for each in were.keys() | clients.keys() if moved or were.get(each) != clients.get(each))
    if changed and (hubs := await hubs_among(conn, tenant_id, speaking)):
        await mark_sharing(conn, tenant_id, OBJECT_KIND_HUB_CLIENT, hubs, changed)

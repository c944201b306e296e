"""Commands to chargers as rows: the serialized message, and whether its result is to be brought to who sent it."""

from collections.abc import Collection
from typing import NamedTuple
from uuid import UUID

from evbridge.v1.command_pb2 import Command, ListCommandsRequest

from service.domain.pages import MAX_BYTES
from service.errors import ResourceNotFound
from service.storage.connection import Connection
from service.storage.pool import Database
from service.storage.statements import Statements

sql = Statements.beside(__file__)


class DueResult(NamedTuple):
    """A received command whose result goes to `response_url`, the last time if it `is_last`."""

    tenant_id: str
    command: Command
    response_url: str
    is_last: bool


async def command_insert(database: Database, tenant_id: str, command: Command, response_url: str) -> bool:
    """False when there is one of its id."""
    row = (UUID(command.id), command.integration_id, command.direction, command.state)
    payload = command.SerializeToString()
    return await database.value(sql.command_insert, tenant_id, *row, payload, response_url) is not None


async def command_get(database: Database, tenant_id: str, id: str) -> bytes:
    """The serialized command. Raises ResourceNotFound."""
    payload: bytes | None = await database.value(sql.command_get, tenant_id, UUID(id))
    if payload is None:
        raise ResourceNotFound.of("command", id)
    return payload


async def command_find(database: Database, tenant_id: str, ids: Collection[str]) -> dict[str, bytes]:
    """Those of the commands that exist, serialized."""
    rows = await database.rows(sql.command_get_many, tenant_id, [*map(UUID, ids)])
    return {str(row["command_id"]): row["payload"] for row in rows}


async def command_lock(conn: Connection, tenant_id: str, id: str) -> Command:
    """Kept from other writers until the transaction ends. Raises ResourceNotFound."""
    payload: bytes | None = await conn.value(sql.command_lock, tenant_id, UUID(id))
    if payload is None:
        raise ResourceNotFound.of("command", id)
    return Command.FromString(payload)


async def command_put(conn: Connection, tenant_id: str, command: Command, *, brings_result: bool) -> None:
    payload = command.SerializeToString()
    await conn.run(sql.command_put, tenant_id, UUID(command.id), command.state, payload, brings_result)


async def command_page(
    database: Database, tenant_id: str, request: ListCommandsRequest, before: int, limit: int
) -> list[tuple[str, bytes]]:
    """(position, serialized command) before that position, newest first, up to `limit` and about 1 MiB."""
    filters = (request.integration_id, request.direction, request.state)
    rows = await database.rows(sql.command_page, tenant_id, before, *filters, limit, MAX_BYTES)
    return [(str(row["position"]), row["payload"]) for row in rows]


async def command_claim(database: Database) -> DueResult | None:
    """The result that is due next, ours to bring for 20 seconds. None when there is none."""
    row = await database.row(sql.command_claim)
    if row is None:
        return None
    return DueResult(row["tenant_id"], Command.FromString(row["payload"]), row["response_url"], row["is_last"])


async def command_again(database: Database, tenant_id: str, command: Command) -> None:
    """Its result was not taken, and is brought again."""
    await database.run(sql.command_again, tenant_id, UUID(command.id))


async def command_sent(database: Database, tenant_id: str, command: Command) -> None:
    """Its result is not brought any more."""
    await database.run(sql.command_sent, tenant_id, UUID(command.id), command.SerializeToString())

"""Commands to chargers: what changes one, each step in a transaction of its own, or in the caller's."""

import time
from collections.abc import Callable
from typing import Final, Protocol

from evbridge.v1.command_pb2 import (
    COMMAND_DIRECTION_RECEIVED,
    COMMAND_DIRECTION_SENT,
    COMMAND_RESPONSE_TYPE_ACCEPTED,
    COMMAND_STATE_ACCEPTED,
    COMMAND_STATE_ENDED,
    COMMAND_STATE_FAILED,
    COMMAND_STATE_PENDING,
    COMMAND_STATE_REFUSED,
    Command,
    CommandResponse,
    CommandResult,
)
from google.protobuf.timestamp_pb2 import Timestamp

from service.errors import ResourceNotFound
from service.storage.changes import change_time
from service.storage.command import command_get, command_lock, command_put
from service.storage.connection import Connection
from service.storage.notices import Notices
from service.storage.pool import Database

_OVER: Final = (COMMAND_STATE_REFUSED, COMMAND_STATE_ENDED, COMMAND_STATE_FAILED)


class Commander(Protocol):
    """Speaks with one type of partners about commands."""

    async def send(self, tenant_id: str, command: Command, timeout_s: float) -> CommandResponse:
        """To an operator. Raises EvbridgeError."""
        ...

    async def tell(self, tenant_id: str, command: Command, response_url: str) -> None:
        """Brings the result of one to who sent it. Raises EvbridgeError."""
        ...


async def command_answered(store: Database | Connection, tenant_id: str, id: str, response: CommandResponse) -> Command:
    """What the operator said at once. A result that was quicker stays. Raises ResourceNotFound."""

    def answered(command: Command, now: Timestamp) -> bool:
        if command.HasField("response"):
            return False
        command.response.CopyFrom(response)
        taken = response.result == COMMAND_RESPONSE_TYPE_ACCEPTED
        if taken:
            command.expire_time.seconds = now.seconds + response.timeout_s
        if command.state == COMMAND_STATE_PENDING:
            command.state = COMMAND_STATE_ACCEPTED if taken else COMMAND_STATE_REFUSED
        return True

    return await _changed(store, tenant_id, id, answered)


async def command_ended(
    store: Database | Connection,
    tenant_id: str,
    id: str,
    result: CommandResult,
    *,
    is_ours: bool,
    integrations: tuple[str, ...] = (),
) -> Command:
    """What the charger did; the first result counts. `is_ours`: it is brought to who sent the command.

    Raises ResourceNotFound for a command of the other direction, for one that went through none of the integrations,
    if any are named, and for one of ours that was not taken.
    """

    def ended(command: Command, now: Timestamp) -> bool:
        if command.direction != (COMMAND_DIRECTION_RECEIVED if is_ours else COMMAND_DIRECTION_SENT):
            raise ResourceNotFound.of("command", id)
        if integrations and command.integration_id not in integrations:
            raise ResourceNotFound.of("command", id)
        if is_ours and command.state not in (COMMAND_STATE_ACCEPTED, COMMAND_STATE_ENDED):
            raise ResourceNotFound.of("command", id)
        if command.HasField("result"):
            return False
        command.result.CopyFrom(result)
        command.state = COMMAND_STATE_ENDED
        return True

    return await _changed(store, tenant_id, id, ended, brings_result=is_ours)


async def command_failed(
    database: Database, tenant_id: str, id: str, description: str, *, for_certain: bool
) -> Command:
    """It was not sent, or that is not known."""

    def failed(command: Command, now: Timestamp) -> bool:
        command.description = description[:500]
        if for_certain and command.state == COMMAND_STATE_PENDING:
            command.state = COMMAND_STATE_FAILED
        return True

    return await _changed(database, tenant_id, id, failed)


async def command_awaited(database: Database, notices: Notices, tenant_id: str, id: str, limit_s: float) -> bytes:
    """The serialized command once it is over, or as it is after `limit_s`. Raises ResourceNotFound."""
    end = time.monotonic() + limit_s
    with notices.about(id) as news:
        while True:
            payload = await command_get(database, tenant_id, id)
            left_s = end - time.monotonic()
            if left_s <= 0 or Command.FromString(payload).state in _OVER:
                return payload
            await news.wait(left_s)


async def _changed(
    store: Database | Connection,
    tenant_id: str,
    id: str,
    change: Callable[[Command, Timestamp], bool],
    *,
    brings_result: bool = False,
) -> Command:
    if isinstance(store, Database):
        async with store.transaction() as conn:
            return await _changed(conn, tenant_id, id, change, brings_result=brings_result)
    command = await command_lock(store, tenant_id, id)
    now = Timestamp()
    now.FromDatetime(await change_time(store))
    if change(command, now):
        command.update_time.CopyFrom(now)
        await command_put(store, tenant_id, command, brings_result=brings_result)
    return command

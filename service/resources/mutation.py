"""What every change has in common: one transaction, an answer that can be repeated, a rehearsal."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Protocol

from google.protobuf.message import Message

from service.domain.caller import Caller
from service.storage.changes import change_time, idempotency_claim, idempotency_keep
from service.storage.connection import Connection
from service.storage.keyring import Keyring
from service.storage.pool import Database

PURPOSE = "request-id"


class Mutation(Protocol):
    """A request that changes something."""

    request_id: str
    validate_only: bool

    def SerializeToString(self, *, deterministic: bool = ...) -> bytes: ...


class _Rehearsed(Exception):
    """Rolls the transaction of a `validate_only` request back."""


async def mutate(
    database: Database,
    keyring: Keyring,
    request: Mutation,
    caller: Caller,
    work: Callable[[Connection, datetime], Awaitable[Message]],
) -> bytes:
    """Runs `work` in a transaction and returns its answer serialized.

    With a request id the answer is stored in the same transaction and given again to the same request; the request is
    remembered as a keyed hash, for it may hold a secret. With `validate_only` all is done and then undone.
    """
    method = type(request).__name__
    request.request_id = request.request_id.lower()  # a UUID, in any case the same
    answer = b""
    try:
        async with database.transaction() as conn:
            if request.request_id:
                digests = keyring.digests(PURPOSE, request.SerializeToString(deterministic=True))
                given = await idempotency_claim(conn, caller.tenant_id, method, request.request_id, digests)
                if given is not None:
                    return given
            answer = (await work(conn, await change_time(conn))).SerializeToString()
            if request.validate_only:
                raise _Rehearsed
            if request.request_id:
                await idempotency_keep(conn, caller.tenant_id, method, request.request_id, answer)
    except _Rehearsed:
        pass
    return answer

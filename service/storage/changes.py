"""What is written with every change, in its transaction: the change feed, marks for delivery, the answer to repeat."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from evbridge.v1.delivery_pb2 import (
    OBJECT_KIND_COMPANY,
    OBJECT_KIND_HUB_CLIENT,
    OBJECT_KIND_LOCATION,
    OBJECT_KIND_TARIFF,
    OBJECT_KIND_TOKEN,
    ObjectKind,
)

from service.domain.caller import Caller
from service.domain.keys import ObjectKey
from service.errors import RequestIdReused
from service.storage.connection import Connection
from service.storage.statements import Statements

sql = Statements.beside(__file__)

CREATE, UPDATE, DELETE = "create", "update", "delete"
DELIVERED = (OBJECT_KIND_COMPANY, OBJECT_KIND_TARIFF, OBJECT_KIND_LOCATION, OBJECT_KIND_TOKEN, OBJECT_KIND_HUB_CLIENT)


async def change_time(conn: Connection) -> datetime:
    """The transaction's time, by the database's clock."""
    now: datetime = await conn.value(sql.change_time)
    return now


class Change(NamedTuple):
    """What happened to one object, and its etag then. `integration_id`: it was received from there; "" for ours."""

    object_id: str
    operation: str
    etag: str
    integration_id: str = ""


async def change_record(
    conn: Connection, caller: Caller, kind: ObjectKind.ValueType, object_id: str, operation: str, etag: str
) -> None:
    """Records who changed what, and makes the object due wherever it is delivered."""
    await change_record_many(conn, caller, kind, [Change(object_id, operation, etag)])


async def change_record_many(
    conn: Connection, caller: Caller, kind: ObjectKind.ValueType, changes: Sequence[Change]
) -> None:
    """The same for different objects of one kind, as one statement."""
    if not changes:
        return
    object_ids, *others = zip(*changes, strict=True)
    whose = caller.tenant_id, kind, caller.actor
    if len({change[1:] for change in changes}) == 1:  # as of statuses, which are many
        await conn.run(sql.change_record_alike, *whose, object_ids, *changes[0][1:])
    else:
        await conn.run(sql.change_record, *whose, object_ids, *others)
    ours = [change.object_id for change in changes if not change.integration_id]
    if ours and kind in DELIVERED:
        await delivery_mark(conn, caller.tenant_id, None, kind, ours)


async def delivery_mark(
    conn: Connection, tenant_id: str, integration_id: str | None, kind: ObjectKind.ValueType, ids: Collection[str]
) -> None:
    """Makes objects due at one integration, or at every one, that takes their kind."""
    await conn.run(sql.delivery_mark, tenant_id, kind, ids, integration_id)


async def delivery_mark_at(
    conn: Connection,
    tenant_id: str,
    integration_id: str | None,
    kind: ObjectKind.ValueType,
    keys: Collection[ObjectKey],
) -> None:
    """The same for tariffs or locations."""
    await delivery_mark(conn, tenant_id, integration_id, kind, [*map(str, keys)])


class Recipient(NamedTuple):
    """Whom a session or a CDR goes to: the integration, or with "" those whose partner issues tokens as the party."""

    token_party: str
    integration_id: str = ""

    def is_through(self, integration_id: str, token_parties: Collection[str]) -> bool:
        """Whether it goes through an integration whose partner issues tokens as those parties."""
        return self.integration_id == integration_id if self.integration_id else self.token_party in token_parties


async def delivery_mark_recipients(
    conn: Connection,
    tenant_id: str,
    kind: ObjectKind.ValueType,
    recipients: Mapping[ObjectKey, Collection[Recipient]],
) -> None:
    """Makes each object due where it goes, at integrations that take its kind."""
    named = {each for several in recipients.values() for each in several}
    ids, parties = {each.integration_id for each in named}, {each.token_party for each in named}
    for row in await conn.rows(sql.delivery_recipients, tenant_id, kind, [*ids], [*parties]) if named else ():
        through = (row["integration_id"], row["token_parties"])
        keys = [key for key, several in recipients.items() if any(each.is_through(*through) for each in several)]
        if keys:
            await delivery_mark_at(conn, tenant_id, row["integration_id"], kind, keys)


async def delivery_mark_issued(
    conn: Connection, tenant_id: str, integration_id: str, token_parties: Collection[str]
) -> None:
    """Makes all sessions and CDRs due that were charged with tokens of the parties and never went there.

    The integration is locked.
    """
    if token_parties:
        await conn.run(sql.delivery_mark_issued, tenant_id, integration_id, [*token_parties])


async def idempotency_claim(
    conn: Connection, tenant_id: str, method: str, request_id: str, digests: Sequence[bytes]
) -> bytes | None:
    """The answer given before to this request id; None when it is new and now ours.

    `digests` are keyed hashes of the request, the current key's first. Raises RequestIdReused for another request.
    """
    key = (tenant_id, method, UUID(request_id))
    if await conn.value(sql.idempotency_claim, *key, digests[0]):
        return None
    row = await conn.row(sql.idempotency_find, *key)
    if row is None or row["digest"] not in digests:
        raise RequestIdReused("the request id was used for another request", request_id=request_id)
    answer: bytes = row["answer"]
    return answer


async def idempotency_keep(conn: Connection, tenant_id: str, method: str, request_id: str, answer: bytes) -> None:
    await conn.run(sql.idempotency_keep, tenant_id, method, UUID(request_id), answer)

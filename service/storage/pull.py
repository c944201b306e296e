"""Lists of partners that are pulled: how far each was read, what a whole reading has not met, and when one is due."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from evbridge.v1.delivery_pb2 import (
    OBJECT_KIND_HUB_CLIENT,
    OBJECT_KIND_LOCATION,
    OBJECT_KIND_TARIFF,
    OBJECT_KIND_TOKEN,
    ObjectKind,
)
from evbridge.v1.integration_pb2 import IntegrationType

from service.storage.connection import Connection
from service.storage.pool import Database
from service.storage.run import RunClaim, run_hold
from service.storage.statements import Statements

sql = Statements.beside(__file__)

_UNSEEN = {
    OBJECT_KIND_LOCATION: sql.pull_unseen_locations,
    OBJECT_KIND_TARIFF: sql.pull_unseen_tariffs,
    OBJECT_KIND_TOKEN: sql.pull_unseen_tokens,
    OBJECT_KIND_HUB_CLIENT: sql.pull_unseen_hub_clients,
}


_AT_ONCE = 5000
"""Rows that one statement writes, so that each ends in time however long a list is."""


class Pull(NamedTuple):
    """How far a run read a list.

    `next_link` is where its next page is: "" before the first page and after the last one, None when all is done.
    `watermark`, `highest`: by the partner's clock, of earlier runs and of this one. `held` objects were there when a
    `whole` reading began; it is `complete` until something is found that makes that doubtful. `noted_link`: see
    `service.domain.pages.link_noted`.
    """

    run_id: UUID
    whole: bool
    next_link: str | None
    watermark: datetime | None
    whole_time: datetime | None
    begin_time: datetime
    highest: datetime | None
    complete: bool
    total: int
    held: int
    counts: Sequence[int]
    noted_link: str


async def pull_get(
    on: Database | Connection, tenant_id: str, integration_id: str, kind: ObjectKind.ValueType
) -> Pull | None:
    """None when the list was never read."""
    row = await on.row(sql.pull_get, tenant_id, integration_id, kind)
    return Pull(**row) if row else None


async def pull_begin(database: Database, run: RunClaim, kind: ObjectKind.ValueType, *, whole: bool) -> Pull:
    """From the first page on. Raises LeaseLost."""
    of = (run.tenant_id, run.integration_id, kind)
    async with database.transaction() as conn:
        await run_hold(conn, run)
        await conn.run(sql.pull_begin, *of, run.run_id, whole)
        await _forget(conn, of)
        if whole:
            after: str | None = ""
            while after is not None:
                after = await conn.value(_UNSEEN[kind], *of, after, _AT_ONCE)
            await conn.run(sql.pull_held, *of)
        begun = await pull_get(conn, *of)
    assert begun is not None  # noqa: S101
    return begun


async def pull_read(
    conn: Connection, run: RunClaim, kind: ObjectKind.ValueType, pull: Pull, seen: Collection[str]
) -> None:
    """A page was stored whose objects are `seen`, by their ids as they are stored. The run is held."""
    of = (run.tenant_id, run.integration_id, kind)
    read = (pull.next_link, pull.highest, pull.complete, pull.total, [*pull.counts], pull.noted_link)
    await conn.run(sql.pull_read, *of, *read)
    if pull.whole:
        await conn.run(sql.pull_seen, *of, [*seen])


async def pull_unseen(database: Database, tenant_id: str, integration_id: str, kind: ObjectKind.ValueType) -> list[str]:
    """The objects that a whole reading has not met, by their ids as they are stored."""
    return [row["object_id"] for row in await database.rows(sql.pull_unseen, tenant_id, integration_id, kind)]


async def pull_end(database: Database, run: RunClaim, kind: ObjectKind.ValueType, pull: Pull) -> None:
    """The list was read to its end: the next run reads what changed since. Raises LeaseLost."""
    of = (run.tenant_id, run.integration_id, kind)
    async with database.transaction() as conn:
        await run_hold(conn, run)
        await conn.run(sql.pull_end, *of, [*pull.counts])
        await _forget(conn, of)


async def _forget(conn: Connection, of: tuple[str, str, ObjectKind.ValueType]) -> None:
    while await conn.run(sql.pull_forget, *of, _AT_ONCE) == _AT_ONCE:
        pass


async def pull_due(conn: Connection, types: Collection[IntegrationType.ValueType]) -> tuple[str, str] | None:
    """(tenant, integration) of one of these types whose lists are due, locked; its next time is set."""
    row = await conn.row(sql.pull_due, [*types])
    return (row["tenant_id"], row["integration_id"]) if row else None


async def pull_soon(conn: Connection, tenant_id: str, integration_id: str) -> None:
    """The lists are due now."""
    await conn.run(sql.pull_soon, tenant_id, integration_id)


async def pull_later(conn: Connection, tenant_id: str, integration_id: str) -> None:
    """The lists are due again after an interval."""
    await conn.run(sql.pull_later, tenant_id, integration_id)

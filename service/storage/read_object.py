"""What a run under way made of the pages that it read: serialized messages by list and id. Each attempt begins anew."""

from collections.abc import AsyncIterator, Collection, Mapping
from typing import Final

from service.storage.connection import Connection
from service.storage.pool import Database
from service.storage.run import RunClaim
from service.storage.statements import Statements

sql = Statements.beside(__file__)

_AT_ONCE: Final = 5000
"""Rows that one statement deletes."""
_PER_PAGE: Final = 100
_BEFORE_ALL: Final = -(1 << 63)


async def read_object_put(conn: Connection, run: RunClaim, list: str, objects: Mapping[int, bytes]) -> int:
    """Keeps objects in the place of those of the same ids; tells how many there were none of. The run is held."""
    new: int = await conn.value(sql.read_object_put, run.tenant_id, run.run_id, list, [*objects], [*objects.values()])
    return new


async def read_object_add(conn: Connection, run: RunClaim, list: str, parts: Mapping[int, bytes]) -> None:
    """Appends to what is kept by these ids: to a serialized message more items of its lists. The run is held."""
    await conn.run(sql.read_object_add, run.tenant_id, run.run_id, list, [*parts], [*parts.values()])


async def read_object_get(database: Database, run: RunClaim, list: str, ids: Collection[int]) -> dict[int, bytes]:
    """Those that are kept, in the order of their ids."""
    rows = await database.rows(sql.read_object_get, run.tenant_id, run.run_id, list, [*ids])
    return {row["id"]: row["payload"] for row in rows}


async def read_object_pages(database: Database, run: RunClaim, list: str) -> AsyncIterator[dict[int, bytes]]:
    """All, some at a time, in the order of their ids."""
    after = _BEFORE_ALL
    while rows := await database.rows(sql.read_object_page, run.tenant_id, run.run_id, list, after, _PER_PAGE):
        after = rows[-1]["id"]
        yield {row["id"]: row["payload"] for row in rows}


async def read_objects_forget(conn: Connection, run: RunClaim) -> None:
    """Those of all lists."""
    while await conn.run(sql.read_object_forget, run.tenant_id, run.run_id, _AT_ONCE) == _AT_ONCE:
        pass

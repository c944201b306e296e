"""Pages of a partner's lists that a run under way has read: one that is cut off goes on after them."""

from typing import NamedTuple

from service.storage.connection import Connection
from service.storage.pool import Database
from service.storage.run import RunClaim
from service.storage.statements import Statements

sql = Statements.beside(__file__)


class ReadPage(NamedTuple):
    """A serialized message, the objects that are missing in it as JSON, and what leads to the page after it."""

    payload: bytes
    rejects: str
    next_link: str


async def read_page_get(database: Database, run: RunClaim, list: str, number: int) -> ReadPage | None:
    row = await database.row(sql.read_page_get, run.tenant_id, run.run_id, list, number)
    return ReadPage(**row) if row else None


async def read_page_put(conn: Connection, run: RunClaim, list: str, number: int, page: ReadPage) -> None:
    """The run is held."""
    await conn.run(sql.read_page_put, run.tenant_id, run.run_id, list, number, *page)


async def read_pages_forget(conn: Connection, run: RunClaim) -> None:
    """Those of all lists."""
    await conn.run(sql.read_pages_forget, run.tenant_id, run.run_id)

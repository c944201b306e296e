"""Changes of many rows, as statements that none of them takes long."""

from typing import Any

from service.storage.connection import Connection
from service.storage.pool import Database
from service.storage.statements import Statement

SLICE = 1000


async def in_slices(conn: Database | Connection, statement: Statement, *args: Any) -> None:
    """Runs it until it changes fewer rows than its last argument allows."""
    while await conn.run(statement, *args, SLICE) == SLICE:
        pass

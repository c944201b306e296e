"""What `evbridge doctor` looks at in the database. It reads only."""

from datetime import datetime, timedelta
from typing import NamedTuple

from service.storage.pool import Database
from service.storage.statements import Statements

sql = Statements.beside(__file__)


class ServerState(NamedTuple):
    """The PostgreSQL server."""

    version: str
    read_only: bool
    time: datetime


class Stuck(NamedTuple):
    """Work that a worker died on (deliveries, runs), and work that nobody takes (queued runs, untaken deliveries)."""

    deliveries: int
    runs: int
    queued: int
    untaken: int


async def server_state(database: Database) -> ServerState:
    (row,) = await database.rows(sql.doctor_server)
    return ServerState(*row)


async def stuck(database: Database, since: timedelta) -> Stuck:
    (row,) = await database.rows(sql.doctor_leases, since)
    return Stuck(*row)


async def parked(database: Database) -> dict[tuple[str, str], int]:
    """How many deliveries are parked, by tenant and integration, the most first."""
    rows = await database.rows(sql.doctor_parked)
    return {(row["tenant_id"], row["integration_id"]): row["count"] for row in rows}


async def tenants(database: Database) -> list[str]:
    return [row["tenant_id"] for row in await database.rows(sql.doctor_tenants)]

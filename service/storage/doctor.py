"""What `evbridge doctor` looks at in the database. It reads only."""

from datetime import datetime, timedelta
from typing import Final, NamedTuple

import asyncpg

from service.storage.connection import connect, host_urls
from service.storage.pool import Database
from service.storage.statements import Statements

sql = Statements.beside(__file__)
_CONSOLE_S: Final = 3.0


class ServerState(NamedTuple):
    """The PostgreSQL server."""

    version: str
    read_only: bool
    time: datetime
    crash_safe: bool
    synchronous_commit: str
    synchronous_standbys: str
    """`synchronous_standby_names`: whom commits wait for; empty for nobody."""
    standbys: int
    """How many follow."""


class StuckRuns(NamedTuple):
    """Of `abandoned` ones the worker is gone, `queued` ones nobody takes."""

    abandoned: int
    queued: int


async def server_state(database: Database) -> ServerState:
    (row,) = await database.rows(sql.doctor_server)
    return ServerState(*row)


async def pgbouncer_version(url: str) -> tuple[int, ...] | None:
    """Of the PgBouncer at `url`, as its console greets; None when that lets this user not in."""
    try:
        console = await connect(host_urls(url), timeout_s=_CONSOLE_S, database="pgbouncer", target_session_attrs="any")
    except (OSError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return None
    try:
        version = console.get_server_version()
        return version.major, version.minor, version.micro
    finally:
        console.terminate()


async def stuck_runs(database: Database, late: timedelta) -> StuckRuns:
    (row,) = await database.rows(sql.doctor_runs, late)
    return StuckRuns(*row)


async def parked(database: Database) -> dict[tuple[str, str], int]:
    """How many deliveries are parked, by tenant and integration, the most first."""
    rows = await database.rows(sql.doctor_parked)
    return {(row["tenant_id"], row["integration_id"]): row["count"] for row in rows}


async def tenants(database: Database) -> list[str]:
    return [row["tenant_id"] for row in await database.rows(sql.doctor_tenants)]

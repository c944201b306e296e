"""Brings a database to the schema of this build: numbered files, applied once, in order, never taken back.

    NNNN_name.sql        runs in one transaction; a line "-- step: name" runs that step after it, in the same one
    NNNN_name.notx.sql   one statement outside a transaction, such as CREATE INDEX CONCURRENTLY IF NOT EXISTS

Any number of processes may start at once, and die at any moment: what they began is begun again. The last release keeps
running meanwhile, so a migration gives up a lock it does not get quickly, lets the queries behind it pass, and tries
again. It may also start again afterwards: the database says which builds may.
"""

import asyncio
import hashlib
import logging
import random
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from service.storage.connection import connect, describe, host_urls
from service.storage.statements import Statements
from service.storage.steps import STEPS

FOLDER = Path(__file__).parent / "migrations"
LAST_RELEASE = "0078_tenants_that_moved.sql"
"""The newest of the last release. A build that knows it may serve the database once this build has migrated it."""
log = logging.getLogger(__name__)
sql = Statements.beside(__file__)

_FILE = re.compile(r"(\d{4})_[a-z0-9_]+(\.notx)?\.sql")
_REPEATABLE = re.compile(r"\bIF (NOT )?EXISTS\b")
_STEP = re.compile(r"^-- step: ([a-z_]+)$", re.MULTILINE)
_LOCK = 0x65_76_62_72_69_64_67_65  # "evbridge": the advisory lock of whoever migrates
_LOCK_WAIT_S = 600.0
_POLL_S = 0.2
_ATTEMPTS = 30


class MigrationError(Exception):
    """The database and this build's migrations do not fit, or a migration did not get through."""


@dataclass(frozen=True, slots=True)
class _Migration:
    name: str
    sql: str
    in_transaction: bool

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


async def migrate(url: str, folder: Path = FOLDER, last_release: str = LAST_RELEASE) -> list[str]:
    """Applies what is pending and returns its names. `url` must lead to the server itself, not to PgBouncer.

    Raises MigrationError when the database was migrated by a build later than the next release, when an applied file
    was edited, or when a file fails; the files before it stay applied. Raises driver errors when the database cannot
    be reached.
    """
    connection = await _connected(url)
    try:
        if not await _pending(connection, folder):
            return []
        await _lock(connection)
        await connection.execute(sql.migration_table.text)
        await connection.execute(sql.migration_floor_table.text)
        await connection.execute(sql.migration_floor_raise.text, last_release)
        applied = []
        for migration in await _pending(connection, folder):  # another process may have been faster
            await _apply(connection, migration)
            applied.append(migration.name)
        return applied
    finally:
        await connection.close(timeout=5)  # gives the lock back


def newest(folder: Path = FOLDER) -> str:
    """The name of the last one of this build."""
    return _files(folder)[-1].name


async def pending(url: str, folder: Path = FOLDER) -> list[str]:
    """The names `migrate` would apply. Raises MigrationError as it does."""
    connection = await _connected(url)
    try:
        return [migration.name for migration in await _pending(connection, folder)]
    finally:
        await connection.close(timeout=5)


async def _connected(url: str) -> "asyncpg.Connection[asyncpg.Record]":
    settings = {"application_name": "evbridge-migrate", "statement_timeout": "0", "lock_timeout": "200ms"}
    connection = await connect(host_urls(url), timeout_s=5, server_settings=settings)
    with suppress(asyncpg.PostgresError):  # Where a server cannot, the next one waits for what a dead process began.
        await connection.execute("SET client_connection_check_interval = '1s'")
    return connection


async def _lock(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Asks again and again: a process that waited inside the server would hold a snapshot, and CREATE INDEX
    CONCURRENTLY waits for every snapshot."""
    deadline = asyncio.get_running_loop().time() + _LOCK_WAIT_S
    while not await connection.fetchval(sql.migration_lock.text, _LOCK):
        if asyncio.get_running_loop().time() > deadline:
            raise MigrationError("another process has been migrating this database for too long")
        await asyncio.sleep(_POLL_S)


async def _pending(connection: "asyncpg.Connection[asyncpg.Record]", folder: Path) -> list[_Migration]:
    ours = _files(folder)
    applied: dict[str, str] = {}
    if await connection.fetchval(sql.migration_any.text):
        applied = {row["name"]: row["sha256"] for row in await connection.fetch(sql.migration_list.text)}
    unknown = sorted(applied.keys() - {migration.name for migration in ours})
    if unknown and not await _is_next_release(connection, unknown, ours[-1].name):
        raise MigrationError(
            f"the database was migrated by a newer build: this one does not know {', '.join(unknown)}; start that build"
        )
    for migration in ours:
        if applied.get(migration.name, migration.sha256) != migration.sha256:
            raise MigrationError(f"{migration.name} was edited after it was applied: restore it and add a new file")
    missing = [migration for migration in ours if migration.name not in applied]
    if missing and applied and missing[0].name < max(applied):
        raise MigrationError(f"{missing[0].name} comes before {max(applied)}, which is applied: give it a new number")
    return missing


async def _is_next_release(
    connection: "asyncpg.Connection[asyncpg.Record]", unknown: Sequence[str], newest: str
) -> bool:
    """Whether what this build does not know was made by the release after it, beside which it may serve."""
    if unknown[0] < newest or not await connection.fetchval(sql.migration_floor_any.text):
        return False
    if await connection.fetchval(sql.migration_floor.text) > newest:
        return False
    log.warning("the next release has migrated the database", extra={"migrations": ", ".join(unknown)})
    return True


def _files(folder: Path) -> list[_Migration]:
    migrations: dict[str, _Migration] = {}
    for path in sorted(folder.glob("*.sql")):
        match = _FILE.fullmatch(path.name)
        if match is None:
            raise MigrationError(f"{path.name} is not named NNNN_name.sql or NNNN_name.notx.sql")
        if match[1] in migrations:
            raise MigrationError(f"{path.name} and {migrations[match[1]].name} have the same number")
        text = path.read_text(encoding="utf-8")
        if match[2] and not _REPEATABLE.search(text):  # its process may die before it has written down that it is done
            raise MigrationError(f"{path.name} cannot be repeated: write IF NOT EXISTS or IF EXISTS")
        migrations[match[1]] = _Migration(path.name, text, in_transaction=not match[2])
    return list(migrations.values())


async def _apply(connection: "asyncpg.Connection[asyncpg.Record]", migration: _Migration) -> None:
    """Raises MigrationError with the SQLSTATE and the names involved; the server's text stays in its cause."""
    try:
        if migration.in_transaction:
            await _apply_in_transaction(connection, migration)
        else:
            await _apply_outside(connection, migration)
    except asyncpg.PostgresError as error:
        raise MigrationError(f"{migration.name} failed: {describe(error)}") from error


async def _apply_in_transaction(connection: "asyncpg.Connection[asyncpg.Record]", migration: _Migration) -> None:
    for left in range(_ATTEMPTS - 1, -1, -1):
        try:
            async with connection.transaction():
                await connection.execute(migration.sql)
                for step in _STEP.findall(migration.sql):
                    await STEPS[step](connection)
                await connection.execute(sql.migration_record.text, migration.name, migration.sha256)
            return
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
            if not left:
                raise
        await asyncio.sleep(_POLL_S + random.random())


async def _apply_outside(connection: "asyncpg.Connection[asyncpg.Record]", migration: _Migration) -> None:
    """Waits for its locks without a limit: what runs here blocks no reader and no writer, and giving up would leave
    an index half built."""
    await connection.execute("SET lock_timeout = 0")
    for index in await connection.fetch(sql.migration_invalid_indexes.text):
        await connection.execute(f"DROP INDEX CONCURRENTLY {index[0]}")
    await connection.execute(migration.sql)
    await connection.execute(sql.migration_record.text, migration.name, migration.sha256)
    await connection.execute("RESET lock_timeout")

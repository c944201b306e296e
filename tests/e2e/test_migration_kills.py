"""Whoever migrates a database is killed in the middle, and the next one makes the schema what it should be."""

import asyncio
import random
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import asyncpg
import pytest

from service.storage.migrations import FOLDER, migrate, pending, sql
from tests.conftest import created
from tests.front_door import FORKS
from tools.schema import SCHEMA, dump

INDEX = "9999_index.notx.sql"
BUILDS = "CREATE INDEX CONCURRENTLY IF NOT EXISTS company_etag ON company (etag)"
STALL = """
    CREATE TABLE stalled (name text);
    CREATE FUNCTION stall() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF EXISTS (SELECT FROM stalled WHERE name = NEW.name) THEN
            PERFORM pg_sleep(600);
        END IF;
        RETURN NEW;
    END
    $$;
    CREATE TRIGGER stall BEFORE INSERT ON schema_migration FOR EACH ROW EXECUTE FUNCTION stall();
    """
"""A migration that is named in `stalled` does all of its work, and does not end."""
NO_STALL = "DROP TRIGGER stall ON schema_migration; DROP FUNCTION stall; DROP TABLE stalled; DROP INDEX company_etag"
IS_STALLED = (
    "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database())"
)
IS_HALF_BUILT = "SELECT EXISTS (SELECT FROM pg_index WHERE NOT indisvalid)"


@pytest.fixture
async def url(postgres: str) -> AsyncIterator[str]:
    async with created(postgres) as made:
        yield made


@pytest.fixture
async def database(url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(url)
    yield connection
    await connection.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """This build's migrations, and the index of a table as one that grows gets it."""
    for path in FOLDER.glob("*.sql"):
        shutil.copy(path, tmp_path)
    (tmp_path / INDEX).write_text(BUILDS)
    return tmp_path


def _migrate(url: str, folder: Path) -> None:
    asyncio.run(migrate(url, folder))


async def kill_when(database: asyncpg.Connection, condition: str, url: str, folder: Path) -> None:
    """A process that migrates, once the condition holds. Nobody tells its session."""
    process = FORKS.Process(target=_migrate, args=(url, folder))
    await asyncio.to_thread(process.start)
    while not await database.fetchval(condition):
        assert process.is_alive()
        await asyncio.sleep(0.01)
    process.kill()
    await asyncio.to_thread(process.join)


@pytest.mark.timeout(600)
async def test_a_migration_whose_process_is_killed_is_begun_again(
    url: str, database: asyncpg.Connection, folder: Path, soak: Callable[[int], int]
) -> None:
    names = await pending(url, folder)
    await database.execute(sql.migration_table.text)
    await database.execute(STALL)
    killed = names if soak(10) == 10 else [*sorted(random.sample(names[:-1], 3)), INDEX]
    for name in killed:
        await database.execute("INSERT INTO stalled VALUES ($1)", name)
        await kill_when(database, IS_STALLED, url, folder)
        assert await pending(url, folder) == names[names.index(name) :]
        await database.execute("TRUNCATE stalled")
    assert await migrate(url, folder) == names[-1:]
    await database.execute(NO_STALL)
    assert SCHEMA.read_text().endswith(await dump(url))


async def test_an_index_whose_process_is_killed_is_built_anew(
    url: str, database: asyncpg.Connection, folder: Path
) -> None:
    (folder / INDEX).unlink()
    await migrate(url, folder)
    (folder / INDEX).write_text(BUILDS)
    writer = await asyncpg.connect(url)
    async with writer.transaction():
        await writer.execute("LOCK TABLE company IN ROW EXCLUSIVE MODE")
        await kill_when(database, IS_HALF_BUILT, url, folder)
    assert await migrate(url, folder) == [INDEX]
    assert not await database.fetchval(IS_HALF_BUILT)
    await database.execute("DROP INDEX company_etag")
    assert SCHEMA.read_text().endswith(await dump(url))
    await writer.close()

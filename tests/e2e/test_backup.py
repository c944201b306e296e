"""The embedded database is copied while it works, and a copy becomes a database again."""

import asyncio
import json
import os
import re
import shutil
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import grpc
import pytest
from evbridge.v1.company_pb2 import UpsertCompanyRequest
from evbridge.v1.watch_pb2 import WatchCompaniesRequest

from service.storage.embedded import EmbeddedPostgres
from tests.front_door import Client, a_company, command, data_directory, environment, fails, serving
from tests.writers import Writers, stored

TIMELINE = "SELECT left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)"


def variables(data_dir: Path) -> dict[str, str]:
    """Of a process on the embedded database, with a file of secrets keys beside it."""
    environ = environment("", DATA_DIR=data_dir, OCPI_LISTEN="")
    return {name: text for name, text in environ.items() if text and name != "EVBRIDGE_SECRETS_KEYS"}


async def done(environ: dict[str, str], *arguments: str | Path) -> str:
    ended = await command(environ, *map(str, arguments))
    assert ended.code == 0, ended.err
    return ended.out.strip()


async def refused(environ: dict[str, str], *arguments: str | Path) -> str:
    ended = await command(environ, *map(str, arguments))
    assert ended.code == 1, ended.out
    return ended.err


async def asked(data_dir: Path, statement: str) -> str:
    """What the embedded database answers."""
    connection = await asyncpg.connect(EmbeddedPostgres(data_dir / "postgres").dsn())
    try:
        return str(await connection.fetchval(statement))
    finally:
        await connection.close()


@asynccontextmanager
async def marking(data_dir: Path, writers: Writers) -> AsyncIterator[dict[int, int]]:
    """Places in the log -> how many companies had been acknowledged before."""
    marks: dict[int, int] = {}

    async def mark() -> None:
        while True:
            acknowledged = len(writers.companies)
            marks[place(await asked(data_dir, "SELECT pg_current_wal_flush_lsn()::text"))] = acknowledged

    marked = asyncio.create_task(mark())
    try:
        yield marks
    finally:
        marked.cancel()
        await asyncio.wait([marked])


def place(lsn: str) -> int:
    high, low = lsn.split("/")
    return (int(high, 16) << 32) + int(low, 16)


@dataclass
class Copied:
    """`folder` was made while companies were written: `held` of them before it was complete, all of them by the end."""

    folder: Path
    key: str
    held: set[str]
    written: set[str]
    ahead: str
    """The resume token of a watch that saw them all."""


@pytest.fixture(scope="module")
async def copied() -> AsyncIterator[Copied]:
    with data_directory() as directory:
        environ, folder = variables(directory / "data"), directory / "copy"
        async with serving(environ) as server, grpc.aio.insecure_channel(server.address) as channel:
            key = await done(environ, "keys", "create", "--tenant", "acme", "--role", "admin")
            writers = Writers(server.address, key)
            async with writers.at_work(), marking(directory / "data", writers) as marks:
                await writers.do(20)
                said = await done(environ, "backup", folder, "--with-keys")
                await writers.do(20)
                await writers.finish()
            watch = Client(channel, key).watch.WatchCompanies(WatchCompaniesRequest(), timeout=60)
            ahead = (await watch.read()).resume_token
            watch.cancel()
        assert re.fullmatch(rf"copied to {folder}, with all that was acknowledged before .* UTC", said)
        assert stat.S_IMODE((folder / "secrets.keys").stat().st_mode) == 0o600
        (log,) = json.loads((folder / "data/backup_manifest").read_text())["WAL-Ranges"]
        first, last = place(log["Start-LSN"]), place(log["End-LSN"])
        held = max(count for lsn, count in marks.items() if lsn <= last)
        assert held > max(count for lsn, count in marks.items() if lsn <= first)  # there were writes meanwhile
        ids = [company.id for company in writers.companies]
        yield Copied(folder, key, {*ids[:held]}, {*ids}, ahead)


async def test_what_was_acknowledged_before_the_copy_was_whole_is_there_again(copied: Copied) -> None:
    with data_directory() as directory:
        environ = variables(directory)
        await done(environ, "restore", copied.folder)
        assert "holds a database" in await refused(environ, "restore", copied.folder)
        async with serving(environ) as server, grpc.aio.insecure_channel(server.address) as channel:
            ids = {company.id for company in (await stored(server.address, copied.key))[1]}
            assert copied.held <= ids < copied.written
            client = Client(channel, copied.key)
            watch = client.watch.WatchCompanies(WatchCompaniesRequest(resume_token=copied.ahead), timeout=60)
            assert (await fails(watch.read())).code is grpc.StatusCode.OUT_OF_RANGE
            assert await asked(directory, TIMELINE) == "00000002"  # so it stays refused, whatever is written
            await client.companies.UpsertCompany(UpsertCompanyRequest(company=a_company()))


async def test_a_damaged_copy_becomes_no_database(copied: Copied) -> None:
    """The control is the copy of the test above, before it was damaged."""
    with data_directory() as directory:
        damaged = directory / "copy"
        shutil.copytree(copied.folder, damaged)
        with (damaged / "data/global/1262").open("r+b") as file:
            file.seek(-1, os.SEEK_END)
            file.write(b"!")
        environ = variables(directory / "data")
        (damaged / "secrets.keys").rename(directory / "keys")
        assert "put the secrets keys of this database in" in await refused(environ, "restore", damaged)
        environ["EVBRIDGE_SECRETS_KEYS_FILE"] = str(directory / "keys")
        assert "the copy is damaged: global/1262" in await refused(environ, "restore", damaged)
        assert not (directory / "data/postgres/data").exists()


async def test_a_copy_is_made_of_the_embedded_database_and_over_nothing(copied: Copied) -> None:
    environ = variables(copied.folder.parent / "data")
    assert f"{copied.folder} is there already" in await refused(environ, "backup", copied.folder)
    other = environ | {"EVBRIDGE_DATABASE_URL": "postgresql://nobody@localhost/none"}
    assert "names a server, which has tools of its own" in await refused(other, "backup", copied.folder / "other")

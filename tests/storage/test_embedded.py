"""The embedded server starts where it can, says why where it cannot, and survives every kill."""

import asyncio
import contextlib
import fcntl
import os
import signal
import stat
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

from service.storage.embedded import EmbeddedPostgres, EmbeddedPostgresError
from tests.front_door import data_directory
from tests.postgres import processes_in

OWNER = """
import asyncio, sys
from pathlib import Path
from service.storage.embedded import EmbeddedPostgres

async def main():
    print(await EmbeddedPostgres(Path(sys.argv[1])).start(), flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


@pytest.fixture
def empty() -> Iterator[Path]:
    with data_directory() as directory:
        yield directory / "pg"


@pytest.fixture(scope="module")
async def root() -> AsyncIterator[Path]:
    """A cluster at rest that holds a row."""
    with data_directory() as directory:
        server = EmbeddedPostgres(directory / "pg")
        await server.start()
        await query(server, "CREATE TABLE kept (id int); INSERT INTO kept VALUES (1)")
        await server.stop()
        yield directory / "pg"


async def query(server: EmbeddedPostgres, sql: str) -> object:
    connection = await asyncpg.connect(server.dsn())
    try:
        return await connection.fetchval(sql) if sql.startswith(("SELECT", "SHOW")) else await connection.execute(sql)
    finally:
        await connection.close()


def postmaster_of(server: EmbeddedPostgres) -> int:
    return int((server.data / "postmaster.pid").read_text().split()[0])


async def until_gone(server: EmbeddedPostgres) -> None:
    while processes_in(server.data):
        await asyncio.sleep(0.02)


async def test_the_first_start_makes_a_private_server_on_a_socket_only(empty: Path) -> None:
    server = EmbeddedPostgres(empty, ("work_mem=5MB",))
    dsn = await server.start()
    connection = await asyncpg.connect(dsn)
    assert await connection.fetchrow("SELECT current_user, current_database()") == ("evbridge", "evbridge")
    assert await connection.fetchval("SHOW listen_addresses") == ""
    assert await connection.fetchval("SHOW work_mem") == "5MB"
    await connection.close()
    for directory in (server.data, server.socket, empty):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    await server.stop()
    assert processes_in(server.data) == set()
    assert not list(server.socket.iterdir())


async def test_two_that_start_at_once_share_one_server(empty: Path) -> None:
    one, other = EmbeddedPostgres(empty), EmbeddedPostgres(empty)
    assert await asyncio.gather(one.start(), other.start()) == [one.dsn(), one.dsn()]
    await one.stop()
    await other.stop()
    assert processes_in(one.data) == set()


async def test_a_second_one_attaches_and_its_end_leaves_the_server_running(root: Path) -> None:
    owner, guest = EmbeddedPostgres(root), EmbeddedPostgres(root)
    await owner.start()
    await guest.start()
    await guest.stop()
    assert await query(owner, "SELECT id FROM kept") == 1
    await owner.stop()


async def test_an_owner_that_stops_soon_is_waited_for(root: Path) -> None:
    """The control is the test above: to an owner that stays one attaches."""
    command, server = EmbeddedPostgres(root, brief=True), EmbeddedPostgres(root)
    await command.start()
    postmaster = postmaster_of(command)
    starting = asyncio.create_task(server.start())
    while not (await query(command, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'")) > 1:
        pass  # until it has found the server of the command
    assert not starting.done()
    await command.stop()
    await starting
    assert postmaster_of(server) != postmaster
    await command.start()  # attaches: what the lock says is of its owner
    await command.stop()
    assert await query(server, "SELECT id FROM kept") == 1
    await server.stop()


async def test_what_a_server_that_starts_or_stops_says_to_one_that_attaches_means_not_yet(root: Path) -> None:
    """The control is the first refusal, which no wait will change."""
    refusals = ["28000", "57P01", "57P02", "57P03", "08006", ""]

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(int.from_bytes(await reader.readexactly(4)) - 4)
        if code := refusals.pop(0):
            fields = b"".join(f"{name}{text}\0".encode() for name, text in (("S", "FATAL"), ("C", code), ("M", "no")))
            writer.write(b"E" + (len(fields) + 5).to_bytes(4) + fields + b"\0")
        writer.close()
        if not refusals:
            owner.close()

    server = EmbeddedPostgres(root)
    with (root / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        owner = await asyncio.start_unix_server(refuse, server.socket / ".s.PGSQL.5432")
        with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
            await server.start()
        starting = asyncio.create_task(server.start())
        await owner.wait_closed()
    await starting
    assert await query(server, "SELECT id FROM kept") == 1
    await server.stop()


async def test_an_interrupted_first_start_leaves_nothing_half_made(empty: Path) -> None:
    (empty / "data.new").mkdir(parents=True)
    (empty / "data.new" / "PG_VERSION").write_text("18\n")
    server = EmbeddedPostgres(empty)
    await server.start()
    assert not (empty / "data.new").exists()
    await server.stop()


async def test_a_killed_server_comes_back_with_its_rows(root: Path) -> None:
    server = EmbeddedPostgres(root)
    await server.start()
    killed = postmaster_of(server)
    os.kill(killed, signal.SIGKILL)
    while True:
        with contextlib.suppress(OSError, asyncpg.PostgresError):
            assert await query(server, "SELECT id FROM kept") == 1
            break
        await asyncio.sleep(0.05)
    assert postmaster_of(server) != killed
    await server.stop()
    assert processes_in(server.data) == set()


@pytest.mark.parametrize("server_too", [False, True], ids=["owner", "owner and server"])
async def test_a_killed_owner_leaves_no_process_and_the_next_one_starts(root: Path, server_too: bool) -> None:
    owner = await asyncio.create_subprocess_exec(sys.executable, "-c", OWNER, str(root), stdout=asyncio.subprocess.PIPE)
    assert owner.stdout is not None
    await owner.stdout.readline()
    server = EmbeddedPostgres(root)
    postmaster = postmaster_of(server)
    owner.kill()
    if server_too:
        os.kill(postmaster, signal.SIGKILL)
    await owner.wait()  # as long as it is not quite dead, one would attach to its server
    await server.start()
    assert await query(server, "SELECT id FROM kept") == 1
    assert postmaster_of(server) != postmaster
    await server.stop()
    await until_gone(server)


async def test_a_process_id_that_belongs_to_someone_else_by_now_is_no_obstacle(root: Path) -> None:
    server = EmbeddedPostgres(root)
    bystander = await asyncio.create_subprocess_exec("sleep", "600")
    (server.data / "postmaster.pid").write_text(f"{bystander.pid}\n{server.data}\n0\n5432\n{server.socket}\n\n")
    await server.start()
    assert bystander.returncode is None
    bystander.kill()
    await bystander.wait()
    await server.stop()


async def test_a_server_that_cannot_start_names_its_log_and_leaves_nothing_behind(root: Path) -> None:
    server = EmbeddedPostgres(root, ("work_mem=nonsense",))
    with pytest.raises(EmbeddedPostgresError, match=r"postgres\.log"):
        await server.start()
    healthy = EmbeddedPostgres(root)
    await healthy.start()
    await healthy.stop()


async def test_data_of_another_major_version_is_refused(empty: Path) -> None:
    (empty / "data").mkdir(parents=True)
    (empty / "data" / "PG_VERSION").write_text("9\n")
    with pytest.raises(EmbeddedPostgresError, match=r"made by PostgreSQL 9, but .*EVBRIDGE_PG_BIN"):
        await EmbeddedPostgres(empty).start()


async def test_a_directory_too_long_for_a_socket_is_refused(empty: Path) -> None:
    with pytest.raises(EmbeddedPostgresError, match="too long for a unix socket"):
        await EmbeddedPostgres(empty / ("x" * 100)).start()


async def test_named_binaries_that_are_none_are_refused(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVBRIDGE_PG_BIN", "/nowhere")
    with pytest.raises(EmbeddedPostgresError, match="EVBRIDGE_PG_BIN names /nowhere"):
        await EmbeddedPostgres(empty).start()


async def test_root_without_user_namespaces_is_told_what_to_do(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(EmbeddedPostgresError, match="run as another user, or set EVBRIDGE_DATABASE_URL"):
        await EmbeddedPostgres(empty).start()

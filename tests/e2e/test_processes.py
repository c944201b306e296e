"""`evbridge serve --workers`: several processes on one port, and what happens when they or their parent die."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import grpc
import pytest
from evbridge.v1.company_pb2 import ListCompaniesRequest, UpsertCompanyRequest
from evbridge.v1.watch_pb2 import WatchCompaniesRequest

from service.storage.api_key import api_key_create
from service.storage.keyring import Keyring
from service.storage.pool import Database
from tests.conftest import created
from tests.front_door import Client, Serving, a_company, data_directory, environment, failure_of, serving

pytestmark = pytest.mark.timeout(120)


# A parent that waits 20 seconds less for a sign of life.
IMPATIENT = (
    "-c",
    "import service.processes.serving as serving; from service.__main__ import main; serving._HUNG = 5; main()",
)


def children(process_id: int, name: bytes = b"--worker") -> set[int]:
    """The processes that it started and that run, of those with the name in their command."""
    found = set()
    for each in map(int, Path(f"/proc/{process_id}/task/{process_id}/children").read_text().split()):
        with suppress(OSError):  # it has ended meanwhile
            if name in Path(f"/proc/{each}/cmdline").read_bytes():
                found.add(each)
    return found


async def gone(process_ids: set[int]) -> None:
    while any(Path(f"/proc/{each}/cmdline").exists() for each in process_ids):
        await asyncio.sleep(0.02)


@asynccontextmanager
async def client_of(server: Serving, key: str) -> AsyncIterator[Client]:
    """On a connection of its own, which finds another process soon when one dies."""
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.initial_reconnect_backoff_ms", 50)]
    async with grpc.aio.insecure_channel(server.address, options=options) as channel:
        yield Client(channel, key)


@pytest.fixture
async def key(database: Database, keyring: Keyring) -> str:
    async with database.transaction() as conn:
        return (await api_key_create(conn, keyring, "acme", "", 3)).reveal()


async def replaced(server: Serving, key: str, lost: int) -> set[int]:
    """Waits until another process serves in the place of `lost`, and calls are answered; those that serve."""
    answered = 0
    while len(now := children(server.process.pid) - {lost}) < 2 or answered < 20:
        try:
            async with client_of(server, key) as client:
                await client.companies.ListCompanies(ListCompaniesRequest(), timeout=1)
            answered += 1
        except grpc.aio.AioRpcError as error:
            assert error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
    return now


async def test_a_process_that_is_killed_or_hangs_is_started_again_and_calls_go_on(database_url: str, key: str) -> None:
    async with serving(environment(database_url), "--workers", "2", program=IMPATIENT) as server:
        before = children(server.process.pid)
        assert len(before) == 2
        killed = min(before)
        os.kill(killed, signal.SIGKILL)
        now = await replaced(server, key, killed)
        assert before & now == before - {killed}
        assert "hangs" not in server.log
        frozen = min(now)
        os.kill(frozen, signal.SIGSTOP)
        assert frozen not in await replaced(server, key, frozen)
        await gone({frozen})
    assert f'"a serving process is silent", "pid": {frozen}' in server.log
    assert f'"a serving process hangs and is killed", "pid": {frozen}' in server.log
    assert server.log.count("a serving process ended and is started again") == 2


async def test_two_that_start_at_once_on_an_empty_database_serve_it_together(postgres: str) -> None:
    async with created(postgres) as url, AsyncExitStack() as started:
        environ = environment(url, FIRST_KEY="true")
        servers = await asyncio.gather(*(started.enter_async_context(serving(environ)) for _ in range(2)))
        (key,) = {server.log.partition("Bearer ")[2].partition("'")[0] for server in servers} - {""}
        companies = [a_company() for _ in servers]
        for server, company in zip(servers, companies, strict=True):
            async with client_of(server, key) as client:
                await client.companies.UpsertCompany(UpsertCompanyRequest(company=company))
        for server in servers:
            async with client_of(server, key) as client:
                page = await client.companies.ListCompanies(ListCompaniesRequest())
            assert {each.id for each in page.companies} == {company.id for company in companies}


async def test_all_are_drained_when_the_parent_is_told_to_stop(database_url: str, key: str) -> None:
    async with serving(environment(database_url), "--workers", "2") as server:
        workers = children(server.process.pid)
        async with client_of(server, key) as client:
            watch = client.watch.WatchCompanies(WatchCompaniesRequest())
            await watch.read()
            server.process.terminate()
            with pytest.raises(grpc.aio.AioRpcError) as ended:
                while await watch.read() is not grpc.aio.EOF:
                    pass
            assert failure_of(ended.value).reason == "SERVER_STOPPING"
        assert await server.process.wait() == 0
        await gone(workers)


async def test_none_outlives_its_parent(database_url: str) -> None:
    async with serving(environment(database_url), "--workers", "2") as server:
        workers = children(server.process.pid)
        assert len(workers) == 2
        server.process.kill()
        await server.process.wait()
        await gone(workers)


@pytest.fixture
def data_dir() -> Iterator[Path]:
    with data_directory() as directory:
        yield directory


async def test_the_embedded_database_is_the_parents(data_dir: Path) -> None:
    environ = environment("", DATA_DIR=data_dir, FIRST_KEY="true")
    for name in ("EVBRIDGE_DATABASE_URL", "EVBRIDGE_SECRETS_KEYS"):
        del environ[name]
    async with serving(environ, "--workers", "2") as server:
        key = server.log.partition("Bearer ")[2].partition("'")[0]
        database = children(server.process.pid, b"postgres")
        async with client_of(server, key) as client:
            await client.companies.UpsertCompany(UpsertCompanyRequest(company=a_company()))
        workers = children(server.process.pid)
        for each in workers:
            os.kill(each, signal.SIGKILL)
        while len(children(server.process.pid) - workers) < 2:
            await asyncio.sleep(0.05)
        while True:
            try:
                async with client_of(server, key) as client:
                    page = await client.companies.ListCompanies(ListCompaniesRequest())
                break
            except grpc.aio.AioRpcError as error:
                assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert len(page.companies) == 1
        assert children(server.process.pid, b"postgres") == database != set()


async def refused(environ: dict[str, str], *arguments: str) -> str:
    """What a server says that cannot start."""
    with pytest.raises(AssertionError) as failure:
        async with serving(environ, *arguments):
            pass
    return str(failure.value)


async def test_a_port_that_another_program_holds_is_refused(database_url: str) -> None:
    with socket.socket() as other:
        # Even one that would share it with its own.
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        environ = environment(database_url, LISTEN=f"127.0.0.1:{other.getsockname()[1]}")
        assert "the port is taken" in await refused(environ, "--workers", "2")


async def test_the_port_of_several_processes_is_refused_to_another_server(database_url: str) -> None:
    async with serving(environment(database_url), "--workers", "2") as server:
        assert "the port is taken" in await refused(environment(database_url, LISTEN=server.address))

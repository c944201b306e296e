"""The server is killed without warning, again and again: what it acknowledged is there, once."""

import asyncio
import contextlib
import itertools
import random
import signal
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import pytest
from evbridge.v1.company_pb2 import Company, ListCompaniesRequest, UpsertCompanyRequest
from evbridge.v1.integration_pb2 import CreateIntegrationRequest, Integration, ListIntegrationsRequest

from service.partners.chargeprice.simulator import Simulator
from service.storage.api_key import api_key_create
from service.storage.keyring import Keyring
from service.storage.pool import Database
from tests.front_door import Client, Serving, a_company, an_integration, data_directory, environment, serving

CLIENTS = 16
# A channel that finds the next server soon.
IMPATIENT = [
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
    ("grpc.use_local_subchannel_pool", 1),
]


PARTNER = "cp"


class Writers:
    """Clients that repeat each write until it is acknowledged, with or without a request id.

    They create integrations, whose ids the server makes, under names that are used once; and companies.
    """

    def __init__(self, address: str, key: str, *, request_ids: bool = True) -> None:
        self._address = address
        self._key = key
        self._request_ids = request_ids
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []
        self.integrations: list[Integration] = []
        self.companies: list[Company] = []
        self.repetitions = 0

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            self._tasks = [group.create_task(self._work(number)) for number in range(CLIENTS)]
            yield

    async def do(self, writes: int) -> None:
        """Returns when so many more are acknowledged."""
        goal = len(self.integrations) + len(self.companies) + writes
        while len(self.integrations) + len(self.companies) < goal:
            await asyncio.sleep(0.001)

    async def finish(self) -> None:
        """Returns when the last write is acknowledged."""
        self._stopping = True
        await asyncio.wait(self._tasks)

    async def _work(self, worker: int) -> None:
        async with grpc.aio.insecure_channel(self._address, IMPATIENT) as channel:
            client = Client(channel, self._key)
            for number in itertools.count():
                if self._stopping:
                    return
                name = f"{worker}/{number}"
                create = CreateIntegrationRequest(integration=an_integration(display_name=name, enabled=False))
                upsert = UpsertCompanyRequest(company=a_company(name=name))
                if self._request_ids:
                    create.request_id, upsert.request_id = str(uuid4()), str(uuid4())
                    self.companies.append(await self._acknowledged(client.companies.UpsertCompany, upsert))
                self.integrations.append(await self._acknowledged(client.integrations.CreateIntegration, create))

    async def _acknowledged(self, method: Callable[[Any], Awaitable[Any]], request: Any) -> Any:
        while True:
            try:
                return await method(request)
            except grpc.aio.AioRpcError as error:
                assert error.code() is grpc.StatusCode.UNAVAILABLE, error
            self.repetitions += 1
            await asyncio.sleep(0.02)


async def kill(server: Serving) -> None:
    """Stops it first for a moment, in which PostgreSQL ends what was begun, and tells nobody."""
    server.process.send_signal(signal.SIGSTOP)
    await asyncio.sleep(0.02)
    server.process.kill()
    await server.process.wait()


async def stored(address: str, key: str) -> tuple[list[Integration], list[Company]]:
    async with grpc.aio.insecure_channel(address) as channel:
        client = Client(channel, key)
        integrations, companies = ListIntegrationsRequest(page_size=1000), ListCompaniesRequest(page_size=1000)
        return (
            [item async for page in _pages(client.integrations.ListIntegrations, integrations) for item in page],
            [item async for page in _pages(client.companies.ListCompanies, companies) for item in page],
        )


async def _pages(method: Callable[[Any], Awaitable[Any]], request: Any) -> AsyncIterator[Any]:
    while True:
        page = await method(request)
        yield page.ListFields()[0][1] if page.ListFields() else []
        request.page_token = page.next_page_token
        if not request.page_token:
            return


async def is_all_there_once(writers: Writers, address: str, key: str) -> None:
    integrations, companies = await stored(address, key)
    integrations = [item for item in integrations if item.id != PARTNER]
    assert {item.id: item for item in integrations} == {item.id: item for item in writers.integrations}
    assert len({item.display_name for item in integrations}) == len(integrations) == len(writers.integrations)
    assert {item.id: item for item in companies} == {item.id: item for item in writers.companies}
    assert len(companies) == len(writers.companies)


@pytest.fixture
def address() -> str:
    """One that nobody listens on, and no call is made from: a server that is started again keeps its address."""
    while True:
        port = random.randrange(15_000, 30_000)  # below those that a system gives out
        with contextlib.suppress(OSError), socket.socket() as free:
            free.bind(("127.0.0.1", port))
            return f"127.0.0.1:{port}"


@pytest.fixture
async def admin_key(database: Database, keyring: Keyring) -> str:
    async with database.transaction() as conn:
        return (await api_key_create(conn, keyring, "killed", "", 3)).reveal()


@pytest.mark.timeout(1200)
async def test_no_acknowledged_write_is_lost_or_doubled_by_kills(
    database_url: str, address: str, admin_key: str, simulator: Simulator, soak: Callable[[int], int]
) -> None:
    """Nor, as the soak waits to see, undelivered: what was under way is claimed again when its lease has ended."""
    dice = random.Random()
    environ = environment(database_url, LISTEN=address)
    writers = Writers(address, admin_key)
    whole = soak(50) == 50
    if whole:
        async with serving(environ):
            await connect(address, admin_key, simulator)
    async with writers.at_work():
        for _ in range(50 if whole else 2):
            async with serving(environ) as server:
                await writers.do(dice.randrange(150, 250) if whole else dice.randrange(50, 200))
                await kill(server)
        async with serving(environ):
            await writers.do(50)
            await writers.finish()
            await is_all_there_once(writers, address, admin_key)
            if whole:
                assert sum(map(len, (writers.integrations, writers.companies))) > 7_500
                await all_arrive_once(writers, simulator)
    assert writers.repetitions


async def connect(address: str, key: str, simulator: Simulator) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        request = CreateIntegrationRequest(integration=an_integration(simulator.url, id=PARTNER))
        await Client(channel, key).integrations.CreateIntegration(request)


async def all_arrive_once(writers: Writers, simulator: Simulator) -> None:
    wanted = {company.id: company.name for company in writers.companies}
    while len(simulator.companies) < len(wanted):
        await asyncio.sleep(0.1)
    assert {id: held.attributes.name for id, held in simulator.companies.items()} == wanted
    assert {held.attributes.version for held in simulator.companies.values()} == {1}


async def test_a_control_without_request_ids_does_double_writes(
    database_url: str, address: str, admin_key: str
) -> None:
    """Kills do fall between a commit and its answer: the test above can fail."""
    dice = random.Random()
    environ = environment(database_url, LISTEN=address)
    writers = Writers(address, admin_key, request_ids=False)
    doubled: list[str] = []
    async with writers.at_work():
        for _ in range(30):
            async with serving(environ) as server:
                await writers.do(dice.randrange(50, 200))
                integrations, _ = await stored(address, admin_key)
                names = Counter(integration.display_name for integration in integrations)
                doubled = [name for name, count in names.items() if count > 1]
                await kill(server)
            if doubled:
                break
        async with serving(environ):
            await writers.finish()
    assert doubled


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """One that the server has to make."""
    with data_directory() as directory:
        yield directory / "data"


def processes_in(directory: Path) -> set[int]:
    """Those that work in it, as the processes of the embedded PostgreSQL do."""
    found = set()
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            if (process / "cwd").readlink().is_relative_to(directory):
                found.add(int(process.name))
    return found


async def test_killed_on_the_embedded_database_it_leaves_no_process_and_all_data(data_dir: Path, address: str) -> None:
    environ = environment("", LISTEN=address, DATA_DIR=data_dir, SECRETS_KEYS="", FIRST_KEY="true")
    async with serving(environ) as server:
        while "list\n" not in server.log:
            await asyncio.sleep(0.01)
        key = server.log.partition("Bearer ")[2].partition("'")[0]
        writers = Writers(address, key)
        async with writers.at_work():
            await writers.do(100)
            assert processes_in(data_dir)
            await kill(server)
            while processes_in(data_dir):
                await asyncio.sleep(0.01)
            async with serving(environ) as second:
                await writers.do(100)
                await writers.finish()
                await is_all_there_once(writers, address, key)
    assert second.process.returncode == 0
    assert "evb_" not in second.log  # the first key is shown once
    assert not processes_in(data_dir)

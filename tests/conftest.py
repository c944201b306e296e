"""What tests of every folder share: a PostgreSQL server, a fresh database per test, keys, and how often to repeat.

EVBRIDGE_TEST_DATABASE_URL names a server to use instead of the embedded one; its role must be able to create databases.
EVBRIDGE_TEST_PGBOUNCER names a PgBouncer beside that of the system.
EVBRIDGE_TEST_RELEASE names the commit of a release to serve beside.
EVBRIDGE_SOAK=1 repeats random tests ten times as often.
EVBRIDGE_OCPI_EXAMPLES names a folder of wire examples of OCPI 2.2.1, for example the specification's.
"""

import base64
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import urlsplit

import asyncpg
import grpc
import hypothesis
import pytest

from service.app import Evbridge, evbridge
from service.cli.keys import ROLES
from service.partners.ampeco.simulator import Simulator as Ampeco
from service.partners.chargeprice.simulator import Simulator
from service.storage.api_key import api_key_create
from service.storage.clock import Clock
from service.storage.embedded import EmbeddedPostgres
from service.storage.keyring import Keyring
from service.storage.migrations import migrate
from service.storage.pool import Database
from tests.front_door import Client, data_directory, settings

NOT_DURABLE = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_wal_size=128MB")


def _named(url: str, database: str) -> str:
    return urlsplit(url)._replace(path=f"/{database}").geturl()


async def _create(server: str, name: str, template: str = "") -> None:
    connection = await asyncpg.connect(server)
    try:
        # Copying files is several times faster than logging each block; PostgreSQL 14 always copies.
        strategy = " STRATEGY file_copy" if connection.get_server_version().major >= 15 else ""
        await connection.execute(f"CREATE DATABASE {name}" + (f" TEMPLATE {template}{strategy}" if template else ""))
    finally:
        await connection.close()


async def _drop(server: str, name: str) -> None:
    connection = await asyncpg.connect(server)
    try:
        await connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    finally:
        await connection.close()


# How long an example takes says something about the machine, and nothing about us. Chance is for `make soak`: it finds
# what an otherwise good change would be refused for.
hypothesis.settings.register_profile("evbridge", deadline=None, derandomize=os.environ.get("EVBRIDGE_SOAK") != "1")
hypothesis.settings.load_profile("evbridge")


@pytest.fixture(scope="session")
async def postgres() -> AsyncIterator[str]:
    """The URL of a server whose role may create databases."""
    if url := os.environ.get("EVBRIDGE_TEST_DATABASE_URL"):
        yield url
        return
    with data_directory() as directory:
        server = EmbeddedPostgres(directory, NOT_DURABLE)
        yield await server.start()
        await server.stop()


@asynccontextmanager
async def created(server: str, template: str = "") -> AsyncIterator[str]:
    """The URL of a new database, which is dropped afterwards."""
    name = f"evbridge_test_{secrets.token_hex(4)}"
    await _create(server, name, template)
    try:
        yield _named(server, name)
    finally:
        await _drop(server, name)


@pytest.fixture(scope="session")
async def template_database(postgres: str) -> AsyncIterator[str]:
    """The name of a database with every migration applied. Nobody connects to it: it is only copied."""
    async with created(postgres) as url:
        await migrate(url)
        yield urlsplit(url).path[1:]


@pytest.fixture
async def new_database(postgres: str, template_database: str) -> AsyncIterator[Callable[[], Awaitable[str]]]:
    """Makes a database of the test's own and returns its URL."""
    async with AsyncExitStack() as made:
        yield lambda: made.enter_async_context(created(postgres, template_database))


@pytest.fixture
async def database_url(new_database: Callable[[], Awaitable[str]]) -> str:
    return await new_database()


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = Database(database_url, size=4, acquire_timeout_s=5.0)
    await opened.open()
    try:
        yield opened
    finally:
        await opened.close()


@pytest.fixture(scope="session")
def soak() -> Callable[[int], int]:
    """`soak(1000)`: how often to repeat something that deserves 1000 repetitions when there is time."""
    return lambda count: count if os.environ.get("EVBRIDGE_SOAK") == "1" else max(1, count // 10)


@pytest.fixture(scope="session")
def keyring() -> Keyring:
    return Keyring.parse(f"test:{base64.b64encode(bytes(range(32))).decode()}")


@dataclass(frozen=True)
class Tenant:
    """A tenant of the test's own: a client per role, and the keys themselves."""

    name: str
    keys: dict[str, str]
    reader: Client
    writer: Client
    admin: Client


async def tenant_of(running: Evbridge, channel: grpc.aio.Channel) -> Tenant:
    """A new one, with a key for each role."""
    name = f"t-{secrets.token_hex(6)}"
    keys = {}
    async with running.database.transaction() as conn:
        for role, number in ROLES.items():
            keys[role] = (await api_key_create(conn, running.keyring, name, role, number)).reveal()
    return Tenant(name, keys, **{role: Client(channel, key) for role, key in keys.items()})


@pytest.fixture(scope="session")
async def shared_database_url(postgres: str, template_database: str) -> AsyncIterator[str]:
    """One database for all tests that only need a tenant of their own."""
    async with created(postgres, template_database) as url:
        yield url


@pytest.fixture(scope="session")
async def running(shared_database_url: str) -> AsyncIterator[Evbridge]:
    """A whole evbridge, delivering too."""
    async with evbridge(settings(shared_database_url, delivery_max_attempts=5)) as started:
        yield started


@pytest.fixture
def clock(running: Evbridge) -> Iterator[Clock]:
    """Of rules and tariffs; back at the database's afterwards."""
    yield running.clock
    running.clock.ahead = timedelta(0)


@pytest.fixture(scope="session")
async def channel(running: Evbridge) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(running.address) as opened:
        yield opened


@pytest.fixture
def new_tenant(running: Evbridge, channel: grpc.aio.Channel) -> Callable[[], Awaitable[Tenant]]:
    return lambda: tenant_of(running, channel)


@pytest.fixture
async def tenant(new_tenant: Callable[[], Awaitable[Tenant]]) -> Tenant:
    return await new_tenant()


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    """Chargeprice, on `simulator.url`, for the key "partner-key"."""
    started = Simulator(api_key="partner-key")
    started.url = await started.start()
    yield started
    await started.stop()


@pytest.fixture
async def ampeco() -> AsyncIterator[Ampeco]:
    """AMPECO, for the key "partner-key"."""
    started = Ampeco(api_key="partner-key")
    await started.start()
    yield started
    await started.stop()

"""The server is killed without warning, again and again: what it acknowledged is there, once."""

import asyncio
import random
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from service.partners.chargeprice.simulator import Simulator
from service.storage.api_key import api_key_create
from service.storage.keyring import Keyring
from service.storage.pool import Database
from tests.front_door import Serving, data_directory, environment, free_address, serving
from tests.postgres import processes_in
from tests.writers import Writers, all_arrive_once, connect, is_all_there_once, stored


async def kill(server: Serving) -> None:
    """Stops it first for a moment, in which PostgreSQL ends what was begun, and tells nobody."""
    server.process.send_signal(signal.SIGSTOP)
    await asyncio.sleep(0.02)
    server.process.kill()
    await server.process.wait()


@pytest.fixture
def address() -> str:
    """A server that is started again keeps it."""
    return free_address()


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

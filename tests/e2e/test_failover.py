"""The database restarts, or its standby takes over: calls and deliveries go on by themselves, and what was acknowledged
is there."""

import asyncio
import re
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from uuid import uuid4

import grpc
import pytest
from evbridge.v1.company_pb2 import UpsertCompanyRequest

from service.app import evbridge
from service.partners.chargeprice.simulator import Simulator
from service.storage import changes
from service.storage.api_key import api_key_create
from service.storage.keyring import Keyring
from service.storage.statements import Statement
from tests.front_door import Client, a_company, fails, settings
from tests.postgres import Pair, Server, a_pair, a_server
from tests.writers import LEASES_END, Writers, all_arrive_once, connect, is_all_there_once, lost


@dataclass(frozen=True)
class Work:
    """What clients wrote through an evbridge at `address`, for a partner."""

    writers: Writers
    address: str
    key: str
    partner: Simulator

    async def is_there_once(self, server: Server) -> None:
        await is_all_there_once(self.writers, self.address, self.key)
        await server.run(*LEASES_END)
        await all_arrive_once(self.writers, self.partner)

    async def lost(self) -> set[str]:
        return await lost(self.writers, self.address, self.key)


Working = Callable[..., AbstractAsyncContextManager[Work]]
"""An evbridge on the database at a URL, where clients write before, between and after some faults."""


@asynccontextmanager
async def serving(url: str, keyring: Keyring) -> AsyncIterator[tuple[str, str]]:
    """The address of an evbridge on the database at `url`, and a key."""
    async with evbridge(settings(url)) as running:
        async with running.database.transaction() as conn:
            key = (await api_key_create(conn, keyring, "acme", "", 3)).reveal()
        yield running.address, key


@pytest.fixture
def working(keyring: Keyring, simulator: Simulator, soak: Callable[[int], int]) -> Working:
    @asynccontextmanager
    async def work(url: str, *faults: Callable[[], Awaitable[None]]) -> AsyncIterator[Work]:
        async with serving(url, keyring) as (address, key):
            await connect(address, key, simulator)
            writers = Writers(address, key)
            async with writers.at_work():
                for fault in faults:
                    await writers.do(soak(400))
                    await fault()
                await writers.do(soak(400))
                await writers.finish()
            assert writers.repetitions
            yield Work(writers, address, key, simulator)

    return work


@pytest.mark.parametrize("lose", [Pair.kill_primary, Pair.demote_primary, Pair.freeze_primary])
async def test_no_acknowledged_write_is_lost_with_the_primary(
    working: Working, soak: Callable[[int], int], lose: Callable[[Pair], Awaitable[None]]
) -> None:
    if lose is not Pair.kill_primary and soak(10) < 10:
        pytest.skip("waits for limits of time to end: `make soak` runs it")

    async def fail_over() -> None:
        await lose(pair)
        await pair.promote_standby()

    async with a_pair() as pair, working(pair.url, fail_over) as work:
        await work.is_there_once(pair.standby)


async def test_a_control_whose_standby_lags_does_lose_what_was_acknowledged(working: Working) -> None:
    async def fail_over() -> None:
        await pair.kill_primary()
        await pair.promote_standby()

    async with a_pair(synchronous=False) as pair, working(pair.url, pair.hold_back, fail_over) as work:
        assert await work.lost()


async def test_no_acknowledged_write_is_lost_by_a_restart(working: Working, soak: Callable[[int], int]) -> None:
    async def restart() -> None:
        await server.kill()
        await asyncio.sleep(soak(20) / 10)
        await server.start()

    async with a_server() as server, working(server.dsn(), restart) as work:
        await work.is_there_once(server)


async def test_a_control_that_writes_to_no_disk_does_lose_what_was_acknowledged(working: Working) -> None:
    async def restart() -> None:
        await server.kill()
        await server.start()

    async with a_server() as server, working(server.dsn(), server.forget, restart) as work:
        assert await work.lost()


async def test_a_write_that_the_standby_does_not_have_is_not_acknowledged_when_repeated_either(
    keyring: Keyring, soak: Callable[[int], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control answers from the row of the call that gave up waiting."""
    if soak(10) < 10:
        pytest.skip("waits for limits of time to end: `make soak` runs it")
    async with (
        a_pair() as pair,
        serving(pair.url, keyring) as (address, key),
        grpc.aio.insecure_channel(address) as channel,
    ):
        upsert = Client(channel, key).companies.UpsertCompany
        request = UpsertCompanyRequest(company=a_company(), request_id=str(uuid4()))
        pair.standby.signal(signal.SIGSTOP)
        for _ in range(2):
            assert (await fails(upsert(request))).reason == "DATABASE_UNAVAILABLE"
        quick = Statement("quick", re.sub(r", pg_logical_emit_message\(.*\)", "", changes.sql.idempotency_find.text))
        monkeypatch.setattr(changes.sql, "idempotency_find", quick, raising=False)
        await upsert(request)
        monkeypatch.undo()
        pair.standby.signal(signal.SIGCONT)
        await upsert(request)

"""A primary is lost and its standby promoted: calls and deliveries go on by themselves, and what was acknowledged is
there."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from service.app import evbridge
from service.partners.chargeprice.simulator import Simulator
from service.storage.api_key import api_key_create
from service.storage.keyring import Keyring
from tests.front_door import settings
from tests.postgres import Pair, a_pair
from tests.writers import Writers, all_arrive_once, connect, is_all_there_once, lost


@asynccontextmanager
async def serving(pair: Pair, keyring: Keyring) -> AsyncIterator[tuple[str, str]]:
    """The address of an evbridge on the pair, and a key."""
    async with evbridge(settings(pair.url)) as running:
        async with running.database.transaction() as conn:
            key = (await api_key_create(conn, keyring, "acme", "", 3)).reveal()
        yield running.address, key


@pytest.mark.parametrize("lose", [Pair.kill_primary, Pair.demote_primary, Pair.freeze_primary])
async def test_no_acknowledged_write_is_lost_with_the_primary(
    keyring: Keyring, simulator: Simulator, soak: Callable[[int], int], lose: Callable[[Pair], Awaitable[None]]
) -> None:
    if lose is not Pair.kill_primary and soak(10) < 10:
        pytest.skip("waits for limits of time to end: `make soak` runs it")
    async with a_pair() as pair, serving(pair, keyring) as (address, key):
        await connect(address, key, simulator)
        writers = Writers(address, key)
        async with writers.at_work():
            await writers.do(soak(500))
            await lose(pair)
            await pair.promote_standby()
            await writers.do(soak(500))
            await writers.finish()
        await is_all_there_once(writers, address, key)
        # What was under way is claimed again when its lease has ended.
        await pair.standby.run(*(f"UPDATE {table} SET lease_until = now()" for table in ("delivery", "gate_slot")))
        await all_arrive_once(writers, simulator)
    assert writers.repetitions


async def test_a_control_whose_standby_lags_does_lose_what_was_acknowledged(keyring: Keyring) -> None:
    async with a_pair(synchronous=False) as pair, serving(pair, keyring) as (address, key):
        writers = Writers(address, key)
        async with writers.at_work():
            await writers.do(20)
            await pair.hold_back()
            await writers.do(50)
            await pair.kill_primary()
            await pair.promote_standby()
            await writers.do(20)
            await writers.finish()
        assert await lost(writers, address, key)

"""Work that goes on only while its lease is renewed."""

import asyncio

import pytest

from service.errors import DatabaseUnavailable, EvbridgeError, LeaseLost
from service.workers import while_leased


class Work:
    """Ends when it is let, and notices when it is cancelled."""

    def __init__(self) -> None:
        self.may_end = asyncio.Event()
        self.cancelled = False

    async def __call__(self) -> str:
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return "done"


async def test_the_lease_is_renewed_until_the_work_ends() -> None:
    work, renewed = Work(), 0

    async def renew() -> None:
        nonlocal renewed
        renewed += 1
        if renewed == 3:
            work.may_end.set()

    assert await while_leased(work(), renew, lease_s=60.0, beat_s=0.001) == "done"
    assert renewed >= 3


async def test_work_whose_lease_is_lost_is_cancelled() -> None:
    work = Work()

    async def renew() -> None:
        raise LeaseLost

    with pytest.raises(LeaseLost):
        await while_leased(work(), renew, lease_s=60.0, beat_s=0.001)
    assert work.cancelled


async def test_a_database_that_is_away_for_less_than_the_lease_costs_nothing() -> None:
    work, asked = Work(), 0

    async def renew() -> None:
        nonlocal asked
        asked += 1
        if asked == 3:
            work.may_end.set()
        raise DatabaseUnavailable("away")

    assert await while_leased(work(), renew, lease_s=60.0, beat_s=0.001) == "done"


async def test_a_database_that_is_away_for_as_long_as_the_lease_ends_the_work() -> None:
    work = Work()

    async def renew() -> None:
        raise DatabaseUnavailable("away")

    with pytest.raises(LeaseLost):
        await while_leased(work(), renew, lease_s=0.05, beat_s=0.001)
    assert work.cancelled


async def test_what_the_work_fails_with_passes() -> None:
    async def work() -> None:
        raise EvbridgeError("no")

    async def renew() -> None:
        raise AssertionError

    with pytest.raises(EvbridgeError, match="no"):
        await while_leased(work(), renew, lease_s=60.0)


async def test_whoever_cancels_the_waiting_cancels_the_work() -> None:
    work = Work()

    async def renew() -> None:
        pass

    waiting = asyncio.create_task(while_leased(work(), renew, lease_s=60.0, beat_s=0.001))
    await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert work.cancelled

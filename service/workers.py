"""How a worker waits for work and how its tasks end."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, TypeVar

from service.errors import DatabaseUnavailable, EvbridgeError, LeaseLost


async def work_or_poll(wake: asyncio.Event, poll_s: float) -> None:
    """Returns when `wake` is set, or after about `poll_s`: spread, so that processes do not ask all at once."""
    try:
        async with asyncio.timeout(poll_s * random.uniform(0.75, 1.25)):
            await wake.wait()
    except TimeoutError:
        pass


async def finish(tasks: Iterable[asyncio.Task[None]], limit_s: float) -> None:
    """Returns when all have ended; those that have not within `limit_s` are cancelled."""
    if under_way := set(tasks):
        _, late = await asyncio.wait(under_way, timeout=limit_s)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)


BEATS = 4
"""How often a lease is renewed within its length."""


T = TypeVar("T")


async def while_leased(
    work: Coroutine[Any, Any, T], renew: Callable[[], Awaitable[object]], lease_s: float, beat_s: float | None = None
) -> T:
    """What becomes of `work`, with the lease renewed every `beat_s` by another task, a quarter of the lease by default.

    The work is cancelled when `renew` raises, which passes, and with LeaseLost when the database could not be asked for
    as long as the lease lasts. An answer of the work that came first counts: what it still writes is fenced.
    """
    working = asyncio.create_task(work)
    renewing = asyncio.create_task(_renewed(renew, lease_s, beat_s or lease_s / BEATS))
    try:
        await asyncio.wait({working, renewing}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            renewing.result()
    finally:
        for task in (working, renewing):
            task.cancel()
        await asyncio.gather(working, renewing, return_exceptions=True)
    if working.cancelled():
        raise EvbridgeError("the work was cut short inside evbridge")
    return working.result()


async def _renewed(renew: Callable[[], Awaitable[object]], lease_s: float, beat_s: float) -> None:
    """Never returns."""
    end = time.monotonic() + lease_s
    while True:
        await asyncio.sleep(beat_s)
        asked = time.monotonic()
        try:
            await renew()
            end = asked + lease_s
        except DatabaseUnavailable:
            if time.monotonic() > end:
                raise LeaseLost("the lease ended while the database could not be asked") from None

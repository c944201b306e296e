"""Work that may go on only while its lease is renewed."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from service.errors import DatabaseUnavailable, EvbridgeError, LeaseLost

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

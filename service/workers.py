"""How a worker waits for work and how its tasks end."""

import asyncio
import random
from collections.abc import Iterable


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

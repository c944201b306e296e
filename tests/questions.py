"""A service of the tenant's that answers what partners ask, as tests play one."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any


@asynccontextmanager
async def answering(stream: Any, name: str, answer: Callable[[Any], Awaitable[None]]) -> AsyncIterator[list[Any]]:
    """Answers what the responses of a Serve stream hold under `name`, and yields what came so far."""
    asked: list[Any] = []
    assert not getattr(await stream.read(), name), "it listens"

    async def serve() -> None:
        while response := await stream.read():
            for each in getattr(response, name):
                asked.append(each)
                await answer(each)

    task = asyncio.create_task(serve())
    try:
        yield asked
    finally:
        stream.cancel()
        await asyncio.gather(task, return_exceptions=True)

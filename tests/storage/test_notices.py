"""Notices between two processes, and what is left of them when their connections are cut."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from service.storage import notices
from service.storage.notices import Notices
from service.storage.pool import Database
from service.storage.statements import Statement
from tests.front_door import notices_heard

CUT = Statement(
    "cut",
    "SELECT count(pg_terminate_backend(pid, 60000)) FROM pg_stat_activity"
    " WHERE application_name = 'evbridge-notices' AND datname = current_database()",
)


@asynccontextmanager
async def following(url: str) -> AsyncIterator[Notices]:
    made = Notices(url)
    task = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def is_heard(told: Notices, listens: Notices, limit_s: float = 60.0) -> bool:
    """Whether a notice reaches who waits for it, and nobody else."""
    with listens.about("this") as news, listens.about("that") as others:
        told.tell("this")
        return await news.wait(limit_s) and not await others.wait(0.0)


async def test_a_notice_reaches_another_process_also_after_a_cut(
    database_url: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notices, "LOOK_ANYWAY_S", 60.0)
    async with following(database_url) as one, following(database_url) as other:
        await notices_heard(database, 2)
        assert await is_heard(one, other)
        assert await is_heard(other, one)
        assert await is_heard(one, one), "within a process"
        assert not await is_heard(Notices(""), one, limit_s=0.2), "without a connection nothing is heard"
        assert await database.value(CUT) == 2
        await notices_heard(database, 2)
        async with asyncio.timeout(60.0):
            while not await is_heard(one, other):  # at first everybody looks
                pass

"""PostgreSQL servers of a test's own, which it kills: one, and a primary with a standby that streams from it."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from service.storage.embedded import EmbeddedPostgres, candidates
from tests.front_door import data_directory

_DATABASE = "evbridge"
# What is killed here are processes, and no machine: what they wrote is there without a sync.
_QUICK = ("fsync=off", "full_page_writes=off", "max_wal_size=128MB", "wal_retrieve_retry_interval=100ms")


def processes_in(directory: Path) -> set[int]:
    """Those that work in it or below, as those of a PostgreSQL server do in its data directory."""
    found = set()
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            if (process / "cwd").readlink().is_relative_to(directory):
                found.add(int(process.name))
    return found


class Server(EmbeddedPostgres):
    """One that stays dead when it was killed, until it is started again."""

    async def _supervise(self, server: asyncio.subprocess.Process) -> None:
        await server.wait()

    async def kill(self) -> None:
        """All of its processes at once, as when its machine loses power."""
        self.signal(signal.SIGKILL)
        while processes_in(self.data):
            await asyncio.sleep(0.01)
        await self.stop()

    def signal(self, number: signal.Signals) -> None:
        for process in processes_in(self.data):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)

    async def freeze(self, backend_type: str) -> None:
        pid = await self.run(f"SELECT pid FROM pg_stat_activity WHERE backend_type = '{backend_type}'")
        os.kill(int(str(pid)), signal.SIGSTOP)

    async def forget(self) -> None:
        """What is written from now on reaches no disk."""
        await self.run("CHECKPOINT", "ALTER SYSTEM SET synchronous_commit = off", "SELECT pg_reload_conf()")
        await self.freeze("walwriter")

    async def run(self, *statements: str) -> object:
        """Returns the value of the last one."""
        connection = await asyncpg.connect(self.dsn())
        try:
            return [await connection.fetchval(statement) for statement in statements][-1]
        finally:
            await connection.close()


@asynccontextmanager
async def a_server() -> AsyncIterator[Server]:
    with data_directory() as directory:
        server = Server(directory / "a", _QUICK)
        try:
            await server.start()
            yield server
        finally:
            await server.stop()


@dataclass(frozen=True)
class Pair:
    """`url` names both, the primary first."""

    primary: Server
    standby: Server

    @property
    def url(self) -> str:
        hosts = f"{self.primary.socket},{self.standby.socket}"
        return f"postgresql://{_DATABASE}@/{_DATABASE}?host={hosts}&target_session_attrs=read-write"

    async def kill_primary(self) -> None:
        await self.primary.kill()

    async def demote_primary(self) -> None:
        """It takes no writes any more, and hangs up on nobody."""
        await self.primary.run("ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()")

    async def freeze_primary(self) -> None:
        """It takes connections and never answers."""
        self.primary.signal(signal.SIGSTOP)

    async def hold_back(self) -> None:
        """What is written from now on does not reach the standby."""
        await self.primary.freeze("walsender")

    async def promote_standby(self) -> None:
        await self.standby.run("SELECT pg_promote()")


@asynccontextmanager
async def a_pair(*, synchronous: bool = True) -> AsyncIterator[Pair]:
    """`synchronous`: a commit is answered once the standby shows it."""
    with data_directory() as directory:
        pair = Pair(*(Server(directory / name, _QUICK) for name in ("a", "b")))
        try:
            await pair.primary.start()
            await _copy(pair)
            await pair.standby.start()
            await pair.primary.run(
                f"ALTER SYSTEM SET synchronous_standby_names = '{'*' if synchronous else ''}'",
                "ALTER SYSTEM SET synchronous_commit = remote_apply",
                "SELECT pg_reload_conf()",
            )
            while synchronous and not await pair.primary.run(
                "SELECT true FROM pg_stat_replication WHERE sync_state = 'sync'"
            ):
                await asyncio.sleep(0.01)
            yield pair
        finally:
            for server in (pair.primary, pair.standby):
                server.signal(signal.SIGCONT)
                await server.stop()


async def _copy(pair: Pair) -> None:
    pair.standby.root.mkdir()
    program = next(candidates()) / "pg_basebackup"
    copying = await asyncio.create_subprocess_exec(
        *(program, "-d", pair.primary.dsn(), "-D", pair.standby.data, "-R", "--checkpoint=fast", "--no-sync")
    )
    assert await copying.wait() == 0

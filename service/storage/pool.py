"""Connections to PostgreSQL: a small pool.

Written by hand because asyncpg's pool spends more on a primary-key read than the read itself. It does without proxies
and without a reset query: nothing here sets session state, and a connection whose state is not certain is closed.
"""

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import asyncpg

from service.errors import DatabaseUnavailable
from service.settings import SettingError
from service.storage.connection import Connection, connect, describe, host_urls, translated
from service.storage.statements import Statement

log = logging.getLogger(__name__)

_SWEEP_S = 30.0
_CLOSE_S = 2.0
_CHECK_S = 2.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0
_ONE = "SELECT 1"
_SILENCE_S = 1.0  # how much later than the server's own time limit ours strikes


class Database:
    """At most `size` connections to the first of the URL's hosts that answers and fits its `target_session_attrs`.

    `acquire_timeout_s` bounds the wait for a connection, `command_timeout_s` a statement, `connect_timeout_s` the
    attempt at one host. After about `lifetime_s` a connection is replaced, which follows a moved address and lets the
    number shrink again.

    `pgbouncer`: the URL is PgBouncer >= 1.21 in transaction mode with `max_prepared_statements` set. It refuses startup
    parameters it does not know, so the server's limits on statements, locks and idle transactions are not set then:
    give them to the role with ALTER ROLE. LISTEN and migrations need a direct URL.
    """

    def __init__(
        self,
        url: str,
        *,
        size: int = 10,
        acquire_timeout_s: float = 0.25,
        command_timeout_s: float = 5.0,
        connect_timeout_s: float = 3.0,
        lifetime_s: float = 600.0,
        application_name: str = "evbridge",
        pgbouncer: bool = False,
    ) -> None:
        self._hosts = host_urls(url)
        self._size = size
        self._acquire_timeout_s = acquire_timeout_s
        self._lifetime_s = lifetime_s
        limits = {
            "statement_timeout": f"{command_timeout_s * 1000:.0f}ms",
            "lock_timeout": "1s",
            "idle_in_transaction_session_timeout": "10s",
            "TimeZone": "UTC",
            "jit": "off",
        }
        self._options: dict[str, Any] = {
            "timeout_s": connect_timeout_s,
            "command_timeout": command_timeout_s + (0.0 if pgbouncer else _SILENCE_S),
            "server_settings": {"application_name": application_name} | ({} if pgbouncer else limits),
        }
        # Every connection is in exactly one of: lent or idle (both also in _connections), being opened, being closed.
        self._connections: set[Connection] = set()
        self._idle: list[Connection] = []  # the last one back is the first one out, so that surplus ones age
        self._opening: set[asyncio.Task[None]] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self._waiters: deque[asyncio.Future[Connection]] = deque()
        self._generation = 0
        self._reachable = True
        self._pgbouncer = pgbouncer
        self._full_pause_s = 0.0
        """How long no connection is opened after the server had none left: twice as long each time."""
        self._opens_at = 0.0
        self.full = False
        """Whether a write found no room on the disk. Whoever sees that there is room again resets it."""
        self._closed = False
        self._emptied = asyncio.Event()
        self._sweeper: asyncio.TimerHandle | None = None

    async def open(self) -> None:
        """Opens every connection, so that a first burst finds them open; the first one is enough.

        Raises DatabaseUnavailable, SettingError for a PgBouncer that will not do, or the driver's error when waiting
        will not help.
        """
        try:
            connection = await self._connect()
        except Exception as error:
            ours = translated(error)
            if ours is None:
                raise
            raise ours from error
        self._give_back(connection)
        self._sweep()
        if self._pgbouncer:
            await self._check_pgbouncer()
        self._opening |= {asyncio.create_task(self._open_one()) for _ in range(self._size - len(self._connections))}
        if self._opening:
            await asyncio.wait(tuple(self._opening))

    async def _check_pgbouncer(self) -> None:
        """Raises SettingError for one that lets a session forget its prepared statements between transactions."""
        own, other = [await connect(self._hosts, **self._options) for _ in range(2)]
        try:
            await own.fetchval(_ONE)
            # While another transaction has the server's session that prepared it, the statement runs on another one.
            await other.execute("BEGIN")
            await own.fetchval(_ONE, timeout=_CHECK_S)
            await other.fetchval(_ONE, timeout=_CHECK_S)
        except (asyncpg.InvalidSQLStatementNameError, asyncpg.DuplicatePreparedStatementError):
            raise SettingError(
                "PgBouncer loses prepared statements: it has to be version 1.21 or later, with max_prepared_statements "
                "above 0, such as 200"
            ) from None
        except TimeoutError:
            pass  # a pool of one session
        finally:
            own.terminate()
            other.terminate()

    async def close(self, grace_s: float = 5.0) -> None:
        """Refuses new users, waits `grace_s` for those there are, then cuts them off."""
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        self._refuse_waiters()
        for task in self._opening:
            task.cancel()
        while self._idle:
            self._discard(self._idle.pop())
        if self._connections:
            self._emptied.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._emptied.wait(), grace_s)
        for connection in self._connections:
            connection.raw.terminate()
        for tasks in (self._opening, self._closing):
            if tasks:
                await asyncio.wait(tuple(tasks))

    def expire(self) -> None:
        """Replaces every connection: idle ones now, lent ones when they come back."""
        self._generation += 1
        while self._idle:
            self._discard(self._idle.pop())

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Raises DatabaseUnavailable when none becomes free in time. Do not wait for anything else while holding it."""
        connection = self._free() or await self._freed()
        try:
            yield connection
        finally:
            self._give_back(connection)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """READ COMMITTED; committed at the end of the block, rolled back when it raises.

        Raises DatabaseUnavailable also when the answer to the commit was lost: then it may have happened.
        """
        connection = self._free() or await self._freed()
        try:
            await connection.begin()
            try:
                yield connection
            except BaseException:
                await connection.roll_back()
                raise
            await connection.commit()
        finally:
            self._give_back(connection)

    async def value(self, statement: Statement, *args: Any) -> Any:
        """`Connection.value` on a connection of its own, as are `row`, `rows` and `run`."""
        connection = self._free() or await self._freed()
        try:
            return await connection.value(statement, *args)
        finally:
            self._give_back(connection)

    async def row(self, statement: Statement, *args: Any) -> asyncpg.Record | None:
        connection = self._free() or await self._freed()
        try:
            return await connection.row(statement, *args)
        finally:
            self._give_back(connection)

    async def rows(self, statement: Statement, *args: Any) -> list[asyncpg.Record]:
        connection = self._free() or await self._freed()
        try:
            return await connection.rows(statement, *args)
        finally:
            self._give_back(connection)

    async def run(self, statement: Statement, *args: Any) -> int:
        connection = self._free() or await self._freed()
        try:
            return await connection.run(statement, *args)
        finally:
            self._give_back(connection)

    def _free(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if not connection.raw.is_closed():
                return connection
            self._discard(connection)
        return None

    async def _freed(self) -> Connection:
        if self._closed:
            raise DatabaseUnavailable("the connections to the database are being closed", retry_after_s=1.0)
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[Connection] = loop.create_future()
        self._waiters.append(waiter)
        self._open_for_waiters()
        timer = loop.call_later(self._acquire_timeout_s, _refuse, waiter)
        try:
            return await waiter
        except BaseException:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._give_back(waiter.result())  # cancelled between being handed a connection and taking it
            else:
                with suppress(ValueError):
                    self._waiters.remove(waiter)
            raise
        finally:
            timer.cancel()

    def _give_back(self, connection: Connection) -> None:
        if self._closed or not self._is_reusable(connection):
            self._discard(connection)
            return
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return
        self._idle.append(connection)

    def _is_reusable(self, connection: Connection) -> bool:
        fresh = connection.generation == self._generation and connection.expires_at > time.monotonic()
        return fresh and connection.is_clean()

    def _discard(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if not self._connections:
            self._emptied.set()
        if connection.raw.is_closed():
            self._open_for_waiters()
            return
        # Until the server has let go it counts as one of ours: a storm of cancellations must not exceed `size`.
        task = asyncio.create_task(_end(connection))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        task.add_done_callback(lambda _: self._open_for_waiters())

    def _open_for_waiters(self) -> None:
        """Opens what is missing, in tasks of our own: a caller that gives up must not interrupt a handshake."""
        pause_s = self._opens_at - time.monotonic()
        if pause_s > 0:
            if not self._connections:
                self._refuse_waiters()
            return
        free = self._size - len(self._connections) - len(self._opening) - len(self._closing)
        for _ in range(0 if self._closed else min(free, len(self._waiters) - len(self._opening))):
            self._opening.add(asyncio.create_task(self._open_one()))

    async def _open_one(self) -> None:
        try:
            connection = await self._connect()
        except Exception as error:
            if self._reachable:
                log.warning("no connection to the database: %s", describe(error) or type(error).__name__)
            self._reachable = False
            if isinstance(error, asyncpg.TooManyConnectionsError):
                self._full_pause_s = min(max(2 * self._full_pause_s, _FIRST_PAUSE_S), _LONGEST_PAUSE_S)
                self._opens_at = time.monotonic() + self._full_pause_s * random.uniform(0.5, 1.0)
            if not self._connections:  # nobody will give one back
                self._refuse_waiters()
            return
        finally:
            self._opening.remove(asyncio.current_task())  # type: ignore[arg-type]
        if not self._reachable:
            log.info("connected to the database again")
        self._reachable = True
        self._full_pause_s = 0.0
        self._give_back(connection)

    async def _connect(self) -> Connection:
        generation = self._generation
        raw = await connect(self._hosts, **self._options)
        # Spread, so that connections opened together do not end together.
        lifetime_s = self._lifetime_s * random.uniform(0.75, 1.0)
        connection = Connection(
            raw,
            generation=generation,
            expires_at=time.monotonic() + lifetime_s,
            on_read_only=self.expire,
            on_full=self._is_full,
        )
        self._connections.add(connection)
        return connection

    def _is_full(self) -> None:
        self.full = True

    def _refuse_waiters(self) -> None:
        while self._waiters:
            _refuse(self._waiters.popleft())

    def _sweep(self) -> None:
        for connection in tuple(self._idle):
            if not self._is_reusable(connection):
                self._idle.remove(connection)
                self._discard(connection)
        self._sweeper = asyncio.get_running_loop().call_later(_SWEEP_S, self._sweep)


def _refuse(waiter: asyncio.Future[Connection]) -> None:
    if not waiter.done():
        waiter.set_exception(
            DatabaseUnavailable("no connection to the database became free in time", retry_after_s=1.0)
        )


async def _end(connection: Connection) -> None:
    """Cancels what still runs on the server and says goodbye, or hangs up."""
    try:
        await connection.raw.close(timeout=_CLOSE_S)
    except Exception:
        connection.raw.terminate()

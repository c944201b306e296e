"""Connections to PostgreSQL: a small pool, what a statement costs and what a driver's error means.

Written by hand because asyncpg's pool spends more on a primary-key read than the read itself. It does without proxies
and without a reset query: nothing here sets session state, and a connection whose state is not certain is closed.
"""

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import cache
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit

import asyncpg
from opentelemetry import trace

from service.errors import DatabaseUnavailable, EvbridgeError
from service.storage.statements import Statement
from service.telemetry import Durations

log = logging.getLogger(__name__)
T = TypeVar("T")

_BEGIN = Statement("begin", "BEGIN ISOLATION LEVEL READ COMMITTED")
_COMMIT = Statement("commit", "COMMIT")
_ROLLBACK = Statement("rollback", "ROLLBACK")

_SWEEP_S = 30.0
_CLOSE_S = 2.0
_SILENCE_S = 1.0  # how much later than the server's own time limit ours strikes

_tracer = trace.get_tracer(__name__)
_duration = Durations(
    __name__,
    "db.client.operation.duration",
    "Duration of database client operations.",
    (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10),
)

_GONE = ("the database cannot be reached", 1.0)
_BUSY = ("the database did not finish in time", 1.0)
_CONFLICT = ("another transaction was in the way", 0.1)

# SQLSTATE or its beginning -> what the caller is told, and after how many seconds to try again.
_PASSING = {
    "08": _GONE,  # connection exception
    "25006": ("the database takes no writes at the moment", 1.0),  # read_only_sql_transaction: a former primary
    "40001": _CONFLICT,  # serialization_failure
    "40P01": _CONFLICT,  # deadlock_detected
    "53300": _GONE,  # too_many_connections
    "55P03": _CONFLICT,  # lock_not_available
    "57014": _BUSY,  # query_canceled, by statement_timeout
    "57P0": _GONE,  # shutdown, crash, starting up
}


def translated(error: BaseException) -> EvbridgeError | None:
    """DatabaseUnavailable for what passes by itself; None for a fault, and for what is not the database's error."""
    if isinstance(error, asyncpg.PostgresError):
        for sqlstate, (message, retry_after_s) in _PASSING.items():
            if (error.sqlstate or "").startswith(sqlstate):
                return DatabaseUnavailable(message, retry_after_s=retry_after_s)
        return None
    if isinstance(error, TimeoutError):
        return DatabaseUnavailable(_BUSY[0], retry_after_s=_BUSY[1])
    if isinstance(error, OSError | asyncpg.TargetServerAttributeNotMatched):
        return DatabaseUnavailable(_GONE[0], retry_after_s=_GONE[1])
    return None


def describe(error: BaseException) -> str:
    """A driver's error for the log, without its text: that may quote a row. Empty for any other error."""
    if not isinstance(error, asyncpg.PostgresError | asyncpg.InterfaceError | asyncpg.InternalClientError):
        return ""
    facts = ("sqlstate", "schema_name", "table_name", "column_name", "constraint_name", "data_type_name")
    said = [f"{fact}={value}" for fact in facts if (value := getattr(error, fact, None))]
    return " ".join([type(error).__name__, *said, *getattr(error, "__notes__", ())])


def host_urls(url: str) -> list[str]:
    """One URL per host of `url`: asyncpg would spend the whole connect timeout on a first host that never answers."""
    parts = urlsplit(url)
    credentials, at, hosts = parts.netloc.rpartition("@")
    if "," in hosts:
        return [parts._replace(netloc=f"{credentials}{at}{host}").geturl() for host in hosts.split(",")]
    query = dict(parse_qsl(parts.query))
    names = query.get("host", "").split(",")
    if len(names) == 1:
        return [url]
    ports = query.get("port", "5432").split(",")
    ports = ports * len(names) if len(ports) == 1 else ports
    each = zip(names, ports, strict=True)
    return [parts._replace(query=urlencode({**query, "host": name, "port": port})).geturl() for name, port in each]


async def connect(hosts: list[str], *, timeout_s: float, **options: Any) -> "asyncpg.Connection[asyncpg.Record]":
    """Tries each of `host_urls` for `timeout_s`; the one that answers comes first from now on. Raises driver errors."""
    failure: Exception | None = None
    for url in tuple(hosts):
        try:
            raw: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(url, timeout=timeout_s, **options)
        except (OSError, asyncpg.PostgresError, asyncpg.TargetServerAttributeNotMatched) as error:
            failure = error
        else:
            hosts.remove(url)
            hosts.insert(0, url)
            return raw
    assert failure is not None  # noqa: S101
    raise failure


@cache
def _attributes(name: str) -> dict[str, str]:
    return {"db.system.name": "postgresql", "db.operation.name": name}


class Connection:
    """One connection, lent to one task at a time.

    Each method runs a statement and raises DatabaseUnavailable for what passes by itself. Any other error of the driver
    is a fault of ours and passes as it is, with the statement's name as a note.
    """

    __slots__ = ("_in_step", "_on_read_only", "expires_at", "generation", "raw")

    def __init__(
        self,
        raw: "asyncpg.Connection[asyncpg.Record]",
        *,
        generation: int,
        expires_at: float,
        on_read_only: Callable[[], None],
    ) -> None:
        self.raw = raw
        self.generation = generation
        self.expires_at = expires_at
        self._on_read_only = on_read_only
        # Whether the last statement ran to its end. One that was cut off leaves the connection in an unknown state.
        self._in_step = True

    async def value(self, statement: Statement, *args: Any) -> Any:
        """The first column of the first row; None without a row."""
        return await self._run(self.raw.fetchval, statement, *args)

    async def row(self, statement: Statement, *args: Any) -> asyncpg.Record | None:
        return await self._run(self.raw.fetchrow, statement, *args)

    async def rows(self, statement: Statement, *args: Any) -> list[asyncpg.Record]:
        return await self._run(self.raw.fetch, statement, *args)

    async def run(self, statement: Statement, *args: Any) -> int:
        """The number of rows it touched, 0 where that has no meaning."""
        count = (await self._run(self.raw.execute, statement, *args)).rpartition(" ")[2]
        return int(count) if count.isdecimal() else 0

    async def many(self, statement: Statement, args: Iterable[Sequence[Any]]) -> None:
        """Runs it once per element; all or none."""
        await self._run(self.raw.executemany, statement, args)

    async def begin(self) -> None:
        await self._run(self.raw.execute, _BEGIN)

    async def commit(self) -> None:
        # PostgreSQL answers ROLLBACK, and no error, when a statement had failed and the caller went on regardless.
        if await self._run(self.raw.execute, _COMMIT) != "COMMIT":
            raise RuntimeError("a failed statement was ignored, so nothing of its transaction was stored")

    async def roll_back(self) -> None:
        """Best effort: what made us roll back matters more, and a connection still in a transaction is not reused."""
        if self._in_step:
            with suppress(Exception):
                await self._run(self.raw.execute, _ROLLBACK)

    def is_clean(self) -> bool:
        return self._in_step and not self.raw.is_closed() and not self.raw.is_in_transaction()

    async def _run(self, call: Callable[..., Awaitable[T]], statement: Statement, *args: Any) -> T:
        attributes = _attributes(statement.name)
        span = None
        if trace.get_current_span().is_recording():
            span = _tracer.start_span(statement.name, kind=trace.SpanKind.CLIENT, attributes=attributes)
        self._in_step = False
        started = time.perf_counter()
        try:
            result = await call(statement.text, *args)
            self._in_step = True
            return result
        except BaseException as error:
            sqlstate = getattr(error, "sqlstate", None) or ""
            attributes = {**attributes, "error.type": sqlstate or type(error).__qualname__}
            if span is not None:
                span.set_status(trace.StatusCode.ERROR)
                span.set_attribute("error.type", attributes["error.type"])
            # The server said no and waits for the next statement; after anything else, who knows.
            self._in_step = isinstance(error, asyncpg.PostgresError) and not sqlstate.startswith(("08", "57P"))
            if sqlstate == asyncpg.ReadOnlySQLTransactionError.sqlstate:
                self._on_read_only()
            ours = translated(error)
            if ours is None and isinstance(error, Exception) and self.raw.is_closed():
                ours = DatabaseUnavailable(_GONE[0], retry_after_s=_GONE[1])
            if ours is not None:
                raise ours from error
            error.add_note(f"statement={statement.name}")
            raise
        finally:
            _duration.record(time.perf_counter() - started, attributes)
            if span is not None:
                span.end()


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
        self._closed = False
        self._emptied = asyncio.Event()
        self._sweeper: asyncio.TimerHandle | None = None

    async def open(self) -> None:
        """Opens the first connection. Raises DatabaseUnavailable, or the driver's error when waiting will not help."""
        try:
            connection = await self._connect()
        except Exception as error:
            ours = translated(error)
            if ours is None:
                raise
            raise ours from error
        self._give_back(connection)
        self._sweep()

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
            if not self._connections:  # nobody will give one back
                self._refuse_waiters()
            return
        finally:
            self._opening.remove(asyncio.current_task())  # type: ignore[arg-type]
        if not self._reachable:
            log.info("connected to the database again")
        self._reachable = True
        self._give_back(connection)

    async def _connect(self) -> Connection:
        generation = self._generation
        raw = await connect(self._hosts, **self._options)
        # Spread, so that connections opened together do not end together.
        lifetime_s = self._lifetime_s * random.uniform(0.75, 1.0)
        connection = Connection(
            raw, generation=generation, expires_at=time.monotonic() + lifetime_s, on_read_only=self.expire
        )
        self._connections.add(connection)
        return connection

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

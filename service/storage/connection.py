"""One connection to PostgreSQL: what a statement costs, and what a driver's error means."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from functools import cache
from itertools import chain
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit

import asyncpg
from opentelemetry import trace

from service.durations import Durations
from service.errors import DatabaseFull, DatabaseUnavailable, EvbridgeError
from service.settings import SettingError
from service.storage.statements import Statement

T = TypeVar("T")

_BEGIN = Statement("begin", "BEGIN ISOLATION LEVEL READ COMMITTED")
_COMMIT = Statement("commit", "COMMIT")
_ROLLBACK = Statement("rollback", "ROLLBACK")

_tracer = trace.get_tracer(__name__)
_duration = Durations(
    __name__,
    "db.client.operation.duration",
    "Duration of database client operations.",
    (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10),
)

_GONE = ("the database cannot be reached", 1.0)
_BUSY = ("the database did not finish in time", 1.0)
_SHORT = ("the database is short of something", 1.0)
_CONFLICT = ("another transaction was in the way", 0.1)

_FULL_S = 10.0
_GLANCE_S = 1.0

# SQLSTATE or its beginning -> what the caller is told, and after how many seconds to try again.
_PASSING = {
    "08": _GONE,  # connection exception
    "23503": _CONFLICT,  # foreign_key_violation: what the row belongs to was deleted at this moment
    "25006": ("the database takes no writes at the moment", 1.0),  # read_only_sql_transaction: a former primary
    "40001": _CONFLICT,  # serialization_failure
    "40P01": _CONFLICT,  # deadlock_detected
    "53300": ("the database has no connection left: max_connections is too low for all of its clients", 1.0),
    "53": _SHORT,  # insufficient resources: memory, a limit of its configuration
    "55P03": _CONFLICT,  # lock_not_available
    "57014": _BUSY,  # query_canceled, by statement_timeout
    "57P0": _GONE,  # shutdown, crash, starting up
}


def translated(error: BaseException) -> EvbridgeError | None:
    """DatabaseUnavailable for what passes by itself; None for a fault, and for what is not the database's error."""
    if isinstance(error, asyncpg.DiskFullError):
        return DatabaseFull("the database has no room left on its disk", retry_after_s=_FULL_S)
    if isinstance(error, asyncpg.PostgresError):
        for sqlstate, (message, retry_after_s) in _PASSING.items():
            if (error.sqlstate or "").startswith(sqlstate):
                return DatabaseUnavailable(message, retry_after_s=retry_after_s)
        return None
    if isinstance(error, TimeoutError):
        return DatabaseUnavailable(_BUSY[0], retry_after_s=_BUSY[1])
    if isinstance(error, OSError):
        return DatabaseUnavailable(_GONE[0], retry_after_s=_GONE[1])
    return None


def describe(error: BaseException) -> str:
    """A driver's error for the log, without its text: that may quote a row. Empty for any other error."""
    if not isinstance(error, asyncpg.PostgresError | asyncpg.InterfaceError | asyncpg.InternalClientError):
        return ""
    facts = ("sqlstate", "schema_name", "table_name", "column_name", "constraint_name", "data_type_name")
    known = [f"{fact}={value}" for fact in facts if (value := getattr(error, fact, None))]
    return " ".join([type(error).__name__, *known, *getattr(error, "__notes__", ())])


def refusal(error: asyncpg.PostgresError) -> str:
    """`describe`, for people."""
    return f"the database refuses: {describe(error)}"


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
    """Tries each of `host_urls`; the one that answers comes first from now on.

    One that never answers must not hide the next: of several each has a moment, then those that were slow `timeout_s`.
    Raises driver errors, DatabaseUnavailable when the last one is a standby that nobody has promoted, and SettingError
    for PgBouncer where the server itself is expected.
    """
    failure: Exception | None = None
    glance_s = min(_GLANCE_S, timeout_s) if len(hosts) > 1 else timeout_s
    slow: list[str] = []
    for url, limit_s in chain(((each, glance_s) for each in tuple(hosts)), ((each, timeout_s) for each in slow)):
        try:
            raw: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(url, timeout=limit_s, **options)
        except asyncpg.ProtocolViolationError:
            raise SettingError(
                "what answers at the database's URL refuses the parameters that a session begins with, as PgBouncer "
                "does: set EVBRIDGE_PGBOUNCER=true, and EVBRIDGE_DATABASE_DIRECT_URL to the server itself"
            ) from None
        except asyncpg.TargetServerAttributeNotMatched:
            failure = DatabaseUnavailable("no server of the database takes writes at the moment", retry_after_s=1.0)
        except (OSError, asyncpg.PostgresError) as error:
            failure = error
            if isinstance(error, TimeoutError) and limit_s < timeout_s:
                slow.append(url)
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

    __slots__ = ("_in_step", "_on_full", "_on_read_only", "expires_at", "generation", "raw")

    def __init__(
        self,
        raw: "asyncpg.Connection[asyncpg.Record]",
        *,
        generation: int,
        expires_at: float,
        on_read_only: Callable[[], None],
        on_full: Callable[[], None],
    ) -> None:
        self.raw = raw
        self.generation = generation
        self.expires_at = expires_at
        self._on_read_only = on_read_only
        self._on_full = on_full
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

    async def stream(self, statement: Statement, *args: Any) -> AsyncIterator[asyncpg.Record]:
        """Its rows, some at a time, within a transaction."""
        self._in_step = False
        async for row in self.raw.cursor(statement.text, *args):
            yield row
        self._in_step = True

    async def columns(self, statement: Statement) -> dict[str, str]:
        """The types of its columns, by their names."""
        prepared = await self._run(self.raw.prepare, statement)
        return {attribute.name: attribute.type.name for attribute in prepared.get_attributes()}

    async def copy(
        self, table: str, columns: Sequence[str], records: Iterable[Sequence[Any]], timeout_s: float
    ) -> None:
        """Adds records to a table, which are read while it goes on. Raises what reading them raises."""
        self._in_step = False
        await self.raw.copy_records_to_table(table, columns=columns, records=records, timeout=timeout_s)
        self._in_step = True

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
            elif sqlstate == asyncpg.DiskFullError.sqlstate:
                self._on_full()
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

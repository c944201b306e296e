"""The pool lends clean connections only, whatever happened to the last user, and says plainly when it has none."""

import asyncio
import random
import secrets
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from time import monotonic
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import asyncpg
import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from service.errors import DatabaseUnavailable
from service.settings import SettingError
from service.storage import connection, pool
from service.storage.connection import connect, describe, host_urls, translated
from service.storage.migrations import migrate
from service.storage.pool import Database
from service.storage.statements import Statement

ONE = Statement("one", "SELECT 1")
PID = Statement("pid", "SELECT pg_backend_pid()")
SLEEP = Statement("sleep", "SELECT pg_sleep($1)")
INSERT = Statement("probe_insert", "INSERT INTO probe (id, secret) VALUES ($1, $2)")
COUNT = Statement("probe_count", "SELECT count(*) FROM probe")
SETTING = Statement("setting", "SELECT current_setting($1)")
BACKENDS = Statement(
    "backends",
    "SELECT pid, state FROM pg_stat_activity WHERE application_name = $1 AND datname = current_database()",
)


@pytest.fixture
async def probe(database: Database) -> str:
    await database.run(Statement("probe", "CREATE TABLE probe (id int PRIMARY KEY CHECK (id >= 0), secret text)"))
    return "probe"


@asynccontextmanager
async def opened(url: str, **options: object) -> AsyncIterator[Database]:
    database = Database(url, **options)  # type: ignore[arg-type]
    await database.open()
    try:
        yield database
    finally:
        await database.close(grace_s=0)


async def test_each_way_to_run_a_statement_gives_its_shape(database: Database, probe: str) -> None:
    async with database.transaction() as conn:
        for row in ((1, "a"), (2, "b"), (3, None)):
            await conn.run(INSERT, *row)
        assert await conn.run(Statement("update", "UPDATE probe SET secret = $1 WHERE id > 1"), "c") == 2
    assert await database.run(ONE) == 1
    assert await database.run(Statement("comment", "COMMENT ON TABLE probe IS 'probe'")) == 0
    assert await database.value(COUNT) == 3
    assert await database.value(Statement("none", "SELECT id FROM probe WHERE id = $1"), 9) is None
    assert await database.row(Statement("row", "SELECT id, secret FROM probe WHERE id = $1"), 2) == (2, "c")
    assert [row["id"] for row in await database.rows(Statement("rows", "SELECT id FROM probe ORDER BY id"))] == [
        1,
        2,
        3,
    ]


async def test_sessions_have_limits_and_speak_utc(database_url: str) -> None:
    settings = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "TimeZone", "jit")
    async with opened(database_url, command_timeout_s=3) as database:
        assert [await database.value(SETTING, name) for name in settings] == ["3s", "1s", "10s", "UTC", "off"]
        assert await database.value(SETTING, "application_name") == "evbridge"


async def test_through_pgbouncer_no_startup_parameter_is_sent_that_it_refuses(database_url: str) -> None:
    async with opened(database_url, pgbouncer=True, application_name="behind") as database:
        assert await database.value(SETTING, "statement_timeout") == "0"
        assert await database.value(SETTING, "application_name") == "behind"


class Bouncer:
    """Does what PgBouncer did before 1.21: refuses startup parameters, changes the session after each transaction."""

    def __init__(self, url: str) -> None:
        socket = parse_qs(urlsplit(url).query).get("host")
        at = urlsplit(url)
        self._server: Any = (
            partial(asyncio.open_unix_connection, f"{socket[0]}/.s.PGSQL.5432")
            if socket
            else partial(asyncio.open_connection, at.hostname, at.port)
        )
        self._url = at
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._writers: list[asyncio.StreamWriter] = []

    @asynccontextmanager
    async def started(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        user = self._url.username or parse_qs(self._url.query)["user"][0]
        yield f"postgresql://{user}@{host}:{port}{self._url.path}?sslmode=disable"
        for writer in (*self._writers, *(writer for _, writer in self._idle)):
            writer.close()
        server.close()
        await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        session: Any = None
        answering: asyncio.Task[bytes] | None = None
        try:
            startup = await _packet(reader)
            if b"statement_timeout" in startup:
                fields = b"SFATAL\0C08P01\0Munsupported startup parameter: statement_timeout\0\0"
                writer.write(b"E" + (len(fields) + 4).to_bytes(4) + fields)
                return
            session = await self._server()
            session[1].write(startup)
            await _until_ready(session[0], writer)
            self._idle.append(session)
            session = None
            while True:
                sent = await _message(reader)
                if sent.startswith(b"X"):
                    return
                session = session or self._idle.pop()
                answering = answering or asyncio.create_task(_until_ready(session[0], writer))
                session[1].write(sent)
                if sent[:1] in b"QS":
                    state, answering = await answering, None
                    if state == b"I":
                        self._idle.append(session)
                        session = None
        except asyncio.IncompleteReadError:
            pass
        finally:
            if answering:
                answering.cancel()
            if session:
                session[1].close()
            writer.close()


async def _packet(reader: asyncio.StreamReader) -> bytes:
    length = await reader.readexactly(4)
    return length + await reader.readexactly(int.from_bytes(length) - 4)


async def _message(reader: asyncio.StreamReader) -> bytes:
    return await reader.readexactly(1) + await _packet(reader)


async def _until_ready(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    while True:
        answer = await _message(reader)
        writer.write(answer)
        if answer.startswith(b"Z"):
            return answer[-1:]


async def test_a_pgbouncer_that_loses_statements_is_refused_at_the_start(database_url: str) -> None:
    async with Bouncer(database_url).started() as url:
        with pytest.raises(SettingError, match=r"version 1.21 or later, with max_prepared_statements above 0"):
            await Database(url, pgbouncer=True).open()
        with pytest.raises(SettingError, match=r"set EVBRIDGE_PGBOUNCER=true"):
            await Database(url).open()
        with pytest.raises(SettingError, match=r"EVBRIDGE_DATABASE_DIRECT_URL"):
            await migrate(url)
    async with opened(database_url, pgbouncer=True) as database:  # the control: nothing is lost there
        assert await database.value(ONE) == 1


async def test_a_first_burst_finds_every_connection_open(database_url: str, database: Database) -> None:
    async with opened(database_url, size=7, application_name="warm"):
        assert len(await database.rows(BACKENDS, "warm")) == 7


@pytest.mark.parametrize("pause_s", [60.0, 0.0], ids=["pause", "control"])
async def test_a_server_without_connections_left_is_not_asked_again_at_once(
    database_url: str, database: Database, monkeypatch: pytest.MonkeyPatch, pause_s: float
) -> None:
    role = f"few_{secrets.token_hex(4)}"
    await database.run(Statement("role", f"CREATE ROLE {role} LOGIN CONNECTION LIMIT 2"))
    monkeypatch.setattr(pool, "_FIRST_PAUSE_S", pause_s)
    monkeypatch.setattr(pool, "_LONGEST_PAUSE_S", pause_s)
    asked = 0

    async def counted(*args: Any, **named: Any) -> Any:
        nonlocal asked
        asked += 1
        return await connect(*args, **named)

    monkeypatch.setattr(pool, "connect", counted)
    user = urlsplit(database_url).username
    assert user
    url = database_url.replace(f"//{user}", f"//{role}", 1)
    async with opened(url, size=3, acquire_timeout_s=20) as few:
        assert asked == 3, "one of them in vain"
        asked = 0
        for _ in range(5):
            await asyncio.gather(*(few.value(SLEEP, 0.05) for _ in range(6)))
        assert asked == 0 if pause_s else asked >= 5
    await database.run(Statement("role", f"DROP ROLE {role}"))


async def test_whoever_finds_every_connection_in_use_is_told_to_come_back(database_url: str) -> None:
    async with opened(database_url, size=1, acquire_timeout_s=0.05) as database:
        async with database.connection():
            with pytest.raises(DatabaseUnavailable) as refused:  # also what nested use meets, instead of a deadlock
                await database.value(ONE)
            assert refused.value.retry_after_s == 1.0
        assert await database.value(ONE) == 1


async def test_those_who_wait_are_served_in_turn(database_url: str) -> None:
    async with opened(database_url, size=1, acquire_timeout_s=5) as database:
        served: list[int] = []

        async def caller(number: int) -> None:
            async with database.connection():
                served.append(number)
                await asyncio.sleep(0)

        async with asyncio.TaskGroup() as callers:
            for number in range(20):
                callers.create_task(caller(number))
        assert served == list(range(20))


async def test_never_more_connections_than_the_size(database_url: str) -> None:
    async with opened(database_url, size=3, acquire_timeout_s=10) as database:
        await asyncio.gather(*(database.value(SLEEP, 0.005) for _ in range(50)))
        assert len(await database.rows(BACKENDS, "evbridge")) == 3


async def test_a_failed_block_leaves_no_trace_and_a_clean_connection(database_url: str, probe: str) -> None:
    async with opened(database_url, size=1) as database:
        pid = await database.value(PID)
        with pytest.raises(LookupError):
            async with database.transaction() as conn:
                await conn.run(INSERT, 1, "a")
                raise LookupError
        assert await database.value(COUNT) == 0
        assert await database.value(PID) == pid


async def test_a_transaction_left_open_on_a_connection_ends_with_its_loan(database_url: str, probe: str) -> None:
    async with opened(database_url, size=1, acquire_timeout_s=5) as database:
        async with database.connection() as conn:
            await conn.run(Statement("begin_by_hand", "BEGIN"))
            await conn.run(INSERT, 1, "a")
        assert await database.value(COUNT) == 0


async def test_a_commit_that_stored_nothing_is_not_taken_for_success(database: Database, probe: str) -> None:
    with pytest.raises(RuntimeError, match="nothing of its transaction was stored"):
        async with database.transaction() as conn:
            await conn.run(INSERT, 1, "a")
            with pytest.raises(asyncpg.UniqueViolationError):
                await conn.run(INSERT, 1, "b")
    assert await database.value(COUNT) == 0


async def test_a_storm_of_cancellations_leaks_and_tears_nothing(
    database_url: str, database: Database, probe: str, soak: Callable[[int], int]
) -> None:
    chance = random.Random(4)

    async def pair(store: Database, number: int) -> None:
        async with store.transaction() as conn:
            await conn.run(INSERT, 2 * number, None)
            await asyncio.sleep(0)
            await conn.run(INSERT, 2 * number + 1, None)

    spared: set[int] = set()

    async def maybe_cancelled(store: Database, number: int) -> None:
        task = asyncio.create_task(pair(store, number))
        if chance.random() < 0.8:
            await asyncio.sleep(chance.uniform(0, 0.004))
            task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()
            spared.add(number)

    async with opened(database_url, size=5, acquire_timeout_s=60, application_name="storm") as store:
        numbers = iter(range(soak(10_000)))

        async def caller() -> None:
            for number in numbers:
                await maybe_cancelled(store, number)

        await asyncio.gather(*(caller() for _ in range(20)))
        assert await store.value(ONE) == 1
        backends = await database.rows(BACKENDS, "storm")
        assert 1 <= len(backends) <= 5
        # A backend that is only just starting tells no state yet.
        assert {row["state"] for row in backends} <= {"idle", None}
        stored = await database.rows(Statement("pairs", "SELECT id / 2 AS number, count(*) FROM probe GROUP BY id / 2"))
        assert {row["count"] for row in stored} == {2}
        assert spared <= {row["number"] for row in stored}


async def test_a_cancelled_statement_stops_on_the_server_too(database_url: str, database: Database) -> None:
    async with opened(database_url, size=1, acquire_timeout_s=5, application_name="sleeper") as store:
        task = asyncio.create_task(store.value(SLEEP, 60.0))
        while not any(row["state"] == "active" for row in await database.rows(BACKENDS, "sleeper")):
            await asyncio.sleep(0.01)
        [pid] = [row["pid"] for row in await database.rows(BACKENDS, "sleeper")]
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await store.value(PID) != pid
        assert [row["pid"] for row in await database.rows(BACKENDS, "sleeper")] != [pid]


async def test_a_statement_that_takes_too_long_is_ended_by_the_server(database_url: str) -> None:
    async with opened(database_url, size=1, command_timeout_s=0.5) as database:
        pid = await database.value(PID)
        with pytest.raises(DatabaseUnavailable):
            await database.value(SLEEP, 60.0)
        assert await database.value(PID) == pid


async def test_a_statement_that_takes_too_long_is_ended_by_us_behind_pgbouncer(database_url: str) -> None:
    async with opened(database_url, size=1, command_timeout_s=0.5, acquire_timeout_s=5, pgbouncer=True) as database:
        pid = await database.value(PID)
        with pytest.raises(DatabaseUnavailable):
            await database.value(SLEEP, 60.0)
        assert await database.value(PID) != pid


TERMINATE = Statement("terminate", "SELECT pg_terminate_backend($1, 5000)")


async def test_connections_broken_while_idle_are_replaced_unnoticed(database_url: str, database: Database) -> None:
    async with opened(database_url, acquire_timeout_s=5, application_name="victim") as store:
        await asyncio.gather(*(store.value(SLEEP, 0.01) for _ in range(5)))
        for row in await database.rows(BACKENDS, "victim"):
            assert await database.value(TERMINATE, row["pid"])
        await asyncio.sleep(0.05)
        assert await asyncio.gather(*(store.value(ONE) for _ in range(20))) == [1] * 20


async def test_a_connection_broken_in_a_transaction_is_unavailable_then_healed(
    database_url: str, database: Database, probe: str
) -> None:
    async with opened(database_url, size=1, acquire_timeout_s=5) as store:
        with pytest.raises(DatabaseUnavailable):
            async with store.transaction() as conn:
                await conn.run(INSERT, 1, "a")
                await database.value(TERMINATE, await conn.value(PID))
                await conn.run(INSERT, 2, "b")
        with pytest.raises(DatabaseUnavailable):
            async with store.connection() as conn:
                conn.raw.terminate()
                await conn.value(ONE)
        assert await store.value(COUNT) == 0


async def test_a_primary_turned_read_only_is_left_for_the_writable_one(
    postgres: str, database_url: str, database: Database, probe: str
) -> None:
    async def read_only(value: str) -> None:
        admin = await asyncpg.connect(postgres)
        name = urlsplit(database_url).path[1:]
        await admin.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = {value}")
        await admin.close()

    await read_only("on")
    async with opened(database_url, acquire_timeout_s=5) as store:
        await read_only("off")
        with pytest.raises(DatabaseUnavailable):
            await store.run(INSERT, 1, "a")
        assert await store.run(INSERT, 1, "a") == 1


async def test_expired_connections_are_replaced_when_they_come_back(database_url: str) -> None:
    async with opened(database_url, size=1, acquire_timeout_s=5) as database:
        async with database.connection() as conn:
            pid = await conn.value(PID)
            database.expire()
            assert await conn.value(PID) == pid
        assert await database.value(PID) != pid


async def test_a_connection_past_its_life_is_replaced(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(database_url, size=1, acquire_timeout_s=5, lifetime_s=60) as database:
        pid = await database.value(PID)
        monkeypatch.setattr(pool, "time", SimpleNamespace(monotonic=lambda: monotonic() + 120))
        assert await database.value(PID) == pid  # its age is looked at when it comes back
        assert await database.value(PID) != pid


async def test_closing_waits_for_users_and_refuses_new_ones(database_url: str, probe: str, database: Database) -> None:
    store = Database(database_url)
    await store.open()
    async with store.transaction() as conn:
        closing = asyncio.create_task(store.close())
        await asyncio.sleep(0)
        with pytest.raises(DatabaseUnavailable):
            await store.value(ONE)
        await conn.run(INSERT, 1, "a")
        assert not closing.done()
    await closing
    assert await database.value(COUNT) == 1


async def test_closing_cuts_off_users_that_stay(database_url: str, database: Database) -> None:
    store = Database(database_url, application_name="stays")
    await store.open()
    async with store.connection() as conn:
        waiting = asyncio.create_task(conn.value(SLEEP, 60.0))
        await asyncio.sleep(0.01)
        await store.close(grace_s=0)
        with pytest.raises(DatabaseUnavailable):
            await waiting
        with pytest.raises(DatabaseUnavailable):
            await conn.value(ONE)
    await store.close()


async def test_an_unreachable_server_is_unavailable_at_once() -> None:
    store = Database("postgresql://evbridge@127.0.0.1:1/evbridge")
    with pytest.raises(DatabaseUnavailable):
        await store.open()
    answers = await asyncio.gather(*(store.value(ONE) for _ in range(3)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [DatabaseUnavailable] * 3
    await store.close()


async def test_a_host_that_accepts_and_never_answers_does_not_hide_the_next(database_url: str) -> None:
    over = asyncio.Event()

    async def silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await over.wait()
        writer.close()

    with tempfile.TemporaryDirectory(prefix="evb", dir="/tmp") as directory:
        if socket := parse_qs(urlsplit(database_url).query).get("host"):
            server = await asyncio.start_unix_server(silent, Path(directory) / ".s.PGSQL.5432")
            url = database_url.replace(f"host={quote(socket[0])}", f"host={directory},{quote(socket[0])}")
        else:
            server = await asyncio.start_server(silent, "127.0.0.1", 0)
            host = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
            at = urlsplit(database_url).netloc.rpartition("@")[2]
            url = database_url.replace(f"{at}/", f"{host},{at}/", 1)
        async with opened(url, connect_timeout_s=1.0) as database:
            assert await database.value(ONE) == 1
        over.set()
        server.close()


@pytest.mark.parametrize(
    ("url", "each"),
    [
        ("postgresql://u:p@one/d?sslmode=require", ["postgresql://u:p@one/d?sslmode=require"]),
        ("postgresql://u:p@one,two:2/d", ["postgresql://u:p@one/d", "postgresql://u:p@two:2/d"]),
        ("postgresql://one,two/d", ["postgresql://one/d", "postgresql://two/d"]),
        ("postgresql://u@/d?host=/a%20b", ["postgresql://u@/d?host=/a%20b"]),
        (
            "postgresql://u@/d?host=/a,/b&target_session_attrs=read-write",
            [
                "postgresql://u@/d?host=%2Fa&target_session_attrs=read-write&port=5432",
                "postgresql://u@/d?host=%2Fb&target_session_attrs=read-write&port=5432",
            ],
        ),
        (
            "postgresql://u@/d?host=a,b&port=1,2",
            ["postgresql://u@/d?host=a&port=1", "postgresql://u@/d?host=b&port=2"],
        ),
    ],
)
def test_a_url_with_several_hosts_is_one_url_for_each(url: str, each: list[str]) -> None:
    assert host_urls(url) == each


@pytest.mark.parametrize(
    ("error", "retry_after_s"),
    [
        (asyncpg.ConnectionDoesNotExistError("x"), 1.0),
        (asyncpg.ConnectionFailureError("x"), 1.0),
        (asyncpg.AdminShutdownError("x"), 1.0),
        (asyncpg.CrashShutdownError("x"), 1.0),
        (asyncpg.CannotConnectNowError("x"), 1.0),
        (asyncpg.TooManyConnectionsError("x"), 1.0),
        (asyncpg.OutOfMemoryError("x"), 1.0),
        (asyncpg.DiskFullError("x"), 10.0),
        (asyncpg.ReadOnlySQLTransactionError("x"), 1.0),
        (asyncpg.SerializationError("x"), 0.1),
        (asyncpg.DeadlockDetectedError("x"), 0.1),
        (asyncpg.LockNotAvailableError("x"), 0.1),
        (asyncpg.QueryCanceledError("x"), 1.0),
        (ConnectionRefusedError(), 1.0),
        (TimeoutError(), 1.0),
        (asyncpg.UniqueViolationError("x"), None),
        (asyncpg.CheckViolationError("x"), None),
        (asyncpg.PostgresSyntaxError("x"), None),
        (asyncpg.InterfaceError("x"), None),
        (asyncio.CancelledError(), None),
        (ValueError("x"), None),
    ],
    ids=lambda case: type(case).__name__ if isinstance(case, BaseException) else "",
)
def test_what_passes_by_itself_is_unavailable_and_nothing_else(
    error: BaseException, retry_after_s: float | None
) -> None:
    ours = translated(error)
    assert (None if ours is None else ours.retry_after_s) == retry_after_s
    assert ours is None or (isinstance(ours, DatabaseUnavailable) and ours.message != "x")


async def test_a_fault_is_described_by_names_and_never_by_values(database: Database, probe: str) -> None:
    await database.run(INSERT, 7, "hunter2")
    with pytest.raises(asyncpg.UniqueViolationError) as fault:
        await database.run(INSERT, 7, "hunter2")
    described = describe(fault.value)
    assert described == (
        "UniqueViolationError sqlstate=23505 schema_name=public table_name=probe constraint_name=probe_pkey "
        "statement=probe_insert"
    )
    with pytest.raises(asyncpg.CheckViolationError) as fault_in_row:
        await database.run(INSERT, -1, "hunter2")
    assert "hunter2" in str(fault_in_row.value)
    assert "hunter2" not in describe(fault_in_row.value)
    assert describe(ValueError("hunter2")) == ""


async def test_statements_are_measured_and_traced_without_values(
    database: Database, probe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, spans = InMemoryMetricReader(), InMemorySpanExporter()
    traces = TracerProvider()
    traces.add_span_processor(SimpleSpanProcessor(spans))
    meters = MeterProvider(metric_readers=[reader])
    histogram = meters.get_meter("test").create_histogram("db.client.operation.duration")
    monkeypatch.setattr(connection, "_duration", histogram)
    monkeypatch.setattr(connection, "_tracer", traces.get_tracer("test"))

    await database.run(INSERT, 1, "hunter2")
    assert spans.get_finished_spans() == ()
    with traces.get_tracer("test").start_as_current_span("call"), pytest.raises(asyncpg.UniqueViolationError):
        await database.run(INSERT, 1, "hunter2")

    failed = spans.get_finished_spans()[0]
    assert (failed.name, failed.kind, failed.status.status_code) == (
        "probe_insert",
        trace.SpanKind.CLIENT,
        trace.StatusCode.ERROR,
    )
    assert "hunter2" not in failed.to_json()
    data = reader.get_metrics_data()
    assert data is not None
    points = data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points
    common = {"db.system.name": "postgresql", "db.operation.name": "probe_insert"}
    # Other tests' servers may be at work in this process.
    ours = [point.attributes for point in points if point.attributes["db.operation.name"] == "probe_insert"]
    assert ours == [common, {**common, "error.type": "23505"}]
    meters.shutdown()

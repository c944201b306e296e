"""What is around the rpcs: health, reflection, limits, deadlines, TLS, drain, faults, traces, the command line."""

import asyncio
import logging
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import grpc
import pytest
from evbridge.v1.company_pb2 import DESCRIPTOR as COMPANY
from evbridge.v1.company_pb2 import Company, GetCompanyRequest, ListCompaniesRequest, UpsertCompanyRequest
from evbridge.v1.integration_pb2 import CreateIntegrationRequest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from service.app import Evbridge, evbridge
from service.identity.authentication import Authenticator
from service.partners.chargeprice.simulator import Simulator
from service.rpc.interceptors import Interceptors
from service.rpc.server import Server
from service.settings import Reflection, SettingError, Settings
from service.storage.api_key import api_key_create
from service.storage.keyring import Keyring
from service.storage.pool import Database
from service.telemetry import JsonFormatter
from tests.conftest import Tenant
from tests.front_door import (
    Client,
    a_company,
    an_integration,
    collecting,
    command,
    data_directory,
    environment,
    fails,
    serving,
    settings,
    settled,
)
from tests.rpc.test_access import SERVICES

Code = grpc.StatusCode
NAMES = [service.full_name for service in SERVICES]
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture
async def admin_key(database: Database, keyring: Keyring) -> str:
    async with database.transaction() as conn:
        return (await api_key_create(conn, keyring, "acme", "", 3)).reveal()


@pytest.fixture
async def sql(database_url: str) -> AsyncIterator[Any]:
    """A connection of the test's own."""
    connection = await asyncpg.connect(database_url)
    try:
        yield connection
    finally:
        await connection.close()


async def test_health_is_told_per_service_and_to_everyone(channel: grpc.aio.Channel) -> None:
    health = health_pb2_grpc.HealthStub(channel)
    for service in ("", *NAMES):
        assert (await health.Check(health_pb2.HealthCheckRequest(service=service))).status == SERVING
    with pytest.raises(grpc.aio.AioRpcError, match="NOT_FOUND"):
        await health.Check(health_pb2.HealthCheckRequest(service="evbridge.v1.NoService"))


async def test_a_database_that_takes_no_writes_is_not_healthy_until_it_does(
    database_url: str, admin_key: str, sql: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.rpc.server._PROBE_S", 0.05)
    name = await sql.fetchval("SELECT current_database()")
    async with (
        evbridge(settings(database_url, delivery=False)) as running,
        grpc.aio.insecure_channel(running.address) as channel,
    ):
        health, companies = health_pb2_grpc.HealthStub(channel), Client(channel, admin_key).companies
        states = [health.Watch(health_pb2.HealthCheckRequest(service=service)) for service in ("", *NAMES)]
        assert {(await state.read()).status for state in states} == {SERVING}
        await sql.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        await sql.execute(
            "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        assert {(await state.read()).status for state in states} == {NOT_SERVING}
        failure = await fails(companies.UpsertCompany(UpsertCompanyRequest(company=a_company())))
        assert (failure.code, failure.reason) == (Code.UNAVAILABLE, "DATABASE_UNAVAILABLE")
        assert failure.retry_after_s
        assert not (await companies.ListCompanies(ListCompaniesRequest())).companies
        await sql.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
        assert {(await state.read()).status for state in states} == {SERVING}
        await companies.UpsertCompany(UpsertCompanyRequest(company=a_company()))
        for state in states:
            state.cancel()


async def test_a_full_disk_is_named_and_not_healthy_until_there_is_room(
    database_url: str, admin_key: str, sql: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.rpc.server._PROBE_S", 0.05)
    await sql.execute(
        """
        CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE 'could not extend file: secret path' USING ERRCODE = 'disk_full'; END $$;
        CREATE TRIGGER full_disk BEFORE INSERT ON company FOR EACH ROW EXECUTE FUNCTION full_disk();
        CREATE TRIGGER full_disk BEFORE UPDATE OF ballast ON heartbeat FOR EACH ROW EXECUTE FUNCTION full_disk();
        """
    )
    async with (
        evbridge(settings(database_url, delivery=False)) as running,
        grpc.aio.insecure_channel(running.address) as channel,
    ):
        health, companies = health_pb2_grpc.HealthStub(channel), Client(channel, admin_key).companies
        state = health.Watch(health_pb2.HealthCheckRequest())
        assert (await state.read()).status == SERVING  # the heartbeat alone finds room
        failure = await fails(companies.UpsertCompany(UpsertCompanyRequest(company=a_company())))
        assert (failure.code, failure.reason) == (Code.UNAVAILABLE, "DATABASE_FULL")
        assert failure.message == "the database has no room left on its disk"
        assert failure.retry_after_s
        assert (await state.read()).status == NOT_SERVING
        assert not (await companies.ListCompanies(ListCompaniesRequest())).companies
        await sql.execute("DROP FUNCTION full_disk CASCADE")
        assert (await state.read()).status == SERVING
        await companies.UpsertCompany(UpsertCompanyRequest(company=a_company()))
        state.cancel()


@pytest.fixture
async def hold(sql: Any) -> Callable[[], Awaitable[None]]:
    """Holds every new company up inside the database until it is called."""
    await sql.execute(
        """
        CREATE TABLE hold ();
        INSERT INTO hold DEFAULT VALUES;
        CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            WHILE EXISTS (SELECT FROM hold) LOOP PERFORM pg_sleep(0.01); END LOOP;
            RETURN NEW;
        END $$;
        CREATE TRIGGER hold BEFORE INSERT ON company FOR EACH ROW EXECUTE FUNCTION wait();
        """
    )

    async def release() -> None:
        await sql.execute("DELETE FROM hold")

    return release


async def is_held_up(sql: Any, calls: int) -> None:
    """Returns when so many calls are inside the database."""
    held = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"
    while await sql.fetchval(held) != calls:
        await asyncio.sleep(0.01)


async def test_told_to_stop_it_is_not_serving_and_lets_the_calls_under_way_end(
    database_url: str, admin_key: str, sql: Any, hold: Callable[[], Awaitable[None]]
) -> None:
    async with (
        serving(environment(database_url, DELIVERY="false")) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        state = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=NAMES[0]))
        assert (await state.read()).status == SERVING
        companies = Client(channel, admin_key).companies
        sent = [a_company() for _ in range(5)]
        calls = [
            asyncio.ensure_future(companies.UpsertCompany(UpsertCompanyRequest(company=company))) for company in sent
        ]
        await is_held_up(sql, len(calls))
        server.process.terminate()
        assert (await state.read()).status == NOT_SERVING
        async with grpc.aio.insecure_channel(server.address, [("grpc.use_local_subchannel_pool", 1)]) as late:
            for busy in (channel, late):
                refused = await fails(Client(busy, admin_key).companies.ListCompanies(ListCompaniesRequest()))
                assert (refused.code, refused.reason) == (Code.UNAVAILABLE, "SERVER_STOPPING")
                assert refused.retry_after_s
        await hold()
        assert [answer.id for answer in await asyncio.gather(*calls)] == [company.id for company in sent]
        # The watcher is still there, and does not hold the server up for the whole of its drain time.
        async with asyncio.timeout(10):
            assert await server.process.wait() == 0
        state.cancel()


async def test_told_to_stop_amid_an_attack_it_ends_within_its_drain(database_url: str, admin_key: str) -> None:
    """Calls that are too large, and calls whose message never comes, of which it waits for none longer than it may."""
    drain_s = 3.0
    async with (
        serving(environment(database_url, DELIVERY="false", DRAIN_S=drain_s, RECEIVE_S=600)) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        key = (("authorization", f"Bearer {admin_key}"),)
        silent = [channel.stream_unary("/evbridge.v1.CompanyService/ListCompanies")(metadata=key) for _ in range(20)]
        keys = channel.unary_unary("/evbridge.v1.LocationService/BatchGetLocations")
        flood = [asyncio.ensure_future(_code(keys(b"\x0a\x00" * 400_000, metadata=key))) for _ in range(60)]
        while not any(call.done() for call in flood):
            await asyncio.sleep(0.01)
        started = asyncio.get_running_loop().time()
        server.process.terminate()
        async with asyncio.timeout(60):
            assert await server.process.wait() == 0
        # The control: those without a message held it up for the whole of its drain time.
        assert asyncio.get_running_loop().time() - started >= drain_s
        assert {await _code(call) for call in silent} <= {Code.CANCELLED, Code.UNAVAILABLE}
        assert set(await asyncio.gather(*flood)) <= {Code.INVALID_ARGUMENT, Code.RESOURCE_EXHAUSTED, Code.UNAVAILABLE}


REFLECTION = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")


async def reflect(channel: grpc.aio.Channel, version: str, key: str | None, **question: str) -> Any:
    call = channel.stream_stream(
        f"/{version}/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    metadata = (("authorization", f"Bearer {key}"),) if key else ()
    stream = call(iter([reflection_pb2.ServerReflectionRequest(**question)]), metadata=metadata, timeout=10)
    (answer,) = [answer async for answer in stream]
    return answer


@pytest.mark.parametrize("version", REFLECTION)
async def test_reflection_lists_and_describes_every_service(
    channel: grpc.aio.Channel, tenant: Tenant, version: str
) -> None:
    key = tenant.keys["reader"]
    answer = await reflect(channel, version, key, list_services="")
    listed = {service.name for service in answer.list_services_response.service}
    assert listed == {*NAMES, *REFLECTION, "grpc.health.v1.Health"}
    for service in SERVICES:
        answer = await reflect(channel, version, key, file_containing_symbol=service.full_name)
        files = map(FileDescriptorProto.FromString, answer.file_descriptor_response.file_descriptor_proto)
        described = {f"{file.package}.{found.name}": found for file in files for found in file.service}
        assert [method.name for method in described[service.full_name].method] == [
            method.name for method in service.methods
        ]
    unknown = await reflect(channel, version, key, file_containing_symbol="evbridge.v1.NoService")
    assert unknown.error_response.error_code == Code.NOT_FOUND.value[0]


@pytest.mark.parametrize("version", REFLECTION)
@pytest.mark.parametrize("key", [None, "evb_abcdefgh_x"])
async def test_reflection_is_for_callers_with_a_key(channel: grpc.aio.Channel, version: str, key: str | None) -> None:
    failure = await fails(reflect(channel, version, key, list_services=""))
    assert (failure.code, failure.reason) == (Code.UNAUTHENTICATED, "CREDENTIAL_REQUIRED")


@pytest.mark.parametrize("version", REFLECTION)
async def test_a_malformed_question_to_reflection_is_told_so(
    channel: grpc.aio.Channel, tenant: Tenant, version: str
) -> None:
    metadata = (("authorization", f"Bearer {tenant.keys['reader']}"),)
    stream = channel.stream_stream(f"/{version}/ServerReflectionInfo")(iter([b"\xff"]), metadata=metadata, timeout=10)
    failure = await fails(stream.read())
    assert (failure.code, failure.reason) == (Code.INVALID_ARGUMENT, "MALFORMED_REQUEST")


BEYOND = {"listen": "127.0.0.2:0", "allow_plaintext": True}
"""An address that need not be this machine's alone, for all that the server knows."""


@pytest.mark.parametrize(
    ("changes", "reflects"),
    [({"reflection": Reflection.OFF}, False), (BEYOND, False), (BEYOND | {"reflection": Reflection.ON}, True)],
    ids=["off", "beyond this machine", "beyond this machine, asked for"],
)
async def test_without_reflection_there_is_none(
    database_url: str, admin_key: str, changes: dict[str, Any], reflects: bool
) -> None:
    async with (
        evbridge(settings(database_url, delivery=False, ocpi_listen="", **changes)) as running,
        grpc.aio.insecure_channel(running.address) as channel,
    ):
        asked = reflect(channel, REFLECTION[0], admin_key, list_services="")
        if reflects:
            assert (await asked).list_services_response.service
        else:
            assert (await fails(asked)).code is Code.UNIMPLEMENTED


@pytest.fixture
async def locked(tenant: Tenant, shared_database_url: str) -> AsyncIterator[Company]:
    """A company whose row is locked, at the version that follows."""
    company = a_company()
    await tenant.writer.companies.UpsertCompany(UpsertCompanyRequest(company=company))
    company.version = 2
    connection = await asyncpg.connect(shared_database_url)
    try:
        async with connection.transaction():
            await connection.execute("SELECT FROM company WHERE tenant_id = $1 FOR UPDATE", tenant.name)
            yield company
    finally:
        await connection.close()


async def test_the_longest_deadline_holds_for_callers_that_set_none(
    shared_database_url: str, tenant: Tenant, locked: Company
) -> None:
    async with (
        evbridge(settings(shared_database_url, delivery=False, max_deadline_s=0.2)) as running,
        grpc.aio.insecure_channel(running.address) as channel,
    ):
        request = UpsertCompanyRequest(company=locked)
        for timeout in (None, 60.0):
            upsert = Client(channel, tenant.keys["writer"]).companies.UpsertCompany
            failure = await fails(upsert(request, timeout=timeout))
            assert (failure.code, failure.reason) == (Code.DEADLINE_EXCEEDED, "DEADLINE_LIMIT")
            assert failure.metadata == {"limit_seconds": "0.2"}


@pytest.fixture
async def shared_sql(shared_database_url: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(shared_database_url)
    try:
        yield connection
    finally:
        await connection.close()


@pytest.mark.parametrize("who", ["the caller cancels", "the caller's deadline passes"])
async def test_a_caller_that_goes_away_leaves_no_transaction_open(
    tenant: Tenant, locked: Company, shared_sql: Any, who: str
) -> None:
    waiting = (
        "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name = 'evbridge' AND (state LIKE 'idle in%' OR wait_event_type = 'Lock'))"
    )
    by_cancelling = who == "the caller cancels"
    call: Any = tenant.writer.companies.UpsertCompany(
        UpsertCompanyRequest(company=locked), timeout=20.0 if by_cancelling else 0.3
    )
    ended = asyncio.ensure_future(_code(call))
    while by_cancelling and not ended.done() and not await shared_sql.fetchval(waiting):
        await asyncio.sleep(0.005)
    if by_cancelling:
        call.cancel()
    assert await ended is (Code.CANCELLED if by_cancelling else Code.DEADLINE_EXCEEDED)
    while await shared_sql.fetchval(waiting):
        await asyncio.sleep(0.005)
    stored = await tenant.reader.companies.GetCompany(GetCompanyRequest(id=locked.id))
    assert stored.version == 1


async def _code(call: Any) -> Code:
    with suppress(asyncio.CancelledError, grpc.aio.AioRpcError):
        await call
    code: Code = await call.code()
    return code


async def test_what_is_too_large_is_refused(channel: grpc.aio.Channel, tenant: Tenant) -> None:
    key = ("authorization", f"Bearer {tenant.keys['reader']}")
    rpc = channel.unary_unary("/evbridge.v1.CompanyService/ListCompanies")
    for request, metadata, compression in [
        (bytes(5 << 20), (), None),
        (bytes(64 << 20), (), grpc.Compression.Gzip),  # 64 KiB on the wire
        (b"", (("x-large", "v" * 20_000),), None),
    ]:
        failure = await fails(rpc(request, metadata=(key, *metadata), compression=compression, timeout=20))
        assert failure.code is Code.RESOURCE_EXHAUSTED
    assert await rpc(b"", metadata=(key,), timeout=20) == b""


@asynccontextmanager
async def broken(running: Evbridge, tenant: Tenant, error: BaseException) -> AsyncIterator[Client]:
    """A client of a server whose CompanyService raises `error`, whatever it is asked."""

    class Broken:
        def __getattr__(self, name: str) -> Any:
            return self._method

        async def _method(self, request: Any, caller: Any) -> bytes:
            raise error

    interceptors = Interceptors(Authenticator(running.database, running.keyring), settings(""))
    implementations = {COMPANY.services_by_name["CompanyService"]: Broken()}
    server = Server(settings(""), running.database, interceptors, implementations)
    async with grpc.aio.insecure_channel(await server.start()) as channel:
        try:
            yield Client(channel, tenant.keys["reader"])
        finally:
            await server.stop()


async def test_an_unexpected_exception_is_hidden_behind_a_reference(
    running: Evbridge, tenant: Tenant, caplog: pytest.LogCaptureFixture
) -> None:
    async with broken(running, tenant, RuntimeError("password=hunter2")) as client:
        failure = await fails(client.companies.ListCompanies(ListCompaniesRequest()))
    assert (failure.code, failure.reason) == (Code.INTERNAL, "INTERNAL_FAULT")
    assert "hunter2" not in repr(failure)
    record = next(record for record in caplog.records if record.levelno == logging.ERROR)
    line = JsonFormatter().format(record)
    assert failure.metadata["reference"] in line
    assert "RuntimeError" in line
    assert "hunter2" not in line


async def test_a_stray_cancellation_is_told_at_once_and_may_be_repeated(running: Evbridge, tenant: Tenant) -> None:
    async with broken(running, tenant, asyncio.CancelledError()) as client:
        failure = await fails(client.companies.ListCompanies(ListCompaniesRequest()))
    assert (failure.code, failure.reason) == (Code.UNAVAILABLE, "SERVER_STOPPING")
    assert failure.retry_after_s


def spans(bodies: list[bytes]) -> list[Span]:
    exported = [
        ExportTraceServiceRequest.FromString(body.partition(b"\n")[2])
        for body in bodies
        if body.startswith(b"/v1/traces\n")
    ]
    return [
        span
        for request in exported
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


async def test_traces_go_on_from_the_caller_and_on_to_the_partner(
    database_url: str, admin_key: str, simulator: Simulator
) -> None:
    trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    company = a_company()
    async with collecting() as (collector, bodies):
        environ = environment(database_url) | {"OTEL_EXPORTER_OTLP_ENDPOINT": collector}
        async with serving(environ) as server, grpc.aio.insecure_channel(server.address) as channel:
            client = Client(channel, admin_key)
            await client.integrations.CreateIntegration(
                CreateIntegrationRequest(integration=an_integration(simulator.url))
            )
            metadata = (("authorization", f"Bearer {admin_key}"), ("traceparent", f"00-{trace}-{parent}-01"))
            upsert = channel.unary_unary("/evbridge.v1.CompanyService/UpsertCompany")
            await upsert(UpsertCompanyRequest(company=company).SerializeToString(), metadata=metadata, timeout=10)
            await settled(client, company.id)
    seen = {span.name: span for span in spans(bodies)}
    call = seen["evbridge.v1.CompanyService/UpsertCompany"]
    assert (call.trace_id.hex(), call.parent_span_id.hex()) == (trace, parent)
    assert f'"trace_id": "{trace}"' in server.log
    # A delivery stands for any number of changes, so its trace is its own.
    put = next(received for received in simulator.requests if received.method == "PUT")
    version, trace_id, span_id, flags = put.headers["traceparent"].split("-")
    assert (version, int(flags, 16) & 1) == ("00", 1)
    request = seen["PUT /v1/companies/{company_id}"]
    assert (request.trace_id.hex(), request.span_id.hex()) == (trace_id, span_id)
    assert request.trace_id == seen["delivery"].trace_id
    assert any(b"rpc.server.call.duration" in body for body in bodies if body.startswith(b"/v1/metrics\n"))


async def test_keys_are_made_listed_and_revoked_on_the_command_line(database_url: str) -> None:
    environ = environment(database_url)
    none = await command(environ, "keys", "list")
    assert (none.code, none.out) == (0, "")
    assert none.err == "evbridge: there is no key yet: make one with `evbridge keys create`\n"
    made = await command(environ, "keys", "create", "--tenant", "acme", "--role", "writer", "--name", "bill\u202eßing")
    assert (made.code, made.err) == (0, "")
    key = made.out.strip()
    assert re.fullmatch(r"evb_[a-z0-9]{8}_[\w-]{43}", key)
    key_id = key.split("_")[1]
    async with (
        evbridge(settings(database_url, delivery=False)) as running,
        grpc.aio.insecure_channel(running.address) as channel,
    ):
        await Client(channel, key).companies.UpsertCompany(UpsertCompanyRequest(company=a_company()))
    listed = await command(environ, "keys", "list")
    assert listed.out.split("\t")[:3] == ["acme", key_id, "writer"]
    assert listed.out.split("\t")[4] == "in force"
    assert listed.out.endswith("\tunlimited\tbill\\u202eßing\n")
    assert key not in listed.out
    revoke = ("keys", "revoke", "--tenant", "acme", key_id)
    revoked = await command(environ, *revoke)
    assert (revoked.code, revoked.out) == (0, f"revoked {key_id}: it stops working within 5 seconds\n")
    assert "revoked" in (await command(environ, "keys", "list", "--tenant", "acme")).out
    unnamed = await command(environ, "keys", "create", "--tenant", "Acme & Co", "--role", "writer")
    assert (unnamed.code, "lower-case letters" in unnamed.err) == (2, True)
    again = await command(environ, *revoke)
    assert (again.code, again.err) == (1, f"evbridge: tenant acme has no key {key_id} in force\n")


async def test_a_server_that_starts_while_a_command_works_keeps_its_database() -> None:
    with data_directory() as directory:
        environ = environment("", DATA_DIR=directory, DELIVERY="false")
        made = asyncio.create_task(command(environ, "keys", "create", "--tenant", "acme", "--role", "reader"))
        while not (directory / "postgres" / "lock").exists():
            assert not made.done()
            await asyncio.sleep(0.01)
        async with serving(environ) as server, grpc.aio.insecure_channel(server.address) as channel:
            key = (await made).out.strip()
            await Client(channel, key).companies.ListCompanies(ListCompaniesRequest())
        assert "PostgreSQL" not in server.log


async def test_the_first_start_prints_a_key_that_works_and_the_second_does_not(database_url: str) -> None:
    environ = environment(database_url, FIRST_KEY="true")
    line = re.compile(r"^  grpcurl -plaintext -H 'authorization: Bearer (evb_\S+)' (\S+) list$", re.MULTILINE)
    async with serving(environ) as server:
        while not (printed := line.search(server.log)):
            await asyncio.sleep(0.01)
        assert printed[2] == server.address
        async with grpc.aio.insecure_channel(server.address) as channel:
            await Client(channel, printed[1]).integrations.CreateIntegration(
                CreateIntegrationRequest(integration=an_integration(enabled=False))
            )
    assert server.log.count(printed[1]) == 1
    assert "evbridge keys create --tenant default --role admin\n" in server.log
    async with serving(environ) as second:
        pass
    assert "evb_" not in second.log


WRONG_SETTINGS = [
    ({"DELIVERY": "hunter2"}, "EVBRIDGE_DELIVERY must be true or false"),
    ({"DATABASE_POOL_SIZE": "0"}, "EVBRIDGE_DATABASE_POOL_SIZE must be a whole number above 0"),
    ({"DRAIN_S": "inf"}, "EVBRIDGE_DRAIN_S must be a number above 0"),
    ({"LOG_LEVEL": "hunter2"}, "EVBRIDGE_LOG_LEVEL must be DEBUG, INFO, WARNING or ERROR"),
    ({"LISTEN": "127.0.0.1"}, "EVBRIDGE_LISTEN must be host:port"),
    ({"LISTEN": ":50051"}, "EVBRIDGE_LISTEN must be host:port"),
    ({"LISTEN": "127.0.0.1:99999"}, "EVBRIDGE_LISTEN must be host:port"),
    ({"TLS_CERT_FILE": "x"}, "EVBRIDGE_TLS_CERT_FILE and EVBRIDGE_TLS_KEY_FILE go together"),
]


@pytest.mark.parametrize(("changes", "said"), WRONG_SETTINGS)
def test_a_wrong_setting_is_named_without_its_value(changes: dict[str, str], said: str) -> None:
    with pytest.raises(SettingError, match=f"^{said}$"):
        Settings.from_environ(environment("", **changes))


REFUSED: dict[str, tuple[dict[str, str], str]] = {
    "a variable that does not exist": ({"LISTN": "hunter2"}, "EVBRIDGE_LISTN is not a setting of evbridge"),
    "a number that is none": ({"DRAIN_S": "hunter2"}, "EVBRIDGE_DRAIN_S must be a number above 0"),
    "TLS without its files": ({"TLS_CERT_FILE": "/none", "TLS_KEY_FILE": "/none"}, ".*/none.*"),
    "TLS that is none": (
        {"TLS_CERT_FILE": "/etc/hostname", "TLS_KEY_FILE": "/etc/hostname"},
        "EVBRIDGE_TLS_CERT_FILE and EVBRIDGE_TLS_KEY_FILE cannot be used: they must be PEM, .*",
    ),
    "plaintext beyond loopback": ({"LISTEN": "0.0.0.0:0"}, "0.0.0.0:0 is not loopback: set EVBRIDGE_TLS_CERT_FILE, .*"),
    "a host that is none": ({"LISTEN": "none.invalid:0", "ALLOW_PLAINTEXT": "on"}, ".*: this machine does not know .*"),
    "a host elsewhere": ({"LISTEN": "192.0.2.1:0", "ALLOW_PLAINTEXT": "on"}, "cannot listen on .*: Cannot assign .*"),
    "no keys": ({"SECRETS_KEYS": ""}, "with EVBRIDGE_DATABASE_URL, set EVBRIDGE_SECRETS_KEYS_FILE or .*"),
    "keys that are none": ({"SECRETS_KEYS": "k1:hunter2"}, "key 1 is not base64 after its name"),
    "a URL of another database": ({"DATABASE_URL": "mysql://u:hunter2@h/d"}, "EVBRIDGE_DATABASE_URL .*"),
    "a URL that is none": ({"DATABASE_URL": "postgresql://h:hunter2/d"}, "EVBRIDGE_DATABASE_URL .*"),
    "no database there": (
        {"DATABASE_URL": "postgresql://u:hunter2@127.0.0.1:1/d"},
        "the database cannot be reached: .*",
    ),
    "a data directory that cannot be": ({"DATABASE_URL": "", "DATA_DIR": "/proc/none"}, ".*/proc/none.*"),
}


async def test_what_cannot_start_says_why_in_one_line(running: Evbridge, database_url: str, empty_url: str) -> None:
    nowhere = urlsplit(database_url)._replace(path="/nowhere").geturl()
    refused = {
        **REFUSED,
        "a port that is taken": (
            {"LISTEN": running.address},
            f"cannot listen on {running.address}: the port is taken.*",
        ),
        "no such database": ({"DATABASE_URL": nowhere}, "the database refuses: InvalidCatalogNameError .*"),
        "no schema": ({"DATABASE_URL": empty_url, "MIGRATE": "off"}, r"\d+ migrations .*`evbridge migrate`.*"),
    }
    ended = await asyncio.gather(
        *(command(environment(database_url, **changes), "serve") for changes, _ in refused.values())
    )
    for (name, (_, said)), end in zip(refused.items(), ended, strict=True):
        assert end.code == 1, (name, end)
        assert re.fullmatch(f"evbridge: {said}\n", end.err), (name, end)
        assert "hunter2" not in end.err, (name, end)


async def test_a_taken_port_is_noticed_before_anything_is_made(running: Evbridge, tmp_path: Path) -> None:
    data = tmp_path / "data"
    environ = environment("", LISTEN=running.address, DATA_DIR=data, SECRETS_KEYS="", FIRST_KEY="true")
    ended = await command(environ, "serve")
    assert (ended.code, ended.out) == (1, "")
    assert (
        f"set EVBRIDGE_LISTEN to another one, such as 127.0.0.1:{int(running.address[10:]) % 65535 + 1}\n" in ended.err
    )
    assert not data.exists()


async def test_no_first_key_is_made_by_a_server_that_does_not_start(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = settings(database_url, first_key=True)

    async def refuse(_: Server) -> str:
        raise OSError("the port was taken a moment ago")

    with monkeypatch.context() as patched, pytest.raises(OSError, match="a moment ago"):
        patched.setattr(Server, "start", refuse)
        async with evbridge(first):
            pass
    async with evbridge(first) as running:
        assert running.first_key is not None


async def test_migrate_brings_an_empty_database_up_to_date(empty_url: str) -> None:
    for _ in range(2):
        done = await command(environment(empty_url, MIGRATE="true"), "migrate")
        assert (done.code, done.out) == (0, "the schema is current\n")
    done = await command(environment(empty_url, MIGRATE="false"), "migrate")
    assert done.code == 0


@pytest.fixture
async def empty_url(postgres: str) -> AsyncIterator[str]:
    """A database without a schema."""
    name = f"evbridge_test_{secrets.token_hex(4)}"
    server = await asyncpg.connect(postgres)
    try:
        await server.execute(f"CREATE DATABASE {name}")
        yield urlsplit(postgres)._replace(path=f"/{name}").geturl()
        await server.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await server.close()

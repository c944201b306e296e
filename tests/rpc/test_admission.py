"""Who is let in, with how much, and who waits: callers without a key, with too much, with half a call, all at once."""

import asyncio
import gzip
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import grpc
import pytest
from evbridge.v1.company_pb2 import DESCRIPTOR as COMPANY
from evbridge.v1.company_pb2 import ListCompaniesRequest
from evbridge.v1.location_pb2 import DESCRIPTOR as LOCATION
from evbridge.v1.location_pb2 import BatchGetLocationsRequest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from service.app import Evbridge
from service.domain.caller import waits_elsewhere
from service.identity import authentication
from service.identity.authentication import Authenticator
from service.rpc import health, interceptors, receiving, server
from service.rpc.interceptors import Interceptors
from service.rpc.server import Server
from tests.conftest import Tenant
from tests.front_door import Failure, fails, failure_of, settings

Code = grpc.StatusCode
LIST = "/evbridge.v1.CompanyService/ListCompanies"
BATCH_GET = "/evbridge.v1.LocationService/BatchGetLocations"
EMPTY_KEYS = b"\x0a\x00" * 100_000
HEALTH = health_pb2.HealthCheckRequest()
SERVING = health_pb2.HealthCheckResponse.SERVING


class Held:
    """Answers every rpc with nothing once it is released."""

    def __init__(self) -> None:
        self.address = ""
        self.released = asyncio.Event()
        self.inside = 0
        self.elsewhere = False

    def __getattr__(self, name: str) -> Any:
        return self._method

    async def _method(self, request: Any, caller: Any) -> bytes:
        self.inside += 1
        if self.elsewhere:
            waits_elsewhere()
        await self.released.wait()
        return b""

    async def holds(self, calls: int) -> None:
        while self.inside < calls:
            await asyncio.sleep(0.01)


Serve = Callable[..., Any]


@pytest.fixture
def serve(running: Evbridge) -> Serve:
    """`async with serve(**settings) as (channel, held)`: a server of its own whose handlers are held."""

    @asynccontextmanager
    async def start(**changes: Any) -> AsyncIterator[tuple[grpc.aio.Channel, Held]]:
        held = Held()
        configured = settings("", drain_s=0.1, **changes)
        surroundings = Interceptors(Authenticator(running.database, running.keyring), configured)
        services = {
            COMPANY.services_by_name["CompanyService"]: held,
            LOCATION.services_by_name["LocationService"]: held,
        }
        started = Server(configured, running.database, surroundings, services)
        options = [("grpc.use_local_subchannel_pool", 1)]
        held.address = await started.start()
        async with grpc.aio.insecure_channel(held.address, options) as channel:
            try:
                yield channel, held
            finally:
                held.released.set()
                await started.stop()

    return start


def bearer(key: str) -> tuple[str, str]:
    return "authorization", f"Bearer {key}"


def call(channel: grpc.aio.Channel, key: str = "", request: bytes = b"", path: str = LIST, **more: Any) -> Any:
    metadata = (bearer(key),) if key else ()
    return channel.unary_unary(path)(request, metadata=metadata, timeout=20, **more)


def half_sent(channel: grpc.aio.Channel, key: str = "", path: str = LIST) -> Any:
    """A call whose message does not come."""
    return channel.stream_unary(path)(metadata=(bearer(key),) if key else (), timeout=20)


async def outcome(calling: Awaitable[Any]) -> Failure | None:
    try:
        await calling
    except grpc.aio.AioRpcError as error:
        return failure_of(error)
    return None


async def outcomes(calls: list[Any]) -> list[Failure | None]:
    return await asyncio.gather(*(outcome(each) for each in calls))


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often the server received a message, inflated one, or applied the contract's rules."""
    places: dict[str, Any] = {"message": receiving.Receiver, "inflated": receiving, "validate": interceptors}
    counts = dict.fromkeys(places, 0)

    def counting(name: str) -> Any:
        original = getattr(places[name], name)

        def counted(*args: Any, **named: Any) -> Any:
            counts[name] += 1
            return original(*args, **named)

        return counted

    for name in counts:
        monkeypatch.setattr(places[name], name, counting(name))
    return counts


@pytest.mark.parametrize("compression", [None, grpc.Compression.Gzip])
async def test_nothing_is_received_from_callers_that_are_refused(
    serve: Serve, tenant: Tenant, counted: dict[str, int], compression: Any
) -> None:
    request = bytes(4 << 20)
    async with serve() as (channel, held):
        for key, path, code in [
            ("", LIST, Code.UNAUTHENTICATED),
            ("evb_" + "x" * 40, LIST, Code.UNAUTHENTICATED),
            (tenant.keys["reader"], LIST.replace("List", "Upsert").replace("ies", "y"), Code.PERMISSION_DENIED),
        ]:
            refused = await outcomes([call(channel, key, request, path, compression=compression) for _ in range(10)])
            assert [failure and failure.code for failure in refused] == [code] * 10
        assert counted == {"message": 0, "inflated": 0, "validate": 0}
        held.released.set()
        # The control: the bytes of a caller with a key are received, and are no message.
        failure = await fails(call(channel, tenant.keys["reader"], request, compression=compression))
        assert failure.reason == "MALFORMED_REQUEST"
        assert counted["message"] == 1
        assert counted["inflated"] == (compression is not None)


async def test_several_credentials_are_none(serve: Serve, tenant: Tenant) -> None:
    async with serve() as (channel, held):
        held.released.set()
        rpc, key = channel.unary_unary(LIST), bearer(tenant.keys["reader"])
        for metadata in [(key, key), (key, bearer("other")), (bearer("other"), key)]:
            failure = await fails(rpc(b"", metadata=metadata, timeout=20))
            assert (failure.code, failure.reason) == (Code.UNAUTHENTICATED, "CREDENTIAL_REQUIRED")
            assert failure.message == "send one authorization header, not several"
        assert await rpc(b"", metadata=(key, ("x-other", "1"), ("x-other", "2")), timeout=20) == b""


async def test_sizes_are_judged_before_anything_is_validated(
    serve: Serve, tenant: Tenant, counted: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serve() as (channel, _):
        failure = await fails(call(channel, tenant.keys["reader"], EMPTY_KEYS, BATCH_GET))
        assert (failure.code, failure.reason) == (Code.INVALID_ARGUMENT, "INVALID_FIELD")
        assert failure.violations == {"keys": "takes at most 500 items"}
        assert counted["validate"] == 0
    # The control: without the judgement each of the items is visited.
    monkeypatch.setattr(interceptors, "sizes", lambda descriptor: lambda data: None)
    async with serve() as (channel, _):
        few = BatchGetLocationsRequest(keys=[{}] * 600).SerializeToString()
        failure = await fails(call(channel, tenant.keys["reader"], few, BATCH_GET))
        assert len(failure.violations) > 1
        assert counted["validate"] == 1


async def test_a_gzip_may_hold_what_a_request_may(serve: Serve, tenant: Tenant) -> None:
    async with serve() as (channel, held):
        held.released.set()
        key, compression = tenant.keys["reader"], grpc.Compression.Gzip
        failure = await fails(call(channel, key, bytes(64 << 20), compression=compression))
        assert (failure.code, failure.reason) == (Code.RESOURCE_EXHAUSTED, "REQUEST_TOO_LARGE")
        assert failure.metadata == {"limit_bytes": str(4 << 20)}
        compressible = ListCompaniesRequest(page_token="a" * 500).SerializeToString()
        assert await call(channel, key, compressible, compression=compression) == b""
        failure = await fails(call(channel, key, b"\x1f\x8b is no gzip"))
        assert failure.reason == "MALFORMED_REQUEST"


async def test_whatever_is_asked_may_be_compressed(
    running: Evbridge, channel: grpc.aio.Channel, tenant: Tenant
) -> None:
    def zipped(message: Any) -> bytes:
        return gzip.compress(message.SerializeToString())

    check = channel.unary_unary("/grpc.health.v1.Health/Check")
    answer = await check(zipped(health_pb2.HealthCheckRequest(service="evbridge.v1.CompanyService")), timeout=20)
    assert health_pb2.HealthCheckResponse.FromString(answer).status == SERVING
    bomb = gzip.compress(bytes(900_000))
    assert len(bomb) < 1024
    assert (await fails(check(bomb, timeout=20))).reason == "MALFORMED_REQUEST"
    question = reflection_pb2.ServerReflectionRequest(file_containing_symbol="evbridge.v1.CompanyService")
    reflect = channel.stream_stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
    stream = reflect(metadata=(bearer(tenant.keys["reader"]),), timeout=20)
    for request in (zipped(question), question.SerializeToString()):
        await stream.write(request)
        found = reflection_pb2.ServerReflectionResponse.FromString(await stream.read())
        assert found.file_descriptor_response.file_descriptor_proto
    await stream.done_writing()


async def test_a_message_that_does_not_come_is_not_waited_for(serve: Serve, tenant: Tenant) -> None:
    async with serve(receive_s=0.2) as (channel, held):
        held.released.set()
        failure = await fails(half_sent(channel, tenant.keys["reader"]))
        assert (failure.code, failure.reason) == (Code.DEADLINE_EXCEEDED, "REQUEST_INCOMPLETE")
        assert failure.metadata == {"limit_seconds": "0.2"}
        assert (await fails(half_sent(channel))).code is Code.UNAUTHENTICATED
        assert (await fails(half_sent(channel, path="/grpc.health.v1.Health/Check"))).reason == "REQUEST_INCOMPLETE"
        late = half_sent(channel, tenant.keys["reader"])
        await late.write(b"")
        await late.done_writing()
        assert await late == b""


async def test_a_key_has_a_share_of_the_calls(serve: Serve, tenant: Tenant) -> None:
    one, other = tenant.keys["reader"], tenant.keys["writer"]
    async with serve(max_concurrent_rpcs=5, max_concurrent_rpcs_per_key=3) as (channel, held):
        held.elsewhere = True
        under_way = [half_sent(channel, one), *(asyncio.ensure_future(call(channel, one)) for _ in range(2))]
        await held.holds(2)
        failure = await fails(call(channel, one))
        assert (failure.code, failure.reason) == (Code.RESOURCE_EXHAUSTED, "TOO_MANY_CALLS")
        assert failure.metadata == {"limit": "3"}
        assert failure.retry_after_s
        under_way += [asyncio.ensure_future(call(channel, other)) for _ in range(2)]
        await held.holds(4)
        failure = await fails(call(channel, other))
        assert (failure.code, failure.reason) == (Code.RESOURCE_EXHAUSTED, "SERVER_BUSY")
        assert failure.retry_after_s
        held.released.set()
        await under_way[0].done_writing()
        assert (await fails(under_way[0])).reason == "MALFORMED_REQUEST"
        assert await asyncio.gather(*under_way[1:]) == [b""] * 4
        assert await call(channel, one) == b""


async def test_a_key_has_a_share_of_the_bytes(serve: Serve, tenant: Tenant) -> None:
    """Of 32 MiB: eight requests of nearly 4 MiB fit, however they are compressed."""
    request = b"\xfa\x7f" + b"\xf0\xff\xfe\x01" + bytes(0x3FBFF0)  # a field that no contract has
    async with serve() as (channel, held):
        held.elsewhere = True
        calls = [
            asyncio.ensure_future(call(channel, tenant.keys["reader"], request, compression=each))
            for each in [None, grpc.Compression.Gzip] * 4
        ]
        await held.holds(8)
        failure = await fails(call(channel, tenant.keys["reader"], request))
        assert (failure.code, failure.reason) == (Code.RESOURCE_EXHAUSTED, "TOO_MANY_CALLS")
        assert failure.metadata == {"limit_bytes": str(32 << 20)}
        small = asyncio.ensure_future(call(channel, tenant.keys["reader"]))
        await held.holds(9)
        held.released.set()
        assert await asyncio.gather(small, *calls) == [b""] * 9


async def test_health_has_a_budget_of_its_own(serve: Serve, tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "MAX_WATCHES", 8)
    async with serve(max_concurrent_rpcs=2) as (channel, held):
        stub = health_pb2_grpc.HealthStub(channel)
        watches = [stub.Watch(HEALTH) for _ in range(health.MAX_WATCHES)]
        for watch in watches:
            assert (await watch.read()).status == SERVING
        failure = await fails(stub.Watch(HEALTH).read())
        assert (failure.code, failure.reason) == (Code.RESOURCE_EXHAUSTED, "SERVER_BUSY")
        calls = [asyncio.ensure_future(call(channel, tenant.keys["reader"])) for _ in range(2)]
        await held.holds(2)
        assert (await fails(call(channel, tenant.keys["reader"]))).reason == "SERVER_BUSY"
        assert (await stub.Check(HEALTH, timeout=20)).status == SERVING
        held.released.set()
        assert await asyncio.gather(*calls) == [b"", b""]
        watches.pop().cancel()
        while True:  # until the server has heard of it
            watch = stub.Watch(HEALTH)
            try:
                assert (await watch.read()).status == SERVING
                break
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.01)
        for each in (*watches, watch):
            each.cancel()


async def test_health_checks_without_a_message_make_room(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "MAX_READING", 32)
    async with serve(receive_s=20.0) as (channel, _):
        path = "/grpc.health.v1.Health/Check"
        silent = [asyncio.ensure_future(outcome(half_sent(channel, path=path))) for _ in range(40)]
        await asyncio.wait(silent, return_when=asyncio.FIRST_COMPLETED)
        assert (await health_pb2_grpc.HealthStub(channel).Check(HEALTH, timeout=20)).status == SERVING
        while sum(each.done() for each in silent) < 9:  # those that are too many, and one for the check
            await asyncio.sleep(0.01)
        refused = [each.result() for each in silent if each.done()]
        assert {failure and failure.reason for failure in refused} == {"SERVER_BUSY"}
        assert len(refused) == 9
        for each in silent:
            each.cancel()


@pytest.mark.parametrize("calls", [120, 200, 300])
async def test_a_burst_on_one_connection_breaks_no_stream(serve: Serve, tenant: Tenant, calls: int) -> None:
    async with serve() as (channel, held):
        held.released.set()
        await call(channel, tenant.keys["reader"])
        seen = await outcomes([call(channel, tenant.keys["reader"]) for _ in range(calls)])
        assert {failure and failure.code for failure in seen} <= {None, Code.RESOURCE_EXHAUSTED}
        assert {failure and failure.reason for failure in seen} <= {None, "TOO_MANY_CALLS", "SERVER_BUSY"}
        cancelled = [half_sent(channel, tenant.keys["reader"]) for _ in range(90)]
        await asyncio.sleep(0.05)
        for each in cancelled:
            each.cancel()
        seen = await outcomes([call(channel, tenant.keys["reader"]) for _ in range(50)])
        assert Code.UNAVAILABLE not in {failure and failure.code for failure in seen}


async def test_without_its_option_a_burst_breaks_streams(
    serve: Serve, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control of the test above: grpc's own protection counts streams that are over and not yet cleared away."""
    protected = [option for option in server._LIMITS if option[0] != "grpc.http.overload_protection"]
    monkeypatch.setattr(server, "_LIMITS", protected)
    lost = False
    while not lost:  # mostly at the first attempt
        async with serve() as (channel, held):
            held.released.set()
            await call(channel, tenant.keys["reader"])
            seen = await outcomes([call(channel, tenant.keys["reader"]) for _ in range(300)])
            lost = Code.UNAVAILABLE in {failure and failure.code for failure in seen}


PATIENT = {"max_concurrent_rpcs": 1000, "max_concurrent_rpcs_per_key": 1000, "burst_s": 20.0}
CHECK = "/grpc.health.v1.Health/Check"


async def rush(held: Held, key: str, calls: int) -> Counter[grpc.StatusCode | None]:
    """How calls ended that arrived while the server's loop stood still, and a health check after them."""
    with ExitStack() as stack:
        options = [("grpc.use_local_subchannel_pool", 1)]
        channels = [stack.enter_context(grpc.insecure_channel(held.address, options)) for _ in range(calls // 100 + 1)]
        for each in channels:
            await asyncio.to_thread(grpc.channel_ready_future(each).result)
        sent = [
            channels[number // 100].unary_unary(LIST).future(b"", metadata=(bearer(key),), timeout=60)
            for number in range(calls)
        ]
        sent.append(channels[-1].unary_unary(CHECK).future(b"", timeout=60))
        threading.Event().wait(0.3)  # meanwhile grpc's own threads receive them
        ended = [await asyncio.to_thread(each.exception) for each in sent]
    return Counter(error and error.code() for error in ended)


@pytest.mark.parametrize("own_queue", [True, False], ids=["", "a control without a queue of its own"])
async def test_a_probe_does_not_wait_for_the_calls_before_it(
    serve: Serve, tenant: Tenant, counted: dict[str, int], monkeypatch: pytest.MonkeyPatch, own_queue: bool
) -> None:
    before: list[int] = []

    request = health.Health._request

    async def requested(*args: Any) -> Any:
        before.append(counted["message"])
        return await request(*args)

    def unregistered(self: Any, service: str, handlers: dict[str, Any]) -> None:
        self.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))

    monkeypatch.setattr(health.Health, "_request", requested)
    if not own_queue:
        monkeypatch.setattr(grpc.aio._server.Server, "add_registered_method_handlers", unregistered)
    async with serve(**PATIENT) as (channel, held):
        held.released.set()
        await call(channel, tenant.keys["reader"])
        while not before or (before[-1] < 20) != own_queue:  # mostly at the first attempt
            counted["message"] = 0
            assert await rush(held, tenant.keys["reader"], 120) == {None: 121}


@pytest.mark.parametrize("bounded", [True, False], ids=["", "a control with the bound of grpc"])
async def test_calls_that_nobody_looked_at_are_bounded(
    serve: Serve, tenant: Tenant, monkeypatch: pytest.MonkeyPatch, bounded: bool
) -> None:
    if not bounded:
        kept = [option for option in server._LIMITS if not option[0].startswith("grpc.server.max_pending_requests")]
        monkeypatch.setattr(server, "_LIMITS", kept)
    async with serve(**PATIENT) as (channel, held):
        held.released.set()
        await call(channel, tenant.keys["reader"])
        while True:  # mostly once
            seen = await rush(held, tenant.keys["reader"], 700)
            assert seen.keys() <= {None, Code.CANCELLED}
            if (Code.CANCELLED in seen) == bounded:
                break


async def test_guessed_keys_leave_the_database_to_the_others(
    serve: Serve, tenant: Tenant, running: Evbridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = most = 0
    look_up = authentication.api_key_holder

    async def counted(*args: Any) -> Any:
        nonlocal asked, most
        asked += 1
        most = max(most, asked)
        try:
            await asyncio.sleep(0.02)  # long enough for others to come
            return await look_up(*args)
        finally:
            asked -= 1

    monkeypatch.setattr(authentication, "api_key_holder", counted)
    good = tenant.keys["reader"]
    async with serve() as (channel, held):
        held.released.set()
        await call(channel, good)
        guesses = [good[:-4] + f"{number:04}" for number in range(80)]
        *seen, known = await outcomes([call(channel, each) for each in (*guesses, good)])
        assert known is None
        assert {failure and failure.reason for failure in seen} <= {"CREDENTIAL_REQUIRED", "SERVER_BUSY"}
        assert "SERVER_BUSY" in {failure and failure.reason for failure in seen}
        assert most <= 5, "four of strangers, and the good key's"
        monkeypatch.setattr(authentication, "_MAX_STRANGERS", 1000)  # the control
        await outcomes([call(channel, each) for each in guesses])
        assert most > 5

"""The edge by itself: what it lets in, how long it waits, and which operation a path means."""

import asyncio
import gzip
import resource
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from ipaddress import ip_network
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from evbridge.partner.chargeprice.v1.company_pb2 import CompanyDocument

from service.bridge.connections import PIECE, Connections
from service.bridge.edge import Call, Edge, Refused, Reply
from service.bridge.registry import Registry, contract_files
from service.bridge.transcode import match
from service.cli.common import loop_factory
from service.cli.serve import open_files

ID = "0a3cdd4b-5b2a-4c25-a4de-9f2f1a5b2b9a"


async def test_the_edge_bounds_bodies_in_size_and_time_and_hides_its_own_faults(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def serve(*_: object) -> Reply:
        raise RuntimeError("canary-4711")

    edge = Edge(
        ((each, serve) for each in Registry.of([CompanyDocument.DESCRIPTOR.file]).operations.values()),
        error_body=lambda refused: f'"{refused.status} {refused.code}"'.encode(),
        max_body_bytes=1000,
        body_timeout_s=0.2,
    )
    url = f"http://127.0.0.1:{await edge.start('127.0.0.1', 0)}/v1/companies/{ID}"

    async def slow() -> Any:
        yield b"{"
        await asyncio.sleep(3600)

    async def status(method: str, data: Any = None, query: str = "") -> tuple[int, str, str | None]:
        async with aiohttp.ClientSession() as http, http.request(method, url + query, data=data) as answer:
            return answer.status, await answer.text(), answer.headers.get("Connection")

    try:
        assert await status("PUT", bytes(1001)) == (413, '"413 PAYLOAD_TOO_LARGE"', "close")
        assert await status("PUT", slow()) == (408, '"408 REQUEST_TIMEOUT"', "close")
        assert await status("PUT", b"") == (400, '"400 BAD_REQUEST"', None)
        assert await status("DELETE") == (500, '"500 INTERNAL_SERVER_ERROR"', None)
        assert await status("DELETE", query="?" + "a=1&" * 101) == (400, '"400 BAD_REQUEST"', None)
    finally:
        await edge.stop()
    assert "DELETE failed" in caplog.text


async def test_the_edge_authenticates_before_it_reads_the_body() -> None:
    @asynccontextmanager
    async def refuse(_: object) -> AsyncIterator[None]:
        raise Refused(401, headers={"WWW-Authenticate": "Token"})
        yield

    edge = Edge([], error_body=lambda _: b"{}", authenticate=refuse)
    port = await edge.start("127.0.0.1", 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"PUT /v1/x HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
    finally:
        writer.close()
        await edge.stop()
    assert head.startswith(b"HTTP/1.1 401 ")
    assert b"WWW-Authenticate: Token\r\n" in head


OPERATIONS = tuple(Registry.of(contract_files("evbridge.partner.ampeco.v3")).operations.values())


async def nothing(*_: object) -> Reply:
    return Reply()


def body(refused: Refused) -> bytes:
    return f'"{refused.status} {refused.code}"'.encode()


@asynccontextmanager
async def listening(**more: Any) -> AsyncIterator[int]:
    edge = Edge([(each, nothing) for each in OPERATIONS], error_body=body, **more)
    port = await edge.start("127.0.0.1", 0)
    try:
        yield port
    finally:
        await edge.stop()


PATHS = sorted(
    {"/".join(("", *(each if isinstance(each, str) else "7" for each in operation.path))) for operation in OPERATIONS}
)


@pytest.mark.parametrize("path", [*PATHS, "/", "", "/public-api", f"{PATHS[0]}/", f"{PATHS[0]}/7/8/9", "/%FF", "/../x"])
def test_the_tree_finds_what_a_look_at_every_operation_finds(path: str) -> None:
    edge = Edge([(each, nothing) for each in OPERATIONS], error_body=body)
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"):
        matching = [each for each in OPERATIONS if match(each, each.http_method, path) is not None]
        wanted = [each for each in matching if each.http_method == method]
        try:
            operation, _, variables = edge.route(method, path)
        except Refused as refused:
            assert not wanted
            allowed = ", ".join(sorted({each.http_method for each in matching}))
            assert (refused.status, refused.headers.get("Allow", "")) == (405 if allowed else 404, allowed)
        else:
            # A literal counts before a variable.
            assert operation in wanted and variables == match(operation, method, path)
            assert sum(map(_literal, operation.path)) == max(sum(map(_literal, each.path)) for each in wanted)


def _literal(segment: object) -> bool:
    return isinstance(segment, str)


def test_a_slash_at_the_end_is_another_path_unless_it_may_be_there() -> None:
    path = "/public-api/resources/tariffs/v1.0"
    routes = [(each, nothing) for each in OPERATIONS]
    with pytest.raises(Refused):
        Edge(routes, error_body=body).route("GET", f"{path}/")
    tolerant = Edge(routes, error_body=body, trailing_slash=True)
    assert tolerant.route("GET", f"{path}/") == tolerant.route("GET", path)
    with pytest.raises(Refused):
        tolerant.route("GET", f"{path}//")


async def sent(port: int, text: bytes) -> bytes:
    """The answer to what is sent, once the other side hangs up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(text)
        return await reader.read()
    finally:
        writer.close()


@pytest.mark.parametrize(
    "text",
    [b"nonsense\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET / HTTP/1.1\r\nbad header\r\n\r\n"],
)
async def test_what_is_no_http_is_refused_in_the_form_of_all_errors(text: bytes) -> None:
    async with listening() as port:
        answer = await sent(port, text)
    assert answer.startswith((b"HTTP/1.0 400 ", b"HTTP/1.1 400 "))
    assert answer.endswith(b'\r\n\r\n"400 BAD_REQUEST"')


@pytest.mark.parametrize("dripping", [b"", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nX-A"])
async def test_headers_that_do_not_end_are_hung_up_on(dripping: bytes) -> None:
    async with listening(header_timeout_s=0.2) as port:
        assert await sent(port, dripping) == b""


async def test_a_control_headers_that_end_are_answered() -> None:
    async with listening(header_timeout_s=0.2) as port:
        answer = await sent(port, b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 404 ")


CLOSE = b"GET /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
STAY = b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n"


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def gone(reader: asyncio.StreamReader) -> bool:
    """Waits for the other side to hang up."""
    with suppress(ConnectionError):
        return await reader.read() == b""
    return True


async def answered(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(len(b'"404 NOT_FOUND"'))
    return head[:12]


@pytest.mark.parametrize("limits", [{"max_connections": 2}, {"max_connections_per_stranger": 2}])
async def test_the_oldest_strangers_connection_goes_for_a_new_one(limits: dict[str, int]) -> None:
    async with listening(**limits) as port, connected(port) as first, connected(port) as second:
        assert (await sent(port, CLOSE)).startswith(b"HTTP/1.1 404 ")
        assert await gone(first[0])
        second[1].write(CLOSE)
        assert (await second[0].read()).startswith(b"HTTP/1.1 404 ")


def test_the_loop_of_a_server_closes_connections_too() -> None:
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(test_the_oldest_strangers_connection_goes_for_a_new_one({"max_connections": 2}))


def test_a_server_may_open_a_file_for_each_connection() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, before[1]), before[1]))
        open_files()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (min(65_536, before[1]), before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def test_who_was_let_in_stays_before_any_number_of_strangers() -> None:
    async with listening(max_connections=3, max_connections_per_stranger=2) as port, connected(port) as known:
        known[1].write(STAY)
        assert await answered(known[0]) == b"HTTP/1.1 404"
        async with AsyncExitStack() as stack:
            strangers = [await stack.enter_async_context(connected(port)) for _ in range(9)]
            for reader, _ in strangers[:-2]:
                assert await gone(reader)
            known[1].write(STAY)
            assert await answered(known[0]) == b"HTTP/1.1 404"


async def test_who_idles_goes_for_a_new_one_and_who_is_at_work_stays() -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    @asynccontextmanager
    async def slow(call: Call) -> AsyncIterator[None]:
        if call.path == "/slow":
            begun.set()
        try:
            yield
        finally:
            if call.path == "/slow":
                await go_on.wait()

    async with (
        listening(max_connections=2, authenticate=slow) as port,
        connected(port) as idle,
        connected(port) as at_work,
    ):
        for reader, writer in (at_work, idle):
            writer.write(STAY)
            assert await answered(reader) == b"HTTP/1.1 404"
        at_work[1].write(STAY.replace(b"/x", b"/slow"))
        await begun.wait()
        assert (await sent(port, CLOSE)).startswith(b"HTTP/1.1 404 ")
        assert await gone(idle[0])
        go_on.set()
        assert await answered(at_work[0]) == b"HTTP/1.1 404"


async def test_who_takes_no_answer_is_hung_up_on() -> None:
    large = b"x" * (64 << 20)

    async def serve(*_: object) -> Reply:
        return Reply(body=large)

    edge = Edge([(each, serve) for each in OPERATIONS], error_body=body, send_timeout_s=0.2)
    port = await edge.start("127.0.0.1", 0)
    try:
        async with connected(port) as (reader, writer):
            writer.write(STAY.replace(b"/x", b"/public-api/resources/tariffs/v1.0/7"))
            assert await reader.read(1)
            while edge._connections.all:
                await asyncio.sleep(0.01)
            with suppress(ConnectionError):
                assert len(await reader.read()) < len(large)
    finally:
        await edge.stop()


PUT = b"PUT /v1/companies/%b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" % ID.encode()
CHUNKED = PUT + b"Transfer-Encoding: chunked\r\n\r\n"


@asynccontextmanager
async def taking(**more: Any) -> AsyncIterator[tuple[int, list[bytes]]]:
    """An edge that takes bodies, up to a megabyte, and which it took."""
    taken: list[bytes] = []

    async def serve(_: object, __: object, call: Call) -> Reply:
        taken.append(call.body)
        return Reply()

    operations = Registry.of([CompanyDocument.DESCRIPTOR.file]).operations.values()
    edge = Edge([(each, serve) for each in operations], error_body=body, **more)
    port = await edge.start("127.0.0.1", 0)
    try:
        yield port, taken
    finally:
        await edge.stop()


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes were parsed at once."""
    sizes: list[int] = []
    parse = web.RequestHandler.data_received

    def measured(connection: web.RequestHandler, data: bytes) -> None:
        if not (connection._close or connection._force_close):
            sizes.append(len(data))
        parse(connection, data)

    monkeypatch.setattr(web.RequestHandler, "data_received", measured)
    return sizes


DOCUMENT = b'{"data": {"id": "%b", "type": "company"}}' % ID.encode()


async def test_a_body_of_single_bytes_is_parsed_piece_by_piece(parsed: list[int]) -> None:
    whole = DOCUMENT + b" " * 40_000
    async with taking() as (port, taken):
        answer = await sent(port, CHUNKED + b"".join(b"1\r\n%c\r\n" % each for each in whole) + b"0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert taken == [whole]
    assert max(parsed) == PIECE


async def test_the_body_of_who_is_refused_is_not_parsed(parsed: list[int]) -> None:
    block, blocks = b"1\r\nx\r\n" * 20_000, 100
    async with listening(authenticate=_refuse) as port, connected(port) as (reader, writer):
        writer.write(CHUNKED)
        assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 401 ")
        with suppress(ConnectionError):
            for _ in range(blocks):
                writer.write(block)
                await writer.drain()
            await reader.read()
    assert sum(parsed) < len(block) * blocks / 10


ENCODED: dict[str, tuple[bytes, bytes, int]] = {
    "gzip": (b"gzip", gzip.compress(DOCUMENT), 200),
    "nothing": (b"identity", DOCUMENT, 200),
    "no gzip": (b"gzip", DOCUMENT, 400),
    "half of it": (b"gzip", gzip.compress(DOCUMENT)[:-9], 400),
    "more than there is room for": (b"gzip", gzip.compress(DOCUMENT + b" " * (1 << 20)), 413),
    "another encoding": (b"br", DOCUMENT, 415),
}


@pytest.mark.parametrize(("encoding", "content", "status"), ENCODED.values(), ids=ENCODED)
async def test_a_body_is_inflated_within_the_limit(encoding: bytes, content: bytes, status: int) -> None:
    async with taking() as (port, taken):
        head = PUT + b"Content-Encoding: %b\r\nContent-Length: %d\r\n\r\n" % (encoding, len(content))
        answer = await sent(port, head + content)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert taken == ([DOCUMENT] if status == 200 else [])


@pytest.mark.parametrize("chunks", [b"zz\r\n", b"1\r\nxx\r\n", b"-1\r\n"])
async def test_chunks_that_are_none_are_a_bad_request(chunks: bytes) -> None:
    async with taking() as (port, _):
        answer = await sent(port, CHUNKED + chunks)
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 "))
    assert answer.endswith(b'"400 BAD_REQUEST"')


NETWORKS = [ip_network("10.0.0.0/8"), ip_network("2001:db8:1::/48")]
# Where the connection comes from, X-Forwarded-For, who asks.
ASKING = {
    "nobody between": ("198.51.100.7", [], "198.51.100.7"),
    "who is no proxy is not believed": ("198.51.100.7", ["203.0.113.9"], "198.51.100.7"),
    "a proxy": ("10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
    "two proxies": ("10.0.0.1", ["203.0.113.9, 10.0.0.2"], "203.0.113.9"),
    "two headers": ("10.0.0.1", ["203.0.113.9", "10.0.0.2"], "203.0.113.9"),
    "what a client made up": ("10.0.0.1", ["1.1.1.1, 203.0.113.9"], "203.0.113.9"),
    "no address": ("10.0.0.1", ["1.1.1.1, unknown"], "a proxy"),
    "nothing": ("10.0.0.1", [], "a proxy"),
    "proxies alone": ("10.0.0.1", ["10.0.0.3"], "a proxy"),
    "IPv6 counts as one network": ("2001:db8:2:3:4:5:6:7", [], "2001:db8:2:3::/64"),
    "IPv6 behind a proxy": ("2001:db8:1::1", ["2001:db8:2:3::9"], "2001:db8:2:3::/64"),
    "IPv4 within IPv6": ("::ffff:198.51.100.7", [], "198.51.100.7"),
    "a proxy's IPv4 within IPv6": ("::ffff:10.0.0.1", ["::ffff:203.0.113.9"], "203.0.113.9"),
    "a link": ("fe80::1%eth0", [], "fe80::/64"),
    "endless": ("10.0.0.1", ["1.1.1.1," + "10.0.0.9," * 100], "a proxy"),
}


@pytest.mark.parametrize(("peer", "forwarded", "client"), ASKING.values(), ids=ASKING)
def test_who_asks_is_whom_the_last_trusted_proxy_names(peer: str, forwarded: list[str], client: str) -> None:
    connections = Connections(10, 10, NETWORKS, 1.0)
    arrival = connections.arrival(peer)
    assert arrival is not None
    assert connections.client(arrival, forwarded) == client
    arrival.lost()
    assert not connections.all


async def test_headers_are_repeated_in_every_answer() -> None:
    head = b"X-Request-ID: r1\r\nConnection: close\r\n\r\n"
    async with listening(repeated=("X-Request-ID", "X-Correlation-ID")) as port:
        answer = await sent(port, b"GET /x HTTP/1.1\r\nHost: x\r\n" + head)
        assert b"\r\nX-Request-ID: r1\r\n" in answer and b"X-Correlation-ID" not in answer


async def test_every_answer_is_observed_by_the_template_of_its_route() -> None:
    seen: list[tuple[object, ...]] = []
    path = "/public-api/resources/tariffs/v1.0"
    async with listening(observe=lambda *each: seen.append(each[:3])) as port:
        for target in (f"{path}/7", "/nothing"):
            await sent(port, f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert seen == [("GET", f"{path}/{{tariff_id}}", 200), ("GET", "", 404)]


async def test_a_body_is_asked_for_only_when_it_is_read() -> None:
    path = next(each for each in OPERATIONS if each.http_method == "POST" and all(map(_literal, each.path)))
    line = b"POST /%b HTTP/1.1\r\n" % "/".join(map(str, path.path)).encode()
    head = b"Host: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    async with listening(authenticate=_refuse) as port:
        assert (await sent(port, line + head)).startswith(b"HTTP/1.1 401 ")
    async with listening() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(line + head)
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"{}")
        assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200 ")
        writer.close()


@asynccontextmanager
async def _refuse(_: Call) -> AsyncIterator[None]:
    raise Refused(401)
    yield

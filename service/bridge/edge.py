"""The contract, served: an HTTP server whose routes are the operations' own annotations.

The mirror of the channel. It finds the operation by method and path, reads the body within a limit of size and time,
hands a message to the function beside it and writes its reply. It runs the partners' simulators and our OCPI endpoints.
"""

import asyncio
import logging
import re
import ssl
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from aiohttp.web_protocol import RequestPayloadError
from google.protobuf.message import Message

from service.bridge.codec import CodecError
from service.bridge.connections import Arrival, Connection, Connections, Network
from service.bridge.json_text import takes_long
from service.bridge.registry import Operation, Parameter
from service.bridge.transcode import from_http, match, reply_to_http

_log = logging.getLogger(__name__)
_NAMES = {status.value: status.name for status in HTTPStatus}
_MAX_REPEATED = 255
_CONTROL = re.compile("[\x00-\x1f\x7f]")
"""What no id holds, and NUL no column of text."""
_CONTINUED = web.RequestKey("continued", bool)
_ROUTE = web.RequestKey("route", str)
STRANGER: Final = object()
"""The peer of a request that its body alone says who sent: what holds for strangers holds for its connection."""


@dataclass(frozen=True, slots=True)
class Call:
    """What a request says besides its message. Header names ignore case; `path` is as it was on the wire.

    `body` tells null from absent, which the message does not; it is empty while the caller is authenticated. `peer` is
    what that found out. `client` is the address that the request comes from, of an IPv6 one the first half.
    """

    headers: Mapping[str, str]
    path: str
    query: tuple[tuple[str, str], ...]
    body: bytes = b""
    peer: Any = None
    client: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a request is answered with when all went well: a message, or a body that is written already."""

    message: Message | None = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


class Refused(Exception):
    """Ends a request with an error status. `code` defaults to the status's name: 403 is FORBIDDEN.

    `problems` says what is wrong with the body, by place (a JSON pointer, RFC 6901).
    """

    def __init__(
        self,
        status: int,
        code: str = "",
        *,
        headers: Mapping[str, str] | None = None,
        problems: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status)
        self.status = status
        self.code = code or _NAMES.get(status, "")
        self.headers = dict(headers or {})
        self.problems = dict(problems or {})


Serve = Callable[[Operation, Message, Call], Awaitable[Reply]]
"""Does what the operation says. Raises Refused."""

ErrorBody = Callable[[Refused], bytes]
"""Writes the body of an error."""

Unreadable = Callable[[CodecError], Refused]
"""What a body is refused with that does not follow the contract."""

Authenticate = Callable[[Call], AbstractAsyncContextManager[Any]]
"""Entered before the request is looked at any further, and left with it; yields the `peer`. Raises Refused."""


Observe = Callable[[str, str, int, float], None]
"""Is told of every answer: method, the route's template ("" for none), status, seconds."""


@dataclass(slots=True)
class _Node:
    """The paths that begin alike: what their next segment may be, and what ends here, by its HTTP method."""

    literals: dict[str, "_Node"] = field(default_factory=dict)
    variable: "_Node | None" = None
    routes: dict[str, tuple[Operation, Serve]] = field(default_factory=dict)

    def add(self, operation: Operation, serve: Serve) -> None:
        node = self
        for segment in operation.path:
            if isinstance(segment, Parameter):
                node.variable = node = node.variable or _Node()
            else:
                node = node.literals.setdefault(unquote(segment), _Node())
        node.routes.setdefault(operation.http_method, (operation, serve))

    def found(self, segments: Sequence[str]) -> Iterator["_Node"]:
        """Where the segments lead, literals first."""
        if not segments:
            yield self
            return
        first, rest = segments[0], segments[1:]
        if literal := self.literals.get(unquote(first)):
            yield from literal.found(rest)
        if self.variable:
            yield from self.variable.found(rest)


class Edge:
    """One listener for operations, each with what serves it. Of two at one path and method the first counts.

    `middlewares` are aiohttp's, see every request first and may raise Refused. A body that does not follow the contract
    is refused as `unreadable` says. `repeated` headers of a request stand in its answer too. A connection has
    `header_timeout_s` for each request's headers, from the answer before on, and `send_timeout_s` to take an answer.
    Connections says how many there may be. With `trailing_slash` a path may end with one.
    """

    def __init__(
        self,
        routes: Iterable[tuple[Operation, Serve]],
        *,
        error_body: ErrorBody,
        error_type: str = "application/json",
        unreadable: Unreadable | None = None,
        authenticate: Authenticate | None = None,
        middlewares: Sequence[Middleware] = (),
        repeated: Sequence[str] = (),
        observe: Observe | None = None,
        trailing_slash: bool = False,
        max_body_bytes: int = 1024 * 1024,
        max_connections: int = 1000,
        max_connections_per_stranger: int = 0,
        proxies: Collection[Network] = (),
        header_timeout_s: float = 60.0,
        body_timeout_s: float = 10.0,
        send_timeout_s: float = 30.0,
        drain_s: float = 5.0,
    ) -> None:
        self._root = _Node()
        for operation, serve in routes:
            self._root.add(operation, serve)
        self._error_body = error_body
        self._error_type = error_type
        self._unreadable = unreadable or _bad_request
        self._authenticate = authenticate or _anybody
        self._repeated = repeated
        self._observe = observe
        self._trailing_slash = trailing_slash
        self._header_timeout_s = header_timeout_s
        self._body_timeout_s = body_timeout_s
        self._send_timeout_s = send_timeout_s
        self._connections = Connections(max_connections, max_connections_per_stranger, proxies, header_timeout_s)
        # aiohttp marks a middleware with an attribute, which a method cannot have.
        outermost = web.middleware(partial(self._guard))
        application = web.Application(middlewares=(outermost, *middlewares), client_max_size=max_body_bytes)
        application.router.add_route("*", r"/{path:[\s\S]*}", self._answer, expect_handler=_expected)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=drain_s)

    async def start(
        self, host: str, port: int, tls: Callable[[], ssl.SSLContext] | None = None, *, shares_port: bool = False
    ) -> int:
        """Listens and returns the port, which the system chose when `port` is 0. Raises OSError when it is taken.

        `tls` is asked for each connection; `shares_port`: with other processes of ours.
        """
        await self._runner.setup()
        return await self._connections.listen(host, port, self._connection, tls, shares_port=shares_port)

    async def stop(self) -> None:
        """Stops listening and waits up to `drain_s` for the requests under way."""
        await self._connections.stop()
        await self._runner.cleanup()

    def route(self, method: str, path: str) -> tuple[Operation, Serve, Mapping[str, str]]:
        """The operation, what serves it and the values of its path's variables. Raises Refused with 404 or 405."""
        if self._trailing_slash and len(path) > 1:
            path = path.removesuffix("/")
        if _CONTROL.search(unquote(path)):
            raise Refused(404)
        allowed = set()
        for node in self._root.found(path.split("/")[1:] if path != "/" else ()):
            for each, (operation, serve) in node.routes.items():
                variables = match(operation, each, path)
                if variables is not None and each == method:
                    return operation, serve, variables
                allowed |= set() if variables is None else {each}
        if allowed:
            raise Refused(405, headers={"Allow": ", ".join(sorted(allowed))})
        raise Refused(404)

    def _connection(self, arrival: Arrival) -> asyncio.Protocol:
        assert self._runner.server is not None  # noqa: S101
        return _Connection(self, self._runner.server, arrival, self._header_timeout_s)

    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        arrival = _arrival_of(request)
        arrival.begins()
        begun = time.perf_counter()
        try:
            response = await handler(request)
        except Refused as refused:
            response = self.error(refused)
        except Exception:
            _log.exception("%s failed", request.method)
            response = self.error(Refused(500))
        if request.content.exception():
            response.force_close()
        for name in self._repeated:
            if (value := request.headers.get(name)) and len(value) <= _MAX_REPEATED:
                response.headers[name] = value
        if self._observe:
            self._observe(request.method, request.get(_ROUTE, ""), response.status, time.perf_counter() - begun)
        try:
            async with asyncio.timeout(self._send_timeout_s):
                await response.prepare(request)
                await response.write_eof()
        except TimeoutError:
            arrival.abort()
        except ConnectionError:
            pass
        if request.body_exists and not request.content.is_eof():
            request.protocol.close()  # which parses nothing more: what is left of the body costs nothing
        arrival.ends()
        return response

    async def _answer(self, request: web.Request) -> web.Response:
        path, _, query = request.raw_path.partition("?")
        try:
            parameters = tuple(parse_qsl(query, keep_blank_values=True, max_num_fields=100))
        except ValueError:
            raise Refused(400) from None
        arrival = _arrival_of(request)
        client = self._connections.client(arrival, request.headers.getall("X-Forwarded-For", ()))
        call = Call(request.headers, path, parameters, client=client)
        async with self._authenticate(call) as peer:
            if peer is not STRANGER:
                arrival.let_in()
            operation, serve, variables = self.route(request.method, path)
            request[_ROUTE] = operation.template
            call = replace(call, body=await read(request, self._body_timeout_s), peer=peer)
            decode = partial(from_http, operation, variables, call.query, call.body)
            try:
                message = await asyncio.to_thread(decode) if takes_long(call.body) else decode()
            except CodecError as fault:
                raise self._unreadable(fault) from None
            except ValueError:
                raise Refused(400) from None
            reply = await serve(operation, message, call)
        written = reply.body if reply.message is None else reply_to_http(operation, reply.message)
        response = web.Response(status=reply.status, body=written, headers=reply.headers)
        if written:
            response.content_type = "application/json"
        return response

    def error(self, refused: Refused) -> web.Response:
        response = web.Response(
            status=refused.status,
            body=self._error_body(refused),
            headers=refused.headers,
            content_type=self._error_type,
        )
        if refused.status in (408, 413):
            response.force_close()
        return response


class _Connection(Connection):
    """One whose faults are refused as everything else is."""

    __slots__ = ("_edge",)

    def __init__(self, edge: Edge, server: web.Server, arrival: Arrival, header_timeout_s: float) -> None:
        super().__init__(server, arrival, header_timeout_s)
        self._edge = edge

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        if request.writer.output_size > 0:
            raise ConnectionError
        if status == HTTPStatus.INTERNAL_SERVER_ERROR:
            _log.error("%s failed", request.method, exc_info=exc)
        response = self._edge.error(Refused(status))
        response.force_close()
        return response


def _arrival_of(request: web.Request) -> Arrival:
    connection = request.protocol
    assert isinstance(connection, _Connection)  # noqa: S101
    return connection.arrival


def _bad_request(fault: CodecError) -> Refused:
    return Refused(400, problems={fault.pointer: fault.problem})


@asynccontextmanager
async def _anybody(_: Call) -> AsyncIterator[None]:
    yield


async def _expected(_: web.Request) -> None:
    """Who waits for a 100 hears it when the body is read, and not before."""


async def read(request: web.Request, timeout_s: float = 10.0) -> bytes:
    """The whole body, each time it is asked for. Raises Refused with 400, 408, 413 or 415."""
    try:
        async with asyncio.timeout(timeout_s):
            if request.headers.get("Expect", "").lower() == "100-continue" and _CONTINUED not in request:
                request[_CONTINUED] = True
                await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                request.writer.output_size = 0  # which is that of the answer
            body = await request.read()
    except TimeoutError:
        raise Refused(408) from None
    except web.HTTPRequestEntityTooLarge:
        raise Refused(413, "PAYLOAD_TOO_LARGE") from None
    except (web.PayloadAccessError, RequestPayloadError):
        raise Refused(400) from None
    match request.headers.get("Content-Encoding", "identity").strip().lower():
        case "identity":
            return body
        case "gzip":
            return _inflated(body, request.client_max_size)
    raise Refused(415, headers={"Accept-Encoding": "gzip"})


def _inflated(body: bytes, most: int) -> bytes:
    """Never more than `most`, whatever it would become."""
    unpacker = zlib.decompressobj(wbits=31)
    try:
        whole = unpacker.decompress(body, most + 1)
    except zlib.error:
        raise Refused(400) from None
    if len(whole) > most:
        raise Refused(413, "PAYLOAD_TOO_LARGE")
    if not unpacker.eof:
        raise Refused(400)
    return whole

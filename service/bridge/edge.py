"""The contract, served: an HTTP server whose routes are the operations' own annotations.

The mirror of the channel. It finds the operation by method and path, reads the body within a limit of size and time,
hands a message to one function and writes its reply. It runs the partners' simulators.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import parse_qsl

from aiohttp import web
from aiohttp.typedefs import Middleware
from google.protobuf.message import Message

from service.bridge.registry import Operation
from service.bridge.transcode import from_http, match, reply_to_http

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Call:
    """What a request says besides its message. Header names ignore case."""

    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Reply:
    """What a request is answered with when all went well."""

    message: Message
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


class Refused(Exception):
    """Ends a request with an error status. `code` defaults to the status's name: 403 is FORBIDDEN."""

    def __init__(self, status: int, code: str = "", *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status)
        self.status = status
        self.code = code or HTTPStatus(status).name
        self.headers = dict(headers or {})


Serve = Callable[[Operation, Message, Call], Awaitable[Reply]]
"""Does what the operation says. Raises Refused."""

ErrorBody = Callable[[int, str], bytes]
"""Writes the body of an error, JSON, from its status and code."""

Authenticate = Callable[[Call], Awaitable[None]]
"""Runs before the request is looked at any further. Raises Refused with 401 or 403."""


class Edge:
    """One listener. `middlewares` are aiohttp's and see every request first."""

    def __init__(
        self,
        operations: Iterable[Operation],
        serve: Serve,
        *,
        error_body: ErrorBody,
        authenticate: Authenticate | None = None,
        middlewares: Sequence[Middleware] = (),
        max_body_bytes: int = 1024 * 1024,
        body_timeout_s: float = 10.0,
        drain_s: float = 5.0,
    ) -> None:
        self._operations = tuple(operations)
        self._serve = serve
        self._error_body = error_body
        self._authenticate = authenticate
        self._body_timeout_s = body_timeout_s
        application = web.Application(middlewares=middlewares, client_max_size=max_body_bytes)
        application.router.add_route("*", "/{path:.*}", self._handle)
        # A refused request's body is not waited for: lingering is the time its sender may still talk.
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=drain_s, lingering_time=1.0)

    async def start(self, host: str, port: int) -> int:
        """Listens and returns the port, which the system chose when `port` is 0. Raises OSError when it is taken."""
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()
        actual: int = self._runner.addresses[0][1]
        return actual

    async def stop(self) -> None:
        """Stops listening and waits up to `drain_s` for the requests under way."""
        await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.Response:
        try:
            return await self._answer(request)
        except Refused as refused:
            return self._error(refused)
        except Exception:
            _log.exception("%s failed", request.method)
            return self._error(Refused(500))

    async def _answer(self, request: web.Request) -> web.Response:
        call = Call(request.headers)
        if self._authenticate is not None:
            await self._authenticate(call)
        path, _, query = request.raw_path.partition("?")
        operation, variables = self._route(request.method, path)
        body = await self._body(request)
        try:
            message = from_http(
                operation, variables, parse_qsl(query, keep_blank_values=True, max_num_fields=100), body
            )
        except ValueError:
            raise Refused(400) from None
        reply = await self._serve(operation, message, call)
        written = reply_to_http(operation, reply.message)
        response = web.Response(status=reply.status, body=written, headers=reply.headers)
        if written:
            response.content_type = "application/json"
        return response

    def _route(self, method: str, path: str) -> tuple[Operation, Mapping[str, str]]:
        allowed = set()
        for operation in self._operations:
            variables = match(operation, operation.http_method, path)
            if variables is not None:
                if operation.http_method == method:
                    return operation, variables
                allowed.add(operation.http_method)
        if allowed:
            raise Refused(405, headers={"Allow": ", ".join(sorted(allowed))})
        raise Refused(404)

    async def _body(self, request: web.Request) -> bytes:
        try:
            async with asyncio.timeout(self._body_timeout_s):
                return await request.read()
        except TimeoutError:
            raise Refused(408) from None
        except web.HTTPRequestEntityTooLarge:
            raise Refused(413, "PAYLOAD_TOO_LARGE") from None

    def _error(self, refused: Refused) -> web.Response:
        response = web.Response(
            status=refused.status,
            body=self._error_body(refused.status, refused.code),
            headers=refused.headers,
            content_type="application/json",
        )
        if refused.status in (408, 413):
            response.force_close()
        return response

"""The contract, served: an HTTP server whose routes are the operations' own annotations.

The mirror of the channel. It finds the operation by method and path, reads the body within a limit of size and time,
hands a message to one function and writes its reply. It runs the partners' simulators.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from http import HTTPStatus
from urllib.parse import parse_qsl

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from google.protobuf.message import Message

from service.bridge.codec import CodecError
from service.bridge.registry import Operation
from service.bridge.transcode import from_http, match, reply_to_http

_log = logging.getLogger(__name__)
_NAMES = {status.value: status.name for status in HTTPStatus}


@dataclass(frozen=True, slots=True)
class Call:
    """What a request says besides its message. Header names ignore case; `path` is as it was on the wire.

    `body` tells null from absent, which the message does not; it is empty while the caller is authenticated.
    """

    headers: Mapping[str, str]
    path: str
    query: tuple[tuple[str, str], ...]
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a request is answered with when all went well."""

    message: Message
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


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

Authenticate = Callable[[Call], Awaitable[None]]
"""Runs before the request is looked at any further. Raises Refused with 401 or 403."""


class Edge:
    """One listener. `middlewares` are aiohttp's, see every request first and may raise Refused.

    A body that does not follow the contract is refused with `unreadable_status`.
    """

    def __init__(
        self,
        operations: Iterable[Operation],
        serve: Serve,
        *,
        error_body: ErrorBody,
        error_type: str = "application/json",
        unreadable_status: int = 400,
        authenticate: Authenticate | None = None,
        middlewares: Sequence[Middleware] = (),
        max_body_bytes: int = 1024 * 1024,
        body_timeout_s: float = 10.0,
        drain_s: float = 5.0,
    ) -> None:
        self._operations = tuple(operations)
        self._serve = serve
        self._error_body = error_body
        self._error_type = error_type
        self._unreadable_status = unreadable_status
        self._authenticate = authenticate
        self._body_timeout_s = body_timeout_s
        # aiohttp marks a middleware with an attribute, which a method cannot have.
        outermost = web.middleware(partial(self._guard))
        application = web.Application(middlewares=(outermost, *middlewares), client_max_size=max_body_bytes)
        application.router.add_route("*", "/{path:.*}", self._answer)
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

    def route(self, method: str, path: str) -> tuple[Operation, Mapping[str, str]]:
        """The operation and the values of its path's variables. Raises Refused with 404 or 405."""
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

    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except Refused as refused:
            return self._error(refused)
        except Exception:
            _log.exception("%s failed", request.method)
            return self._error(Refused(500))

    async def _answer(self, request: web.Request) -> web.Response:
        path, _, query = request.raw_path.partition("?")
        try:
            call = Call(request.headers, path, tuple(parse_qsl(query, keep_blank_values=True, max_num_fields=100)))
        except ValueError:
            raise Refused(400) from None
        if self._authenticate is not None:
            await self._authenticate(call)
        operation, variables = self.route(request.method, path)
        call = replace(call, body=await read(request, self._body_timeout_s))
        try:
            message = from_http(operation, variables, call.query, call.body)
        except CodecError as fault:
            raise Refused(self._unreadable_status, problems={fault.pointer: fault.problem}) from None
        except ValueError:
            raise Refused(400) from None
        reply = await self._serve(operation, message, call)
        written = reply_to_http(operation, reply.message)
        response = web.Response(status=reply.status, body=written, headers=reply.headers)
        if written:
            response.content_type = "application/json"
        return response

    def _error(self, refused: Refused) -> web.Response:
        response = web.Response(
            status=refused.status,
            body=self._error_body(refused),
            headers=refused.headers,
            content_type=self._error_type,
        )
        if refused.status in (408, 413):
            response.force_close()
        return response


async def read(request: web.Request, timeout_s: float = 10.0) -> bytes:
    """The whole body, each time it is asked for. Raises Refused with 408 or 413."""
    try:
        async with asyncio.timeout(timeout_s):
            return await request.read()
    except TimeoutError:
        raise Refused(408) from None
    except web.HTTPRequestEntityTooLarge:
        raise Refused(413, "PAYLOAD_TOO_LARGE") from None

"""The one door to the outside: which address may be called, with which credential, and how much may come back.

An address is judged twice by one table: every address a name resolves to, and the address of the socket itself, so that
literals, odd spellings and names that change their answer between look-up and connect all meet the same rule. Redirects
are not followed, cookies and the environment's proxies are not used, and a credential leaves only for the origin it was
stored for. Nothing of aiohttp escapes: its exceptions hold request headers, hence credentials.
"""

import asyncio
import socket
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import SimpleNamespace
from urllib.parse import quote, urlencode

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from service.bridge.addresses import AddressDenied, EgressError, EgressPolicy, UrlRefused, check_host, check_url
from service.bridge.ports import Target
from service.bridge.transcode import HttpRequest

__all__ = [
    "AddressDenied",
    "Answer",
    "AnswerLost",
    "AnswerTimeout",
    "ConnectFailed",
    "ConnectTimeout",
    "Egress",
    "EgressError",
    "EgressPolicy",
    "UrlRefused",
    "check_host",
    "check_url",
]

MAX_ANSWER_BYTES = 8 * 1024 * 1024
"""The largest body that is read, after decompression."""

CONNECT_TIMEOUT_S = 3.0

_NO_ENCODING = frozenset({"identity", "none", ""})
_MAX_PIECE = 1 << 18
_MAX_MEMBERS = 1000
"""An empty one has 20 bytes and costs more than they do."""


class ConnectFailed(EgressError):
    """No connection came about: name, network, TLS, or no time left. Nothing was sent."""


class ConnectTimeout(ConnectFailed):
    """No connection came about in the time that was given."""


class AnswerTimeout(EgressError):
    """The request was sent, wholly or in part, and its answer was not complete in time."""


class AnswerLost(EgressError):
    """The request was sent, wholly or in part, and the connection broke or carried no HTTP."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer of any status. `body` is None when it is larger than we read or in an encoding we do not know."""

    status: int
    headers: Mapping[str, str]
    body: bytes | None


class _GuardedResolver(AbstractResolver):
    """Refuses a name as soon as one of its addresses is denied: picking the good ones would help who mixes them."""

    def __init__(self, resolver: AbstractResolver, policy: EgressPolicy) -> None:
        self._resolver = resolver
        self._policy = policy

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        results = await self._resolver.resolve(host, port, family)
        for result in results:
            self._policy.check_address(result["host"], port)
        return results

    async def close(self) -> None:
        await self._resolver.close()


class Egress:
    """Sends requests to partners. Made inside a running event loop; `aclose` ends its connections."""

    def __init__(self, policy: EgressPolicy, resolver: AbstractResolver | None = None) -> None:
        self._policy = policy
        self._resolver = _GuardedResolver(resolver or aiohttp.ThreadedResolver(), policy)
        self._kept_alive = self._session(force_close=False)
        # A kept-alive connection may have died unnoticed, which leaves what is sent on it in doubt. A read is repeated
        # then; a change gets a connection of its own.
        self._fresh = self._session(force_close=True)

    def _session(self, *, force_close: bool) -> aiohttp.ClientSession:
        sent = aiohttp.TraceConfig()
        sent.on_request_headers_sent.append(_mark_sent)
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                resolver=self._resolver,
                limit=0,  # the gate has one for each integration; a common one would make tenants wait for each other
                use_dns_cache=False,
                socket_factory=self._open_socket,
                force_close=force_close,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            max_line_size=8190,
            max_field_size=8190,
            max_headers=128,
            middlewares=(_send_once,),
            trace_configs=[sent],
        )

    def _open_socket(self, address: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, _, target = address
        self._policy.check_address(str(target[0]), int(target[1]))
        return socket.socket(family, kind, protocol)

    async def request(
        self,
        target: Target,
        request: HttpRequest,
        *,
        headers: Mapping[str, str],
        credential_header: str,
        credential_prefix: str,
        credential_query: str = "",
        timeout_s: float,
    ) -> Answer:
        """Sends one request, once, and returns its answer. With `credential_query` the credential is in that parameter.
        The target's own parameters are added to the query. Without credential and prefix no header is sent.

        Raises AddressDenied or ConnectFailed when the partner cannot have seen it; AnswerTimeout or AnswerLost when it
        may have taken effect there.
        """
        if timeout_s <= 0:  # to aiohttp that is: without end
            raise ConnectTimeout("no time is left")
        credential = credential_prefix + target.credential.reveal()
        if not (credential.isascii() and credential.isprintable()):
            raise ConnectFailed("the credential holds a character that a header cannot carry")
        query = request.query
        if credential_query:
            query = (*query, (credential_query, credential))
        elif credential:
            headers = {**headers, credential_header: credential}
        url = self._url(target.base_url, request.path, (*query, *target.query))
        session = self._kept_alive if request.method == "GET" else self._fresh
        progress = SimpleNamespace(sent=False)
        failure: EgressError
        try:
            async with session.request(
                request.method,
                url,
                headers={**headers, "Accept-Encoding": "gzip"},
                data=request.body,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=timeout_s, sock_connect=CONNECT_TIMEOUT_S),
                trace_request_ctx=progress,
            ) as response:
                return Answer(response.status, response.headers, await _read(response))
        except (aiohttp.ClientError, OSError, ValueError, RuntimeError) as error:
            failure = _failure(error, sent=progress.sent)
        # Raised out here, so that aiohttp's exception is not even its context.
        raise failure

    def _url(self, given: str, path: str, query: tuple[tuple[str, str], ...]) -> URL:
        try:
            base_url, origin = _base(given, self._policy)
        except UrlRefused as refused:
            raise AddressDenied(f"the base URL {refused}") from None
        url = URL(base_url + path + ("?" + urlencode(query, quote_via=quote) if query else ""), encoded=True)
        if not path and given.endswith("/"):  # an address that a partner gave out, as it wrote it
            url = url.with_path(f"{url.raw_path.rstrip('/')}/", encoded=True, keep_query=True)
        if url.origin() != origin:
            raise AddressDenied("the path leads to another host")
        return url

    async def aclose(self) -> None:
        await self._kept_alive.close()
        await self._fresh.close()
        await self._resolver.close()


@lru_cache
def _base(url: str, policy: EgressPolicy) -> tuple[str, URL]:
    """The normal form and its origin, the same for all requests of an integration. Raises UrlRefused."""
    base_url = check_url(url, policy)
    return base_url, URL(base_url, encoded=True).origin()


async def _send_once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """aiohttp repeats PUT, DELETE and GET by itself, even on a new connection, after the two errors caught here."""
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError):
        raise aiohttp.ClientConnectionError from None


async def _mark_sent(_session: aiohttp.ClientSession, context: SimpleNamespace, _params: object) -> None:
    """Runs just before the first byte is written."""
    context.trace_request_ctx.sent = True


def _failure(error: Exception, *, sent: bool) -> EgressError:
    cause = getattr(error, "os_error", error)
    if isinstance(cause, AddressDenied):
        return AddressDenied(*cause.args)
    if not sent:
        timed_out = isinstance(error, TimeoutError)
        return (ConnectTimeout if timed_out else ConnectFailed)("no connection could be made")
    if isinstance(error, TimeoutError):
        return AnswerTimeout("the answer was not complete in time")
    return AnswerLost("the connection broke before the answer was complete")


async def _read(response: aiohttp.ClientResponse) -> bytes | None:
    """The body, decompressed; None when it grows beyond the limit or cannot be decompressed."""
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    inflated = _Inflated() if encoding in ("gzip", "x-gzip", "deflate") else None
    body, received, complete = bytearray(), 0, encoding in _NO_ENCODING
    async for chunk in response.content.iter_any():
        received += len(chunk)  # also what adds nothing to the body
        if inflated is None:
            body += chunk
        else:
            try:
                for piece in inflated.pieces(chunk):
                    body += piece
                    if len(body) > MAX_ANSWER_BYTES:
                        break
                    await asyncio.sleep(0)  # a chunk may hold a thousand times as much
            except zlib.error:
                break
            complete = inflated.complete
        if max(len(body), received) > MAX_ANSWER_BYTES:
            break
    else:
        if complete or not response.content.total_bytes:
            return bytes(body)
    response.close()
    return None


class _Inflated:
    """What one gzip or zlib member holds, or several in a row; zeros may stand behind each."""

    def __init__(self) -> None:
        self._member = _member()
        self._members = 1

    @property
    def complete(self) -> bool:
        return self._member.eof

    def pieces(self, chunk: bytes) -> Iterator[bytes]:
        """What the chunk holds. Raises zlib.error."""
        piece = b""
        while chunk or len(piece) == _MAX_PIECE:  # of which the decoder may hold back the rest
            if self._member.eof:
                chunk = chunk.lstrip(b"\0")
                if not chunk:
                    return
                self._members += 1
                if self._members > _MAX_MEMBERS:
                    raise zlib.error
                self._member = _member()
            piece = self._member.decompress(chunk, _MAX_PIECE)
            chunk = self._member.unconsumed_tail or self._member.unused_data
            yield piece


def _member() -> "zlib._Decompress":
    return zlib.decompressobj(47)  # a gzip or a zlib header, whichever is there

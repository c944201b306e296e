"""The connections of a listener: whose they are, how many there may be, and which one goes for a new one.

Nobody is known before a request of theirs was let in. So those who never were cannot fill the room of those who are:
a new connection takes the place of the oldest stranger's, TLS handshakes included, and is never refused for strangers.
"""

import asyncio
import ipaddress
import logging
import socket
import ssl
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Final

from aiohttp import web

_log = logging.getLogger(__name__)

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_ACCEPT_AGAIN_S = 0.1
_BACKLOG = 128
_MAX_HOPS = 20
PIECE: Final = 8 << 10
"""Bytes that are parsed in a few milliseconds, whatever they are."""


class Arrival:
    """A connection from its first moment on. `client` is "" behind a trusted proxy, whose requests say it each."""

    __slots__ = ("_of", "_transport", "client", "handshake", "is_known")

    def __init__(self, of: "Connections", client: str) -> None:
        self._of = of
        self._transport: Any = None  # uvloop's is none of asyncio's
        self.client = client
        self.handshake: asyncio.Task[None] | None = None
        self.is_known = False

    def made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def begins(self) -> None:
        """A request begins. The connection of one that was let in is not taken away before it ends."""
        self._of.idle.pop(self, None)

    def let_in(self) -> None:
        """A request was let in: no stranger any more."""
        if not self.is_known:
            self.is_known = True
            self._of.forget(self)

    def ends(self) -> None:
        if self.is_known and self in self._of.all:
            self._of.idle[self] = None

    def lost(self) -> None:
        self._of.all.discard(self)
        self._of.idle.pop(self, None)
        self._of.forget(self)

    def abort(self) -> None:
        self.lost()
        if self._transport is not None:
            self._transport.abort()
        elif self.handshake is not None:
            self.handshake.cancel()


class Connections:
    """`most` in all, `most_of_client` of an address before a request on them was let in, 0 for as many as there are.

    `proxies` are trusted to say for whom they ask.
    """

    def __init__(self, most: int, most_of_client: int, proxies: Collection[Network], handshake_s: float) -> None:
        self._most = most
        self._most_of_client = most_of_client
        self._proxies = proxies
        self._handshake_s = handshake_s
        self._listening: list[socket.socket] = []
        self._accepting: list[asyncio.Task[None]] = []
        self._strangers: OrderedDict[Arrival, None] = OrderedDict()
        self._of_client: dict[str, OrderedDict[Arrival, None]] = {}
        self.idle: OrderedDict[Arrival, None] = OrderedDict()
        self.all: set[Arrival] = set()

    async def listen(
        self,
        host: str,
        port: int,
        protocol: Callable[[Arrival], asyncio.Protocol],
        tls: Callable[[], ssl.SSLContext] | None,
        *,
        shares_port: bool,
    ) -> int:
        """Returns the port, which the system chose when `port` is 0. Raises OSError when it is taken."""
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        try:
            for family, address in sorted({(each[0], each[4]) for each in found}):
                self._listening.append(_bound(family, address, shares_port))
        except OSError:
            self._close()
            raise
        for each in self._listening:
            self._accepting.append(asyncio.create_task(self._accept(each, protocol, tls)))
        actual: int = self._listening[0].getsockname()[1]
        return actual

    async def stop(self) -> None:
        under_way = [*self._accepting, *filter(None, (each.handshake for each in self.all))]
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        self._close()

    def client(self, arrival: Arrival, forwarded: Iterable[str]) -> str:
        """Who asks: the address that the last trusted proxy names, or that of the connection."""
        if arrival.client:
            return arrival.client
        hops = ",".join(forwarded).split(",")[-_MAX_HOPS:]
        for hop in reversed(hops):
            with suppress(ValueError):
                address = ipaddress.ip_address(hop.strip())
                if self._is_proxy(address):
                    continue
                return _client_of(address)
            break
        return "a proxy"

    def forget(self, arrival: Arrival) -> None:
        """It is no stranger, or gone."""
        self._strangers.pop(arrival, None)
        if (of_client := self._of_client.get(arrival.client)) is not None:
            of_client.pop(arrival, None)
            if not of_client:
                del self._of_client[arrival.client]

    async def _accept(
        self,
        listening: socket.socket,
        protocol: Callable[[Arrival], asyncio.Protocol],
        tls: Callable[[], ssl.SSLContext] | None,
    ) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, address = await loop.sock_accept(listening)
            except OSError as error:  # no more files, or hung up already
                _log.warning("a connection was not accepted", extra={"problem": error.strerror})
                await asyncio.sleep(_ACCEPT_AGAIN_S)
                continue
            sock.setblocking(False)
            arrival = self.arrival(address[0])
            if arrival is None:
                sock.close()
                continue
            more = {"ssl": tls(), "ssl_handshake_timeout": self._handshake_s} if tls else {}
            arrival.handshake = asyncio.create_task(_connected(arrival, partial(protocol, arrival), sock, more))

    def arrival(self, text: str) -> Arrival | None:
        """A new stranger, or None when every connection is one of somebody known that is at work."""
        address = ipaddress.ip_address(text.partition("%")[0])
        arrival = Arrival(self, "" if self._is_proxy(address) else _client_of(address))
        of_client = self._of_client.setdefault(arrival.client, OrderedDict())
        if arrival.client and self._most_of_client and len(of_client) >= self._most_of_client:
            next(iter(of_client)).abort()
        elif len(self.all) >= self._most:
            if (goes := next(iter(self._strangers or self.idle), None)) is None:
                self.forget(arrival)
                return None
            goes.abort()
        self.all.add(arrival)
        self._strangers[arrival] = self._of_client.setdefault(arrival.client, OrderedDict())[arrival] = None
        return arrival

    def _is_proxy(self, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
        address = getattr(address, "ipv4_mapped", None) or address
        return any(address in network for network in self._proxies)

    def _close(self) -> None:
        for each in self._listening:
            each.close()


class Connection(web.RequestHandler):
    """A connection on which HTTP is spoken.

    What arrives at once is parsed piece by piece, and others get their turn in between: a few bytes may be a chunk, and
    tens of thousands of these in a block.
    """

    __slots__ = ("_pieces", "arrival")

    def __init__(self, server: web.Server, arrival: Arrival, header_timeout_s: float) -> None:
        # aiohttp counts its timeout from the beginning of a connection and from the last answer on, whatever arrives
        # before the end of the headers. A refused request's body is not waited for: its sender may talk for a
        # second. It would inflate a body before anybody has looked at who sends it.
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]
            keepalive_timeout=header_timeout_s,
            lingering_time=1.0,
            auto_decompress=False,
        )
        self._pieces: deque[bytes] = deque()
        self.arrival = arrival

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.arrival.made(transport)
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._pieces.clear()
        self.arrival.lost()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if len(data) <= PIECE and not self._pieces:
            super().data_received(data)
            return
        waiting = bool(self._pieces)
        self._pieces.extend(data[start : start + PIECE] for start in range(0, len(data), PIECE))
        if not waiting:
            self._pause_transport_reading()
            self._parse()

    def _parse(self) -> None:
        if self._pieces:
            super().data_received(self._pieces[0])
            if self._pieces:
                self._pieces.popleft()
            if self._pieces:
                self._loop.call_soon(self._parse)
            elif not (self._reading_paused or self._buffer_paused):
                self._resume_transport_reading()

    def _resume_transport_reading(self) -> None:
        if not self._pieces:
            super()._resume_transport_reading()


async def _connected(
    arrival: Arrival, protocol: Callable[[], asyncio.Protocol], sock: socket.socket, more: Mapping[str, Any]
) -> None:
    """The protocol says to the arrival when it is `made` and `lost`."""
    made = False
    try:
        await asyncio.get_running_loop().connect_accepted_socket(protocol, sock, **more)
        made = True
    except OSError:  # no TLS, none in time, or hung up
        pass
    finally:
        arrival.handshake = None
        if not made:
            arrival.lost()


def _client_of(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """One that has an IPv6 address has 2^64 of them."""
    if isinstance(address, ipaddress.IPv6Address) and not address.ipv4_mapped:
        return str(ipaddress.ip_network((int(address) >> 64 << 64, 64)))
    return str(getattr(address, "ipv4_mapped", None) or address)


def _bound(family: int, address: Any, shares_port: bool) -> socket.socket:
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shares_port:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.setblocking(False)
        listening.bind(address)
        listening.listen(_BACKLOG)
    except OSError:
        listening.close()
        raise
    return listening

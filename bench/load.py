"""Load: the same unary calls over and over, on several connections with several calls in flight on each.

Written on HTTP/2 frames (RFC 9113, RFC 7541) because a grpc.aio client costs about 100 us a call, as much as the echo:
the client would be what is measured. This one costs a fifth of that. For servers of JSON there is HTTP/1.1.
"""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import suppress
from itertools import cycle
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from service.cli.common import loop_factory

_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _END_HEADERS, _ACK = 1, 4, 1
_INITIAL_WINDOW_SIZE = 4
_WINDOW = (1 << 31) - 1  # bytes; never given back, it suffices for a round


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3) + bytes((kind, flags)) + stream.to_bytes(4) + payload


def _literal(name: str, value: str) -> bytes:
    """A header that enters the connection's table; its parts are shorter than 127 bytes."""
    return b"\x40" + b"".join(bytes((len(part),)) + part.encode() for part in (name, value))


_PREFACE = (
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    + _frame(_SETTINGS, 0, 0, _INITIAL_WINDOW_SIZE.to_bytes(2) + _WINDOW.to_bytes(4))
    + _frame(_WINDOW_UPDATE, 0, 0, (_WINDOW - 65_535).to_bytes(4))
)


class Call(NamedTuple):
    """A unary call. `requests` take turns; a request has to fit a frame, 16 KiB."""

    address: str
    path: str
    key: str
    requests: tuple[bytes, ...]
    reply_bytes: range
    """How long an answer may be."""
    connections: int = 16
    in_flight: int = 4
    """Calls on each connection; HTTP/1.1 has but one."""
    grpc: bool = True
    """Or HTTP/1.1: POST, and GET for an empty request."""


class Done(NamedTuple):
    """What came of a measurement."""

    calls: int
    seconds: float
    p50_ms: float
    p99_ms: float


class _Peer(asyncio.Protocol, ABC):
    """One connection. Calls start with `start` and follow each other until `until`."""

    preface = b""

    def __init__(self, call: Call, requests: Iterator[bytes], latencies: list[float]) -> None:
        self._call = call
        self._requests = requests
        self._latencies = latencies
        self._open = 0
        self._rest = b""
        self._until = 0.0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.write(self.preface)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(ConnectionError("the server closed a connection"))

    def start(self, until: float) -> None:
        self._until = until
        for _ in range(self._call.in_flight):
            self._next()

    def _next(self) -> None:
        self._open += 1
        self._send(next(self._requests))

    @abstractmethod
    def _send(self, request: bytes) -> None: ...

    def _ended(self, started: float, reply_bytes: int) -> None:
        now = time.perf_counter()
        self._latencies.append(now - started)
        self._open -= 1
        if reply_bytes not in self._call.reply_bytes:
            if not self.done.done():
                self.done.set_exception(RuntimeError(f"{self._call.path} was answered with {reply_bytes} bytes"))
        elif now < self._until:
            self._next()
        elif not self._open and not self.done.done():
            self.done.set_result(None)


class _Grpc(_Peer):
    preface = _PREFACE

    def __init__(self, call: Call, requests: Iterator[bytes], latencies: list[float]) -> None:
        super().__init__(call, requests, latencies)
        headers = {
            ":path": call.path,
            ":authority": "localhost",
            "te": "trailers",
            "content-type": "application/grpc",
            "authorization": f"Bearer {call.key}",
            "grpc-timeout": "10S",
        }
        # `:method: POST` and `:scheme: http` are in HPACK's static table. The first call puts the rest into the
        # connection's own table, which counts from 62 for the latest; the others only name the places.
        self._block = b"\x83\x86" + b"".join(_literal(*header) for header in headers.items())
        self._next_block = b"\x83\x86" + bytes(0x80 | place for place in range(61 + len(headers), 61, -1))
        self._started: dict[int, float] = {}
        self._received: dict[int, int] = {}
        self._stream = 1

    def _send(self, request: bytes) -> None:
        stream, self._stream = self._stream, self._stream + 2
        headers = _frame(_HEADERS, _END_HEADERS, stream, self._block)
        self._block = self._next_block
        self._started[stream] = time.perf_counter()
        message = b"\0" + len(request).to_bytes(4) + request
        self.transport.write(headers + _frame(_DATA, _END_STREAM, stream, message))

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        at = 0
        while len(data) - at >= 9:
            end = at + 9 + int.from_bytes(data[at : at + 3])
            if end > len(data):
                break
            kind, flags = data[at + 3], data[at + 4]
            if kind == _DATA:
                stream = int.from_bytes(data[at + 5 : at + 9])
                self._received[stream] = self._received.get(stream, 0) + end - at - 9
            elif kind == _HEADERS and flags & _END_STREAM:
                # An error has no message, not even the five bytes that stand before one.
                stream = int.from_bytes(data[at + 5 : at + 9])
                self._ended(self._started.pop(stream), self._received.pop(stream, 0) - 5)
            elif kind in (_SETTINGS, _PING) and not flags & _ACK:
                payload = data[at + 9 : end] if kind == _PING else b""
                self.transport.write(_frame(kind, _ACK, 0, payload))
            elif kind in (_GOAWAY, _RESET):
                self.transport.abort()
            at = end
        self._rest = data[at:]


class _Http(_Peer):
    def _send(self, request: bytes) -> None:
        body = f"content-type: application/json\r\ncontent-length: {len(request)}\r\n" if request else ""
        head = f"{'POST' if request else 'GET'} {self._call.path} HTTP/1.1\r\nhost: localhost\r\n{body}\r\n"
        self._started = time.perf_counter()
        self._missing = -1
        self.transport.write(head.encode() + request)

    def data_received(self, data: bytes) -> None:
        if self._missing < 0:
            head, end, data = (self._rest + data).partition(b"\r\n\r\n")
            if not end:
                self._rest = head
                return
            self._rest = b""
            status, *headers = head.lower().split(b"\r\n")
            (length,) = (int(line[15:]) for line in headers if line.startswith(b"content-length:"))
            self._length = length if b" 200 " in status else -1
            self._missing = length
        self._missing -= len(data)
        if not self._missing:
            self._ended(self._started, self._length)


async def measure(call: Call, seconds: float) -> Done:
    """Raises RuntimeError when an answer was not of the expected length, ConnectionError when the server hung up."""
    latencies: list[float] = []
    host, _, port = call.address.rpartition(":")
    loop = asyncio.get_running_loop()
    requests = cycle(call.requests)
    peer_type = _Grpc if call.grpc else _Http
    peers = [
        (await loop.create_connection(lambda: peer_type(call, requests, latencies), host, int(port)))[1]
        for _ in range(call.connections)
    ]
    await asyncio.sleep(0.05)  # the handshakes are no part of it
    started = time.perf_counter()
    for peer in peers:
        peer.start(started + seconds)
    try:
        await asyncio.gather(*(peer.done for peer in peers))
    finally:
        for peer in peers:
            peer.transport.abort()
    return done(latencies, time.perf_counter() - started)


def done(latencies: list[float], seconds: float) -> Done:
    latencies.sort()
    p50, p99 = (latencies[int(len(latencies) * part)] * 1000 for part in (0.5, 0.99))
    return Done(len(latencies), seconds, p50, p99)


def run(pipe: Connection) -> None:
    """A process's main: measures each (call, seconds) that it is sent, until the pipe closes."""
    with asyncio.Runner(loop_factory=loop_factory) as runner, suppress(EOFError):
        while True:
            pipe.send(runner.run(measure(*pipe.recv())))

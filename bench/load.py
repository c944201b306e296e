"""Load: the same unary calls over and over, on several connections with several calls in flight on each.

Or as many a second as one says, whether they are answered or not (`offer`).

Written on HTTP/2 frames (RFC 9113, RFC 7541) because a grpc.aio client costs about 100 us a call, as much as the echo:
the client would be what is measured. This one costs a fifth of that. For servers of JSON there is HTTP/1.1.
"""

import asyncio
import random
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from itertools import cycle
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from service.cli.common import loop_factory

_DATA, HEADERS, RESET, SETTINGS, PING, _GOAWAY, _WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
_END_STREAM, END_HEADERS, ACK = 1, 4, 1
_INITIAL_WINDOW_SIZE = 4
_WINDOW = (1 << 31) - 1  # bytes; never given back, it suffices for a round


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3) + bytes((kind, flags)) + stream.to_bytes(4) + payload


def literal(name: str, value: str) -> bytes:
    """A header that enters the connection's table."""
    return b"\x40" + b"".join(_length(len(part)) + part.encode() for part in (name, value))


def _length(number: int) -> bytes:
    """As RFC 7541 (5.1) writes it in seven bits, and in as many bytes behind them as it needs."""
    if number < 127:
        return bytes((number,))
    written, rest = [127], number - 127
    while rest >= 128:
        written.append(rest % 128 + 128)
        rest //= 128
    return bytes((*written, rest))


PREFACE = (
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    + frame(SETTINGS, 0, 0, _INITIAL_WINDOW_SIZE.to_bytes(2) + _WINDOW.to_bytes(4))
    + frame(_WINDOW_UPDATE, 0, 0, (_WINDOW - 65_535).to_bytes(4))
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


class Offered(NamedTuple):
    """What came of calls at a given rate. Times count from when a call was due, not from when it left."""

    calls: int
    seconds: float
    answered: int
    refused: int
    p50_ms: float
    p99_ms: float
    """Of those that were answered."""
    refused_p99_ms: float
    lost: int
    """Without any answer when the measurement ended."""


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
                answer = "refused" if reply_bytes < 0 else f"answered with {reply_bytes} bytes"
                self.done.set_exception(RuntimeError(f"{self._call.path} was {answer}"))
        elif now < self._until:
            self._next()
        elif not self._open and not self.done.done():
            self.done.set_result(None)


class _Grpc(_Peer):
    preface = PREFACE

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
        self._block = b"\x83\x86" + b"".join(literal(*header) for header in headers.items())
        self._next_block = b"\x83\x86" + bytes(0x80 | place for place in range(61 + len(headers), 61, -1))
        self._started: dict[int, float] = {}
        self._received: dict[int, int] = {}
        self._stream = 1

    def _send(self, request: bytes) -> None:
        stream, self._stream = self._stream, self._stream + 2
        headers = frame(HEADERS, END_HEADERS, stream, self._block)
        self._block = self._next_block
        self._started[stream] = time.perf_counter()
        message = b"\0" + len(request).to_bytes(4) + request
        self.transport.write(headers + frame(_DATA, _END_STREAM, stream, message))

    def _ended_stream(self, stream: int, reply_bytes: int) -> None:
        self._ended(self._started.pop(stream), reply_bytes)

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
            elif kind == HEADERS and flags & _END_STREAM:
                # An error has no message, not even the five bytes that stand before one.
                stream = int.from_bytes(data[at + 5 : at + 9])
                self._ended_stream(stream, self._received.pop(stream, 0) - 5)
            elif kind in (SETTINGS, PING) and not flags & ACK:
                payload = data[at + 9 : end] if kind == PING else b""
                self.transport.write(frame(kind, ACK, 0, payload))
            elif kind == _GOAWAY or (kind == RESET and any(data[at + 9 : end])):
                # NO_ERROR only says that the rest of a request is not needed, once its answer was sent.
                self.transport.abort()
            at = end
        self._rest = data[at:]


class _Open(_Grpc):
    """Sends a call when it is told to. What exceeds the server's limit on streams waits here, as in every client."""

    STREAMS = 100

    def __init__(self, call: Call, requests: Iterator[bytes]) -> None:
        super().__init__(call, requests, [])
        self._due: dict[int, float] = {}
        self._later = deque[float]()
        self.answered: list[float] = []
        self.refused: list[float] = []

    @property
    def outstanding(self) -> int:
        return len(self._due) + len(self._later)

    def call(self, due: float) -> None:
        if len(self._due) >= self.STREAMS:
            self._later.append(due)
            return
        self._due[self._stream] = due
        self._send(next(self._requests))

    def _ended_stream(self, stream: int, reply_bytes: int) -> None:
        del self._started[stream]
        took_s = time.perf_counter() - self._due.pop(stream)
        (self.answered if reply_bytes in self._call.reply_bytes else self.refused).append(took_s)
        if self._later:
            self.call(self._later.popleft())


class _Http(_Peer):
    def _send(self, request: bytes) -> None:
        body = f"content-type: application/json\r\ncontent-length: {len(request)}\r\n" if request else ""
        key = f"authorization: Token {self._call.key}\r\n" if self._call.key else ""
        head = f"{'POST' if request else 'GET'} {self._call.path} HTTP/1.1\r\nhost: localhost\r\n{key}{body}\r\n"
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


async def offer(call: Call, rate: float, seconds: float, patience_s: float = 5.0) -> Offered:
    """Sends `rate` calls a second at random moments, then waits `patience_s` for the rest of the answers.

    Raises ConnectionError when the server hung up or broke a stream.
    """
    host, _, port = call.address.rpartition(":")
    loop = asyncio.get_running_loop()
    requests = cycle(call.requests)
    peers = [
        (await loop.create_connection(lambda: _Open(call, requests), host, int(port)))[1]
        for _ in range(call.connections)
    ]
    await asyncio.sleep(0.05)
    started = due = time.perf_counter()
    calls = 0
    for peer in cycle(peers):
        due += random.expovariate(rate)
        if due > started + seconds:
            break
        if (early_s := due - time.perf_counter()) > 0:
            await asyncio.sleep(early_s)
        elif calls % 16 == 0:
            await asyncio.sleep(0)  # late, and so never asleep: answers have to be read all the same
        if peer.done.done():
            peer.done.result()
        peer.call(due)
        calls += 1
    until = time.perf_counter() + patience_s
    while any(peer.outstanding for peer in peers) and time.perf_counter() < until:
        await asyncio.sleep(0.01)
    lost = sum(peer.outstanding for peer in peers)
    for peer in peers:
        peer.done.cancel()
        peer.transport.abort()
    answered = [each for peer in peers for each in peer.answered]
    refused = [each for peer in peers for each in peer.refused]
    p50, p99 = (_part_ms(answered, part) for part in (0.5, 0.99))
    return Offered(calls, seconds, len(answered), len(refused), p50, p99, _part_ms(refused, 0.99), lost)


def _part_ms(latencies: list[float], part: float) -> float:
    return sorted(latencies)[int(len(latencies) * part)] * 1000 if latencies else 0.0


def done(latencies: list[float], seconds: float) -> Done:
    latencies.sort()
    p50, p99 = (latencies[int(len(latencies) * part)] * 1000 for part in (0.5, 0.99))
    return Done(len(latencies), seconds, p50, p99)


def run(pipe: Connection) -> None:
    """A process's main: measures each (call, seconds) or (call, rate, seconds) it is sent, until the pipe closes."""
    with asyncio.Runner(loop_factory=loop_factory) as runner, suppress(EOFError):
        while True:
            question = pipe.recv()
            pipe.send(runner.run((measure if len(question) == 2 else offer)(*question)))

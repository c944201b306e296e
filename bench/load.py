"""Load: the same unary call over and over, on several connections with several calls in flight on each.

Written on HTTP/2 frames (RFC 9113, RFC 7541) because a grpc.aio client costs about 100 us a call, as much as the echo:
the client would be what is measured. This one costs a fifth of that.
"""

import asyncio
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from service.app import loop_factory

CONNECTIONS = 16
IN_FLIGHT = 4

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
    """A unary call, and how long its answer must be."""

    address: str
    path: str
    key: str
    request: bytes
    reply_bytes: int


class Done(NamedTuple):
    """What came of a measurement."""

    calls: int
    seconds: float
    p50_ms: float
    p99_ms: float


class _Peer(asyncio.Protocol):
    """One connection. Calls start with `start` and follow each other until `until`."""

    def __init__(self, call: Call, latencies: list[float]) -> None:
        self._latencies = latencies
        self._reply_bytes = 5 + call.reply_bytes
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
        self._message = b"\0" + len(call.request).to_bytes(4) + call.request
        self._started: dict[int, float] = {}
        self._received = 0
        self._stream = 1
        self._rest = b""
        self._until = 0.0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.write(_PREFACE)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(ConnectionError("the server closed a connection"))

    def start(self, until: float) -> None:
        self._until = until
        for _ in range(IN_FLIGHT):
            self._send()

    def _send(self) -> None:
        stream, self._stream = self._stream, self._stream + 2
        headers = _frame(_HEADERS, _END_HEADERS, stream, self._block)
        self._block = self._next_block
        self._started[stream] = time.perf_counter()
        self._transport.write(headers + _frame(_DATA, _END_STREAM, stream, self._message))

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        at = 0
        while len(data) - at >= 9:
            end = at + 9 + int.from_bytes(data[at : at + 3])
            if end > len(data):
                break
            kind, flags = data[at + 3], data[at + 4]
            if kind == _DATA:
                self._received += end - at - 9
            elif kind == _HEADERS and flags & _END_STREAM:
                self._ended(int.from_bytes(data[at + 5 : at + 9]))
            elif kind in (_SETTINGS, _PING) and not flags & _ACK:
                payload = data[at + 9 : end] if kind == _PING else b""
                self._transport.write(_frame(kind, _ACK, 0, payload))
            elif kind in (_GOAWAY, _RESET):
                self._transport.abort()
            at = end
        self._rest = data[at:]

    def _ended(self, stream: int) -> None:
        now = time.perf_counter()
        self._latencies.append(now - self._started.pop(stream))
        if now < self._until:
            self._send()
        elif not self._started and not self.done.done():
            # An error has no message: each answer was the right one if all bytes are there.
            calls = self._stream // 2  # clients have the odd numbers
            if self._received == calls * self._reply_bytes:
                self.done.set_result(None)
            else:
                self.done.set_exception(RuntimeError(f"{calls} calls were answered with {self._received} bytes"))


async def measure(call: Call, seconds: float) -> Done:
    """Raises RuntimeError when an answer was not of the expected length, ConnectionError when the server hung up."""
    latencies: list[float] = []
    host, _, port = call.address.rpartition(":")
    loop = asyncio.get_running_loop()
    peers = [
        (await loop.create_connection(lambda: _Peer(call, latencies), host, int(port)))[1] for _ in range(CONNECTIONS)
    ]
    await asyncio.sleep(0.05)  # the handshakes are no part of it
    started = time.perf_counter()
    for peer in peers:
        peer.start(started + seconds)
    try:
        await asyncio.gather(*(peer.done for peer in peers))
    finally:
        for peer in peers:
            peer._transport.abort()
    elapsed = time.perf_counter() - started
    latencies.sort()
    p50, p99 = (latencies[int(len(latencies) * part)] * 1000 for part in (0.5, 0.99))
    return Done(len(latencies), elapsed, p50, p99)


def run(pipe: Connection) -> None:
    """A process's main: measures each (call, seconds) that it is sent, until the pipe closes."""
    with asyncio.Runner(loop_factory=loop_factory) as runner, suppress(EOFError):
        while True:
            pipe.send(runner.run(measure(*pipe.recv())))

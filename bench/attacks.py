"""`python -m bench.attacks`: what one caller tries in order to stop the process, and what it costs.

Each attack goes to the same `evbridge serve`, on this machine. Meanwhile somebody asks for its health, and another key
for a company, ten times a second each: the worst of these waits is what others notice.
"""

import asyncio
import os
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import grpc
from evbridge.v1.tariff_pb2 import CreateTariffRequest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from bench import load
from bench.rounds import child

KEY_LINE = re.compile(r"Bearer (evb_\S+)'")
HEALTH = "/grpc.health.v1.Health/Check"
GET = "/evbridge.v1.CompanyService/ListCompanies"
BATCH_GET = "/evbridge.v1.LocationService/BatchGetLocations"
REPORT = "/evbridge.v1.LocationService/ReportEvseStatus"
CREATE_TARIFF = "/evbridge.v1.TariffService/CreateTariff"
ATTACK_S = 30.0
HEADING = (
    f"{'attack':<32}{'took s':>7}{'cpu s':>7}{'MB before':>11}{'peak':>7}{'after':>7}"
    f"{'health ms':>11}{'a call ms':>11}  answers"
)
_OWN_CHANNEL = [("grpc.use_local_subchannel_pool", 1)]


class Server(NamedTuple):
    pid: int
    address: str
    key: str

    @property
    def credential(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.key}"),)

    def resident_mb(self) -> float:
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024  # type: ignore[index]

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@asynccontextmanager
async def serving(directory: Path, **settings: str) -> AsyncIterator[tuple[Server, asyncio.subprocess.Process]]:
    environ = {name: text for name, text in os.environ.items() if not name.startswith(("EVBRIDGE_", "OTEL_"))}
    environ |= {"EVBRIDGE_LISTEN": "127.0.0.1:0", "EVBRIDGE_DATA_DIR": str(directory), "EVBRIDGE_DELIVERY": "false"}
    environ |= {f"EVBRIDGE_{name}": text for name, text in settings.items()}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "service", "serve"), env=environ, stdout=asyncio.subprocess.PIPE, stderr=-2
    )
    assert process.stdout is not None
    key = ""
    async for line in process.stdout:
        if found := KEY_LINE.search(line.decode()):
            key = found[1]
        if line.startswith(b"evbridge serves on "):
            break
    reading = asyncio.create_task(process.stdout.read())
    try:
        yield Server(process.pid, line.decode().split()[-1], key), process
    finally:
        if process.returncode is None:
            process.terminate()
        await reading
        await process.wait()


class Noticed(NamedTuple):
    """The worst waits of callers who do nothing wrong, what of theirs failed, and the server's largest size."""

    health_ms: float
    call_ms: float
    failed: dict[str, int]
    peak_mb: float


def others(pipe: Connection, server: Server) -> None:
    """A process's main: calls until the pipe says that it is over."""

    async def ask(channel: grpc.aio.Channel, path: str) -> float:
        worst_s = 0.0
        while not over.is_set():
            started = time.perf_counter()
            try:
                await channel.unary_unary(path)(b"", metadata=server.credential, timeout=60)
            except grpc.aio.AioRpcError as error:
                failed[error.code().name + " " + str(error.details())] += 1
            worst_s = max(worst_s, time.perf_counter() - started)
            await asyncio.sleep(0.1)
        return worst_s * 1000

    async def weigh() -> float:
        peak_mb = 0.0
        while not over.is_set():
            peak_mb = max(peak_mb, server.resident_mb())
            await asyncio.sleep(0.02)
        return peak_mb

    async def notice() -> Noticed:
        async with grpc.aio.insecure_channel(server.address) as channel:
            await channel.channel_ready()
            pipe.send(None)
            asking = asyncio.gather(ask(channel, HEALTH), ask(channel, GET), weigh())
            await asyncio.to_thread(pipe.recv)
            over.set()
            health_ms, call_ms, peak_mb = await asking
            return Noticed(health_ms, call_ms, dict(failed), peak_mb)

    over, failed = asyncio.Event(), Counter[str]()
    pipe.send(asyncio.run(notice()))


Attack = Callable[[Server], Awaitable[Counter[str]]]


def calls(count: int, path: str, request: bytes, *, anonymous: bool = False, gzip: bool = False) -> Attack:
    """So many calls at once, on one connection."""

    async def attack(server: Server) -> Counter[str]:
        seen = Counter[str]()
        metadata = () if anonymous else server.credential
        compression = grpc.Compression.Gzip if gzip else None

        async def call(channel: grpc.aio.Channel) -> None:
            try:
                await channel.unary_unary(path)(request, metadata=metadata, timeout=ATTACK_S, compression=compression)
                seen["OK"] += 1
            except grpc.aio.AioRpcError as error:
                seen[error.code().name] += 1

        async with grpc.aio.insecure_channel(server.address, _OWN_CHANNEL) as channel:
            await asyncio.gather(*(call(channel) for _ in range(count)))
        return seen

    return attack


async def watches(server: Server) -> Counter[str]:
    """200 anonymous streams of the health service."""
    seen = Counter[str]()

    async def watch(channel: grpc.aio.Channel) -> None:
        stream = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        try:
            await stream.read()
            seen["WATCHING"] += 1
            await asyncio.sleep(2)
            stream.cancel()
        except grpc.aio.AioRpcError as error:
            seen[error.code().name] += 1

    channels = [grpc.aio.insecure_channel(server.address, _OWN_CHANNEL) for _ in range(4)]
    await asyncio.gather(*(watch(channels[number % 4]) for number in range(200)))
    for channel in channels:
        await channel.close()
    return seen


async def half_sent(server: Server) -> Counter[str]:
    """On each of 3 connections 100 calls whose message never comes."""
    seen = Counter[str]()

    async def call(channel: grpc.aio.Channel, path: str) -> None:
        try:
            await channel.stream_unary(path)(timeout=ATTACK_S)
        except grpc.aio.AioRpcError as error:
            seen[error.code().name] += 1

    channels = [grpc.aio.insecure_channel(server.address, _OWN_CHANNEL) for _ in range(3)]
    await asyncio.gather(*(call(each, path) for each in channels for path in (GET, HEALTH) for _ in range(50)))
    for channel in channels:
        await channel.close()
    return seen


async def _raw(server: Server, *, polite: bool = False) -> tuple[asyncio.StreamWriter, "asyncio.Task[None]"]:
    """A connection, and what ends when the server closes it. A polite one answers settings and pings."""
    host, _, port = server.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(load.PREFACE)

    async def read() -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readexactly(9)
                payload = await reader.readexactly(int.from_bytes(head[:3]))
                if polite and head[3] in (load.SETTINGS, load.PING) and not head[4] & load.ACK:
                    writer.write(load.frame(head[3], load.ACK, 0, payload if head[3] == load.PING else b""))

    return writer, asyncio.create_task(read())


def _block() -> bytes:
    headers = {":path": GET, ":authority": "localhost", "te": "trailers", "content-type": "application/grpc"}
    return b"\x83\x86" + b"".join(load.literal(*header) for header in headers.items())


async def _closed(closed: "asyncio.Task[None]", started: float, limit_s: float) -> str:
    await asyncio.wait([closed], timeout=max(0.0, limit_s - (time.monotonic() - started)))
    return f"CLOSED after {time.monotonic() - started:.0f} s" if closed.done() else f"OPEN after {limit_s:.0f} s"


def endless_headers(*, polite: bool) -> Attack:
    """20 connections, each with a block of headers that never ends: an empty frame of CONTINUATION every second."""

    async def drip(server: Server, seen: Counter[str]) -> None:
        writer, closed = await _raw(server, polite=polite)
        await asyncio.sleep(1)  # settings are acknowledged; amid a block not even a ping may be answered
        started = time.monotonic()
        writer.write(load.frame(load.HEADERS, 0, 1, _block()))
        while not closed.done() and time.monotonic() - started < 90:
            writer.write(load.frame(load.CONTINUATION, 0, 1, b""))
            await asyncio.wait([closed], timeout=1)
        seen[await _closed(closed, started, 90)] += 1
        closed.cancel()
        writer.close()

    async def attack(server: Server) -> Counter[str]:
        seen = Counter[str]()
        await asyncio.gather(*(drip(server, seen) for _ in range(20)))
        return seen

    return attack


def rapid_reset(*, polite: bool) -> Attack:
    """Begins calls and resets them at once, as fast as they are taken, for 5 s."""

    async def attack(server: Server) -> Counter[str]:
        writer, closed = await _raw(server, polite=polite)
        started = time.monotonic()
        block, stream = _block(), 1
        cancel = (8).to_bytes(4)
        while not closed.done() and time.monotonic() - started < 5:
            if writer.transport.get_write_buffer_size() < 1 << 16:  # type: ignore[attr-defined]
                for _ in range(50):
                    writer.write(load.frame(load.HEADERS, load.END_HEADERS, stream, block))
                    writer.write(load.frame(load.RESET, 0, stream, cancel))
                    stream += 2
            await asyncio.sleep(0)
        seen = Counter({"resets": stream // 2, await _closed(closed, started, 30): 1})
        closed.cancel()
        writer.close()
        return seen

    return attack


def _tariff(digits: int) -> bytes:
    price = {"price": {"value": "9" * digits}}
    return CreateTariffRequest(tariff={"elements": [{"price_components": [price]}]}).SerializeToString()  # type: ignore[list-item]


ATTACKS: dict[str, Attack] = {
    "100,000 empty keys": calls(1, BATCH_GET, b"\x0a\x00" * 100_000),
    "24 x 100,000 empty keys": calls(24, BATCH_GET, b"\x0a\x00" * 100_000),
    "400,000 empty EVSE reports": calls(1, REPORT, b"\x0a\x00" * 400_000),
    "24 x 80,000 bad ids": calls(24, BATCH_GET, b"\x0a\x03\x1a\x01\x20" * 80_000),
    "a decimal of 3.9 million digits": calls(1, CREATE_TARIFF, _tariff(3_900_000)),
    "60 anonymous gzips of 4 MB": calls(60, GET, bytes(4_000_000), anonymous=True, gzip=True),
    "40 anonymous calls of 4 MB": calls(40, GET, bytes(4_000_000), anonymous=True),
    "16 gzips of 64 MB with a key": calls(16, GET, bytes(64 << 20), gzip=True),
    "200 anonymous health watches": watches,
    "300 half-sent calls": half_sent,
    "a burst of 300 calls": calls(300, GET, b""),
    "headers that never end": endless_headers(polite=False),
    "the same, with acknowledgements": endless_headers(polite=True),
    "rapid reset": rapid_reset(polite=False),
    "rapid reset, pings answered": rapid_reset(polite=True),
}


async def main(chosen: list[str]) -> None:
    print(HEADING)
    with tempfile.TemporaryDirectory(prefix="evb", dir="/tmp") as directory:
        async with serving(Path(directory)) as (server, process):
            await calls(20, GET, b"")(server)
            for name, attack in ATTACKS.items():
                if not chosen or any(part in name for part in chosen):
                    await measure(server, name, attack)
            busy = asyncio.create_task(ATTACKS["24 x 100,000 empty keys"](server))
            await asyncio.sleep(0.1)
            started = time.monotonic()
            process.terminate()
            await process.wait()
            print(f"SIGTERM amid an attack: ended after {time.monotonic() - started:.1f} s")
            await busy


async def measure(server: Server, name: str, attack: Attack) -> None:
    with child(others, server) as watching:
        await asyncio.to_thread(watching.pipe.recv)
        before_mb, cpu_s, started = server.resident_mb(), server.cpu_s(), time.monotonic()
        seen = await attack(server)
        took_s, cpu_s = time.monotonic() - started, server.cpu_s() - cpu_s
        noticed: Noticed = await asyncio.to_thread(watching.ask, None)
    print(
        f"{name:<32}{took_s:7.1f}{cpu_s:7.1f}{before_mb:11.0f}{noticed.peak_mb:7.0f}{server.resident_mb():7.0f}"
        f"{noticed.health_ms:11.0f}{noticed.call_ms:11.0f}  {dict(seen)}"
        + (f"; others failed: {noticed.failed}" if noticed.failed else ""),
        flush=True,
    )


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))

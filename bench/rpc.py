"""GetCompany through the whole of evbridge against a bare echo of the same bytes, in interleaved rounds."""

import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import grpc
from evbridge.v1.company_pb2 import GetCompanyRequest, UpsertCompanyRequest
from evbridge.v1.company_pb2_grpc import CompanyServiceStub

from bench import load, servers
from bench.sample import company

ROUNDS = 7
SECONDS = 2.0
WARM_UP_S = 1.5

_TICKS = os.sysconf("SC_CLK_TCK")
_spawn = multiprocessing.get_context("spawn")


class Child(NamedTuple):
    """A process of the benchmark and the pipe to it."""

    pid: int
    pipe: Connection

    def cpu_s(self) -> float:
        """User and system time of all its threads so far; Linux counts it in ticks of 10 ms."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS


class Measured(NamedTuple):
    """One round of one server. CPU is in microseconds a call."""

    rate: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    load_cpu_us: float
    busy: float


@contextmanager
def _child(main: Callable[..., None], *arguments: Any) -> Iterator[Child]:
    """A process that runs `main(pipe, *arguments)` until our end of the pipe is closed."""
    ours, theirs = _spawn.Pipe()
    process = _spawn.Process(target=main, args=(theirs, *arguments))
    process.start()
    theirs.close()
    assert process.pid is not None
    try:
        yield Child(process.pid, ours)
    finally:
        ours.close()
        process.join()


def _stored(address: str, key: str) -> tuple[bytes, bytes]:
    """Stores the sample; returns the bytes of a GetCompany request and of its answer."""
    credential = (("authorization", f"Bearer {key}"),)
    request = GetCompanyRequest(id=company().id)
    with grpc.insecure_channel(address) as channel:
        stub = CompanyServiceStub(channel)
        stub.UpsertCompany(UpsertCompanyRequest(company=company()), metadata=credential, timeout=10)
        reply = stub.GetCompany(request, metadata=credential, timeout=10)
    return request.SerializeToString(), reply.SerializeToString()


def _round(server: Child, client: Child, call: load.Call, seconds: float) -> Measured:
    before = server.cpu_s(), client.cpu_s()
    client.pipe.send((call, seconds))
    done: load.Round = client.pipe.recv()
    used, used_by_load = server.cpu_s() - before[0], client.cpu_s() - before[1]
    return Measured(
        rate=done.calls / done.seconds,
        p50_ms=done.p50_ms,
        p99_ms=done.p99_ms,
        cpu_us=used / done.calls * 1e6,
        load_cpu_us=used_by_load / done.calls * 1e6,
        busy=used / done.seconds,
    )


def report() -> None:
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="evb", dir="/tmp")))
        client = stack.enter_context(_child(load.run))
        full = stack.enter_context(_child(servers.run, servers.full, directory))
        address, key = full.pipe.recv()
        request, reply = _stored(address, key)
        read = stack.enter_context(_child(servers.run, servers.read, directory))
        echo = stack.enter_context(_child(servers.run, servers.echo, reply))
        children = {"echo": echo, "read": read, "full": full}
        calls = {"full": load.Call(address, servers.PATH, key, request, len(reply))}
        for name in ("echo", "read"):
            calls[name] = calls["full"]._replace(address=children[name].pipe.recv()[0])
        for name, child in children.items():
            _round(child, client, calls[name], WARM_UP_S)
        rounds: dict[str, list[Measured]] = {name: [] for name in children}
        for _ in range(ROUNDS):
            for name, child in children.items():
                rounds[name].append(_round(child, client, calls[name], SECONDS))
        full.pipe.send(None)
        recorded = full.pipe.recv()
    for name in children:
        print(name, Measured(*(round(median(column), 3) for column in zip(*rounds[name], strict=True))))
    print(recorded)

"""GetCompany through the whole of evbridge, against an echo of the same bytes on a bare grpc.aio server.

Every server has a process of its own and gets the same calls from the same client, in turns. Processes share the
machine's processors, so beside the calls a second stands what each call cost the server in processor time.
"""

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

ROUNDS = 11
SECONDS = 1.3
WARM_UP_S = 1.0

_TICKS = os.sysconf("SC_CLK_TCK")
_spawn = multiprocessing.get_context("spawn")


class Child(NamedTuple):
    """A process of the benchmark and the pipe to it."""

    pid: int
    pipe: Connection

    def cpu_s(self) -> float:
        """User and system time of all its threads so far, in steps of 10 ms."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS


class Round(NamedTuple):
    """What one server did in one round; processor time is in microseconds a call."""

    rate: float
    p50_ms: float
    p99_ms: float
    server_us: float
    client_us: float
    calls: int


def report() -> None:
    with ExitStack() as stack:
        # A unix socket's path is short.
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="evb", dir="/tmp")))
        client = stack.enter_context(_child(load.run))
        full = stack.enter_context(_child(servers.run, servers.full, directory))
        address, key = full.pipe.recv()
        request, reply = _stored(address, key)
        children = {
            "echo": stack.enter_context(_child(servers.run, servers.echo, reply)),
            "read": stack.enter_context(_child(servers.run, servers.read, directory)),
        }
        calls = {
            name: load.Call(child.pipe.recv()[0], servers.PATH, key, request, len(reply))
            for name, child in children.items()
        }
        children["full"], calls["full"] = full, calls["echo"]._replace(address=address)

        for name, child in children.items():
            _round(child, client, calls[name], WARM_UP_S)
        full.pipe.send(None)
        before = full.pipe.recv()
        turns = [
            {name: _round(child, client, calls[name], SECONDS) for name, child in children.items()}
            for _ in range(ROUNDS)
        ]
        full.pipe.send(None)
        recorded = full.pipe.recv() - before
    if recorded != (made := sum(turn["full"].calls for turn in turns)):
        raise RuntimeError(f"of {made} calls the metrics hold {recorded}")
    _show(turns, len(request), len(reply))


def _show(turns: list[dict[str, Round]], request_bytes: int, reply_bytes: int) -> None:
    print(
        f"GetCompany, {request_bytes} bytes asked and {reply_bytes} answered, {load.CONNECTIONS} connections with "
        f"{load.IN_FLIGHT} calls in flight on each:\nmedian of {ROUNDS} interleaved rounds of {SECONDS} s on "
        f"{os.cpu_count()} processors; ratios are taken within a round\n"
    )
    print(f"{'':6}{'calls/s':>9}{'of echo':>9}{'p50 ms':>9}{'p99 ms':>9}{'CPU us':>9}{'of echo':>9}{'client us':>11}")
    for name in turns[0]:
        rounds = [turn[name] for turn in turns]
        rate, p50, p99, server_us, client_us, _ = (median(column) for column in zip(*rounds, strict=True))
        of_rate = median(turn[name].rate / turn["echo"].rate for turn in turns)
        of_cpu = median(turn[name].server_us / turn["echo"].server_us for turn in turns)
        print(
            f"{name:6}{rate:9.0f}{of_rate:9.2f}{p50:9.1f}{p99:9.1f}{server_us:9.0f}{of_cpu:9.2f}{client_us:11.0f}",
            flush=True,
        )


def _round(server: Child, client: Child, call: load.Call, seconds: float) -> Round:
    before = server.cpu_s(), client.cpu_s()
    client.pipe.send((call, seconds))
    done: load.Done = client.pipe.recv()
    used = server.cpu_s() - before[0], client.cpu_s() - before[1]
    server_us, client_us = (seconds / done.calls * 1e6 for seconds in used)
    return Round(done.calls / done.seconds, done.p50_ms, done.p99_ms, server_us, client_us, done.calls)


def _stored(address: str, key: str) -> tuple[bytes, bytes]:
    """Stores the sample; returns the bytes of a GetCompany request and of its answer."""
    credential = (("authorization", f"Bearer {key}"),)
    request = GetCompanyRequest(id=company().id)
    with grpc.insecure_channel(address) as channel:
        stub = CompanyServiceStub(channel)
        stub.UpsertCompany(UpsertCompanyRequest(company=company()), metadata=credential, timeout=10)
        reply = stub.GetCompany(request, metadata=credential, timeout=10)
    return request.SerializeToString(), reply.SerializeToString()


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

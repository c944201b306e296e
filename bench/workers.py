"""GetCompany and ListCompanies from one process of evbridge and from two on one port, on the same database."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import grpc
from evbridge.v1.company_pb2 import GetCompanyRequest, ListCompaniesRequest, UpsertCompanyRequest
from evbridge.v1.company_pb2_grpc import CompanyServiceStub

from bench import load, servers
from bench.rounds import Child, child, play, ratio, show
from bench.sample import company

ROUNDS = 7
SECONDS = 1.3
WARM_UP_S = 1.0
PAGE = 50
GET = "/evbridge.v1.CompanyService/GetCompany"
LIST = "/evbridge.v1.CompanyService/ListCompanies"


class _Processes(Child):
    """A process with those that it started."""

    def cpu_s(self) -> float:
        pids = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return sum((Child(int(pid), self.pipe).cpu_s() for pid in pids), super().cpu_s())


def report() -> None:
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="evb", dir="/tmp")))
        client = stack.enter_context(child(load.run))
        owner = stack.enter_context(child(servers.run, servers.full, directory))
        address, key = owner.pipe.recv()
        calls = _calls(address, key)
        served = {f"{count} of": stack.enter_context(_serving(directory, count)) for count in (1, 2)}
        print(f"\n1 and 2 processes on one port, on {os.cpu_count()} processors that PostgreSQL and the client use too")
        for call in calls:
            print(f"\n{call.path.rpartition('/')[2]}")
            aimed = {
                name: (_Processes(pid, client.pipe), call._replace(address=address))
                for name, (pid, address) in served.items()
            }
            for server, each in aimed.values():
                play(server, client, each, WARM_UP_S)
            turns, used = [], []
            for _ in range(ROUNDS):
                turn = {}
                for name, (server, each) in aimed.items():
                    before, started = _busy_s(), time.perf_counter()
                    turn[name] = play(server, client, each, SECONDS)
                    if name == "1 of":
                        used.append((_busy_s() - before) / (time.perf_counter() - started))
                turns.append(turn)
            show(turns, ("1 of",))
            print(f"2 processes carry {ratio(turns, '2 of', '1 of'):.2f} times the calls of 1")
            print(f"with 1, {median(used):.2f} of {os.cpu_count()} processors are at work: 2 have what is left")


def _busy_s() -> float:
    """The time that all processors worked, for whatever there is."""
    user, nice, system, _idle, _waiting, *others = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:8])
    return (user + nice + system + sum(others)) / os.sysconf("SC_CLK_TCK")


@contextmanager
def _serving(directory: Path, count: int) -> Iterator[tuple[int, str]]:
    """The process's id and the address. One serves itself, two have a parent."""
    environ = {
        **os.environ,
        "EVBRIDGE_DATA_DIR": str(directory),
        "EVBRIDGE_LISTEN": "127.0.0.1:0",
        "EVBRIDGE_DELIVERY": "false",
        "EVBRIDGE_BURST_S": "10",  # what is measured is work, not refusals
        "EVBRIDGE_LOG_LEVEL": "WARNING",
    }
    command = [sys.executable, "-m", "service", "serve", "--workers", str(count)]
    with subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = next(line for line in process.stderr if line.startswith("evbridge serves on"))
        try:
            yield process.pid, line.split()[-1]
        finally:
            process.terminate()


def _calls(address: str, key: str) -> list[load.Call]:
    """Stores a page of samples; a call that reads one, and one that reads all."""
    credential = (("authorization", f"Bearer {key}"),)
    with grpc.insecure_channel(address) as channel:
        stub: Any = CompanyServiceStub(channel)
        for number in range(PAGE):
            sample = company()
            sample.id = f"00000000-0000-0000-0000-{number + 1:012}"
            stub.UpsertCompany(UpsertCompanyRequest(company=sample), metadata=credential, timeout=10)
        one = GetCompanyRequest(id="00000000-0000-0000-0000-000000000001")
        every = ListCompaniesRequest(page_size=PAGE)
        replies = {
            GET: (one, stub.GetCompany(one, metadata=credential, timeout=10)),
            LIST: (every, stub.ListCompanies(every, metadata=credential, timeout=10)),
        }
    return [
        load.Call(address, path, key, (request.SerializeToString(),), range(reply.ByteSize(), reply.ByteSize() + 1))
        for path, (request, reply) in replies.items()
    ]

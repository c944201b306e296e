"""What becomes of calls when more arrive than can be answered: goodput, and how long answers and refusals take.

Calls are sent at random moments, at a rate that does not depend on the answers. First the capacity is measured, with
calls that follow each other, then a quarter of it is offered: that is the server without load.
"""

import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import grpc
from evbridge.v1.company_pb2 import GetCompanyRequest, UpsertCompanyRequest
from evbridge.v1.company_pb2_grpc import CompanyServiceStub
from evbridge.v1.location_pb2 import ListLocationsRequest

from bench import load, servers
from bench.locations import Stub
from bench.rounds import Child, child
from bench.sample import company, location

SECONDS = 4.0
LOADS = (1, 2, 4)
UNLOADED = 0.25
STORED = 50
CALM_S = 2.0
"""After it the server remembers no overload."""


class Method(NamedTuple):
    path: str
    request: bytes


def report() -> None:
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="evb", dir="/tmp")))
        client = stack.enter_context(child(load.run))
        full = stack.enter_context(child(servers.run, servers.full, directory))
        address, key = full.pipe.recv()
        methods = _fill(address, key)
        print("\nOverload: calls that arrive whether or not the ones before were answered\n")
        for method in methods:
            call = load.Call(address, method.path, key, (method.request,), range(1, 1 << 20))
            _measure(client, call)


def _fill(address: str, key: str) -> list[Method]:
    """Stores what is read; the methods with their requests."""
    with grpc.insecure_channel(address) as channel:
        credential = (("authorization", f"Bearer {key}"),)
        CompanyServiceStub(channel).UpsertCompany(
            UpsertCompanyRequest(company=company()), metadata=credential, timeout=10
        )
        Stub(channel, key).store([location(number) for number in range(STORED)])
    return [
        Method("/evbridge.v1.CompanyService/GetCompany", GetCompanyRequest(id=company().id).SerializeToString()),
        Method("/evbridge.v1.LocationService/ListLocations", ListLocationsRequest().SerializeToString()),
    ]


def _measure(client: Child, call: load.Call) -> None:
    time.sleep(CALM_S)
    closed: load.Done = client.ask((call._replace(in_flight=1), SECONDS))
    capacity = closed.calls / closed.seconds
    print(f"{call.path.rpartition('/')[2]}: {capacity:.0f} calls/s when {call.connections} follow each other")
    print(
        f"{'offered':>16}{'calls/s':>9}{'goodput':>9}{'of it':>7}{'p50 ms':>9}{'p99 ms':>9}{'of unloaded':>13}"
        f"{'refused':>9}{'p99 ms':>9}{'lost':>6}"
    )
    unloaded = 0.0
    for part in (UNLOADED, *LOADS):
        seen: load.Offered = client.ask((call, capacity * part, SECONDS))
        unloaded = unloaded or seen.p99_ms
        print(
            f"{f'{part:g} x capacity':>16}{seen.calls / seen.seconds:9.0f}{seen.answered / seen.seconds:9.0f}"
            f"{seen.answered / seen.seconds / capacity:7.2f}{seen.p50_ms:9.1f}{seen.p99_ms:9.1f}"
            f"{seen.p99_ms / unloaded:12.1f}x{seen.refused:9}{seen.refused_p99_ms:9.1f}{seen.lost:6}",
            flush=True,
        )


if __name__ == "__main__":
    report()

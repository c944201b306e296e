"""GetCompany through the whole of evbridge, against an echo of the same bytes on a bare grpc.aio server."""

import os
import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import grpc
from evbridge.v1.company_pb2 import GetCompanyRequest, UpsertCompanyRequest
from evbridge.v1.company_pb2_grpc import CompanyServiceStub

from bench import load, servers
from bench.rounds import BURST_S, child, play, ratio, show
from bench.sample import company

ROUNDS = 11
SECONDS = 1.3
WARM_UP_S = 1.0
AIM = 0.85
"""Calls for one of an echo that reads a row."""
PATH = "/evbridge.v1.CompanyService/GetCompany"


def report() -> None:
    with ExitStack() as stack:
        # A unix socket's path is short.
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="evb", dir="/tmp")))
        client = stack.enter_context(child(load.run))
        full = stack.enter_context(child(servers.run, partial(servers.full, burst_s=BURST_S), directory))
        address, key = full.pipe.recv()
        request, reply = _stored(address, key)
        children = {
            "echo": stack.enter_context(child(servers.run, servers.echo, {PATH: reply})),
            "read": stack.enter_context(child(servers.run, servers.read, PATH, directory)),
        }
        one_length = range(len(reply), len(reply) + 1)
        calls = {
            name: load.Call(server.pipe.recv()[0], PATH, key, (request,), one_length)
            for name, server in children.items()
        }
        children["full"], calls["full"] = full, calls["echo"]._replace(address=address)

        for name, server in children.items():
            play(server, client, calls[name], WARM_UP_S)
        before = full.ask(PATH)
        turns = [
            {name: play(server, client, calls[name], SECONDS) for name, server in children.items()}
            for _ in range(ROUNDS)
        ]
        recorded = full.ask(PATH) - before
    if recorded != (made := sum(turn["full"].calls for turn in turns)):
        raise RuntimeError(f"of {made} calls the metrics hold {recorded}")
    call = calls["full"]
    print(
        f"GetCompany, {len(request)} bytes asked and {len(reply)} answered, {call.connections} connections with "
        f"{call.in_flight} calls in flight on each:\nmedian of {ROUNDS} interleaved rounds of {SECONDS} s on "
        f"{os.cpu_count()} processors; ratios are taken within a round\n"
    )
    show(turns, ("echo", "read"))
    reached = ratio(turns, "full", "read")
    print(f"{reached:.2f} of read, the aim is {AIM:.2f}{'' if reached >= AIM else ': FALLS SHORT'}")


def _stored(address: str, key: str) -> tuple[bytes, bytes]:
    """Stores the sample; returns the bytes of a GetCompany request and of its answer."""
    credential = (("authorization", f"Bearer {key}"),)
    request = GetCompanyRequest(id=company().id)
    with grpc.insecure_channel(address) as channel:
        stub = CompanyServiceStub(channel)
        stub.UpsertCompany(UpsertCompanyRequest(company=company()), metadata=credential, timeout=10)
        reply = stub.GetCompany(request, metadata=credential, timeout=10)
    return request.SerializeToString(), reply.SerializeToString()

"""`python -m bench.answers`: what a partner answers in order to stop the process, and what it costs.

Four integrations with one partner, on this machine, ask it for a list at once; see bench/attacks.py for what stands in
the table. The first line is what an ordinary page of 100 locations costs.
"""

import asyncio
import gzip
import json
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
from aiohttp import web
from evbridge.partner.ampeco.v3.location_pb2 import ListLocationsRequest
from evbridge.partner.ampeco.v3.location_pb2_grpc import LocationServiceStub
from evbridge.v1.ampeco_connection_pb2 import AmpecoConnection
from evbridge.v1.integration_pb2 import INTEGRATION_TYPE_AMPECO, CreateIntegrationRequest
from evbridge.v1.integration_pb2_grpc import IntegrationServiceStub

from bench import servers
from bench.attacks import ATTACK_S, HEADING, Attack, Server, measure, serving
from service.bridge.json_text import MAX_VALUES

CALLS = 4
LOCATION: dict[str, Any] = {
    "name": [{"locale": "en", "translation": "Yard"}],
    "geoposition": {"latitude": 52.5, "longitude": 13.4},
    "externalAppData": {"a": "b"},
    "status": "enabled",
    "city": "Berlin",
}


def _page(count: int, **changes: Any) -> bytes:
    return json.dumps({"data": [{"id": id, **LOCATION, **changes} for id in range(count)]}).encode()


def _list(item: bytes, count: int) -> bytes:
    return b'{"data":[' + b",".join([item] * count) + b"]}"


def _more(value: bytes) -> bytes:
    """An empty page with a member that nobody knows."""
    return b'{"data":[],"x":' + value + b"}"


def _members(count: int) -> bytes:
    return b"{" + b",".join(b'"%d":1' % key for key in range(count)) + b"}"


_MOST = MAX_VALUES // 20
ANSWERS: dict[str, bytes] = {
    "a page of 100": _page(100),
    "the same, as PHP writes it": _page(100, geoposition=[], city=""),
    f"a page of {_MOST:,}": _page(_MOST),
    "the same, as PHP writes it ": _page(_MOST, geoposition=[], city=""),
    "140,000 bad objects": _list(b'{"id":{}}', 140_000),
    "80,000 bad objects": _list(b'{"id":{}}', 80_000),
    "500,000 members": _more(_members(500_000)),
    "249,000 members": _more(_members(249_000)),
    "2.6 million [] in gzip": gzip.compress(_more(b"[" + b",".join([b"[]"] * 2_600_000) + b"]")),
    "8 MB of digits": _more(b"[" + b",".join([b"9" * 4_299] * 1_900) + b"]"),
    "120,000 arrays in each other": _more(b"[" * 120_000 + b"]" * 120_000),
    "1 GB of zeros in gzip": gzip.compress(bytes(1 << 30), 9),
}


@asynccontextmanager
async def a_partner(answer: dict[str, bytes]) -> AsyncIterator[str]:
    async def list_(_: web.Request) -> web.Response:
        body = answer["body"]
        headers = {"Content-Encoding": "gzip"} if body.startswith(b"\x1f\x8b") else {}
        return web.Response(body=body, headers=headers, content_type="application/json")

    application = web.Application()
    application.router.add_get("/{path:.*}", list_)
    async with servers.http(application) as address:
        yield f"http://{address}"


def lists(answer: dict[str, bytes], body: bytes) -> Attack:
    async def attack(server: Server) -> Counter[str]:
        answer["body"], seen = body, Counter[str]()

        async def call(stub: Any, integration_id: str) -> None:
            request = ListLocationsRequest(integration_id=integration_id)
            try:
                await stub.ListLocations(request, metadata=server.credential, timeout=ATTACK_S)
                seen["OK"] += 1
            except grpc.aio.AioRpcError as error:
                seen[error.code().name] += 1

        unbounded = [("grpc.max_receive_message_length", -1)]
        async with grpc.aio.insecure_channel(server.address, unbounded) as channel:
            stub: Any = LocationServiceStub(channel)
            await asyncio.gather(*(call(stub, f"am-{number}") for number in range(CALLS)))
        return seen

    return attack


async def main(chosen: list[str]) -> None:
    answer: dict[str, bytes] = {}
    with tempfile.TemporaryDirectory(prefix="evb", dir="/tmp") as directory:
        allowed = {"EGRESS_ALLOW_LOOPBACK": "true", "EGRESS_ALLOW_HTTP": "true"}
        async with a_partner(answer) as url, serving(Path(directory), **allowed) as (server, _):
            async with grpc.aio.insecure_channel(server.address) as channel:
                integrations: Any = IntegrationServiceStub(channel)
                for number in range(CALLS):
                    connection = AmpecoConnection(base_url=url, api_token="a-token-of-the-partner")
                    request = CreateIntegrationRequest(
                        integration={"id": f"am-{number}", "type": INTEGRATION_TYPE_AMPECO, "enabled": True}
                    )
                    request.integration.ampeco.CopyFrom(connection)
                    await integrations.CreateIntegration(request, metadata=server.credential)
            print(HEADING)
            for name, body in ANSWERS.items():
                if not chosen or any(part in name for part in chosen):
                    await measure(server, name, lists(answer, body))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))

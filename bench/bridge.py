"""What the bridge adds to an HTTP call of the same client: reads of an AMPECO on loopback, through a PartnerChannel.

The bare call has the same settings of its session, and reads the body with the standard library's JSON. Both run in
this process, one call after another and in turns; the partner is a process of its own.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from multiprocessing.connection import Connection
from statistics import median
from typing import NamedTuple

import aiohttp
from evbridge.partner.ampeco.v3.location_pb2 import GetLocationRequest, ListLocationsRequest

from bench.rounds import child
from bench.sample import location
from service.bridge.channel import PartnerChannel
from service.bridge.egress import Egress, EgressPolicy
from service.bridge.ports import Permit, Target
from service.bridge.registry import Registry, contract_files
from service.cli.common import loop_factory
from service.domain.secret import Secret
from service.partners.ampeco import mapping as ampeco
from service.partners.ampeco.mapping_location import location_to

ROUNDS = 9
CALLS = {"GetLocation": 200, "ListLocations": 40}
PAGE = 100
AIM = 2.5
"""How many times as long a page may take through the bridge."""
PATH = "/public-api/resources/locations/v2.0"
SERVICE = "/evbridge.partner.ampeco.v3.LocationService"

Call = Callable[[], Awaitable[object]]


class Cost(NamedTuple):
    """Of one call, in microseconds."""

    wall: float
    cpu: float


class House:
    """One integration, and a gate that is always open."""

    def __init__(self, base_url: str) -> None:
        self._target = Target("acme", "am", "ampeco", base_url, Secret("key"), max_concurrent_requests=4)

    async def target(self, tenant_id: str, integration_id: str) -> Target:
        return self._target

    @asynccontextmanager
    async def permit(self, target: Target, *, safe: bool, timeout_s: float) -> AsyncIterator[Permit]:
        yield Permit()


def report() -> None:
    registry = Registry.of(contract_files("evbridge.partner.ampeco.v3"))
    held = location_to(location(1)).message
    bodies = {
        rpc: registry.operations[f"{SERVICE}/{rpc}"].reply.encode(message).encode()
        for rpc, message in (
            ("GetLocation", registry.operations[f"{SERVICE}/GetLocation"].response_type(data=held)),
            ("ListLocations", registry.operations[f"{SERVICE}/ListLocations"].response_type(data=[held] * PAGE)),
        )
    }
    with child(partner, bodies["GetLocation"], bodies["ListLocations"]) as server:
        base_url = f"http://127.0.0.1:{server.pipe.recv()}"
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            rounds = runner.run(_measure(registry, base_url))
    print(
        f"\nAMPECO's locations through the bridge: median of {ROUNDS} interleaved rounds, us a call; "
        "processor time is this process's\n"
    )
    print(f"{'':14}{'bytes':>7}{'':>6}{'bare GET':>10}{'bridge':>8}{'ratio':>7}")
    for rpc, costs in rounds.items():
        for column, name in enumerate(Cost._fields):
            bare, bridge = (median(cost[way][column] for cost in costs) for way in (0, 1))
            ratio = median(through[column] / plain[column] for plain, through in costs)
            print(f"{rpc:14}{len(bodies[rpc]):7}{name:>6}{bare:10.0f}{bridge:8.0f}{ratio:6.2f}x")
    page = median(through.wall / plain.wall for plain, through in rounds["ListLocations"])
    print(f"a page takes {page:.2f} times as long, the aim is {AIM:.2f}{'' if page <= AIM else ': FALLS SHORT'}")


async def _measure(registry: Registry, base_url: str) -> dict[str, list[tuple[Cost, Cost]]]:
    """(bare, bridge) of each round, by rpc."""
    requests = {
        "GetLocation": (GetLocationRequest(integration_id="am", location_id=1), "/1"),
        "ListLocations": (ListLocationsRequest(integration_id="am", per_page=PAGE), f"?per_page={PAGE}"),
    }
    house = House(base_url)
    async with aclosing(Egress(EgressPolicy(allow_loopback=True, allow_plain_http=True))) as egress, _bare() as session:
        channel = PartnerChannel(registry, house, house, egress, {"ampeco": ampeco})
        ways: dict[str, tuple[Call, Call]] = {}
        for rpc, (request, rest) in requests.items():
            operation, url = registry.operations[f"{SERVICE}/{rpc}"], f"{base_url}{PATH}{rest}"

            async def bare(url: str = url) -> object:
                async with session.get(url, headers={"Authorization": "Bearer key"}) as response:
                    return json.loads(await response.read())

            async def bridge(operation: object = operation, request: object = request) -> object:
                return await channel.call(operation, request, tenant_id="acme")  # type: ignore[arg-type]

            ways[rpc] = bare, bridge
        return {
            rpc: [(await _cost(bare, CALLS[rpc]), await _cost(bridge, CALLS[rpc])) for _ in range(ROUNDS + 1)][1:]
            for rpc, (bare, bridge) in ways.items()
        }


def _bare() -> aiohttp.ClientSession:
    """As the channel's egress has it, without what guards that."""
    connector = aiohttp.TCPConnector(use_dns_cache=False, limit=0)
    return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False)


async def _cost(call: Call, calls: int) -> Cost:
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(calls):
        await call()
    return Cost((time.perf_counter() - wall) / calls * 1e6, (time.process_time() - cpu) / calls * 1e6)


def partner(pipe: Connection, one: bytes, page: bytes) -> None:
    """A process's main: answers GET with `one` object or, with a query, a `page`; tells its port first."""

    class Answering(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport: asyncio.WriteTransport = transport  # type: ignore[assignment]

        def data_received(self, data: bytes) -> None:
            body = page if b"?" in data.partition(b"\r\n")[0] else one
            head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            self.transport.write(head.encode() + body)

    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(Answering, "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname()[1])
        try:
            await asyncio.to_thread(pipe.recv)
        except EOFError:
            server.close()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(serve())

"""An AMPECO, imported at two sizes: what a process needs for it, in memory.

evbridge is a process of its own, with PostgreSQL; this one plays the partner, whose objects are made as they are shown.
"""

import asyncio
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
from aiohttp import web
from evbridge.v1.ampeco_connection_pb2 import AmpecoConnection
from evbridge.v1.integration_pb2 import INTEGRATION_TYPE_AMPECO, Integration, RequestLimits
from evbridge.v1.party_pb2 import PartyKey
from evbridge.v1.run_pb2_grpc import RunServiceStub

from bench import pull, servers
from bench.rounds import child
from service.cli.common import loop_factory

SIZES = (2_000, 20_000)
_PER_LOCATION = 10
_PAGE = 100
_API = "/public-api/resources"


def report() -> None:
    print(f"\nAMPECO: EVSEs imported, {_PER_LOCATION} a location, each at a charge point of its own\n")
    print(f"{'':28}{'a second':>10}{'CPU us':>9}{'MB more':>9}")
    for count in SIZES:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(_report(count))


async def _report(count: int) -> None:
    application = web.Application()
    lists = {
        "locations/v2.0": (count // _PER_LOCATION, _location),
        "charge-points/v2.0": (count, _charge_point),
        "evses/v2.1": (count, _evse),
        "tariffs/v1.0": (0, _location),
        "tariff-groups/v1.0": (0, _location),
    }
    for path, of in lists.items():
        application.router.add_get(f"{_API}/{path}", lambda request, of=of: _page(request, *of))
    async with servers.http(application) as partner:
        with (
            tempfile.TemporaryDirectory(prefix="evb", dir="/tmp") as directory,
            child(pull.serve, Path(directory), _integration(f"http://{partner}"), "ampeco.api_token") as server,
        ):
            address, key = await asyncio.to_thread(server.pipe.recv)
            async with grpc.aio.insecure_channel(address) as channel:
                await pull.measure(RunServiceStub(channel), key, server, f"{count}", count)


async def _page(request: web.Request, count: int, object: Callable[[int], Any]) -> web.Response:
    first = int(request.query.get("cursor") or 0)
    end = min(count, first + _PAGE)
    link = str(request.url.update_query(cursor=str(end))) if end < count else None
    data = [object(number) for number in range(first, end)]
    answer = {"data": data, "links": {"next": link}, "meta": {}}
    return web.Response(text=json.dumps(answer), content_type="application/json")


def _location(number: int) -> Any:
    text = [{"locale": "en", "translation": "Town hall"}]
    place = {"latitude": 52.5, "longitude": 13.4}
    texts = {"name": text, "streetAddress": text, "city": "Berlin", "country": "DE"}
    return {"id": number + 1, "geoposition": place, "status": "enabled", **texts}


def _charge_point(number: int) -> Any:
    return {"id": number + 1, "locationId": number // _PER_LOCATION + 1, "type": "public", "status": "enabled"}


def _evse(number: int) -> Any:
    return {
        "id": number + 1,
        "chargePointId": number + 1,
        "networkId": "1",
        "currentType": "ac",
        "status": "enabled",
        "hardwareStatus": "available",
        "powerOptions": {"maxVoltage": "230", "maxAmperage": 32, "phases": "three_phase"},
        "connectors": [{"id": number + 1, "type": "type2", "format": "socket", "status": "enabled"}],
    }


def _integration(url: str) -> Integration:
    connection = AmpecoConnection(base_url=url, currency="EUR", time_zone="Europe/Berlin")
    return Integration(
        id=pull.ID,
        type=INTEGRATION_TYPE_AMPECO,
        enabled=True,
        parties=[PartyKey(country_code="DE", party_id="WAT")],
        ampeco=connection,
        limits=RequestLimits(requests_per_minute=100_000, requests_per_day=1_000_000),
    )


if __name__ == "__main__":
    report()

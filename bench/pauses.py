"""`python -m bench.pauses`: for how long the largest things that OCPI parties may send hold up everything else.

A task of the server's event loop sleeps for a millisecond again and again; what it is late by is the pause. Each
request is sent a few times, one after another, from another process.
"""

import asyncio
import json
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp

from bench.ocpi import VERSION, serve
from bench.rounds import child
from bench.sample import location
from service.cli.common import loop_factory
from service.partners.ocpi.mapping import object_to

TIMES = 3
MIB = 1 << 20
_TIME = "2026-11-19T00:00:00Z"

Send = Callable[[aiohttp.ClientSession, int], Awaitable[int]]


def report() -> None:
    with (
        tempfile.TemporaryDirectory(prefix="evb", dir="/tmp") as directory,
        child(serve, Path(directory)) as server,
        asyncio.Runner(loop_factory=loop_factory) as runner,
    ):
        url, token = server.pipe.recv()
        print(f"\n{'the longest pause of the event loop':<44}{'ms':>8}{'answer ms':>11}  answers")

        async def measure(name: str, send: Send) -> None:
            async with aiohttp.ClientSession(headers={"Authorization": f"Token {token}"}) as http:
                codes, took_ms = [], 0.0
                server.ask("pause")
                for number in range(TIMES):
                    begun = asyncio.get_running_loop().time()
                    codes.append(await send(http, number))
                    took_ms = max(took_ms, (asyncio.get_running_loop().time() - begun) * 1000)
            pause_ms = server.ask("pause") * 1000
            print(f"{name:<44}{pause_ms:8.1f}{took_ms:11.1f}  {codes}", flush=True)

        for name, send in requests(url).items():
            runner.run(measure(name, send))


def requests(url: str) -> dict[str, Send]:
    pushed = f"{url}/ocpi/emsp/{VERSION}/locations/NL/TNM"
    sent: dict[str, Any] = {**object_to(location(1), VERSION).object, "country_code": "NL", "party_id": "TNM"}
    evse = sent["evses"][0]
    many = [evse | {"uid": f"E{number}", "evse_id": f"NL*TNM*E{number}"} for number in range(1000)]
    role = {"role": "CPO", "country_code": "NL", "party_id": "TNM", "business_details": {"name": "The New"}}
    credentials = {"token": "token-b", "url": "http://127.0.0.1:9/versions"}
    tariff = {"country_code": "NL", "party_id": "TNM", "currency": "EUR", "last_updated": _TIME}
    elements = [{"price_components": [{"type": "ENERGY", "price": 0.25, "step_size": 1}]}] * 12_000

    def send(method: str, path: str, body: Callable[[int], Any] | None = None) -> Send:
        async def once(http: aiohttp.ClientSession, number: int) -> int:
            data = json.dumps(body(number)).encode()[:MIB] if body else None
            async with http.request(method, path, data=data) as answer:
                return int((await answer.json())["status_code"])

        return once

    def of_the_time(number: int) -> str:
        return f"2026-11-20T00:00:{number:02}Z"

    return {
        "PUT of 4 EVSEs": send("PUT", f"{pushed}/S", lambda n: sent | {"id": "S", "last_updated": of_the_time(n)}),
        "PATCH of a status among 4": send(
            "PATCH",
            f"{pushed}/S/{evse['uid']}",
            lambda n: {"status": ("BLOCKED", "CHARGING")[n % 2], "last_updated": of_the_time(n)},
        ),
        "PUT of 1,000 EVSEs": send("PUT", f"{pushed}/L", lambda n: sent | {"id": "L", "name": f"L {n}", "evses": many}),
        "PUT of the same": send("PUT", f"{pushed}/L", lambda n: sent | {"id": "L", "evses": many}),
        "GET of it": send("GET", f"{pushed}/L"),
        "PATCH of its name": send("PATCH", f"{pushed}/L", lambda n: {"name": f"M {n}", "last_updated": of_the_time(n)}),
        "PATCH of its EVSEs": send(
            "PATCH", f"{pushed}/L", lambda n: {"last_updated": of_the_time(n), "evses": [many[n], many[-n]]}
        ),
        "PATCH of a status among 1,000": send(
            "PATCH",
            f"{pushed}/L/E1",
            lambda n: {"status": ("BLOCKED", "CHARGING")[n % 2], "last_updated": of_the_time(n)},
        ),
        "PUT of an EVSE beside 1,000": send(
            "PUT", f"{pushed}/L/E1", lambda n: many[1] | {"last_updated": of_the_time(n)}
        ),
        "PATCH of a connector": send(
            "PATCH",
            f"{pushed}/L/E1/{evse['connectors'][0]['id']}",
            lambda n: {"max_voltage": 400 + n, "last_updated": of_the_time(n)},
        ),
        "PUT of a megabyte in one text": send("PUT", f"{pushed}/T", lambda n: sent | {"id": "T", "x": "é" * 170_000}),
        "PUT of a megabyte of unknown objects": send(
            "PUT", f"{pushed}/U", lambda n: sent | {"id": "U", "x": [{"a": [n, 1.5]}] * 50_000}
        ),
        "PUT of an EVSE of unknown objects": send(
            "PUT", f"{pushed}/S/{evse['uid']}", lambda n: evse | {"x": [{"a": [n, 1.5]}] * 50_000}
        ),
        "PATCH of its status": send(
            "PATCH",
            f"{pushed}/S/{evse['uid']}",
            lambda n: {"status": ("BLOCKED", "CHARGING")[n % 2], "last_updated": f"2026-11-21T00:00:{n:02}Z"},
        ),
        "PUT of an EVSE of 30,000 connectors": send(
            "PUT",
            f"{pushed}/S/{evse['uid']}",
            lambda n: evse | {"last_updated": f"2026-11-22T00:00:{n:02}Z", "connectors": [{"id": "1"}] * 30_000},
        ),
        "GET of that EVSE": send("GET", f"{pushed}/S/{evse['uid']}"),
        "PUT of a tariff of 12,000 elements": send(
            "PUT",
            f"{url}/ocpi/emsp/{VERSION}/tariffs/NL/TNM/T",
            lambda n: tariff | {"id": "T", "elements": elements},
        ),
        "PUT credentials with 1,000 roles": send(
            "PUT", f"{url}/ocpi/{VERSION}/credentials", lambda n: credentials | {"roles": [role] * 1000}
        ),
        "PUT credentials with a megabyte of roles": send(
            "PUT", f"{url}/ocpi/{VERSION}/credentials", lambda n: credentials | {"roles": [{}] * 300_000}
        ),
        "GET a page of 100": send("GET", f"{url}/ocpi/cpo/{VERSION}/locations?limit=100"),
        "GET a page of large ones": send("GET", f"{url}/ocpi/cpo/{VERSION}/locations?limit=100&offset=1000"),
        "GET an EVSE of a large one": send("GET", f"{url}/ocpi/cpo/{VERSION}/locations/LARGE-0/E1"),
    }


if __name__ == "__main__":
    report()

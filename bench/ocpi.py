"""The door of OCPI parties: pages of 100 locations that a partner pulls, locations and statuses that one pushes.

The server is a process of its own, with PostgreSQL; requests follow each other on a few connections. Processor time is
the server's, without PostgreSQL's.
"""

import asyncio
import base64
import gc
import json
import multiprocessing
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import aiohttp
from evbridge.options.v1 import options_pb2 as options
from evbridge.v1.delivery_pb2 import OBJECT_KIND_LOCATION
from evbridge.v1.integration_pb2 import Integration
from evbridge.v1.location_pb2 import Location
from evbridge.v1.ocpi_connection_pb2 import INTERFACE_ROLE_BOTH, OcpiConnection, PartnerCompany
from evbridge.v1.party_pb2 import PARTY_ROLE_CPO, PARTY_ROLE_EMSP, Party, PartyKey
from evbridge.v1.types_pb2 import BusinessDetails

from bench.rounds import Child, child
from bench.sample import location
from service.app import evbridge
from service.cli.common import loop_factory
from service.domain.keys import key_of
from service.partners.ocpi.mapping import object_to, text_of
from service.resources.registration import token_give
from service.settings import Settings
from service.storage.api_key import api_key_create
from service.storage.integration import integration_insert
from service.storage.partner_token import new_token
from service.storage.party import party_insert
from service.storage.view import view_put

SECONDS = 4.0
PAGE = 100
STORED = 1000
LARGE = 3
"""Further locations, of 1,000 EVSEs, behind the others."""
CONNECTIONS = 4
VERSION = "2.2.1"
_ID, _TENANT = "roaming", "acme"
_BEGIN = datetime(2026, 1, 1, tzinfo=UTC)

Send = Callable[[aiohttp.ClientSession, int], Awaitable[int]]


def report() -> None:
    with (
        tempfile.TemporaryDirectory(prefix="evb", dir="/tmp") as directory,
        child(serve, Path(directory)) as server,
        asyncio.Runner(loop_factory=loop_factory) as runner,
    ):
        url, token = server.pipe.recv()
        print(f"\nOCPI {VERSION}: {CONNECTIONS} connections, {STORED} locations in the partner's view\n")
        print(f"{'':28}{'a second':>10}{'CPU us':>9}")
        for name, send in requests(url).items():
            rate, cpu_us = runner.run(measure(server, token, send))
            print(f"{name:28}{rate:10.0f}{cpu_us:9.0f}", flush=True)
        with peer(Path(directory)) as other:
            if other:
                rate, cpu_us = runner.run(measure(*other))
                print(f"{'the same, extrawest_ocpi':28}{rate:10.1f}{cpu_us:9.0f}", flush=True)


@contextmanager
def peer(directory: Path) -> Iterator[tuple[Child, str, Send] | None]:
    """A page of the same locations, which extrawest_ocpi has in memory; None where `make soak` has not installed it."""
    installed = next(iter(Path(sys.prefix, "peers").glob("extrawest_ocpi-*/complete")), None)
    if installed is None:
        yield None
        return
    objects = directory / "locations.json"
    page = [object_to(_updated(location(number)), VERSION).object for number in range(PAGE)]
    objects.write_text(f"[{','.join(map(text_of, page))}]")
    script = Path(__file__).parents[1] / "tests" / "ocpi" / "extrawest.py"
    token = new_token().reveal()
    process = subprocess.Popen(
        [installed.parent / "bin" / "python", script, token, objects], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        assert process.stdout
        url = process.stdout.readline().decode().strip().replace("versions", f"cpo/{VERSION}/locations?limit={PAGE}")

        async def pull(http: aiohttp.ClientSession, number: int) -> int:
            async with http.get(url) as answer:
                assert len((await answer.json())["data"]) == PAGE
                return answer.status

        ours, _ = multiprocessing.Pipe()
        yield Child(process.pid, ours), base64.b64encode(token.encode()).decode(), pull
    finally:
        process.terminate()
        process.wait()


def _updated(stored: Location) -> Location:
    """As the partner is shown it."""
    for part in (stored, *stored.evses, *(each for evse in stored.evses for each in evse.connectors)):
        part.last_updated.FromDatetime(_BEGIN)
    return stored


def requests(url: str) -> dict[str, Send]:
    pages = f"{url}/ocpi/cpo/{VERSION}/locations?limit={PAGE}&offset="
    pushed = f"{url}/ocpi/emsp/{VERSION}/locations/NL/TNM"
    sent = object_to(location(1), VERSION).object
    evse = sent["evses"][0]["uid"]

    async def pull(http: aiohttp.ClientSession, number: int) -> int:
        async with http.get(f"{pages}{number % (STORED // PAGE) * PAGE}") as answer:
            await answer.read()
            return answer.status

    async def put(http: aiohttp.ClientSession, number: int) -> int:
        own = {"country_code": "NL", "party_id": "TNM", "id": f"R{number}"}
        async with http.put(f"{pushed}/R{number}", data=text_of(sent | own).encode()) as answer:
            return answer.status

    async def patch(http: aiohttp.ClientSession, number: int) -> int:
        status = ("CHARGING", "AVAILABLE")[number % 2]
        body = {
            "status": status,
            "last_updated": f"2026-01-01T{number // 3600 % 24:02}:{number // 60 % 60:02}:{number % 60:02}Z",
        }
        async with http.patch(f"{pushed}/R{number % 8}/{evse}", data=json.dumps(body).encode()) as answer:
            return answer.status

    return {f"GET a page of {PAGE}": pull, "PUT a location": put, "PATCH a status": patch}


async def measure(server: Child, token: str, send: Send) -> tuple[float, float]:
    """How many a second, and the processor time of each in microseconds, once the first were answered."""
    numbers = count()
    connector = aiohttp.TCPConnector(limit=CONNECTIONS)
    async with aiohttp.ClientSession(connector=connector, headers={"Authorization": f"Token {token}"}) as http:
        await _for(http, send, numbers, 1.0)
        before = server.cpu_s()
        sent, seconds = await _for(http, send, numbers, SECONDS)
        return sent / seconds, (server.cpu_s() - before) / sent * 1e6


async def _for(http: aiohttp.ClientSession, send: Send, numbers: Iterator[int], seconds: float) -> tuple[int, float]:
    begun, sent = time.perf_counter(), 0

    async def follow() -> None:
        nonlocal sent
        while time.perf_counter() < begun + seconds:
            status = await send(http, next(numbers))
            assert status in (200, 201), status
            sent += 1

    await asyncio.gather(*(follow() for _ in range(CONNECTIONS)))
    return sent, time.perf_counter() - begun


def serve(pipe: Connection, directory: Path) -> None:
    """A process's main: tells the URL and a token of its partner, who sees the locations and may push its own."""

    async def run() -> None:
        settings = Settings(listen="127.0.0.1:0", ocpi_listen="127.0.0.1:0", data_dir=directory, first_key=False)
        async with evbridge(settings) as running:
            token = new_token()
            async with running.database.transaction() as conn:
                await api_key_create(conn, running.keyring, _TENANT, "", options.ROLE_ADMIN)
                await _fill(conn)
                await token_give(conn, running.keyring, _TENANT, _ID, token)
            pipe.send((running.ocpi_url, token.reveal()))
            gc.freeze()  # as `evbridge serve` does
            watch = Watch()
            watching = asyncio.create_task(watch.run())
            with suppress(EOFError):
                while await asyncio.to_thread(pipe.recv):
                    pipe.send(watch.longest())
            watching.cancel()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(run())


class Watch:
    """For how long the event loop did not come back to us, in seconds."""

    def __init__(self) -> None:
        self._longest = 0.0

    async def run(self) -> None:
        while True:
            begun = time.perf_counter()
            await asyncio.sleep(0.001)
            self._longest = max(self._longest, time.perf_counter() - begun - 0.001)

    def longest(self) -> float:
        """Since it was asked the last time."""
        longest, self._longest = self._longest, 0.0
        return longest


async def _fill(conn: Any) -> None:
    details = BusinessDetails(name="Wattwerk")
    roles = [PARTY_ROLE_CPO, PARTY_ROLE_EMSP]
    party = Party(country_code="DE", party_id="ABC", roles=roles, business_details=details)
    await party_insert(conn, _TENANT, party)
    integration = Integration(
        id=_ID,
        type="INTEGRATION_TYPE_OCPI",
        enabled=True,
        parties=[PartyKey(country_code="DE", party_id="ABC")],
        ocpi=OcpiConnection(initial_role=INTERFACE_ROLE_BOTH),
        partner_company_details=[PartnerCompany(role=PARTY_ROLE_CPO, country_code="NL", party_id="TNM")],
    )
    await integration_insert(conn, _TENANT, integration)
    for number in range(STORED):
        stored = _updated(location(number))
        document = stored.SerializeToString(deterministic=True)
        await view_put(conn, _TENANT, _ID, OBJECT_KIND_LOCATION, key_of(stored), document, shown=True)
    for number in range(LARGE):
        stored = location(STORED + number)
        stored.country_code, stored.party_id, stored.id = "DE", "ABC", f"LARGE-{number}"
        evse = stored.evses[0]
        del stored.evses[1:]
        for n in range(1, 1000):
            stored.evses.add().CopyFrom(evse)
            stored.evses[-1].uid = f"E{n}"
        document = stored.SerializeToString(deterministic=True)
        await view_put(conn, _TENANT, _ID, OBJECT_KIND_LOCATION, key_of(stored), document, shown=True)

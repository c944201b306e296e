"""`evbridge simulate`: a partner as a process of its own."""

import asyncio
import os
import sys

import aiohttp
import pytest
from evbridge.v1.integration_pb2 import IntegrationType

from service.app import PARTNERS
from tests.front_door import command


async def test_a_partner_runs_on_a_port_with_its_key_and_its_faults() -> None:
    arguments = ("--port", "0", "--api-key", "secret-4711", "--fault", "2*ListLocations=status:429:30")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "service", "simulate", "ampeco", *arguments), stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    try:
        line = (await asyncio.wait_for(process.stderr.readline(), 60)).decode()
        assert line.startswith("ampeco is simulated on http://127.0.0.1:")
        headers = {"Authorization": "Bearer secret-4711"}
        async with aiohttp.ClientSession(line.split()[-1], headers=headers) as http:
            seen = []
            for _ in range(3):
                async with http.get("/public-api/resources/locations/v2.0") as answer:
                    seen.append((answer.status, answer.headers.get("Retry-After")))
        assert seen == [(429, "30"), (429, "30"), (200, None)]
    finally:
        process.terminate()
    assert b"secret-4711" not in await process.stderr.read()
    assert await process.wait() == 0


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("explode", "the fault 'explode' is not [TIMES*][METHOD=|Rpc=] and one of lose_answer, cut, delay:SECONDS, "),
        ("status:teapot", "the fault 'status:teapot' is not of the form status:400..599[:RETRY_AFTER]"),
        ("GetCat=cut", "emabler has no rpc GetCat, which the fault 'GetCat=cut' names"),
    ],
)
async def test_a_fault_nobody_knows_ends_it_with_a_word(fault: str, said: str) -> None:
    ended = await command(dict(os.environ), "simulate", "emabler", "--fault", fault)
    assert ended.code == 1
    assert ended.err.startswith(f"evbridge: {said}")
    assert ended.err.count("\n") == 1


def test_every_type_of_integration_and_every_contract_can_be_simulated() -> None:
    types = {name.removeprefix("INTEGRATION_TYPE_").lower() for name, value in IntegrationType.items() if value}
    types -= {"http"}  # whose partners bring their own contract
    assert {partner.name for partner in PARTNERS} == types
    for partner in PARTNERS:
        own, general = f"service.partners.{partner.name}.simulator", "service.simulator.simulator"
        assert type(partner.simulator(api_key="key")).__module__ in (own, general)

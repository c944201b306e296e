"""The clients in other languages are generated, compile, and understand a server that runs."""

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from evbridge.v1.company_pb2 import UpsertCompanyRequest
from evbridge.v1.party_pb2 import PARTY_ROLE_CPO, PARTY_ROLE_EMSP, CreatePartyRequest, ListPartiesRequest, Party
from google.protobuf.json_format import ParseDict

from service.app import Evbridge
from tests.clients.relay import Relay
from tests.conftest import Tenant
from tests.front_door import Client, a_company, a_party
from tools import service_config
from tools.clients import CLIENTS, LANGUAGES, build, download


@pytest.fixture(scope="module", params=sorted(LANGUAGES))
def client(request: pytest.FixtureRequest) -> str:
    """The name of a language whose client was built. Skips where its tools or packages cannot be had."""
    name: str = request.param
    if name in ("cpp", "java") and os.environ.get("EVBRIDGE_SOAK") != "1":
        pytest.skip("it compiles for a minute or more: EVBRIDGE_SOAK=1 does it")
    language = LANGUAGES[name]
    if not shutil.which(language.tool):
        pytest.skip(f"{language.tool} is not installed")
    try:
        download(name)
    except subprocess.CalledProcessError:
        if subprocess.run(language.reach, cwd=CLIENTS / name).returncode:
            pytest.skip(f"{language.tool} cannot get the client's packages here")
        raise
    build(name)
    return name


@asynccontextmanager
async def started(client: str, program: tuple[str, ...], address: str, key: str) -> AsyncIterator[Any]:
    """A program of the client, which is killed if it does not end."""
    process = await asyncio.create_subprocess_exec(
        *(*program, address),
        cwd=CLIENTS / client,
        env=os.environ | {"EVBRIDGE_KEY": key},
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def check(client: str, address: str, key: str) -> Any:
    """What the client's check program printed."""
    async with started(client, LANGUAGES[client].check, address, key) as process:
        out, _ = await process.communicate()
        assert process.returncode == 0
        return json.loads(out)


@pytest.mark.timeout(600)  # the first build downloads the packages, and Go compiles all of them
async def test_a_client_reads_what_is_stored_and_why_a_call_failed(
    client: str, running: Evbridge, tenant: Tenant
) -> None:
    parties = [
        a_party(),
        a_party(party_id="ABD", roles=[PARTY_ROLE_EMSP, PARTY_ROLE_CPO]),
        a_party(country_code="NO", business_details={"name": "Strøm Ålesund", "website": "https://example.com"}),
    ]
    stored = [await tenant.admin.parties.CreateParty(CreatePartyRequest(party=party)) for party in parties]
    async with Relay(running.address) as relay:
        relay.loses = 2  # of the answers: what may be asked again is
        report = await check(client, relay.address, tenant.keys["reader"])
        assert relay.loses == 0
    assert [ParseDict(party, Party()) for party in report["listed"]] == stored
    assert [ParseDict(party, Party()) for party in report["got"]] == stored
    report["failure"]["code"] = report["failure"]["code"].replace("_", "").lower()  # as the language spells it
    assert report["failure"] == {
        "code": "invalidargument",
        "reason": "INVALID_FIELD",
        "domain": "evbridge",
        "violations": ["country_code", "party_id"],
    }


async def test_the_service_config_is_what_makes_a_client_repeat(running: Evbridge, tenant: Tenant) -> None:
    """A client without it does not: so the programs above would have failed."""
    for options, code in (([], grpc.StatusCode.UNAVAILABLE), ([("grpc.service_config", service_config.text())], None)):
        async with Relay(running.address) as relay, grpc.aio.insecure_channel(relay.address, options) as channel:
            relay.loses = 1
            call = Client(channel, tenant.keys["reader"]).parties.ListParties(ListPartiesRequest())
            if code is None:
                await call
            else:
                with pytest.raises(grpc.aio.AioRpcError) as failed:
                    await call
                assert failed.value.code() is code


@pytest.mark.timeout(600)
async def test_a_watch_misses_nothing_while_it_is_cut_off(client: str, running: Evbridge, tenant: Tenant) -> None:
    first, second = (a_company(id=f"{number}" * 8 + "-0000-4000-8000-000000000000") for number in (1, 2))
    async with Relay(running.address) as relay:

        async def stored(company: Any) -> None:
            await tenant.writer.companies.UpsertCompany(UpsertCompanyRequest(company=company))

        await stored(first)
        async with started(client, LANGUAGES[client].watch, relay.address, tenant.keys["reader"]) as process:

            async def printed() -> str:
                return (await asyncio.wait_for(process.stdout.readline(), 60)).decode().strip()

            assert await printed() == f"{first.id} 1"
            first.version = 2
            await stored(first)
            assert await printed() == f"{first.id} 2"
            await relay.cut()
            first.version = 3
            await stored(first)
            await stored(second)
            relay.opens()
            assert [await printed(), await printed()] == [f"{first.id} 3", f"{second.id} 1"]
            assert relay.connections > 1

"""The clients in other languages are generated, compile, and understand a server that runs."""

import asyncio
import json
import os
import shutil
import subprocess
from typing import Any

import pytest
from evbridge.v1.party_pb2 import PARTY_ROLE_CPO, PARTY_ROLE_EMSP, CreatePartyRequest, Party
from google.protobuf.json_format import ParseDict

from service.app import Evbridge
from tests.conftest import Tenant
from tests.front_door import a_party
from tools.clients import CLIENTS, LANGUAGES, build, download


@pytest.fixture(scope="module", params=sorted(LANGUAGES))
def client(request: pytest.FixtureRequest) -> str:
    """The name of a language whose client was built. Skips where its tools or packages cannot be had."""
    name: str = request.param
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


async def check(client: str, address: str, key: str) -> Any:
    """What the client's check program printed."""
    process = await asyncio.create_subprocess_exec(
        *(*LANGUAGES[client].check, address),
        cwd=CLIENTS / client,
        env=os.environ | {"EVBRIDGE_KEY": key},
        stdout=asyncio.subprocess.PIPE,
    )
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
    report = await check(client, running.address, tenant.keys["reader"])
    assert [ParseDict(party, Party()) for party in report["listed"]] == stored
    assert [ParseDict(party, Party()) for party in report["got"]] == stored
    assert report["failure"] == {
        "code": "InvalidArgument",
        "reason": "INVALID_FIELD",
        "domain": "evbridge",
        "violations": ["country_code", "party_id"],
    }

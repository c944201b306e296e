"""A process is killed amid an import from AMPECO, and another one goes on."""

import asyncio
from collections import Counter

import grpc
import pytest
from evbridge.v1.integration_pb2 import CreateIntegrationRequest
from evbridge.v1.location_pb2 import GetLocationRequest, LocationKey
from evbridge.v1.party_pb2 import CreatePartyRequest
from evbridge.v1.run_pb2 import RUN_KIND_SYNC, RUN_STATE_SUCCEEDED, StartRunRequest, WaitRunRequest

from service.app import evbridge
from service.partners.ampeco.simulator import Simulator
from service.storage.api_key import api_key_create
from service.storage.keyring import Keyring
from service.storage.pool import Database
from service.storage.statements import Statement
from tests.ampeco import CHARGE_POINTS, EVSES, LOCATIONS, TARIFFS, alter, stock, the_integration
from tests.front_door import Client, a_party, environment, serving, settings

EVSES_HELD = 350
OVER = [Statement("over", f"UPDATE {table} SET lease_until = now()") for table in ("run", "gate_slot")]
FORGET = Statement("forget", "DELETE FROM read_page")
LEFT = Statement("left", "SELECT (SELECT count(*) FROM read_page) + (SELECT count(*) FROM read_object)")


@pytest.fixture
def ampeco(ampeco: Simulator) -> Simulator:
    stock(ampeco)
    for id in range(101, 101 + EVSES_HELD):
        alter(ampeco, f"{EVSES}/21", id=id)
    return ampeco


def asked(ampeco: Simulator, path: str) -> list[int]:
    """How often each page of a list was asked for, in the order of the pages."""
    return [*Counter(each.path for each in ampeco.requests if each.path.startswith(path)).values()]


@pytest.mark.parametrize("kept", [True, False], ids=["kept", "control: the pages are lost with the process"])
async def test_an_import_whose_process_is_killed_asks_for_no_page_again(
    database: Database,
    database_url: str,
    keyring: Keyring,
    ampeco: Simulator,
    monkeypatch: pytest.MonkeyPatch,
    kept: bool,
) -> None:
    for size in ("_AT_ONCE", "_PER_PAGE"):  # which are larger than all there is here
        monkeypatch.setattr(f"service.storage.read_object.{size}", 7)
    ampeco.inject("2*ListEvses=delay:0")
    ampeco.inject("ListEvses=delay:60")
    async with database.transaction() as conn:
        key = (await api_key_create(conn, keyring, "acme", "", 3)).reveal()
    async with serving(environment(database_url)) as server, grpc.aio.insecure_channel(server.address) as channel:
        client = Client(channel, key)
        await client.parties.CreateParty(CreatePartyRequest(party=a_party()))
        integration = the_integration(ampeco, parties=[{"country_code": "DE", "party_id": "ABC"}])
        await client.integrations.CreateIntegration(CreateIntegrationRequest(integration=integration))
        run = await client.runs.StartRun(StartRunRequest(integration_id="am", kind=RUN_KIND_SYNC))
        while len(asked(ampeco, EVSES)) < 3:
            await asyncio.sleep(0.01)
        server.process.kill()
        await server.process.wait()
    for statement in OVER if kept else (*OVER, FORGET):
        await database.run(statement)
    async with evbridge(settings(database_url)) as running, grpc.aio.insecure_channel(running.address) as channel:
        client = Client(channel, key)
        ended = await client.runs.WaitRun(WaitRunRequest(id=run.id))
        at = LocationKey(country_code="DE", party_id="ABC", id="am-1")
        location = await client.locations.GetLocation(GetLocationRequest(key=at))
    assert ended.state == RUN_STATE_SUCCEEDED, ended
    assert len(location.evses) == 1 + EVSES_HELD
    assert [(step.name, step.read_count) for step in ended.steps][2] == ("evses", 2 + EVSES_HELD)
    # The page that was under way is asked for again, and those before it only when they are lost.
    assert asked(ampeco, EVSES) == ([1, 1, 2, 1] if kept else [2, 2, 2, 1])
    assert asked(ampeco, TARIFFS) == asked(ampeco, CHARGE_POINTS) == ([1] if kept else [2])
    assert asked(ampeco, LOCATIONS) == [1]
    assert await database.value(LEFT) == 0

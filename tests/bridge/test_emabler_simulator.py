"""The simulated eMabler: integrations that were updated once, locations added to them, errors in plain text."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from evbridge.partner.emabler.v2 import integration_pb2 as emabler
from evbridge.partner.emabler.v2.integration_pb2_grpc import IntegrationServiceStub

from service.bridge.channel import PartnerChannel
from service.bridge.egress import Egress
from service.bridge.registry import Registry, contract_files
from service.domain.partner_error import PartnerCredentialRefused, PartnerError, PartnerNotFound, PartnerRejected
from service.partners.emabler import errors as emabler_errors
from service.partners.emabler.simulator import Simulator
from tests.bridge.fake_ports import KEY, FakePorts

OCPI = {"endpoint_url": "https://partner.example/ocpi", "initial_token": "canary-token"}


@pytest.fixture
async def simulated() -> AsyncIterator[Simulator]:
    made = Simulator(api_key=KEY)
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
def ports(simulated: Simulator) -> FakePorts:
    return FakePorts(simulated.url, partner="emabler")


class Client:
    def __init__(self, ports: FakePorts, egress: Egress) -> None:
        registry = Registry.of(contract_files("evbridge.partner.emabler.v2"))
        channel = PartnerChannel(registry, ports, ports, egress, {"emabler": emabler_errors}, ports.exchanges.append)
        self._stub: Any = channel.stub(IntegrationServiceStub, "acme")

    async def __call__(self, name: str, **members: Any) -> Any:
        request = getattr(emabler, f"{name}Request")(integration_id="cp", emabler_integration_id="int/7", **members)
        return await getattr(self._stub, name)(request)

    async def refusal(self, name: str, **members: Any) -> PartnerError:
        with pytest.raises(PartnerError) as raised:
            await self(name, **members)
        return raised.value


@pytest.fixture
def call(ports: FakePorts, egress: Egress) -> Client:
    return Client(ports, egress)


async def test_an_integration_changes_by_what_is_set_and_is_read_with_its_locations(
    call: Client, ports: FakePorts
) -> None:
    first = {"integration_name": "Plugsurfing", "models": {"push_cdr": True}, "ocpi_connection": OCPI}
    assert (await call("UpdateIntegration", integration=first)).id == "int/7"
    await call("UpdateIntegration", integration={"models": {"push_session": False}})
    assert (await call("AddLocation", location={"name": "Mall", "site_id": 12})).id == "Loc-1"
    assert (await call("AddLocation", location={"name": "Port"}, create_empty=True)).id == "Loc-2"
    held = await call("GetIntegration")
    assert (held.integration_id, held.integration_name) == ("int/7", "Plugsurfing")
    assert (held.models.push_cdr, held.models.push_session) == (True, False)
    assert [(each.id, each.name) for each in held.locations] == [("Loc-1", "Mall"), ("Loc-2", "Port")]
    assert not any(b"canary-token" in exchange.response_body for exchange in ports.exchanges)


async def test_a_location_gets_the_chargers_of_its_site_unless_it_is_made_empty(call: Client) -> None:
    await call("UpdateIntegration", integration={"integration_name": "Plugsurfing"})
    given = {"charger_id": "CP-9", "connector": [{"id": "1", "tariff_ids": ["T1"]}]}
    for location, create_empty in [({"name": "Mall", "site_id": 12}, False), ({"name": "Port"}, True)]:
        await call("AddLocation", location=location | {"chargers": [given]}, create_empty=create_empty)
    held = await call("GetIntegration")
    chargers = [[charger.charger_id for charger in location.chargers] for location in held.locations]
    assert chargers == [["CP-9", "CP-12-1", "CP-12-2"], []]


async def test_an_update_is_answered_with_every_documented_member(call: Client) -> None:
    changes = {"integration_name": "Plugsurfing", "models": {"push_cdr": True}, "approved_party_id": 7}
    updated = await call("UpdateIntegration", integration=changes)
    documented = {field.name for field in updated.DESCRIPTOR.fields if not field.is_repeated} - {"more"}
    assert {field.name for field, _ in updated.ListFields() if field.name in documented} == documented
    assert (updated.integration_status, updated.approved_party_id, updated.models.push_cdr) == ("Active", 7, True)
    assert not updated.models.pull_cdr
    assert updated.models.HasField("pull_cdr")


async def test_errors_are_a_line_of_text(call: Client, ports: FakePorts, simulated: Simulator) -> None:
    unknown = await call.refusal("AddLocation", location={"name": "Mall"})
    assert (type(unknown), unknown.partner_code) == (PartnerNotFound, "CUSTOMER_NOT_FOUND")
    simulated.inject("status:400")
    bad = await call.refusal("GetIntegration")
    assert (type(bad), bad.partner_code) == (PartnerRejected, "SOMETHING_WENT_WRONG")
    ports.key = "another"
    refused = await call.refusal("GetIntegration")
    assert (type(refused), refused.partner_code) == (PartnerCredentialRefused, "NOT_AUTHORISED")

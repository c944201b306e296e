"""Which headers say whose a request is, and where what comes through a platform belongs."""

from typing import Any

import pytest
from evbridge.v1.integration_pb2 import (
    CreateIntegrationRequest,
    Integration,
    IntegrationModels,
    UpdateIntegrationRequest,
)
from evbridge.v1.location_pb2 import GetLocationRequest, Location, LocationKey
from evbridge.v1.ocpi_connection_pb2 import INTERFACE_ROLE_BOTH, OcpiConnection
from evbridge.v1.party_pb2 import CreatePartyRequest, PartyKey
from evbridge.v1.publication_pb2 import CreatePublicationRuleRequest

from tests.front_door import a_location, a_party, a_rule, an_integration_of, at_rest, fails
from tests.rpc.test_ocpi_push import BOTH, HERS, a_place, quiet, registered, store
from tests.rpc.test_registration import ID, SPOKEN, Side, Sides, outcome, sides

__all__ = ["sides"]

ROUTING = ("OCPI-from-country-code", "OCPI-from-party-id", "OCPI-to-country-code", "OCPI-to-party-id")
UNIQUE = ("X-Request-ID", "X-Correlation-ID")
PULLS = IntegrationModels(pull_location=True)


def party(id: str) -> PartyKey:
    return PartyKey(country_code="DE", party_id=id)


def routed(headers: dict[str, str]) -> list[str]:
    return [headers[name] for name in ROUTING if name in headers]


async def add(side: Side, **fields: Any) -> Integration:
    request = CreateIntegrationRequest(integration=an_integration_of("ocpi", "", **fields))
    added: Integration = await side.client.integrations.CreateIntegration(request)
    return added


async def behind(side: Side, ours: str, theirs: str, models: IntegrationModels) -> None:
    """An integration with a party that is reached through the one that there is."""
    connection = OcpiConnection(
        initial_role=INTERFACE_ROLE_BOTH,
        platform_integration_id=ID,
        platform_party_country_code="DE",
        platform_party_id=theirs,
    )
    await add(side, id="behind", parties=[party(ours)], ocpi=connection, models=models)


@pytest.mark.parametrize("version", SPOKEN)
async def test_what_is_pushed_and_pulled_is_routed_and_what_registers_is_not(sides: Sides, version: str) -> None:
    async with registered(sides, version) as (cpo, emsp):
        said = [*emsp.wire.headers, *cpo.wire.headers]
        assert said  # both sides asked for versions and details; one side brought its credentials
        assert not [headers for headers in said if routed(headers)]
        emsp.wire.headers.clear()
        await store(cpo, a_place())
        await at_rest(cpo.client, ID)
        pushed = [*emsp.wire.headers]
        assert len(pushed) == 2
        cpo.wire.headers.clear()
        await pulling(emsp)
        assert outcome(await emsp.synced()) == "OK"
        pulled = [*cpo.wire.headers]
        assert pulled
        for headers, names in ((pushed, ["CPO", "MSP"]), (pulled, ["MSP", "CPO"])):
            wanted = [] if version == "2.1.1" else ["DE", names[0], "DE", names[1]]
            assert {tuple(routed(each)) for each in headers} == {tuple(wanted)}
        for name in UNIQUE:
            ids = [headers[name] for headers in (*said, *pushed, *pulled)]
            assert all(ids) and len({*ids}) == len(ids)


async def pulling(side: Side) -> None:
    integration = Integration(id=ID, models=PULLS)
    await side.client.integrations.UpdateIntegration(UpdateIntegrationRequest(integration=integration))


async def test_what_is_pushed_comes_from_the_party_that_owns_it(sides: Sides) -> None:
    async with registered(sides) as (cpo, emsp):
        await cpo.client.parties.CreateParty(CreatePartyRequest(party=a_party(party_id="TWO")))
        both = Integration(id=ID, parties=[party("CPO"), party("TWO")])
        await cpo.client.integrations.UpdateIntegration(UpdateIntegrationRequest(integration=both))
        assert outcome(await cpo.rotates()) == "OK"  # which tells the provider of the second party
        await quiet(cpo, emsp)
        emsp.wire.headers.clear()
        await store(cpo, a_location(country_code="DE", party_id="TWO", id="L2"))
        await at_rest(cpo.client, ID)
        assert {tuple(routed(headers)) for headers in emsp.wire.headers} == {("DE", "TWO", "DE", "MSP")}


async def test_what_comes_through_a_platform_belongs_to_the_party_behind_it(sides: Sides) -> None:
    """Both sides are platforms to each other, and each has an integration with the party behind the other."""
    async with sides() as (cpo, emsp):
        await behind(cpo, "CPO", "MSP", BOTH)
        await behind(emsp, "MSP", "CPO", PULLS)
        rule = a_rule(id="all", integration_id="behind")
        await cpo.client.publication.CreatePublicationRule(CreatePublicationRuleRequest(rule=rule))
        await store(cpo, a_location(**HERS, id="L1"))
        await at_rest(cpo.client, "behind")
        assert not emsp.wire.carried
        await cpo.given(*(await emsp.issue()))
        assert outcome(await cpo.registers()) == "OK"
        # The registration of the platform made it due.
        await at_rest(cpo.client, "behind")
        assert [path for method, path in emsp.wire.carried if method == "PUT"] == [
            "/ocpi/emsp/2.3.0/locations/DE/CPO/L1"
        ]
        assert (await location(emsp, "L1", "behind")).city == "Berlin"
        assert (await fails(location(emsp, "L1", ID))).reason == "RESOURCE_NOT_FOUND"
        # Who pulls as the party behind the platform sees that one's view.
        await store(cpo, a_location(**HERS, id="L1", name="Renamed"))
        await at_rest(cpo.client, "behind")
        assert outcome(await emsp.synced("behind")) == "OK"
        assert (await location(emsp, "L1", "behind")).name == "Renamed"


async def location(side: Side, id: str, integration_id: str) -> Location:
    key = LocationKey(**HERS, id=id, integration_id=integration_id)
    found: Location = await side.client.locations.GetLocation(GetLocationRequest(key=key))
    return found

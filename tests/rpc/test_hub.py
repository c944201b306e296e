"""A hub tells its partners who else is connected to it: pushed, in its list, and never more than they should know."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from evbridge.v1.delivery_pb2 import DELIVERY_STATE_DELIVERED, OBJECT_KIND_HUB_CLIENT, ListDeliveriesRequest
from evbridge.v1.hub_client_pb2 import HubClientStatus, ListHubClientsRequest
from evbridge.v1.integration_pb2 import (
    CreateIntegrationRequest,
    DeleteIntegrationRequest,
    GetIntegrationRequest,
    Integration,
    IntegrationModels,
    PauseIntegrationRequest,
    ResumeIntegrationRequest,
    UpdateIntegrationRequest,
)
from evbridge.v1.ocpi_connection_pb2 import INTERFACE_ROLE_BOTH, INTERFACE_ROLE_SENDER, OcpiConnection, PlannedParty
from evbridge.v1.party_pb2 import (
    PARTY_ROLE_CPO,
    PARTY_ROLE_EMSP,
    PARTY_ROLE_HUB,
    PartyKey,
    PartyRole,
    UpdatePartyRequest,
)
from evbridge.v1.registration_pb2 import (
    RegisterIntegrationRequest,
    RotateCredentialsRequest,
    UnregisterIntegrationRequest,
)
from google.protobuf.field_mask_pb2 import FieldMask

from tests.circle import until
from tests.front_door import a_party, an_integration_of
from tests.partners import OcpiPartner
from tests.rpc.test_registration import ID, SPOKEN, Side, outcome, side

DRIVER = "driver"
HUB = PartyKey(country_code="DE", party_id="HUB")
NewDatabase = Callable[[], Awaitable[str]]


@asynccontextmanager
async def connected(
    new_database: NewDatabase, version: str = "2.2.1", **models: bool
) -> AsyncIterator[tuple[Side, Side, OcpiPartner]]:
    """A hub, an operator that is registered with it, and a provider NL*TNM that the hub registers with in `joins`."""
    ours, theirs = SPOKEN[version]
    provider = OcpiPartner(modules=("credentials", "locations"), versions=("2.2.1",))
    async with (
        side(await new_database(), "HUB", PARTY_ROLE_HUB, ocpi_versions=theirs) as hub,
        side(await new_database(), "CPO", PARTY_ROLE_CPO, ocpi_versions=ours) as cpo,
        provider.listening(),
    ):
        await sets(hub, ID, models=IntegrationModels(**models))
        await cpo.given(*(await hub.issue()))
        assert outcome(await cpo.registers()) == "OK"
        connection = OcpiConnection(
            endpoint_url=f"{provider.url}/ocpi/versions", initial_token="token-a", initial_role=INTERFACE_ROLE_SENDER
        )
        integration = an_integration_of("ocpi", "", id=DRIVER, parties=[HUB], ocpi=connection)
        await hub.client.integrations.CreateIntegration(CreateIntegrationRequest(integration=integration))
        yield hub, cpo, provider


def planned(party_id: str, role: PartyRole.ValueType) -> PlannedParty:
    return PlannedParty(country_code="NL", party_id=party_id, role=role)


async def sets(hub: Side, id: str, **fields: Any) -> None:
    mask = FieldMask(paths=[*fields])
    request = UpdateIntegrationRequest(integration=Integration(id=id, **fields), update_mask=mask)
    await hub.client.integrations.UpdateIntegration(request)


async def joins(hub: Side) -> None:
    run = await hub.client.registration.RegisterIntegration(RegisterIntegrationRequest(integration_id=DRIVER))
    assert outcome(await hub.ran(run)) == "OK"


async def known(cpo: Side) -> dict[tuple[str, str], str]:
    """Who is connected to the hub as the operator knows it."""
    page = await cpo.client.hub_clients.ListHubClients(ListHubClientsRequest(integration_id=ID))
    return {
        (each.party_id, PartyRole.Name(each.role).removeprefix("PARTY_ROLE_")): HubClientStatus.Name(
            each.status
        ).removeprefix("HUB_CLIENT_STATUS_")
        for each in page.hub_clients
    }


async def knows(cpo: Side, status: str) -> None:
    """Nobody but the provider, and never itself."""

    async def reached() -> bool:
        return await known(cpo) == {("TNM", "EMSP"): status}

    await until(reached)


@pytest.mark.parametrize("version", ["2.3.0", "2.2.1"])
async def test_a_hub_tells_its_partners_how_each_other_is_connected(new_database: NewDatabase, version: str) -> None:
    async with connected(new_database, version, push_hub_client=True) as (hub, cpo, provider):
        assert await known(cpo) == {}, "who never registered is nobody yet"
        await joins(hub)
        await knows(cpo, "CONNECTED")

        provider.own["/ocpi/versions"] = web.Response(status=500)
        rotate = RotateCredentialsRequest(integration_id=DRIVER)
        assert outcome(await hub.ran(await hub.client.registration.RotateCredentials(rotate))) != "OK"
        await knows(cpo, "OFFLINE")
        provider.own.clear()
        assert outcome(await hub.ran(await hub.client.registration.RotateCredentials(rotate))) == "OK"
        await knows(cpo, "CONNECTED")

        pause = PauseIntegrationRequest(id=DRIVER, reason="they owe us money")
        await hub.client.integrations.PauseIntegration(pause)
        await knows(cpo, "SUSPENDED")
        await hub.client.integrations.ResumeIntegration(ResumeIntegrationRequest(id=DRIVER))
        await knows(cpo, "CONNECTED")
        await sets(hub, DRIVER, enabled=False)
        await knows(cpo, "SUSPENDED")
        await sets(hub, DRIVER, enabled=True)
        await knows(cpo, "CONNECTED")

        provider.own["DELETE /ocpi/credentials"] = {"status_code": 1000, "timestamp": "2026-01-01T00:00:00Z"}
        await hub.client.registration.UnregisterIntegration(UnregisterIntegrationRequest(integration_id=DRIVER))
        await knows(cpo, "SUSPENDED")
        puts = [path for method, path in cpo.wire.carried if method == "PUT"]
        assert {path.rpartition("hubclientinfo")[2] for path in puts} == {"/NL/TNM"}
        named = {name.upper() for headers in cpo.wire.headers for name in headers}
        assert "OCPI-TO-PARTY-ID" not in named, "its requests carry no routing headers"


async def test_a_partner_that_is_deleted_or_whose_hub_is_none_any_more_is_suspended(new_database: NewDatabase) -> None:
    async with connected(new_database, push_hub_client=True) as (hub, cpo, _):
        await joins(hub)
        await knows(cpo, "CONNECTED")
        for roles, status in (([PARTY_ROLE_CPO], "SUSPENDED"), ([PARTY_ROLE_HUB], "CONNECTED")):
            party = UpdatePartyRequest(
                party=a_party(party_id="HUB", roles=roles), update_mask=FieldMask(paths=["roles"])
            )
            await hub.client.parties.UpdateParty(party)
            await knows(cpo, status)
        await hub.client.integrations.DeleteIntegration(DeleteIntegrationRequest(id=DRIVER, force=True))
        await knows(cpo, "SUSPENDED")


async def test_who_asks_is_shown_the_same_list(new_database: NewDatabase) -> None:
    async with connected(new_database) as (hub, cpo, _):
        await joins(hub)
        await sets(cpo, ID, models=IntegrationModels(pull_hub_client=True))

        async def pulled(status: str) -> None:
            async def reached() -> bool:
                assert outcome(await cpo.synced()) == "OK"
                return await known(cpo) == {("TNM", "EMSP"): status}

            await until(reached)

        await pulled("CONNECTED")
        await sets(hub, DRIVER, enabled=False)
        await pulled("SUSPENDED")
        assert not [path for method, path in cpo.wire.carried if method == "PUT"], "models ask for no push"


async def test_who_is_going_to_register_is_planned_until_it_has_registered_or_is_not_meant_to_any_more(
    new_database: NewDatabase,
) -> None:
    async with connected(new_database, push_hub_client=True) as (hub, cpo, _):
        tnm, cpa, cpb = ("TNM", "EMSP"), ("CPA", "CPO"), ("CPB", "CPO")

        async def knows_of(told: dict[tuple[str, str], str]) -> None:
            async def reached() -> bool:
                return await known(cpo) == told

            await until(reached)

        first = OcpiConnection(planned_parties=[planned("tnm", PARTY_ROLE_EMSP), planned("CPA", PARTY_ROLE_CPO)])
        mask = FieldMask(paths=["ocpi.planned_parties"])
        update = UpdateIntegrationRequest(integration=Integration(id=DRIVER, ocpi=first), update_mask=mask)
        await hub.client.integrations.UpdateIntegration(update)
        await knows_of({tnm: "PLANNED", cpa: "PLANNED"})
        await joins(hub)
        await knows_of({tnm: "CONNECTED", cpa: "SUSPENDED"})
        registered = await hub.client.integrations.GetIntegration(GetIntegrationRequest(id=DRIVER))
        assert not registered.ocpi.planned_parties
        second = OcpiConnection(
            initial_role=INTERFACE_ROLE_BOTH,
            planned_parties=[
                planned("TNM", PARTY_ROLE_EMSP),  # is connected already
                planned("CPA", PARTY_ROLE_CPO),
                planned("CPB", PARTY_ROLE_CPO),
            ],
        )
        create = CreateIntegrationRequest(
            integration=an_integration_of("ocpi", "", id="second", parties=[HUB], ocpi=second)
        )
        await hub.client.integrations.CreateIntegration(create)
        await knows_of({tnm: "CONNECTED", cpa: "PLANNED", cpb: "PLANNED"})
        await sets(hub, "second", enabled=False)
        await knows_of({tnm: "CONNECTED", cpa: "SUSPENDED", cpb: "SUSPENDED"})
        await sets(hub, "second", enabled=True)
        await hub.client.integrations.DeleteIntegration(DeleteIntegrationRequest(id=DRIVER, force=True))
        await knows_of({tnm: "PLANNED", cpa: "PLANNED", cpb: "PLANNED"})


async def test_a_hub_of_many_parties_tells_each_change_once_and_shows_them_in_pages(
    new_database: NewDatabase, soak: Callable[[int], int]
) -> None:
    many = soak(980) + 20
    async with connected(new_database, push_hub_client=True) as (hub, cpo, provider):
        roles = [
            {"role": "EMSP", "country_code": "NL", "party_id": f"{each:03}", "business_details": {"name": "The New"}}
            for each in range(many)
        ]
        provider.own["POST /ocpi/credentials"] = {
            "data": {"token": "token-a", "url": f"{provider.url}/ocpi/versions", "roles": roles},
            "status_code": 1000,
            "timestamp": "2026-01-01T00:00:00Z",
        }

        async def all_are(status: str) -> bool:
            value = HubClientStatus.Value(f"HUB_CLIENT_STATUS_{status}")
            request = ListHubClientsRequest(integration_id=ID, status=value, page_size=1000)
            return len((await cpo.client.hub_clients.ListHubClients(request)).hub_clients) == many

        async def told(status: str) -> None:
            await until(lambda: all_are(status))
            puts = [path.rpartition("hubclientinfo")[2] for method, path in cpo.wire.carried if method == "PUT"]
            assert sorted(puts) == [f"/NL/{each:03}" for each in range(many)], "one request for each"
            cpo.wire.carried.clear()

        await joins(hub)
        await told("CONNECTED")
        await sets(hub, DRIVER, enabled=False)
        await told("SUSPENDED")
        await sets(cpo, ID, models=IntegrationModels(pull_hub_client=True))
        (step,) = [each for each in (await cpo.synced()).steps if each.name == "hubclientinfo"]
        assert (step.read_count, step.page_count) == (many, -(-many // 100))


async def test_each_of_many_partners_of_a_hub_is_told_of_a_new_one(
    new_database: NewDatabase, soak: Callable[[int], int]
) -> None:
    """Each of them has an integration of its own."""
    many = soak(1000)
    async with connected(new_database, push_hub_client=True) as (hub, cpo, _):
        for number in range(many):
            integration = an_integration_of("ocpi", "", id=f"partner-{number}", parties=[HUB])
            await hub.client.integrations.CreateIntegration(CreateIntegrationRequest(integration=integration))
        await joins(hub)
        await knows(cpo, "CONNECTED")

        async def told() -> bool:
            request = ListDeliveriesRequest(
                object_kind=OBJECT_KIND_HUB_CLIENT,
                object_id="NL*TNM*EMSP",
                state=DELIVERY_STATE_DELIVERED,
                page_size=1000,
            )
            names: set[str] = set()
            while True:
                page = await hub.client.deliveries.ListDeliveries(request)
                names |= {each.integration_id for each in page.deliveries}
                if not page.next_page_token:
                    return names >= {f"partner-{number}" for number in range(many)}
                request.page_token = page.next_page_token

        await until(told)


async def test_a_company_that_is_no_hub_shows_nobody(new_database: NewDatabase) -> None:
    async with connected(new_database, push_hub_client=True) as (hub, cpo, _):
        offered = {each.identifier for each in (await cpo.get()).version_details.endpoints if each.role == 1}
        assert "hubclientinfo" in offered, "the control"
        offered = {each.identifier for each in (await hub.get()).version_details.endpoints if each.role == 1}
        assert "hubclientinfo" not in offered
        deliveries = ListDeliveriesRequest(object_kind=OBJECT_KIND_HUB_CLIENT)
        assert not (await cpo.client.deliveries.ListDeliveries(deliveries)).deliveries

"""What a hub says of who is connected to it: at the door, in lists and in watches, and pulled from it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from evbridge.v1 import error_reason_pb2 as reasons
from evbridge.v1.hub_client_pb2 import (
    HUB_CLIENT_STATUS_CONNECTED,
    HUB_CLIENT_STATUS_OFFLINE,
    HubClientStatus,
    ListHubClientsRequest,
)
from evbridge.v1.integration_pb2 import (
    CreateIntegrationRequest,
    Integration,
    IntegrationModels,
    UpdateIntegrationRequest,
)
from evbridge.v1.party_pb2 import PARTY_ROLE_CPO, PARTY_ROLE_EMSP, PARTY_ROLE_HUB
from evbridge.v1.registration_pb2 import RegisterIntegrationRequest
from evbridge.v1.run_pb2 import (
    RUN_KIND_SYNC,
    RUN_STATE_SUCCEEDED,
    ListRunsRequest,
    Run,
    StartRunRequest,
    WaitRunRequest,
)
from evbridge.v1.watch_pb2 import WatchHubClientsRequest

from service.app import Evbridge
from tests.conftest import Tenant
from tests.front_door import Client, an_integration_of
from tests.ocpi.door import ID, Ask, Partner, ask, partner, partner_of
from tests.partners import OcpiPartner
from tests.rpc import test_ocpi_pull as pull
from tests.rpc.test_ocpi_pull import counts, findings, pulled, registered
from tests.rpc.test_ocpi_received import companies
from tests.rpc.test_registration import outcome

__all__ = ["ask", "partner"]
AT = "/ocpi/2.2.1/hubclientinfo/DE/XYZ"


@pytest.fixture
async def hub(partner: Partner, tenant: Tenant, running: Evbridge) -> AsyncIterator[Partner]:
    await companies(running, tenant, PARTY_ROLE_HUB)
    yield partner


def client(**changes: Any) -> dict[str, Any]:
    return {
        "country_code": "DE",
        "party_id": "XYZ",
        "role": "CPO",
        "status": "CONNECTED",
        "last_updated": "2026-01-01T00:00:00Z",
        **changes,
    }


async def listed(tenant: Tenant, **filters: Any) -> list[tuple[str, Any, Any]]:
    request = ListHubClientsRequest(integration_id=ID, **filters)
    clients = (await tenant.reader.hub_clients.ListHubClients(request)).hub_clients
    return [(each.party_id, each.role, each.status) for each in clients]


async def test_a_hub_tells_who_is_connected(ask: Ask, hub: Partner, tenant: Tenant) -> None:
    assert (await ask("PUT", AT, hub.registered, json=client())).status == 201
    assert (await ask("PUT", AT, hub.registered, json=client(role="EMSP", status="OFFLINE"))).status == 201
    assert await listed(tenant) == [
        ("XYZ", PARTY_ROLE_CPO, HUB_CLIENT_STATUS_CONNECTED),
        ("XYZ", PARTY_ROLE_EMSP, HUB_CLIENT_STATUS_OFFLINE),
    ]
    assert await listed(tenant, role=PARTY_ROLE_EMSP) == await listed(tenant, status=HUB_CLIENT_STATUS_OFFLINE)
    later = client(status="OFFLINE", last_updated="2026-01-02T00:00:00Z")
    assert (await ask("PUT", AT, hub.registered, json=later)).status == 200
    assert (await ask("PUT", AT, hub.registered, json=client())).status == 200, "older, and ignored"
    assert (await listed(tenant, role=PARTY_ROLE_CPO))[0][2] == HUB_CLIENT_STATUS_OFFLINE
    assert (await ask("GET", AT, hub.registered)).body["data"] == later
    assert (await ask("GET", "/ocpi/2.2.1/hubclientinfo/DE/ZZZ", hub.registered)).status == 404
    watched: Any = tenant.reader.watch.WatchHubClients(WatchHubClientsRequest(integration_id=ID, snapshot=True))
    changes = (await watched.read()).changes
    assert [(each.key.party_id, each.key.role) for each in changes] == [
        ("XYZ", PARTY_ROLE_CPO),
        ("XYZ", PARTY_ROLE_EMSP),
    ]


async def test_what_one_tenants_hub_tells_no_other_tenant_sees_nor_changes(
    ask: Ask, hub: Partner, tenant: Tenant, running: Evbridge, new_tenant: Callable[[], Awaitable[Tenant]]
) -> None:
    other = await new_tenant()
    its_hub = await partner_of(other, running)
    await companies(running, other, PARTY_ROLE_HUB)
    assert (await ask("PUT", AT, hub.registered, json=client())).status == 201
    assert await listed(other) == []
    assert (await ask("GET", AT, its_hub.registered)).status == 404
    theirs = client(status="OFFLINE", last_updated="2026-01-02T00:00:00Z")
    assert (await ask("PUT", AT, its_hub.registered, json=theirs)).status == 201, "the same hub and party, of another"
    assert await listed(tenant) == [("XYZ", PARTY_ROLE_CPO, HUB_CLIENT_STATUS_CONNECTED)]
    assert await listed(other) == [("XYZ", PARTY_ROLE_CPO, HUB_CLIENT_STATUS_OFFLINE)]
    for watcher, status in ((tenant, HUB_CLIENT_STATUS_CONNECTED), (other, HUB_CLIENT_STATUS_OFFLINE)):
        watched: Any = watcher.reader.watch.WatchHubClients(WatchHubClientsRequest(integration_id=ID, snapshot=True))
        assert [each.hub_client.status for each in (await watched.read()).changes] == [status]


@pytest.mark.parametrize("wrong", [{"role": "KING"}, {"status": "ASLEEP"}, {"party_id": "ABC"}])
async def test_what_is_wrong_is_said(ask: Ask, hub: Partner, tenant: Tenant, wrong: dict[str, str]) -> None:
    answer = await ask("PUT", AT, hub.registered, json=client(**wrong))
    assert answer.body["status_code"] == 2001
    assert await listed(tenant) == []


async def test_only_a_hub_may_say_so(ask: Ask, partner: Partner, tenant: Tenant, running: Evbridge) -> None:
    await companies(running, tenant, PARTY_ROLE_CPO)
    assert (await ask("PUT", AT, partner.registered, json=client())).body["status_code"] == 2001
    assert await listed(tenant) == []


PULLED = IntegrationModels(pull_hub_client=True)


@pytest.fixture
async def listing() -> AsyncIterator[OcpiPartner]:
    """A hub that shows five parties, two at a time."""
    hub = OcpiPartner(party_role="HUB", modules=("credentials", "hubclientinfo"), versions=("2.2.1",))
    hub.lists["hubclientinfo"] = [
        client(party_id=f"P0{number}", last_updated=f"2026-03-0{number}T12:00:00Z") for number in range(1, 6)
    ]
    async with hub.listening():
        yield hub


async def by_hand(client: Client, hub: OcpiPartner, running: Evbridge) -> None:
    """Registers, and pulls nothing by itself afterwards."""
    await registered(client, hub, IntegrationModels(), running.database)
    update = UpdateIntegrationRequest(integration=Integration(id=pull.ID, models=PULLED))
    await client.integrations.UpdateIntegration(update)


async def statuses(client: Client) -> dict[str, str]:
    page = await client.hub_clients.ListHubClients(ListHubClientsRequest(integration_id=pull.ID))
    names = {each.party_id: HubClientStatus.Name(each.status) for each in page.hub_clients}
    return {party: name.removeprefix("HUB_CLIENT_STATUS_") for party, name in names.items()}


async def test_the_list_is_pulled_and_what_it_shows_no_more_is_suspended(
    tenant: Tenant, running: Evbridge, listing: OcpiPartner
) -> None:
    await by_hand(tenant.admin, listing, running)
    shown = listing.lists["hubclientinfo"]
    run = await pulled(tenant.admin)
    assert outcome(run) == "OK"
    assert [counts(step) for step in run.steps] == [{"page_count": 3, "read_count": 5, "created_count": 5}]
    assert await statuses(tenant.admin) == dict.fromkeys(("P01", "P02", "P03", "P04", "P05"), "CONNECTED")
    headers = [sent for path, sent in listing.requests if path.endswith("hubclientinfo")]
    assert headers, "the first page"
    assert not [name for sent in headers for name in sent if name.upper().startswith("OCPI-")], "no routing headers"

    shown[1] |= {"status": "OFFLINE", "last_updated": "2026-03-05T11:30:00Z"}
    listing.asked.clear()
    changed = await pulled(tenant.admin)
    assert listing.asked["hubclientinfo"] == [{"limit": "100", "date_from": "2026-03-05T11:00:00Z"}]
    assert counts(changed.steps[0])["updated_count"] == 1
    assert (await statuses(tenant.admin))["P02"] == "OFFLINE"

    gone = shown.pop(0)
    assert counts((await pulled(tenant.admin)).steps[0]).get("removed_count") is None, "only a whole list says that"
    whole = await pulled(tenant.admin, whole=True)
    assert whole.steps[0].removed_count == 1
    assert (await statuses(tenant.admin))["P01"] == "SUSPENDED"
    assert (await pulled(tenant.admin, whole=True)).steps[0].removed_count == 0
    shown.insert(0, gone)
    assert (await pulled(tenant.admin, whole=True)).steps[0].updated_count == 1
    assert (await statuses(tenant.admin))["P01"] == "CONNECTED"

    listing.lists["hubclientinfo"] = []
    empty = await pulled(tenant.admin, whole=True)
    assert empty.reason == reasons.MASS_REMOVAL
    assert "SUSPENDED" not in (await statuses(tenant.admin)).values(), "never a wipe"


async def test_what_a_hub_lists_and_nobody_can_read_costs_itself(
    tenant: Tenant, running: Evbridge, listing: OcpiPartner
) -> None:
    await by_hand(tenant.admin, listing, running)
    listing.lists["hubclientinfo"][:3] = [client(role="KING"), client(party_id=None), client(status="ASLEEP")]
    run = await pulled(tenant.admin)
    assert outcome(run) == "OK"
    assert run.steps[0].refused_count == 3
    assert [each.path for each in await findings(tenant.admin, run)] == [
        "/data/1/party_id",
        "/data/0/role",
        "/data/0/status",
    ]
    assert sorted(await statuses(tenant.admin)) == ["P04", "P05"]


async def test_a_partner_that_is_no_hub_lists_nobody(tenant: Tenant, running: Evbridge, listing: OcpiPartner) -> None:
    listing.party_role = "CPO"
    await by_hand(tenant.admin, listing, running)
    assert (await pulled(tenant.admin)).steps[0].refused_count == 5
    assert await statuses(tenant.admin) == {}


async def test_the_list_is_pulled_by_itself_after_every_registration(
    tenant: Tenant, running: Evbridge, listing: OcpiPartner
) -> None:
    async def synced() -> list[Run]:
        request = ListRunsRequest(integration_id=pull.ID, kind=RUN_KIND_SYNC)
        while True:
            runs = (await tenant.admin.runs.ListRuns(request)).runs
            if runs and all(each.state == RUN_STATE_SUCCEEDED for each in runs):
                return list(runs)
            await asyncio.sleep(0.05)

    await registered(tenant.admin, listing, PULLED)
    assert len(await synced()) == 1
    assert len(await statuses(tenant.admin)) == 5
    again = await tenant.admin.registration.RegisterIntegration(RegisterIntegrationRequest(integration_id=pull.ID))
    assert outcome(await tenant.admin.runs.WaitRun(WaitRunRequest(id=again.id))) == "OK"
    while len(await synced()) < 2:
        await asyncio.sleep(0.05)


async def test_a_pull_under_way_is_followed_by_the_one_that_a_registration_wants(
    tenant: Tenant, running: Evbridge, listing: OcpiPartner, new_tenant: Callable[[], Awaitable[Tenant]]
) -> None:
    other, asked, goes_on = await new_tenant(), asyncio.Event(), asyncio.Event()

    async def held() -> web.Response:
        asked.set()
        await goes_on.wait()
        return web.Response(status=401)

    await by_hand(tenant.admin, listing, running)
    integration = an_integration_of("ocpi", id="other")
    await other.admin.integrations.CreateIntegration(CreateIntegrationRequest(integration=integration))
    listing.instead["hubclientinfo", 0] = held
    await tenant.admin.runs.StartRun(StartRunRequest(integration_id=pull.ID, kind=RUN_KIND_SYNC))
    await asked.wait()
    again = await tenant.admin.registration.RegisterIntegration(RegisterIntegrationRequest(integration_id=pull.ID))
    assert outcome(await tenant.admin.runs.WaitRun(WaitRunRequest(id=again.id))) == "OK"
    await pull.pulled_last(running, other)
    goes_on.set()
    async with asyncio.timeout(30):
        while len(await statuses(tenant.admin)) < 5:
            await asyncio.sleep(0.05)

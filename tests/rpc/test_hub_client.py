"""What a hub says of who is connected to it: at the door, in lists and in watches."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from evbridge.v1.hub_client_pb2 import (
    HUB_CLIENT_STATUS_CONNECTED,
    HUB_CLIENT_STATUS_OFFLINE,
    ListHubClientsRequest,
)
from evbridge.v1.party_pb2 import PARTY_ROLE_CPO, PARTY_ROLE_EMSP, PARTY_ROLE_HUB
from evbridge.v1.watch_pb2 import WatchHubClientsRequest

from service.app import Evbridge
from tests.conftest import Tenant
from tests.ocpi.door import ID, Ask, Partner, ask, partner
from tests.rpc.test_ocpi_received import companies

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


@pytest.mark.parametrize("wrong", [{"role": "KING"}, {"status": "ASLEEP"}, {"party_id": "ABC"}])
async def test_what_is_wrong_is_said(ask: Ask, hub: Partner, tenant: Tenant, wrong: dict[str, str]) -> None:
    answer = await ask("PUT", AT, hub.registered, json=client(**wrong))
    assert answer.body["status_code"] == 2001
    assert await listed(tenant) == []


async def test_only_a_hub_may_say_so(ask: Ask, partner: Partner, tenant: Tenant, running: Evbridge) -> None:
    await companies(running, tenant, PARTY_ROLE_CPO)
    assert (await ask("PUT", AT, partner.registered, json=client())).body["status_code"] == 2001
    assert await listed(tenant) == []

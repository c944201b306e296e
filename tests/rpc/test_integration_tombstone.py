"""An integration through which much was delivered is deleted: at once for who looks, in slices behind them."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from evbridge.v1.delivery_pb2 import GetDeliveryRequest, ListDeliveriesRequest
from evbridge.v1.disclosure_pb2 import GetDisclosureRequest, ListDisclosuresRequest
from evbridge.v1.integration_pb2 import (
    CreateIntegrationRequest,
    DeleteIntegrationRequest,
    GetIntegrationRequest,
    ListIntegrationsRequest,
    PauseIntegrationRequest,
)
from evbridge.v1.partner_pb2 import GetPartnerStatusRequest
from evbridge.v1.publication_pb2 import CreatePublicationRuleRequest
from evbridge.v1.watch_pb2 import WatchIntegrationsRequest

from service.app import Evbridge, evbridge
from service.storage.integration import tombstones_due
from service.storage.slices import SLICE
from service.storage.statements import Statement
from tests.conftest import Tenant, tenant_of
from tests.front_door import a_rule, an_integration, fails, settings

MUCH = SLICE + 500
DELIVERED = Statement(
    "delivered",
    """
    INSERT INTO delivery (tenant_id, integration_id, object_kind, object_id, state)
    SELECT $1, 'cp', 1, gen_random_uuid(), 3 FROM generate_series(1, $2::integer)
    """,
)
DISCLOSED = Statement(
    "disclosed",
    """
    INSERT INTO disclosure (tenant_id, integration_id, object_kind, object_id, method, document_type)
    SELECT $1, 'cp', 1, gen_random_uuid(), 1, '' FROM generate_series(1, $2::integer)
    """,
)
LEFT = Statement(
    "left",
    """
    SELECT
        (SELECT count(*) FROM integration WHERE tenant_id = $1),
        (SELECT count(*) FROM delivery WHERE tenant_id = $1),
        (SELECT count(*) FROM disclosure WHERE tenant_id = $1)
    """,
)


@pytest.fixture
async def idle(database_url: str) -> AsyncIterator[Evbridge]:
    """A server that leaves the background to others."""
    async with evbridge(settings(database_url, delivery=False)) as started:
        yield started


@pytest.fixture
async def tenant(idle: Evbridge) -> AsyncIterator[Tenant]:
    async with grpc.aio.insecure_channel(idle.address) as channel:
        yield await tenant_of(idle, channel)


async def left(server: Evbridge, tenant: Tenant) -> tuple[int, ...]:
    row = await server.database.row(LEFT, tenant.name)
    assert row is not None
    return tuple(row)


async def test_nobody_sees_anything_of_it_while_the_rest_is_removed(
    idle: Evbridge, tenant: Tenant, database_url: str
) -> None:
    create = CreateIntegrationRequest(integration=an_integration(id="cp", enabled=False))
    await tenant.admin.integrations.CreateIntegration(create)
    for statement in (DELIVERED, DISCLOSED):
        await idle.database.run(statement, tenant.name, MUCH)
    listed = await tenant.reader.deliveries.ListDeliveries(ListDeliveriesRequest(page_size=1))
    disclosed = await tenant.reader.disclosures.ListDisclosures(
        ListDisclosuresRequest(integration_id="cp", page_size=1)
    )
    watch = tenant.reader.watch.WatchIntegrations(WatchIntegrationsRequest(snapshot=True))
    assert [each.integration.id for each in (await anext(aiter(watch))).changes] == ["cp"]

    await tenant.admin.integrations.DeleteIntegration(DeleteIntegrationRequest(id="cp", force=True))
    assert await left(idle, tenant) == (1, MUCH - SLICE, MUCH)
    calls = tenant.admin
    assert not (await calls.integrations.ListIntegrations(ListIntegrationsRequest())).integrations
    assert not (await calls.deliveries.ListDeliveries(ListDeliveriesRequest())).deliveries
    assert not (await calls.deliveries.ListDeliveries(ListDeliveriesRequest(object_kind=1, state=3))).deliveries
    object_id = listed.deliveries[0].object_id
    assert not (await calls.deliveries.ListDeliveries(ListDeliveriesRequest(object_id=object_id))).deliveries
    for call in (
        calls.integrations.GetIntegration(GetIntegrationRequest(id="cp")),
        calls.integrations.PauseIntegration(PauseIntegrationRequest(id="cp", reason="maintenance")),
        calls.integrations.DeleteIntegration(DeleteIntegrationRequest(id="cp")),
        calls.deliveries.GetDelivery(GetDeliveryRequest(id=listed.deliveries[0].id)),
        calls.disclosures.GetDisclosure(GetDisclosureRequest(id=disclosed.disclosures[0].id)),
        calls.disclosures.ListDisclosures(ListDisclosuresRequest(integration_id="cp")),
        calls.partners.GetPartnerStatus(GetPartnerStatusRequest(integration_id="cp")),
        calls.publication.CreatePublicationRule(CreatePublicationRuleRequest(rule=a_rule())),
    ):
        assert (await fails(call)).reason in ("RESOURCE_NOT_FOUND", "REFERENCE_NOT_FOUND")
    changes = [each async for answer in _until_changed(watch) for each in answer.changes]
    assert [(each.id, each.HasField("integration")) for each in changes] == [("cp", False)]
    failure = await fails(calls.integrations.CreateIntegration(create))
    assert (failure.reason, "still being removed" in failure.message) == ("RESOURCE_EXISTS", True)

    # A process removes one more slice and dies; another one goes on.
    assert await tombstones_due(idle.database)
    assert await left(idle, tenant) == (1, 0, MUCH - SLICE)
    while await tombstones_due(idle.database):
        pass
    assert await left(idle, tenant) == (0, 0, 0)
    await tenant.admin.integrations.CreateIntegration(create)


async def _until_changed(watch: Any) -> AsyncIterator[Any]:
    async for answer in watch:
        if answer.changes:
            yield answer
            return


async def test_a_server_removes_what_another_one_left(idle: Evbridge, tenant: Tenant, database_url: str) -> None:
    create = CreateIntegrationRequest(integration=an_integration(id="cp", enabled=False))
    await tenant.admin.integrations.CreateIntegration(create)
    await idle.database.run(DELIVERED, tenant.name, MUCH)
    await tenant.admin.integrations.DeleteIntegration(DeleteIntegrationRequest(id="cp", force=True))
    assert (await left(idle, tenant))[0]
    async with evbridge(settings(database_url)):
        while await left(idle, tenant) != (0, 0, 0):
            await asyncio.sleep(0.02)

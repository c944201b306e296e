"""The rpcs of eMabler through the front door: an integration's status after calls, connectors of locations."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import pytest
from evbridge.partner.emabler.v2 import integration_pb2 as emabler
from evbridge.partner.emabler.v2.integration_pb2_grpc import IntegrationServiceStub
from evbridge.v1.emabler_connection_pb2 import EmablerConnection
from evbridge.v1.integration_pb2 import (
    INTEGRATION_STATUS_ACTIVE,
    INTEGRATION_STATUS_FAILED,
    INTEGRATION_STATUS_PENDING,
    CreateIntegrationRequest,
    GetIntegrationRequest,
    Integration,
    UpdateIntegrationRequest,
)
from google.protobuf.field_mask_pb2 import FieldMask

from service.app import Evbridge
from service.partners.emabler.simulator import Simulator
from service.storage.statements import Statement
from tests.conftest import Tenant
from tests.front_door import an_integration_of, fails

GET = emabler.GetIntegrationRequest(integration_id="em", emabler_integration_id="int-7")
WRITES = Statement("writes", "SELECT xmin::text FROM integration WHERE tenant_id = $1")


@pytest.fixture
async def simulated() -> AsyncIterator[Simulator]:
    made = Simulator(api_key="partner-key")
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def call(
    channel: grpc.aio.Channel, tenant: Tenant, simulated: Simulator
) -> AsyncIterator[Callable[[Any], Awaitable[Any]]]:
    """Calls eMabler, which knows the integration int-7."""
    integration = an_integration_of("emabler", id="em", emabler=EmablerConnection(base_url=simulated.url))
    integration.emabler.api_key = "partner-key"
    await tenant.admin.integrations.CreateIntegration(CreateIntegrationRequest(integration=integration))
    stub: Any = IntegrationServiceStub(channel)

    def make(request: Any) -> Awaitable[Any]:
        rpc = getattr(stub, type(request).__name__.removesuffix("Request"))
        answer: Awaitable[Any] = rpc(request, metadata=(("authorization", f"Bearer {tenant.keys['admin']}"),))
        return answer

    yield make


async def found(tenant: Tenant) -> tuple[int, str]:
    integration = await tenant.reader.integrations.GetIntegration(GetIntegrationRequest(id="em"))
    return integration.status, integration.status_description


async def with_key(tenant: Tenant, api_key: str) -> None:
    integration = Integration(id="em", emabler=EmablerConnection(api_key=api_key))
    mask = FieldMask(paths=["emabler.api_key"])
    request = UpdateIntegrationRequest(integration=integration, update_mask=mask)
    await tenant.admin.integrations.UpdateIntegration(request)


async def test_the_status_tells_how_the_last_call_ended(
    tenant: Tenant, call: Callable[[Any], Awaitable[Any]], running: Evbridge
) -> None:
    assert await found(tenant) == (INTEGRATION_STATUS_PENDING, "")
    update = emabler.UpdateIntegrationRequest(integration_id="em", emabler_integration_id="int-7")
    update.integration.integration_name = "Plugsurfing"
    await call(update)
    assert await found(tenant) == (INTEGRATION_STATUS_ACTIVE, "")
    written = await running.database.value(WRITES, tenant.name)
    await call(GET)
    missing = emabler.GetIntegrationRequest(integration_id="em", emabler_integration_id="none")
    assert (await fails(call(missing))).reason == "PARTNER_NOT_FOUND"
    assert await running.database.value(WRITES, tenant.name) == written, "only a change is written"
    await with_key(tenant, "wrong")
    for _ in range(2):
        failure = await fails(call(GET))
        assert failure.reason == "PARTNER_CREDENTIAL_REFUSED"
        assert await found(tenant) == (INTEGRATION_STATUS_FAILED, failure.message)
    await with_key(tenant, "partner-key")
    await call(GET)
    assert await found(tenant) == (INTEGRATION_STATUS_ACTIVE, "")


async def test_the_connectors_of_a_location_come_back_typed(call: Callable[[Any], Awaitable[Any]]) -> None:
    update = emabler.UpdateIntegrationRequest(integration_id="em", emabler_integration_id="int-7")
    update.integration.integration_name = "Plugsurfing"
    await call(update)
    add = emabler.AddLocationRequest(integration_id="em", emabler_integration_id="int-7", create_empty=False)
    charger = add.location.chargers.add(charger_id="CP-9")
    charger.connector.add(id="c-1", tariff_ids=["T1", "T2"])
    await call(add)
    (location,) = (await call(GET)).locations
    (answered,) = (each for each in location.chargers if each.charger_id == "CP-9")
    assert [(each.id, [*each.tariff_ids]) for each in answered.connector] == [("c-1", ["T1", "T2"])]
    assert not answered.more.fields

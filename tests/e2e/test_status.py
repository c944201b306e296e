"""`evbridge status` as a command: what it says of integrations that fare differently, and in which order."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import pytest
from evbridge.v1.company_pb2 import UpsertCompanyRequest
from evbridge.v1.integration_pb2 import (
    INTEGRATION_STATUS_FAILED,
    CreateIntegrationRequest,
    GetIntegrationRequest,
    PauseIntegrationRequest,
)
from evbridge.v1.partner_pb2 import GetPartnerStatusRequest, PartnerStatus

from service.app import Evbridge
from service.partners.chargeprice.simulator import Simulator
from service.simulator.faults import parse_fault
from service.storage.statements import Statement
from tests.conftest import Tenant
from tests.front_door import a_company, an_integration, command, environment

LONG_AGO = Statement(
    "long_ago", "UPDATE gate_pause SET outage_time = outage_time - interval '2 hours' WHERE tenant_id = $1"
)
PARTNERS = ("away", "paused", "parking", "refusing", "well")


@pytest.fixture
async def partners(tenant: Tenant) -> AsyncIterator[dict[str, Simulator]]:
    """Those of the tenant's integrations, by their ids. "away" answers with 503; "refusing" knows another key."""
    async with AsyncExitStack() as stack:
        started = {name: Simulator(api_key="new-key" if name == "refusing" else "partner-key") for name in PARTNERS}
        for name, partner in started.items():
            url = await partner.start()
            stack.push_async_callback(partner.stop)
            await tenant.admin.integrations.CreateIntegration(
                CreateIntegrationRequest(integration=an_integration(url, id=name))
            )
        started["away"].faults.append(parse_fault("1000*status:503"))
        yield started


async def fares(tenant: Tenant, integration_id: str, wanted: Callable[[PartnerStatus], bool]) -> None:
    """Returns once it does as wanted."""
    request = GetPartnerStatusRequest(integration_id=integration_id)
    while not wanted(await tenant.reader.partners.GetPartnerStatus(request)):
        await asyncio.sleep(0.02)


async def failed(tenant: Tenant, integration_id: str) -> None:
    request = GetIntegrationRequest(id=integration_id)
    while (await tenant.reader.integrations.GetIntegration(request)).status != INTEGRATION_STATUS_FAILED:
        await asyncio.sleep(0.02)


async def test_the_most_urgent_comes_first_with_what_to_do(
    running: Evbridge, shared_database_url: str, tenant: Tenant, partners: dict[str, Simulator]
) -> None:
    async def said() -> list[str]:
        ended = await command(environment(shared_database_url), "status", "--tenant", tenant.name)
        assert ended.code == 0, ended.err
        return re.split(rf"\n(?=\w+ +{tenant.name} )", ended.out)

    summary, *calm = await said()
    assert summary.strip() == "5 integrations: 5 WELL"
    assert all("nothing was sent yet" in each and "to do" not in each for each in calm)

    pause = PauseIntegrationRequest(id="paused", reason="they move until Monday")
    await tenant.admin.integrations.PauseIntegration(pause)
    good, bad = a_company(), a_company()
    partners["parking"].broken[bad.id] = 400
    await tenant.writer.companies.UpsertCompany(UpsertCompanyRequest(company=good))
    await fares(tenant, "parking", lambda status: status.deliveries.delivered_count == 1)
    await tenant.writer.companies.UpsertCompany(UpsertCompanyRequest(company=bad))
    await fares(tenant, "parking", lambda status: status.deliveries.parked_count == 1)
    await fares(tenant, "well", lambda status: status.deliveries.delivered_count == 2)
    await failed(tenant, "away")
    await failed(tenant, "refusing")

    summary, *told = await said()
    assert summary.strip() == "5 integrations: 1 NOW, 1 MORNING, 2 WAITS, 1 WELL"
    assert [" ".join(each.split()[::2][:2]) for each in told] == [
        *("NOW refusing", "MORNING parking", "WAITS away", "WAITS paused", "WELL well")
    ]
    refusing, parking, away, paused, well = told
    assert re.search(r"it refuses our credential \(.*403\), for \d+ second.*\n +to do: .*UpdateIntegration\n", refusing)
    assert re.search(r"1 delivery is parked: PARTNER_REJECTED, for .*\n +to do: .*ListDeliveries", parking)
    assert re.search(
        r"it cannot be reached \(.*503\), for \d+ second.*\n +to do: nothing: it is tried again",
        away,
    )
    assert re.search(r"it is paused: they move until Monday, for .*\n +to do: ResumeIntegration", paused)
    assert "2 delivered" in well
    assert "to do" not in well

    await running.database.run(LONG_AGO, tenant.name)
    (away,) = (each for each in await said() if " away " in each)
    assert away.startswith("MORNING")
    assert ", for 2 hours" in away
    assert "nothing is lost; ask the partner in the morning" in away

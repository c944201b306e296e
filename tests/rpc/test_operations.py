"""What operators do with deliveries: give them up, try or send them again, pause and resume; and what they see."""

import asyncio
import re
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import grpc
import pytest
from evbridge.partner.chargeprice.v1.company_pb2 import CompanyResource
from evbridge.v1.company_pb2 import Company, UpsertCompanyRequest
from evbridge.v1.delivery_pb2 import (
    DELIVERY_STATE_DELIVERED,
    DELIVERY_STATE_DISCARDED,
    DELIVERY_STATE_PARKED,
    DELIVERY_STATE_PENDING,
    OBJECT_KIND_COMPANY,
    OBJECT_KIND_LOCATION,
    OBJECT_KIND_TARIFF,
    CompareWithPartnerRequest,
    CompareWithPartnerResponse,
    Delivery,
    DiscardDeliveryRequest,
    ListDeliveriesRequest,
    RedeliverAllRequest,
    RetryDeliveryRequest,
    RetryParkedDeliveriesRequest,
)
from evbridge.v1.integration_pb2 import (
    INTEGRATION_STATUS_ACTIVE,
    INTEGRATION_STATUS_FAILED,
    INTEGRATION_STATUS_PENDING,
    INTEGRATION_STATUS_SUSPENDED,
    CreateIntegrationRequest,
    GetIntegrationRequest,
    Integration,
    PauseIntegrationRequest,
    ResumeIntegrationRequest,
    UpdateIntegrationRequest,
)
from evbridge.v1.location_pb2 import CreateLocationRequest
from evbridge.v1.partner_pb2 import GetPartnerStatusRequest, PartnerStatus
from evbridge.v1.publication_pb2 import CreatePublicationRuleRequest
from evbridge.v1.run_pb2 import (
    RUN_KIND_DIAGNOSE,
    RUN_KIND_SYNC,
    RUN_STATE_QUEUED,
    RUN_STATE_SUCCEEDED,
    GetRunRequest,
    StartRunRequest,
    WaitRunRequest,
)
from evbridge.v1.tariff_pb2 import CreateTariffRequest
from google.protobuf.field_mask_pb2 import FieldMask

from service.app import Evbridge
from service.partners.ampeco.simulator import Simulator as Ampeco
from service.partners.chargeprice.simulator import Simulator
from service.storage.integration import integration_lock, integration_replace
from service.storage.statements import Statement
from tests.ampeco import connect
from tests.conftest import Tenant
from tests.front_door import (
    a_company,
    a_connector,
    a_location,
    a_rule,
    a_tariff,
    an_evse,
    an_integration,
    an_integration_of,
    at_rest,
    command,
    environment,
    fails,
    failure_of,
    settled,
)

SHIFT = """
UPDATE gate_pause SET begin_time = begin_time - $2::interval, outage_time = outage_time - $2::interval
WHERE tenant_id = $1 AND scope = 0
"""
AWAY = "1000*status:503"


@pytest.fixture
async def connected(tenant: Tenant, simulator: Simulator) -> Tenant:
    """A tenant with a Chargeprice integration."""
    request = CreateIntegrationRequest(integration=an_integration(simulator.url, id="cp"))
    await tenant.admin.integrations.CreateIntegration(request)
    return tenant


async def upserted(tenant: Tenant, **changes: Any) -> Company:
    company = a_company(**changes)
    await tenant.writer.companies.UpsertCompany(UpsertCompanyRequest(company=company))
    return company


async def pause(tenant: Tenant, reason: str = "they move house", id: str = "cp") -> Integration:
    return await tenant.admin.integrations.PauseIntegration(PauseIntegrationRequest(id=id, reason=reason))


async def resume(tenant: Tenant, id: str = "cp") -> Integration:
    return await tenant.admin.integrations.ResumeIntegration(ResumeIntegrationRequest(id=id))


async def integration(tenant: Tenant, id: str = "cp") -> Integration:
    return await tenant.reader.integrations.GetIntegration(GetIntegrationRequest(id=id))


async def partner(tenant: Tenant, id: str = "cp") -> PartnerStatus:
    return await tenant.reader.partners.GetPartnerStatus(GetPartnerStatusRequest(integration_id=id))


def collections(ampeco: Ampeco) -> Counter[str]:
    """How much AMPECO holds of each, whatever its ids are."""
    return Counter(re.sub(r"/\d+", "", path) for path in ampeco.objects)


async def parked(tenant: Tenant, simulator: Simulator) -> Delivery:
    """One that someone else's change parked."""
    company = await upserted(tenant)
    await settled(tenant.reader, company.id)
    simulator.edit(company.id, name="Theirs")
    company.version, company.name = 2, "Ours"
    await tenant.writer.companies.UpsertCompany(UpsertCompanyRequest(company=company))
    delivery = await settled(tenant.reader, company.id)
    assert delivery.state == DELIVERY_STATE_PARKED
    return delivery


async def test_all_that_is_parked_is_tried_again(connected: Tenant, simulator: Simulator) -> None:
    found = [await parked(connected, simulator) for _ in range(3)]
    simulator.edit(found[0].object_id, name="Ours")
    request = RetryParkedDeliveriesRequest(integration_id="cp", object_kind=OBJECT_KIND_TARIFF)
    assert (await connected.writer.deliveries.RetryParkedDeliveries(request)).delivery_count == 0
    request.object_kind = OBJECT_KIND_COMPANY
    assert (await connected.writer.deliveries.RetryParkedDeliveries(request)).delivery_count == 3
    states = [(await settled(connected.reader, each.object_id)).state for each in found]
    assert states == [DELIVERY_STATE_DELIVERED, DELIVERY_STATE_PARKED, DELIVERY_STATE_PARKED]


async def test_what_is_given_up_stays_so_until_it_changes_or_is_retried(
    connected: Tenant, simulator: Simulator
) -> None:
    delivery = await parked(connected, simulator)
    discarded = await connected.writer.deliveries.DiscardDelivery(DiscardDeliveryRequest(id=delivery.id))
    assert (discarded.state, discarded.reason) == (DELIVERY_STATE_DISCARDED, delivery.reason)
    retry = RetryParkedDeliveriesRequest(integration_id="cp")
    assert (await connected.writer.deliveries.RetryParkedDeliveries(retry)).delivery_count == 0
    request = ListDeliveriesRequest(state=DELIVERY_STATE_DISCARDED)
    assert [each.id for each in (await connected.reader.deliveries.ListDeliveries(request)).deliveries] == [delivery.id]
    simulator.edit(delivery.object_id, name="Ours")
    company = a_company(id=delivery.object_id, version=3, name="Ours")
    await connected.writer.companies.UpsertCompany(UpsertCompanyRequest(company=company))
    assert (await settled(connected.reader, company.id)).state == DELIVERY_STATE_DELIVERED
    discarded = await connected.writer.deliveries.DiscardDelivery(DiscardDeliveryRequest(id=delivery.id))
    assert discarded.state == DELIVERY_STATE_DELIVERED


async def test_a_delivery_under_way_is_not_given_up(connected: Tenant, simulator: Simulator) -> None:
    simulator.inject("PUT=delay:3")
    company = await upserted(connected)
    request = ListDeliveriesRequest(object_id=company.id)
    while not simulator.requests:
        await asyncio.sleep(0.01)
    (delivery,) = (await connected.reader.deliveries.ListDeliveries(request)).deliveries
    failure = await fails(connected.writer.deliveries.DiscardDelivery(DiscardDeliveryRequest(id=delivery.id)))
    assert failure.reason == "DELIVERY_IN_PROGRESS"


async def compare(tenant: Tenant, delivery: Delivery) -> CompareWithPartnerResponse:
    return await tenant.reader.deliveries.CompareWithPartner(CompareWithPartnerRequest(delivery_id=delivery.id))


async def test_a_comparison_names_the_fields_that_differ(connected: Tenant, simulator: Simulator) -> None:
    company = await upserted(connected, name="Ours")
    delivery = await settled(connected.reader, company.id)
    same = await compare(connected, delivery)
    assert (same.ours, same.sent, same.differences) == (same.remote, same.remote, [])
    simulator.edit(company.id, name="Theirs")
    await pause(connected)
    company.version, company.name = 2, "Newer"
    await connected.writer.companies.UpsertCompany(UpsertCompanyRequest(company=company))
    (found,) = (await compare(connected, delivery)).differences
    told = (found.path, found.ours, found.sent, found.remote)
    assert told == ("attributes.name", '"Newer"', '"Ours"', '"Theirs"')
    simulator.companies.clear()
    gone = await compare(connected, delivery)
    assert (gone.HasField("ours"), gone.HasField("remote")) == (True, False)
    assert {each.remote for each in gone.differences} == {""}
    held = CompanyResource()
    assert gone.sent.Unpack(held) and held.attributes.name == "Ours"


async def test_a_comparison_goes_through_all_that_ampeco_holds(connected: Tenant, ampeco: Ampeco) -> None:
    await connect(connected, ampeco)
    await connected.writer.tariffs.CreateTariff(CreateTariffRequest(tariff=a_tariff(id="T1")))
    rule = a_rule(integration_id="am")
    await connected.admin.publication.CreatePublicationRule(CreatePublicationRuleRequest(rule=rule))
    place = a_location(evses=[an_evse("E1", connectors=[a_connector(tariff_ids=["T1"])])])
    await connected.writer.locations.CreateLocation(CreateLocationRequest(location=place))
    deliveries = {each.object_kind: each for each in await at_rest(connected.reader, "am")}
    before = len(ampeco.requests)
    for delivery in deliveries.values():
        same = await compare(connected, delivery)
        assert (same.ours, same.sent, [*same.differences]) == (same.sent, same.remote, []), same
    (evse,) = (path for path in ampeco.objects if "/evses/" in path and "connectors" not in path)
    ampeco.objects[evse] = ampeco.objects[evse] | {"status": "disabled", "label": "theirs alone"}
    found = (await compare(connected, deliveries[OBJECT_KIND_LOCATION])).differences
    assert [(each.path, each.ours, each.remote) for each in found] == [("evses.e1.status", '"enabled"', '"disabled"')]
    del ampeco.objects[evse]
    gone = (await compare(connected, deliveries[OBJECT_KIND_LOCATION])).differences
    assert {each.remote for each in gone} == {""} and {each.path.split(".")[0] for each in gone} == {
        "evses",
        "connectors",
    }
    assert {each.method for each in ampeco.requests[before:]} == {"GET"}


async def test_what_cannot_be_compared_is_refused(
    connected: Tenant, simulator: Simulator, new_tenant: Callable[[], Any]
) -> None:
    delivery = await settled(connected.reader, (await upserted(connected)).id)
    request = CompareWithPartnerRequest(delivery_id=delivery.id)
    other = await new_tenant()
    assert (await fails(other.reader.deliveries.CompareWithPartner(request))).reason == "RESOURCE_NOT_FOUND"
    simulator.inject("1000*GET=status:503")
    assert (await fails(connected.reader.deliveries.CompareWithPartner(request))).reason == "PARTNER_UNAVAILABLE"
    disabled = UpdateIntegrationRequest(
        integration=Integration(id="cp", enabled=False), update_mask=FieldMask(paths=["enabled"])
    )
    await connected.admin.integrations.UpdateIntegration(disabled)
    assert (await fails(connected.reader.deliveries.CompareWithPartner(request))).reason == "INTEGRATION_DISABLED"


async def test_a_partner_that_lost_its_companies_is_given_them_again(connected: Tenant, simulator: Simulator) -> None:
    ids = [(await upserted(connected)).id for _ in range(3)]
    await at_rest(connected.reader, "cp")
    simulator.companies.clear()
    request = RedeliverAllRequest(integration_id="cp", validate_only=True)
    assert (await connected.admin.deliveries.RedeliverAll(request)).delivery_count == 3
    assert {each.state for each in await at_rest(connected.reader, "cp")} == {DELIVERY_STATE_DELIVERED}
    assert not simulator.companies
    retried = RetryDeliveryRequest(id=(await at_rest(connected.reader, "cp"))[0].id)
    await connected.writer.deliveries.RetryDelivery(retried)  # the control: it is taken for removed there
    assert DELIVERY_STATE_PARKED in {each.state for each in await at_rest(connected.reader, "cp")}
    request = RedeliverAllRequest(integration_id="cp", request_id=str(uuid4()))
    answers = [await connected.admin.deliveries.RedeliverAll(request) for _ in range(2)]
    assert [answer.delivery_count for answer in answers] == [3, 3]
    assert {each.state for each in await at_rest(connected.reader, "cp")} == {DELIVERY_STATE_DELIVERED}
    assert sorted(simulator.companies) == sorted(ids)


async def test_a_partner_that_lost_its_locations_is_given_them_with_all_their_parts(
    tenant: Tenant, ampeco: Ampeco
) -> None:
    await connect(tenant, ampeco)
    await tenant.writer.tariffs.CreateTariff(CreateTariffRequest(tariff=a_tariff(id="T1")))
    location = a_location(evses=[an_evse(connectors=[a_connector(tariff_ids=["T1"])])])
    await tenant.writer.locations.CreateLocation(CreateLocationRequest(location=location))
    rule = a_rule(integration_id="am")
    await tenant.admin.publication.CreatePublicationRule(CreatePublicationRuleRequest(rule=rule))
    await at_rest(tenant.reader, "am")
    there = collections(ampeco)
    ampeco.objects.clear()
    await tenant.admin.deliveries.RedeliverAll(RedeliverAllRequest(integration_id="am"))
    assert {each.state for each in await at_rest(tenant.reader, "am")} == {DELIVERY_STATE_DELIVERED}
    assert collections(ampeco) == there
    assert [*(await partner(tenant, "am")).object_kinds] == [OBJECT_KIND_TARIFF, OBJECT_KIND_LOCATION]


async def test_a_paused_integration_delivers_what_changed_once_it_goes_on(
    connected: Tenant, simulator: Simulator
) -> None:
    await upserted(connected)
    await at_rest(connected.reader, "cp")
    paused = await pause(connected)
    assert (paused.status, paused.status_description) == (INTEGRATION_STATUS_SUSPENDED, "they move house")
    company = await upserted(connected)
    other = CreateIntegrationRequest(integration=an_integration(simulator.url, id="other"))
    await connected.admin.integrations.CreateIntegration(other)
    assert {each.state for each in await at_rest(connected.reader, "other")} == {DELIVERY_STATE_DELIVERED}
    request = ListDeliveriesRequest(integration_id="cp", object_id=company.id)
    (delivery,) = (await connected.reader.deliveries.ListDeliveries(request)).deliveries
    assert (delivery.state, delivery.HasField("next_attempt_time")) == (DELIVERY_STATE_PENDING, False)
    # What someone asks for passes, and changes nothing.
    diagnosis = StartRunRequest(integration_id="cp", kind=RUN_KIND_DIAGNOSE)
    run = await connected.writer.runs.StartRun(diagnosis)
    run = await connected.reader.runs.WaitRun(WaitRunRequest(id=run.id), timeout=30.0)
    assert run.state == RUN_STATE_SUCCEEDED
    changed = Integration(id="cp", display_name="Moving")
    await connected.admin.integrations.UpdateIntegration(UpdateIntegrationRequest(integration=changed))
    again = await pause(connected, "still")
    assert (again.pause_time, again.status_description) == (paused.pause_time, "still")
    assert (await integration(connected)).status == INTEGRATION_STATUS_SUSPENDED
    resumed = await resume(connected)
    assert (resumed.status, resumed.HasField("pause_time")) == (INTEGRATION_STATUS_PENDING, False)
    assert {each.state for each in await at_rest(connected.reader, "cp")} == {DELIVERY_STATE_DELIVERED}
    while (await integration(connected)).status != INTEGRATION_STATUS_ACTIVE:
        await asyncio.sleep(0.01)


async def test_an_import_waits_for_the_end_of_a_pause(tenant: Tenant, ampeco: Ampeco) -> None:
    await connect(tenant, ampeco)
    await pause(tenant, id="am")
    waiting = await tenant.writer.runs.StartRun(StartRunRequest(integration_id="am", kind=RUN_KIND_SYNC))
    other = an_integration(ampeco.url, id="cp")
    await tenant.admin.integrations.CreateIntegration(CreateIntegrationRequest(integration=other))
    run = await tenant.writer.runs.StartRun(StartRunRequest(integration_id="cp", kind=RUN_KIND_DIAGNOSE))
    await tenant.reader.runs.WaitRun(WaitRunRequest(id=run.id), timeout=30.0)  # it began later
    assert (await tenant.reader.runs.GetRun(GetRunRequest(id=waiting.id))).state == RUN_STATE_QUEUED
    await resume(tenant, "am")
    run = await tenant.reader.runs.WaitRun(WaitRunRequest(id=waiting.id), timeout=30.0)
    assert run.state == RUN_STATE_SUCCEEDED


@pytest.mark.parametrize(
    ("shift", "status"),
    [
        (timedelta(days=5), INTEGRATION_STATUS_SUSPENDED),
        (timedelta(days=4, hours=23), INTEGRATION_STATUS_FAILED),
    ],
    ids=["five days", "less"],
)
async def test_what_takes_nothing_for_five_days_is_suspended_until_someone_resumes_it(
    connected: Tenant, simulator: Simulator, running: Evbridge, shift: timedelta, status: int
) -> None:
    simulator.inject(AWAY)
    company = await upserted(connected)
    while (await integration(connected)).status != INTEGRATION_STATUS_FAILED:
        await asyncio.sleep(0.01)
    await running.database.run(Statement("shift", SHIFT), connected.name, shift)
    before = len(simulator.requests)
    while (await integration(connected)).status != status or len(simulator.requests) < before + 3:
        if (await integration(connected)).HasField("pause_time"):
            break
        await asyncio.sleep(0.01)
    found = await integration(connected)
    assert found.status == status
    if status == INTEGRATION_STATUS_FAILED:
        return
    assert found.status_description.startswith("nothing arrived for 5 days: ")
    # It is tried again for five days, not once.
    await resume(connected)
    while (await integration(connected)).status != INTEGRATION_STATUS_FAILED:
        await asyncio.sleep(0.01)
    simulator.faults.clear()
    assert (await settled(connected.reader, company.id)).state == DELIVERY_STATE_DELIVERED


@pytest.mark.parametrize("answers", [True, False], ids=["it answers between", "control"])
async def test_days_between_two_outages_are_no_outage(
    connected: Tenant, simulator: Simulator, running: Evbridge, shared_database_url: str, answers: bool
) -> None:
    """Nothing succeeds for five days. Once the partner refuses one object it is no outage, and `status` says so."""

    async def said() -> str:
        return (await command(environment(shared_database_url), "status", "--tenant", connected.name)).out

    simulator.inject(AWAY)
    bad = await upserted(connected)
    while (await integration(connected)).status != INTEGRATION_STATUS_FAILED:
        await asyncio.sleep(0.01)
    assert "it cannot be reached" in await said()
    if answers:
        simulator.broken[bad.id] = 400
        simulator.faults.clear()
        assert (await settled(connected.reader, bad.id)).state == DELIVERY_STATE_PARKED
        assert (await integration(connected)).status == INTEGRATION_STATUS_ACTIVE
        told = await said()
        assert told.startswith("1 integration: 1 MORNING\n")
        assert "1 delivery is parked: PARTNER_REJECTED" in told
        assert "reached" not in told and "succeeds" not in told
        simulator.inject(AWAY)
    await running.database.run(Statement("shift", SHIFT), connected.name, timedelta(days=5))
    good, before = await upserted(connected), len(simulator.requests)
    while len(simulator.requests) < before + 3 and not (await integration(connected)).HasField("pause_time"):
        await asyncio.sleep(0.01)
    assert (await integration(connected)).HasField("pause_time") != answers
    if answers:
        simulator.faults.clear()
        assert (await settled(connected.reader, good.id)).state == DELIVERY_STATE_DELIVERED


async def test_an_outage_with_nothing_due_promises_no_attempt(
    connected: Tenant, simulator: Simulator, shared_database_url: str
) -> None:
    simulator.inject(AWAY)
    company = await upserted(connected)
    while (await integration(connected)).status != INTEGRATION_STATUS_FAILED:
        await asyncio.sleep(0.01)
    request = ListDeliveriesRequest(object_id=company.id)
    (delivery,) = (await connected.reader.deliveries.ListDeliveries(request)).deliveries
    while True:
        try:
            await connected.writer.deliveries.DiscardDelivery(DiscardDeliveryRequest(id=delivery.id))
            break
        except grpc.aio.AioRpcError as error:
            assert failure_of(error).reason == "DELIVERY_IN_PROGRESS"
            await asyncio.sleep(0.01)
    told = (await command(environment(shared_database_url), "status", "--tenant", connected.name)).out
    assert "it cannot be reached" in told
    assert "nothing is due" in told and "it is tried again" not in told


async def test_the_status_sums_deliveries_up(
    connected: Tenant, simulator: Simulator, new_tenant: Callable[[], Any]
) -> None:
    await parked(connected, simulator)
    await upserted(connected)
    await at_rest(connected.reader, "cp")
    status = await partner(connected)
    told = status.deliveries
    assert [*status.object_kinds] == [OBJECT_KIND_COMPANY]
    assert (told.delivered_count, told.parked_count, told.pending_count) == (1, 1, 0)
    assert (told.recent_attempt_count, told.recent_success_count) == (3, 2)
    assert not told.HasField("oldest_pending_time")
    await pause(connected)
    company = await upserted(connected)
    oldest = (await partner(connected)).deliveries.oldest_pending_time
    company.version, company.name = 2, "Changed"
    await connected.writer.companies.UpsertCompany(UpsertCompanyRequest(company=company))
    told = (await partner(connected)).deliveries
    assert (told.pending_count, told.oldest_pending_time) == (1, oldest)
    request = CreateIntegrationRequest(integration=an_integration(simulator.url, id="cp"))
    other = await new_tenant()
    await other.admin.integrations.CreateIntegration(request)
    assert (await partner(other)).deliveries.delivered_count == 0


async def test_the_command_line_says_how_it_stands(
    connected: Tenant, simulator: Simulator, shared_database_url: str
) -> None:
    await parked(connected, simulator)
    await pause(connected, "moving\nout")
    await upserted(connected)
    told = await command(environment(shared_database_url), "status", "--tenant", connected.name)
    assert (told.code, told.err) == (0, "")
    summary, _, title, *lines = told.out.splitlines()
    assert summary == "1 integration: 1 MORNING"
    assert title == f"MORNING  {connected.name} cp (chargeprice)"
    said = [line.strip() for line in lines]
    assert any(line.startswith("it is paused: moving\\nout, for ") for line in said), said
    counts = said[said.index("takes company") + 1]
    assert counts.startswith("1 pending, 1 parked; the oldest waits for ")
    assert counts.endswith("; 1 of 2 attempts of the last hour succeeded")
    unknown = await command(environment(shared_database_url), "status", "--tenant", "nobody")
    assert (unknown.code, unknown.out) == (1, "")
    assert unknown.err.startswith("evbridge: there is no tenant nobody: ")


async def test_an_integration_without_its_platform_hides_no_other(
    tenant: Tenant, running: Evbridge, shared_database_url: str
) -> None:
    """An older build took one that does not exist."""
    behind = an_integration_of("ocpi", id="behind")
    for integration in (behind, an_integration("https://partner.example", id="cp")):
        await tenant.admin.integrations.CreateIntegration(CreateIntegrationRequest(integration=integration))
    async with running.database.transaction() as conn:
        stored = await integration_lock(conn, tenant.name, "behind")
        stored.ocpi.platform_integration_id = "nobody"
        await integration_replace(conn, tenant.name, stored)
    told = await command(environment(shared_database_url), "status", "--tenant", tenant.name)
    assert (told.code, told.err) == (0, "")
    behind_told, cp_told = told.out.split("\n\n")[1:]
    title, why, *_ = behind_told.splitlines()
    assert title == f"MORNING  {tenant.name} behind (ocpi)"
    assert why.strip() == "it cannot be called: integration nobody does not exist"
    assert cp_told.startswith(f"WELL     {tenant.name} cp (chargeprice)\n")

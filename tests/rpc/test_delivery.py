"""DeliveryService, and what deliveries do when the partner answers badly, late or not at all."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any
from uuid import uuid4

import grpc
import pytest
from aiohttp import web
from aiohttp.typedefs import Handler
from evbridge.partner.chargeprice.v1.company_pb2 import CompanyAttributes, CompanyResource
from evbridge.v1 import error_reason_pb2 as reasons
from evbridge.v1.company_pb2 import Company, DeleteCompanyRequest, UpsertCompanyRequest
from evbridge.v1.delivery_pb2 import (
    DELIVERY_STATE_DELIVERED,
    DELIVERY_STATE_PARKED,
    DELIVERY_STATE_PENDING,
    OBJECT_KIND_COMPANY,
    PEER_OBJECT_STATE_LINKED,
    PEER_OBJECT_STATE_NONE,
    Delivery,
    GetDeliveryRequest,
    ListDeliveriesRequest,
    RetryDeliveryRequest,
)
from evbridge.v1.integration_pb2 import (
    INTEGRATION_STATUS_ACTIVE,
    INTEGRATION_STATUS_FAILED,
    CreateIntegrationRequest,
    DeleteIntegrationRequest,
    GetIntegrationRequest,
    Integration,
    ListIntegrationsRequest,
    UpdateIntegrationRequest,
)
from google.protobuf.field_mask_pb2 import FieldMask

from service.app import Evbridge
from service.delivery import worker
from service.domain.caller import Caller
from service.domain.delivery import RetryPolicy, Streak, Verdict, verdict
from service.errors import DatabaseUnavailable, EvbridgeError
from service.partners.chargeprice.simulator import Simulator
from service.simulator.faults import parse_fault
from service.storage import changes
from service.storage.changes import change_record
from service.storage.connection import Connection
from service.storage.delivery import Waiting, delivery_waiting
from service.storage.pool import Database
from service.storage.statements import Statement
from tests.conftest import Tenant
from tests.front_door import a_company, an_integration, fails, settled
from tests.partners import listening

Code = grpc.StatusCode


@pytest.fixture
async def connected(tenant: Tenant, simulator: Simulator) -> Tenant:
    """A tenant with a Chargeprice integration."""
    request = CreateIntegrationRequest(integration=an_integration(simulator.url, id="cp"))
    await tenant.admin.integrations.CreateIntegration(request)
    return tenant


async def upsert(tenant: Tenant, company: Company) -> None:
    await tenant.writer.companies.UpsertCompany(UpsertCompanyRequest(company=company))


async def retry(tenant: Tenant, delivery: Delivery, **more: Any) -> Delivery:
    return await tenant.writer.deliveries.RetryDelivery(RetryDeliveryRequest(id=delivery.id, **more))


def puts(simulator: Simulator) -> int:
    return sum(received.method == "PUT" for received in simulator.requests)


async def test_a_company_arrives_and_its_delivery_tells(connected: Tenant, simulator: Simulator) -> None:
    company = a_company()
    await upsert(connected, company)
    delivery = await settled(connected.reader, company.id)
    assert delivery.state == DELIVERY_STATE_DELIVERED
    assert (delivery.integration_id, delivery.object_kind) == ("cp", OBJECT_KIND_COMPANY)
    assert delivery.peer_object.state == PEER_OBJECT_STATE_LINKED
    assert (delivery.peer_object.external_id, delivery.peer_object.acknowledged_version) == (company.id, 1)
    assert [attempt.sent_version for attempt in delivery.attempts] == [1]
    assert not delivery.HasField("next_attempt_time")
    company.version, company.name = 2, "Renamed"
    await upsert(connected, company)
    assert (await settled(connected.reader, company.id)).peer_object.acknowledged_version == 2
    assert simulator.companies[company.id].attributes.name == "Renamed"
    assert simulator.history == [(company.id, 1), (company.id, 2)]


async def test_the_same_content_again_is_not_sent(connected: Tenant, simulator: Simulator) -> None:
    company = a_company()
    await upsert(connected, company)
    await settled(connected.reader, company.id)
    company.version = 2
    await upsert(connected, company)
    delivery = await settled(connected.reader, company.id)
    assert [attempt.sent_version for attempt in delivery.attempts] == [0, 1]
    assert puts(simulator) == 1


async def test_a_deleted_company_is_deleted_at_the_partner_and_can_come_back(
    connected: Tenant, simulator: Simulator
) -> None:
    company = a_company()
    await upsert(connected, company)
    await settled(connected.reader, company.id)
    await connected.writer.companies.DeleteCompany(DeleteCompanyRequest(id=company.id))
    delivery = await settled(connected.reader, company.id)
    assert delivery.peer_object.state == PEER_OBJECT_STATE_NONE
    assert company.id not in simulator.companies
    await upsert(connected, company)
    assert (await settled(connected.reader, company.id)).peer_object.acknowledged_version == 1


async def test_a_company_that_the_partner_will_not_delete_is_parked(connected: Tenant, simulator: Simulator) -> None:
    company = a_company()
    await upsert(connected, company)
    await settled(connected.reader, company.id)
    simulator.with_tariffs.add(company.id)
    await connected.writer.companies.DeleteCompany(DeleteCompanyRequest(id=company.id))
    delivery = await settled(connected.reader, company.id)
    assert (delivery.state, delivery.reason) == (DELIVERY_STATE_PARKED, reasons.PARTNER_REJECTED)
    assert (delivery.attempts[0].http_status, delivery.attempts[0].partner_code) == (400, "BAD_REQUEST")
    simulator.with_tariffs.clear()
    await retry(connected, delivery)
    assert (await settled(connected.reader, company.id)).state == DELIVERY_STATE_DELIVERED
    assert company.id not in simulator.companies


PASSING = {
    "the answer is lost": ["lose_answer"],
    "the answer is lost three times": ["lose_answer"] * 3,
    "the connection is cut": ["cut"],
    "it is busy": ["status:503"],
    "it is too many": ["status:429:1"],
    "it fails": ["status:500", "status:500"],
    "a gateway gives up": ["status:502", "status:504"],
    "it answers garbage": ["garbage"],
    "it answers in another envelope": ["wrong_envelope"],
    "it redirects": ["redirect:http://127.0.0.1:1/"],
    "it answers with a bomb": ["gzip_bomb"],
    "one after another": ["status:503", "lose_answer", "garbage", "cut", "status:500"],
}


@pytest.mark.parametrize("faults", PASSING.values(), ids=PASSING)
async def test_what_passes_is_overcome_and_each_change_is_applied_once(
    connected: Tenant, simulator: Simulator, faults: list[str]
) -> None:
    company = a_company()
    await upsert(connected, company)
    await settled(connected.reader, company.id)
    simulator.faults.extend(parse_fault(text) for text in faults)
    company.version, company.name = 2, "After the fault"
    await upsert(connected, company)
    delivery = await settled(connected.reader, company.id)
    assert delivery.state == DELIVERY_STATE_DELIVERED, delivery
    assert not simulator.faults
    assert simulator.history == [(company.id, 1), (company.id, 2)]
    assert simulator.companies[company.id].attributes.name == "After the fault"
    assert any(attempt.reason for attempt in delivery.attempts)


async def test_lost_answers_cost_nothing_and_double_nothing(
    connected: Tenant, simulator: Simulator, soak: Callable[[int], int]
) -> None:
    """The partner starts with the company at version 7, which it had before us."""
    company = a_company(name="Name 1")
    simulator.companies[company.id] = CompanyResource(
        id=company.id, type="company", attributes=CompanyAttributes(name="Held before us", version=7)
    )
    changes = soak(100)
    for number in range(1, changes + 1):
        simulator.faults.append(parse_fault("PUT=lose_answer"))
        company.version, company.name = number, f"Name {number}"
        await upsert(connected, company)
        delivery = await settled(connected.reader, company.id)
        assert delivery.state == DELIVERY_STATE_DELIVERED, delivery
    assert simulator.history == [(company.id, version) for version in range(8, 8 + changes)]
    assert simulator.companies[company.id].attributes.name == f"Name {changes}"
    assert puts(simulator) == changes


async def test_a_control_partner_that_loses_answers_does_meet_a_naive_client_with_conflicts(
    simulator: Simulator,
) -> None:
    """Without reading first, repeating a PUT whose answer was lost is a false conflict: the test above can fail."""
    import aiohttp

    body = {
        "data": {
            "id": str(uuid4()),
            "type": "company",
            "attributes": {"name": "N", "version": 1, "is_cpo": True, "is_emp": False, "external_source_mapping": {}},
            "relationships": {"supported_emps": {"data": []}},
        }
    }
    simulator.faults.append(parse_fault("PUT=lose_answer"))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
        session._retry_connection = False
        url, headers = f"{simulator.url}/v1/companies/{body['data']['id']}", {"API-Key": "partner-key"}
        with pytest.raises(aiohttp.ClientError):
            await session.put(url, json=body, headers=headers)
        async with session.put(url, json=body, headers=headers) as answer:
            assert answer.status == 409


async def test_someone_elses_change_is_parked_and_overwritten_only_when_told(
    connected: Tenant, simulator: Simulator
) -> None:
    company = a_company()
    await upsert(connected, company)
    await settled(connected.reader, company.id)
    simulator.edit(company.id, name="Theirs")
    company.version, company.name = 2, "Ours"
    await upsert(connected, company)
    delivery = await settled(connected.reader, company.id)
    assert (delivery.state, delivery.reason) == (DELIVERY_STATE_PARKED, reasons.PARTNER_CHANGED)
    assert simulator.companies[company.id].attributes.name == "Theirs"
    # Compared again, not overwritten.
    await retry(connected, delivery)
    assert (await settled(connected.reader, company.id)).state == DELIVERY_STATE_PARKED
    # A change of ours does not overwrite it either.
    company.version, company.name = 3, "Ours again"
    await upsert(connected, company)
    assert (await settled(connected.reader, company.id)).state == DELIVERY_STATE_PARKED
    assert simulator.companies[company.id].attributes.name == "Theirs"
    await retry(connected, delivery, overwrite_partner_change=True)
    assert (await settled(connected.reader, company.id)).state == DELIVERY_STATE_DELIVERED
    assert simulator.companies[company.id].attributes.name == "Ours again"


async def test_a_version_that_moved_without_a_change_is_no_conflict(connected: Tenant, simulator: Simulator) -> None:
    company = a_company()
    await upsert(connected, company)
    await settled(connected.reader, company.id)
    simulator.edit(company.id)
    company.version, company.name = 2, "Ours"
    await upsert(connected, company)
    delivery = await settled(connected.reader, company.id)
    assert (delivery.state, delivery.peer_object.acknowledged_version) == (DELIVERY_STATE_DELIVERED, 3)


async def test_an_object_removed_at_the_partner_is_parked_and_made_again_only_when_told(
    connected: Tenant, simulator: Simulator
) -> None:
    company = a_company()
    await upsert(connected, company)
    await settled(connected.reader, company.id)
    del simulator.companies[company.id]
    company.version, company.name = 2, "Ours"
    await upsert(connected, company)
    delivery = await settled(connected.reader, company.id)
    assert (delivery.state, delivery.reason) == (DELIVERY_STATE_PARKED, reasons.PARTNER_CHANGED)
    await retry(connected, delivery, overwrite_partner_change=True)
    assert (await settled(connected.reader, company.id)).peer_object.acknowledged_version == 1


async def test_what_keeps_failing_at_a_partner_that_works_is_parked_and_a_change_tries_again(
    connected: Tenant, simulator: Simulator
) -> None:
    company = a_company()
    simulator.broken[company.id] = 500
    await upsert(connected, company)
    async with asyncio.TaskGroup() as group:
        works = group.create_task(takes_others(connected))
        delivery = await settled(connected.reader, company.id, limit_s=60)
        works.cancel()
    assert (delivery.state, delivery.reason) == (DELIVERY_STATE_PARKED, reasons.PARTNER_FAULT)
    assert delivery.failed_attempts == 5
    assert {attempt.http_status for attempt in delivery.attempts} == {500}
    simulator.broken.clear()
    company.version, company.name = 2, "Better"
    await upsert(connected, company)
    assert (await settled(connected.reader, company.id)).state == DELIVERY_STATE_DELIVERED


async def takes_others(tenant: Tenant) -> None:
    """One company after another arrives, until cancelled."""
    while True:
        await takes(tenant, 1)


OUTAGES = {
    "Cloudflare has no origin": "status:521",
    "Cloudflare does not know": "status:520",
    "Cloudflare's DNS fails": "status:530",
    "it is broken": "status:500",
    "it is a router without routes": "status:404",
    "it takes nothing for valid": "status:400",
    "it implements nothing": "status:501",
    "its domain is parked": "redirect:http://127.0.0.1:1/",
    "a captive portal answers": "garbage",
    "nothing is in the answer": "empty",
}


async def states(tenant: Tenant, integration_id: str) -> Counter[int]:
    page = await tenant.reader.deliveries.ListDeliveries(ListDeliveriesRequest(integration_id=integration_id))
    return Counter(delivery.state for delivery in page.deliveries)


@pytest.fixture
async def outages(tenant: Tenant) -> AsyncIterator[dict[str, Simulator]]:
    """For each outage an integration of the tenant, whose id it is, and its partner, which answers everything so."""
    partners = {f"o-{number}": Simulator(api_key="partner-key") for number in range(len(OUTAGES))}
    for (id, partner), fault in zip(partners.items(), OUTAGES.values(), strict=True):
        partner.faults.append(parse_fault(f"1000*{fault}"))
        request = CreateIntegrationRequest(integration=an_integration(await partner.start(), id=id))
        await tenant.admin.integrations.CreateIntegration(request)
    yield partners
    for partner in partners.values():
        await partner.stop()


async def each(outages: dict[str, Simulator], work: Callable[[str, Simulator], Coroutine[Any, Any, None]]) -> None:
    """Does it for each outage at the same time; the name of one that breaks is noted."""

    async def named(name: str, id: str, partner: Simulator) -> None:
        try:
            await work(id, partner)
        except BaseException as error:
            error.add_note(name)
            raise

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for name, (id, partner) in zip(OUTAGES, outages.items(), strict=True):
            group.create_task(named(name, id, partner))


async def test_an_outage_parks_nothing_whatever_it_answers_and_heals_by_itself(
    tenant: Tenant, outages: dict[str, Simulator]
) -> None:
    for _ in range(4):
        await upsert(tenant, a_company())

    async def status(id: str) -> int:
        return (await tenant.reader.integrations.GetIntegration(GetIntegrationRequest(id=id))).status

    async def lived_through(id: str, partner: Simulator) -> None:
        while len(partner.requests) < 6 or await status(id) != INTEGRATION_STATUS_FAILED:
            await asyncio.sleep(0.02)
        assert not (await states(tenant, id))[DELIVERY_STATE_PARKED]
        partner.faults.clear()
        while (await states(tenant, id))[DELIVERY_STATE_DELIVERED] < 4:
            await asyncio.sleep(0.05)
        assert len(partner.companies) == len(partner.history) == 4
        assert await status(id) == INTEGRATION_STATUS_ACTIVE

    await each(outages, lived_through)


async def test_a_control_that_judges_each_object_alone_does_park_them(
    tenant: Tenant, outages: dict[str, Simulator], monkeypatch: pytest.MonkeyPatch
) -> None:
    def alone(error: EvbridgeError, failed_attempts: int, _: Streak, policy: RetryPolicy) -> Verdict:
        return verdict(error, failed_attempts, Streak(proven=True), policy)

    async def parked(id: str, _: Simulator) -> None:
        while not (await states(tenant, id))[DELIVERY_STATE_PARKED]:
            await asyncio.sleep(0.02)

    monkeypatch.setattr(worker, "verdict", alone)
    await upsert(tenant, a_company())
    await each(outages, parked)


async def two_parked(tenant: Tenant, simulator: Simulator) -> list[Company]:
    """What a short outage answered with 400, before enough failed to tell that it was one; it is over."""
    companies = [a_company(), a_company()]
    simulator.faults.append(parse_fault("1000*status:400"))
    for company in companies:
        await upsert(tenant, company)
        assert (await settled(tenant.reader, company.id)).state == DELIVERY_STATE_PARKED
    simulator.faults.clear()
    await upsert(tenant, other := a_company())
    assert (await settled(tenant.reader, other.id)).state == DELIVERY_STATE_DELIVERED
    return companies


async def test_what_was_parked_while_nothing_was_taken_is_tried_once_the_partner_works(
    connected: Tenant, simulator: Simulator
) -> None:
    for company in await two_parked(connected, simulator):
        while (await settled(connected.reader, company.id)).state != DELIVERY_STATE_DELIVERED:
            await asyncio.sleep(0.02)
    assert len(simulator.history) == 3


async def test_a_control_that_is_not_unparked_stays_parked(
    connected: Tenant, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(*_: object) -> None:
        pass

    monkeypatch.setattr(worker, "delivery_unpark", nothing)
    companies = await two_parked(connected, simulator)
    await takes(connected, 2)
    for company in companies:
        assert (await settled(connected.reader, company.id)).state == DELIVERY_STATE_PARKED


async def takes(tenant: Tenant, count: int) -> None:
    """So many others arrive, one after another."""
    for _ in range(count):
        await upsert(tenant, other := a_company())
        assert (await settled(tenant.reader, other.id)).state == DELIVERY_STATE_DELIVERED


async def test_an_object_that_is_at_fault_itself_is_tried_once_more_and_never_again(
    connected: Tenant, simulator: Simulator
) -> None:
    simulator.broken[(bad := a_company()).id] = 400
    await upsert(connected, bad)
    assert (await settled(connected.reader, bad.id)).state == DELIVERY_STATE_PARKED
    await takes(connected, 5)
    delivery = await settled(connected.reader, bad.id)
    assert (delivery.state, len(delivery.attempts)) == (DELIVERY_STATE_PARKED, 2)


async def test_an_object_that_fails_holds_up_no_other(connected: Tenant, simulator: Simulator) -> None:
    bad, good = a_company(), a_company()
    await upsert(connected, bad)
    await settled(connected.reader, bad.id)
    simulator.edit(bad.id, name="Theirs")
    bad.version, bad.name = 2, "Ours"
    await upsert(connected, bad)
    await upsert(connected, good)
    assert (await settled(connected.reader, good.id)).state == DELIVERY_STATE_DELIVERED
    assert (await settled(connected.reader, bad.id)).state == DELIVERY_STATE_PARKED


async def test_requests_leave_one_after_another(
    connected: Tenant, simulator: Simulator, soak: Callable[[int], int]
) -> None:
    companies = [a_company() for _ in range(soak(100))]
    await asyncio.gather(*(upsert(connected, company) for company in companies))
    for company in companies:
        assert (await settled(connected.reader, company.id, limit_s=60)).state == DELIVERY_STATE_DELIVERED
    assert simulator.max_in_flight == 1


async def test_one_integration_does_not_slow_another(
    connected: Tenant, simulator: Simulator, new_tenant: Callable[[], Awaitable[Tenant]]
) -> None:
    slow = Simulator(api_key="partner-key")
    slow_url = await slow.start()
    slow.faults.extend(parse_fault("delay:30") for _ in range(3))
    try:
        other = await new_tenant()
        await other.admin.integrations.CreateIntegration(CreateIntegrationRequest(integration=an_integration(slow_url)))
        await upsert(other, waiting := a_company())
        while not slow.requests:
            await asyncio.sleep(0.01)
        companies = [a_company() for _ in range(20)]
        for company in companies:
            await upsert(connected, company)
        for company in companies:
            assert (await settled(connected.reader, company.id)).state == DELIVERY_STATE_DELIVERED
        page = await other.reader.deliveries.ListDeliveries(ListDeliveriesRequest(object_id=waiting.id))
        assert page.deliveries[0].state != DELIVERY_STATE_DELIVERED
        failure = await fails(retry(other, page.deliveries[0]))
        assert (failure.code, failure.reason) == (Code.FAILED_PRECONDITION, "DELIVERY_IN_PROGRESS")
    finally:
        await slow.stop()


async def test_lists_filter_and_page(connected: Tenant, simulator: Simulator) -> None:
    companies = [a_company() for _ in range(5)]
    for company in companies:
        await upsert(connected, company)
        await settled(connected.reader, company.id)
    for request, count in [
        (ListDeliveriesRequest(integration_id="cp"), 5),
        (ListDeliveriesRequest(integration_id="other"), 0),
        (ListDeliveriesRequest(object_id=companies[0].id), 1),
        (ListDeliveriesRequest(object_kind=OBJECT_KIND_COMPANY, state=DELIVERY_STATE_DELIVERED), 5),
        (ListDeliveriesRequest(state=DELIVERY_STATE_PENDING), 0),
        (ListDeliveriesRequest(page_size=2), 2),
    ]:
        page = await connected.reader.deliveries.ListDeliveries(request)
        assert len(page.deliveries) == count
        assert bool(page.next_page_token) == (request.page_size == 2)
        assert not any(delivery.attempts for delivery in page.deliveries)


async def test_the_next_attempt_is_when_the_integration_goes_on(connected: Tenant, simulator: Simulator) -> None:
    simulator.inject("1000*PUT=status:503:60")  # Retry-After: a minute
    company = a_company()
    await upsert(connected, company)
    request = ListDeliveriesRequest(object_id=company.id)
    while True:
        (delivery,) = (await connected.reader.deliveries.ListDeliveries(request)).deliveries
        if delivery.reason:
            break
        assert delivery.failed_attempts == 0, "the attempt under way has not failed"
        await asyncio.sleep(0.01)
    assert delivery.next_attempt_time.seconds - delivery.update_time.seconds in range(58, 62)
    found = await connected.reader.deliveries.GetDelivery(GetDeliveryRequest(id=delivery.id))
    assert found.next_attempt_time == delivery.next_attempt_time
    disabled = Integration(id="cp", enabled=False)
    patch = UpdateIntegrationRequest(integration=disabled, update_mask=FieldMask(paths=["enabled"]))
    await connected.admin.integrations.UpdateIntegration(patch)
    (delivery,) = (await connected.reader.deliveries.ListDeliveries(request)).deliveries
    assert delivery.state == DELIVERY_STATE_PENDING
    assert not delivery.HasField("next_attempt_time")


@pytest.mark.parametrize("method", ["GetDelivery", "RetryDelivery"])
async def test_a_missing_delivery_and_one_of_another_tenant_look_the_same(
    connected: Tenant, new_tenant: Callable[[], Awaitable[Tenant]], method: str
) -> None:
    await upsert(connected, company := a_company())
    delivery = await settled(connected.reader, company.id)
    other = await new_tenant()
    for id in (delivery.id, str(uuid4())):
        request = {"GetDelivery": GetDeliveryRequest, "RetryDelivery": RetryDeliveryRequest}[method](id=id)
        failure = await fails(getattr(other.admin.deliveries, method)(request))
        assert (failure.code, failure.reason) == (Code.NOT_FOUND, "RESOURCE_NOT_FOUND")


@pytest.mark.parametrize("method", ["GetDelivery", "RetryDelivery"])
async def test_an_id_that_is_none_is_refused(connected: Tenant, method: str) -> None:
    request = {"GetDelivery": GetDeliveryRequest, "RetryDelivery": RetryDeliveryRequest}[method](id="last")
    failure = await fails(getattr(connected.admin.deliveries, method)(request))
    assert set(failure.violations) == {"id"}


async def deletes_amid_a_change(tenant: Tenant, running: Evbridge) -> list[object]:
    """DeleteIntegration comes between two marks of one change: of a company known at the partner, and of a new one.

    What both end with. The integration is disabled, so that nothing is delivered meanwhile.
    """
    request = CreateIntegrationRequest(integration=an_integration(id="cp", enabled=False))
    await tenant.admin.integrations.CreateIntegration(request)
    await upsert(tenant, known := a_company())
    caller = Caller(tenant.name, "", 3)
    waits = Statement("waits", "SELECT count(*) FROM pg_locks WHERE NOT granted")
    marked = asyncio.Event()

    async def change() -> None:
        async with running.database.transaction() as conn:
            await change_record(conn, caller, OBJECT_KIND_COMPANY, known.id, "update", "")
            marked.set()
            while not await running.database.value(waits):
                await asyncio.sleep(0.01)
            await change_record(conn, caller, OBJECT_KIND_COMPANY, a_company().id, "create", "")

    async def delete() -> None:
        await marked.wait()
        await tenant.admin.integrations.DeleteIntegration(DeleteIntegrationRequest(id="cp"))

    return [*await asyncio.gather(change(), delete(), return_exceptions=True)]


async def test_a_change_and_a_deletion_of_an_integration_lock_in_one_order(tenant: Tenant, running: Evbridge) -> None:
    assert await deletes_amid_a_change(tenant, running) == [None, None]
    page = await tenant.reader.deliveries.ListDeliveries(ListDeliveriesRequest())
    assert not page.deliveries


async def test_a_control_that_marks_without_locking_the_integration_is_a_deadlock(
    tenant: Tenant, running: Evbridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlocked = changes.sql.delivery_mark.text.replace("FOR KEY SHARE", "")
    assert unlocked != changes.sql.delivery_mark.text
    monkeypatch.setattr(changes.sql, "delivery_mark", Statement("unlocked", unlocked), raising=False)
    assert await deletes_amid_a_change(tenant, running) != [None, None]


class Together(Simulator):
    """Answers once so many partners are asked at the same time as `barrier` has parties."""

    def __init__(self, barrier: asyncio.Barrier) -> None:
        super().__init__(api_key="partner-key")
        self._barrier = barrier

    async def _observe(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        await self._barrier.wait()
        return await super()._observe(request, handler)


@pytest.mark.parametrize("slow_s", [0.1, 1000.0], ids=["", "control: they are counted"])
async def test_while_partners_hang_the_others_keep_their_pace(
    tenant: Tenant, slow_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that works for 15 integrations at a time works for all 15 at once while five others hang."""
    monkeypatch.setattr(worker, "MAX_INTEGRATIONS", 15)
    monkeypatch.setattr(worker, "SLOW_S", slow_s)
    polls, hanging, together, released = 0, 0, asyncio.Barrier(15), asyncio.Event()

    async def polled(database: Database) -> list[Waiting]:
        nonlocal polls
        polls += 1
        return await delivery_waiting(database)

    async def hang(request: web.Request) -> web.Response:
        nonlocal hanging
        hanging += 1
        await released.wait()
        return web.Response(status=503)

    monkeypatch.setattr(worker, "delivery_waiting", polled)
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", hang)
    async with AsyncExitStack() as stack, asyncio.timeout(60):
        url = await stack.enter_async_context(listening(application))
        for number in range(5):
            await integrate(tenant, f"hangs-{number}", url)
        await upsert(tenant, a_company())
        while hanging < 5:
            await asyncio.sleep(0.01)
        simulators = [Together(together) for _ in range(15)]
        for number, simulator in enumerate(simulators):
            await integrate(tenant, f"works-{number}", await simulator.start())
            stack.push_async_callback(simulator.stop)
        companies = [a_company() for _ in range(3)]
        for company in companies:
            await upsert(tenant, company)
        if slow_s > 1:
            while together.n_waiting < 10:
                await asyncio.sleep(0.01)
            enough = polls + 3
            while polls < enough:
                await asyncio.sleep(0.01)
            assert together.n_waiting == 10
            released.set()
        while any(not simulator.companies.keys() >= {each.id for each in companies} for simulator in simulators):
            await asyncio.sleep(0.02)
        arrived = await tenant.reader.deliveries.ListDeliveries(
            ListDeliveriesRequest(integration_id="hangs-0", state=DELIVERY_STATE_DELIVERED)
        )
        assert not arrived.deliveries
        released.set()


async def integrate(tenant: Tenant, id: str, url: str) -> None:
    request = CreateIntegrationRequest(integration=an_integration(url, id=id))
    await tenant.admin.integrations.CreateIntegration(request)


async def test_writes_and_deliveries_outlive_commits_whose_answer_is_lost(
    connected: Tenant, simulator: Simulator, monkeypatch: pytest.MonkeyPatch, soak: Callable[[int], int]
) -> None:
    """One commit in ten. The control, without request ids and with every second one, makes integrations twice."""
    lost, share, commit = 0, 0.1, Connection.commit

    async def unsure(self: Connection) -> None:
        nonlocal lost
        await commit(self)
        if random.random() < share:
            lost += 1
            raise DatabaseUnavailable("the answer was lost")

    monkeypatch.setattr(Connection, "commit", unsure)
    writes = soak(300)
    companies = [a_company() for _ in range(writes)]
    for company in companies:
        upserted = UpsertCompanyRequest(company=company, request_id=str(uuid4()))
        await acknowledged(connected.writer.companies.UpsertCompany, upserted)
    for number in range(writes):
        created = CreateIntegrationRequest(
            integration=an_integration(display_name=f"once {number}", enabled=False), request_id=str(uuid4())
        )
        await acknowledged(connected.admin.integrations.CreateIntegration, created)
    async with asyncio.timeout(120):
        while simulator.companies.keys() != {company.id for company in companies}:
            await asyncio.sleep(0.02)
    assert lost
    share = 0.5
    for number in range(30):
        created = CreateIntegrationRequest(integration=an_integration(display_name=f"control {number}", enabled=False))
        await acknowledged(connected.admin.integrations.CreateIntegration, created)
    monkeypatch.undo()
    assert {held.attributes.version for held in simulator.companies.values()} == {1}
    page = await connected.reader.integrations.ListIntegrations(ListIntegrationsRequest(page_size=1000))
    made = Counter(each.display_name.rpartition(" ")[0] for each in page.integrations)
    assert made["once"] == writes and made["control"] > 30


async def acknowledged(method: Callable[[Any], Awaitable[Any]], request: Any) -> None:
    """Repeats the call while its outcome is not known."""
    while True:
        try:
            await method(request)
            return
        except grpc.aio.AioRpcError as error:
            assert error.code() is Code.UNAVAILABLE, error

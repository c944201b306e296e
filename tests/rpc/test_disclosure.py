"""DisclosureService: what partners were sent and shown, whatever they answered, and the documents themselves."""

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest
from evbridge.partner.chargeprice.v1.company_pb2 import CompanyDocument
from evbridge.v1 import error_reason_pb2 as reasons
from evbridge.v1.company_pb2 import DeleteCompanyRequest, UpsertCompanyRequest
from evbridge.v1.delivery_pb2 import OBJECT_KIND_COMPANY, OBJECT_KIND_LOCATION
from evbridge.v1.disclosure_pb2 import (
    DISCLOSURE_METHOD_SENT,
    DISCLOSURE_METHOD_SHOWN,
    Disclosure,
    GetDisclosureRequest,
    ListDisclosuresRequest,
)
from evbridge.v1.integration_pb2 import CreateIntegrationRequest
from evbridge.v1.location_pb2 import CreateLocationRequest, Location, UpdateLocationRequest
from evbridge.v1.publication_pb2 import CreatePublicationRuleRequest
from google.protobuf.field_mask_pb2 import FieldMask

from service.app import Evbridge
from service.partners.ampeco.simulator import Simulator as Ampeco
from service.partners.chargeprice.simulator import Simulator
from service.storage.disclosure import disclosure_sweep
from service.storage.retention import retention_sweep
from service.storage.statements import Statement
from tests.ampeco import connect
from tests.conftest import Tenant
from tests.front_door import a_company, a_location, a_rule, an_integration, at_rest, fails, settled
from tests.ocpi.door import ID, Ask, Partner, ask, partner
from tests.rpc.test_ocpi_shown import BASE, until

__all__ = ["ask", "partner"]

AGE = "UPDATE disclosure SET latest_time = latest_time - interval '91 days' WHERE tenant_id = $1 AND object_id = $2"
DOCUMENTS = "SELECT count(*) FROM partner_document WHERE tenant_id = $1"


@pytest.fixture
async def connected(tenant: Tenant, simulator: Simulator) -> Tenant:
    """A tenant with a Chargeprice integration."""
    request = CreateIntegrationRequest(integration=an_integration(simulator.url, id="cp"))
    await tenant.admin.integrations.CreateIntegration(request)
    return tenant


async def disclosures(tenant: Tenant, integration_id: str, **filters: Any) -> list[Disclosure]:
    """All of them, page by page, the newest first."""
    request, found = ListDisclosuresRequest(integration_id=integration_id, page_size=2, **filters), []
    while True:
        page = await tenant.reader.disclosures.ListDisclosures(request)
        found += page.disclosures
        request.page_token = page.next_page_token
        if not request.page_token:
            return found


async def whole(tenant: Tenant, listed: Disclosure) -> Disclosure:
    got = await tenant.reader.disclosures.GetDisclosure(GetDisclosureRequest(id=listed.id))
    without = Disclosure()
    without.CopyFrom(got)
    without.ClearField("document")
    assert without == listed
    return got


async def test_what_is_sent_is_kept_with_what_became_of_it(connected: Tenant, simulator: Simulator) -> None:
    company = a_company(name="First")
    for name, fault in (("First", ""), ("Second", "PUT=lose_answer"), ("Third", "PUT=status:400")):
        if fault:
            simulator.inject(fault)
        company.name = name
        await connected.writer.companies.UpsertCompany(UpsertCompanyRequest(company=company))
        await settled(connected.reader, company.id)
        company.version += 1
    await connected.writer.companies.DeleteCompany(DeleteCompanyRequest(id=company.id))
    await settled(connected.reader, company.id)
    deleted, third, second, first = await disclosures(connected, "cp")
    assert {each.object_id for each in (first, second, third, deleted)} == {company.id}
    assert {(each.object_kind, each.method) for each in (first, second, third, deleted)} == {
        (OBJECT_KIND_COMPANY, DISCLOSURE_METHOD_SENT)
    }
    assert [each.reason for each in (first, second, third, deleted)] == [
        0,
        reasons.PARTNER_OUTCOME_UNKNOWN,
        reasons.PARTNER_REJECTED,
        0,
    ]
    assert (third.http_status, deleted.hash) == (400, "")
    assert not (await whole(connected, deleted)).HasField("document")
    for listed, name in ((first, "First"), (second, "Second"), (third, "Third")):
        sent = CompanyDocument()
        assert (await whole(connected, listed)).document.Unpack(sent)
        assert sent.data.attributes.name == name
    await disclosures(connected, "cp", object_id=company.id.upper())
    assert not await disclosures(connected, "cp", object_id="another")


async def test_each_part_of_a_location_is_kept_as_it_was_sent(tenant: Tenant) -> None:
    ampeco = Ampeco(api_key="partner-key")
    await ampeco.start()
    try:
        await connect(tenant, ampeco)
        await tenant.writer.locations.CreateLocation(CreateLocationRequest(location=a_location(id="L1")))
        rule = a_rule(integration_id="am")
        await tenant.admin.publication.CreatePublicationRule(CreatePublicationRuleRequest(rule=rule))
        (delivery,) = await at_rest(tenant.reader, "am")
    finally:
        await ampeco.stop()
    assert delivery.object_id == "DE*ABC*L1"
    found = await disclosures(tenant, "am")
    assert len(found) == sum(received.method in ("POST", "PATCH") for received in ampeco.requests)
    (location,) = await disclosures(tenant, "am", object_id="DE*ABC*L1")
    assert location.object_id == "DE*ABC*L1"
    assert (await whole(tenant, location)).document.type_url.endswith("/evbridge.partner.ampeco.v3.Location")
    assert all(each.object_id.startswith("DE*ABC*l1/") for each in found if each.id != location.id)


async def test_what_a_partner_pulls_is_counted_until_it_sees_something_else(
    tenant: Tenant, partner: Partner, ask: Ask
) -> None:
    location = await tenant.writer.locations.CreateLocation(CreateLocationRequest(location=a_location(id="L1")))
    rule = a_rule(integration_id=ID, id="all")
    await tenant.admin.publication.CreatePublicationRule(CreatePublicationRuleRequest(rule=rule))
    await until(ask, partner, "locations", 1)
    names = {"X-Request-ID": "r-1", "X-Correlation-ID": "c-1"}
    await ask("GET", f"{BASE}/2.2.1/locations/L1", partner.registered, headers=names)
    (shown,) = await disclosures(tenant, ID)
    assert (shown.object_kind, shown.object_id, shown.method) == (
        OBJECT_KIND_LOCATION,
        "DE*ABC*L1",
        DISCLOSURE_METHOD_SHOWN,
    )
    assert (shown.count, shown.request_id, shown.correlation_id) == (2, "r-1", "c-1")
    for path in ("locations/L1/E1", "locations/L1/E1/1"):
        await ask("GET", f"{BASE}/2.2.1/{path}", partner.registered, headers=names)
    (shown,) = await disclosures(tenant, ID)
    assert shown.count == 4
    assert shown.first_time.ToNanoseconds() < shown.latest_time.ToNanoseconds()
    location.name = "Renamed"
    request = UpdateLocationRequest(location=location, update_mask=FieldMask(paths=["name"]))
    await tenant.writer.locations.UpdateLocation(request)
    odd = {"X-Request-ID": "\u00fc" * 300}
    while len(found := await disclosures(tenant, ID)) == 1:
        await ask("GET", f"{BASE}/2.2.1/locations", partner.registered, headers=odd)
    now, before = Location(), Location()
    for listed, document in zip(found, (now, before), strict=True):
        assert (await whole(tenant, listed)).document.Unpack(document)
    assert (now.name, before.name) == ("Renamed", a_location().name)
    assert (found[0].count, found[0].request_id) == (1, "")


async def test_what_is_old_is_forgotten_with_its_document(
    connected: Tenant, simulator: Simulator, running: Evbridge
) -> None:
    companies = [a_company(name="Old"), a_company(name="New")]
    for company in companies:
        await connected.writer.companies.UpsertCompany(UpsertCompanyRequest(company=company))
        await settled(connected.reader, company.id)
    await running.database.run(Statement("age", AGE), connected.name, companies[0].id)
    assert await running.database.value(Statement("documents", DOCUMENTS), connected.name) == 2
    await disclosure_sweep(running.database, 90)
    await retention_sweep(running.database, 30)
    assert Counter(each.object_id for each in await disclosures(connected, "cp")) == {companies[1].id: 1}
    assert await running.database.value(Statement("documents", DOCUMENTS), connected.name) == 1


async def test_another_tenant_sees_none_of_it(
    connected: Tenant, simulator: Simulator, new_tenant: Callable[[], Awaitable[Tenant]]
) -> None:
    company = a_company()
    await connected.writer.companies.UpsertCompany(UpsertCompanyRequest(company=company))
    await settled(connected.reader, company.id)
    (sent,) = await disclosures(connected, "cp")
    other = await new_tenant()
    got = await fails(other.admin.disclosures.GetDisclosure(GetDisclosureRequest(id=sent.id)))
    listed = await fails(other.admin.disclosures.ListDisclosures(ListDisclosuresRequest(integration_id="cp")))
    assert {got.code, listed.code} == {grpc.StatusCode.NOT_FOUND}

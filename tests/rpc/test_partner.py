"""PartnerService through the front door, beside a Chargeprice that deliveries speak to."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from evbridge.options.v1 import options_pb2 as options
from evbridge.partner.chargeprice.v1.company_pb2 import ListCompaniesRequest
from evbridge.partner.chargeprice.v1.company_pb2_grpc import CompanyServiceStub
from evbridge.v1.company_pb2 import UpsertCompanyRequest
from evbridge.v1.delivery_pb2 import DELIVERY_STATE_DELIVERED
from evbridge.v1.emabler_connection_pb2 import EMABLER_API_VERSION_V1, EmablerConnection
from evbridge.v1.integration_pb2 import CreateIntegrationRequest, Integration
from evbridge.v1.partner_pb2 import (
    BREAKER_STATE_CLOSED,
    BREAKER_STATE_HALF_OPEN,
    BREAKER_STATE_OPEN,
    IDEMPOTENCY_IDEMPOTENT,
    IDEMPOTENCY_NO_SIDE_EFFECTS,
    IDEMPOTENCY_UNSPECIFIED,
    OPERATION_CLASS_READ,
    OPERATION_CLASS_WRITE,
    Exchange,
    GetPartnerStatusRequest,
    ListExchangesRequest,
    ListOperationsRequest,
    Operation,
    PartnerStatus,
    PreviewRequest,
    PreviewResponse,
    SetExchangeRecordingRequest,
)
from google.protobuf.json_format import ParseDict

from service.app import Evbridge
from service.partners.chargeprice.simulator import Simulator
from service.simulator.faults import parse_fault
from service.storage.statements import Statement
from tests.bridge.fake_ports import a_partner
from tests.conftest import Tenant
from tests.front_door import a_company, an_integration, an_integration_of, fails, settled

Code = grpc.StatusCode
SERVICE = "evbridge.partner.chargeprice.v1.CompanyService"
UPSERT, LIST, DELETE = (f"{SERVICE}/{name}" for name in ("UpsertCompany", "ListCompanies", "DeleteCompany"))
ID = "1e49b853-36fc-47ed-9826-97828b5b2fdd"


async def connected(tenant: Tenant, simulator: Simulator, **changes: Any) -> Integration:
    request = CreateIntegrationRequest(integration=an_integration(simulator.url, id="cp", **changes))
    return await tenant.admin.integrations.CreateIntegration(request)


async def delivered(tenant: Tenant, **changes: Any) -> str:
    """The id of a company that the partner was told of."""
    company = a_company(**changes)
    await tenant.writer.companies.UpsertCompany(UpsertCompanyRequest(company=company))
    await settled(tenant.reader, company.id)
    return company.id


async def operations(tenant: Tenant, **filters: Any) -> list[Operation]:
    request, found = ListOperationsRequest(**filters), []
    while True:
        page = await tenant.reader.partners.ListOperations(request)
        found += page.operations
        request.page_token = page.next_page_token
        if not request.page_token:
            return found


async def preview(tenant: Tenant, operation: str, request: dict[str, Any]) -> PreviewResponse:
    typed = {"operation": operation, "request": request}
    return await tenant.reader.partners.Preview(ParseDict(typed, PreviewRequest()))


async def status(tenant: Tenant, integration_id: str = "cp") -> PartnerStatus:
    return await tenant.reader.partners.GetPartnerStatus(GetPartnerStatusRequest(integration_id=integration_id))


async def record(tenant: Tenant, until: timedelta | None = None, integration_id: str = "cp") -> datetime:
    request = SetExchangeRecordingRequest(integration_id=integration_id)
    if until is not None:
        request.until.FromDatetime(datetime.now(UTC) + until)
    recording = await tenant.admin.partners.SetExchangeRecording(request)
    assert recording.integration_id == integration_id
    return recording.end_time.ToDatetime(UTC)


async def exchanges(tenant: Tenant, at_least: int = 0) -> list[Exchange]:
    """Those of "cp"; they are written beside the calls, so it waits for so many."""
    async with asyncio.timeout(60):
        while True:
            page = await tenant.admin.partners.ListExchanges(ListExchangesRequest(integration_id="cp"))
            if len(page.exchanges) >= at_least:
                return [*page.exchanges]
            await asyncio.sleep(0.02)


async def test_operations_are_listed_as_their_contract_says(tenant: Tenant) -> None:
    found = {each.name: each for each in await operations(tenant, partner="chargeprice")}
    assert list(found) == sorted(found)
    assert found[UPSERT] == Operation(
        name=UPSERT,
        partner="chargeprice",
        http_method="PUT",
        path="/v1/companies/{company_id}",
        role=options.ROLE_WRITER,
        idempotency=IDEMPOTENCY_UNSPECIFIED,
        request_type="evbridge.partner.chargeprice.v1.UpsertCompanyRequest",
        response_type="evbridge.partner.chargeprice.v1.CompanyDocument",
    )
    assert found[LIST].idempotency == IDEMPOTENCY_NO_SIDE_EFFECTS
    assert (found[DELETE].idempotency, found[DELETE].role) == (IDEMPOTENCY_IDEMPOTENT, options.ROLE_ADMIN)


async def test_operations_filter_and_page(tenant: Tenant) -> None:
    everything = await operations(tenant)
    assert {UPSERT, LIST, DELETE} <= {each.name for each in everything}
    assert await operations(tenant, page_size=2) == everything
    assert await operations(tenant, partner="nobody") == []


async def test_a_preview_is_the_request_that_is_sent(tenant: Tenant, simulator: Simulator) -> None:
    await connected(tenant, simulator)
    company_id = await delivered(tenant)
    read, change = simulator.requests
    for sent, shown in (
        (read, await preview(tenant, LIST, {"integration_id": "cp", "filter_id": company_id})),
        (
            change,
            await preview(
                tenant,
                UPSERT,
                {"integrationId": "cp", "company_id": company_id, "document": json.loads(change.body)},
            ),
        ),
    ):
        assert (shown.http_method, shown.url) == (sent.method, simulator.url + sent.path)
        assert shown.body == sent.body.decode()
        assert shown.headers["API-Key"] == "***"
        assert {name: sent.headers[name] for name in shown.headers} == {**shown.headers, "API-Key": "partner-key"}
    assert len(simulator.requests) == 2


async def test_a_preview_of_numbers_and_texts(tenant: Tenant, simulator: Simulator) -> None:
    await connected(tenant, simulator)
    shown = await preview(tenant, LIST, {"integration_id": "cp", "page_size": 25, "filter_is_cpo": False, "q": "a/b c"})
    assert shown.url == f"{simulator.url}/v1/companies?filter%5Bis_cpo%5D=false&q=a%2Fb%20c&page%5Bsize%5D=25"
    assert (shown.body, "Content-Type" in shown.headers) == ("", False)
    assert simulator.requests == []


async def test_a_preview_shows_where_an_integration_departs_from_its_contract(tenant: Tenant) -> None:
    connection = {
        "base_url": "https://api.emabler.example/api",
        "api_version": EMABLER_API_VERSION_V1,
        "client_id": "4711",
        "get_integration_path": "/ocpi/{emabler_integration_id}/details",
    }
    integration = an_integration_of("emabler", id="em", emabler=EmablerConnection(api_key="key", **connection))
    await tenant.admin.integrations.CreateIntegration(CreateIntegrationRequest(integration=integration))
    get = "evbridge.partner.emabler.v2.IntegrationService/GetIntegration"
    shown = await preview(tenant, get, {"integration_id": "em", "emabler_integration_id": "a/b"})
    assert shown.url == "https://api.emabler.example/api/ocpi/a%2Fb/details?code=***&clientId=***"
    assert "x-api-key" not in shown.headers


async def test_a_preview_goes_where_the_call_would_go(tenant: Tenant) -> None:
    integration = an_integration_of("ocpi", id="oc")
    await tenant.admin.integrations.CreateIntegration(CreateIntegrationRequest(integration=integration))
    origin = integration.ocpi.endpoint_url.removesuffix("/ocpi/versions")
    details = "evbridge.partner.ocpi.v2.VersionsService/GetVersionDetails"
    shown = await preview(tenant, details, {"integration_id": "oc", "url": f"{origin}/ocpi/2.2.1"})
    assert shown.url == f"{origin}/ocpi/2.2.1"
    failure = await fails(preview(tenant, details, {"integration_id": "oc", "url": "https://evil.example/"}))
    assert (failure.code, failure.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "EGRESS_DENIED")


async def test_a_preview_takes_an_update_mask_in_both_forms(tenant: Tenant) -> None:
    ampeco = an_integration_of("ampeco", id="am")
    await tenant.admin.integrations.CreateIntegration(CreateIntegrationRequest(integration=ampeco))
    method = "evbridge.partner.ampeco.v3.LocationService/UpdateLocation"
    request = {"integration_id": "am", "location_id": 7, "location": {"country": "DE"}}
    bodies = [
        (await preview(tenant, method, {**request, **mask})).body
        for mask in (
            {"update_mask": "post_code,country"},
            {"update_mask": "postCode,country"},
            {"update_mask": {"paths": ["post_code", "country"]}},
            {"updateMask": {"paths": ["post_code", "country"]}},
        )
    ]
    assert [json.loads(body) for body in bodies] == [{"postCode": None, "country": "DE"}] * 4
    for wrong in ({"paths": "post_code"}, {"paths": [7]}, {"paths": {}}, {"paths": None}, {"path": ["a"]}, 7):
        failure = await fails(preview(tenant, method, {**request, "update_mask": wrong}))
        assert set(failure.violations) == {"request"}, wrong


async def test_a_preview_does_not_say_secrets_back(tenant: Tenant) -> None:
    integration = an_integration_of("ampeco", id="am")
    await tenant.admin.integrations.CreateIntegration(CreateIntegrationRequest(integration=integration))
    create = "evbridge.partner.ampeco.v3.UserService/CreateUser"
    user = {"email": "a@b.example", "password": "canary"}
    shown = await preview(tenant, create, {"integration_id": "am", "user": user})
    assert json.loads(shown.body) == {"email": "a@b.example", "password": "***"}


@pytest.mark.parametrize(
    ("operation", "request_", "path"),
    [
        (UPSERT, {"integration_id": "cp", "nothing": 1}, "request"),
        (UPSERT, {"integration_id": "cp", "company_id": 5}, "request"),
        (LIST, {"integration_id": "cp", "page_size": 1.5}, "request"),
        (LIST, {"integration_id": "cp", "page_size": 1e300}, "request"),
        (LIST, {}, "request.integration_id"),
        (UPSERT, {"integration_id": "cp", "document": {}}, "company_id"),
        (UPSERT, {"integration_id": "cp", "company_id": ".."}, "company_id"),
        (UPSERT, {"integration_id": "cp", "company_id": ID}, "document"),
        ("", {}, "operation"),
    ],
)
async def test_a_request_that_cannot_be_written_is_refused(
    tenant: Tenant, simulator: Simulator, operation: str, request_: dict[str, Any], path: str
) -> None:
    await connected(tenant, simulator)
    failure = await fails(preview(tenant, operation, request_))
    assert (failure.code, failure.reason) == (Code.INVALID_ARGUMENT, "INVALID_FIELD")
    assert path in failure.violations


async def test_what_does_not_exist_or_belongs_to_another_tenant_is_not_found(
    tenant: Tenant, new_tenant: Callable[[], Awaitable[Tenant]], simulator: Simulator
) -> None:
    await connected(tenant, simulator)
    other = await new_tenant()
    for call in (
        preview(tenant, f"{SERVICE}/Nothing", {"integration_id": "cp"}),
        preview(tenant, "evbridge.v1.CompanyService/UpsertCompany", {"integration_id": "cp"}),
        preview(other, LIST, {"integration_id": "cp"}),
        status(other),
        record(other, timedelta(hours=1)),
        exchanges(other),
    ):
        failure = await fails(call)
        assert (failure.code, failure.reason) == (Code.NOT_FOUND, "RESOURCE_NOT_FOUND")


async def test_a_damaged_page_token_is_refused(tenant: Tenant, simulator: Simulator) -> None:
    await connected(tenant, simulator)
    for call in (
        tenant.reader.partners.ListOperations(ListOperationsRequest(page_token="x")),
        tenant.admin.partners.ListExchanges(ListExchangesRequest(integration_id="cp", page_token="x")),
    ):
        failure = await fails(call)
        assert (failure.code, failure.reason) == (Code.INVALID_ARGUMENT, "INVALID_PAGE_TOKEN")


async def test_the_status_tells_budgets_slots_and_closed_breakers(tenant: Tenant, simulator: Simulator) -> None:
    await connected(tenant, simulator)
    before = await status(tenant)
    (budget,) = before.budgets
    assert (budget.period.seconds, budget.limit, budget.used) == (60, 1000, 0)
    assert not budget.HasField("reset_time")
    assert (before.integration_id, before.partner) == ("cp", "chargeprice")
    assert (before.max_concurrent_requests, before.concurrent_requests) == (1, 0)
    assert [(each.operation_class, each.state) for each in before.breakers] == [
        (OPERATION_CLASS_READ, BREAKER_STATE_CLOSED),
        (OPERATION_CLASS_WRITE, BREAKER_STATE_CLOSED),
    ]
    await delivered(tenant)
    after = await status(tenant)
    assert after.budgets[0].used == 50
    assert after.budgets[0].reset_time.ToDatetime(UTC) > datetime.now(UTC)
    assert not after.HasField("limit_reset_time")
    assert not after.HasField("recording_end_time")


async def test_the_status_tells_what_was_repaired_in_answers(tenant: Tenant, channel: grpc.aio.Channel) -> None:
    tidy = {"id": ID, "type": "company"}
    async with a_partner() as partner:
        for id in ("cp", "other"):
            integration = an_integration(partner.url, id=id)
            await tenant.admin.integrations.CreateIntegration(CreateIntegrationRequest(integration=integration))
        companies = CompanyServiceStub(channel)
        key = (("authorization", f"Bearer {tenant.keys['reader']}"),)

        async def listed(data: Any, id: str = "cp") -> list[str]:
            partner.answers(200, json.dumps({"data": data, "meta": {"overall_count": "1"}}).encode())
            page: Any = await companies.ListCompanies(ListCompaniesRequest(integration_id=id), metadata=key)
            return [company.id for company in page.data]

        partner.answers(200, json.dumps({"data": [tidy], "meta": {"overall_count": 1}}).encode())
        await companies.ListCompanies(ListCompaniesRequest(integration_id="cp"), metadata=key)
        assert not (await status(tenant)).repaired_answers, "the control: what is as the contract says is not counted"
        assert await listed([tidy]) == [ID]
        assert await listed({"0": {**tidy, "attributes": []}, "2": tidy}, "other") == [ID, ID]
        assert await listed({"0": {**tidy, "attributes": []}, "2": tidy}) == [ID, ID]
    (counted,) = (await status(tenant)).repaired_answers
    assert (counted.operation, counted.answer_count, counted.value_count) == (LIST, 2, 4)
    assert (counted.path, counted.description) == ("/data", "is an object")
    assert counted.latest_time.ToDatetime(UTC) > datetime.now(UTC) - timedelta(hours=1)
    (counted,) = (await status(tenant, "other")).repaired_answers
    assert (counted.answer_count, counted.value_count) == (1, 3)


async def test_the_status_tells_what_is_held_back(tenant: Tenant, simulator: Simulator, running: Evbridge) -> None:
    await connected(tenant, simulator, enabled=False)
    pause = "INSERT INTO gate_pause VALUES ($1, 'cp', $2, now() + make_interval(secs => $3), $4)"
    for failures, seconds, scope in ((1, 60.0, 0), (1, 60.0, 1), (3, 60.0, 2), (4, -1.0, 3)):
        await running.database.run(Statement("pause", pause), tenant.name, failures, seconds, scope)
    told = await status(tenant)
    assert told.HasField("delivery_resume_time")
    assert told.HasField("limit_reset_time")
    read, write = told.breakers
    assert (read.state, read.failures, read.HasField("resume_time")) == (BREAKER_STATE_OPEN, 3, True)
    assert (write.state, write.failures, write.HasField("resume_time")) == (BREAKER_STATE_HALF_OPEN, 4, False)


async def test_a_limit_that_the_partner_names_stops_what_is_sent(tenant: Tenant, simulator: Simulator) -> None:
    await connected(tenant, simulator)
    simulator.faults.append(parse_fault("status:429:30"))
    await tenant.writer.companies.UpsertCompany(UpsertCompanyRequest(company=a_company()))
    async with asyncio.timeout(60):
        while not (told := await status(tenant)).HasField("limit_reset_time"):
            await asyncio.sleep(0.02)
    ahead = told.limit_reset_time.ToDatetime(UTC) - datetime.now(UTC)
    assert timedelta(seconds=10) < ahead <= timedelta(seconds=30)  # 10 without the header
    await tenant.writer.companies.UpsertCompany(UpsertCompanyRequest(company=a_company()))
    await asyncio.sleep(0.2)
    assert len(simulator.requests) == 1


async def test_a_partner_that_fails_is_left_alone_until_it_answers_again(tenant: Tenant, simulator: Simulator) -> None:
    await connected(tenant, simulator)
    simulator.faults += [parse_fault("status:503")] * 100
    company = a_company()
    await tenant.writer.companies.UpsertCompany(UpsertCompanyRequest(company=company))
    async with asyncio.timeout(60):
        while (await status(tenant)).breakers[0].failures < 2:
            await asyncio.sleep(0.02)
    assert [each.state for each in (await status(tenant)).breakers][1] == BREAKER_STATE_CLOSED
    simulator.faults.clear()
    assert (await settled(tenant.reader, company.id)).state == DELIVERY_STATE_DELIVERED
    assert [each.state for each in (await status(tenant)).breakers] == [BREAKER_STATE_CLOSED] * 2


async def test_nothing_is_recorded_unless_someone_asked(tenant: Tenant, simulator: Simulator) -> None:
    await connected(tenant, simulator)
    await delivered(tenant)
    assert await exchanges(tenant) == []


async def test_what_is_exchanged_while_recording_is_listed_newest_first_without_secrets(
    tenant: Tenant, simulator: Simulator
) -> None:
    await connected(tenant, simulator)
    end = await record(tenant, timedelta(hours=1))
    assert (await status(tenant)).recording_end_time.ToDatetime(UTC) == end
    company_id = await delivered(tenant)
    change, read = await exchanges(tenant, at_least=2)
    assert (read.operation, read.http_method, read.http_status) == (LIST, "GET", 200)
    assert read.url == f"{simulator.url}/v1/companies?filter%5Bid%5D={company_id}"
    assert (change.operation, change.http_method, change.http_status) == (UPSERT, "PUT", 201)
    assert change.url == f"{simulator.url}/v1/companies/{company_id}"
    assert json.loads(change.request_body) == json.loads(simulator.requests[1].body)
    assert json.loads(change.response_body)["data"]["id"] == company_id
    assert change.request_headers["API-Key"] == "***"
    assert change.response_headers["Content-Type"].startswith("application/json")
    assert timedelta(0) < change.duration.ToTimedelta() < timedelta(minutes=1)
    assert datetime.now(UTC) - change.start_time.ToDatetime(UTC) < timedelta(minutes=5)
    assert "partner-key" not in repr((change, read))


async def test_recording_ends_when_someone_says_so_and_what_was_recorded_stays(
    tenant: Tenant, simulator: Simulator
) -> None:
    await connected(tenant, simulator)
    await record(tenant, timedelta(hours=1))
    await delivered(tenant)
    assert len(await exchanges(tenant, at_least=2)) == 2
    assert await record(tenant) <= datetime.now(UTC) + timedelta(seconds=1)
    assert not (await status(tenant)).HasField("recording_end_time")
    await delivered(tenant)
    assert len(await exchanges(tenant)) == 2
    first = await tenant.admin.partners.ListExchanges(ListExchangesRequest(integration_id="cp", page_size=1))
    request = ListExchangesRequest(integration_id="cp", page_size=1, page_token=first.next_page_token)
    second = await tenant.admin.partners.ListExchanges(request)
    assert [each.http_method for each in (*first.exchanges, *second.exchanges)] == ["PUT", "GET"]
    assert not second.next_page_token


async def test_recording_is_bounded_in_time(tenant: Tenant, simulator: Simulator) -> None:
    await connected(tenant, simulator)
    failure = await fails(record(tenant, timedelta(hours=24, minutes=5)))
    assert (failure.code, failure.reason) == (Code.INVALID_ARGUMENT, "INVALID_FIELD")
    assert "until" in failure.violations

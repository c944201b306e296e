"""CompanyService through the front door."""

from collections.abc import Awaitable, Callable
from uuid import UUID, uuid4

import grpc
import pytest
from evbridge.v1.company_pb2 import (
    Company,
    DeleteCompanyRequest,
    ExternalSourceMapping,
    GetCompanyRequest,
    ListCompaniesRequest,
    UpsertCompanyRequest,
)

from tests.conftest import Tenant
from tests.front_door import a_company, fails

Code = grpc.StatusCode


async def test_a_company_comes_back_as_it_was_stored(tenant: Tenant) -> None:
    sent = a_company(cpo_group_id="", emp_group_id=str(uuid4()))
    stored = await tenant.writer.companies.UpsertCompany(UpsertCompanyRequest(company=sent))
    assert stored.etag
    assert stored.create_time == stored.update_time
    got = await tenant.reader.companies.GetCompany(GetCompanyRequest(id=sent.id))
    assert got == stored
    for output_only in ("etag", "create_time", "update_time"):
        got.ClearField(output_only)
    assert got == sent


async def test_ids_are_stored_in_lower_case_and_found_in_any(tenant: Tenant) -> None:
    sent = a_company()
    sent.id = sent.id.upper()
    sent.supported_emp_ids[:] = [id.upper() for id in sent.supported_emp_ids]
    stored = await tenant.writer.companies.UpsertCompany(UpsertCompanyRequest(company=sent))
    assert stored.id == sent.id.lower()
    assert [*stored.supported_emp_ids] == [id.lower() for id in sent.supported_emp_ids]
    assert await tenant.reader.companies.GetCompany(GetCompanyRequest(id=sent.id)) == stored


async def test_output_only_and_unknown_fields_are_not_taken_from_the_caller(tenant: Tenant) -> None:
    sent = a_company(etag="mine")
    sent.create_time.FromSeconds(1)
    sent.MergeFromString(b"\xf2\x7f\x03abc")  # field 2046, which nobody knows
    stored = await tenant.writer.companies.UpsertCompany(UpsertCompanyRequest(company=sent))
    assert stored.etag != "mine"
    assert stored.create_time.seconds > 1
    assert b"abc" not in stored.SerializeToString()


async def test_a_replacement_keeps_the_creation_time_and_changes_the_etag(tenant: Tenant) -> None:
    company = a_company()
    first = await tenant.writer.companies.UpsertCompany(UpsertCompanyRequest(company=company))
    company.version, company.name = 2, "Wattwerk AG"
    company.ClearField("url")
    second = await tenant.writer.companies.UpsertCompany(UpsertCompanyRequest(company=company))
    assert (second.version, second.name, second.url) == (2, "Wattwerk AG", "")
    assert second.create_time == first.create_time
    assert second.etag != first.etag


@pytest.mark.parametrize(("stored", "sent"), [(0, 2), (0, 7), (1, 1), (1, 3), (2, 1), (3, 2)])
async def test_a_version_that_does_not_follow_is_a_conflict(tenant: Tenant, stored: int, sent: int) -> None:
    company = a_company()
    for version in range(1, stored + 1):
        company.version = version
        await tenant.writer.companies.UpsertCompany(UpsertCompanyRequest(company=company))
    company.version = sent
    failure = await fails(tenant.writer.companies.UpsertCompany(UpsertCompanyRequest(company=company)))
    assert (failure.code, failure.reason) == (Code.ABORTED, "VERSION_CONFLICT")
    assert failure.metadata == {
        "version": str(sent),
        "current_version": str(stored),
        "expected_version": str(stored + 1),
    }


LONG = "x" * 256
A_UUID = "1e49b853-36fc-47ed-9826-97828b5b2fdd"
INVALID = [
    ({"id": ""}, "company.id"),
    ({"id": "EnBW"}, "company.id"),
    ({"version": 0}, "company.version"),
    ({"version": -1}, "company.version"),
    ({"name": ""}, "company.name"),
    ({"name": LONG}, "company.name"),
    ({"url": "enbw.com"}, "company.url"),
    ({"url": "ftp://enbw.com"}, "company.url"),
    ({"url": "https://enbw.com/ a"}, "company.url"),
    ({"is_cpo": None}, "company.is_cpo"),
    ({"is_emp": None}, "company.is_emp"),
    ({"supported_emp_ids": ["x"]}, "company.supported_emp_ids[0]"),
    ({"supported_emp_ids": [A_UUID, "x"]}, "company.supported_emp_ids[1]"),
    ({"supported_emp_ids": [A_UUID, A_UUID]}, "company.supported_emp_ids"),
    ({"supported_emp_ids": [str(UUID(int=number)) for number in range(1001)]}, "company.supported_emp_ids"),
    ({"cpo_group_id": "group"}, "company.cpo_group_id"),
    ({"emp_group_id": "group"}, "company.emp_group_id"),
    *(
        (
            {"external_source_mapping": ExternalSourceMapping(**{name: ["ok", bad]})},
            f"company.external_source_mapping.{name}[1]",
        )
        for name in ExternalSourceMapping.DESCRIPTOR.fields_by_name
        for bad in ("", LONG)
    ),
]


@pytest.mark.parametrize(("changes", "path"), INVALID, ids=[path for _, path in INVALID])
async def test_a_field_that_breaks_its_rule_is_named_and_nothing_is_stored(
    tenant: Tenant, changes: dict[str, object], path: str
) -> None:
    company = a_company(**changes)
    failure = await fails(tenant.writer.companies.UpsertCompany(UpsertCompanyRequest(company=company)))
    assert (failure.code, failure.reason) == (Code.INVALID_ARGUMENT, "INVALID_FIELD")
    assert path in failure.violations
    page = await tenant.reader.companies.ListCompanies(ListCompaniesRequest())
    assert not page.companies


async def test_every_violation_is_reported_at_once(tenant: Tenant) -> None:
    company = a_company(name="", url="x", version=0)
    failure = await fails(tenant.writer.companies.UpsertCompany(UpsertCompanyRequest(company=company)))
    assert {"company.name", "company.url", "company.version"} <= set(failure.violations)


async def test_a_request_without_a_company_names_the_field(tenant: Tenant) -> None:
    failure = await fails(tenant.writer.companies.UpsertCompany(UpsertCompanyRequest()))
    assert set(failure.violations) == {"company"}


async def test_a_rehearsal_answers_and_stores_nothing(tenant: Tenant) -> None:
    company = a_company()
    request = UpsertCompanyRequest(company=company, validate_only=True, request_id=str(uuid4()))
    answer = await tenant.writer.companies.UpsertCompany(request)
    assert answer.etag
    assert (await fails(tenant.reader.companies.GetCompany(GetCompanyRequest(id=company.id)))).code is Code.NOT_FOUND
    request.validate_only = False
    assert (await tenant.writer.companies.UpsertCompany(request)).etag == answer.etag


async def test_the_same_request_id_gives_the_same_answer_and_one_change(tenant: Tenant) -> None:
    request = UpsertCompanyRequest(company=a_company(), request_id=str(uuid4()))
    first = await tenant.writer.companies.UpsertCompany(request)
    assert await tenant.writer.companies.UpsertCompany(request) == first
    request.company.name = "Another"
    failure = await fails(tenant.writer.companies.UpsertCompany(request))
    assert (failure.code, failure.reason) == (Code.INVALID_ARGUMENT, "REQUEST_ID_REUSED")
    assert failure.metadata == {"request_id": request.request_id}


async def test_a_request_id_is_a_uuid(tenant: Tenant) -> None:
    request = UpsertCompanyRequest(company=a_company(), request_id="again")
    assert "request_id" in (await fails(tenant.writer.companies.UpsertCompany(request))).violations


@pytest.mark.parametrize("method", ["GetCompany", "DeleteCompany"])
async def test_a_missing_company_is_not_found(tenant: Tenant, method: str) -> None:
    request = {"GetCompany": GetCompanyRequest, "DeleteCompany": DeleteCompanyRequest}[method](id=str(uuid4()))
    failure = await fails(getattr(tenant.writer.companies, method)(request))
    assert (failure.code, failure.reason) == (Code.NOT_FOUND, "RESOURCE_NOT_FOUND")
    assert failure.metadata == {"resource": "company", "id": request.id}


async def test_a_deleted_company_is_gone_and_its_id_starts_again_at_version_1(tenant: Tenant) -> None:
    company = a_company()
    stored = await tenant.writer.companies.UpsertCompany(UpsertCompanyRequest(company=company))
    wrong = await fails(tenant.writer.companies.DeleteCompany(DeleteCompanyRequest(id=company.id, etag="other")))
    assert (wrong.code, wrong.reason) == (Code.ABORTED, "ETAG_MISMATCH")
    await tenant.writer.companies.DeleteCompany(
        DeleteCompanyRequest(id=company.id, etag=stored.etag, validate_only=True)
    )
    await tenant.writer.companies.DeleteCompany(DeleteCompanyRequest(id=company.id, etag=stored.etag))
    assert (await fails(tenant.reader.companies.GetCompany(GetCompanyRequest(id=company.id)))).code is Code.NOT_FOUND
    again = DeleteCompanyRequest(id=company.id)
    assert (await fails(tenant.writer.companies.DeleteCompany(again))).code is Code.NOT_FOUND
    again.allow_missing = True
    await tenant.writer.companies.DeleteCompany(again)
    assert not (await tenant.reader.companies.ListCompanies(ListCompaniesRequest())).companies
    revived = await tenant.writer.companies.UpsertCompany(UpsertCompanyRequest(company=company))
    assert revived.version == 1
    assert revived.create_time.ToNanoseconds() > stored.create_time.ToNanoseconds()


async def _store(tenant: Tenant, count: int, **changes: object) -> list[Company]:
    companies = [a_company(**changes) for _ in range(count)]
    for company in companies:
        await tenant.writer.companies.UpsertCompany(UpsertCompanyRequest(company=company))
    return companies


async def test_pages_hold_every_company_once_in_the_order_of_ids(tenant: Tenant) -> None:
    stored = await _store(tenant, 7)
    seen: list[str] = []
    sizes: list[int] = []
    request = ListCompaniesRequest(page_size=3)
    while True:
        page = await tenant.reader.companies.ListCompanies(request)
        seen += [company.id for company in page.companies]
        sizes.append(len(page.companies))
        request.page_token = page.next_page_token
        if not request.page_token:
            break
    assert seen == sorted(company.id for company in stored)
    assert sizes == [3, 3, 1]


async def test_lists_filter_by_what_a_company_does(tenant: Tenant) -> None:
    operators = await _store(tenant, 2, is_cpo=True, is_emp=False)
    providers = await _store(tenant, 1, is_cpo=False, is_emp=True)
    for request, expected in [
        (ListCompaniesRequest(is_cpo=True), operators),
        (ListCompaniesRequest(is_cpo=False), providers),
        (ListCompaniesRequest(is_emp=True), providers),
        (ListCompaniesRequest(is_cpo=True, is_emp=True), []),
        (ListCompaniesRequest(), operators + providers),
    ]:
        page = await tenant.reader.companies.ListCompanies(request)
        assert [company.id for company in page.companies] == sorted(company.id for company in expected)


async def test_a_page_ends_at_a_mebibyte(tenant: Tenant) -> None:
    wide = ExternalSourceMapping(google_sheet_names=[f"{number:04}" + "n" * 250 for number in range(1000)])
    await _store(tenant, 6, external_source_mapping=wide)
    request, sizes = ListCompaniesRequest(), []
    while True:
        page = await tenant.reader.companies.ListCompanies(request)
        sizes.append(len(page.companies))
        request.page_token = page.next_page_token
        if not request.page_token:
            break
    assert sum(sizes) == 6
    assert sizes[0] == 5  # 5 x 257 kB are the first to pass 1 MiB


@pytest.mark.parametrize("token", ["x", "AAAA", "!!!!", "A" * 40, "é"])
async def test_a_damaged_page_token_is_refused(tenant: Tenant, token: str) -> None:
    failure = await fails(tenant.reader.companies.ListCompanies(ListCompaniesRequest(page_token=token)))
    assert (failure.code, failure.reason) == (Code.INVALID_ARGUMENT, "INVALID_PAGE_TOKEN")


async def test_a_page_token_belongs_to_its_filters(tenant: Tenant) -> None:
    await _store(tenant, 2)
    page = await tenant.reader.companies.ListCompanies(ListCompaniesRequest(page_size=1))
    request = ListCompaniesRequest(page_size=1, is_cpo=True, page_token=page.next_page_token)
    assert (await fails(tenant.reader.companies.ListCompanies(request))).reason == "INVALID_PAGE_TOKEN"


async def test_a_negative_page_size_is_refused_and_a_large_one_is_capped(tenant: Tenant) -> None:
    await _store(tenant, 2)
    assert (
        "page_size"
        in (await fails(tenant.reader.companies.ListCompanies(ListCompaniesRequest(page_size=-1)))).violations
    )
    page = await tenant.reader.companies.ListCompanies(ListCompaniesRequest(page_size=2_000_000_000))
    assert len(page.companies) == 2


async def test_another_tenant_sees_changes_and_deletes_nothing(
    tenant: Tenant, new_tenant: Callable[[], Awaitable[Tenant]]
) -> None:
    other = await new_tenant()
    company = a_company()
    stored = await tenant.writer.companies.UpsertCompany(UpsertCompanyRequest(company=company))
    assert (await fails(other.admin.companies.GetCompany(GetCompanyRequest(id=company.id)))).code is Code.NOT_FOUND
    assert (
        await fails(other.admin.companies.DeleteCompany(DeleteCompanyRequest(id=company.id)))
    ).code is Code.NOT_FOUND
    assert not (await other.admin.companies.ListCompanies(ListCompaniesRequest())).companies
    theirs = a_company(id=company.id, name="Theirs")
    await other.admin.companies.UpsertCompany(UpsertCompanyRequest(company=theirs))
    assert await tenant.reader.companies.GetCompany(GetCompanyRequest(id=company.id)) == stored

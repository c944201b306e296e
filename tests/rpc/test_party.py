"""PartyService through the front door."""

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import grpc
import pytest
from evbridge.v1.party_pb2 import (
    PARTY_ROLE_CPO,
    PARTY_ROLE_EMSP,
    CreatePartyRequest,
    DeletePartyRequest,
    GetPartyRequest,
    ListPartiesRequest,
    Party,
    UpdatePartyRequest,
)
from evbridge.v1.tariff_pb2 import CreateTariffRequest, DeleteTariffRequest, TariffKey
from evbridge.v1.types_pb2 import BusinessDetails
from google.protobuf.field_mask_pb2 import FieldMask

from tests.conftest import Tenant
from tests.filled import filled, unset
from tests.front_door import a_party, a_tariff, fails

Code = grpc.StatusCode


async def create(tenant: Tenant, **changes: Any) -> Party:
    return await tenant.admin.parties.CreateParty(CreatePartyRequest(party=a_party(**changes)))


async def get(tenant: Tenant, country_code: str = "DE", party_id: str = "ABC") -> Party:
    return await tenant.reader.parties.GetParty(GetPartyRequest(country_code=country_code, party_id=party_id))


async def update(tenant: Tenant, party: Party, *paths: str, **more: Any) -> Party:
    request = UpdatePartyRequest(party=party, update_mask=FieldMask(paths=paths), **more)
    return await tenant.admin.parties.UpdateParty(request)


async def test_every_field_is_stored_and_comes_back(tenant: Tenant) -> None:
    url = "https://example.com/a.png"
    sent = filled(
        Party.DESCRIPTOR,
        {
            "evbridge.v1.Party.country_code": "DE",
            "evbridge.v1.Party.party_id": "ABC",
            "evbridge.v1.BusinessDetails.website": url,
            "evbridge.v1.Image.url": url,
            "evbridge.v1.Image.thumbnail": url,
            "evbridge.v1.Image.type": "png",
        },
    )
    stored = await tenant.admin.parties.CreateParty(CreatePartyRequest(party=sent))
    assert not list(unset(stored))
    got = await get(tenant)
    assert got == stored
    for name in ("create_time", "update_time", "etag"):
        got.ClearField(name)
    assert got == sent


async def test_a_party_is_named_in_any_case_and_kept_in_upper(tenant: Tenant) -> None:
    created = await create(tenant, country_code="de", party_id="abc")
    assert (created.country_code, created.party_id) == ("DE", "ABC")
    assert await get(tenant, "dE", "aBc") == created
    failure = await fails(create(tenant))
    assert (failure.code, failure.reason) == (Code.ALREADY_EXISTS, "RESOURCE_EXISTS")


INVALID = [
    ({"country_code": "DEU"}, "party.country_code"),
    ({"country_code": ""}, "party.country_code"),
    ({"party_id": "AB"}, "party.party_id"),
    ({"party_id": "AB*"}, "party.party_id"),
    ({"roles": []}, "party.roles"),
    ({"roles": [0]}, "party.roles[0]"),
    ({"roles": [1, 1]}, "party.roles"),
    ({"roles": [99]}, "party.roles[0]"),
    ({"business_details": None}, "party.business_details"),
    ({"business_details": BusinessDetails()}, "party.business_details.name"),
    ({"business_details": BusinessDetails(name="n" * 101)}, "party.business_details.name"),
    ({"business_details": BusinessDetails(name="n", website="x y")}, "party.business_details.website"),
]


@pytest.mark.parametrize(("changes", "path"), INVALID)
async def test_a_field_that_breaks_its_rule_is_named(tenant: Tenant, changes: dict[str, Any], path: str) -> None:
    failure = await fails(create(tenant, **changes))
    assert (failure.code, failure.reason) == (Code.INVALID_ARGUMENT, "INVALID_FIELD")
    assert path in failure.violations
    assert not (await tenant.reader.parties.ListParties(ListPartiesRequest())).parties


async def test_an_update_changes_what_it_names_and_is_validated_whole(tenant: Tenant) -> None:
    created = await create(tenant)
    key = {"country_code": "de", "party_id": "abc"}
    changed = await update(tenant, Party(**key, roles=[PARTY_ROLE_EMSP]), "roles")
    assert [*changed.roles] == [PARTY_ROLE_EMSP]
    assert changed.business_details == created.business_details
    assert (changed.create_time, changed.etag != created.etag) == (created.create_time, True)
    unchanged = await update(tenant, Party(**key, roles=[PARTY_ROLE_EMSP]))
    assert unchanged == changed
    assert "party.roles" in (await fails(update(tenant, Party(**key), "roles"))).violations
    assert "update_mask" in (await fails(update(tenant, Party(**key), "role"))).violations
    assert "party" in (await fails(update(tenant, Party(roles=[PARTY_ROLE_CPO])))).violations
    stale = await fails(update(tenant, Party(**key, roles=[PARTY_ROLE_CPO], etag=created.etag)))
    assert (stale.code, stale.reason) == (Code.ABORTED, "ETAG_MISMATCH")


async def test_a_party_that_owns_a_tariff_is_not_deleted(tenant: Tenant) -> None:
    created = await create(tenant)
    await tenant.writer.tariffs.CreateTariff(CreateTariffRequest(tariff=a_tariff(id="T1")))
    request = DeletePartyRequest(country_code="DE", party_id="ABC", etag=created.etag)
    failure = await fails(tenant.admin.parties.DeleteParty(request))
    assert (failure.code, failure.reason) == (Code.FAILED_PRECONDITION, "PARTY_IN_USE")
    key = TariffKey(country_code="DE", party_id="ABC", id="T1")
    await tenant.writer.tariffs.DeleteTariff(DeleteTariffRequest(key=key))
    stale = DeletePartyRequest(country_code="DE", party_id="ABC", etag="other")
    assert (await fails(tenant.admin.parties.DeleteParty(stale))).reason == "ETAG_MISMATCH"
    await tenant.admin.parties.DeleteParty(request)
    assert (await fails(get(tenant))).code is Code.NOT_FOUND
    request.etag = ""
    assert (await fails(tenant.admin.parties.DeleteParty(request))).code is Code.NOT_FOUND
    request.allow_missing = True
    await tenant.admin.parties.DeleteParty(request)


async def test_a_rehearsal_and_a_repeated_call(tenant: Tenant) -> None:
    request = CreatePartyRequest(party=a_party(), request_id=str(uuid4()), validate_only=True)
    await tenant.admin.parties.CreateParty(request)
    assert (await fails(get(tenant))).code is Code.NOT_FOUND
    request.validate_only = False
    first = await tenant.admin.parties.CreateParty(request)
    assert await tenant.admin.parties.CreateParty(request) == first


async def test_lists_page_in_the_order_of_keys(tenant: Tenant) -> None:
    for country, party in [("NL", "AAA"), ("DE", "ZZZ"), ("DE", "ABC")]:
        await create(tenant, country_code=country, party_id=party)
    request, found = ListPartiesRequest(page_size=2), []
    while True:
        page = await tenant.reader.parties.ListParties(request)
        found += [(party.country_code, party.party_id) for party in page.parties]
        request.page_token = page.next_page_token
        if not request.page_token:
            break
    assert found == [("DE", "ABC"), ("DE", "ZZZ"), ("NL", "AAA")]


async def test_another_tenants_party_does_not_exist(
    tenant: Tenant, new_tenant: Callable[[], Awaitable[Tenant]]
) -> None:
    await create(tenant)
    other = await new_tenant()
    assert (await fails(get(other))).code is Code.NOT_FOUND
    assert (await fails(update(other, Party(country_code="DE", party_id="ABC")))).code is Code.NOT_FOUND
    request = DeletePartyRequest(country_code="DE", party_id="ABC")
    assert (await fails(other.admin.parties.DeleteParty(request))).code is Code.NOT_FOUND

"""TariffService through the front door."""

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import grpc
import pytest
from evbridge.v1.party_pb2 import CreatePartyRequest
from evbridge.v1.tariff_pb2 import (
    TARIFF_TYPE_REGULAR,
    BatchGetTariffsRequest,
    BatchUpsertTariffsRequest,
    CreateTariffRequest,
    DeleteTariffRequest,
    GetTariffRequest,
    ListTariffsRequest,
    PriceComponent,
    Tariff,
    TariffElement,
    TariffKey,
    TariffRestrictions,
    UpdateTariffRequest,
)
from evbridge.v1.types_pb2 import DisplayText, Price
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import code_pb2, error_details_pb2
from google.type.decimal_pb2 import Decimal

from tests.conftest import Tenant
from tests.filled import filled, unset
from tests.front_door import a_party, a_tariff, fails

Code = grpc.StatusCode


@pytest.fixture
async def party(tenant: Tenant) -> Tenant:
    """A tenant that is the party DE*ABC."""
    await tenant.admin.parties.CreateParty(CreatePartyRequest(party=a_party()))
    return tenant


def key(tariff: Tariff) -> TariffKey:
    return TariffKey(country_code=tariff.country_code, party_id=tariff.party_id, id=tariff.id)


async def create(tenant: Tenant, **changes: Any) -> Tariff:
    return await tenant.writer.tariffs.CreateTariff(CreateTariffRequest(tariff=a_tariff(**changes)))


async def get(tenant: Tenant, tariff: Tariff) -> Tariff:
    return await tenant.reader.tariffs.GetTariff(GetTariffRequest(key=key(tariff)))


async def update(tenant: Tenant, tariff: Tariff, *paths: str, **more: Any) -> Tariff:
    request = UpdateTariffRequest(tariff=tariff, update_mask=FieldMask(paths=paths), **more)
    return await tenant.writer.tariffs.UpdateTariff(request)


async def upsert(tenant: Tenant, *tariffs: Tariff, **more: Any) -> Any:
    request = BatchUpsertTariffsRequest(tariffs=tariffs, **{"allow_missing": True, **more})
    return (await tenant.writer.tariffs.BatchUpsertTariffs(request)).results


URL = "https://example.com/t"
VALUES = {
    "evbridge.v1.Tariff.integration_id": None,  # ours
    "evbridge.v1.Tariff.country_code": "DE",
    "evbridge.v1.Tariff.party_id": "ABC",
    "evbridge.v1.Tariff.currency": "EUR",
    "evbridge.v1.Tariff.tariff_alt_url": URL,
    "evbridge.v1.Tariff.start_date_time": Timestamp(seconds=1, nanos=5),
    "evbridge.v1.Tariff.end_date_time": Timestamp(seconds=2),
    "evbridge.v1.DisplayText.language": "en",
    "evbridge.v1.TariffRestrictions.start_time": "22:00",
    "evbridge.v1.TariffRestrictions.end_time": "00:00",
    "evbridge.v1.TariffRestrictions.start_date": "2026-01-01",
    "evbridge.v1.TariffRestrictions.end_date": "2026-12-31",
    "google.type.Decimal": Decimal(value="12.3400"),
}


async def test_every_field_is_stored_and_comes_back(party: Tenant) -> None:
    sent = filled(Tariff.DESCRIPTOR, VALUES)
    stored = await party.writer.tariffs.CreateTariff(CreateTariffRequest(tariff=sent))
    assert list(unset(stored)) == ["origin", "overrides", "not_understood", "integration_id"]
    got = await get(party, stored)
    assert got == stored
    for name in ("create_time", "last_updated", "etag"):
        got.ClearField(name)
    assert got == sent


async def test_an_id_ignores_case_and_is_shown_as_it_was_first_written(party: Tenant) -> None:
    created = await create(party, id="Night-25", country_code="de", party_id="abc")
    assert (created.country_code, created.party_id, created.id) == ("DE", "ABC", "Night-25")
    shouted = TariffKey(country_code="de", party_id="aBc", id="NIGHT-25")
    assert await party.reader.tariffs.GetTariff(GetTariffRequest(key=shouted)) == created
    assert (await fails(create(party, id="night-25"))).reason == "RESOURCE_EXISTS"
    changed = await update(party, a_tariff(id="NIGHT-25", name="new"))
    assert (changed.id, changed.name) == ("Night-25", "new")


def energy(**changes: Any) -> dict[str, Any]:
    component = {"type": 1, "price": Decimal(value="1"), "step_size": 1, **changes}
    return {"elements": [TariffElement(price_components=[PriceComponent(**component)])]}


def restricted(**restrictions: Any) -> dict[str, Any]:
    component = PriceComponent(type=1, price=Decimal(value="1"), step_size=1)
    return {"elements": [TariffElement(price_components=[component], restrictions=TariffRestrictions(**restrictions))]}


C = "tariff.elements[0].price_components[0]"
R = "tariff.elements[0].restrictions"
INVALID = [
    ({"country_code": "D"}, "tariff.country_code"),
    ({"party_id": "ABCD"}, "tariff.party_id"),
    ({"id": ""}, "tariff.id"),
    ({"id": "i" * 37}, "tariff.id"),
    ({"id": "a\0b"}, "tariff.id"),
    ({"id": "ü"}, "tariff.id"),
    ({"currency": "eur"}, "tariff.currency"),
    ({"type": 99}, "tariff.type"),
    ({"tariff_alt_url": "no url"}, "tariff.tariff_alt_url"),
    ({"tariff_alt_text": [DisplayText(language="eng", text="t")]}, "tariff.tariff_alt_text[0].language"),
    ({"tariff_alt_text": [DisplayText(language="en", text="t" * 513)]}, "tariff.tariff_alt_text[0].text"),
    ({"elements": []}, "tariff.elements"),
    ({"elements": [TariffElement()]}, "tariff.elements[0].price_components"),
    ({"min_price": Price()}, "tariff.min_price.excl_vat"),
    ({"min_price": Price(excl_vat=Decimal(value="1e3"))}, "tariff.min_price.excl_vat"),
    ({"start_date_time": Timestamp(seconds=2), "end_date_time": Timestamp(seconds=2)}, "tariff"),
    (energy(type=0), f"{C}.type"),
    (energy(price=None), f"{C}.price"),
    (energy(price=Decimal(value="")), f"{C}.price"),
    (energy(price=Decimal(value="0,25")), f"{C}.price"),
    (energy(vat=Decimal(value="100.1")), f"{C}.vat"),
    (energy(vat=Decimal(value="-1")), f"{C}.vat"),
    (energy(step_size=None), f"{C}.step_size"),
    (energy(step_size=-1), f"{C}.step_size"),
    (energy(type=7), C),
    (restricted(start_time="24:00"), f"{R}.start_time"),
    (restricted(end_time="7:00"), f"{R}.end_time"),
    (restricted(start_date="2026-13-01"), f"{R}.start_date"),
    (restricted(min_kwh=Decimal(value="-1")), f"{R}.min_kwh"),
    (restricted(max_duration=-1), f"{R}.max_duration"),
    (restricted(day_of_week=[1, 1]), f"{R}.day_of_week"),
    (restricted(day_of_week=[8]), f"{R}.day_of_week[0]"),
]


@pytest.mark.parametrize(("changes", "path"), INVALID)
async def test_a_field_that_breaks_its_rule_is_named_and_nothing_is_stored(
    party: Tenant, changes: dict[str, Any], path: str
) -> None:
    failure = await fails(create(party, **changes))
    assert (failure.code, failure.reason) == (Code.INVALID_ARGUMENT, "INVALID_FIELD")
    assert path in failure.violations
    (result,) = await upsert(party, a_tariff(**changes))
    assert result.error.code == code_pb2.INVALID_ARGUMENT
    assert not (await party.reader.tariffs.ListTariffs(ListTariffsRequest())).tariffs


async def test_a_tariff_belongs_to_a_party_of_the_tenant(party: Tenant) -> None:
    failure = await fails(create(party, party_id="XYZ"))
    assert (failure.code, failure.reason) == (Code.FAILED_PRECONDITION, "REFERENCE_NOT_FOUND")
    assert failure.metadata == {"resource": "party", "id": "DE*XYZ"}
    assert set(failure.violations) == {"tariff.party_id"}


async def test_an_update_changes_what_it_names(party: Tenant) -> None:
    created = await create(party, name="before", tariff_alt_url=URL)
    changed = await update(party, Tariff(**_names(created), name="after"), "name", "tariff_alt_url")
    assert (changed.name, changed.tariff_alt_url) == ("after", "")
    assert changed.elements == created.elements
    assert changed.create_time == created.create_time
    assert changed.last_updated.ToNanoseconds() > created.last_updated.ToNanoseconds()
    same = await update(party, Tariff(**_names(created), name="after"))
    assert same == changed  # last_updated moves only with the content
    replaced = await update(party, a_tariff(**_names(created), currency="NOK"), "*")
    assert (replaced.currency, replaced.name) == ("NOK", "")
    assert "tariff.elements" in (await fails(update(party, Tariff(**_names(created)), "elements"))).violations
    assert "update_mask" in (await fails(update(party, Tariff(**_names(created)), "price"))).violations
    stale = await fails(update(party, Tariff(**_names(created), name="x", etag=created.etag)))
    assert (stale.code, stale.reason) == (Code.ABORTED, "ETAG_MISMATCH")


def _names(tariff: Tariff) -> dict[str, str]:
    return {"country_code": tariff.country_code, "party_id": tariff.party_id, "id": tariff.id}


async def test_an_update_creates_what_is_missing_only_when_told(party: Tenant) -> None:
    wanted = a_tariff()
    failure = await fails(update(party, wanted))
    assert (failure.code, failure.reason) == (Code.NOT_FOUND, "RESOURCE_NOT_FOUND")
    created = await update(party, wanted, allow_missing=True)
    assert created.elements == wanted.elements
    assert "tariff" in (await fails(update(party, Tariff(name="x")))).violations


async def test_a_batch_takes_and_refuses_each_on_its_own(party: Tenant) -> None:
    there = await create(party, name="there")
    results = await upsert(
        party,
        a_tariff(id="new"),
        a_tariff(id=there.id, name="replaced", etag=there.etag),
        a_tariff(id="bad", currency="x"),
        a_tariff(id="stale", etag="other"),
        a_tariff(id="NEW"),
        a_tariff(id="foreign", party_id="XYZ"),
    )
    assert [result.error.code for result in results] == [
        code_pb2.OK,
        code_pb2.OK,
        code_pb2.INVALID_ARGUMENT,
        code_pb2.ABORTED,
        code_pb2.INVALID_ARGUMENT,
        code_pb2.FAILED_PRECONDITION,
    ]
    assert results[1].tariff.name == "replaced"
    bad = error_details_pb2.BadRequest()
    assert results[2].error.details[1].Unpack(bad)
    assert bad.field_violations[0].field == "tariffs[2].currency"
    listed = await party.reader.tariffs.ListTariffs(ListTariffsRequest())
    assert sorted(tariff.id for tariff in listed.tariffs) == sorted(["new", there.id])
    assert (await get(party, results[1].tariff)) == results[1].tariff


async def test_a_batch_without_allow_missing_only_replaces(party: Tenant) -> None:
    there = await create(party)
    results = await upsert(party, a_tariff(id=there.id, name="n"), a_tariff(id="new"), allow_missing=False)
    assert [result.error.code for result in results] == [code_pb2.OK, code_pb2.NOT_FOUND]


async def test_a_batch_is_bounded_rehearsed_and_repeated(party: Tenant) -> None:
    full = [a_tariff(id=f"t{number:03}") for number in range(500)]
    assert (await fails(upsert(party, *full, a_tariff()))).violations.keys() == {"tariffs"}
    assert (await fails(upsert(party))).violations.keys() == {"tariffs"}
    rehearsed = await upsert(party, *full, validate_only=True)
    assert all(result.tariff.etag for result in rehearsed)
    assert not (await party.reader.tariffs.ListTariffs(ListTariffsRequest())).tariffs
    request_id = str(uuid4())
    stored = await upsert(party, *full, request_id=request_id)
    assert await upsert(party, *full, request_id=request_id.upper()) == stored
    keys = [key(tariff) for tariff in reversed(full)]
    got = await party.reader.tariffs.BatchGetTariffs(BatchGetTariffsRequest(keys=keys))
    assert [tariff.id for tariff in got.tariffs] == [tariff.id for tariff in reversed(full)]
    too_many = BatchGetTariffsRequest(keys=[*keys, keys[0]])
    assert (await fails(party.reader.tariffs.BatchGetTariffs(too_many))).violations.keys() == {"keys"}
    missing = BatchGetTariffsRequest(keys=[keys[0], TariffKey(country_code="DE", party_id="ABC", id="none")])
    assert (await fails(party.reader.tariffs.BatchGetTariffs(missing))).code is Code.NOT_FOUND


async def test_a_deleted_tariff_is_gone_and_can_be_made_again(party: Tenant) -> None:
    created = await create(party, name="first")
    stale = DeleteTariffRequest(key=key(created), etag="other")
    assert (await fails(party.writer.tariffs.DeleteTariff(stale))).reason == "ETAG_MISMATCH"
    request = DeleteTariffRequest(key=key(created), etag=created.etag)
    await party.writer.tariffs.DeleteTariff(request)
    assert (await fails(get(party, created))).code is Code.NOT_FOUND
    assert not (await party.reader.tariffs.ListTariffs(ListTariffsRequest())).tariffs
    request.etag = ""
    assert (await fails(party.writer.tariffs.DeleteTariff(request))).code is Code.NOT_FOUND
    request.allow_missing = True
    await party.writer.tariffs.DeleteTariff(request)
    again = await create(party, id=created.id.upper())
    assert (again.name, again.id) == ("", created.id.upper())
    assert again.create_time.ToNanoseconds() > created.create_time.ToNanoseconds()


async def test_lists_filter_and_page(party: Tenant) -> None:
    await party.admin.parties.CreateParty(CreatePartyRequest(party=a_party(country_code="NO", party_id="XYZ")))
    for number in range(3):
        await create(party, id=f"de-{number}")
    await create(party, id="no-0", country_code="NO", party_id="XYZ", currency="NOK", type=TARIFF_TYPE_REGULAR)
    for filters, expected in [
        ({}, ["de-0", "de-1", "de-2", "no-0"]),
        ({"page_size": 2}, ["de-0", "de-1", "de-2", "no-0"]),
        ({"country_code": "no"}, ["no-0"]),
        ({"party_id": "abc"}, ["de-0", "de-1", "de-2"]),
        ({"type": TARIFF_TYPE_REGULAR}, ["no-0"]),
        ({"currency": "EUR", "page_size": 1}, ["de-0", "de-1", "de-2"]),
        ({"currency": "USD"}, []),
    ]:
        request, found = ListTariffsRequest(**filters), []
        while True:
            page = await party.reader.tariffs.ListTariffs(request)
            found += [tariff.id for tariff in page.tariffs]
            request.page_token = page.next_page_token
            if not request.page_token:
                break
        assert found == expected


async def test_another_tenants_tariff_does_not_exist(
    party: Tenant, new_tenant: Callable[[], Awaitable[Tenant]]
) -> None:
    created = await create(party)
    other = await new_tenant()
    await other.admin.parties.CreateParty(CreatePartyRequest(party=a_party()))
    assert (await fails(get(other, created))).code is Code.NOT_FOUND
    assert (await fails(update(other, created))).code is Code.NOT_FOUND
    assert (await fails(other.admin.tariffs.DeleteTariff(DeleteTariffRequest(key=key(created))))).code is Code.NOT_FOUND
    await create(other, id=created.id, name="theirs")
    assert await get(party, created) == created

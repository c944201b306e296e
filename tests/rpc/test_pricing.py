"""PricingService through the front door. What sessions cost is in tests/pricing."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from evbridge.v1 import pricing_pb2 as p
from evbridge.v1 import tariff_pb2 as t
from evbridge.v1.integration_pb2 import CreateIntegrationRequest
from evbridge.v1.location_pb2 import CreateLocationRequest, LocationKey
from evbridge.v1.party_pb2 import CreatePartyRequest
from evbridge.v1.publication_pb2 import CreatePublicationRuleRequest
from evbridge.v1.types_pb2 import Price
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import code_pb2
from google.type.decimal_pb2 import Decimal

from service.app import Evbridge
from service.domain.pricing.tariff import SPOT
from service.storage.retention import tariff_revisions_sweep
from service.storage.statements import Statement
from tests.conftest import Tenant
from tests.front_door import a_connector, a_location, a_party, a_rule, a_tariff, an_evse, an_integration, fails

Code = grpc.StatusCode
OPTIONS = p.PricingOptions(time_zone="Europe/Berlin")


@pytest.fixture
async def party(tenant: Tenant) -> Tenant:
    """A tenant that is the party DE*ABC."""
    await tenant.admin.parties.CreateParty(CreatePartyRequest(party=a_party()))
    return tenant


def at(time: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(time)
    return stamp


def per_kwh(price: str, **restrictions: Any) -> t.TariffElement:
    component = t.PriceComponent(
        type=t.TARIFF_DIMENSION_TYPE_ENERGY, price=Decimal(value=price), vat=Decimal(value="20"), step_size=1
    )
    when = t.TariffRestrictions(**restrictions) if restrictions else None
    return t.TariffElement(price_components=[component], restrictions=when)


def ten_kwh(start: datetime | None = None) -> p.SessionPlan:
    return p.SessionPlan(start_date_time=at(start or datetime.now(UTC)), energy=Decimal(value="10"), charging_s=3600)


async def create(tenant: Tenant, **changes: Any) -> t.Tariff:
    return await tenant.writer.tariffs.CreateTariff(t.CreateTariffRequest(tariff=a_tariff(**changes)))


def key(tariff: t.Tariff) -> t.TariffKey:
    return t.TariffKey(country_code=tariff.country_code, party_id=tariff.party_id, id=tariff.id)


async def quote(tenant: Tenant, plan: p.SessionPlan, **source: Any) -> p.Quote:
    return await tenant.reader.pricing.QuotePrice(p.QuotePriceRequest(plan=plan, options=OPTIONS, **source))


async def test_a_stored_tariff_and_one_in_the_request_give_the_same_price(party: Tenant) -> None:
    stored = await create(party, elements=[per_kwh("0.30")])
    by_key = await quote(party, ten_kwh(), key=key(stored))
    assert (by_key.total_cost.excl_vat.value, by_key.total_cost.incl_vat.value) == ("3", "3.6")
    assert (by_key.tariff.id, by_key.tariff.etag) == (stored.id, stored.etag)
    assert by_key.tariff.last_updated == stored.last_updated
    assert [line.component for line in by_key.lines] == ["elements[0].price_components[0]"]
    assert (await quote(party, ten_kwh(), tariff=stored)).total_cost == by_key.total_cost


async def test_a_session_is_priced_with_what_the_tariff_said_at_its_start(party: Tenant) -> None:
    first = await create(party, elements=[per_kwh("0.30")])
    second = await party.writer.tariffs.UpdateTariff(
        t.UpdateTariffRequest(tariff=a_tariff(id=first.id, elements=[per_kwh("0.50")]))
    )
    before = second.last_updated.ToDatetime(tzinfo=UTC) - timedelta(microseconds=1)
    old, new = await quote(party, ten_kwh(before), key=key(first)), await quote(party, ten_kwh(), key=key(first))
    assert (old.total_cost.excl_vat.value, old.tariff.etag) == ("3", first.etag)
    assert (new.total_cost.excl_vat.value, new.tariff.etag) == ("5", second.etag)
    at_the_change = await quote(party, ten_kwh(before + timedelta(microseconds=1)), key=key(first))
    assert at_the_change.tariff.etag == second.etag
    younger = await quote(party, ten_kwh(before - timedelta(days=9)), key=key(first))
    assert younger.tariff.etag == first.etag
    assert "the tariff is younger than the session" in younger.notices


async def test_a_deleted_tariff_prices_the_sessions_of_its_time(party: Tenant, running: Evbridge) -> None:
    tariff = await create(party, elements=[per_kwh("0.30")])
    during = datetime.now(UTC)
    await party.writer.tariffs.DeleteTariff(t.DeleteTariffRequest(key=key(tariff)))
    later = datetime.now(UTC) + timedelta(seconds=1)
    assert (await quote(party, ten_kwh(during), key=key(tariff))).tariff.etag == tariff.etag
    failure = await fails(quote(party, ten_kwh(later), key=key(tariff)))
    assert (failure.code, failure.reason) == (Code.NOT_FOUND, "RESOURCE_NOT_FOUND")
    await create(party, id=tariff.id, elements=[per_kwh("0.70")])
    assert (await quote(party, ten_kwh(during), key=key(tariff))).tariff.etag == tariff.etag
    assert (await quote(party, ten_kwh(later), key=key(tariff))).total_cost.excl_vat.value == "7"
    await party.writer.tariffs.DeleteTariff(t.DeleteTariffRequest(key=key(tariff)))
    async with running.database.transaction() as conn:
        await conn.run(Statement("no tombstone", "DELETE FROM tariff WHERE tenant_id = $1"), party.name)
    assert (await quote(party, ten_kwh(during), key=key(tariff))).tariff.etag == tariff.etag
    assert (await fails(quote(party, ten_kwh(later + timedelta(hours=1)), key=key(tariff)))).code is Code.NOT_FOUND


async def test_content_that_is_no_longer_kept_is_not_guessed(party: Tenant, running: Evbridge) -> None:
    tariff = await create(party, elements=[per_kwh("0.30")])
    before = datetime.now(UTC) - timedelta(seconds=5)
    changed = await party.writer.tariffs.UpdateTariff(
        t.UpdateTariffRequest(tariff=a_tariff(id=tariff.id, elements=[per_kwh("0.50")]))
    )
    await tariff_revisions_sweep(running.database, days=1)
    assert (await quote(party, ten_kwh(before), key=key(tariff))).tariff.etag == tariff.etag
    await tariff_revisions_sweep(running.database, days=0)
    failure = await fails(quote(party, ten_kwh(before), key=key(tariff)))
    assert (failure.code, failure.reason) == (Code.FAILED_PRECONDITION, "TARIFF_REVISION_NOT_KEPT")
    assert failure.metadata["kept_since"] == changed.last_updated.ToJsonString()


async def test_another_tenants_tariff_prices_nothing(
    party: Tenant, new_tenant: Callable[[], Awaitable[Tenant]]
) -> None:
    tariff = await create(party)
    failure = await fails(quote(await new_tenant(), ten_kwh(), key=key(tariff)))
    assert failure.code is Code.NOT_FOUND


@pytest.fixture
async def seen(party: Tenant) -> Tenant:
    """One EVSE whose connector names the tariffs t-all, t-fast and t-later; integration cp sees all, other nothing."""
    for id in ("cp", "other"):
        integration = CreateIntegrationRequest(integration=an_integration(id=id, enabled=False))
        await party.admin.integrations.CreateIntegration(integration)
    await create(party, id="t-all", elements=[per_kwh("0.30")])
    await create(party, id="t-fast", elements=[per_kwh("0.60")], type=t.TARIFF_TYPE_PROFILE_FAST)
    tomorrow = at(datetime.now(UTC) + timedelta(days=1))
    await create(party, id="t-later", elements=[per_kwh("0.10")], type=CHEAP, start_date_time=tomorrow)
    await create(party, id="t-deal", elements=[per_kwh("0.20")])
    evse = an_evse(connectors=[a_connector(tariff_ids=["t-all", "t-fast", "t-later"])])
    await party.writer.locations.CreateLocation(CreateLocationRequest(location=a_location(id="L1", evses=[evse])))
    await party.writer.publication.CreatePublicationRule(CreatePublicationRuleRequest(rule=a_rule(id="all")))
    return party


CHEAP = t.TARIFF_TYPE_PROFILE_CHEAP


def place(**changes: Any) -> p.PartnerConnector:
    location = LocationKey(country_code="DE", party_id="ABC", id="l1")
    fields = {"integration_id": "cp", "location": location, "evse_uid": "e1", "connector_id": "1", **changes}
    return p.PartnerConnector(**fields)


@pytest.mark.parametrize(
    ("changes", "id"),
    [
        ({}, "t-all"),
        ({"type": t.TARIFF_TYPE_PROFILE_FAST}, "t-fast"),
        ({"type": t.TARIFF_TYPE_PROFILE_GREEN}, "t-all"),
        ({"type": CHEAP}, "t-all"),
        ({"type": CHEAP, "at": Timestamp(seconds=4_000_000_000)}, "t-later"),
    ],
)
async def test_a_partner_sees_the_tariff_of_the_type_that_is_in_force(
    seen: Tenant, changes: dict[str, Any], id: str
) -> None:
    assert (await quote(seen, ten_kwh(), partner_connector=place(**changes))).tariff.id == id


async def test_a_partner_sees_the_tariff_that_its_rule_assigns(seen: Tenant) -> None:
    rule = a_rule(
        integration_id="other", assigned_tariffs=[t.TariffKey(country_code="DE", party_id="ABC", id="t-deal")]
    )
    assert (await fails(quote(seen, ten_kwh(), partner_connector=place(integration_id="other")))).reason == (
        "TARIFF_NOT_SHOWN"
    )
    await seen.writer.publication.CreatePublicationRule(CreatePublicationRuleRequest(rule=rule))
    found = await quote(seen, ten_kwh(), partner_connector=place(integration_id="other"))
    assert (found.tariff.id, found.total_cost.excl_vat.value) == ("t-deal", "2")
    both = [p.ComparedTariff(partner_connector=place(integration_id=id)) for id in ("cp", "other")]
    request = p.CompareTariffsRequest(tariffs=both, plan=ten_kwh(), options=OPTIONS)
    compared = (await seen.reader.pricing.CompareTariffs(request)).results
    assert [result.quote.tariff.id for result in compared] == ["t-deal", "t-all"]


@pytest.mark.parametrize(
    "changes",
    [
        {"integration_id": "none"},
        {"location": LocationKey(country_code="DE", party_id="ABC", id="none")},
        {"evse_uid": "none"},
        {"connector_id": "2"},
    ],
)
async def test_a_partners_connector_must_exist(seen: Tenant, changes: dict[str, Any]) -> None:
    failure = await fails(quote(seen, ten_kwh(), partner_connector=place(**changes)))
    assert (failure.code, failure.reason) == (Code.NOT_FOUND, "RESOURCE_NOT_FOUND")


def periods(*starts: int, end: int) -> dict[str, Any]:
    dimension = p.CdrDimension(type=p.CDR_DIMENSION_TYPE_ENERGY, volume=Decimal(value="1"))
    made = [p.ChargingPeriod(start_date_time=Timestamp(seconds=start), dimensions=[dimension]) for start in starts]
    return {"plan": None, "periods": p.SessionPeriods(charging_periods=made, end_date_time=Timestamp(seconds=end))}


def reserved_last() -> dict[str, Any]:
    made = periods(0, 5, end=9)
    made["periods"].charging_periods[1].dimensions[0].type = p.CDR_DIMENSION_TYPE_RESERVATION_TIME
    return made


DAY = 86_400
INVALID = [
    ({"plan": None}, "session"),
    ({"tariff": None}, "tariff_source"),
    ({"tariff": t.Tariff(country_code="DE")}, "tariff.elements"),
    ({"options": None}, "options"),
    ({"options": p.PricingOptions()}, "options.time_zone"),
    ({"options": p.PricingOptions(time_zone="Europe/Nowhere")}, "options.time_zone"),
    ({"options": p.PricingOptions(time_zone="UTC", rounding=p.Rounding(decimals=13))}, "options.rounding.decimals"),
    ({"plan": p.SessionPlan()}, "plan.start_date_time"),
    ({"plan": p.SessionPlan(start_date_time=Timestamp(seconds=1), power=Decimal(value="0"))}, "plan.power"),
    ({"plan": p.SessionPlan(start_date_time=Timestamp(seconds=1), reservation_expired=True)}, "plan.reservation_s"),
    ({"plan": p.SessionPlan(start_date_time=Timestamp(seconds=1), parking_s=93 * DAY)}, "plan.parking_s"),
    ({"plan": p.SessionPlan(start_date_time=Timestamp(seconds=-5))}, "plan"),
    (periods(5, end=4), "periods.end_date_time"),
    (periods(0, end=93 * DAY), "periods"),
    (reserved_last(), "periods.charging_periods[1].dimensions"),
]


@pytest.mark.parametrize(("changes", "path"), INVALID)
async def test_what_cannot_be_priced_is_named(party: Tenant, changes: dict[str, Any], path: str) -> None:
    fields = {"tariff": a_tariff(), "plan": ten_kwh(), "options": OPTIONS, **changes}
    failure = await fails(party.reader.pricing.QuotePrice(p.QuotePriceRequest(**fields)))
    assert (failure.code, failure.reason) == (Code.INVALID_ARGUMENT, "INVALID_FIELD")
    assert path in failure.violations


async def test_spot_prices_of_a_zone_must_not_overlap(party: Tenant) -> None:
    prices = [
        p.SpotPrice(
            bidding_zone="NO1",
            start_time=Timestamp(seconds=start),
            end_time=Timestamp(seconds=start + 3600),
            price=Decimal(value="0.1"),
        )
        for start in (0, 1800)
    ]
    options = p.PricingOptions(time_zone="UTC", spot_prices=prices)
    request = p.QuotePriceRequest(tariff=a_tariff(), plan=ten_kwh(), options=options)
    assert "options.spot_prices" in (await fails(party.reader.pricing.QuotePrice(request))).violations


async def test_a_session_of_too_many_pieces_is_refused_before_it_is_priced(party: Tenant) -> None:
    elements = [per_kwh("0.30", start_time=f"{number // 60:02}:{number % 60:02}") for number in range(1440)]
    plan = ten_kwh()
    plan.parking_s = 91 * DAY
    failure = await fails(quote(party, plan, tariff=a_tariff(elements=elements)))
    assert "pieces by a tariff of 1440 elements" in failure.violations["session"]
    compared = p.CompareTariffsRequest(
        tariffs=[p.ComparedTariff(tariff=a_tariff(elements=elements[:60])) for _ in range(20)],
        plan=plan,
        options=OPTIONS,
    )
    assert "session" in (await fails(party.reader.pricing.CompareTariffs(compared))).violations
    del compared.tariffs[2:]
    assert len((await party.reader.pricing.CompareTariffs(compared)).results) == 2


async def test_a_tariff_of_too_many_components_to_compare_is_not_judged(party: Tenant) -> None:
    types = [value for value in t.TariffDimensionType.values() if value not in (0, *SPOT)]
    elements = [
        t.TariffElement(
            price_components=[t.PriceComponent(type=type, price=Decimal(value="1"), step_size=1) for type in types],
            restrictions=t.TariffRestrictions(max_duration=number + 1),
        )
        for number in range(2000)
    ]
    request = p.LintTariffRequest(tariff=a_tariff(elements=elements))
    failure = await fails(party.reader.pricing.LintTariff(request))
    assert "price components, which takes too long to compare" in failure.violations["tariff.elements"]
    del request.tariff.elements[500:]
    assert (await party.reader.pricing.LintTariff(request)).findings


async def test_an_answer_that_is_too_large_to_send_is_refused(party: Tenant) -> None:
    """Each line names the restrictions of its element, and no two periods make one line."""
    always: dict[str, Any] = {
        "day_of_week": list(range(1, 8)),
        "start_date": "2001-01-01",
        "end_date": "2099-01-01",
        "max_kwh": Decimal(value="999999999"),
        "max_duration": 8 * DAY * 365,
        "max_current": Decimal(value="999999999"),
    }
    elements = [per_kwh("0.30", max_power=Decimal(value="5"), **always), per_kwh("0.20", **always)]
    types = (p.CDR_DIMENSION_TYPE_ENERGY, p.CDR_DIMENSION_TYPE_POWER, p.CDR_DIMENSION_TYPE_CURRENT)
    made = [
        p.ChargingPeriod(
            start_date_time=Timestamp(seconds=1_800_000_000 + number * 60),
            dimensions=[p.CdrDimension(type=type, volume=Decimal(value=str(number % 2 * 9 + 1))) for type in types],
        )
        for number in range(2_500)
    ]
    session = p.SessionPeriods(charging_periods=made, end_date_time=Timestamp(seconds=1_800_200_000))
    tariffs = [p.ComparedTariff(tariff=a_tariff(elements=elements)) for _ in range(4)]
    request = p.CompareTariffsRequest(tariffs=tariffs, periods=session, options=OPTIONS)
    failure = await fails(party.reader.pricing.CompareTariffs(request))
    assert "tariffs" in failure.violations, failure
    del request.tariffs[1:]
    assert (await party.reader.pricing.CompareTariffs(request)).results[0].quote.lines


async def test_tariffs_are_compared_by_what_the_driver_pays(party: Tenant) -> None:
    stored = await create(party, elements=[per_kwh("0.40")])
    tariffs = [
        p.ComparedTariff(key=key(stored)),
        p.ComparedTariff(tariff=a_tariff(elements=[per_kwh("0.20")])),
        p.ComparedTariff(key=t.TariffKey(country_code="DE", party_id="ABC", id="none")),
        p.ComparedTariff(tariff=a_tariff(elements=[per_kwh("0.10")], currency="NOK")),
        p.ComparedTariff(tariff=a_tariff(elements=[per_kwh("0.20")])),
    ]
    request = p.CompareTariffsRequest(tariffs=tariffs, plan=ten_kwh(), options=OPTIONS)
    results = (await party.reader.pricing.CompareTariffs(request)).results
    assert [result.index for result in results] == [1, 4, 0, 3, 2]
    assert [result.quote.total_cost.incl_vat.value for result in results[:4]] == ["2.4", "2.4", "4.8", "1.2"]
    assert results[4].error.code == code_pb2.NOT_FOUND
    request.options.time_zone = "Europe/Nowhere"
    assert "options.time_zone" in (await fails(party.reader.pricing.CompareTariffs(request))).violations


async def test_a_stored_tariff_is_judged_with_what_names_it(party: Tenant) -> None:
    elements = [per_kwh("0.30"), per_kwh("0.20", start_time="22:00", end_time="02:30")]
    tariff = await create(party, elements=elements)
    request = p.LintTariffRequest(key=key(tariff), time_zone="Europe/Berlin")
    findings = (await party.reader.pricing.LintTariff(request)).findings
    assert [(found.path, found.code) for found in findings] == [
        ("elements[1].price_components[0]", p.FINDING_CODE_UNREACHABLE),
        ("elements[1].restrictions.end_time", p.FINDING_CODE_CLOCK_CHANGE),
        ("elements[1].restrictions.end_time", p.FINDING_CODE_CLOCK_CHANGE),
        ("id", p.FINDING_CODE_UNUSED),
    ]
    evse = an_evse(connectors=[a_connector(tariff_ids=[tariff.id])])
    await party.writer.locations.CreateLocation(CreateLocationRequest(location=a_location(evses=[evse])))
    findings = (await party.reader.pricing.LintTariff(p.LintTariffRequest(key=key(tariff)))).findings
    assert {found.code for found in findings} == {p.FINDING_CODE_UNREACHABLE}
    foreign = p.LintTariffRequest(tariff=a_tariff(party_id="XYZ"))
    assert [found.path for found in (await party.reader.pricing.LintTariff(foreign)).findings] == ["party_id"]
    missing = p.LintTariffRequest(key=t.TariffKey(country_code="DE", party_id="ABC", id="none"))
    assert (await fails(party.reader.pricing.LintTariff(missing))).code is Code.NOT_FOUND
    nowhere = p.LintTariffRequest(key=key(tariff), time_zone="Nowhere")
    assert "time_zone" in (await fails(party.reader.pricing.LintTariff(nowhere))).violations


def a_cdr(start: datetime, **changes: Any) -> p.AuditedCdr:
    """10 kWh in an hour for 3.00, with VAT 3.60."""
    volumes = {p.CDR_DIMENSION_TYPE_ENERGY: "10", p.CDR_DIMENSION_TYPE_TIME: "1"}
    dimensions = [p.CdrDimension(type=type, volume=Decimal(value=text)) for type, text in volumes.items()]
    return p.AuditedCdr(
        **{
            "country_code": "DE",
            "party_id": "ABC",
            "id": "C1",
            "start_date_time": at(start),
            "end_date_time": at(start + timedelta(hours=1)),
            "currency": "EUR",
            "charging_periods": [p.ChargingPeriod(start_date_time=at(start), dimensions=dimensions)],
            "total_cost": a_price("3.00", "3.60"),
            "total_energy": Decimal(value="10"),
            "total_time": Decimal(value="1"),
            **changes,
        }
    )


def a_price(excl_vat: str, incl_vat: str) -> Price:
    return Price(excl_vat=Decimal(value=excl_vat), incl_vat=Decimal(value=incl_vat))


async def audited(tenant: Tenant, cdr: p.AuditedCdr, **more: Any) -> Any:
    return await tenant.reader.pricing.AuditCdr(p.AuditCdrRequest(cdr=cdr, options=OPTIONS, **more))


async def test_a_cdr_that_is_right_has_no_differences(party: Tenant) -> None:
    tariff = a_tariff(elements=[per_kwh("0.30")])
    answer = await audited(party, a_cdr(datetime.now(UTC)), tariffs=[tariff])
    assert not answer.differences
    assert answer.quote.total_cost.incl_vat.value == "3.6"


async def test_every_difference_of_a_cdr_is_shown(party: Tenant) -> None:
    stored = await create(party, elements=[per_kwh("0.30")])
    cdr = a_cdr(
        datetime.now(UTC),
        currency="NOK",
        total_cost=a_price("3.004", "3.70"),
        total_energy_cost=a_price("2.00", "3.60"),
        total_parking_cost=a_price("0.50", "0.60"),
        total_energy=Decimal(value="11"),
        total_time=Decimal(value="1.5"),
        total_parking_time=Decimal(value="0.25"),
    )
    cdr.charging_periods[0].tariff_id = stored.id.upper()
    answer = await audited(party, cdr)
    assert {found.path: found.difference.value for found in answer.differences} == {
        "total_cost.incl_vat": "0.1",
        "total_energy_cost.excl_vat": "-1",
        "total_parking_cost.excl_vat": "0.5",
        "total_parking_cost.incl_vat": "0.6",
        "total_energy": "1",
        "total_time": "0.5",
        "total_parking_time": "0.25",
        "currency": "",
    }
    strict = await audited(party, cdr, tolerance=Decimal(value="0"))
    assert "total_cost.excl_vat" in {found.path for found in strict.differences}


async def test_a_credit_cdr_takes_its_total_back(party: Tenant) -> None:
    cdr = a_cdr(datetime.now(UTC), credit=True, total_cost=a_price("-3.00", "-3.60"))
    assert not (await audited(party, cdr, tariffs=[a_tariff(elements=[per_kwh("0.30")])])).differences


def halves(*ids: str) -> p.AuditedCdr:
    """A CDR of two half hours with 5 kWh each, whose periods name these tariffs."""
    cdr = a_cdr(datetime(2026, 6, 1, 10, tzinfo=UTC))
    cdr.charging_periods.add().CopyFrom(cdr.charging_periods[0])
    cdr.charging_periods[1].start_date_time.seconds += 1800
    for period, id in zip(cdr.charging_periods, ids, strict=True):
        period.tariff_id = id
        for dimension, volume in zip(period.dimensions, ("5", "0.5"), strict=True):
            dimension.volume.value = volume
    return cdr


async def test_each_period_of_a_cdr_is_priced_with_the_tariff_that_it_names(party: Tenant) -> None:
    fee = t.PriceComponent(type=t.TARIFF_DIMENSION_TYPE_FLAT, price=Decimal(value="0.10"), step_size=0)
    energy = [per_kwh("0.30"), per_kwh("0.50")]
    energy[1].price_components[0].step_size = 3000
    first, second = (
        a_tariff(id=id, elements=[each, t.TariffElement(price_components=[fee])])
        for id, each in zip(("T1", "T2"), energy, strict=True)
    )
    answer = await audited(party, halves("T1", "t2"), tariffs=[second, first])
    shown = [(line.tariff_id, line.type, line.billed_quantity.value) for line in answer.quote.lines]
    assert shown == [("T1", "FLAT", "1"), ("T1", "ENERGY", "5"), ("T2", "ENERGY", "7")]  # 10 kWh are 12 in steps of 3
    assert (answer.quote.tariff.id, answer.quote.total_cost.excl_vat.value) == ("T1", "5.1")
    assert "several tariffs were used: fees are charged once, bounds are those of the first" in answer.quote.notices


async def test_a_period_without_a_tariff_where_others_name_one_is_not_charged(party: Tenant) -> None:
    answer = await audited(party, halves("T1", ""), tariffs=[a_tariff(id="T1", elements=[per_kwh("0.30")])])
    assert answer.quote.total_cost.excl_vat.value == "1.5"
    assert {gap.reason for gap in answer.quote.unpriced if gap.start_date_time.seconds % 3600} == {
        "the period names no tariff"
    }


async def test_tariffs_of_a_cdr_are_of_one_currency_and_not_too_many(party: Tenant) -> None:
    tariffs = [a_tariff(id="T1"), a_tariff(id="T2", currency="NOK")]
    assert "tariffs" in (await fails(audited(party, halves("T1", "T2"), tariffs=tariffs))).violations
    cdr = halves("T1", "T2")
    for number in range(20):
        cdr.charging_periods.add().CopyFrom(cdr.charging_periods[1])
        cdr.charging_periods[-1].tariff_id = f"X{number}"
    assert "cdr.charging_periods" in (await fails(audited(party, cdr, tariffs=tariffs))).violations


async def test_a_cdr_whose_periods_are_no_session_is_refused(party: Tenant) -> None:
    cdr = a_cdr(datetime.now(UTC), end_date_time=Timestamp(seconds=1))
    failure = await fails(audited(party, cdr, tariffs=[a_tariff()]))
    assert "cdr.end_date_time" in failure.violations


async def test_a_cdr_without_a_tariff_is_refused(party: Tenant) -> None:
    cdr = a_cdr(datetime.now(UTC))
    assert "tariffs" in (await fails(audited(party, cdr))).violations
    cdr.charging_periods[0].tariff_id = "none"
    assert (await fails(audited(party, cdr))).code is Code.NOT_FOUND


async def test_a_period_that_spans_a_change_of_price_is_audited_in_three_readings(party: Tenant) -> None:
    evening = a_tariff(elements=[per_kwh("0.40", start_time="17:00"), per_kwh("0.20")])
    cdr = a_cdr(datetime(2026, 1, 15, 15, 45, tzinfo=UTC), total_cost=a_price("3.5", "4.2"))
    answer = await audited(party, cdr, tariffs=[evening])
    assert answer.quote.total_cost.excl_vat.value == "3.5"
    assert any("spans a change of price" in notice for notice in answer.quote.notices)
    others = {other.reading: other.total_cost.excl_vat.value for other in answer.other_readings}
    assert others == {p.PERIOD_READING_AT_START: "2", p.PERIOD_READING_AT_END: "4"}
    flat = await audited(party, cdr, tariffs=[a_tariff(elements=[per_kwh("0.35")])])
    assert (len(flat.other_readings), len(flat.quote.notices)) == (0, 0)


async def test_a_tariff_that_is_not_understood_is_refused_and_named(party: Tenant) -> None:
    odd = a_tariff(elements=[per_kwh("0.30")], not_understood=["/elements/0/restrictions/max_speed"])
    failure = await fails(quote(party, ten_kwh(), tariff=odd))
    assert (failure.code, failure.reason) == (Code.INVALID_ARGUMENT, "INVALID_FIELD")
    assert "/elements/0/restrictions/max_speed" in failure.violations["tariff.not_understood[0]"]
    found = await party.reader.pricing.LintTariff(p.LintTariffRequest(tariff=odd))
    assert p.FINDING_CODE_NOT_UNDERSTOOD in [finding.code for finding in found.findings]
    assert not (await create(party, not_understood=["/elements/0/x"])).not_understood


async def test_periods_are_sorted_and_a_negative_time_is_left_out_or_refused(party: Tenant) -> None:
    cdr = halves("", "")
    cdr.charging_periods.reverse()
    cdr.charging_periods[0].dimensions[1].volume.value = "-0.001"
    session = p.SessionPeriods(charging_periods=cdr.charging_periods, end_date_time=cdr.end_date_time)
    request = p.QuotePriceRequest(tariff=a_tariff(elements=[per_kwh("0.30")]), periods=session, options=OPTIONS)
    found = await party.reader.pricing.QuotePrice(request)
    assert found.total_cost.excl_vat.value == "3"
    assert [notice.split()[0] for notice in found.notices] == ["the", "a"]
    request.tariff.elements[0].price_components[0].type = t.TARIFF_DIMENSION_TYPE_TIME
    failure = await fails(party.reader.pricing.QuotePrice(request))
    assert "periods.charging_periods[0].dimensions[1].volume" in failure.violations

"""What LintTariff finds, and what it leaves alone."""

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from evbridge.v1 import pricing_pb2 as p
from evbridge.v1 import tariff_pb2 as t
from evbridge.v1.types_pb2 import Price
from google.type.decimal_pb2 import Decimal

from service.domain.pricing.lint import lint
from service.domain.pricing.tariff import Compiled

NOW = datetime(2026, 1, 1, tzinfo=UTC)
WEEKDAYS, WEEKEND = [1, 2, 3, 4, 5], [6, 7]


def d(text: str) -> Decimal:
    return Decimal(value=text)


def part(type: str = "ENERGY", price: str = "0.30", vat: str | None = "20", **changes: Any) -> t.PriceComponent:
    fields = {
        "type": t.TariffDimensionType.Value(f"TARIFF_DIMENSION_TYPE_{type}"),
        "price": d(price),
        "step_size": 1,
        "vat": None if vat is None else d(vat),
        **changes,
    }
    return t.PriceComponent(**fields)


def element(*parts: t.PriceComponent, **restrictions: Any) -> t.TariffElement:
    when = t.TariffRestrictions(**restrictions) if restrictions else None
    return t.TariffElement(price_components=parts or [part()], restrictions=when)


def linted(tariff: t.Tariff, zone: ZoneInfo | None = None, whole_elements: bool = False) -> list[p.Finding]:
    return lint(Compiled(tariff, p.OCPI_VERSION_UNSPECIFIED, whole_elements), zone, NOW)


def codes(*elements: t.TariffElement, **more: Any) -> list[tuple[str, str]]:
    whole = more.pop("whole_elements", False)
    zone = more.pop("zone", None)
    tariff = t.Tariff(country_code="DE", party_id="ABC", id="T", currency="EUR", elements=elements, **more)
    return [(found.path, p.FindingCode.Name(found.code)[13:]) for found in linted(tariff, zone, whole)]


C = "elements[{}].price_components[0]".format
R = "elements[{}].restrictions.{}".format
CASES: dict[str, tuple[list[tuple[str, str]], list[tuple[str, str]]]] = {
    "one price": (codes(element()), []),
    "a default after a window": (codes(element(start_time="22:00", end_time="06:00"), element()), []),
    "windows that make a day": (
        codes(element(start_time="06:00", end_time="22:00"), element(start_time="22:00", end_time="06:00")),
        [],
    ),
    "days that make a week": (codes(element(day_of_week=WEEKDAYS), element(day_of_week=WEEKEND)), []),
    "bands that meet": (codes(element(max_kwh=d("10")), element(min_kwh=d("10"))), []),
    "behind a default": (codes(element(), element(start_time="22:00")), [(C(1), "UNREACHABLE")]),
    "behind a wider window": (
        codes(element(start_time="20:00"), element(start_time="22:00", end_time="23:00"), element()),
        [(C(1), "UNREACHABLE")],
    ),
    "behind a wider band": (
        codes(element(max_power=d("50")), element(max_power=d("22")), element()),
        [(C(1), "UNREACHABLE")],
    ),
    "a default behind all days": (
        codes(element(day_of_week=WEEKDAYS), element(day_of_week=WEEKEND), element()),
        [(C(2), "UNREACHABLE")],
    ),
    "twice in one element": (
        codes(element(part(), part(price="0.20"))),
        [("elements[0].price_components[1]", "UNREACHABLE")],
    ),
    "a reservation beside a session": (codes(element(part("TIME"), reservation=1), element(part("TIME"))), []),
    "energy of a reservation": (codes(element(reservation=1), element()), [(C(0), "NO_EFFECT")]),
    "a band upside down": (
        codes(element(min_kwh=d("20"), max_kwh=d("10")), element()),
        [(R(0, "min_kwh"), "CONTRADICTION")],
    ),
    "an empty band": (codes(element(max_duration=0), element()), [(R(0, "max_duration"), "CONTRADICTION")]),
    "dates upside down": (
        codes(element(start_date="2026-05-02", end_date="2026-05-01"), element()),
        [(R(0, "start_date"), "CONTRADICTION")],
    ),
    "a minimum above the maximum": (
        codes(
            element(),
            min_price=Price(excl_vat=d("5"), incl_vat=d("6")),
            max_price=Price(excl_vat=d("4"), incl_vat=d("6")),
        ),
        [("min_price.excl_vat", "CONTRADICTION")],
    ),
    "an hour without a price": (
        codes(element(start_time="00:00", end_time="20:00"), element(start_time="21:00", end_time="00:00")),
        [(C(1), "GAP")],
    ),
    "a day without a price": (codes(element(day_of_week=WEEKDAYS)), [(C(0), "GAP")]),
    "bands with a hole": (codes(element(max_power=d("10")), element(min_power=d("20"))), [(C(1), "GAP")]),
    "bands without an end": (codes(element(max_duration=3600)), [(C(0), "GAP")]),
    "no default among several restrictions": (
        codes(element(max_power=d("10"), start_time="08:00"), element(min_power=d("10"))),
        [(C(1), "NO_DEFAULT")],
    ),
    "a fee needs no default": (codes(element(part("FLAT"), start_time="08:00", end_time="09:00"), element()), []),
    "windows that overlap": (
        codes(element(start_time="08:00", end_time="12:00"), element(start_time="11:00", end_time="14:00"), element()),
        [(C(1), "OVERLAP")],
    ),
    "VAT forgotten": (
        codes(element(part(), part("TIME", vat=None))),
        [("elements[0].price_components[1].vat", "MISSING_VAT")],
    ),
    "no VAT at all": (codes(element(part(vat=None))), [("elements", "MISSING_VAT")]),
    "a bound without VAT": (codes(element(), min_price=Price(excl_vat=d("1"))), [("min_price", "MISSING_VAT")]),
    "a step of 0": (codes(element(part(step_size=0))), [(f"{C(0)}.step_size", "STEP_ZERO")]),
    "a step of 0 of a fee": (codes(element(part("FLAT", step_size=0))), []),
    "equal times": (
        codes(element(start_time="08:00", end_time="08:00")),
        [(R(0, "start_time"), "EQUAL_TIMES")],
    ),
    "a night on one day": (
        codes(element(start_time="22:00", end_time="06:00", day_of_week=[5]), element()),
        [(R(0, "end_time"), "WRAPPED_WINDOW")],
    ),
    "a time that is skipped and repeated": (
        codes(element(start_time="02:30"), element(), zone=ZoneInfo("Europe/Berlin")),
        [(R(0, "start_time"), "CLOCK_CHANGE")] * 2,
    ),
    "a time at the change itself": (codes(element(start_time="02:00"), element(), zone=ZoneInfo("Europe/Berlin")), []),
    "a zone without changes": (codes(element(start_time="02:30"), element(), zone=ZoneInfo("Asia/Kolkata")), []),
    "a margin that does nothing": (codes(element(part(margin=d("0.1")))), [(f"{C(0)}.margin", "NO_EFFECT")]),
    "a price that does nothing": (
        codes(element(part("ENERGY_SPOT", bidding_zone="NO1"))),
        [(f"{C(0)}.price", "NO_EFFECT")],
    ),
    "a monthly fee": (codes(element(part("MONTHLY_FLAT"))), [(C(0), "NOT_IN_SESSION")]),
    "money for the driver": (codes(element(part(price="-0.10"))), [(f"{C(0)}.price", "NEGATIVE_PRICE")]),
    "2.1.1 takes whole elements": (
        codes(element(part("FLAT")), element(), whole_elements=True),
        [("elements[1]", "UNREACHABLE")],
    ),
}


def test_what_is_not_understood_is_named() -> None:
    tariff = t.Tariff(elements=[element()], not_understood=["/elements/0/restrictions/max_speed"])
    (found,) = linted(tariff)
    assert (found.code, found.path) == (p.FINDING_CODE_NOT_UNDERSTOOD, "not_understood[0]")
    assert "/elements/0/restrictions/max_speed" in found.message


def test_taxes_that_contradict_are_named() -> None:
    none = linted(t.Tariff(elements=[element()], tax_included=t.TAX_INCLUDED_NOT_APPLICABLE))
    assert [(found.path, found.code) for found in none] == [("tax_included", p.FINDING_CODE_CONTRADICTION)]
    spot = element(part("ENERGY_SPOT", "0", bidding_zone="NO1"))
    held = linted(t.Tariff(elements=[spot], tax_included=t.TAX_INCLUDED_YES))
    assert [(found.path, found.code) for found in held] == [(C(0) + ".type", p.FINDING_CODE_CONTRADICTION)]


@pytest.mark.parametrize("name", CASES)
def test_a_tariff_is_judged(name: str) -> None:
    found, expected = CASES[name]
    assert found == expected


def test_findings_come_by_severity_and_say_where_and_what() -> None:
    elements = [element(start_time="08:00", end_time="08:00"), element(part(vat=None, step_size=0), start_time="09:00")]
    tariff = t.Tariff(id="T", currency="EUR", elements=elements)
    found = linted(tariff)
    assert [finding.severity for finding in found] == sorted((finding.severity for finding in found), reverse=True)
    assert all(finding.path and finding.message for finding in found)
    (gap,) = linted(t.Tariff(id="T", currency="EUR", elements=[element(day_of_week=WEEKDAYS)]))
    assert gap.message == "ENERGY has no price from Saturday 00:00 on"

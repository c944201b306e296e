"""OCPI's objects as partners write them: what is read, what is refused, and what is said about it."""

import json
import re
from typing import Any

import pytest
from evbridge.v1 import pricing_pb2 as p
from hypothesis import given
from hypothesis import strategies as st

from service.bridge.codec import compile_codec
from service.bridge.values import CodecError
from service.domain.pricing.quote import quote_of_tariffs
from service.errors import InvalidArgument
from service.ocpi.objects import complaint, pricing_of

ENERGY = {"type": "ENERGY", "price": 0.25, "step_size": 1}


def tariff(*elements: Any, **more: Any) -> dict[str, Any]:
    made = [each if "price_components" in each else {"price_components": [each]} for each in elements or (ENERGY,)]
    return {"country_code": "DE", "party_id": "ABC", "id": "T", "currency": "EUR", "elements": made, **more}


def period(start: str, **volumes: Any) -> dict[str, Any]:
    dimensions = [{"type": name, "volume": volume} for name, volume in volumes.items()]
    return {"start_date_time": f"2026-01-15T{start}:00Z", "dimensions": dimensions}


def cdr(*periods: Any, end: str = "12:00", **more: Any) -> dict[str, Any]:
    start = min(each["start_date_time"] for each in periods)
    times = {"start_date_time": start, "end_date_time": f"2026-01-15T{end}:00Z"}
    return {
        "id": "1",
        "currency": "EUR",
        "total_cost": {"excl_vat": 1},
        "charging_periods": [*periods],
        **times,
        **more,
    }


TWO_KWH = cdr(period("10:00", ENERGY=2))
PLAN = {"plan": {"start_date_time": "2026-01-15T10:00:00Z", "energy": 10, "charging_s": 3600}}


def text(value: Any) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value).encode()


def quote(tariff: Any, session: Any, **options: Any) -> p.Quote:
    """As `evbridge quote` does it."""
    read = pricing_of(None if tariff is None else text(tariff), text(session), "UTC", **options)
    found = quote_of_tariffs(read.tariffs or [read.request.tariff], read.request, read.request.options)
    found.notices.extend(read.notices)
    return found


def refusal(tariff: Any, session: Any) -> str:
    with pytest.raises((CodecError, InvalidArgument)) as refused:
        quote(tariff, session)
    said = complaint(refused.value, "tariff.json", "session.json")
    return re.sub(r"^(tariff|session)\.json: ", "", said)


def excl(found: p.Quote) -> str:
    return found.total_cost.excl_vat.value


def paid(found: p.Quote) -> tuple[str, str]:
    return found.total_cost.excl_vat.value, found.total_cost.incl_vat.value


def test_periods_out_of_order_are_sorted() -> None:
    dear = {"price_components": [{**ENERGY, "price": 1}], "restrictions": {"start_time": "11:00"}}
    found = quote(tariff(dear, ENERGY), cdr(period("11:00", ENERGY=1), period("10:00", ENERGY=2)))
    assert excl(found) == "1.5"
    assert "the periods were not in the order of their starts: they were sorted" in found.notices
    assert not quote(tariff(), cdr(period("10:00", ENERGY=2), period("11:00", ENERGY=1))).notices


def test_an_end_before_the_last_period_is_refused() -> None:
    assert refusal(tariff(), cdr(period("11:00", ENERGY=1), end="10:30")).startswith("/end_date_time is before")


@pytest.mark.parametrize("volume", ["2.0000000000000004", "1.9999999999999996", "2.00000000000049", "2e0", "0.2E1"])
def test_noise_behind_the_twelfth_decimal_is_rounded(volume: str) -> None:
    session = text(TWO_KWH).replace(b'"volume": 2', f'"volume": {volume}'.encode())
    found = quote(tariff(), session)
    assert excl(found) == "0.5"
    assert bool(found.notices) == (len(volume) > 5)
    assert all("/charging_periods/0/dimensions/0/volume" in notice for notice in found.notices)


def test_halves_behind_the_twelfth_decimal_go_to_the_even_neighbour() -> None:
    exact = {**ENERGY, "step_size": 0, "price": 1}
    for volume, cost in (
        ("0.0000000000005", "0"),
        ("0.0000000000015", "0.000000000002"),
        ("0.0000000000025", "0.000000000002"),
    ):
        session = text(TWO_KWH).replace(b'"volume": 2', f'"volume": {volume}'.encode())
        assert excl(quote(tariff(exact), session)) == cost


def test_noise_that_cannot_change_the_sum_is_rounded_in_silence() -> None:
    mix = {
        "is_green_energy": True,
        "energy_sources": [{"source": "SOLAR", "percentage": 33.33333333333333570}],
        "environ_impact": [{"category": "CARBON_DIOXIDE", "amount": 5.1000000000000005329}],
    }
    found = quote(tariff(energy_mix=mix), {**TWO_KWH, "total_energy": 2.0000000000000004})
    assert (excl(found), list(found.notices)) == ("0.5", [])


@pytest.mark.parametrize("member", ["price", "vat", "step"])
def test_noise_in_a_price_is_rounded_with_a_notice(member: str) -> None:
    restricted = {"price_components": [ENERGY], "restrictions": {"max_kwh": 7.0000000000000009}}
    priced = {"price": {**ENERGY, "price": 0.25000000000000006}, "vat": {**ENERGY, "vat": 7.0000000000000009}}
    found = quote(tariff(priced.get(member, restricted)), TWO_KWH)
    assert excl(found) == "0.5"
    assert "had more than 12 decimals" in found.notices[0]


@pytest.mark.parametrize(
    "digits", ["1e999999999", "-1e400000000", "9" * 200, "0." + "1" * 4000, "1e19", "1E+00000000000000019"]
)
def test_a_huge_number_is_judged_before_it_is_computed(digits: str) -> None:
    session = text(TWO_KWH).replace(b'"volume": 2', f'"volume": {digits}'.encode())
    assert refusal(tariff(), session).startswith(
        "/charging_periods/0/dimensions/0/volume must be a number of at most 18"
    )


def test_a_tiny_number_is_nothing() -> None:
    session = text(TWO_KWH).replace(b'"volume": 2', b'"volume": 1e-999')
    assert not quote(tariff({**ENERGY, "step_size": 0}), session).lines


def test_prices_may_hold_the_taxes() -> None:
    ten_percent = {**ENERGY, "price": 1.1, "vat": 10}
    assert paid(quote(tariff(ten_percent, tax_included="YES"), TWO_KWH)) == ("2", "2.2")
    unknown = quote(tariff(ENERGY, tax_included="YES"), TWO_KWH)
    assert (unknown.total_cost.HasField("excl_vat"), unknown.total_cost.incl_vat.value) == (False, "0.5")
    assert [unknown.lines[0].cost.HasField("excl_vat"), unknown.totals[0].cost.HasField("excl_vat")] == [False, False]
    assert any("taxes at a rate that the tariff does not say" in notice for notice in unknown.notices)


def test_prices_may_be_without_the_taxes() -> None:
    added = quote(tariff({**ENERGY, "vat": 10}, tax_included="NO"), TWO_KWH)
    assert (paid(added), list(added.notices)) == (("0.5", "0.55"), [])
    unknown = quote(tariff(ENERGY, tax_included="NO"), TWO_KWH)
    assert (paid(unknown), len(unknown.notices)) == (("0.5", ""), 1)
    assert "come on top" in unknown.notices[0]


def test_there_may_be_no_taxes() -> None:
    assert list(quote(tariff(ENERGY, tax_included="N/A"), TWO_KWH).notices) == []
    contradiction = quote(tariff({**ENERGY, "vat": 10}, tax_included="N/A"), TWO_KWH)
    assert (paid(contradiction), len(contradiction.notices)) == (("0.5", ""), 1)
    assert refusal(tariff(tax_included="MAYBE"), TWO_KWH).startswith("/tax_included is not a value")


def test_bounds_of_2_3_0_are_before_and_after_taxes() -> None:
    prices = {**ENERGY, "price": 1.1, "vat": 10}
    bounded = tariff(prices, tax_included="YES", min_price={"before_taxes": 5, "after_taxes": 7})
    assert paid(quote(bounded, TWO_KWH)) == ("5", "7")
    unknown = quote(tariff(tax_included="YES", min_price={"before_taxes": 5}), TWO_KWH)
    assert paid(unknown) == ("", "0.5")
    assert any("min_price says no amount with taxes" in notice for notice in unknown.notices)


@pytest.mark.parametrize(
    ("changed", "pointer"),
    [
        (
            tariff({"price_components": [ENERGY], "restrictions": {"max_duratin": 5}}),
            "/elements/0/restrictions/max_duratin",
        ),
        (tariff(ENERGY, {"price_components": [ENERGY], "restriction": {}}), "/elements/1/restriction"),
        (tariff({**ENERGY, "discount": 5}), "/elements/0/price_components/0/discount"),
        (tariff(min_price={"excl_vat": 1, "per": "kWh"}), "/min_price/per"),
        (tariff(max_price={"excl_vat": 1, "a/b": "kWh"}), "/max_price/a~1b"),
    ],
)
def test_what_may_change_a_price_and_is_not_known_is_refused(changed: Any, pointer: str) -> None:
    assert refusal(changed, TWO_KWH).startswith(f"{pointer} can change a price and is not understood")


def test_what_changes_no_price_and_is_not_known_is_named() -> None:
    more = tariff(preauthorize_amount=5, tariff_alt_text=[{"language": "DE", "text": "Strom", "font": "big"}])
    found = quote(more, {**cdr({**period("10:00", ENERGY=2), "note": "x"}), "colour": "red", "cdr_token": {"uid": "1"}})
    assert excl(found) == "0.5"
    assert found.notices[:] == [
        "members of the session that are not known and were left out: /colour, /charging_periods/0/note",
        "members of the tariff that are not known and were left out: /preauthorize_amount, /tariff_alt_text/0/font",
    ]


def test_an_unknown_dimension_is_named_and_the_rest_is_priced() -> None:
    found = quote(tariff(), cdr(period("10:00", SESSION_TIME=2, ENERGY=1), period("11:00", SESSION_TIME=1)))
    assert excl(found) == "0.25"
    assert any("SESSION_TIME" in notice for notice in found.notices)


def test_a_dimension_with_more_than_a_type_and_a_volume_is_refused() -> None:
    odd = cdr(period("10:00", ENERGY=2000))
    odd["charging_periods"][0]["dimensions"][0]["unit"] = "Wh"
    assert refusal(tariff(), odd).startswith("/charging_periods/0/dimensions/0/unit can change a price")


@pytest.mark.parametrize("kind", ["TIME", "PARKING_TIME", "RESERVATION_TIME"])
def test_a_negative_time_is_refused_only_where_it_has_a_price(kind: str) -> None:
    session = cdr(period("10:00", ENERGY=1), period("09:00", **{"ENERGY": 1, kind: -0.0056}))
    found = quote(tariff(), session)
    assert excl(found) == "0.5"
    assert f"a negative {kind}, which has no price, was left out" in found.notices
    price: dict[str, Any] = {"type": kind.removeprefix("RESERVATION_"), "price": 1, "step_size": 1}
    restrictions = {"restrictions": {"reservation": "RESERVATION"}} if kind.startswith("RES") else {}
    priced = tariff(ENERGY, {"price_components": [price], **restrictions})
    assert refusal(priced, session).startswith("/charging_periods/1/dimensions/1/volume is a negative time")


def test_energy_fed_to_the_grid_stays_energy() -> None:
    assert excl(quote(tariff(), cdr(period("10:00", ENERGY=-2)))) == "-0.5"


def test_a_period_that_spans_a_change_of_price_is_told() -> None:
    evening = {"price_components": [{**ENERGY, "price": 0.4}], "restrictions": {"start_time": "17:00"}}
    session = cdr(period("16:50", ENERGY=10), end="17:30")
    found = quote(tariff(evening, {**ENERGY, "price": 0.2}), session)
    assert excl(found) == "3.5"
    assert any("from 2026-01-15T16:50:00Z spans a change of price" in notice for notice in found.notices)
    same = quote(tariff({**evening, "price_components": [{**ENERGY, "price": 0.2}]}, {**ENERGY, "price": 0.2}), session)
    assert not same.notices
    split = cdr(period("16:50", ENERGY=2), period("17:00", ENERGY=8), end="17:30")
    assert not quote(tariff(evening, {**ENERGY, "price": 0.2}), split).notices
    unpriced = quote(tariff(evening), session)
    assert any("spans a change of price" in notice for notice in unpriced.notices)


def test_2_1_1_calls_the_kind_of_an_impact_its_source() -> None:
    mix = {"is_green_energy": True, "environ_impact": [{"source": "CARBON_DIOXIDE", "amount": 5}]}
    read = pricing_of(text(tariff(energy_mix=mix)), text(TWO_KWH), "UTC")
    (impact,) = read.request.tariff.energy_mix.environ_impact
    assert (impact.category, impact.amount.value) == (2, "5")
    assert not read.notices


def test_a_session_of_2_1_1_is_read() -> None:
    times = {"start_datetime": "2026-01-15T10:00:00Z", "end_datetime": "2026-01-15T11:00:00Z"}
    session = {"id": "1", "kwh": 2, "currency": "EUR", **times, "charging_periods": [period("10:00", ENERGY=2)]}
    found = quote(tariff(), session)
    assert (excl(found), list(found.notices)) == ("0.5", [])
    assert found.end_date_time.ToJsonString() == "2026-01-15T11:00:00Z"


def test_an_envelope_and_a_list_of_one_are_unwrapped() -> None:
    envelope = {"status_code": 1000, "data": tariff(), "timestamp": "2026-01-15T10:00:00Z"}
    for wrapped in (envelope, [tariff()], {"status_code": 1000, "data": [tariff()]}):
        assert excl(quote(wrapped, {"data": [TWO_KWH]})) == "0.5"
    assert refusal([tariff(), tariff()], TWO_KWH) == "the file is a list of 2 objects: one is needed"
    assert refusal({"data": None}, TWO_KWH) == "the file must be an object"


def test_without_a_tariff_those_of_the_cdr_count() -> None:
    night = {**tariff({**ENERGY, "price": 1}), "id": "N"}
    periods = [{**period("10:00", ENERGY=1), "tariff_id": "t"}, {**period("11:00", ENERGY=1), "tariff_id": "n"}]
    assert excl(quote(None, cdr(*periods, tariffs=[tariff(), night]))) == "1.25"
    assert excl(quote(None, {**TWO_KWH, "tariffs": [tariff(), night]})) == "0.5"
    assert refusal(None, TWO_KWH).startswith("/tariffs is missing")
    assert refusal(None, PLAN).startswith("/tariffs is missing")


def test_a_member_that_stands_twice_is_refused() -> None:
    twice = text(tariff()).replace(b'"price": 0.25', b'"price": 0.25, "price": 0.5')
    assert "the member 'price' more than once" in refusal(twice, TWO_KWH)


def test_a_cdr_that_starts_before_its_first_period_is_told() -> None:
    early = {**TWO_KWH, "start_date_time": "2026-01-15T09:55:00Z"}
    found = quote(tariff(), early)
    assert found.notices[:] == ["the session starts 300 s before its first period: that time is not priced"]


def test_2_000_elements_are_priced() -> None:
    bands = [
        {"price_components": [ENERGY], "restrictions": {"min_kwh": place, "max_kwh": place + 1}}
        for place in range(2000)
    ]
    assert excl(quote(tariff(*bands), TWO_KWH)) == "0.5"
    assert "elements" in refusal(tariff(*bands, ENERGY), TWO_KWH)


def test_the_letter_of_2_1_1_is_an_option() -> None:
    fee = {"type": "FLAT", "price": 2.5, "step_size": 1}
    assert excl(quote(tariff(fee, ENERGY), TWO_KWH)) == "3"
    assert excl(quote(tariff(fee, ENERGY), TWO_KWH, whole_elements=True)) == "2.5"


@given(st.permutations(range(6)), st.lists(st.integers(0, 10**6), min_size=6, max_size=6))
def test_the_order_of_periods_never_changes_the_sum(order: list[int], wh: list[int]) -> None:
    evening = {"price_components": [{**ENERGY, "price": 0.4}], "restrictions": {"start_time": "12:30"}}
    periods = [period(f"{10 + place}:00", ENERGY=f"{amount / 1000:.3f}") for place, amount in enumerate(wh)]
    straight = quote(tariff(evening, ENERGY), cdr(*periods, end="16:00"))
    mixed = quote(tariff(evening, ENERGY), cdr(*(periods[place] for place in order), end="16:00"))
    assert straight.total_cost == mixed.total_cost
    assert straight.lines == mixed.lines


@given(st.integers(-(10**17), 10**17), st.integers(0, 30))
def test_a_number_is_read_as_it_is_to_its_twelfth_decimal(digits: int, exponent: int) -> None:
    if abs(digits) * 10.0**-exponent >= 1e9:
        digits //= 10**9
    session = text(cdr(period("10:00", ENERGY="X"))).replace(b'"X"', f"{digits}e-{exponent}".encode())
    (read,) = pricing_of(text(tariff()), session, "UTC").request.periods.charging_periods[0].dimensions
    assert abs(float(read.volume.value) - digits * 10.0**-exponent) <= 1e-12 + abs(digits * 10.0**-exponent) * 1e-15


def test_connectors_of_iec_60309_are_spelled_as_ocpi_does() -> None:
    from evbridge.v1.location_pb2 import Connector

    codec: Any = compile_codec(Connector.DESCRIPTOR, field_names=True)
    for number, spelled in ((20, "single_16"), (21, "three_16"), (22, "three_32"), (23, "three_64")):
        text = codec.encode(Connector(id="1", standard=number))
        assert f'"standard":"IEC_60309_2_{spelled}"' in text
        assert codec.decode(text).message.standard == number

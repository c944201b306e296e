"""What holds for every tariff and every session."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

from evbridge.v1 import pricing_pb2 as p
from evbridge.v1 import tariff_pb2 as t
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.decimal_pb2 import Decimal as DecimalMessage
from hypothesis import given
from hypothesis import strategies as st

from service.domain.pricing.quote import quote as priced
from service.domain.pricing.quote import quoted
from service.domain.pricing.session import session_of_periods
from service.domain.pricing.tariff import Compiled
from service.domain.validation import validate

NEAR = Decimal("1e-9")
TIMED = (p.CDR_DIMENSION_TYPE_TIME, p.CDR_DIMENSION_TYPE_PARKING_TIME, p.CDR_DIMENSION_TYPE_RESERVATION_TIME)


def d(value: object) -> DecimalMessage:
    return DecimalMessage(value=f"{value:f}" if isinstance(value, Decimal) else str(value))


def amount(message: DecimalMessage) -> Decimal:
    return Decimal(message.value)


def cents(most: int) -> st.SearchStrategy[Decimal]:
    return st.integers(0, most).map(lambda number: Decimal(number) / 100)


def components(vats: st.SearchStrategy[Any], steps: st.SearchStrategy[int]) -> st.SearchStrategy[t.PriceComponent]:
    return st.builds(
        lambda type, price, vat, step: t.PriceComponent(
            type=type, price=d(price), step_size=step, vat=None if vat is None else d(vat)
        ),
        st.sampled_from([1, 2, 3, 4]),
        cents(1000),
        vats,
        steps,
    )


@st.composite
def restrictions(draw: st.DrawFn) -> t.TariffRestrictions:
    hour = st.sampled_from(["", "00:00", "01:30", "02:30", "08:00", "17:00", "22:00"])
    low, high = sorted(draw(st.tuples(st.integers(0, 40), st.integers(0, 40))))
    made = t.TariffRestrictions(start_time=draw(hour), end_time=draw(hour))
    kind = draw(st.sampled_from(["", "kwh", "duration", "power", "day"]))
    if kind in ("kwh", "power"):
        getattr(made, f"min_{kind}").CopyFrom(d(low))
        getattr(made, f"max_{kind}").CopyFrom(d(high))
    elif kind == "duration":
        made.min_duration, made.max_duration = low * 300, high * 300
    elif kind == "day":
        made.day_of_week.extend(sorted(draw(st.sets(st.integers(1, 7), min_size=1))))
    return made


VATS = st.sampled_from([None, 0, 7, 25])
STEPS = st.sampled_from([0, 1, 60, 500, 900])


@st.composite
def tariffs(
    draw: st.DrawFn, vats: st.SearchStrategy[Any] = VATS, steps: st.SearchStrategy[int] = STEPS, bounded: bool = True
) -> t.Tariff:
    elements = draw(
        st.lists(
            st.builds(
                lambda parts, when: t.TariffElement(price_components=parts, restrictions=when),
                st.lists(components(vats, steps), min_size=1, max_size=3),
                st.none() | restrictions(),
            ),
            min_size=1,
            max_size=5,
        )
    )
    made = t.Tariff(country_code="DE", party_id="ABC", id="T", currency="EUR", elements=elements)
    if bounded and draw(st.booleans()):
        low, high = sorted(draw(st.tuples(cents(3000), cents(3000))))
        for bound, value in ((made.min_price, low), (made.max_price, high)):
            bound.excl_vat.CopyFrom(d(value))
            bound.incl_vat.CopyFrom(d(value * 2))
    validate(made)
    return made


def at(time: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(time)
    return stamp


@st.composite
def sessions(draw: st.DrawFn) -> tuple[list[tuple[int, dict[int, Decimal]]], datetime]:
    """[(seconds, volumes)] one after another, and the start: near the changes of the clock too."""
    start = draw(
        st.sampled_from([datetime(2026, 3, 28, 22, tzinfo=UTC), datetime(2026, 10, 24, 22, tzinfo=UTC)])
    ) + timedelta(minutes=draw(st.integers(0, 600)))
    periods = []
    for _ in range(draw(st.integers(1, 4))):
        quarters = draw(st.integers(1, 12))
        hours = Decimal(quarters) / 4
        if draw(st.booleans()):
            volumes = {p.CDR_DIMENSION_TYPE_ENERGY: draw(cents(5000)), p.CDR_DIMENSION_TYPE_TIME: hours}
            volumes[p.CDR_DIMENSION_TYPE_POWER] = draw(st.integers(0, 50).map(Decimal))
        else:
            volumes = {p.CDR_DIMENSION_TYPE_PARKING_TIME: hours}
        periods.append((quarters * 900, volumes))
    return periods, start


def told(periods: list[tuple[int, dict[int, Decimal]]], start: datetime) -> p.SessionPeriods:
    session, time = p.SessionPeriods(), start
    for length_s, volumes in periods:
        dimensions = [p.CdrDimension(type=type, volume=d(volume)) for type, volume in volumes.items()]  # type: ignore[arg-type]
        session.charging_periods.append(p.ChargingPeriod(start_date_time=at(time), dimensions=dimensions))
        time += timedelta(seconds=length_s)
    session.end_date_time.CopyFrom(at(time))
    return session


def price(tariff: t.Tariff, session: p.SessionPeriods, **options: Any) -> p.Quote:
    request = p.QuotePriceRequest(tariff=tariff, periods=session)
    return quoted(tariff, request, p.PricingOptions(time_zone="Europe/Berlin", **options))


@given(tariffs(), sessions(), st.sampled_from([2, 4, 5]))
def test_splitting_a_period_changes_nothing(tariff: t.Tariff, session: Any, parts: int) -> None:
    periods, start = session
    summed = {p.CDR_DIMENSION_TYPE_ENERGY, *TIMED}
    split = [
        (length_s // parts, {type: volume / parts if type in summed else volume for type, volume in volumes.items()})
        for length_s, volumes in periods
        for _ in range(parts)
    ]
    whole, pieces = price(tariff, told(periods, start)), price(tariff, told(split, start))
    for before, after in (
        (whole.total_cost.excl_vat, pieces.total_cost.excl_vat),
        (whole.total_cost.incl_vat, pieces.total_cost.incl_vat),
    ):
        assert abs(amount(before) - amount(after)) < NEAR if before.value else not after.value
    assert [line.component for line in whole.lines] == [line.component for line in pieces.lines]


@given(tariffs(), sessions(), st.lists(st.sampled_from(["T", "t2"]), min_size=4, max_size=4))
def test_tariffs_of_the_same_content_cost_the_same_as_one(tariff: t.Tariff, session: Any, names: list[str]) -> None:
    """step_size, fees and what restrictions count do not begin anew with another tariff."""
    periods = told(*session)
    for period, name in zip(periods.charging_periods, names, strict=False):
        period.tariff_id = name
    other = t.Tariff()
    other.CopyFrom(tariff)
    other.id = "T2"
    named = {each.id.casefold(): Compiled(each, p.OCPI_VERSION_UNSPECIFIED) for each in (tariff, other)}
    two = priced(named["t"], session_of_periods(periods), p.PricingOptions(time_zone="Europe/Berlin"), named)
    for one, both in (
        (price(tariff, periods).total_cost.excl_vat, two.total_cost.excl_vat),
        (price(tariff, periods).total_cost.incl_vat, two.total_cost.incl_vat),
    ):
        assert abs(amount(one) - amount(both)) < NEAR if one.value else not both.value
    assert {line.tariff_id.casefold() for line in two.lines} <= {name.casefold() for name in names}


@given(st.lists(cents(1000), min_size=1, max_size=4), st.lists(cents(6000), min_size=2, max_size=2), VATS, STEPS)
def test_more_energy_never_costs_less_without_reductions(
    prices: list[Decimal], energies: list[Decimal], vat: int | None, step: int
) -> None:
    bands = sorted(prices)
    elements = [
        t.TariffElement(
            price_components=[
                t.PriceComponent(type=1, price=d(band), step_size=step, vat=None if vat is None else d(vat))
            ],
            restrictions=t.TariffRestrictions(min_kwh=d(place * 10), max_kwh=d(place * 10 + 10)),
        )
        for place, band in enumerate(bands)
    ]
    elements[-1].restrictions.ClearField("max_kwh")
    tariff = t.Tariff(country_code="DE", party_id="ABC", id="T", currency="EUR", elements=elements)
    plan = p.SessionPlan(start_date_time=at(datetime(2026, 6, 1, tzinfo=UTC)), charging_s=3600)
    costs = []
    for energy in sorted(energies):
        plan.energy.CopyFrom(d(energy))
        request = p.QuotePriceRequest(tariff=tariff, plan=plan)
        costs.append(amount(quoted(tariff, request, p.PricingOptions(time_zone="UTC")).total_cost.excl_vat))
    assert costs == sorted(costs)


@given(tariffs(), sessions())
def test_the_total_is_the_sum_of_the_lines_within_the_bounds(tariff: t.Tariff, session: Any) -> None:
    quote = price(tariff, told(*session))
    total = sum((amount(line.cost.excl_vat) for line in quote.lines), Decimal())
    if tariff.HasField("min_price"):
        total = min(max(total, amount(tariff.min_price.excl_vat)), amount(tariff.max_price.excl_vat))
        inclusive = amount(quote.total_cost.incl_vat) if quote.total_cost.HasField("incl_vat") else total
        assert amount(tariff.min_price.incl_vat) <= inclusive <= amount(tariff.max_price.incl_vat)
    assert abs(total - amount(quote.total_cost.excl_vat)) < NEAR


@given(tariffs(st.just(0), bounded=False), sessions())
def test_with_vat_of_zero_both_amounts_are_the_same(tariff: t.Tariff, session: Any) -> None:
    quote = price(tariff, told(*session))
    assert not quote.lines or quote.total_cost.excl_vat == quote.total_cost.incl_vat


@given(tariffs(st.just(25), bounded=False), sessions())
def test_with_one_rate_the_amount_with_vat_is_that_much_more(tariff: t.Tariff, session: Any) -> None:
    quote = price(tariff, told(*session))
    for cost in (quote.total_cost, *(total.cost for total in quote.totals), *(line.cost for line in quote.lines)):
        if cost.HasField("incl_vat"):
            assert abs(amount(cost.excl_vat) * Decimal("1.25") - amount(cost.incl_vat)) < NEAR


@given(tariffs(), sessions())
def test_all_consumption_is_priced_or_named(tariff: t.Tariff, session: Any) -> None:
    periods, start = session
    quote = price(tariff, told(periods, start))
    for category, type, unit in (
        (p.COST_CATEGORY_ENERGY, p.CDR_DIMENSION_TYPE_ENERGY, 1),
        (p.COST_CATEGORY_TIME, p.CDR_DIMENSION_TYPE_TIME, 3600),
        (p.COST_CATEGORY_PARKING, p.CDR_DIMENSION_TYPE_PARKING_TIME, 3600),
    ):
        consumed = sum((volumes.get(type, Decimal()) * unit for _, volumes in periods), Decimal())
        shown = [*quote.lines, *quote.unpriced]
        assert abs(sum((amount(x.quantity) for x in shown if x.category == category), Decimal()) - consumed) < NEAR


@given(tariffs(), sessions())
def test_lines_of_a_category_do_not_overlap_and_bill_no_less_than_was_consumed(tariff: t.Tariff, session: Any) -> None:
    quote = price(tariff, told(*session))
    for category in {line.category for line in quote.lines} - {p.COST_CATEGORY_FIXED}:
        lines = [line for line in quote.lines if line.category == category]
        for before, after in pairwise(lines):
            assert before.end_date_time.ToNanoseconds() <= after.start_date_time.ToNanoseconds()
        assert all(amount(line.billed_quantity) >= amount(line.quantity) for line in lines)


@given(tariffs(steps=st.just(0), bounded=False), sessions(), st.sampled_from([1, 2]), st.integers(0, 4))
def test_rounding_moves_a_total_by_less_than_one_digit_a_line(
    tariff: t.Tariff, session: Any, level: Any, decimals: int
) -> None:
    exact = price(tariff, told(*session))
    rounded = price(tariff, told(*session), rounding=p.Rounding(level=level, decimals=decimals))
    moved = abs(amount(exact.total_cost.excl_vat) - amount(rounded.total_cost.excl_vat))
    assert moved <= max(len(exact.lines), 1) * Decimal(1).scaleb(-decimals)

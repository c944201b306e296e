"""A CDR against the quote of its own periods: every amount and every sum that does not follow."""

from collections.abc import Iterator, Sequence
from decimal import Decimal, localcontext

from evbridge.v1 import pricing_pb2 as p
from evbridge.v1 import tariff_pb2 as t
from evbridge.v1.types_pb2 import Price

from service.domain.pricing.budget import Budget
from service.domain.pricing.numbers import CONTEXT, HOUR_S, ZERO, message, number, seconds
from service.domain.pricing.quote import quote_with_readings
from service.domain.pricing.session import Session, session_of_periods
from service.domain.pricing.tariff import Compiled
from service.errors import InvalidArgument

TOTALS = {
    "total_fixed_cost": p.COST_CATEGORY_FIXED,
    "total_energy_cost": p.COST_CATEGORY_ENERGY,
    "total_time_cost": p.COST_CATEGORY_TIME,
    "total_parking_cost": p.COST_CATEGORY_PARKING,
    "total_reservation_cost": p.COST_CATEGORY_RESERVATION,
}


def audit(
    cdr: p.AuditedCdr,
    session: Session,
    tariffs: Sequence[t.Tariff],
    options: p.PricingOptions,
    tolerance: Decimal,
    budget: Budget,
) -> tuple[p.Quote, list[p.CdrDifference], list[p.OtherReading]]:
    """The quote of the CDR's session, where the CDR says something else by more than the tolerance, and what the
    session costs in other readings of its periods.

    `tariffs` are those that its periods name, in that order, or the one for all of them. Raises InvalidArgument.
    """
    if len({tariff.currency for tariff in tariffs}) > 1:
        raise InvalidArgument.field("tariffs", "that the periods name are in several currencies")
    with localcontext(CONTEXT):
        compiled = {tariff.id.casefold(): Compiled.of(tariff, options) for tariff in tariffs}
        first = compiled[tariffs[0].id.casefold()]
        found, others = quote_with_readings(first, session, options, compiled if tariffs_named(cdr) else None, budget)
        numbers = [*_costs(cdr, found), *_quantities(cdr, session)]
        different = [
            p.CdrDifference(
                path=path,
                stated=message(stated),
                computed=message(computed),
                difference=message(stated - computed),
                message=f"the CDR says {stated:f}, its periods and tariff make {message(computed).value}",
            )
            for path, stated, computed in numbers
            if abs(stated - computed) > tolerance
        ]
        return found, [*different, *_words(cdr, tariffs[0], found, session)], others


def session_of_cdr(cdr: p.AuditedCdr) -> Session:
    """Raises InvalidArgument for an end before the last period, and for a session that is too long."""
    with localcontext(CONTEXT):
        return session_of_periods(cdr, "cdr")


def tariffs_named(cdr: p.AuditedCdr) -> list[str]:
    """The ids of the tariffs that the CDR's periods name, each once, in the order and case of its first use."""
    named: dict[str, str] = {}
    naming = [period for period in cdr.charging_periods if period.tariff_id]
    for period in sorted(naming, key=lambda period: (period.start_date_time.seconds, period.start_date_time.nanos)):
        named.setdefault(period.tariff_id.casefold(), period.tariff_id)
    return list(named.values())


def _costs(cdr: p.AuditedCdr, found: p.Quote) -> Iterator[tuple[str, Decimal, Decimal]]:
    """(path, stated, computed). A credit CDR takes its total back; its other amounts are those of the first CDR."""
    yield from _price("total_cost", cdr.total_cost, found.total_cost, -1 if cdr.credit else 1)
    totals = {total.category: total.cost for total in found.totals}
    for name, category in TOTALS.items():
        if cdr.HasField(name):  # type: ignore[arg-type]
            yield from _price(name, getattr(cdr, name), totals.get(category, Price()), 1)


def _price(name: str, stated: Price, computed: Price, sign: int) -> Iterator[tuple[str, Decimal, Decimal]]:
    """What is computed without VAT is the same with it; what taxes in the prices leave unknown is not compared."""
    excl = number(computed.excl_vat) if computed.HasField("excl_vat") else ZERO
    incl = number(computed.incl_vat) if computed.HasField("incl_vat") else excl
    if computed.HasField("excl_vat") or not computed.HasField("incl_vat"):
        yield f"{name}.excl_vat", number(stated.excl_vat), sign * excl
    if stated.HasField("incl_vat"):
        yield f"{name}.incl_vat", number(stated.incl_vat), sign * incl


def _quantities(cdr: p.AuditedCdr, session: Session) -> Iterator[tuple[str, Decimal, Decimal]]:
    yield "total_energy", number(cdr.total_energy), sum((period.energy for period in session.periods), ZERO)
    yield "total_time", number(cdr.total_time), (session.end - session.charging_start) / HOUR_S
    if cdr.HasField("total_parking_time"):
        parked_s = sum((period.parking_s for period in session.periods), ZERO)
        yield "total_parking_time", number(cdr.total_parking_time), parked_s / HOUR_S


def _words(cdr: p.AuditedCdr, tariff: t.Tariff, found: p.Quote, session: Session) -> Iterator[p.CdrDifference]:
    """What differs and is no number."""
    if cdr.currency != tariff.currency:
        yield p.CdrDifference(path="currency", message=f"the tariff is in {tariff.currency}")
    if found.total_cost.HasField("incl_vat") and not cdr.total_cost.HasField("incl_vat"):
        yield p.CdrDifference(
            path="total_cost.incl_vat", computed=found.total_cost.incl_vat, message="the CDR says no amount with VAT"
        )
    if session.start != seconds(cdr.start_date_time):
        yield p.CdrDifference(path="start_date_time", message="is not the start of the first period")

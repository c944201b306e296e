"""What a reader of a quote should know besides its lines."""

from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal

from evbridge.v1 import tariff_pb2 as t

from service.domain.pricing.lines import Line
from service.domain.pricing.numbers import timestamp
from service.domain.pricing.session import CUT_S, Period, Span
from service.domain.pricing.tariff import Compiled


def notes_on_limits(periods: Iterable[Period], tariff_of: Callable[[Period], Compiled]) -> Iterator[str]:
    """On periods whose power or current decides a price and is not known, or is on both sides of a limit."""
    for quantity in ("power", "current"):
        asked = [(period, limits) for period in periods if (limits := tariff_of(period).limits[quantity])]
        if any(getattr(period, quantity) is None for period, _ in asked):
            yield f"the {quantity} is not known throughout: restrictions on it did not hold there"
        if any(_astride(getattr(period, f"{quantity}_span"), limits) for period, limits in asked):
            yield f"a period's {quantity} was on both sides of a limit: its average decided, else its largest value"


def _astride(span: Span, limits: Iterable[Decimal]) -> bool:
    return span is not None and any(span[0] < limit <= span[1] for limit in limits)


def notes_on_time(periods: Iterable[Period]) -> Iterator[str]:
    """On periods that say no time, and on the first that says another time than it lasted."""
    silent = [period for period in periods if not period.time_s + period.parking_s]
    if any(period.energy or period.end > period.start for period in silent):
        yield "a period says neither TIME nor PARKING_TIME: nothing per hour is charged for it"
    for period in periods:
        said_s, length_s = period.time_s + period.parking_s, period.end - period.start
        if said_s and abs(said_s - length_s) > CUT_S:
            began = timestamp(period.start).ToJsonString()
            yield f"the period from {began} says {said_s:.0f} s and lasted {length_s:.0f} s: what it says is charged"
            return


def notes_on_taxes(tariffs: Iterable[Compiled], lines: Iterable[Line]) -> Iterator[str]:
    unnamed = any(line.component.vat is None and line.unit_price for line in lines)
    included = {tariff.source.tax_included for tariff in tariffs}
    components = [component for tariff in tariffs for component in tariff.components]
    if unnamed and t.TAX_INCLUDED_YES in included:
        yield "the prices hold taxes at a rate that the tariff does not say: amounts without taxes are not known"
    if unnamed and t.TAX_INCLUDED_NO in included:
        yield "tax_included is NO: taxes that the tariff names no vat for come on top"
    if t.TAX_INCLUDED_NOT_APPLICABLE in included and any(component.source.HasField("vat") for component in components):
        yield "tax_included is N/A: the vat of the tariff's components was not added"

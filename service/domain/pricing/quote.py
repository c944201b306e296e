"""Pieces x elements -> the Quote: which component prices what."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal, localcontext
from typing import Literal, Protocol

from evbridge.v1 import pricing_pb2 as p
from evbridge.v1 import tariff_pb2 as t

from service.domain.pricing.bounds import bounded
from service.domain.pricing.budget import Budget
from service.domain.pricing.clock import zone_of
from service.domain.pricing.lines import (
    UNITS,
    Category,
    Gap,
    Line,
    cost_of,
    rounded_total,
    shown,
    step_up,
    sums,
    totals,
    unpriced,
)
from service.domain.pricing.notes import notes_on_limits, notes_on_taxes, notes_on_time
from service.domain.pricing.numbers import CONTEXT, Rounder, seconds, timestamp
from service.domain.pricing.pieces import Cuts, Market, Piece, most_strokes, undivided
from service.domain.pricing.session import Period, Session, session_of_periods, session_of_plan
from service.domain.pricing.tariff import (
    ENERGY,
    NOT_IN_SESSION,
    SPOT,
    Compiled,
    Component,
    Element,
    is_in_force,
    type_name,
)
from service.errors import InvalidArgument

_ONE = Decimal(1)
_US_PER_CUT, _US_PER_PIECE, _US_PER_TEST = 1.5, 35, 0.25
"""What it takes to find out where a piece ends, to price it, and to ask each element and restriction about it."""
NEVER_PRICED = "the tariff has no price for it"
_NO_TARIFF = "the period names no tariff"
_NOT_NOW = "none of the tariff's prices for it applies then"
_TYPES: dict[int, Sequence[int]] = {
    p.COST_CATEGORY_ENERGY: ENERGY,
    p.COST_CATEGORY_TIME: [t.TARIFF_DIMENSION_TYPE_TIME],
    p.COST_CATEGORY_PARKING: [t.TARIFF_DIMENSION_TYPE_PARKING_TIME],
    p.COST_CATEGORY_RESERVATION: [t.TARIFF_DIMENSION_TYPE_TIME],
}
_TIME, _PARKING_TIME = t.TARIFF_DIMENSION_TYPE_TIME, t.TARIFF_DIMENSION_TYPE_PARKING_TIME
_TIMED = (_TIME, _PARKING_TIME)
_LOCKED = t.TARIFF_DIMENSION_TYPE_ENERGY_SPOT_LOCKED


class Request(Protocol):
    """A request that holds a session in one of its two forms."""

    @property
    def plan(self) -> p.SessionPlan: ...

    @property
    def periods(self) -> p.SessionPeriods: ...

    def HasField(self, field_name: Literal["plan"], /) -> bool: ...


def quoted(tariff: t.Tariff, request: Request, options: p.PricingOptions) -> p.Quote:
    """What the session of the request costs. Raises InvalidArgument for what the rules of the contract cannot say."""
    return quote(Compiled.of(tariff, options), session_of(request), options)


def quote_of_tariffs(tariffs: Sequence[t.Tariff], request: Request, options: p.PricingOptions) -> p.Quote:
    """With the first of them, or each period with the one that it names when one names any of them."""
    session = session_of(request)
    compiled = {tariff.id.casefold(): Compiled.of(tariff, options) for tariff in reversed(tariffs)}
    named = any(period.tariff_id in compiled for period in session.periods)
    return quote(
        compiled[tariffs[0].id.casefold()], session, options, compiled if named and len(compiled) > 1 else None
    )


def session_of(request: Request) -> Session:
    """Raises InvalidArgument for what cannot be a session."""
    with localcontext(CONTEXT):
        if request.HasField("plan"):
            return session_of_plan(request.plan)
        return session_of_periods(request.periods)


def check(options: p.PricingOptions) -> None:
    """Raises InvalidArgument for a time zone that does not exist and for spot prices that overlap."""
    zone_of(options.time_zone, "options.time_zone")
    Market(options.spot_prices)


def quote(
    tariff: Compiled,
    session: Session,
    options: p.PricingOptions,
    named: Mapping[str, Compiled] | None = None,
    budget: Budget | None = None,
) -> p.Quote:
    """With `named`, by case-folded id, each period is priced with the tariff that it names; without, all with `tariff`.

    Raises InvalidArgument as `check` does, for a tariff that is not understood, for a negative time that has a price,
    and for more work than the budget allows.
    """
    return prepared(tariff, session, options, named, budget)()


def prepared(
    tariff: Compiled,
    session: Session,
    options: p.PricingOptions,
    named: Mapping[str, Compiled] | None = None,
    budget: Budget | None = None,
) -> Callable[[], p.Quote]:
    """Spends what the quote takes, and makes it when it is called. Both raise as `quote` does."""
    with localcontext(CONTEXT):
        pricing = _Pricing(tariff, session, options, named or {})
        cuts = pricing.cuts(budget or Budget())

    def make() -> p.Quote:
        with localcontext(CONTEXT):
            return pricing.quote(cuts)

    return make


def quote_with_readings(
    tariff: Compiled,
    session: Session,
    options: p.PricingOptions,
    named: Mapping[str, Compiled] | None = None,
    budget: Budget | None = None,
) -> tuple[p.Quote, list[p.OtherReading]]:
    """The quote, and when a period spans a change of price what the two other usual readings of it cost."""
    with localcontext(CONTEXT):
        pricing = _Pricing(tariff, session, options, named or {})
        cuts = pricing.cuts(budget or Budget(), times=3)
        found, others = pricing.quote(cuts), list[p.OtherReading]()
        for reading in (p.PERIOD_READING_AT_START, p.PERIOD_READING_AT_END) if pricing.spanning else ():
            other = _Pricing(tariff, session, options, named or {}).quote(cuts, reading)
            others.append(p.OtherReading(reading=reading, total_cost=other.total_cost))
        return found, others


class _Pricing:
    """One session under the tariff of its start, and those that its periods name."""

    def __init__(
        self, tariff: Compiled, session: Session, options: p.PricingOptions, named: Mapping[str, Compiled]
    ) -> None:
        self._tariff = tariff
        self._named = named
        self._tariffs = list(named.values()) or [tariff]
        for each in self._tariffs:
            _check_understood(each)
        self._none = Compiled(t.Tariff(), options.ocpi_version)
        self._session = session
        self._options = options
        self._zone = zone_of(options.time_zone, "options.time_zone")
        self._market = Market(options.spot_prices)
        self._counts: dict[int, Decimal] = {t.TARIFF_DIMENSION_TYPE_FLAT: _ONE}
        if options.HasField("socket_count"):
            self._counts[t.TARIFF_DIMENSION_TYPE_SOCKET_COUNT] = Decimal(options.socket_count)
        if options.HasField("charger_count"):
            self._counts[t.TARIFF_DIMENSION_TYPE_CHARGER_COUNT] = Decimal(options.charger_count)
        self._lines: list[Line] = []
        self._open: dict[tuple[Category, int], Line] = {}
        self._gaps: list[Gap] = []
        self._open_gaps: dict[Category, Gap] = {}
        self._charged_once: set[tuple[Category, int]] = set()
        self._notices = list(session.notices)
        self._within_period = False
        self.spanning: list[Decimal] = []
        """When periods start that span a change of price."""

    def cuts(self, budget: Budget, times: int = 1) -> Cuts:
        """Spends what so many quotes take. Raises InvalidArgument when there is not enough."""
        tests, elements = max((tariff.tests, len(tariff.elements)) for tariff in self._tariffs)

        def spend(pieces: int, us: float) -> None:
            cut = f"is cut into {pieces} pieces by a tariff of {elements} elements"
            budget.spend(pieces * us, "session", f"{cut}, which takes too long to price: ask for a shorter one")

        spend(most_strokes(self._session, self._tariffs), _US_PER_CUT)
        cuts = Cuts(self._session, self._tariffs, self._zone, self._market)
        spend(cuts.count(), times * (_US_PER_PIECE + _US_PER_TEST * tests))
        return cuts

    def quote(self, cuts: Cuts, reading: p.PeriodReading.ValueType = p.PERIOD_READING_UNSPECIFIED) -> p.Quote:
        self._leave_out_negative_times()
        cut = cuts.pieces()
        before: Period | None = None
        for piece in undivided(cut, reading) if reading else cut:
            self._within_period, before = piece.period is before, piece.period
            if piece.period.reserved:
                self._price_reservation(piece, self._of(piece.period))
            else:
                self._price(piece, self._of(piece.period))
        step_up(self._lines)
        self._lines.sort(key=lambda line: (line.category, line.start))
        return self._answer()

    def _leave_out_negative_times(self) -> None:
        """Raises InvalidArgument for one that the tariff of its period has a price for."""
        for negative in self._session.negative:
            tariff = self._tariff_named(negative.tariff_id)
            reserved = negative.type == p.CDR_DIMENSION_TYPE_RESERVATION_TIME
            parked = negative.type == p.CDR_DIMENSION_TYPE_PARKING_TIME
            elements = (*tariff.reservation, *tariff.expires) if reserved else tariff.elements
            if _price_any(elements, [_PARKING_TIME if parked else _TIME]):
                raise InvalidArgument.field(negative.path, "is a negative time, and the tariff has a price for it")
        if self._session.negative:
            types = sorted({p.CdrDimensionType.Name(each.type) for each in self._session.negative})
            names = ", ".join(name.removeprefix("CDR_DIMENSION_TYPE_") for name in types)
            self._notices.append(f"a negative {names}, which has no price, was left out")

    def _of(self, period: Period) -> Compiled:
        return self._tariff_named(period.tariff_id)

    def _tariff_named(self, tariff_id: str) -> Compiled:
        return self._named.get(tariff_id, self._none) if self._named else self._tariff

    def _price(self, piece: Piece, tariff: Compiled) -> None:
        active = tariff.active(tariff.elements, piece.moment)
        for type, count in self._counts.items():
            if component := active.get(type):
                self._charge_once(p.COST_CATEGORY_FIXED, component, count, piece.start)
        if piece.energy:
            self._price_energy(piece, [active[type] for type in ENERGY if type in active])
        self._price_time(piece, p.COST_CATEGORY_TIME, active.get(t.TARIFF_DIMENSION_TYPE_TIME), piece.time_s)
        parking = active.get(t.TARIFF_DIMENSION_TYPE_PARKING_TIME)
        self._price_time(piece, p.COST_CATEGORY_PARKING, parking, piece.parking_s)

    def _price_reservation(self, piece: Piece, tariff: Compiled) -> None:
        """Of an expired one, each dimension of RESERVATION_EXPIRES comes before that of RESERVATION."""
        expires = tariff.expires if self._session.expired else ()
        active = tariff.active((*expires, *tariff.reservation), piece.moment)
        if flat := active.get(t.TARIFF_DIMENSION_TYPE_FLAT):
            self._charge_once(p.COST_CATEGORY_RESERVATION, flat, _ONE, piece.start)
        time = active.get(t.TARIFF_DIMENSION_TYPE_TIME)
        self._price_time(piece, p.COST_CATEGORY_RESERVATION, time, piece.time_s)

    def _price_energy(self, piece: Piece, components: Sequence[Component]) -> None:
        missing = "" if components else self._why_not(piece, p.COST_CATEGORY_ENERGY)
        for component in components:
            if (unit_price := self._price_per_kwh(component, piece.market_time)) is None:
                missing = f"no spot price of {component.source.bidding_zone} was passed in"
            else:
                self._extend(piece, p.COST_CATEGORY_ENERGY, component, unit_price, piece.energy)
        if missing:
            self._leave_out(piece, p.COST_CATEGORY_ENERGY, piece.energy, missing)

    def _price_per_kwh(self, component: Component, time: Decimal) -> Decimal | None:
        """None when it follows a market whose price is not known."""
        if component.type not in SPOT:
            return component.price
        at = self._session.charging_start if component.type == _LOCKED else time
        market = self._market.price(component.source.bidding_zone, at)
        return None if market is None else component.spot_price(market)

    def _price_time(self, piece: Piece, category: Category, component: Component | None, time_s: Decimal) -> None:
        if time_s and component:
            self._extend(piece, category, component, component.price, time_s)
        elif time_s:
            self._leave_out(piece, category, time_s, self._why_not(piece, category))

    def _why_not(self, piece: Piece, category: Category) -> str:
        tariff = self._of(piece.period)
        if tariff is self._none:
            return _NO_TARIFF
        elements = (*tariff.reservation, *tariff.expires) if piece.period.reserved else tariff.elements
        return _NOT_NOW if _price_any(elements, _TYPES[category]) else NEVER_PRICED

    def _charge_once(self, category: Category, component: Component, count: Decimal, time: Decimal) -> None:
        if (category, component.type) not in self._charged_once:
            self._charged_once.add((category, component.type))
            unit = p.QUANTITY_UNIT_PIECE
            self._lines.append(Line(category, unit, component, component.price, time, time, count))

    def _extend(
        self, piece: Piece, category: Category, component: Component, unit_price: Decimal, quantity: Decimal
    ) -> None:
        """Adds to the line before when that goes on, else begins one."""
        line = self._open.get((category, component.type))
        if line and line.component is component and line.unit_price == unit_price and line.end == piece.start:
            line.end, line.quantity = piece.end, line.quantity + quantity
            return
        if self._within_period:
            gap = self._open_gaps.get(category)
            if line and line.end == piece.start:
                changed = (line.unit_price, line.component.vat) != (unit_price, component.vat)
                self._note_change(piece, changed and bool(line.unit_price or unit_price))
            elif gap and gap.end == piece.start:
                self._note_change(piece, bool(unit_price))
        line = Line(category, UNITS[category], component, unit_price, piece.start, piece.end, quantity)
        self._open[category, component.type] = line
        self._lines.append(line)

    def _leave_out(self, piece: Piece, category: Category, quantity: Decimal, reason: str) -> None:
        gap = self._open_gaps.get(category)
        if gap and gap.reason == reason and gap.end == piece.start:
            gap.end, gap.quantity = piece.end, gap.quantity + quantity
            return
        if self._within_period:
            lines = [line for (kind, _), line in self._open.items() if kind == category and line.end == piece.start]
            self._note_change(piece, any(line.unit_price for line in lines))
        gap = Gap(category, reason, piece.start, piece.end, quantity)
        self._open_gaps[category] = gap
        self._gaps.append(gap)

    def _note_change(self, piece: Piece, changed: bool) -> None:
        start = piece.period.start
        if changed and not self._session.planned and start not in self.spanning[-1:]:
            self.spanning.append(start)

    def _answer(self) -> p.Quote:
        rounder = Rounder(self._options.rounding)
        costs = [cost_of(line, rounder) for line in self._lines]
        total = bounded(self._tariff, self._lines, sums(costs), expired=self._session.expired)
        return p.Quote(
            tariff=self._tariff.revision,
            currency=self._tariff.source.currency,
            start_date_time=timestamp(self._session.start),
            end_date_time=timestamp(self._session.end),
            total_cost=rounded_total(total.excl, total.incl, rounder),
            totals=totals(self._lines, costs, rounder),
            clamps=total.clamps,
            lines=[shown(line, cost, rounder) for line, cost in zip(self._lines, costs, strict=True)],
            unpriced=[unpriced(gap) for gap in sorted(self._gaps, key=lambda gap: (gap.category, gap.start))],
            notices=[*self._notices, *total.notices, *self._notes()],
        )

    def _notes(self) -> list[str]:
        """What a reader should know besides the lines."""
        source, start, periods, notes = self._tariff.source, self._session.start, self._session.periods, list[str]()
        for type in NOT_IN_SESSION:
            if type not in self._counts and any(_price_any(tariff.elements, [type]) for tariff in self._tariffs):
                notes.append(f"{type_name(type)} is not part of a session's price")
        if source.HasField("last_updated") and start < seconds(source.last_updated):
            notes.append("the tariff is younger than the session")
        if not is_in_force(source, start):
            notes.append("the tariff was not in force at the session's start")
        notes += notes_on_limits(periods, self._of)
        notes += notes_on_taxes(self._tariffs, self._lines)
        if self.spanning:
            others = f" (and {len(self.spanning) - 1} more)" if len(self.spanning) > 1 else ""
            notes.append(
                f"the period from {timestamp(self.spanning[0]).ToJsonString()}{others} spans a change of price: "
                "it was spread evenly over its time; OCPI has a CPO start a new period there"
            )
        if self._session.metered_only:
            notes.append("the periods say ENERGY_IMPORT or ENERGY_EXPORT and no ENERGY: no energy was priced")
        if any(_price_any((*each.elements, *each.reservation, *each.expires), _TIMED) for each in self._tariffs):
            notes += notes_on_time(periods)
        if not self._named and any(period.tariff_id not in ("", source.id.casefold()) for period in periods):
            notes.append(f"the periods name other tariffs: all are priced with {source.id}")
        if len(self._tariffs) > 1:
            notes.append("several tariffs were used: fees are charged once, bounds are those of the first")
        return notes


def _price_any(elements: Iterable[Element], types: Iterable[int]) -> bool:
    return any(not element.types.isdisjoint(types) for element in elements)


def _check_understood(tariff: Compiled) -> None:
    """Raises InvalidArgument for a tariff that holds what may change its prices in a way that is not known."""
    for place, pointer in enumerate(tariff.source.not_understood):
        text = f"{pointer} can change a price and is not understood: the tariff cannot be priced"
        raise InvalidArgument.field(f"tariff.not_understood[{place}]", text)
    for component in tariff.components if tariff.with_taxes else ():
        if component.type in SPOT:
            text = "is a spot price, which comes without taxes, while tax_included says that prices hold them"
            raise InvalidArgument.field(f"tariff.{component.path}.type", text)

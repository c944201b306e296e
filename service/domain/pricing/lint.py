"""What is wrong with a tariff, or may surprise. A time of the week is a set of minutes: the bits of a number."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import NamedTuple
from zoneinfo import ZoneInfo

from evbridge.v1 import pricing_pb2 as p
from evbridge.v1 import tariff_pb2 as t
from evbridge.v1.types_pb2 import DayOfWeek

from service.domain.pricing.budget import Budget
from service.domain.pricing.clock import DAY_S, Clock
from service.domain.pricing.numbers import number
from service.domain.pricing.tariff import (
    NOT_IN_SESSION,
    QUANTITIES,
    SPOT,
    Compiled,
    Component,
    Element,
    Window,
    day_number,
    limit,
    type_name,
)

_US_PER_COMPONENT, _US_PER_PAIR = 60, 0.5
_DAY = 1440
_WEEK = (1 << 7 * _DAY) - 1
_INFO, _WARNING, _ERROR = p.FINDING_SEVERITY_INFO, p.FINDING_SEVERITY_WARNING, p.FINDING_SEVERITY_ERROR
_OF_SPOT = ("margin", "margin_percentage", "price_cap", "bidding_zone")
_OF_RESERVATION = (t.TARIFF_DIMENSION_TYPE_FLAT, t.TARIFF_DIMENSION_TYPE_TIME)
_PAIRS = {**{name: (least, most) for name, (_, least, most) in QUANTITIES.items()}, "date": ("start_date", "end_date")}
_Range = tuple[Decimal | None, Decimal | None]
_ALL: _Range = (None, None)


def lint(compiled: Compiled, zone: ZoneInfo | None, now: datetime, budget: Budget | None = None) -> list[p.Finding]:
    """By severity, then by path. Changes of the zone's clock are those of the year from `now` on.

    Raises InvalidArgument for more work than the budget allows.
    """
    tariff = compiled.source
    elements = (*compiled.elements, *compiled.reservation, *compiled.expires)
    priced = [component for element in elements for component in element.components]
    groups: dict[tuple[int, int], list[Component]] = {}
    for component in priced:
        reservation = component.element.restrictions.reservation
        groups.setdefault((reservation, component.type), []).append(component)
    _spend(budget or Budget(), len(priced), groups.values())
    findings = [
        *_not_understood(tariff),
        *_taxes(tariff, priced),
        *_bounds(tariff, priced),
        *(found for component in priced for found in _component(component)),
        *(() if compiled.is_2_1_1 or tariff.tax_included == t.TAX_INCLUDED_NOT_APPLICABLE else _vat(priced)),
        *(
            found
            for place, element in enumerate(tariff.elements)
            for found in _restrictions(place, element.restrictions)
        ),
        *(found for components in groups.values() for found in _dimension(components)),
        *_clock_changes(tariff, zone, now),
    ]
    if compiled.whole_elements:
        findings += _shadowed(compiled)
    return sorted(findings, key=lambda found: (-found.severity, found.path))


def _spend(budget: Budget, count: int, groups: Collection[Sequence[Component]]) -> None:
    """Each component is compared with those of its kind before it."""
    pairs = sum(len(components) ** 2 // 2 for components in groups)
    text = f"have {count} price components, which takes too long to compare: split the tariff"
    budget.spend(count * _US_PER_COMPONENT + pairs * _US_PER_PAIR, "tariff.elements", text)


def references(owned: bool, locations: int) -> Iterator[p.Finding]:
    """What is said from outside: whether the tenant is the party, and how many locations name the tariff."""
    if not owned:
        yield finding("party_id", _WARNING, p.FINDING_CODE_DANGLING_ID, "is not one of the tenant's parties")
    elif not locations:
        yield finding("id", _INFO, p.FINDING_CODE_UNUSED, "is named by no connector")


def finding(path: str, severity: p.FindingSeverity.ValueType, code: p.FindingCode.ValueType, text: str) -> p.Finding:
    return p.Finding(path=path, severity=severity, code=code, message=text)


def _not_understood(tariff: t.Tariff) -> Iterator[p.Finding]:
    for place, pointer in enumerate(tariff.not_understood):
        text = f"{pointer} can change a price and is not understood: the tariff is not priced"
        yield finding(f"not_understood[{place}]", _ERROR, p.FINDING_CODE_NOT_UNDERSTOOD, text)


def _taxes(tariff: t.Tariff, priced: Sequence[Component]) -> Iterator[p.Finding]:
    with_vat = [component for component in priced if component.source.HasField("vat")]
    if tariff.tax_included == t.TAX_INCLUDED_NOT_APPLICABLE and with_vat:
        text = f"is N/A, while {with_vat[0].path} has VAT: it is not added"
        yield finding("tax_included", _WARNING, p.FINDING_CODE_CONTRADICTION, text)
    for component in priced if tariff.tax_included == t.TAX_INCLUDED_YES else ():
        if component.type in SPOT:
            text = "is a spot price, which comes without taxes, while tax_included is YES: the tariff is not priced"
            yield finding(f"{component.path}.type", _ERROR, p.FINDING_CODE_CONTRADICTION, text)


def _bounds(tariff: t.Tariff, priced: Sequence[Component]) -> Iterator[p.Finding]:
    has_vat = any(component.vat is not None for component in priced)
    for name in ("min_price", "max_price"):
        bound = getattr(tariff, name)
        if tariff.HasField(name) and has_vat and not bound.HasField("incl_vat"):
            text = "has no amount with VAT, while components have VAT: one is computed when the session has one rate"
            yield finding(name, _WARNING, p.FINDING_CODE_MISSING_VAT, text)
    for side in ("excl_vat", "incl_vat"):
        if tariff.min_price.HasField(side) and tariff.max_price.HasField(side):
            least, most = number(getattr(tariff.min_price, side)), number(getattr(tariff.max_price, side))
            if least > most:
                yield finding(f"min_price.{side}", _ERROR, p.FINDING_CODE_CONTRADICTION, "is above max_price")


def _component(component: Component) -> Iterator[p.Finding]:
    source, path = component.source, component.path
    if component.type in NOT_IN_SESSION:
        text = f"{type_name(component.type)} is not part of a session's price unless the request says how many"
        yield finding(path, _INFO, p.FINDING_CODE_NOT_IN_SESSION, text)
    elif component.element.restrictions.reservation and component.type not in _OF_RESERVATION:
        yield finding(path, _ERROR, p.FINDING_CODE_NO_EFFECT, "a reservation has only FLAT and TIME")
    if component.price < 0:
        yield finding(f"{path}.price", _WARNING, p.FINDING_CODE_NEGATIVE_PRICE, "pays the driver")
    if not component.step_size and component.type != t.TARIFF_DIMENSION_TYPE_FLAT:
        text = "0 is not explained by OCPI; here it does not round, elsewhere it may be refused"
        yield finding(f"{path}.step_size", _WARNING, p.FINDING_CODE_STEP_ZERO, text)
    if component.type in SPOT:
        if component.price:
            yield finding(
                f"{path}.price", _WARNING, p.FINDING_CODE_NO_EFFECT, "is not part of a spot price; use margin"
            )
        return
    for name in _OF_SPOT:
        if getattr(source, name) if name == "bidding_zone" else source.HasField(name):  # type: ignore[arg-type]
            yield finding(f"{path}.{name}", _WARNING, p.FINDING_CODE_NO_EFFECT, "only counts for a spot price")


def _vat(priced: Sequence[Component]) -> Iterator[p.Finding]:
    without = [component for component in priced if component.vat is None]
    for component in without if len(without) < len(priced) else ():
        free = not component.price and component.type not in SPOT
        text = "is absent, which is not 0 %, while other components have VAT"
        yield finding(f"{component.path}.vat", _INFO if free else _WARNING, p.FINDING_CODE_MISSING_VAT, text)
    if without and len(without) == len(priced):
        included = without[0].with_taxes
        text = "no component has VAT: " + ("the taxes in the prices are not known" if included else "no VAT applies")
        yield finding("elements", _INFO, p.FINDING_CODE_MISSING_VAT, text)


def _restrictions(place: int, restrictions: t.TariffRestrictions) -> Iterator[p.Finding]:
    path = f"elements[{place}].restrictions"
    for least, most in _PAIRS.values():
        low, high = _value(restrictions, least), _value(restrictions, most)
        if low is not None and high is not None and low >= high:
            text = f"is not below {most}: the element never holds"
            yield finding(f"{path}.{least}", _ERROR, p.FINDING_CODE_CONTRADICTION, text)
        elif low is None and not most.endswith("_date") and high == 0:
            yield finding(f"{path}.{most}", _ERROR, p.FINDING_CODE_CONTRADICTION, "of 0: the element never holds")
    start, end = restrictions.start_time, restrictions.end_time
    if start and start == end and start != "00:00":
        text = "equals end_time, which OCPI does not define; here it is the whole day"
        yield finding(f"{path}.start_time", _WARNING, p.FINDING_CODE_EQUAL_TIMES, text)
    wraps = start and end and end != "00:00" and end < start
    if wraps and (restrictions.day_of_week or restrictions.start_date or restrictions.end_date):
        text = "wraps past midnight, but the days do not go with it: the part after midnight needs its own day"
        yield finding(f"{path}.end_time", _WARNING, p.FINDING_CODE_WRAPPED_WINDOW, text)


def _dimension(components: Sequence[Component]) -> Iterator[p.Finding]:
    """The components of one type, of sessions or of one kind of reservation, in the order in which they are asked."""
    scopes, name = list[_Scope](), type_name(components[0].type)
    for component in components:
        if scopes and scopes[-1].component.element is component.element:
            text = f"the element prices {name} before"
            yield finding(component.path, _ERROR, p.FINDING_CODE_UNREACHABLE, text)
        else:
            scopes.append(_Scope.of(component))
    covered = 0
    for place, scope in enumerate(scopes):
        earlier = scopes[:place]
        path = scope.component.path
        if first := next((other for other in earlier if other.covers(scope)), None):
            text = f"{first.component.path} always holds when it does, and comes first"
            yield finding(path, _ERROR, p.FINDING_CODE_UNREACHABLE, text)
        elif not scope.week & ~covered:
            text = f"elements before it price {name} at all of its times"
            yield finding(path, _ERROR, p.FINDING_CODE_UNREACHABLE, text)
        elif scope.by_week and (other := next((other for other in earlier if other.overlaps(scope)), None)):
            since = _moment(scope.week & other.week)
            text = f"holds together with {other.component.path} from {since} on: that one comes first"
            yield finding(path, _WARNING, p.FINDING_CODE_OVERLAP, text)
        covered |= scope.week if scope.by_week else 0
    if components[0].type != t.TARIFF_DIMENSION_TYPE_FLAT and not any(scope.always for scope in scopes):
        yield from _uncovered(scopes, name)


def _uncovered(scopes: Sequence["_Scope"], name: str) -> Iterator[p.Finding]:
    """Where a dimension without a default has no price."""
    path = scopes[-1].component.path
    if all(scope.by_week for scope in scopes):
        if missing := _WEEK & ~_union(scopes):
            text = f"{name} has no price from {_moment(missing)} on"
            yield finding(path, _WARNING, p.FINDING_CODE_GAP, text)
        return
    for quantity in QUANTITIES:
        if all(scope.ranges.keys() == {quantity} and scope.week == _WEEK for scope in scopes):
            gap = _first_gap(scope.ranges[quantity] for scope in scopes)
            if gap is not None:
                yield finding(path, _WARNING, p.FINDING_CODE_GAP, f"{name} has no price from {quantity} {gap:f} on")
            return
    text = f"every element with {name} has restrictions: outside them it costs nothing"
    yield finding(path, _INFO, p.FINDING_CODE_NO_DEFAULT, text)


def _clock_changes(tariff: t.Tariff, zone: ZoneInfo | None, now: datetime) -> Iterator[p.Finding]:
    """Ends of windows within the hour that a change of the clock skips or repeats."""
    if zone is None:
        return
    start = (now - datetime(1970, 1, 1, tzinfo=UTC)).days * DAY_S
    for when, before, after in Clock(zone, start, start + 366 * DAY_S).changes():
        low, high = sorted(((when + before) % DAY_S, (when + after) % DAY_S))
        what = "skipped" if after > before else "repeated"
        for place, element in enumerate(tariff.elements):
            for name in ("start_time", "end_time"):
                text = getattr(element.restrictions, name)
                if text and low < int(text[:2]) * 3600 + int(text[3:]) * 60 < high:
                    day = datetime.fromtimestamp(when, zone).date()
                    path = f"elements[{place}].restrictions.{name}"
                    yield finding(path, _WARNING, p.FINDING_CODE_CLOCK_CHANGE, f"is {what} on {day} in {zone.key}")


def _shadowed(compiled: Compiled) -> Iterator[p.Finding]:
    """By whole elements, one without restrictions is the last that is asked."""
    first: Element | None = None
    for element in compiled.elements:
        if first:
            text = f"whole elements are taken, and elements[{first.number}] always holds"
            yield finding(f"elements[{element.number}]", _ERROR, p.FINDING_CODE_UNREACHABLE, text)
        elif not element.tests:
            first = element


class _Scope(NamedTuple):
    """When a component holds: minutes of the week, and ranges of quantities and of days since 1970."""

    component: Component
    week: int
    ranges: dict[str, _Range]

    @classmethod
    def of(cls, component: Component) -> "_Scope":
        restrictions = component.element.restrictions
        ranges = {
            name: (_value(restrictions, least), _value(restrictions, most)) for name, (least, most) in _PAIRS.items()
        }
        return cls(component, _week(restrictions), {name: range for name, range in ranges.items() if range != _ALL})

    @property
    def by_week(self) -> bool:
        """Only the time of the week decides."""
        return not self.ranges

    @property
    def always(self) -> bool:
        return self.by_week and self.week == _WEEK

    def overlaps(self, other: "_Scope") -> bool:
        """Whether, by the time of the week alone, both hold at times, and each alone at others."""
        both = self.week & other.week
        return self.by_week and other.by_week and both not in (0, self.week, other.week)

    def covers(self, other: "_Scope") -> bool:
        """Whether it holds whenever the other does."""
        for name, range in self.ranges.items():
            if name not in other.ranges or not _within(other.ranges[name], range):
                return False
        return not other.week & ~self.week


def _within(inner: _Range, outer: _Range) -> bool:
    (low, high), (least, most) = inner, outer
    above = least is None or (low is not None and low >= least)
    return above and (most is None or (high is not None and high <= most))


def _week(restrictions: t.TariffRestrictions) -> int:
    """The minutes of the week at which time of day and weekday hold: Monday 00:00 is bit 0."""
    window = Window.of(restrictions)
    start, end = window.start // 60, window.end // 60
    day = _minutes(start, end) if start < end else _minutes(start, _DAY) | _minutes(0, end)
    days = restrictions.day_of_week or range(1, 8)
    return sum(day << (number - 1) * _DAY for number in days)


def _minutes(start: int, end: int) -> int:
    return (1 << end) - (1 << start)


def _union(scopes: Iterable[_Scope]) -> int:
    week = 0
    for scope in scopes:
        if scope.by_week:
            week |= scope.week
    return week


def _moment(week: int) -> str:
    """The first minute of the bits, after the last one without: "Saturday 18:00"."""
    starts = week & ~(week << 1)
    minute = (starts & -starts).bit_length() - 1
    if not minute and week >> (7 * _DAY - 1):  # it began on Sunday
        starts &= starts - 1
        minute = (starts & -starts).bit_length() - 1 if starts else 0
    day, minute = divmod(minute, _DAY)
    return f"{DayOfWeek.Name(day + 1).removeprefix('DAY_OF_WEEK_').title()} {minute // 60:02}:{minute % 60:02}"  # type: ignore[arg-type]


def _first_gap(ranges: Iterable[_Range]) -> Decimal | None:
    """Where from 0 on nothing holds for the first time; None when something always does."""
    reached = Decimal(0)
    for low, high in sorted(ranges, key=lambda range: range[0] or Decimal(0)):
        if low is not None and low > reached:
            return reached
        if high is None:
            return None
        reached = max(reached, high)
    return reached


def _value(restrictions: t.TariffRestrictions, name: str) -> Decimal | None:
    """A limit; of dates the days since 1970."""
    if name.endswith("_date"):
        text = getattr(restrictions, name)
        return Decimal(day_number(text)) if text else None
    return limit(restrictions, name)

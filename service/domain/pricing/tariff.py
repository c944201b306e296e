"""A tariff as the engine takes it: components in the order of their elements, and what holds when."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from functools import cached_property
from typing import NamedTuple

from evbridge.v1 import tariff_pb2 as t
from evbridge.v1.pricing_pb2 import OCPI_VERSION_2_1_1, OcpiVersion, PricingOptions, TariffRevision
from evbridge.v1.types_pb2 import DayOfWeek

from service.domain.pricing.clock import DAY_S
from service.domain.pricing.numbers import PERCENT, ZERO, number, seconds

SPOT = (t.TARIFF_DIMENSION_TYPE_ENERGY_SPOT, t.TARIFF_DIMENSION_TYPE_ENERGY_SPOT_LOCKED)
ENERGY = (t.TARIFF_DIMENSION_TYPE_ENERGY, *SPOT)
NOT_IN_SESSION = (
    t.TARIFF_DIMENSION_TYPE_MONTHLY_FLAT,
    t.TARIFF_DIMENSION_TYPE_SOCKET_COUNT,
    t.TARIFF_DIMENSION_TYPE_CHARGER_COUNT,
)
EXPIRES = t.RESERVATION_RESTRICTION_TYPE_RESERVATION_EXPIRES
_EPOCH = date(1970, 1, 1)


class Moment(NamedTuple):
    """What restrictions are asked about.

    `day` counts from 1970-01-01, `second` from midnight, both local; `energy` (kWh) and `duration` (seconds) are those
    of the session so far; `power` (kW) and `current` (A) are None when nobody measured them.
    """

    day: int
    second: int
    energy: Decimal
    duration: Decimal
    power: Decimal | None
    current: Decimal | None


Test = Callable[[Moment], bool]


class Window(NamedTuple):
    """A time of day, in seconds since midnight. An `end` that is not behind `start` is on the next day."""

    start: int
    end: int

    @classmethod
    def of(cls, restrictions: t.TariffRestrictions) -> "Window":
        """start = end is the whole day."""
        start, end = _second(restrictions.start_time), _second(restrictions.end_time) or DAY_S
        return cls(0, DAY_S) if start == end else cls(start, end)

    def holds(self, second: int) -> bool:
        if self.start < self.end:
            return self.start <= second < self.end
        return second >= self.start or second < self.end


def day_number(text: str) -> int:
    """A local date as days since 1970-01-01; a 30 February is the day after the last, the year 0 is the year 1."""
    year, month, day = map(int, text.split("-"))
    return (date(max(year, 1), month, 1) - _EPOCH).days + day - 1


def weekday_of(day: int) -> int:
    """As DayOfWeek counts: 1 is Monday."""
    return (day + 3) % 7 + 1


def limit(restrictions: t.TariffRestrictions, name: str) -> Decimal | None:
    """The value of a restriction in numbers, None when it is not set."""
    if not restrictions.HasField(name):  # type: ignore[arg-type]
        return None
    value = getattr(restrictions, name)
    return Decimal(value) if isinstance(value, int) else number(value)


QUANTITIES = {
    "kwh": ("energy", "min_kwh", "max_kwh"),
    "duration": ("duration", "min_duration", "max_duration"),
    "power": ("power", "min_power", "max_power"),
    "current": ("current", "min_current", "max_current"),
}


@dataclass(slots=True, eq=False)
class Element:
    """An element, its components, and the tests of its restrictions, all of which must hold."""

    tariff_id: str
    number: int
    restrictions: t.TariffRestrictions
    tests: list[Test] = field(default_factory=list)
    components: list["Component"] = field(default_factory=list)
    types: set[int] = field(default_factory=set)

    def holds(self, moment: Moment) -> bool:
        for test in self.tests:  # noqa: SIM110 (all() with a generator takes twice the time)
            if not test(moment):
                return False
        return True


@dataclass(slots=True, eq=False)
class Component:
    """The price of one dimension. `factor` is the part of it that is charged; `with_taxes` says that it holds them."""

    element: Element
    path: str
    source: t.PriceComponent
    type: t.TariffDimensionType.ValueType
    price: Decimal
    vat: Decimal | None
    step_size: int
    factor: Decimal
    with_taxes: bool

    def spot_price(self, market: Decimal) -> Decimal:
        """Per kWh, of what it costs on the market."""
        source = self.source
        price = market
        if source.HasField("margin_percentage"):
            price += market * number(source.margin_percentage) * PERCENT
        if source.HasField("margin"):
            price += number(source.margin)
        if source.HasField("price_cap"):
            price = min(price, number(source.price_cap))
        return price * self.factor


class Compiled:
    """A tariff, ready for sessions.

    `elements` price a session, `reservation` one that was used, `expires` one that was not. `by_clock` are the times of
    day, in seconds, at which a restriction can change, `limits` those of energy, duration, power and current.
    """

    def __init__(self, tariff: t.Tariff, version: OcpiVersion.ValueType, whole_elements: bool = False) -> None:
        self.source = tariff
        self.is_2_1_1 = version == OCPI_VERSION_2_1_1
        self.whole_elements = whole_elements
        self.with_taxes = tariff.tax_included == t.TAX_INCLUDED_YES
        self.elements: list[Element] = []
        self.reservation: list[Element] = []
        self.expires: list[Element] = []
        self.by_clock: set[int] = set()
        self.limits: dict[str, set[Decimal]] = {quantity: set() for quantity, _, _ in QUANTITIES.values()}
        for place, source in enumerate(tariff.elements):
            if source.restrictions.reservation and self.is_2_1_1:
                continue
            element = Element(tariff.id, place, source.restrictions)
            if source.HasField("restrictions"):
                self._compile(element)
            for number_, component in enumerate(source.price_components):
                element.components.append(self._component(element, number_, component))
                element.types.add(component.type)
            reservation = source.restrictions.reservation
            kind = self.expires if reservation == EXPIRES else self.reservation if reservation else self.elements
            kind.append(element)
        self.components = [component for element in self.elements for component in element.components]

    @classmethod
    def of(cls, tariff: t.Tariff, options: PricingOptions) -> "Compiled":
        return cls(tariff, options.ocpi_version, options.whole_elements)

    @property
    def tests(self) -> int:
        """How much may have to be asked about a moment: elements, and the tests of each."""
        return sum(1 + len(element.tests) for element in (*self.elements, *self.reservation, *self.expires))

    @cached_property
    def spot_zones(self) -> set[str]:
        return {component.source.bidding_zone for component in self.components if component.type in SPOT}

    def active(self, elements: Iterable[Element], moment: Moment) -> dict[int, "Component"]:
        """The component of each type: the first whose element holds, or with `whole_elements` those of one element."""
        active: dict[int, Component] = {}
        for element in elements:
            if not element.types.issubset(active) and element.holds(moment):
                for component in element.components:
                    active.setdefault(component.type, component)
                if self.whole_elements:
                    break
        return active

    @property
    def revision(self) -> TariffRevision:
        tariff = self.source
        named = TariffRevision(
            country_code=tariff.country_code, party_id=tariff.party_id, id=tariff.id, etag=tariff.etag
        )
        if tariff.HasField("last_updated"):
            named.last_updated.CopyFrom(tariff.last_updated)
        return named

    def _component(self, element: Element, place: int, source: t.PriceComponent) -> Component:
        factor = number(source.cost_percentage) * PERCENT if source.HasField("cost_percentage") else Decimal(1)
        return Component(
            element,
            f"elements[{element.number}].price_components[{place}]",
            source,
            source.type,
            number(source.price) * factor,
            number(source.vat) if self._has_vat and source.HasField("vat") else None,
            source.step_size,
            factor,
            self.with_taxes,
        )

    @property
    def _has_vat(self) -> bool:
        return not self.is_2_1_1 and self.source.tax_included != t.TAX_INCLUDED_NOT_APPLICABLE

    def _compile(self, element: Element) -> None:
        restrictions, tests = element.restrictions, element.tests
        if restrictions.start_time or restrictions.end_time:
            window = Window.of(restrictions)
            self.by_clock |= {window.start, window.end % DAY_S}
            tests.append(lambda moment: window.holds(moment.second))
        if restrictions.start_date:
            first = day_number(restrictions.start_date)
            tests.append(lambda moment: moment.day >= first)
        if restrictions.end_date:
            behind = day_number(restrictions.end_date)
            tests.append(lambda moment: moment.day < behind)
        if restrictions.day_of_week:
            days = frozenset(restrictions.day_of_week)
            tests.append(lambda moment: weekday_of(moment.day) in days)
        if restrictions.start_date or restrictions.end_date or restrictions.day_of_week:
            self.by_clock.add(0)
        for name, (quantity, least, most) in QUANTITIES.items():
            if name == "current" and self.is_2_1_1:
                continue
            low, high = limit(restrictions, least), limit(restrictions, most)
            if low is not None or high is not None:
                tests.append(_between(quantity, low, high))
                self.limits[quantity] |= {bound for bound in (low, high) if bound is not None}


def _between(quantity: str, low: Decimal | None, high: Decimal | None) -> Test:
    place = Moment._fields.index(quantity)

    def test(moment: Moment) -> bool:
        value = moment[place]
        return value is not None and (low is None or value >= low) and (high is None or value < high)

    return test


def in_force(tariffs: Sequence[t.Tariff], type: t.TariffType.ValueType, time: Decimal) -> t.Tariff | None:
    """The first of the type (REGULAR when unspecified) that is in force, else the first for every session, or None."""
    wanted = (type or t.TARIFF_TYPE_REGULAR, t.TARIFF_TYPE_UNSPECIFIED)
    current = [tariff for tariff in tariffs if is_in_force(tariff, time)]
    return next((tariff for each in wanted for tariff in current if tariff.type == each), None)


def is_in_force(tariff: t.Tariff, time: Decimal) -> bool:
    """By its own dates."""
    begun = not tariff.HasField("start_date_time") or time >= seconds(tariff.start_date_time)
    return begun and not (tariff.HasField("end_date_time") and time >= seconds(tariff.end_date_time))


def type_name(type: t.TariffDimensionType.ValueType) -> str:
    """As OCPI writes it: ENERGY."""
    return t.TariffDimensionType.Name(type).removeprefix("TARIFF_DIMENSION_TYPE_")


def conditions(restrictions: t.TariffRestrictions) -> list[str]:
    """The restrictions in words; none for an element without."""
    words = []
    if restrictions.reservation:
        words.append("reservation expired" if restrictions.reservation == EXPIRES else "reservation")
    if restrictions.start_time or restrictions.end_time:
        end = restrictions.end_time if restrictions.end_time not in ("", "00:00") else "24:00"
        window = f"from {restrictions.start_time or '00:00'} to {end} local time"
        words.append(f"all day, {window}" if restrictions.start_time == restrictions.end_time else window)
    if days := [DayOfWeek.Name(day).removeprefix("DAY_OF_WEEK_").title() for day in restrictions.day_of_week]:
        words.append("on " + " and ".join([", ".join(days[:-1]), days[-1]] if days[1:] else days))
    if restrictions.start_date:
        words.append(f"from {restrictions.start_date}")
    if restrictions.end_date:
        words.append(f"before {restrictions.end_date}")
    for name, unit, (_, least, most) in zip(
        ("energy", "duration", "power", "current"), ("kWh", "min", "kW", "A"), QUANTITIES.values(), strict=True
    ):
        low, high = limit(restrictions, least), limit(restrictions, most)
        if unit == "min" and any(bound and bound % 60 for bound in (low, high)):
            unit = "s"
        elif unit == "min":
            low, high = (bound and bound / 60 for bound in (low, high))
        if low is not None or high is not None:
            words.append(f"{name} {_range(low, high)} {unit}")
    return words


def _range(low: Decimal | None, high: Decimal | None) -> str:
    shown = [None if bound is None else f"{bound.normalize() + ZERO:f}" for bound in (low, high)]
    if high is None:
        return f"from {shown[0]}"
    return f"below {shown[1]}" if low is None else f"from {shown[0]} to below {shown[1]}"


def _second(time_of_day: str) -> int:
    """Of "HH:MM", since midnight; 0 for none."""
    return int(time_of_day[:2]) * 3600 + int(time_of_day[3:]) * 60 if time_of_day else 0

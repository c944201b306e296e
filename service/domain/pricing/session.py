"""A session as the engine takes it: periods one after another, in seconds and kWh."""

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import NamedTuple, TypeAlias

from evbridge.v1 import pricing_pb2 as p

from service.domain.pricing.numbers import HOUR_S, ZERO, atom, number, seconds
from service.errors import InvalidArgument

MAX_S = 92 * 86_400
LAST_S = 253_370_764_800
OUT_OF_RANGE = "is a session before 1970 or after 9998"
_MAX_CUT = Decimal("0.0005")
CUT_S = _MAX_CUT * HOUR_S
"""How much a time in hours can be off for the digits it was cut to."""
Span: TypeAlias = tuple[Decimal, Decimal] | None
_Volumes: TypeAlias = "dict[p.CdrDimensionType.ValueType, Decimal]"
_POWER = (p.CDR_DIMENSION_TYPE_POWER, p.CDR_DIMENSION_TYPE_MAX_POWER, p.CDR_DIMENSION_TYPE_MIN_POWER)
_CURRENT = (p.CDR_DIMENSION_TYPE_CURRENT, p.CDR_DIMENSION_TYPE_MAX_CURRENT, p.CDR_DIMENSION_TYPE_MIN_CURRENT)
_NOT_ENERGY = (p.CDR_DIMENSION_TYPE_ENERGY_IMPORT, p.CDR_DIMENSION_TYPE_ENERGY_EXPORT)
_TIMES = (p.CDR_DIMENSION_TYPE_TIME, p.CDR_DIMENSION_TYPE_PARKING_TIME, p.CDR_DIMENSION_TYPE_RESERVATION_TIME)


class Period(NamedTuple):
    """A stretch of a session. Instants are seconds since 1970; None is what nobody measured.

    `time_s` is the time reserved when it is `reserved`, else the time charging. The spans are the least and the most
    that were measured. `tariff_id` is case-folded, and empty when the period names none.
    """

    start: Decimal
    end: Decimal
    reserved: bool
    energy: Decimal = ZERO
    time_s: Decimal = ZERO
    parking_s: Decimal = ZERO
    power: Decimal | None = ZERO
    current: Decimal | None = ZERO
    power_span: Span = None
    current_span: Span = None
    tariff_id: str = ""


class Negative(NamedTuple):
    """A time below zero, which was left out: its type, its period's tariff (case-folded), its path in the request."""

    type: p.CdrDimensionType.ValueType
    tariff_id: str
    path: str


class Session(NamedTuple):
    """`start` is the reservation's when there is one, `charging_start` is its end. `expired`: it is all there is.

    `metered_only` says that energy was given only as import or export, which has no price; `planned` that its periods
    were made from a plan. `notices` are what a reader should know about how it was read.
    """

    start: Decimal
    charging_start: Decimal
    end: Decimal
    expired: bool
    periods: Sequence[Period]
    metered_only: bool = False
    planned: bool = False
    negative: Sequence[Negative] = ()
    notices: Sequence[str] = ()


def session_of_plan(plan: p.SessionPlan) -> Session:
    """Raises InvalidArgument for a session that is too long."""
    start = seconds(plan.start_date_time)
    energy = number(plan.energy) if plan.HasField("energy") else ZERO
    charging_s = Decimal(plan.charging_s)
    power = number(plan.power) if plan.HasField("power") else None
    if power:
        charging_s = atom(energy * HOUR_S / power)
    elif charging_s:
        power = energy * HOUR_S / charging_s
    arrival = start + plan.reservation_s
    unplugged = arrival + charging_s
    current = number(plan.current) if plan.HasField("current") else None
    if not energy:
        power, current = ZERO, current or ZERO
    periods = [Period(start, arrival, True, time_s=arrival - start)] if plan.reservation_s else []
    if not plan.reservation_expired:
        periods.append(Period(arrival, unplugged, False, energy, charging_s, ZERO, power, current))
    if plan.parking_s:
        parking_s = Decimal(plan.parking_s)
        periods.append(Period(unplugged, unplugged + parking_s, False, parking_s=parking_s))
    if not periods:
        raise InvalidArgument.field("plan.reservation_s", "is needed for a reservation that expired")
    return _session(periods, plan.reservation_expired, "plan")._replace(planned=True)


def session_of_periods(periods: p.SessionPeriods | p.AuditedCdr, path: str = "periods") -> Session:
    """Raises InvalidArgument for an end before the last period, for a reservation after charging, and for a session
    that is too long.
    """
    found: list[Period] = []
    in_request = [(seconds(period.start_date_time), place) for place, period in enumerate(periods.charging_periods)]
    in_time = sorted(in_request)
    notices = [] if in_time == in_request else ["the periods were not in the order of their starts: they were sorted"]
    last_end = seconds(periods.end_date_time)
    if last_end < in_time[-1][0]:
        raise InvalidArgument.field(f"{path}.end_date_time", "is before the start of the last period")
    if periods.HasField("start_date_time"):
        notices += _notes_on_start(in_time[0][0] - seconds(periods.start_date_time))
    ends = [*(start for start, _ in in_time[1:]), last_end]
    for (start, place), end in zip(in_time, ends, strict=True):
        parts = _periods(periods.charging_periods[place], start, end)
        if parts[0].reserved and found and not found[-1].reserved:
            where = f"{path}.charging_periods[{place}].dimensions"
            raise InvalidArgument.field(where, "have RESERVATION_TIME, which comes before everything else")
        found.extend(parts)
    expired = all(period.reserved for period in found)
    types = {dimension.type for period in periods.charging_periods for dimension in period.dimensions}
    metered_only = p.CDR_DIMENSION_TYPE_ENERGY not in types and not types.isdisjoint(_NOT_ENERGY)
    negative = [
        Negative(
            dimension.type, period.tariff_id.casefold(), f"{path}.charging_periods[{place}].dimensions[{row}].volume"
        )
        for place, period in enumerate(periods.charging_periods)
        for row, dimension in enumerate(period.dimensions)
        if _is_negative_time(dimension)
    ]
    return _session(found, expired, path)._replace(metered_only=metered_only, negative=negative, notices=notices)


def _is_negative_time(dimension: p.CdrDimension) -> bool:
    return dimension.volume.value.startswith("-") and dimension.type in _TIMES and number(dimension.volume) < 0


def _notes_on_start(early_s: Decimal) -> Iterator[str]:
    """On a session that starts so long before its first period."""
    if early_s > 0:
        yield f"the session starts {early_s.normalize():f} s before its first period: that time is not priced"
    elif early_s < 0:
        yield f"the first period starts {-early_s.normalize():f} s before the session: all of the period is priced"


def _session(periods: Sequence[Period], expired: bool, path: str) -> Session:
    start, end = periods[0].start, periods[-1].end
    if start < 0 or end > LAST_S:
        raise InvalidArgument.field(path, OUT_OF_RANGE)
    if end - start > MAX_S:
        raise InvalidArgument.field(path, "is a session of more than 92 days")
    reserved = [period.end for period in periods if period.reserved]
    return Session(start, reserved[-1] if reserved else start, end, expired, periods)


def _periods(period: p.ChargingPeriod, start: Decimal, end: Decimal) -> list[Period]:
    """One period; two, when it was reserved at first."""
    volumes = {
        dimension.type: number(dimension.volume) for dimension in period.dimensions if not _is_negative_time(dimension)
    }
    energy, tariff_id = volumes.get(p.CDR_DIMENSION_TYPE_ENERGY, ZERO), period.tariff_id.casefold()
    charging_s = _duration(volumes, p.CDR_DIMENSION_TYPE_TIME, end - start)
    parking_s = _duration(volumes, p.CDR_DIMENSION_TYPE_PARKING_TIME, end - start)
    found = []
    if reserved_s := _duration(volumes, p.CDR_DIMENSION_TYPE_RESERVATION_TIME, end - start):
        used = energy or charging_s or parking_s
        arrival = min(start + reserved_s, end) if used else end
        found.append(Period(start, arrival, True, time_s=reserved_s, tariff_id=tariff_id))
        if not used:
            return found
        start = arrival
    power, power_span = _measured(volumes, _POWER)
    current, current_span = _measured(volumes, _CURRENT)
    if power is None and charging_s:
        power = energy * HOUR_S / charging_s
    if not energy and not charging_s:
        power, current = power or ZERO, current or ZERO
    spans = (power_span, current_span)
    return [*found, Period(start, end, False, energy, charging_s, parking_s, power, current, *spans, tariff_id)]


def _measured(
    volumes: _Volumes, types: Sequence[p.CdrDimensionType.ValueType]
) -> tuple[Decimal, Span] | tuple[None, None]:
    """What the first of the types says that is there, and what all of them span."""
    values = [volumes[type] for type in types if type in volumes]
    return (values[0], (min(values), max(values))) if values else (None, None)


def _duration(volumes: _Volumes, type: p.CdrDimensionType.ValueType, length_s: Decimal) -> Decimal:
    """Seconds of a volume in hours. 0.6667 h of a period of 40 minutes are those 40 minutes."""
    hours = volumes.get(type)
    if hours is None:
        return ZERO
    last_digit = hours.as_tuple().exponent
    cut = min(Decimal(5).scaleb(int(last_digit) - 1), _MAX_CUT) * HOUR_S
    return length_s if abs(hours * HOUR_S - length_s) <= cut else hours * HOUR_S

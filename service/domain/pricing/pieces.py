"""Periods -> pieces: cut wherever a restriction or a spot price can change, so that none does within a piece."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from itertools import groupby, pairwise
from typing import NamedTuple
from zoneinfo import ZoneInfo

from evbridge.v1.pricing_pb2 import PERIOD_READING_AT_END, PeriodReading, SpotPrice

from service.domain.pricing.clock import DAY_S, Clock
from service.domain.pricing.numbers import ZERO, atom, number, seconds
from service.domain.pricing.session import Period, Session
from service.domain.pricing.tariff import Compiled, Moment
from service.errors import InvalidArgument

_SHARE = Decimal("1e-40")
_NANO = Decimal("1e-9")
_ONE = Decimal(1)


class Piece(NamedTuple):
    """A part of a period, with its part of what the period consumed (kWh, seconds).

    Its price is that of the `moment`, or on the market that of the instant `market_time`.
    """

    start: Decimal
    end: Decimal
    period: Period
    energy: Decimal
    time_s: Decimal
    parking_s: Decimal
    moment: Moment
    market_time: Decimal


class Market:
    """Spot prices by zone. Raises InvalidArgument for prices of a zone that overlap."""

    def __init__(self, prices: Iterable[SpotPrice]) -> None:
        zones: dict[str, list[tuple[Decimal, Decimal, Decimal]]] = {}
        for price in prices:
            entry = seconds(price.start_time), seconds(price.end_time), number(price.price)
            zones.setdefault(price.bidding_zone, []).append(entry)
        for entries in zones.values():
            entries.sort()
            if any(after[0] < before[1] for before, after in pairwise(entries)):
                raise InvalidArgument.field("options.spot_prices", "overlap within a bidding zone")
        self._zones = zones

    def price(self, zone: str, time: Decimal) -> Decimal | None:
        """Per kWh; None when it is not known."""
        entries = self._zones.get(zone, [])
        place = bisect_right(entries, (time, Decimal("Infinity"))) - 1
        return entries[place][2] if place >= 0 and time < entries[place][1] else None

    def changes(self, zones: Iterable[str]) -> set[Decimal]:
        return {time for zone in zones for entry in self._zones.get(zone, ()) for time in entry[:2]}


def most_strokes(session: Session, tariffs: Sequence[Compiled]) -> int:
    """How often at most the clock shows a time of day at which a price can change."""
    times = len({time for tariff in tariffs for time in tariff.by_clock})
    return times * (int((session.end - session.start) / DAY_S) + 2)


class Cuts:
    """Where the periods of a session are cut. Known before anything is, so that the work can be judged first."""

    def __init__(self, session: Session, tariffs: Sequence[Compiled], zone: ZoneInfo, market: Market) -> None:
        changes = market.changes({zone for tariff in tariffs for zone in tariff.spot_zones})
        self._clock, by_clock = None, {time for tariff in tariffs for time in tariff.by_clock}
        if by_clock:
            self._clock = Clock(zone, int(session.start), int(session.end) + 1)
            changes.update(map(Decimal, self._clock.strokes(by_clock)))
        energies, durations = (
            {bound for tariff in tariffs for bound in tariff.limits[quantity]} for quantity in ("energy", "duration")
        )
        for origin in {session.start, session.charging_start}:
            changes.update(origin + bound for bound in durations)
        self._session = session
        self._instants, self._energies = sorted(changes), sorted(energies)

    def count(self) -> int:
        """How many pieces there will be at most."""
        energy, count = ZERO, 0
        for period in self._session.periods:
            count += 1 + len(self._instants_in(period)) + len(self._energies_in(period, energy))
            energy += period.energy
        return count

    def pieces(self) -> Iterator[Piece]:
        """Consumption is spread evenly over its period; pieces add up to their period without a rest."""
        energy = ZERO
        for period in self._session.periods:
            origin = self._session.start if period.reserved else self._session.charging_start
            yield from _cut(period, self._shares(period, energy), energy, origin, self._clock)
            energy += period.energy

    def _instants_in(self, period: Period) -> range:
        """Their places; none in a period without length."""
        if period.start == period.end:
            return range(0)
        return range(bisect_right(self._instants, period.start), bisect_left(self._instants, period.end))

    def _energies_in(self, period: Period, energy: Decimal) -> range:
        """The places of those between the session's energy before the period and after it."""
        low, high = sorted((energy, energy + period.energy))
        return range(bisect_right(self._energies, low), bisect_left(self._energies, high))

    def _shares(self, period: Period, energy: Decimal) -> list[Decimal]:
        """Where the period is cut, as parts of it from 0 to 1."""
        shares = {ZERO, _ONE}
        length = period.end - period.start
        for place in self._instants_in(period):
            shares.add(((self._instants[place] - period.start) / length).quantize(_SHARE))
        for place in self._energies_in(period, energy):
            shares.add(((self._energies[place] - energy) / period.energy).quantize(_SHARE))
        return sorted(shares)


def undivided(cut: Iterable[Piece], reading: PeriodReading.ValueType) -> Iterator[Piece]:
    """Each period whole, at the price of its first piece or of its last."""
    place = -1 if reading == PERIOD_READING_AT_END else 0
    for _, parts in groupby(cut, lambda piece: id(piece.period)):
        priced = list(parts)[place]
        period = priced.period
        consumed = period.energy, period.time_s, period.parking_s
        yield Piece(period.start, period.end, period, *consumed, priced.moment, priced.market_time)


def _cut(
    period: Period, shares: list[Decimal], energy: Decimal, origin: Decimal, clock: Clock | None
) -> Iterator[Piece]:
    length = period.end - period.start
    whole: tuple[Decimal, ...] = (period.energy, period.time_s, period.parking_s)
    before, start = tuple(ZERO for _ in whole), period.start
    for share in shares[1:]:
        after = whole if share == 1 else tuple(atom(quantity * share) for quantity in whole)
        end = period.end if share == 1 else (period.start + length * share).quantize(_NANO)
        moment = Moment(
            *(clock.local(int(start)) if clock else (0, 0)),
            energy + (before[0] + after[0]) / 2,
            (start + end) / 2 - origin,
            period.power,
            period.current,
        )
        kwh, time_s, parking_s = (later - earlier for later, earlier in zip(after, before, strict=True))
        yield Piece(start, end, period, kwh, time_s, parking_s, moment, start)
        before, start = after, end

"""The local time of a location, in whole seconds: stretches of one offset, and what happens in them by the clock."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from service.domain.time_zones import time_zone, time_zones
from service.errors import InvalidArgument

DAY_S = 86_400
_NONE, _SECOND = timedelta(), timedelta(seconds=1)


def zone_of(name: str, path: str) -> ZoneInfo:
    """Raises InvalidArgument for a name that is not in the IANA database."""
    if name not in time_zones():
        raise InvalidArgument.field(path, "is not a time zone of the IANA database")
    return time_zone(name)


class Clock:
    """The clock of a zone over a time, which must be within the years 1 to 9999."""

    def __init__(self, zone: ZoneInfo, start: int, end: int) -> None:
        self._zone = zone
        self._starts, self._offsets = [start], [self._offset(start)]
        self._end = end
        before = start
        while before < end:
            after = min(before + DAY_S, end)
            if self._offset(after) != self._offsets[-1]:
                self._starts.append(self._change(before, after))
                self._offsets.append(self._offset(after))
            before = after

    def _offset(self, time: int) -> int:
        return (datetime.fromtimestamp(time, self._zone).utcoffset() or _NONE) // _SECOND

    def _change(self, before: int, after: int) -> int:
        """The first second of the new offset."""
        old = self._offset(before)
        while after - before > 1:
            middle = (before + after) // 2
            before, after = (middle, after) if self._offset(middle) == old else (before, middle)
        return after

    def local(self, time: int) -> tuple[int, int]:
        """(day since 1970-01-01, second of the day)."""
        place = max(bisect_right(self._starts, time) - 1, 0)
        return divmod(time + self._offsets[place], DAY_S)

    def changes(self) -> list[tuple[int, int, int]]:
        """Each change of the clock: (when, offset before, offset after), in seconds."""
        return list(zip(self._starts[1:], self._offsets, self._offsets[1:], strict=False))

    def strokes(self, seconds_of_day: Iterable[int]) -> Iterator[int]:
        """Every instant at which the clock shows one of these times, and every one at which it is changed."""
        wanted = sorted(seconds_of_day)
        for start, end, offset in zip(self._starts, [*self._starts[1:], self._end], self._offsets, strict=True):
            yield start
            for day in range((start + offset) // DAY_S, (end + offset) // DAY_S + 1):
                for second in wanted:
                    if start < (time := day * DAY_S + second - offset) < end:
                        yield time

"""How many requests a partner may be sent in a minute and in a day, spent in slices. Pure: seconds of one clock.

All processes share a budget. Each takes a slice of it and spends that from memory, so that a request costs no
statement; what is left of a slice when its window ends is gone. A window begins with its first request, as partners
count.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from evbridge.v1.partner_pb2 import RepairedAnswers

from service.domain.target import Target

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
_SLICES = 20
_LARGEST_SLICE = 50


def budgets(target: Target) -> Iterator[tuple[timedelta, int]]:
    """The windows that are limited, each with the requests that it holds."""
    for period, limit in ((MINUTE, target.requests_per_minute), (DAY, target.requests_per_day)):
        if limit > 0:
            yield period, limit


def slice_of(limit: int) -> int:
    """How many requests a process takes at once. What others hold and do not send is lost to it, so not too many."""
    return max(1, min(limit // _SLICES, _LARGEST_SLICE))


@dataclass(slots=True)
class Slice:
    """What this process may still send in the window that lasts until `end`; `used_up` is the limit it reached."""

    left: int = 0
    end: float = 0.0
    used_up: int = 0

    def is_open(self, now: float) -> bool:
        return self.left > 0 and now < self.end

    def closed_s(self, limit: int, now: float) -> float:
        """How long nothing can be sent: 0 while a slice may still be had, also because the limit was raised."""
        return self.end - now if limit <= self.used_up and now < self.end else 0.0

    def take(self, taken: int, used: int, limit: int, end: float) -> None:
        """`taken` requests were added to the window's count, now `used`: those beyond the limit are not ours."""
        self.left = max(0, min(taken, taken + limit - used))
        self.used_up = 0 if self.left else limit
        self.end = end


@dataclass(slots=True)
class Permit:
    """The permission to send one request. `recorded`: someone wants to see what is exchanged.

    Whoever sends it sets `limit_reached_s` when the partner said that nothing more is taken for so long,
    `caller_was_short` when the caller gave so little time that a missing answer says nothing about the partner, and
    `repaired` when the answer was read although it broke the contract.
    """

    recorded: bool = False
    limit_reached_s: float | None = None
    caller_was_short: bool = False
    repaired: RepairedAnswers | None = None

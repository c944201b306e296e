"""When so many requests to a partner failed that it is left alone for a while. Pure: times are seconds of one clock."""

from dataclasses import dataclass
from enum import IntEnum

from service.domain.partner_error import PartnerFault, PartnerOutcomeUnknown, PartnerUnavailable
from service.errors import EvbridgeError


class Scope(IntEnum):
    """What a pause of an integration holds back. Stored: the numbers stay."""

    DELIVERIES = 0
    """After a failure of the partner as a whole, until the next attempt."""
    REQUESTS = 1
    """Everything, because the partner said that its limit is reached."""
    READS = 2
    """Requests that only read, by their breaker."""
    WRITES = 3
    """Requests that may change something, by their breaker."""


_IN_A_ROW = 5
_WINDOW_S = 60.0
_OUTCOMES = 20  # of which half failed


def is_failure(error: EvbridgeError) -> bool:
    """Whether the partner failed. An answer that refuses a request (4xx) shows that it works."""
    return isinstance(error, PartnerUnavailable | PartnerOutcomeUnknown | PartnerFault)


@dataclass(slots=True)
class Breaker:
    """Counts the outcomes of one process's requests of one kind.

    It opens after 5 failures in a row, or when half of at least 20 outcomes within a minute failed.
    """

    in_a_row: int = 0
    outcomes: int = 0
    failures: int = 0
    window_end: float = 0.0

    def opens(self, failed: bool, now: float) -> bool:
        """Counts one outcome. When it opens the counts begin anew."""
        if now >= self.window_end:
            self.outcomes, self.failures, self.window_end = 0, 0, now + _WINDOW_S
        self.outcomes += 1
        self.failures += failed
        self.in_a_row = self.in_a_row + 1 if failed else 0
        mostly = self.outcomes >= _OUTCOMES and 2 * self.failures >= self.outcomes
        opens = failed and (mostly or self.in_a_row >= _IN_A_ROW)
        if opens:
            self.in_a_row, self.window_end = 0, 0.0
        return opens

"""What a failed attempt means for a delivery and its integration, and when to try again."""

from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, auto

from service.domain.partner_error import (
    PartnerChanged,
    PartnerCredentialRefused,
    PartnerError,
    PartnerFault,
    PartnerNotFound,
    PartnerOutcomeUnknown,
    PartnerOutcomeUnsettled,
    PartnerRateLimited,
    PartnerRejected,
    PartnerUnavailable,
    PartnerVersionConflict,
)
from service.errors import (
    DatabaseUnavailable,
    DeliveryUnfinished,
    EgressDenied,
    EvbridgeError,
    ObjectNotRepresentable,
    TariffNotDelivered,
    TariffNotRepresentable,
    TariffStillNamed,
)

OUTAGE_OBJECTS = 3
"""So many objects that fail alike, with none that succeeds between, are an outage."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Delays in seconds: `base_s` doubles with every failure up to `cap_s`, then half to all of it is waited."""

    base_s: float = 1.0
    cap_s: float = 300.0
    max_attempts: int = 10
    suspend_after: timedelta = timedelta(days=5)

    def backoff_s(self, failures: int, jitter: float) -> float:
        """`failures` counts from 1; `jitter` is random in [0, 1)."""
        full = min(self.cap_s, self.base_s * 2.0 ** min(failures - 1, 32))
        return full * (0.5 + jitter / 2)


class Next(Enum):
    """What happens to a delivery whose attempt failed."""

    RETRY = auto()
    """It is tried again after a delay of its own."""
    PAUSE = auto()
    """The failure concerns the partner as a whole: nothing is delivered there for a while, then it is tried again."""
    SUSPEND = auto()
    """It has lasted too long: nothing is delivered there until someone resumes the integration."""
    WAIT = auto()
    """It is tried again once another object has arrived."""
    PARK = auto()
    """No attempt is made until the object changes or someone retries."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """`counts`: towards parking."""

    next: Next
    counts: bool = False


@dataclass(frozen=True, slots=True)
class Streak:
    """Attempts at one partner that failed, this one included, since it last took an object.

    `alike`: the objects among them that failed for the reason of this attempt. `proven`: the partner took another
    object since this one last failed, so it works. `lasts`: since it has been an outage.
    """

    failures: int = 1
    alike: int = 1
    proven: bool = False
    lasts: timedelta = timedelta()


# The partner as a whole is away or refuses us.
_OF_THE_PARTNER = (PartnerUnavailable, PartnerRateLimited, PartnerCredentialRefused, EgressDenied)
# Found out here, or by reading what the partner holds: nothing will be otherwise until someone changes it.
_SETTLED = (TariffNotRepresentable, ObjectNotRepresentable, PartnerChanged, PartnerOutcomeUnsettled)
# Trying again may help; without end it would not.
_MAY_PASS = (PartnerOutcomeUnknown, PartnerFault, PartnerVersionConflict, PartnerNotFound)
# Not implemented, HTTP version not supported: the only 5xx that say that asking again is of no use.
_FINAL_STATUSES = frozenset({501, 505})


def is_of_partner(error: EvbridgeError) -> bool:
    """Whether the partner, or the way to it, made the attempt fail, as it may make others fail."""
    found_by_reading = isinstance(error, PartnerChanged | PartnerOutcomeUnsettled)
    return isinstance(error, PartnerError | EgressDenied) and not found_by_reading


def answers(error: EvbridgeError) -> bool:
    """Whether the partner works, and what it answered is about the one object."""
    return isinstance(error, PartnerRejected | PartnerChanged)


def verdict(error: EvbridgeError, failed_attempts: int, streak: Streak, policy: RetryPolicy) -> Verdict:
    """Judges the attempt that failed with `error`; `failed_attempts` includes it.

    An object is parked for what the partner answers only if the partner works: an outage parks nothing, whatever it
    answers meanwhile.
    """
    outage = Verdict(Next.SUSPEND if streak.lasts >= policy.suspend_after else Next.PAUSE)
    if isinstance(error, _OF_THE_PARTNER):
        return outage
    if isinstance(error, DatabaseUnavailable | DeliveryUnfinished):
        return Verdict(Next.RETRY)
    if isinstance(error, TariffNotDelivered | TariffStillNamed):
        return Verdict(Next.WAIT)
    if isinstance(error, _SETTLED):
        return Verdict(Next.PARK, counts=True)
    worn_out = failed_attempts >= policy.max_attempts
    if not isinstance(error, PartnerError):
        return Verdict(Next.PARK if worn_out else Next.RETRY, counts=True)
    if streak.alike >= OUTAGE_OBJECTS and not streak.proven:
        return outage
    if not isinstance(error, _MAY_PASS) or error.http_status in _FINAL_STATUSES:
        return Verdict(Next.PARK, counts=True)
    return Verdict(Next.PARK if worn_out and streak.proven else Next.RETRY, counts=streak.proven)

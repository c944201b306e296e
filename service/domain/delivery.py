"""What a failed attempt means for a delivery and its integration, and when to try again."""

from dataclasses import dataclass

from service.errors import (
    DatabaseUnavailable,
    DeliveryUnfinished,
    EgressDenied,
    EvbridgeError,
    PartnerCredentialRefused,
    PartnerError,
    PartnerFault,
    PartnerOutcomeUnknown,
    PartnerRateLimited,
    PartnerUnavailable,
    PartnerVersionConflict,
    TariffNotDelivered,
    TariffNotRepresentable,
)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Delays in seconds: `base_s` doubles with every failure up to `cap_s`, then half to all of it is waited."""

    base_s: float = 1.0
    cap_s: float = 300.0
    max_attempts: int = 10

    def backoff_s(self, failures: int, jitter: float) -> float:
        """`failures` counts from 1; `jitter` is random in [0, 1)."""
        full = min(self.cap_s, self.base_s * 2.0 ** min(failures - 1, 32))
        return full * (0.5 + jitter / 2)


@dataclass(frozen=True, slots=True)
class Verdict:
    """`parked`: no attempt until the object changes or someone retries. `counts`: towards parking.

    `pauses`: the failure concerns the partner as a whole, so nothing else is sent meanwhile.
    """

    parked: bool
    counts: bool
    pauses: bool


# The partner as a whole is away or refuses us: an outage is no fault of the object and never parks it.
_OF_THE_PARTNER = (PartnerUnavailable, PartnerRateLimited, PartnerCredentialRefused, EgressDenied)
# Nothing will be otherwise until the object, or what it needs, is.
_WAIT_FOR_A_CHANGE = (TariffNotRepresentable, TariffNotDelivered)
# Trying again may help, without end it would not.
_MAY_PASS = (PartnerOutcomeUnknown, PartnerFault, PartnerVersionConflict)


def verdict(error: EvbridgeError, failed_attempts: int, policy: RetryPolicy) -> Verdict:
    """Judges the attempt that failed with `error`; `failed_attempts` includes it."""
    if isinstance(error, _OF_THE_PARTNER):
        return Verdict(parked=False, counts=False, pauses=True)
    if isinstance(error, (DatabaseUnavailable, DeliveryUnfinished)):
        return Verdict(parked=False, counts=False, pauses=False)
    if isinstance(error, _WAIT_FOR_A_CHANGE):
        return Verdict(parked=True, counts=True, pauses=False)
    if isinstance(error, PartnerError) and not isinstance(error, _MAY_PASS):
        return Verdict(parked=True, counts=True, pauses=False)
    return Verdict(parked=failed_attempts >= policy.max_attempts, counts=True, pauses=False)

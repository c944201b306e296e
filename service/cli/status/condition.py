"""What is to be said of an integration: what is wrong, since when, how urgent it is and what to do."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from enum import IntEnum, auto
from typing import Final, NamedTuple

from evbridge.v1.error_reason_pb2 import (
    EGRESS_DENIED,
    PARTNER_CREDENTIAL_REFUSED,
    PARTNER_FAULT,
    PARTNER_RATE_LIMITED,
    PARTNER_UNAVAILABLE,
    ErrorReason,
)
from evbridge.v1.integration_pb2 import (
    INTEGRATION_STATUS_ACTIVE,
    INTEGRATION_STATUS_CONNECTING,
    INTEGRATION_STATUS_FAILED,
    INTEGRATION_STATUS_UNREGISTERED,
    INTEGRATION_TYPE_OCPI,
    Integration,
)
from evbridge.v1.partner_pb2 import PartnerStatus
from evbridge.v1.run_pb2 import RunKind
from google.protobuf.timestamp_pb2 import Timestamp

from service.storage.status import FailedRun, Trouble

_LASTING: Final = timedelta(hours=1)
_WORDS: Final = {
    PARTNER_CREDENTIAL_REFUSED: "it refuses our credential",
    PARTNER_FAULT: "it answers what its contract does not have",
    PARTNER_RATE_LIMITED: "it wants no more requests for now",
    PARTNER_UNAVAILABLE: "it cannot be reached",
    EGRESS_DENIED: "its address is one that may not be called",
}
_ADVICE: Final = {
    PARTNER_FAULT: "record what travels with SetExchangeRecording, and show it to the partner",
    EGRESS_DENIED: "correct its address with UpdateIntegration",
}


class Urgency(IntEnum):
    """The most urgent first."""

    NOW = auto()
    MORNING = auto()
    WAITS = auto()
    WELL = auto()


class Condition(NamedTuple):
    urgency: Urgency
    what: str
    since: datetime | None = None
    advice: str = ""


def conditions(
    integration: Integration, status: PartnerStatus, trouble: Trouble, runs: Sequence[FailedRun], now: datetime
) -> list[Condition]:
    """At least one; the most urgent first."""
    found = [_connection(integration, status, trouble, runs, now)]
    if trouble.untaken:
        what = f"no process takes its deliveries: {counted(trouble.untaken, 'is', 'are')} due"
        advice = "start a process with EVBRIDGE_DELIVERY=true; if one runs, read its log"
        found.append(Condition(Urgency.NOW, what, trouble.untaken_since, advice))
    if parked := status.deliveries.parked_count:
        what = f"{counted(parked, 'delivery is', 'deliveries are')} parked: {_names(trouble.parked_reasons)}"
        advice = "see why with ListDeliveries (DELIVERY_STATE_PARKED); correct the object, or RetryParkedDeliveries"
        found.append(Condition(Urgency.MORNING, what, trouble.parked_since, advice))
    for run in runs:
        what = f"the last {RunKind.Name(run.kind)} failed: {ErrorReason.Name(run.reason)}"
        found.append(Condition(Urgency.MORNING, what, run.end_time, "see at which step with ListRuns and GetRun"))
    found.sort(key=lambda each: each.urgency)
    return [each for each in found if each.urgency is not Urgency.WELL] or found


def _connection(
    integration: Integration, status: PartnerStatus, trouble: Trouble, runs: Sequence[FailedRun], now: datetime
) -> Condition:
    if integration.HasField("pause_time"):
        what = f"it is paused: {integration.pause_reason or 'nobody said why'}"
        since = integration.pause_time.ToDatetime(UTC)
        return Condition(Urgency.WAITS, what, since, "ResumeIntegration, once that is over; what changed goes then")
    if not integration.enabled:
        return Condition(Urgency.WELL, "it is switched off (`enabled` is false)")
    if integration.status == INTEGRATION_STATUS_UNREGISTERED:
        return Condition(Urgency.MORNING, "the connection was ended", None, "ask the partner why, and register again")
    if integration.status == INTEGRATION_STATUS_FAILED:
        return _failed(integration, status, trouble, runs, now)
    if status.HasField("limit_reset_time"):
        what, then = _WORDS[PARTNER_RATE_LIMITED], at(status.limit_reset_time)
        return Condition(Urgency.WAITS, what, None, f"nothing: it goes on at {then}")
    if integration.status == INTEGRATION_STATUS_CONNECTING:
        return Condition(Urgency.WAITS, "credentials are being exchanged with it")
    if integration.status == INTEGRATION_STATUS_ACTIVE:
        return Condition(Urgency.WELL, "it takes what it is sent")
    return Condition(Urgency.WELL, "nothing was sent yet")


def _failed(
    integration: Integration, status: PartnerStatus, trouble: Trouble, runs: Sequence[FailedRun], now: datetime
) -> Condition:
    since, reason = trouble.failing_since, trouble.failure
    if since is None:
        exchange = max(runs, key=lambda run: run.end_time, default=None)
        # Where there are neither deliveries nor exchanges, what failed is the credential of a call.
        since, reason = (exchange.end_time, exchange.reason) if exchange else (None, PARTNER_CREDENTIAL_REFUSED)
    words = _WORDS.get(reason, "nothing succeeds") if reason else "nothing succeeds"
    what = f"{words} ({integration.status_description})" if integration.status_description else words
    if reason == PARTNER_CREDENTIAL_REFUSED:
        told = "register again" if integration.type == INTEGRATION_TYPE_OCPI else "an admin sets it: UpdateIntegration"
        return Condition(Urgency.NOW, what, since, f"get a credential that holds from the partner; {told}")
    if reason in _ADVICE:
        return Condition(Urgency.MORNING, what, since, _ADVICE[reason])
    if not trouble.failing_since:
        return Condition(Urgency.MORNING, what, since, "start the run again, once the cause is gone")
    if not status.deliveries.pending_count + status.deliveries.in_progress_count:
        return Condition(Urgency.WAITS, what, since, "nothing: nothing is due, and what changes next is tried then")
    again = f" at {at(status.delivery_resume_time)}" if status.HasField("delivery_resume_time") else ""
    advice = f"nothing: it is tried again{again}, and nothing is lost"
    if reason != PARTNER_RATE_LIMITED and since and now - since > _LASTING:
        return Condition(Urgency.MORNING, what, since, f"{advice}; ask the partner in the morning")
    return Condition(Urgency.WAITS, what, since, advice)


def at(time: Timestamp) -> str:
    return f"{time.ToDatetime():%Y-%m-%d %H:%M:%S} UTC"


def _names(reasons: Sequence[ErrorReason.ValueType]) -> str:
    return ", ".join(map(ErrorReason.Name, reasons))


def counted(count: int, one: str, several: str) -> str:
    return f"{count} {one if count == 1 else several}"

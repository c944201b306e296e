"""What a partner's answer, or none, means to a caller. Only here does an HTTP status become one of our errors."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from service.bridge.addresses import server
from service.bridge.egress import (
    CONNECT_TIMEOUT_S,
    AddressDenied,
    Answer,
    AnswerTimeout,
    ConnectFailed,
    ConnectTimeout,
    EgressError,
)
from service.bridge.ports import Behaviour, Refusal, Target
from service.bridge.redaction import redacted_text
from service.bridge.registry import Operation
from service.domain.partner_error import (
    PartnerCredentialRefused,
    PartnerError,
    PartnerFault,
    PartnerNotFound,
    PartnerOutcomeUnknown,
    PartnerRateLimited,
    PartnerRejected,
    PartnerUnavailable,
    PartnerVersionConflict,
)
from service.errors import EgressDenied, EvbridgeError, FieldViolation

_NOT_IN_A_CODE = re.compile(r"[^A-Za-z0-9_.-]")
_MAX_TEXT = 200
_MAX_READ = 8192  # of which that is shown
_MAX_EXPLAINED = 1 << 18
_MAX_VIOLATIONS = 50
_RATE_LIMIT_PAUSE_S = 10.0
"""What a 429 that does not say when to try again asks for."""

# 503 and 429 are said at the door: the request was not carried out.
_BY_STATUS: Mapping[int, type[PartnerError]] = {
    401: PartnerCredentialRefused,
    403: PartnerCredentialRefused,
    404: PartnerNotFound,
    408: PartnerUnavailable,
    409: PartnerVersionConflict,
    410: PartnerNotFound,
    412: PartnerVersionConflict,
    429: PartnerRateLimited,
    502: PartnerUnavailable,
    503: PartnerUnavailable,
    504: PartnerUnavailable,
}
# Behind these a request that changes something may still have been, or be, carried out.
_PERHAPS_CARRIED_OUT = frozenset({408, 502, 504})


def refused(operation: Operation, target: Target, answer: Answer, behaviour: Behaviour | None) -> PartnerError:
    """The error that an answer which is not 2xx stands for; `behaviour` reads its body."""
    body = answer.body or b""
    refusal = behaviour.explain(answer.status, body) if behaviour and len(body) <= _MAX_EXPLAINED else Refusal()
    fallback = PartnerRejected if 400 <= answer.status < 500 else PartnerFault
    error_class = _BY_STATUS.get(answer.status, fallback)
    if answer.status in _PERHAPS_CARRIED_OUT and not operation.safe:
        error_class = PartnerOutcomeUnknown
    now = datetime.now(UTC)
    return error_class(
        f"{target.partner} answered with HTTP status {answer.status}",
        partner=target.partner,
        http_status=answer.status,
        partner_code=_NOT_IN_A_CODE.sub("", redacted_text(refusal.code[:_MAX_READ], target))[:100],
        partner_message=_text(refusal.message, target),
        violations=tuple(
            FieldViolation(
                _text(_field_path(each.path, operation) or each.path, target), _text(each.description, target)
            )
            for each in refusal.violations[:_MAX_VIOLATIONS]
        ),
        retry_after_s=limit_reached_s(answer, now) or _retry_after_s(answer.headers.get("Retry-After", ""), now),
    )


def unanswered(operation: Operation, target: Target, error: EgressError) -> EvbridgeError:
    """The error that stands for a request without an answer: one that changes something may have been carried out."""
    if isinstance(error, AddressDenied):
        return EgressDenied(f"a request to {target.partner} was held back: {error}", host=server(target.base_url)[0])
    no_effect = operation.safe or isinstance(error, ConnectFailed)
    return (PartnerUnavailable if no_effect else PartnerOutcomeUnknown)(
        f"no answer from {target.partner}: {error}", partner=target.partner
    )


def caller_was_short(error: EgressError, target: Target, timeout_s: float) -> bool:
    """Whether the caller gave so little time that the error says nothing about the partner."""
    if isinstance(error, ConnectTimeout):
        return timeout_s < CONNECT_TIMEOUT_S
    return isinstance(error, AnswerTimeout) and timeout_s < target.timeout_s / 3


def limit_reached_s(answer: Answer, now: datetime) -> float | None:
    """For how long the partner takes nothing more, after a 429 or the last answer of a window; else None.

    X-RateLimit-Reset is a time in seconds since 1970, or a number of seconds.
    """
    headers = answer.headers
    if answer.status != 429 and headers.get("X-RateLimit-Remaining", "").strip() != "0":
        return None
    reset = headers.get("X-RateLimit-Reset", "").strip()
    if len(reset) == 10 and reset.isascii() and reset.isdigit():
        reset = str(max(0, int(reset) - int(now.timestamp())))
    return _retry_after_s(headers.get("Retry-After", ""), now) or _retry_after_s(reset, now) or _RATE_LIMIT_PAUSE_S


def _field_path(pointer: str, operation: Operation) -> str:
    """Where in our request a place of the body (RFC 6901) is; "" when the contract does not know it."""
    names = [name.replace("~1", "/").replace("~0", "~") for name in pointer.split("/")[1:]]
    return operation.body.field_path(names) if operation.body else ""


def _text(text: str, target: Target) -> str:
    """A partner's words for people: without the credential, on one line, bounded."""
    shown = redacted_text(text[:_MAX_READ], target)[:_MAX_TEXT]
    return "".join(character if character.isprintable() else " " for character in shown)


def _retry_after_s(value: str, now: datetime) -> float | None:
    """The pause a Retry-After header asks for, in seconds or until a date (RFC 9110, 10.2.3), held to 1 s to 1 h."""
    if value.isascii() and value.isdigit():
        seconds = float(value)
    else:
        try:
            until = parsedate_to_datetime(value)
        except (ValueError, OverflowError):
            return None
        seconds = (until.replace(tzinfo=until.tzinfo or UTC) - now).total_seconds()
    return min(max(seconds, 1.0), 3600.0)

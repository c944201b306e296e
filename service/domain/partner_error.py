"""What a partner answered, or did not: the part of the tree of `service.errors` that a call of a partner ends with.

PartnerError
├── PartnerUnavailable        UNAVAILABLE          no effect there
├── PartnerRateLimited        RESOURCE_EXHAUSTED   no effect there
├── PartnerCredentialRefused  FAILED_PRECONDITION  no effect there
├── PartnerRejected           INVALID_ARGUMENT     no effect there
├── PartnerNotFound           NOT_FOUND            no effect there
├── PartnerVersionConflict    ABORTED              no effect there
├── PartnerOutcomeUnknown     UNAVAILABLE          effect unknown
│   └── PartnerOutcomeUnsettled                    and reading does not tell
├── PartnerFault              INTERNAL             effect unknown
└── PartnerChanged            ABORTED              found by reading
"""

from typing import ClassVar

from evbridge.v1 import error_reason_pb2 as reasons
from google.rpc import code_pb2 as codes

from service.errors import EvbridgeError, FieldViolation


class PartnerError(EvbridgeError):
    """A partner call that did not succeed.

    `http_status` is 0 without an answer; `partner_code` is the partner's own code, already bounded to
    `[A-Za-z0-9_.-]{0,100}`; `partner_message` its own words for people, bounded and free of credentials. It goes to the
    caller alone: not into `message`, a log or a row.
    """

    retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        partner: str,
        http_status: int = 0,
        partner_code: str = "",
        partner_message: str = "",
        violations: tuple[FieldViolation, ...] = (),
        retry_after_s: float | None = None,
        **metadata: str,
    ) -> None:
        if http_status:
            metadata["http_status"] = str(http_status)
        if partner_code:
            metadata["partner_code"] = partner_code
        if partner_message:
            metadata["partner_message"] = partner_message
        metadata["retryable"] = str(self.retryable).lower()
        super().__init__(message, violations=violations, retry_after_s=retry_after_s, partner=partner, **metadata)
        self.http_status = http_status
        self.partner_code = partner_code


class PartnerUnavailable(PartnerError):
    code = codes.UNAVAILABLE
    reason = reasons.PARTNER_UNAVAILABLE
    retryable = True


class PartnerRateLimited(PartnerError):
    code = codes.RESOURCE_EXHAUSTED
    reason = reasons.PARTNER_RATE_LIMITED
    retryable = True


class PartnerCredentialRefused(PartnerError):
    code = codes.FAILED_PRECONDITION
    reason = reasons.PARTNER_CREDENTIAL_REFUSED


class PartnerRejected(PartnerError):
    code = codes.INVALID_ARGUMENT
    reason = reasons.PARTNER_REJECTED


class PartnerNotFound(PartnerError):
    code = codes.NOT_FOUND
    reason = reasons.PARTNER_NOT_FOUND


class PartnerVersionConflict(PartnerError):
    code = codes.ABORTED
    reason = reasons.PARTNER_VERSION_CONFLICT


class PartnerOutcomeUnknown(PartnerError):
    code = codes.UNAVAILABLE
    reason = reasons.PARTNER_OUTCOME_UNKNOWN


class PartnerOutcomeUnsettled(PartnerOutcomeUnknown):
    """Nothing is sent again before somebody says so."""


class PartnerFault(PartnerError):
    code = codes.INTERNAL
    reason = reasons.PARTNER_FAULT


class PartnerChanged(PartnerError):
    code = codes.ABORTED
    reason = reasons.PARTNER_CHANGED

"""Everything that can go wrong, as one tree; each class has a gRPC code and a reason of `error_reason.proto`.

    EvbridgeError
    ├── InvalidArgument             INVALID_ARGUMENT     with field violations
    │   ├── MalformedRequest
    │   ├── InvalidPageToken
    │   ├── RequestIdReused
    │   └── ImmutableField
    ├── CredentialRequired          UNAUTHENTICATED
    ├── CredentialExpired           UNAUTHENTICATED
    ├── JwtInvalid                  UNAUTHENTICATED
    ├── JwtKeysUnavailable          UNAUTHENTICATED      with RetryInfo
    ├── RoleRequired                PERMISSION_DENIED
    ├── KeyLimited                  PERMISSION_DENIED
    ├── ResourceNotFound            NOT_FOUND
    ├── ResourceExists              ALREADY_EXISTS
    ├── CdrRecorded                 ALREADY_EXISTS
    ├── CdrCredited                 FAILED_PRECONDITION
    ├── VersionConflict             ABORTED
    ├── EtagMismatch                ABORTED
    ├── IntegrationHasObjects       FAILED_PRECONDITION
    ├── ReferenceNotFound           FAILED_PRECONDITION  with field violations
    ├── PlatformUnsuitable          FAILED_PRECONDITION  with field violations
    ├── IntegrationInUse            FAILED_PRECONDITION
    ├── PartyInUse                  FAILED_PRECONDITION
    ├── TariffInUse                 FAILED_PRECONDITION
    ├── TariffsActiveTogether       FAILED_PRECONDITION  with field violations
    ├── ReceivedIsReadOnly          FAILED_PRECONDITION
    ├── TariffRevisionNotKept       FAILED_PRECONDITION
    ├── TariffNotShown              FAILED_PRECONDITION
    ├── SiteHasNoChargers           FAILED_PRECONDITION
    ├── TooManyRules                FAILED_PRECONDITION
    ├── DeliveryInProgress          FAILED_PRECONDITION
    ├── RunUnsupported              FAILED_PRECONDITION
    ├── TariffNotRepresentable      FAILED_PRECONDITION  with field violations
    ├── ObjectNotRepresentable      FAILED_PRECONDITION  of a delivery, no call
    ├── TariffNotDelivered          FAILED_PRECONDITION  of a delivery, no call
    ├── TariffStillNamed            FAILED_PRECONDITION  of a delivery, no call
    ├── DeliveryUnfinished          FAILED_PRECONDITION  of a delivery, no call
    ├── IntegrationHasNoParty       FAILED_PRECONDITION
    ├── OcpiNotServed               FAILED_PRECONDITION
    ├── TokenRejected               FAILED_PRECONDITION  of a run, no call
    ├── NoCommonVersion             FAILED_PRECONDITION  of a run, no call
    ├── CallbackFailed              FAILED_PRECONDITION  of a run, no call
    ├── EndpointMissing             FAILED_PRECONDITION  of a run, no call
    ├── AlreadyRegistered           FAILED_PRECONDITION  of a run, no call
    ├── NotRegistered               FAILED_PRECONDITION  of a run, no call
    ├── MassRemoval                 FAILED_PRECONDITION  of a run, no call
    ├── RunInProgress               ALREADY_EXISTS
    ├── RunEnded                    FAILED_PRECONDITION
    ├── RunAbandoned                INTERNAL             of a run, no call
    ├── IntegrationDisabled         FAILED_PRECONDITION
    ├── DatabaseUnavailable         UNAVAILABLE          with RetryInfo
    │   └── DatabaseFull
    ├── ServerBusy                  RESOURCE_EXHAUSTED   with RetryInfo
    ├── TooManyCalls                RESOURCE_EXHAUSTED   with RetryInfo
    ├── RateLimited                 RESOURCE_EXHAUSTED   with RetryInfo
    ├── RequestTooLarge             RESOURCE_EXHAUSTED
    ├── RequestIncomplete           DEADLINE_EXCEEDED
    ├── ReaderTooSlow               RESOURCE_EXHAUSTED
    ├── ResumeTokenTooOld           OUT_OF_RANGE
    ├── ResumeTokenForeign          OUT_OF_RANGE
    ├── ServerStopping              UNAVAILABLE          with RetryInfo
    ├── DeadlineLimit               DEADLINE_EXCEEDED
    ├── EgressDenied                FAILED_PRECONDITION
    └── PartnerError                what a partner answered, or did not
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

Messages are for people and never hold a secret, a driver's or a partner's text. No code reads them.

LeaseLost stands beside the tree: no caller sees it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Self

from evbridge.v1 import error_reason_pb2 as reasons
from google.rpc import code_pb2 as codes


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One field that breaks a rule. `path` is written as in the request: `company.supported_emp_ids[3]`.

    `no_time`: it is a Timestamp that stands for no time, which nothing can be compared with.
    """

    path: str
    description: str
    no_time: bool = field(default=False, compare=False)


class LeaseLost(Exception):
    """The work was taken over by another worker, or is gone: whoever had it stops, and writes nothing more."""


class EvbridgeError(Exception):
    """Base of all. `metadata` goes into the ErrorInfo, `retry_after_s` into a RetryInfo."""

    code: ClassVar[int] = codes.INTERNAL
    reason: ClassVar[reasons.ErrorReason.ValueType] = reasons.INTERNAL_FAULT

    def __init__(
        self,
        message: str,
        *,
        violations: tuple[FieldViolation, ...] = (),
        retry_after_s: float | None = None,
        **metadata: str,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.violations = violations
        self.retry_after_s = retry_after_s
        self.metadata = metadata


class InvalidArgument(EvbridgeError):
    code = codes.INVALID_ARGUMENT
    reason = reasons.INVALID_FIELD

    @classmethod
    def field(cls, path: str, description: str) -> Self:
        return cls.of((FieldViolation(path, description),))

    @classmethod
    def of(cls, violations: tuple[FieldViolation, ...], whole: str = "request") -> Self:
        """The message names the first and how many more there are; `whole` is what an empty path means."""
        first, more = violations[0], len(violations) - 1
        others = f" (and {more} more)" if more else ""
        return cls(f"{first.path or whole}: {first.description}{others}", violations=violations)


class MalformedRequest(InvalidArgument):
    reason = reasons.MALFORMED_REQUEST


class InvalidPageToken(InvalidArgument):
    reason = reasons.INVALID_PAGE_TOKEN


class RequestIdReused(InvalidArgument):
    reason = reasons.REQUEST_ID_REUSED


class ImmutableField(InvalidArgument):
    reason = reasons.IMMUTABLE_FIELD


class CredentialRequired(EvbridgeError):
    code = codes.UNAUTHENTICATED
    reason = reasons.CREDENTIAL_REQUIRED


class CredentialExpired(EvbridgeError):
    code = codes.UNAUTHENTICATED
    reason = reasons.CREDENTIAL_EXPIRED


class JwtInvalid(EvbridgeError):
    code = codes.UNAUTHENTICATED
    reason = reasons.JWT_INVALID


class JwtKeysUnavailable(EvbridgeError):
    code = codes.UNAUTHENTICATED
    reason = reasons.JWT_KEYS_UNAVAILABLE


class RoleRequired(EvbridgeError):
    code = codes.PERMISSION_DENIED
    reason = reasons.ROLE_REQUIRED


class KeyLimited(EvbridgeError):
    code = codes.PERMISSION_DENIED
    reason = reasons.KEY_LIMITED


class ResourceNotFound(EvbridgeError):
    code = codes.NOT_FOUND
    reason = reasons.RESOURCE_NOT_FOUND

    @classmethod
    def of(cls, resource: str, id: str) -> "ResourceNotFound":
        return cls(f"{resource} {id} does not exist", resource=resource, id=id)


class ResourceExists(EvbridgeError):
    code = codes.ALREADY_EXISTS
    reason = reasons.RESOURCE_EXISTS


class CdrRecorded(EvbridgeError):
    code = codes.ALREADY_EXISTS
    reason = reasons.CDR_RECORDED


class CdrCredited(EvbridgeError):
    code = codes.FAILED_PRECONDITION
    reason = reasons.CDR_CREDITED


class VersionConflict(EvbridgeError):
    code = codes.ABORTED
    reason = reasons.VERSION_CONFLICT


class EtagMismatch(EvbridgeError):
    code = codes.ABORTED
    reason = reasons.ETAG_MISMATCH


class IntegrationHasObjects(EvbridgeError):
    code = codes.FAILED_PRECONDITION
    reason = reasons.INTEGRATION_HAS_OBJECTS


class ReferenceNotFound(EvbridgeError):
    code = codes.FAILED_PRECONDITION
    reason = reasons.REFERENCE_NOT_FOUND


class PlatformUnsuitable(EvbridgeError):
    code = codes.FAILED_PRECONDITION
    reason = reasons.PLATFORM_UNSUITABLE


class IntegrationInUse(EvbridgeError):
    code = codes.FAILED_PRECONDITION
    reason = reasons.INTEGRATION_IN_USE


class PartyInUse(EvbridgeError):
    code = codes.FAILED_PRECONDITION
    reason = reasons.PARTY_IN_USE


class TariffInUse(EvbridgeError):
    code = codes.FAILED_PRECONDITION
    reason = reasons.TARIFF_IN_USE


class TariffsActiveTogether(EvbridgeError):
    code = codes.FAILED_PRECONDITION
    reason = reasons.TARIFFS_ACTIVE_TOGETHER


class ReceivedIsReadOnly(EvbridgeError):
    code = codes.FAILED_PRECONDITION
    reason = reasons.RECEIVED_IS_READ_ONLY


class TariffRevisionNotKept(EvbridgeError):
    code = codes.FAILED_PRECONDITION
    reason = reasons.TARIFF_REVISION_NOT_KEPT


class TariffNotShown(EvbridgeError):
    code = codes.FAILED_PRECONDITION
    reason = reasons.TARIFF_NOT_SHOWN


class SiteHasNoChargers(EvbridgeError):
    code = codes.FAILED_PRECONDITION
    reason = reasons.SITE_HAS_NO_CHARGERS


class TooManyRules(EvbridgeError):
    code = codes.FAILED_PRECONDITION
    reason = reasons.TOO_MANY_RULES


class DeliveryInProgress(EvbridgeError):
    code = codes.FAILED_PRECONDITION
    reason = reasons.DELIVERY_IN_PROGRESS


class RunUnsupported(EvbridgeError):
    code = codes.FAILED_PRECONDITION
    reason = reasons.RUN_UNSUPPORTED


class TariffNotRepresentable(EvbridgeError):
    code = codes.FAILED_PRECONDITION
    reason = reasons.TARIFF_NOT_REPRESENTABLE

    @classmethod
    def at(cls, violations: Sequence[FieldViolation], message: str, *, partner: str, id: str) -> Self:
        """With the fields in the message too, which is what a delivery keeps of it."""
        paths = ", ".join(each.path for each in violations)
        return cls(f"{message}: {paths}"[:500], violations=tuple(violations), partner=partner, id=id)


class ObjectNotRepresentable(EvbridgeError):
    code = codes.FAILED_PRECONDITION
    reason = reasons.OBJECT_NOT_REPRESENTABLE


class TariffNotDelivered(EvbridgeError):
    code = codes.FAILED_PRECONDITION
    reason = reasons.TARIFF_NOT_DELIVERED


class TariffStillNamed(EvbridgeError):
    code = codes.FAILED_PRECONDITION
    reason = reasons.TARIFF_STILL_NAMED


class DeliveryUnfinished(EvbridgeError):
    code = codes.FAILED_PRECONDITION
    reason = reasons.DELIVERY_UNFINISHED


class IntegrationHasNoParty(EvbridgeError):
    code = codes.FAILED_PRECONDITION
    reason = reasons.INTEGRATION_HAS_NO_PARTY


class OcpiNotServed(EvbridgeError):
    code = codes.FAILED_PRECONDITION
    reason = reasons.OCPI_NOT_SERVED


class TokenRejected(EvbridgeError):
    code = codes.FAILED_PRECONDITION
    reason = reasons.TOKEN_REJECTED


class NoCommonVersion(EvbridgeError):
    code = codes.FAILED_PRECONDITION
    reason = reasons.NO_COMMON_VERSION


class CallbackFailed(EvbridgeError):
    code = codes.FAILED_PRECONDITION
    reason = reasons.CALLBACK_FAILED


class EndpointMissing(EvbridgeError):
    code = codes.FAILED_PRECONDITION
    reason = reasons.ENDPOINT_MISSING


class AlreadyRegistered(EvbridgeError):
    code = codes.FAILED_PRECONDITION
    reason = reasons.ALREADY_REGISTERED


class NotRegistered(EvbridgeError):
    code = codes.FAILED_PRECONDITION
    reason = reasons.NOT_REGISTERED


class MassRemoval(EvbridgeError):
    code = codes.FAILED_PRECONDITION
    reason = reasons.MASS_REMOVAL


class RunInProgress(EvbridgeError):
    code = codes.ALREADY_EXISTS
    reason = reasons.RUN_IN_PROGRESS


class RunEnded(EvbridgeError):
    code = codes.FAILED_PRECONDITION
    reason = reasons.RUN_ENDED


class RunAbandoned(EvbridgeError):
    reason = reasons.RUN_ABANDONED


class IntegrationDisabled(EvbridgeError):
    code = codes.FAILED_PRECONDITION
    reason = reasons.INTEGRATION_DISABLED


class DatabaseUnavailable(EvbridgeError):
    code = codes.UNAVAILABLE
    reason = reasons.DATABASE_UNAVAILABLE


class DatabaseFull(DatabaseUnavailable):
    reason = reasons.DATABASE_FULL


class ServerBusy(EvbridgeError):
    code = codes.RESOURCE_EXHAUSTED
    reason = reasons.SERVER_BUSY


class TooManyCalls(EvbridgeError):
    code = codes.RESOURCE_EXHAUSTED
    reason = reasons.TOO_MANY_CALLS


class RateLimited(EvbridgeError):
    code = codes.RESOURCE_EXHAUSTED
    reason = reasons.RATE_LIMITED


class RequestTooLarge(EvbridgeError):
    code = codes.RESOURCE_EXHAUSTED
    reason = reasons.REQUEST_TOO_LARGE


class RequestIncomplete(EvbridgeError):
    code = codes.DEADLINE_EXCEEDED
    reason = reasons.REQUEST_INCOMPLETE


class ReaderTooSlow(EvbridgeError):
    code = codes.RESOURCE_EXHAUSTED
    reason = reasons.READER_TOO_SLOW


class ResumeTokenTooOld(EvbridgeError):
    code = codes.OUT_OF_RANGE
    reason = reasons.RESUME_TOKEN_TOO_OLD


class ResumeTokenForeign(EvbridgeError):
    code = codes.OUT_OF_RANGE
    reason = reasons.RESUME_TOKEN_FOREIGN


class ServerStopping(EvbridgeError):
    code = codes.UNAVAILABLE
    reason = reasons.SERVER_STOPPING


class DeadlineLimit(EvbridgeError):
    code = codes.DEADLINE_EXCEEDED
    reason = reasons.DEADLINE_LIMIT


class EgressDenied(EvbridgeError):
    code = codes.FAILED_PRECONDITION
    reason = reasons.EGRESS_DENIED


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

"""Everything that can go wrong, as one tree; each class has a gRPC code and a reason of `error_reason.proto`.

    EvbridgeError
    ├── InvalidArgument       with field violations
    ├── Unauthenticated
    ├── PermissionDenied
    ├── AlreadyExists
    ├── FailedPrecondition    with field violations where fields are at fault
    ├── Aborted
    ├── OutOfRange
    ├── ResourceExhausted     with RetryInfo where waiting helps
    ├── those with a code of their own: ResourceNotFound, DatabaseUnavailable, DeadlineLimit, ...
    └── PartnerError          what a partner answered, or did not: see `service.domain.partner_error`

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


class Unauthenticated(EvbridgeError):
    code = codes.UNAUTHENTICATED


class CredentialRequired(Unauthenticated):
    reason = reasons.CREDENTIAL_REQUIRED


class CredentialExpired(Unauthenticated):
    reason = reasons.CREDENTIAL_EXPIRED


class JwtInvalid(Unauthenticated):
    reason = reasons.JWT_INVALID


class JwtKeysUnavailable(Unauthenticated):
    reason = reasons.JWT_KEYS_UNAVAILABLE


class PermissionDenied(EvbridgeError):
    code = codes.PERMISSION_DENIED


class RoleRequired(PermissionDenied):
    reason = reasons.ROLE_REQUIRED


class KeyLimited(PermissionDenied):
    reason = reasons.KEY_LIMITED


class AlreadyExists(EvbridgeError):
    code = codes.ALREADY_EXISTS


class ResourceExists(AlreadyExists):
    reason = reasons.RESOURCE_EXISTS


class CdrRecorded(AlreadyExists):
    reason = reasons.CDR_RECORDED


class RunInProgress(AlreadyExists):
    reason = reasons.RUN_IN_PROGRESS


class FailedPrecondition(EvbridgeError):
    code = codes.FAILED_PRECONDITION


class CdrCredited(FailedPrecondition):
    reason = reasons.CDR_CREDITED


class IntegrationHasObjects(FailedPrecondition):
    reason = reasons.INTEGRATION_HAS_OBJECTS


class ReferenceNotFound(FailedPrecondition):
    reason = reasons.REFERENCE_NOT_FOUND


class PlatformUnsuitable(FailedPrecondition):
    reason = reasons.PLATFORM_UNSUITABLE


class IntegrationInUse(FailedPrecondition):
    reason = reasons.INTEGRATION_IN_USE


class PartyInUse(FailedPrecondition):
    reason = reasons.PARTY_IN_USE


class TariffInUse(FailedPrecondition):
    reason = reasons.TARIFF_IN_USE


class TariffsActiveTogether(FailedPrecondition):
    reason = reasons.TARIFFS_ACTIVE_TOGETHER


class ReceivedIsReadOnly(FailedPrecondition):
    reason = reasons.RECEIVED_IS_READ_ONLY


class SessionEnded(FailedPrecondition):
    reason = reasons.SESSION_ENDED


class TariffRevisionNotKept(FailedPrecondition):
    reason = reasons.TARIFF_REVISION_NOT_KEPT


class TariffNotShown(FailedPrecondition):
    reason = reasons.TARIFF_NOT_SHOWN


class SiteHasNoChargers(FailedPrecondition):
    reason = reasons.SITE_HAS_NO_CHARGERS


class TooManyRules(FailedPrecondition):
    reason = reasons.TOO_MANY_RULES


class DeliveryInProgress(FailedPrecondition):
    reason = reasons.DELIVERY_IN_PROGRESS


class RunUnsupported(FailedPrecondition):
    reason = reasons.RUN_UNSUPPORTED


class TariffNotRepresentable(FailedPrecondition):
    reason = reasons.TARIFF_NOT_REPRESENTABLE

    @classmethod
    def at(cls, violations: Sequence[FieldViolation], message: str, *, partner: str, id: str) -> Self:
        """With what is wrong in the message too, which is what a delivery keeps of it."""
        wrong = "; ".join(f"{each.path}: {each.description}" for each in violations)
        return cls(f"{message}: {wrong}"[:500], violations=tuple(violations), partner=partner, id=id)


class IntegrationHasNoParty(FailedPrecondition):
    reason = reasons.INTEGRATION_HAS_NO_PARTY


class OcpiNotServed(FailedPrecondition):
    reason = reasons.OCPI_NOT_SERVED


class RunEnded(FailedPrecondition):
    reason = reasons.RUN_ENDED


class IntegrationDisabled(FailedPrecondition):
    reason = reasons.INTEGRATION_DISABLED

    @classmethod
    def of(cls, id: str) -> "IntegrationDisabled":
        return cls(f"the integration {id} is disabled", id=id)


class EgressDenied(FailedPrecondition):
    reason = reasons.EGRESS_DENIED


class Aborted(EvbridgeError):
    code = codes.ABORTED


class VersionConflict(Aborted):
    reason = reasons.VERSION_CONFLICT


class EtagMismatch(Aborted):
    reason = reasons.ETAG_MISMATCH


class OutOfRange(EvbridgeError):
    code = codes.OUT_OF_RANGE


class ResumeTokenTooOld(OutOfRange):
    reason = reasons.RESUME_TOKEN_TOO_OLD


class ResumeTokenForeign(OutOfRange):
    reason = reasons.RESUME_TOKEN_FOREIGN


class ResourceExhausted(EvbridgeError):
    code = codes.RESOURCE_EXHAUSTED


class ServerBusy(ResourceExhausted):
    reason = reasons.SERVER_BUSY


class TooManyCalls(ResourceExhausted):
    reason = reasons.TOO_MANY_CALLS


class RateLimited(ResourceExhausted):
    reason = reasons.RATE_LIMITED


class RequestTooLarge(ResourceExhausted):
    reason = reasons.REQUEST_TOO_LARGE


class ReaderTooSlow(ResourceExhausted):
    reason = reasons.READER_TOO_SLOW


class ResourceNotFound(EvbridgeError):
    code = codes.NOT_FOUND
    reason = reasons.RESOURCE_NOT_FOUND

    @classmethod
    def of(cls, resource: str, id: str) -> "ResourceNotFound":
        return cls(f"{resource} {id} does not exist", resource=resource, id=id)


class DatabaseUnavailable(EvbridgeError):
    code = codes.UNAVAILABLE
    reason = reasons.DATABASE_UNAVAILABLE


class DatabaseFull(DatabaseUnavailable):
    reason = reasons.DATABASE_FULL


class RequestIncomplete(EvbridgeError):
    code = codes.DEADLINE_EXCEEDED
    reason = reasons.REQUEST_INCOMPLETE


class ServerStopping(EvbridgeError):
    code = codes.UNAVAILABLE
    reason = reasons.SERVER_STOPPING


class DeadlineLimit(EvbridgeError):
    code = codes.DEADLINE_EXCEEDED
    reason = reasons.DEADLINE_LIMIT


# What deliveries and runs end with, and no call.


class ObjectNotRepresentable(FailedPrecondition):
    reason = reasons.OBJECT_NOT_REPRESENTABLE


class TariffNotDelivered(FailedPrecondition):
    reason = reasons.TARIFF_NOT_DELIVERED


class TariffStillNamed(FailedPrecondition):
    reason = reasons.TARIFF_STILL_NAMED


class DeliveryUnfinished(FailedPrecondition):
    reason = reasons.DELIVERY_UNFINISHED


class TokenRejected(FailedPrecondition):
    reason = reasons.TOKEN_REJECTED


class NoCommonVersion(FailedPrecondition):
    reason = reasons.NO_COMMON_VERSION


class CallbackFailed(FailedPrecondition):
    reason = reasons.CALLBACK_FAILED


class EndpointMissing(FailedPrecondition):
    reason = reasons.ENDPOINT_MISSING


class AlreadyRegistered(FailedPrecondition):
    reason = reasons.ALREADY_REGISTERED


class NotRegistered(FailedPrecondition):
    reason = reasons.NOT_REGISTERED


class MassRemoval(FailedPrecondition):
    reason = reasons.MASS_REMOVAL


class RunAbandoned(EvbridgeError):
    reason = reasons.RUN_ABANDONED

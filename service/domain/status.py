"""The one place where an error becomes a google.rpc.Status."""

from evbridge.v1 import error_reason_pb2 as reasons
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from service.errors import EvbridgeError, FieldViolation

DOMAIN = "evbridge"
# Clients refuse trailers of more than 8 KiB, and then see neither code nor reason. A character can take 12 bytes there.
_MESSAGE_CHARACTERS = 200
_VIOLATIONS_BYTES = 3 << 10


def status_of(error: EvbridgeError) -> status_pb2.Status:
    """Code, message, an ErrorInfo with the reason, and what else the error has to say."""
    details: list[Message] = [
        error_details_pb2.ErrorInfo(
            reason=reasons.ErrorReason.Name(error.reason), domain=DOMAIN, metadata=error.metadata
        )
    ]
    if error.violations:
        details.append(_bad_request(error.violations))
    if error.retry_after_s is not None:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(int(error.retry_after_s * 1000))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    packed = []
    for detail in details:
        packed.append(any_pb2.Any())
        packed[-1].Pack(detail)
    return status_pb2.Status(code=error.code, message=error.message[:_MESSAGE_CHARACTERS], details=packed)


def _bad_request(violations: tuple[FieldViolation, ...]) -> error_details_pb2.BadRequest:
    """As many violations as there is room for."""
    bad = error_details_pb2.BadRequest()
    for violation in violations:
        description = violation.description[:_MESSAGE_CHARACTERS]
        bad.field_violations.add(field=violation.path, description=description)
        if bad.ByteSize() > _VIOLATIONS_BYTES:
            del bad.field_violations[-1]
            break
    return bad

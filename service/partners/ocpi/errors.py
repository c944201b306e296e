"""OCPI: the status codes of its envelopes. The contract says the rest."""

from evbridge.partner.ocpi.v2.versions_pb2 import VersionsResponse
from google.protobuf.message import Message

from service.bridge.codec import CodecError, compile_codec
from service.bridge.ports import Refusal
from service.domain.partner_error import (
    PartnerError,
    PartnerFault,
    PartnerNotFound,
    PartnerRejected,
    PartnerUnavailable,
)

# Source: OCPI 2.2.1, status codes. 2003 and 2004: unknown location, unknown token; 4001 to 4003: a hub's receiver is
# unknown, did not answer in time, is not connected.
_BY_CODE: dict[int, type[PartnerError]] = {
    2003: PartnerNotFound,
    2004: PartnerNotFound,
    4001: PartnerNotFound,
    4002: PartnerUnavailable,
    4003: PartnerUnavailable,
}
_envelope = compile_codec(VersionsResponse.DESCRIPTOR, field_names=True, without=frozenset({"data"}), lenient=True)


def explain(status: int, body: bytes) -> Refusal:
    """The envelope's status code. Never raises."""
    try:
        return Refusal(code=str(_envelope.decode(body).message.status_code))
    except CodecError:
        return Refusal()


def check(reply: Message) -> None:
    """Raises the PartnerError of a status code that is not one of success, 1000 to 1999."""
    code: int = reply.status_code  # type: ignore[attr-defined]
    if code // 1000 != 1:
        fallback = PartnerRejected if code // 1000 == 2 else PartnerFault
        raise _BY_CODE.get(code, fallback)(
            f"ocpi answered with status code {code}", partner="ocpi", http_status=200, partner_code=str(code)
        )

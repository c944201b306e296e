"""Real-time authorisation: how a provider is asked, and what an operator is told. Source: OCPI 2.2.1, tokens, POST."""

from typing import Any

from evbridge.partner.ocpi.v2.tokens_pb2 import AuthorizeTokenRequest
from evbridge.partner.ocpi.v2.tokens_pb2_grpc import TokensSenderServiceStub
from evbridge.v1.authorization_pb2 import (
    AUTHORIZATION_SOURCE_PARTNER,
    AllowedType,
    Authorization,
    LocationReferences,
)
from evbridge.v1.authorization_pb2 import AuthorizeTokenRequest as Asked
from evbridge.v1.location_pb2 import TOKEN_TYPE_RFID
from evbridge.v1.ocpi_connection_pb2 import INTERFACE_ROLE_SENDER
from evbridge.v1.party_pb2 import PARTY_ROLE_EMSP
from evbridge.v1.token_pb2 import Token
from evbridge.v1.types_pb2 import DisplayText

from service.bridge.channel import PartnerChannel
from service.bridge.tidy import whole
from service.domain.partner_error import PartnerFault, PartnerNotFound, PartnerUnavailable
from service.domain.repair import repaired
from service.domain.token import token_id
from service.errors import InvalidArgument
from service.partners.ocpi.mapping import CodecError, answered, object_from, object_to
from service.partners.ocpi.reach import reached
from service.partners.ocpi.received import owners
from service.storage.pool import Database

Object = dict[str, Any]
_UNKNOWN_RECEIVER = "4001"


class OcpiAuthorizer:
    def __init__(self, database: Database, channel: PartnerChannel) -> None:
        self._database = database
        self._channel = channel

    async def authorize(self, tenant_id: str, integration_id: str, asked: Asked, timeout_s: float) -> Authorization:
        """Raises EndpointMissing, NotRegistered, PartnerNotFound for an unknown token, and what the channel raises.

        PartnerUnavailable of a hub that does not know the provider: nobody was asked about the token.
        """
        there = await reached(self._database, tenant_id, integration_id)
        request = AuthorizeTokenRequest(
            integration_id=integration_id, url=there.url("tokens", INTERFACE_ROLE_SENDER), token_uid=asked.uid
        )
        if asked.type not in (0, TOKEN_TYPE_RFID):
            request.type = type_to(asked, there.version)
        request.object.SetInParent()
        if asked.HasField("location"):
            request.object.update(place_to(asked.location))
        stub = self._channel.stub(TokensSenderServiceStub, tenant_id)
        try:
            answer: Any = await stub.AuthorizeToken(request, timeout=timeout_s)
        except PartnerNotFound as error:
            if error.partner_code != _UNKNOWN_RECEIVER:
                raise
            raise PartnerUnavailable(
                "the hub does not know the provider",
                partner="ocpi",
                http_status=error.http_status,
                partner_code=error.partner_code,
            ) from error
        owner = next(iter(owners(there.integration, PARTY_ROLE_EMSP)), None)
        data = answered(answer.data)
        check_about(data, asked.uid)
        found = authorization_from(data, there.version, owner)
        found.source, found.integration_id = AUTHORIZATION_SOURCE_PARTNER, integration_id
        return found


def type_to(asked: Asked, version: str) -> str:
    """As the version calls the type."""
    kind = token_id(asked.type, "").rstrip("/")
    known = {"2.1.1": ("RFID",), "2.2.1": ("RFID", "APP_USER", "AD_HOC_USER")}.get(version)
    return kind if known is None or kind in known else "OTHER"


def place_to(location: LocationReferences) -> Object:
    return {"location_id": location.location_id} | ({"evse_uids": [*location.evse_uids]} if location.evse_uids else {})


def place_from(value: Any) -> LocationReferences | None:
    """None for what names no location."""
    if not (isinstance(value, dict) and isinstance(value.get("location_id"), str) and value["location_id"]):
        return None
    listed = value.get("evse_uids")
    uids = [whole(uid) for uid in listed if isinstance(uid, str) and uid] if isinstance(listed, list) else []
    return LocationReferences(location_id=whole(value["location_id"]), evse_uids=uids)


def authorization_to(said: Authorization, version: str) -> Object:
    """An AuthorizationInfo. Raises InvalidArgument for a token that the version has no place for."""
    made: Object = {"allowed": AllowedType.Name(said.allowed).removeprefix("ALLOWED_TYPE_")}
    if said.HasField("location"):
        made["location"] = place_to(said.location)
    if said.HasField("info"):
        made["info"] = {"language": said.info.language, "text": said.info.text}
    if version > "2.2":
        made["token"] = object_to(said.token, version).object
        made |= {"authorization_reference": said.authorization_reference} if said.authorization_reference else {}
    return made


def check_about(value: Any, uid: str) -> None:
    """Raises PartnerFault for what was said of another token. OCPI 2.1.1 names none."""
    token = value.get("token")
    named = token.get("uid") if isinstance(token, dict) else None
    if isinstance(named, str) and named.lower() != uid.lower():
        raise PartnerFault("the partner's answer is about another token", partner="ocpi", http_status=200)


def authorization_from(value: Any, version: str, owner: Any) -> Authorization:
    """Raises PartnerFault for one that does not say whether the token may charge."""
    allowed = AllowedType.DESCRIPTOR.values_by_name.get(f"ALLOWED_TYPE_{value.get('allowed')}")
    if allowed is None or not allowed.number:
        raise PartnerFault("the partner's answer does not say what is allowed", partner="ocpi", http_status=200)
    found = Authorization()
    found.allowed = allowed.number  # type: ignore[assignment]
    if place := place_from(value.get("location")):
        found.location.CopyFrom(place)
    reference = value.get("authorization_reference")
    found.authorization_reference = reference[:36] if isinstance(reference, str) else ""
    info = value.get("info")
    if isinstance(info, dict) and isinstance(info.get("text"), str):
        found.info.CopyFrom(DisplayText(language=str(info.get("language", ""))[:2].lower(), text=info["text"][:512]))
    try:
        found.token.CopyFrom(repaired(object_from(Token, value["token"], version, owner).message)[0])
    except (KeyError, CodecError, InvalidArgument):
        found.ClearField("token")
    return found

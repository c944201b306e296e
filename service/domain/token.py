"""The names of tokens: a provider may have tokens of several types with one uid."""

from typing import Any, Protocol

from evbridge.v1.location_pb2 import TOKEN_TYPE_RFID, TokenType

from service.domain.keys import OURS, ObjectKey

_PREFIX = "TOKEN_TYPE_"


class Named(Protocol):
    """A token, or the message that names one."""

    country_code: str
    party_id: str
    uid: str
    type: TokenType.ValueType
    integration_id: str


def token_key(named: Named) -> ObjectKey:
    """Without a type it is an RFID token."""
    type = named.type or TOKEN_TYPE_RFID
    return token_key_of(named.country_code, named.party_id, type, named.uid, named.integration_id)


def token_key_of(
    country_code: str, party_id: str, type: TokenType.ValueType, uid: str, integration_id: str = OURS
) -> ObjectKey:
    return ObjectKey.of(country_code, party_id, token_id(type, uid), integration_id)


def token_id(type: TokenType.ValueType, uid: str) -> str:
    """What tells tokens of a party apart: RFID/0425ab."""
    known = TokenType.DESCRIPTOR.values_by_number.get(type)
    return f"{known.name.removeprefix(_PREFIX) if known else type}/{uid}"


def token_parts(key: ObjectKey) -> dict[str, Any]:
    """The fields of a TokenKey, the uid folded."""
    type, _, uid = key.key.partition("/")
    names = {"country_code": key.country_code, "party_id": key.party_id, "integration_id": key.integration_id}
    return {**names, "uid": uid, "type": TokenType.Value(_PREFIX + type.upper())}


def token_type(text: Any) -> TokenType.ValueType:
    """The type of that name in OCPI. Raises ValueError."""
    return TokenType.Value("" if text == "UNSPECIFIED" else f"{_PREFIX}{text}")

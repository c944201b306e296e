"""Objects that all versions which have them write alike: charging profiles and preferences. Pure."""

from typing import Any, TypeVar

from evbridge.v1.charging_preferences_pb2 import ChargingPreferences
from evbridge.v1.charging_profile_pb2 import ActiveChargingProfile, ChargingProfile
from google.protobuf.message import Message

from service.bridge.codec import compile_codec
from service.bridge.json_text import CodecError, parse_json
from service.bridge.values import Trail, read_raw
from service.domain.validation import validate
from service.errors import InvalidArgument

P = TypeVar("P", ChargingProfile, ActiveChargingProfile, ChargingPreferences)


def plain_from(type: type[P], value: Any, path: str) -> P:
    """Raises InvalidArgument, which names the place below `path`."""
    try:
        descriptor: Any = type.DESCRIPTOR
        read = compile_codec(descriptor, field_names=True, lenient=True).decode_value(value).message
    except CodecError as error:
        raise InvalidArgument.field(path, error.problem) from None
    validate(read, prefix=f"{path}.")
    found: P = read
    return found


def plain_to(message: Message) -> Any:
    """As a member of what a request holds."""
    descriptor: Any = message.DESCRIPTOR
    return read_raw(parse_json(compile_codec(descriptor, field_names=True).encode(message)), Trail())

"""OCPI's JSON objects -> messages of ours, and a Quote -> JSON. Enum values are named as in OCPI, numbers are exact.

A 2.1.1 object is read too: a Tariff without an owner, a CDR that calls its end otherwise.
"""

import json
import re
from decimal import Decimal
from typing import Any, TypeVar

from evbridge.v1.pricing_pb2 import PricingOptions, Quote, SessionPeriods
from evbridge.v1.tariff_pb2 import QuotePriceRequest, Tariff
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from service.bridge.codec import compile_codec
from service.bridge.values import CodecError, parse_json
from service.domain.validation import validate

M = TypeVar("M", bound=Message)

_WITHOUT_ZONE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?")
_WITH_EXPONENT = re.compile(r"-?\d+(\.\d+)?[eE][+-]?\d{1,2}")
"""Of a JSON number, which parse_json gives as a kind of str."""
_NOBODY = {"country_code": "ZZ", "party_id": "ZZZ"}
"""Who owns a 2.1.1 tariff: it does not say."""


def quote_request(tariff: bytes, session: bytes, time_zone: str = "") -> QuotePriceRequest:
    """The request that prices a Tariff object and a session: a CDR object, or a request's own `plan` or `periods`.

    `options` stand in the session's file; `time_zone` wins over theirs. Raises CodecError, or InvalidArgument.
    """
    told = _object(session)
    options = told.setdefault("options", {})
    if time_zone and isinstance(options, dict):
        options["time_zone"] = time_zone
    if "charging_periods" in told:
        request = QuotePriceRequest(
            periods=_read(SessionPeriods, {"end_date_time": told.get("stop_date_time")} | told),
            options=_read(PricingOptions, options or {"time_zone": ""}),
        )
    else:
        _check_members(QuotePriceRequest.DESCRIPTOR, told)
        request = _read(QuotePriceRequest, told)
    request.tariff.CopyFrom(_read(Tariff, _NOBODY | _object(tariff)))
    validate(request)
    return request


def quote_text(quote: Quote) -> str:
    """As JSON."""
    return compile_codec(Quote.DESCRIPTOR, field_names=True).encode(quote)


def _object(text: bytes) -> dict[str, Any]:
    value = _plain(parse_json(text))
    if not isinstance(value, dict):
        raise CodecError("", "must be an object")
    return value


def _check_members(descriptor: Descriptor, value: Any, pointer: str = "") -> None:
    """Raises CodecError for a member that a form of ours does not have: a slip of the pen would change the price."""
    for name, item in value.items() if isinstance(value, dict) else ():
        field = descriptor.fields_by_name.get(name)
        if field is None:
            raise CodecError(pointer, f"has a member that a {descriptor.name} does not know")
        if field.message_type and not field.is_repeated:
            _check_members(field.message_type, item, f"{pointer}/{name}")


def _plain(value: Any) -> Any:
    """OCPI's times are UTC and may come without the Z that says so; numbers may have an exponent, ours have none."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if not isinstance(value, str):
        return value
    if type(value) is not str and _WITH_EXPONENT.fullmatch(value):
        return f"{Decimal(value):f}"
    return f"{value}Z" if _WITHOUT_ZONE.fullmatch(value) else value


def _read(type: type[M], value: Any) -> M:
    descriptor: Any = type.DESCRIPTOR
    message: M = compile_codec(descriptor, field_names=True).decode(json.dumps(value)).message
    return message

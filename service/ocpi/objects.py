"""OCPI's JSON objects -> messages of ours, and a Quote -> JSON. Enum values are named as in OCPI, numbers are exact.

Objects of OCPI 2.1.1, 2.2.1 and 2.3.0 are read as partners write them: a Tariff without an owner, a CDR or a Session
whose times have other names, an envelope around the object. What is read in another way than it is written is said in a
notice. A member that can change a price and is not known is never dropped: see Tariff.not_understood.
"""

import json
import re
from collections.abc import Iterator, Mapping
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any, NamedTuple, TypeVar

from evbridge.v1.pricing_pb2 import (
    AuditedCdr,
    CdrDimensionType,
    ChargingPeriod,
    PricingOptions,
    Quote,
    QuotePriceRequest,
    SessionPeriods,
)
from evbridge.v1.tariff_pb2 import Tariff
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from service.bridge.codec import compile_codec
from service.bridge.json_text import CodecError
from service.bridge.values import Trail, enum_names
from service.bridge.wire import also_named
from service.domain.validation import validate
from service.errors import InvalidArgument

M = TypeVar("M", bound=Message)

_WITHOUT_ZONE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?")
_NOBODY = {"country_code": "ZZ", "party_id": "ZZZ"}
"""Who owns a 2.1.1 tariff: it does not say."""
_OBJECTS = ("elements", "charging_periods", "plan", "periods")
"""A member of these, and what holds it is no envelope."""
_MAX_DIGITS = 100
_MAX_WHOLE_DIGITS = 18
_DECIMALS = 12
_ATOM = Decimal(1).scaleb(-_DECIMALS)
_ROUNDING = Context(prec=_MAX_DIGITS + _MAX_WHOLE_DIGITS, rounding=ROUND_HALF_EVEN)
_PRICED = re.compile("/(charging_periods|elements|min_price|max_price|plan|periods|options)/")
"""Where numbers stand that a price is made of."""
_MAX_NAMED = 100
_SESSION_TIMES = {
    "start_datetime": "start_date_time",
    "end_datetime": "end_date_time",
    "stop_date_time": "end_date_time",
}
"""2.1.1 -> later versions."""
_BOUND = {"before_taxes": "excl_vat", "after_taxes": "incl_vat"}
"""2.3.0 -> before."""
_DIMENSIONS = frozenset(enum_names(CdrDimensionType.DESCRIPTOR).values())
_NOT_PRICED = (
    *("auth_id", "auth_method", "authorization_reference", "cdr_location", "cdr_token", "connector_id"),
    *("credit_reference_id", "evse_uid", "home_charging_compensation", "invoice_reference_id", "kwh", "last_updated"),
    *("location", "location_id", "meter_id", "options", "remark", "session_id", "signed_data", "status", "tariffs"),
)
"""Members of a CDR or a Session that say nothing of its price, beside those of AuditedCdr."""


class Pricing(NamedTuple):
    """What `evbridge quote` prices: a request, the tariffs that the session brought along, and how it was read."""

    request: QuotePriceRequest
    tariffs: list[Tariff]
    notices: list[str]


def pricing_of(tariff: bytes | None, session: bytes, time_zone: str = "", *, whole_elements: bool = False) -> Pricing:
    """Reads a Tariff object and a session: a CDR or Session object, or a request's own `plan` or `periods`.

    Without a tariff those of the CDR are taken. `options` stand in the session's file; `time_zone` and `whole_elements`
    win over theirs. Raises CodecError, or InvalidArgument.
    """
    notices: list[str] = []
    given = _object(session, notices)
    options = given.setdefault("options", {})
    if not isinstance(options, dict):
        raise CodecError("/options", "must be an object")
    options |= ({"time_zone": time_zone} if time_zone else {}) | ({"whole_elements": True} if whole_elements else {})
    options.setdefault("time_zone", "")  # which is refused in words
    own = _own_tariffs(given) if tariff is None else []
    if "charging_periods" in given:
        request = QuotePriceRequest(periods=_periods(given, notices), options=_read(PricingOptions, options))
    else:
        _check_members(QuotePriceRequest.DESCRIPTOR, given)
        request = _read(QuotePriceRequest, given)
    tariffs = [_tariff(each, notices) for each in own] if tariff is None else [_tariff_alone(tariff, notices)]
    request.tariff.CopyFrom(tariffs[0])
    validate(request)
    for place in range(1, len(own)):
        validate(tariffs[place], prefix=f"tariffs[{place}].")
    return Pricing(request, tariffs if own else [], notices)


class _TariffError(CodecError):
    """Of the file that holds nothing but a tariff."""


def _tariff_alone(text: bytes, notices: list[str]) -> Tariff:
    try:
        return _tariff(_object(text, notices), notices)
    except CodecError as error:
        raise _TariffError(error.pointer, error.problem) from None


def quote_text(quote: Quote) -> str:
    """As JSON."""
    return compile_codec(Quote.DESCRIPTOR, field_names=True).encode(quote)


def complaint(error: CodecError | InvalidArgument, tariff: str, session: str) -> str:
    """What is wrong: the name of the file that it is about, and a JSON pointer into it where a path of ours says it."""
    if isinstance(error, CodecError):
        file = tariff if isinstance(error, _TariffError) else session
        return f"{file}: {error.pointer or 'the file'} {error.problem}"
    if not error.violations:
        return error.message
    path, description = error.violations[0].path, error.violations[0].description
    if path == "options.time_zone":
        return f"the location's time zone {description}, for example --time-zone Europe/Berlin"
    file = tariff if path.startswith("tariff.") else session
    if path.startswith("tariff.not_understood["):
        return f"{file}: {description}"
    steps = re.fullmatch(r"(?:tariff|periods)\.(.+)", path)
    return f"{file}: {_pointer(steps[1])} {description}" if steps else f"{file}: {error.message}"


def _pointer(path: str) -> str:
    return "/" + re.sub(r"\[(\d+)\]", r"/\1", path).replace(".", "/")


def _object(text: bytes, notices: list[str]) -> dict[str, Any]:
    """The object in the file, without an envelope or a list around it."""
    value = _Tidying(notices).tidied(_parsed(text))
    if isinstance(value, dict) and "data" in value and value.keys().isdisjoint(_OBJECTS):
        value = value["data"]
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, list) and value:
        raise CodecError("", f"is a list of {len(value)} objects: one is needed")
    if not isinstance(value, dict):
        raise CodecError("", "must be an object")
    return value


class _Number(str):
    """The digits of a JSON number with a fraction or an exponent, or of a long one."""

    __slots__ = ()


def _integer(digits: str) -> int | _Number:
    return int(digits) if len(digits) <= _MAX_WHOLE_DIGITS else _Number(digits)


def _once(members: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(members)
    if len(found) < len(members):
        names = [name for name, _ in members]
        twice = next(name for name in found if names.count(name) > 1)
        raise CodecError("", f"has an object with the member {twice[:60]!r} more than once")
    return found


def _no_constant(_: str) -> Any:
    raise ValueError


def _parsed(text: bytes) -> Any:
    try:
        return json.loads(
            text.decode("utf-8-sig"),
            parse_float=_Number,
            parse_int=_integer,
            parse_constant=_no_constant,
            object_pairs_hook=_once,
        )
    except CodecError:  # is a ValueError
        raise
    except RecursionError:
        raise CodecError("", "is nested too deeply") from None
    except ValueError:
        raise CodecError("", "is not JSON in UTF-8 with finite numbers" if text.strip() else "is empty") from None


class _Tidying:
    """Values as our messages take them, whatever they are for.

    Times are UTC and may come without the Z that says so. Numbers get twelve decimals and no exponent. The case of a
    language does not matter.
    """

    def __init__(self, notices: list[str]) -> None:
        self._notices = notices
        self._rounded: list[str] = []

    def tidied(self, value: Any) -> Any:
        tidy = self._tidied(value, Trail())
        if self._rounded:
            others = f" and {len(self._rounded) - 1} others" if self._rounded[1:] else ""
            self._notices.append(f"{self._rounded[0]}{others} had more than {_DECIMALS} decimals: rounded half to even")
        return tidy

    def _tidied(self, value: Any, trail: Trail) -> Any:
        if isinstance(value, dict):
            return dict(self._members(value, trail))
        if isinstance(value, list):
            return [self._within(place, item, trail) for place, item in enumerate(value)]
        if type(value) is _Number:
            return self._number(value, trail)
        return f"{value}Z" if isinstance(value, str) and _WITHOUT_ZONE.fullmatch(value) else value

    def _members(self, value: dict[str, Any], trail: Trail) -> Iterator[tuple[str, Any]]:
        for name, item in value.items():
            tidy = self._within(name, item, trail)
            yield name, tidy.lower() if name == "language" and isinstance(tidy, str) else tidy

    def _within(self, step: str | int, value: Any, trail: Trail) -> Any:
        trail.append(step)
        tidy = self._tidied(value, trail)
        trail.pop()
        return tidy

    def _number(self, digits: str, trail: Trail) -> int | str:
        """Judged by its length and its exponent before it is computed."""
        _, _, exponent = digits.lower().partition("e")
        number = Decimal(digits) if len(digits) <= _MAX_DIGITS and len(exponent) <= 4 else None
        if number is None or (number and number.adjusted() >= _MAX_WHOLE_DIGITS):
            wanted = f"at most {_MAX_WHOLE_DIGITS} digits before the point and {_MAX_DIGITS} in all"
            raise trail.fault(f"must be a number of {wanted}, such as 12.5")
        exponent_of = number.as_tuple().exponent
        if isinstance(exponent_of, int) and exponent_of < -_DECIMALS:
            rounded = number.quantize(_ATOM, context=_ROUNDING)
            pointer = trail.fault("").pointer
            if rounded != number and _PRICED.match(f"{pointer}/"):
                self._rounded.append(pointer)
            number = rounded.normalize(_ROUNDING) + 0
        return int(number) if number == number.to_integral_value() else f"{number:f}"


def _tariff(value: Any, notices: list[str]) -> Tariff:
    if not isinstance(value, dict):
        raise CodecError("", "must be an object")
    for name in ("min_price", "max_price"):
        if isinstance(value.get(name), dict):
            value[name] = _renamed(value[name], _BOUND)
    unknown: list[str] = []
    tariff = _read(Tariff, _NOBODY | _known(Tariff.DESCRIPTOR, value, unknown))
    tariff.not_understood.extend([pointer for pointer in unknown if _PRICED.match(pointer)][:_MAX_NAMED])
    _name_unknown("tariff", [pointer for pointer in unknown if not _PRICED.match(pointer)], notices)
    return tariff


def _own_tariffs(session: dict[str, Any]) -> list[Any]:
    """Of a CDR. Raises CodecError when it has none."""
    own = session.get("tariffs")
    if not isinstance(own, list) or not own:
        raise CodecError("/tariffs", "is missing: give a file with the tariff, or a CDR that holds its tariffs")
    return own


def _periods(session: dict[str, Any], notices: list[str]) -> SessionPeriods:
    session = _renamed(session, _SESSION_TIMES)
    known = {*AuditedCdr.DESCRIPTOR.fields_by_name, *_NOT_PRICED}
    unknown = [f"/{name}" for name in session if name not in known and not name.startswith("total_")]
    unpriced: dict[str, None] = {}
    for place, period in enumerate(_objects(session["charging_periods"])):
        pointer = f"/charging_periods/{place}"
        names = (*ChargingPeriod.DESCRIPTOR.fields_by_name,)
        unknown += [f"{pointer}/{name}" for name in period if name not in names]
        if isinstance(dimensions := period.get("dimensions"), list):
            period["dimensions"] = [
                dimension
                for row, dimension in enumerate(dimensions)
                if _is_priced(dimension, f"{pointer}/dimensions/{row}", unpriced)
            ]
    _name_unknown("session", unknown, notices)
    if unpriced:
        notices.append(f"not priced: {', '.join(unpriced)}, which is not a dimension of OCPI")
    return _read(SessionPeriods, session)


def _is_priced(dimension: Any, pointer: str, unpriced: dict[str, None]) -> bool:
    """Whether OCPI knows the dimension. Raises CodecError for a member that may change what its volume means."""
    if not isinstance(dimension, dict):
        return True
    if more := [name for name in dimension if name not in ("type", "volume")]:
        raise CodecError(_below(pointer, more[0]), "can change a price and is not understood")
    kind = dimension.get("type")
    if isinstance(kind, str) and kind not in _DIMENSIONS:
        unpriced[kind[:60]] = None
        return False
    return True


def _objects(value: Any) -> list[Any]:
    """A list as it is, whose items that are no objects are left to the codec."""
    return [item if isinstance(item, dict) else {} for item in value] if isinstance(value, list) else []


def _name_unknown(what: str, pointers: list[str], notices: list[str]) -> None:
    if pointers:
        more = f" and {len(pointers) - 10} others" if len(pointers) > 10 else ""
        notices.append(f"members of the {what} that are not known and were left out: {', '.join(pointers[:10])}{more}")


def _renamed(value: dict[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """With other names for members, unless the new one is there."""
    return {names[name]: item for name, item in value.items() if name in names} | {
        name: item for name, item in value.items() if name not in names
    }


def _known(descriptor: Descriptor, value: Any, unknown: list[str], pointer: str = "") -> Any:
    """Without the members that a message of ours has no field for, whose JSON pointers go into `unknown`."""
    if isinstance(value, list):
        return [_known(descriptor, item, unknown, f"{pointer}/{place}") for place, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    fields = {name: field for field in descriptor.fields for name in (field.name, *also_named(field))}
    unknown += [_below(pointer, name) for name in value if name not in fields]
    return {
        name: _known(ours, item, unknown, f"{pointer}/{name}") if (ours := _message_of_ours(fields[name])) else item
        for name, item in value.items()
        if name in fields
    }


def _message_of_ours(field: FieldDescriptor) -> Descriptor | None:
    message = field.message_type
    return message if message is not None and message.full_name.startswith("evbridge.") else None


def _below(pointer: str, name: str) -> str:
    return f"{pointer}/{name[:60].replace('~', '~0').replace('/', '~1')}"


def _check_members(descriptor: Descriptor, value: Any) -> None:
    """Raises CodecError for a member that a form of ours does not have: a slip of the pen would change the price."""
    unknown: list[str] = []
    _known(descriptor, value, unknown)
    if unknown:
        raise CodecError(unknown[0], "is not known")


def _read(type: type[M], value: Any) -> M:
    descriptor: Any = type.DESCRIPTOR
    message: M = compile_codec(descriptor, field_names=True).decode(json.dumps(value)).message
    return message

"""OCPI: our objects, such as locations and CDRs, as those of the versions spoken, and back. Pure.

What a version has no place for is named. What would change a price, or show what is not to be shown, is refused.
"""

import re
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any, Final, Generic, NamedTuple, TypeVar

from evbridge.options.v1 import options_pb2 as options
from evbridge.v1.cdr_pb2 import Cdr
from evbridge.v1.hub_client_pb2 import HubClient
from evbridge.v1.invoice_reconciliation_pb2 import InvoiceReconciliationRecord
from evbridge.v1.location_pb2 import Connector, Evse, Location
from evbridge.v1.session_pb2 import Session
from evbridge.v1.tariff_pb2 import TAX_INCLUDED_YES, Tariff, TariffDimensionType
from evbridge.v1.token_pb2 import Token
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct

from service.bridge.codec import compile_codec
from service.bridge.json_text import CodecError, parse_json, parse_tolerantly, text_of
from service.bridge.values import Trail, read_raw
from service.domain.fields import clear_output_only
from service.domain.keys import PartyKey
from service.domain.mapping import Loss, missing
from service.errors import FieldViolation, InvalidArgument, ObjectNotRepresentable, TariffNotRepresentable
from service.partners.ocpi.versions import v2_1_1, v2_2_1, v2_3_0
from service.partners.ocpi.versions.form import Notice, Object, Pruning, replaced

__all__ = [
    "VERSIONS",
    "CodecError",
    "Notice",
    "Read",
    "Written",
    "answered",
    "object_from",
    "object_to",
    "parsed",
    "struct_of",
    "text_of",
]

M = TypeVar("M", Location, Evse, Connector, Tariff, Token, Session, Cdr, HubClient, InvoiceReconciliationRecord)

VERSIONS: Final[Mapping[str, ModuleType]] = {"2.1.1": v2_1_1, "2.2.1": v2_2_1, "2.3.0": v2_3_0}
"""The oldest first."""

_OWNED = (Location, Tariff, Token, Session, Cdr, InvoiceReconciliationRecord)
_FINER: Final = re.compile(r'(T\d\d:\d\d:\d\d\.\d{3})\d+Z"')
"""A time of more than milliseconds: OCPI's has 25 characters."""
_MIDNIGHT: Final = re.compile(r'("period_end": ?)"24:00"')
"""The end of a day, which OCPI writes as 00:00."""
_PRICED: Final = re.compile("/(elements|min_price|max_price|tax_included|currency|start_date_time|end_date_time)(/|$)")
_MAX_NOT_UNDERSTOOD: Final = 100
_NO_PLACE: Final = "OCPI {} has no place for it"


class Written(NamedTuple):
    """An object of a version, and what of ours is not in it."""

    object: Object
    losses: tuple[Loss, ...]


class Read(NamedTuple, Generic[M]):
    """An object of ours, and what of the partner's is not in it."""

    message: M
    notices: tuple[Notice, ...]


def answered(data: Struct) -> Object:
    """The single object of an answer. Some partners answer with a list of one, which a Struct holds under "0"."""
    value: Object = MessageToDict(data)
    only = value.get("0") if len(value) == 1 else None
    return only if isinstance(only, dict) else value


def struct_of(object: Object) -> Struct:
    """An object as a request holds it."""
    struct = Struct()
    struct.update(read_raw(object, Trail()))
    return struct


def object_to(message: M, version: str) -> Written:
    """One of ours as an object of the version. Fields that are ours alone are no loss.

    Raises TariffNotRepresentable when a price would change, ObjectNotRepresentable when a session or a CDR would be
    another one, InvalidArgument when a location would be shown to drivers that must not see it or the version has not
    what is required of it.
    """
    if isinstance(message, Tariff):
        _check_prices(message, version)
    if version == "2.1.1":
        _check_old(message)
    if version == "2.1.1" and isinstance(message, Location) and not message.publish:
        raise InvalidArgument.field("publish", "is false, which OCPI 2.1.1 cannot say")
    name = message.DESCRIPTOR.name
    text = compile_codec(message.DESCRIPTOR, field_names=True).encode(message)
    ours = parse_json(_MIDNIGHT.sub(r'\1"00:00"', _FINER.sub(r'\1Z"', text)))
    owner = PartyKey(message.country_code, message.party_id) if isinstance(message, _OWNED) else None
    time_zone = message.time_zone if isinstance(message, Location) else ""
    try:
        made: Object = VERSIONS[version].TO[name](ours)
        found = object_from(type(message), made, version, owner, time_zone).message
    except CodecError as error:
        path = re.sub(r"/(\d+)", r"[\1]", error.pointer[1:]).replace("/", ".")
        raise InvalidArgument.field(path, _NO_PLACE.format(version)) from None
    lost = missing(_shown(message), _shown(found))
    return Written(made, tuple(Loss(path, _NO_PLACE.format(version)) for path in lost))


def object_from(type: type[M], value: Any, version: str, owner: PartyKey | None = None, time_zone: str = "") -> Read[M]:
    """An object of the version as one of ours, not validated. Objects may have what a later version adds.

    Members and values that nobody knows cost themselves alone; `owner` and `time_zone` hold where the object says none.
    Raises CodecError where a value is of another type.
    """
    if not isinstance(value, dict):
        raise CodecError("", "must be an object")
    country_code, party_id = owner or ("", "")
    given = {"country_code": country_code, "party_id": party_id, "time_zone": time_zone}
    ours = {name: text for name, text in given.items() if text and name in type.DESCRIPTOR.fields_by_name}
    read = VERSIONS[version].FROM[type.DESCRIPTOR.name](value)
    ours |= {name: item for name, item in read.items() if item is not None}
    owners = {name: ours[name] for name in ("country_code", "party_id") if name in ours}
    ours = replaced(ours, "tariffs", lambda tariff: owners | tariff)  # a CDR's own
    pruning = Pruning(options.OCPI_RELEASE_2_3_0)
    known = pruning.whole(type.DESCRIPTOR, ours)
    message: M = compile_codec(type.DESCRIPTOR, field_names=True, lenient=True).decode_value(known).message
    pointers = [pointer for pointer, _ in pruning.notices]
    if isinstance(message, Tariff):
        message.not_understood.extend([each for each in pointers if _PRICED.match(each)][:_MAX_NOT_UNDERSTOOD])
    elif isinstance(message, Cdr) and len(message.tariffs) == len(ours.get("tariffs") or ()):
        for number, tariff in enumerate(message.tariffs):
            within = [
                each.removeprefix(f"/tariffs/{number}") for each in pointers if each.startswith(f"/tariffs/{number}/")
            ]
            tariff.not_understood.extend([each for each in within if _PRICED.match(each)][:_MAX_NOT_UNDERSTOOD])
    return Read(message, tuple(pruning.notices))


def parsed(text: bytes) -> Any:
    """JSON as a partner wrote it, numbers exact. Raises CodecError."""
    return parse_tolerantly(text)


def _shown(message: Message) -> Message:
    """What of it is OCPI's, in some version."""
    shown = type(message)()
    shown.CopyFrom(message)
    clear_output_only(shown)
    _clear_ours(shown)
    return shown


def _clear_ours(message: Message) -> None:
    for field, value in message.ListFields():
        if field.GetOptions().Extensions[options.ocpi_since] == options.OCPI_RELEASE_NONE:
            message.ClearField(field.name)
        elif field.message_type is not None and field.message_type.full_name.startswith("evbridge."):
            for inner in value if field.is_repeated else (value,):
                _clear_ours(inner)


def _check_old(message: Message) -> None:
    """Raises ObjectNotRepresentable for what 2.1.1 would take for something else."""
    if isinstance(message, Cdr) and message.credit:
        raise ObjectNotRepresentable("OCPI 2.1.1 knows no credit CDRs", id=message.id)
    if isinstance(message, Session) and not message.HasField("location"):
        raise ObjectNotRepresentable(
            "OCPI 2.1.1 wants the location of a session, which is not stored here", id=message.id
        )


def _check_prices(tariff: Tariff, version: str) -> None:
    """Raises TariffNotRepresentable, with the paths of what a price depends on and the version cannot say."""
    paths = [*_unspoken(tariff, version)]
    if paths:
        violations = [FieldViolation(path, _NO_PLACE.format(version)) for path in paths]
        problem = f"the tariff would have other prices in OCPI {version}"
        raise TariffNotRepresentable.at(violations, problem, partner="ocpi", id=tariff.id)


def _unspoken(tariff: Tariff, version: str) -> Iterator[str]:
    if tariff.tax_included == TAX_INCLUDED_YES and version != "2.3.0":
        yield "tax_included"
    for e, element in enumerate(tariff.elements):
        for c, component in enumerate(element.price_components):
            path = f"elements[{e}].price_components[{c}]"
            if component.type > TariffDimensionType.TARIFF_DIMENSION_TYPE_TIME:
                yield f"{path}.type"
            if component.HasField("cost_percentage"):
                yield f"{path}.cost_percentage"
        if version == "2.1.1":
            currents = (name for name in ("min_current", "max_current") if element.restrictions.HasField(name))
            yield from (f"elements[{e}].restrictions.{name}" for name in currents)
    if version == "2.1.1":
        yield from (name for name in ("min_price", "max_price") if tariff.HasField(name))
        if all(element.restrictions.reservation for element in tariff.elements):
            yield "elements"

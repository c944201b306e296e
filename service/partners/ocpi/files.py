"""OCPI's objects in a file: each is read on its own, and what is wrong with it has a JSON pointer. Pure."""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, NoReturn

from evbridge.v1.location_pb2 import Location
from evbridge.v1.tariff_pb2 import Tariff

from service.bridge.json_text import Number
from service.domain.keys import PartyKey
from service.domain.repair import repaired
from service.errors import FieldViolation, InvalidArgument
from service.partners.ocpi.mapping import CodecError, Notice, object_from

_OLD_CONNECTOR = ("voltage", "amperage", "tariff_id")


class Entry(NamedTuple):
    """An object of a file at its pointer: what it is of ours, and what was left out of it or repaired.

    Without a `message` it is refused, and the notices say why.
    """

    pointer: str
    message: Any
    notices: tuple[Notice, ...]


def values_in(text: bytes) -> Iterator[tuple[str, Any]]:
    """The objects of a file, each with its pointer: a list of them, one alone, or either in an OCPI envelope.

    Raises CodecError for what is no JSON.
    """
    try:
        value, pointer = json.loads(text.decode("utf-8-sig"), parse_float=Number, parse_constant=_refuse), ""
    except (ValueError, RecursionError):
        raise CodecError("", "is not JSON in UTF-8 with finite numbers" if text.strip() else "is empty") from None
    if isinstance(value, dict) and "data" in value and "id" not in value:
        value, pointer = value["data"], "/data"
    if not isinstance(value, list):
        yield pointer, value
        return
    yield from ((f"{pointer}/{position}", item) for position, item in enumerate(value))


def entry_of(pointer: str, value: Any, version: str, owner: PartyKey | None, time_zone: str, type: Any = None) -> Entry:
    """Reads an object of the type, or else a Location or a Tariff, and repairs what can be.

    Without a `version` its form tells which one it is of.
    """
    try:
        if not isinstance(value, dict):
            raise CodecError("", "is no Location and no Tariff")
        type = type or (Tariff if "elements" in value else Location)
        if "country_code" not in value and owner is None:
            raise CodecError("/country_code", "is missing: say whose it is, for example --party DE*ABC")
        message, notices = object_from(type, value, version or _version(value), owner, time_zone)
        made, repairs = repaired(message)
        if isinstance(made, Tariff) and made.not_understood:
            raise CodecError(made.not_understood[0], "can change a price and is not understood")
    except CodecError as error:
        return Entry(pointer, None, (Notice(pointer + error.pointer, error.problem),))
    except InvalidArgument as error:
        return Entry(pointer, None, (*notices_of(pointer, error.violations),))
    read = tuple(Notice(pointer + notice.pointer, notice.problem) for notice in notices)
    return Entry(pointer, made, (*read, *notices_of(pointer, repairs)))


def notices_of(pointer: str, violations: Iterable[FieldViolation]) -> Iterator[Notice]:
    """At pointers into the file."""
    for path, description in ((each.path, each.description) for each in violations):
        steps = re.sub(r"\[(\d+)\]", r"/\1", path).replace(".", "/")
        yield Notice(f"{pointer}/{steps}" if steps else pointer, description)


def _version(value: Any) -> str:
    """2.1.1 by the names of its members; what came later differs in nothing that is read."""
    evses = value.get("evses")
    connectors = (evse.get("connectors") for evse in evses if isinstance(evse, dict)) if isinstance(evses, list) else ()
    first = next((each[0] for each in connectors if isinstance(each, list) and each and isinstance(each[0], dict)), {})
    old = "country_code" not in value or any(name in first for name in _OLD_CONNECTOR)
    return "2.1.1" if old else "2.3.0"


def _refuse(_: str) -> NoReturn:
    raise ValueError

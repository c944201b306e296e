"""Imported objects: what was changed here since, which later imports leave alone."""

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final, TypeVar

from evbridge.v1.cdr_pb2 import Cdr
from evbridge.v1.charger_pb2 import Charger
from evbridge.v1.location_pb2 import EVSE_STATUS_REMOVED, Evse, Location
from evbridge.v1.session_pb2 import Session
from evbridge.v1.tariff_pb2 import Tariff
from evbridge.v1.types_pb2 import Origin
from google.protobuf.message import Message

from service.domain.fields import clear_output_only
from service.domain.masks import copy_field

M = TypeVar("M", Tariff, Location, Charger, Session, Cdr)

FEW: Final = 2
"""So many may always be gone at once, but not all."""

_OF_AN_EVSE = re.compile(r"evses\[(.*)\](?:\.([a-z_]+))?")


def imported_id(integration_id: str, external_id: str) -> str:
    """The id that an imported object gets here, always the same: up to 36 characters that say where it is from."""
    return f"{integration_id[: 35 - len(external_id)]}-{external_id}"


def is_mass_removal(gone: int, held: int, percent: int) -> bool:
    """Whether more of the objects that we hold are gone than `percent`: the partner's list is more likely wrong."""
    return held > 0 and (gone == held or (gone > FEW and gone * 100 > held * percent))


def imported_evses(location: Location) -> set[str]:
    """The folded uids of the EVSEs that an import may mark REMOVED: those that live and were not added here."""
    added = {path[1] for path in map(_OF_AN_EVSE.fullmatch, location.overrides) if path and not path[2]}
    return {
        evse.uid.casefold() for evse in location.evses if evse.status != EVSE_STATUS_REMOVED and evse.uid not in added
    }


def keep_origin(wanted: M, before: M) -> None:
    """Of an imported object that is changed by a caller: the origin stays, what changed is an override."""
    if before.HasField("origin"):
        stored: M = type(before)()
        stored.CopyFrom(before)
        clear_output_only(stored)
        wanted.origin.CopyFrom(before.origin)
        if _may_override(before):
            _set_overrides(wanted, {*_overrides(before), *_changes(stored, wanted)})


def set_origin(wanted: M, before: M | None, origin: Origin) -> None:
    """Of an object that is imported."""
    wanted.origin.CopyFrom(origin)
    if before:
        wanted.origin.synced_time.CopyFrom(before.origin.synced_time)
        if _may_override(before):
            _set_overrides(wanted, _overrides(before))


def keep_overrides(wanted: M, before: M) -> None:
    """Puts back into an object that is imported again what was changed here."""
    for path in _overrides(before):
        if (of_evse := _OF_AN_EVSE.fullmatch(path)) and isinstance(wanted, Location) and isinstance(before, Location):
            stored, evse = _evse(before, of_evse[1]), _evse(wanted, of_evse[1])
            if not of_evse[2]:
                evse.CopyFrom(stored)
            elif field := Evse.DESCRIPTOR.fields_by_name.get(of_evse[2]):
                copy_field(evse, stored, field)
        elif field := before.DESCRIPTOR.fields_by_name.get(path):
            copy_field(wanted, before, field)


def _may_override(object: Any) -> bool:
    """Sessions and CDRs are as they are there."""
    return "overrides" in object.DESCRIPTOR.fields_by_name


def _overrides(object: Any) -> list[str]:
    return [*object.overrides] if _may_override(object) else []


def _set_overrides(object: Any, paths: Iterable[str]) -> None:
    object.overrides[:] = sorted(paths)


def _changes(before: M, wanted: M) -> Iterator[str]:
    yield from _fields(before, wanted, {"etag", "evses", "origin", "overrides"})
    if isinstance(wanted, Location) and isinstance(before, Location):
        stored = {evse.uid: evse for evse in before.evses}
        for evse in wanted.evses:
            old = stored.get(evse.uid)
            if old is None or (old.status == EVSE_STATUS_REMOVED) != (evse.status == EVSE_STATUS_REMOVED):
                yield f"evses[{evse.uid}]"
            else:
                yield from (f"evses[{evse.uid}].{name}" for name in _fields(old, evse, {"status"}))


def _fields(before: Message, wanted: Message, apart: set[str]) -> Iterator[str]:
    """The names of the fields that are not the same in both."""
    old, new = dict(_values(before)), dict(_values(wanted))
    yield from (name for name in old.keys() | new.keys() if name not in apart and old.get(name) != new.get(name))


def _values(message: Message) -> Iterator[tuple[str, object]]:
    return ((field.name, value) for field, value in message.ListFields())


def _evse(location: Location, uid: str) -> Evse:
    """The EVSE of that uid, which stays in the location for ever."""
    return next(evse for evse in location.evses if evse.uid == uid)

"""Locations of ours: how they are stored, and what an import takes of the status of their EVSEs."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from evbridge.v1.charger_pb2 import Charger
from evbridge.v1.delivery_pb2 import OBJECT_KIND_CHARGER, OBJECT_KIND_EVSE, OBJECT_KIND_LOCATION
from evbridge.v1.location_pb2 import EVSE_STATUS_REMOVED, Evse, EvseStatus, Location, LocationCharger, LocationKey

from service.domain.caller import Caller
from service.domain.charger import evses_of, name_evses
from service.domain.keys import EvseKey, ObjectKey, charger_key
from service.domain.location import keep_evses, location_etag, stamp_evses, tariffs_named, tariffs_shared
from service.domain.tariff import first_together
from service.errors import EvbridgeError, FieldViolation, InvalidArgument, SiteHasNoChargers
from service.resources.mutation import record
from service.resources.noun import Pending, dangling
from service.resources.objects import Owned, active_together
from service.storage.changes import UPDATE, Change, delivery_mark_at
from service.storage.charger import charger_lock_many, charger_lock_site, charger_replace
from service.storage.connection import Connection
from service.storage.location import StoredEvse, evse_put, location_lock, location_put, location_tombstone
from service.storage.tariff import tariffs_share


class Locations(Owned[Location]):
    noun = "location"
    kind = OBJECT_KIND_LOCATION
    key = LocationKey
    lock = staticmethod(location_lock)
    write = staticmethod(location_put)
    remove = staticmethod(location_tombstone)

    def keep(self, wanted: Location, before: Location | None) -> None:
        super().keep(wanted, before)
        if before:
            keep_evses(wanted, before)

    def tariffs(self, wanted: Location) -> Iterator[tuple[str, ObjectKey]]:
        return tariffs_named(wanted)

    async def refused(
        self, conn: Connection, tenant_id: str, pending: Mapping[Any, Pending[Location]]
    ) -> Mapping[Any, EvbridgeError]:
        """Those too of which a connector would have two tariffs of one type at once."""
        shared = {key: [*tariffs_shared(each.wanted, each.before)] for key, each in pending.items()}
        named = {tariff for places in shared.values() for _, tariffs in places for tariff in tariffs}
        stored = await tariffs_share(conn, tenant_id, named) if named else {}
        refused = dict(await super().refused(conn, tenant_id, pending))
        for key, places in shared.items():
            for path, tariffs in places:
                pair = first_together(stored[tariff] for tariff in tariffs if tariff in stored)
                if pair and key not in refused:
                    refused[key] = active_together(f"{pending[key].path}.{path}", *pair)
        return refused

    def stamp(self, wanted: Location, before: Location | None, now: datetime) -> None:
        stamp_evses(wanted, before, now)

    def etag(self, wanted: Location) -> str:
        return location_etag(wanted)


LOCATIONS = Locations()


async def statuses_import(
    conn: Connection,
    caller: Caller,
    now: datetime,
    integration_id: str,
    statuses: Mapping[ObjectKey, Mapping[str, EvseStatus.ValueType]],
) -> int:
    """Sets statuses, by folded uid, of EVSEs of locations that were imported through the integration; counts changes.

    What is not there, or REMOVED, is left alone.
    """
    locked = await location_lock(conn, caller.tenant_id, statuses.keys())
    changed: dict[EvseKey, StoredEvse] = {}
    for key, location in locked.items():
        if location is None or location.origin.integration_id != integration_id:
            continue
        for position, evse in enumerate(location.evses):
            status = statuses[key].get(evse.uid.casefold(), evse.status)
            if evse.status not in (EVSE_STATUS_REMOVED, status):
                evse.status = status
                evse.status_time.FromDatetime(now)
                evse.last_updated.FromDatetime(now)
                changed[EvseKey.of(key, evse.uid)] = StoredEvse(position, evse)
    await evse_put(conn, caller.tenant_id, changed)
    await statuses_changed(conn, caller, changed)
    return len(changed)


async def statuses_changed(conn: Connection, caller: Caller, keys: Collection[EvseKey]) -> None:
    """Records that EVSEs have another status, and makes their locations due wherever they are delivered."""
    await record(conn, caller, OBJECT_KIND_EVSE, [Change(str(key), UPDATE, "") for key in sorted(keys)])
    if keys:
        await delivery_mark_at(conn, caller.tenant_id, None, OBJECT_KIND_LOCATION, {key.location for key in keys})


async def evses_of_site(conn: Connection, caller: Caller, site_id: str) -> list[Evse]:
    """An EVSE for each socket of the site. Raises SiteHasNoChargers."""
    chargers = await charger_lock_site(conn, caller.tenant_id, site_id)
    if not chargers:
        raise SiteHasNoChargers("no charger of the site is stored", site_id=site_id)
    await _name_evses(conn, caller, chargers)
    return [evse for charger in chargers for evse in evses_of(charger)]


async def evses_of_chargers(conn: Connection, caller: Caller, wanted: Sequence[LocationCharger]) -> list[Evse]:
    """An EVSE for each of the sockets. Raises InvalidArgument for one that is wanted twice, and ReferenceNotFound."""
    places = places_of([charger_key(each.charger_id) for each in wanted], "chargers[{}].charger_id")
    chargers = await charger_lock_many(conn, caller.tenant_id, places.keys())
    if missing := [(key, path) for key, path in places.items() if key not in chargers]:
        violations = tuple(FieldViolation(path, "is not a charger of the tenant") for _, path in missing)
        raise dangling("charger", missing[0][0], violations)
    await _name_evses(conn, caller, [*chargers.values()])
    return [
        evse
        for number, each in enumerate(wanted)
        for evse in _evses_of(chargers[charger_key(each.charger_id)], each, f"chargers[{number}]")
    ]


def _evses_of(charger: Charger, wanted: LocationCharger, path: str) -> list[Evse]:
    evses = {evse.connectors[0].id.casefold(): evse for evse in evses_of(charger)}
    if not wanted.connectors:
        return [*evses.values()]
    places = places_of([each.id.casefold() for each in wanted.connectors], path + ".connectors[{}].id")
    if missing := [(key, place) for key, place in places.items() if key not in evses]:
        violations = tuple(FieldViolation(place, "is not a socket of the charger") for _, place in missing)
        raise dangling("socket", missing[0][0], violations)
    for each in wanted.connectors:
        if each.tariff_ids:
            evses[each.id.casefold()].connectors[0].tariff_ids[:] = each.tariff_ids
    return [evses[key] for key in places]


async def _name_evses(conn: Connection, caller: Caller, chargers: Sequence[Charger]) -> None:
    """Gives the sockets of locked chargers the uids of their EVSEs."""
    named = [charger for charger in chargers if name_evses(charger)]
    await charger_replace(conn, caller.tenant_id, named)
    changes = [Change(charger_key(charger.id), UPDATE, charger.etag) for charger in named]
    await record(conn, caller, OBJECT_KIND_CHARGER, changes)


def places_of(keys: Iterable[str], path: str) -> dict[str, str]:
    """Key -> path, with its number in the place of {}. Raises InvalidArgument for a key that stands there twice."""
    places: dict[str, str] = {}
    for number, key in enumerate(keys):
        place = path.format(number)
        if places.setdefault(key, place) != place:
            raise InvalidArgument.field(place, "stands in the request twice")
    return places

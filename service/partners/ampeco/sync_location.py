"""Imports tariffs, chargers, and locations with their EVSEs, as RUN_KIND_SYNC says.

Objects are stored a batch after another, each in a transaction of its own, so that an import that is cut off has done
what it has done, and its repetition changes nothing of that.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from typing import Final

from evbridge.partner.ampeco.v3.charge_point_pb2 import ChargePoint, ListChargePointsRequest
from evbridge.partner.ampeco.v3.evse_pb2 import Evse as AmpecoEvse
from evbridge.partner.ampeco.v3.evse_pb2 import ListEvsesRequest
from evbridge.partner.ampeco.v3.location_pb2 import ListLocationsRequest
from evbridge.partner.ampeco.v3.location_pb2 import Location as AmpecoLocation
from evbridge.v1.integration_pb2 import Integration
from evbridge.v1.location_pb2 import EVSE_STATUS_REMOVED, EvseStatus, Location

from service.domain.charger import sockets_of
from service.domain.origin import imported_evses
from service.domain.time_zones import time_zones
from service.errors import (
    EvbridgeError,
    FieldViolation,
    InvalidArgument,
    MassRemoval,
)
from service.partners.ampeco.lists import ListImport, serialized
from service.partners.ampeco.mapping import is_demo, is_personal, is_private, is_roaming
from service.partners.ampeco.mapping_charger import charge_point_from
from service.partners.ampeco.mapping_evse import evse_from
from service.partners.ampeco.mapping_location import location_from
from service.partners.ampeco.source import PER_PAGE
from service.partners.ampeco.sync_tariff import TariffImport
from service.resources.charger import charger_import
from service.resources.location import LOCATIONS, Locations, statuses_import
from service.resources.noun import Upsert
from service.runs.importing import ImportStep
from service.runs.worker import Progress, Tools
from service.storage.changes import change_time
from service.storage.location import location_imported, location_known
from service.storage.read_object import (
    read_object_add,
    read_object_get,
    read_object_pages,
    read_object_put,
    read_objects_forget,
)
from service.storage.run import RunClaim

_Statuses = dict[str, EvseStatus.ValueType]
"""By uid."""

# What is kept of a run, by AMPECO's ids: as AMPECO shows it, and what is taken of that.
_SHOWN_CHARGE_POINTS: Final = "shown charge points"
_CHARGE_POINTS: Final = "charge points"
_SHOWN_EVSES: Final = "shown evses"
# By charge points: serialized locations that hold nothing but EVSEs of ours, in the order of their ids.
_EVSES: Final = "evses"
# By locations: the same, but of each EVSE its uid and status alone, and the charge point's id as charger_id.
_STATUSES: Final = "statuses"
# As AMPECO shows them, nothing of those that are not taken.
_LOCATIONS: Final = "locations"
# By locations: why a charge point was left out; whether another one was taken.
_LEFT_OUT: Final = "left out"
_WITH_CHARGE_POINTS: Final = "with charge points"


class _Imported(Locations):
    """A location as the partner shows it.

    An EVSE that is refused keeps what it was but for its status. One that is not shown is gone only when all were read.
    """

    def __init__(self, statuses: _Statuses, complete: bool) -> None:
        self._statuses = statuses
        self._complete = complete

    def keep(self, wanted: Location, before: Location | None) -> None:
        shown = {evse.uid.casefold() for evse in wanted.evses}
        statuses = {evse.uid: evse.status for evse in before.evses} if before else {}
        super().keep(wanted, before)
        for evse in wanted.evses:
            if evse.uid.casefold() not in shown and (stored := statuses[evse.uid]) != EVSE_STATUS_REMOVED:
                otherwise = EVSE_STATUS_REMOVED if self._complete else stored
                evse.status = self._statuses.get(evse.uid, otherwise)


class LocationImport(ListImport):
    """Chargers, and locations with their EVSEs: what was read of them so far."""

    def __init__(self, tools: Tools, run: RunClaim, progress: Progress, integration: Integration) -> None:
        super().__init__(tools, run, progress, integration)
        self._tariffs = TariffImport(tools, run, progress, integration)
        self._groups: dict[int, str] = {}
        self._complete = True

    async def all(self) -> None:
        """Raises MassRemoval, and what the channel raises."""
        async with self._writing() as conn:
            await read_objects_forget(conn, self._run)  # of an attempt before this one
        self._groups = await self._tariffs.all()
        self.suspicions += self._tariffs.suspicions
        await self._read_charge_points()
        await self._read_evses()
        await self._import_chargers()
        await self._import_locations()

    async def _read_charge_points(self) -> None:
        step = self._begin("charge points")
        async for _ in self._pages(
            step, "ChargePointService/StreamChargePoints", ListChargePointsRequest(), keep=_SHOWN_CHARGE_POINTS
        ):
            pass
        async for shown in self._kept_pages(_SHOWN_CHARGE_POINTS):
            taken, left_out = dict[int, bytes](), dict[int, bytes]()
            there: set[int] = set()
            for id, payload in shown.items():
                await asyncio.sleep(0)
                each = ChargePoint.FromString(payload)
                if why := self._why_left_out(each):
                    step.left_out[why] += 1
                    left_out.setdefault(each.location_id, why.encode())
                else:
                    taken[id] = payload
                    there.add(each.location_id)
            for known in await self._kept(_LEFT_OUT, left_out):
                del left_out[known]
            async with self._writing() as conn:
                await read_object_put(conn, self._run, _CHARGE_POINTS, taken)
                await read_object_put(conn, self._run, _LEFT_OUT, left_out)
                await read_object_put(conn, self._run, _WITH_CHARGE_POINTS, dict.fromkeys(there, b""))
        await self._end(step)
        self._complete = not step.unreadable

    def _why_left_out(self, charge_point: ChargePoint) -> str:
        options = self._run.sync_options
        rules = (
            (is_roaming, options.include_roaming, "roaming"),
            (is_private, options.include_private, "private"),
            (is_personal, options.include_personal, "personal"),
            (is_demo, options.include_demo, "demo"),
        )
        return next((why for is_it, included, why in rules if is_it(charge_point) and not included), "")

    async def _read_evses(self) -> None:
        step = self._begin("evses")
        request = ListEvsesRequest(include=["connectors"])
        async for _ in self._pages(step, "EvseService/StreamEvses", request, keep=_SHOWN_EVSES):
            pass
        async for shown in self._kept_pages(_SHOWN_EVSES):
            remotes = [AmpecoEvse.FromString(payload) for payload in shown.values()]
            charge_points = await self._kept(_CHARGE_POINTS, {remote.charge_point_id for remote in remotes})
            evses, statuses = defaultdict[int, Location](Location), defaultdict[int, Location](Location)
            for remote in remotes:
                await asyncio.sleep(0)
                charge_point = charge_points.get(remote.charge_point_id)
                if charge_point is None or (is_roaming(remote) and not self._run.sync_options.include_roaming):
                    step.left_out["of a charge point that is left out" if charge_point is None else "roaming"] += 1
                else:
                    self._take_evse(step, remote, ChargePoint.FromString(charge_point), evses, statuses)
            async with self._writing() as conn:
                await read_object_add(conn, self._run, _EVSES, serialized(evses))
                await read_object_add(conn, self._run, _STATUSES, serialized(statuses))
        await self._end(step)
        self._complete = self._complete and not step.unreadable

    def _take_evse(
        self,
        step: ImportStep,
        remote: AmpecoEvse,
        charge_point: ChargePoint,
        evses: Mapping[int, Location],
        statuses: Mapping[int, Location],
    ) -> None:
        """As one of ours, under the id AMPECO gave it. Of one that cannot be taken the status is."""
        evse = evse_from(remote, charge_point).message
        evse.uid = str(remote.id)
        evse.charger_id = self._id(charge_point.id)
        if tariff_id := self._groups.get(remote.tariff_group_id):
            for connector in evse.connectors:
                connector.tariff_ids.append(tariff_id)
        statuses[charge_point.location_id].evses.add(uid=evse.uid, status=evse.status, charger_id=str(charge_point.id))
        try:
            evse = step.repair(remote.id, evse)
        except InvalidArgument as error:
            step.refuse(remote.id, error, given=remote)
        else:
            evses[charge_point.id].evses.append(evse)

    async def _import_chargers(self) -> None:
        """The charge points that have a location and an EVSE."""
        step = self._begin("chargers")
        async for shown in self._kept_pages(_CHARGE_POINTS):
            evses = await self._kept(_EVSES, shown)
            async with self._writing() as conn:
                now = await change_time(conn)
                for id, payload in evses.items():
                    charge_point = ChargePoint.FromString(shown[id])
                    charger = charge_point_from(charge_point).message
                    charger.id = self._id(id)
                    charger.site_id = self._id(charger.site_id)
                    below = Location.FromString(payload).evses
                    charger.sockets.extend(socket for evse in below for socket in sockets_of(evse))
                    try:
                        charger = step.repair(id, charger)
                        step.changed += await charger_import(conn, self._caller, now, charger, self._origin(id))
                    except EvbridgeError as error:
                        step.refuse(id, error, "charger", charge_point)
        await self._end(step)

    async def _import_locations(self) -> None:
        step = self._begin("locations")
        request = ListLocationsRequest(include=["locationImage", "images"])
        async for page in self._pages(step, "LocationService/StreamLocations", request, keep=_LOCATIONS):
            others = await self._not_ours(step, LOCATIONS, page, location_known)
            not_taken, left_out = page.keys() - others.keys(), await self._left_out(others)
            for id, remote in others.items():
                if is_roaming(remote) and not self._run.sync_options.include_roaming:
                    left_out[id] = "roaming"
            step.left_out.update(left_out.values())
            async with self._writing() as conn:
                nothing = dict.fromkeys(not_taken | left_out.keys(), b"")
                await read_object_put(conn, self._run, _LOCATIONS, nothing)
        await self._check_removals(step)
        async for shown in self._kept_pages(_LOCATIONS):
            await self._store_locations(step, {id: payload for id, payload in shown.items() if payload})
        if step.unreadable:
            async for shown in self._kept_pages(_STATUSES):
                unread = shown.keys() - await self._there(shown)
                await self._set_statuses(step, {id: shown[id] for id in unread})
        else:
            async for gone in self._gone():
                before = step.changed
                await self._store(step, gone)
                step.gone, step.changed = step.gone + step.changed - before, before
        await self._end(step)

    async def _store_locations(self, step: ImportStep, shown: Mapping[int, bytes]) -> None:
        statuses = await self._kept(_STATUSES, shown)
        below = {id: _chargers(payload) for id, payload in statuses.items()}
        evses = await self._kept(_EVSES, {each for chargers in below.values() for each in chargers})
        upserts: dict[int, Upsert[Location]] = {}
        refused: set[int] = set()
        for id, payload in shown.items():
            await asyncio.sleep(0)
            remote = AmpecoLocation.FromString(payload)
            parts = [evses[each] for each in below.get(id, ()) if each in evses]
            try:
                location = self._location(step, id, remote, parts)
                imported = _Imported(_statuses(statuses.get(id, b"")), self._complete)
                upserts[id] = self._upsert(imported, location, id)
            except InvalidArgument as error:
                step.refuse(id, error, given=remote)
                refused.add(id)
        refused |= await self._store(step, upserts)
        await self._set_statuses(step, {id: statuses[id] for id in refused if id in statuses})

    def _location(self, step: ImportStep, id: int, remote: AmpecoLocation, evses: Iterable[bytes]) -> Location:
        """As one of ours, with its EVSEs, those of each charge point serialized. Raises InvalidArgument."""
        location = self._named(location_from(remote).message, id)
        location.site_id = self._id(id)
        if not location.HasField("publish"):
            location.publish = True
        notices: tuple[FieldViolation, ...] = ()
        if location.time_zone not in time_zones():
            if location.time_zone:
                notices = (
                    FieldViolation(
                        "time_zone", "is not a time zone of the IANA database: that of the integration is taken"
                    ),
                )
            location.time_zone = self._integration.ampeco.time_zone
        location = step.repair(id, location, *notices)
        location.MergeFromString(b"".join(evses))
        return location

    async def _check_removals(self, step: ImportStep) -> None:
        """Raises MassRemoval, with the statuses of EVSEs stored, unless what is gone may go."""
        gone = held = 0
        async for stored in self._stored():
            there = await self._there(stored)
            statuses = await self._kept(_STATUSES, there)
            for id, location in stored.items():
                uids = imported_evses(location)
                held += len(uids)
                if id not in there:
                    gone += 0 if step.unreadable else len(uids)
                elif self._complete:
                    gone += len(uids - _statuses(statuses.get(id, b"")).keys())
        self._suspect("EVSEs", gone, held)
        if self.suspicions and not self._run.sync_options.allow_mass_removal:
            async for shown in self._kept_pages(_STATUSES):
                await self._set_statuses(step, shown)
            raise MassRemoval(
                f"{' and '.join(self.suspicions)} that were imported before would be gone; nothing was removed"
            )

    async def _set_statuses(self, step: ImportStep, shown: Mapping[int, bytes]) -> None:
        """Sets those of the EVSEs of locations, by AMPECO's ids, that are not stored as they are shown."""
        if shown:
            statuses = {self._key(id): _statuses(payload) for id, payload in shown.items()}
            async with self._writing() as conn:
                now = await change_time(conn)
                step.statuses += await statuses_import(conn, self._caller, now, self._integration.id, statuses)

    async def _gone(self) -> AsyncIterator[dict[int, Upsert[Location]]]:
        """Locations that were imported once and are not among those any more: without their EVSEs."""
        async for stored in self._stored():
            there = await self._there(stored)
            gone = {id: location for id, location in stored.items() if id not in there}
            for location in gone.values():
                location.ClearField("evses")
                location.ClearField("etag")
            yield {id: self._upsert(LOCATIONS, location, id) for id, location in gone.items()}

    async def _stored(self) -> AsyncIterator[dict[int, Location]]:
        """The locations that were imported through the integration, some at a time."""
        after = ""
        key = (self._run.tenant_id, self._run.integration_id)
        while rows := await location_imported(self._database, *key, after, PER_PAGE):
            after = rows[-1][0]
            locations = [Location.FromString(payload) for _, payload in rows]
            yield {int(location.origin.external_id): location for location in locations}

    async def _there(self, ids: Collection[int]) -> set[int]:
        """Those of the locations that are shown, and not left out."""
        return {id for id, payload in (await self._kept(_LOCATIONS, ids)).items() if payload}

    async def _left_out(self, ids: Collection[int]) -> dict[int, str]:
        """Of which locations all charge points are left out, and why."""
        left_out = await self._kept(_LEFT_OUT, ids)
        others = await self._kept(_WITH_CHARGE_POINTS, left_out)
        return {id: why.decode() for id, why in left_out.items() if id not in others}

    async def _kept(self, list: str, ids: Collection[int]) -> dict[int, bytes]:
        return await read_object_get(self._database, self._run, list, ids) if ids else {}

    def _kept_pages(self, list: str) -> AsyncIterator[dict[int, bytes]]:
        return read_object_pages(self._database, self._run, list)


def _statuses(payload: bytes) -> _Statuses:
    return {evse.uid: evse.status for evse in Location.FromString(payload).evses}


def _chargers(payload: bytes) -> list[int]:
    """The ids of the charge points of a location, in their order."""
    return sorted({int(evse.charger_id) for evse in Location.FromString(payload).evses})

"""Imports tariffs, chargers, and locations with their EVSEs, as RUN_KIND_SYNC says.

Objects are stored a batch after another, each in a transaction of its own, so that an import that is cut off has done
what it has done, and its repetition changes nothing of that.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable

from evbridge.partner.ampeco.v3.charge_point_pb2 import ChargePoint, ListChargePointsRequest
from evbridge.partner.ampeco.v3.evse_pb2 import Evse as AmpecoEvse
from evbridge.partner.ampeco.v3.evse_pb2 import ListEvsesRequest
from evbridge.partner.ampeco.v3.location_pb2 import ListLocationsRequest
from evbridge.partner.ampeco.v3.location_pb2 import Location as AmpecoLocation
from evbridge.v1.integration_pb2 import Integration
from evbridge.v1.location_pb2 import EVSE_STATUS_REMOVED, Evse, EvseStatus, Location

from service.domain.charger import sockets_of
from service.domain.origin import imported_evses
from service.domain.time_zones import time_zones
from service.errors import (
    EvbridgeError,
    FieldViolation,
    InvalidArgument,
    MassRemoval,
)
from service.partners.ampeco.lists import ListImport, batches, serialized
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
from service.storage.run import RunClaim

_Statuses = dict[str, EvseStatus.ValueType]
"""By uid."""


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
        # Of what an EVSE needs, by AMPECO's ids. What is held of long lists is serialized: a message takes many times
        # the memory.
        self._groups: dict[int, str] = {}
        self._charge_points: dict[int, bytes] = {}
        # By AMPECO's ids of the location and of the charge point, in the order of the EVSEs', serialized.
        self._evses: dict[int, dict[int, list[bytes]]] = {}
        self._statuses: dict[int, _Statuses] = {}
        # Locations all of whose charge points are left out are left out too.
        self._left_out: dict[int, str] = {}
        self._complete = True

    async def all(self) -> None:
        """Raises MassRemoval, and what the channel raises."""
        self._groups = await self._tariffs.all()
        self.suspicions += self._tariffs.suspicions
        await self._read_charge_points()
        await self._read_evses()
        await self._import_chargers()
        await self._import_locations()

    async def _read_charge_points(self) -> None:
        step = self._begin("charge points")
        options = self._run.sync_options
        rules = (
            (is_roaming, options.include_roaming, "roaming"),
            (is_private, options.include_private, "private"),
            (is_personal, options.include_personal, "personal"),
            (is_demo, options.include_demo, "demo"),
        )
        shown: dict[int, bytes] = {}
        async for page in self._pages(step, "ChargePointService/StreamChargePoints", ListChargePointsRequest()):
            shown |= serialized(page)
        taken: set[int] = set()
        for id in [*shown]:
            await asyncio.sleep(0)
            payload = shown.pop(id)
            each = ChargePoint.FromString(payload)
            if why := next((why for is_it, included, why in rules if is_it(each) and not included), ""):
                step.left_out[why] += 1
                self._left_out.setdefault(each.location_id, why)
            else:
                self._charge_points[id] = payload
                taken.add(each.location_id)
        for location_id in taken:
            self._left_out.pop(location_id, None)
        await self._end(step)
        self._complete = not step.unreadable

    async def _read_evses(self) -> None:
        step = self._begin("evses")
        shown: dict[int, bytes] = {}
        async for page in self._pages(step, "EvseService/StreamEvses", ListEvsesRequest(include=["connectors"])):
            shown |= serialized(page)
        for id in sorted(shown):
            await asyncio.sleep(0)
            remote = AmpecoEvse.FromString(shown.pop(id))
            charge_point = self._charge_points.get(remote.charge_point_id)
            if charge_point is None or (is_roaming(remote) and not self._run.sync_options.include_roaming):
                step.left_out["of a charge point that is left out" if charge_point is None else "roaming"] += 1
            else:
                self._take_evse(step, remote, ChargePoint.FromString(charge_point))
        await self._end(step)
        self._complete = self._complete and not step.unreadable

    def _take_evse(self, step: ImportStep, remote: AmpecoEvse, charge_point: ChargePoint) -> None:
        """As one of ours, under the id AMPECO gave it. Of one that cannot be taken the status is."""
        evse = evse_from(remote, charge_point).message
        evse.uid = str(remote.id)
        evse.charger_id = self._id(charge_point.id)
        if tariff_id := self._groups.get(remote.tariff_group_id):
            for connector in evse.connectors:
                connector.tariff_ids.append(tariff_id)
        self._statuses.setdefault(charge_point.location_id, {})[evse.uid] = evse.status
        try:
            evse = step.repair(remote.id, evse)
        except InvalidArgument as error:
            step.refuse(remote.id, error, given=remote)
        else:
            below = self._evses.setdefault(charge_point.location_id, {})
            below.setdefault(charge_point.id, []).append(evse.SerializeToString())

    async def _import_chargers(self) -> None:
        """The charge points that have a location and an EVSE."""
        step = self._begin("chargers")
        chargers = {id: evses for below in self._evses.values() for id, evses in below.items()}
        for batch in batches(sorted(chargers)):
            async with self._writing() as conn:
                now = await change_time(conn)
                for id in batch:
                    charge_point = ChargePoint.FromString(self._charge_points[id])
                    charger = charge_point_from(charge_point).message
                    charger.id = self._id(id)
                    charger.site_id = self._id(charger.site_id)
                    evses = map(Evse.FromString, chargers[id])
                    charger.sockets.extend(socket for evse in evses for socket in sockets_of(evse))
                    try:
                        charger = step.repair(id, charger)
                        step.changed += await charger_import(conn, self._caller, now, charger, self._origin(id))
                    except EvbridgeError as error:
                        step.refuse(id, error, "charger", charge_point)
        await self._end(step)

    async def _import_locations(self) -> None:
        step = self._begin("locations")
        shown: dict[int, bytes] = {}
        request = ListLocationsRequest(include=["locationImage", "images"])
        async for page in self._pages(step, "LocationService/StreamLocations", request):
            others = await self._not_ours(step, LOCATIONS, page, location_known)
            for id in page:
                shown.pop(id, None)
                if id in others and (why := self._why_not(others[id])):
                    step.left_out[why] += 1
                elif id in others:
                    shown[id] = others[id].SerializeToString()
        await self._check_removals(step, shown)
        there = {str(id) for id in shown}
        refused: set[int] = set()
        for batch in batches([*shown]):
            upserts: dict[int, Upsert[Location]] = {}
            for id in batch:
                await asyncio.sleep(0)
                remote = AmpecoLocation.FromString(shown.pop(id))
                try:
                    location = self._location(step, id, remote)
                    upserts[id] = self._upsert(_Imported(self._statuses.get(id, {}), self._complete), location, id)
                except InvalidArgument as error:
                    step.refuse(id, error, given=remote)
                    refused.add(id)
            refused |= await self._store(step, upserts)
        unread = {id for id in self._statuses if str(id) not in there} if step.unreadable else set()
        await self._set_statuses(step, refused | unread)
        if not step.unreadable:
            async for gone in self._gone(there):
                before = step.changed
                await self._store(step, gone)
                step.gone, step.changed = step.gone + step.changed - before, before
        await self._end(step)

    def _location(self, step: ImportStep, id: int, remote: AmpecoLocation) -> Location:
        """As one of ours, with its EVSEs. Raises InvalidArgument."""
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
        for _, evses in sorted(self._evses.get(id, {}).items()):
            location.evses.extend(map(Evse.FromString, evses))
        return location

    async def _check_removals(self, step: ImportStep, shown: Collection[int]) -> None:
        """Raises MassRemoval, with the statuses of EVSEs stored, unless what is gone may go."""
        there = {str(id): id for id in shown}
        gone = held = 0
        async for location in self._stored():
            uids, id = imported_evses(location), there.get(location.origin.external_id)
            held += len(uids)
            if id is None:
                gone += 0 if step.unreadable else len(uids)
            elif self._complete:
                gone += len(uids - self._statuses.get(id, {}).keys())
        self._suspect("EVSEs", gone, held)
        if self.suspicions and not self._run.sync_options.allow_mass_removal:
            await self._set_statuses(step, self._statuses.keys())
            raise MassRemoval(
                f"{' and '.join(self.suspicions)} that were imported before would be gone; nothing was removed"
            )

    async def _set_statuses(self, step: ImportStep, ids: Iterable[int]) -> None:
        """Sets those of the EVSEs of locations that are not stored as they are shown, by AMPECO's ids."""
        for batch in batches(sorted(ids)):
            statuses = {self._key(id): self._statuses[id] for id in batch if id in self._statuses}
            async with self._writing() as conn:
                now = await change_time(conn)
                step.statuses += await statuses_import(conn, self._caller, now, self._integration.id, statuses)

    async def _gone(self, there: set[str]) -> AsyncIterator[dict[str, Upsert[Location]]]:
        """Locations that were imported once and are not among those any more: without their EVSEs."""
        gone: dict[str, Upsert[Location]] = {}
        async for location in self._stored():
            if (id := location.origin.external_id) not in there:
                location.ClearField("evses")
                location.ClearField("etag")
                gone[id] = Upsert(LOCATIONS, location, LOCATIONS.noun, origin=self._origin(id))
            if len(gone) == PER_PAGE:
                yield gone
                gone = {}
        yield gone

    async def _stored(self) -> AsyncIterator[Location]:
        """The locations that were imported through the integration."""
        after = ""
        key = (self._run.tenant_id, self._run.integration_id)
        while rows := await location_imported(self._database, *key, after, PER_PAGE):
            after = rows[-1][0]
            for _, payload in rows:
                yield Location.FromString(payload)

    def _why_not(self, remote: AmpecoLocation) -> str:
        if is_roaming(remote) and not self._run.sync_options.include_roaming:
            return "roaming"
        return self._left_out.get(remote.id, "")

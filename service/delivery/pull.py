"""Brings what a partner holds here, as objects of ours with an origin. What that means is told at RUN_KIND_SYNC.

Pages are read and stored one after another, each in a transaction of its own, so that an import that is cut off has
done what it has done, and its repetition changes nothing of that.
"""

from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from evbridge.options.v1.options_pb2 import ROLE_WRITER
from evbridge.partner.ampeco.v3.charge_point_pb2 import ChargePoint, ListChargePointsRequest
from evbridge.partner.ampeco.v3.evse_pb2 import Evse as AmpecoEvse
from evbridge.partner.ampeco.v3.evse_pb2 import ListEvsesRequest
from evbridge.partner.ampeco.v3.location_pb2 import ListLocationsRequest
from evbridge.partner.ampeco.v3.location_pb2 import Location as AmpecoLocation
from evbridge.partner.ampeco.v3.tariff_group_pb2 import ListTariffGroupsRequest
from evbridge.partner.ampeco.v3.tariff_pb2 import ListTariffsRequest
from evbridge.v1.integration_pb2 import Integration
from evbridge.v1.location_pb2 import Evse, Location
from evbridge.v1.run_pb2 import RUN_STEP_STATE_SUCCEEDED
from evbridge.v1.tariff_pb2 import Tariff
from evbridge.v1.types_pb2 import Origin

from service.bridge.channel import PartnerChannel
from service.bridge.partners.ampeco import (
    charge_point_from,
    evse_from,
    is_demo,
    is_personal,
    is_private,
    is_roaming,
    location_from,
)
from service.bridge.partners.ampeco_tariff import tariff_from
from service.delivery.ampeco import billing_of
from service.delivery.runs import Progress, Tools
from service.domain.caller import Caller
from service.domain.charger import sockets_of
from service.domain.keys import PartyKey
from service.domain.origin import imported_id
from service.domain.validation import validate
from service.errors import EvbridgeError, IntegrationHasNoParty, InvalidArgument, TariffNotRepresentable
from service.handlers.charger import charger_import
from service.handlers.location import LOCATIONS, Locations
from service.handlers.owned import Owned, Wish, put
from service.handlers.tariff import TARIFFS
from service.storage.changes import change_time
from service.storage.integration import integration_get
from service.storage.location import location_imported
from service.storage.party import parties_hold
from service.storage.pool import Database
from service.storage.run import RunClaim

_CONTRACT = "/evbridge.partner.ampeco.v3"
_PER_PAGE = 100
_TOLD = 3
"""How many refused objects a step names."""


class AmpecoSync:
    """Imports the tariffs, locations and EVSEs of an AMPECO."""

    def __init__(self, tools: Tools) -> None:
        self._database = tools.database
        self._channel = tools.channel

    async def execute(self, run: RunClaim, progress: Progress) -> None:
        """Raises IntegrationHasNoParty, and what the channel raises."""
        payload = await integration_get(self._database, run.tenant_id, run.integration_id)
        integration = Integration.FromString(payload)
        if not integration.parties:
            raise IntegrationHasNoParty("the integration speaks for no party", id=integration.id)
        await _Import(self._database, self._channel, run, progress, integration).all()


@dataclass(slots=True)
class _Step:
    """What became of one kind of objects."""

    name: str
    read: int = 0
    changed: int = 0
    gone: int = 0
    unreadable: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    refused: list[str] = field(default_factory=list)

    def refuse(self, id: object, error: EvbridgeError) -> None:
        """The object of that id cannot be taken."""
        fields = ", ".join(each.path for each in error.violations) if error.violations else ""
        self.refused.append(
            f"{id}: {error.message}" + (f" ({fields})" if fields and fields not in error.message else "")
        )

    def __str__(self) -> str:
        counts = [(self.read, "read"), (self.changed, "changed"), (self.gone, "gone"), (self.unreadable, "unreadable")]
        counts += [(count, f"left out as {why}") for why, count in sorted(self.left_out.items())]
        counts += [(len(self.refused), "refused")]
        said = ", ".join(f"{count} {what}" for count, what in counts if count)
        return "; ".join([said or "nothing", *(text[:150] for text in self.refused[:_TOLD])])


class _Partial(Locations):
    """Locations some of whose EVSEs could not be read: one that is missing stays as it is."""

    def keep(self, wanted: Location, before: Location) -> None:
        told = {evse.uid.casefold() for evse in wanted.evses}
        statuses = {evse.uid: evse.status for evse in before.evses}
        super().keep(wanted, before)
        for evse in wanted.evses:
            if evse.uid.casefold() not in told:
                evse.status = statuses[evse.uid]


class _Import:
    """One run, and what it has read so far."""

    def __init__(
        self, database: Database, channel: PartnerChannel, run: RunClaim, progress: Progress, integration: Integration
    ) -> None:
        self._database = database
        self._channel = channel
        self._run = run
        self._progress = progress
        self._integration = integration
        self._party = integration.parties[0]
        self._ours = {PartyKey("", ""): False}
        self._billing = billing_of(integration)
        self._caller = Caller(run.tenant_id, run.key_id, ROLE_WRITER)
        self._done = 0
        # Of what an EVSE needs, by AMPECO's ids.
        self._tariffs: dict[int, str] = {}
        self._groups: dict[int, str] = {}
        self._charge_points: dict[int, ChargePoint] = {}
        self._evses: dict[int, list[tuple[tuple[int, int], Evse]]] = {}
        # Locations all of whose charge points are left out are left out too.
        self._left_out: dict[int, str] = {}
        self._complete = True

    async def all(self) -> None:
        await self._import_tariffs()
        await self._read_charge_points()
        await self._read_evses()
        await self._import_chargers()
        await self._import_locations()

    async def _import_tariffs(self) -> None:
        step = self._begin("tariffs")
        async for page in self._pages(step, "TariffService/StreamTariffs", ListTariffsRequest()):
            wishes: dict[str, Wish[Tariff]] = {}
            for theirs in page:
                try:
                    tariff = tariff_from(theirs, self._billing).message
                except TariffNotRepresentable as error:
                    step.refuse(theirs.id, error)
                    continue
                if not await self._is_ours(step, tariff):
                    wishes[str(theirs.id)] = self._wish(TARIFFS, tariff, theirs.id)
                    self._tariffs[theirs.id] = tariff.id
            for id in await self._store(step, wishes):
                del self._tariffs[int(id)]
        async for page in self._pages(None, "TariffGroupService/StreamTariffGroups", ListTariffGroupsRequest()):
            for group in page:
                # AMPECO asks from the end, and none that is imported is for some users alone: the last one decides.
                if group.tariff_ids and (tariff_id := self._tariffs.get(group.tariff_ids[-1])):
                    self._groups[group.id] = tariff_id
        self._end(step)

    async def _read_charge_points(self) -> None:
        step = self._begin("charge points")
        options = self._run.sync_options
        rules = (
            (is_roaming, options.include_roaming, "roaming"),
            (is_private, options.include_private, "private"),
            (is_personal, options.include_personal, "personal"),
            (is_demo, options.include_demo, "demo"),
        )
        async for page in self._pages(step, "ChargePointService/StreamChargePoints", ListChargePointsRequest()):
            for each in page:
                if why := next((why for is_it, included, why in rules if is_it(each) and not included), ""):
                    step.left_out[why] += 1
                    self._left_out.setdefault(each.location_id, why)
                else:
                    self._charge_points[each.id] = each
        for each in self._charge_points.values():
            self._left_out.pop(each.location_id, None)
        self._end(step)
        self._complete = not step.unreadable

    async def _read_evses(self) -> None:
        step = self._begin("evses")
        request = ListEvsesRequest(include=["connectors"])
        async for page in self._pages(step, "EvseService/StreamEvses", request):
            for theirs in page:
                charge_point = self._charge_points.get(theirs.charge_point_id)
                if charge_point is None or (is_roaming(theirs) and not self._run.sync_options.include_roaming):
                    step.left_out["of a charge point that is left out" if charge_point is None else "roaming"] += 1
                elif evse := self._evse(step, theirs, charge_point):
                    place = (charge_point.id, theirs.id)
                    self._evses.setdefault(charge_point.location_id, []).append((place, evse))
        self._end(step)
        self._complete = self._complete and not step.unreadable and not step.refused

    async def _import_chargers(self) -> None:
        """The charge points that have a location and an EVSE."""
        step = self._begin("chargers")
        evses: dict[int, list[Evse]] = {}
        for (id, _), evse in sorted(chain(*self._evses.values()), key=lambda each: each[0]):
            evses.setdefault(id, []).append(evse)
        ids = [*evses]
        for batch in (ids[start : start + _PER_PAGE] for start in range(0, len(ids), _PER_PAGE)):
            async with self._database.transaction() as conn:
                now = await change_time(conn)
                for id in batch:
                    charger = charge_point_from(self._charge_points[id]).message
                    charger.id = imported_id(self._integration.id, str(id))
                    charger.site_id = imported_id(self._integration.id, charger.site_id)
                    charger.sockets.extend(socket for evse in evses[id] for socket in sockets_of(evse))
                    try:
                        step.changed += await charger_import(conn, self._caller, now, charger, self._origin(str(id)))
                    except EvbridgeError as error:
                        step.refuse(id, error)
        self._end(step)

    async def _import_locations(self) -> None:
        step = self._begin("locations")
        there: set[str] = set()
        owned = LOCATIONS if self._complete else _Partial()
        async for page in self._pages(step, "LocationService/StreamLocations", ListLocationsRequest()):
            wishes: dict[str, Wish[Location]] = {}
            for theirs in page:
                location = location_from(theirs).message
                if await self._is_ours(step, location):
                    continue
                if why := self._why_not(theirs):
                    step.left_out[why] += 1
                    continue
                there.add(str(theirs.id))
                location.site_id = imported_id(self._integration.id, str(theirs.id))
                location.time_zone = location.time_zone or self._integration.ampeco.time_zone
                if not location.HasField("publish"):
                    location.publish = True
                location.evses.extend(
                    evse for _, evse in sorted(self._evses.get(theirs.id, ()), key=lambda each: each[0])
                )
                wishes[str(theirs.id)] = self._wish(owned, location, theirs.id)
            await self._store(step, wishes)
        if not step.unreadable:
            async for wishes in self._gone(there):
                before = step.changed
                await self._store(step, wishes)
                step.gone, step.changed = step.gone + step.changed - before, before
        self._end(step)

    async def _gone(self, there: set[str]) -> AsyncIterator[dict[str, Wish[Location]]]:
        """Locations that were imported once and are not among those any more: without their EVSEs."""
        after = ""
        key = (self._run.tenant_id, self._run.integration_id)
        while rows := await location_imported(self._database, *key, after, _PER_PAGE):
            after = rows[-1][0]
            locations = [Location.FromString(payload) for _, payload in rows]
            gone = {id: each for each in locations if (id := each.origin.external_id) not in there}
            for location in gone.values():
                location.ClearField("evses")
                location.ClearField("etag")
            yield {id: Wish(LOCATIONS, each, "location", origin=self._origin(id)) for id, each in gone.items()}

    def _why_not(self, theirs: AmpecoLocation) -> str:
        if is_roaming(theirs) and not self._run.sync_options.include_roaming:
            return "roaming"
        return self._left_out.get(theirs.id, "")

    def _evse(self, step: _Step, theirs: AmpecoEvse, charge_point: ChargePoint) -> Evse | None:
        """As one of ours, under the id AMPECO gave it. None when it makes none."""
        evse = evse_from(theirs, charge_point).message
        evse.uid = str(theirs.id)
        evse.charger_id = imported_id(self._integration.id, str(charge_point.id))
        if tariff_id := self._groups.get(theirs.tariff_group_id):
            for connector in evse.connectors:
                connector.tariff_ids.append(tariff_id)
        try:
            validate(evse)
        except InvalidArgument as error:
            step.refuse(theirs.id, error)
            return None
        return evse

    async def _is_ours(self, step: _Step, imported: Tariff | Location) -> bool:
        """Whether it is there because we delivered it: its external id is the key of an object of the tenant's."""
        party = PartyKey.of(imported.country_code, imported.party_id)
        if party not in self._ours:
            async with self._database.transaction() as conn:
                self._ours[party] = party in await parties_hold(conn, self._run.tenant_id, [party])
        step.left_out["ours"] += self._ours[party]
        return self._ours[party]

    def _wish(self, owned: Owned[Any], imported: Any, id: int) -> Wish[Any]:
        imported.country_code, imported.party_id = self._party.country_code, self._party.party_id
        imported.id = imported_id(self._integration.id, str(id))
        return Wish(owned, imported, owned.noun, origin=self._origin(str(id)))

    def _origin(self, external_id: str) -> Origin:
        return Origin(integration_id=self._integration.id, external_id=external_id)

    async def _store(self, step: _Step, wishes: Mapping[str, Wish[Any]]) -> list[str]:
        """Stores objects by AMPECO's ids, and tells the ids of those that were refused."""
        if not wishes:
            return []
        async with self._database.transaction() as conn:
            now = await change_time(conn)
            results = await put(conn, self._caller, now, [*wishes.values()])
        refused = []
        for external_id, result in zip(wishes, results, strict=True):
            if isinstance(result, EvbridgeError):
                refused.append(external_id)
                step.refuse(external_id, result)
            else:
                step.changed += result.last_updated.ToDatetime(now.tzinfo) >= now
        return refused

    async def _pages(self, step: _Step | None, method: str, request: Any) -> AsyncIterator[Iterator[Any]]:
        request.integration_id, request.cursor, request.per_page = self._integration.id, "", _PER_PAGE
        async for page in self._channel.stream(f"{_CONTRACT}.{method}", request, tenant_id=self._run.tenant_id):
            if step:
                step.read += len(page.message.data) + len(page.rejects)
                step.unreadable += len(page.rejects)
                self._progress.count(self._done + step.read, description=f"reads {step.name}")
            yield page.message.data

    def _begin(self, name: str) -> _Step:
        self._progress.begin(name)
        return _Step(name)

    def _end(self, step: _Step) -> None:
        self._done += step.read
        step.left_out = +step.left_out
        self._progress.close(RUN_STEP_STATE_SUCCEEDED, str(step))

"""evbridge.v1.LocationService."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from uuid import uuid4

from evbridge.v1.charger_pb2 import Charger
from evbridge.v1.delivery_pb2 import OBJECT_KIND_CHARGER, OBJECT_KIND_EVSE, OBJECT_KIND_LOCATION
from evbridge.v1.location_pb2 import (
    EVSE_STATUS_REMOVED,
    BatchGetLocationsRequest,
    BatchUpsertLocationsRequest,
    BatchUpsertLocationsResponse,
    BoundingBox,
    CreateLocationRequest,
    DeleteLocationRequest,
    Evse,
    EvseStatus,
    GeoLocation,
    GetLocationRequest,
    ListLocationsRequest,
    Location,
    LocationCharger,
    LocationKey,
    LocationResult,
    ReportEvseStatusRequest,
    ReportEvseStatusResponse,
    SearchLocationsRequest,
    UpdateLocationRequest,
)
from google.protobuf.empty_pb2 import Empty

from service.domain.caller import Caller
from service.domain.charger import evses_of, name_evses
from service.domain.geography import Box, Point, boxes_around, boxes_between, haversine_of
from service.domain.keys import EvseKey, ObjectKey, charger_key, key_of
from service.domain.location import (
    is_news,
    keep_evses,
    location_etag,
    reported_time,
    stamp_evses,
    tariffs_named,
)
from service.domain.pages import batch_response, key_before, list_response, page_size, search_response
from service.domain.status import status_of
from service.domain.versions import check_etag
from service.errors import EvbridgeError, FieldViolation, InvalidArgument, ResourceNotFound, SiteHasNoChargers
from service.resources.mutation import mutate
from service.resources.objects import Owned, Wish, dangling, put, put_one
from service.resources.publication import publish
from service.storage.changes import DELETE, UPDATE, Change, change_record, change_record_many, change_time
from service.storage.charger import charger_lock_many, charger_lock_site, charger_replace
from service.storage.connection import Connection
from service.storage.keyring import Keyring
from service.storage.location import (
    StoredEvse,
    evse_lock,
    evse_put,
    location_box,
    location_bury,
    location_get,
    location_get_many,
    location_lock,
    location_near,
    location_page,
    location_put,
)
from service.storage.pool import Database

_MAX_FOUND = 500


class LocationService:
    def __init__(self, database: Database, keyring: Keyring) -> None:
        self._database = database
        self._keyring = keyring

    async def CreateLocation(self, request: CreateLocationRequest, caller: Caller) -> bytes:
        async def work(conn: Connection, now: datetime) -> Location:
            location = Location()
            location.CopyFrom(request.location)
            location.id = location.id or str(uuid4())
            if request.chargers:
                location.evses.extend(await _evses_of_chargers(conn, caller, request.chargers))
            elif location.site_id and not location.evses and not request.create_empty:
                location.evses.extend(await _evses_of_site(conn, caller, location.site_id))
            wish = Wish(LOCATIONS, location, "location", may_exist=False)
            location = await put_one(conn, caller, now, wish)
            await publish(conn, caller, now, request.publish_to, location)
            return location

        return await mutate(self._database, self._keyring, request, caller, work)

    async def GetLocation(self, request: GetLocationRequest, caller: Caller) -> bytes:
        return await location_get(self._database, caller.tenant_id, key_of(request.key))

    async def BatchGetLocations(self, request: BatchGetLocationsRequest, caller: Caller) -> bytes:
        keys = [key_of(key) for key in request.keys]
        return batch_response(await location_get_many(self._database, caller.tenant_id, keys))

    async def ListLocations(self, request: ListLocationsRequest, caller: Caller) -> bytes:
        after, size = key_before(request), page_size(request.page_size)
        rows = await location_page(self._database, caller.tenant_id, request, after, size + 1)
        return list_response(request, rows, size)

    async def SearchLocations(self, request: SearchLocationsRequest, caller: Caller) -> bytes:
        limit = min(page_size(request.limit), _MAX_FOUND)
        if request.HasField("box"):
            return search_response(await location_box(self._database, caller.tenant_id, _boxes(request.box), limit))
        point, radius_m = _point(request.near.point), request.near.radius_m
        boxes, haversine = boxes_around(point, radius_m), haversine_of(radius_m)
        return search_response(await location_near(self._database, caller.tenant_id, boxes, point, haversine, limit))

    async def UpdateLocation(self, request: UpdateLocationRequest, caller: Caller) -> bytes:
        async def work(conn: Connection, now: datetime) -> Location:
            mask = [*request.update_mask.paths]
            wish = Wish(LOCATIONS, request.location, "location", may_be_missing=request.allow_missing, mask=mask)
            return await put_one(conn, caller, now, wish)

        return await mutate(self._database, self._keyring, request, caller, work)

    async def BatchUpsertLocations(self, request: BatchUpsertLocationsRequest, caller: Caller) -> bytes:
        async def work(conn: Connection, now: datetime) -> BatchUpsertLocationsResponse:
            wishes = [
                Wish(LOCATIONS, location, f"locations[{number}]", may_be_missing=request.allow_missing)
                for number, location in enumerate(request.locations)
            ]
            results = await put(conn, caller, now, wishes)
            return BatchUpsertLocationsResponse(
                results=[
                    LocationResult(error=status_of(result))
                    if isinstance(result, EvbridgeError)
                    else LocationResult(location=result)
                    for result in results
                ]
            )

        return await mutate(self._database, self._keyring, request, caller, work)

    async def DeleteLocation(self, request: DeleteLocationRequest, caller: Caller) -> bytes:
        key = key_of(request.key)

        async def work(conn: Connection, now: datetime) -> Empty:
            stored = (await location_lock(conn, caller.tenant_id, [key])).get(key)
            if stored is None:
                if request.allow_missing:
                    return Empty()
                raise ResourceNotFound.of("location", key.shown)
            check_etag(request.etag, stored.etag, "location", key.shown)
            await location_bury(conn, caller.tenant_id, key)
            await change_record(conn, caller, OBJECT_KIND_LOCATION, str(key), DELETE, stored.etag)
            return Empty()

        return await mutate(self._database, self._keyring, request, caller, work)

    async def ReportEvseStatus(self, request: ReportEvseStatusRequest, caller: Caller) -> bytes:
        answer = ReportEvseStatusResponse()
        async with self._database.transaction() as conn:
            now = await change_time(conn)
            news = _news(request, now, answer)
            stored = await evse_lock(conn, caller.tenant_id, [*news])
            newer: dict[EvseKey, StoredEvse] = {}
            changes: list[Change] = []
            for key, (number, time) in news.items():
                report = request.reports[number]
                if key not in stored or (evse := stored[key].evse).status == EVSE_STATUS_REMOVED:
                    answer.unknown_reports.append(number)
                elif is_news(evse, time):
                    newer[key] = stored[key]
                    evse.status_time.FromDatetime(time)
                    if evse.status != report.status:
                        evse.status = report.status
                        evse.last_updated.FromDatetime(now)
                        changes.append(Change(str(key), UPDATE, ""))
            await evse_put(conn, caller.tenant_id, newer)
            await change_record_many(conn, caller, OBJECT_KIND_EVSE, changes)
        answer.changed_count = len(changes)
        return answer.SerializeToString()


class Locations(Owned[Location]):
    noun = "location"
    kind = OBJECT_KIND_LOCATION
    key = LocationKey

    async def lock(
        self, conn: Connection, tenant_id: str, keys: Collection[ObjectKey]
    ) -> Mapping[ObjectKey, Location | None]:
        return await location_lock(conn, tenant_id, keys)

    async def write(
        self, conn: Connection, tenant_id: str, objects: Sequence[Location], locked: Mapping[ObjectKey, Location | None]
    ) -> None:
        await location_put(conn, tenant_id, objects, locked)

    def keep(self, wanted: Location, before: Location) -> None:
        keep_evses(wanted, before)

    def tariffs(self, wanted: Location) -> Iterator[tuple[str, ObjectKey]]:
        return tariffs_named(wanted)

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
    await change_record_many(conn, caller, OBJECT_KIND_EVSE, [Change(str(key), UPDATE, "") for key in changed])
    return len(changed)


async def _evses_of_site(conn: Connection, caller: Caller, site_id: str) -> list[Evse]:
    """An EVSE for each socket of the site. Raises SiteHasNoChargers."""
    chargers = await charger_lock_site(conn, caller.tenant_id, site_id)
    if not chargers:
        raise SiteHasNoChargers("no charger of the site is stored", site_id=site_id)
    await _name_evses(conn, caller, chargers)
    return [evse for charger in chargers for evse in evses_of(charger)]


async def _evses_of_chargers(conn: Connection, caller: Caller, wanted: Sequence[LocationCharger]) -> list[Evse]:
    """An EVSE for each of the sockets. Raises InvalidArgument for one that is wanted twice, and ReferenceNotFound."""
    places = _places([charger_key(each.charger_id) for each in wanted], "chargers[{}].charger_id")
    chargers = await charger_lock_many(conn, caller.tenant_id, places.keys())
    if missing := [(key, path) for key, path in places.items() if key not in chargers]:
        violations = tuple(FieldViolation(path, "is no charger of the tenant") for _, path in missing)
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
    places = _places([each.id.casefold() for each in wanted.connectors], path + ".connectors[{}].id")
    if missing := [(key, place) for key, place in places.items() if key not in evses]:
        violations = tuple(FieldViolation(place, "is no socket of the charger") for _, place in missing)
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
    await change_record_many(conn, caller, OBJECT_KIND_CHARGER, changes)


def _places(keys: Iterable[str], path: str) -> dict[str, str]:
    """Key -> path, with its number in the place of {}. Raises InvalidArgument for a key that stands there twice."""
    places: dict[str, str] = {}
    for number, key in enumerate(keys):
        place = path.format(number)
        if places.setdefault(key, place) != place:
            raise InvalidArgument.field(place, "stands in the request twice")
    return places


def _news(
    request: ReportEvseStatusRequest, now: datetime, answer: ReportEvseStatusResponse
) -> dict[EvseKey, tuple[int, datetime]]:
    """The EVSEs with the position of the report and its time; the answer is given those that are refused."""
    news: dict[EvseKey, tuple[int, datetime]] = {}
    for number, report in enumerate(request.reports):
        path, key = f"reports[{number}]", EvseKey.of(key_of(report.location), report.evse_uid)
        try:
            if key in news:
                raise InvalidArgument.field(f"{path}.evse_uid", "is reported on in the request before")
            news[key] = number, reported_time(report, now, path)
        except InvalidArgument as error:
            answer.refused_reports.add(report=number, error=status_of(error))
    return news


def _boxes(box: BoundingBox) -> list[Box]:
    """Raises InvalidArgument for a box that is upside down."""
    south_west, north_east = _point(box.south_west), _point(box.north_east)
    if south_west.latitude > north_east.latitude:
        raise InvalidArgument.field("box.south_west.latitude", "lies north of the other corner")
    return boxes_between(south_west, north_east)


def _point(place: GeoLocation) -> Point:
    return Point(float(place.longitude), float(place.latitude))

"""evbridge.v1.LocationService."""

from datetime import datetime
from typing import NamedTuple
from uuid import uuid4

from evbridge.v1.location_pb2 import (
    BatchGetLocationsRequest,
    BatchUpsertLocationsRequest,
    BatchUpsertLocationsResponse,
    BoundingBox,
    CreateLocationRequest,
    DeleteLocationRequest,
    GeoLocation,
    GetLocationRequest,
    ListLocationsRequest,
    Location,
    ReportEvseStatusRequest,
    ReportEvseStatusResponse,
    SearchLocationsRequest,
    UpdateLocationRequest,
)

from service.domain.caller import Caller
from service.domain.geography import Box, Point, boxes_around, boxes_between, haversine_of
from service.domain.keys import EvseKey, key_of
from service.domain.location import reported_time
from service.domain.pages import batch_response, key_before, list_response, page_size, search_response
from service.domain.status import status_of
from service.errors import InvalidArgument, ReceivedIsReadOnly
from service.resources.location import LOCATIONS, evses_of_chargers, evses_of_site, statuses_changed
from service.resources.mutation import mutate, mutate_delete, mutate_many, mutate_one, put_one
from service.resources.noun import Upsert
from service.resources.objects import check_ours
from service.resources.publication import publish
from service.storage.connection import Connection
from service.storage.keyring import Keyring
from service.storage.location import (
    NewStatus,
    evse_report,
    location_box,
    location_get,
    location_get_many,
    location_near,
    location_page,
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
                location.evses.extend(await evses_of_chargers(conn, caller, request.chargers))
            elif location.site_id and not location.evses and not request.create_empty:
                location.evses.extend(await evses_of_site(conn, caller, location.site_id))
            upsert = Upsert(LOCATIONS, location, "location", may_exist=False)
            location = await put_one(conn, caller, now, upsert)
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
        limit, side = min(page_size(request.limit), _MAX_FOUND), (caller.tenant_id, request.integration_id)
        if request.HasField("box"):
            return search_response(await location_box(self._database, *side, _boxes(request.box), limit))
        point, radius_m = _point(request.near.point), request.near.radius_m
        boxes, haversine = boxes_around(point, radius_m), haversine_of(radius_m)
        return search_response(await location_near(self._database, *side, boxes, point, haversine, limit))

    async def UpdateLocation(self, request: UpdateLocationRequest, caller: Caller) -> bytes:
        mask = request.update_mask.paths
        upsert = Upsert(LOCATIONS, request.location, "location", may_be_missing=request.allow_missing, mask=mask)
        return await mutate_one(self._database, self._keyring, request, caller, upsert)

    async def BatchUpsertLocations(self, request: BatchUpsertLocationsRequest, caller: Caller) -> bytes:
        upserts = [
            Upsert(LOCATIONS, location, f"locations[{number}]", may_be_missing=request.allow_missing)
            for number, location in enumerate(request.locations)
        ]
        return await mutate_many(self._database, self._keyring, request, caller, upserts, BatchUpsertLocationsResponse)

    async def DeleteLocation(self, request: DeleteLocationRequest, caller: Caller) -> bytes:
        key = key_of(request.key)
        return await mutate_delete(self._database, self._keyring, request, caller, LOCATIONS, key)

    async def ReportEvseStatus(self, request: ReportEvseStatusRequest, caller: Caller) -> bytes:
        async def work(conn: Connection, now: datetime) -> ReportEvseStatusResponse:
            answer = ReportEvseStatusResponse()
            reported = _reported(request, now, answer)
            new = {key: each.new for key, each in reported.items()}
            changed, unknown = await evse_report(conn, caller.tenant_id, now, new)
            await statuses_changed(conn, caller, changed)
            answer.unknown_reports.extend(sorted(reported[key].number for key in unknown))
            answer.changed_count = len(changed)
            caller.trail.refused += len(unknown) + len(answer.refused_reports)
            return answer

        return await mutate(self._database, self._keyring, request, caller, work)


class _Report(NamedTuple):
    """Where a report stands in the request, and what it says."""

    number: int
    new: NewStatus


def _reported(
    request: ReportEvseStatusRequest, now: datetime, answer: ReportEvseStatusResponse
) -> dict[EvseKey, _Report]:
    """What is reported, by EVSE; the answer is given the reports that are refused."""
    reported: dict[EvseKey, _Report] = {}
    for number, report in enumerate(request.reports):
        path, key = f"reports[{number}]", EvseKey.of(key_of(report.location), report.evse_uid)
        try:
            check_ours("location", key.location)
            if key in reported:
                raise InvalidArgument.field(f"{path}.evse_uid", "has an earlier report in this request")
            reported[key] = _Report(number, NewStatus(report.status, reported_time(report, now, path)))
        except (InvalidArgument, ReceivedIsReadOnly) as error:
            answer.refused_reports.add(report=number, error=status_of(error))
    return reported


def _boxes(box: BoundingBox) -> list[Box]:
    """Raises InvalidArgument for a box that is upside down."""
    south_west, north_east = _point(box.south_west), _point(box.north_east)
    if south_west.latitude > north_east.latitude:
        raise InvalidArgument.field("box.south_west.latitude", "lies north of the other corner")
    return boxes_between(south_west, north_east)


def _point(place: GeoLocation) -> Point:
    return Point(float(place.longitude), float(place.latitude))

"""LocationService through the front door."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import grpc
import pytest
from evbridge.v1.location_pb2 import (
    EVSE_STATUS_AVAILABLE,
    EVSE_STATUS_BLOCKED,
    EVSE_STATUS_CHARGING,
    EVSE_STATUS_OUTOFORDER,
    EVSE_STATUS_REMOVED,
    VEHICLE_TYPE_VAN,
    AdditionalGeoLocation,
    BatchGetLocationsRequest,
    BatchUpsertLocationsRequest,
    BoundingBox,
    CreateLocationRequest,
    DeleteLocationRequest,
    Evse,
    EvseParking,
    EvseStatus,
    EvseStatusReport,
    ExceptionalPeriod,
    GeoLocation,
    GetLocationRequest,
    Hours,
    ListLocationsRequest,
    Location,
    LocationKey,
    NearPoint,
    Parking,
    PublishTokenType,
    RegularHours,
    ReportEvseStatusRequest,
    ReportEvseStatusResponse,
    SearchLocationsRequest,
    StatusSchedule,
    UpdateLocationRequest,
)
from evbridge.v1.party_pb2 import CreatePartyRequest, DeletePartyRequest
from evbridge.v1.tariff_pb2 import (
    BatchUpsertTariffsRequest,
    CreateTariffRequest,
    DeleteTariffRequest,
    Tariff,
    TariffKey,
    UpdateTariffRequest,
)
from evbridge.v1.types_pb2 import DisplayText, Image
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import code_pb2, error_details_pb2
from google.type.decimal_pb2 import Decimal

from service.app import Evbridge
from service.storage.statements import Statement
from tests.conftest import Tenant
from tests.filled import filled, unset
from tests.front_door import a_connector, a_location, a_party, a_tariff, an_evse, fails

Code = grpc.StatusCode


@pytest.fixture
async def party(tenant: Tenant) -> Tenant:
    """A tenant that is the party DE*ABC and has the tariffs T1 and T2, of two types."""
    await tenant.admin.parties.CreateParty(CreatePartyRequest(party=a_party()))
    for type in (1, 2):
        await tenant.writer.tariffs.CreateTariff(CreateTariffRequest(tariff=a_tariff(id=f"T{type}", type=type)))
    return tenant


def key(location: Location) -> LocationKey:
    return LocationKey(country_code=location.country_code, party_id=location.party_id, id=location.id)


def named(location: Location, **changes: Any) -> Location:
    """A patch of the location."""
    names = {"country_code": location.country_code, "party_id": location.party_id, "id": location.id}
    return Location(**names, **changes)


async def create(tenant: Tenant, **changes: Any) -> Location:
    return await tenant.writer.locations.CreateLocation(CreateLocationRequest(location=a_location(**changes)))


async def get(tenant: Tenant, location: Location) -> Location:
    return await tenant.reader.locations.GetLocation(GetLocationRequest(key=key(location)))


async def update(tenant: Tenant, location: Location, *paths: str, **more: Any) -> Location:
    request = UpdateLocationRequest(location=location, update_mask=FieldMask(paths=paths), **more)
    return await tenant.writer.locations.UpdateLocation(request)


async def upsert(tenant: Tenant, *locations: Location, **more: Any) -> Any:
    request = BatchUpsertLocationsRequest(locations=locations, **{"allow_missing": True, **more})
    return (await tenant.writer.locations.BatchUpsertLocations(request)).results


async def delete(tenant: Tenant, location: Location, **more: Any) -> None:
    await tenant.writer.locations.DeleteLocation(DeleteLocationRequest(key=key(location), **more))


def a_report(location: Location, uid: str, status: int, time: datetime | None = None) -> EvseStatusReport:
    report = EvseStatusReport(location=key(location), evse_uid=uid, status=EvseStatus.Name(status))
    if time:
        report.status_time.FromDatetime(time)
    return report


async def report(tenant: Tenant, *reports: EvseStatusReport) -> ReportEvseStatusResponse:
    return await tenant.writer.locations.ReportEvseStatus(ReportEvseStatusRequest(reports=reports))


async def listed(tenant: Tenant, **filters: Any) -> list[str]:
    """The ids on all pages."""
    request, found = ListLocationsRequest(**filters), []
    while True:
        page = await tenant.reader.locations.ListLocations(request)
        found += [location.id for location in page.locations]
        request.page_token = page.next_page_token
        if not request.page_token:
            return found


def moved(after: Any, before: Any) -> bool:
    """Whether last_updated did, and that only forwards."""
    later, earlier = after.last_updated.ToNanoseconds(), before.last_updated.ToNanoseconds()
    assert later >= earlier > 0
    return later > earlier


def place(latitude: float, longitude: float) -> GeoLocation:
    return GeoLocation(latitude=f"{latitude:.5f}", longitude=f"{longitude:.5f}")


URL = "https://example.com/t"
VALUES = {
    "evbridge.v1.Location.integration_id": None,  # ours
    "evbridge.v1.Location.country_code": "DE",
    "evbridge.v1.Location.party_id": "ABC",
    "evbridge.v1.Location.publish": False,
    "evbridge.v1.Location.country": "DEU",
    "evbridge.v1.Location.postal_code": "10117",
    "evbridge.v1.Location.time_zone": "Europe/Berlin",
    "evbridge.v1.Location.evses": None,
    "evbridge.v1.GeoLocation": place(52.5, 13.4),
    "evbridge.v1.AdditionalGeoLocation.latitude": "-52.1234567",
    "evbridge.v1.AdditionalGeoLocation.longitude": "-180.00000",
    "evbridge.v1.BusinessDetails.website": URL,
    "evbridge.v1.Image.url": URL,
    "evbridge.v1.Image.thumbnail": URL,
    "evbridge.v1.Image.type": "png",
    "evbridge.v1.DisplayText.language": "en",
    "evbridge.v1.Hours.twentyfourseven": False,
    "evbridge.v1.Hours.regular_hours": [
        RegularHours(weekday=day, period_begin="08:00", period_end="24:00") for day in (1, 2)
    ],
    "evbridge.v1.Evse.floor_level": "-1",
    "evbridge.v1.Evse.physical_reference": "7",
    "evbridge.v1.Parking.physical_reference": "P7",
    "evbridge.v1.Connector.tariff_ids": ["T1", "t2"],
    "evbridge.v1.Connector.terms_and_conditions": URL,
    "google.protobuf.Timestamp": Timestamp(seconds=1, nanos=5),
    "google.type.Decimal": Decimal(value="12.3400"),
}
VALUES["evbridge.v1.Evse.connectors"] = [
    filled(a_connector().DESCRIPTOR, {**VALUES, "evbridge.v1.Connector.id": id}) for id in ("1", "a")
]
VALUES["evbridge.v1.Location.parking_places"] = [
    filled(Parking.DESCRIPTOR, {**VALUES, "evbridge.v1.Parking.id": id}) for id in ("P1", "p2")
]
VALUES["evbridge.v1.Location.evses"] = [
    filled(Evse.DESCRIPTOR, {**VALUES, "evbridge.v1.Evse.uid": uid}) for uid in ("E1", "e2")
]


def stripped(location: Location) -> Location:
    """Without what only evbridge sets."""
    copy = Location()
    copy.CopyFrom(location)
    for part in (copy, *copy.evses, *(connector for evse in copy.evses for connector in evse.connectors)):
        for name in ("create_time", "last_updated", "etag", "status_time"):
            if name in part.DESCRIPTOR.fields_by_name:
                part.ClearField(name)
    return copy


async def test_every_field_is_stored_and_comes_back(party: Tenant) -> None:
    sent = filled(Location.DESCRIPTOR, VALUES)
    stored = await party.writer.locations.CreateLocation(CreateLocationRequest(location=sent))
    assert list(unset(stored)) == ["origin", "overrides", "integration_id"]
    assert await get(party, stored) == stored
    assert stripped(stored) == sent
    found = await party.reader.locations.BatchGetLocations(BatchGetLocationsRequest(keys=[key(stored)]))
    assert [*found.locations] == [stored]
    page = await party.reader.locations.ListLocations(ListLocationsRequest())
    assert [*page.locations] == [stored]
    near = SearchLocationsRequest(near=NearPoint(point=place(52.5, 13.4), radius_m=1))
    assert [*(await party.reader.locations.SearchLocations(near)).locations] == [stored]


async def test_output_only_fields_that_are_sent_are_ignored(party: Tenant) -> None:
    sent = a_location()
    sent.last_updated.FromSeconds(1)
    sent.create_time.FromSeconds(1)
    for evse in sent.evses:
        evse.last_updated.FromSeconds(1)
        evse.status_time.FromSeconds(1)
        evse.connectors[0].last_updated.FromSeconds(1)
    stored = await party.writer.locations.CreateLocation(CreateLocationRequest(location=sent))
    evse = stored.evses[0]
    times = (stored.create_time, evse.last_updated, evse.status_time, evse.connectors[0].last_updated)
    assert {time.ToNanoseconds() for time in times} == {stored.last_updated.ToNanoseconds()}
    assert stored.last_updated.seconds > 1


async def test_ids_ignore_case_and_are_shown_as_they_were_first_written(party: Tenant) -> None:
    connectors = [a_connector("c1", tariff_ids=["t1"])]
    created = await create(
        party, id="Mall-7", country_code="de", party_id="abc", evses=[an_evse("Ev1", connectors=connectors)]
    )
    assert (created.country_code, created.party_id, created.id) == ("DE", "ABC", "Mall-7")
    shouted = LocationKey(country_code="de", party_id="aBc", id="MALL-7")
    assert await party.reader.locations.GetLocation(GetLocationRequest(key=shouted)) == created
    assert (await fails(create(party, id="mall-7"))).reason == "RESOURCE_EXISTS"
    connectors = [a_connector("C1", tariff_ids=["t1"])]
    same = await update(party, named(created, evses=[an_evse("EV1", connectors=connectors)]))
    assert same == created
    await report(party, EvseStatusReport(location=shouted, evse_uid="eV1", status=EVSE_STATUS_CHARGING))
    assert (await get(party, created)).evses[0].status == EVSE_STATUS_CHARGING


def hours(**changes: Any) -> dict[str, Any]:
    return {"opening_times": Hours(**changes)}


def evse(**changes: Any) -> dict[str, Any]:
    return {"evses": [an_evse("E0"), an_evse(**{"uid": "E1", **changes})]}


def parking(id: str, **changes: Any) -> Parking:
    whole = {"vehicle_types": [VEHICLE_TYPE_VAN], "restricted_to_type": False, "reservation_required": False}
    return Parking(id=id, **whole | changes)


def connector(**changes: Any) -> dict[str, Any]:
    return evse(connectors=[a_connector(**changes)])


def token(**changes: Any) -> dict[str, Any]:
    return {"publish": False, "publish_allowed_to": [PublishTokenType(**changes)]}


E, C, H = "location.evses[1]", "location.evses[1].connectors[0]", "location.opening_times"
NINE = RegularHours(weekday=1, period_begin="09:00", period_end="17:00")
INVALID = [
    ({"country_code": "D"}, "location.country_code"),
    ({"party_id": "ABCD"}, "location.party_id"),
    ({"id": "a "}, "location.id"),
    ({"id": "i" * 37}, "location.id"),
    ({"id": "a\0b"}, "location.id"),
    ({"publish": None}, "location.publish"),
    ({"publish_allowed_to": [PublishTokenType(group_id="g")]}, "location"),
    (token(), "location.publish_allowed_to[0]"),
    (token(uid="u"), "location.publish_allowed_to[0]"),
    (token(visual_number="v"), "location.publish_allowed_to[0]"),
    (token(group_id="ü"), "location.publish_allowed_to[0].group_id"),
    ({"address": ""}, "location.address"),
    ({"city": "c" * 46}, "location.city"),
    ({"country": "DE"}, "location.country"),
    ({"coordinates": None}, "location.coordinates"),
    ({"coordinates": GeoLocation(latitude="90.00001", longitude="0.00000")}, "location.coordinates.latitude"),
    ({"coordinates": GeoLocation(latitude="1.0000", longitude="0.00000")}, "location.coordinates.latitude"),
    ({"coordinates": GeoLocation(latitude="1.00000", longitude="180.00001")}, "location.coordinates.longitude"),
    ({"coordinates": GeoLocation(latitude="1.00000", longitude="1e5")}, "location.coordinates.longitude"),
    ({"related_locations": [AdditionalGeoLocation()]}, "location.related_locations[0].latitude"),
    ({"time_zone": "Europe/Atlantis"}, "location.time_zone"),
    ({"time_zone": "../etc/passwd"}, "location.time_zone"),
    ({"time_zone": ""}, "location.time_zone"),
    ({"facilities": [1, 1]}, "location.facilities"),
    ({"help_phone": "+49 30 1234567890 extension"}, "location.help_phone"),
    ({"parking_places": [parking("P1"), parking("p1")]}, "location.parking_places"),
    ({"parking_places": [parking("P1", vehicle_types=[])]}, "location.parking_places[0].vehicle_types"),
    ({"parking_places": [parking("P1", time_limit=Decimal(value="-1"))]}, "location.parking_places[0].time_limit"),
    (evse(parking=[EvseParking(evse_position=1)]), f"{E}.parking[0].parking_id"),
    (evse(accepted_service_providers=[""]), f"{E}.accepted_service_providers[0]"),
    (connector(capabilities=[9]), f"{C}.capabilities[0]"),
    ({"images": [Image(url=URL, category=1, type="png", width=100000)]}, "location.images[0].width"),
    (hours(), f"{H}.twentyfourseven"),
    (hours(twentyfourseven=False), H),
    (hours(twentyfourseven=True, regular_hours=[NINE]), H),
    (hours(twentyfourseven=False, regular_hours=[RegularHours(weekday=8)]), f"{H}.regular_hours[0].weekday"),
    (
        hours(twentyfourseven=False, regular_hours=[RegularHours(weekday=1, period_begin="24:00", period_end="24:01")]),
        f"{H}.regular_hours[0].period_end",
    ),
    (
        hours(twentyfourseven=True, exceptional_closings=[ExceptionalPeriod(period_begin=Timestamp(seconds=1))]),
        f"{H}.exceptional_closings[0].period_end",
    ),
    ({"evses": [an_evse("A"), an_evse("a")]}, "location"),
    (evse(uid=""), f"{E}.uid"),
    (evse(status=0), f"{E}.status"),
    (evse(evse_id="e" * 49), f"{E}.evse_id"),
    (evse(status_schedule=[StatusSchedule(status=1)]), f"{E}.status_schedule[0].period_begin"),
    (evse(capabilities=[99]), f"{E}.capabilities[0]"),
    (evse(floor_level="12345"), f"{E}.floor_level"),
    (evse(connectors=[]), f"{E}.connectors"),
    (evse(connectors=[a_connector("c"), a_connector("C")]), E),
    (connector(standard=0), f"{C}.standard"),
    (connector(max_voltage=0), f"{C}.max_voltage"),
    (connector(tariff_ids=["T1", "T1"]), f"{C}.tariff_ids"),
    (connector(terms_and_conditions="no url"), f"{C}.terms_and_conditions"),
]


@pytest.mark.parametrize(("changes", "path"), INVALID)
async def test_a_field_that_breaks_its_rule_is_named_and_nothing_is_stored(
    party: Tenant, changes: dict[str, Any], path: str
) -> None:
    failure = await fails(create(party, **changes))
    assert (failure.code, failure.reason) == (Code.INVALID_ARGUMENT, "INVALID_FIELD")
    assert path in failure.violations
    good, refused = await upsert(party, a_location(id="good"), a_location(**changes))
    assert (good.error.code, refused.error.code) == (code_pb2.OK, code_pb2.INVALID_ARGUMENT)
    assert await listed(party) == ["good"]


async def test_a_location_names_a_party_and_tariffs_that_exist(party: Tenant) -> None:
    failure = await fails(create(party, party_id="XYZ"))
    assert (failure.code, failure.reason) == (Code.FAILED_PRECONDITION, "REFERENCE_NOT_FOUND")
    assert failure.metadata == {"resource": "party", "id": "DE*XYZ"}
    assert set(failure.violations) == {"location.party_id"}
    evses = [an_evse("E1", connectors=[a_connector("1"), a_connector("2", tariff_ids=["none", "t1"])])]
    failure = await fails(create(party, evses=evses))
    assert (failure.code, failure.reason) == (Code.FAILED_PRECONDITION, "REFERENCE_NOT_FOUND")
    assert failure.metadata == {"resource": "tariff", "id": "DE*ABC*none"}
    assert set(failure.violations) == {"location.evses[0].connectors[1].tariff_ids[0]"}
    results = await upsert(party, a_location(evses=evses), a_location())
    assert [result.error.code for result in results] == [code_pb2.FAILED_PRECONDITION, code_pb2.OK]


async def test_a_tariff_that_a_connector_names_and_a_party_that_owns_a_location_are_not_deleted(party: Tenant) -> None:
    evses = [an_evse("E1", connectors=[a_connector(tariff_ids=["t1", "T2"])]), an_evse("E2")]
    created = await create(party, evses=evses)
    drop = DeleteTariffRequest(key=TariffKey(country_code="DE", party_id="ABC", id="T1"))
    failure = await fails(party.writer.tariffs.DeleteTariff(drop))
    assert (failure.code, failure.reason) == (Code.FAILED_PRECONDITION, "TARIFF_IN_USE")
    assert failure.metadata == {"locations": "1", "rules": "0"}
    await update(party, named(created, evses=[an_evse("E2")]))  # E1 is REMOVED and sells nothing any more
    await party.writer.tariffs.DeleteTariff(drop)
    assert (await update(party, named(created, name="n"))).evses[1].status == EVSE_STATUS_REMOVED
    back = await fails(update(party, named(created, evses=evses)))
    assert set(back.violations) == {"location.evses[0].connectors[0].tariff_ids[0]"}
    drop.key.id = "T2"
    await party.writer.tariffs.DeleteTariff(drop)
    whole = DeletePartyRequest(country_code="DE", party_id="ABC")
    failure = await fails(party.admin.parties.DeleteParty(whole))
    assert (failure.reason, failure.metadata) == (
        "PARTY_IN_USE",
        {"tariffs": "0", "locations": "1", "tokens": "0", "integrations": "0"},
    )
    await delete(party, created)
    await party.admin.parties.DeleteParty(whole)


async def priced(tenant: Tenant, id: str, type: int, begin: int = 0, end: int = 0) -> None:
    """Stores a tariff of DE*ABC that holds from one of these seconds until before the other."""
    times = {"start_date_time": begin, "end_date_time": end}
    changes = {name: Timestamp(seconds=second) for name, second in times.items() if second}
    request = BatchUpsertTariffsRequest(tariffs=[a_tariff(id=id, type=type, **changes)], allow_missing=True)
    assert not (await tenant.writer.tariffs.BatchUpsertTariffs(request)).results[0].HasField("error")


def two_of(*ids: str, **changes: Any) -> list[Evse]:
    """Two EVSEs with a connector each, of which the second names the tariffs."""
    return [an_evse("E1"), an_evse("E2", connectors=[a_connector(tariff_ids=ids)], **changes)]


async def test_a_connector_has_one_tariff_of_a_type_at_a_time(party: Tenant) -> None:
    await priced(party, "now", 1, end=2000)
    await priced(party, "late", 1, begin=1999)
    await priced(party, "next", 1, begin=2000)
    await priced(party, "any", 0)
    created = await create(party, evses=two_of("now", "next", "any", "T2"))
    failure = await fails(update(party, named(created, evses=two_of("T2", "late", "now"))))
    assert (failure.code, failure.reason) == (Code.FAILED_PRECONDITION, "TARIFFS_ACTIVE_TOGETHER")
    assert failure.metadata == {"tariff_id": "DE*ABC*now", "other_tariff_id": "DE*ABC*late"}
    assert set(failure.violations) == {"location.evses[1].connectors[0].tariff_ids"}
    # At different connectors they are none of each other's business, nor where nothing is sold any more.
    apart = [an_evse("E1", connectors=[a_connector("1", tariff_ids=["now"]), a_connector("2", tariff_ids=["late"])])]
    results = await upsert(
        party,
        a_location(evses=two_of("now", "T1")),
        a_location(evses=apart),
        a_location(evses=two_of("now", "late", status=EVSE_STATUS_REMOVED)),
    )
    assert [result.error.code for result in results] == [code_pb2.FAILED_PRECONDITION, code_pb2.OK, code_pb2.OK]


async def test_a_tariff_does_not_begin_to_hold_beside_another_of_its_type(party: Tenant) -> None:
    await priced(party, "now", 1, end=2000)
    await priced(party, "next", 1, begin=2000)
    await priced(party, "apart", 3)
    connectors = [a_connector("1", tariff_ids=["now", "next"]), a_connector("2", tariff_ids=["apart", "T2"])]
    await create(party, evses=[an_evse("E1", connectors=connectors)])

    async def moved(*tariffs: Tariff) -> list[int]:
        request = BatchUpsertTariffsRequest(tariffs=tariffs)
        return [each.error.code for each in (await party.writer.tariffs.BatchUpsertTariffs(request)).results]

    def of(id: str, **changes: Any) -> Tariff:
        return a_tariff(id=id, **{"type": 1, **changes})

    later, sooner = Timestamp(seconds=3000), Timestamp(seconds=1000)
    failure = await fails(party.writer.tariffs.UpdateTariff(UpdateTariffRequest(tariff=of("now", end_date_time=later))))
    assert (failure.reason, set(failure.violations)) == ("TARIFFS_ACTIVE_TOGETHER", {"tariff"})
    assert failure.metadata == {"tariff_id": "DE*ABC*now", "other_tariff_id": "DE*ABC*next"}
    ok, refused = code_pb2.OK, code_pb2.FAILED_PRECONDITION
    # Moved together they fit, unless one of them is not moved.
    assert await moved(of("now", end_date_time=later), of("next", start_date_time=later)) == [ok, ok]
    assert await moved(of("next", start_date_time=sooner), of("now", end_date_time=sooner, party_id="XYZ")) == [
        refused,
        code_pb2.NOT_FOUND,
    ]
    # Of its type there is one at the other connector of the EVSE alone.
    assert await moved(of("apart")) == [ok]
    assert await moved(of("apart", type=2)) == [refused]


async def test_a_deleted_location_names_no_tariff(party: Tenant) -> None:
    created = await create(party, evses=[an_evse("E1", connectors=[a_connector(tariff_ids=["T1"])])])
    await delete(party, created)
    drop = DeleteTariffRequest(key=TariffKey(country_code="DE", party_id="ABC", id="T1"))
    await party.writer.tariffs.DeleteTariff(drop)


async def test_a_tariff_is_not_deleted_while_a_location_begins_to_name_it(party: Tenant) -> None:
    for number in range(10):
        tariff = await party.writer.tariffs.CreateTariff(CreateTariffRequest(tariff=a_tariff(id=f"race{number}")))
        drop = DeleteTariffRequest(key=TariffKey(country_code="DE", party_id="ABC", id=tariff.id))
        evses = [an_evse("E1", connectors=[a_connector(tariff_ids=[tariff.id])])]
        outcomes = await asyncio.gather(
            party.writer.tariffs.DeleteTariff(drop), create(party, evses=evses), return_exceptions=True
        )
        assert [isinstance(outcome, grpc.aio.AioRpcError) for outcome in outcomes].count(True) == 1


async def test_an_update_changes_what_it_names(party: Tenant) -> None:
    created = await create(party, name="before", postal_code="10117")
    changed = await update(party, named(created, name="after"), "name", "postal_code")
    assert (changed.name, changed.postal_code) == ("after", "")
    assert changed.evses == created.evses
    assert changed.create_time == created.create_time
    assert moved(changed, created)
    assert await get(party, created) == changed
    assert await update(party, named(created, name="after")) == changed  # what does not change is not written
    assert "location.address" in (await fails(update(party, named(created), "address"))).violations
    assert "update_mask" in (await fails(update(party, named(created), "evses.status"))).violations
    stale = await fails(update(party, named(created, name="x", etag=created.etag)))
    assert (stale.code, stale.reason) == (Code.ABORTED, "ETAG_MISMATCH")
    replaced = await update(party, a_location(id=created.id, city="Potsdam"), "*")
    assert (replaced.city, replaced.name) == ("Potsdam", "")
    nested = await update(party, named(created, coordinates=place(1, 2)), "coordinates.latitude")
    assert (nested.coordinates.latitude, nested.coordinates.longitude) == ("1.00000", "13.377704")
    near = SearchLocationsRequest(near=NearPoint(point=nested.coordinates, radius_m=1))
    assert [*(await party.reader.locations.SearchLocations(near)).locations] == [nested]


async def test_an_update_creates_what_is_missing_only_when_told(party: Tenant) -> None:
    wanted = a_location()
    assert (await fails(update(party, wanted))).code is Code.NOT_FOUND
    created = await update(party, wanted, "name", allow_missing=True)
    assert stripped(created) == wanted
    assert "location" in (await fails(update(party, Location(name="x")))).violations
    assert (
        "location.id" in (await fails(update(party, Location(country_code="DE", party_id="ABC", id="\0")))).violations
    )


async def test_the_times_of_all_levels_move_exactly_with_what_changed(party: Tenant) -> None:
    two = [a_connector("1"), a_connector("2")]
    first = await create(party, evses=[an_evse("E1", connectors=two), an_evse("E2", connectors=two)])
    second = await update(
        party,
        named(
            first,
            evses=[
                an_evse("E1", connectors=two),
                an_evse("E2", connectors=[two[0], a_connector("2", max_amperage=16)]),
            ],
        ),
    )
    assert [moved(second, first), *(moved(a, b) for a, b in zip(second.evses, first.evses, strict=True))] == [
        True,
        False,
        True,
    ]
    pairs = zip(second.evses[1].connectors, first.evses[1].connectors, strict=True)
    assert [moved(a, b) for a, b in pairs] == [False, True]
    assert second.evses[1].status_time == first.evses[1].status_time
    assert second.evses[0] == first.evses[0]
    third = await update(party, named(first, name="n"))
    assert (moved(third, second), third.evses) == (True, second.evses)
    status = [*third.evses]
    status[0].status = EVSE_STATUS_BLOCKED
    fourth = await update(party, named(first, evses=status))
    assert (moved(fourth, third), fourth.etag) == (True, third.etag)
    assert moved(fourth.evses[0], second.evses[0])
    assert fourth.evses[0].status_time == fourth.last_updated
    assert fourth.evses[0].connectors == second.evses[0].connectors
    assert fourth.evses[1] == third.evses[1]
    turned = await update(party, named(first, evses=[fourth.evses[1], fourth.evses[0]]))
    assert [*turned.evses] == [fourth.evses[1], fourth.evses[0]]
    assert (moved(turned, fourth), turned.etag != fourth.etag) == (True, True)
    assert await get(party, first) == turned


async def test_an_evse_that_is_left_out_is_removed_and_can_come_back(party: Tenant) -> None:
    created = await create(party)
    without = await update(party, named(created, evses=[an_evse("E2"), an_evse("E3")]))
    assert [(evse.uid, evse.status) for evse in without.evses] == [
        ("E2", EVSE_STATUS_AVAILABLE),
        ("E3", EVSE_STATUS_AVAILABLE),
        ("E1", EVSE_STATUS_REMOVED),
    ]
    assert without.etag != created.etag
    assert without.evses[2].status_time == without.last_updated
    assert await get(party, created) == without
    answer = await report(party, a_report(created, "E1", EVSE_STATUS_CHARGING))
    assert (answer.changed_count, [*answer.unknown_reports]) == (0, [0])
    assert await update(party, named(created, evses=[an_evse("E2"), an_evse("E3")])) == without
    emptied = await update(party, named(created), "evses")
    assert {evse.status for evse in emptied.evses} == {EVSE_STATUS_REMOVED}
    back = await update(party, named(created, evses=[an_evse("e1"), an_evse("E2"), an_evse("E3")]))
    assert [(evse.uid, evse.status) for evse in back.evses] == [
        (uid, EVSE_STATUS_AVAILABLE) for uid in ("E1", "E2", "E3")
    ]


async def test_removed_evses_count_towards_the_limit(party: Tenant) -> None:
    created = await create(party, evses=[an_evse(f"a{number}") for number in range(999)])
    failure = await fails(update(party, named(created, evses=[an_evse("b0"), an_evse("b1")])))
    assert set(failure.violations) == {"location.evses"}
    changed = await update(party, named(created, evses=[an_evse("b0")]))
    assert len(changed.evses) == 1000
    assert await get(party, created) == changed


async def test_the_newest_report_wins(party: Tenant) -> None:
    created = await create(party)
    now = datetime.now(UTC)
    answer = await report(party, a_report(created, "E1", EVSE_STATUS_CHARGING, now + timedelta(seconds=60)))
    assert (answer.changed_count, [*answer.unknown_reports]) == (1, [])
    first = await get(party, created)
    assert (first.evses[0].status, first.evses[1]) == (EVSE_STATUS_CHARGING, created.evses[1])
    assert first.evses[0].status_time.ToDatetime(UTC) == now + timedelta(seconds=60)
    assert (first.etag, moved(first, created), moved(first.evses[0], created.evses[0])) == (created.etag, True, True)
    assert first.evses[0].connectors == created.evses[0].connectors
    for seconds in (60, 59, -(10**9)):
        time = now + timedelta(seconds=seconds)
        assert not (await report(party, a_report(created, "E1", EVSE_STATUS_BLOCKED, time))).changed_count
        assert await get(party, created) == first
    same = await report(party, a_report(created, "E1", EVSE_STATUS_CHARGING, now + timedelta(seconds=61)))
    assert not same.changed_count
    later = await get(party, created)
    assert not moved(later, first)
    assert later.evses[0].status_time.ToDatetime(UTC) == now + timedelta(seconds=61)
    guarded = await update(party, named(created, name="n", etag=created.etag))
    assert guarded.evses == later.evses


async def test_what_an_earlier_build_stored_is_reported_on(party: Tenant, running: Evbridge) -> None:
    """It wrote an EVSE as protobuf does, where a status cannot be replaced without a parse."""
    created = await create(party, evses=[an_evse("E1"), an_evse("E2"), an_evse("E3")])
    store = Statement("store", "UPDATE evse SET payload = $3 WHERE tenant_id = $1 AND key = $2")
    for evse in created.evses[:2]:
        payload = Location(evses=[evse]).SerializeToString()
        assert await running.database.run(store, party.name, evse.uid.casefold(), payload) == 1
    answer = await report(
        party,
        *(a_report(created, uid, EVSE_STATUS_CHARGING) for uid in ("E3", "E1", "none")),
        a_report(created, "E2", EVSE_STATUS_AVAILABLE),
    )
    assert (answer.changed_count, [*answer.unknown_reports]) == (2, [2])
    changed = await get(party, created)
    assert [evse.status for evse in changed.evses] == [
        EVSE_STATUS_CHARGING,
        EVSE_STATUS_AVAILABLE,
        EVSE_STATUS_CHARGING,
    ]
    assert [moved(*pair) for pair in zip(changed.evses, created.evses, strict=True)] == [True, False, True]
    for uid in ("E1", "E2", "E3"):
        assert (await report(party, a_report(created, uid, EVSE_STATUS_BLOCKED))).changed_count == 1
    assert {evse.status for evse in (await get(party, created)).evses} == {EVSE_STATUS_BLOCKED}


async def test_a_report_without_a_time_is_of_now(party: Tenant) -> None:
    created = await create(party)
    await report(party, a_report(created, "E2", EVSE_STATUS_OUTOFORDER))
    after = await get(party, created)
    assert after.evses[1].status_time == after.evses[1].last_updated == after.last_updated


async def test_reports_that_cannot_be(party: Tenant) -> None:
    created = await create(party)
    good = a_report(created, "E1", EVSE_STATUS_CHARGING)
    never = a_report(created, "E2", EVSE_STATUS_CHARGING)
    never.status_time.seconds = 1 << 60
    for bad, path in [
        (never, "reports[1].status_time"),
        (a_report(created, "E2", EVSE_STATUS_REMOVED), "reports[1].status"),
        (a_report(created, "", EVSE_STATUS_BLOCKED), "reports[1].evse_uid"),
    ]:
        failure = await fails(report(party, good, bad))
        assert (failure.code, set(failure.violations)) == (Code.INVALID_ARGUMENT, {path})
    assert (await fails(report(party))).violations.keys() == {"reports"}
    assert await get(party, created) == created


async def test_a_report_that_is_refused_costs_no_other(party: Tenant) -> None:
    created = await create(party)
    answer = await report(
        party,
        a_report(created, "E2", EVSE_STATUS_CHARGING, datetime.now(UTC) + timedelta(minutes=6)),
        a_report(created, "E1", EVSE_STATUS_CHARGING),
        a_report(created, "e1", EVSE_STATUS_BLOCKED),
        a_report(created, "E2", EVSE_STATUS_BLOCKED),
        a_report(created, "E9", EVSE_STATUS_BLOCKED),
    )
    assert (answer.changed_count, [*answer.unknown_reports]) == (2, [4])
    assert [(each.report, each.error.code, each.error.message) for each in answer.refused_reports] == [
        (0, code_pb2.INVALID_ARGUMENT, "reports[0].status_time: is more than 5 minutes ahead"),
        (2, code_pb2.INVALID_ARGUMENT, "reports[2].evse_uid: has an earlier report in this request"),
    ]
    stored = await get(party, created)
    assert [evse.status for evse in stored.evses] == [EVSE_STATUS_CHARGING, EVSE_STATUS_BLOCKED]


async def test_unknown_evses_are_listed_by_position(party: Tenant) -> None:
    created, gone = await create(party), await create(party)
    await delete(party, gone)
    answer = await report(
        party,
        a_report(a_location(), "E1", EVSE_STATUS_CHARGING),
        a_report(created, "E1", EVSE_STATUS_CHARGING),
        a_report(created, "E3", EVSE_STATUS_CHARGING),
        a_report(gone, "E1", EVSE_STATUS_CHARGING),
    )
    assert (answer.changed_count, [*answer.unknown_reports]) == (1, [0, 2, 3])


async def test_a_thousand_evses_report_at_once(party: Tenant) -> None:
    both = [await create(party, evses=[an_evse(f"E{number}") for number in range(500)]) for _ in range(2)]
    reports = [a_report(each, f"e{number}", EVSE_STATUS_CHARGING) for number in range(500) for each in both]
    assert (await report(party, *reports)).changed_count == 1000
    for each in both:
        after = await get(party, each)
        assert {evse.status for evse in after.evses} == {EVSE_STATUS_CHARGING}
        assert [evse.uid for evse in after.evses] == [evse.uid for evse in each.evses]
    assert "reports" in (await fails(report(party, *reports, reports[0]))).violations


async def test_concurrent_reports_end_with_the_newest(party: Tenant) -> None:
    created = await create(party)
    now = datetime.now(UTC)
    statuses = [EVSE_STATUS_CHARGING, EVSE_STATUS_BLOCKED, EVSE_STATUS_OUTOFORDER, EVSE_STATUS_AVAILABLE]
    calls = []
    for number in range(20):
        time, status = now + timedelta(seconds=1 + number * 7 % 20), statuses[number * 7 % 20 % 4]
        uids = ("E1", "E2") if number % 2 else ("E2", "E1")
        calls.append(report(party, *(a_report(created, uid, status, time) for uid in uids)))
    await asyncio.gather(*calls)
    for evse in (await get(party, created)).evses:
        assert (evse.status, evse.status_time.ToDatetime(UTC)) == (statuses[19 % 4], now + timedelta(seconds=20))


async def test_updates_and_reports_at_the_same_time_lose_nothing(party: Tenant) -> None:
    created = await create(party)
    now = datetime.now(UTC)
    await asyncio.gather(
        *(update(party, named(created, name=f"n{number}"), "name") for number in range(8)),
        *(
            report(party, a_report(created, uid, EVSE_STATUS_CHARGING, now + timedelta(seconds=1 + number)))
            for number in range(8)
            for uid in ("E1", "E2")
        ),
        update(party, named(created, city="Potsdam"), "city"),
    )
    after = await get(party, created)
    assert (after.city, after.name[0]) == ("Potsdam", "n")
    for evse in after.evses:
        assert (evse.status, evse.status_time.ToDatetime(UTC)) == (EVSE_STATUS_CHARGING, now + timedelta(seconds=8))
    same = a_location(id=created.id, name=after.name, city=after.city)
    for evse in same.evses:
        evse.status = EVSE_STATUS_CHARGING
    assert await update(party, same, "*") == after


async def test_a_batch_takes_and_refuses_each_on_its_own(party: Tenant) -> None:
    there = await create(party, name="there")
    results = await upsert(
        party,
        a_location(id="new"),
        a_location(id=there.id, name="replaced", etag=there.etag, evses=[an_evse("E2")]),
        a_location(id="bad", time_zone="Mars/Olympus"),
        a_location(id="stale", etag="other"),
        a_location(id="NEW"),
        a_location(id="foreign", party_id="XYZ"),
    )
    assert [result.error.code for result in results] == [
        code_pb2.OK,
        code_pb2.OK,
        code_pb2.INVALID_ARGUMENT,
        code_pb2.ABORTED,
        code_pb2.INVALID_ARGUMENT,
        code_pb2.FAILED_PRECONDITION,
    ]
    assert [evse.status for evse in results[1].location.evses] == [EVSE_STATUS_AVAILABLE, EVSE_STATUS_REMOVED]
    bad = error_details_pb2.BadRequest()
    assert results[2].error.details[1].Unpack(bad)
    assert bad.field_violations[0].field == "locations[2].time_zone"
    assert sorted(await listed(party)) == sorted(["new", there.id])
    for result in results[:2]:
        assert await get(party, result.location) == result.location
    only = await upsert(party, a_location(id=there.id), a_location(id="more"), allow_missing=False)
    assert [result.error.code for result in only] == [code_pb2.OK, code_pb2.NOT_FOUND]


async def test_a_batch_is_bounded_rehearsed_and_repeated(party: Tenant) -> None:
    full = [a_location(id=f"l{number:03}") for number in range(500)]
    assert (await fails(upsert(party, *full, a_location()))).violations.keys() == {"locations"}
    rehearsed = await upsert(party, *full, validate_only=True)
    assert all(result.location.etag for result in rehearsed)
    assert not await listed(party)
    request_id = str(uuid4())
    stored = await upsert(party, *full, request_id=request_id)
    assert await upsert(party, *full, request_id=request_id) == stored
    assert [result.location for result in await upsert(party, *full)] == [result.location for result in stored]
    keys = [key(location) for location in reversed(full)]
    got = await party.reader.locations.BatchGetLocations(BatchGetLocationsRequest(keys=keys))
    assert [*got.locations] == [result.location for result in reversed(stored)]
    missing = BatchGetLocationsRequest(keys=[keys[0], LocationKey(country_code="DE", party_id="ABC", id="none")])
    assert (await fails(party.reader.locations.BatchGetLocations(missing))).code is Code.NOT_FOUND


async def test_a_deleted_location_is_gone_and_can_be_made_again(party: Tenant) -> None:
    created = await create(party, name="first")
    assert (await fails(delete(party, created, etag="other"))).reason == "ETAG_MISMATCH"
    await delete(party, created, etag=created.etag)
    assert (await fails(get(party, created))).code is Code.NOT_FOUND
    assert not await listed(party)
    near = SearchLocationsRequest(near=NearPoint(point=created.coordinates, radius_m=1000))
    assert not (await party.reader.locations.SearchLocations(near)).locations
    assert (await fails(delete(party, created))).code is Code.NOT_FOUND
    await delete(party, created, allow_missing=True)
    again = await create(party, id=created.id.upper(), evses=[an_evse("E2")])
    assert (again.name, again.id, [evse.uid for evse in again.evses]) == ("", created.id.upper(), ["E2"])
    assert again.create_time.ToNanoseconds() > created.create_time.ToNanoseconds()
    assert again.evses[0].last_updated == again.create_time
    assert await get(party, created) == again


async def test_lists_filter_and_page(party: Tenant) -> None:
    await party.admin.parties.CreateParty(CreatePartyRequest(party=a_party(country_code="NO", party_id="XYZ")))
    for number in range(3):
        await create(party, id=f"de-{number}")
    await create(party, id="no-0", country_code="NO", party_id="XYZ")
    for filters, expected in [
        ({}, ["de-0", "de-1", "de-2", "no-0"]),
        ({"page_size": 2}, ["de-0", "de-1", "de-2", "no-0"]),
        ({"country_code": "no"}, ["no-0"]),
        ({"party_id": "abc", "page_size": 1}, ["de-0", "de-1", "de-2"]),
        ({"party_id": "zzz"}, []),
    ]:
        assert await listed(party, **filters) == expected


async def test_a_page_ends_at_a_mebibyte_with_its_evses(party: Tenant) -> None:
    """Each location is about 0.4 MB, nearly all of it EVSEs."""
    evses = [an_evse(f"E{number}", directions=[{"language": "en", "text": "t" * 400}]) for number in range(900)]
    for number in range(4):
        await create(party, id=f"big-{number}", evses=evses)
    page = await party.reader.locations.ListLocations(ListLocationsRequest())
    assert [location.id for location in page.locations] == ["big-0", "big-1", "big-2"]
    assert await listed(party) == [f"big-{number}" for number in range(4)]


def moved_by(latitude: float, longitude: float) -> dict[str, Any]:
    return {"coordinates": place(latitude, longitude)}


async def found(tenant: Tenant, **area: Any) -> list[str]:
    response = await tenant.reader.locations.SearchLocations(SearchLocationsRequest(**area))
    return [location.id for location in response.locations]


def near(latitude: float, longitude: float, radius_m: int, **more: Any) -> dict[str, Any]:
    return {"near": NearPoint(point=place(latitude, longitude), radius_m=radius_m), **more}


def box(south: float, west: float, north: float, east: float, **more: Any) -> dict[str, Any]:
    return {"box": BoundingBox(south_west=place(south, west), north_east=place(north, east)), **more}


PLACES = {
    "gate": (52.51628, 13.37770),  # Brandenburg Gate
    "tower": (52.52082, 13.40945),  # 2.21 km from it
    "palace": (52.40402, 13.03854),  # 26.1 km
    "oslo": (59.91387, 10.75225),  # 838 km
    "fiji": (-16.80000, 179.99000),
    "taveuni": (-16.80000, -179.99000),  # 2.13 km from it, over the antimeridian
    "meridian": (0.0, 180.0),
    "pole": (89.99900, 0.0),
    "beyond": (89.99900, 180.0),  # 222 m from it, over the pole
}
SEARCHES = [
    (near(52.51628, 13.37770, 1), ["gate"]),
    (near(52.51628, 13.37770, 2150), ["gate"]),
    (near(52.51628, 13.37770, 2250), ["gate", "tower"]),
    (near(52.51628, 13.37770, 26500), ["gate", "tower", "palace"]),
    (near(52.51628, 13.37770, 25500), ["gate", "tower"]),
    (near(52.40402, 13.03854, 100000), ["palace", "gate", "tower"]),
    (near(52.40402, 13.03854, 100000, limit=2), ["palace", "gate"]),
    (near(-16.8, 179.99, 2120), ["fiji"]),
    (near(-16.8, 179.99, 2140), ["fiji", "taveuni"]),
    (near(-16.8, -179.99, 2140), ["taveuni", "fiji"]),
    (near(0.0, -180.0, 1), ["meridian"]),
    (near(89.999, 0.0, 223), ["pole", "beyond"]),
    (near(89.999, 0.0, 222), ["pole"]),
    (near(-89.999, 0.0, 100000), []),
    (box(52.4, 13.0, 52.6, 13.4), ["gate", "palace"]),
    (box(52.4, 13.0, 52.6, 13.4, limit=1), 1),
    (box(-17, 179, -16, -179), ["fiji", "taveuni"]),
    (box(-17, 179, -16, 180), ["fiji"]),
    (box(-1, -180, 1, -179), ["meridian"]),
    (box(-90, -180, 90, 180), [*PLACES]),
    (box(-90, 14, 90, 13), ["oslo", "fiji", "taveuni", "meridian", "pole", "beyond"]),
]


async def test_searches_find_what_is_there(party: Tenant) -> None:
    await upsert(party, *(a_location(id=id, **moved_by(*where)) for id, where in PLACES.items()))
    for area, expected in SEARCHES:
        ids = await found(party, **area)
        if isinstance(expected, int):
            assert len(ids) == expected, area
        elif "near" in area:
            assert ids == expected, area
        else:
            assert sorted(ids) == sorted(expected), area


async def test_a_search_names_one_area_that_is_none_upside_down(party: Tenant) -> None:
    for area in ({}, {**near(1, 1, 1), **box(1, 1, 2, 2)}, near(1, 1, 0), near(1, 1, 100001), box(2, 1, 1, 2)):
        assert (await fails(found(party, **area))).code is Code.INVALID_ARGUMENT


async def test_another_tenants_location_does_not_exist(
    party: Tenant, new_tenant: Callable[[], Awaitable[Tenant]]
) -> None:
    created = await create(party)
    other = await new_tenant()
    await other.admin.parties.CreateParty(CreatePartyRequest(party=a_party()))
    assert (await fails(get(other, created))).code is Code.NOT_FOUND
    assert (await fails(update(other, created))).code is Code.NOT_FOUND
    assert (await fails(delete(other, created))).code is Code.NOT_FOUND
    assert [*(await report(other, a_report(created, "E1", EVSE_STATUS_CHARGING))).unknown_reports] == [0]
    assert not await found(other, **near(52.5, 13.4, 100000))
    assert not await listed(other)
    await create(other, id=created.id, name="theirs")
    assert await get(party, created) == created


async def test_changes_are_recorded_for_locations_and_for_statuses(party: Tenant, running: Evbridge) -> None:
    created = await create(party, id="L1")
    await report(party, *(a_report(created, uid, EVSE_STATUS_CHARGING) for uid in ("E1", "E2")))
    await report(party, a_report(created, "E1", EVSE_STATUS_CHARGING))
    changed = await update(party, named(created, name="n"))
    await update(party, named(created, name="n"))
    await delete(party, created)
    recorded = Statement(
        "recorded",
        "SELECT object_kind, object_id, operation, etag FROM change"
        " WHERE tenant_id = $1 AND object_kind IN (5, 6) ORDER BY change_id",
    )
    assert [tuple(row) for row in await running.database.rows(recorded, party.name)] == [
        (5, "DEABCl1", "create", created.etag),
        (6, "DEABCl1/e1", "update", ""),
        (6, "DEABCl1/e2", "update", ""),
        (5, "DEABCl1", "update", changed.etag),
        (5, "DEABCl1", "delete", changed.etag),
    ]


async def test_a_batch_too_large_to_send_is_refused_and_a_search_ends_early(party: Tenant) -> None:
    texts = [DisplayText(language="en", text="t" * 512)] * 50
    wide = [
        a_location(
            id=f"wide-{number}",
            directions=texts,
            evses=[an_evse(uid=f"E{each}", directions=texts) for each in range(8)],
        )
        for number in range(16)
    ]
    results = await upsert(party, *wide)
    assert all(result.location.etag for result in results)
    assert sum(result.location.ByteSize() for result in results) > 3 << 20
    keys = [key(location) for location in wide]
    failure = await fails(party.reader.locations.BatchGetLocations(BatchGetLocationsRequest(keys=keys)))
    assert (failure.code, set(failure.violations)) == (Code.INVALID_ARGUMENT, {"keys"})
    got = await party.reader.locations.BatchGetLocations(BatchGetLocationsRequest(keys=keys[:8]))
    assert [location.id for location in got.locations] == [location.id for location in wide[:8]]
    found = await party.reader.locations.SearchLocations(
        SearchLocationsRequest(near=NearPoint(point=wide[0].coordinates, radius_m=1000))
    )
    assert 1 <= len(found.locations) < len(wide)
    assert found.ByteSize() < 2 << 20


async def test_each_location_of_a_batch_is_stored_with_its_own_time(party: Tenant, running: Evbridge) -> None:
    ahead, other = [await create(party, id=id, name="before") for id in ("ahead", "other")]
    forward = (
        "UPDATE location SET last_updated = last_updated + interval '1 hour' WHERE tenant_id = $1 AND key = 'ahead'"
    )
    await running.database.run(Statement("forward", forward), party.name)
    results = await upsert(party, *(a_location(id=each.id, name="after") for each in (ahead, other)))
    stored = [result.location for result in results]
    assert [await get(party, location) for location in stored] == stored
    assert stored[0].last_updated.seconds > stored[1].last_updated.seconds + 3000

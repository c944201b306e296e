"""ChargerService through the front door, and locations made of the chargers of a site."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import grpc
import pytest
from evbridge.v1.charger_pb2 import (
    Charger,
    CreateChargerRequest,
    DeleteChargerRequest,
    GetChargerRequest,
    ListChargersRequest,
    Socket,
    UpdateChargerRequest,
)
from evbridge.v1.location_pb2 import (
    EVSE_STATUS_CHARGING,
    EVSE_STATUS_REMOVED,
    EVSE_STATUS_UNKNOWN,
    BatchUpsertLocationsRequest,
    CreateLocationRequest,
    DeleteLocationRequest,
    GetLocationRequest,
    ListLocationsRequest,
    Location,
    LocationCharger,
    LocationKey,
    LocationSocket,
    UpdateLocationRequest,
)
from evbridge.v1.party_pb2 import CreatePartyRequest
from evbridge.v1.tariff_pb2 import CreateTariffRequest
from google.protobuf.field_mask_pb2 import FieldMask

from service.app import Evbridge
from service.storage.statements import Statement
from tests.conftest import Tenant
from tests.filled import filled, unset
from tests.front_door import a_charger, a_connector, a_location, a_party, a_socket, a_tariff, an_evse, fails

Code = grpc.StatusCode


@pytest.fixture
async def party(tenant: Tenant) -> Tenant:
    """A tenant that is the party DE*ABC and has the tariff T1."""
    await tenant.admin.parties.CreateParty(CreatePartyRequest(party=a_party()))
    await tenant.writer.tariffs.CreateTariff(CreateTariffRequest(tariff=a_tariff(id="T1")))
    return tenant


async def create(tenant: Tenant, **changes: Any) -> Charger:
    return await tenant.writer.chargers.CreateCharger(CreateChargerRequest(charger=a_charger(**changes)))


async def get(tenant: Tenant, id: str) -> Charger:
    return await tenant.reader.chargers.GetCharger(GetChargerRequest(id=id))


async def update(tenant: Tenant, charger: Charger, *paths: str, **more: Any) -> Charger:
    request = UpdateChargerRequest(charger=charger, update_mask=FieldMask(paths=paths), **more)
    return await tenant.writer.chargers.UpdateCharger(request)


async def delete(tenant: Tenant, id: str, **more: Any) -> None:
    await tenant.writer.chargers.DeleteCharger(DeleteChargerRequest(id=id, **more))


async def listed(tenant: Tenant, **filters: Any) -> list[str]:
    """The ids on all pages."""
    request, found = ListChargersRequest(**filters), []
    while True:
        page = await tenant.reader.chargers.ListChargers(request)
        found += [charger.id for charger in page.chargers]
        request.page_token = page.next_page_token
        if not request.page_token:
            return found


async def locate(tenant: Tenant, create_empty: bool = False, **changes: Any) -> Location:
    """Creates a location of the site S1, without EVSEs of its own."""
    location = a_location(**{"site_id": "S1", "evses": [], **changes})
    request = CreateLocationRequest(location=location, create_empty=create_empty)
    return await tenant.writer.locations.CreateLocation(request)


def location_key(location: Location) -> LocationKey:
    return LocationKey(country_code=location.country_code, party_id=location.party_id, id=location.id)


def uids(*things: Charger | Location) -> list[str]:
    """Of EVSEs, or as sockets know them."""
    return [
        part.evse_uid if isinstance(part, Socket) else part.uid
        for thing in things
        for part in (thing.sockets if isinstance(thing, Charger) else thing.evses)
    ]


async def test_every_field_is_stored_and_comes_back(tenant: Tenant) -> None:
    sent = filled(
        Charger.DESCRIPTOR,
        {
            "evbridge.v1.Charger.sockets": [
                filled(Socket.DESCRIPTOR, {"evbridge.v1.Socket.id": id}) for id in ("left", "right")
            ]
        },
    )
    stored = await tenant.writer.chargers.CreateCharger(CreateChargerRequest(charger=sent))
    assert [*unset(stored)] == [*["sockets.evse_uid"] * 2, "origin", "overrides"]
    got = await get(tenant, stored.id)
    assert got == stored
    assert [*(await tenant.reader.chargers.ListChargers(ListChargersRequest())).chargers] == [stored]
    for name in ("create_time", "update_time", "etag"):
        got.ClearField(name)
    assert got == sent


async def test_output_only_fields_that_are_sent_are_ignored(tenant: Tenant) -> None:
    sent = a_charger(sockets=[a_socket(evse_uid="mine")])
    sent.create_time.FromSeconds(1)
    sent.update_time.FromSeconds(1)
    stored = await tenant.writer.chargers.CreateCharger(CreateChargerRequest(charger=sent))
    assert (uids(stored), stored.create_time.seconds > 1, stored.update_time) == ([""], True, stored.create_time)
    changed = await update(tenant, Charger(id=sent.id, name="n", sockets=[a_socket(evse_uid="mine")]))
    assert uids(changed) == [""]


async def test_an_id_ignores_case_and_is_shown_as_it_was_first_written(tenant: Tenant) -> None:
    created = await create(tenant, id="Pole-7")
    assert await get(tenant, "POLE-7") == created
    failure = await fails(create(tenant, id="pole-7"))
    assert (failure.code, failure.reason) == (Code.ALREADY_EXISTS, "RESOURCE_EXISTS")
    assert (await update(tenant, Charger(id="pole-7", name="n"))).id == "Pole-7"


S = "charger.sockets[0]"
INVALID = [
    ({"id": ""}, "charger.id"),
    ({"id": "i" * 37}, "charger.id"),
    ({"id": "ü"}, "charger.id"),
    ({"id": "a\0"}, "charger.id"),
    ({"name": "n" * 256}, "charger.name"),
    ({"group_name": "n" * 256}, "charger.group_name"),
    ({"group_id": "n" * 256}, "charger.group_id"),
    ({"site_id": ""}, "charger.site_id"),
    ({"site_id": "s" * 256}, "charger.site_id"),
    ({"site_id": "s\0"}, "charger.site_id"),
    ({"sockets": []}, "charger.sockets"),
    ({"sockets": [a_socket(str(number)) for number in range(51)]}, "charger.sockets"),
    ({"sockets": [a_socket("a"), a_socket("A")]}, "charger"),
    ({"sockets": [a_socket("")]}, f"{S}.id"),
    ({"sockets": [a_socket("i" * 37)]}, f"{S}.id"),
    ({"sockets": [a_socket(standard=0)]}, f"{S}.standard"),
    ({"sockets": [a_socket(standard=99)]}, f"{S}.standard"),
    ({"sockets": [a_socket(format=0)]}, f"{S}.format"),
    ({"sockets": [a_socket(power_type=0)]}, f"{S}.power_type"),
    ({"sockets": [a_socket(max_voltage=0)]}, f"{S}.max_voltage"),
    ({"sockets": [a_socket(max_amperage=100001)]}, f"{S}.max_amperage"),
    ({"sockets": [a_socket(max_electric_power=-1)]}, f"{S}.max_electric_power"),
    ({"sockets": [a_socket(tariff_ids=["T1", "T1"])]}, f"{S}.tariff_ids"),
    ({"sockets": [a_socket(tariff_ids=["ü"])]}, f"{S}.tariff_ids[0]"),
    ({"sockets": [a_socket(status=99)]}, f"{S}.status"),
    ({"sockets": [a_socket(status=EVSE_STATUS_REMOVED)]}, f"{S}.status"),
]


@pytest.mark.parametrize(("changes", "path"), INVALID)
async def test_a_field_that_breaks_its_rule_is_named_and_nothing_is_stored(
    tenant: Tenant, changes: dict[str, Any], path: str
) -> None:
    failure = await fails(create(tenant, **changes))
    assert (failure.code, failure.reason) == (Code.INVALID_ARGUMENT, "INVALID_FIELD")
    assert path in failure.violations
    assert not await listed(tenant)


async def test_an_update_changes_what_it_names_and_is_validated_whole(tenant: Tenant) -> None:
    created = await create(tenant, name="before", active_connection=False)
    changed = await update(tenant, Charger(id=created.id, group_name="g"), "name", "group_name")
    assert (changed.name, changed.group_name, changed.sockets) == ("", "g", created.sockets)
    assert changed.HasField("active_connection")
    assert changed.create_time == created.create_time
    assert changed.update_time.ToNanoseconds() > created.update_time.ToNanoseconds()
    assert changed.etag != created.etag
    assert await get(tenant, created.id) == changed
    assert (
        await update(tenant, Charger(id=created.id, group_name="g")) == changed
    )  # what does not change is not written
    replaced = await update(tenant, a_charger(id=created.id, site_id="S2"), "*")
    assert (replaced.site_id, replaced.group_name) == ("S2", "")
    assert not replaced.HasField("active_connection")
    assert await listed(tenant, site_id="S2") == [created.id]
    assert "charger.sockets" in (await fails(update(tenant, Charger(id=created.id), "sockets"))).violations
    assert "update_mask" in (await fails(update(tenant, Charger(id=created.id), "sockets.status"))).violations
    for id in ("", "\0"):
        assert "charger" in (await fails(update(tenant, Charger(id=id, name="x")))).violations
    stale = await fails(update(tenant, Charger(id=created.id, name="x", etag=created.etag)))
    assert (stale.code, stale.reason) == (Code.ABORTED, "ETAG_MISMATCH")


async def test_an_update_creates_what_is_missing_only_when_told(tenant: Tenant) -> None:
    wanted = a_charger()
    assert (await fails(update(tenant, wanted))).code is Code.NOT_FOUND
    assert "charger.site_id" in (await fails(update(tenant, Charger(id="new"), allow_missing=True))).violations
    guarded = Charger()
    guarded.CopyFrom(wanted)
    guarded.etag = "other"
    assert (await fails(update(tenant, guarded, allow_missing=True))).reason == "ETAG_MISMATCH"
    created = await update(tenant, wanted, "name", allow_missing=True)
    assert created.sockets == wanted.sockets
    assert await get(tenant, wanted.id) == created


async def test_a_deleted_charger_is_gone(tenant: Tenant) -> None:
    created = await create(tenant)
    assert (await fails(delete(tenant, created.id, etag="other"))).reason == "ETAG_MISMATCH"
    await delete(tenant, created.id.upper(), etag=created.etag)
    assert (await fails(get(tenant, created.id))).code is Code.NOT_FOUND
    assert (await fails(delete(tenant, created.id))).code is Code.NOT_FOUND
    await delete(tenant, created.id, allow_missing=True)
    await create(tenant, id=created.id)


async def test_lists_page_in_the_order_of_ids_and_by_site(tenant: Tenant) -> None:
    for id, site_id in [("b2", "S1"), ("A1", "S2"), ("c3", "S1"), ("B1", "S1")]:
        await create(tenant, id=id, site_id=site_id)
    assert await listed(tenant) == ["A1", "B1", "b2", "c3"]
    assert await listed(tenant, page_size=3) == ["A1", "B1", "b2", "c3"]
    assert await listed(tenant, page_size=1, site_id="S1") == ["B1", "b2", "c3"]
    assert await listed(tenant, site_id="s1") == []
    page = await tenant.reader.chargers.ListChargers(ListChargersRequest(page_size=1))
    other = ListChargersRequest(page_token=page.next_page_token, site_id="S1")
    assert (await fails(tenant.reader.chargers.ListChargers(other))).reason == "INVALID_PAGE_TOKEN"


async def test_another_tenants_charger_does_not_exist(
    party: Tenant, new_tenant: Callable[[], Awaitable[Tenant]]
) -> None:
    created = await create(party)
    other = await new_tenant()
    await other.admin.parties.CreateParty(CreatePartyRequest(party=a_party()))
    assert (await fails(get(other, created.id))).code is Code.NOT_FOUND
    assert (await fails(update(other, created))).code is Code.NOT_FOUND
    assert (await fails(delete(other, created.id))).code is Code.NOT_FOUND
    assert not await listed(other)
    assert (await fails(locate(other))).reason == "SITE_HAS_NO_CHARGERS"
    await create(other, id=created.id, name="theirs")
    assert await get(party, created.id) == created


async def test_a_rehearsal_and_a_repeated_call(tenant: Tenant) -> None:
    request = CreateChargerRequest(charger=a_charger(), request_id=str(uuid4()), validate_only=True)
    await tenant.writer.chargers.CreateCharger(request)
    assert not await listed(tenant)
    request.validate_only = False
    first = await tenant.writer.chargers.CreateCharger(request)
    assert await tenant.writer.chargers.CreateCharger(request) == first
    request.charger.name = "another"
    assert (await fails(tenant.writer.chargers.CreateCharger(request))).reason == "REQUEST_ID_REUSED"


async def test_a_location_takes_an_evse_from_every_socket_of_its_site(party: Tenant) -> None:
    fast = a_socket("L", status=EVSE_STATUS_CHARGING, tariff_ids=["t1"], max_electric_power=0)
    first = await create(party, id="A", sockets=[fast, a_socket("R")])
    second = await create(party, id="B", sockets=[a_socket("L")])
    elsewhere = await create(party, site_id="S2")
    located = await locate(party)
    assert [
        (evse.charger_id, evse.status, [*evse.connectors])
        for evse in (await party.reader.locations.GetLocation(GetLocationRequest(key=location_key(located)))).evses
    ] == [
        ("A", EVSE_STATUS_CHARGING, [connector_of(located, 0, "L", tariff_ids=["t1"], max_electric_power=0)]),
        ("A", EVSE_STATUS_UNKNOWN, [connector_of(located, 1, "R")]),
        ("B", EVSE_STATUS_UNKNOWN, [connector_of(located, 2, "L")]),
    ]
    assert len({*uids(located)}) == 3
    named = [await get(party, id) for id in ("A", "B")]
    assert uids(*named) == uids(located)
    assert [(charger.etag, charger.update_time) for charger in named] == [
        (charger.etag, charger.update_time) for charger in (first, second)
    ]
    assert await get(party, elsewhere.id) == elsewhere


def connector_of(location: Location, row: int, id: str, **changes: Any) -> Any:
    return a_connector(id, last_updated=location.evses[row].last_updated, **changes)


async def test_a_socket_keeps_its_evse_and_a_new_one_gets_another(party: Tenant) -> None:
    charger = await create(party, id="A", sockets=[a_socket("1"), a_socket("b")])
    one, two = uids(first := await locate(party))
    await party.writer.locations.DeleteLocation(DeleteLocationRequest(key=location_key(first)))
    assert uids(await locate(party, id=first.id)) == [one, two]
    changed = await update(party, Charger(id="A", sockets=[a_socket("B", max_voltage=400), a_socket("2")]))
    assert [(socket.id, socket.evse_uid) for socket in changed.sockets] == [("b", two), ("2", "")]
    again = await locate(party)
    assert uids(again)[0] == two
    assert uids(again)[1] not in (one, two, "")
    back = await update(party, Charger(id="A", sockets=charger.sockets))
    assert uids(back) == ["", two]
    await delete(party, "A")
    stays = await party.reader.locations.GetLocation(GetLocationRequest(key=location_key(again)))
    assert stays == again
    await create(party, id="A")
    assert not {*uids(await locate(party))} & {one, two, *uids(again)}


async def test_a_site_without_chargers_gives_no_location(party: Tenant) -> None:
    failure = await fails(locate(party))
    assert (failure.code, failure.reason) == (Code.FAILED_PRECONDITION, "SITE_HAS_NO_CHARGERS")
    assert failure.metadata == {"site_id": "S1"}
    assert not (await party.reader.locations.ListLocations(ListLocationsRequest())).locations


async def test_a_location_is_created_as_it_is_when_it_asks_for_no_snapshot(party: Tenant) -> None:
    charger = await create(party)
    assert uids(await locate(party, create_empty=True)) == []
    assert uids(await locate(party, site_id="")) == []
    assert uids(await locate(party, evses=[an_evse("mine")])) == ["mine"]
    assert uids(await locate(party, create_empty=True, evses=[an_evse("mine")])) == ["mine"]
    assert await get(party, charger.id) == charger


def picked(*ids: str, tariff_ids: tuple[str, ...] = ()) -> list[LocationSocket]:
    return [LocationSocket(id=id, tariff_ids=tariff_ids) for id in ids]


async def test_a_location_takes_chargers_by_their_ids_and_is_given_an_id(party: Tenant) -> None:
    """The request of eMabler's: the chargers, their connectors and the tariffs of these, and no id."""
    await party.writer.tariffs.CreateTariff(CreateTariffRequest(tariff=a_tariff(id="T2", type=2)))
    await create(party, id="A", sockets=[a_socket("1", tariff_ids=["T1"]), a_socket("2"), a_socket("3")])
    await create(party, id="B", site_id="S2", sockets=[a_socket("1", tariff_ids=["T1"])])
    await create(party, id="C")
    request = CreateLocationRequest(
        location=a_location(id="", site_id="S1", evses=[an_evse("mine")]),
        chargers=[
            LocationCharger(charger_id="b"),
            LocationCharger(charger_id="A", connectors=[*picked("3"), *picked("1", tariff_ids=("T2", "T1"))]),
        ],
    )
    made = await party.writer.locations.CreateLocation(request)
    assert len(made.id) == 36
    assert [(evse.charger_id, evse.connectors[0].id, [*evse.connectors[0].tariff_ids]) for evse in made.evses] == [
        ("", "1", []),
        ("B", "1", ["T1"]),
        ("A", "3", []),
        ("A", "1", ["T2", "T1"]),
    ]
    stored = await get(party, "A")
    assert [socket.evse_uid for socket in stored.sockets if socket.id != "2"] == [made.evses[3].uid, made.evses[2].uid]
    assert await party.reader.locations.GetLocation(GetLocationRequest(key=location_key(made))) == made
    again = await party.writer.locations.CreateLocation(request)
    assert again.id not in (made.id, "")


@pytest.mark.parametrize(
    ("chargers", "reason", "path"),
    [
        (
            [LocationCharger(charger_id="A"), LocationCharger(charger_id="none")],
            "REFERENCE_NOT_FOUND",
            "[1].charger_id",
        ),
        ([LocationCharger(charger_id="A", connectors=picked("1", "9"))], "REFERENCE_NOT_FOUND", "[0].connectors[1].id"),
        ([LocationCharger(charger_id="A"), LocationCharger(charger_id="a")], "INVALID_FIELD", "[1].charger_id"),
        ([LocationCharger(charger_id="A", connectors=picked("1", "1"))], "INVALID_FIELD", "[0].connectors[1].id"),
        ([LocationCharger()], "INVALID_FIELD", "[0].charger_id"),
    ],
)
async def test_a_charger_that_cannot_be_taken_gives_no_location(
    party: Tenant, chargers: list[LocationCharger], reason: str, path: str
) -> None:
    charger = await create(party, id="A")
    request = CreateLocationRequest(location=a_location(evses=[]), chargers=chargers)
    failure = await fails(party.writer.locations.CreateLocation(request))
    assert (failure.reason, [*failure.violations]) == (reason, [f"chargers{path}"])
    assert not (await party.reader.locations.ListLocations(ListLocationsRequest())).locations
    assert await get(party, "A") == charger


async def test_an_update_names_its_location(party: Tenant) -> None:
    locations = party.writer.locations
    update_one = UpdateLocationRequest(location=a_location(id=""), allow_missing=True)
    assert "location" in (await fails(locations.UpdateLocation(update_one))).violations
    many = BatchUpsertLocationsRequest(locations=[a_location(id="")], allow_missing=True)
    (result,) = (await locations.BatchUpsertLocations(many)).results
    assert "locations[0].id: is required" in result.error.message


async def test_a_socket_that_names_no_tariff_of_the_party_gives_no_location(party: Tenant) -> None:
    charger = await create(party, sockets=[a_socket("1"), a_socket("2", tariff_ids=["T1", "T9"])])
    failure = await fails(locate(party))
    assert (failure.code, failure.reason) == (Code.FAILED_PRECONDITION, "REFERENCE_NOT_FOUND")
    assert failure.metadata == {"resource": "tariff", "id": "DE*ABC*T9"}
    assert set(failure.violations) == {"location.evses[1].connectors[0].tariff_ids[1]"}
    assert not (await party.reader.locations.ListLocations(ListLocationsRequest())).locations
    assert await get(party, charger.id) == charger


async def test_a_rehearsed_location_names_no_evse(party: Tenant) -> None:
    charger = await create(party)
    request = CreateLocationRequest(
        location=a_location(site_id="S1", evses=[]), request_id=str(uuid4()), validate_only=True
    )
    assert len((await party.writer.locations.CreateLocation(request)).evses) == 2
    assert await get(party, charger.id) == charger
    request.validate_only = False
    first = await party.writer.locations.CreateLocation(request)
    assert await party.writer.locations.CreateLocation(request) == first
    assert uids(await get(party, charger.id)) == uids(first)


async def test_a_site_with_more_sockets_than_a_location_has_room_for_is_refused(party: Tenant) -> None:
    sockets = [a_socket(str(number)) for number in range(50)]
    chargers = [await create(party, sockets=sockets) for _ in range(20)]
    assert len(uids(await locate(party))) == 1000
    await create(party, sockets=[a_socket()])
    failure = await fails(locate(party))
    assert (failure.code, failure.reason) == (Code.INVALID_ARGUMENT, "INVALID_FIELD")
    assert set(failure.violations) == {"location.evses"}
    await delete(party, chargers[0].id)
    assert len(uids(await locate(party))) == 951


async def test_locations_made_of_a_site_at_once_agree_on_its_evses(party: Tenant) -> None:
    for number in range(5):
        chargers = [await create(party, site_id=f"race{number}") for _ in range(4)]
        *located, changed = await asyncio.gather(
            *(locate(party, site_id=f"race{number}") for _ in range(8)),
            update(party, Charger(id=chargers[0].id, name="changed")),
        )
        stored = [await get(party, id) for id in await listed(party, site_id=f"race{number}")]
        assert len({*uids(*stored)}) == 8
        assert all(uids(location) == uids(*stored) for location in located)
        assert (await get(party, changed.id)).name == "changed"


async def test_changes_are_recorded(party: Tenant, running: Evbridge) -> None:
    created = await create(party, id="A")
    changed = await update(party, Charger(id="a", name="n"))
    await update(party, Charger(id="a", name="n"))
    await locate(party)
    await locate(party)
    await delete(party, "A")
    recorded = Statement(
        "recorded",
        "SELECT object_id, operation, etag FROM change WHERE tenant_id = $1 AND object_kind = 7 ORDER BY change_id",
    )
    assert [tuple(row) for row in await running.database.rows(recorded, party.name)] == [
        ("a", "create", created.etag),
        ("a", "update", changed.etag),
        ("a", "update", changed.etag),  # its sockets name their EVSEs
        ("a", "delete", changed.etag),
    ]

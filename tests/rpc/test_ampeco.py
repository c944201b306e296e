"""Imports from AMPECO and deliveries to it, through the front door, with a simulated AMPECO."""

import asyncio
import json
from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web
from evbridge.v1 import error_reason_pb2 as reasons
from evbridge.v1.ampeco_connection_pb2 import AmpecoConnection
from evbridge.v1.charger_pb2 import GetChargerRequest, ListChargersRequest, UpdateChargerRequest
from evbridge.v1.delivery_pb2 import (
    DELIVERY_STATE_DELIVERED,
    DELIVERY_STATE_IN_PROGRESS,
    DELIVERY_STATE_PARKED,
    DELIVERY_STATE_PENDING,
    OBJECT_KIND_LOCATION,
    OBJECT_KIND_TARIFF,
    Delivery,
    ListDeliveriesRequest,
    RetryDeliveryRequest,
)
from evbridge.v1.integration_pb2 import CreateIntegrationRequest, UpdateIntegrationRequest
from evbridge.v1.location_pb2 import (
    EVSE_STATUS_AVAILABLE,
    EVSE_STATUS_OUTOFORDER,
    EVSE_STATUS_REMOVED,
    CreateLocationRequest,
    DeleteLocationRequest,
    EvseStatusReport,
    GetLocationRequest,
    Location,
    LocationKey,
    ReportEvseStatusRequest,
    UpdateLocationRequest,
)
from evbridge.v1.party_pb2 import CreatePartyRequest
from evbridge.v1.publication_pb2 import (
    CreatePublicationRuleRequest,
    DeletePublicationRuleRequest,
    PublicationRule,
    TariffSelection,
    UpdatePublicationRuleRequest,
)
from evbridge.v1.run_pb2 import (
    RUN_KIND_DIAGNOSE,
    RUN_KIND_SYNC,
    RUN_STATE_FAILED,
    RUN_STATE_SUCCEEDED,
    StartRunRequest,
    SyncOptions,
)
from evbridge.v1.tariff_pb2 import (
    TARIFF_TYPE_PROFILE_GREEN,
    CreateTariffRequest,
    Tariff,
    TariffKey,
    UpdateTariffRequest,
)
from google.protobuf.field_mask_pb2 import FieldMask

import service.delivery.parts
import service.partners.ampeco.delivery
import service.partners.ampeco.source
import service.runs.worker
from service.app import Evbridge
from service.partners.ampeco.simulator import Simulator
from service.storage.statements import Statement
from tests.ampeco import (
    API,
    CHARGE_POINTS,
    EVSES,
    GROUPS,
    LOCATIONS,
    TARIFFS,
    TAXES,
    alter,
    connect,
    hold,
    locations,
    steps,
    stock,
    sync,
    tariffs,
)
from tests.bridge.fake_ports import a_partner
from tests.conftest import Tenant
from tests.front_door import (
    a_connector,
    a_location,
    a_party,
    a_rule,
    a_tariff,
    an_evse,
    an_integration_of,
    fails,
    settled,
)


@pytest.fixture
async def connected(tenant: Tenant, ampeco: Simulator) -> Tenant:
    """A tenant with the party DE*ABC and an AMPECO integration that speaks for it."""
    await connect(tenant, ampeco)
    return tenant


async def deliveries(tenant: Tenant) -> list[Delivery]:
    return [*(await tenant.reader.deliveries.ListDeliveries(ListDeliveriesRequest())).deliveries]


async def create(tenant: Tenant, **changes: Any) -> Location:
    return await tenant.writer.locations.CreateLocation(CreateLocationRequest(location=a_location(**changes)))


async def update(tenant: Tenant, location: Location, *paths: str) -> Location:
    request = UpdateLocationRequest(location=location, update_mask=FieldMask(paths=paths))
    return await tenant.writer.locations.UpdateLocation(request)


async def create_tariff(tenant: Tenant, **changes: Any) -> Tariff:
    return await tenant.writer.tariffs.CreateTariff(CreateTariffRequest(tariff=a_tariff(**changes)))


async def show(tenant: Tenant, **changes: Any) -> None:
    rule = a_rule(integration_id="am", **changes)
    await tenant.admin.publication.CreatePublicationRule(CreatePublicationRuleRequest(rule=rule))


async def arrived(tenant: Tenant, of: Location | Tariff) -> Delivery:
    """Its delivery, at rest."""
    return await settled(tenant.reader, f"DE*ABC*{of.id}")


def calls(ampeco: Simulator, *methods: str) -> list[str]:
    """What was asked, without reads and versions: `POST evses`."""
    shown = methods or ("POST", "PATCH", "PUT")
    return [
        f"{each.method} {each.path.removeprefix(API + '/').partition('?')[0]}"
        for each in ampeco.requests
        if each.method in shown
    ]


# Imports


async def test_an_import_makes_objects_of_ours_with_an_origin(connected: Tenant, ampeco: Simulator) -> None:
    stock(ampeco)
    run = await sync(connected)
    assert run.state == RUN_STATE_SUCCEEDED, run
    (tariff,) = await tariffs(connected)
    (location,) = await locations(connected)
    assert (tariff.id, tariff.origin.integration_id, tariff.origin.external_id) == ("am-31", "am", "31")
    assert (location.country_code, location.party_id, location.id) == ("DE", "ABC", "am-1")
    assert (location.origin.integration_id, location.origin.external_id) == ("am", "1")
    assert location.origin.synced_time == location.last_updated
    assert (location.name, location.address, location.country) == ("Town hall", "Platz 1", "DEU")
    assert location.time_zone == "Europe/Berlin"
    (evse,) = location.evses
    assert (evse.uid, evse.status) == ("21", EVSE_STATUS_AVAILABLE)
    assert [*evse.connectors[0].tariff_ids] == ["am-31"]
    assert not location.overrides
    assert steps(run) == {
        "tariffs": "1 read, 1 changed",
        "charge points": "2 read, 1 left out as private",
        "evses": "2 read, 1 left out as of a charge point that is left out",
        "chargers": "1 changed",
        "locations": "1 read, 1 changed",
    }
    assert run.progress.done == 6


@pytest.fixture
def unattended(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process that was frozen, nothing notices in time that a lease is over."""

    async def alone(work: Awaitable[None], *_: object) -> None:
        await work

    monkeypatch.setattr(service.runs.worker, "while_leased", alone)


async def overtaken(tenant: Tenant, running: Evbridge, ampeco: Simulator, caplog: pytest.LogCaptureFixture) -> int:
    """How many locations are stored by an import that another worker has taken over while it read them."""
    stock(ampeco)
    ampeco.inject("ListLocations=delay:0.5")
    await tenant.writer.runs.StartRun(StartRunRequest(integration_id="am", kind=RUN_KIND_SYNC))
    while not any("locations" in request.path for request in ampeco.requests):
        await asyncio.sleep(0.01)
    taken = "UPDATE run SET lease_token = lease_token + 1, lease_until = now() + interval '1 h' WHERE tenant_id = $1"
    await running.database.run(Statement("taken", taken), tenant.name)
    while "a run was given up" not in caplog.messages:
        await asyncio.sleep(0.01)
    return len(await locations(tenant))


@pytest.mark.usefixtures("unattended")
async def test_an_import_that_was_taken_over_stores_nothing_more(
    connected: Tenant, running: Evbridge, ampeco: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    assert await overtaken(connected, running, ampeco, caplog) == 0


@pytest.mark.usefixtures("unattended")
async def test_a_control_that_does_not_look_at_its_lease_stores_what_is_old(
    connected: Tenant,
    running: Evbridge,
    ampeco: Simulator,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def nothing(*_: object) -> None:
        pass

    monkeypatch.setattr(service.partners.ampeco.source, "run_hold", nothing)
    assert await overtaken(connected, running, ampeco, caplog) == 1


async def test_an_import_again_changes_nothing_that_did_not_change(connected: Tenant, ampeco: Simulator) -> None:
    stock(ampeco)
    await sync(connected)
    before = (await tariffs(connected), await locations(connected))
    run = await sync(connected)
    assert (await tariffs(connected), await locations(connected)) == before
    assert steps(run)["locations"] == "1 read"
    alter(ampeco, f"{LOCATIONS}/1", city="Potsdam")
    await sync(connected)
    (location,) = await locations(connected)
    (then,) = before[1]
    assert location.city == "Potsdam"
    assert location.etag != then.etag
    assert location.last_updated.ToDatetime() > then.last_updated.ToDatetime()
    assert location.evses == then.evses


async def test_what_was_changed_here_is_left_alone_by_imports(connected: Tenant, ampeco: Simulator) -> None:
    stock(ampeco)
    await sync(connected)
    (location,) = await locations(connected)
    location.name = "Ours"
    location.evses[0].physical_reference = "A1"
    location = await update(connected, location)
    assert [*location.overrides] == ["evses[21].physical_reference", "name"]
    alter(ampeco, f"{LOCATIONS}/1", city="Potsdam", name=[{"locale": "en", "translation": "Theirs"}])
    alter(ampeco, f"{EVSES}/21", physicalReference="B2", hardwareStatus="faulted")
    await sync(connected)
    (synced,) = await locations(connected)
    assert (synced.name, synced.city) == ("Ours", "Potsdam")
    assert synced.evses[0].physical_reference == "A1"
    assert synced.evses[0].status != EVSE_STATUS_AVAILABLE
    assert synced.overrides == location.overrides


async def test_overrides_add_up_and_concern_tariffs_too(connected: Tenant, ampeco: Simulator) -> None:
    stock(ampeco)
    await sync(connected)
    (tariff,) = await tariffs(connected)
    for path, value in (("name", "Ours"), ("tariff_alt_url", "https://wattwerk.example")):
        setattr(tariff, path, value)
        request = UpdateTariffRequest(tariff=tariff, update_mask=FieldMask(paths=[path]))
        tariff = await connected.writer.tariffs.UpdateTariff(request)
    assert [*tariff.overrides] == ["name", "tariff_alt_url"]
    assert tariff.origin.external_id == "31"
    await sync(connected)
    assert await tariffs(connected) == [tariff]


async def test_charge_points_become_chargers_with_an_origin(connected: Tenant, ampeco: Simulator) -> None:
    stock(ampeco)
    await sync(connected)
    (location,) = await locations(connected)
    page = await connected.reader.chargers.ListChargers(ListChargersRequest(site_id=location.site_id))
    (charger,) = page.chargers
    assert (charger.id, charger.id) == ("am-11", location.evses[0].charger_id)
    assert (charger.origin.external_id, charger.origin.synced_time) == ("11", charger.update_time)
    assert [(socket.id, socket.evse_uid) for socket in charger.sockets] == [("121", "21")]
    charger.name, charger.group_name = "Ours", "North"
    charger = await connected.writer.chargers.UpdateCharger(UpdateChargerRequest(charger=charger))
    assert [*charger.overrides] == ["group_name", "name"]
    assert charger.sockets[0].evse_uid == "21"
    assert steps(await sync(connected))["chargers"] == "nothing"
    alter(ampeco, f"{CHARGE_POINTS}/11", name="Theirs", networkStatus="available")
    await sync(connected)
    synced = await connected.reader.chargers.GetCharger(GetChargerRequest(id="am-11"))
    assert (synced.name, synced.active_connection, synced.overrides) == ("Ours", True, charger.overrides)


async def test_an_object_made_here_has_no_origin_and_a_caller_cannot_give_it_one(connected: Tenant) -> None:
    location = await create(connected, origin={"integration_id": "am", "external_id": "1"}, overrides=["name"])
    assert not location.HasField("origin")
    location.name = "Other"
    assert not (await update(connected, location)).overrides


@pytest.mark.parametrize(
    ("option", "members"),
    [
        ("include_private", {"type": "private"}),
        ("include_personal", {"type": "personal"}),
        ("include_demo", {"status": "demo"}),
        ("include_roaming", {"roamingOperatorId": 5}),
    ],
)
async def test_some_charge_points_are_left_out_unless_asked_for(
    connected: Tenant, ampeco: Simulator, option: str, members: dict[str, Any]
) -> None:
    stock(ampeco)
    del ampeco.objects[f"{CHARGE_POINTS}/12"]
    alter(ampeco, f"{CHARGE_POINTS}/11", **members)
    run = await sync(connected)
    assert await locations(connected) == []
    assert f"1 left out as {option.removeprefix('include_')}" in steps(run)["locations"]
    run = await sync(connected, **{option: True})
    assert getattr(run.sync_options, option)
    (location,) = await locations(connected)
    assert [evse.uid for evse in location.evses] == ["21"]
    await sync(connected, allow_mass_removal=True)
    (location,) = await locations(connected)
    assert [evse.status for evse in location.evses] == [EVSE_STATUS_REMOVED]


async def test_a_roaming_location_is_left_out(connected: Tenant, ampeco: Simulator) -> None:
    stock(ampeco)
    alter(ampeco, f"{LOCATIONS}/1", id=2, roamingOperatorId=5)
    assert steps(await sync(connected))["locations"] == "2 read, 1 changed, 1 left out as roaming"


async def test_what_is_gone_there_stays_with_its_evses_removed(connected: Tenant, ampeco: Simulator) -> None:
    stock(ampeco)
    alter(ampeco, f"{LOCATIONS}/1", id=2)
    alter(ampeco, f"{EVSES}/21", id=23)
    alter(ampeco, f"{TARIFFS}/31", id=32)
    await sync(connected)
    del ampeco.objects[f"{LOCATIONS}/2"], ampeco.objects[f"{EVSES}/23"], ampeco.objects[f"{TARIFFS}/32"]
    run = await sync(connected)
    assert run.state == RUN_STATE_SUCCEEDED, run
    first, second = await locations(connected)
    assert {evse.uid: evse.status for evse in first.evses} == {"21": EVSE_STATUS_AVAILABLE, "23": EVSE_STATUS_REMOVED}
    assert not second.evses
    assert len(await tariffs(connected)) == 2
    del ampeco.objects[f"{LOCATIONS}/1"]
    run = await sync(connected, allow_mass_removal=True)
    assert steps(run)["locations"] == "1 gone"
    assert {evse.status for evse in (await locations(connected))[0].evses} == {EVSE_STATUS_REMOVED}
    assert steps(await sync(connected))["locations"] == "nothing"


async def test_what_cannot_be_taken_is_told_and_stops_nothing(connected: Tenant, ampeco: Simulator) -> None:
    stock(ampeco)
    hold(ampeco, TARIFFS, 32, name="By power", type="average power level", currency="EUR", pricing={})
    alter(ampeco, f"{LOCATIONS}/1", id=2, city=None)
    alter(ampeco, f"{EVSES}/21", id=23, connectors=[])
    run = await sync(connected)
    assert run.state == RUN_STATE_SUCCEEDED
    told = steps(run)
    assert "1 refused; 32: " in told["tariffs"]
    assert "type" in told["tariffs"]
    assert "1 refused; 23: connectors: " in told["evses"]
    assert told["locations"].startswith("2 read, 1 changed, 1 refused; 2: city: ")
    assert [location.id for location in await locations(connected)] == ["am-1"]


async def test_an_evse_that_cannot_be_read_any_more_stays_as_it_was(connected: Tenant, ampeco: Simulator) -> None:
    stock(ampeco)
    await sync(connected)
    alter(ampeco, f"{EVSES}/21", connectors=[])
    await sync(connected)
    (location,) = await locations(connected)
    assert [evse.status for evse in location.evses] == [EVSE_STATUS_AVAILABLE]


async def test_what_cannot_be_read_is_counted_and_nothing_is_taken_for_gone(connected: Tenant) -> None:
    held: dict[str, list[Any]] = {}

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.json_response({"data": held.get(request.path, []), "links": {}, "meta": {}})

    like = Simulator(api_key="partner-key")
    stock(like)
    async with a_partner() as partner:
        partner.answer = answer
        connection = AmpecoConnection(base_url=partner.url, api_token="partner-key", time_zone="Europe/Berlin")
        mask = FieldMask(paths=["ampeco.base_url", "ampeco.api_token"])
        request = UpdateIntegrationRequest(integration={"id": "am", "ampeco": connection}, update_mask=mask)
        await connected.admin.integrations.UpdateIntegration(request)
        for path in like.objects:
            held.setdefault(path.rpartition("/")[0], []).append(like.objects[path])
        await sync(connected)
        before = await locations(connected)
        assert [evse.uid for evse in before[0].evses] == ["21"]
        held[EVSES][0]["connectors"] = 5
        assert "1 unreadable" in steps(await sync(connected))["evses"]
        assert await locations(connected) == before
        held[LOCATIONS][0]["name"] = 5
        assert steps(await sync(connected))["locations"] == "1 read, 1 unreadable"
        assert await locations(connected) == before


async def test_only_a_sync_has_its_options(connected: Tenant) -> None:
    request = StartRunRequest(integration_id="am", kind=RUN_KIND_DIAGNOSE, sync_options=SyncOptions())
    failure = await fails(connected.writer.runs.StartRun(request))
    assert failure.reason == "INVALID_FIELD"


async def test_the_strongest_tariff_of_a_group_counts_or_none(connected: Tenant, ampeco: Simulator) -> None:
    stock(ampeco)
    alter(ampeco, f"{TARIFFS}/31", id=32)
    alter(ampeco, f"{GROUPS}/41", tariffIds=[31, 32])
    await sync(connected)
    (location,) = await locations(connected)
    assert [*location.evses[0].connectors[0].tariff_ids] == ["am-32"]
    alter(ampeco, f"{TARIFFS}/32", id=33, restrictions={"applyToAdHocUsers": True})
    alter(ampeco, f"{GROUPS}/41", tariffIds=[31, 32, 33])
    await sync(connected)
    (location,) = await locations(connected)
    assert not location.evses[0].connectors[0].tariff_ids


async def test_an_object_of_ours_under_the_same_id_is_not_overwritten(connected: Tenant, ampeco: Simulator) -> None:
    stock(ampeco)
    await create(connected, id="am-1", name="Ours")
    run = await sync(connected)
    assert "1 refused; 1: location DE*ABC*am-1 already exists" in steps(run)["locations"]
    assert [location.name for location in await locations(connected)] == ["Ours"]


async def test_a_deleted_object_comes_back_whole(connected: Tenant, ampeco: Simulator) -> None:
    stock(ampeco)
    await sync(connected)
    (location,) = await locations(connected)
    location.name = "Ours"
    await update(connected, location, "name")
    key = LocationKey(country_code="DE", party_id="ABC", id="am-1")
    await connected.writer.locations.DeleteLocation(DeleteLocationRequest(key=key))
    await sync(connected)
    back = await connected.reader.locations.GetLocation(GetLocationRequest(key=key))
    assert (back.name, [*back.overrides]) == ("Town hall", [])


async def test_an_import_needs_a_party(tenant: Tenant, ampeco: Simulator) -> None:
    connection = AmpecoConnection(base_url=ampeco.url, api_token="partner-key")
    integration = an_integration_of("ampeco", id="am", ampeco=connection)
    await tenant.admin.integrations.CreateIntegration(CreateIntegrationRequest(integration=integration))
    run = await sync(tenant)
    assert (run.state, run.reason) == (RUN_STATE_FAILED, reasons.INTEGRATION_HAS_NO_PARTY)


async def test_many_pages_are_imported(connected: Tenant, ampeco: Simulator) -> None:
    stock(ampeco)
    for id in range(2, 252):
        alter(ampeco, f"{LOCATIONS}/1", id=id)
    assert steps(await sync(connected))["locations"] == "251 read, 251 changed"


async def test_what_was_imported_is_not_delivered_back(connected: Tenant, ampeco: Simulator) -> None:
    stock(ampeco)
    await show(connected)
    await sync(connected)
    (location,) = await locations(connected)
    location.name = "Ours"
    await update(connected, location, "name")
    await show(connected, id="again")
    ours = await create(connected)
    assert (await arrived(connected, ours)).state == DELIVERY_STATE_DELIVERED
    assert [each.object_id for each in await deliveries(connected)] == [f"DE*ABC*{ours.id}"]
    run = await sync(connected)
    assert "1 left out as ours" in steps(run)["locations"]
    assert len(await locations(connected)) == 2


async def test_what_another_party_of_ours_delivered_is_not_imported(connected: Tenant, ampeco: Simulator) -> None:
    party = a_party(country_code="NL", party_id="XYZ")
    await connected.admin.parties.CreateParty(CreatePartyRequest(party=party))
    parties = [{"country_code": each.country_code, "party_id": each.party_id} for each in (a_party(), party)]
    await connected.admin.integrations.UpdateIntegration(
        UpdateIntegrationRequest(integration={"id": "am", "parties": parties})
    )
    await show(connected)
    location = await create(connected, country_code="NL", party_id="XYZ")
    await settled(connected.reader, f"NLXYZ{location.id}")
    assert steps(await sync(connected))["locations"] == "1 read, 1 left out as ours"
    alter(ampeco, f"{LOCATIONS}/1", externalId="SE*OTH*1")
    assert (await sync(connected)).state == RUN_STATE_SUCCEEDED
    assert [each.id for each in await locations(connected)] == ["am-1", location.id]


# Deliveries


async def test_a_location_goes_as_ordered_calls(connected: Tenant, ampeco: Simulator) -> None:
    await show(connected)
    location = await create(connected, evses=[an_evse("E1", charger_id="C1"), an_evse("E2", charger_id="C1")])
    delivery = await arrived(connected, location)
    assert (delivery.state, delivery.object_kind) == (DELIVERY_STATE_DELIVERED, OBJECT_KIND_LOCATION), delivery
    assert calls(ampeco) == [
        "POST locations/v2.0",
        "POST charge-points/v2.0",
        "POST evses/v2.1",
        "POST charge-points/v2.0/2/evses/3/connectors",
        "POST evses/v2.1",
        "POST charge-points/v2.0/2/evses/5/connectors",
    ]
    held = ampeco.objects
    assert (held[f"{LOCATIONS}/1"]["externalId"], delivery.peer_object.external_id) == (f"DE*ABC*{location.id}", "1")
    assert (held[f"{CHARGE_POINTS}/2"]["locationId"], held[f"{CHARGE_POINTS}/2"]["externalId"]) == (1, "C1")
    assert [held[f"{EVSES}/{id}"]["networkId"] for id in (3, 5)] == ["1", "2"]
    assert [held[f"{EVSES}/{id}"]["externalId"] for id in (3, 5)] == ["E1", "E2"]
    location.name, location.evses[0].physical_reference = "New", "A1"
    await update(connected, location)
    await arrived(connected, location)
    assert calls(ampeco, "PATCH") == ["PATCH locations/v2.0/1", "PATCH evses/v2.1/3"]


async def test_each_charger_is_a_charge_point_and_numbers_its_evses(connected: Tenant, ampeco: Simulator) -> None:
    await show(connected)
    chargers = {"E1": "C1", "E2": "c1", "E3": "C2", "E4": ""}
    location = await create(connected, evses=[an_evse(uid, charger_id=id) for uid, id in chargers.items()])
    await arrived(connected, location)
    made = [held for path, held in ampeco.objects.items() if path.rpartition("/")[0] == CHARGE_POINTS]
    assert [held["externalId"] for held in made] == ["C1", "C2", "E4"]
    evses = [held for path, held in ampeco.objects.items() if path.startswith(EVSES)]
    assert [held["networkId"] for held in evses] == ["1", "2", "1", "1"]
    assert [held["chargePointId"] for held in evses] == [made[0]["id"], made[0]["id"], made[1]["id"], made[2]["id"]]


async def test_what_nobody_shows_is_not_sent_and_a_rule_sends_it(connected: Tenant, ampeco: Simulator) -> None:
    location = await create(connected)
    assert (await arrived(connected, location)).description == ""
    assert ampeco.requests == []
    await show(connected)
    assert (await arrived(connected, location)).state == DELIVERY_STATE_DELIVERED
    assert calls(ampeco)[0] == "POST locations/v2.0"


async def test_a_field_that_is_cleared_travels_as_null(connected: Tenant, ampeco: Simulator) -> None:
    await show(connected)
    location = await create(connected, postal_code="10117")
    await arrived(connected, location)
    assert ampeco.objects[f"{LOCATIONS}/1"]["postCode"] == "10117"
    location.postal_code = ""
    await update(connected, location, "postal_code")
    await arrived(connected, location)
    assert json.loads(ampeco.requests[-1].body)["postCode"] is None
    assert "postCode" not in ampeco.objects[f"{LOCATIONS}/1"]


async def test_what_is_not_shown_any_more_is_disabled(connected: Tenant, ampeco: Simulator) -> None:
    await show(connected, id="all")
    location = await create(connected, evses=[an_evse("E1")])
    await arrived(connected, location)
    delete = DeletePublicationRuleRequest(integration_id="am", id="all")
    await connected.admin.publication.DeletePublicationRule(delete)
    await arrived(connected, location)
    statuses = [ampeco.objects[path]["status"] for path in (f"{CHARGE_POINTS}/2", f"{EVSES}/3")]
    assert statuses == ["disabled", "disabled"]
    await show(connected, id="all")
    await arrived(connected, location)
    statuses = [ampeco.objects[path]["status"] for path in (f"{CHARGE_POINTS}/2", f"{EVSES}/3")]
    assert statuses == ["enabled", "enabled"]
    await connected.writer.locations.DeleteLocation(
        DeleteLocationRequest(key=LocationKey(country_code="DE", party_id="ABC", id=location.id))
    )
    await arrived(connected, location)
    assert ampeco.objects[f"{CHARGE_POINTS}/2"]["status"] == "disabled"
    assert len(calls(ampeco, "POST")) == 4


async def test_a_rule_tells_the_partner_when_it_begins_and_when_it_ends(connected: Tenant, ampeco: Simulator) -> None:
    begin = datetime.now(UTC) + timedelta(seconds=1)
    location = await create(connected, evses=[an_evse("E1")])
    await show(connected, id="once", valid_from=begin)
    charge_point = f"{CHARGE_POINTS}/2"
    async with asyncio.timeout(60):
        while (ampeco.objects.get(charge_point) or {}).get("status") != "enabled":
            await asyncio.sleep(0.05)
        assert datetime.now(UTC) >= begin
        end = datetime.now(UTC) + timedelta(seconds=1)
        ending = PublicationRule(integration_id="am", id="once", valid_until=end)
        await connected.writer.publication.UpdatePublicationRule(UpdatePublicationRuleRequest(rule=ending))
        while ampeco.objects[charge_point]["status"] != "disabled":
            await asyncio.sleep(0.05)
        assert datetime.now(UTC) >= end
    await arrived(connected, location)
    assert len(calls(ampeco, "POST")) == 4


async def test_a_reported_status_goes_to_the_partner(connected: Tenant, ampeco: Simulator) -> None:
    await create_tariff(connected)
    location = await create(connected)
    await show(connected)
    assert (await arrived(connected, location)).state == DELIVERY_STATE_DELIVERED
    for status, theirs in ((EVSE_STATUS_OUTOFORDER, "out of order"), (EVSE_STATUS_AVAILABLE, "enabled")):
        key = LocationKey(country_code="DE", party_id="ABC", id=location.id)
        report = EvseStatusReport(location=key, evse_uid=location.evses[0].uid, status=status)
        await connected.writer.locations.ReportEvseStatus(ReportEvseStatusRequest(reports=[report]))
        async with asyncio.timeout(60):
            while ampeco.objects[f"{EVSES}/3"]["status"] != theirs:
                await asyncio.sleep(0.05)


async def test_an_evse_that_is_removed_is_disabled(connected: Tenant, ampeco: Simulator) -> None:
    await show(connected)
    location = await create(connected, evses=[an_evse("E1", charger_id="C1"), an_evse("E2", charger_id="C1")])
    await arrived(connected, location)
    del location.evses[0]
    location = await update(connected, location, "evses")
    await arrived(connected, location)
    assert [ampeco.objects[f"{EVSES}/{id}"]["status"] for id in (3, 5)] == ["disabled", "enabled"]
    assert [ampeco.objects[f"{EVSES}/{id}"]["networkId"] for id in (3, 5)] == ["1", "2"]
    assert ampeco.objects[f"{CHARGE_POINTS}/2"]["status"] == "enabled"


CREATES = ["CreateLocation", "CreateChargePoint", "CreateEvse", "CreateConnector"]


@pytest.mark.parametrize("rpc", CREATES)
@pytest.mark.parametrize("fault", ["lose_answer", "garbage", "cut", "status:500", "status:503"])
async def test_nothing_is_created_twice(connected: Tenant, ampeco: Simulator, rpc: str, fault: str) -> None:
    ampeco.inject(f"{rpc}={fault}")
    await show(connected)
    location = await create(connected, evses=[an_evse("E1")])
    delivery = await arrived(connected, location)
    assert delivery.state == DELIVERY_STATE_DELIVERED, delivery
    assert [path.rpartition("/")[0].removeprefix(API) for path in ampeco.objects] == [
        "/locations/v2.0",
        "/charge-points/v2.0",
        "/evses/v2.1",
        "/charge-points/v2.0/2/evses/3/connectors",
    ]


async def test_an_attempt_that_takes_too_long_goes_on_later(
    connected: Tenant, ampeco: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service.delivery.parts, "LIMIT_S", 0.0)
    await show(connected)
    location = await create(connected, evses=[an_evse("E1")])
    delivery = await arrived(connected, location)
    assert (delivery.state, delivery.failed_attempts) == (DELIVERY_STATE_DELIVERED, 0)
    assert [attempt.reason for attempt in delivery.attempts] == [0, *[reasons.DELIVERY_UNFINISHED] * 3]
    assert len(calls(ampeco, "POST")) == 4


async def test_a_lost_update_is_sent_again_with_what_it_cleared(connected: Tenant, ampeco: Simulator) -> None:
    await show(connected)
    location = await create(connected, postal_code="10117")
    await arrived(connected, location)
    ampeco.inject("UpdateLocation=cut")
    location.postal_code = ""
    await update(connected, location, "postal_code")
    assert (await arrived(connected, location)).state == DELIVERY_STATE_DELIVERED
    assert "postCode" not in ampeco.objects[f"{LOCATIONS}/1"]


async def test_a_refusal_parks_with_its_reason_and_a_retry_goes_on(connected: Tenant, ampeco: Simulator) -> None:
    ampeco.inject("CreateEvse=status:422")
    await show(connected)
    location = await create(connected, evses=[an_evse("E1")])
    delivery = await arrived(connected, location)
    assert (delivery.state, delivery.reason) == (DELIVERY_STATE_PARKED, reasons.PARTNER_REJECTED)
    assert delivery.attempts[0].http_status == 422
    await connected.writer.deliveries.RetryDelivery(RetryDeliveryRequest(id=delivery.id))
    assert (await arrived(connected, location)).state == DELIVERY_STATE_DELIVERED
    assert calls(ampeco, "POST").count("POST locations/v2.0") == 1


async def test_what_was_deleted_there_parks_until_told_to_make_it_again(connected: Tenant, ampeco: Simulator) -> None:
    await show(connected)
    location = await create(connected, evses=[an_evse("E1")])
    await arrived(connected, location)
    del ampeco.objects[f"{EVSES}/3"]
    ampeco.inject("UpdateEvse=status:404")
    location.evses[0].physical_reference = "A1"
    await update(connected, location)
    delivery = await arrived(connected, location)
    assert (delivery.state, delivery.reason) == (DELIVERY_STATE_PARKED, reasons.PARTNER_CHANGED)


async def test_what_is_made_again_is_made_once_when_the_answer_is_lost(connected: Tenant, ampeco: Simulator) -> None:
    await show(connected)
    location = await create(connected, evses=[an_evse("E1")])
    await arrived(connected, location)
    del ampeco.objects[f"{LOCATIONS}/1"]
    location.name = "New"
    await update(connected, location)
    delivery = await arrived(connected, location)
    assert delivery.reason == reasons.PARTNER_CHANGED
    ampeco.inject("CreateLocation=lose_answer")
    retry = RetryDeliveryRequest(id=delivery.id, overwrite_partner_change=True)
    await connected.writer.deliveries.RetryDelivery(retry)
    assert (await arrived(connected, location)).state == DELIVERY_STATE_DELIVERED
    assert calls(ampeco, "POST").count("POST locations/v2.0") == 2
    assert len([path for path in ampeco.objects if path.startswith(LOCATIONS)]) == 1


@pytest.mark.parametrize("fault", ["status:404", "status:520", "empty", "redirect:http://127.0.0.1:1/"])
async def test_an_outage_neither_parks_what_is_there_nor_makes_it_again(
    connected: Tenant, ampeco: Simulator, fault: str
) -> None:
    await show(connected)
    location = await create(connected, evses=[an_evse("E1")])
    await arrived(connected, location)
    made, before = calls(ampeco, "POST"), len(ampeco.requests)
    ampeco.inject(f"1000*{fault}")
    location.name = "Renamed"
    await update(connected, location)
    while len(ampeco.requests) < before + 6:
        await asyncio.sleep(0.02)
    (delivery,) = await deliveries(connected)
    assert delivery.state in (DELIVERY_STATE_PENDING, DELIVERY_STATE_IN_PROGRESS)
    ampeco.faults.clear()
    assert (await arrived(connected, location)).state == DELIVERY_STATE_DELIVERED
    assert calls(ampeco, "POST") == made


async def test_a_tariff_goes_with_a_group_and_its_location_waits_for_it(connected: Tenant, ampeco: Simulator) -> None:
    tariff = await create_tariff(connected)
    location = await create(connected, evses=[an_evse("E1", connectors=[a_connector(tariff_ids=[tariff.id])])])
    await show(connected)
    async with asyncio.timeout(60):
        while (delivery := await arrived(connected, location)).state != DELIVERY_STATE_DELIVERED:
            await asyncio.sleep(0.02)
    assert {attempt.reason for attempt in delivery.attempts} <= {0, reasons.TARIFF_NOT_DELIVERED}
    assert (await arrived(connected, tariff)).state == DELIVERY_STATE_DELIVERED
    made = calls(ampeco, "POST")
    assert made[:3] == ["POST tariffs/v1.0", "POST tariff-groups/v1.0", "POST locations/v2.0"]
    (group,) = [id for id in ampeco.objects if id.startswith(GROUPS)]
    assert ampeco.objects[group]["tariffIds"] == [1]
    (evse,) = [id for id in ampeco.objects if id.startswith(EVSES)]
    assert ampeco.objects[evse]["tariffGroupId"] == 2
    assert ampeco.objects[f"{TARIFFS}/1"]["pricing"]["pricePerKwh"] in ("0.25", 0.25)


async def waits(tenant: Tenant, ampeco: Simulator) -> Location:
    """A location whose tariff the partner has refused until now, and takes from now on once it is tried again."""
    ampeco.inject("1000*CreateTariff=status:422")
    tariff = await create_tariff(tenant)
    location = await create(tenant, evses=[an_evse("E1", connectors=[a_connector(tariff_ids=[tariff.id])])])
    await show(tenant)
    assert (await arrived(tenant, tariff)).state == DELIVERY_STATE_PARKED
    request = ListDeliveriesRequest(object_id=f"DE*ABC*{location.id}")
    while True:
        (delivery,) = (await tenant.reader.deliveries.ListDeliveries(request)).deliveries
        if delivery.reason == reasons.TARIFF_NOT_DELIVERED and delivery.state == DELIVERY_STATE_PENDING:
            break
        await asyncio.sleep(0.02)
    assert not delivery.HasField("next_attempt_time")
    assert not delivery.failed_attempts
    ampeco.faults.clear()
    await tenant.writer.deliveries.RetryDelivery(RetryDeliveryRequest(id=(await arrived(tenant, tariff)).id))
    return location


async def test_a_location_is_pending_until_its_tariff_is_there_and_then_goes_by_itself(
    connected: Tenant, ampeco: Simulator
) -> None:
    location = await waits(connected, ampeco)
    assert (await arrived(connected, location)).state == DELIVERY_STATE_DELIVERED


async def test_a_control_that_is_not_resumed_waits_on(
    connected: Tenant, ampeco: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(*_: object) -> None:
        pass

    monkeypatch.setattr(service.partners.ampeco.delivery, "delivery_resume", nothing)
    location = await waits(connected, ampeco)
    while not any(id.startswith(GROUPS) for id in ampeco.objects):
        await asyncio.sleep(0.02)
    with pytest.raises(TimeoutError):
        await settled(connected.reader, f"DE*ABC*{location.id}", limit_s=1)


@pytest.mark.parametrize("rpc", ["CreateTariff", "CreateTariffGroup"])
async def test_no_tariff_is_created_twice(connected: Tenant, ampeco: Simulator, rpc: str) -> None:
    ampeco.inject(f"{rpc}=lose_answer")
    tariff = await create_tariff(connected)
    key = TariffKey(country_code="DE", party_id="ABC", id=tariff.id)
    await show(connected, tariffs=TariffSelection(keys=[key]))
    assert (await arrived(connected, tariff)).state == DELIVERY_STATE_DELIVERED
    assert [*ampeco.objects] == [f"{TARIFFS}/1", f"{GROUPS}/2"]


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"currency": "SEK"}, "currency: AMPECO's operator has another"),
        ({"max_price": {"excl_vat": {"value": "10"}}}, "max_price: the other side has no place for it"),
    ],
)
async def test_a_tariff_that_would_cost_something_else_there_is_refused(
    connected: Tenant, ampeco: Simulator, changes: dict[str, Any], wrong: str
) -> None:
    tariff = await create_tariff(connected, **changes)
    key = TariffKey(country_code="DE", party_id="ABC", id=tariff.id)
    await show(connected, tariffs=TariffSelection(keys=[key]))
    delivery = await arrived(connected, tariff)
    assert (delivery.state, delivery.reason) == (DELIVERY_STATE_PARKED, reasons.TARIFF_NOT_REPRESENTABLE)
    assert delivery.object_kind == OBJECT_KIND_TARIFF
    assert delivery.description == f"the tariff would have other prices there: {wrong}"
    assert ampeco.requests == []


async def test_a_tariff_is_tried_again_when_its_tax_becomes_known(connected: Tenant, ampeco: Simulator) -> None:
    (component,) = a_tariff().elements[0].price_components
    component.vat.value = "21"
    tariff = await create_tariff(connected, elements=[{"price_components": [component]}])
    location = await create(connected, evses=[an_evse("E1", connectors=[a_connector(tariff_ids=[tariff.id])])])
    await show(connected)
    parked = await arrived(connected, tariff)
    assert (parked.state, parked.reason) == (DELIVERY_STATE_PARKED, reasons.TARIFF_NOT_REPRESENTABLE)
    assert parked.description.endswith("elements[0].price_components[0].vat: AMPECO's operator has no one tax for it")

    async def update(path: str, **integration: Any) -> None:
        request = UpdateIntegrationRequest(integration={"id": "am", **integration}, update_mask={"paths": [path]})
        await connected.admin.integrations.UpdateIntegration(request)

    await update("models", models={"pull_session": False})
    assert await arrived(connected, tariff) == parked
    taxes = [*TAXES, {"vat": {"value": "21"}, "tax_id": 8}]
    await update("ampeco.taxes", ampeco={"taxes": taxes})
    assert (await arrived(connected, location)).state == DELIVERY_STATE_DELIVERED
    assert [each["pricing"]["taxID"] for path, each in ampeco.objects.items() if path.startswith(TARIFFS)] == [8]


@pytest.mark.parametrize("shown", [[["T1"], []], [["T1"], ["T2"]], [["T1", "T2"]]], ids=str)
async def test_an_evse_has_one_tariff_there(connected: Tenant, ampeco: Simulator, shown: list[list[str]]) -> None:
    await create_tariff(connected, id="T1")
    await create_tariff(connected, id="T2", type=TARIFF_TYPE_PROFILE_GREEN)
    connectors = [a_connector(str(number), tariff_ids=ids) for number, ids in enumerate(shown)]
    location = await create(connected, evses=[an_evse("E1", connectors=connectors)])
    await show(connected)
    delivery = await arrived(connected, location)
    assert (delivery.state, delivery.reason) == (DELIVERY_STATE_PARKED, reasons.TARIFF_NOT_REPRESENTABLE)
    assert delivery.description.endswith("evses[0].connectors: AMPECO has one tariff for the whole EVSE")
    assert "POST locations/v2.0" not in calls(ampeco)

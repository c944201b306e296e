"""Imports of untidy objects: what is repaired, what is refused, and what is never frozen, lost or wiped."""

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from aiohttp import web
from evbridge.v1 import error_reason_pb2 as reasons
from evbridge.v1.ampeco_connection_pb2 import AmpecoConnection
from evbridge.v1.charger_pb2 import ListChargersRequest
from evbridge.v1.delivery_pb2 import OBJECT_KIND_TARIFF
from evbridge.v1.integration_pb2 import UpdateIntegrationRequest
from evbridge.v1.location_pb2 import (
    EVSE_STATUS_AVAILABLE,
    EVSE_STATUS_CHARGING,
    EVSE_STATUS_OUTOFORDER,
    EVSE_STATUS_REMOVED,
    CreateLocationRequest,
    DeleteLocationRequest,
    Evse,
    GetLocationRequest,
    ListLocationsRequest,
    LocationKey,
    UpdateLocationRequest,
)
from evbridge.v1.publication_pb2 import CreatePublicationRuleRequest
from evbridge.v1.quarantine_pb2 import (
    GetQuarantinedObjectRequest,
    ListQuarantinedObjectsRequest,
    QuarantinedObject,
)
from evbridge.v1.run_pb2 import (
    RUN_FINDING_OUTCOME_REFUSED,
    RUN_FINDING_OUTCOME_REPAIRED,
    RUN_STATE_FAILED,
    RUN_STATE_SUCCEEDED,
    ListRunFindingsRequest,
)
from evbridge.v1.tariff_pb2 import CreateTariffRequest, ListTariffsRequest
from google.protobuf.field_mask_pb2 import FieldMask

from service.app import evbridge
from service.partners.ampeco.simulator import Simulator
from service.runs import worker
from tests.ampeco import (
    CHARGE_POINTS,
    EVSES,
    GROUPS,
    LOCATIONS,
    TARIFFS,
    alter,
    connect,
    findings,
    locations,
    steps,
    stock,
    sync,
    tariffs,
)
from tests.bridge.fake_ports import a_partner
from tests.conftest import Tenant, tenant_of
from tests.front_door import a_location, a_rule, a_tariff, fails, settings, settled

REFUSED, REPAIRED = RUN_FINDING_OUTCOME_REFUSED, RUN_FINDING_OUTCOME_REPAIRED


@pytest.fixture
async def connected(tenant: Tenant, ampeco: Simulator) -> Tenant:
    """A tenant whose AMPECO holds a tariff, a location and an EVSE."""
    await connect(tenant, ampeco)
    stock(ampeco)
    return tenant


def texts(text: str) -> list[dict[str, str]]:
    return [{"locale": "en", "translation": text}]


def opened(start: str, end: str) -> dict[str, Any]:
    return {"isAlwaysOpen": False, "hours": {"monday": [{"start": start, "end": end}]}}


def an_image(url: str) -> dict[str, str]:
    return {"original": url, "mimeType": "image/png"}


Read = Callable[[Any], Any]

# What AMPECO holds, what is read here, its right value, and the path that the notice names.
UNTIDY_LOCATIONS: list[tuple[dict[str, Any], Read, Any, str]] = [
    ({"postCode": "D-10117 Berlin"}, lambda it: it.postal_code, "", "postal_code"),
    ({"postCode": "10\u000117"}, lambda it: it.postal_code, "1017", "postal_code"),
    ({"city": "B" * 50}, lambda it: it.city, "B" * 45, "city"),
    ({"name": texts("N" * 300)}, lambda it: it.name, "N" * 255, "name"),
    ({"name": texts("Town\u0000 hall")}, lambda it: it.name, "Town hall", "name"),
    ({"streetAddress": texts("P" * 300)}, lambda it: it.address, "P" * 255, "address"),
    (
        {"workingHours": opened("8:00", "20:00")},
        lambda it: it.opening_times.regular_hours[0].period_begin,
        "08:00",
        "opening_times.regular_hours[0].period_begin",
    ),
    (
        {"workingHours": opened("08:00:00", "20:00")},
        lambda it: it.opening_times.regular_hours[0].period_begin,
        "08:00",
        "opening_times.regular_hours[0].period_begin",
    ),
    (
        {"workingHours": opened("morning", "20:00")},
        lambda it: it.HasField("opening_times"),
        False,
        "opening_times.regular_hours[0].period_begin",
    ),
    (
        {"workingHours": opened("08:00", "20:00") | {"isAlwaysOpen": True}},
        lambda it: (it.opening_times.twentyfourseven, len(it.opening_times.regular_hours)),
        (True, 0),
        "opening_times.regular_hours",
    ),
    ({"workingHours": {"isAlwaysOpen": False}}, lambda it: it.HasField("opening_times"), False, "opening_times"),
    ({"facilities": ["WIFI", "HOTEL", "WIFI"]}, lambda it: [*it.facilities], [20, 1], "facilities"),
    (
        {"images": [an_image("https://x.example/a b.png")]},
        lambda it: it.images[0].url,
        "https://x.example/a%20b.png",
        "images[0].url",
    ),
    (
        {"images": [an_image("no URL"), an_image("https://x.example/1.png")]},
        lambda it: [image.url for image in it.images],
        ["https://x.example/1.png"],
        "images[0].url",
    ),
    ({"roaming": {"operator": {"name": "W" * 101}}}, lambda it: it.operator.name, "W" * 100, "operator.name"),
    ({"timezone": "CEST in summer"}, lambda it: it.time_zone, "Europe/Berlin", "time_zone"),
]
# What is read in another form and needs no notice.
OTHER_FORMS: list[tuple[dict[str, Any], Read, Any]] = [
    ({"country": "de"}, lambda it: it.country, "DEU"),
    ({"country": "DEU"}, lambda it: it.country, "DEU"),
    ({"country": "XK"}, lambda it: it.country, "XKX"),
    ({"facilities": ["WIFI", "SAUNA"]}, lambda it: [*it.facilities], [20]),
    (
        {"geoposition": {"latitude": 48.8857, "longitude": 8.66512345678901}},
        lambda it: (it.coordinates.latitude, it.coordinates.longitude),
        ("48.88570", "8.6651235"),
    ),
]
UNTIDY_EVSES: list[tuple[dict[str, Any], Read, Any, str]] = [
    (
        {
            "physicalReference": "Charger North-East",
            "connectors": [{"id": 5, "type": "type2", "format": "cable"}],
        },
        lambda it: it.physical_reference,
        "Charger North-Ea",
        "physical_reference",
    ),
    (
        {"connectors": [{"id": 1, "type": "avcon", "format": "cable"}, {"id": 2, "type": "type2", "format": "cable"}]},
        lambda it: [connector.id for connector in it.connectors],
        ["2"],
        "connectors[0].standard",
    ),
    (
        {"connectors": [{"id": 3, "type": "type2", "format": "plug"}, {"id": 4, "type": "type2", "format": "cable"}]},
        lambda it: [connector.id for connector in it.connectors],
        ["4"],
        "connectors[0].format",
    ),
]


def add_locations(ampeco: Simulator, first: int, changes: list[dict[str, Any]]) -> None:
    for id, change in enumerate(changes, first):
        alter(ampeco, f"{LOCATIONS}/1", id=id, **change)


def listed(found: list[Any]) -> Counter[tuple[str, str]]:
    return Counter((each.object_id, each.path) for each in found)


async def test_lists_show_what_was_imported_through_an_integration(connected: Tenant, ampeco: Simulator) -> None:
    add_locations(ampeco, 101, [{}, {}])
    await sync(connected)
    own = a_location(country_code="DE", party_id="ABC", id="own")
    await connected.writer.locations.CreateLocation(CreateLocationRequest(location=own))
    await connected.writer.tariffs.CreateTariff(CreateTariffRequest(tariff=a_tariff(id="own")))
    for origin, many in (("am", True), ("other", False)):
        found: list[str] = []
        request = ListLocationsRequest(origin_integration_id=origin, page_size=2)
        while True:
            page = await connected.reader.locations.ListLocations(request)
            found += [location.origin.external_id for location in page.locations]
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
        assert sorted(found) == (["1", "101", "102"] if many else [])
        tariffs_of = ListTariffsRequest(origin_integration_id=origin)
        listed_tariffs = (await connected.reader.tariffs.ListTariffs(tariffs_of)).tariffs
        assert [tariff.origin.integration_id for tariff in listed_tariffs] == (["am"] if many else [])


async def test_an_optional_field_costs_no_location(connected: Tenant, ampeco: Simulator) -> None:
    add_locations(ampeco, 101, [change for change, *_ in UNTIDY_LOCATIONS])
    add_locations(ampeco, 201, [change for change, *_ in OTHER_FORMS])
    run = await sync(connected)
    assert run.state == RUN_STATE_SUCCEEDED, run
    held = {location.origin.external_id: location for location in await locations(connected)}
    for id, (change, read, value, _) in enumerate(UNTIDY_LOCATIONS, 101):
        assert read(held[str(id)]) == value, change
    for id, (change, read, value) in enumerate(OTHER_FORMS, 201):
        assert read(held[str(id)]) == value, change
    found = await findings(connected, run)
    assert {(each.step, each.outcome) for each in found} == {("locations", REPAIRED)}
    assert all(": " in each.description for each in found)
    assert listed(found) == Counter((str(id), path) for id, (*_, path) in enumerate(UNTIDY_LOCATIONS, 101))
    assert f"{len(UNTIDY_LOCATIONS)} repaired" in steps(run)["locations"]
    assert run.steps[-1].repaired_count == len(UNTIDY_LOCATIONS)


async def test_what_is_tidy_has_no_finding(connected: Tenant) -> None:
    run = await sync(connected)
    assert await findings(connected, run) == []
    assert [(step.refused_count, step.repaired_count) for step in run.steps] == [(0, 0)] * 5


async def test_an_optional_field_costs_no_evse(connected: Tenant, ampeco: Simulator) -> None:
    for id, (change, *_) in enumerate(UNTIDY_EVSES, 101):
        alter(ampeco, f"{EVSES}/21", id=id, **change)
    run = await sync(connected)
    (location,) = await locations(connected)
    held = {evse.uid: evse for evse in location.evses}
    for id, (change, read, value, _) in enumerate(UNTIDY_EVSES, 101):
        assert read(held[str(id)]) == value, change
    found = await findings(connected, run)
    assert listed(found) == Counter((str(id), path) for id, (*_, path) in enumerate(UNTIDY_EVSES, 101))
    assert {(each.step, each.outcome) for each in found} == {("evses", REPAIRED)}


async def test_an_optional_field_costs_no_tariff_and_no_charger(connected: Tenant, ampeco: Simulator) -> None:
    words = {"EN": "per kWh", "de_AT": "je kWh", "Klingon": "?"}
    alter(ampeco, f"{TARIFFS}/31", name="T" * 300, description=words, learnMoreUrl={"en": "https://x.example/a b"})
    alter(ampeco, f"{CHARGE_POINTS}/11", name="C" * 300)
    run = await sync(connected)
    (tariff,) = await tariffs(connected)
    assert tariff.name == "T" * 255
    assert {text.language: text.text for text in tariff.tariff_alt_text} == {"en": "per kWh", "de": "je kWh"}
    assert tariff.tariff_alt_url == "https://x.example/a%20b"
    (charger,) = (await connected.reader.chargers.ListChargers(ListChargersRequest())).chargers
    assert charger.name == "C" * 255
    assert {(each.step, each.object_id) for each in await findings(connected, run)} == {
        ("tariffs", "31"),
        ("chargers", "11"),
    }


async def quarantined(connected: Tenant) -> list[QuarantinedObject]:
    """With their documents."""
    quarantine, request = connected.reader.quarantine, ListQuarantinedObjectsRequest(integration_id="am")
    return [
        await quarantine.GetQuarantinedObject(GetQuarantinedObjectRequest(id=each.id))
        for each in (await quarantine.ListQuarantinedObjects(request)).quarantined_objects
    ]


async def test_a_price_is_never_repaired(connected: Tenant, ampeco: Simulator) -> None:
    pricing = {"pricePerKwh": "0.1234567890123", "taxID": 7}
    alter(ampeco, f"{TARIFFS}/31", id=32, currency="Euro")
    alter(ampeco, f"{TARIFFS}/31", id=33, pricing=pricing)
    run = await sync(connected)
    assert [tariff.id for tariff in await tariffs(connected)] == ["am-31"]
    refused = await findings(connected, run, outcome=REFUSED)
    assert listed(refused) == Counter([("32", "currency"), ("33", "pricing.price_per_kwh")])
    kept = await quarantined(connected)
    assert {each.object_id: (each.object_kind, each.violations[0].path) for each in kept} == {
        "32": (OBJECT_KIND_TARIFF, "currency"),
        "33": (OBJECT_KIND_TARIFF, "pricing.price_per_kwh"),
    }
    assert {json.loads(each.document)["id"] for each in kept} == {32, 33}
    alter(ampeco, f"{TARIFFS}/32", currency="EUR")
    await sync(connected)
    assert [(each.object_id, each.count) for each in await quarantined(connected)] == [("33", 2)]


async def test_images_are_asked_for(connected: Tenant, ampeco: Simulator) -> None:
    await sync(connected)
    (asked,) = [each.path for each in ampeco.requests if each.path.startswith(LOCATIONS)]
    assert "include%5B%5D=images" in asked


USELESS: list[tuple[dict[str, Any], str]] = [
    ({"geoposition": None}, "coordinates"),
    ({"geoposition": {}}, "coordinates"),
    ({"geoposition": {"latitude": 0, "longitude": 0}}, "coordinates"),
    ({"geoposition": {"latitude": 52.5}}, "coordinates"),
    ({"geoposition": {"latitude": 95, "longitude": 13}}, "coordinates.latitude"),
    ({"country": "Germany"}, "country"),
    ({"city": None}, "city"),
    ({"streetAddress": None}, "address"),
]


async def test_a_location_that_is_useless_is_refused_and_its_statuses_are_taken(
    connected: Tenant, ampeco: Simulator
) -> None:
    ids = range(101, 101 + len(USELESS))
    add_locations(ampeco, 101, [{}] * len(USELESS))
    for id in ids:
        alter(ampeco, f"{CHARGE_POINTS}/11", id=id, locationId=id)
        alter(ampeco, f"{EVSES}/21", id=id, chargePointId=id)
    await sync(connected)
    for id, (change, _) in zip(ids, USELESS, strict=True):
        alter(ampeco, f"{LOCATIONS}/{id}", name=texts("New"), **change)
        alter(ampeco, f"{EVSES}/{id}", hardwareStatus="charging")
    run = await sync(connected)
    assert run.state == RUN_STATE_SUCCEEDED, run
    for location in await locations(connected):
        useless = location.id != "am-1"
        assert location.name == "Town hall"
        assert [evse.status for evse in location.evses] == [EVSE_STATUS_CHARGING if useless else EVSE_STATUS_AVAILABLE]
        assert location.last_updated == max(location.last_updated, location.evses[0].last_updated, key=instant)
    found = await findings(connected, run)
    assert listed(found) == Counter((str(id), path) for id, (_, path) in zip(ids, USELESS, strict=True))
    assert {each.outcome for each in found} == {REFUSED}
    assert run.steps[-1].refused_count == len(USELESS)
    assert f"{len(USELESS)} statuses set alone" in steps(run)["locations"]


def instant(time: Any) -> tuple[int, int]:
    return time.seconds, time.nanos


async def test_an_evse_that_is_refused_stays_with_the_status_it_has_there(connected: Tenant, ampeco: Simulator) -> None:
    alter(ampeco, f"{EVSES}/21", id=23)
    alter(ampeco, f"{EVSES}/21", id=24)
    await sync(connected)
    alter(ampeco, f"{EVSES}/21", connectors=[], hardwareStatus="faulted", physicalReference="B2")
    del ampeco.objects[f"{EVSES}/24"]
    run = await sync(connected)
    (location,) = await locations(connected)
    statuses = {evse.uid: evse.status for evse in location.evses}
    # Another one that is refused does not save the one that is gone.
    assert statuses == {"21": EVSE_STATUS_OUTOFORDER, "23": EVSE_STATUS_AVAILABLE, "24": EVSE_STATUS_REMOVED}
    assert (location.evses[0].physical_reference, len(location.evses[0].connectors)) == ("", 1)
    assert listed(await findings(connected, run)) == Counter([("21", "connectors")])


async def test_a_refused_location_of_somebody_else_gets_no_status(connected: Tenant, ampeco: Simulator) -> None:
    evse = Evse(uid="21", status=EVSE_STATUS_AVAILABLE)
    location = a_location(id="am-1", evses=[evse])
    location.evses[0].connectors.add(id="1", standard=1, format=1, power_type=1, max_voltage=230, max_amperage=16)
    await connected.writer.locations.CreateLocation(CreateLocationRequest(location=location))
    alter(ampeco, f"{EVSES}/21", hardwareStatus="charging")
    run = await sync(connected)
    assert [each.object_id for each in await findings(connected, run)] == ["1"]
    (kept,) = await locations(connected)
    assert [each.status for each in kept.evses] == [EVSE_STATUS_AVAILABLE]


async def test_a_status_that_was_removed_here_stays_so_when_the_location_is_refused(
    connected: Tenant, ampeco: Simulator
) -> None:
    alter(ampeco, f"{EVSES}/21", id=23)
    await sync(connected)
    (location,) = await locations(connected)
    del location.evses[0]
    request = UpdateLocationRequest(location=location, update_mask=FieldMask(paths=["evses"]))
    await connected.writer.locations.UpdateLocation(request)
    alter(ampeco, f"{LOCATIONS}/1", city=None)
    for id in (21, 23):
        alter(ampeco, f"{EVSES}/{id}", hardwareStatus="charging")
    await sync(connected)
    (location,) = await locations(connected)
    statuses = {evse.uid: evse.status for evse in location.evses}
    assert statuses == {"21": EVSE_STATUS_REMOVED, "23": EVSE_STATUS_CHARGING}


async def test_every_refusal_is_listed_by_id_and_in_pages(connected: Tenant, ampeco: Simulator) -> None:
    add_locations(ampeco, 101, [{"city": None}] * 7)
    run = await sync(connected)
    assert [each.object_id for each in await findings(connected, run)] == [str(id) for id in range(101, 108)]
    page = ListRunFindingsRequest(run_id=run.id, page_size=3)
    read = []
    while True:
        answer = await connected.reader.runs.ListRunFindings(page)
        read += [each.object_id for each in answer.findings]
        assert len(answer.findings) <= 3
        if not (token := answer.next_page_token):
            break
        page.page_token = token
    assert read == [str(id) for id in range(101, 108)]
    assert await findings(connected, run, outcome=REPAIRED) == []
    page.outcome = REPAIRED
    failure = await fails(connected.reader.runs.ListRunFindings(page))
    assert (failure.code, failure.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_PAGE_TOKEN")
    page = ListRunFindingsRequest(run_id="0197a3c4-6a53-7f0a-9b8e-0d0f2f1f9c55")
    failure = await fails(connected.reader.runs.ListRunFindings(page))
    assert (failure.code, failure.reason) == (grpc.StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND")


async def test_the_number_of_findings_is_bounded_and_the_counts_are_not(connected: Tenant, ampeco: Simulator) -> None:
    add_locations(ampeco, 1001, [{"city": None}] * 1100 + [{"postCode": "D-10117 Berlin"}] * 5)
    run = await sync(connected)
    assert len(await findings(connected, run, page_size=1000, outcome=REFUSED)) == 1000
    assert len(await findings(connected, run, outcome=REPAIRED)) == 5
    assert (run.steps[-1].refused_count, run.steps[-1].repaired_count) == (1100, 5)
    assert "1100 refused" in steps(run)["locations"]


async def test_an_import_that_rests_goes_on_at_its_page(
    connected: Tenant, ampeco: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_locations(ampeco, 1001, [{"city": None}] * 150)
    many(ampeco, 150)
    alter(ampeco, f"{TARIFFS}/31", id=32, currency="Euro")
    monkeypatch.setattr(worker, "SLICE_S", 0.0)
    run = await sync(connected)
    assert run.state == RUN_STATE_SUCCEEDED, run
    asked = Counter(each.path for each in ampeco.requests)
    assert {*asked.values()} == {1}
    assert [step.page_count for step in run.steps] == [1, 2, 2, 0, 4]
    assert steps(run)["tariffs"].startswith("2 read, 1 changed, 1 refused; 32: currency")
    assert steps(run)["locations"].startswith("301 read, 151 changed, 150 refused")
    assert len(await findings(connected, run, page_size=1000)) == 151
    # It was found once, however often the run began.
    assert {each.count for each in await quarantined(connected)} == {1}


async def answering(tenant: Tenant, partner: Any, held: dict[str, list[list[Any]]], circle: int = 0) -> None:
    """Lets the integration call the partner, which answers with these pages of each list.

    The last page of several leads back to the one that begins the `circle`.
    """

    async def answer(request: web.Request) -> web.StreamResponse:
        pages, number = held.get(request.path, [[]]), int(request.query.get("cursor") or 0)
        after = number + 1 if number + 1 < len(pages) else len(pages) - circle
        following = f"{partner.url}{request.path}?cursor={after}" if 0 < after < len(pages) else None
        return web.json_response({"data": pages[number], "links": {"next": following}, "meta": {}})

    partner.answer = answer
    connection = AmpecoConnection(base_url=partner.url, api_token="partner-key")
    mask = FieldMask(paths=["ampeco.base_url", "ampeco.api_token"])
    request = UpdateIntegrationRequest(integration={"id": "am", "ampeco": connection}, update_mask=mask)
    await tenant.admin.integrations.UpdateIntegration(request)


def lists_of(ampeco: Simulator) -> dict[str, list[list[Any]]]:
    """Each list, in one page."""
    held: dict[str, list[list[Any]]] = {}
    for path, each in ampeco.objects.items():
        held.setdefault(path.rpartition("/")[0], [[]])[0].append(each)
    return held


async def test_an_object_that_two_pages_show_counts_once_as_it_is_shown_last(
    connected: Tenant, ampeco: Simulator
) -> None:
    held = lists_of(ampeco)
    for path, change in {
        LOCATIONS: {"city": "Potsdam"},
        CHARGE_POINTS: {"name": "Last"},
        EVSES: {"hardwareStatus": "charging"},
        TARIFFS: {"name": "Last"},
        GROUPS: {},
    }.items():
        first = held[path][0]
        # Twice in one page, and again in the next.
        held[path] = [[first[0] | {"name": None}, *first], [first[0] | change]]
    async with a_partner() as partner:
        await answering(connected, partner, held)
        run = await sync(connected)
        assert run.state == RUN_STATE_SUCCEEDED, run
        (location,) = await locations(connected)
        (evse,) = location.evses
        assert (location.city, evse.status) == ("Potsdam", EVSE_STATUS_CHARGING)
        assert [tariff.name for tariff in await tariffs(connected)] == ["Last"]
        (charger,) = (await connected.reader.chargers.ListChargers(ListChargersRequest())).chargers
        assert (charger.name, len(charger.sockets)) == ("Last", 1)
        assert steps(run)["locations"] == "3 read, 2 shown again, 1 changed"
        assert await findings(connected, run) == []
        # What is left out when it is shown last is left out.
        held[CHARGE_POINTS][1][0]["type"] = "private"
        assert (await sync(connected)).reason == reasons.MASS_REMOVAL


async def test_what_an_import_stores_does_not_hold_our_credential(connected: Tenant, ampeco: Simulator) -> None:
    held = lists_of(ampeco)
    held[LOCATIONS][0][0] |= {"name": texts("Yard partner-key"), "externalAppData": {"partner-key": "partner-key"}}
    held[LOCATIONS][0].append({"id": "partner-key", "name": texts("Hall")})
    async with a_partner() as partner:
        await answering(connected, partner, held)
        run = await sync(connected)
        (location,) = await locations(connected)
        assert location.name == "Yard ***"
        (found,) = await findings(connected, run)
        assert (found.object_id, found.path) == ("***", "/data/1/id")
        (kept,) = await quarantined(connected)
        assert json.loads(kept.document) == {"id": "***", "name": texts("Hall")}
        for shown in (location, run, found, kept):
            assert "partner-key" not in str(shown)


async def test_what_cannot_be_read_is_listed_and_its_statuses_are_taken(connected: Tenant, ampeco: Simulator) -> None:
    held = lists_of(ampeco)
    async with a_partner() as partner:
        await answering(connected, partner, held)
        await sync(connected)
        held[LOCATIONS][0][0]["name"] = 5
        held[EVSES][0][0]["hardwareStatus"] = "charging"
        run = await sync(connected)
        (found,) = await findings(connected, run)
        assert (found.step, found.outcome, found.path) == ("locations", REFUSED, "/data/0/name")
        assert found.object_id == str(held[LOCATIONS][0][0]["id"])
        assert run.steps[-1].refused_count == 1
        (kept,) = await quarantined(connected)
        assert (kept.object_id, kept.violations[0].path) == (found.object_id, "/name")
        assert kept.violations[0].description
        assert json.loads(kept.document) == held[LOCATIONS][0][0]
        (location,) = await locations(connected)
        assert [evse.status for evse in location.evses] == [EVSE_STATUS_CHARGING]


async def test_an_external_id_that_looks_like_one_of_ours_is_ours_only_when_that_object_exists(
    connected: Tenant, ampeco: Simulator
) -> None:
    alter(ampeco, f"{LOCATIONS}/1", externalId="DE*ABC*L1")
    alter(ampeco, f"{LOCATIONS}/1", id=2, externalId="DE*ABC*L2")
    alter(ampeco, f"{LOCATIONS}/1", id=3, externalId="DE*ABC*\u0000")
    alter(ampeco, f"{TARIFFS}/31", externalId="DE*ABC*T1")
    alter(ampeco, f"{TARIFFS}/31", id=32, externalId="de*abc*t2")
    await connected.writer.locations.CreateLocation(CreateLocationRequest(location=a_location(id="L2")))
    await connected.writer.tariffs.CreateTariff(CreateTariffRequest(tariff=a_tariff(id="T2")))
    run = await sync(connected)
    assert {location.id for location in await locations(connected)} == {"am-1", "am-3", "L2"}
    assert {tariff.id for tariff in await tariffs(connected)} == {"am-31", "T2"}
    assert "1 left out as ours" in steps(run)["locations"]
    assert "1 left out as ours" in steps(run)["tariffs"]


async def test_what_we_delivered_and_deleted_does_not_come_back(connected: Tenant, ampeco: Simulator) -> None:
    ampeco.objects.clear()
    rule = CreatePublicationRuleRequest(rule=a_rule(integration_id="am"))
    await connected.admin.publication.CreatePublicationRule(rule)
    ours = await connected.writer.locations.CreateLocation(CreateLocationRequest(location=a_location()))
    await settled(connected.reader, f"de*abc*{ours.id.upper()}")
    key = LocationKey(country_code="DE", party_id="ABC", id=ours.id)
    await connected.writer.locations.DeleteLocation(DeleteLocationRequest(key=key))
    run = await sync(connected)
    assert steps(run)["locations"] == "1 read, 1 left out as ours"
    assert await locations(connected) == []


# Lists that are more likely wrong than right


def many(ampeco: Simulator, count: int) -> None:
    """So many EVSEs, each at a location of its own."""
    for id in range(101, 101 + count):
        alter(ampeco, f"{LOCATIONS}/1", id=id)
        alter(ampeco, f"{CHARGE_POINTS}/11", id=id, locationId=id)
        alter(ampeco, f"{EVSES}/21", id=id, chargePointId=id)


async def alive(tenant: Tenant) -> int:
    return sum(evse.status != EVSE_STATUS_REMOVED for each in await locations(tenant) for evse in each.evses)


EMPTY: dict[str, list[str]] = {
    "locations": [LOCATIONS],
    "charge points": [CHARGE_POINTS],
    "evses": [EVSES],
    "tariffs": [TARIFFS],
    "all of them": [LOCATIONS, CHARGE_POINTS, EVSES, TARIFFS, GROUPS],
}


@pytest.mark.parametrize("paths", EMPTY.values(), ids=EMPTY)
async def test_an_empty_list_wipes_nothing(connected: Tenant, ampeco: Simulator, paths: list[str]) -> None:
    await sync(connected)
    before = (await locations(connected), await tariffs(connected))
    for held in [*ampeco.objects]:
        if held.rpartition("/")[0] in paths:
            del ampeco.objects[held]
    run = await sync(connected)
    assert (run.state, run.reason) == (RUN_STATE_FAILED, reasons.MASS_REMOVAL)
    assert "1 of 1" in run.description
    assert (await locations(connected), await tariffs(connected)) == before
    run = await sync(connected, allow_mass_removal=True)
    assert run.state == RUN_STATE_SUCCEEDED, run
    (location,) = await locations(connected)
    (evse,) = location.evses
    tariffs_are_gone = TARIFFS in paths
    evses_are_gone = paths != [TARIFFS]
    assert (evse.status == EVSE_STATUS_REMOVED) == evses_are_gone
    if tariffs_are_gone and not evses_are_gone:
        assert not evse.connectors[0].tariff_ids


@pytest.mark.parametrize(("gone", "suspicious"), [(2, False), (3, True)])
async def test_more_than_a_fifth_is_not_removed_at_once(
    connected: Tenant, ampeco: Simulator, gone: int, suspicious: bool
) -> None:
    many(ampeco, 13)
    await sync(connected)
    assert await alive(connected) == 14
    for id in range(101, 101 + gone):
        del ampeco.objects[f"{EVSES}/{id}" if id % 2 else f"{LOCATIONS}/{id}"]
    alter(ampeco, f"{EVSES}/113", hardwareStatus="charging")
    alter(ampeco, f"{LOCATIONS}/113", city="Potsdam")
    run = await sync(connected)
    key = LocationKey(country_code="DE", party_id="ABC", id="am-113")
    last = await connected.reader.locations.GetLocation(GetLocationRequest(key=key))
    if suspicious:
        assert (run.state, run.reason) == (RUN_STATE_FAILED, reasons.MASS_REMOVAL)
        assert f"{gone} of 14 EVSEs" in run.description
        assert (await alive(connected), last.city) == (14, "Berlin")
    else:
        assert run.state == RUN_STATE_SUCCEEDED, run
        assert (await alive(connected), last.city) == (14 - gone, "Potsdam")
    # A status waits for nobody.
    assert last.evses[0].status == EVSE_STATUS_CHARGING


@pytest.mark.parametrize(("percent", "suspicious"), [(21, True), (22, False)])
async def test_how_much_may_be_gone_at_once_is_a_setting(
    database_url: str, ampeco: Simulator, percent: int, suspicious: bool
) -> None:
    """Three of 14 are."""
    async with (
        evbridge(settings(database_url, mass_removal_percent=percent)) as running,
        grpc.aio.insecure_channel(running.address) as channel,
    ):
        tenant = await tenant_of(running, channel)
        await connect(tenant, ampeco)
        stock(ampeco)
        many(ampeco, 13)
        await sync(tenant)
        for id in range(101, 104):
            del ampeco.objects[f"{LOCATIONS}/{id}"]
        run = await sync(tenant)
        assert (run.reason == reasons.MASS_REMOVAL) == suspicious
        assert await alive(tenant) == (14 if suspicious else 11)


async def test_what_was_added_here_is_not_counted_as_gone(connected: Tenant, ampeco: Simulator) -> None:
    await sync(connected)
    (location,) = await locations(connected)
    for number in range(4):
        location.evses.add().CopyFrom(location.evses[0])
        location.evses[-1].uid = f"ours-{number}"
    await connected.writer.locations.UpdateLocation(UpdateLocationRequest(location=location))
    run = await sync(connected)
    assert run.state == RUN_STATE_SUCCEEDED, run
    assert await alive(connected) == 5


@pytest.mark.parametrize("circle", [3, 0])
async def test_a_list_that_goes_in_a_circle_fails_the_import(connected: Tenant, ampeco: Simulator, circle: int) -> None:
    """One that leads on is the control."""
    held = lists_of(ampeco)
    async with a_partner() as partner:
        await answering(connected, partner, held | {EVSES: [*[[]] * 4, *held[EVSES]]}, circle)
        run = await sync(connected)
    assert run.state == (RUN_STATE_FAILED if circle else RUN_STATE_SUCCEEDED), run
    assert ("goes in a circle" in run.description) == bool(circle)

"""What partners send, as callers read it: stored by their clock, merged, repaired, below their integration."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from evbridge.v1.integration_pb2 import CreateIntegrationRequest, DeleteIntegrationRequest
from evbridge.v1.location_pb2 import (
    EVSE_STATUS_AVAILABLE,
    EVSE_STATUS_CHARGING,
    EVSE_STATUS_REMOVED,
    EVSE_STATUS_UNKNOWN,
    BatchGetLocationsRequest,
    CreateLocationRequest,
    DeleteLocationRequest,
    EvseStatusReport,
    GeoLocation,
    GetLocationRequest,
    ListLocationsRequest,
    Location,
    LocationKey,
    NearPoint,
    ReportEvseStatusRequest,
    SearchLocationsRequest,
    UpdateLocationRequest,
)
from evbridge.v1.party_pb2 import CreatePartyRequest
from evbridge.v1.pricing_pb2 import QuotePriceRequest
from evbridge.v1.publication_pb2 import CreatePublicationRuleRequest, GetPartnerViewRequest
from evbridge.v1.tariff_pb2 import (
    BatchUpsertTariffsRequest,
    CreateTariffRequest,
    GetTariffRequest,
    ListTariffsRequest,
    Tariff,
    TariffKey,
    UpdateTariffRequest,
)

from service.app import Evbridge
from service.bridge.json_text import parse_json, text_of
from service.domain.caller import Caller
from service.domain.keys import ObjectKey, PartyKey
from service.errors import EvbridgeError, InvalidArgument, ResourceNotFound
from service.partners.ocpi.mapping import object_from, parsed
from service.resources import received_location as locations
from service.resources.documents import WHOLE, Place, Sender
from service.resources.received import Outcome, Receipt
from service.resources.received_location import location_received, locations_read, received_location
from service.resources.received_tariff import received_tariff, tariff_received, tariff_removed, tariffs_received
from service.storage.statements import Statement
from tests.conftest import Tenant
from tests.front_door import a_location, a_party, a_tariff, an_integration_of, fails
from tests.unit.test_ocpi_mapping import examples

Code = grpc.StatusCode
HUB = "hub"
E1, C1 = Place("E1"), Place("E1", "1")
ROLE_WRITER = 2


def read(type: Any, document: dict[str, Any]) -> Any:
    return object_from(type, document, "2.2.1")


def read_as(version: str, owner: PartyKey, type: Any, document: dict[str, Any]) -> Any:
    return object_from(type, document, version, owner)


CREATED = Receipt(Outcome.CREATED)
RECEIVING: dict[Any, Any] = {
    Location: (location_received, received_location),
    Tariff: (tariff_received, received_tariff),
}
SENDER = Sender(HUB, frozenset({PartyKey("NL", "TNM")}), "2.2.1", read)


def at(minute: int) -> str:
    return f"2026-06-03T12:{minute:02}:00Z"


def key(id: str = "L1") -> ObjectKey:
    return ObjectKey.of("nl", "tnm", id, HUB)


def an_evse(uid: str = "E1", minute: int = 0, **changes: Any) -> dict[str, Any]:
    connector = {
        "id": "1",
        "standard": "IEC_62196_T2",
        "format": "SOCKET",
        "power_type": "AC_3_PHASE",
        "max_voltage": 230,
        "max_amperage": 32,
        "tariff_ids": ["T1"],
        "last_updated": at(minute),
    }
    return {"uid": uid, "status": "AVAILABLE", "connectors": [connector], "last_updated": at(minute)} | changes


def a_document(id: str = "L1", minute: int = 0, **changes: Any) -> dict[str, Any]:
    return {
        "country_code": "NL",
        "party_id": "TNM",
        "id": id,
        "publish": True,
        "address": "Dam 1",
        "city": "Amsterdam",
        "country": "NLD",
        "coordinates": {"latitude": "52.373100", "longitude": "4.892600"},
        "time_zone": "Europe/Amsterdam",
        "evses": [an_evse(minute=minute)],
        "last_updated": at(minute),
    } | changes


def a_price(id: str = "T1", minute: int = 0, price: str = "0.250", **changes: Any) -> dict[str, Any]:
    element = {"price_components": [{"type": "ENERGY", "price": "PRICE", "step_size": 1}]}
    document = {"country_code": "NL", "party_id": "TNM", "id": id, "currency": "EUR", "elements": [element]}
    text = text_of(document | {"last_updated": at(minute)} | changes).replace('"PRICE"', price)
    parsed: dict[str, Any] = parse_json(text)
    return parsed


class Partner:
    """A tenant with an integration through which a partner sends, by the functions that the doors call.

    It is of a type that ours are delivered to.
    """

    def __init__(self, running: Evbridge, tenant: Tenant) -> None:
        self.database = running.database
        self.tenant = tenant
        self.caller = Caller(tenant.name, "integration/hub", ROLE_WRITER)

    async def put(
        self, document: dict[str, Any], place: Place = WHOLE, *, id: str = "L1", patch: bool = False
    ) -> Receipt:
        return await location_received(self.database, self.caller, SENDER, key(id), document, place, patch=patch)

    async def patch(self, document: dict[str, Any], place: Place = WHOLE) -> Receipt:
        return await self.put(document, place, patch=True)

    async def tariff(self, document: dict[str, Any], *, patch: bool = False) -> Receipt:
        return await tariff_received(self.database, self.caller, SENDER, key("T1"), document, patch=patch)

    async def get(self, id: str = "L1") -> Location:
        named = LocationKey(country_code="NL", party_id="TNM", id=id, integration_id=HUB)
        return await self.tenant.reader.locations.GetLocation(GetLocationRequest(key=named))

    async def get_tariff(self) -> Tariff:
        return await self.tenant.reader.tariffs.GetTariff(GetTariffRequest(key=TARIFF))

    async def document(self, place: Place = WHOLE) -> dict[str, Any]:
        return await received_location(self.database, self.tenant.name, key(), place)

    async def changes(self) -> list[tuple[str, ...]]:
        """(kind, id, operation, side) of what was received, in order."""
        rows = await self.database.rows(CHANGES, self.tenant.name)
        return [tuple(row) for row in rows]


TARIFF = TariffKey(country_code="NL", party_id="TNM", id="t1", integration_id=HUB)
CHANGES = Statement(
    "test_changes",
    "SELECT object_kind, object_id, operation, integration_id FROM change"
    " WHERE tenant_id = $1 AND object_kind IN (4, 5, 6) ORDER BY change_id",
)
DELIVERIES = Statement("test_deliveries", "SELECT count(*) FROM delivery WHERE tenant_id = $1")


@pytest.fixture
async def partner(running: Evbridge, tenant: Tenant) -> Partner:
    integration = an_integration_of("ampeco", id=HUB)
    await tenant.admin.integrations.CreateIntegration(CreateIntegrationRequest(integration=integration))
    return Partner(running, tenant)


async def test_a_location_is_read_below_its_integration_and_beside_ours(partner: Partner) -> None:
    assert await partner.put(a_document()) == Receipt(Outcome.CREATED)
    location = await partner.get()
    assert (location.integration_id, location.id, location.last_updated.ToJsonString()) == (HUB, "L1", at(0))
    assert [evse.uid for evse in location.evses] == ["E1"]
    assert location.evses[0].connectors[0].last_updated.ToJsonString() == at(0)

    locations = partner.tenant.reader.locations
    assert (await locations.ListLocations(ListLocationsRequest())).locations == []
    assert (await locations.ListLocations(ListLocationsRequest(integration_id=HUB))).locations == [location]
    ours = LocationKey(country_code="NL", party_id="TNM", id="L1")
    assert (await fails(locations.GetLocation(GetLocationRequest(key=ours)))).code == Code.NOT_FOUND
    theirs = LocationKey(country_code="NL", party_id="TNM", id="l1", integration_id=HUB)
    assert (await locations.BatchGetLocations(BatchGetLocationsRequest(keys=[theirs]))).locations == [location]
    near = NearPoint(point=GeoLocation(latitude="52.37310", longitude="4.89260"), radius_m=1000)
    assert (await locations.SearchLocations(SearchLocationsRequest(near=near))).locations == []
    found = await locations.SearchLocations(SearchLocationsRequest(near=near, integration_id=HUB))
    assert found.locations == [location]
    assert await partner.changes() == [(5, "NLTNMl1", "create", HUB)]
    assert await partner.database.value(DELIVERIES, partner.tenant.name) == 0
    # The control: one of ours is.
    await partner.tenant.admin.parties.CreateParty(CreatePartyRequest(party=a_party()))
    for id in ("T1", "T2"):
        await partner.tenant.writer.tariffs.CreateTariff(CreateTariffRequest(tariff=a_tariff(id=id)))
    await partner.tenant.writer.locations.CreateLocation(CreateLocationRequest(location=a_location()))
    assert await partner.database.value(DELIVERIES, partner.tenant.name) == 3


OLDER = [
    pytest.param(a_document(minute=4, name="old"), Place(), False, id="a location"),
    pytest.param({"name": "old", "last_updated": at(4)}, Place(), True, id="a patch of a location"),
    pytest.param(an_evse(minute=4, status="BLOCKED"), E1, False, id="an EVSE"),
    pytest.param({"status": "BLOCKED", "last_updated": at(4)}, E1, True, id="a status"),
    pytest.param({"floor_level": "9", "last_updated": at(4)}, E1, True, id="a patch of an EVSE"),
    pytest.param(an_evse(minute=4)["connectors"][0] | {"max_voltage": 1}, C1, False, id="a connector"),
    pytest.param({"max_voltage": 1, "last_updated": at(4)}, C1, True, id="a patch of a connector"),
]


@pytest.mark.parametrize(("document", "place", "patch"), OLDER)
async def test_what_is_older_is_ignored_and_said(
    partner: Partner, document: dict[str, Any], place: Place, patch: bool
) -> None:
    await partner.put(a_document(minute=5))
    before, kept = await partner.get(), await partner.document()
    assert await partner.put(document, place, patch=patch) == Receipt(Outcome.OLDER)
    assert (await partner.get(), await partner.document()) == (before, kept)
    # The control: the same, a minute later than what is held.
    text = text_of(document).replace(at(4), at(6))
    assert (await partner.put(parse_json(text), place, patch=patch)).outcome == Outcome.UPDATED
    assert await partner.get() != before


async def test_the_same_again_changes_nothing(partner: Partner) -> None:
    await partner.put(a_document())
    before = await partner.get()
    assert await partner.put(a_document()) == Receipt(Outcome.UNCHANGED)
    assert await partner.put(a_document(minute=1)) == Receipt(Outcome.UNCHANGED)
    assert await partner.put(a_document(minute=0)) == Receipt(Outcome.OLDER)  # the time is remembered
    assert await partner.get() == before
    assert len(await partner.changes()) == 1


async def test_a_change_below_moves_the_times_above(partner: Partner) -> None:
    await partner.put(a_document())
    assert (await partner.patch({"max_amperage": 16, "last_updated": at(7)}, C1)).outcome == Outcome.UPDATED
    location = await partner.get()
    evse = location.evses[0]
    assert [each.last_updated.ToJsonString() for each in (location, evse, evse.connectors[0])] == [at(7)] * 3
    assert (evse.connectors[0].max_amperage, evse.connectors[0].max_voltage) == (16, 230)
    assert (await partner.document(E1))["last_updated"] == at(7)
    assert await partner.changes() == [(5, "NLTNMl1", "create", HUB), (5, "NLTNMl1", "update", HUB)]


async def test_a_status_is_an_event_of_its_evse_and_leaves_the_etag(partner: Partner) -> None:
    await partner.put(a_document())
    before = await partner.get()
    assert await partner.patch({"status": "CHARGING", "last_updated": at(1)}, E1) == Receipt(Outcome.UPDATED)
    location = await partner.get()
    assert (location.evses[0].status, location.etag) == (EVSE_STATUS_CHARGING, before.etag)
    assert location.last_updated.ToJsonString() == location.evses[0].status_time.ToJsonString() == at(1)
    assert await partner.patch({"status": "CHARGING", "last_updated": at(2)}, E1) == Receipt(Outcome.UNCHANGED)
    assert (await partner.document(E1))["status"] == "CHARGING"
    assert (await partner.changes())[1:] == [(6, "NLTNMl1/e1", "update", HUB)]


async def test_a_status_that_is_not_known_is_unknown_and_comes_back(partner: Partner) -> None:
    await partner.put(a_document())
    receipt = await partner.patch({"status": "DREAMING", "last_updated": at(1)}, E1)
    assert (receipt.outcome, [notice.path for notice in receipt.notices]) == (Outcome.UPDATED, ["status"])
    assert (await partner.get()).evses[0].status == EVSE_STATUS_UNKNOWN
    assert (await partner.document(E1))["status"] == "DREAMING"


async def test_an_evse_is_added_replaced_and_removed_but_never_deleted(partner: Partner) -> None:
    await partner.put(a_document())
    assert (await partner.put(an_evse("E2", 1), Place("E2"))).outcome == Outcome.CREATED
    assert (await partner.put(an_evse("e1", 2, floor_level="-1"), E1)).outcome == Outcome.UPDATED
    location = await partner.get()
    assert [(evse.uid, evse.floor_level) for evse in location.evses] == [("E1", "-1"), ("E2", "")]
    await partner.put(a_document(minute=3, evses=[an_evse("E2", 1)]))
    location = await partner.get()
    assert [evse.status for evse in location.evses] == [EVSE_STATUS_REMOVED, EVSE_STATUS_AVAILABLE]
    assert [evse["status"] for evse in (await partner.document())["evses"]] == ["AVAILABLE", "REMOVED"]
    # One that says nothing of its EVSEs leaves them.
    without = {name: value for name, value in a_document(minute=4, name="x").items() if name != "evses"}
    assert (await partner.put(without)).outcome == Outcome.UPDATED
    assert len((await partner.get()).evses) == 2
    await partner.put(a_document(minute=5, evses=[]))
    assert {evse.status for evse in (await partner.get()).evses} == {EVSE_STATUS_REMOVED}


async def test_an_evse_that_is_newer_than_its_location_stays(partner: Partner) -> None:
    await partner.put(a_document())
    await partner.patch({"status": "CHARGING", "last_updated": at(9)}, E1)
    assert (await partner.put(a_document(minute=5, name="new"))).outcome == Outcome.UPDATED
    location = await partner.get()
    assert (location.name, location.evses[0].status) == ("new", EVSE_STATUS_CHARGING)
    assert location.last_updated.ToJsonString() == at(9)


async def test_members_that_are_not_known_and_exact_numbers_come_back(partner: Partner) -> None:
    connector = an_evse()["connectors"][0] | {"x": ["NUMBER", None]}
    text = text_of(a_document(extra={"a": "b"}, evses=[an_evse(painted="left", connectors=[connector])]))
    document = parse_json(text.replace('"NUMBER"', "1.10"))
    await partner.put(document)
    assert await partner.document() == document
    assert text_of(await partner.document()) == text_of(document)
    await partner.patch({"name": "Dam", "extra": {"c": 1}, "last_updated": at(1)})
    patched = await partner.document()
    assert (patched["extra"], patched["name"]) == ({"a": "b", "c": 1}, "Dam")
    assert (await partner.get()).name == "Dam"
    await partner.patch({"name": None, "last_updated": at(2)})
    assert ("name" in await partner.document(), (await partner.get()).name) == (False, "")


async def test_every_example_is_stored_read_and_comes_back_equal(partner: Partner) -> None:
    for path, version, type in examples():
        if type not in (Location, Tariff):
            continue
        document = parsed(Path(path).read_bytes()) | {"id": Path(path).stem[:36]}
        owner = PartyKey.of(document.get("country_code", "NL"), document.get("party_id", "TNM"))
        sender = Sender(HUB, frozenset({owner}), version, partial(read_as, version, owner))
        name = ObjectKey.of(*owner, document["id"], HUB)
        receive, kept = RECEIVING[type]
        assert await receive(partner.database, partner.caller, sender, name, document) == CREATED, path
        assert text_of(await kept(partner.database, partner.tenant.name, name)) == text_of(document), path
        assert await receive(partner.database, partner.caller, sender, name, document) == Receipt(Outcome.UNCHANGED)


async def test_what_breaks_the_contract_is_repaired_and_each_repair_is_said(partner: Partner) -> None:
    evses = [an_evse(), an_evse("E2", connectors=[]), an_evse("E3", physical_reference="x" * 40)]
    receipt = await partner.put(a_document(evses=evses, postal_code="1" * 40, origin={"integration_id": "x"}))
    assert receipt.outcome == Outcome.CREATED
    assert [notice.path for notice in receipt.notices] == [
        "origin",
        "postal_code",
        "evses[1].connectors",
        "evses[2].physical_reference",
    ]
    location = await partner.get()
    assert [evse.uid for evse in location.evses] == ["E1", "E3"]
    assert (location.postal_code, location.HasField("origin")) == ("", False)
    # An EVSE that is left out is no reason to remove it.
    await partner.put(a_document(minute=1, evses=[an_evse(connectors=[], minute=1), an_evse("E3")]))
    assert (await partner.get()).evses[0].status == EVSE_STATUS_AVAILABLE


REFUSED = [
    pytest.param(a_document(address=""), Place(), False, "address", id="what is required"),
    pytest.param(a_document(id="L2"), Place(), False, "id", id="another id"),
    pytest.param(an_evse("E2"), E1, False, "uid", id="another uid"),
    pytest.param({"id": "2", "last_updated": at(1)}, C1, True, "id", id="another connector"),
    pytest.param({"status": "BLOCKED"}, E1, True, "last_updated", id="a patch without a time"),
    pytest.param({"status": "BLOCKED", "last_updated": "2126-01-01T00:00:00Z"}, E1, True, "last_updated", id="ahead"),
    pytest.param(a_document(last_updated="2126-01-01T00:00:00Z"), Place(), False, "last_updated", id="all ahead"),
    pytest.param(a_document(last_updated="yesterday"), Place(), False, "last_updated", id="no time"),
    pytest.param({"name": "x" * (1 << 20), "last_updated": at(1)}, Place(), True, "", id="too large"),
]


@pytest.mark.parametrize(("document", "place", "patch", "path"), REFUSED)
async def test_what_cannot_be_taken_is_refused_with_its_path(
    partner: Partner, document: dict[str, Any], place: Place, patch: bool, path: str
) -> None:
    await partner.put(a_document())
    before = await partner.get()
    with pytest.raises(InvalidArgument) as refused:
        await partner.put(document, place, patch=patch)
    assert [violation.path for violation in refused.value.violations] == [path]
    assert await partner.get() == before


MISSING: list[tuple[str, Callable[[Partner], Awaitable[Any]]]] = [
    ("location", lambda partner: partner.put(an_evse(), E1, id="L2")),
    ("location", lambda partner: partner.put({"name": "x", "last_updated": at(1)}, id="L2", patch=True)),
    ("evse", lambda partner: partner.patch({"status": "BLOCKED", "last_updated": at(1)}, Place("E9"))),
    ("evse", lambda partner: partner.patch({"floor_level": "1", "last_updated": at(1)}, Place("E9"))),
    ("evse", lambda partner: partner.put(an_evse()["connectors"][0], Place("E9", "1"))),
    ("connector", lambda partner: partner.patch({"max_voltage": 1, "last_updated": at(1)}, Place("E1", "9"))),
    ("evse", lambda partner: partner.document(Place("E9"))),
    ("connector", lambda partner: partner.document(Place("E1", "9"))),
    ("tariff", lambda partner: partner.tariff({"currency": "SEK", "last_updated": at(1)}, patch=True)),
]


@pytest.mark.parametrize(("resource", "call"), MISSING)
async def test_a_part_of_what_is_not_held_is_not_found(
    partner: Partner, resource: str, call: Callable[[Partner], Awaitable[Any]]
) -> None:
    await partner.put(a_document())
    with pytest.raises(ResourceNotFound) as missing:
        await call(partner)
    assert missing.value.metadata["resource"] == resource


async def test_a_party_that_is_not_the_senders_and_another_version_are_not_found(partner: Partner) -> None:
    other = ObjectKey.of("NL", "XXX", "L1", HUB)
    with pytest.raises(ResourceNotFound, match=r"NL\*XXX"):
        await location_received(partner.database, partner.caller, SENDER, other, a_document())
    await partner.put(a_document())
    later = Sender(HUB, SENDER.parties, "2.3.0", SENDER.read)
    patch = {"status": "BLOCKED", "last_updated": at(1)}
    with pytest.raises(ResourceNotFound):
        await location_received(partner.database, partner.caller, later, key(), patch, E1, patch=True)
    await location_received(partner.database, partner.caller, later, key(), an_evse(minute=1), E1)
    await location_received(partner.database, partner.caller, later, key(), patch, E1, patch=True)


async def test_a_page_is_taken_one_by_one(partner: Partner) -> None:
    documents = [(key(f"L{number}"), a_document(f"L{number}")) for number in (0, 1, 2, 3, 3)]
    documents[1][1]["address"] = ""
    documents[2] = (ObjectKey.of("NL", "XXX", "L2", HUB), documents[2][1])
    results = await (await locations_read(partner.database, partner.caller, SENDER, documents))()
    assert results[0] == results[3] == results[4] == Receipt(Outcome.CREATED)
    assert [type(result) for result in results[1:3]] == [InvalidArgument, ResourceNotFound]
    tariffs = [(key(f"T{number}"), a_price(f"T{number}")) for number in (0, 1, 2, 2)]
    del tariffs[1][1]["elements"]
    prices = await tariffs_received(partner.database, partner.caller, SENDER, tariffs)
    assert [isinstance(result, EvbridgeError) for result in prices] == [False, True, False, False]


async def test_the_evses_of_a_location_are_limited_together(partner: Partner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locations, "MAX_LOCATION", 10_000)
    await partner.put(a_document())
    await partner.put(an_evse("E2", 1, note="x" * 9000), Place("E2"))
    held = await partner.document()
    for status, place in (("x" * 3000, Place("E1")), ("AVAILABLE", Place("E3"))):
        with pytest.raises(InvalidArgument, match="makes the location larger than 10,000 characters"):
            await partner.put(an_evse(place.evse_uid, 2, status=status), place)
    with pytest.raises(InvalidArgument, match="makes the location larger than 10,000 characters"):
        await partner.patch({"status": "x" * 3000, "last_updated": at(2)}, Place("E1"))
    assert await partner.document() == held
    # In a list it costs itself alone, and what is held can become smaller whatever the limit is.
    large = [an_evse(f"E{number}", note="x" * 2500) for number in range(5)]
    documents = [a_document("L2"), a_document("L3", evses=large), a_document("L4")]
    page = [(key(each["id"]), each) for each in documents]
    first, refused, last = await (await locations_read(partner.database, partner.caller, SENDER, page))()
    assert (first, last) == (CREATED, CREATED)
    assert isinstance(refused, InvalidArgument)
    monkeypatch.setattr(locations, "MAX_LOCATION", 1000)
    await partner.put(an_evse("E2", 3), Place("E2"))
    assert await partner.document(Place("E2")) == an_evse("E2", 3)


async def test_more_evses_than_a_location_has_are_refused_before_they_are_read(
    partner: Partner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_none(*_: Any) -> Any:
        raise AssertionError

    await partner.put(a_document())
    sender = replace(SENDER, read=read_none)
    sent = a_document(minute=1, evses=[{"uid": f"E{number}"} for number in range(1001)])
    for patch in (False, True):
        with pytest.raises(InvalidArgument, match="are more than 1000"):
            await location_received(partner.database, partner.caller, sender, key(), sent, patch=patch)
    with pytest.raises(AssertionError):
        await location_received(partner.database, partner.caller, sender, key(), sent | {"evses": []})


async def test_a_tariff_is_read_priced_kept_and_deleted(partner: Partner) -> None:
    assert await partner.tariff(a_price()) == Receipt(Outcome.CREATED)
    tariff = await partner.get_tariff()
    assert (tariff.integration_id, tariff.last_updated.ToJsonString()) == (HUB, at(0))
    listed = await partner.tenant.reader.tariffs.ListTariffs(ListTariffsRequest(integration_id=HUB))
    assert (listed.tariffs, (await partner.tenant.reader.tariffs.ListTariffs(ListTariffsRequest())).tariffs) == (
        [tariff],
        [],
    )
    request = QuotePriceRequest(key=TARIFF)
    request.options.time_zone = "Europe/Amsterdam"
    request.plan.start_date_time.FromJsonString("2030-06-03T12:00:00Z")
    request.plan.energy.value, request.plan.charging_s = "20", 3600
    assert (await partner.tenant.reader.pricing.QuotePrice(request)).total_cost.excl_vat.value == "5"
    assert await partner.tariff(a_price(minute=1, price="0.30")) == Receipt(Outcome.UPDATED)
    assert await partner.tariff(a_price(minute=0)) == Receipt(Outcome.OLDER)
    assert await partner.tariff({"currency": "SEK", "last_updated": at(2)}, patch=True) == Receipt(Outcome.UPDATED)
    kept = await received_tariff(partner.database, partner.tenant.name, key("T1"))
    assert kept == a_price(minute=2, price="0.30", currency="SEK")
    await tariff_removed(partner.database, partner.caller, SENDER, key("T1"))
    assert (await fails(partner.get_tariff())).code == Code.NOT_FOUND
    with pytest.raises(ResourceNotFound):
        await tariff_removed(partner.database, partner.caller, SENDER, key("T1"))
    assert [change[2] for change in await partner.changes()] == ["create", "update", "update", "delete"]
    assert await partner.tariff(a_price()) == Receipt(Outcome.CREATED)


WRITES: list[tuple[str, Callable[[Tenant], Awaitable[Any]]]] = [
    ("update", lambda tenant: tenant.writer.locations.UpdateLocation(UpdateLocationRequest(location=LOCATION))),
    ("delete", lambda tenant: tenant.writer.locations.DeleteLocation(DeleteLocationRequest(key=KEY))),
    ("tariff", lambda tenant: tenant.writer.tariffs.UpdateTariff(UpdateTariffRequest(tariff=a_tariff(**NAMES)))),
]
NAMES = {"country_code": "NL", "party_id": "TNM", "id": "L1", "integration_id": HUB}
LOCATION, KEY = a_location(**NAMES), LocationKey(**NAMES)


@pytest.mark.parametrize(("write",), [(write,) for _, write in WRITES], ids=[name for name, _ in WRITES])
async def test_callers_change_nothing_that_was_received(
    partner: Partner, write: Callable[[Tenant], Awaitable[Any]]
) -> None:
    await partner.put(a_document())
    failure = await fails(write(partner.tenant))
    assert (failure.code, failure.reason) == (Code.FAILED_PRECONDITION, "RECEIVED_IS_READ_ONLY")
    assert failure.metadata["integration_id"] == HUB


async def test_a_batch_and_a_report_refuse_them_one_by_one(partner: Partner) -> None:
    await partner.put(a_document())
    request = BatchUpsertTariffsRequest(tariffs=[a_tariff(**NAMES)], allow_missing=True)
    (result,) = (await partner.tenant.writer.tariffs.BatchUpsertTariffs(request)).results
    assert result.error.code == 9
    report = EvseStatusReport(location=KEY, evse_uid="E1", status=EVSE_STATUS_CHARGING)
    reports = ReportEvseStatusRequest(reports=[report])
    answer = await partner.tenant.writer.locations.ReportEvseStatus(reports)
    assert ([each.report for each in answer.refused_reports], answer.changed_count) == ([0], 0)
    assert (await partner.get()).evses[0].status == EVSE_STATUS_AVAILABLE


async def test_only_ours_are_published(partner: Partner) -> None:
    admin = partner.tenant.admin
    await partner.put(a_document())
    rule = CreatePublicationRuleRequest()
    rule.rule.integration_id, rule.rule.id, rule.rule.effect = HUB, "all", 1
    rule.rule.connectors.everything = True
    await admin.publication.CreatePublicationRule(rule)
    seen = await admin.publication.GetPartnerView(GetPartnerViewRequest(integration_id=HUB, location=KEY))
    assert not seen.HasField("location")
    rule.rule.id, rule.rule.connectors.everything = "one", False
    rule.rule.connectors.locations.append(KEY)
    failure = await fails(admin.publication.CreatePublicationRule(rule))
    assert failure.reason == "REFERENCE_NOT_FOUND"


async def test_what_two_calls_send_at_once_is_taken_by_the_partners_clock(partner: Partner) -> None:
    documents = [a_document(minute=minute, name=str(minute)) for minute in range(8)]
    receipts = await asyncio.gather(*map(partner.put, documents))
    assert {receipt.outcome for receipt in receipts} <= {Outcome.CREATED, Outcome.UPDATED, Outcome.OLDER}
    assert [receipt.outcome for receipt in receipts].count(Outcome.CREATED) == 1
    assert (await partner.get()).name == "7"


async def test_what_was_received_goes_with_its_integration(partner: Partner) -> None:
    await partner.put(a_document())
    await partner.tariff(a_price())
    await partner.tenant.admin.parties.CreateParty(CreatePartyRequest(party=a_party()))
    await partner.tenant.admin.integrations.DeleteIntegration(DeleteIntegrationRequest(id=HUB))
    assert (await fails(partner.get())).code == (await fails(partner.get_tariff())).code == Code.NOT_FOUND
    integration = an_integration_of("ampeco", id=HUB)
    await partner.tenant.admin.integrations.CreateIntegration(CreateIntegrationRequest(integration=integration))
    assert (await partner.put(a_document())).outcome == Outcome.CREATED

"""What a partner sees is kept as rows: they agree with the rules, and move only when what is seen changes."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from evbridge.v1.delivery_pb2 import OBJECT_KIND_LOCATION, OBJECT_KIND_TARIFF, ObjectKind, RedeliverAllRequest
from evbridge.v1.integration_pb2 import (
    INTEGRATION_TYPE_OCPI,
    CreateIntegrationRequest,
    DeleteIntegrationRequest,
    Integration,
    UpdateIntegrationRequest,
)
from evbridge.v1.location_pb2 import (
    EVSE_STATUS_CHARGING,
    EVSE_STATUS_REMOVED,
    BatchUpsertLocationsRequest,
    DeleteLocationRequest,
    EvseStatusReport,
    Location,
    LocationKey,
    ReportEvseStatusRequest,
)
from evbridge.v1.party_pb2 import CreatePartyRequest, PartyKey
from evbridge.v1.publication_pb2 import (
    HIDDEN_REASON_OTHER_PARTY,
    CreatePublicationRuleRequest,
    DeletePublicationRuleRequest,
    GetPartnerViewRequest,
    ListPartnerLocationsRequest,
    ListPartnerTariffsRequest,
    ListPublicationRulesRequest,
    PublicationRule,
    TariffSelection,
)
from evbridge.v1.tariff_pb2 import CreateTariffRequest, Tariff, UpdateTariffRequest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from service.app import Evbridge
from service.domain.keys import ObjectKey, key_of
from service.storage.integration import integration_takes_refresh
from service.storage.retention import retention_sweep
from service.storage.statements import Statement
from service.storage.view import Viewed, view_count, view_get, view_page
from tests.conftest import Tenant
from tests.front_door import a_connector, a_location, a_party, a_rule, a_tariff, an_evse, an_integration_of, at_rest
from tests.published import LOCATIONS, RULES, TARIFFS, tariff

ID = "roaming"


class View:
    """What the partner sees, once all that is due has been worked off."""

    def __init__(self, running: Evbridge, tenant: Tenant, id: str = ID) -> None:
        self._running = running
        self.tenant = tenant
        self.id = id

    @property
    def at(self) -> tuple[str, str]:
        return self.tenant.name, self.id

    async def page(self, kind: ObjectKind.ValueType = OBJECT_KIND_LOCATION, **more: Any) -> list[Viewed]:
        await at_rest(self.tenant.reader, self.id)
        return await view_page(self._running.database, *self.at, kind, **{"limit": 100, **more})

    async def count(self, **more: Any) -> int:
        await at_rest(self.tenant.reader, self.id)
        return await view_count(self._running.database, *self.at, OBJECT_KIND_LOCATION, **more)

    async def location(self, id: str) -> tuple[Viewed, Location]:
        await at_rest(self.tenant.reader, self.id)
        key = ObjectKey.of("DE", "ABC", id)
        viewed = await view_get(self._running.database, *self.at, OBJECT_KIND_LOCATION, key)
        assert viewed is not None
        return viewed, viewed.parsed(Location)

    async def tariffs(self) -> list[str]:
        return [each.key.key for each in await self.page(OBJECT_KIND_TARIFF)]


@pytest.fixture
async def view(running: Evbridge, tenant: Tenant) -> View:
    """Of an OCPI party. There are the tariffs T1 to T3, of three types."""
    for party in (a_party(), a_party(party_id="XYZ")):
        await tenant.admin.parties.CreateParty(CreatePartyRequest(party=party))
    for type, id in enumerate(TARIFFS, 1):
        await tenant.writer.tariffs.CreateTariff(CreateTariffRequest(tariff=a_tariff(id=id, type=type)))
    await integrate(tenant, ID)
    return View(running, tenant)


async def integrate(tenant: Tenant, id: str) -> None:
    request = CreateIntegrationRequest(integration=an_integration_of("ocpi", id=id))
    await tenant.admin.integrations.CreateIntegration(request)


async def store(tenant: Tenant, *locations: Location) -> None:
    response = await tenant.writer.locations.BatchUpsertLocations(
        BatchUpsertLocationsRequest(locations=locations, allow_missing=True)
    )
    assert not [result for result in response.results if result.HasField("error")], response


async def show(tenant: Tenant, rule: PublicationRule | None = None, **changes: Any) -> None:
    rule = rule or a_rule(**{"id": "all", "priority": 5, **changes})
    rule.integration_id = rule.integration_id if "integration_id" in changes else ID
    await tenant.writer.publication.CreatePublicationRule(CreatePublicationRuleRequest(rule=rule))


async def hide(tenant: Tenant, id: str = "all") -> None:
    request = DeletePublicationRuleRequest(integration_id=ID, id=id)
    await tenant.writer.publication.DeletePublicationRule(request)


async def speak_for(tenant: Tenant, *party_ids: str) -> None:
    parties = [PartyKey(country_code="DE", party_id=id) for id in party_ids]
    request = UpdateIntegrationRequest(integration=Integration(id=ID, parties=parties))
    request.update_mask.paths.append("parties")
    await tenant.admin.integrations.UpdateIntegration(request)


async def delete(tenant: Tenant, id: str) -> None:
    key = LocationKey(country_code="DE", party_id="ABC", id=id)
    await tenant.writer.locations.DeleteLocation(DeleteLocationRequest(key=key))


def selecting(rule: PublicationRule) -> PublicationRule:
    """A selection of nothing in particular is one of everything."""
    if rule.HasField("connectors") and not rule.connectors.ListFields():
        rule.connectors.everything = True
    return rule


def seen_in(location: Location) -> Location:
    """Without times, what concerns us alone, and EVSEs that are shown once more as REMOVED."""
    told = Location()
    told.CopyFrom(location)
    for name in ("create_time", "etag", "last_updated", "origin", "overrides"):
        told.ClearField(name)  # type: ignore[arg-type]
    for evse in told.evses:
        evse.ClearField("last_updated")
        for connector in evse.connectors:
            connector.ClearField("last_updated")
    return told


async def check(view: View, before: dict[ObjectKey, Viewed]) -> dict[ObjectKey, Viewed]:
    """The rows say what the rules say, and only those moved that say something else than before."""
    reader = view.tenant.reader.publication
    rows = {viewed.key: viewed for viewed in await view.page()}
    for id in ("L0", "L1"):
        key = LocationKey(country_code="DE", party_id="ABC", id=id)
        ruled = await reader.GetPartnerView(GetPartnerViewRequest(integration_id=ID, location=key))
        viewed = rows.get(key_of(key))
        if not ruled.HasField("location"):
            assert viewed is None or not viewed.shown
            evses = viewed.parsed(Location).evses if viewed else []
            assert {evse.status for evse in evses} <= {EVSE_STATUS_REMOVED}
            continue
        assert viewed is not None and viewed.shown
        kept, wanted = seen_in(viewed.parsed(Location)), seen_in(ruled.location)
        gone = kept.evses[len(wanted.evses) :]
        assert {evse.status for evse in gone} <= {EVSE_STATUS_REMOVED}
        assert not {evse.uid for evse in gone} & {evse.uid for evse in wanted.evses}
        del kept.evses[len(wanted.evses) :]
        assert kept == wanted
    places = await reader.ListPartnerLocations(ListPartnerLocationsRequest(integration_id=ID))
    assert {key_of(each) for each in places.locations} == {viewed.key for viewed in rows.values() if viewed.shown}
    listed = await reader.ListPartnerTariffs(ListPartnerTariffsRequest(integration_id=ID))
    assert {key_of(each) for each in listed.tariffs} == {each.key for each in await view.page(OBJECT_KIND_TARIFF)}
    for key, viewed in rows.items():
        if key in before:
            moved = viewed.last_updated > before[key].last_updated
            assert moved == (viewed.hash != before[key].hash)
            assert viewed.position == before[key].position
    return rows


async def test_the_rows_agree_with_the_rules_whatever_changes(view: View, soak: Callable[[int], int]) -> None:
    changes: list[tuple[list[PublicationRule], list[Location], list[str]]] = []
    locations = st.lists(LOCATIONS, min_size=1, max_size=2, unique_by=lambda location: location.id)
    parties = st.sampled_from([[], ["ABC"], ["ABC", "XYZ"], ["XYZ"]])

    @hypothesis_settings(max_examples=soak(250), suppress_health_check=list(HealthCheck), derandomize=True)
    @given(RULES, locations, parties)
    def collect(rules: list[PublicationRule], locations: list[Location], parties: list[str]) -> None:
        changes.append((rules, locations, parties))

    collect()
    await store(view.tenant, a_location(id="L0"), a_location(id="L1"))
    rows: dict[ObjectKey, Viewed] = {}
    seen = 0
    for rules, locations_now, parties_now in changes:
        await store(view.tenant, *locations_now)
        rows = await check(view, rows)
        held = await view.tenant.reader.publication.ListPublicationRules(ListPublicationRulesRequest(integration_id=ID))
        for rule in held.rules:
            await hide(view.tenant, rule.id)
        for number, rule in enumerate(rules):
            await show(view.tenant, selecting(rule), id=f"r{number}")
        await speak_for(view.tenant, *parties_now)
        rows = await check(view, rows)
        seen += sum(viewed.shown for viewed in rows.values())
    assert seen > len(changes) / 6  # the rules do not hide everything


async def test_a_control_that_compares_with_other_rules_fails(view: View) -> None:
    await store(view.tenant, a_location(id="L0"), a_location(id="L1"))
    await show(view.tenant)
    rows = await check(view, {})
    await hide(view.tenant)
    with pytest.raises(AssertionError):
        await check(
            view, {key: viewed._replace(last_updated=datetime.max.replace(tzinfo=UTC)) for key, viewed in rows.items()}
        )


async def test_a_change_moves_the_views_that_it_reaches_and_no_others(view: View) -> None:
    await store(view.tenant, a_location(id="L1"), a_location(id="L2"))
    await show(view.tenant)
    first, second = sorted(await view.page())
    only = LocationKey(country_code="DE", party_id="ABC", id="L2")
    await show(view.tenant, id="priced", priority=1, connectors={"locations": [only]}, assigned_tariffs=[tariff("T1")])
    moved = {each.key.key: each for each in await view.page()}
    assert moved["l1"] == first
    assert moved["l2"].last_updated > second.last_updated
    _, location = await view.location("L2")
    (evse, same) = location.evses
    assert evse.last_updated == same.last_updated == evse.connectors[0].last_updated
    assert second.last_updated < evse.last_updated.ToDatetime(UTC) <= moved["l2"].last_updated
    # A rule that says the same once more moves nothing.
    await show(view.tenant, id="again", priority=9)
    assert {each.key.key: each for each in await view.page()} == moved


async def test_what_is_withdrawn_or_deleted_is_shown_once_more(view: View) -> None:
    charged = an_evse("E1", connectors=[a_connector(tariff_ids=["T1"])])
    await store(view.tenant, a_location(id="L1", evses=[charged]), a_location(id="L2", evses=[charged]))
    await show(view.tenant)
    before = await view.page()
    assert await view.tariffs() == ["t1"]
    await hide(view.tenant)
    await delete(view.tenant, "L2")
    after = await view.page()
    assert [(each.key, each.position, each.shown) for each in after] == [
        (each.key, each.position, False) for each in before
    ]
    for old, viewed in zip(before, after, strict=True):
        location = viewed.parsed(Location)
        assert [evse.status for evse in location.evses] == [EVSE_STATUS_REMOVED]
        assert not location.evses[0].connectors[0].tariff_ids
        assert viewed.last_updated > old.last_updated
    assert await view.tariffs() == []
    await show(view.tenant)
    assert {each.key.key: each.shown for each in await view.page()} == {"l1": True, "l2": False}
    assert [each.position for each in await view.page()] == [each.position for each in before]


async def test_a_partner_sees_objects_of_the_parties_that_its_integration_speaks_for(view: View) -> None:
    charged = an_evse("E1", connectors=[a_connector(tariff_ids=["T1"])])
    await store(view.tenant, a_location(id="L1", evses=[charged]), a_location(id="L2", party_id="XYZ"))
    await show(view.tenant)
    assert {each.key.key: each.shown for each in await view.page()} == {"l1": True, "l2": True}
    await speak_for(view.tenant, "XYZ")
    assert {each.key.key: each.shown for each in await view.page()} == {"l1": False, "l2": True}
    gone, location = await view.location("L1")
    assert [evse.status for evse in location.evses] == [EVSE_STATUS_REMOVED]
    assert await view.tariffs() == []
    reader = view.tenant.reader.publication
    for name, key in (("location", LocationKey(country_code="DE", party_id="ABC", id="L1")), ("tariff", tariff("T1"))):
        hidden = await reader.GetPartnerView(GetPartnerViewRequest(**{"integration_id": ID, name: key}))
        assert (hidden.WhichOneof("object"), hidden.hidden_reason) == (None, HIDDEN_REASON_OTHER_PARTY)
    await speak_for(view.tenant, "ABC", "XYZ")
    back, location = await view.location("L1")
    assert (back.shown, back.position) == (True, gone.position)
    assert (await view.tariffs(), [evse.status for evse in location.evses]) == (["t1"], [charged.status])


async def test_an_unchanged_document_moves_nothing(view: View) -> None:
    await store(view.tenant, a_location(id="L1", evses=[an_evse("E1", status=EVSE_STATUS_REMOVED)]))
    await show(view.tenant)
    (before,) = await view.page()
    await hide(view.tenant)
    assert await view.page() == [before._replace(shown=False)]


async def test_an_evse_that_is_hidden_is_removed_in_the_view(view: View) -> None:
    await store(view.tenant, a_location(id="L1", evses=[an_evse("E1", evse_id="DE*ABC*E1"), an_evse("E2")]))
    await show(view.tenant)
    _, whole = await view.location("L1")
    await show(
        view.tenant,
        id="not-e1",
        priority=1,
        effect="PUBLICATION_EFFECT_HIDDEN",
        connectors={"evse_id_prefixes": ["DE*"]},
    )
    _, less = await view.location("L1")
    assert {evse.uid: evse.status for evse in less.evses} == {"E2": whole.evses[1].status, "E1": EVSE_STATUS_REMOVED}
    assert less.evses[0] == whole.evses[1]


async def test_a_status_moves_the_location_and_that_evse(view: View) -> None:
    await store(view.tenant, a_location(id="L1"))
    await show(view.tenant)
    before, old = await view.location("L1")
    key = LocationKey(country_code="DE", party_id="ABC", id="L1")
    report = EvseStatusReport(location=key, evse_uid="E2", status=EVSE_STATUS_CHARGING)
    await view.tenant.writer.locations.ReportEvseStatus(ReportEvseStatusRequest(reports=[report]))
    after, new = await view.location("L1")
    assert after.last_updated > before.last_updated
    assert new.evses[0] == old.evses[0]
    assert new.evses[1].status == EVSE_STATUS_CHARGING
    assert new.evses[1].last_updated.ToNanoseconds() > old.evses[1].last_updated.ToNanoseconds()


async def test_a_tariff_is_seen_while_a_location_names_it(view: View) -> None:
    await show(view.tenant, tariffs=TariffSelection(keys=[tariff("T3")]), id="t3")
    location = a_location(id="L1", evses=[an_evse("E1")])
    await store(view.tenant, location)
    key = LocationKey(country_code="DE", party_id="ABC", id="L1")
    await show(view.tenant, connectors={"locations": [key]}, assigned_tariffs=[tariff("T1")], id="priced")
    assert sorted(await view.tariffs()) == ["t1", "t3"]
    named, _ = await view.location("L1")
    assert min(await view.page(OBJECT_KIND_TARIFF)).last_updated <= named.last_updated
    request = UpdateTariffRequest(
        tariff=Tariff(country_code="DE", party_id="ABC", id="T1", tariff_alt_url="https://a.example")
    )
    await view.tenant.writer.tariffs.UpdateTariff(request)
    first = min(await view.page(OBJECT_KIND_TARIFF))
    assert first.parsed(Tariff).tariff_alt_url == "https://a.example"
    await hide(view.tenant, "priced")
    assert await view.tariffs() == ["t3"]


async def test_many_objects_are_marked_in_slices(view: View, monkeypatch: pytest.MonkeyPatch) -> None:
    """The calls mark the first two; the others are marked in the background."""
    monkeypatch.setattr("service.storage.marking.SLICE", 2)
    await store(view.tenant, *(a_location(id=f"L{number}") for number in range(5)))
    await show(view.tenant)
    async with asyncio.timeout(20):
        while len(await view.page()) < 5:
            await asyncio.sleep(0.02)
    request = RedeliverAllRequest(integration_id=ID, object_kind=OBJECT_KIND_LOCATION)
    before = {each.id: each.update_time.ToNanoseconds() for each in await at_rest(view.tenant.reader, ID)}
    assert (await view.tenant.admin.deliveries.RedeliverAll(request)).delivery_count == 5
    async with asyncio.timeout(20):
        while True:
            deliveries = [
                each for each in await at_rest(view.tenant.reader, ID) if each.object_kind == OBJECT_KIND_LOCATION
            ]
            if all(each.update_time.ToNanoseconds() > before[each.id] for each in deliveries):
                break
            await asyncio.sleep(0.02)
    assert len(deliveries) == 5
    monkeypatch.setattr("service.storage.slices.SLICE", 2)
    await view.tenant.admin.integrations.DeleteIntegration(DeleteIntegrationRequest(id=ID, force=True))
    assert not await at_rest(view.tenant.reader, ID)


async def test_a_view_is_read_by_pages(view: View) -> None:
    for number in range(5):
        await store(view.tenant, a_location(id=f"L{number}"))
        if not number:
            await show(view.tenant)
        await at_rest(view.tenant.reader, ID)
    whole = await view.page()
    assert [each.key.key for each in whole] == ["l0", "l1", "l2", "l3", "l4"]
    assert await view.page(limit=2) == whole[:2]
    assert await view.page(limit=2, after=whole[1].position) == await view.page(limit=2, offset=2) == whole[2:4]
    begin, end = whole[1].last_updated, whole[3].last_updated
    assert await view.page(date_from=begin, date_to=end) == whole[1:3]
    assert await view.page(date_from=begin, date_to=end, offset=1) == whole[2:3]
    assert await view.page(date_from=end + timedelta(milliseconds=1)) == whole[4:]
    assert (await view.count(), await view.count(date_from=begin), await view.count(date_from=begin, date_to=end)) == (
        5,
        4,
        2,
    )


async def test_a_page_ends_at_a_mebibyte(view: View) -> None:
    words = [{"language": "en", "text": "x" * 400} for _ in range(50)]
    await store(view.tenant, *(a_location(id=f"L{number}", directions=words) for number in range(60)))
    await show(view.tenant)
    page = await view.page()
    assert 1 < len(page) < 60
    assert [*page, *await view.page(after=page[-1].position)] == await view.page(limit=60) + await view.page(
        after=page[-1].position
    )


async def documents(running: Evbridge, tenant: Tenant) -> int:
    count = "SELECT count(*) FROM partner_document WHERE tenant_id = $1"
    found: int = await running.database.value(Statement("documents", count), tenant.name)
    return found


async def test_equal_views_share_a_document_and_retention_forgets_unused_ones(view: View, running: Evbridge) -> None:
    tenant = view.tenant
    await integrate(tenant, "other")
    await store(tenant, a_location(id="L1"))
    for id in (ID, "other"):
        await show(tenant, integration_id=id)
    other = View(running, tenant, "other")
    (viewed,), (same,) = await view.page(), await other.page()
    assert (viewed.hash, viewed.document) == (same.hash, same.document)
    assert await documents(running, tenant) == 1
    await delete(tenant, "L1")
    ((gone,), _) = await view.page(), await other.page()
    assert not gone.shown
    age = (
        "UPDATE partner_object SET last_updated = last_updated - interval '31 days' WHERE tenant_id = $1 AND NOT shown"
    )
    await running.database.run(Statement("age", age), tenant.name)
    await retention_sweep(running.database, days=30)
    assert (await view.page(), await documents(running, tenant)) == ([], 0)


async def test_integrations_of_a_build_that_took_nothing_are_shown_what_they_missed(
    view: View, running: Evbridge
) -> None:
    older = "UPDATE integration SET takes = '{}' WHERE tenant_id = $1"
    await running.database.run(Statement("older", older), view.tenant.name)
    await show(view.tenant)
    charged = an_evse("E1", connectors=[a_connector(tariff_ids=["T1"])])
    await store(view.tenant, a_location(id="L1", evses=[charged]))
    assert await view.page() == []
    await integration_takes_refresh(
        running.database, {INTEGRATION_TYPE_OCPI: (OBJECT_KIND_TARIFF, OBJECT_KIND_LOCATION)}
    )
    assert [each.key.key for each in await view.page()] == ["l1"]
    assert await view.tariffs() == ["t1"]

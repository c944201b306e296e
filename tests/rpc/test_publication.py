"""PublicationService, and `publish_to`, through the front door."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import grpc
import pytest
from evbridge.v1.delivery_pb2 import OBJECT_KIND_LOCATION, OBJECT_KIND_TARIFF
from evbridge.v1.integration_pb2 import (
    CreateIntegrationRequest,
    DeleteIntegrationRequest,
    Integration,
    UpdateIntegrationRequest,
)
from evbridge.v1.location_pb2 import (
    POWER_TYPE_DC,
    BatchUpsertLocationsRequest,
    CreateLocationRequest,
    DeleteLocationRequest,
    Location,
    LocationKey,
)
from evbridge.v1.party_pb2 import CreatePartyRequest, PartyKey
from evbridge.v1.publication_pb2 import (
    HIDDEN_REASON_OTHER_PARTY,
    HIDDEN_REASON_RULES,
    PUBLICATION_EFFECT_HIDDEN,
    PUBLICATION_EFFECT_VISIBLE,
    ConnectorSelection,
    CreatePublicationRuleRequest,
    DeletePublicationRuleRequest,
    GetPartnerViewRequest,
    GetPublicationRuleRequest,
    ListPartnerLocationsRequest,
    ListPartnerTariffsRequest,
    ListPublicationRulesRequest,
    PartnerView,
    PublicationImpact,
    PublicationRule,
    PublicationRuleChange,
    TariffSelection,
    UpdatePublicationRuleRequest,
)
from evbridge.v1.tariff_pb2 import CreateTariffRequest, DeleteTariffRequest, Tariff, TariffKey, UpdateTariffRequest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from service.app import Evbridge
from service.storage.statements import Statement
from tests.conftest import Tenant
from tests.filled import filled, unset
from tests.front_door import (
    a_connector,
    a_location,
    a_party,
    a_rule,
    a_tariff,
    an_evse,
    an_integration,
    an_integration_of,
    fails,
)

Code = grpc.StatusCode


def tariff_key(id: str) -> TariffKey:
    return TariffKey(country_code="DE", party_id="ABC", id=id)


def location_key(id: str) -> LocationKey:
    return LocationKey(country_code="DE", party_id="ABC", id=id)


def ac_and_dc() -> list[Any]:
    """An AC connector with its own tariff, a DC connector without."""
    return [
        an_evse("AC", evse_id="DE*ABC*E1", connectors=[a_connector(tariff_ids=["T1"])]),
        an_evse("DC", evse_id="DE*ABC*F1", connectors=[a_connector(power_type=POWER_TYPE_DC)]),
    ]


async def locate(tenant: Tenant, id: str, **more: Any) -> Location:
    changes = {"id": id, "evses": ac_and_dc(), **more.pop("location", {})}
    return await tenant.writer.locations.CreateLocation(CreateLocationRequest(location=a_location(**changes), **more))


async def price(tenant: Tenant, id: str, type: int = 0, **more: Any) -> Any:
    request = CreateTariffRequest(tariff=a_tariff(id=id, type=type), **more)
    return await tenant.writer.tariffs.CreateTariff(request)


async def integrate(tenant: Tenant, id: str, **fields: Any) -> None:
    request = CreateIntegrationRequest(integration=an_integration(id=id, enabled=False, **fields))
    await tenant.admin.integrations.CreateIntegration(request)


@pytest.fixture
async def market(tenant: Tenant) -> Tenant:
    """DE*ABC with the tariffs T1 to T3 of three types, the locations L1 in Germany and L2 in Norway.

    There are the integrations cp and other.
    """
    await tenant.admin.parties.CreateParty(CreatePartyRequest(party=a_party()))
    for type in (1, 2, 3):
        await price(tenant, f"T{type}", type)
    await locate(tenant, "L1")
    await locate(tenant, "L2", location={"country": "NOR"})
    for id in ("cp", "other"):
        await integrate(tenant, id)
    return tenant


async def create(
    tenant: Tenant, rule: PublicationRule | None = None, /, *, validate_only: bool = False, **changes: Any
) -> PublicationRule:
    request = CreatePublicationRuleRequest(rule=rule or a_rule(**changes), validate_only=validate_only)
    return (await tenant.writer.publication.CreatePublicationRule(request)).rule


async def update(tenant: Tenant, rule: PublicationRule, *paths: str, **more: Any) -> PublicationRuleChange:
    request = UpdatePublicationRuleRequest(rule=rule, update_mask=FieldMask(paths=paths), **more)
    return await tenant.writer.publication.UpdatePublicationRule(request)


async def delete(tenant: Tenant, id: str, **more: Any) -> PublicationRuleChange:
    request = DeletePublicationRuleRequest(**{"integration_id": "cp", "id": id, **more})
    return await tenant.writer.publication.DeletePublicationRule(request)


async def get(tenant: Tenant, id: str, integration_id: str = "cp") -> PublicationRule:
    request = GetPublicationRuleRequest(integration_id=integration_id, id=id)
    return await tenant.reader.publication.GetPublicationRule(request)


async def rules(tenant: Tenant, **filters: Any) -> list[PublicationRule]:
    """Over all pages."""
    request, found = ListPublicationRulesRequest(**filters), []
    while True:
        page = await tenant.reader.publication.ListPublicationRules(request)
        found += page.rules
        request.page_token = page.next_page_token
        if not request.page_token:
            return found


async def view(tenant: Tenant, integration_id: str = "cp", **object_: Any) -> PartnerView:
    return await tenant.reader.publication.GetPartnerView(
        GetPartnerViewRequest(integration_id=integration_id, **object_)
    )


async def shown(tenant: Tenant, id: str, integration_id: str = "cp", **at: Any) -> dict[str, list[str]]:
    """EVSE -> the tariffs that its connector shows, of a location."""
    seen = await view(tenant, integration_id, location=location_key(id), **at)
    return {evse.uid: [*evse.connectors[0].tariff_ids] for evse in seen.location.evses}


async def listed(tenant: Tenant, integration_id: str = "cp", size: int = 0, **at: Any) -> tuple[list[str], list[str]]:
    """The ids of all locations and tariffs of a view, over all pages."""
    found: tuple[list[str], list[str]] = ([], [])
    for noun, request, ids in (
        ("locations", ListPartnerLocationsRequest(integration_id=integration_id, page_size=size, **at), found[0]),
        ("tariffs", ListPartnerTariffsRequest(integration_id=integration_id, page_size=size, **at), found[1]),
    ):
        while True:
            page = await getattr(tenant.reader.publication, f"ListPartner{noun.capitalize()}")(request)
            ids += [each.id for each in getattr(page, noun)]
            request.page_token = page.next_page_token
            if not request.page_token:
                break
    return found


VALUES = {
    "evbridge.v1.PublicationRule.integration_id": "cp",
    "evbridge.v1.PublicationRule.id": "night",
    "evbridge.v1.PublicationRule.tariffs": None,
    "evbridge.v1.PublicationRule.valid_from": Timestamp(seconds=1, nanos=5),
    "evbridge.v1.PublicationRule.valid_until": Timestamp(seconds=2),
    "evbridge.v1.ConnectorSelection.everything": None,
    "evbridge.v1.ConnectorSelection.countries": ["DEU", "NOR"],
    "evbridge.v1.ConnectorSelection.locations": [location_key("L1"), location_key("L2")],
    "evbridge.v1.PublicationRule.assigned_tariffs": [tariff_key("T1"), tariff_key("T2")],
}


async def test_every_field_is_stored_and_comes_back(market: Tenant) -> None:
    sent = filled(PublicationRule.DESCRIPTOR, VALUES)
    stored = await create(market, sent)
    ours = [path for path in unset(stored) if not path.endswith(".integration_id")]
    assert ours == ["connectors.everything", "tariffs", "from_publish_to"]
    got = await get(market, "night")
    assert got == stored
    for name in ("create_time", "update_time", "etag"):
        got.ClearField(name)
    assert got == sent
    named = await create(market, tariffs=TariffSelection(keys=[tariff_key("T1")]))
    assert (await get(market, named.id)).tariffs.keys == [tariff_key("T1")]


async def test_a_rule_without_an_id_gets_one_and_output_only_fields_are_ignored(market: Tenant) -> None:
    stored = await create(market, id="", from_publish_to=True, create_time=Timestamp(seconds=1))
    assert stored.id.startswith("rule-")
    assert not stored.from_publish_to
    assert stored.create_time == stored.update_time
    assert await get(market, stored.id) == stored


def connectors(**conditions: Any) -> dict[str, Any]:
    return {"connectors": ConnectorSelection(**conditions)}


INVALID = [
    ({"integration_id": ""}, "rule.integration_id"),
    ({"id": "Night"}, "rule.id"),
    ({"id": "a" * 64}, "rule.id"),
    ({"display_name": "n" * 256}, "rule.display_name"),
    ({"priority": -1}, "rule.priority"),
    ({"priority": 1_000_001}, "rule.priority"),
    ({"effect": 0}, "rule.effect"),
    ({"effect": 9}, "rule.effect"),
    ({"connectors": None}, "rule.selection"),
    ({"tariffs": TariffSelection()}, "rule.tariffs.keys"),
    ({"tariffs": TariffSelection(keys=[tariff_key("")])}, "rule.tariffs.keys[0].id"),
    ({"effect": 2, "assigned_tariffs": [tariff_key("T1")]}, "rule"),
    ({"tariffs": TariffSelection(keys=[tariff_key("T1")]), "assigned_tariffs": [tariff_key("T1")]}, "rule"),
    ({"assigned_tariffs": [tariff_key("T1")] * 51}, "rule.assigned_tariffs"),
    ({"valid_from": Timestamp(seconds=2), "valid_until": Timestamp(seconds=2)}, "rule"),
    (connectors(), "rule.connectors"),
    (connectors(everything=True, countries=["DEU"]), "rule.connectors"),
    (connectors(locations=[LocationKey(country_code="D")]), "rule.connectors.locations[0].country_code"),
    (connectors(locations=[location_key("L1")] * 1001), "rule.connectors.locations"),
    (connectors(countries=["DE"]), "rule.connectors.countries[0]"),
    (connectors(countries=["DEU", "DEU"]), "rule.connectors.countries"),
    (connectors(power_types=[0]), "rule.connectors.power_types[0]"),
    (connectors(evse_id_prefixes=[""]), "rule.connectors.evse_id_prefixes[0]"),
    (connectors(evse_id_prefixes=["ü"]), "rule.connectors.evse_id_prefixes[0]"),
]


@pytest.mark.parametrize(("changes", "path"), INVALID)
async def test_a_field_that_breaks_its_rule_is_named_and_nothing_is_stored(
    market: Tenant, changes: dict[str, Any], path: str
) -> None:
    failure = await fails(create(market, **changes))
    assert (failure.code, failure.reason) == (Code.INVALID_ARGUMENT, "INVALID_FIELD")
    assert path in failure.violations
    assert not await rules(market)


DANGLING = [
    ({"integration_id": "none"}, "integration", "none", "rule.integration_id"),
    (
        connectors(locations=[location_key("L1"), location_key("L9")]),
        "location",
        "DE*ABC*L9",
        "rule.connectors.locations[1]",
    ),
    ({"tariffs": TariffSelection(keys=[tariff_key("T9")])}, "tariff", "DE*ABC*T9", "rule.tariffs.keys[0]"),
    ({"assigned_tariffs": [tariff_key("t1"), tariff_key("T9")]}, "tariff", "DE*ABC*T9", "rule.assigned_tariffs[1]"),
]


@pytest.mark.parametrize(("changes", "resource", "id", "path"), DANGLING)
async def test_what_a_rule_names_must_exist(
    market: Tenant, changes: dict[str, Any], resource: str, id: str, path: str
) -> None:
    failure = await fails(create(market, **changes))
    assert (failure.code, failure.reason) == (Code.FAILED_PRECONDITION, "REFERENCE_NOT_FOUND")
    assert failure.metadata == {"resource": resource, "id": id}
    assert failure.violations.keys() == {path}
    assert not await rules(market)


async def test_an_update_changes_what_it_names_and_is_validated_whole(market: Tenant) -> None:
    created = await create(market, id="r", display_name="before", **connectors(countries=["DEU"]))
    patch = PublicationRule(integration_id="cp", id="r", priority=7)
    changed = (await update(market, patch, "priority", "display_name")).rule
    assert (changed.priority, changed.display_name, changed.connectors) == (7, "", created.connectors)
    assert changed.create_time == created.create_time
    assert changed.update_time.ToNanoseconds() > created.update_time.ToNanoseconds()
    assert (await get(market, "r")) == changed
    assert (await update(market, patch)).rule == changed  # what does not change is not written
    other = PublicationRule(integration_id="cp", id="r", tariffs=TariffSelection(keys=[tariff_key("T1")]))
    assert (await update(market, other)).rule.WhichOneof("selection") == "tariffs"
    assert "rule.selection" in (await fails(update(market, patch, "tariffs"))).violations
    other.tariffs.keys.append(tariff_key("T9"))
    assert (await fails(update(market, other))).violations.keys() == {"rule.tariffs.keys[1]"}
    assert "update_mask" in (await fails(update(market, patch, "name"))).violations
    assert "rule" in (await fails(update(market, PublicationRule(id="r")))).violations
    stale = PublicationRule(integration_id="cp", id="r", etag=created.etag)
    failure = await fails(update(market, stale))
    assert (failure.code, failure.reason) == (Code.ABORTED, "ETAG_MISMATCH")
    await update(market, PublicationRule(integration_id="cp", id="r", **connectors(countries=["DEU"])))
    emptied = await fails(update(market, patch, "connectors.countries"))
    assert emptied.violations.keys() == {"rule.connectors"}
    replaced = (await update(market, a_rule(id="r"), "*")).rule
    assert (replaced.priority, replaced.WhichOneof("selection")) == (0, "connectors")


async def test_a_rule_that_exists_is_not_created_and_one_that_does_not_is_not_found(market: Tenant) -> None:
    created = await create(market, id="r")
    failure = await fails(create(market, id="r"))
    assert (failure.code, failure.reason) == (Code.ALREADY_EXISTS, "RESOURCE_EXISTS")
    await create(market, id="r", integration_id="other")
    assert (await fails(create(market, id="new", etag="other"))).reason == "ETAG_MISMATCH"
    for call in (
        get(market, "none"),
        get(market, "r", "none"),
        update(market, a_rule(id="none")),
        update(market, a_rule(id="r", integration_id="none")),
        delete(market, "none"),
        delete(market, "r", integration_id="none"),
    ):
        failure = await fails(call)
        assert (failure.code, failure.reason) == (Code.NOT_FOUND, "RESOURCE_NOT_FOUND")
        assert failure.metadata["resource"] == "publication_rule"
    assert (await fails(delete(market, "r", etag="other"))).reason == "ETAG_MISMATCH"
    assert not (await delete(market, "r", etag=created.etag)).HasField("rule")
    assert (await fails(get(market, "r"))).code is Code.NOT_FOUND
    await delete(market, "r", allow_missing=True)
    assert [rule.integration_id for rule in await rules(market)] == ["other"]


async def test_rules_are_listed_by_integration_in_the_order_in_which_they_count(market: Tenant) -> None:
    for integration_id, id, priority in [("other", "a", 0), ("cp", "c", 10), ("cp", "b", 10), ("cp", "z", 2)]:
        await create(market, integration_id=integration_id, id=id, priority=priority)
    assert [rule.id for rule in await rules(market)] == ["z", "b", "c", "a"]
    assert [rule.id for rule in await rules(market, page_size=1)] == ["z", "b", "c", "a"]
    assert [rule.id for rule in await rules(market, page_size=2, integration_id="cp")] == ["z", "b", "c"]
    assert not await rules(market, integration_id="none")
    page = await market.reader.publication.ListPublicationRules(ListPublicationRulesRequest(page_size=1))
    wrong = ListPublicationRulesRequest(page_token=page.next_page_token, integration_id="cp")
    assert (await fails(market.reader.publication.ListPublicationRules(wrong))).reason == "INVALID_PAGE_TOKEN"


async def test_a_rule_says_when_nothing_is_delivered_through_its_integration(market: Tenant) -> None:
    for type, delivered in (("emabler", False), ("ocpi", True), ("ampeco", True)):
        integration = CreateIntegrationRequest(integration=an_integration_of(type, id=type.replace("_", "-")))
        await market.admin.integrations.CreateIntegration(integration)
        request = CreatePublicationRuleRequest(rule=a_rule(integration_id=type))
        made = await market.writer.publication.CreatePublicationRule(request)
        changed = await update(market, PublicationRule(integration_id=type, id=made.rule.id, priority=7))
        removal = DeletePublicationRuleRequest(integration_id=type, id=made.rule.id)
        removed = await market.writer.publication.DeletePublicationRule(removal)
        said = [] if delivered else ["neither locations nor tariffs are delivered through this integration"]
        assert [each.partition(":")[0] for each in made.notices] == said
        assert changed.notices == made.notices
        assert not removed.notices


async def test_a_rule_says_what_stays_hidden_for_its_party(market: Tenant) -> None:
    """Of two integrations, one speaks for DE*XYZ alone."""
    await market.admin.parties.CreateParty(CreatePartyRequest(party=a_party(party_id="XYZ")))
    patch = Integration(id="other", parties=[PartyKey(country_code="DE", party_id="XYZ")])
    await market.admin.integrations.UpdateIntegration(UpdateIntegrationRequest(integration=patch))
    for id, hidden in (("cp", 0), ("other", 2)):
        rule = a_rule(integration_id=id, assigned_tariffs=[tariff_key("T1")])
        request = CreatePublicationRuleRequest(rule=rule, validate_only=True)
        made = await market.writer.publication.CreatePublicationRule(request)
        assert (made.impact.shown_locations, made.impact.other_party_locations) == (2 - hidden, hidden)
        assert any("DE*ABC" in notice for notice in made.notices) == bool(hidden)
    await create(market, a_rule(integration_id="other"))
    for id, reason in (("cp", HIDDEN_REASON_RULES), ("other", HIDDEN_REASON_OTHER_PARTY)):
        for key in ({"location": location_key("L1")}, {"tariff": tariff_key("T1")}):
            seen = await market.reader.publication.GetPartnerView(
                GetPartnerViewRequest(**{"integration_id": id, **key})
            )
            assert (seen.WhichOneof("object"), seen.hidden_reason) == (None, reason)


async def test_a_rule_assigns_no_two_tariffs_of_one_type_that_hold_at_once(market: Tenant) -> None:
    await market.admin.parties.CreateParty(CreatePartyRequest(party=a_party(party_id="XYZ")))
    await price(market, "T4", 1)
    other = a_tariff(id="T1", party_id="XYZ", type=1)
    await market.writer.tariffs.CreateTariff(CreateTariffRequest(tariff=other))
    both = [tariff_key("T1"), tariff_key("T4")]
    failure = await fails(create(market, assigned_tariffs=both))
    assert (failure.code, failure.reason) == (Code.FAILED_PRECONDITION, "TARIFFS_ACTIVE_TOGETHER")
    assert set(failure.violations) == {"rule.assigned_tariffs"}
    assert failure.metadata == {"tariff_id": "DE*ABC*T1", "other_tariff_id": "DE*ABC*T4"}
    # Locations of one party never show the other's.
    theirs = TariffKey(country_code="DE", party_id="XYZ", id="T1")
    rule = await create(market, assigned_tariffs=[tariff_key("T1"), tariff_key("T2"), theirs])
    rule.assigned_tariffs.append(both[1])
    assert (await fails(update(market, rule))).reason == "TARIFFS_ACTIVE_TOGETHER"
    same = Tariff(country_code="DE", party_id="ABC", id="T2", type=1)
    failure = await fails(market.writer.tariffs.UpdateTariff(UpdateTariffRequest(tariff=same)))
    assert failure.metadata == {"tariff_id": "DE*ABC*T2", "other_tariff_id": "DE*ABC*T1"}


async def test_rehearsals_and_repeated_calls(market: Tenant) -> None:
    request = CreatePublicationRuleRequest(rule=a_rule(), request_id=str(uuid4()), validate_only=True)
    assert (await market.writer.publication.CreatePublicationRule(request)).HasField("impact")
    assert not await rules(market)
    request.validate_only = False
    first = await market.writer.publication.CreatePublicationRule(request)
    assert not first.HasField("impact")
    assert await market.writer.publication.CreatePublicationRule(request) == first
    request.rule.priority = 3
    assert (await fails(market.writer.publication.CreatePublicationRule(request))).reason == "REQUEST_ID_REUSED"


async def test_two_partners_see_the_same_location_with_different_tariffs(market: Tenant) -> None:
    assert await listed(market) == ([], [])
    assert await shown(market, "L1") == {}
    await create(market, **connectors(countries=["DEU"]), assigned_tariffs=[tariff_key("T2")])
    await create(market, integration_id="other", id="b", priority=1)
    await create(
        market,
        integration_id="other",
        id="a",
        effect=PUBLICATION_EFFECT_HIDDEN,
        **connectors(evse_id_prefixes=["de*abc*f"]),
    )
    assert await shown(market, "L1") == {"AC": ["T2"], "DC": ["T2"]}
    assert await shown(market, "L1", "other") == {"AC": ["T1"]}
    assert await shown(market, "L2") == {}
    assert await shown(market, "L2", "other") == {"AC": ["T1"]}
    for size in (0, 1):
        assert await listed(market, "cp", size) == (["L1"], ["T2"])
        assert await listed(market, "other", size) == (["L1", "L2"], ["T1"])
    location = (await view(market, location=location_key("l1"))).location
    assert (location.address, location.publish, location.etag) == ("Unter den Linden 1", True, "")
    assert (await view(market, tariff=tariff_key("t2"))).tariff.id == "T2"
    for hidden in ({"tariff": tariff_key("T1")}, {"location": location_key("L2")}):
        assert not (await view(market, **hidden)).WhichOneof("object")


async def test_a_tariff_that_a_rule_selects_is_seen_and_one_that_is_hidden_is_not_shown(market: Tenant) -> None:
    await create(market, id="b")
    await create(market, id="t", tariffs=TariffSelection(keys=[tariff_key("T3")]))
    assert await listed(market) == (["L1", "L2"], ["T1", "T3"])
    await create(market, id="a", effect=PUBLICATION_EFFECT_HIDDEN, tariffs=TariffSelection(keys=[tariff_key("T1")]))
    assert await listed(market) == (["L1", "L2"], ["T3"])
    assert await shown(market, "L1") == {"AC": [], "DC": []}


async def test_a_location_that_drivers_do_not_see_is_published_all_the_same(market: Tenant) -> None:
    await locate(market, "L3", location={"publish": False})
    await create(market)
    assert await listed(market) == (["L1", "L2", "L3"], ["T1"])


async def test_a_view_is_that_of_an_instant(market: Tenant) -> None:
    ahead = Timestamp()
    ahead.GetCurrentTime()
    ahead.seconds += 3600
    end = Timestamp(seconds=ahead.seconds + 3600)
    await create(market, valid_from=ahead, valid_until=end)
    assert await shown(market, "L1") == {}
    assert await listed(market) == ([], [])
    assert [*await shown(market, "L1", at=ahead)] == ["AC", "DC"]
    assert await listed(market, at=ahead, size=1) == (["L1", "L2"], ["T1"])
    assert await listed(market, at=end) == ([], [])


async def test_a_view_of_nothing_that_exists_is_not_found(market: Tenant) -> None:
    publication = market.reader.publication
    for call, resource in [
        (view(market, location=location_key("L9")), "location"),
        (view(market, tariff=tariff_key("T9")), "tariff"),
        (view(market, "none", tariff=tariff_key("T1")), "integration"),
        (publication.ListPartnerLocations(ListPartnerLocationsRequest(integration_id="none")), "integration"),
        (publication.ListPartnerTariffs(ListPartnerTariffsRequest(integration_id="none")), "integration"),
    ]:
        failure = await fails(call)
        assert (failure.code, failure.reason) == (Code.NOT_FOUND, "RESOURCE_NOT_FOUND")
        assert failure.metadata["resource"] == resource
    assert (await fails(view(market))).violations.keys() == {"key"}
    for method in ("ListPartnerLocations", "ListPartnerTariffs"):
        request = ListPartnerLocationsRequest if method.endswith("Locations") else ListPartnerTariffsRequest
        wrong = request(integration_id="cp", page_token="AAAAAAAAAAAA")
        assert (await fails(getattr(publication, method)(wrong))).reason == "INVALID_PAGE_TOKEN"


async def test_a_rehearsal_counts_what_a_change_would_do(market: Tenant) -> None:
    async def impact(rule: PublicationRule) -> PublicationImpact:
        request = CreatePublicationRuleRequest(rule=rule, validate_only=True)
        return (await market.writer.publication.CreatePublicationRule(request)).impact

    everything = a_rule(id="m", priority=5)
    assert await impact(everything) == PublicationImpact(
        shown_locations=2, shown_connectors=4, shown_tariffs=1, connectors_without_tariff=2
    )
    ahead = Timestamp(seconds=1 << 32)
    assert await impact(a_rule(valid_from=ahead)) == await impact(everything)
    assert await impact(a_rule(valid_until=Timestamp(seconds=1))) == PublicationImpact()
    await create(market, everything)
    assert await impact(a_rule(priority=9)) == PublicationImpact(connectors_without_tariff=2)
    hide = a_rule(effect=PUBLICATION_EFFECT_HIDDEN, **connectors(power_types=[POWER_TYPE_DC]))
    assert await impact(hide) == PublicationImpact(withdrawn_connectors=2)
    assert await impact(a_rule(assigned_tariffs=[tariff_key("T2")])) == PublicationImpact(
        shown_tariffs=1, withdrawn_tariffs=1
    )
    narrower = PublicationRule(integration_id="cp", id="m", **connectors(countries=["NOR"]))
    narrowed = await update(market, narrower, "connectors", validate_only=True)
    assert narrowed.rule.connectors.countries == ["NOR"]
    assert narrowed.impact == PublicationImpact(
        withdrawn_locations=1, withdrawn_connectors=2, connectors_without_tariff=1
    )
    gone = await delete(market, "m", validate_only=True)
    assert gone.impact == PublicationImpact(withdrawn_locations=2, withdrawn_connectors=4, withdrawn_tariffs=1)
    assert (await delete(market, "none", allow_missing=True, validate_only=True)).impact == PublicationImpact(
        connectors_without_tariff=2
    )
    assert not (await get(market, "m")).connectors.countries


async def test_a_tariff_that_a_rule_names_is_not_deleted(market: Tenant) -> None:
    await create(market, id="a", assigned_tariffs=[tariff_key("t2")])
    await create(market, id="b", tariffs=TariffSelection(keys=[tariff_key("T2")]))
    drop = DeleteTariffRequest(key=tariff_key("T2"))
    for id, count in (("a", "2"), ("b", "1")):
        failure = await fails(market.writer.tariffs.DeleteTariff(drop))
        assert (failure.code, failure.reason) == (Code.FAILED_PRECONDITION, "TARIFF_IN_USE")
        assert failure.metadata == {"locations": "0", "rules": count}
        await delete(market, id)
    await market.writer.tariffs.DeleteTariff(drop)


async def test_a_deleted_location_stays_named(market: Tenant) -> None:
    await create(market, id="r", **connectors(locations=[location_key("L1")]))
    await market.writer.locations.DeleteLocation(DeleteLocationRequest(key=location_key("L1")))
    assert (await fails(view(market, location=location_key("L1")))).code is Code.NOT_FOUND
    assert await listed(market) == ([], [])
    patch = PublicationRule(integration_id="cp", id="r", priority=1)
    assert (await update(market, patch)).rule.connectors.locations == [location_key("L1")]
    await locate(market, "l1")
    assert (await listed(market))[0] == ["l1"]


async def test_rules_go_with_their_integration(market: Tenant) -> None:
    await create(market, id="r")
    await create(market, id="s", integration_id="other")
    await market.admin.integrations.DeleteIntegration(DeleteIntegrationRequest(id="cp"))
    assert [rule.id for rule in await rules(market)] == ["s"]
    await integrate(market, "cp")
    assert await listed(market) == ([], [])


async def test_publish_to_names_the_new_object_in_one_growing_rule(market: Tenant) -> None:
    first = await locate(market, "L3", publish_to=["other", "cp"])
    await locate(market, "L4", publish_to=["cp"])
    await price(market, "T4", publish_to=["cp"])
    await price(market, "T5", publish_to=["cp"])
    assert (await view(market, "other", location=location_key("L3"))).location.id == first.id
    assert await listed(market) == (["L3", "L4"], ["T1", "T4", "T5"])
    assert await listed(market, "other") == (["L3"], ["T1"])
    made = sorted(await rules(market, integration_id="cp"), key=lambda rule: rule.WhichOneof("selection"))
    assert [(rule.priority, rule.effect, rule.from_publish_to) for rule in made] == [
        (1_000_000, PUBLICATION_EFFECT_VISIBLE, True)
    ] * 2
    assert made[0].connectors.locations == [location_key("L3"), location_key("L4")]
    assert made[1].tariffs.keys == [tariff_key("T4"), tariff_key("T5")]
    await create(market, effect=PUBLICATION_EFFECT_HIDDEN, **connectors(locations=[location_key("L4")]))
    assert (await listed(market))[0] == ["L3"]


async def test_publish_to_leaves_a_rule_that_a_caller_changed_or_that_is_full(market: Tenant) -> None:
    await locate(market, "L3", publish_to=["cp"])
    (made,) = await rules(market)
    edited = PublicationRule(integration_id="cp", id=made.id, effect=PUBLICATION_EFFECT_HIDDEN)
    assert not (await update(market, edited)).rule.from_publish_to
    await locate(market, "L4", publish_to=["cp"])
    assert (await listed(market))[0] == ["L4"]
    assert len(await rules(market)) == 2


async def test_publish_to_is_bounded(market: Tenant, running: Evbridge) -> None:
    await price(market, "T4", publish_to=["cp"])
    (made,) = await rules(market)
    made.tariffs.keys.extend(made.tariffs.keys[0] for _ in range(998))
    fill = Statement("fill", "UPDATE publication_rule SET payload = $2 WHERE tenant_id = $1")
    await running.database.run(fill, market.name, made.SerializeToString())
    await price(market, "T5", publish_to=["cp"])
    await price(market, "T6", publish_to=["cp"])
    assert sorted(len(rule.tariffs.keys) for rule in await rules(market)) == [1, 1000]
    for number in range(98):
        await create(market, id=f"r{number}")
    full = [
        create(market),
        locate(market, "L3", publish_to=["cp"]),
    ]
    for call in full:
        failure = await fails(call)
        assert (failure.code, failure.reason) == (Code.FAILED_PRECONDITION, "TOO_MANY_RULES")
        assert failure.metadata == {"integration_id": "cp", "limit": "100"}
    await price(market, "T7", publish_to=["cp"])


async def test_publish_to_an_integration_that_does_not_speak_for_the_party_is_refused(market: Tenant) -> None:
    parties = [PartyKey(country_code="NL", party_id="OTH")]
    await market.admin.parties.CreateParty(CreatePartyRequest(party=a_party(country_code="NL", party_id="OTH")))
    await integrate(market, "nl", parties=parties)
    for call in (locate(market, "L3", publish_to=["nl"]), price(market, "T4", publish_to=["nl"])):
        failure = await fails(call)
        assert (failure.code, failure.reason) == (Code.INVALID_ARGUMENT, "INVALID_FIELD")
        assert "DE*ABC" in failure.violations["publish_to[0]"]
    assert [rule.id for rule in await rules(market)] == []


async def test_publish_to_an_integration_that_does_not_exist_stores_nothing(market: Tenant) -> None:
    for call in (locate(market, "L3", publish_to=["cp", "none"]), price(market, "T4", publish_to=["cp", "none"])):
        failure = await fails(call)
        assert (failure.code, failure.reason) == (Code.FAILED_PRECONDITION, "REFERENCE_NOT_FOUND")
        assert failure.metadata == {"resource": "integration", "id": "none"}
        assert failure.violations.keys() == {"publish_to[1]"}
    assert not await rules(market)
    assert (await fails(view(market, location=location_key("L3")))).code is Code.NOT_FOUND
    assert (await fails(locate(market, "L3", publish_to=["cp", "cp"]))).violations.keys() == {"publish_to"}
    assert (await locate(market, "L3", publish_to=["cp"], validate_only=True)).id == "L3"
    assert not await rules(market)


async def test_locations_published_at_once_are_all_named(market: Tenant) -> None:
    ids = [f"P{number}" for number in range(12)]
    await asyncio.gather(*(locate(market, id, publish_to=["cp", "other"][:: 1 if id < "P5" else -1]) for id in ids))
    for integration_id in ("cp", "other"):
        assert (await listed(market, integration_id, size=5))[0] == sorted(ids, key=str.casefold)
        assert len(await rules(market, integration_id=integration_id)) == 1


async def test_pages_go_on_over_what_is_hidden(market: Tenant) -> None:
    for start in range(0, 2500, 500):
        locations = [
            a_location(id=f"N{number:04}", country="NOR", evses=[an_evse(connectors=[a_connector(tariff_ids=["T1"])])])
            for number in range(start, start + 500)
        ]
        await market.writer.locations.BatchUpsertLocations(
            BatchUpsertLocationsRequest(locations=locations, allow_missing=True)
        )
    await create(market, **connectors(locations=[location_key("N2400")]))
    request = ListPartnerLocationsRequest(integration_id="cp")
    page = await market.reader.publication.ListPartnerLocations(request)
    assert not page.locations
    assert page.next_page_token
    assert await listed(market) == (["N2400"], ["T1"])
    assert (await view(market, tariff=tariff_key("T1"))).tariff.id == "T1"


async def test_another_tenants_rule_does_not_exist(market: Tenant, new_tenant: Callable[[], Awaitable[Tenant]]) -> None:
    created = await create(market, id="r")
    other = await new_tenant()
    assert (await fails(create(other))).reason == "REFERENCE_NOT_FOUND"
    await integrate(other, "cp")
    assert (await fails(get(other, "r"))).code is Code.NOT_FOUND
    assert (await fails(update(other, created))).code is Code.NOT_FOUND
    assert (await fails(delete(other, "r"))).code is Code.NOT_FOUND
    assert not await rules(other)
    assert (await fails(view(other, location=location_key("L1")))).code is Code.NOT_FOUND
    assert (await fails(create(other, **connectors(locations=[location_key("L1")])))).reason == "REFERENCE_NOT_FOUND"
    assert await listed(other) == ([], [])


async def test_changes_are_recorded(market: Tenant, running: Evbridge) -> None:
    created = await create(market, id="r")
    changed = (await update(market, PublicationRule(integration_id="cp", id="r", priority=1))).rule
    await update(market, PublicationRule(integration_id="cp", id="r", priority=1))
    await delete(market, "r")
    recorded = Statement(
        "recorded",
        "SELECT object_id, operation, etag FROM change WHERE tenant_id = $1 AND object_kind = 8 ORDER BY change_id",
    )
    assert [tuple(row) for row in await running.database.rows(recorded, market.name)] == [
        ("cp/r", "create", created.etag),
        ("cp/r", "update", changed.etag),
        ("cp/r", "delete", changed.etag),
    ]


async def test_a_change_of_rules_makes_due_what_it_may_concern_where_it_is_taken(
    market: Tenant, running: Evbridge
) -> None:
    due = Statement(
        "due",
        """
        SELECT integration_id, object_kind, object_id, generation FROM delivery
        WHERE tenant_id = $1 ORDER BY integration_id, object_kind, object_id
        """,
    )

    async def marks() -> list[tuple[Any, ...]]:
        return [tuple(row) for row in await running.database.rows(due, market.name)]

    named = connectors(locations=[location_key("L1")])
    await create(market, id="r", **named)
    assert await marks() == []  # neither takes locations or tariffs
    takes = Statement("takes", "UPDATE integration SET takes = $2 WHERE tenant_id = $1")
    await running.database.run(takes, market.name, [OBJECT_KIND_LOCATION, OBJECT_KIND_TARIFF])
    await create(market, id="s", **named)
    tariffs = [("cp", OBJECT_KIND_TARIFF, f"DEABCt{number}", 1) for number in (1, 2, 3)]
    assert await marks() == [*tariffs, ("cp", OBJECT_KIND_LOCATION, "DEABCl1", 1)]
    await update(market, PublicationRule(integration_id="cp", id="r", display_name=""))
    await create(market, validate_only=True)
    assert len(await marks()) == 4
    await create(market, integration_id="other", id="t", tariffs=TariffSelection(keys=[tariff_key("T2")]))
    assert (await marks())[4:] == [("other", OBJECT_KIND_TARIFF, "DEABCt2", 1)]
    await update(market, PublicationRule(integration_id="cp", id="r", **connectors(countries=["DEU"])), "connectors")
    assert (await marks())[3:5] == [
        ("cp", OBJECT_KIND_LOCATION, "DEABCl1", 2),
        ("cp", OBJECT_KIND_LOCATION, "DEABCl2", 1),
    ]

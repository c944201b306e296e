"""Sessions of an AMPECO: they become ours, and each that ends one CDR at our price."""

import asyncio
from typing import Any

import pytest
from evbridge.v1.ampeco_connection_pb2 import AmpecoConnection
from evbridge.v1.cdr_pb2 import (
    CDR_AUDIT_STATE_DIFFERENT,
    CDR_AUDIT_STATE_EQUAL,
    CDR_AUDIT_STATE_NOT_AUDITED,
    Cdr,
    ListCdrsRequest,
)
from evbridge.v1.delivery_pb2 import DELIVERY_STATE_DELIVERED, OBJECT_KIND_SESSION
from evbridge.v1.error_reason_pb2 import MASS_REMOVAL
from evbridge.v1.integration_pb2 import (
    INTEGRATION_STATUS_ACTIVE,
    CreateIntegrationRequest,
    GetIntegrationRequest,
    Integration,
    IntegrationModels,
    UpdateIntegrationRequest,
)
from evbridge.v1.location_pb2 import CreateLocationRequest
from evbridge.v1.pricing_pb2 import (
    CDR_DIMENSION_TYPE_ENERGY,
    CDR_DIMENSION_TYPE_PARKING_TIME,
    CDR_DIMENSION_TYPE_TIME,
    AuditCdrRequest,
    AuditedCdr,
    PricingOptions,
)
from evbridge.v1.publication_pb2 import CreatePublicationRuleRequest
from evbridge.v1.quarantine_pb2 import GetQuarantinedObjectRequest, ListQuarantinedObjectsRequest, QuarantinedObject
from evbridge.v1.reconciliation_pb2 import RECONCILIATION_REASON_PRICE_DIFFERENT, RECONCILIATION_SIDE_SENT
from evbridge.v1.run_pb2 import (
    RUN_FINDING_OUTCOME_DIFFERENT,
    RUN_FINDING_OUTCOME_REPAIRED,
    RUN_STATE_FAILED,
    RUN_STATE_SUCCEEDED,
    ListRunsRequest,
)
from evbridge.v1.session_pb2 import (
    SESSION_STATUS_ACTIVE,
    SESSION_STATUS_COMPLETED,
    SESSION_STATUS_INVALID,
    SESSION_STATUS_PENDING,
    ListSessionsRequest,
    Session,
)
from evbridge.v1.tariff_pb2 import CreateTariffRequest, ListTariffsRequest
from evbridge.v1.token_pb2 import CreateTokenRequest
from google.protobuf.timestamp_pb2 import Timestamp

from service.app import Evbridge
from service.partners.ampeco.simulator import SESSIONS, Simulator
from service.runs import worker
from service.storage.statements import Statement
from tests.ampeco import (
    EVSES,
    LOCATIONS,
    TARIFFS,
    alter,
    connect,
    findings,
    steps,
    stock,
    sync,
    sync_at,
    the_integration,
)
from tests.conftest import Tenant
from tests.front_door import a_connector, a_location, a_rule, a_tariff, a_token, an_evse, at_rest
from tests.rpc.test_ocpi_push import HERS, pushing, registered
from tests.rpc.test_reconciliation import reconciled
from tests.rpc.test_registration import ID, Sides, sides

__all__ = ["sides"]

LATER = Statement("later", "UPDATE integration SET pull_time = now() + interval '1 day' WHERE tenant_id = $1")
DUE = Statement("due", "UPDATE integration SET pull_time = now() WHERE tenant_id = $1")
UID, START, END = "04AB12CD", "2026-03-02T10:00:00Z", "2026-03-02T11:30:00Z"
PERIODS = [
    {"id": 1, "startedAt": START, "stoppedAt": "2026-03-02T11:00:00Z", "energy": 20000},
    {"id": 2, "startedAt": "2026-03-02T11:00:00Z", "stoppedAt": END, "energy": 0},
]
WHERE = {"chargePointId": 11, "evseId": 21, "connectorId": 121, "idTag": UID, "currency": "EUR", "startedAt": START}
ENDED = {"status": "finished", "stoppedAt": END, "energy": 20000, "chargingPeriods": PERIODS}
BILLED = {"billingStatus": "completed", "totalAmount": {"withTax": 11.9, "withoutTax": 10}}
"""20 kWh at 50 cents, and 19 % of VAT."""


@pytest.fixture
async def connected(tenant: Tenant, ampeco: Simulator, running: Evbridge) -> Tenant:
    """A tenant whose AMPECO has a priced connector, and that imports its sessions. A driver's card is known.

    No import begins by itself meanwhile.
    """
    await connect(tenant, ampeco)
    await running.database.run(LATER, tenant.name)
    stock(ampeco)
    await changed(tenant, models=IntegrationModels(pull_session=True))
    await changed(tenant, ampeco=AmpecoConnection(sessions_from=Timestamp(seconds=1_700_000_000)))
    await knows(tenant)
    return tenant


async def knows(tenant: Tenant, **changes: Any) -> None:
    request = CreateTokenRequest(token=a_token(**{"uid": UID, **changes}))
    await tenant.writer.tokens.CreateToken(request)


async def changed(tenant: Tenant, **members: Any) -> None:
    request = UpdateIntegrationRequest(integration=Integration(id="am", **members))
    await tenant.admin.integrations.UpdateIntegration(request)


async def sessions(tenant: Tenant) -> list[Session]:
    return [*(await tenant.reader.sessions.ListSessions(ListSessionsRequest())).sessions]


async def cdrs(tenant: Tenant, **filters: Any) -> list[Cdr]:
    return [*(await tenant.reader.cdrs.ListCdrs(ListCdrsRequest(**filters))).cdrs]


async def quarantined(tenant: Tenant) -> list[QuarantinedObject]:
    request = ListQuarantinedObjectsRequest(integration_id="am", object_kind=OBJECT_KIND_SESSION)
    listed = (await tenant.reader.quarantine.ListQuarantinedObjects(request)).quarantined_objects
    get = tenant.admin.quarantine.GetQuarantinedObject
    return [await get(GetQuarantinedObjectRequest(id=each.id)) for each in listed]


async def test_a_session_goes_on_and_ends_as_one_cdr_at_our_price(connected: Tenant, ampeco: Simulator) -> None:
    ampeco.charge(501, **WHERE, energy=1500)
    run = await sync(connected)
    assert run.state == RUN_STATE_SUCCEEDED, run
    (session,) = await sessions(connected)
    assert (session.id, session.status, session.kwh.value) == ("am-501", SESSION_STATUS_ACTIVE, "1.5")
    assert (session.location_id, session.evse_uid, session.connector_id) == ("am-1", "21", "121")
    assert (session.cdr_token.uid, session.cdr_token.contract_id) == (UID, "DE-ABC-C12345678-X")
    assert (session.origin.integration_id, session.origin.external_id) == ("am", "501")
    assert session.charging_periods[0].tariff_id == "am-31"
    assert not await cdrs(connected)
    ampeco.charge(501, **ENDED, **BILLED)
    await sync(connected)
    (ended,) = await sessions(connected)
    assert (ended.status, ended.kwh.value, ended.end_date_time.ToJsonString()) == (SESSION_STATUS_COMPLETED, "20", END)
    told = [{each.type: each.volume.value for each in period.dimensions} for period in ended.charging_periods]
    assert told == [
        {CDR_DIMENSION_TYPE_ENERGY: "20", CDR_DIMENSION_TYPE_TIME: "1"},
        {CDR_DIMENSION_TYPE_PARKING_TIME: "0.5"},
    ]
    (cdr,) = await cdrs(connected)
    assert (cdr.id, cdr.session_id, cdr.currency) == ("am-501", "am-501", "EUR")
    assert (cdr.total_cost.excl_vat.value, cdr.total_cost.incl_vat.value) == ("10.00", "11.90")
    assert cdr.total_energy_cost == cdr.total_cost == ended.total_cost
    assert (cdr.total_energy.value, cdr.total_time.value, cdr.total_parking_time.value) == ("20", "1.5", "0.5")
    assert (cdr.cdr_location.id, cdr.cdr_location.city, cdr.cdr_location.evse_uid) == ("am-1", "Berlin", "21")
    assert [tariff.id for tariff in cdr.tariffs] == ["am-31"]
    assert cdr.audit.state == CDR_AUDIT_STATE_EQUAL
    # Once more, and by a partner's own rules: nothing new, and nothing wrong.
    again = await sync(connected, whole=True)
    assert (await cdrs(connected), await sessions(connected)) == ([cdr], [ended])
    assert (again.steps[-1].read_count, again.steps[-1].unchanged_count) == (1, 1)
    members = AuditedCdr.DESCRIPTOR.fields_by_name
    judged = AuditedCdr(**{field.name: value for field, value in cdr.ListFields() if field.name in members})
    request = AuditCdrRequest(cdr=judged, tariffs=cdr.tariffs, options=PricingOptions(time_zone="Europe/Berlin"))
    assert not (await connected.reader.pricing.AuditCdr(request)).differences


async def test_what_ampeco_charged_stands_beside_our_price_when_they_differ(
    connected: Tenant, ampeco: Simulator
) -> None:
    ampeco.charge(501, **WHERE, **ENDED, billingStatus="pending", totalAmount={"withTax": 0, "withoutTax": 0})
    run = await sync(connected)
    (cdr,) = await cdrs(connected)
    assert cdr.audit.state == CDR_AUDIT_STATE_NOT_AUDITED
    assert not await findings(connected, run, outcome=RUN_FINDING_OUTCOME_DIFFERENT)
    ampeco.charge(501, billingStatus="completed", totalAmount={"withTax": 13.09, "withoutTax": 11})
    run = await sync(connected)
    (settled,) = await cdrs(connected, audit_state=CDR_AUDIT_STATE_DIFFERENT)
    assert (settled.etag, settled.total_cost) == (cdr.etag, cdr.total_cost)
    assert [(each.path, each.stated.value, each.computed.value) for each in settled.audit.differences] == [
        ("total_cost.excl_vat", "11", "10"),
        ("total_cost.incl_vat", "13.09", "11.9"),
    ]
    found = await findings(connected, run, outcome=RUN_FINDING_OUTCOME_DIFFERENT)
    assert [(each.object_id, each.path) for each in found] == [
        ("501", "total_cost.excl_vat"),
        ("501", "total_cost.incl_vat"),
    ]
    # A CDR never changes: what AMPECO says later is told.
    ampeco.charge(501, energy=20100, chargingPeriods=[])
    run = await sync(connected)
    assert "charging_periods" in [each.path for each in await findings(connected, run)]
    assert (await cdrs(connected)) == [settled]


async def test_it_costs_what_the_tariff_said_when_it_began(connected: Tenant, ampeco: Simulator) -> None:
    await sync(connected)
    ampeco.charge(501, **{**WHERE, "startedAt": "2099-01-01T10:00:00Z"})
    await sync(connected)
    alter(ampeco, f"{TARIFFS}/31", pricing={"pricePerKwh": "5", "taxID": 7})
    later = {"stoppedAt": "2099-01-01T11:00:00Z", "chargingPeriods": []}
    ampeco.charge(501, **ENDED | later)
    ampeco.charge(502, **WHERE | ENDED)
    await sync(connected)
    (tariff,) = (await connected.reader.tariffs.ListTariffs(ListTariffsRequest())).tariffs
    assert tariff.elements[0].price_components[0].price.value == "5"
    prices = {cdr.id: cdr.total_cost.excl_vat.value for cdr in await cdrs(connected)}
    assert prices == {"am-501": "100.00", "am-502": "10.00"}


UNFIT: list[tuple[dict[str, Any], str, str]] = [
    ({"idTag": "unknown"}, "/idTag", "is not a token that is stored here, of ours or of a provider"),
    ({"idTag": None}, "/idTag", "is required: without a token nobody knows who pays"),
    ({"chargePointId": 99}, "/chargePointId", "is not a charge point that was imported or delivered"),
    ({"chargePointId": 12}, "/chargePointId", "is not a charge point that was imported or delivered"),
    ({"evseId": 99}, "/evseId", "is not an EVSE that was imported or delivered"),
    ({"connectorId": 99}, "/connectorId", "is not a connector of the EVSE that was imported or delivered"),
    ({"status": "unknown"}, "/status", "is not one that OCPI has"),
    ({"startedAt": "yesterday"}, "/startedAt", "is required"),
    ({"status": "finished"}, "/stoppedAt", "is required of a session that is finished"),
    ({"stoppedAt": "2026-03-02T09:00:00Z"}, "/stoppedAt", "is before startedAt"),
]


async def test_a_session_that_cannot_be_made_is_quarantined_with_the_member_and_its_rule(
    connected: Tenant, ampeco: Simulator
) -> None:
    for number, (unfit, _, _) in enumerate(UNFIT):
        ampeco.charge(600 + number, **WHERE | unfit)
    ampeco.charge(700, **WHERE)
    run = await sync(connected)
    assert (run.state, run.steps[-1].refused_count) == (RUN_STATE_SUCCEEDED, len(UNFIT))
    assert [session.id for session in await sessions(connected)] == ["am-700"]
    found = {
        each.object_id: (each.violations[0].path, each.violations[0].description)
        for each in await quarantined(connected)
    }
    assert found == {str(600 + number): (path, rule) for number, (_, path, rule) in enumerate(UNFIT)}


async def test_what_is_quarantined_is_taken_after_a_fix_without_a_request(connected: Tenant, ampeco: Simulator) -> None:
    ampeco.charge(501, **WHERE | ENDED | BILLED | {"idTag": "CAFE"})
    await sync(connected)
    (kept,) = await quarantined(connected)
    assert (kept.object_id, kept.violations[0].path) == ("501", "/idTag")
    await knows(connected, uid="cafe")
    asked = len(ampeco.requests)
    await sync(connected, quarantined=True)
    assert len(ampeco.requests) == asked
    assert not await quarantined(connected)
    (cdr,) = await cdrs(connected)
    assert (cdr.total_cost.incl_vat.value, cdr.audit.state) == ("11.90", CDR_AUDIT_STATE_EQUAL)


async def test_a_session_without_a_price_waits_for_one_and_is_free_only_where_ampeco_says_so(
    connected: Tenant, ampeco: Simulator
) -> None:
    free = {"billingStatus": "completed", "totalAmount": {"withTax": 0, "withoutTax": 0}}
    alter(ampeco, "/public-api/resources/evses/v2.1/21", tariffGroupId=None)
    ampeco.charge(501, **WHERE | ENDED | BILLED)
    ampeco.charge(502, **WHERE | ENDED | free)
    await sync(connected)
    assert [cdr.id for cdr in await cdrs(connected)] == ["am-502"]
    assert (await cdrs(connected))[0].total_cost.excl_vat.value == "0"
    (kept,) = await quarantined(connected)
    assert (kept.object_id, kept.violations[0].path) == ("501", "/connectorId")
    assert {session.status for session in await sessions(connected)} == {SESSION_STATUS_COMPLETED}
    alter(ampeco, "/public-api/resources/evses/v2.1/21", tariffGroupId=41)
    await sync(connected)
    await sync(connected, quarantined=True)
    assert sorted(cdr.id for cdr in await cdrs(connected)) == ["am-501", "am-502"]


async def test_a_session_at_a_location_that_was_delivered_is_ours_too(connected: Tenant, ampeco: Simulator) -> None:
    await connected.writer.tariffs.CreateTariff(CreateTariffRequest(tariff=a_tariff(id="T1")))
    evse = an_evse("E1", connectors=[a_connector(tariff_ids=["T1"]), a_connector("2", tariff_ids=["T1"])])
    location = a_location(id="L1", evses=[evse])
    request = CreateLocationRequest(location=location, publish_to=["am"])
    await connected.writer.locations.CreateLocation(request)
    assert {each.state for each in await at_rest(connected.reader, "am")} == {DELIVERY_STATE_DELIVERED}
    (there,) = [held for path, held in ampeco.objects.items() if path.startswith(EVSES) and held["id"] not in (21, 22)]
    connectors = [held["id"] for path, held in ampeco.objects.items() if "/connectors/" in path]
    at = {"chargePointId": there["chargePointId"], "evseId": there["id"], "connectorId": max(connectors)}
    ampeco.charge(501, **WHERE | ENDED | at)
    ampeco.charge(502, **WHERE | ENDED | at | {"connectorId": None})
    await sync(connected)
    (cdr,) = await cdrs(connected)
    place = cdr.cdr_location
    assert (place.id, place.evse_uid, place.connector_id, cdr.total_cost.excl_vat.value) == ("L1", "E1", "2", "5.00")
    assert [(each.object_id, each.violations[0].path) for each in await quarantined(connected)] == [
        ("502", "/connectorId")
    ]


async def test_periods_that_are_not_all_of_a_session_are_not_billed(connected: Tenant, ampeco: Simulator) -> None:
    short = [PERIODS[0] | {"energy": 19000}, PERIODS[1]]
    ampeco.charge(501, **WHERE | ENDED | {"chargingPeriods": short})
    run = await sync(connected)
    (session,) = await sessions(connected)
    assert [[each.volume.value for each in period.dimensions] for period in session.charging_periods] == [["20", "1.5"]]
    (found,) = await findings(connected, run, outcome=RUN_FINDING_OUTCOME_REPAIRED)
    assert (found.object_id, found.path) == ("501", "/chargingPeriods")


async def test_other_sessions_end_without_a_cdr_or_are_left_out(connected: Tenant, ampeco: Simulator) -> None:
    ampeco.charge(501, **WHERE | {"status": "pending"})
    ampeco.charge(502, **WHERE | {"status": "expired", "stoppedAt": END})
    ampeco.charge(503, **WHERE | ENDED | {"idTag": "*0000503"})
    ampeco.charge(504, **WHERE | ENDED | {"startedAt": "2020-01-01T00:00:00Z"})
    run = await sync(connected)
    statuses = {session.id: session.status for session in await sessions(connected)}
    assert statuses == {"am-501": SESSION_STATUS_PENDING, "am-502": SESSION_STATUS_INVALID}
    assert not await cdrs(connected)
    assert steps(run)["sessions"] == "1 left out as started by AMPECO itself"
    assert not await quarantined(connected)


async def test_only_what_changed_is_read_page_by_page_once_it_was_begun(connected: Tenant, ampeco: Simulator) -> None:
    for number in range(105):
        ampeco.charge(1000 + number, **WHERE)
    run = await sync(connected)
    assert (run.steps[-1].page_count, run.steps[-1].created_count) == (2, 105)
    integration = await connected.reader.integrations.GetIntegration(GetIntegrationRequest(id="am"))
    assert integration.status == INTEGRATION_STATUS_ACTIVE
    for number in range(104):
        alter(ampeco, f"{SESSIONS}/{1000 + number}", lastUpdatedAt="2026-03-02T10:00:00Z")
    run = await sync(connected)
    assert (run.steps[-1].read_count, run.steps[-1].unchanged_count) == (1, 1)
    whole = await sync(connected, whole=True)
    assert (whole.steps[-1].read_count, whole.steps[-1].unchanged_count) == (105, 105)


async def test_after_the_first_import_others_begin_by_themselves(
    connected: Tenant, ampeco: Simulator, running: Evbridge
) -> None:
    await running.database.run(DUE, connected.name)
    ampeco.charge(501, **WHERE)
    await sync(connected)
    ampeco.charge(501, **ENDED, **BILLED)
    await running.database.run(DUE, connected.name)
    async with asyncio.timeout(60):
        while not await cdrs(connected):
            await asyncio.sleep(0.05)
    runs = (await connected.reader.runs.ListRuns(ListRunsRequest(integration_id="am"))).runs
    assert [run.requested_by == "schedule" for run in runs] == [True, False]


async def test_a_run_that_rests_goes_on_at_its_page(
    connected: Tenant, ampeco: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "SLICE_S", 0.0)
    for number in range(205):
        ampeco.charge(1000 + number, **WHERE)
    run = await sync(connected)
    assert (run.state, run.steps[-1].page_count, run.steps[-1].created_count) == (RUN_STATE_SUCCEEDED, 3, 205)
    asked = [each.path.partition("?")[0] for each in ampeco.requests]
    assert (asked.count(LOCATIONS), asked.count(SESSIONS)) == (1, 3)


async def test_lists_that_emptied_keep_no_session_from_being_read(connected: Tenant, ampeco: Simulator) -> None:
    await sync(connected)
    del ampeco.objects[f"{EVSES}/21"]
    ampeco.charge(501, **WHERE | ENDED | BILLED)
    run = await sync(connected)
    assert (run.state, run.reason) == (RUN_STATE_FAILED, MASS_REMOVAL)
    assert [cdr.id for cdr in await cdrs(connected)] == ["am-501"]


async def test_a_provider_receives_the_session_the_cdr_and_the_price_that_it_was_shown(
    sides: Sides, ampeco: Simulator
) -> None:
    """AMPECO -> operator -> provider, each an evbridge; a rule shows this provider a tariff of its own."""
    models = IntegrationModels(push_session=True, push_cdr=True)
    async with registered(sides, "2.2.1", models) as (cpo, emsp):
        await pushing(emsp, IntegrationModels(push_token=True))
        await emsp.client.tokens.CreateToken(CreateTokenRequest(token=a_token(party_id="MSP", uid=UID)))
        await at_rest(emsp.client, ID)
        stock(ampeco)
        integration = the_integration(ampeco, parties=[HERS], models=IntegrationModels(pull_session=True))
        integration.ampeco.sessions_from.seconds = 1_700_000_000
        await cpo.client.integrations.CreateIntegration(CreateIntegrationRequest(integration=integration))
        rule = a_rule(id="own", priority=1, integration_id=ID, assigned_tariffs=[{**HERS, "id": "T1"}])
        await cpo.client.publication.CreatePublicationRule(CreatePublicationRuleRequest(rule=rule))
        ampeco.charge(501, **WHERE, energy=1500)
        await sync_at(cpo.client)
        await at_rest(cpo.client, ID)
        (held,) = (await emsp.client.sessions.ListSessions(ListSessionsRequest(integration_id=ID))).sessions
        assert (held.id, held.status, held.location_id) == ("am-501", SESSION_STATUS_ACTIVE, "am-1")
        ampeco.charge(501, **ENDED, **BILLED)
        for _ in range(2):
            await sync_at(cpo.client)
        await at_rest(cpo.client, ID)
        (billed,) = (await emsp.client.cdrs.ListCdrs(ListCdrsRequest(integration_id=ID))).cdrs
        assert (billed.id, billed.session_id, billed.cdr_token.party_id) == ("am-501", "am-501", "MSP")
        assert ([each.id for each in billed.tariffs], billed.total_cost.excl_vat.value) == (["T1"], "5")
        (held,) = (await emsp.client.sessions.ListSessions(ListSessionsRequest(integration_id=ID))).sessions
        assert (held.status, held.kwh.value) == (SESSION_STATUS_COMPLETED, "20")
        (cdr,) = (await cpo.client.cdrs.ListCdrs(ListCdrsRequest())).cdrs
        assert [(each.path, each.stated.value, each.computed.value) for each in cdr.audit.differences] == [
            ("total_cost.excl_vat", "10", "5"),
            ("total_cost.incl_vat", "11.9", "5.95"),
        ]
        own = await reconciled(cpo.client, start_time=cdr.start_date_time, end_time=cdr.end_date_time)
        (dear,) = [each for each in own.findings if each.reason == RECONCILIATION_REASON_PRICE_DIFFERENT]
        assert (dear.side, dear.cdr.id) == (RECONCILIATION_SIDE_SENT, "am-501")
        assert dear.differences == cdr.audit.differences

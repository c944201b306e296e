"""Sessions and CDRs between an operator and a provider, both evbridge: pushed, listed, and each CDR there once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from aiohttp import web
from evbridge.v1.cdr_pb2 import (
    CDR_AUDIT_STATE_DIFFERENT,
    CDR_AUDIT_STATE_EQUAL,
    CDR_AUDIT_STATE_NOT_AUDITED,
    CDR_AUDIT_STATE_PENDING,
    BatchCreateCdrsRequest,
    Cdr,
    CdrAudit,
    CdrKey,
    CreateCdrRequest,
    GetCdrRequest,
    ListCdrsRequest,
)
from evbridge.v1.delivery_pb2 import (
    DELIVERY_STATE_DELIVERED,
    DELIVERY_STATE_PARKED,
    OBJECT_KIND_CDR,
    OBJECT_KIND_SESSION,
    PEER_OBJECT_STATE_LINKED,
    PEER_OBJECT_STATE_UNKNOWN,
    Delivery,
    ListDeliveriesRequest,
    ObjectKind,
    RetryDeliveryRequest,
)
from evbridge.v1.error_reason_pb2 import OBJECT_NOT_REPRESENTABLE, PARTNER_OUTCOME_UNKNOWN
from evbridge.v1.integration_pb2 import Integration, IntegrationModels, RequestLimits, UpdateIntegrationRequest
from evbridge.v1.location_pb2 import TOKEN_TYPE_OTHER
from evbridge.v1.pricing_pb2 import CDR_DIMENSION_TYPE_ENERGY, CDR_DIMENSION_TYPE_STATE_OF_CHARGE, CdrDimension
from evbridge.v1.run_pb2 import RUN_KIND_SYNC, ListRunsRequest
from evbridge.v1.session_pb2 import (
    SESSION_STATUS_COMPLETED,
    GetSessionRequest,
    ListSessionsRequest,
    Session,
    SessionKey,
    UpdateSessionRequest,
)
from evbridge.v1.types_pb2 import Price
from evbridge.v1.watch_pb2 import WatchCdrsRequest
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.decimal_pb2 import Decimal

from service.delivery import disclosures
from service.delivery.worker import ONE_MORE_AFTER, DeliveryWorker
from service.errors import DatabaseUnavailable
from service.storage.retention import charged_sweep
from service.storage.statements import Statement
from tests.charged import SESSION_START_S, a_cdr, a_cdr_token, a_period, a_session
from tests.front_door import a_tariff, at_rest, fails
from tests.rpc.test_ocpi_push import HERS, a_place, pushed, pushing, received_tariff, registered, store
from tests.rpc.test_registration import ID, SPOKEN, Side, Sides, Wire, sides
from tests.rpc.test_watch import watching

__all__ = ["sides"]
CHARGED = IntegrationModels(push_session=True, push_cdr=True)
PULLED = IntegrationModels(pull_session=True, pull_cdr=True)
TOKEN = a_cdr_token(party_id="MSP", contract_id="DEMSPC12345678X")
S1, C1 = "sessions/DE/CPO/S1", "cdrs"
PLACE = {"evse_uid": "E0", "connector_id": "1", "location_id": "L1"}


@asynccontextmanager
async def charging(sides: Sides, version: str = "2.2.1", **models: Any) -> AsyncIterator[tuple[Side, Side]]:
    """The two know each other, and the location L1 is stored at the operator."""
    async with registered(sides, version, IntegrationModels(**models) if models else CHARGED) as (cpo, emsp):
        await store(cpo, a_place())
        await pushed(cpo, emsp)
        yield cpo, emsp


async def tell(cpo: Side, **changes: Any) -> Session:
    session = a_session(**{**HERS, "id": "S1", "cdr_token": TOKEN, **PLACE, **changes})
    request = UpdateSessionRequest(session=session, allow_missing=True)
    request.update_mask.paths.append("*")
    stored: Session = await cpo.client.sessions.UpdateSession(request)
    return stored


async def bill(cpo: Side, id: str = "C1", **changes: Any) -> Cdr:
    cdr = a_cdr(**{**HERS, "id": id, "cdr_token": TOKEN, **changes})
    stored: Cdr = await cpo.client.cdrs.CreateCdr(CreateCdrRequest(cdr=cdr))
    return stored


async def held_session(emsp: Side, id: str = "S1") -> Session:
    key = SessionKey(**HERS, id=id, integration_id=ID)
    session: Session = await emsp.client.sessions.GetSession(GetSessionRequest(key=key))
    return session


async def held_cdrs(emsp: Side) -> list[str]:
    page = await emsp.client.cdrs.ListCdrs(ListCdrsRequest(integration_id=ID))
    return sorted(cdr.id for cdr in page.cdrs)


async def delivery(cpo: Side, kind: ObjectKind.ValueType, id: str = "") -> Delivery:
    await at_rest(cpo.client, ID)
    request = ListDeliveriesRequest(integration_id=ID, object_kind=kind, object_id=id)
    (found,) = (await cpo.client.deliveries.ListDeliveries(request)).deliveries
    each: Delivery = found
    return each


@pytest.mark.parametrize("version", SPOKEN)
async def test_a_session_goes_on_at_the_provider_and_ends_as_one_cdr(sides: Sides, version: str) -> None:
    async with charging(sides, version) as (cpo, emsp):
        old = version == "2.1.1"
        told = await tell(cpo)
        assert await pushed(cpo, emsp) == [("PUT", S1)]
        held = await held_session(emsp)
        assert (held.location_id, held.evse_uid, held.connector_id) == ("L1", "E0", "1")
        assert (held.kwh, held.status, held.start_date_time) == (told.kwh, told.status, told.start_date_time)
        assert held.cdr_token == (
            a_cdr_token(party_id="MSP", uid="#NA", type=TOKEN_TYPE_OTHER, contract_id=TOKEN.contract_id)
            if old
            else TOKEN
        )
        first, second = a_period(0, "1.5"), a_period(60, "2")
        cost = Price(excl_vat=Decimal(value="0.5"), incl_vat=Decimal(value="0.595"))
        await tell(cpo, charging_periods=[first], total_cost=cost)
        await pushed(cpo, emsp)
        await tell(cpo, charging_periods=[first, second], kwh=Decimal(value="3.5"), total_cost=cost)
        assert await pushed(cpo, emsp) == [("PUT" if old else "PATCH", S1)]
        held = await held_session(emsp)
        assert ([*held.charging_periods], held.kwh.value) == ([first, second], "3.5")
        assert held.total_cost == (Price(excl_vat=cost.excl_vat) if old else cost)
        end = Timestamp(seconds=SESSION_START_S + 3600)
        ended = {"status": SESSION_STATUS_COMPLETED, "end_date_time": end}
        await tell(cpo, charging_periods=[first, second], kwh=Decimal(value="3.5"), total_cost=cost, **ended)
        assert await pushed(cpo, emsp) == [("PATCH", S1)]
        assert (await held_session(emsp)).status == SESSION_STATUS_COMPLETED
        assert len((await held_session(emsp)).charging_periods) == 2
        billed = await bill(cpo)
        assert await pushed(cpo, emsp) == [("POST", "cdrs")]
        (got,) = (await emsp.client.cdrs.ListCdrs(ListCdrsRequest(integration_id=ID))).cdrs
        assert (got.total_cost.excl_vat, got.total_energy, got.end_date_time) == (
            billed.total_cost.excl_vat,
            billed.total_energy,
            billed.end_date_time,
        )
        assert (got.cdr_location.id, got.cdr_location.evse_uid) == ("L1", "E1")
        arrived = await delivery(cpo, OBJECT_KIND_CDR)
        assert (arrived.state, arrived.peer_object.state) == (DELIVERY_STATE_DELIVERED, PEER_OBJECT_STATE_LINKED)
        assert arrived.peer_object.external_id == f"{emsp.wire.url}/ocpi/emsp/{version}/cdrs/DE/CPO/C1"


async def test_progress_is_told_every_so_often_and_the_state_of_charge_where_it_may_be(sides: Sides) -> None:
    charge = CdrDimension(type=CDR_DIMENSION_TYPE_STATE_OF_CHARGE, volume=Decimal(value="40"))
    energy = CdrDimension(type=CDR_DIMENSION_TYPE_ENERGY, volume=Decimal(value="1"))
    periods = [a_period(0, "1", dimensions=[energy, charge]), a_period(60, "2")]
    async with charging(sides) as (cpo, emsp):
        interval = Integration(id=ID, charging_period_interval_minutes=60)
        await cpo.client.integrations.UpdateIntegration(UpdateIntegrationRequest(integration=interval))
        await tell(cpo, charging_periods=periods[:1])
        assert await pushed(cpo, emsp) == [("PUT", S1)]
        assert [each.type for each in (await held_session(emsp)).charging_periods[0].dimensions] == [energy.type]
        await tell(cpo, charging_periods=periods)
        held_back = await cpo.client.deliveries.ListDeliveries(
            ListDeliveriesRequest(integration_id=ID, object_kind=OBJECT_KIND_SESSION)
        )
        assert len(held_back.deliveries) == 1
        # What is no mere progress goes at once, with all that was held back.
        await tell(cpo, charging_periods=periods, status=SESSION_STATUS_COMPLETED)
        assert await pushed(cpo, emsp) == [("PATCH", S1)]
        held = await held_session(emsp)
        assert (len(held.charging_periods), held.status) == (2, SESSION_STATUS_COMPLETED)
        told = Integration(id=ID, charging_period_interval_minutes=0, state_of_charge_sent=True)
        await cpo.client.integrations.UpdateIntegration(UpdateIntegrationRequest(integration=told))
        await tell(cpo, id="S2", charging_periods=periods[:1])
        await pushed(cpo, emsp)
        (period,) = (await held_session(emsp, "S2")).charging_periods
        assert {each.type for each in period.dimensions} == {energy.type, charge.type}


async def test_a_cdr_at_a_url_without_its_id_comes_to_rest(sides: Sides, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = Wire._forward

    async def numbered(wire: Wire, request: web.Request) -> web.StreamResponse:
        answer = await forward(wire, request)
        if "Location" in answer.headers:
            answer.headers["Location"] = f"{wire.url}/bills/{len(wire.carried)}"
        return answer

    monkeypatch.setattr(Wire, "_forward", numbered)
    async with charging(sides) as (cpo, emsp):
        for id in ("C1", "C2"):
            await bill(cpo, id)
        for id in ("C1", "C2"):
            found = await delivery(cpo, OBJECT_KIND_CDR, f"DE*CPO*{id}")
            assert (found.state, "/bills/" in found.peer_object.external_id) == (DELIVERY_STATE_DELIVERED, True)
        assert await pushed(cpo, emsp) == [("POST", C1)] * 2


async def test_a_cdr_is_found_by_the_url_that_the_partner_calls_it_by(sides: Sides) -> None:
    async with charging(sides) as (cpo, emsp):
        bills = [await bill(cpo, id) for id in ("C1", "C2")]
        await at_rest(cpo.client, ID)
        for each in bills:
            url = (await delivery(cpo, OBJECT_KIND_CDR, f"DE*CPO*{each.id}")).peer_object.external_id
            assert url.startswith(emsp.wire.url) and url.endswith(each.id)
            assert await cpo.client.cdrs.GetCdr(GetCdrRequest(url=url)) == each
        elsewhere = await fails(cpo.client.cdrs.GetCdr(GetCdrRequest(url=f"{url}9")))
        assert (elsewhere.code, elsewhere.reason) == (grpc.StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND")
        assert (await fails(emsp.client.cdrs.GetCdr(GetCdrRequest(url=url)))).reason == "RESOURCE_NOT_FOUND"
        for neither in (GetCdrRequest(), GetCdrRequest(url=url, key=CdrKey(**HERS, id="C1"))):
            assert (await fails(cpo.client.cdrs.GetCdr(neither))).code is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("kind", ["cut", "lose_answer"])
async def test_a_cdr_whose_answer_is_lost_is_looked_for_before_it_is_sent_again(sides: Sides, kind: Any) -> None:
    async with charging(sides) as (cpo, emsp):
        await bill(cpo, "C1")
        await pushed(cpo, emsp)
        emsp.wire.faults.append(("POST", "/cdrs", kind))
        await bill(cpo, "C2")
        # Where C1 is says where C2 would be.
        again = [("POST", "cdrs")] if kind == "cut" else []
        assert await pushed(cpo, emsp) == [("POST", "cdrs"), ("GET", "cdrs/DE/CPO/C2"), *again]
        assert await held_cdrs(emsp) == ["C1", "C2"]


@pytest.mark.parametrize(("count", "state"), [(1, DELIVERY_STATE_DELIVERED), (2, DELIVERY_STATE_PARKED)])
async def test_a_cdr_that_is_answered_as_a_list_of_one_is_there(sides: Sides, count: int, state: Any) -> None:
    """A list of two does not say which of them it is."""
    async with charging(sides) as (cpo, emsp):
        await bill(cpo, "C1")
        await pushed(cpo, emsp)
        emsp.wire.faults = [("POST", "/cdrs", "lose_answer"), ("GET", "/C2", f"listed:{count}")]
        await bill(cpo, "C2")
        assert await pushed(cpo, emsp) == [("POST", "cdrs"), ("GET", "cdrs/DE/CPO/C2")]
        assert (await delivery(cpo, OBJECT_KIND_CDR, "DE*CPO*C2")).state == state


async def test_the_first_cdr_of_all_whose_answer_is_lost_waits_until_it_can_be_looked_for(sides: Sides) -> None:
    async with charging(sides) as (cpo, emsp):
        emsp.wire.faults.append(("POST", "/cdrs", "cut"))
        await bill(cpo, "C1")
        unknown = await delivery(cpo, OBJECT_KIND_CDR)
        assert (unknown.state, unknown.reason) == (DELIVERY_STATE_PARKED, PARTNER_OUTCOME_UNKNOWN)
        assert unknown.peer_object.state == PEER_OBJECT_STATE_UNKNOWN
        assert await held_cdrs(emsp) == []
        await bill(cpo, "C2")
        await at_rest(cpo.client, ID)
        assert await held_cdrs(emsp) == ["C1", "C2"]
        posts = [each for each in await pushed(cpo, emsp) if each == ("POST", "cdrs")]
        assert len(posts) == 3  # the one that was cut, C2, and C1 once it was known not to be there


@pytest.mark.parametrize(("limit", "most"), [(1, 1), (3, 2)])
async def test_a_backlog_is_sent_several_at_once_and_one_request_is_left_for_calls(
    sides: Sides, monkeypatch: pytest.MonkeyPatch, limit: int, most: int
) -> None:
    under_way: list[int] = []
    together = asyncio.Event()

    async with charging(sides) as (cpo, emsp):
        forward = emsp.wire._forward

        async def forward_together(request: web.Request) -> web.StreamResponse:
            """Answers no later request until a second one is there, if there may be one."""
            under_way.append(1 + (under_way[-1] if under_way else 0))
            if under_way[-1] == most:
                together.set()
            if len(under_way) > 2 * ONE_MORE_AFTER:
                await together.wait()
            answer = await forward(request)
            under_way.append(under_way[-1] - 1)
            return answer

        monkeypatch.setattr(emsp.wire, "_forward", forward_together)
        limited = Integration(id=ID, limits=RequestLimits(max_concurrent_requests=limit))
        await cpo.client.integrations.UpdateIntegration(UpdateIntegrationRequest(integration=limited))
        cdrs = [a_cdr(**HERS, id=f"C{number}", cdr_token=TOKEN) for number in range(2 * ONE_MORE_AFTER)]
        await cpo.client.cdrs.BatchCreateCdrs(BatchCreateCdrsRequest(cdrs=cdrs))
        await at_rest(cpo.client, ID)
        assert await held_cdrs(emsp) == sorted(cdr.id for cdr in cdrs)
        assert max(under_way) == most


async def test_after_a_failure_a_backlog_goes_one_after_another_again(
    sides: Sides, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt, widths, failed = DeliveryWorker._attempt, [0], []

    async def watched(*args: Any) -> bool:
        nonlocal under_way
        if args[1].object_kind != OBJECT_KIND_CDR:
            return await attempt(*args)
        under_way += 1
        widths.append(under_way)
        try:
            arrived = await attempt(*args)
        finally:
            under_way -= 1
        if not arrived:
            failed.append(len(widths))
        return arrived

    under_way = 0
    count = 4 * ONE_MORE_AFTER
    async with charging(sides) as (cpo, emsp):
        forward = emsp.wire._forward

        async def forward_but_one(request: web.Request) -> web.StreamResponse:
            if (await request.json())["id"] == f"C{2 * ONE_MORE_AFTER:02}":
                return web.json_response({"status_code": 2001, "timestamp": "2026-01-01T00:00:00Z"}, status=400)
            return await forward(request)

        monkeypatch.setattr(emsp.wire, "_forward", forward_but_one)
        monkeypatch.setattr(DeliveryWorker, "_attempt", watched)
        cdrs = [a_cdr(**HERS, id=f"C{number:02}", cdr_token=TOKEN) for number in range(count)]
        await cpo.client.cdrs.BatchCreateCdrs(BatchCreateCdrsRequest(cdrs=cdrs))
        await at_rest(cpo.client, ID)
        assert len(await held_cdrs(emsp)) == count - 1
    before, after = widths[: failed[0]], widths[failed[0] :]  # it is tried once more when others arrive
    assert max(before) > 1
    # Those on their way at the moment of the failure end first, and are counted once they arrive.
    alone = ONE_MORE_AFTER // 4
    first = after.index(1)
    assert (first < max(before), after[first : first + alone]) == (True, [1] * alone)


async def test_a_cdr_whose_answer_cannot_be_written_down_is_looked_for_and_not_sent_again(
    sides: Sides, monkeypatch: pytest.MonkeyPatch
) -> None:
    end, ended = disclosures.disclosure_end, []

    async def end_but_once(*args: Any) -> None:
        ended.append(args)
        if len(ended) == 1:
            raise DatabaseUnavailable("gone", retry_after_s=0.0)
        await end(*args)

    async with charging(sides) as (cpo, emsp):
        await bill(cpo, "C1")
        await pushed(cpo, emsp)
        monkeypatch.setattr(disclosures, "disclosure_end", end_but_once)
        await bill(cpo, "C2")
        assert await pushed(cpo, emsp) == [("POST", "cdrs"), ("GET", "cdrs/DE/CPO/C2")]
        assert await held_cdrs(emsp) == ["C1", "C2"]


async def test_somebody_may_decide_that_it_is_sent_again(sides: Sides) -> None:
    async with charging(sides) as (cpo, emsp):
        emsp.wire.faults.append(("POST", "/cdrs", "cut"))
        await bill(cpo, "C1")
        unknown = await delivery(cpo, OBJECT_KIND_CDR)
        assert unknown.state == DELIVERY_STATE_PARKED
        await cpo.client.deliveries.RetryDelivery(RetryDeliveryRequest(id=unknown.id, overwrite_partner_change=True))
        assert (await delivery(cpo, OBJECT_KIND_CDR)).state == DELIVERY_STATE_DELIVERED
        assert await held_cdrs(emsp) == ["C1"]


async def test_in_2_1_1_the_location_of_a_session_says_when_it_was_updated(
    sides: Sides, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with charging(sides, "2.1.1") as (cpo, emsp):
        forward, put = emsp.wire._forward, list[Any]()

        async def kept(request: web.Request) -> web.StreamResponse:
            if request.method == "PUT":
                put.append(await request.json())
            return await forward(request)

        monkeypatch.setattr(emsp.wire, "_forward", kept)
        await tell(cpo)
        assert await pushed(cpo, emsp) == [("PUT", S1)]
        (session,) = put
        (evse,) = session["location"]["evses"]
        assert all("last_updated" in each for each in (session["location"], evse, *evse["connectors"])), session


async def test_2_1_1_is_sent_no_credit_cdr_and_no_session_at_a_place_that_is_not_stored(sides: Sides) -> None:
    async with charging(sides, "2.1.1") as (cpo, emsp):
        await bill(cpo, "C1")
        cost = Price(excl_vat=Decimal(value="-5"), incl_vat=Decimal(value="-5.95"))
        await bill(cpo, "C1-C", credit=True, credit_reference_id="C1", total_cost=cost)
        await tell(cpo, location_id="L9")
        for kind, id in ((OBJECT_KIND_CDR, "DE*CPO*C1-C"), (OBJECT_KIND_SESSION, "DE*CPO*S1")):
            parked = await delivery(cpo, kind, id)
            assert (parked.state, parked.reason) == (DELIVERY_STATE_PARKED, OBJECT_NOT_REPRESENTABLE)
        assert await held_cdrs(emsp) == ["C1"]


async def test_what_is_charged_with_another_partys_token_goes_nowhere_unless_it_is_said_where(sides: Sides) -> None:
    async with charging(sides) as (cpo, emsp):
        other = a_cdr_token(party_id="OTH")
        await tell(cpo, cdr_token=other)
        await bill(cpo, "C1", cdr_token=other)
        assert await pushed(cpo, emsp) == []
        await bill(cpo, "C2", cdr_token=other, recipient_integration_id=ID)
        assert await pushed(cpo, emsp) == [("POST", "cdrs")]
        assert await held_cdrs(emsp) == ["C2"]
        assert not (await emsp.client.sessions.ListSessions(ListSessionsRequest(integration_id=ID))).sessions


async def pulling(emsp: Side, models: IntegrationModels = PULLED) -> None:
    """It pulls sessions and CDRs: the first time by itself, and then when it is told to, or after hours."""
    await pushing(emsp, models)
    runs = ListRunsRequest(integration_id=ID, kind=RUN_KIND_SYNC)
    while not (found := (await emsp.client.runs.ListRuns(runs)).runs):
        await asyncio.sleep(0.02)
    await emsp.ran(found[0])


@pytest.mark.parametrize("version", SPOKEN)
async def test_what_is_not_pushed_is_asked_for(sides: Sides, version: str) -> None:
    async with charging(sides, version, push_location=False) as (cpo, emsp):
        await pulling(emsp)
        await tell(cpo, charging_periods=[a_period(0, "2.5")])
        own = a_tariff(**HERS, id="T9")
        await bill(cpo, "C1", tariffs=[own])
        assert await pushed(cpo, emsp) == []
        run = await emsp.synced()
        assert [(step.name, step.created_count) for step in run.steps] == [("sessions", 1), ("cdrs", 1)], run
        assert (len((await held_session(emsp)).charging_periods), await held_cdrs(emsp)) == (1, ["C1"])
        await tell(cpo, charging_periods=[a_period(0, "2.5"), a_period(60, "1")])
        dearer = Price(excl_vat=Decimal(value="6"), incl_vat=Decimal(value="7.14"))
        await bill(cpo, "C2", tariffs=[own], total_cost=dearer)
        await at_rest(cpo.client, ID)
        run = await emsp.synced()
        # The last hour is read again; what is recorded stays as it is.
        counts = [(step.created_count, step.updated_count, step.unchanged_count) for step in run.steps]
        assert counts == [(0, 1, 0), (1, 0, 1)]
        assert (len((await held_session(emsp)).charging_periods), await held_cdrs(emsp)) == (2, ["C1", "C2"])
        states = [(await audited(emsp, id)).state for id in ("C1", "C2")]
        assert states == [CDR_AUDIT_STATE_EQUAL, CDR_AUDIT_STATE_DIFFERENT]


async def audited(emsp: Side, id: str) -> CdrAudit:
    key = CdrKey(**HERS, id=id, integration_id=ID)
    async with watching(emsp.client.watch.WatchCdrs, WatchCdrsRequest(snapshot=True, integration_id=ID)) as watch:
        change = await watch.until(
            lambda change: change.key.id == id.casefold() and change.cdr.audit.state > CDR_AUDIT_STATE_PENDING
        )
    cdr = await emsp.client.cdrs.GetCdr(GetCdrRequest(key=key))
    assert cdr.audit == change.cdr.audit
    return cdr.audit


async def test_a_received_cdr_is_priced_again_by_the_tariff_of_its_start(sides: Sides) -> None:
    async with charging(sides, push_tariff=True, push_cdr=True) as (cpo, emsp):
        own = a_tariff(**HERS, id="T9")  # 25 cents a kWh, and 19 % VAT
        await bill(cpo, "C1", tariffs=[own])
        assert (await audited(emsp, "C1")).state == CDR_AUDIT_STATE_EQUAL
        dearer = Price(excl_vat=Decimal(value="6"), incl_vat=Decimal(value="7.14"))
        await bill(cpo, "C2", tariffs=[own], total_cost=dearer)
        found = await audited(emsp, "C2")
        assert (found.state, found.computed_cost.excl_vat.value) == (CDR_AUDIT_STATE_DIFFERENT, "5")
        assert [each.path for each in found.differences] == ["total_cost.excl_vat", "total_cost.incl_vat"]
        # T1 was received. What it said at the start is known since its last change.
        changed = (await received_tariff(emsp)).last_updated
        start, end = (Timestamp(seconds=changed.seconds + seconds) for seconds in (1, 3601))
        named = a_period(0, "20", tariff_id="T1", start_date_time=start)
        await bill(cpo, "C3", charging_periods=[named], start_date_time=start, end_date_time=end)
        assert (await audited(emsp, "C3")).state == CDR_AUDIT_STATE_EQUAL
        await bill(cpo, "C4", charging_periods=[a_period(0, "20", tariff_id="T1")])
        earlier = await audited(emsp, "C4")
        assert (earlier.state, "is not kept" in earlier.description) == (CDR_AUDIT_STATE_NOT_AUDITED, True)
        page = await emsp.client.cdrs.ListCdrs(
            ListCdrsRequest(integration_id=ID, audit_state=CDR_AUDIT_STATE_DIFFERENT)
        )
        assert [cdr.id for cdr in page.cdrs] == ["C2"]


async def test_a_credit_cdr_arrives_as_one(sides: Sides) -> None:
    async with charging(sides, "2.3.0") as (cpo, emsp):
        await bill(cpo, "C1")
        cost = Price(excl_vat=Decimal(value="-5"), incl_vat=Decimal(value="-5.95"))
        await bill(cpo, "C1-C", credit=True, credit_reference_id="C1", total_cost=cost)
        await at_rest(cpo.client, ID)
        key = CdrKey(**HERS, id="C1-C", integration_id=ID)
        got = await emsp.client.cdrs.GetCdr(GetCdrRequest(key=key))
        assert (got.credit, got.credit_reference_id, got.total_cost) == (True, "C1", cost)


AGE = "UPDATE session SET update_time = now() - interval '1000 days' WHERE key <> 's4'"
AGE_CDRS = "UPDATE cdr SET update_time = now() - interval '1000 days'"
TRACES = """
SELECT (SELECT count(*) FROM delivery WHERE object_kind = $1),
    (SELECT count(*) FROM partner_object WHERE object_kind = $1),
    (SELECT count(*) FROM peer_object WHERE object_kind = $1),
    (SELECT count(*) FROM received_document WHERE object_kind = $1)
"""


async def test_what_is_old_goes_in_slices_with_what_partners_were_shown_hold_and_sent(
    sides: Sides, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.storage.retention.SLICE", 2)

    async def traces(side: Side, kind: ObjectKind.ValueType) -> list[int]:
        row = await side.running.database.row(Statement("traces", TRACES), kind)
        return [*(row or ())]

    async with charging(sides) as (cpo, emsp):
        for id in ("S1", "S2", "S3", "S4"):
            await tell(cpo, id=id)
        await bill(cpo)
        await at_rest(cpo.client, ID)
        sent, received = (await traces(cpo, OBJECT_KIND_SESSION)), (await traces(emsp, OBJECT_KIND_SESSION))
        assert (sent[:3], received[3]) == ([4, 4, 4], 4)
        for side in (cpo, emsp):
            for age in (AGE, AGE_CDRS):
                await side.running.database.run(Statement("age", age))
            await charged_sweep(side.running.database, 400, 2000)
        sent, received = (await traces(cpo, OBJECT_KIND_SESSION)), (await traces(emsp, OBJECT_KIND_SESSION))
        assert (sent[:3], received[3]) == ([1, 1, 1], 1)
        assert (await held_session(emsp, "S4")).id == "S4"
        assert await held_cdrs(emsp) == ["C1"]
        for side in (cpo, emsp):
            await charged_sweep(side.running.database, 400, 400)
        assert await held_cdrs(emsp) == []
        assert [await traces(side, OBJECT_KIND_CDR) for side in (cpo, emsp)] == [[0, 0, 0, 0]] * 2

"""What operators push of sessions and CDRs to our OCPI endpoints: patches add up, and CDRs stay as they are."""

import asyncio
import json
from collections.abc import Callable
from typing import Any
from unittest.mock import AsyncMock
from urllib.parse import urlsplit

import pytest
from evbridge.v1.cdr_pb2 import (
    CDR_AUDIT_STATE_DIFFERENT,
    CDR_AUDIT_STATE_EQUAL,
    CDR_AUDIT_STATE_NOT_AUDITED,
    CdrAudit,
    CdrAuditState,
    GetCdrRequest,
    ListCdrsRequest,
)
from evbridge.v1.cdr_pb2 import CdrKey as CdrKeyMessage
from evbridge.v1.delivery_pb2 import OBJECT_KIND_TARIFF
from evbridge.v1.session_pb2 import GetSessionRequest, Session
from evbridge.v1.session_pb2 import SessionKey as SessionKeyMessage
from evbridge.v1.watch_pb2 import WatchCdrsRequest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from service.app import Evbridge
from service.partners.ocpi.mapping import object_to, text_of
from service.runs import auditing
from service.storage.statements import Statement
from tests.charged import a_cdr, a_period, a_session
from tests.conftest import Tenant
from tests.front_door import a_tariff
from tests.ocpi.door import ID, VERSIONS, Ask, Partner, ask, mutated, partner
from tests.rpc.test_ocpi_received import BASE, operator
from tests.rpc.test_watch import watching

__all__ = ["ask", "operator", "partner"]

OWNED = {"country_code": "NL", "party_id": "TNM"}
TIME = Timestamp(seconds=1_790_003_600)
SESSIONS, CDRS = f"{BASE}/2.2.1/sessions", f"{BASE}/2.2.1/cdrs"


def written(message: Any, version: str = "2.2.1") -> dict[str, Any]:
    document: dict[str, Any] = json.loads(text_of(object_to(message, version).object))
    return document


SESSION = written(a_session(**OWNED, id="S1", last_updated=TIME, charging_periods=[a_period(0, "1")]))
CDR = written(a_cdr(**OWNED, id="C1", last_updated=TIME))


def period(start_s: int) -> dict[str, Any]:
    each: dict[str, Any] = written(a_session(last_updated=TIME, charging_periods=[a_period(start_s, "1")]))
    found: dict[str, Any] = each["charging_periods"][0]
    return found


async def stored(tenant: Tenant) -> Session:
    key = SessionKeyMessage(**OWNED, id="S1", integration_id=ID)
    session: Session = await tenant.reader.sessions.GetSession(GetSessionRequest(key=key))
    return session


async def test_patches_add_periods_whenever_they_come_and_all_else_is_as_new_as_can_be(
    ask: Ask, operator: Partner, tenant: Tenant
) -> None:
    at, token = f"{SESSIONS}/NL/TNM/S1", operator.registered
    missing = await ask("PATCH", at, token, json={"kwh": 1, "last_updated": "2026-12-01T00:00:00Z"})
    assert (missing.status, missing.code) == (404, 2003)
    assert (await ask("PUT", at, token, json=SESSION)).status == 201
    assert (await ask("PATCH", at, token, json={"kwh": 3})).code == 2001  # without last_updated
    later = {"kwh": 3, "charging_periods": [period(120)], "last_updated": "2026-10-01T10:00:02Z"}
    earlier = {"kwh": 2, "charging_periods": [period(60)], "last_updated": "2026-10-01T10:00:01Z"}
    for patch in (later, earlier, later):
        answer = await ask("PATCH", at, token, json=patch)
        assert (answer.status, answer.code) == (200, 1000)
    session = await stored(tenant)
    starts = [each.start_date_time.seconds for each in session.charging_periods]
    assert ([start - starts[0] for start in starts], session.kwh.value) == ([0, 60, 120], "3")
    shown = await ask("GET", at, token)
    assert [len(shown.body["data"]["charging_periods"]), shown.body["data"]["kwh"]] == [3, 3]
    assert (await ask("PUT", at, token, json=SESSION)).code == 1000  # older than what is held
    assert len((await stored(tenant)).charging_periods) == 3
    newer = SESSION | {"last_updated": "2026-10-02T10:00:00Z", "charging_periods": []}
    assert (await ask("PUT", at, token, json=newer)).code == 1000
    assert not (await stored(tenant)).charging_periods
    other = await ask("PUT", f"{SESSIONS}/NL/XYZ/S1", token, json=SESSION | {"party_id": "XYZ"})
    assert (other.status, other.code) == (404, 2001)


@pytest.mark.parametrize("member", ["id", "country_code", "party_id"])
async def test_a_cdr_without_a_name_that_can_be_stored_is_refused(ask: Ask, operator: Partner, member: str) -> None:
    for text in ("a\0", "\ud800"):
        assert (await ask("POST", CDRS, operator.registered, json=CDR | {member: text})).code == 2001


async def test_an_id_is_taken_only_where_it_can_be_asked_for(ask: Ask, operator: Partner) -> None:
    for id in ("..", " ", "a/../b", "a\\.", "a\tb"):
        assert (await ask("POST", CDRS, operator.registered, json=CDR | {"id": id})).code == 2001, id
    for id in ("a/b", "...", "a b ", "%2F", "?#"):
        made = await ask("POST", CDRS, operator.registered, json=CDR | {"id": id})
        assert made.code == 1000, id
        shown = await ask(
            "GET", urlsplit(made.headers["Location"])._replace(scheme="", netloc="").geturl(), operator.registered
        )
        assert shown.body["data"]["id"] == id
    for place in ("sessions", "locations", "tariffs"):
        nameless = await ask("PUT", f"{BASE}/2.2.1/{place}/NL/TNM/%20", operator.registered, json=SESSION | {"id": " "})
        assert (nameless.status, nameless.code) == (200, 2001), place


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_cdr_is_recorded_once_and_read_where_the_answer_says(
    ask: Ask, operator: Partner, tenant: Tenant, version: str
) -> None:
    sent = written(a_cdr(**OWNED, id="C1", last_updated=TIME), version)
    at, token = f"{BASE}/{version}/cdrs", operator.registered
    made = await ask("POST", at, token, json=sent)
    again = await ask("POST", at, token, json=sent)
    assert ((made.status, made.code), (again.status, again.code)) == ((201, 1000), (200, 1000))
    assert made.headers["Location"] == again.headers["Location"]
    place = urlsplit(made.headers["Location"]).path
    assert (await ask("GET", place, token)).body["data"] == sent
    changed = await ask("POST", at, token, json=sent | {"total_energy": 21})
    assert (changed.status, changed.code) == (200, 2001)
    key = CdrKeyMessage(**OWNED, id="C1", integration_id=ID)
    cdr = await tenant.reader.cdrs.GetCdr(GetCdrRequest(key=key))
    assert cdr.total_energy.value == "20"
    missing = await ask("GET", f"{place}9", token)
    assert (missing.status, missing.code) == (404, 2003)
    for method, path in (("PUT", place), ("PATCH", place), ("DELETE", place)):
        assert (await ask(method, path, token, json=sent)).status == 405


async def test_a_session_that_has_ended_is_stored_as_its_operator_says_it_last(
    ask: Ask, operator: Partner, tenant: Tenant, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "service.ocpi.modules")
    at, token = f"{SESSIONS}/NL/TNM/S1", operator.registered
    ended = SESSION | {"status": "COMPLETED"}
    for number, (kwh, notices) in enumerate([(2.5, []), (3, [1])]):
        later = ended | {"kwh": kwh, "last_updated": f"2026-10-01T10:00:0{number}Z"}
        caplog.clear()
        assert (await ask("PUT", at, token, json=later)).code == 1000
        assert (await stored(tenant)).kwh.value == str(kwh)
        assert [vars(each)["notices"] for each in caplog.records if each.message == "received"] == notices


async def test_a_cdr_that_wants_a_tariff_is_priced_once_that_arrives(
    ask: Ask, operator: Partner, tenant: Tenant
) -> None:
    for id, tariff_id in (("C1", "T1"), ("C2", "T2")):
        period = a_period(0, "20", tariff_id=tariff_id)
        sent = written(a_cdr(**OWNED, id=id, last_updated=TIME, charging_periods=[period]))
        assert (await ask("POST", CDRS, operator.registered, json=sent)).code == 1000
    async with watching(tenant.reader.watch.WatchCdrs, WatchCdrsRequest(snapshot=True, integration_id=ID)) as watch:

        async def audit(id: str, *states: CdrAuditState.ValueType) -> CdrAudit:
            change = await watch.until(lambda each: each.key.id == id and each.cdr.audit.state in states)
            found: CdrAudit = change.cdr.audit
            return found

        for id in ("c1", "c2"):
            assert "does not exist" in (await audit(id, CDR_AUDIT_STATE_NOT_AUDITED)).description
        tariff = written(a_tariff(**OWNED, id="t1", last_updated=Timestamp(seconds=1)))
        at = f"{BASE}/2.2.1/tariffs/NL/TNM/t1"
        assert (await ask("PUT", at, operator.registered, json=tariff)).code == 1000
        found = await audit("c1", CDR_AUDIT_STATE_EQUAL, CDR_AUDIT_STATE_DIFFERENT)
        assert (found.state, found.computed_cost.excl_vat.value) == (CDR_AUDIT_STATE_EQUAL, "5")
    other = await tenant.reader.cdrs.ListCdrs(
        ListCdrsRequest(integration_id=ID, audit_state=CDR_AUDIT_STATE_NOT_AUDITED)
    )
    assert [cdr.id for cdr in other.cdrs] == ["C2"]


WAITS = Statement(
    "waits", "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event = $1::text)"
)
HOLD_UP = Statement(
    "hold up",
    "INSERT INTO received_document"
    " (tenant_id, integration_id, object_kind, object_id, part, version, last_updated, document)"
    " VALUES ($1, $2, $3, 'NLTNMt1', '', '2.2.1', '-infinity', '{}')",
)
A_MINUTE_LATER = Statement("a minute later", "UPDATE cdr SET audit_lease = '-infinity' WHERE tenant_id = $1")


@pytest.mark.parametrize("alone", [True, False], ids=["it waits for the tariff", "control: it does not"])
async def test_a_tariff_that_arrives_while_its_cdr_is_audited_is_not_missed(
    ask: Ask, operator: Partner, tenant: Tenant, running: Evbridge, monkeypatch: pytest.MonkeyPatch, alone: bool
) -> None:
    """The tariff has looked for CDRs that want it, but nobody can see it yet, when an audit misses it."""
    if not alone:
        monkeypatch.setattr(auditing, "cdr_audit_alone", AsyncMock())
    tariff = written(a_tariff(**OWNED, id="t1", last_updated=Timestamp(seconds=1)))
    cdr = written(a_cdr(**OWNED, id="C1", last_updated=TIME, charging_periods=[a_period(0, "20", tariff_id="T1")]))
    key = CdrKeyMessage(**OWNED, id="C1", integration_id=ID)

    async def waits(event: str) -> None:
        while not await running.database.value(WAITS, event):
            await asyncio.sleep(0.01)

    async def audited(state: CdrAuditState.ValueType) -> None:
        while (await tenant.reader.cdrs.GetCdr(GetCdrRequest(key=key))).audit.state != state:
            await asyncio.sleep(0.01)

    async with running.database.transaction() as conn:
        await conn.run(HOLD_UP, tenant.name, ID, OBJECT_KIND_TARIFF)
        put = asyncio.create_task(ask("PUT", f"{BASE}/2.2.1/tariffs/NL/TNM/t1", operator.registered, json=tariff))
        await waits("transactionid")
        assert (await ask("POST", CDRS, operator.registered, json=cdr)).code == 1000
        await (waits("advisory") if alone else audited(CDR_AUDIT_STATE_NOT_AUDITED))
    assert (await put).code == 1000
    await running.database.run(A_MINUTE_LATER, tenant.name)
    await audited(CDR_AUDIT_STATE_EQUAL if alone else CDR_AUDIT_STATE_NOT_AUDITED)


async def test_whatever_is_sent_has_an_answer_of_ocpis(ask: Ask, operator: Partner, soak: Callable[[int], int]) -> None:
    places = {"sessions/NL/TNM/S1": SESSION, "cdrs": CDR}
    sent: list[tuple[str, bytes]] = []

    @hypothesis_settings(max_examples=soak(200), suppress_health_check=list(HealthCheck), derandomize=True)
    @given(st.sampled_from(sorted(places)).flatmap(lambda path: st.tuples(st.just(path), mutated(places[path]))))
    def collect(each: tuple[str, bytes]) -> None:
        sent.append(each)

    collect()
    await ask("PUT", f"{SESSIONS}/NL/TNM/S1", operator.registered, json=SESSION)
    for number, (path, body) in enumerate(sent):
        version = VERSIONS[number % 3]
        method = "POST" if path == "cdrs" else ("PUT", "PATCH")[number % 2]
        answer = await ask(method, f"{BASE}/{version}/{path}", operator.registered, data=body)
        assert answer.status in (200, 201, 400, 404), (path, body, answer)
        assert answer.code // 1000 in (1, 2), (path, body, answer)

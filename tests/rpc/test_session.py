"""SessionService through the front door."""

from typing import Any
from uuid import uuid4

import pytest
from evbridge.v1.integration_pb2 import CreateIntegrationRequest
from evbridge.v1.party_pb2 import CreatePartyRequest
from evbridge.v1.session_pb2 import (
    SESSION_STATUS_ACTIVE,
    SESSION_STATUS_COMPLETED,
    SESSION_STATUS_INVALID,
    BatchGetSessionsRequest,
    BatchUpsertSessionsRequest,
    CreateSessionRequest,
    GetSessionRequest,
    ListSessionsRequest,
    Session,
    SessionKey,
    UpdateSessionRequest,
)
from evbridge.v1.watch_pb2 import WatchSessionsRequest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import code_pb2
from google.type.decimal_pb2 import Decimal

from tests.charged import SESSION_START_S, a_cdr_token, a_period, a_session
from tests.conftest import Tenant
from tests.filled import filled, unset
from tests.front_door import a_party, an_integration, fails
from tests.rpc.test_watch import watching

VALUES = {
    "evbridge.v1.Session.integration_id": None,  # ours
    "evbridge.v1.Session.recipient_integration_id": None,
    "evbridge.v1.Session.country_code": "DE",
    "evbridge.v1.Session.party_id": "ABC",
    "evbridge.v1.Session.currency": "EUR",
    "evbridge.v1.Session.start_date_time": Timestamp(seconds=1, nanos=5000),
    "evbridge.v1.Session.end_date_time": Timestamp(seconds=2),
    "evbridge.v1.Session.charging_periods": a_period(0, "2"),
    "evbridge.v1.CdrToken.country_code": "DE",
    "evbridge.v1.CdrToken.party_id": "EMP",
    "google.type.Decimal": Decimal(value="12.3400"),
}


@pytest.fixture
async def party(tenant: Tenant) -> Tenant:
    """A tenant that is the party DE*ABC."""
    await tenant.admin.parties.CreateParty(CreatePartyRequest(party=a_party()))
    return tenant


def key(session: Session) -> SessionKey:
    return SessionKey(country_code=session.country_code, party_id=session.party_id, id=session.id)


async def create(tenant: Tenant, **changes: Any) -> Session:
    return await tenant.writer.sessions.CreateSession(CreateSessionRequest(session=a_session(**changes)))


async def listed(tenant: Tenant, **filters: Any) -> list[str]:
    page = await tenant.reader.sessions.ListSessions(ListSessionsRequest(**filters))
    return [session.id for session in page.sessions]


async def test_every_field_is_stored_and_comes_back(party: Tenant) -> None:
    sent = filled(Session.DESCRIPTOR, VALUES)
    stored = await party.writer.sessions.CreateSession(CreateSessionRequest(session=sent))
    left = [path for path in unset(stored) if not path.startswith("charging_periods")]
    assert left == ["recipient_integration_id", "origin", "charging_preferences", "integration_id", "location"]
    got = await party.reader.sessions.GetSession(GetSessionRequest(key=key(stored)))
    assert got == stored
    for name in ("create_time", "last_updated", "etag"):
        got.ClearField(name)
    assert got == sent


async def test_a_session_goes_on_and_what_says_the_same_changes_nothing(party: Tenant) -> None:
    made = await create(party, id="Night-1", cdr_token=a_cdr_token(country_code="de", party_id="emp"))
    assert (made.cdr_token.country_code, made.cdr_token.party_id) == ("DE", "EMP")
    told = Session(country_code="de", party_id="abc", id="NIGHT-1", charging_periods=[a_period(0, "2.5")])
    request = UpdateSessionRequest(session=told, update_mask=FieldMask(paths=["charging_periods"]))
    changed = await party.writer.sessions.UpdateSession(request)
    assert (changed.id, len(changed.charging_periods), changed.create_time) == ("Night-1", 1, made.create_time)
    assert changed.last_updated.ToNanoseconds() > made.last_updated.ToNanoseconds()
    assert await party.writer.sessions.UpdateSession(request) == changed
    request.session.etag = made.etag
    assert (await fails(party.writer.sessions.UpdateSession(request))).reason == "ETAG_MISMATCH"


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"cdr_token": None}, "session.cdr_token"),
        ({"auth_method": 0}, "session.auth_method"),
        ({"status": 9}, "session.status"),
        ({"currency": "EUX"}, "session.currency"),
        ({"end_date_time": Timestamp(seconds=1)}, "session"),
        ({"party_id": "XYZ"}, "session.party_id"),
        ({"recipient_integration_id": "nobody"}, "session.recipient_integration_id"),
        ({"integration_id": "nobody"}, None),
    ],
)
async def test_what_is_wrong_is_named(party: Tenant, changes: dict[str, Any], path: str | None) -> None:
    failure = await fails(create(party, **changes))
    assert failure.reason in ("INVALID_FIELD", "REFERENCE_NOT_FOUND", "RECEIVED_IS_READ_ONLY")
    assert list(failure.violations) == ([path] if path else [])


@pytest.mark.parametrize("status", [SESSION_STATUS_COMPLETED, SESSION_STATUS_INVALID])
async def test_a_session_that_has_ended_changes_no_more(party: Tenant, status: Any) -> None:
    ended = await create(party, id="S1", status=status)

    async def update(*paths: str, **changes: Any) -> Session:
        sent = Session(country_code="DE", party_id="ABC", id="S1", **changes)
        request = UpdateSessionRequest(session=sent, update_mask=FieldMask(paths=paths))
        session: Session = await party.writer.sessions.UpdateSession(request)
        return session

    changes = {"kwh": Decimal(value="3"), "status": SESSION_STATUS_ACTIVE, "end_date_time": ended.create_time}
    for name, value in changes.items():
        failure = await fails(update(name, **{name: value}))
        assert (failure.code.name, failure.reason) == ("FAILED_PRECONDITION", "SESSION_ENDED")
    assert await update("status", status=status) == ended
    await party.admin.integrations.CreateIntegration(CreateIntegrationRequest(integration=an_integration(id="cp")))
    assert (await update("recipient_integration_id", recipient_integration_id="cp")).recipient_integration_id == "cp"
    await create(party, id="S2")
    request = BatchUpsertSessionsRequest(sessions=[a_session(id="S1"), a_session(id="S2", status=status)])
    answer = await party.writer.sessions.BatchUpsertSessions(request)
    assert [each.error.code for each in answer.results] == [code_pb2.FAILED_PRECONDITION, code_pb2.OK]


async def test_a_batch_answers_for_each_session(party: Tenant) -> None:
    sessions = [a_session(id="A"), a_session(id="B", kwh=None), a_session(id="a")]
    request = BatchUpsertSessionsRequest(sessions=sessions, allow_missing=True, request_id=str(uuid4()))
    answer = await party.writer.sessions.BatchUpsertSessions(request)
    codes = [result.error.code for result in answer.results]
    assert codes == [code_pb2.OK, code_pb2.INVALID_ARGUMENT, code_pb2.INVALID_ARGUMENT]
    assert await party.writer.sessions.BatchUpsertSessions(request) == answer
    got = await party.reader.sessions.BatchGetSessions(BatchGetSessionsRequest(keys=[key(sessions[0])] * 2))
    assert [session.id for session in got.sessions] == ["A", "A"]
    missing = BatchGetSessionsRequest(keys=[key(sessions[1])])
    assert (await fails(party.reader.sessions.BatchGetSessions(missing))).reason == "RESOURCE_NOT_FOUND"


async def test_lists_are_in_the_order_of_time_and_filtered(party: Tenant) -> None:
    for id, start_s, changes in (
        ("Z", 0, {"cdr_token": a_cdr_token(party_id="OTH", uid="FF", contract_id="DEOTHC1")}),
        ("Y", 60, {"status": SESSION_STATUS_COMPLETED}),
        ("X", 120, {"location_id": "L2"}),
    ):
        await create(party, id=id, start_date_time=Timestamp(seconds=SESSION_START_S + start_s), **changes)
    assert await listed(party) == ["Z", "Y", "X"]
    first = await party.reader.sessions.ListSessions(ListSessionsRequest(page_size=2))
    after = ListSessionsRequest(page_size=2, page_token=first.next_page_token)
    last = await party.reader.sessions.ListSessions(after)
    assert ([s.id for s in last.sessions], last.next_page_token) == (["X"], "")
    assert await listed(party, token_country_code="de", token_party_id="oth") == ["Z"]
    assert await listed(party, token_uid="ff") == await listed(party, contract_id="deothc1") == ["Z"]
    assert await listed(party, status=SESSION_STATUS_COMPLETED) == ["Y"]
    assert await listed(party, location_id="l2", country_code="DE", party_id="ABC") == ["X"]
    assert await listed(party, party_id="XYZ") == await listed(party, integration_id="other") == []
    minute = Timestamp(seconds=SESSION_START_S + 60)
    assert await listed(party, start_time_from=minute) == ["Y", "X"]
    assert await listed(party, start_time_to=minute) == ["Z"]
    y = (await party.reader.sessions.GetSession(GetSessionRequest(key=key(a_session(id="Y"))))).last_updated
    assert await listed(party, updated_from=y) == ["Y", "X"]
    assert await listed(party, updated_to=y) == ["Z"]


async def test_sessions_are_watched(party: Tenant) -> None:
    before = await create(party)
    async with watching(party.reader.watch.WatchSessions, WatchSessionsRequest(snapshot=True)) as watch:
        shown = await watch.until(lambda change: True)
        assert (shown.session, shown.key.id) == (before, before.id)
        made = await create(party)
        change = await watch.until(lambda change: change.key.id == made.id)
        assert (change.session, change.session.status) == (made, SESSION_STATUS_ACTIVE)

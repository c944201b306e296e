"""What AMPECO tells of its sessions: signed, noted by id, and read back."""

import asyncio
import hmac
import json
from hashlib import sha256
from typing import Any

import aiohttp
import grpc
import pytest
from evbridge.partner.ampeco.v3.notification_pb2 import Notification, SubscribeNotificationsRequest, Webhook
from evbridge.partner.ampeco.v3.notification_pb2_grpc import NotificationServiceStub
from evbridge.v1.ampeco_connection_pb2 import AmpecoConnection
from evbridge.v1.integration_pb2 import (
    DeleteIntegrationRequest,
    GetIntegrationRequest,
    IntegrationModels,
    PauseIntegrationRequest,
    ResumeIntegrationRequest,
)
from evbridge.v1.run_pb2 import RUN_STATE_FAILED, RUN_STATE_SUCCEEDED, GetRunRequest, ListRunsRequest, Run
from evbridge.v1.session_pb2 import SESSION_STATUS_ACTIVE, SESSION_STATUS_COMPLETED

from service.app import Evbridge
from service.partners.ampeco import webhook
from service.partners.ampeco.simulator import SESSIONS, Simulator
from service.storage.statements import Statement
from tests.ampeco import sync
from tests.conftest import Tenant
from tests.rpc.test_ampeco_sessions import BILLED, ENDED, WHERE, cdrs, changed, connected, quarantined, sessions

__all__ = ["connected"]
UPDATE, START_STOP = "SessionUpdateNotification", "SessionStartStopNotification"
NOTED = Statement("noted", "SELECT external_id FROM notified WHERE tenant_id = $1 ORDER BY external_id")
SOONER = Statement(
    "sooner",
    "UPDATE notified_due SET begin_time = '-infinity', due_time = now() WHERE tenant_id = $1 AND due_time IS NOT NULL",
)
DUE = Statement("due", "SELECT count(*) FROM notified_due WHERE tenant_id = $1 AND due_time IS NOT NULL")


def url_of(running: Evbridge, tenant: str, integration: str = "am") -> str:
    return f"{running.ocpi_url}/ampeco/{tenant}/{integration}/notifications"


async def noted(running: Evbridge, tenant: Tenant) -> list[str]:
    return [row["external_id"] for row in await running.database.rows(NOTED, tenant.name)]


async def read(running: Evbridge, tenant: Tenant, state: Any = RUN_STATE_SUCCEEDED) -> Run:
    """The last run that a notification began, once it has ended and nothing is noted any more, or it failed."""
    async with asyncio.timeout(60):
        while True:
            await running.database.run(SOONER, tenant.name)
            waits = await noted(running, tenant) or await running.database.value(DUE, tenant.name)
            runs = (await tenant.reader.runs.ListRuns(ListRunsRequest(integration_id="am"))).runs
            ended = runs and runs[0].requested_by == "notification" and runs[0].state == state
            if ended and (state == RUN_STATE_FAILED or not waits):
                run: Run = await tenant.reader.runs.GetRun(GetRunRequest(id=runs[0].id))
                return run
            await asyncio.sleep(0.05)


async def called(url: str, event: Any, key: str = "partner-key", **headers: str) -> int:
    """Calls as AMPECO does, and returns the status of the answer."""
    body = event if isinstance(event, bytes) else json.dumps(event).encode()
    signed = {"X-Signature": hmac.new(key.encode(), body, sha256).hexdigest()} | headers
    async with aiohttp.ClientSession() as http, http.post(url, data=body, headers=signed) as answer:
        assert "partner-key" not in await answer.text()
        return answer.status


async def test_a_session_is_told_read_back_and_billed_once(
    connected: Tenant, ampeco: Simulator, running: Evbridge, channel: grpc.aio.Channel
) -> None:
    await sync(connected)
    subscription = Notification(
        via="webhook",
        notifications=[UPDATE, START_STOP],
        webhook=Webhook(callback_url=url_of(running, connected.name)),
    )
    await NotificationServiceStub(channel).SubscribeNotifications(
        SubscribeNotificationsRequest(integration_id="am", subscription=subscription),
        metadata=(("authorization", f"Bearer {connected.keys['writer']}"),),
    )
    ampeco.charge(501, **WHERE, energy=1500)
    # What it says besides the id is not believed.
    assert await ampeco.notify(START_STOP, session={"id": "501", "status": "finished", "energy": 99}) == [204]
    run = await read(running, connected)
    assert [step.name for step in run.steps] == ["sessions"]
    (session,) = await sessions(connected)
    assert (session.id, session.status, session.kwh.value) == ("am-501", SESSION_STATUS_ACTIVE, "1.5")
    ampeco.charge(501, **ENDED, **BILLED)
    for _ in range(3):
        assert await ampeco.notify(UPDATE, sessionId=501) == [204]
    await read(running, connected)
    (ended,) = await sessions(connected)
    (cdr,) = await cdrs(connected)
    assert (ended.status, cdr.total_cost.incl_vat.value) == (SESSION_STATUS_COMPLETED, "11.90")
    # Told again, and read by the schedule too: there is one.
    assert await ampeco.notify(UPDATE, session={"id": 501}) == [204]
    await read(running, connected)
    await sync(connected, whole=True)
    assert await cdrs(connected) == [cdr]


async def test_only_who_signs_with_the_integrations_token_is_heard(
    connected: Tenant, ampeco: Simulator, running: Evbridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    await connected.admin.integrations.PauseIntegration(PauseIntegrationRequest(id="am", reason="a test"))
    url, event = url_of(running, connected.name), {"notification": UPDATE, "session": {"id": 501}}
    assert await called(url, event, key="another-key") == 401
    assert await called(url, event, **{"X-Signature": ""}) == 401
    assert await called(url, event, **{"X-Signature": "\u00e9" * 64}) == 401
    assert await called(url_of(running, connected.name, "other"), event) == 401
    assert await called(url_of(running, "nobody"), event) == 401
    signed = hmac.new(b"partner-key", json.dumps(event).encode(), sha256).hexdigest()
    assert await called(url, event | {"session": {"id": 502}}, **{"X-Signature": signed}) == 401
    assert await noted(running, connected) == []
    assert await called(url, event, **{"X-Signature": signed.upper()}) == 204
    assert await noted(running, connected) == ["501"]
    # Another token subscribed us: that one signs, and the first does not any more. It never comes back.
    await changed(connected, ampeco=AmpecoConnection(notification_token="another-key"))
    assert await called(url, event) == 401
    assert await called(url, event | {"session": {"id": 503}}, key="another-key") == 204
    stored = (await connected.reader.integrations.GetIntegration(GetIntegrationRequest(id="am"))).ampeco
    assert (stored.notification_token, stored.notification_token_set) == ("", True)
    # A control: whoever does not compare lets everybody in.
    monkeypatch.setattr(webhook.hmac, "compare_digest", lambda one, other: True)
    assert await called(url, event | {"session": {"id": 504}}, key="nobody's") == 204
    assert await noted(running, connected) == ["501", "503", "504"]


async def test_what_names_no_session_is_answered_and_forgotten(connected: Tenant, running: Evbridge) -> None:
    await connected.admin.integrations.PauseIntegration(PauseIntegrationRequest(id="am", reason="a test"))
    url = url_of(running, connected.name)
    for event in (
        {"notification": "ChargePointChangedNotification", "chargePointId": 11},
        {"notification": UPDATE, "session": {"id": "../locations/1"}},
        {"notification": UPDATE, "session": {"id": -5}},
        {"notification": UPDATE, "session": None, "sessionId": "9" * 40},
        {},
    ):
        assert await called(url, event) == 204
    assert [await called(url, body) for body in (b"[]", b"{", b"")] == [400, 400, 400]
    assert await called(url, b" " * (webhook.MAX_BODY_BYTES + 1)) == 413
    assert await noted(running, connected) == []
    await changed(connected, models=IntegrationModels(pull_session=False))
    assert await called(url, {"notification": UPDATE, "sessionId": 501}) == 204
    assert await noted(running, connected) == []


async def test_what_was_told_waits_for_an_integration_that_is_paused_and_for_a_partner_that_is_away(
    connected: Tenant, ampeco: Simulator, running: Evbridge
) -> None:
    await sync(connected)
    await connected.admin.integrations.PauseIntegration(PauseIntegrationRequest(id="am", reason="a test"))
    for id in (501, 502):
        ampeco.charge(id, **WHERE)
        assert await called(url_of(running, connected.name), {"notification": UPDATE, "sessionId": id}) == 204
    await running.database.run(SOONER, connected.name)
    ampeco.inject("2*GetSession=status:503")
    await connected.admin.integrations.ResumeIntegration(ResumeIntegrationRequest(id="am"))
    await read(running, connected, RUN_STATE_FAILED)
    assert await noted(running, connected) == ["501", "502"]
    await read(running, connected)
    assert [session.id for session in await sessions(connected)] == ["am-501", "am-502"]


async def test_one_that_is_gone_or_cannot_be_read_costs_no_other(
    connected: Tenant, ampeco: Simulator, running: Evbridge
) -> None:
    await sync(connected)
    await connected.admin.integrations.PauseIntegration(PauseIntegrationRequest(id="am", reason="a test"))
    ampeco.charge(501, **WHERE)
    ampeco.charge(503, **WHERE | {"idTag": "unknown"})
    ampeco.objects[f"{SESSIONS}/503"]["energy"] = 1
    for id in (501, 502, 503):
        await called(url_of(running, connected.name), {"notification": UPDATE, "sessionId": id})
    await connected.admin.integrations.ResumeIntegration(ResumeIntegrationRequest(id="am"))
    run = await read(running, connected)
    assert run.steps[0].description == "1 left out as not there"
    assert [session.id for session in await sessions(connected)] == ["am-501"]
    assert [each.object_id for each in await quarantined(connected)] == ["503"]
    await connected.admin.integrations.DeleteIntegration(DeleteIntegrationRequest(id="am", force=True))
    assert await called(url_of(running, connected.name), {"notification": UPDATE, "sessionId": 501}) == 401

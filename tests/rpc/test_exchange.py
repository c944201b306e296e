"""Runs that exchange a credential for an access token."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from evbridge.v1 import error_reason_pb2 as reasons
from evbridge.v1.integration_pb2 import (
    INTEGRATION_STATUS_ACTIVE,
    INTEGRATION_STATUS_CONNECTING,
    INTEGRATION_STATUS_FAILED,
    INTEGRATION_STATUS_PENDING,
    INTEGRATION_STATUS_SUSPENDED,
    CreateIntegrationRequest,
    DeleteIntegrationRequest,
    GetIntegrationRequest,
    Integration,
    UpdateIntegrationRequest,
)
from evbridge.v1.run_pb2 import (
    RUN_KIND_DIAGNOSE,
    RUN_KIND_TOKEN_EXCHANGE,
    RUN_STATE_CANCELLED,
    RUN_STATE_FAILED,
    RUN_STATE_SUCCEEDED,
    RUN_STEP_STATE_FAILED,
    RUN_STEP_STATE_SUCCEEDED,
    CancelRunRequest,
    ListRunsRequest,
    Run,
    StartRunRequest,
    WaitRunRequest,
)
from evbridge.v1.salesforce_connection_pb2 import SalesforceConnection
from evbridge.v1.utility_cloud_connection_pb2 import UtilityCloudConnection

from service.app import Evbridge
from service.storage.statements import Statement
from tests.conftest import Tenant
from tests.front_door import an_integration_of, fails
from tests.partners import TokenPartner

Code = grpc.StatusCode
SUCCEEDED, FAILED = RUN_STEP_STATE_SUCCEEDED, RUN_STEP_STATE_FAILED
ROWS = Statement("tokens", "SELECT base_url, expire_time FROM access_token WHERE tenant_id = $1")


@pytest.fixture
async def partner() -> AsyncIterator[TokenPartner]:
    async with TokenPartner().listening() as listening:
        yield listening


def salesforce(partner: TokenPartner, secret: str = "partner-key", **changes: Any) -> Integration:
    connection = SalesforceConnection(endpoint_url=partner.url, client_id="evbridge", client_secret=secret)
    connection.MergeFrom(SalesforceConnection(**changes))
    return an_integration_of("salesforce", secret, id="crm", salesforce=connection)


def utility_cloud(partner: TokenPartner, **changes: Any) -> Integration:
    connection = UtilityCloudConnection(
        base_url="http://127.0.0.1:9",
        token_url=f"{partner.url}/token",
        tenant="acme",
        client_id="evbridge",
        client_secret="partner-key",
        scope="billing read",
    )
    return an_integration_of("utility_cloud", id="crm", utility_cloud=connection, **changes)


async def get(tenant: Tenant) -> Integration:
    return await tenant.reader.integrations.GetIntegration(GetIntegrationRequest(id="crm"))


async def create(tenant: Tenant, integration: Integration, **more: Any) -> Integration:
    return await tenant.admin.integrations.CreateIntegration(CreateIntegrationRequest(integration=integration, **more))


async def ended(tenant: Tenant, run_id: str) -> Run:
    return await tenant.reader.runs.WaitRun(WaitRunRequest(id=run_id))


async def activated(tenant: Tenant, integration: Integration) -> Run:
    """The run that creating the integration starts, at its end."""
    return await ended(tenant, (await create(tenant, integration, activate_connection=True)).latest_run_id)


async def run(tenant: Tenant, kind: int) -> Run:
    started = await tenant.writer.runs.StartRun(StartRunRequest(integration_id="crm", kind=kind))
    return await ended(tenant, started.id)


def outcome(run: Run) -> str:
    return reasons.ErrorReason.Name(run.reason) if run.state == RUN_STATE_FAILED else "OK"


def steps(run: Run) -> dict[str, int]:
    return {step.name: step.state for step in run.steps}


async def kept(running: Evbridge, tenant: Tenant) -> list[tuple[str, Any]]:
    return [tuple(row) for row in await running.database.rows(ROWS, tenant.name)]


async def test_a_connection_to_salesforce_is_activated_as_it_is_created(
    tenant: Tenant, running: Evbridge, partner: TokenPartner
) -> None:
    partner.answer = {"instance_url": f"{partner.url}/instance", "signature": "x"}
    exchanged = await activated(tenant, salesforce(partner))
    assert (exchanged.kind, exchanged.state) == (RUN_KIND_TOKEN_EXCHANGE, RUN_STATE_SUCCEEDED)
    assert (steps(exchanged), exchanged.progress.done) == ({"token": SUCCEEDED}, 1)
    assert (await get(tenant)).status == INTEGRATION_STATUS_ACTIVE
    expected = {"path": "/services/oauth2/token", "client": "evbridge:partner-key", "grant_type": "client_credentials"}
    assert partner.asked == [expected]
    ((base_url, expire_time),) = await kept(running, tenant)
    assert (base_url, expire_time.year) == (f"{partner.url}/instance", 9999)


async def test_a_connection_to_utility_cloud_is_activated_by_an_update(
    tenant: Tenant, running: Evbridge, partner: TokenPartner
) -> None:
    partner.answer = {"expires_in": 3600, "instance_url": "http://elsewhere.example"}  # which only Salesforce says
    await create(tenant, utility_cloud(partner))
    assert (await get(tenant)).status == INTEGRATION_STATUS_PENDING
    request = UpdateIntegrationRequest(integration=Integration(id="crm", display_name="x"), activate_connection=True)
    updated = await tenant.admin.integrations.UpdateIntegration(request)
    assert outcome(await ended(tenant, updated.latest_run_id)) == "OK"
    assert (await get(tenant)).status == INTEGRATION_STATUS_ACTIVE
    assert partner.asked[0]["scope"] == "billing read"
    (row,) = await kept(running, tenant)
    assert row[0] == ""


async def test_a_disabled_integration_is_exchanged_for_and_stays_suspended(
    tenant: Tenant, partner: TokenPartner
) -> None:
    assert outcome(await activated(tenant, utility_cloud(partner, enabled=False))) == "OK"
    assert (await get(tenant)).status == INTEGRATION_STATUS_SUSPENDED


async def test_a_rehearsal_asks_for_nothing(tenant: Tenant, partner: TokenPartner) -> None:
    rehearsed = await create(tenant, salesforce(partner), activate_connection=True, validate_only=True)
    assert rehearsed.latest_run_id
    assert (await fails(get(tenant))).code is Code.NOT_FOUND
    await create(tenant, salesforce(partner))
    request = UpdateIntegrationRequest(
        integration=Integration(id="crm", display_name="x"), activate_connection=True, validate_only=True
    )
    await tenant.admin.integrations.UpdateIntegration(request)
    assert not (await tenant.reader.runs.ListRuns(ListRunsRequest())).runs
    assert not partner.asked


async def test_a_refused_client_is_a_failed_run_and_a_failed_integration(
    tenant: Tenant, running: Evbridge, partner: TokenPartner
) -> None:
    refused = await activated(tenant, salesforce(partner, "wrong-key"))
    assert (outcome(refused), steps(refused)) == ("PARTNER_CREDENTIAL_REFUSED", {"token": FAILED})
    failed = await get(tenant)
    assert (failed.status, failed.status_description) == (INTEGRATION_STATUS_FAILED, refused.description)
    assert "wrong-key" not in f"{refused}{failed}"
    assert not await kept(running, tenant)
    # The right secret mends it.
    connection = SalesforceConnection(client_secret="partner-key")
    patch = Integration(id="crm", salesforce=connection)
    request = UpdateIntegrationRequest(integration=patch, activate_connection=True)
    updated = await tenant.admin.integrations.UpdateIntegration(request)
    assert outcome(await ended(tenant, updated.latest_run_id)) == "OK"
    mended = await get(tenant)
    assert (mended.status, mended.status_description) == (INTEGRATION_STATUS_ACTIVE, "")


FAILING: dict[str, tuple[dict[str, Any], str]] = {
    "a scope it does not know": ({"status": 400, "body": b'{"error": "invalid_scope"}'}, "PARTNER_CREDENTIAL_REFUSED"),
    "too many": ({"status": 429}, "PARTNER_RATE_LIMITED"),
    "busy": ({"status": 503}, "PARTNER_UNAVAILABLE"),
    "broken": ({"status": 500}, "PARTNER_FAULT"),
    "a redirect": ({"status": 302}, "PARTNER_FAULT"),
    "no JSON": ({"body": b"<html>canary-4711"}, "PARTNER_FAULT"),
    "a list": ({"body": b"[]"}, "PARTNER_FAULT"),
    "no token": ({"answer": {"access_token": None}}, "PARTNER_FAULT"),
    "a token for no header": ({"answer": {"access_token": "a\r\nb: c"}}, "PARTNER_FAULT"),
    "another type": ({"answer": {"token_type": "mac"}}, "PARTNER_FAULT"),
    "an endless token": ({"answer": {"access_token": "t" * 16_385}}, "PARTNER_FAULT"),
    "too much": ({"body": b'{"x": "' + bytes(100_000) + b'"}'}, "PARTNER_FAULT"),
}


@pytest.mark.parametrize(("answers", "reason"), FAILING.values(), ids=FAILING)
async def test_an_answer_without_a_token_has_a_reason_and_not_the_partners_words(
    tenant: Tenant, running: Evbridge, partner: TokenPartner, answers: dict[str, Any], reason: str
) -> None:
    for name, value in answers.items():
        setattr(partner, name, value)
    failed = await activated(tenant, salesforce(partner))
    assert outcome(failed) == reason
    assert "canary" not in f"{failed}{await get(tenant)}"
    assert not await kept(running, tenant)


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("http://elsewhere.example/x", "elsewhere.example"),
        ("http://127.0.0.1:1", "127.0.0.1"),
        ("http://127.0.0.1@elsewhere.example", "elsewhere.example"),
        ("gopher://[", ""),
        ("", ""),
    ],
)
async def test_an_instance_on_another_host_is_refused_and_named(
    tenant: Tenant, running: Evbridge, partner: TokenPartner, address: str, host: str
) -> None:
    partner.answer = {"instance_url": address}
    failed = await activated(tenant, salesforce(partner))
    assert outcome(failed) == "EGRESS_DENIED"
    described = (await get(tenant)).status_description
    assert host in described and described == failed.description
    assert not await kept(running, tenant)


async def test_an_instance_on_a_listed_host_is_accepted(
    tenant: Tenant, running: Evbridge, partner: TokenPartner
) -> None:
    partner.answer = {"instance_url": "http://Elsewhere.example:8443/x"}
    assert outcome(await activated(tenant, salesforce(partner, allowed_hosts=["elsewhere.example:8443"]))) == "OK"
    assert [row[0] for row in await kept(running, tenant)] == ["http://Elsewhere.example:8443/x"]


@pytest.mark.parametrize("hosts", [["https://a.example"], ["A.example"], ["a.example", "a.example"], ["a.example/x"]])
async def test_a_list_of_hosts_holds_hosts(tenant: Tenant, partner: TokenPartner, hosts: list[str]) -> None:
    failure = await fails(create(tenant, salesforce(partner, allowed_hosts=hosts)))
    assert failure.reason == "INVALID_FIELD"
    assert all(path.startswith("integration.salesforce.allowed_hosts") for path in failure.violations)


@pytest.mark.parametrize(
    "host", ["10.0.0.1", "169.254.169.254:80", "2130706433", "127.1", "a.example:99999", "a..example"]
)
async def test_a_host_that_is_not_called_is_not_stored(tenant: Tenant, partner: TokenPartner, host: str) -> None:
    failure = await fails(create(tenant, salesforce(partner, allowed_hosts=["a.example", host])))
    assert (failure.code, failure.reason) == (Code.INVALID_ARGUMENT, "INVALID_FIELD")
    assert list(failure.violations) == ["integration.salesforce.allowed_hosts[1]"]


async def test_a_token_goes_with_its_integration_and_with_a_change_of_it(
    tenant: Tenant, running: Evbridge, partner: TokenPartner
) -> None:
    await activated(tenant, salesforce(partner))
    assert await kept(running, tenant)
    connection = SalesforceConnection(client_secret="other-key")
    request = UpdateIntegrationRequest(integration=Integration(id="crm", salesforce=connection))
    await tenant.admin.integrations.UpdateIntegration(request)
    assert not await kept(running, tenant)
    partner.secret = "other-key"
    assert outcome(await run(tenant, RUN_KIND_TOKEN_EXCHANGE)) == "OK"
    await tenant.admin.integrations.DeleteIntegration(DeleteIntegrationRequest(id="crm"))
    assert not await kept(running, tenant)


async def test_a_token_of_a_secret_that_was_replaced_meanwhile_is_not_kept(
    tenant: Tenant, running: Evbridge, partner: TokenPartner
) -> None:
    partner.thinking.clear()
    created = await create(tenant, salesforce(partner), activate_connection=True)
    await asked(partner)
    connection = SalesforceConnection(client_secret="other-key")
    request = UpdateIntegrationRequest(integration=Integration(id="crm", salesforce=connection))
    await tenant.admin.integrations.UpdateIntegration(request)
    partner.thinking.set()
    assert outcome(await ended(tenant, created.latest_run_id)) == "OK"
    assert not await kept(running, tenant)


async def asked(partner: TokenPartner, count: int = 1) -> None:
    async with asyncio.timeout(60):
        while len(partner.asked) < count:
            await asyncio.sleep(0.01)


async def test_an_exchange_under_way_is_connecting_and_cancelled_is_pending(
    tenant: Tenant, partner: TokenPartner
) -> None:
    partner.thinking.clear()
    created = await create(tenant, salesforce(partner), activate_connection=True)
    await asked(partner)
    connecting = await get(tenant)
    assert connecting.status == INTEGRATION_STATUS_CONNECTING
    again = UpdateIntegrationRequest(integration=Integration(id="crm", display_name="x"), activate_connection=True)
    failure = await fails(tenant.admin.integrations.UpdateIntegration(again))
    assert (failure.code, failure.reason) == (Code.ALREADY_EXISTS, "RUN_IN_PROGRESS")
    assert failure.metadata == {"run_id": created.latest_run_id}
    assert await get(tenant) == connecting
    await tenant.writer.runs.CancelRun(CancelRunRequest(id=created.latest_run_id))
    assert (await ended(tenant, created.latest_run_id)).state == RUN_STATE_CANCELLED
    assert (await get(tenant)).status == INTEGRATION_STATUS_PENDING


@pytest.mark.parametrize("make", [salesforce, utility_cloud])
async def test_a_diagnosis_asks_for_a_token_and_keeps_none(
    tenant: Tenant, running: Evbridge, partner: TokenPartner, make: Any
) -> None:
    await create(tenant, make(partner))
    diagnosed = await run(tenant, RUN_KIND_DIAGNOSE)
    assert steps(diagnosed) == dict.fromkeys(["address", "credential", "answer", "duration"], SUCCEEDED)
    assert len(partner.asked) == 1
    assert not await kept(running, tenant)
    assert (await get(tenant)).status == INTEGRATION_STATUS_PENDING
    partner.secret = "other-key"
    refused = await run(tenant, RUN_KIND_DIAGNOSE)
    assert (outcome(refused), steps(refused)["credential"]) == ("PARTNER_CREDENTIAL_REFUSED", FAILED)

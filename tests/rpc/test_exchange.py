"""Runs that exchange something with a partner: access tokens, and as much of OCPI's credentials as there is yet."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from aiohttp import web
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
from evbridge.v1.ocpi_connection_pb2 import (
    INTERFACE_ROLE_BOTH,
    INTERFACE_ROLE_RECEIVER,
    INTERFACE_ROLE_SENDER,
    INTERFACE_ROLE_UNSPECIFIED,
    OcpiConnection,
)
from evbridge.v1.run_pb2 import (
    RUN_KIND_CREDENTIALS,
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
from tests.partners import OcpiPartner, TokenPartner

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


@pytest.fixture
async def party() -> AsyncIterator[OcpiPartner]:
    async with OcpiPartner().listening() as listening:
        yield listening


def ocpi(party: OcpiPartner, role: Any = INTERFACE_ROLE_SENDER, token: str = "token-a") -> Integration:
    connection = OcpiConnection(endpoint_url=f"{party.url}/ocpi/versions", initial_role=role, initial_token=token)
    return an_integration_of("ocpi", token, id="crm", ocpi=connection)


async def registered(tenant: Tenant, integration: Integration) -> Run:
    await create(tenant, integration)
    request = UpdateIntegrationRequest(integration=Integration(id="crm", display_name="x"))
    request.retry_credentials_exchange = True
    updated = await tenant.admin.integrations.UpdateIntegration(request)
    return await ended(tenant, updated.latest_run_id)


async def test_the_exchange_of_credentials_finds_out_the_version_and_ends_where_we_would_be_called(
    tenant: Tenant, party: OcpiPartner
) -> None:
    exchanged = await registered(tenant, ocpi(party))
    assert (exchanged.kind, outcome(exchanged)) == (RUN_KIND_CREDENTIALS, "RUN_UNSUPPORTED")
    assert steps(exchanged) == {"versions": SUCCEEDED, "details": SUCCEEDED, "registration": FAILED}
    assert "no OCPI endpoint" in exchanged.description
    integration = await get(tenant)
    assert (integration.status, integration.status_description) == (INTEGRATION_STATUS_FAILED, exchanged.description)
    details = integration.version_details
    assert details.version == "2.2.1"
    assert [(each.identifier, each.role, each.url) for each in details.endpoints] == [
        (module, INTERFACE_ROLE_SENDER, f"{party.url}/ocpi/{module}")
        for module in ("credentials", "locations", "de-abc-own")
    ]
    assert [path for path, _ in party.requests] == ["/ocpi/versions", "/ocpi/2.2.1"]
    ids = [headers[name] for _, headers in party.requests for name in ("X-Request-ID", "X-Correlation-ID")]
    assert len(set(ids)) == 4


@dataclass
class Interrupted(OcpiPartner):
    """While it answers what its version is, `meanwhile` happens."""

    meanwhile: Callable[[], Awaitable[Any]] = field(kw_only=True)

    async def answer(self, request: web.Request) -> web.Response:
        if request.path == "/ocpi/2.2.1":
            await self.meanwhile()
        return await super().answer(request)


async def test_what_a_partner_says_is_forgotten_when_its_integration_leads_elsewhere_meanwhile(tenant: Tenant) -> None:
    async def change() -> None:
        elsewhere = OcpiConnection(endpoint_url="http://127.0.0.1:9/ocpi/versions", initial_token="token-b")
        request = UpdateIntegrationRequest(integration=Integration(id="crm", ocpi=elsewhere))
        await tenant.admin.integrations.UpdateIntegration(request)

    async with Interrupted(meanwhile=change).listening() as party:
        assert outcome(await registered(tenant, ocpi(party))) == "ETAG_MISMATCH"
    integration = await get(tenant)
    assert not integration.HasField("version_details")
    assert integration.status == INTEGRATION_STATUS_PENDING
    assert "changed" in integration.status_description


async def test_a_partner_that_wants_its_token_plain_is_found_out_once(tenant: Tenant, party: OcpiPartner) -> None:
    party.authorization, party.versions, party.role = "Token token-a", ("2.1.1",), None
    await registered(tenant, ocpi(party))
    integration = await get(tenant)
    assert integration.ocpi.plain_authorization
    assert integration.version_details.version == "2.1.1"
    assert {each.role for each in integration.version_details.endpoints} == {INTERFACE_ROLE_UNSPECIFIED}
    assert len(party.requests) == 3
    await run(tenant, RUN_KIND_CREDENTIALS)
    assert len(party.requests) == 5


async def test_a_token_that_is_refused_in_both_forms_is_refused(tenant: Tenant, party: OcpiPartner) -> None:
    exchanged = await registered(tenant, ocpi(party, token="token-b"))
    assert (outcome(exchanged), steps(exchanged)) == ("PARTNER_CREDENTIAL_REFUSED", {"versions": FAILED})
    assert not (await get(tenant)).ocpi.plain_authorization
    assert "token-b" not in f"{exchanged}{await get(tenant)}"


def said(status_code: int, data: Any = None) -> dict[str, Any]:
    return {"status_code": status_code, "status_message": "canary-4711"} | ({} if data is None else {"data": data})


ELSEWHERE = "http://elsewhere.example/ocpi"
MODULE = {"identifier": "credentials", "role": "SENDER", "url": ELSEWHERE}
# Path, the partner's answer there, the step that fails with it, the reason.
ANSWERS: dict[str, tuple[str, Any, str, str]] = {
    "bad request": ("versions", said(2001), "versions", "PARTNER_REJECTED"),
    "server error": ("versions", said(3000), "versions", "PARTNER_FAULT"),
    "a hub's timeout": ("versions", said(4002), "versions", "PARTNER_UNAVAILABLE"),
    "no envelope": ("versions", [], "versions", "PARTNER_FAULT"),
    "no status": ("versions", {"data": []}, "versions", "PARTNER_FAULT"),
    "no versions": ("versions", said(1000), "versions", "PARTNER_FAULT"),
    "no common version": ("versions", said(1000, [{"version": "2.0", "url": ELSEWHERE}]), "versions", "PARTNER_FAULT"),
    "elsewhere": ("versions", said(1000, [{"version": "2.2.1", "url": ELSEWHERE}]), "details", "EGRESS_DENIED"),
    "unknown": ("2.2.1", said(2003), "details", "PARTNER_NOT_FOUND"),
    "a code of nobody": ("2.2.1", said(-7), "details", "PARTNER_FAULT"),
    "modules elsewhere": ("2.2.1", said(1900, {"endpoints": [MODULE]}), "details", "EGRESS_DENIED"),
    "no modules": ("2.2.1", said(1000, {"endpoints": []}), "details", "PARTNER_FAULT"),
}


@pytest.mark.parametrize(("path", "answer", "step", "reason"), ANSWERS.values(), ids=ANSWERS)
async def test_what_a_party_answers_instead_becomes_a_typed_error(
    tenant: Tenant, party: OcpiPartner, path: str, answer: Any, step: str, reason: str
) -> None:
    party.own[f"/ocpi/{path}"] = answer
    exchanged = await registered(tenant, ocpi(party))
    assert (outcome(exchanged), exchanged.steps[-1].name, exchanged.steps[-1].state) == (reason, step, FAILED)
    integration = await get(tenant)
    assert not integration.HasField("version_details")
    assert integration.status_description == exchanged.description
    assert "canary" not in f"{exchanged}{integration}"
    if reason == "EGRESS_DENIED":
        assert "elsewhere.example" in integration.status_description


async def test_where_the_partner_begins_there_is_nothing_to_do_yet(tenant: Tenant, party: OcpiPartner) -> None:
    exchanged = await registered(tenant, ocpi(party, INTERFACE_ROLE_RECEIVER))
    assert (outcome(exchanged), party.requests) == ("RUN_UNSUPPORTED", [])


@pytest.mark.parametrize("we_begin", [True, False])
async def test_with_both_roles_we_begin_when_there_is_an_endpoint(
    tenant: Tenant, party: OcpiPartner, we_begin: bool
) -> None:
    integration = ocpi(party, INTERFACE_ROLE_BOTH)
    integration.charging_period_interval_minutes = 0
    if not we_begin:
        integration.ocpi.ClearField("endpoint_url")
    exchanged = await registered(tenant, integration)
    assert (outcome(exchanged), bool(party.requests)) == ("RUN_UNSUPPORTED", we_begin)
    stored = await get(tenant)
    assert stored.ocpi.initial_role == INTERFACE_ROLE_BOTH
    assert stored.HasField("charging_period_interval_minutes")


async def test_a_diagnosis_of_a_party_reads_its_versions(tenant: Tenant, party: OcpiPartner) -> None:
    await create(tenant, ocpi(party))
    assert outcome(await run(tenant, RUN_KIND_DIAGNOSE)) == "OK"
    assert [path for path, _ in party.requests] == ["/ocpi/versions"]
    party.own["/ocpi/versions"] = said(3001)
    failed = await run(tenant, RUN_KIND_DIAGNOSE)
    assert (outcome(failed), steps(failed)["answer"]) == ("PARTNER_FAULT", FAILED)

"""Registering with a party that is none of ours: what it may answer, and what a run tells of that."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from aiohttp import web
from evbridge.partner.ocpi.v2.locations_pb2 import ListLocationsRequest
from evbridge.partner.ocpi.v2.locations_pb2_grpc import LocationsSenderServiceStub
from evbridge.v1 import error_reason_pb2 as reasons
from evbridge.v1.integration_pb2 import (
    INTEGRATION_STATUS_ACTIVE,
    INTEGRATION_STATUS_FAILED,
    INTEGRATION_STATUS_PENDING,
    INTEGRATION_STATUS_SUSPENDED,
    INTEGRATION_STATUS_UNREGISTERED,
    CreateIntegrationRequest,
    GetIntegrationRequest,
    Integration,
    IntegrationModels,
    UpdateIntegrationRequest,
)
from evbridge.v1.ocpi_connection_pb2 import (
    INTERFACE_ROLE_BOTH,
    INTERFACE_ROLE_RECEIVER,
    INTERFACE_ROLE_SENDER,
    INTERFACE_ROLE_UNSPECIFIED,
    OcpiConnection,
)
from evbridge.v1.party_pb2 import PARTY_ROLE_EMSP, CreatePartyRequest, PartyKey
from evbridge.v1.registration_pb2 import (
    IssueInitialTokenRequest,
    RegisterIntegrationRequest,
    RotateCredentialsRequest,
    UnregisterIntegrationRequest,
)
from evbridge.v1.run_pb2 import (
    RUN_KIND_CREDENTIALS,
    RUN_KIND_DIAGNOSE,
    RUN_STATE_FAILED,
    RUN_STEP_STATE_FAILED,
    RUN_STEP_STATE_SKIPPED,
    RUN_STEP_STATE_SUCCEEDED,
    Run,
    StartRunRequest,
    WaitRunRequest,
)
from google.protobuf.field_mask_pb2 import FieldMask

from service.partners.ocpi.checks import CHECKS
from tests.conftest import Tenant
from tests.front_door import a_party, an_integration_of, fails
from tests.partners import OcpiPartner

SUCCEEDED, FAILED, SKIPPED = RUN_STEP_STATE_SUCCEEDED, RUN_STEP_STATE_FAILED, RUN_STEP_STATE_SKIPPED
ID = "crm"


@pytest.fixture
async def party() -> AsyncIterator[OcpiPartner]:
    async with OcpiPartner().listening() as listening:
        yield listening


@pytest.fixture
async def ours(tenant: Tenant) -> Tenant:
    """A tenant that is the party DE*ABC."""
    await tenant.admin.parties.CreateParty(CreatePartyRequest(party=a_party()))
    return tenant


def ocpi(party: OcpiPartner, role: Any = INTERFACE_ROLE_SENDER, token: str = "token-a", **more: Any) -> Integration:
    connection = OcpiConnection(endpoint_url=f"{party.url}/ocpi/versions", initial_role=role, initial_token=token)
    parties = [PartyKey(country_code="DE", party_id="ABC")]
    return an_integration_of("ocpi", token, **{"id": ID, "parties": parties, "ocpi": connection, **more})


async def get(tenant: Tenant) -> Integration:
    return await tenant.reader.integrations.GetIntegration(GetIntegrationRequest(id=ID))


async def ended(tenant: Tenant, run: Run) -> Run:
    return await tenant.reader.runs.WaitRun(WaitRunRequest(id=run.id))


async def create(tenant: Tenant, integration: Integration) -> None:
    await tenant.admin.integrations.CreateIntegration(CreateIntegrationRequest(integration=integration))


async def register(tenant: Tenant, integration: Integration | None = None) -> Run:
    if integration:
        await create(tenant, integration)
    request = RegisterIntegrationRequest(integration_id=ID)
    return await ended(tenant, await tenant.admin.registration.RegisterIntegration(request))


async def rotate(tenant: Tenant, **more: Any) -> Run:
    request = RotateCredentialsRequest(integration_id=ID, **more)
    return await ended(tenant, await tenant.admin.registration.RotateCredentials(request))


async def unregister(tenant: Tenant) -> Run:
    request = UnregisterIntegrationRequest(integration_id=ID)
    return await ended(tenant, await tenant.admin.registration.UnregisterIntegration(request))


def outcome(run: Run) -> str:
    return reasons.ErrorReason.Name(run.reason) if run.state == RUN_STATE_FAILED else "OK"


def steps(run: Run) -> dict[str, int]:
    return {step.name: step.state for step in run.steps}


ALL = dict.fromkeys(["versions", "details", "credentials", "confirmation"], SUCCEEDED)


async def test_we_register_with_the_highest_version_and_store_what_the_party_says(
    ours: Tenant, party: OcpiPartner
) -> None:
    run = await register(ours, ocpi(party))
    assert (run.kind, outcome(run), steps(run)) == (RUN_KIND_CREDENTIALS, "OK", ALL)
    paths = ["/ocpi/versions", "/ocpi/2.3.0", "/ocpi/credentials", "/ocpi/credentials"]
    assert [path for path, _ in party.requests] == paths
    assert [step.url.removeprefix(party.url) for step in run.steps] == paths
    ids = [headers[name] for _, headers in party.requests for name in ("X-Request-ID", "X-Correlation-ID")]
    assert len(set(ids)) == 8
    integration = await get(ours)
    assert (integration.status, integration.status_description) == (INTEGRATION_STATUS_ACTIVE, "")
    details = integration.version_details
    assert details.version == "2.3.0"
    assert [(each.identifier, each.role, each.url) for each in details.endpoints] == [
        (module, INTERFACE_ROLE_SENDER, f"{party.url}/ocpi/{module}")
        for module in ("credentials", "locations", "de-abc-own")
    ]
    (company,) = integration.partner_company_details
    assert (company.country_code, company.party_id, company.business_details.name) == ("NL", "TNM", "The New")
    assert company.role == PARTY_ROLE_EMSP
    connection = integration.ocpi
    assert (connection.our_token_set, connection.their_token_set, connection.initial_token_set) == (True, True, False)
    assert connection.partner_versions_url == f"{party.url}/ocpi/versions"
    ((sent),) = party.credentials
    assert sent["url"].endswith("/ocpi/versions") and sent["token"].startswith("evbo_")
    role = {"role": "CPO", "country_code": "DE", "party_id": "ABC", "business_details": {"name": "Wattwerk"}}
    assert sent["roles"] == [role]
    for secret in (sent["token"], "token-a", "token-c"):
        assert secret not in f"{run}{integration}"


async def test_2_1_1_knows_one_party_and_no_roles(ours: Tenant, party: OcpiPartner) -> None:
    party.versions, party.role = ("2.1.1",), None
    role = {"country_code": "NL", "party_id": "TNM", "business_details": {"name": "The New"}}
    data = {"token": "token-c", "url": f"{party.url}/ocpi/versions"} | role
    party.own["POST /ocpi/credentials"] = said(1000, data)
    assert outcome(await register(ours, ocpi(party))) == "TOKEN_REJECTED"  # the party does not know "token-c"
    integration = await get(ours)
    assert {each.role for each in integration.version_details.endpoints} == {INTERFACE_ROLE_UNSPECIFIED}
    (company,) = integration.partner_company_details
    assert (company.party_id, company.role) == ("TNM", PARTY_ROLE_EMSP)


async def test_it_is_retried_by_the_flag_of_an_update(ours: Tenant, party: OcpiPartner) -> None:
    await create(ours, ocpi(party))
    patch = Integration(id=ID, display_name="x")
    request = UpdateIntegrationRequest(integration=patch, retry_credentials_exchange=True)
    updated = await ours.admin.integrations.UpdateIntegration(request)
    assert outcome(await ours.reader.runs.WaitRun(WaitRunRequest(id=updated.latest_run_id))) == "OK"
    assert (await get(ours)).status == INTEGRATION_STATUS_ACTIVE


async def test_a_registration_outlasts_an_update_and_is_brought_up_to_date_by_put(
    ours: Tenant, party: OcpiPartner
) -> None:
    party.versions = ("2.2.1",)
    await register(ours, ocpi(party))
    patch = Integration(id=ID, display_name="x")
    updated = await ours.admin.integrations.UpdateIntegration(UpdateIntegrationRequest(integration=patch))
    assert updated.ocpi.our_token_set and updated.ocpi.their_token_set
    party.versions = ("2.2.1", "2.3.0")
    assert outcome(await register(ours)) == "OK"
    assert (await get(ours)).version_details.version == "2.3.0"
    assert len({each["token"] for each in party.credentials}) == 2


async def test_a_registration_outlasts_a_pause(ours: Tenant, party: OcpiPartner) -> None:
    await register(ours, ocpi(party))
    for enabled, status in ((False, INTEGRATION_STATUS_SUSPENDED), (True, INTEGRATION_STATUS_ACTIVE)):
        request = UpdateIntegrationRequest(integration=Integration(id=ID, enabled=enabled))
        request.update_mask.paths.append("enabled")
        assert (await ours.admin.integrations.UpdateIntegration(request)).status == status


@dataclass
class Interrupted(OcpiPartner):
    """While it answers what its version is, `meanwhile` happens."""

    meanwhile: Callable[[], Awaitable[Any]] = field(kw_only=True)

    async def answer(self, request: web.Request) -> web.Response:
        if request.path == "/ocpi/2.3.0":
            await self.meanwhile()
        return await super().answer(request)


async def test_what_a_partner_says_is_forgotten_when_its_integration_leads_elsewhere_meanwhile(ours: Tenant) -> None:
    async def change() -> None:
        elsewhere = OcpiConnection(endpoint_url="http://127.0.0.1:9/ocpi/versions", initial_token="token-b")
        request = UpdateIntegrationRequest(integration=Integration(id=ID, ocpi=elsewhere))
        await ours.admin.integrations.UpdateIntegration(request)

    async with Interrupted(meanwhile=change).listening() as party:
        assert outcome(await register(ours, ocpi(party))) == "ETAG_MISMATCH"
    assert not party.credentials
    integration = await get(ours)
    assert not integration.HasField("version_details")
    assert integration.status == INTEGRATION_STATUS_PENDING
    assert "changed" in integration.status_description


async def test_a_partner_that_wants_its_token_plain_is_found_out_once(ours: Tenant, party: OcpiPartner) -> None:
    party.authorization = "Token token-a"
    assert outcome(await register(ours, ocpi(party))) == "OK"
    assert (await get(ours)).ocpi.plain_authorization
    assert len(party.requests) == 5
    assert outcome(await rotate(ours)) == "OK"
    assert len(party.requests) == 9


async def test_a_partner_that_decodes_its_token_only_where_it_lists_its_versions_is_found_out(ours: Tenant) -> None:
    async def wants_it_plain() -> None:
        party.authorization = "Token token-a"

    async with Interrupted(meanwhile=wants_it_plain).listening() as party:
        assert outcome(await register(ours, ocpi(party))) == "OK"
    assert (await get(ours)).ocpi.plain_authorization
    paths = ["/ocpi/versions", "/ocpi/2.3.0", "/ocpi/2.3.0", "/ocpi/credentials", "/ocpi/credentials"]
    assert [path for path, _ in party.requests] == paths


async def test_a_token_that_is_refused_in_both_forms_is_refused(ours: Tenant, party: OcpiPartner) -> None:
    run = await register(ours, ocpi(party, token="token-b"))
    assert (outcome(run), steps(run)) == ("TOKEN_REJECTED", {"versions": FAILED})
    (step,) = run.steps
    assert (step.http_status, step.reason, step.url) == (401, run.reason, f"{party.url}/ocpi/versions")
    assert "first token" in step.next_action
    integration = await get(ours)
    assert (integration.status, integration.status_description) == (INTEGRATION_STATUS_FAILED, run.description)
    assert not integration.ocpi.plain_authorization
    assert "token-b" not in f"{run}{integration}"


def said(status_code: int, data: Any = None) -> dict[str, Any]:
    return {"status_code": status_code, "status_message": "canary-4711"} | ({} if data is None else {"data": data})


ELSEWHERE = "http://elsewhere.invalid/ocpi"
INSIDE = "http://10.0.0.1/ocpi"


def module(url: str) -> dict[str, str]:
    return {"identifier": "credentials", "role": "SENDER", "url": url}


ROLE = {"role": "CPO", "country_code": "NL", "party_id": "TNM"}
REGISTERED = {"token": "token-c", "url": ELSEWHERE, "roles": [ROLE]}
# What the partner answers, and to what; the step that fails with it; the reason.
ANSWERS: dict[str, tuple[str, Any, str, str]] = {
    "bad request": ("/ocpi/versions", said(2001), "versions", "PARTNER_REJECTED"),
    "server error": ("/ocpi/versions", said(3000), "versions", "PARTNER_FAULT"),
    "a hub's timeout": ("/ocpi/versions", said(4002), "versions", "PARTNER_UNAVAILABLE"),
    "no envelope": ("/ocpi/versions", [], "versions", "PARTNER_FAULT"),
    "no status": ("/ocpi/versions", {"data": []}, "versions", "PARTNER_FAULT"),
    "no versions": ("/ocpi/versions", said(1000), "versions", "NO_COMMON_VERSION"),
    "old": ("/ocpi/versions", said(1000, [{"version": "2.0", "url": ELSEWHERE}]), "versions", "NO_COMMON_VERSION"),
    "elsewhere": (
        "/ocpi/versions",
        said(1000, [{"version": "2.2.1", "url": ELSEWHERE}]),
        "details",
        "PARTNER_UNAVAILABLE",
    ),
    "inside": ("/ocpi/versions", said(1000, [{"version": "2.2.1", "url": INSIDE}]), "details", "EGRESS_DENIED"),
    "unknown": ("/ocpi/2.3.0", said(2003), "details", "PARTNER_NOT_FOUND"),
    "a code of nobody": ("/ocpi/2.3.0", said(-7), "details", "PARTNER_FAULT"),
    "a module inside": ("/ocpi/2.3.0", said(1900, {"endpoints": [module(INSIDE)]}), "details", "ENDPOINT_MISSING"),
    "a module of ftp": ("/ocpi/2.3.0", said(1000, {"endpoints": [module("ftp://x")]}), "details", "ENDPOINT_MISSING"),
    "no modules": ("/ocpi/2.3.0", said(1000, {"endpoints": []}), "details", "ENDPOINT_MISSING"),
    "no call back": ("POST /ocpi/credentials", said(3001), "credentials", "CALLBACK_FAILED"),
    "no such version": ("POST /ocpi/credentials", said(3002), "credentials", "NO_COMMON_VERSION"),
    "no module of ours": ("POST /ocpi/credentials", said(3003), "credentials", "ENDPOINT_MISSING"),
    "no token": ("POST /ocpi/credentials", said(1000, REGISTERED | {"token": ""}), "credentials", "PARTNER_FAULT"),
    "a token of lines": (
        "POST /ocpi/credentials",
        said(1000, REGISTERED | {"token": "a\nb"}),
        "credentials",
        "PARTNER_FAULT",
    ),
    "nobody": ("POST /ocpi/credentials", said(1000, REGISTERED | {"roles": []}), "credentials", "PARTNER_FAULT"),
    "no company": ("POST /ocpi/credentials", said(1000, REGISTERED), "credentials", "PARTNER_FAULT"),
}


@pytest.mark.parametrize(("path", "answer", "step", "reason"), ANSWERS.values(), ids=ANSWERS)
async def test_what_a_party_answers_instead_becomes_a_typed_error(
    ours: Tenant, party: OcpiPartner, path: str, answer: Any, step: str, reason: str
) -> None:
    party.own[path] = answer
    run = await register(ours, ocpi(party))
    assert (outcome(run), run.steps[-1].name, run.steps[-1].state) == (reason, step, FAILED)
    assert run.steps[-1].reason == run.reason
    code = answer.get("status_code", 0) if isinstance(answer, dict) else 0
    assert run.steps[-1].ocpi_status == (code if code >= 2000 else 0)
    integration = await get(ours)
    assert not integration.HasField("version_details")
    assert integration.status_description == run.description
    assert "canary" not in f"{run}{integration}"
    if reason != "PARTNER_FAULT":
        assert run.steps[-1].next_action


async def test_a_party_that_holds_us_for_registered_says_so_with_405(ours: Tenant, party: OcpiPartner) -> None:
    party.own["POST /ocpi/credentials"] = web.json_response(said(2000), status=405)
    run = await register(ours, ocpi(party))
    assert (outcome(run), run.steps[-1].http_status) == ("ALREADY_REGISTERED", 405)
    party.own.clear()
    assert outcome(await register(ours)) == "OK"
    party.own["PUT /ocpi/credentials"] = web.json_response(said(2000), status=405)
    assert outcome(await rotate(ours)) == "NOT_REGISTERED"


async def test_a_new_address_with_a_first_token_counts_before_what_the_partner_said(
    ours: Tenant, party: OcpiPartner
) -> None:
    await register(ours, ocpi(party))
    party.authorization = OcpiPartner.authorization
    moved = OcpiConnection(endpoint_url=f"{party.url}/new/versions", initial_token="token-a")
    patch = Integration(id=ID, ocpi=moved)
    await ours.admin.integrations.UpdateIntegration(UpdateIntegrationRequest(integration=patch))
    party.own["POST /ocpi/credentials"] = said(
        1000, {"token": "token-c", "url": INSIDE, "roles": [ROLE | {"business_details": {"name": "The New"}}]}
    )
    party.requests.clear()
    await register(ours)
    assert party.requests[0][0] == "/new/versions"
    # What the partner says of itself is not called when it leads inside.
    assert (await get(ours)).ocpi.partner_versions_url == f"{party.url}/new/versions"


async def test_what_we_are_to_pull_has_to_be_offered(ours: Tenant, party: OcpiPartner) -> None:
    models = IntegrationModels(pull_location=True, pull_tariff=True)
    run = await register(ours, ocpi(party, models=models))
    assert (outcome(run), steps(run)) == ("ENDPOINT_MISSING", {"versions": SUCCEEDED, "details": FAILED})
    assert "no tariffs" in run.description and "locations" not in run.description
    assert not party.credentials


async def test_a_party_stays_while_the_partner_is_registered(ours: Tenant, party: OcpiPartner) -> None:
    await register(ours, ocpi(party))
    nobody = UpdateIntegrationRequest(integration=Integration(id=ID), update_mask=FieldMask(paths=["parties"]))
    failure = await fails(ours.admin.integrations.UpdateIntegration(nobody))
    assert (failure.reason, [*failure.violations]) == ("INVALID_FIELD", ["integration.parties"])
    await unregister(ours)
    assert not (await ours.admin.integrations.UpdateIntegration(nobody)).parties


async def test_modules_on_other_hosts_are_called_and_shown(ours: Tenant, party: OcpiPartner) -> None:
    async with OcpiPartner().listening() as other:
        endpoints = [
            module(f"{other.url}/ocpi/credentials"),
            {"identifier": "tariffs", "role": "SENDER", "url": "http://10.0.0.1/tariffs"},
        ]
        party.own["/ocpi/2.3.0"] = said(1000, {"version": "2.3.0", "endpoints": endpoints})
        assert outcome(await register(ours, ocpi(party))) == "OK"
        assert [path for path, _ in other.requests] == ["/ocpi/credentials"] * 2
        shown = (await get(ours)).version_details.endpoints
        assert [each.url for each in shown] == [f"{other.url}/ocpi/credentials"]


async def test_without_a_token_or_a_party_of_ours_nothing_is_asked(ours: Tenant, party: OcpiPartner) -> None:
    integration = ocpi(party, INTERFACE_ROLE_RECEIVER)
    integration.ocpi.ClearField("initial_token")
    run = await register(ours, integration)
    assert (outcome(run), party.requests) == ("NOT_REGISTERED", [])
    nobody = ocpi(party, id="nobody", parties=[])
    await create(ours, nobody)
    request = RegisterIntegrationRequest(integration_id="nobody")
    run = await ended(ours, await ours.admin.registration.RegisterIntegration(request))
    assert (outcome(run), party.requests) == ("INTEGRATION_HAS_NO_PARTY", [])
    failure = await fails(ours.admin.registration.IssueInitialToken(IssueInitialTokenRequest(integration_id="nobody")))
    assert (failure.code, failure.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "INTEGRATION_HAS_NO_PARTY")


@pytest.mark.parametrize("name", ["IssueInitialToken", "RegisterIntegration", "RotateCredentials"])
async def test_only_ocpi_parties_register(tenant: Tenant, name: str) -> None:
    await create(tenant, an_integration_of("chargeprice", id=ID))
    requests = {
        "IssueInitialToken": IssueInitialTokenRequest,
        "RegisterIntegration": RegisterIntegrationRequest,
        "RotateCredentials": RotateCredentialsRequest,
    }
    failure = await fails(getattr(tenant.admin.registration, name)(requests[name](integration_id=ID)))
    assert (failure.code, failure.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "RUN_UNSUPPORTED")


async def test_both_roles_and_a_field_of_zero_are_kept(ours: Tenant, party: OcpiPartner) -> None:
    integration = ocpi(party, INTERFACE_ROLE_BOTH, charging_period_interval_minutes=0)
    assert outcome(await register(ours, integration)) == "OK"
    stored = await get(ours)
    assert stored.ocpi.initial_role == INTERFACE_ROLE_BOTH
    assert stored.HasField("charging_period_interval_minutes")


async def test_unregistering_tells_the_party_and_forgets_it_in_any_case(ours: Tenant, party: OcpiPartner) -> None:
    await register(ours, ocpi(party))
    assert steps(await unregister(ours)) == {"credentials": SUCCEEDED, "removal": SUCCEEDED}
    assert party.requests[-1][0] == "/ocpi/credentials"
    for _ in range(2):
        integration = await get(ours)
        assert integration.status == INTEGRATION_STATUS_UNREGISTERED
        assert not (integration.ocpi.our_token_set or integration.ocpi.their_token_set)
        assert not (integration.HasField("version_details") or integration.partner_company_details)
        run = await unregister(ours)
        assert (outcome(run), steps(run)) == ("OK", {"credentials": SKIPPED, "removal": SUCCEEDED})
    party.authorization = OcpiPartner.authorization
    patch = Integration(id=ID, ocpi=OcpiConnection(initial_token="token-a"))
    await ours.admin.integrations.UpdateIntegration(UpdateIntegrationRequest(integration=patch))
    assert outcome(await register(ours)) == "OK"
    party.own["DELETE /ocpi/credentials"] = said(3000)
    run = await unregister(ours)
    assert (outcome(run), steps(run)) == ("OK", {"credentials": SKIPPED, "removal": SUCCEEDED})


async def test_a_diagnosis_tells_what_a_party_does_before_it_is_registered(tenant: Tenant, party: OcpiPartner) -> None:
    await create(tenant, ocpi(party, parties=[]))

    async def diagnosed() -> Run:
        request = StartRunRequest(integration_id=ID, kind=RUN_KIND_DIAGNOSE)
        return await ended(tenant, await tenant.writer.runs.StartRun(request))

    run = await diagnosed()
    assert outcome(run) == "OK"
    found = steps(run)
    assert [*found][:4] == ["address", "credential", "answer", "duration"]
    assert [*found][4:] == [check.id for check in CHECKS]
    assert (found["token.wrong"], found["details.roles"], found["answers.request-id"]) == (SUCCEEDED, SUCCEEDED, FAILED)
    (refused,) = (step for step in run.steps if step.name == "details.answer")
    assert refused.state == SUCCEEDED, refused
    (unrepeated,) = (step for step in run.steps if step.name == "answers.request-id")
    assert unrepeated.description.startswith("FAIL: versions: none")
    assert unrepeated.next_action == "Repeat the header of the request in the answer."
    party.own["/ocpi/versions"] = said(3001)
    failed = await diagnosed()
    assert (outcome(failed), steps(failed)["answer"]) == ("PARTNER_FAULT", FAILED)


async def test_a_platform_lends_its_token_to_the_parties_behind_it(
    ours: Tenant, party: OcpiPartner, channel: grpc.aio.Channel
) -> None:
    await register(ours, ocpi(party))
    behind = OcpiConnection(
        initial_role=INTERFACE_ROLE_BOTH,
        platform_integration_id=ID,
        platform_party_country_code="FR",
        platform_party_id="XYZ",
    )
    parties = [PartyKey(country_code="DE", party_id="ABC")]
    await create(ours, an_integration_of("ocpi", "", id="behind", parties=parties, ocpi=behind))
    assert (await ours.reader.integrations.GetIntegration(GetIntegrationRequest(id="behind"))).ocpi.platform_integration
    party.own["/ocpi/locations"] = said(1000, [{"id": "L1"}])
    stub: Any = LocationsSenderServiceStub(channel)
    metadata = (("authorization", f"Bearer {ours.keys['reader']}"),)
    url = f"{party.url}/ocpi/locations"
    answer = await stub.ListLocations(ListLocationsRequest(integration_id="behind", url=url), metadata=metadata)
    assert [each["id"] for each in answer.data] == ["L1"]
    path, headers = party.requests[-1]
    assert (path, headers["Authorization"]) == ("/ocpi/locations", party.authorization)
    names = ("OCPI-from-country-code", "OCPI-from-party-id", "OCPI-to-country-code", "OCPI-to-party-id")
    assert [headers[name] for name in names] == ["DE", "ABC", "FR", "XYZ"]
    # To who is itself the party, the same; to versions and credentials, none.
    await stub.ListLocations(ListLocationsRequest(integration_id=ID, url=url), metadata=metadata)
    assert [party.requests[-1][1][name] for name in names] == ["DE", "ABC", "NL", "TNM"]
    assert not any(name in headers for _, headers in party.requests[:-2] for name in names)
    failure = await fails(
        ours.admin.registration.RegisterIntegration(RegisterIntegrationRequest(integration_id="behind"))
    )
    assert failure.reason == "RUN_UNSUPPORTED"

"""Integrations with the partners that `evbridge simulate` plays: OCPI parties, Salesforce and Utility Cloud."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from evbridge.partner.ocpi.v2 import versions_pb2 as versions
from evbridge.partner.ocpi.v2.versions_pb2_grpc import VersionsServiceStub
from evbridge.v1.cdr_pb2 import CDR_AUDIT_STATE_EQUAL, ListCdrsRequest
from evbridge.v1.error_reason_pb2 import ErrorReason
from evbridge.v1.integration_pb2 import (
    INTEGRATION_STATUS_ACTIVE,
    INTEGRATION_STATUS_FAILED,
    CreateIntegrationRequest,
    GetIntegrationRequest,
    Integration,
    IntegrationModels,
)
from evbridge.v1.location_pb2 import (
    EVSE_STATUS_CHARGING,
    CreateLocationRequest,
    EvseStatusReport,
    LocationKey,
    ReportEvseStatusRequest,
)
from evbridge.v1.ocpi_connection_pb2 import INTERFACE_ROLE_SENDER, OcpiConnection
from evbridge.v1.party_pb2 import CreatePartyRequest
from evbridge.v1.publication_pb2 import CreatePublicationRuleRequest, DeletePublicationRuleRequest
from evbridge.v1.run_pb2 import RUN_KIND_CREDENTIALS, Run, StartRunRequest, WaitRunRequest
from evbridge.v1.salesforce_connection_pb2 import SalesforceConnection
from evbridge.v1.session_pb2 import ListSessionsRequest
from evbridge.v1.tariff_pb2 import CreateTariffRequest
from evbridge.v1.token_pb2 import ListTokensRequest
from evbridge.v1.utility_cloud_connection_pb2 import UtilityCloudConnection

from service.app import PARTNERS
from tests.circle import until
from tests.conftest import Tenant
from tests.front_door import (
    a_connector,
    a_location,
    a_party,
    a_rule,
    a_tariff,
    an_evse,
    an_integration_of,
    at_rest,
    fails,
)

KEY = "key-4711"


@pytest.fixture
async def simulated(request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    (partner,) = (each for each in PARTNERS if each.name == request.param)
    simulator = partner.simulator(api_key=KEY)
    await simulator.start()
    yield simulator
    await simulator.stop()


def ocpi(url: str, token: str) -> Integration:
    connection = OcpiConnection(
        endpoint_url=f"{url}/ocpi/versions", initial_role=INTERFACE_ROLE_SENDER, initial_token=token
    )
    return an_integration_of("ocpi", token, id="hub", ocpi=connection)


def salesforce(url: str, secret: str) -> Integration:
    connection = SalesforceConnection(endpoint_url=url, client_id="evbridge", client_secret=secret)
    return an_integration_of("salesforce", secret, id="crm", salesforce=connection)


def utility_cloud(url: str, secret: str) -> Integration:
    connection = UtilityCloudConnection(
        base_url=url, token_url=f"{url}/token", tenant="acme", client_id="a:b", client_secret=secret
    )
    return an_integration_of("utility_cloud", secret, id="crm", utility_cloud=connection)


async def exchanged(tenant: Tenant, integration: Integration) -> tuple[Run, Integration]:
    if integration.HasField("ocpi"):
        await tenant.admin.parties.CreateParty(CreatePartyRequest(party=a_party()))
        integration.parties.add(country_code="DE", party_id="ABC")
    request = CreateIntegrationRequest(integration=integration, activate_connection=not integration.HasField("ocpi"))
    run_id = (await tenant.admin.integrations.CreateIntegration(request)).latest_run_id
    if not run_id:
        start = StartRunRequest(integration_id=integration.id, kind=RUN_KIND_CREDENTIALS)
        run_id = (await tenant.writer.runs.StartRun(start)).id
    run = await tenant.reader.runs.WaitRun(WaitRunRequest(id=run_id))
    return run, await tenant.reader.integrations.GetIntegration(GetIntegrationRequest(id=integration.id))


@pytest.mark.parametrize("simulated", ["ocpi"], indirect=True)
async def test_an_ocpi_party_shows_its_versions_and_their_modules(
    tenant: Tenant, channel: grpc.aio.Channel, simulated: Any
) -> None:
    run, integration = await exchanged(tenant, ocpi(simulated.url, KEY))
    assert ErrorReason.Name(run.reason) == "ERROR_REASON_UNSPECIFIED", run
    assert integration.version_details.version == "2.2.1"
    assert [company.party_id for company in integration.partner_company_details] == ["SIM", "SIM"]
    stub: Any = VersionsServiceStub(channel)
    metadata = (("authorization", f"Bearer {tenant.keys['reader']}"),)
    request = versions.GetVersionDetailsRequest(integration_id="hub", url=f"{simulated.url}/ocpi/2.1.1")
    details = await stub.GetVersionDetails(request, metadata=metadata)
    assert details.data.version == "2.1.1"
    assert not any(each.HasField("role") for each in details.data.endpoints)
    unknown = versions.GetVersionDetailsRequest(integration_id="hub", url=f"{simulated.url}/ocpi/3.0")
    failed = await fails(stub.GetVersionDetails(unknown, metadata=metadata))
    assert (failed.code, failed.reason) == (grpc.StatusCode.NOT_FOUND, "PARTNER_NOT_FOUND")
    simulated.inject("9*ListVersions=status:503")
    busy = await fails(stub.ListVersions(versions.ListVersionsRequest(integration_id="hub"), metadata=metadata))
    assert busy.reason == "PARTNER_UNAVAILABLE"


@pytest.mark.parametrize("simulated", ["ocpi"], indirect=True)
async def test_an_ocpi_party_keeps_what_it_is_pushed(tenant: Tenant, simulated: Any) -> None:
    integration = ocpi(simulated.url, KEY)
    integration.models.MergeFrom(IntegrationModels(push_location=True, push_tariff=True))
    await exchanged(tenant, integration)
    await tenant.writer.tariffs.CreateTariff(CreateTariffRequest(tariff=a_tariff(id="T1")))
    place = a_location(id="L1", evses=[an_evse(connectors=[a_connector(tariff_ids=["T1"])])])
    await tenant.writer.locations.CreateLocation(CreateLocationRequest(location=place))
    shown = CreatePublicationRuleRequest(rule=a_rule(integration_id="hub", id="all"))
    await tenant.writer.publication.CreatePublicationRule(shown)
    await at_rest(tenant.reader, "hub")
    location, tariff = (f"/ocpi/2.2.1/{place}" for place in ("locations/DE/ABC/L1", "tariffs/DE/ABC/T1"))
    assert simulated.objects[tariff]["currency"] == "EUR"
    key = LocationKey(country_code="DE", party_id="ABC", id="L1")
    reports = [EvseStatusReport(location=key, evse_uid="E1", status=EVSE_STATUS_CHARGING)]
    await tenant.writer.locations.ReportEvseStatus(ReportEvseStatusRequest(reports=reports))
    await at_rest(tenant.reader, "hub")
    assert [evse["status"] for evse in simulated.objects[location]["evses"]] == ["CHARGING"]
    hidden = DeletePublicationRuleRequest(integration_id="hub", id="all")
    await tenant.writer.publication.DeletePublicationRule(hidden)
    await at_rest(tenant.reader, "hub")
    assert [evse["status"] for evse in simulated.objects[location]["evses"]] == ["REMOVED"]
    assert tariff not in simulated.objects


@pytest.mark.parametrize("simulated", ["ocpi"], indirect=True)
async def test_an_ocpi_party_has_a_token_a_session_and_a_cdr_that_is_right(tenant: Tenant, simulated: Any) -> None:
    integration = ocpi(simulated.url, KEY)
    lists = ("pull_tariff", "pull_location", "pull_tokens_all", "pull_session", "pull_cdr")
    integration.models.MergeFrom(IntegrationModels(**dict.fromkeys(lists, True)))
    await exchanged(tenant, integration)

    async def audited() -> bool:
        held = (await tenant.reader.cdrs.ListCdrs(ListCdrsRequest(integration_id="hub"))).cdrs
        return [each.audit.state for each in held] == [CDR_AUDIT_STATE_EQUAL]

    await until(audited)
    (session,) = (await tenant.reader.sessions.ListSessions(ListSessionsRequest(integration_id="hub"))).sessions
    (token,) = (await tenant.reader.tokens.ListTokens(ListTokensRequest(integration_id="hub"))).tokens
    assert (session.kwh.value, token.issuer) == ("20", "Simulated")


CONNECTIONS = {"salesforce": salesforce, "utility_cloud": utility_cloud}


@pytest.mark.parametrize(("simulated", "made"), CONNECTIONS.items(), indirect=["simulated"], ids=CONNECTIONS)
async def test_a_token_server_gives_out_tokens_to_its_client_alone(tenant: Tenant, simulated: Any, made: Any) -> None:
    _, integration = await exchanged(tenant, made(simulated.url, KEY))
    assert (integration.status, integration.status_description) == (INTEGRATION_STATUS_ACTIVE, "")
    stranger = made(simulated.url, "another")
    stranger.id = "stranger"
    run, integration = await exchanged(tenant, stranger)
    assert (ErrorReason.Name(run.reason), integration.status) == (
        "PARTNER_CREDENTIAL_REFUSED",
        INTEGRATION_STATUS_FAILED,
    )


@pytest.mark.parametrize("simulated", ["ocpi"], indirect=True)
async def test_an_ocpi_party_refuses_another_token(tenant: Tenant, simulated: Any) -> None:
    run, _ = await exchanged(tenant, ocpi(simulated.url, "another"))
    assert ErrorReason.Name(run.reason) == "TOKEN_REJECTED"

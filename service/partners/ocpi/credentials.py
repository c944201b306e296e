"""OCPI's exchange of credentials, as far as it goes without an endpoint of ours that the partner could call back.

Source: OCPI 2.2.1, versions and credentials. The steps: the partner's versions, the details of the highest one that
both sides speak, the registration.
"""

from evbridge.partner.ocpi.v2 import versions_pb2 as ocpi
from evbridge.partner.ocpi.v2.versions_pb2_grpc import VersionsServiceStub
from evbridge.v1.integration_pb2 import Integration, IntegrationType
from evbridge.v1.ocpi_connection_pb2 import (
    INTERFACE_ROLE_RECEIVER,
    INTERFACE_ROLE_UNSPECIFIED,
    InterfaceRole,
    VersionDetails,
)
from evbridge.v1.run_pb2 import RunKind

from service.bridge.addresses import check_given
from service.bridge.channel import TENANT_METADATA
from service.errors import PartnerCredentialRefused, PartnerFault, RunUnsupported
from service.runs.connecting import Find, connecting
from service.runs.worker import Progress, Tools
from service.storage.integration import integration_get
from service.storage.run import RunClaim

VERSIONS = ("2.2.1", "2.1.1")
"""Those that we speak, the highest first."""
_MAX_ENDPOINTS = 100
_MAX_CHARACTERS = 255


class Credentials:
    """Reads what the partner has with the first token (CREDENTIALS_TOKEN_A)."""

    def __init__(self, tools: Tools) -> None:
        self._database = tools.database
        self._stub = tools.channel.stub(VersionsServiceStub)

    async def execute(self, run: RunClaim, progress: Progress) -> None:
        """Raises what the channel raises, EgressDenied for a URL elsewhere, RunUnsupported at the latest in the end."""
        async with connecting(self._database, run) as find:
            progress.count(0, 3, "reads the versions")
            progress.begin("versions")
            stored = await integration_get(self._database, run.tenant_id, run.integration_id)
            connection = Integration.FromString(stored).ocpi
            if connection.initial_role == INTERFACE_ROLE_RECEIVER or not connection.endpoint_url:
                raise _unsupported(
                    run, "the partner begins, and this server has no OCPI endpoint that it could call yet"
                )
            version = _highest(await self._versions(run, find, plain_authorization=connection.plain_authorization))
            progress.count(1, 3, f"reads the details of {version.version}")
            progress.begin("details", f"version {version.version}")
            request = ocpi.GetVersionDetailsRequest(integration_id=run.integration_id, url=version.url)
            reply = await self._stub.GetVersionDetails(request, metadata=_metadata(run))
            details = _details(version.version, reply.data, connection.endpoint_url)
            await find(lambda integration: integration.version_details.CopyFrom(details))
            progress.count(2, 3, "registers")
            progress.begin("registration")
            raise _unsupported(run, "this server has no OCPI endpoint that the partner could call back yet")

    async def _versions(self, run: RunClaim, find: Find, *, plain_authorization: bool) -> ocpi.VersionsResponse:
        """Read with the token in the form that was found out, else in the other one, which is remembered then."""
        request = ocpi.ListVersionsRequest(integration_id=run.integration_id)
        try:
            return await self._stub.ListVersions(request, metadata=_metadata(run))
        except PartnerCredentialRefused as refusal:
            await _remember(find, plain_authorization=not plain_authorization)
            try:
                return await self._stub.ListVersions(request, metadata=_metadata(run))
            except PartnerCredentialRefused:
                await _remember(find, plain_authorization=plain_authorization)
                raise refusal from None


async def _remember(find: Find, *, plain_authorization: bool) -> None:
    def change(integration: Integration) -> None:
        integration.ocpi.plain_authorization = plain_authorization

    await find(change)


def _metadata(run: RunClaim) -> tuple[tuple[str, str], ...]:
    return ((TENANT_METADATA, run.tenant_id),)


def _highest(reply: ocpi.VersionsResponse) -> ocpi.Version:
    """Raises PartnerFault when the partner speaks none of ours."""
    spoken = {version.version: version for version in reply.data}
    for number in VERSIONS:
        if number in spoken:
            return spoken[number]
    raise PartnerFault(f"the partner speaks none of OCPI {', '.join(VERSIONS)}", partner="ocpi", http_status=200)


def _details(version: str, data: ocpi.VersionDetails, endpoint_url: str) -> VersionDetails:
    """Raises EgressDenied for an endpoint on another origin than the versions', PartnerFault for no sound list."""
    details = VersionDetails(version=version)
    for endpoint in data.endpoints:
        check_given(endpoint.url, endpoint_url)
        role = f"INTERFACE_ROLE_{endpoint.role}"
        details.endpoints.add(
            identifier=endpoint.identifier,
            role=InterfaceRole.Value(role) if role in InterfaceRole.keys() else INTERFACE_ROLE_UNSPECIFIED,  # noqa: SIM118
            url=endpoint.url,
        )
    texts = [text for endpoint in details.endpoints for text in (endpoint.identifier, endpoint.url)]
    sound = all(text.isprintable() and 0 < len(text) <= _MAX_CHARACTERS for text in texts)
    if not texts or len(details.endpoints) > _MAX_ENDPOINTS or not sound:
        raise PartnerFault("the details of the version hold no sound list of modules", partner="ocpi", http_status=200)
    return details


def _unsupported(run: RunClaim, message: str) -> RunUnsupported:
    return RunUnsupported(message, kind=RunKind.Name(run.kind), type=IntegrationType.Name(run.type))

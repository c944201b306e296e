"""evbridge.v1.RegistrationService."""

from datetime import datetime
from uuid import uuid4

from evbridge.v1.integration_pb2 import Integration
from evbridge.v1.registration_pb2 import (
    IssueInitialTokenRequest,
    IssueInitialTokenResponse,
    ListPartnerTokensRequest,
    ListPartnerTokensResponse,
    RegisterIntegrationRequest,
    RotateCredentialsRequest,
    UnregisterIntegrationRequest,
)
from evbridge.v1.run_pb2 import (
    CREDENTIALS_ACTION_REGISTER,
    CREDENTIALS_ACTION_ROTATE,
    CREDENTIALS_ACTION_UNREGISTER,
    RUN_KIND_CREDENTIALS,
    CredentialsOptions,
    Run,
)

from service.domain.caller import Caller
from service.resources.mutation import mutate
from service.resources.registration import Door, check_registers, ocpi_lock, own_parties, token_give
from service.resources.run import Supported, run_begin
from service.storage.connection import Connection
from service.storage.integration import integration_get
from service.storage.keyring import Keyring
from service.storage.partner_token import token_list, token_of
from service.storage.pool import Database

_Request = RegisterIntegrationRequest | RotateCredentialsRequest | UnregisterIntegrationRequest


class RegistrationService:
    """`door`: where partners reach us; `supported`: which kinds of runs which types of integrations know."""

    def __init__(self, database: Database, keyring: Keyring, door: Door, supported: Supported) -> None:
        self._database = database
        self._keyring = keyring
        self._door = door
        self._supported = supported

    async def IssueInitialToken(self, request: IssueInitialTokenRequest, caller: Caller) -> IssueInitialTokenResponse:
        # The same request id makes the same token, so that it need not be kept to answer the same.
        name = "/".join((caller.tenant_id, request.integration_id, request.request_id.lower() or str(uuid4())))
        token = token_of(self._keyring.digest("initial-token", name.encode()))

        async def work(conn: Connection, now: datetime) -> IssueInitialTokenResponse:
            integration = await ocpi_lock(conn, caller.tenant_id, request.integration_id)
            await own_parties(conn, caller.tenant_id, integration)
            await token_give(conn, self._keyring, caller.tenant_id, integration.id, token, initial=True)
            return IssueInitialTokenResponse(versions_url=self._door.versions_url)

        answer = await mutate(self._database, self._keyring, request, caller, work)
        issued = IssueInitialTokenResponse.FromString(answer)
        issued.token = token.reveal()
        return issued

    async def RegisterIntegration(self, request: RegisterIntegrationRequest, caller: Caller) -> bytes:
        return await self._start(request, caller, CredentialsOptions(action=CREDENTIALS_ACTION_REGISTER))

    async def RotateCredentials(self, request: RotateCredentialsRequest, caller: Caller) -> bytes:
        options = CredentialsOptions(action=CREDENTIALS_ACTION_ROTATE, revoke_now=request.revoke_now)
        return await self._start(request, caller, options)

    async def UnregisterIntegration(self, request: UnregisterIntegrationRequest, caller: Caller) -> bytes:
        return await self._start(request, caller, CredentialsOptions(action=CREDENTIALS_ACTION_UNREGISTER))

    async def ListPartnerTokens(self, request: ListPartnerTokensRequest, caller: Caller) -> ListPartnerTokensResponse:
        stored = await integration_get(self._database, caller.tenant_id, request.integration_id)
        check_registers(Integration.FromString(stored))
        return ListPartnerTokensResponse(
            tokens=await token_list(self._database, caller.tenant_id, request.integration_id)
        )

    async def _start(self, request: _Request, caller: Caller, options: CredentialsOptions) -> bytes:
        async def work(conn: Connection, now: datetime) -> Run:
            integration = await ocpi_lock(conn, caller.tenant_id, request.integration_id)
            return await run_begin(
                conn, caller, integration, RUN_KIND_CREDENTIALS, self._supported, credentials_options=options
            )

        return await mutate(self._database, self._keyring, request, caller, work)

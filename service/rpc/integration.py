"""evbridge.v1.IntegrationService."""

from datetime import datetime

from evbridge.v1.delivery_pb2 import OBJECT_KIND_COMPANY, OBJECT_KIND_INTEGRATION
from evbridge.v1.integration_pb2 import (
    CreateIntegrationRequest,
    DeleteIntegrationRequest,
    GetIntegrationRequest,
    Integration,
    ListIntegrationsRequest,
    PauseIntegrationRequest,
    ResumeIntegrationRequest,
    UpdateIntegrationRequest,
)
from evbridge.v1.run_pb2 import RUN_KIND_CREDENTIALS, RUN_KIND_TOKEN_EXCHANGE

from service.bridge.egress import EgressPolicy
from service.domain.caller import Caller
from service.domain.pages import key_before, list_response, page_size
from service.errors import InvalidArgument
from service.resources.integration import Integrations
from service.resources.mutation import mutate, mutate_delete, put_one, record
from service.resources.noun import Upsert
from service.resources.run import Supported, run_begin
from service.storage.changes import UPDATE, Change
from service.storage.connection import Connection
from service.storage.delivery import delivery_unpark
from service.storage.gate import gate_resume, gate_succeeded
from service.storage.integration import (
    Takes,
    integration_get,
    integration_page,
    integration_pause,
    integration_resume,
    new_integration_id,
)
from service.storage.keyring import Keyring
from service.storage.marking import mark_all
from service.storage.pool import Database

_EXCHANGES = {"activate_connection": RUN_KIND_TOKEN_EXCHANGE, "retry_credentials_exchange": RUN_KIND_CREDENTIALS}
"""Flag of a request -> the kind of run that it starts."""


class IntegrationService:
    """`supported`: which kinds of runs which types of integrations know; `takes`: what is delivered through them."""

    def __init__(
        self, database: Database, keyring: Keyring, egress: EgressPolicy, supported: Supported, takes: Takes
    ) -> None:
        self._database = database
        self._keyring = keyring
        self._egress = egress
        self._supported = supported
        self._takes = takes

    async def CreateIntegration(self, request: CreateIntegrationRequest, caller: Caller) -> bytes:
        async def work(conn: Connection, now: datetime) -> Integration:
            sent = request.integration
            sent.id = sent.id or new_integration_id(sent.type)
            upsert = Upsert(self._integrations(), sent, "integration", may_exist=False)
            integration = await put_one(conn, caller, now, upsert)
            await self._start(conn, caller, request, integration)
            await mark_all(conn, caller.tenant_id, integration.id, OBJECT_KIND_COMPANY)  # all else waits for rules
            return integration

        return await mutate(self._database, self._keyring, request, caller, work)

    async def GetIntegration(self, request: GetIntegrationRequest, caller: Caller) -> bytes:
        return await integration_get(self._database, caller.tenant_id, request.id)

    async def ListIntegrations(self, request: ListIntegrationsRequest, caller: Caller) -> bytes:
        after, size = key_before(request), page_size(request.page_size)
        rows = await integration_page(self._database, caller.tenant_id, request, after, size + 1)
        return list_response(request, rows, size)

    async def UpdateIntegration(self, request: UpdateIntegrationRequest, caller: Caller) -> bytes:
        async def work(conn: Connection, now: datetime) -> Integration:
            mask = [*request.update_mask.paths]
            upsert = Upsert(self._integrations(), request.integration, "integration", may_be_missing=False, mask=mask)
            integration = await put_one(conn, caller, now, upsert)
            await self._start(conn, caller, request, integration)
            await gate_resume(conn, caller.tenant_id, integration.id)
            return integration

        return await mutate(self._database, self._keyring, request, caller, work)

    async def DeleteIntegration(self, request: DeleteIntegrationRequest, caller: Caller) -> bytes:
        noun = self._integrations(to_delete=True, force=request.force)
        return await mutate_delete(self._database, self._keyring, request, caller, noun, request.id)

    async def PauseIntegration(self, request: PauseIntegrationRequest, caller: Caller) -> bytes:
        async def work(conn: Connection, now: datetime) -> Integration:
            integration = await integration_pause(conn, caller.tenant_id, request.id, request.reason, now)
            await record(conn, caller, OBJECT_KIND_INTEGRATION, [Change(request.id, UPDATE, integration.etag)])
            return integration

        return await mutate(self._database, self._keyring, request, caller, work)

    async def ResumeIntegration(self, request: ResumeIntegrationRequest, caller: Caller) -> bytes:
        async def work(conn: Connection, now: datetime) -> Integration:
            key = (caller.tenant_id, request.id)
            integration = await integration_resume(conn, *key)
            await gate_resume(conn, *key)
            await delivery_unpark(conn, *key, None)
            await gate_succeeded(conn, *key)  # what failed until now counts no more towards the next suspension
            await record(conn, caller, OBJECT_KIND_INTEGRATION, [Change(request.id, UPDATE, integration.etag)])
            return integration

        return await mutate(self._database, self._keyring, request, caller, work)

    def _integrations(self, *, to_delete: bool = False, force: bool = False) -> Integrations:
        return Integrations(self._keyring, self._egress, self._takes, to_delete=to_delete, force=force)

    async def _start(
        self,
        conn: Connection,
        caller: Caller,
        request: CreateIntegrationRequest | UpdateIntegrationRequest,
        integration: Integration,
    ) -> None:
        """Starts the runs that the request asks for.

        Raises InvalidArgument for one that the type does not have, RunInProgress.
        """
        for flag, kind in _EXCHANGES.items():
            if not getattr(request, flag, False):
                continue
            if (kind, integration.type) not in self._supported:
                raise InvalidArgument.field(flag, "does not apply to integrations of this type")
            await run_begin(conn, caller, integration, kind, self._supported)

"""evbridge.v1.IntegrationService."""

from datetime import datetime
from urllib.parse import urlsplit

from evbridge.v1.delivery_pb2 import OBJECT_KIND_INTEGRATION
from evbridge.v1.integration_pb2 import (
    INTEGRATION_STATUS_PENDING,
    INTEGRATION_STATUS_SUSPENDED,
    CreateIntegrationRequest,
    DeleteIntegrationRequest,
    GetIntegrationRequest,
    Integration,
    ListIntegrationsRequest,
    UpdateIntegrationRequest,
)
from google.protobuf.empty_pb2 import Empty

from service.bridge.egress import EgressPolicy, UrlRefused, check_url
from service.domain.caller import Caller
from service.domain.content import etag_of
from service.domain.fields import clear_output_only, take_secrets
from service.domain.masks import merged
from service.domain.pages import key_before, list_response, page_size
from service.domain.secret import Secret
from service.domain.validation import validate
from service.domain.versions import check_etag
from service.errors import ImmutableField, IntegrationHasObjects, InvalidArgument, ResourceNotFound
from service.handlers.mutation import mutate
from service.storage.changes import CREATE, DELETE, UPDATE, change_record, delivery_mark_all
from service.storage.connection import Connection
from service.storage.gate import gate_resume
from service.storage.integration import (
    integration_delete,
    integration_get,
    integration_insert,
    integration_lock,
    integration_objects,
    integration_page,
    integration_replace,
    new_integration_id,
    secrets_get,
    secrets_put,
)
from service.storage.keyring import Keyring
from service.storage.pool import Database

CHARGEPRICE_URL = "https://api.chargeprice.app"
_API_KEY = "chargeprice.api_key"


class IntegrationService:
    def __init__(self, database: Database, keyring: Keyring, egress: EgressPolicy) -> None:
        self._database = database
        self._keyring = keyring
        self._egress = egress

    async def CreateIntegration(self, request: CreateIntegrationRequest, caller: Caller) -> bytes:
        integration, secrets = self._normalised(request.integration)
        if _API_KEY not in secrets:
            raise InvalidArgument.field(f"integration.{_API_KEY}", "is required")
        integration.id = integration.id or new_integration_id(integration.type)

        async def work(conn: Connection, now: datetime) -> Integration:
            integration.create_time.FromDatetime(now)
            self._stamp(integration, secrets, now)
            await integration_insert(conn, caller.tenant_id, integration)
            await secrets_put(conn, self._keyring, caller.tenant_id, integration.id, secrets)
            await delivery_mark_all(conn, caller.tenant_id, integration.id, integration.type)
            await change_record(conn, caller, OBJECT_KIND_INTEGRATION, integration.id, CREATE, integration.etag)
            return integration

        return await mutate(self._database, self._keyring, request, caller, work)

    async def GetIntegration(self, request: GetIntegrationRequest, caller: Caller) -> bytes:
        return await integration_get(self._database, caller.tenant_id, request.id)

    async def ListIntegrations(self, request: ListIntegrationsRequest, caller: Caller) -> bytes:
        after, size = key_before(request), page_size(request.page_size)
        rows = await integration_page(self._database, caller.tenant_id, request, after, size + 1)
        return list_response(request, rows, size)

    async def UpdateIntegration(self, request: UpdateIntegrationRequest, caller: Caller) -> bytes:
        patch = request.integration

        async def work(conn: Connection, now: datetime) -> Integration:
            stored = await integration_lock(conn, caller.tenant_id, patch.id)
            check_etag(patch.etag, stored.etag, "integration", patch.id)
            wanted = merged(stored, patch, request.update_mask.paths)
            wanted.id = patch.id
            if wanted.type != stored.type:
                raise ImmutableField("the type of an integration is fixed", field="integration.type")
            validate(wanted, prefix="integration.")
            integration, secrets = self._normalised(wanted)
            if _API_KEY not in secrets:
                if _origin(integration) != _origin(stored):
                    raise InvalidArgument.field(f"integration.{_API_KEY}", "must be sent again with a new address")
                secrets = await secrets_get(conn, self._keyring, caller.tenant_id, integration.id)
            integration.create_time.CopyFrom(stored.create_time)
            self._stamp(integration, secrets, now, before=stored)
            await integration_replace(conn, caller.tenant_id, integration)
            await secrets_put(conn, self._keyring, caller.tenant_id, integration.id, secrets)
            await gate_resume(conn, caller.tenant_id, integration.id)
            await change_record(conn, caller, OBJECT_KIND_INTEGRATION, integration.id, UPDATE, integration.etag)
            return integration

        return await mutate(self._database, self._keyring, request, caller, work)

    async def DeleteIntegration(self, request: DeleteIntegrationRequest, caller: Caller) -> bytes:
        async def work(conn: Connection, now: datetime) -> Empty:
            try:
                stored = await integration_lock(conn, caller.tenant_id, request.id)
            except ResourceNotFound:
                if request.allow_missing:
                    return Empty()
                raise
            check_etag(request.etag, stored.etag, "integration", request.id)
            objects = await integration_objects(conn, caller.tenant_id, request.id)
            if objects and not request.force:
                raise IntegrationHasObjects(
                    f"the partner holds {objects} objects delivered through it", objects=str(objects)
                )
            await integration_delete(conn, caller.tenant_id, request.id)
            await change_record(conn, caller, OBJECT_KIND_INTEGRATION, request.id, DELETE, stored.etag)
            return Empty()

        return await mutate(self._database, self._keyring, request, caller, work)

    def _normalised(self, sent: Integration) -> tuple[Integration, dict[str, Secret]]:
        """Our copy and its secrets: nothing that only we may set, a checked address."""
        integration = Integration()
        integration.CopyFrom(sent)
        integration.DiscardUnknownFields()
        clear_output_only(integration)
        secrets = take_secrets(integration)
        connection = integration.chargeprice
        try:
            connection.base_url = check_url(connection.base_url or CHARGEPRICE_URL, self._egress)
        except UrlRefused as refused:
            raise InvalidArgument.field("integration.chargeprice.base_url", str(refused)) from None
        connection.api_key_set = True
        return integration, secrets

    def _stamp(
        self, integration: Integration, secrets: dict[str, Secret], now: datetime, before: Integration | None = None
    ) -> None:
        """Sets what only we set. A status that we found out stays while the wish stays."""
        integration.update_time.FromDatetime(now)
        digests = (self._keyring.digest("etag", secret.reveal().encode()) for secret in secrets.values())
        integration.etag = etag_of(integration, *digests)
        if before and before.enabled == integration.enabled:
            integration.status = before.status
            integration.status_description = before.status_description
        else:
            integration.status = INTEGRATION_STATUS_PENDING if integration.enabled else INTEGRATION_STATUS_SUSPENDED


def _origin(integration: Integration) -> tuple[str, str]:
    """Scheme and authority: what a credential was given for."""
    address = urlsplit(integration.chargeprice.base_url)
    return address.scheme, address.netloc

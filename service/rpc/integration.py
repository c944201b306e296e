"""evbridge.v1.IntegrationService."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from urllib.parse import urlsplit

from evbridge.v1.delivery_pb2 import OBJECT_KIND_INTEGRATION
from evbridge.v1.integration_pb2 import (
    INTEGRATION_STATUS_PENDING,
    INTEGRATION_STATUS_SUSPENDED,
    INTEGRATION_TYPE_OCPI,
    INTEGRATION_TYPE_SALESFORCE,
    INTEGRATION_TYPE_UTILITY_CLOUD,
    CreateIntegrationRequest,
    DeleteIntegrationRequest,
    GetIntegrationRequest,
    Integration,
    IntegrationType,
    ListIntegrationsRequest,
    UpdateIntegrationRequest,
)
from evbridge.v1.run_pb2 import RUN_KIND_CREDENTIALS, RUN_KIND_TOKEN_EXCHANGE, RunKind
from google.protobuf.empty_pb2 import Empty

from service.bridge.egress import EgressPolicy, UrlRefused, check_host, check_url
from service.domain.caller import Caller
from service.domain.content import etag_of
from service.domain.fields import clear_output_only, keep_output_only, take_secrets
from service.domain.integration import (
    addresses,
    connection_of,
    fill_defaults,
    hosts,
    mark_secrets,
    secret_paths,
    type_name,
)
from service.domain.keys import PartyKey
from service.domain.masks import merged
from service.domain.pages import key_before, list_response, page_size
from service.domain.secret import Secret
from service.domain.validation import validate
from service.domain.versions import check_etag
from service.errors import FieldViolation, ImmutableField, IntegrationHasObjects, InvalidArgument, ResourceNotFound
from service.resources.mutation import mutate
from service.resources.objects import dangling
from service.resources.run import Supported, run_begin
from service.storage.access_token import access_token_forget
from service.storage.changes import CREATE, DELETE, UPDATE, change_record, delivery_mark_all
from service.storage.connection import Connection
from service.storage.gate import gate_resume
from service.storage.integration import (
    Takes,
    integration_delete,
    integration_get,
    integration_insert,
    integration_lock,
    integration_objects,
    integration_page,
    integration_replace,
    new_integration_id,
    secrets_forget,
    secrets_get,
    secrets_put,
)
from service.storage.keyring import Keyring
from service.storage.party import parties_hold
from service.storage.pool import Database

# Flag of a request -> the kind of run it starts, and the types of integrations that have such an exchange.
_COMMANDS: dict[str, tuple[RunKind.ValueType, set[IntegrationType.ValueType]]] = {
    "activate_connection": (RUN_KIND_TOKEN_EXCHANGE, {INTEGRATION_TYPE_UTILITY_CLOUD, INTEGRATION_TYPE_SALESFORCE}),
    "retry_credentials_exchange": (RUN_KIND_CREDENTIALS, {INTEGRATION_TYPE_OCPI}),
}


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
        integration, secrets = self._normalised(request.integration)
        _demand(secret_paths(integration, required=True), secrets, "is required")
        integration.id = integration.id or new_integration_id(integration.type)

        async def work(conn: Connection, now: datetime) -> Integration:
            integration.create_time.FromDatetime(now)
            self._stamp(integration, secrets, now)
            await _check_parties(conn, caller, integration)
            await integration_insert(conn, caller.tenant_id, integration, self._takes.get(integration.type, ()))
            await secrets_put(conn, self._keyring, caller.tenant_id, integration.id, secrets)
            await self._start(conn, caller, request, integration)
            await delivery_mark_all(conn, caller.tenant_id, integration.id)
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
            integration, sent = self._normalised(wanted)
            await _check_parties(conn, caller, integration)
            secrets = await secrets_get(conn, self._keyring, caller.tenant_id, integration.id)
            if _origins(integration) == _origins(stored):
                keep_output_only(integration, stored)
            else:  # Perhaps somebody else: nothing that was found out holds, and no secret is for them.
                known = [path for path in secret_paths(integration) if path in secrets]
                _demand(known, sent, "must be sent again with a new address")
                await secrets_forget(conn, caller.tenant_id, integration.id)
                secrets = {}
                integration.create_time.CopyFrom(stored.create_time)
                integration.latest_run_id = stored.latest_run_id
            if integration.enabled != stored.enabled:
                integration.ClearField("status")
                integration.ClearField("status_description")
            self._stamp(integration, secrets | sent, now)
            await integration_replace(conn, caller.tenant_id, integration)
            await secrets_put(conn, self._keyring, caller.tenant_id, integration.id, sent)
            await access_token_forget(conn, caller.tenant_id, integration.id)
            await self._start(conn, caller, request, integration)
            await gate_resume(conn, caller.tenant_id, integration.id)
            await change_record(conn, caller, OBJECT_KIND_INTEGRATION, integration.id, UPDATE, integration.etag)
            return integration

        return await mutate(self._database, self._keyring, request, caller, work)

    async def DeleteIntegration(self, request: DeleteIntegrationRequest, caller: Caller) -> bytes:
        async def work(conn: Connection, now: datetime) -> Empty:
            try:
                stored = await integration_lock(conn, caller.tenant_id, request.id, to_delete=True)
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
        """Our copy and its secrets: nothing that only we may set, checked addresses."""
        integration = Integration()
        integration.CopyFrom(sent)
        integration.DiscardUnknownFields()
        clear_output_only(integration)
        secrets = take_secrets(integration)
        for party in integration.parties:
            party.country_code, party.party_id = PartyKey.of(party.country_code, party.party_id)
        connection = connection_of(integration)
        fill_defaults(connection)
        for field, url in addresses(connection).items():
            if url:
                setattr(connection, field, self._checked(integration, field, check_url, url))
        for field, host in hosts(connection):
            self._checked(integration, field, check_host, host)
        return integration, secrets

    def _checked(
        self, integration: Integration, field: str, check: Callable[[str, EgressPolicy], str | None], text: str
    ) -> str | None:
        """What the check returns. Raises InvalidArgument that names the field of the connection."""
        try:
            return check(text, self._egress)
        except UrlRefused as refused:
            path = f"integration.{type_name(integration.type)}.{field}"
            raise InvalidArgument.field(path, str(refused)) from None

    async def _start(
        self,
        conn: Connection,
        caller: Caller,
        request: CreateIntegrationRequest | UpdateIntegrationRequest,
        integration: Integration,
    ) -> None:
        """Starts the runs that the request asks for.

        Raises InvalidArgument for one that the type does not have, RunUnsupported, RunInProgress.
        """
        for flag, (kind, types) in _COMMANDS.items():
            if not getattr(request, flag, False):
                continue
            if integration.type not in types:
                raise InvalidArgument.field(flag, "the type of the integration has no such exchange")
            await run_begin(conn, caller, integration, kind, self._supported)

    def _stamp(self, integration: Integration, secrets: Mapping[str, Secret], now: datetime) -> None:
        """Sets what only we set. A status that we found out stays."""
        integration.update_time.FromDatetime(now)
        mark_secrets(integration, secrets)
        if integration.HasField("ocpi"):
            integration.ocpi.platform_integration = bool(integration.ocpi.platform_integration_id)
        digests = (self._keyring.digest("etag", secrets[path].reveal().encode()) for path in sorted(secrets))
        integration.etag = etag_of(integration, *digests)
        if not integration.status:
            integration.status = INTEGRATION_STATUS_PENDING if integration.enabled else INTEGRATION_STATUS_SUSPENDED


async def _check_parties(conn: Connection, caller: Caller, integration: Integration) -> None:
    """Raises ReferenceNotFound unless each is there, and keeps them so until the transaction ends."""
    named = [PartyKey(party.country_code, party.party_id) for party in integration.parties]
    held = await parties_hold(conn, caller.tenant_id, named) if named else set()
    if missing := {number: party for number, party in enumerate(named) if party not in held}:
        paths = (f"integration.parties[{number}]" for number in missing)
        violations = tuple(FieldViolation(path, "is none of the tenant's parties") for path in paths)
        raise dangling("party", str(next(iter(missing.values()))), violations)


def _demand(paths: Iterable[str], secrets: Mapping[str, Secret], description: str) -> None:
    """Raises InvalidArgument for those of the secrets that are missing."""
    missing = tuple(FieldViolation(f"integration.{path}", description) for path in paths if path not in secrets)
    if missing:
        raise InvalidArgument(f"{missing[0].path}: {description}", violations=missing)


def _origins(integration: Integration) -> list[tuple[str, str]]:
    """Scheme and authority of each address: what the credentials were given for."""
    urls = map(urlsplit, addresses(connection_of(integration)).values())
    return [(url.scheme, url.netloc) for url in urls]

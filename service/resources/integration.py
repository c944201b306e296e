"""Integrations: how they are stored with their secrets, and deleted; the status that calls find out."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from evbridge.v1.delivery_pb2 import (
    OBJECT_KIND_HUB_CLIENT,
    OBJECT_KIND_INTEGRATION,
    OBJECT_KIND_TARIFF,
    OBJECT_KIND_TOKEN,
    OBJECT_KIND_UNSPECIFIED,
)
from evbridge.v1.integration_pb2 import (
    INTEGRATION_STATUS_ACTIVE,
    INTEGRATION_STATUS_PENDING,
    INTEGRATION_STATUS_SUSPENDED,
    Integration,
    IntegrationStatus,
)

from service.bridge.egress import EgressPolicy, UrlRefused, check_host, check_url
from service.domain.content import etag_of
from service.domain.fields import keep_output_only, take_secrets
from service.domain.integration import (
    addresses,
    connection_of,
    fill_defaults,
    hosts,
    mark_secrets,
    platform_party,
    secret_paths,
    type_name,
)
from service.domain.keys import PartyKey
from service.domain.masks import copy_field
from service.domain.publication import EVERYTHING
from service.domain.secret import Secret
from service.errors import (
    EvbridgeError,
    FieldViolation,
    ImmutableField,
    IntegrationHasObjects,
    IntegrationInUse,
    InvalidArgument,
    PlatformUnsuitable,
    ReferenceNotFound,
    ResourceNotFound,
)
from service.resources.noun import Noun, Pending, dangling
from service.storage.access_token import access_token_forget
from service.storage.connection import Connection
from service.storage.integration import (
    Takes,
    integration_delete,
    integration_insert,
    integration_lock,
    integration_objects,
    integration_replace,
    integration_share,
    integration_status,
    integrations_behind,
    secrets_forget,
    secrets_get,
    secrets_put,
)
from service.storage.keyring import Keyring
from service.storage.marking import mark_all, redeliver_all
from service.storage.partner_token import tokens_end
from service.storage.party import parties_hold
from service.storage.pool import Database
from service.storage.publication import mark_affected


class Integrations(Noun[Integration]):
    """The one integration of a request: its secrets are taken out of it and sealed.

    `takes`: what is delivered through which type. `to_delete`: it is about to be; `force`: even while the partner holds
    objects.
    """

    noun = "integration"
    kind = OBJECT_KIND_INTEGRATION

    def __init__(
        self, keyring: Keyring, egress: EgressPolicy, takes: Takes, *, to_delete: bool = False, force: bool = False
    ) -> None:
        self._keyring = keyring
        self._egress = egress
        self._takes = takes
        self._to_delete = to_delete
        self._force = force
        self._sent: dict[str, Secret] = {}
        self._kept: dict[str, Secret] = {}
        self._moved = False

    def key_of(self, sent: Integration) -> str:
        return sent.id

    async def lock(self, conn: Connection, tenant_id: str, keys: Collection[str]) -> Mapping[str, Integration | None]:
        locked: dict[str, Integration | None] = {}
        for key in keys:
            with suppress(ResourceNotFound):
                locked[key] = await integration_lock(conn, tenant_id, key, to_delete=self._to_delete)
        return locked

    async def write(
        self,
        conn: Connection,
        tenant_id: str,
        objects: Sequence[Integration],
        locked: Mapping[str, Integration | None],
    ) -> None:
        for integration in objects:
            before = locked.get(integration.id) or Integration()
            takes = self._takes.get(integration.type, ())
            speaks_for_others = {*_parties(integration)} != {*_parties(before)}
            if integration.id not in locked:
                await integration_insert(conn, tenant_id, integration, takes)
            else:
                await integration_replace(conn, tenant_id, integration)
                if _pushed(integration) != _pushed(before):
                    await redeliver_all(conn, tenant_id, integration.id, OBJECT_KIND_UNSPECIFIED)
                # How a tariff is written there may be a matter of the connection, such as which tax is which.
                if connection_of(integration) != connection_of(before) and OBJECT_KIND_TARIFF in takes:
                    await mark_all(conn, tenant_id, integration.id, OBJECT_KIND_TARIFF)
                if speaks_for_others:
                    await mark_affected(conn, tenant_id, integration.id, EVERYTHING)
            for kind in {OBJECT_KIND_TOKEN, OBJECT_KIND_HUB_CLIENT}.intersection(takes) if speaks_for_others else ():
                await mark_all(conn, tenant_id, integration.id, kind)
            if self._moved:
                await secrets_forget(conn, tenant_id, integration.id)
                await tokens_end(conn, tenant_id, integration.id)
            await secrets_put(conn, self._keyring, tenant_id, integration.id, self._sent)
            await access_token_forget(conn, tenant_id, integration.id)

    async def remove(self, conn: Connection, tenant_id: str, key: str) -> None:
        if behind := await integrations_behind(conn, tenant_id, key):
            raise IntegrationInUse(
                f"{len(behind)} of your integrations reach their partners through it, such as {behind[0]}",
                integrations=str(len(behind)),
            )
        objects = await integration_objects(conn, tenant_id, key)
        if objects and not self._force:
            raise IntegrationHasObjects(
                f"the partner holds {objects} objects delivered through it", objects=str(objects)
            )
        await integration_delete(conn, tenant_id, key)

    def keep(self, wanted: Integration, before: Integration | None) -> None:
        if before:
            wanted.id = before.id
            if wanted.type != before.type:
                raise ImmutableField("the type of an integration is fixed", field="integration.type")

    def clean(self, wanted: Integration) -> None:
        """Takes its secrets; writes keys and addresses as we do. Raises InvalidArgument for an address we refuse."""
        self._sent = take_secrets(wanted)
        named: list[Any] = [*wanted.parties, *wanted.ocpi.planned_parties]
        for party in named:
            party.country_code, party.party_id = PartyKey.of(party.country_code, party.party_id)
        connection = connection_of(wanted)
        fill_defaults(connection)
        for field, url in addresses(connection).items():
            if url:
                setattr(connection, field, self._checked(wanted, field, check_url, url))
        for field, host in hosts(connection):
            self._checked(wanted, field, check_host, host)

    async def refused(
        self, conn: Connection, tenant_id: str, pending: Mapping[str, Pending[Integration]]
    ) -> Mapping[str, EvbridgeError]:
        """One that names a party or a platform that is none, or lacks a secret. What it names stays meanwhile."""
        refused: dict[str, EvbridgeError] = {}
        for id, (_, wanted, before, _) in pending.items():
            try:
                if before is None:
                    _demand(secret_paths(wanted, required=True), self._sent, "is required")
                registered = before is not None and before.ocpi.our_token_set
                await _check_parties(conn, tenant_id, wanted, registered=registered)
                if wanted.ocpi.platform_integration_id != (before or Integration()).ocpi.platform_integration_id:
                    await _check_platform(conn, tenant_id, wanted)
                self._kept = await secrets_get(conn, self._keyring, tenant_id, id) if before else {}
                self._moved = before is not None and _origins(wanted) != _origins(before)
                if self._moved:  # Perhaps somebody else: no secret is for them.
                    known = [path for path in secret_paths(wanted) if path in self._kept]
                    _demand(known, self._sent, "must be sent again with a new address")
                    self._kept = {}
            except (ReferenceNotFound, PlatformUnsuitable, InvalidArgument) as error:
                refused[id] = error
        return refused

    def stamp(self, wanted: Integration, before: Integration | None, now: datetime) -> None:
        """A status that we found out stays, until the partner may be another one."""
        if before and self._moved:
            for field in ("latest_run_id", "pause_time", "pause_reason"):
                copy_field(wanted, before, wanted.DESCRIPTOR.fields_by_name[field])
        elif before:
            keep_output_only(wanted, before)
            if wanted.enabled != before.enabled:
                wanted.ClearField("status")
                wanted.ClearField("status_description")
        mark_secrets(wanted, self._kept | self._sent)
        if wanted.HasField("ocpi"):
            wanted.ocpi.platform_integration = bool(wanted.ocpi.platform_integration_id)
        if not wanted.status:
            connected = INTEGRATION_STATUS_ACTIVE if wanted.ocpi.their_token_set else INTEGRATION_STATUS_PENDING
            wanted.status = connected if wanted.enabled else INTEGRATION_STATUS_SUSPENDED

    def etag(self, wanted: Integration) -> str:
        secrets = self._kept | self._sent
        return etag_of(
            wanted, *(self._keyring.digest("etag", secrets[path].reveal().encode()) for path in sorted(secrets))
        )

    def unchanged(self, wanted: Integration, before: Integration) -> bool:
        """Never: whoever sends it again wants it to be tried again."""
        return False

    def _checked(
        self, integration: Integration, field: str, check: Callable[[str, EgressPolicy], str | None], text: str
    ) -> str | None:
        """What the check returns. Raises InvalidArgument that names the field of the connection."""
        try:
            return check(text, self._egress)
        except UrlRefused as refused:
            path = f"integration.{type_name(integration.type)}.{field}"
            raise InvalidArgument.field(path, str(refused)) from None


def _pushed(integration: Integration) -> tuple[Any, ...] | None:
    """Which objects an OCPI party is sent, and through which platform to whom."""
    if not integration.HasField("ocpi"):
        return None
    models, platform = integration.models, integration.ocpi.platform_integration_id
    pushes = (
        *(models.push_location, models.push_tariff, models.push_token),
        *(models.push_invoice_reconciliation, models.push_hub_client),
    )
    return *pushes, platform, platform_party(integration)


async def status_found(
    database: Database, tenant_id: str, before: Integration, status: IntegrationStatus.ValueType, description: str
) -> None:
    """Stores a status that a call found out, unless the integration was changed since `before`."""
    async with database.transaction() as conn:
        stored = await integration_lock(conn, tenant_id, before.id)
        known = (before.etag, before.status, before.status_description)
        if (stored.etag, stored.status, stored.status_description) == known:
            await integration_status(conn, tenant_id, before.id, status, description)


async def _check_parties(conn: Connection, tenant_id: str, integration: Integration, *, registered: bool) -> None:
    """Raises ReferenceNotFound unless each is there, and keeps them so until the transaction ends.

    Raises InvalidArgument for none while a partner is registered, which knows us as them and would be shown all.
    """
    named = _parties(integration)
    if registered and not named:
        raise InvalidArgument.field("integration.parties", "is required while the partner is registered")
    held = await parties_hold(conn, tenant_id, named) if named else set()
    if missing := {number: party for number, party in enumerate(named) if party not in held}:
        paths = (f"integration.parties[{number}]" for number in missing)
        violations = tuple(FieldViolation(path, "is not one of the tenant's parties") for path in paths)
        raise dangling("party", str(next(iter(missing.values()))), violations)


async def _check_platform(conn: Connection, tenant_id: str, integration: Integration) -> None:
    """Raises ReferenceNotFound, PlatformUnsuitable; the platform stays one until the transaction ends."""
    id, path = integration.ocpi.platform_integration_id, "integration.ocpi.platform_integration_id"
    if not id:
        return
    platform = await integration_share(conn, tenant_id, id)
    if platform is None and id != integration.id:
        raise dangling("integration", id, (FieldViolation(path, "is not an integration of the tenant"),))
    problem = ""
    if id == integration.id:
        problem = "is the integration itself"
    elif not (platform and platform.HasField("ocpi")):
        problem = "is not of INTEGRATION_TYPE_OCPI"
    elif platform.ocpi.platform_integration_id:
        problem = f"is itself behind a platform, {platform.ocpi.platform_integration_id}"
    elif behind := await integrations_behind(conn, tenant_id, integration.id):
        problem = f"cannot be one: this integration is itself a platform, that of {behind[0]}"
    if problem:
        raise PlatformUnsuitable(f"{id} {problem}", violations=(FieldViolation(path, problem),), id=id)


def _parties(integration: Integration) -> list[PartyKey]:
    return [PartyKey(party.country_code, party.party_id) for party in integration.parties]


def _demand(paths: Iterable[str], secrets: Mapping[str, Secret], description: str) -> None:
    """Raises InvalidArgument for those of the secrets that are missing."""
    missing = tuple(FieldViolation(f"integration.{path}", description) for path in paths if path not in secrets)
    if missing:
        raise InvalidArgument.of(missing)


def _origins(integration: Integration) -> list[tuple[str, str]]:
    """Scheme and authority of each address: what the credentials were given for."""
    urls = map(urlsplit, addresses(connection_of(integration)).values())
    return [(url.scheme, url.netloc) for url in urls]

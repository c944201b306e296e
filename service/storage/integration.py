"""Integrations as rows, and their sealed secrets."""

import json
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from evbridge.v1.delivery_pb2 import (
    OBJECT_KIND_HUB_CLIENT,
    OBJECT_KIND_LOCATION,
    OBJECT_KIND_TARIFF,
    OBJECT_KIND_TOKEN,
    ObjectKind,
)
from evbridge.v1.integration_pb2 import (
    INTEGRATION_STATUS_ACTIVE,
    INTEGRATION_STATUS_FAILED,
    INTEGRATION_STATUS_PENDING,
    INTEGRATION_STATUS_SUSPENDED,
    Integration,
    IntegrationStatus,
    IntegrationType,
    ListIntegrationsRequest,
)

from service.domain.hub_client import connected_through
from service.domain.integration import (
    platform_party,
    pull_minutes,
    token_parties,
    type_name,
)
from service.domain.keys import PartyKey
from service.domain.pages import MAX_BYTES
from service.domain.secret import Secret
from service.errors import ResourceExists, ResourceNotFound
from service.storage.connection import Connection
from service.storage.hub_client import hub_clients_mark
from service.storage.keyring import Keyring, associated, key_id_of
from service.storage.marking import mark_all
from service.storage.pool import Database
from service.storage.slices import SLICE, in_slices
from service.storage.statements import Statements

sql = Statements.beside(__file__)

_MANY = (
    sql.received_token_forget,
    sql.received_tariff_forget,
    sql.received_tariff_revision_forget,
    sql.received_session_forget,
    sql.received_location_forget,
    sql.delivery_forget,
    sql.peer_object_forget,
    sql.peer_part_forget,
    sql.partner_object_forget,
    sql.disclosure_forget,
    sql.received_document_forget,
)

_MARKED = {OBJECT_KIND_TARIFF, OBJECT_KIND_LOCATION, OBJECT_KIND_TOKEN, OBJECT_KIND_HUB_CLIENT}
"""Kinds of objects of which all are marked for an integration that begins to take them."""
THEIR_TOKEN = "ocpi.their_token"  # noqa: S105
"""Where the token stands that an OCPI party gave us, once we are registered: before the one to register with."""
Takes = Mapping[IntegrationType.ValueType, Collection[ObjectKind.ValueType]]
"""Which kinds of objects are delivered through integrations of a type."""


async def integration_get(database: Database | Connection, tenant_id: str, integration_id: str) -> bytes:
    """The serialized integration, without secrets. Raises ResourceNotFound."""
    payload: bytes | None = await database.value(sql.integration_get, tenant_id, integration_id)
    if payload is None:
        raise ResourceNotFound.of("integration", integration_id)
    return payload


async def integration_lock(
    conn: Connection, tenant_id: str, integration_id: str, *, to_delete: bool = False
) -> Integration:
    """Kept from other writers until the transaction ends; `to_delete`, also from what would refer to it.

    Raises ResourceNotFound.
    """
    lock = sql.integration_lock_all if to_delete else sql.integration_lock
    payload: bytes | None = await conn.value(lock, tenant_id, integration_id)
    if payload is None:
        raise ResourceNotFound.of("integration", integration_id)
    return Integration.FromString(payload)


async def integration_find(on: Database | Connection, tenant_id: str, ids: Collection[str]) -> dict[str, bytes]:
    """Those of the integrations that exist, serialized."""
    rows = await on.rows(sql.integration_find, tenant_id, [*ids])
    return {row["integration_id"]: row["payload"] for row in rows}


async def integration_share(conn: Connection, tenant_id: str, integration_id: str) -> Integration | None:
    """Kept as it is until the transaction ends; None when there is none."""
    payload: bytes | None = await conn.value(sql.integration_share, tenant_id, integration_id)
    return None if payload is None else Integration.FromString(payload)


async def token_parties_taken(
    conn: Connection, tenant_id: str, integration_id: str, parties: Collection[str]
) -> set[str]:
    """Which of these parties are ours, or those of another integration that is not behind this one."""
    rows = await conn.rows(sql.token_parties_taken, tenant_id, integration_id, [*parties])
    return {row["party"] for row in rows}


async def integrations_behind(conn: Connection, tenant_id: str, platform_id: str) -> list[str]:
    """The integrations of the parties behind a platform, in their order."""
    return [row["integration_id"] for row in await conn.rows(sql.integrations_behind, tenant_id, platform_id)]


async def integration_of_party(
    database: Database, tenant_id: str, platform_id: str, party: PartyKey
) -> tuple[str, bool] | None:
    """The integration of a party behind a platform, and whether it is enabled; None when it has none of its own."""
    row = await database.row(sql.integration_of_party, tenant_id, platform_id, "".join(party))
    return None if row is None else (row["integration_id"], row["enabled"])


async def integration_hold(conn: Connection, tenant_id: str, integration_id: str) -> None:
    """Kept from being deleted until the transaction ends. Raises ResourceNotFound."""
    if not await conn.value(sql.integration_hold, tenant_id, integration_id):
        raise ResourceNotFound.of("integration", integration_id)


async def integration_insert(
    conn: Connection, tenant_id: str, integration: Integration, takes: Collection[ObjectKind.ValueType] = ()
) -> None:
    """Objects of the kinds that it `takes` are delivered through it. Raises ResourceExists."""
    inserted = await conn.value(
        sql.integration_insert,
        tenant_id,
        integration.id,
        integration.type,
        integration.enabled,
        integration.status,
        _parties(integration),
        integration.etag,
        integration.SerializeToString(),
        pull_minutes(integration.models),
        integration.ocpi.platform_integration_id,
        platform_party(integration),
        [*takes],
        token_parties(integration),
    )
    if inserted is None:
        why = "already exists"
        if await conn.value(sql.integration_is_tombstone, tenant_id, integration.id):
            why = "is deleted, and its deliveries are still being removed: take another id, or wait"
        raise ResourceExists(f"integration {integration.id} {why}", resource="integration", id=integration.id)
    if integration.ocpi.planned_parties:
        await integration_replace(conn, tenant_id, integration)  # who else is connected to the hub is told


async def integration_takes(
    conn: Database | Connection, tenant_id: str, integration_id: str
) -> list[ObjectKind.ValueType]:
    """The kinds of objects that are delivered through it; none when there is no such integration."""
    return await conn.value(sql.integration_takes, tenant_id, integration_id) or []


async def integration_takes_refresh(database: Database, takes: Takes) -> None:
    """For integrations that another build stored: what it did not bring them is due."""
    for type, kinds in takes.items():
        async with database.transaction() as conn:
            for row in await conn.rows(sql.integration_takes_refresh, type, [*kinds]):
                for kind in {*kinds} & _MARKED - {*row["took"]}:
                    await mark_all(conn, row["tenant_id"], row["integration_id"], kind)
                # For the columns that are made of it.
                stored = await integration_lock(conn, row["tenant_id"], row["integration_id"])
                await integration_replace(conn, row["tenant_id"], stored)


async def integration_replace(conn: Connection, tenant_id: str, integration: Integration) -> None:
    """Whatever was found out meanwhile, one that is paused stays SUSPENDED."""
    pause_time = None
    if integration.HasField("pause_time"):
        pause_time = integration.pause_time.ToDatetime(UTC)
        integration.status, integration.status_description = INTEGRATION_STATUS_SUSPENDED, integration.pause_reason
    clients = connected_through(integration)
    before = await conn.row(
        sql.integration_replace,
        tenant_id,
        integration.id,
        integration.enabled,
        integration.status,
        _parties(integration),
        integration.etag,
        integration.SerializeToString(),
        pause_time,
        pull_minutes(integration.models),
        token_parties(integration),
        integration.ocpi.platform_integration_id,
        platform_party(integration),
        json.dumps(clients),
    )
    if before:
        await hub_clients_mark(conn, tenant_id, before, {*_parties(integration)}, clients)


async def integration_pause(
    conn: Connection, tenant_id: str, integration_id: str, reason: str, now: datetime
) -> Integration:
    """Nothing is delivered through it until it is resumed; paused once more, it is for another reason.

    Raises ResourceNotFound.
    """
    integration = await integration_lock(conn, tenant_id, integration_id)
    integration.pause_reason = reason
    if not integration.HasField("pause_time"):
        integration.pause_time.FromDatetime(now)
    await integration_replace(conn, tenant_id, integration)
    return integration


async def integration_resume(conn: Connection, tenant_id: str, integration_id: str) -> Integration:
    """Raises ResourceNotFound."""
    integration = await integration_lock(conn, tenant_id, integration_id)
    if integration.HasField("pause_time"):
        for field in ("pause_time", "pause_reason", "status_description"):
            integration.ClearField(field)
        integration.status = INTEGRATION_STATUS_PENDING if integration.enabled else INTEGRATION_STATUS_SUSPENDED
        await integration_replace(conn, tenant_id, integration)
    return integration


async def integration_answered(conn: Connection, tenant_id: str, integration_id: str) -> None:
    """Ends that it is FAILED, and keeps it from other writers until the transaction ends."""
    payload: bytes | None = await conn.value(sql.integration_lock, tenant_id, integration_id)
    integration = Integration.FromString(payload or b"")
    if integration.status == INTEGRATION_STATUS_FAILED:
        integration.status = INTEGRATION_STATUS_ACTIVE
        integration.ClearField("status_description")
        await integration_replace(conn, tenant_id, integration)


async def integration_status(
    conn: Connection, tenant_id: str, integration_id: str, status: IntegrationStatus.ValueType, description: str
) -> None:
    """Tells how the connection fares, and keeps the integration from other writers until the transaction ends.

    A disabled or deleted integration stays as it is.
    """
    payload: bytes | None = await conn.value(sql.integration_lock, tenant_id, integration_id)
    integration = Integration.FromString(payload or b"")
    if integration.enabled:
        integration.status = status
        integration.status_description = description
        await integration_replace(conn, tenant_id, integration)


async def integration_delete(conn: Connection, tenant_id: str, integration_id: str) -> None:
    """Takes along the secrets, what was received, and the memory of what was delivered.

    Of what there is much of, CDRs stay: they are what was billed. The rest may be too much for a transaction: then the
    integration is a tombstone, which nobody sees, until `tombstones_due` has removed that.
    """
    if before := await conn.row(sql.integration_connected, tenant_id, integration_id):
        await hub_clients_mark(conn, tenant_id, before, {*before["parties"]}, {})
    await secrets_forget(conn, tenant_id, integration_id)
    for statement in (sql.exchange_forget, sql.run_forget):
        await in_slices(conn, statement, tenant_id, integration_id)
    await conn.run(sql.integration_forget_few, tenant_id, integration_id)
    if not await _forget_slice(conn, tenant_id, integration_id):
        await conn.run(sql.integration_tombstone, tenant_id, integration_id)


async def tombstones_due(database: Database) -> bool:
    """Removes the next slice of a deleted integration. False when there is none."""
    async with database.transaction() as conn:
        row = await conn.row(sql.integration_tombstone_next)
        if row is None:
            return False
        await _forget_slice(conn, row["tenant_id"], row["integration_id"])
    return True


async def _forget_slice(conn: Connection, tenant_id: str, integration_id: str) -> bool:
    """Whether that was all: then the integration is gone, too."""
    for statement in _MANY:
        if await conn.run(statement, tenant_id, integration_id, SLICE) == SLICE:
            return False
    await conn.run(sql.integration_delete, tenant_id, integration_id)
    return True


async def integration_objects(conn: Connection, tenant_id: str, integration_id: str) -> int:
    """How many objects the partner holds, or may hold, through the integration."""
    count: int = await conn.value(sql.integration_objects, tenant_id, integration_id)
    return count


async def integration_page(
    database: Database, tenant_id: str, request: ListIntegrationsRequest, after: str, limit: int
) -> list[tuple[str, bytes]]:
    """(id, serialized integration) after the id `after`, in their order, up to `limit` and about 1 MiB."""
    enabled = request.enabled if request.HasField("enabled") else None
    rows = await database.rows(sql.integration_page, tenant_id, after, request.type, enabled, limit, MAX_BYTES)
    return [(row["integration_id"], row["payload"]) for row in rows]


async def secrets_put(
    conn: Connection, keyring: Keyring, tenant_id: str, integration_id: str, secrets: dict[str, Secret]
) -> None:
    """Seals each secret for its own (tenant, integration, field)."""
    resource = _resource(integration_id)
    for field, secret in secrets.items():
        sealed = keyring.seal(secret, associated(tenant_id, resource, field))
        await conn.run(sql.secret_put, tenant_id, resource, field, sealed)


async def secrets_get(conn: Connection, keyring: Keyring, tenant_id: str, integration_id: str) -> dict[str, Secret]:
    """Field -> secret. Raises SealBroken for one that was moved or tampered with."""
    rows = await conn.rows(sql.secrets_get, tenant_id, _resource(integration_id))
    return secrets_opened(keyring, tenant_id, integration_id, rows)


def secrets_opened(keyring: Keyring, tenant_id: str, integration_id: str, rows: Iterable[Any]) -> dict[str, Secret]:
    """The same from rows; one without a field is none."""
    resource = _resource(integration_id)
    return {
        row["field"]: keyring.open(row["sealed"], associated(tenant_id, resource, row["field"]))
        for row in rows
        if row["field"] is not None
    }


async def secret_forget(conn: Connection, tenant_id: str, integration_id: str, field: str) -> None:
    await conn.run(sql.secret_forget, tenant_id, _resource(integration_id), field)


async def secrets_forget(conn: Connection, tenant_id: str, integration_id: str) -> None:
    """All of the integration's."""
    await conn.run(sql.secrets_forget, tenant_id, _resource(integration_id))


async def secrets_rewrap(database: Database, keyring: Keyring) -> int:
    """Puts every secret under the keyring's current key; returns how many were not. Raises SealBroken."""
    older = [row for row in await database.rows(sql.secrets_all) if key_id_of(row["sealed"]) != keyring.current]
    for row in older:
        name = (row["tenant_id"], row["resource"], row["field"])
        await database.run(sql.secret_rewrap, *name, row["sealed"], keyring.rewrap(row["sealed"], associated(*name)))
    return len(older)


def new_integration_id(type: IntegrationType.ValueType) -> str:
    """A short id that says what it is: `ocpi-1f0c9a2e`."""
    return f"{type_name(type).replace('_', '-')}-{uuid4().hex[:8]}"


def _parties(integration: Integration) -> list[str]:
    return [party.country_code + party.party_id for party in integration.parties]


def _resource(integration_id: str) -> str:
    return f"integration/{integration_id}"

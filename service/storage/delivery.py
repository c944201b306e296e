"""The way of objects to partners, as rows: what is due, who works on it, what the partner is known to hold."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import asyncpg
from evbridge.v1.delivery_pb2 import (
    DELIVERY_STATE_PENDING,
    PEER_OBJECT_STATE_NONE,
    Delivery,
    DeliveryAttempt,
    ListDeliveriesRequest,
    ObjectKind,
    PeerObject,
    PeerObjectState,
)
from evbridge.v1.error_reason_pb2 import ErrorReason
from evbridge.v1.integration_pb2 import IntegrationStatus, IntegrationType

from service.domain.delivery import Verdict
from service.domain.keys import ObjectKey
from service.errors import DeliveryInProgress, EvbridgeError, PartnerError, ResourceNotFound
from service.storage.connection import Connection
from service.storage.pool import Database
from service.storage.statements import Statements

sql = Statements.beside(__file__)

BELOW = "\t"
"""What joins the id of an object and those of its parts. No id holds it."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """An integration with due deliveries. `failures` counts those in a row that held it back."""

    tenant_id: str
    integration_id: str
    type: IntegrationType.ValueType
    status: IntegrationStatus.ValueType
    failures: int


@dataclass(frozen=True, slots=True)
class Claim:
    """A delivery that is ours until its lease ends. `lease_token` fences out whoever held it before.

    `failed_attempts` counts this one. `verify`: someone asked to compare with the partner first; `overwrite`: and to
    put ours on top of its change.
    """

    tenant_id: str
    integration_id: str
    delivery_id: UUID
    object_kind: ObjectKind.ValueType
    object_id: str
    generation: int
    lease_token: int
    failed_attempts: int
    verify: bool
    overwrite: bool

    @property
    def peer_key(self) -> tuple[str, str, int, str]:
        return self.tenant_id, self.integration_id, self.object_kind, self.object_id


@dataclass(frozen=True, slots=True)
class Peer:
    """What the partner is known to hold. `acknowledged_*` describe the state of it that we last saw."""

    state: PeerObjectState.ValueType = PEER_OBJECT_STATE_NONE
    external_id: str = ""
    acknowledged_version: int = 0
    acknowledged_hash: bytes | None = None
    sent_document: bytes | None = None


async def delivery_get(database: Database, tenant_id: str, delivery_id: str) -> Delivery:
    """With its newest 20 attempts. Raises ResourceNotFound."""
    row = await database.row(sql.delivery_get, tenant_id, UUID(delivery_id))
    if row is None:
        raise ResourceNotFound.of("delivery", delivery_id)
    delivery = _delivery(row)
    for attempt in await database.rows(sql.delivery_attempts, tenant_id, UUID(delivery_id)):
        delivery.attempts.append(DeliveryAttempt(**attempt))
    return delivery


async def delivery_page(
    database: Database, tenant_id: str, request: ListDeliveriesRequest, after: UUID, limit: int
) -> list[tuple[str, bytes]]:
    """(id, serialized delivery) after the id `after`, in their order, without attempts."""
    rows = await database.rows(
        sql.delivery_page,
        tenant_id,
        after,
        request.integration_id,
        request.object_kind,
        request.object_id,
        request.state,
        limit,
    )
    return [(str(row["delivery_id"]), _delivery(row).SerializeToString()) for row in rows]


async def delivery_retry(conn: Connection, tenant_id: str, delivery_id: str, overwrite: bool) -> str:
    """Makes it due now and returns its integration's id. Raises ResourceNotFound, DeliveryInProgress."""
    integration_id: str | None = await conn.value(sql.delivery_retry, tenant_id, UUID(delivery_id), overwrite)
    if integration_id is not None:
        return integration_id
    if await conn.row(sql.delivery_get, tenant_id, UUID(delivery_id)) is None:
        raise ResourceNotFound.of("delivery", delivery_id)
    raise DeliveryInProgress("an attempt is under way; try again when it has ended")


async def delivery_waiting(database: Database) -> list[Waiting]:
    """Integrations, of all tenants, that may be sent something now."""
    return [Waiting(**dict(row)) for row in await database.rows(sql.delivery_waiting)]


async def delivery_claim(database: Database, waiting: Waiting, lease_s: float) -> Claim | None:
    """The integration's delivery that is due the longest; None when nothing is."""
    key = (waiting.tenant_id, waiting.integration_id)
    row = await database.row(sql.delivery_claim, *key, timedelta(seconds=lease_s))
    return None if row is None else Claim(*key, **dict(row))


async def delivery_done(conn: Connection, claim: Claim) -> bool:
    """Ends a claim with success. False when the lease was lost and another worker has it."""
    fence = (claim.tenant_id, claim.delivery_id, claim.lease_token, claim.generation)
    return await conn.value(sql.delivery_done, *fence) is not None


async def delivery_failed(
    conn: Connection, claim: Claim, error: EvbridgeError, verdict: Verdict, delay_s: float
) -> bool:
    """Ends a claim with a failure. False when the lease was lost and another worker has it."""
    fence = (claim.tenant_id, claim.delivery_id, claim.lease_token, claim.generation)
    delay = timedelta(seconds=delay_s)
    outcome = (verdict.parked, delay, verdict.counts, error.reason, error.message)
    return await conn.value(sql.delivery_failed, *fence, *outcome) is not None


async def delivery_resume(
    database: Database, claim: Claim, kind: ObjectKind.ValueType, reason: ErrorReason.ValueType
) -> None:
    """Makes those of its integration due that are parked for the reason, or that may be before they see the change."""
    await database.run(sql.delivery_resume, claim.tenant_id, claim.integration_id, kind, reason)


async def attempt_record(
    conn: Connection, claim: Claim, duration_s: float, description: str, sent_version: int, error: EvbridgeError | None
) -> None:
    http_status, partner_code = (error.http_status, error.partner_code) if isinstance(error, PartnerError) else (0, "")
    await conn.run(
        sql.delivery_attempt_record,
        claim.tenant_id,
        claim.delivery_id,
        timedelta(seconds=duration_s),
        error.reason if error else 0,
        description,
        http_status,
        partner_code,
        sent_version,
    )


async def peer_get(conn: Connection, claim: Claim) -> Peer:
    row = await conn.row(sql.peer_get, *claim.peer_key)
    return Peer() if row is None else Peer(**dict(row))


async def peers_known(
    conn: Connection,
    tenant_id: str,
    integration_id: str,
    object_kind: ObjectKind.ValueType,
    keys: Collection[ObjectKey],
) -> set[ObjectKey]:
    """Those of the objects that were once sent to the partner, also when they have been deleted here since."""
    ids = {str(key): key for key in keys}
    rows = await conn.rows(sql.peers_known, tenant_id, integration_id, object_kind, [*ids])
    return {ids[row["object_id"]] for row in rows}


async def peers_below(conn: Connection, claim: Claim) -> dict[tuple[int, str], Peer]:
    """(kind, id) -> the parts of the object, each a peer of its own under `<object's id>\\t<part's id>`."""
    rows = await conn.rows(sql.peers_below, claim.tenant_id, claim.integration_id, claim.object_id)
    return {(kind, id): Peer(*peer) for kind, id, *peer in rows}


async def peer_sending(database: Database, claim: Claim, peer: Peer, document: bytes | None) -> None:
    """Remembers, before a request leaves, what is sent (None: a delete) on top of which state of the partner."""
    base = (peer.acknowledged_version, peer.acknowledged_hash)
    await database.run(sql.peer_sending, *claim.peer_key, *base, document)


async def peer_acknowledged(conn: Connection, claim: Claim, peer: Peer) -> None:
    state = (peer.external_id, peer.acknowledged_version, peer.acknowledged_hash, peer.sent_document)
    await conn.run(sql.peer_acknowledged, *claim.peer_key, *state)


async def peer_gone(conn: Connection, claim: Claim) -> None:
    """The partner does not hold the object any more."""
    await conn.run(sql.peer_gone, *claim.peer_key)


def _delivery(row: asyncpg.Record) -> Delivery:
    delivery = Delivery(
        id=str(row["delivery_id"]),
        integration_id=row["integration_id"],
        object_kind=row["object_kind"],
        object_id=row["object_id"],
        state=row["state"],
        reason=row["reason"],
        description=row["description"],
        failed_attempts=row["failed_attempts"],
        create_time=row["create_time"],
        update_time=row["update_time"],
        peer_object=PeerObject(
            state=row["peer_state"] or PEER_OBJECT_STATE_NONE,
            external_id=row["external_id"] or "",
            acknowledged_version=row["acknowledged_version"] or 0,
            acknowledge_time=row["acknowledge_time"],
        ),
    )
    if delivery.state == DELIVERY_STATE_PENDING:
        delivery.next_attempt_time.FromDatetime(row["due_time"])
    return delivery

"""The way of objects to partners, as rows: what is due, and who works on it."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg
from evbridge.v1.delivery_pb2 import (
    DELIVERY_STATE_IN_PROGRESS,
    PEER_OBJECT_STATE_NONE,
    Delivery,
    DeliveryAttempt,
    DeliveryState,
    DeliverySummary,
    ListDeliveriesRequest,
    ObjectKind,
    PeerObject,
)
from evbridge.v1.error_reason_pb2 import ErrorReason
from evbridge.v1.integration_pb2 import IntegrationStatus, IntegrationType

from service.domain.delivery import OUTAGE_OBJECTS, Next, Streak, Verdict, is_of_partner
from service.domain.keys import stored_ids
from service.domain.partner_error import PartnerError
from service.errors import DeliveryInProgress, EvbridgeError, LeaseLost, ResourceNotFound
from service.storage.connection import Connection
from service.storage.object_id import object_ids_shown
from service.storage.pool import Database
from service.storage.slices import SLICE
from service.storage.statements import Statements

sql = Statements.beside(__file__)
MAX_COUNT = 100_000
MAX_RECENT = 10_000
"""So far a summary counts: deliveries of a state, attempts of the last hour."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """An integration with due deliveries."""

    tenant_id: str
    integration_id: str
    type: IntegrationType.ValueType


class Backlog(NamedTuple):
    """An integration, and what waits for it: `waiting_s` is how long the oldest does, 0 when nothing waits."""

    tenant_id: str
    integration_id: str
    status: IntegrationStatus.ValueType
    waiting: int
    parked: int
    waiting_s: float


class PeerKey(NamedTuple):
    """An object on its way to a partner, as it is stored."""

    tenant_id: str
    integration_id: str
    object_kind: ObjectKind.ValueType
    object_id: str


@dataclass(frozen=True, slots=True)
class Claim:
    """A delivery that is ours until its lease ends. `lease_token` fences out whoever held it before.

    `failed_attempts` counts this one. `verify`: someone asked to compare with the partner first; `overwrite`: and to
    put ours on top of its change. `healthy`: as far as is known the partner takes what it is sent.
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
    healthy: bool
    lease_s: float

    @property
    def peer_key(self) -> PeerKey:
        return PeerKey(self.tenant_id, self.integration_id, self.object_kind, self.object_id)

    @property
    def fence(self) -> tuple[str, UUID, int]:
        return self.tenant_id, self.delivery_id, self.lease_token


async def delivery_get(database: Database | Connection, tenant_id: str, delivery_id: str) -> Delivery:
    """With its newest 20 attempts. Raises ResourceNotFound."""
    rows = await database.rows(sql.delivery_find, tenant_id, [UUID(delivery_id)])
    if not rows:
        raise ResourceNotFound.of("delivery", delivery_id)
    (delivery,) = await _deliveries(database, tenant_id, rows)
    for attempt in await database.rows(sql.delivery_attempts, tenant_id, UUID(delivery_id)):
        delivery.attempts.append(DeliveryAttempt(**attempt))
    return delivery


async def delivery_find(database: Database, tenant_id: str, ids: Collection[str]) -> dict[str, bytes]:
    """Those of the deliveries that exist, serialized, without attempts."""
    rows = await database.rows(sql.delivery_find, tenant_id, [*map(UUID, ids)])
    return {each.id: each.SerializeToString() for each in await _deliveries(database, tenant_id, rows)}


async def delivery_page(
    database: Database, tenant_id: str, request: ListDeliveriesRequest, after: UUID, limit: int
) -> list[tuple[str, bytes]]:
    """(id, serialized delivery) after the id `after`, in their order, without attempts."""
    states = [request.state] if request.state else [*DeliveryState.values()][1:]
    if request.object_id:
        kinds = [request.object_kind] if request.object_kind else [*ObjectKind.values()][1:]
        names = (request.integration_id, kinds, states, stored_ids(request.object_id))
        rows = await database.rows(sql.delivery_page_of, tenant_id, after, *names, limit)
    else:
        filters = (request.integration_id, request.object_kind, states)
        rows = await database.rows(sql.delivery_page, tenant_id, after, *filters, limit)
    return [(each.id, each.SerializeToString()) for each in await _deliveries(database, tenant_id, rows)]


async def delivery_key(database: Database, tenant_id: str, delivery_id: str) -> PeerKey:
    """Raises ResourceNotFound."""
    row = await database.row(sql.delivery_key, tenant_id, UUID(delivery_id))
    if row is None:
        raise ResourceNotFound.of("delivery", delivery_id)
    return PeerKey(**dict(row))


async def delivery_integration(conn: Connection, tenant_id: str, delivery_id: str) -> str:
    """The id of its integration. Raises ResourceNotFound."""
    integration_id: str | None = await conn.value(sql.delivery_integration, tenant_id, UUID(delivery_id))
    if integration_id is None:
        raise ResourceNotFound.of("delivery", delivery_id)
    return integration_id


async def delivery_retry(conn: Connection, tenant_id: str, delivery_id: str, overwrite: bool) -> None:
    """Makes one that exists due now. Raises DeliveryInProgress."""
    if await conn.value(sql.delivery_retry, tenant_id, UUID(delivery_id), overwrite) is None:
        raise DeliveryInProgress("an attempt is under way; try again when it has ended")


async def delivery_discard(conn: Connection, tenant_id: str, delivery_id: str) -> None:
    """Gives one that exists up, unless it is delivered. Raises DeliveryInProgress."""
    if await conn.value(sql.delivery_discard, tenant_id, UUID(delivery_id)) is None:
        raise DeliveryInProgress("an attempt is under way; try again when it has ended")


async def delivery_retry_parked(
    conn: Connection, tenant_id: str, integration_id: str, kind: ObjectKind.ValueType
) -> int:
    """Makes those parked due now, of one kind or (0) of all; returns how many."""
    total = 0
    while count := await conn.value(sql.delivery_retry_parked, tenant_id, integration_id, kind, SLICE):
        total += count
    return total


async def delivery_redeliver(
    conn: Connection, tenant_id: str, integration_id: str, kind: ObjectKind.ValueType, ids: Sequence[str]
) -> None:
    """Makes those of the objects due that have a delivery, whatever the partner is known to hold."""
    await conn.run(sql.delivery_redeliver, tenant_id, integration_id, kind, ids)
    await conn.run(sql.peer_parts_doubt, tenant_id, integration_id, kind, ids)


async def delivery_count(
    conn: Connection, tenant_id: str, integration_id: str, kinds: Sequence[ObjectKind.ValueType]
) -> int:
    """How many there are of the kinds."""
    count: int = await conn.value(sql.delivery_count, tenant_id, integration_id, kinds)
    return count


async def delivery_summary(database: Database, tenant_id: str, integration_id: str) -> DeliverySummary:
    async with database.connection() as conn:
        states = await conn.row(sql.delivery_summary, tenant_id, integration_id, MAX_COUNT)
        attempts = await conn.row(sql.delivery_recent_attempts, tenant_id, integration_id, MAX_RECENT)
    assert states is not None and attempts is not None  # noqa: S101
    return DeliverySummary(**dict(states), **dict(attempts))


async def delivery_backlog(database: Database) -> list[Backlog]:
    """Of every integration of all tenants."""
    return [Backlog(**dict(row)) for row in await database.rows(sql.delivery_backlog, MAX_COUNT)]


async def delivery_waiting(database: Database) -> list[Waiting]:
    """Integrations, of all tenants, that may be sent something now; first those where nothing fails."""
    return [Waiting(**dict(row)) for row in await database.rows(sql.delivery_waiting)]


async def delivery_claim(database: Database, waiting: Waiting, lease_s: float) -> Claim | None:
    """The integration's delivery that is due the longest; None when nothing is."""
    key = (waiting.tenant_id, waiting.integration_id)
    row = await database.row(sql.delivery_claim, *key, timedelta(seconds=lease_s))
    return None if row is None else Claim(*key, **dict(row), lease_s=lease_s)


async def delivery_renew(database: Database | Connection, claim: Claim) -> None:
    """The lease begins anew. Raises LeaseLost."""
    lease_held(await database.value(sql.delivery_renew, *claim.fence, timedelta(seconds=claim.lease_s)))


async def delivery_hold(conn: Connection, claim: Claim) -> None:
    """Keeps the claim from ending until the transaction does. Raises LeaseLost."""
    lease_held(await conn.value(sql.delivery_hold, *claim.fence, claim.integration_id))


async def delivery_failed(
    conn: Connection, claim: Claim, error: EvbridgeError, verdict: Verdict, streak: Streak, delay_s: float
) -> None:
    """Ends a claim with a failure. Raises LeaseLost."""
    parked = verdict.next is Next.PARK
    delay = None if verdict.next is Next.WAIT else timedelta(seconds=delay_s)
    failing = is_of_partner(error) and not (parked and streak.proven)
    outcome = (parked, delay, verdict.counts, failing, error.reason, error.message)
    lease_held(await conn.value(sql.delivery_failed, *claim.fence, claim.generation, *outcome))


async def delivery_streak(
    conn: Connection,
    claim: Claim,
    error: EvbridgeError,
    failures: int,
    begin_time: datetime,
    outage_time: datetime | None,
) -> Streak:
    """What the failure is part of, as one of `failures` in a row that began then."""
    key = (claim.tenant_id, claim.integration_id, claim.delivery_id)
    row = await conn.row(sql.delivery_streak, *key, begin_time, error.reason, OUTAGE_OBJECTS, outage_time)
    assert row is not None  # noqa: S101
    return Streak(failures, 1 + row["others"], row["proven"], row["lasts"])


async def delivery_unpark(
    database: Database | Connection, tenant_id: str, integration_id: str, reason: ErrorReason.ValueType | None
) -> None:
    """Makes those of an integration due that were parked, for the reason or for any, since it last took an object."""
    await database.run(sql.delivery_unpark, tenant_id, integration_id, reason)


async def delivery_resume(
    database: Database, claim: Claim, kind: ObjectKind.ValueType, reason: ErrorReason.ValueType
) -> None:
    """Makes others of its integration due that wait for the reason, or that may do so before they see the change."""
    of = (claim.tenant_id, claim.integration_id, kind, reason, claim.delivery_id)
    await database.run(sql.delivery_resume, *of)


async def attempt_failed(conn: Connection, claim: Claim, duration_s: float, error: EvbridgeError) -> None:
    """Records an attempt; one that succeeds is recorded by `peer_delivered`."""
    http_status, partner_code = (error.http_status, error.partner_code) if isinstance(error, PartnerError) else (0, "")
    await conn.run(
        sql.delivery_attempt_failed,
        claim.tenant_id,
        claim.delivery_id,
        timedelta(seconds=duration_s),
        error.reason,
        error.message,
        http_status,
        partner_code,
        claim.integration_id,
    )


def lease_held(found: Any) -> Any:
    """What a statement found that the lease token fences. Raises LeaseLost when that is nothing."""
    if found is None:
        raise LeaseLost("another worker has the delivery, or it is gone")
    return found


async def _deliveries(on: Database | Connection, tenant_id: str, rows: Collection[asyncpg.Record]) -> list[Delivery]:
    return [*map(_delivery, rows, await object_ids_shown(on, tenant_id, rows))]


def _delivery(row: asyncpg.Record, object_id: str) -> Delivery:
    return Delivery(
        id=str(row["delivery_id"]),
        integration_id=row["integration_id"],
        object_kind=row["object_kind"],
        object_id=object_id,
        state=row["state"],
        reason=row["reason"],
        description=row["description"],
        # The one under way is counted already.
        failed_attempts=row["failed_attempts"] - (row["state"] == DELIVERY_STATE_IN_PROGRESS),
        next_attempt_time=row["next_attempt_time"],
        create_time=row["create_time"],
        update_time=row["update_time"],
        peer_object=PeerObject(
            state=row["peer_state"] or PEER_OBJECT_STATE_NONE,
            external_id=row["external_id"] or "",
            acknowledged_version=row["acknowledged_version"] or 0,
            acknowledge_time=row["acknowledge_time"],
        ),
    )

"""Long pieces of work, as rows: who asked for them, who is at them, how far they came."""

import asyncio
import random
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
from evbridge.v1.integration_pb2 import IntegrationType
from evbridge.v1.run_pb2 import (
    RUN_STATE_CANCELLED,
    RUN_STATE_CANCELLING,
    RUN_STATE_FAILED,
    RUN_STATE_SUCCEEDED,
    CredentialsOptions,
    ListRunFindingsRequest,
    ListRunsRequest,
    Run,
    RunFinding,
    RunKind,
    RunState,
    SyncOptions,
)
from google.protobuf.timestamp_pb2 import Timestamp

from service.domain.caller import Caller
from service.errors import EvbridgeError, LeaseLost, ResourceNotFound, RunEnded, RunInProgress
from service.storage.changes import change_time
from service.storage.connection import Connection
from service.storage.pool import Database
from service.storage.statements import Statements

sql = Statements.beside(__file__)

ENDED = frozenset({RUN_STATE_SUCCEEDED, RUN_STATE_FAILED, RUN_STATE_CANCELLED})
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_CHARACTERS = 500
_FIRST_LOOK_S, _SLOWEST_LOOK_S = 0.05, 1.0


@dataclass(frozen=True, slots=True)
class RunClaim:
    """A run that is ours until its lease ends. `lease_token` fences out whoever held it before.

    `attempts` counts this one and those whose process died; `key_id` says who asked for it. `start_time` is that of the
    first attempt.
    """

    tenant_id: str
    run_id: UUID
    integration_id: str
    kind: RunKind.ValueType
    type: IntegrationType.ValueType
    state: RunState.ValueType
    lease_token: int
    attempts: int
    key_id: str
    options: bytes
    start_time: datetime

    @property
    def sync_options(self) -> SyncOptions:
        return Run.FromString(self.options).sync_options

    @property
    def credentials_options(self) -> CredentialsOptions:
        return Run.FromString(self.options).credentials_options

    @property
    def repeated(self) -> bool:
        """Whether an attempt before this one may have done part of the work, or all of it."""
        return self.lease_token > 1

    @property
    def fence(self) -> tuple[str, UUID, int]:
        return self.tenant_id, self.run_id, self.lease_token


async def run_start(
    conn: Connection,
    caller: Caller,
    integration_id: str,
    kind: RunKind.ValueType,
    sync_options: SyncOptions | None = None,
    credentials_options: CredentialsOptions | None = None,
) -> Run:
    """Queues a run of a kind that the integration's type knows. Raises RunInProgress.

    It begins when the transaction is committed.
    """
    run_id = _new_id(await change_time(conn))
    options = Run(sync_options=sync_options, credentials_options=credentials_options).SerializeToString()
    queued: UUID = await conn.value(
        sql.run_start, caller.tenant_id, run_id, integration_id, kind, caller.actor, options
    )
    if queued != run_id:
        raise RunInProgress(f"run {queued} of this kind is under way for the integration", run_id=str(queued))
    return await run_get(conn, caller.tenant_id, str(run_id))


async def run_get(on: Connection | Database, tenant_id: str, run_id: str) -> Run:
    """With its steps. Raises ResourceNotFound."""
    row = await on.row(sql.run_get, tenant_id, UUID(run_id))
    if row is None:
        raise ResourceNotFound.of("run", run_id)
    return _run(row)


async def run_page(
    database: Database, tenant_id: str, request: ListRunsRequest, before: UUID, limit: int
) -> list[tuple[str, bytes]]:
    """(id, serialized run) before the id `before`, newest first, without steps."""
    filters = (request.integration_id, request.kind, request.state)
    rows = await database.rows(sql.run_page, tenant_id, before, *filters, limit)
    return [(str(row["run_id"]), _run(row).SerializeToString()) for row in rows]


async def run_cancel(conn: Connection, tenant_id: str, run_id: str) -> Run:
    """Ends a queued run and asks one under way to stop. Raises ResourceNotFound, RunEnded."""
    cancelled = await conn.value(sql.run_cancel, tenant_id, UUID(run_id))
    run = await run_get(conn, tenant_id, run_id)
    if cancelled is None:
        raise RunEnded(f"run {run_id} has ended", state=RunState.Name(run.state))
    return run


async def run_wait(
    database: Database, tenant_id: str, run_id: str, limit_s: float, after: Timestamp | None = None
) -> Run:
    """The run once it has ended, or was updated later than `after`; as it is when neither happened within `limit_s`.

    Looks again and again, less and less often, and holds no connection meanwhile. Raises ResourceNotFound.
    """
    end, pause_s = time.monotonic() + limit_s, _FIRST_LOOK_S
    while True:
        run = await run_get(database, tenant_id, run_id)
        changed = after is not None and _instant(run.update_time) > _instant(after)
        left_s = end - time.monotonic()
        if run.state in ENDED or changed or left_s <= 0:
            return run
        await asyncio.sleep(min(left_s, pause_s * random.uniform(0.75, 1.25)))
        pause_s = min(pause_s * 1.5, _SLOWEST_LOOK_S)


async def run_claim(
    database: Database, executors: Iterable[tuple[RunKind.ValueType, IntegrationType.ValueType]], lease_s: float
) -> RunClaim | None:
    """The oldest run, of any tenant, that one of `executors` can do and nobody is at; None when there is none."""
    kinds, types = zip(*executors, strict=True)
    row = await database.row(sql.run_claim, kinds, types, timedelta(seconds=lease_s))
    return None if row is None else RunClaim(**dict(row))


async def run_report(database: Database, claim: RunClaim, report: Run, lease_s: float) -> bool:
    """Stores progress and steps, renews the lease. False when the run is to be cancelled. Raises LeaseLost."""
    state = await database.value(sql.run_report, *claim.fence, *_columns(report), timedelta(seconds=lease_s))
    if state is None:
        raise LeaseLost("another worker has the run, or it is gone")
    return bool(state != RUN_STATE_CANCELLING)


async def run_findings_add(database: Database, claim: RunClaim, first: int, findings: Sequence[RunFinding]) -> None:
    """Stores what the claim's attempt found, numbered from `first`; what is stored already stays."""
    numbers = range(first, first + len(findings))
    outcomes = [finding.outcome for finding in findings]
    payloads = [finding.SerializeToString() for finding in findings]
    await database.run(sql.run_findings_add, *claim.fence, [*numbers], outcomes, payloads)


async def run_findings_keep(database: Database, claim: RunClaim) -> dict[int, RunFinding]:
    """Makes what earlier attempts found the claim's, and returns it by number."""
    rows = await database.rows(sql.run_findings_keep, *claim.fence)
    return {row["number"]: RunFinding.FromString(row["payload"]) for row in rows}


async def run_findings_page(
    database: Database, tenant_id: str, request: ListRunFindingsRequest, after: int, limit: int
) -> list[tuple[str, bytes]]:
    """(number, serialized finding) after the number `after`. Raises ResourceNotFound when there is no such run."""
    await run_get(database, tenant_id, request.run_id)
    rows = await database.rows(sql.run_findings_page, tenant_id, UUID(request.run_id), after, request.outcome, limit)
    return [(str(row["number"]), row["payload"]) for row in rows]


async def run_hold(conn: Connection, claim: RunClaim) -> None:
    """Keeps the claim from ending until the transaction does. Raises LeaseLost."""
    if not await conn.value(sql.run_hold, *claim.fence, claim.integration_id):
        raise LeaseLost("another worker has the run, or it is gone")


async def run_came_on(conn: Connection, claim: RunClaim) -> None:
    """The attempt did what no later one does again: a list is read to its end however often its process dies."""
    if claim.attempts > 1:
        await conn.run(sql.run_came_on, *claim.fence)


async def run_end(
    conn: Connection, claim: RunClaim, report: Run, state: RunState.ValueType, error: EvbridgeError | None
) -> None:
    """Ends a claim and its run. Raises LeaseLost."""
    outcome = (state, error.reason, error.message[:_MAX_CHARACTERS]) if error else (state, 0, "")
    if await conn.value(sql.run_end, *claim.fence, *_columns(report), *outcome) is None:
        raise LeaseLost("another worker has the run, or it is gone")


async def run_hand_back(database: Database, claim: RunClaim) -> None:
    """Ends a claim whose process stops: the next worker begins again at once."""
    await database.run(sql.run_hand_back, *claim.fence)


async def run_rest(database: Database, claim: RunClaim, report: Run) -> None:
    """Ends a claim that did part of the work: the run goes on when those that wait had their turn. Raises LeaseLost."""
    if await database.value(sql.run_rest, *claim.fence, *_columns(report)) is None:
        raise LeaseLost("another worker has the run, or it is gone")


def _new_id(now: datetime) -> UUID:
    """A UUID of version 7 (RFC 9562, 5.7): milliseconds, their fraction (6.2, method 3), 62 random bits."""
    milliseconds, microseconds = divmod((now - _EPOCH) // timedelta(microseconds=1), 1000)
    fraction = (microseconds << 12) // 1000
    return UUID(int=milliseconds << 80 | 0x7 << 76 | fraction << 64 | 0x2 << 62 | random.getrandbits(62))


def _instant(time: Timestamp) -> tuple[int, int]:
    return time.seconds, time.nanos


def _columns(report: Run) -> tuple[bytes, bytes]:
    progress = report.progress if report.HasField("progress") else None
    return Run(progress=progress).SerializeToString(), Run(steps=report.steps).SerializeToString()


def _run(row: asyncpg.Record) -> Run:
    run = Run.FromString(row["report"])
    run.id = str(row["run_id"])
    run.integration_id, run.kind, run.state = row["integration_id"], row["kind"], row["state"]
    run.reason, run.description, run.requested_by = row["reason"], row["description"], row["key_id"]
    for name in ("create_time", "start_time", "end_time", "update_time"):
        if (instant := row[name]) is not None:
            getattr(run, name).FromDatetime(instant)
    return run

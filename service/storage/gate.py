"""When a request may leave: slots and budgets that all processes share, and pauses of an integration.

A pause holds back deliveries, or all requests, or those that read or write (`Scope`). Only its beginning and its end
are written; that it lasts is found by the statement that takes a slot, so every process sees it with its next request.
"""

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID, uuid4

import asyncpg
from evbridge.v1 import partner_pb2
from evbridge.v1.partner_pb2 import (
    BREAKER_STATE_CLOSED,
    BREAKER_STATE_HALF_OPEN,
    BREAKER_STATE_OPEN,
    OPERATION_CLASS_READ,
    OPERATION_CLASS_WRITE,
    Budget,
    OperationClass,
    PartnerStatus,
    RepairedAnswers,
)

from service.domain.breaker import Breaker, Scope, is_failure
from service.domain.budget import Permit, Slice, budgets, slice_of
from service.domain.delivery import RetryPolicy
from service.domain.partner_error import PartnerRateLimited, PartnerUnavailable
from service.domain.target import Target
from service.errors import DatabaseUnavailable, EvbridgeError
from service.storage.connection import Connection
from service.storage.pool import Database
from service.storage.statements import Statements

sql = Statements.beside(__file__)

_LEASE_MARGIN_S = 5.0
_ASK_AGAIN_S = 0.02
_Key = tuple[str, str]
T = TypeVar("T")


class PartnerGate:
    """The bridge's `Gate`. Callers of this process queue here, so that only the first of them asks the database.

    `policy` says how long a breaker stays open: longer with every probe that fails.
    """

    def __init__(self, database: Database, policy: RetryPolicy) -> None:
        self._database = database
        self._policy = policy
        self._queues: defaultdict[_Key, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._takers: defaultdict[_Key, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._slices: defaultdict[tuple[_Key, timedelta], Slice] = defaultdict(Slice)
        self._breakers: defaultdict[tuple[_Key, Scope], Breaker] = defaultdict(Breaker)

    @asynccontextmanager
    async def permit(self, target: Target, *, safe: bool, timeout_s: float) -> AsyncIterator[Permit]:
        deadline = _now() + timeout_s
        scope = Scope.READS if safe else Scope.WRITES
        await self._replenish(target, deadline)  # before a slot is taken: nobody waits for a window with one in hand
        async with self._slot(target, scope, deadline) as slot:
            await self._replenish(target, deadline)
            for period, _ in budgets(target):
                self._slices[_key(target), period].left -= 1
            failures = 0 if slot["open_s"] is None else await self._probe(target, scope)
            permit, failed = Permit(slot["recorded"]), None
            try:
                yield permit
                failed = False
            except EvbridgeError as error:
                failed = None if permit.caller_was_short else is_failure(error)
                raise
            finally:
                # What the partner answered matters more.
                with suppress(DatabaseUnavailable):
                    await self._settle(target, scope, permit, failures, failed)

    async def _replenish(self, target: Target, deadline: float) -> None:
        """Ends when a request of every budget is at hand. Raises PartnerRateLimited when that is after `deadline`."""
        wanted = [(period, limit, self._slices[_key(target), period]) for period, limit in budgets(target)]
        while closed := [each for each in wanted if not each[2].is_open(_now())]:
            for period, limit, slice in closed:
                await _wait(target, slice.closed_s(limit, _now()), deadline)
                async with self._takers[_key(target)]:
                    if not slice.is_open(_now()) and not slice.closed_s(limit, _now()):
                        asked, taken = _now(), slice_of(limit)
                        row = await self._database.row(sql.gate_budget_take, *_key(target), period, taken)
                        assert row is not None  # noqa: S101
                        slice.take(taken, row["used"], limit, asked + row["rest_s"])

    @asynccontextmanager
    async def _slot(self, target: Target, scope: Scope, deadline: float) -> AsyncIterator[asyncpg.Record]:
        holder = uuid4()
        try:
            try:
                async with asyncio.timeout_at(deadline), self._queues[_key(target)]:
                    while not (row := await self._take(target, scope, holder))["taken"]:
                        await self._refuse(target, row, deadline)
                        await asyncio.sleep(_ASK_AGAIN_S * (0.5 + random.random()))
            except TimeoutError:
                raise PartnerRateLimited(
                    "every request slot of the integration is taken", partner=target.partner, retry_after_s=1.0
                ) from None
            yield row
        finally:
            # The lease frees it otherwise.
            with suppress(DatabaseUnavailable):
                await _to_its_end(self._database.run(sql.gate_slot_give, *_key(target), holder))

    async def _take(self, target: Target, scope: Scope, holder: UUID) -> asyncpg.Record:
        wanted = (target.max_concurrent_requests, holder, _lease(target), scope)
        row = await _to_its_end(self._database.row(sql.gate_slot_take, *_key(target), *wanted))
        assert row is not None  # noqa: S101
        return row

    async def _refuse(self, target: Target, row: asyncpg.Record, deadline: float) -> None:
        """Waits for the end of a pause by the partner's limit. Raises PartnerUnavailable while a breaker is open."""
        if (row["open_s"] or 0.0) > 0:
            raise PartnerUnavailable(
                f"{target.partner} failed too often and is left alone for a while",
                partner=target.partner,
                retry_after_s=row["open_s"],
            )
        await _wait(target, row["refused_s"] or 0.0, deadline)

    async def _probe(self, target: Target, scope: Scope) -> int:
        """How often the partner failed before this probe. Raises PartnerUnavailable when another one is under way."""
        failures: int | None = await self._database.value(sql.gate_probe, *_key(target), scope, _lease(target))
        if failures is None:
            raise PartnerUnavailable(
                f"{target.partner} is being tried by another request", partner=target.partner, retry_after_s=1.0
            )
        return failures

    async def _settle(self, target: Target, scope: Scope, permit: Permit, failures: int, failed: bool | None) -> None:
        """Writes down what became of a request if it changes anything. `failures` is 0 unless it was a probe.

        A request without an outcome (`failed` is None: its caller went away or was short) counts only as a probe: as a
        failure.
        """
        if repaired := permit.repaired:
            found = (repaired.operation, repaired.value_count, repaired.path, repaired.description)
            await _to_its_end(self._database.run(sql.gate_repaired, *_key(target), *found))
        if permit.limit_reached_s is not None:
            await self._pause(target, Scope.REQUESTS, permit.limit_reached_s)
        if failures and failed is False:
            await _to_its_end(self._database.run(sql.gate_lift, *_key(target), scope, failures))
        elif failures:
            delay = timedelta(seconds=self._policy.backoff_s(failures + 1, random.random()))
            await _to_its_end(self._database.run(sql.gate_probe_failed, *_key(target), scope, failures, delay))
        elif failed is not None and self._breakers[_key(target), scope].opens(failed, _now()):
            await self._pause(target, scope, self._policy.backoff_s(1, random.random()))

    async def _pause(self, target: Target, scope: Scope, delay_s: float) -> None:
        delay = timedelta(seconds=delay_s)
        await _to_its_end(self._database.run(sql.gate_pause, *_key(target), scope, delay))


async def _to_its_end(work: Coroutine[Any, Any, T]) -> T:
    """A caller who leaves meanwhile is let go afterwards: cut short, a slot could be taken after it was given back.

    A statement that is cut short costs its connection, too.
    """
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        with suppress(DatabaseUnavailable):
            await task
        raise


async def gate_failed(conn: Connection, tenant_id: str, integration_id: str) -> tuple[int, datetime, datetime | None]:
    """Counts a delivery that failed: how many did in a row, when the first of them, and since when it is an outage."""
    row = await conn.row(sql.gate_failed, tenant_id, integration_id)
    assert row is not None  # noqa: S101
    return row["failures"], row["begin_time"], row["outage_time"]


async def gate_hold(conn: Connection, tenant_id: str, integration_id: str, delay_s: float) -> None:
    """Holds an integration's deliveries back after one that failed: it is an outage, until `gate_answered`."""
    await conn.run(sql.gate_hold, tenant_id, integration_id, timedelta(seconds=delay_s))


async def gate_answered(conn: Connection, tenant_id: str, integration_id: str) -> None:
    """Ends an outage without a delivery that succeeded."""
    await conn.run(sql.gate_answered, tenant_id, integration_id)


async def gate_succeeded(conn: Connection, tenant_id: str, integration_id: str) -> None:
    """Forgets the deliveries that failed in a row."""
    await conn.run(sql.gate_succeeded, tenant_id, integration_id)


async def gate_resume(conn: Connection, tenant_id: str, integration_id: str) -> None:
    """Lets an integration go on at once; a limit that the partner named still holds."""
    await conn.run(sql.gate_resume, tenant_id, integration_id)


async def gate_status(database: Database, target: Target) -> PartnerStatus:
    """What may be sent through the integration now."""
    async with database.connection() as conn:
        pauses = {row["scope"]: row for row in await conn.rows(sql.gate_pauses, *_key(target))}
        windows = {row["period"]: row for row in await conn.rows(sql.gate_budgets, *_key(target))}
        repairs = await conn.rows(sql.gate_repairs, *_key(target))
        under_way = await conn.value(sql.gate_slots_taken, *_key(target))
    ends = {scope: row["resume_time"] for scope, row in pauses.items() if row["lasts"]}
    return PartnerStatus(
        integration_id=target.integration_id,
        partner=target.partner,
        budgets=[_budget(period, limit, windows.get(period)) for period, limit in budgets(target)],
        max_concurrent_requests=target.max_concurrent_requests,
        concurrent_requests=under_way,
        breakers=[
            _breaker(OPERATION_CLASS_READ, pauses.get(Scope.READS)),
            _breaker(OPERATION_CLASS_WRITE, pauses.get(Scope.WRITES)),
        ],
        limit_reset_time=ends.get(Scope.REQUESTS),
        delivery_resume_time=ends.get(Scope.DELIVERIES),
        repaired_answers=[RepairedAnswers(**row) for row in repairs],
    )


def _budget(period: timedelta, limit: int, row: asyncpg.Record | None) -> Budget:
    budget = Budget(limit=limit)
    budget.period.FromTimedelta(period)
    if row is not None:
        budget.used = min(row["used"], limit)
        budget.reset_time.FromDatetime(row["reset_time"])
    return budget


def _breaker(operation_class: OperationClass.ValueType, row: asyncpg.Record | None) -> partner_pb2.Breaker:
    if row is None:
        return partner_pb2.Breaker(operation_class=operation_class, state=BREAKER_STATE_CLOSED)
    return partner_pb2.Breaker(
        operation_class=operation_class,
        state=BREAKER_STATE_OPEN if row["lasts"] else BREAKER_STATE_HALF_OPEN,
        failures=row["failures"],
        resume_time=row["resume_time"] if row["lasts"] else None,
    )


async def _wait(target: Target, wait_s: float, deadline: float) -> None:
    """Raises PartnerRateLimited when the wait would end after `deadline`."""
    if wait_s > 0 and _now() + wait_s > deadline:
        raise PartnerRateLimited(
            f"the limit on requests to {target.partner} is reached", partner=target.partner, retry_after_s=wait_s
        )
    await asyncio.sleep(max(wait_s, 0.0))


def _lease(target: Target) -> timedelta:
    """Longer than a request may take: who holds something beyond it has died."""
    return timedelta(seconds=target.timeout_s + _LEASE_MARGIN_S)


def _key(target: Target) -> _Key:
    return target.tenant_id, target.integration_id


def _now() -> float:
    return asyncio.get_running_loop().time()

"""Finds what is due and sees that it arrives: one task per integration, so that none waits for another.

Of one integration objects go one after another at first, and several at once while they arrive.

Any number of processes may run one. A delivery is claimed with a lease, which is renewed while it is worked on, and a
fencing token: without it nothing is sent or stored. How requests of one integration are spread over processes is the
gate's business.
"""

import asyncio
import logging
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from evbridge.v1 import error_reason_pb2 as reasons
from evbridge.v1.delivery_pb2 import OBJECT_KIND_TOKEN
from evbridge.v1.integration_pb2 import INTEGRATION_STATUS_ACTIVE, INTEGRATION_STATUS_FAILED, IntegrationType
from opentelemetry import metrics, trace

from service.delivery.views import VIEWED, view_refresh
from service.domain.delivery import Next, RetryPolicy, Streak, answers, is_of_partner, verdict
from service.errors import EvbridgeError, LeaseLost
from service.storage.changes import change_time
from service.storage.clock import Clock
from service.storage.connection import describe
from service.storage.delivery import (
    Claim,
    Waiting,
    attempt_failed,
    delivery_claim,
    delivery_failed,
    delivery_renew,
    delivery_streak,
    delivery_unpark,
    delivery_waiting,
)
from service.storage.gate import gate_answered, gate_failed, gate_hold, gate_succeeded
from service.storage.integration import integration_answered, integration_lock, integration_pause, integration_status
from service.storage.peer import Peer, peer_delivered
from service.storage.pool import Database
from service.telemetry import log_fields
from service.workers import finish, while_leased, work_or_poll

log = logging.getLogger(__name__)

LEASE_S = 20.0
"""Longer than a request may take: one that leaves is over before somebody else can claim its delivery."""
MAX_INTEGRATIONS = 64
"""So many at a time, without those of SLOW_S."""
SLOW_S = 2.0
"""An integration whose partner does not answer for so long makes room for another one."""
REST = 4.0
"""How much longer it rests than it looked for what is due."""
MAX_AT_ONCE = 8
"""Objects of one integration: few, since the connections to the database are shared by all."""
ONE_MORE_AFTER = 8
"""So many objects that arrived in a row."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """A delivery that arrived: what the partner holds now (None: nothing) and the version sent (0: nothing was).

    `answered`: the partner was asked, so it works. `again_s`: it is held back, and due again then.
    """

    peer: Peer | None
    sent_version: int
    description: str
    answered: bool = True
    again_s: float | None = None


class Deliverer(Protocol):
    """Brings objects to one type of partner."""

    async def at_once(self, tenant_id: str, integration_id: str) -> int:
        """How many objects may be on their way to the partner at a time. Raises EvbridgeError."""
        ...

    async def deliver(self, claim: Claim) -> Delivered:
        """Raises EvbridgeError when it did not arrive, or when that is not known; LeaseLost before it sends anything
        that the claim does not cover any more.
        """
        ...


class DeliveryWorker:
    """`run` works until `stop`, which lets the attempts under way end."""

    def __init__(
        self,
        database: Database,
        deliverers: Mapping[IntegrationType.ValueType, Deliverer],
        policy: RetryPolicy,
        poll_s: float,
        clock: Clock,
    ) -> None:
        self._database = database
        self._deliverers = deliverers
        self._policy = policy
        self._poll_s = poll_s
        self._clock = clock
        self._under_way: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._moved: dict[tuple[str, str], float] = {}
        """When each of them last came on, by the monotonic clock."""
        self._wake = asyncio.Event()
        self._stopping = False
        self._tracer = trace.get_tracer("evbridge.delivery")
        self._attempts = metrics.get_meter("evbridge.delivery").create_counter(
            "evbridge.delivery.attempts", unit="{attempt}", description="Attempts to bring an object to a partner."
        )

    async def run(self) -> None:
        while not self._stopping:
            self._wake.clear()
            began = time.monotonic()
            try:
                self._start(await delivery_waiting(self._database))
            except Exception as error:
                log.warning("looking for deliveries failed", extra={"problem": describe(error)})
            # It looks at every integration, and is woken by whatever becomes due at one of them.
            await asyncio.sleep(min(self._poll_s, REST * (time.monotonic() - began)))
            await work_or_poll(self._wake, self._poll_s)

    async def stop(self, limit_s: float) -> None:
        """Ends within `limit_s`; what was cut off is settled by the next worker that claims it."""
        self._stopping = True
        self._wake.set()
        await finish(self._under_way.values(), limit_s)

    def _start(self, integrations: list[Waiting]) -> None:
        now = time.monotonic()
        moving = sum(moved > now - SLOW_S for moved in self._moved.values())
        for waiting in integrations:
            key = (waiting.tenant_id, waiting.integration_id)
            if key not in self._under_way and moving < MAX_INTEGRATIONS:
                moving += 1
                self._moved[key] = now
                self._under_way[key] = asyncio.create_task(self._deliver_all(waiting))

    async def _deliver_all(self, waiting: Waiting) -> None:
        """Delivers for one integration until nothing is due."""
        key = (waiting.tenant_id, waiting.integration_id)
        log_fields.set({"tenant": waiting.tenant_id, "integration": waiting.integration_id})
        deliverer = self._deliverers.get(waiting.type)
        attempts: set[asyncio.Task[bool]] = set()
        arrived = 0
        try:
            at_most = await _at_once(waiting, deliverer)
            async with asyncio.TaskGroup() as group:
                while not self._stopping and (claim := await self._claimed(waiting)):
                    self._moved[key] = time.monotonic()
                    attempts.add(group.create_task(self._tried(claim, deliverer)))
                    while len(attempts) >= min(1 + arrived // ONE_MORE_AFTER, at_most):
                        done, attempts = await asyncio.wait(attempts, return_when=asyncio.FIRST_COMPLETED)
                        arrived = arrived + len(done) if all(each.result() for each in done) else 0
        finally:
            # What became due meanwhile is found at once.
            del self._under_way[key], self._moved[key]
            self._wake.set()

    async def _claimed(self, waiting: Waiting) -> Claim | None:
        try:
            return await delivery_claim(self._database, waiting, LEASE_S)
        except Exception as error:
            await _broken(error)
            return None

    async def _tried(self, claim: Claim, deliverer: Deliverer | None) -> bool:
        """Whether the object arrived. Raises nothing: what else is on its way goes on."""
        try:
            return await self._attempt(claim, deliverer)
        except LeaseLost as lost:
            log.warning("an attempt was given up", extra={"problem": str(lost)})
        except Exception as error:
            # The lease brings the delivery back.
            await _broken(error)
        return False

    async def _deliver(self, claim: Claim, deliverer: Deliverer | None) -> Delivered:
        """Without a deliverer the partner asks for its view itself."""
        description = await view_refresh(self._database, claim, self._clock) if claim.object_kind in VIEWED else ""
        if deliverer is None:
            return Delivered(None, 0, description, answered=False)
        return await deliverer.deliver(claim)

    async def _attempt(self, claim: Claim, deliverer: Deliverer | None) -> bool:
        """Whether the object arrived. Raises LeaseLost."""
        started = time.monotonic()
        failure: EvbridgeError | None = None
        attributes = {"evbridge.integration.id": claim.integration_id}
        if claim.object_kind != OBJECT_KIND_TOKEN:  # whose name says whose it is
            attributes["evbridge.object.id"] = claim.object_id
        with self._tracer.start_as_current_span("delivery", attributes=attributes):
            try:
                if claim.failed_attempts > self._policy.max_attempts:
                    raise EvbridgeError("every attempt ended without a result, as if the process had died")
                renew = partial(delivery_renew, self._database, claim)
                delivered = await while_leased(self._deliver(claim, deliverer), renew, claim.lease_s)
            except LeaseLost:
                raise
            except EvbridgeError as error:
                failure = error
            except Exception as error:
                log.error("an attempt broke", exc_info=error, extra={"database": describe(error)})
                failure = EvbridgeError("a fault inside evbridge; the log has the details")
        elapsed_s = time.monotonic() - started
        reason = reasons.ErrorReason.Name(failure.reason) if failure else "OK"
        whose = {"evbridge.tenant.id": claim.tenant_id, "evbridge.integration.id": claim.integration_id}
        self._attempts.add(1, {**whose, "evbridge.outcome": reason})
        if failure:
            await self._record_failure(claim, failure, elapsed_s)
        else:
            await self._record_success(claim, delivered, elapsed_s)
        return failure is None

    # Rows are locked in one order everywhere: an integration, its pauses, its deliveries, what its partner holds.

    async def _record_success(self, claim: Claim, delivered: Delivered, elapsed_s: float) -> None:
        key = (claim.tenant_id, claim.integration_id)
        if recovered := delivered.answered and not claim.healthy:
            # Now that the partner works: what was parked while it took nothing is tried once more.
            await delivery_unpark(self._database, *key, None)
        done = partial(
            peer_delivered,
            claim=claim,
            peer=delivered.peer,
            duration_s=elapsed_s,
            description=delivered.description,
            sent_version=delivered.sent_version,
            again_s=delivered.again_s,
        )
        if not recovered:
            await done(self._database)
            return
        async with self._database.transaction() as conn:
            await integration_status(conn, *key, INTEGRATION_STATUS_ACTIVE, "")
            await gate_succeeded(conn, *key)
            await done(conn)

    async def _record_failure(self, claim: Claim, error: EvbridgeError, elapsed_s: float) -> None:
        key = (claim.tenant_id, claim.integration_id)
        async with self._database.transaction() as conn:
            streak = Streak(claim.failed_attempts)
            if is_of_partner(error):
                # Failures of one integration are counted one after another.
                await integration_lock(conn, *key)
                streak = await delivery_streak(conn, claim, error, *await gate_failed(conn, *key))
            judged = verdict(error, claim.failed_attempts, streak, self._policy)
            delay_s = self._delay_s(error, max(streak.failures, claim.failed_attempts))
            if judged.next is Next.SUSPEND:
                reason = f"nothing arrived for {streak.lasts.days} days: {error.message}; ResumeIntegration goes on"
                await integration_pause(conn, *key, reason, await change_time(conn))
            if pauses := judged.next is Next.PAUSE:
                await integration_status(conn, *key, INTEGRATION_STATUS_FAILED, error.message)
                await gate_hold(conn, *key, delay_s)
            if judged.next is Next.PARK and answers(error):
                await integration_answered(conn, *key)
                await gate_answered(conn, *key)
            await delivery_failed(conn, claim, error, judged, streak, 0.0 if pauses else delay_s)
            await attempt_failed(conn, claim, elapsed_s, error)
        log.info(
            "attempt failed", extra={"reason": reasons.ErrorReason.Name(error.reason), "next": judged.next.name.lower()}
        )
        if pauses:
            await delivery_unpark(self._database, *key, error.reason)

    def _delay_s(self, error: EvbridgeError, failures: int) -> float:
        if error.retry_after_s is not None:
            return error.retry_after_s
        return self._policy.backoff_s(failures, random.random())


async def _at_once(waiting: Waiting, deliverer: Deliverer | None) -> int:
    """One when the partner is not known well enough to say: the attempt tells why."""
    if deliverer is None:
        return 1
    try:
        return min(await deliverer.at_once(waiting.tenant_id, waiting.integration_id), MAX_AT_ONCE)
    except Exception:
        return 1


async def _broken(error: Exception) -> None:
    """The pause keeps a broken database from being asked in a circle."""
    log.warning("a delivery could not be worked on", extra={"problem": describe(error)})
    await asyncio.sleep(1)

"""Finds what is due and sees that it arrives: one lane per integration, so that none waits for another.

Any number of processes may run one. A delivery is claimed with a lease and a fencing token; how requests of one
integration are spread over processes is the gate's business.
"""

import asyncio
import logging
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from evbridge.v1 import error_reason_pb2 as reasons
from evbridge.v1.integration_pb2 import (
    INTEGRATION_STATUS_ACTIVE,
    INTEGRATION_STATUS_FAILED,
    IntegrationType,
)
from opentelemetry import metrics, trace

from service.delivery.polling import ended, woken
from service.domain.delivery import RetryPolicy, verdict
from service.errors import EvbridgeError
from service.storage.connection import describe
from service.storage.delivery import (
    Claim,
    Peer,
    Waiting,
    attempt_record,
    delivery_claim,
    delivery_done,
    delivery_failed,
    delivery_waiting,
    peer_acknowledged,
    peer_gone,
)
from service.storage.gate import gate_pause, gate_resume
from service.storage.integration import integration_status
from service.storage.pool import Database
from service.telemetry import log_fields

log = logging.getLogger(__name__)

LEASE_S = 180.0
LANES = 64


@dataclass(frozen=True, slots=True)
class Delivered:
    """A delivery that arrived: what the partner holds now (None: nothing) and the version sent (0: nothing was)."""

    peer: Peer | None
    sent_version: int
    description: str


class Deliverer(Protocol):
    """Brings objects to one type of partner."""

    async def deliver(self, claim: Claim) -> Delivered:
        """Raises EvbridgeError when it did not arrive, or when that is not known."""
        ...


class DeliveryWorker:
    """`run` works until `stop`, which lets the attempts under way end."""

    def __init__(
        self,
        database: Database,
        deliverers: Mapping[IntegrationType.ValueType, Deliverer],
        policy: RetryPolicy,
        poll_s: float,
    ) -> None:
        self._database = database
        self._deliverers = deliverers
        self._policy = policy
        self._poll_s = poll_s
        self._lanes: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._wake = asyncio.Event()
        self._stopping = False
        self._tracer = trace.get_tracer("evbridge.delivery")
        self._attempts = metrics.get_meter("evbridge.delivery").create_counter(
            "evbridge.delivery.attempts", unit="{attempt}", description="Attempts to bring an object to a partner."
        )

    async def run(self) -> None:
        while not self._stopping:
            self._wake.clear()
            try:
                self._open_lanes(await delivery_waiting(self._database))
            except Exception as error:
                log.warning("looking for deliveries failed", extra={"problem": describe(error)})
            await woken(self._wake, self._poll_s)

    async def stop(self, limit_s: float) -> None:
        """Ends within `limit_s`; what was cut off is settled by the next worker that claims it."""
        self._stopping = True
        self._wake.set()
        await ended(self._lanes.values(), limit_s)

    def _open_lanes(self, integrations: list[Waiting]) -> None:
        for waiting in integrations:
            key = (waiting.tenant_id, waiting.integration_id)
            if key not in self._lanes and len(self._lanes) < LANES:
                self._lanes[key] = asyncio.create_task(self._lane(waiting))

    def _close_lane(self, waiting: Waiting) -> None:
        """What became due while the lane ended is found at once."""
        del self._lanes[waiting.tenant_id, waiting.integration_id]
        self._wake.set()

    async def _lane(self, waiting: Waiting) -> None:
        """Delivers for one integration, one object after another, until nothing is due."""
        log_fields.set({"tenant": waiting.tenant_id, "integration": waiting.integration_id})
        healthy = waiting.status == INTEGRATION_STATUS_ACTIVE and not waiting.failures
        try:
            while not self._stopping and (claim := await delivery_claim(self._database, waiting, LEASE_S)):
                healthy = await self._attempt(claim, self._deliverers[waiting.type], waiting.failures, healthy)
        except Exception as error:
            # The lease brings the delivery back; the pause keeps a broken database from being asked in a circle.
            log.warning("a delivery could not be worked on", extra={"problem": describe(error)})
            await asyncio.sleep(1)
        finally:
            self._close_lane(waiting)

    async def _attempt(self, claim: Claim, deliverer: Deliverer, failures: int, healthy: bool) -> bool:
        """Returns whether the integration is known to be healthy."""
        started = time.monotonic()
        failure: EvbridgeError | None = None
        attributes = {"evbridge.integration.id": claim.integration_id, "evbridge.object.id": claim.object_id}
        with self._tracer.start_as_current_span("delivery", attributes=attributes):
            try:
                if claim.failed_attempts > self._policy.max_attempts:
                    raise EvbridgeError("every attempt ended without a result, as if the process had died")
                delivered = await deliverer.deliver(claim)
            except EvbridgeError as error:
                failure = error
            except Exception as error:
                log.error("an attempt broke", exc_info=error, extra={"database": describe(error)})
                failure = EvbridgeError("a fault inside evbridge; the log has the details")
        elapsed_s = time.monotonic() - started
        reason = reasons.ErrorReason.Name(failure.reason) if failure else "OK"
        self._attempts.add(1, {"evbridge.outcome": reason})
        if failure:
            await self._record_failure(claim, failure, elapsed_s, failures)
            return False
        await self._record_success(claim, delivered, elapsed_s, healthy)
        return True

    async def _record_success(self, claim: Claim, delivered: Delivered, elapsed_s: float, healthy: bool) -> None:
        key = (claim.tenant_id, claim.integration_id)
        async with self._database.transaction() as conn:
            # The integration before its deliveries, as a change of its rules locks them.
            if not healthy:
                await integration_status(conn, *key, INTEGRATION_STATUS_ACTIVE, "")
            if not await delivery_done(conn, claim):
                return
            if delivered.peer is None:
                await peer_gone(conn, claim)
            else:
                await peer_acknowledged(conn, claim, delivered.peer)
            await attempt_record(conn, claim, elapsed_s, delivered.description, delivered.sent_version, None)
            if not healthy:
                await gate_resume(conn, *key)

    async def _record_failure(self, claim: Claim, error: EvbridgeError, elapsed_s: float, failures: int) -> None:
        judged = verdict(error, claim.failed_attempts, self._policy)
        delay_s = 0.0 if judged.pauses else self._delay_s(error, claim.failed_attempts)
        log.info("attempt failed", extra={"reason": reasons.ErrorReason.Name(error.reason), "parked": judged.parked})
        key = (claim.tenant_id, claim.integration_id)
        async with self._database.transaction() as conn:
            if judged.pauses:
                await integration_status(conn, *key, INTEGRATION_STATUS_FAILED, error.message)
            if not await delivery_failed(conn, claim, error, judged, delay_s):
                return
            await attempt_record(conn, claim, elapsed_s, error.message, 0, error)
            if judged.pauses:
                await gate_pause(conn, *key, self._delay_s(error, failures + 1))

    def _delay_s(self, error: EvbridgeError, failures: int) -> float:
        if error.retry_after_s is not None:
            return error.retry_after_s
        return self._policy.backoff_s(failures, random.random())

"""Carries out runs: finds them, keeps their lease, stores their progress, and sees that they end.

Any number of processes may run one. A run is claimed with a lease, which is renewed while it is worked on, and a
fencing token; when its process dies the lease ends, and another worker begins it again.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from evbridge.v1 import error_reason_pb2 as reasons
from evbridge.v1.integration_pb2 import IntegrationType
from evbridge.v1.run_pb2 import (
    RUN_FINDING_OUTCOME_DIFFERENT,
    RUN_FINDING_OUTCOME_REFUSED,
    RUN_FINDING_OUTCOME_REPAIRED,
    RUN_STATE_CANCELLED,
    RUN_STATE_CANCELLING,
    RUN_STATE_FAILED,
    RUN_STATE_SUCCEEDED,
    RUN_STEP_STATE_FAILED,
    RUN_STEP_STATE_RUNNING,
    RUN_STEP_STATE_SKIPPED,
    RUN_STEP_STATE_SUCCEEDED,
    Run,
    RunFinding,
    RunFindingOutcome,
    RunKind,
    RunState,
    RunStepState,
)
from opentelemetry import metrics, trace

from service.bridge.addresses import EgressPolicy
from service.bridge.channel import PartnerChannel
from service.bridge.oauth import OAuth
from service.bridge.ports import Targets
from service.errors import DeadlineLimit, EvbridgeError, FieldViolation, LeaseLost, RunAbandoned
from service.processes.pool import Processes
from service.resources.registration import Door
from service.runs.connecting import connecting_ended
from service.storage.connection import describe
from service.storage.exchange import ExchangeRecorder
from service.storage.keyring import Keyring
from service.storage.pool import Database
from service.storage.read_object import read_objects_forget
from service.storage.read_page import read_pages_forget
from service.storage.run import RunClaim, run_claim, run_end, run_findings_add, run_hand_back, run_report, run_rest
from service.telemetry import log_fields
from service.workers import finish, while_leased, work_or_poll

log = logging.getLogger(__name__)

LEASE_S = 30.0
"""Longer than the lease of a request slot, which a process that dies leaves taken too."""
LIMIT_S = 900.0
"""Of one attempt. A run that rests goes on in another one."""
SLICE_S = 60.0
"""How long a run that can rest works while others may wait."""
MAX_ATTEMPTS = 3
MAX_CONCURRENT = 16
MAX_STEPS = 200
MAX_FINDINGS = 1000
"""What is listed of one outcome in one step."""
_MAX_FINDINGS_OF_AN_OBJECT = 20
_MAX_CHARACTERS = 300


class _Resting(Exception):
    """The run goes on in another attempt."""


class Progress:
    """What a run reports of itself. It is stored about once a second, and when the run ends."""

    def __init__(self) -> None:
        self.report = Run()
        self.findings: list[RunFinding] = []
        """Those that are not stored yet; the last one is number `found`."""
        self.found = 0
        self._listed: Counter[tuple[str, RunFindingOutcome.ValueType]] = Counter()
        self.works_on()

    def works_on(self) -> None:
        """What the attempt did so far was done before, too: it rests after a slice of what is new."""
        self._rest_at = time.monotonic() + SLICE_S

    def goes_on(self, findings: Mapping[int, RunFinding]) -> None:
        """The attempt goes on where the one before it ended, with what that found, by number."""
        self.found = max(findings, default=0)
        self._listed.update((each.step, each.outcome) for each in findings.values())

    @property
    def rests(self) -> bool:
        """Whether the attempt worked for long enough, so that `rest` ends it."""
        return time.monotonic() >= self._rest_at

    def rest(self) -> None:
        """Ends this attempt when it worked for long enough: the run is queued again, after those that wait.

        To be called where all that was done is stored, and the next attempt goes on from there.
        """
        if self.rests:
            raise _Resting

    def refused(self, object_id: str, violations: Iterable[FieldViolation]) -> None:
        """The step under way does not take an object, and why. "" is the id of one that cannot be read."""
        self.report.steps[-1].refused_count += 1
        self._find(RUN_FINDING_OUTCOME_REFUSED, object_id, violations)

    def repaired(self, object_id: str, notices: Iterable[FieldViolation]) -> None:
        """The step under way takes an object otherwise than it was received, and what was repaired."""
        self.report.steps[-1].repaired_count += 1
        self._find(RUN_FINDING_OUTCOME_REPAIRED, object_id, notices)

    def different(self, object_id: str, violations: Iterable[FieldViolation]) -> None:
        """The step under way takes an object of which the partner says something else than we find."""
        self._find(RUN_FINDING_OUTCOME_DIFFERENT, object_id, violations)

    def _find(self, outcome: RunFindingOutcome.ValueType, object_id: str, violations: Iterable[FieldViolation]) -> None:
        step = self.report.steps[-1].name
        for violation in islice(violations, _MAX_FINDINGS_OF_AN_OBJECT):
            if self._listed[step, outcome] == MAX_FINDINGS:
                return
            self._listed[step, outcome] += 1
            self.found += 1
            texts = (text[:_MAX_CHARACTERS] for text in (object_id, violation.path, violation.description))
            id, path, description = texts
            self.findings.append(
                RunFinding(step=step, object_id=id, path=path, description=description, outcome=outcome)
            )

    def count(self, done: int, total: int = 0, description: str = "") -> None:
        """`total` is 0 while it is not known."""
        self.report.progress.done = done
        self.report.progress.total = total
        self.report.progress.description = description

    def begin(self, name: str, description: str = "") -> None:
        """Begins a step; the one before it has succeeded. The last one fares as the run does."""
        self.close(RUN_STEP_STATE_SUCCEEDED)
        step = self.report.steps.add(name=name, state=RUN_STEP_STATE_RUNNING, description=description)
        step.start_time.GetCurrentTime()
        del self.report.steps[:-MAX_STEPS]

    def skip(self, name: str, description: str) -> None:
        """Names a step that is not done, and why; the one before it has succeeded."""
        self.begin(name, description)
        self.close(RUN_STEP_STATE_SKIPPED)

    def close(self, state: RunStepState.ValueType, description: str = "") -> None:
        """Ends the step under way, if there is one."""
        if self.report.steps and self.report.steps[-1].state == RUN_STEP_STATE_RUNNING:
            step = self.report.steps[-1]
            step.state, step.description = state, description or step.description
            step.end_time.GetCurrentTime()


@dataclass(frozen=True, slots=True)
class Tools:
    """What executors are made of."""

    database: Database
    targets: Targets
    oauth: OAuth
    channel: PartnerChannel
    recorder: ExchangeRecorder
    keyring: Keyring
    policy: EgressPolicy
    door: Door
    processes: Processes
    mass_removal_percent: int


class Executor(Protocol):
    """Does the work of one kind of run for one type of integration."""

    async def execute(self, run: RunClaim, progress: Progress) -> None:
        """Raises EvbridgeError when it cannot be done: it becomes the run's reason and description.

        Ends soon when it is cancelled. May be called again for the same run, which then is `repeated`.
        """
        ...


class _Stopped(Exception):
    """The run was cancelled."""


class RunWorker:
    """`run` works until `stop`, which hands back what does not end in time."""

    def __init__(
        self,
        database: Database,
        executors: Mapping[tuple[RunKind.ValueType, IntegrationType.ValueType], Executor],
        poll_s: float,
        limit_s: float = LIMIT_S,
    ) -> None:
        self._database = database
        self._executors = executors
        self._poll_s = poll_s
        self._beat_s = poll_s * 4  # a second by default: how often progress is stored and a cancellation is seen
        self._limit_s = limit_s
        self._tasks: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._stopping = False
        self._tracer = trace.get_tracer("evbridge.runs")
        self._ends = metrics.get_meter("evbridge.runs").create_counter(
            "evbridge.runs", unit="{run}", description="Runs that ended."
        )

    async def run(self) -> None:
        while not self._stopping:
            self._wake.clear()
            try:
                await self._claim()
            except Exception as error:
                log.warning("looking for runs failed", extra={"problem": describe(error)})
            await work_or_poll(self._wake, self._poll_s)

    async def stop(self, limit_s: float) -> None:
        """Ends within about `limit_s`."""
        self._stopping = True
        self._wake.set()
        await finish(self._tasks, limit_s)

    async def _claim(self) -> None:
        while len(self._tasks) < MAX_CONCURRENT and not self._stopping:
            claim = await run_claim(self._database, self._executors, LEASE_S)
            if claim is None:
                return
            if self._stopping:  # meanwhile: nobody would wait for it
                await run_hand_back(self._database, claim)
                return
            task = asyncio.create_task(self._carry_out(claim))
            self._tasks.add(task)
            task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._wake.set()

    async def _carry_out(self, claim: RunClaim) -> None:
        log_fields.set({"tenant": claim.tenant_id, "integration": claim.integration_id, "run": str(claim.run_id)})
        progress = Progress()
        kind = RunKind.Name(claim.kind)
        attributes = {"evbridge.integration.id": claim.integration_id, "evbridge.run.kind": kind}
        with self._tracer.start_as_current_span("run", attributes=attributes):
            try:
                state, error = await self._outcome(claim, progress)
                await self._store_findings(claim, progress)
                async with self._database.transaction() as conn:
                    await connecting_ended(conn, claim, error)
                    await run_end(conn, claim, progress.report, state, error)
                    await read_pages_forget(conn, claim)
                    await read_objects_forget(conn, claim)
                reason = reasons.ErrorReason.Name(error.reason) if error else RunState.Name(state)
                log.info("run ended", extra={"kind": kind, "outcome": reason})
                whose = {"evbridge.tenant.id": claim.tenant_id, "evbridge.integration.id": claim.integration_id}
                self._ends.add(1, {**whose, "evbridge.run.kind": kind, "evbridge.outcome": reason})
            except _Resting:
                await run_rest(self._database, claim, progress.report)
            except LeaseLost as lost:
                log.warning("a run was given up", extra={"kind": kind, "problem": str(lost)})
            except asyncio.CancelledError:
                await run_hand_back(self._database, claim)
                raise
            except Exception as failure:
                # The lease brings the run back.
                log.warning("the end of a run could not be stored", extra={"problem": describe(failure)})

    async def _store_findings(self, claim: RunClaim, progress: Progress) -> None:
        if findings := progress.findings[:]:
            first = progress.found - len(findings) + 1
            await run_findings_add(self._database, claim, first, findings)
            del progress.findings[: len(findings)]

    async def _outcome(self, claim: RunClaim, progress: Progress) -> tuple[RunState.ValueType, EvbridgeError | None]:
        """How it ended. Raises LeaseLost and _Resting; a cancellation of this task passes."""
        error: EvbridgeError
        try:
            await self._supervise(claim, progress)
        except _Stopped:
            progress.close(RUN_STEP_STATE_SKIPPED)
            return RUN_STATE_CANCELLED, None
        except LeaseLost:
            raise
        except _Resting:
            await self._store_findings(claim, progress)
            raise
        except EvbridgeError as refusal:
            error = refusal
        except Exception as fault:
            log.error("a run broke", exc_info=fault, extra={"database": describe(fault)})
            error = EvbridgeError("a fault inside evbridge; the log has the details")
        else:
            progress.close(RUN_STEP_STATE_SUCCEEDED)
            return RUN_STATE_SUCCEEDED, None
        progress.close(RUN_STEP_STATE_FAILED, error.message)
        return RUN_STATE_FAILED, error

    async def _supervise(self, claim: RunClaim, progress: Progress) -> None:
        """Executes it while the lease is held. Raises _Stopped, LeaseLost, and the EvbridgeError it fails with."""
        if claim.state == RUN_STATE_CANCELLING:
            raise _Stopped
        if claim.attempts > MAX_ATTEMPTS:
            raise RunAbandoned("every attempt ended without a result, as if the process had died")

        async def report() -> None:
            await self._store_findings(claim, progress)
            if not await run_report(self._database, claim, progress.report, LEASE_S):
                raise _Stopped

        executing = self._executors[claim.kind, claim.type].execute(claim, progress)
        try:
            async with asyncio.timeout(self._limit_s) as limit:
                await while_leased(executing, report, LEASE_S, self._beat_s)
        except TimeoutError:
            if not limit.expired():
                raise
            seconds = f"{self._limit_s:g}"
            raise DeadlineLimit(f"the run took longer than {seconds} s", limit_seconds=seconds) from None

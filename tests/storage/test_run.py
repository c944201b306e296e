"""Runs as rows: one of a kind at a time, claimed once, fenced, forgotten when old. And the worker that does them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from evbridge.v1 import error_reason_pb2 as reasons
from evbridge.v1.integration_pb2 import (
    INTEGRATION_STATUS_PENDING,
    INTEGRATION_TYPE_CHARGEPRICE,
    Integration,
)
from evbridge.v1.run_pb2 import (
    RUN_KIND_DIAGNOSE,
    RUN_KIND_SYNC,
    RUN_STATE_CANCELLED,
    RUN_STATE_CANCELLING,
    RUN_STATE_FAILED,
    RUN_STATE_QUEUED,
    RUN_STATE_RUNNING,
    RUN_STATE_SUCCEEDED,
    RUN_STEP_STATE_FAILED,
    RUN_STEP_STATE_SKIPPED,
    RUN_STEP_STATE_SUCCEEDED,
    Run,
    RunKind,
    RunProgress,
    RunState,
    RunStep,
)

from service.domain.caller import Caller
from service.domain.partner_error import PartnerFault
from service.errors import EvbridgeError, LeaseLost, ResourceNotFound, RunEnded, RunInProgress
from service.runs.connecting import found
from service.runs.worker import MAX_ATTEMPTS, MAX_STEPS, Progress, RunWorker
from service.storage.api_key import api_key_create
from service.storage.integration import integration_delete, integration_get, integration_insert
from service.storage.keyring import Keyring
from service.storage.pool import Database
from service.storage.retention import retention_sweep
from service.storage.run import (
    RunClaim,
    run_came_on,
    run_cancel,
    run_claim,
    run_end,
    run_get,
    run_hand_back,
    run_report,
    run_start,
    run_wait,
)
from service.storage.statements import Statement

CALLER = Caller("acme", "key", 3)
EXECUTORS = [(RUN_KIND_DIAGNOSE, INTEGRATION_TYPE_CHARGEPRICE)]
HALFWAY = Run(progress=RunProgress(done=1, total=2, description="half of it"), steps=[RunStep(name="first")])


@pytest.fixture
async def store(database: Database, keyring: Keyring) -> Database:
    """With a tenant that has the integrations "a" and "b"."""
    async with database.transaction() as conn:
        await api_key_create(conn, keyring, "acme", "test", 3)
        for id in ("a", "b"):
            integration = Integration(id=id, type=INTEGRATION_TYPE_CHARGEPRICE, status=INTEGRATION_STATUS_PENDING)
            await integration_insert(conn, "acme", integration)
    return database


async def start(store: Database, integration_id: str = "a", kind: RunKind.ValueType = RUN_KIND_DIAGNOSE) -> Run:
    async with store.transaction() as conn:
        return await run_start(conn, CALLER, integration_id, kind)


async def cancel(store: Database, run: Run) -> Run:
    async with store.transaction() as conn:
        return await run_cancel(conn, "acme", run.id)


async def get(store: Database, run: Run) -> Run:
    return await run_get(store, "acme", run.id)


async def claimed(store: Database, lease_s: float = 60.0) -> RunClaim:
    claim = await run_claim(store, EXECUTORS, lease_s)
    assert claim is not None
    return claim


async def end(store: Database, claim: RunClaim, state: RunState.ValueType, error: EvbridgeError | None = None) -> None:
    async with store.transaction() as conn:
        await run_end(conn, claim, HALFWAY, state, error)


async def is_lost(store: Database, claim: RunClaim) -> None:
    with pytest.raises(LeaseLost):
        await run_report(store, claim, HALFWAY, 60.0)
    with pytest.raises(LeaseLost):
        await end(store, claim, RUN_STATE_FAILED)


async def test_of_many_starts_at_once_one_wins_and_the_others_name_it(store: Database) -> None:
    outcomes = await asyncio.gather(*(start(store) for _ in range(5)), return_exceptions=True)
    (run,) = [outcome for outcome in outcomes if isinstance(outcome, Run)]
    for outcome in outcomes:
        assert outcome is run or (isinstance(outcome, RunInProgress) and outcome.metadata == {"run_id": run.id})


async def test_another_kind_another_integration_and_one_after_the_end_are_no_second_run(store: Database) -> None:
    first = await start(store)
    await start(store, "b")
    await start(store, kind=RUN_KIND_SYNC)
    await cancel(store, first)
    assert (await start(store)).id > first.id


async def test_a_run_is_claimed_once_among_many_the_oldest_first(store: Database) -> None:
    runs = [await start(store, "a"), await start(store, "b")]
    first = await claimed(store)
    assert (str(first.run_id), first.type, first.repeated) == (runs[0].id, INTEGRATION_TYPE_CHARGEPRICE, False)
    claims = await asyncio.gather(*(run_claim(store, EXECUTORS, 60.0) for _ in range(4)))
    assert [str(claim.run_id) for claim in claims if claim] == [runs[1].id]


async def test_a_run_without_an_executor_here_is_left_to_another_process(store: Database) -> None:
    await start(store, kind=RUN_KIND_SYNC)
    assert await run_claim(store, EXECUTORS, 60.0) is None
    assert await run_claim(store, [(RUN_KIND_SYNC, INTEGRATION_TYPE_CHARGEPRICE)], 60.0) is not None


async def test_an_expired_lease_is_taken_over_and_the_first_holder_is_fenced_out(store: Database) -> None:
    run = await start(store)
    first = await claimed(store, lease_s=0.0)
    second = await claimed(store)
    assert (second.lease_token, second.attempts, second.repeated) == (2, 2, True)
    await is_lost(store, first)
    await run_hand_back(store, first)
    assert (await get(store, run)).state == RUN_STATE_RUNNING
    await end(store, second, RUN_STATE_SUCCEEDED)
    await is_lost(store, second)
    assert (await get(store, run)).state == RUN_STATE_SUCCEEDED


async def test_a_worker_whose_run_was_taken_over_changes_its_integration_no_more(store: Database) -> None:
    def describe(integration: Integration) -> None:
        integration.status_description = "found out"

    await start(store)
    first = await claimed(store, lease_s=0.0)
    second = await claimed(store)
    with pytest.raises(LeaseLost):
        await found(store, first, describe)
    assert Integration.FromString(await integration_get(store, "acme", "a")).status_description == ""
    await found(store, second, describe)
    assert Integration.FromString(await integration_get(store, "acme", "a")).status_description == "found out"


async def test_a_report_renews_the_lease_and_changes_the_time_only_when_it_says_something_new(store: Database) -> None:
    run = await start(store)
    claim = await claimed(store, lease_s=0.0)
    assert await run_report(store, claim, HALFWAY, 60.0)
    assert await run_claim(store, EXECUTORS, 60.0) is None
    told = await get(store, run)
    assert (told.progress, [*told.steps]) == (HALFWAY.progress, [*HALFWAY.steps])
    assert await run_report(store, claim, HALFWAY, 60.0)
    assert await get(store, run) == told


async def test_a_run_that_is_handed_back_is_queued_again_and_that_attempt_does_not_count(store: Database) -> None:
    run = await start(store)
    await run_hand_back(store, await claimed(store))
    assert (await get(store, run)).state == RUN_STATE_QUEUED
    again = await claimed(store)
    assert (again.attempts, again.repeated) == (1, True)


async def test_a_queued_run_is_cancelled_at_once_and_one_under_way_is_asked(store: Database) -> None:
    queued = await cancel(store, await start(store))
    assert queued.state == RUN_STATE_CANCELLED
    assert queued.end_time == queued.update_time
    run = await start(store)
    claim = await claimed(store)
    for _ in range(2):
        assert (await cancel(store, run)).state == RUN_STATE_CANCELLING
    assert not await run_report(store, claim, Run(), 60.0)
    await end(store, claim, RUN_STATE_CANCELLED)
    with pytest.raises(RunEnded):
        await cancel(store, run)


async def test_a_cancelled_run_whose_process_died_is_claimed_as_such(store: Database) -> None:
    run = await start(store)
    await claimed(store, lease_s=0.0)
    await cancel(store, run)
    assert (await claimed(store)).state == RUN_STATE_CANCELLING


async def test_a_failure_is_kept_as_reason_and_words(store: Database) -> None:
    run = await start(store)
    await end(store, await claimed(store), RUN_STATE_FAILED, PartnerFault("no" * 500, partner="p"))
    failed = await get(store, run)
    assert (failed.state, failed.reason, failed.description) == (RUN_STATE_FAILED, reasons.PARTNER_FAULT, "no" * 250)
    assert failed.create_time.ToDatetime() <= failed.start_time.ToDatetime() <= failed.end_time.ToDatetime()


async def test_waiting_ends_with_the_run_with_a_change_and_with_the_time(store: Database) -> None:
    run = await start(store)
    assert await run_wait(store, "acme", run.id, 0.0) == run
    assert await run_wait(store, "acme", run.id, 0.1, after=run.update_time) == run
    changed = asyncio.create_task(run_wait(store, "acme", run.id, 60.0, after=run.update_time))
    ended = asyncio.create_task(run_wait(store, "acme", run.id, 60.0))
    claim = await claimed(store)
    assert (await changed).state == RUN_STATE_RUNNING
    assert not ended.done()
    await end(store, claim, RUN_STATE_SUCCEEDED)
    assert (await ended).state == RUN_STATE_SUCCEEDED


async def test_a_run_goes_with_its_integration(store: Database) -> None:
    run = await start(store)
    claim = await claimed(store)
    async with store.transaction() as conn:
        await integration_delete(conn, "acme", "a")
    await is_lost(store, claim)
    with pytest.raises(ResourceNotFound):
        await get(store, run)


async def test_retention_forgets_runs_that_ended_long_ago(store: Database) -> None:
    old, young, live = await start(store), await start(store, "b"), await start(store, kind=RUN_KIND_SYNC)
    for run in (old, young):
        await cancel(store, run)
    await store.run(Statement("age", "UPDATE run SET end_time = now() - interval '31 days' WHERE run_id = $1"), old.id)
    await retention_sweep(store, days=30)
    for run in (young, live):
        assert (await get(store, run)).id == run.id
    with pytest.raises(ResourceNotFound):
        await get(store, old)


class Work:
    """An executor that does what a test says, and knows the runs it was given."""

    def __init__(self, act: Callable[[Progress], Awaitable[None]]) -> None:
        self._act = act
        self.given: list[RunClaim] = []

    async def execute(self, run: RunClaim, progress: Progress) -> None:
        self.given.append(run)
        await self._act(progress)


@asynccontextmanager
async def working(store: Database, work: Work, limit_s: float = 60.0) -> AsyncIterator[None]:
    """Leaving it stops the worker as a stopping process does that has no time left."""
    worker = RunWorker(store, {EXECUTORS[0]: work}, poll_s=0.01, limit_s=limit_s)
    task = asyncio.create_task(worker.run())
    try:
        yield
    finally:
        await worker.stop(0.0)
        await task


async def ended(store: Database, run: Run) -> Run:
    return await run_wait(store, "acme", run.id, 20.0)


async def two_steps(progress: Progress) -> None:
    progress.count(1, 2, "one of two")
    progress.begin("first")
    progress.skip("second", "not needed")
    progress.begin("third", "as it should be")


async def for_ever(progress: Progress) -> None:
    progress.begin("for ever")
    await asyncio.Event().wait()


async def broken(progress: Progress) -> None:
    progress.begin("breaks")
    raise ValueError("hunter2")


async def cut_short(progress: Progress) -> None:
    raise asyncio.CancelledError


async def refused(progress: Progress) -> None:
    progress.begin("asks")
    raise PartnerFault("it broke", partner="p")


async def test_what_an_executor_tells_is_stored_when_it_succeeds(store: Database) -> None:
    run = await start(store)
    async with working(store, Work(two_steps)):
        done = await ended(store, run)
    assert done.state == RUN_STATE_SUCCEEDED
    assert done.progress == RunProgress(done=1, total=2, description="one of two")
    assert [(step.name, step.state, step.description) for step in done.steps] == [
        ("first", RUN_STEP_STATE_SUCCEEDED, ""),
        ("second", RUN_STEP_STATE_SKIPPED, "not needed"),
        ("third", RUN_STEP_STATE_SUCCEEDED, "as it should be"),
    ]
    assert all(step.HasField("start_time") and step.HasField("end_time") for step in done.steps)


FAILING = {
    "its own error": (refused, reasons.PARTNER_FAULT, "it broke"),
    "a fault": (broken, reasons.INTERNAL_FAULT, "a fault inside evbridge; the log has the details"),
    "a cancellation from inside": (cut_short, reasons.INTERNAL_FAULT, "the work was cut short inside evbridge"),
    "its time is up": (for_ever, reasons.DEADLINE_LIMIT, "the run took longer than 0.1 s"),
}


@pytest.mark.parametrize(("act", "reason", "description"), FAILING.values(), ids=FAILING)
async def test_a_run_fails_once_with_a_reason_and_so_does_its_last_step(
    store: Database,
    act: Callable[[Progress], Awaitable[None]],
    reason: reasons.ErrorReason.ValueType,
    description: str,
) -> None:
    run, work = await start(store), Work(act)
    async with working(store, work, limit_s=0.1 if act is for_ever else 60.0):
        failed = await ended(store, run)
    assert (failed.state, failed.reason, failed.description) == (RUN_STATE_FAILED, reason, description)
    assert [(step.state, step.description) for step in failed.steps] in ([], [(RUN_STEP_STATE_FAILED, description)])
    assert len(work.given) == 1


async def test_a_stopping_worker_hands_its_run_back_and_the_next_is_told(store: Database) -> None:
    run, work = await start(store), Work(for_ever)
    async with working(store, work):
        while not work.given:
            await asyncio.sleep(0.01)
    assert (await get(store, run)).state == RUN_STATE_QUEUED
    second = Work(two_steps)
    async with working(store, second):
        assert (await ended(store, run)).state == RUN_STATE_SUCCEEDED
    assert [claim.repeated for claim in (*work.given, *second.given)] == [False, True]


async def test_a_run_whose_processes_keep_dying_is_given_up(store: Database) -> None:
    run, work = await start(store), Work(two_steps)
    for _ in range(MAX_ATTEMPTS):
        await claimed(store, lease_s=0.0)
    async with working(store, work):
        failed = await ended(store, run)
    assert (failed.state, failed.reason, work.given) == (RUN_STATE_FAILED, reasons.RUN_ABANDONED, [])


async def test_a_run_that_comes_on_is_not_given_up_however_often_its_processes_die(store: Database) -> None:
    run, work = await start(store), Work(two_steps)
    for _ in range(2 * MAX_ATTEMPTS):
        claim = await claimed(store, lease_s=0.0)
        async with store.transaction() as conn:
            await run_came_on(conn, claim)
    async with working(store, work):
        assert (await ended(store, run)).state == RUN_STATE_SUCCEEDED


async def test_a_run_that_is_deleted_stops_being_worked_on(store: Database) -> None:
    stopped = asyncio.Event()

    async def act(progress: Progress) -> None:
        try:
            await for_ever(progress)
        finally:
            stopped.set()

    await start(store)
    work = Work(act)
    async with working(store, work):
        while not work.given:
            await asyncio.sleep(0.01)
        async with store.transaction() as conn:
            await integration_delete(conn, "acme", "a")
        async with asyncio.timeout(60):
            await stopped.wait()


def test_only_the_newest_steps_are_kept() -> None:
    progress = Progress()
    for number in range(MAX_STEPS + 5):
        progress.begin(str(number))
    assert [step.name for step in progress.report.steps] == [str(number) for number in range(5, MAX_STEPS + 5)]

"""RunService, and a diagnosis of Chargeprice from its start to its end."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from uuid import uuid4

import grpc
import pytest
from evbridge.v1 import error_reason_pb2 as reasons
from evbridge.v1.integration_pb2 import CreateIntegrationRequest, DeleteIntegrationRequest, GetIntegrationRequest
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
    CancelRunRequest,
    GetRunRequest,
    ListRunsRequest,
    Run,
    RunProgress,
    StartRunRequest,
    WaitRunRequest,
)
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from service.app import evbridge
from service.partners.chargeprice.simulator import Simulator
from service.simulator.faults import parse_fault
from service.storage.api_key import api_key_create
from service.storage.keyring import Keyring
from service.storage.pool import Database
from service.storage.statements import Statement
from tests.conftest import Tenant
from tests.front_door import Client, Serving, an_integration, environment, fails, serving, settings

Code = grpc.StatusCode
SUCCEEDED, FAILED, SKIPPED = RUN_STEP_STATE_SUCCEEDED, RUN_STEP_STATE_FAILED, RUN_STEP_STATE_SKIPPED


async def connect(client: Client, base_url: str, id: str = "cp", **changes: Any) -> None:
    request = CreateIntegrationRequest(integration=an_integration(base_url, id=id, **changes))
    await client.integrations.CreateIntegration(request)


@pytest.fixture
async def connected(tenant: Tenant, simulator: Simulator) -> Tenant:
    """A tenant with a Chargeprice integration."""
    await connect(tenant.admin, simulator.url)
    return tenant


async def start(client: Client, integration_id: str = "cp", **more: Any) -> Run:
    request = StartRunRequest(integration_id=integration_id, kind=RUN_KIND_DIAGNOSE)
    request.MergeFrom(StartRunRequest(**more))
    return await client.runs.StartRun(request)


async def wait(client: Client, run: Run, **more: Any) -> Run:
    return await client.runs.WaitRun(WaitRunRequest(id=run.id, **more))


async def under_way(client: Client, simulator: Simulator) -> Run:
    """One whose request the partner keeps."""
    simulator.faults.append(parse_fault("delay:30"))
    run = await start(client)
    while not simulator.requests:
        await asyncio.sleep(0.01)
    return run


def steps(run: Run) -> dict[str, int]:
    return {step.name: step.state for step in run.steps}


async def test_a_diagnosis_asks_one_harmless_question(connected: Tenant, simulator: Simulator) -> None:
    queued = await start(connected.writer)
    assert (queued.state, queued.kind, queued.integration_id) == (RUN_STATE_QUEUED, RUN_KIND_DIAGNOSE, "cp")
    assert queued.requested_by == connected.keys["writer"].split("_")[1]
    run = await wait(connected.reader, queued)
    assert (run.state, run.reason, run.description) == (RUN_STATE_SUCCEEDED, reasons.ERROR_REASON_UNSPECIFIED, "")
    assert steps(run) == dict.fromkeys(["address", "credential", "answer", "duration"], SUCCEEDED)
    assert run.progress == RunProgress(done=1, total=1)
    assert run.HasField("start_time") and run.HasField("end_time")
    assert (run.id, run.create_time) == (queued.id, queued.create_time)
    assert await connected.reader.runs.GetRun(GetRunRequest(id=run.id)) == run
    assert [(request.method, request.path) for request in simulator.requests] == [
        ("GET", "/v1/companies?page%5Bsize%5D=1")
    ]


async def test_an_integration_names_the_run_that_was_started_last(connected: Tenant) -> None:
    run = await start(connected.writer)
    integration = await connected.reader.integrations.GetIntegration(GetIntegrationRequest(id="cp"))
    assert integration.latest_run_id == run.id


async def test_an_integration_that_is_not_enabled_can_be_diagnosed(tenant: Tenant, simulator: Simulator) -> None:
    await connect(tenant.admin, simulator.url, enabled=False)
    assert (await wait(tenant.reader, await start(tenant.writer))).state == RUN_STATE_SUCCEEDED


# What the partner does -> the reason, and how each step went.
FAILING = {
    "it is busy": ("status:503:1", "PARTNER_UNAVAILABLE", [SUCCEEDED, SKIPPED, FAILED]),
    "it is too many": ("status:429:1", "PARTNER_RATE_LIMITED", [SUCCEEDED, SKIPPED, FAILED]),
    "it fails": ("status:500", "PARTNER_FAULT", [SUCCEEDED, SKIPPED, FAILED]),
    "it refuses": ("status:401", "PARTNER_CREDENTIAL_REFUSED", [SUCCEEDED, FAILED]),
    "it answers garbage": ("garbage", "PARTNER_FAULT", [SUCCEEDED, SUCCEEDED, FAILED]),
    "it answers in another envelope": ("wrong_envelope", "PARTNER_FAULT", [SUCCEEDED, SUCCEEDED, FAILED]),
    "it redirects": ("redirect:http://127.0.0.1:1/", "PARTNER_FAULT", [SUCCEEDED, SKIPPED, FAILED]),
}


@pytest.mark.parametrize(("fault", "reason", "states"), FAILING.values(), ids=FAILING)
async def test_a_diagnosis_tells_which_step_failed(
    connected: Tenant, simulator: Simulator, fault: str, reason: str, states: list[int]
) -> None:
    simulator.faults.append(parse_fault(fault))
    run = await wait(connected.reader, await start(connected.writer))
    assert (run.state, reasons.ErrorReason.Name(run.reason)) == (RUN_STATE_FAILED, reason)
    assert run.description
    assert steps(run) == dict(zip(["address", "credential", "answer"], states, strict=False))
    assert run.steps[-1].description == run.description


async def test_a_refused_credential_is_a_failed_run_with_its_reason(tenant: Tenant, simulator: Simulator) -> None:
    await connect(tenant.admin, simulator.url, api_key="another-key")
    run = await wait(tenant.reader, await start(tenant.writer))
    assert (run.state, run.reason) == (RUN_STATE_FAILED, reasons.PARTNER_CREDENTIAL_REFUSED)
    assert steps(run) == {"address": SUCCEEDED, "credential": FAILED}
    assert "another-key" not in str(run)


async def test_an_unreachable_partner_is_a_failed_run_with_its_reason(tenant: Tenant) -> None:
    await connect(tenant.admin, "http://127.0.0.1:9")
    run = await wait(tenant.reader, await start(tenant.writer))
    assert (run.state, run.reason) == (RUN_STATE_FAILED, reasons.PARTNER_UNAVAILABLE)
    assert steps(run) == {"address": FAILED}


async def test_a_run_under_way_is_cancelled_and_then_has_ended(connected: Tenant, simulator: Simulator) -> None:
    run = await under_way(connected.writer, simulator)
    asked = await connected.writer.runs.CancelRun(CancelRunRequest(id=run.id))
    assert asked.state == RUN_STATE_CANCELLING
    cancelled = await wait(connected.reader, run)
    assert (cancelled.state, steps(cancelled)) == (RUN_STATE_CANCELLED, {"address": SKIPPED})
    failure = await fails(connected.writer.runs.CancelRun(CancelRunRequest(id=run.id)))
    assert (failure.code, failure.reason) == (Code.FAILED_PRECONDITION, "RUN_ENDED")
    assert failure.metadata == {"state": "RUN_STATE_CANCELLED"}
    # Its request slot is free again.
    assert (await wait(connected.reader, await start(connected.writer))).state == RUN_STATE_SUCCEEDED


async def test_a_second_run_is_refused_and_told_of_the_first(connected: Tenant, simulator: Simulator) -> None:
    run = await under_way(connected.writer, simulator)
    for validate_only in (False, True):
        failure = await fails(start(connected.writer, validate_only=validate_only))
        assert (failure.code, failure.reason) == (Code.ALREADY_EXISTS, "RUN_IN_PROGRESS")
        assert failure.metadata == {"run_id": run.id}


async def test_waiting_returns_the_run_as_it_is_when_the_time_is_over(connected: Tenant, simulator: Simulator) -> None:
    run = await under_way(connected.writer, simulator)
    for timeout_s in (0.0, 0.2):
        timeout = Duration()
        timeout.FromMilliseconds(int(timeout_s * 1000))
        assert (await wait(connected.reader, run, timeout=timeout)).state == RUN_STATE_RUNNING
    # Or when the caller would hang up soon.
    seen = await connected.reader.runs.WaitRun(WaitRunRequest(id=run.id), timeout=0.7)
    assert seen.state == RUN_STATE_RUNNING


async def test_waiting_for_a_change_returns_with_it(connected: Tenant, simulator: Simulator) -> None:
    run = await under_way(connected.writer, simulator)
    seen = [await wait(connected.reader, run, after_update_time=Timestamp())]
    while not seen[-1].steps:
        seen.append(await wait(connected.reader, run, after_update_time=seen[-1].update_time))
    assert [step.name for step in seen[-1].steps] == ["address"]
    await connected.writer.runs.CancelRun(CancelRunRequest(id=run.id))
    while seen[-1].state != RUN_STATE_CANCELLED:
        seen.append(await wait(connected.reader, run, after_update_time=seen[-1].update_time))
    times = [each.update_time.ToDatetime() for each in seen]
    assert times == sorted(set(times))


async def test_a_kind_that_the_integration_does_not_know_is_refused(connected: Tenant) -> None:
    failure = await fails(connected.writer.runs.StartRun(StartRunRequest(integration_id="cp", kind=RUN_KIND_SYNC)))
    assert (failure.code, failure.reason) == (Code.FAILED_PRECONDITION, "RUN_UNSUPPORTED")
    assert failure.metadata == {"kind": "RUN_KIND_SYNC", "type": "INTEGRATION_TYPE_CHARGEPRICE"}


async def test_a_rehearsal_stores_nothing(connected: Tenant, simulator: Simulator) -> None:
    rehearsed = await start(connected.writer, validate_only=True)
    assert rehearsed.state == RUN_STATE_QUEUED
    assert not (await connected.reader.runs.ListRuns(ListRunsRequest())).runs
    run = await under_way(connected.writer, simulator)
    rehearsal = CancelRunRequest(id=run.id, validate_only=True)
    assert (await connected.writer.runs.CancelRun(rehearsal)).state == RUN_STATE_CANCELLING
    assert (await connected.reader.runs.GetRun(GetRunRequest(id=run.id))).state == RUN_STATE_RUNNING


async def test_a_repeated_start_has_the_same_answer_and_starts_once(connected: Tenant, simulator: Simulator) -> None:
    request_id = str(uuid4())
    first = await start(connected.writer, request_id=request_id)
    await wait(connected.reader, first)
    assert await start(connected.writer, request_id=request_id) == first
    assert len(simulator.requests) == 1
    failure = await fails(start(connected.writer, request_id=request_id, validate_only=True))
    assert failure.reason == "REQUEST_ID_REUSED"


async def test_a_repeated_cancel_has_the_same_answer(connected: Tenant, simulator: Simulator) -> None:
    run = await under_way(connected.writer, simulator)
    request = CancelRunRequest(id=run.id, request_id=str(uuid4()))
    first = await connected.writer.runs.CancelRun(request)
    await wait(connected.reader, run)
    assert await connected.writer.runs.CancelRun(request) == first


async def test_lists_filter_and_page_newest_first(connected: Tenant, simulator: Simulator) -> None:
    await connect(connected.admin, simulator.url, id="other")
    runs = []
    for integration_id in ("cp", "other", "cp", "cp", "cp"):
        runs.append(await wait(connected.reader, await start(connected.writer, integration_id)))
    ids = [run.id for run in reversed(runs)]
    for filters, found in [
        ({}, ids),
        ({"integration_id": "other"}, [runs[1].id]),
        ({"integration_id": "none"}, []),
        ({"kind": RUN_KIND_DIAGNOSE, "state": RUN_STATE_SUCCEEDED}, ids),
        ({"kind": RUN_KIND_SYNC}, []),
        ({"state": RUN_STATE_FAILED}, []),
    ]:
        listed = (await connected.reader.runs.ListRuns(ListRunsRequest(**filters))).runs
        assert [run.id for run in listed] == found
        assert not any(run.steps for run in listed)
    paged, request = [], ListRunsRequest(page_size=2)
    while True:
        page = await connected.reader.runs.ListRuns(request)
        paged.append([run.id for run in page.runs])
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert paged == [ids[:2], ids[2:4], ids[4:]]
    request.kind = RUN_KIND_SYNC
    assert (await fails(connected.reader.runs.ListRuns(request))).reason == "INVALID_PAGE_TOKEN"


REQUESTS = {"GetRun": GetRunRequest, "CancelRun": CancelRunRequest, "WaitRun": WaitRunRequest}


@pytest.mark.parametrize("method", REQUESTS)
async def test_a_missing_run_and_one_of_another_tenant_look_the_same(
    connected: Tenant, new_tenant: Callable[[], Awaitable[Tenant]], method: str
) -> None:
    run = await start(connected.writer)
    other = await new_tenant()
    for id in (run.id, str(uuid4())):
        failure = await fails(getattr(other.admin.runs, method)(REQUESTS[method](id=id)))
        assert (failure.code, failure.reason) == (Code.NOT_FOUND, "RESOURCE_NOT_FOUND")
    assert not (await other.reader.runs.ListRuns(ListRunsRequest())).runs
    failure = await fails(start(other.writer))
    assert (failure.code, failure.metadata["resource"]) == (Code.NOT_FOUND, "integration")


@pytest.mark.parametrize("method", REQUESTS)
async def test_an_id_that_is_none_is_refused(connected: Tenant, method: str) -> None:
    failure = await fails(getattr(connected.admin.runs, method)(REQUESTS[method](id="last")))
    assert set(failure.violations) == {"id"}


async def test_a_start_without_kind_or_integration_is_refused(connected: Tenant) -> None:
    failure = await fails(connected.writer.runs.StartRun(StartRunRequest()))
    assert set(failure.violations) == {"integration_id", "kind"}
    failure = await fails(connected.writer.runs.StartRun(StartRunRequest(integration_id="cp", kind=99)))
    assert set(failure.violations) == {"kind"}


async def test_waiting_for_a_run_that_is_deleted_ends(connected: Tenant, simulator: Simulator) -> None:
    run = await under_way(connected.writer, simulator)
    waiting = asyncio.ensure_future(fails(wait(connected.reader, run)))
    await connected.admin.integrations.DeleteIntegration(DeleteIntegrationRequest(id="cp"))
    assert (await waiting).reason == "RESOURCE_NOT_FOUND"


@pytest.fixture
async def admin_key(database: Database, keyring: Keyring) -> str:
    async with database.transaction() as conn:
        return (await api_key_create(conn, keyring, "acme", "", 3)).reveal()


@asynccontextmanager
async def client_of(address: str, key: str) -> AsyncIterator[Client]:
    async with grpc.aio.insecure_channel(address) as channel:
        yield Client(channel, key)


async def test_two_workers_share_the_runs_and_do_none_twice(
    database_url: str, admin_key: str, simulator: Simulator
) -> None:
    count = 20
    async with AsyncExitStack() as stack:
        first, _ = [await stack.enter_async_context(evbridge(settings(database_url))) for _ in range(2)]
        client = await stack.enter_async_context(client_of(first.address, admin_key))
        for number in range(count):
            await connect(client, simulator.url, id=f"cp-{number}")
        runs = await asyncio.gather(*(start(client, f"cp-{number}") for number in range(count)))
        ended = await asyncio.gather(*(wait(client, run) for run in runs))
    assert {run.state for run in ended} == {RUN_STATE_SUCCEEDED}
    assert len(simulator.requests) == count


async def kill_at_work(server: Serving, key: str, simulator: Simulator) -> Run:
    """A run whose process died while the partner was thinking."""
    async with client_of(server.address, key) as client:
        await connect(client, simulator.url)
        run = await under_way(client, simulator)
        while not (seen := await client.runs.GetRun(GetRunRequest(id=run.id))).steps:
            await asyncio.sleep(0.01)
    server.process.kill()
    await server.process.wait()
    return seen


LONG = Statement("long", "UPDATE run SET lease_until = now() + interval '1 hour'")
"""However long the next server takes to start, no lease is over before it is said."""


async def test_the_run_of_a_killed_process_is_taken_over_when_its_lease_ends(
    database_url: str, database: Database, admin_key: str, simulator: Simulator
) -> None:
    environ = environment(database_url)
    async with serving(environ) as server:
        seen = await kill_at_work(server, admin_key, simulator)
    await database.run(LONG)
    async with serving(environ) as server, client_of(server.address, admin_key) as client:
        # The control: while the lease lasts, the dead process's run is nobody else's, and waits.
        assert (await wait(client, seen, timeout=Duration(seconds=1))) == seen
        assert len(simulator.requests) == 1
        for table in ("run", "gate_slot"):
            await database.run(Statement("time passes", f"UPDATE {table} SET lease_until = now()"))
        assert (await wait(client, seen)).state == RUN_STATE_SUCCEEDED
    assert len(simulator.requests) == 2

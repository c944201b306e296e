"""The gate as two processes see it: slots, budgets, and pauses that are written only when they begin and end."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from evbridge.v1.integration_pb2 import INTEGRATION_TYPE_CHARGEPRICE, Integration

from service.domain.breaker import Scope
from service.domain.budget import Slice
from service.domain.delivery import RetryPolicy
from service.domain.partner_error import (
    PartnerFault,
    PartnerOutcomeUnknown,
    PartnerRateLimited,
    PartnerRejected,
    PartnerUnavailable,
)
from service.domain.secret import Secret
from service.domain.target import Target
from service.errors import EvbridgeError
from service.storage.gate import PartnerGate, gate_resume, sql
from service.storage.integration import integration_insert
from service.storage.pool import Database
from service.storage.statements import Statement

MINUTE = RetryPolicy(base_s=60.0)
AT_ONCE = RetryPolicy(base_s=0.0)
SLOTS = Target("acme", "cp", "p", "http://127.0.0.1:1", Secret("s"), max_concurrent_requests=2, timeout_s=5.0)


def limited(per_minute: int, per_day: int = 0, slots: int = 2) -> Target:
    place = ("acme", "cp", "p", "http://127.0.0.1:1", Secret("s"))
    return Target(*place, slots, 5.0, requests_per_minute=per_minute, requests_per_day=per_day)


@pytest.fixture
async def other(database_url: str, database: Database) -> AsyncIterator[Database]:
    """The pool of a second process; the tenant "acme" with the integration "cp" is there."""
    async with database.transaction() as conn:
        await conn.run(Statement("tenant", "INSERT INTO tenant VALUES ('acme')"))
        await integration_insert(conn, "acme", Integration(id="cp", type=INTEGRATION_TYPE_CHARGEPRICE, enabled=True))
    opened = Database(database_url, acquire_timeout_s=5.0)
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
def gates(database: Database, other: Database) -> list[PartnerGate]:
    return [PartnerGate(database, MINUTE), PartnerGate(other, MINUTE)]


async def send(
    gate: PartnerGate, target: Target = SLOTS, *, safe: bool = True, ends: EvbridgeError | None = None
) -> None:
    """One request that ends so. Raises what the gate raises."""
    try:
        async with gate.permit(target, safe=safe, timeout_s=20.0):
            if ends is not None:
                raise ends
    except EvbridgeError as error:
        if error is not ends:
            raise


async def let_through(gates: list[PartnerGate], target: Target, calls: int) -> int:
    """How many of `calls` requests, spread over the gates, may leave before a window ends."""

    async def call(number: int) -> bool:
        try:
            await send(gates[number % len(gates)], target)
        except PartnerRateLimited as limit:
            assert limit.retry_after_s is not None
            return False
        return True

    return sum(await asyncio.gather(*(call(number) for number in range(calls))))


async def count(database: Database, table: str) -> int:
    found: int = await database.value(Statement("count", f"SELECT count(*) FROM {table}"))
    return found


async def test_two_processes_share_the_slots_of_an_integration(
    gates: list[PartnerGate], soak: Callable[[int], int]
) -> None:
    inside, most = 0, 0

    async def call(number: int) -> None:
        nonlocal inside, most
        async with gates[number % 2].permit(SLOTS, safe=True, timeout_s=30.0):
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0.005)
            inside -= 1

    await asyncio.gather(*(call(number) for number in range(soak(300))))
    assert most == 2


async def test_the_statement_of_every_request_is_not_planned_for_each(
    gates: list[PartnerGate], database: Database
) -> None:
    for _ in range(10):
        await send(gates[0])
    plans = "SELECT custom_plans, generic_plans FROM pg_prepared_statements WHERE statement = $1"
    row = await database.row(Statement("plans", plans), sql.gate_slot_take.text)
    assert row is not None
    assert dict(row) == {"custom_plans": 5, "generic_plans": 5}


async def test_waiting_for_a_slot_ends_with_a_clear_error(gates: list[PartnerGate]) -> None:
    gate = gates[0]
    async with gate.permit(SLOTS, safe=True, timeout_s=20.0), gate.permit(SLOTS, safe=False, timeout_s=20.0):
        with pytest.raises(PartnerRateLimited):
            async with gate.permit(SLOTS, safe=True, timeout_s=0.1):
                raise AssertionError("three are inside")
    await send(gate)


async def test_a_caller_that_leaves_takes_no_slot_along(gates: list[PartnerGate], soak: Callable[[int], int]) -> None:
    async def call() -> None:
        async with gates[0].permit(SLOTS, safe=True, timeout_s=5.0):
            await asyncio.sleep(0.002)

    for number in range(soak(1000)):
        task = asyncio.create_task(call())
        await asyncio.sleep(number % 50 / 10_000)
        task.cancel()
        await asyncio.wait([task])
    async with gates[0].permit(SLOTS, safe=True, timeout_s=20.0), gates[1].permit(SLOTS, safe=True, timeout_s=20.0):
        pass


async def test_the_slot_of_a_dead_holder_is_free_after_its_lease(gates: list[PartnerGate], database: Database) -> None:
    dead = "INSERT INTO gate_slot VALUES ('acme', 'cp', 1, gen_random_uuid(), now() + interval '0.2 s')"
    await database.run(Statement("dead", dead))
    await database.run(Statement("dead", dead.replace("'cp', 1", "'cp', 2")))
    await send(gates[0])


@pytest.mark.parametrize(("per_minute", "per_day", "allowed"), [(30, 0, 30), (7, 0, 7), (1000, 45, 45), (20, 1000, 20)])
async def test_two_processes_never_exceed_a_budget_together(
    gates: list[PartnerGate], per_minute: int, per_day: int, allowed: int
) -> None:
    assert await let_through(gates, limited(per_minute, per_day, slots=8), calls=80) == allowed


async def test_without_the_shared_count_they_would(gates: list[PartnerGate], monkeypatch: pytest.MonkeyPatch) -> None:
    take = Slice.take
    monkeypatch.setattr(Slice, "take", lambda self, taken, used, limit, end: take(self, taken, taken, limit, end))
    assert await let_through(gates, limited(30, slots=8), calls=80) == 80


async def test_a_used_up_budget_says_until_when_and_is_asked_once(gates: list[PartnerGate], database: Database) -> None:
    await let_through(gates[:1], limited(2), calls=4)
    used = "SELECT used FROM gate_budget"
    before = await database.value(Statement("used", used))
    for _ in range(3):
        with pytest.raises(PartnerRateLimited) as raised:
            await send(gates[0], limited(2))
        assert 50 < (raised.value.retry_after_s or 0) <= 60
    assert await database.value(Statement("used", used)) == before
    assert await count(database, "gate_slot") == 0


async def test_a_call_waits_for_the_next_window_within_its_time(gates: list[PartnerGate], database: Database) -> None:
    gate = gates[0]
    await send(gate, limited(1))
    # The window ends while the call waits; no process has seen it used up yet.
    await database.run(Statement("soon", "UPDATE gate_budget SET reset_time = now() + interval '0.2 s'"))
    await send(gate, limited(1))
    assert await database.value(Statement("used", "SELECT used FROM gate_budget")) == 1


async def test_a_process_asks_for_a_slice_and_not_for_each_request(
    gates: list[PartnerGate], database: Database
) -> None:
    for _ in range(10):
        await send(gates[0], limited(1000))
    assert await database.value(Statement("used", "SELECT used FROM gate_budget")) == 50


async def test_a_limit_that_the_partner_names_closes_the_window_for_every_process(gates: list[PartnerGate]) -> None:
    async with gates[0].permit(SLOTS, safe=True, timeout_s=20.0) as permit:
        permit.limit_reached_s = 30.0
    for gate in gates:
        for safe in (True, False):
            with pytest.raises(PartnerRateLimited) as raised:
                await send(gate, safe=safe)
            assert 25 < (raised.value.retry_after_s or 0) <= 30


async def test_a_short_limit_is_waited_for_and_nobody_can_lift_a_long_one(
    gates: list[PartnerGate], database: Database
) -> None:
    async with gates[0].permit(SLOTS, safe=True, timeout_s=20.0) as permit:
        permit.limit_reached_s = 0.1
    await send(gates[1])
    async with gates[0].permit(SLOTS, safe=True, timeout_s=20.0) as permit:
        permit.limit_reached_s = 30.0
    async with database.transaction() as conn:
        await gate_resume(conn, "acme", "cp")
    with pytest.raises(PartnerRateLimited):
        await send(gates[1])


FAILURES = [error("it failed", partner="p") for error in (PartnerUnavailable, PartnerOutcomeUnknown, PartnerFault)]


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
async def test_five_failures_in_a_row_open_the_breaker_for_every_process_and_that_kind_alone(
    gates: list[PartnerGate], database: Database, failure: EvbridgeError
) -> None:
    for _ in range(4):
        await send(gates[0], ends=failure)
    assert await count(database, "gate_pause") == 0
    await send(gates[0], ends=failure)
    for gate in gates:
        with pytest.raises(PartnerUnavailable) as raised:
            await send(gate)
        assert raised.value is not failure
        assert 25 < (raised.value.retry_after_s or 0) <= 120
        await send(gate, safe=False)
    assert await count(database, "gate_slot") == 0


async def test_an_answer_that_refuses_a_request_opens_nothing(gates: list[PartnerGate], database: Database) -> None:
    for _ in range(30):
        await send(gates[0], ends=PartnerRejected("422", partner="p", http_status=422))
    await send(gates[0])
    assert await count(database, "gate_pause") == 0


async def test_no_answer_to_a_caller_in_a_hurry_opens_nothing(gates: list[PartnerGate], database: Database) -> None:
    for _ in range(30):
        with pytest.raises(PartnerUnavailable):
            async with gates[0].permit(SLOTS, safe=True, timeout_s=20.0) as permit:
                permit.caller_was_short = True
                raise FAILURES[0]
    assert await count(database, "gate_pause") == 0


async def test_one_probe_is_let_through_and_its_success_closes_the_breaker(database: Database, other: Database) -> None:
    gates = [PartnerGate(database, AT_ONCE), PartnerGate(other, AT_ONCE)]
    for _ in range(5):
        await send(gates[0], safe=False, ends=FAILURES[0])
    async with gates[1].permit(SLOTS, safe=False, timeout_s=20.0):
        for gate in gates:
            with pytest.raises(PartnerUnavailable):
                await send(gate, safe=False)
    assert await count(database, "gate_pause") == 0
    await asyncio.gather(*(send(gate, safe=False) for gate in gates))


async def test_a_probe_that_fails_or_is_given_up_opens_the_breaker_again(
    database: Database, gates: list[PartnerGate]
) -> None:
    pause = "INSERT INTO gate_pause VALUES ('acme', 'cp', 5, now(), 2)"
    for ends in (FAILURES[0], asyncio.CancelledError()):
        await database.run(Statement("gone", "DELETE FROM gate_pause"))
        await database.run(Statement("pause", pause))
        with pytest.raises(type(ends)):
            async with gates[0].permit(SLOTS, safe=True, timeout_s=20.0):
                raise ends
        row = await database.row(Statement("row", "SELECT failures, resume_time > now() AS lasts FROM gate_pause"))
        assert row is not None
        assert (row["failures"], row["lasts"]) == (6, True)


async def test_the_place_of_a_dead_probe_is_free_after_its_lease(gates: list[PartnerGate], database: Database) -> None:
    dead = "INSERT INTO gate_pause VALUES ('acme', 'cp', 1, now() + interval '1 minute', 2)"
    await database.run(Statement("dead", dead))
    with pytest.raises(PartnerUnavailable):
        await send(gates[0])
    await database.run(Statement("over", "UPDATE gate_pause SET resume_time = now()"))
    await send(gates[1])
    assert await count(database, "gate_pause") == 0


async def late_success(gates: list[PartnerGate], database: Database) -> int:
    """How many pauses are left when a probe succeeds after its lease, in which another one failed."""
    await database.run(Statement("pause", "INSERT INTO gate_pause VALUES ('acme', 'cp', 5, now(), 2)"))
    async with gates[0].permit(SLOTS, safe=True, timeout_s=20.0):
        await database.run(Statement("over", "UPDATE gate_pause SET resume_time = now()"))
        await send(gates[1], ends=FAILURES[0])
    return await count(database, "gate_pause")


async def test_a_probe_that_ends_after_another_one_did_changes_nothing(
    gates: list[PartnerGate], database: Database
) -> None:
    assert await late_success(gates, database) == 1
    with pytest.raises(PartnerUnavailable):
        await send(gates[0])


async def test_a_control_that_is_not_fenced_lifts_the_pause(
    gates: list[PartnerGate], database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    unfenced = sql.gate_lift.text.replace("failures = $4", "$4::integer > 0")
    assert unfenced != sql.gate_lift.text
    monkeypatch.setattr(sql, "gate_lift", Statement("unfenced", unfenced), raising=False)
    assert await late_success(gates, database) == 0


async def test_a_person_who_says_go_on_closes_breakers(gates: list[PartnerGate], database: Database) -> None:
    for _ in range(5):
        await send(gates[0], ends=FAILURES[0])
    async with database.transaction() as conn:
        await gate_resume(conn, "acme", "cp")
    await send(gates[1])


async def test_nothing_is_written_while_nothing_changes(gates: list[PartnerGate], database: Database) -> None:
    for number in range(10):
        await send(gates[0], limited(1000, 100_000), ends=FAILURES[0] if number % 3 else None)
    assert await count(database, "gate_pause") == 0
    assert Scope.DELIVERIES == 0, "the default of the column"

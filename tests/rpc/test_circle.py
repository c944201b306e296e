"""The whole circle in each version, and with whatever may become of a request on the way: each CDR is there once."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from evbridge.v1.delivery_pb2 import DELIVERY_STATE_PARKED

from service.delivery import once, worker
from service.delivery.disclosures import disclosed
from service.domain.delivery import Next, Verdict
from service.resources import received_object
from service.storage.peer import PartKey
from service.storage.statements import Statement
from tests.circle import HERS, Circle, Operator, agreed, cdrs_at, until
from tests.front_door import a_location, at_rest
from tests.rpc.test_ocpi_push import store
from tests.rpc.test_registration import ID, SPOKEN, Side, Sides, outcome, sides

__all__ = ["sides"]
# Every request of the circle, by whom it reaches.
REQUESTS = [
    ("cpo", "PUT", "/tokens/*"),
    ("emsp", "POST", "/authorize"),
    ("cpo", "POST", "/START_SESSION"),
    ("emsp", "POST", "/START_SESSION/*"),
    ("emsp", "PUT", "/sessions/*"),
    ("emsp", "PATCH", "/sessions/*"),
    ("cpo", "POST", "/STOP_SESSION"),
    ("emsp", "POST", "/STOP_SESSION/*"),
    ("emsp", "POST", "/cdrs"),
]
KINDS = ("lose_answer", "cut", "twice", "late", "down")
# The CDR first: it is the one that must not be lost.
FAULTS = [(*request, kind) for request in reversed(REQUESTS) for kind in KINDS]
OUTAGE = timedelta(minutes=5)
PASSES = (
    Statement("deliveries are due", "UPDATE delivery SET due_time = due_time - $1::interval WHERE state = 1"),
    Statement("pauses end", "UPDATE gate_pause SET resume_time = resume_time - $1::interval"),
    Statement("results are due", "UPDATE command SET send_time = send_time - $1::interval"),
)


@asynccontextmanager
async def roaming(sides: Sides, version: str = "2.2.1") -> AsyncIterator[tuple[Side, Side, Operator]]:
    """The two know each other, and the operator has the location L1 and somebody who takes commands."""
    async with sides(*({"ocpi_versions": each} for each in SPOKEN[version])) as (cpo, emsp):
        await agreed(cpo, emsp)
        await cpo.given(*(await emsp.issue()))
        assert outcome(await cpo.registers()) == "OK"
        await store(cpo, a_location(**HERS, id="L1"))
        async with Operator(cpo).serving() as operator:
            yield cpo, emsp, operator


async def time_passes(side: Side, time: timedelta) -> None:
    """Whatever waits for a time is due so much earlier."""
    for statement in PASSES:
        await side.running.database.run(statement, time)


async def outlasted(cpo: Side, emsp: Side, wire: Any, circle: Circle) -> None:
    """Five minutes pass while one side is away, by a clock that is set ahead; whoever tries, tries in vain."""
    async with asyncio.TaskGroup() as group:
        going_on = group.create_task(circle.runs())

        async def away() -> bool:
            return bool(wire.is_down)

        await until(away)
        for _ in range(10):
            for side in (cpo, emsp):
                await time_passes(side, OUTAGE / 10)
            await asyncio.sleep(0.1)
        assert not going_on.done(), "nothing was away"
        wire.is_down = False
        for side in (cpo, emsp):
            await time_passes(side, OUTAGE)


async def put_through(cpo: Side, emsp: Side, operator: Operator, fault: tuple[str, str, str, str]) -> Circle:
    """A circle in which something happens to a request, to its end."""
    whom, *what = fault
    wire = (cpo if whom == "cpo" else emsp).wire
    wire.faults = [tuple(what)]  # type: ignore[list-item]
    circle = Circle(cpo, emsp, operator)
    if fault[3] == "down":
        await outlasted(cpo, emsp, wire, circle)
    else:
        await circle.runs()
    assert not wire.faults, f"{fault} did not happen"
    await wire.catches_up()
    await circle.reconcile()
    return circle


async def check_once(cpo: Side, emsp: Side, circles: list[Circle], late: int = 0) -> None:
    """Each CDR is at both sides, and was recorded and sent once. So many were `late`, and sent again until then."""
    billed = sorted(circle.cdr_id for circle in circles)
    assert await cdrs_at(cpo, "") == await cdrs_at(emsp, ID) == billed
    posts = [each for each in emsp.wire.answered if each[0] == "POST" and each[1].endswith("/cdrs")]
    assert Counter(status for *_, status in posts)[201] == len(billed)
    assert len({request_id for _, _, request_id, _ in posts}) == len(billed) + late


@pytest.mark.parametrize("version", SPOKEN)
@pytest.mark.timeout(1800)
async def test_it_closes_whatever_becomes_of_a_request(sides: Sides, version: str, soak: Callable[[int], int]) -> None:
    faults = FAULTS if soak(10) == 10 else FAULTS[[*SPOKEN].index(version) :: len(SPOKEN)][:1]
    async with roaming(sides, version) as (cpo, emsp, operator):
        circles = [Circle(cpo, emsp, operator)]
        await circles[0].runs()
        for fault in faults:
            circles.append(await put_through(cpo, emsp, operator, fault))
        await check_once(cpo, emsp, circles, faults.count(("emsp", "POST", "/cdrs", "late")))


async def test_a_control_who_does_not_look_before_sending_again_bills_twice(
    sides: Sides, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unnoted(database: Any, claim: Any, peer: Any, held: Any, document: Any) -> Any:
        return disclosed(database, claim, document, PartKey(claim.object_kind))

    monkeypatch.setattr(once, "sending", unnoted)
    async with roaming(sides) as (cpo, emsp, operator):
        circles = [Circle(cpo, emsp, operator)]
        await circles[0].runs()
        circles.append(await put_through(cpo, emsp, operator, ("emsp", "POST", "/cdrs", "lose_answer")))
        with pytest.raises(AssertionError):
            await check_once(cpo, emsp, circles)


async def test_a_control_where_the_time_of_a_session_does_not_count_a_late_request_undoes_it(
    sides: Sides, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(received_object, "is_outdated", lambda *_: False)
    async with roaming(sides) as (cpo, emsp, operator):
        with pytest.raises(AssertionError):
            await put_through(cpo, emsp, operator, ("emsp", "PUT", "/sessions/*", "late"))


async def test_a_control_where_an_outage_parks_the_bill_does_not_come(
    sides: Sides, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with roaming(sides) as (cpo, emsp, operator):
        circle = Circle(cpo, emsp, operator)
        for step in circle.steps[: circle.steps.index(circle.bill)]:
            await step()
        monkeypatch.setattr(worker, "verdict", lambda *_: Verdict(Next.PARK))
        emsp.wire.is_down = True
        await circle.record()
        await at_rest(cpo.client, ID)
        emsp.wire.is_down = False
        await time_passes(cpo, OUTAGE)
        assert {each.state for each in await at_rest(cpo.client, ID)} >= {DELIVERY_STATE_PARKED}
        assert await cdrs_at(emsp, ID) == []

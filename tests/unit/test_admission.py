"""Which calls may work now, on a clock that moves only when everybody waits."""

import asyncio
import random
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import ServerBusy, TooManyCalls
from service.rpc import admission
from service.rpc.admission import Admission

T = TypeVar("T")
WORK_S = 0.01
AT_WORK = 4
CAPACITY = AT_WORK / WORK_S


class _NoWaiting(selectors.DefaultSelector):
    """Does not wait: says how long it would have."""

    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        found = super().select(0)
        if not found:
            assert timeout is not None, "everybody waits for nothing"
            self.now += timeout
        return found


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._moves = _NoWaiting()
        super().__init__(self._moves)

    def time(self) -> float:
        return self._moves.now


def simulated(work: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(work)


def new(**limits: Any) -> Admission:
    return Admission(**{"calls": 200, "per_key": 200, "at_work": AT_WORK, **limits})


async def offered(load: float, seconds: float = 10.0, burst_s: float = 0.25) -> tuple[list[float], list[float]]:
    """How long answers and refusals took when `load` times the capacity arrives, at random moments.

    Without the first second, in which an overload is still taken for a burst.
    """
    doors, dice, clock = (
        new(calls=100_000, per_key=100_000, burst_s=burst_s),
        random.Random(7),
        asyncio.get_running_loop().time,
    )
    answered: list[float] = []
    refused: list[float] = []

    async def call() -> None:
        since, entry = clock(), doors.enter(f"key {dice.randrange(20)}")
        outcome = refused
        try:
            await entry.work()
            await asyncio.sleep(WORK_S)
            outcome = answered
        except ServerBusy:
            pass
        finally:
            entry.leave()
            if since > 1:
                outcome.append(clock() - since)

    async with asyncio.TaskGroup() as calls:
        while clock() < seconds:
            await asyncio.sleep(dice.expovariate(load * CAPACITY))
            calls.create_task(call())
    assert doors.under_way == 0
    return answered, refused


def p99(latencies: list[float]) -> float:
    return sorted(latencies)[int(len(latencies) * 0.99)]


@pytest.mark.parametrize("load", [1, 2, 4])
def test_an_overload_is_shed_and_not_queued(load: float) -> None:
    unloaded, none = simulated(offered(0.25))
    assert not none
    answered, refused = simulated(offered(load))
    assert p99(answered) < 4 * p99(unloaded)
    assert not refused or p99(refused) < 0.1
    assert len(answered) / 9 > 0.8 * CAPACITY


def test_without_shedding_everybody_waits_for_everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control of the test above."""
    unloaded, _ = simulated(offered(0.25))
    monkeypatch.setattr(admission, "_TARGET_S", 60.0)
    answered, _ = simulated(offered(2, burst_s=60.0))
    assert p99(answered) > 100 * p99(unloaded)


def test_a_burst_waits_and_loses_nobody() -> None:
    async def burst() -> list[None]:
        doors = new()

        async def call() -> None:
            entry = doors.enter("key")
            await entry.work()
            await asyncio.sleep(WORK_S)
            entry.leave()

        return await asyncio.gather(*(call() for _ in range(90)))

    assert len(simulated(burst())) == 90


@pytest.mark.parametrize(
    ("callers", "refused"), [(AT_WORK, False), (5 * AT_WORK, True)], ids=["", "a control with more of them"]
)
def test_as_many_callers_as_may_work_are_never_refused(callers: int, refused: bool) -> None:
    """Not even while an overload before them is still remembered."""

    async def refusals() -> int:
        doors, seen = new(), 0

        async def call() -> None:
            nonlocal seen
            entry = doors.enter("key")
            try:
                await entry.work()
                await asyncio.sleep(WORK_S)
            except ServerBusy:
                seen += 1
            finally:
                entry.leave()

        async def calls() -> None:
            for _ in range(50):
                await call()

        await asyncio.gather(*(call() for _ in range(200)))
        assert seen, "that was an overload"
        seen = 0
        await asyncio.gather(*(calls() for _ in range(callers)))
        return seen

    assert bool(simulated(refusals())) == refused


def test_a_key_that_sends_a_lot_waits_for_itself() -> None:
    async def order() -> list[str]:
        doors, begun = new(at_work=1), list[str]()

        async def call(key: str) -> None:
            entry = doors.enter(key)
            await entry.work()
            begun.append(key)
            await asyncio.sleep(WORK_S)
            entry.leave()

        await asyncio.gather(*(call("many") for _ in range(10)), call("one"), call("two"))
        return begun

    assert simulated(order())[:4] == ["many", "many", "one", "two"]


def test_who_waits_for_a_partner_is_not_at_work() -> None:
    async def waiting() -> None:
        doors = new(at_work=1)
        first, second = doors.enter("key"), doors.enter("key")
        await first.work()
        next_one = asyncio.ensure_future(second.work())
        await asyncio.sleep(0)
        assert not next_one.done()
        first.wait_elsewhere()
        await next_one
        first.leave()  # gives nothing back a second time
        third = doors.enter("key")
        with pytest.raises(ServerBusy):
            await third.work()

    simulated(waiting())


def test_shares_are_given_back() -> None:
    async def share() -> None:
        doors = new(calls=3, per_key=2, key_bytes=10, all_bytes=15)
        first, second = doors.enter("a"), doors.enter("a")
        with pytest.raises(TooManyCalls):
            doors.enter("a")
        other = doors.enter("b")
        with pytest.raises(ServerBusy):
            doors.enter("c")
        first.hold(8)
        with pytest.raises(TooManyCalls):
            second.hold(3)
        with pytest.raises(ServerBusy):
            other.hold(8)
        first.leave()
        other.hold(8)
        second.leave()
        other.leave()
        doors.enter("a").hold(10)

    simulated(share())


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 0.3), st.floats(0, 0.3), st.floats(0, 0.3)), max_size=30)
)
def test_whatever_happens_to_calls_everything_is_free_in_the_end(calls: list[tuple[str, float, float, float]]) -> None:
    async def storm() -> None:
        doors = new(calls=12, per_key=6, at_work=2)

        async def call(key: str, arrives_s: float, works_s: float) -> None:
            await asyncio.sleep(arrives_s)
            try:
                entry = doors.enter(key)
            except (ServerBusy, TooManyCalls):
                return
            try:
                entry.hold(5)
                await entry.work()
                await asyncio.sleep(works_s)
            except ServerBusy:
                pass
            finally:
                entry.leave()

        async def given_up(key: str, arrives_s: float, works_s: float, patience_s: float) -> None:
            try:
                async with asyncio.timeout(arrives_s + patience_s):
                    await call(key, arrives_s, works_s)
            except TimeoutError:
                pass

        await asyncio.gather(*(given_up(*each) for each in calls))
        assert doors.under_way == 0
        await asyncio.sleep(5)  # an overload is over
        for key in "ab":
            entry = doors.enter(key)
            entry.hold(32 << 20)
            await asyncio.wait_for(entry.work(), 0.001)

    simulated(storm())

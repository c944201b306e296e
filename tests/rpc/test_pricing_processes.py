"""Heavy pricing in processes of its own: they die, hang and lose their callers, and nobody else notices."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest
from evbridge.options.v1 import options_pb2
from evbridge.v1 import pricing_pb2 as p
from evbridge.v1 import tariff_pb2 as t
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.decimal_pb2 import Decimal

from service.domain.pricing.jobs import run, run_if_small
from service.errors import InvalidArgument
from service.processes.pool import Processes, ProcessLost
from service.storage.api_key import api_key_create
from service.storage.keyring import Keyring
from service.storage.pool import Database
from tests.front_door import Client, a_tariff, environment, fails, serving

DAY = 86_400
PATIENCE_S = 60.0


def quote_of(days: int, times: int = 24) -> p.QuotePriceRequest:
    """A session cut into about so many pieces as days times times."""
    price = t.PriceComponent(type=t.TARIFF_DIMENSION_TYPE_PARKING_TIME, price=Decimal(value="1"), step_size=1)
    elements = [
        t.TariffElement(
            price_components=[price],
            restrictions=t.TariffRestrictions(start_time=f"{number // 60:02}:{number % 60:02}"),
        )
        for number in range(times)
    ]
    start = Timestamp()
    start.FromDatetime(datetime(2026, 6, 1, tzinfo=UTC))
    return p.QuotePriceRequest(
        tariff=a_tariff(elements=elements),
        plan=p.SessionPlan(start_date_time=start, parking_s=days * DAY),
        options=p.PricingOptions(time_zone="Europe/Berlin"),
    )


PAYLOAD = quote_of(10).SerializeToString()
HEAVY = quote_of(80, 60)


async def until(holds: Callable[[], bool]) -> None:
    """Raises TimeoutError when it never does."""
    async with asyncio.timeout(PATIENCE_S):
        while not holds():
            await asyncio.sleep(0.02)


def alive(id: int) -> bool:
    """Runs, or waits to run: a zombie does neither."""
    try:
        return Path(f"/proc/{id}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def workers_of(parent: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_text().split("\0")
            ours = int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == parent
        except (OSError, IndexError, ValueError):
            continue
        if ours and "service.processes.worker" in words:
            found.append(int(entry.name))
    return found


@asynccontextmanager
async def pool(size: int = 2, most_s: float = 15.0) -> AsyncIterator[Processes]:
    async with aclosing(Processes(size, most_s)) as made:
        yield made


async def frozen(processes: Processes) -> "asyncio.Task[bytes]":
    """A job of the key "a" whose process does nothing until it is woken."""
    await processes.run("a", "QuotePrice", PAYLOAD)
    (id,) = processes.ids
    os.kill(id, signal.SIGSTOP)
    job = asyncio.create_task(processes.run("a", "QuotePrice", PAYLOAD))
    await asyncio.sleep(0)
    return job


async def test_a_process_answers_as_the_server_itself_would() -> None:
    small = quote_of(1, 1)
    async with pool() as processes:
        assert await processes.run("a", "QuotePrice", PAYLOAD) == run("QuotePrice", PAYLOAD)
        answer = await processes.run("a", "QuotePrice", small.SerializeToString())
    assert answer == run_if_small("QuotePrice", small)
    assert run_if_small("QuotePrice", HEAVY) is None


async def test_what_is_refused_in_a_process_is_refused_with_its_violations() -> None:
    broken = quote_of(10)
    broken.options.time_zone = "Europe/Nowhere"
    async with pool() as processes:
        with pytest.raises(InvalidArgument) as refused:
            await processes.run("a", "QuotePrice", broken.SerializeToString())
    assert [violation.path for violation in refused.value.violations] == ["options.time_zone"]


async def test_a_process_that_died_while_idle_is_replaced() -> None:
    async with pool() as processes:
        first = await processes.run("a", "QuotePrice", PAYLOAD)
        (id,) = processes.ids
        os.kill(id, signal.SIGKILL)
        assert await processes.run("a", "QuotePrice", PAYLOAD) == first
        assert id not in processes.ids


async def test_a_job_whose_process_dies_is_done_again_once() -> None:
    async with pool() as processes:
        job = await frozen(processes)
        os.kill(processes.ids[0], signal.SIGKILL)
        assert await job == run("QuotePrice", PAYLOAD)


async def test_a_job_whose_process_dies_twice_is_lost_and_takes_nobody_with_it() -> None:
    """The control of the test before: it is the second process that answers there."""
    async with pool() as processes:
        job = await frozen(processes)
        (first,) = processes.ids
        os.kill(first, signal.SIGKILL)
        await until(lambda: bool(set(processes.ids) - {first}))
        (second,) = set(processes.ids) - {first}
        os.kill(second, signal.SIGKILL)
        with pytest.raises(ProcessLost):
            await job
        assert await processes.run("a", "QuotePrice", PAYLOAD)


async def test_one_key_has_all_processes_but_one() -> None:
    async with pool(2) as processes:
        hanging = await frozen(processes)
        second = asyncio.create_task(processes.run("a", "QuotePrice", PAYLOAD))
        await until(lambda: processes.waiting == 1)
        assert await processes.run("b", "QuotePrice", PAYLOAD)
        assert (hanging.done(), second.done(), processes.waiting) == (False, False, 1)
        for id in processes.ids:
            os.kill(id, signal.SIGCONT)
        assert await hanging == await second


async def test_with_three_processes_a_key_has_two() -> None:
    """The control of the test before: a second job of the key does not wait for the first as such."""
    async with pool(3) as processes:
        hanging = await frozen(processes)
        assert await processes.run("a", "QuotePrice", PAYLOAD)
        assert not hanging.done()
        hanging.cancel()


async def test_keys_take_turns() -> None:
    order: list[str] = []

    async def asking(processes: Processes, key: str) -> None:
        await processes.run(key, "QuotePrice", PAYLOAD)
        order.append(key)

    async with pool(1) as processes:
        hanging = await frozen(processes)
        asked = []
        for key in ("a", "a", "a", "b", "c"):
            asked.append(asyncio.create_task(asking(processes, key)))
            await asyncio.sleep(0)
        os.kill(processes.ids[0], signal.SIGCONT)
        await asyncio.gather(hanging, *asked)
    assert order == ["a", "b", "c", "a", "a"]


async def test_a_queued_job_is_dropped_when_its_caller_is_gone() -> None:
    async with pool(1) as processes:
        hanging = await frozen(processes)
        left = [asyncio.create_task(processes.run("a", "QuotePrice", b"no request")) for _ in range(3)]
        stays = asyncio.create_task(processes.run("a", "QuotePrice", PAYLOAD))
        await until(lambda: processes.waiting == 4)
        for job in left:
            job.cancel()
        await until(lambda: processes.waiting == 1)
        os.kill(processes.ids[0], signal.SIGCONT)
        assert await hanging == await stays
        assert processes.waiting == 0


async def test_callers_may_leave_at_the_same_moment() -> None:
    """As they do when the deadlines of a burst pass: the first job's end must not start one that nobody waits for."""
    async with pool(1) as processes:
        hanging = await frozen(processes)
        queued = asyncio.create_task(processes.run("a", "QuotePrice", PAYLOAD))
        await until(lambda: processes.waiting == 1)
        for job in (hanging, queued):
            job.cancel()
        ends = await asyncio.gather(hanging, queued, return_exceptions=True)
        assert [type(end) for end in ends] == [asyncio.CancelledError, asyncio.CancelledError]
        assert processes.waiting == 0
        assert await processes.run("b", "QuotePrice", PAYLOAD)


async def test_a_job_under_way_ends_with_its_caller() -> None:
    async with pool(1) as processes:
        hanging = await frozen(processes)
        (id,) = processes.ids
        hanging.cancel()
        await until(lambda: not alive(id))
        assert await processes.run("b", "QuotePrice", PAYLOAD)


async def test_a_job_that_takes_too_long_is_ended_and_refused() -> None:
    payload = HEAVY.SerializeToString()
    async with pool(1, most_s=0.03) as processes:
        with pytest.raises(InvalidArgument, match="takes too long to compute"):
            await processes.run("a", "QuotePrice", payload)
    async with pool(1) as processes:
        assert await processes.run("a", "QuotePrice", payload)


async def test_no_process_stays_when_the_pool_is_closed() -> None:
    async with pool() as processes:
        await asyncio.gather(*(processes.run(key, "QuotePrice", PAYLOAD) for key in "ab"))
        ids = processes.ids
        assert len(ids) == 2
        assert all(map(alive, ids))
    assert not any(map(alive, ids))


async def test_the_secrets_of_the_server_are_not_in_its_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVBRIDGE_SECRETS_KEYS", "secret-of-the-server")
    monkeypatch.setenv("LANGUAGE", "seen-by-all")
    async with pool() as processes:
        await processes.run("a", "QuotePrice", PAYLOAD)
        environ = Path(f"/proc/{processes.ids[0]}/environ").read_bytes()
    assert b"secret-of-the-server" not in environ
    assert b"seen-by-all" in environ


async def reader(database: Database, keyring: Keyring, channel: grpc.aio.Channel, tenant: str = "t") -> Client:
    async with database.transaction() as conn:
        key = await api_key_create(conn, keyring, tenant, "reader", options_pb2.ROLE_READER)
    return Client(channel, key.reveal())


async def test_a_call_whose_process_hangs_holds_up_no_other_key_and_ends_with_its_caller(
    database: Database, database_url: str, keyring: Keyring
) -> None:
    async with serving(environment(database_url)) as server, grpc.aio.insecure_channel(server.address) as channel:
        client = await reader(database, keyring, channel)
        await client.pricing.QuotePrice(HEAVY)
        (id,) = workers_of(server.process.pid)
        os.kill(id, signal.SIGSTOP)
        other = await reader(database, keyring, channel, "other")

        async def price(caller: Client) -> p.Quote:
            return await caller.pricing.QuotePrice(HEAVY)

        calls = [asyncio.create_task(price(caller)) for caller in (client, other)]
        (answered,), (hanging,) = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        assert (await answered).total_cost
        assert (await client.pricing.QuotePrice(quote_of(1, 1))).total_cost
        assert alive(id)
        hanging.cancel()
        await until(lambda: not alive(id))
        assert (await client.pricing.QuotePrice(HEAVY)).total_cost


@pytest.mark.parametrize("idle", [True, False], ids=["idle", "at work"])
async def test_a_server_that_is_killed_leaves_no_process(
    database: Database, database_url: str, keyring: Keyring, idle: bool
) -> None:
    async with serving(environment(database_url)) as server, grpc.aio.insecure_channel(server.address) as channel:
        client = await reader(database, keyring, channel)
        await client.pricing.QuotePrice(HEAVY)
        (id,) = workers_of(server.process.pid)
        failing = None
        if not idle:
            os.kill(id, signal.SIGSTOP)
            failing = asyncio.create_task(fails(client.pricing.QuotePrice(HEAVY)))
            await client.pricing.QuotePrice(quote_of(1, 1))
        assert alive(id)
        server.process.kill()
        await until(lambda: not alive(id))
        if failing:
            assert (await failing).code == grpc.StatusCode.UNAVAILABLE

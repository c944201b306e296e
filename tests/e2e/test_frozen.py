"""A server that stands still for longer than its lease amid a delivery, one that takes long, and one that is killed."""

import asyncio
import signal
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack

import grpc
import pytest
from evbridge.v1.company_pb2 import UpsertCompanyRequest
from evbridge.v1.delivery_pb2 import DELIVERY_STATE_DELIVERED
from evbridge.v1.integration_pb2 import CreateIntegrationRequest

from service import workers
from service.app import evbridge
from service.delivery import worker
from service.partners.chargeprice.simulator import Simulator
from service.simulator.faults import parse_fault
from service.storage.api_key import api_key_create
from service.storage.keyring import Keyring
from service.storage.pool import Database
from service.storage.statements import Statement
from tests.front_door import Client, Serving, a_company, an_integration, environment, serving, settings, settled

PROGRAM = ("-m", "service")
# The same without what is under test: no lease is looked at, and the object is read once. Its requests have the
# time that a busy machine needs to start the other server.
UNFENCED = (
    "-c",
    """
import service.partners.chargeprice.delivery as chargeprice
import service.storage.delivery as delivery
import service.storage.disclosure as disclosure
import service.storage.peer as peer
import service.storage.view as view
from service.__main__ import main
from service.domain.target import Target

Target.__init__.__defaults__ = tuple(120.0 if value == 15.0 else value for value in Target.__init__.__defaults__)
for noun in (delivery, disclosure, peer, view):
    noun.lease_held = lambda found: found
read = chargeprice.company_current
companies = {}

async def company_current(conn, *key):
    if key not in companies:
        companies[key] = await read(conn, *key)
    return companies[key]

chargeprice.company_current = company_current
main()
""",
)


@pytest.fixture
async def admin_key(database: Database, keyring: Keyring) -> str:
    async with database.transaction() as conn:
        return (await api_key_create(conn, keyring, "frozen", "", 3)).reveal()


async def overtaken(
    database: Database, database_url: str, key: str, simulator: Simulator, program: Sequence[str], others: int = 1
) -> tuple[Serving, list[tuple[str, int]], str]:
    """A server is stopped while it delivers a company, others deliver a newer state, then the first goes on.

    Returns the first server, what the partner stored, and the name that the company has there.
    """
    company = a_company(name="Old")
    environ = environment(database_url, DELIVERY_POLL_S=0.2)
    async with serving(environ, program=program) as frozen:
        simulator.faults.append(parse_fault("GET=delay:0.5"))
        async with grpc.aio.insecure_channel(frozen.address) as channel:
            client = Client(channel, key)
            integration = an_integration(simulator.url, id=f"cp-{company.id[:8]}")
            await client.integrations.CreateIntegration(CreateIntegrationRequest(integration=integration))
            await client.companies.UpsertCompany(UpsertCompanyRequest(company=company))
            while not simulator.in_flight:
                await asyncio.sleep(0.01)
        frozen.process.send_signal(signal.SIGSTOP)
        while simulator.in_flight:
            await asyncio.sleep(0.01)
        async with AsyncExitStack() as stack:
            other = await stack.enter_async_context(serving(environ))
            client = Client(await stack.enter_async_context(grpc.aio.insecure_channel(other.address)), key)
            company.version, company.name = 2, "New"
            await client.companies.UpsertCompany(UpsertCompanyRequest(company=company))
            for _ in range(others - 1):
                await stack.enter_async_context(serving(environ))
            for table in ("delivery", "gate_slot"):
                await database.run(Statement("over", f"UPDATE {table} SET lease_until = now()"))
            assert (await settled(client, company.id)).state == DELIVERY_STATE_DELIVERED
            assert simulator.companies[company.id].attributes.name == "New"
            requests = len(simulator.requests)
            frozen.process.send_signal(signal.SIGCONT)
            async with asyncio.timeout(30):
                while "an attempt was given up" not in frozen.log and len(simulator.requests) < requests + 3:
                    await asyncio.sleep(0.01)
            assert (await settled(client, company.id)).state == DELIVERY_STATE_DELIVERED
    stored = [entry for entry in simulator.history if entry[0] == company.id]
    return frozen, stored, simulator.companies[company.id].attributes.name


async def test_a_server_that_wakes_after_its_lease_sends_nothing_more(
    database: Database, database_url: str, admin_key: str, simulator: Simulator, soak: Callable[[int], int]
) -> None:
    others = max(soak(7), 2)
    frozen, stored, name = await overtaken(database, database_url, admin_key, simulator, PROGRAM, others)
    assert "an attempt was given up" in frozen.log
    assert (len(stored), name) == (1, "New")


async def test_a_control_without_fences_does_put_the_old_state_on_top(
    database: Database, database_url: str, admin_key: str, simulator: Simulator
) -> None:
    _, stored, name = await overtaken(database, database_url, admin_key, simulator, UNFENCED)
    assert (len(stored), name) == (2, "Old")


async def taken_over(database_url: str, key: str, simulator: Simulator, caplog: pytest.LogCaptureFixture) -> bool:
    """Whether the second of two servers took over what the first was delivering, for longer than its lease.

    Both are in this process, and their lease is short.
    """
    simulator.faults.append(parse_fault("PUT=delay:4"))
    async with AsyncExitStack() as stack:
        for _ in range(2):
            server = await stack.enter_async_context(evbridge(settings(database_url, drain_s=30.0)))
        client = Client(await stack.enter_async_context(grpc.aio.insecure_channel(server.address)), key)
        integration = an_integration(simulator.url, id="cp")
        await client.integrations.CreateIntegration(CreateIntegrationRequest(integration=integration))
        await client.companies.UpsertCompany(UpsertCompanyRequest(company=(company := a_company())))
        delivery = await settled(client, company.id, limit_s=60)
    assert delivery.state == DELIVERY_STATE_DELIVERED
    assert simulator.history == [(company.id, 1)]
    return "an attempt was given up" in caplog.messages


async def test_a_lease_is_renewed_as_long_as_an_attempt_takes(
    database_url: str,
    admin_key: str,
    simulator: Simulator,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker, "LEASE_S", 2.0)
    assert not await taken_over(database_url, admin_key, simulator, caplog)


async def test_a_control_whose_lease_is_not_renewed_is_taken_over(
    database_url: str,
    admin_key: str,
    simulator: Simulator,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker, "LEASE_S", 2.0)
    monkeypatch.setattr(workers, "BEATS", 0.01)
    assert await taken_over(database_url, admin_key, simulator, caplog)


async def test_the_object_of_a_killed_server_is_delivered_by_another_when_its_short_lease_ends(
    database: Database, database_url: str, admin_key: str, simulator: Simulator
) -> None:
    environ = environment(database_url)
    simulator.faults.append(parse_fault("PUT=lose_answer"))
    simulator.faults.append(parse_fault("GET=delay:60"))
    company = a_company()
    async with serving(environ) as server, grpc.aio.insecure_channel(server.address) as channel:
        client = Client(channel, admin_key)
        integration = an_integration(simulator.url, id="cp")
        await client.integrations.CreateIntegration(CreateIntegrationRequest(integration=integration))
        await client.companies.UpsertCompany(UpsertCompanyRequest(company=company))
        while not simulator.in_flight:
            await asyncio.sleep(0.01)
        server.process.kill()
        await server.process.wait()
    left = Statement("left", "SELECT extract(epoch FROM max(lease_until) - now()) FROM delivery")
    assert 0 < await database.value(left) <= worker.LEASE_S
    for table in ("delivery", "gate_slot"):
        await database.run(Statement("over", f"UPDATE {table} SET lease_until = now()"))
    async with serving(environ) as server, grpc.aio.insecure_channel(server.address) as channel:
        assert (await settled(Client(channel, admin_key), company.id)).state == DELIVERY_STATE_DELIVERED
    assert simulator.history == [(company.id, 1)]

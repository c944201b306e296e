"""Clients that write until they are acknowledged, and what became of it: for tests of what goes away meanwhile."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import grpc
from evbridge.v1.company_pb2 import Company, ListCompaniesRequest, UpsertCompanyRequest
from evbridge.v1.integration_pb2 import CreateIntegrationRequest, Integration, ListIntegrationsRequest

from service.partners.chargeprice.simulator import Simulator
from tests.front_door import Client, a_company, an_integration, an_integration_of, failure_of

CLIENTS = 16
# A channel that finds the next server soon.
IMPATIENT: Sequence[tuple[str, Any]] = [
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
    ("grpc.use_local_subchannel_pool", 1),
]
PASSING = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
"""With these a server ends what may be repeated; see docs/production.md."""
PARTNER = "cp"
LEASES_END = tuple(f"UPDATE {table} SET lease_until = now()" for table in ("delivery", "gate_slot"))
"""What was under way when something went away is claimed again after these, as it is 20 seconds later without them."""


class Writers:
    """Clients that repeat each write until it is acknowledged, with or without a request id.

    They create integrations, whose ids the server makes, under names that are used once; and companies. Through those
    integrations no company is delivered: each that is written would be due at all that were.
    """

    def __init__(
        self, address: str, key: str, *, request_ids: bool = True, options: Sequence[tuple[str, Any]] = IMPATIENT
    ) -> None:
        self._address = address
        self._key = key
        self._options = options
        self._request_ids = request_ids
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []
        self.integrations: list[Integration] = []
        self.companies: list[Company] = []
        self.repetitions = 0
        self.answered: dict[int, list[float]] = {}
        """When each client had its acknowledgements, by a monotonic clock."""

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            self._tasks = [group.create_task(self._work(number)) for number in range(CLIENTS)]
            yield

    async def do(self, writes: int) -> None:
        """Returns when so many more are acknowledged."""
        goal = len(self.integrations) + len(self.companies) + writes
        while len(self.integrations) + len(self.companies) < goal:
            await asyncio.sleep(0.001)

    async def finish(self) -> None:
        """Returns when the last write is acknowledged."""
        self._stopping = True
        await asyncio.wait(self._tasks)

    async def _work(self, worker: int) -> None:
        answered = self.answered.setdefault(worker, [])
        async with grpc.aio.insecure_channel(self._address, self._options) as channel:
            client = Client(channel, self._key)
            for number in itertools.count():
                if self._stopping:
                    return
                name = f"{worker}/{number}"
                made = an_integration_of("salesforce", display_name=name, enabled=False)
                create = CreateIntegrationRequest(integration=made)
                upsert = UpsertCompanyRequest(company=a_company(name=name))
                if self._request_ids:
                    create.request_id, upsert.request_id = str(uuid4()), str(uuid4())
                    self.companies.append(await self._acknowledged(client.companies.UpsertCompany, upsert))
                    answered.append(time.monotonic())
                self.integrations.append(await self._acknowledged(client.integrations.CreateIntegration, create))
                answered.append(time.monotonic())

    async def _acknowledged(self, method: Callable[[Any], Awaitable[Any]], request: Any) -> Any:
        while True:
            try:
                return await method(request)
            except grpc.aio.AioRpcError as error:
                # Busy are also those that queue behind calls to a database that hangs.
                assert error.code() in PASSING or failure_of(error).reason == "SERVER_BUSY", error
            self.repetitions += 1
            await asyncio.sleep(0.02)


async def stored(address: str, key: str) -> tuple[list[Integration], list[Company]]:
    async with grpc.aio.insecure_channel(address) as channel:
        client = Client(channel, key)
        integrations, companies = ListIntegrationsRequest(page_size=1000), ListCompaniesRequest(page_size=1000)
        return (
            [item async for page in _pages(client.integrations.ListIntegrations, integrations) for item in page],
            [item async for page in _pages(client.companies.ListCompanies, companies) for item in page],
        )


async def _pages(method: Callable[[Any], Awaitable[Any]], request: Any) -> AsyncIterator[Any]:
    while True:
        page = await method(request)
        yield page.ListFields()[0][1] if page.ListFields() else []
        request.page_token = page.next_page_token
        if not request.page_token:
            return


async def lost(writers: Writers, address: str, key: str) -> set[str]:
    """The ids that were acknowledged and are not there."""
    acknowledged, there = (writers.integrations, writers.companies), await stored(address, key)
    ids = [{item.id for items in both for item in items} for both in (acknowledged, there)]
    return ids[0] - ids[1]


async def is_all_there_once(writers: Writers, address: str, key: str) -> None:
    integrations, companies = await stored(address, key)
    integrations = [item for item in integrations if item.display_name]  # not those to partners
    assert {item.id: item for item in integrations} == {item.id: item for item in writers.integrations}
    assert len({item.display_name for item in integrations}) == len(integrations) == len(writers.integrations)
    assert {item.id: item for item in companies} == {item.id: item for item in writers.companies}
    assert len(companies) == len(writers.companies)


async def connect(address: str, key: str, simulator: Simulator) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        # Its own limit would make thousands of companies take a quarter of an hour.
        limits = {"requests_per_minute": 60_000}
        request = CreateIntegrationRequest(integration=an_integration(simulator.url, id=PARTNER, limits=limits))
        await Client(channel, key).integrations.CreateIntegration(request)


async def all_arrive_once(writers: Writers, simulator: Simulator) -> None:
    wanted = {company.id: company.name for company in writers.companies}
    while len(simulator.companies) < len(wanted):
        await asyncio.sleep(0.1)
    assert {id: held.attributes.name for id, held in simulator.companies.items()} == wanted
    assert {held.attributes.version for held in simulator.companies.values()} == {1}

"""What is under way when a server is told to stop."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from evbridge.partner.chargeprice.v1.company_pb2 import ListCompaniesRequest
from evbridge.partner.chargeprice.v1.company_pb2_grpc import CompanyServiceStub
from evbridge.v1.integration_pb2 import CreateIntegrationRequest
from evbridge.v1.partner_pb2 import SetExchangeRecordingRequest

from service.app import evbridge
from service.partners.chargeprice.simulator import Simulator
from service.storage.api_key import api_key_create
from service.storage.exchange import ExchangeRecorder
from service.storage.keyring import Keyring
from service.storage.pool import Database
from service.storage.statements import Statement
from tests.front_door import Client, an_integration, settings

CALLS = 3
LOCK = Statement("lock", "LOCK TABLE exchange IN EXCLUSIVE MODE")
STORED = Statement("stored", "SELECT count(*) FROM exchange")

Stopping = Callable[[], Coroutine[Any, Any, None]]


async def recorded(
    database_url: str, database: Database, keyring: Keyring, simulator: Simulator, stopping: Stopping
) -> int:
    """How many of the calls were recorded, when storing the first one takes until `stopping` returns."""
    calling, stop = asyncio.Event(), asyncio.Event()
    async with database.transaction() as conn:
        key = (await api_key_create(conn, keyring, "acme", "", 3)).reveal()

    async def serve() -> None:
        async with (
            evbridge(settings(database_url, delivery=False)) as started,
            grpc.aio.insecure_channel(started.address) as channel,
        ):
            client = Client(channel, key)
            integration = an_integration(simulator.url, id="cp")
            await client.integrations.CreateIntegration(CreateIntegrationRequest(integration=integration))
            recording = SetExchangeRecordingRequest(integration_id="cp")
            recording.until.FromDatetime(datetime.now(UTC) + timedelta(minutes=5))
            await client.partners.SetExchangeRecording(recording)
            calling.set()
            companies: Any = CompanyServiceStub(channel)
            for _ in range(CALLS):
                request = ListCompaniesRequest(integration_id="cp")
                await companies.ListCompanies(request, metadata=(("authorization", f"Bearer {key}"),))
            stop.set()

    serving = asyncio.create_task(serve())
    await calling.wait()
    async with database.transaction() as conn:
        await conn.run(LOCK)
        await stop.wait()
        await stopping()
    await serving
    return int(await database.value(STORED))


async def test_recordings_under_way_are_stored_before_a_server_has_stopped(
    database_url: str, database: Database, keyring: Keyring, simulator: Simulator
) -> None:
    assert await recorded(database_url, database, keyring, simulator, lambda: asyncio.sleep(0.3)) == CALLS


async def test_a_control_that_does_not_wait_for_them_loses_some(
    database_url: str, database: Database, keyring: Keyring, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    closing, close, closed_ones = asyncio.Event(), Database.close, []

    async def at_once(_: ExchangeRecorder, limit_s: float) -> None:
        pass

    async def closed(self: Database, grace_s: float = 5.0) -> None:
        closed_ones.append(self)
        if len(closed_ones) == 2:  # after the watchers' pool the one that records
            asyncio.get_running_loop().call_soon(closing.set)
        await close(self, grace_s)

    monkeypatch.setattr(ExchangeRecorder, "close", at_once)
    monkeypatch.setattr(Database, "close", closed)

    async def stopping() -> None:
        await closing.wait()

    assert await recorded(database_url, database, keyring, simulator, stopping) < CALLS

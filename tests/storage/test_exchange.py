"""The ring of recorded exchanges."""

from dataclasses import replace
from datetime import timedelta

import pytest
from evbridge.v1.integration_pb2 import INTEGRATION_TYPE_CHARGEPRICE, Integration
from evbridge.v1.partner_pb2 import Exchange as Kept

from service.storage.exchange import KEPT, ExchangeRecorder, exchange_page
from service.storage.integration import integration_delete, integration_insert
from service.storage.pool import Database
from service.storage.retention import retention_sweep
from service.storage.statements import Statement
from tests.unit.test_exchange import EXCHANGE


@pytest.fixture
async def integrations(database: Database) -> None:
    async with database.transaction() as conn:
        await conn.run(Statement("tenant", "INSERT INTO tenant VALUES ('acme')"))
        for id in ("cp", "other"):
            await integration_insert(conn, "acme", Integration(id=id, type=INTEGRATION_TYPE_CHARGEPRICE))


async def statuses(database: Database, integration_id: str = "cp") -> list[int]:
    page = await exchange_page(database, "acme", integration_id, 1 << 62, 1000)
    return [Kept.FromString(payload).http_status for _, payload in page]


async def test_the_newest_are_kept_of_each_integration(database: Database, integrations: None) -> None:
    recorder = ExchangeRecorder(database)
    recorder(replace(EXCHANGE, integration_id="other", status=404))
    for number in range(KEPT + 5):
        recorder(replace(EXCHANGE, status=number))
        await recorder.close()
    assert await statuses(database) == [*range(KEPT + 4, 4, -1)]
    assert await statuses(database, "other") == [404]


async def test_an_integration_that_is_gone_costs_the_exchange_alone(database: Database, integrations: None) -> None:
    recorder = ExchangeRecorder(database)
    recorder(EXCHANGE)
    recorder(replace(EXCHANGE, integration_id="gone"))
    await recorder.close()
    assert await statuses(database) == [200]
    async with database.transaction() as conn:
        await integration_delete(conn, "acme", "cp")
    assert await statuses(database) == []


async def test_old_ones_are_forgotten(database: Database, integrations: None) -> None:
    recorder = ExchangeRecorder(database)
    recorder(EXCHANGE)
    await recorder.close()
    await retention_sweep(database, days=30)
    assert await statuses(database) == [200]
    old = Statement("old", "UPDATE exchange SET create_time = now() - $1::interval")
    await database.run(old, timedelta(days=31))
    await retention_sweep(database, days=30)
    assert await statuses(database) == []

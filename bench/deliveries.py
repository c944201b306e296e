"""Deliveries as their tables grow: what a worker, a person and a watcher ask for, and calls about all of them.

The pool is evbridge's, with its limits. Every tenth delivery is due, every hundredth parked, the others arrived.
"""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any
from uuid import UUID

import asyncpg
from evbridge.v1.delivery_pb2 import (
    DELIVERY_STATE_PARKED,
    OBJECT_KIND_LOCATION,
    OBJECT_KIND_TARIFF,
    ListDeliveriesRequest,
)
from evbridge.v1.integration_pb2 import INTEGRATION_TYPE_AMPECO, Integration

from service.cli.common import loop_factory
from service.settings import Settings
from service.storage.delivery import Waiting, delivery_claim, delivery_page, delivery_summary, delivery_waiting
from service.storage.feed import feed_read
from service.storage.integration import integration_delete, integration_insert, integration_lock
from service.storage.marking import markings_due, redeliver_all
from service.storage.migrations import migrate
from service.storage.opening import database_url
from service.storage.pool import Database

SIZES = (1_000, 100_000)
FULL_SIZES = (*SIZES, 1_000_000)
CALLS = 15
_AT = ("acme", "ampeco")
_NOBODY = UUID(int=0)


def report(sizes: tuple[int, ...] = SIZES) -> None:
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(_report(sizes))


async def _report(sizes: tuple[int, ...]) -> None:
    with tempfile.TemporaryDirectory(prefix="evb", dir="/tmp") as directory:
        async with database_url(Settings(data_dir=Path(directory))) as url:
            await migrate(url)
            database = Database(url, acquire_timeout_s=5.0)
            await database.open()
            try:
                asked = _asked(database)
                print(f"\nDeliveries of one integration: milliseconds, of {CALLS} calls the median; seconds for all\n")
                print(f"{'':>9}{''.join(f'{name:>11}' for name in (*asked, 'RedeliverAll', 'all marked', 'Delete'))}")
                for size in sizes:
                    await _fill(database, url, size)
                    times = [await _median_ms(call) for call in asked.values()]
                    whole = [await _seconds(call) for call in _whole(database)]
                    print(
                        f"{size:>9,}{''.join(f'{each:11.2f}' for each in times)}"
                        f"{''.join(f'{each:11.2f}s' for each in whole)}",
                        flush=True,
                    )
            finally:
                await database.close()


def _asked(database: Database) -> dict[str, Callable[[], Awaitable[Any]]]:
    waiting = Waiting(*_AT, INTEGRATION_TYPE_AMPECO)
    parked = ListDeliveriesRequest(integration_id=_AT[1], state=DELIVERY_STATE_PARKED)
    page = ListDeliveriesRequest(integration_id=_AT[1])
    return {
        "waiting": lambda: delivery_waiting(database),
        "claim": lambda: delivery_claim(database, waiting, 20.0),
        "list": lambda: delivery_page(database, _AT[0], page, _NOBODY, 101),
        "list parked": lambda: delivery_page(database, _AT[0], parked, _NOBODY, 101),
        "summary": lambda: delivery_summary(database, *_AT),
        "watch": lambda: feed_read(database, [_AT[0]], None),
    }


def _whole(database: Database) -> list[Callable[[], Awaitable[Any]]]:
    async def redeliver() -> None:
        async with database.transaction() as conn:
            await redeliver_all(conn, *_AT, 0)

    async def mark() -> None:
        while await markings_due(database):
            pass

    async def delete() -> None:
        async with database.transaction() as conn:
            await integration_lock(conn, *_AT, to_delete=True)
            await integration_delete(conn, *_AT)

    return [redeliver, mark, delete]


async def _median_ms(call: Callable[[], Awaitable[Any]]) -> float:
    return median([1000 * await _seconds(call) for _ in range(CALLS)])


async def _seconds(call: Callable[[], Awaitable[Any]]) -> float:
    begun = perf_counter()
    await call()
    return perf_counter() - begun


async def _fill(database: Database, url: str, size: int) -> None:
    """As many locations as deliveries, each with two parts, a view and an attempt."""
    conn = await asyncpg.connect(url)
    try:
        await conn.execute("TRUNCATE tenant CASCADE")
        await conn.execute("INSERT INTO tenant (tenant_id) VALUES ($1)", _AT[0])
        async with database.transaction() as ours:
            integration = Integration(id=_AT[1], type=INTEGRATION_TYPE_AMPECO, enabled=True)
            await integration_insert(ours, _AT[0], integration, [OBJECT_KIND_TARIFF, OBJECT_KIND_LOCATION])
        await conn.execute("SET session_replication_role = replica")
        for statement in _ROWS:
            await conn.execute(statement, *_AT, size, timeout=900)
        # As autovacuum would, a little later.
        await conn.execute("VACUUM ANALYZE", timeout=900)
    finally:
        await conn.close()


_ROWS = (
    """
    INSERT INTO delivery (tenant_id, integration_id, object_kind, object_id, state, due_time)
    SELECT $1, $2, 5, 'DEABC' || row, CASE WHEN row % 10 = 0 THEN 1 WHEN row % 100 = 1 THEN 4 ELSE 3 END, now()
    FROM generate_series(1, $3::integer) AS row
    """,
    """
    INSERT INTO delivery_attempt
        (tenant_id, delivery_id, start_time, duration, reason, description, http_status, partner_code, sent_version,
         integration_id)
    SELECT $1, delivery_id, now() - random() * interval '2 hours', '1 s', 0, '', 200, '', 0, $2
    FROM delivery WHERE integration_id = $2 AND $3 > 0
    """,
    """
    INSERT INTO peer_object (tenant_id, integration_id, object_kind, object_id, state, sent_document)
    SELECT $1, $2, 5, 'DEABC' || row, 3, decode(repeat('ab', 500), 'hex') FROM generate_series(1, $3::integer) AS row
    """,
    """
    INSERT INTO peer_part
        (tenant_id, integration_id, object_kind, object_id, part_kind, part_id, state, external_id, sent_document)
    SELECT $1, $2, 5, 'DEABC' || row, part, '{e1}', 3, row::text, decode(repeat('ab', 100), 'hex')
    FROM generate_series(1, $3::integer) AS row CROSS JOIN unnest('{6,7}'::integer[]) AS part
    """,
    """
    INSERT INTO partner_object
        (tenant_id, integration_id, object_kind, country_code, party_id, key, shown, hash, tariff_keys, last_updated)
    SELECT $1, $2, 5, 'DE', 'ABC', row, true, decode(md5(row::text), 'hex'), '{DEABCt1}', now()
    FROM generate_series(1, $3::integer) AS row
    """,
)

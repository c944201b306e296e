"""A month of CDRs and sessions reconciled, in a process of its own: how long it takes, and what memory it needs.

Every session has its CDR and every CDR was delivered, so all is read and little is found: what it costs to look.
Then the same with invoice reconciliation records of a hundred CDRs each, in which every CDR is named.
"""

import asyncio
import resource
import tempfile
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import asyncpg
from evbridge.v1.cdr_pb2 import Cdr
from evbridge.v1.delivery_pb2 import OBJECT_KIND_CDR
from evbridge.v1.integration_pb2 import INTEGRATION_TYPE_OCPI, Integration
from evbridge.v1.pricing_pb2 import CDR_DIMENSION_TYPE_ENERGY, CdrDimension, ChargingPeriod
from evbridge.v1.reconciliation_pb2 import ReconcileCdrsRequest
from evbridge.v1.session_pb2 import SESSION_STATUS_COMPLETED
from evbridge.v1.types_pb2 import Price
from google.type.decimal_pb2 import Decimal

from bench.rounds import child
from service.cli.common import loop_factory
from service.resources.reconciliation import reconciliation
from service.settings import Settings
from service.storage.integration import integration_insert
from service.storage.migrations import migrate
from service.storage.opening import database_url
from service.storage.pool import Database

COUNT = 20_000
FULL_COUNT = 1_000_000
_AT = ("acme", "emsp")
_MONTH = datetime(2026, 10, 1, tzinfo=UTC)


class _Seen(NamedTuple):
    cdrs: int
    sessions: int
    invoiced: int
    findings: int
    seconds: float
    cpu_s: float
    before_mb: int
    peak_mb: int


def report(count: int = COUNT) -> None:
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(_report(count))


async def _report(count: int) -> None:
    with tempfile.TemporaryDirectory(prefix="evb", dir="/tmp") as directory:
        async with database_url(Settings(data_dir=Path(directory))) as url:
            await migrate(url)
            print(f"\nA month of {count:,} CDRs and as many sessions, reconciled\n")
            names = f"{'CDRs':>10}{'invoiced':>11}{'findings':>10}{'seconds':>9}{'CDRs/s':>9}{'CPU s':>8}"
            print(f"{names}{'MB before':>11}{'peak':>6}")
            for size in (count // 10, count):
                await _fill(url, size)
                await _print(url, size, invoiced=0)
                await _invoice(url, size)
                await _print(url, size, invoiced=size)


async def _print(url: str, size: int, invoiced: int) -> None:
    seen = await asyncio.to_thread(_measured, url)
    assert (seen.cdrs, seen.sessions, seen.invoiced) == (size, size, invoiced), seen
    print(
        f"{seen.cdrs:>10,}{seen.invoiced:>11,}{seen.findings:>10}{seen.seconds:9.1f}{seen.cdrs / seen.seconds:9.0f}"
        f"{seen.cpu_s:8.1f}{seen.before_mb:11}{seen.peak_mb:6}",
        flush=True,
    )


def _measured(url: str) -> _Seen:
    with child(_reconcile, url) as process:
        seen: _Seen = process.pipe.recv()
        return seen


def _reconcile(pipe: Connection, url: str) -> None:
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        pipe.send(runner.run(_reconciled(url)))


async def _reconciled(url: str) -> _Seen:
    database = Database(url)
    await database.open()
    try:
        request = ReconcileCdrsRequest(integration_id=_AT[1])
        request.start_time.FromDatetime(_MONTH)
        request.end_time.FromDatetime(_MONTH + timedelta(days=31))
        before, begun = resource.getrusage(resource.RUSAGE_SELF), perf_counter()
        findings = invoiced = 0
        async for response in reconciliation(database, _AT[0], request):
            findings += len(response.findings)
            invoiced += sum(total.invoiced_count for total in response.totals)
        after = resource.getrusage(resource.RUSAGE_SELF)
        cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        memory = (before.ru_maxrss // 1024, after.ru_maxrss // 1024)
        counts = (response.cdr_count, response.session_count, invoiced, findings)
        return _Seen(*counts, perf_counter() - begun, cpu_s, *memory)
    finally:
        await database.close()


async def _fill(url: str, size: int) -> None:
    """Of one CDR, so many: each with an id of its own, which stands after the other one in its message."""
    conn = await asyncpg.connect(url)
    database = Database(url)
    await database.open()
    try:
        await conn.execute("TRUNCATE tenant CASCADE")
        await conn.execute("INSERT INTO tenant (tenant_id) VALUES ($1)", _AT[0])
        async with database.transaction() as ours:
            integration = Integration(id=_AT[1], type=INTEGRATION_TYPE_OCPI, enabled=True)
            await integration_insert(ours, _AT[0], integration, [OBJECT_KIND_CDR])
        await conn.execute("SET session_replication_role = replica")
        cdr = _a_cdr().SerializeToString()
        await conn.execute(_CDRS, *_AT, size, _MONTH, cdr, timeout=900)
        await conn.execute(_SESSIONS, *_AT, size, _MONTH, SESSION_STATUS_COMPLETED, timeout=900)
        await conn.execute(_DELIVERIES, *_AT, size, timeout=900)
        # As autovacuum would, a little later.
        await conn.execute("VACUUM ANALYZE", timeout=900)
    finally:
        await database.close()
        await conn.close()


async def _invoice(url: str, size: int) -> None:
    conn = await asyncpg.connect(url)
    try:
        await conn.execute("SET session_replication_role = replica")
        await conn.execute(_RECORDS, *_AT, size, _MONTH, timeout=900)
        await conn.execute("VACUUM ANALYZE invoice_reconciliation", timeout=900)
    finally:
        await conn.close()


def _a_cdr() -> Cdr:
    """20 kWh in four periods."""
    start = int(_MONTH.timestamp())
    energy = CdrDimension(type=CDR_DIMENSION_TYPE_ENERGY, volume=Decimal(value="5.125"))
    cdr = Cdr(
        country_code="DE",
        party_id="ABC",
        session_id="S1",
        currency="EUR",
        recipient_integration_id=_AT[1],
        total_cost=Price(excl_vat=Decimal(value="9.99"), incl_vat=Decimal(value="11.89")),
        total_energy=Decimal(value="20.5"),
        total_time=Decimal(value="1"),
    )
    cdr.start_date_time.seconds, cdr.end_date_time.seconds = start, start + 3600
    for number in range(4):
        period = ChargingPeriod(dimensions=[energy], tariff_id="T1")
        period.start_date_time.seconds = start + 900 * number
        cdr.charging_periods.append(period)
    return cdr


# Field 3 is the id: a tag, a length, ten characters.
_CDRS = """
    INSERT INTO cdr (
        tenant_id, country_code, party_id, key, currency, session_key, credited_key, start_time, update_time,
        token_party, token_key, contract_key, location_key, recipient_id, etag, payload
    )
    SELECT
        $1, 'DE', 'ABC', 'c' || id, 'EUR', 's' || id, '', start, start,
        'DEEMP', 't' || n % 5000, 'k' || n % 5000, 'l1', $2, '',
        $5::bytea || '\\x1a0a'::bytea || convert_to('C' || id, 'UTF8')
    FROM (
        SELECT n, lpad(n::text, 9, '0') AS id, $4::timestamptz + n * (interval '30 days' / $3) AS start
        FROM generate_series(1, $3::integer) AS n
    ) AS each
"""
_SESSIONS = """
    INSERT INTO session (
        tenant_id, country_code, party_id, key, status, start_time, update_time, token_party, token_key, contract_key,
        location_key, recipient_id, etag, payload
    )
    SELECT
        $1, 'DE', 'ABC', 's' || lpad(n::text, 9, '0'), $5::integer, start, start, 'DEEMP', 't' || n % 5000,
        'k' || n % 5000, 'l1', $2, '', decode(repeat('ab', 400), 'hex')
    FROM (
        SELECT n, $4::timestamptz + n * (interval '30 days' / $3) AS start FROM generate_series(1, $3::integer) AS n
    ) AS each
"""
_DELIVERIES = """
    INSERT INTO delivery (tenant_id, integration_id, object_kind, object_id, state)
    SELECT $1, $2, 12, 'DEABCc' || lpad(n::text, 9, '0'), 3 FROM generate_series(1, $3::integer) AS n
"""
_RECORDS = """
    INSERT INTO invoice_reconciliation (
        tenant_id, country_code, party_id, key, invoice_key, cdr_keys, recipient_id, update_time, etag, payload
    )
    SELECT
        $1, 'DE', 'ABC', 'r' || n / 100, 'i' || n / 100, array_agg('c' || lpad(n::text, 9, '0')), $2, $4::timestamptz,
        '', ''
    FROM generate_series(1, $3::integer) AS n
    GROUP BY n / 100
"""


if __name__ == "__main__":
    report(FULL_COUNT)

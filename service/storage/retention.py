"""What is thrown away, and the proof that the database takes writes."""

from datetime import timedelta

from evbridge.v1.delivery_pb2 import (
    OBJECT_KIND_CDR,
    OBJECT_KIND_INVOICE_RECONCILIATION_RECORD,
    OBJECT_KIND_SESSION,
    ObjectKind,
)

from service.storage.feed import feed_sweep
from service.storage.pool import Database
from service.storage.slices import SLICE, in_slices
from service.storage.statements import Statement, Statements

sql = Statements.beside(__file__)


async def retention_sweep(database: Database, days: int) -> None:
    """Deletes answers to repeat after a day, the rest after `days`, tombstones once no partner needs them."""
    age = timedelta(days=days)
    for short_lived in (sql.retention_idempotency, sql.retention_questions, sql.retention_listeners):
        await in_slices(database, short_lived, timedelta(days=1))
    await feed_sweep(database, age)
    of_age = (
        sql.retention_attempts,
        sql.retention_runs,
        sql.retention_exchanges,
        sql.retention_commands,
        sql.retention_quarantine,
        sql.retention_tombstones,
        sql.retention_deliveries,
        sql.retention_tariffs,
        sql.retention_locations,
        sql.retention_tokens,
        sql.retention_invoice_reconciliation_tombstones,
        sql.retention_views,
    )
    for statement in of_age:
        await in_slices(database, statement, age)
    await in_slices(database, sql.retention_documents)


async def tariff_revisions_sweep(database: Database, days: int) -> None:
    """Deletes what tariffs said until `days` ago."""
    await in_slices(database, sql.retention_tariff_revisions, timedelta(days=days))


async def charged_sweep(database: Database, session_days: int, cdr_days: int) -> None:
    """Deletes sessions that last changed, and CDRs, so many days ago, with all that is known of them at partners.

    Which CDRs an invoice is about is kept as long as they are.
    """
    await _charged_sweep(database, OBJECT_KIND_SESSION, sql.retention_sessions, session_days)
    await _charged_sweep(database, OBJECT_KIND_CDR, sql.retention_cdrs, cdr_days)
    await _charged_sweep(
        database, OBJECT_KIND_INVOICE_RECONCILIATION_RECORD, sql.retention_invoice_reconciliations, cdr_days
    )


async def _charged_sweep(database: Database, kind: ObjectKind.ValueType, expired: Statement, days: int) -> None:
    gone = SLICE
    while gone == SLICE:
        async with database.transaction() as conn:
            rows = await conn.rows(expired, timedelta(days=days), SLICE)
            if rows:
                await conn.run(sql.retention_traces, kind, *map(list, zip(*rows, strict=True)))
        gone = len(rows)


async def heartbeat(database: Database) -> None:
    """Raises DatabaseUnavailable when the database cannot be written.

    Once its disk was full, a row that is overwritten where it stands proves nothing: something larger has to fit.
    """
    if not database.full:
        await database.run(sql.heartbeat)
        return
    await database.run(sql.heartbeat_room)
    database.full = False

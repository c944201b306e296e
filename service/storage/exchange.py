"""Exchanges with partners, kept for people to see: off unless someone asked, redacted, and only the newest."""

import asyncio
import logging
from datetime import UTC, datetime
from typing import Final

from service.domain.exchange import Exchange, kept
from service.domain.pages import MAX_BYTES
from service.errors import ResourceNotFound
from service.storage.connection import Connection, describe
from service.storage.pool import Database
from service.storage.statements import Statements

log = logging.getLogger(__name__)
sql = Statements.beside(__file__)

KEPT: Final = 100
_MAX_WAITING = 32


class ExchangeRecorder:
    """A `Recorder` of the bridge. It writes beside the calls, which do not wait; what is too much for it is lost."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._writing: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()  # they are stored in the order in which they ended

    def __call__(self, exchange: Exchange) -> None:
        if len(self._writing) < _MAX_WAITING:
            task = asyncio.create_task(self._write(exchange))
            self._writing.add(task)
            task.add_done_callback(self._writing.discard)

    async def _write(self, exchange: Exchange) -> None:
        key = (exchange.tenant_id, exchange.integration_id)
        try:
            now = datetime.now(UTC)
            async with self._turn:
                shown = await asyncio.to_thread(kept, exchange, now)  # a large body is parsed
                await self._database.run(sql.exchange_insert, *key, shown.SerializeToString(), KEPT)
        except Exception as error:
            log.warning("an exchange was not recorded", extra={"problem": describe(error) or type(error).__name__})

    async def close(self, limit_s: float = 5.0) -> None:
        """Waits for what is being written; what is not by then is lost."""
        if self._writing:
            _, late = await asyncio.wait(self._writing, timeout=limit_s)
            for task in late:
                task.cancel()


async def exchange_record_until(
    conn: Connection, tenant_id: str, integration_id: str, until: datetime | None
) -> datetime:
    """Records until then, or ends recording. Raises ResourceNotFound."""
    end: datetime | None = await conn.value(sql.exchange_record_until, tenant_id, integration_id, until)
    if end is None:
        raise ResourceNotFound.of("integration", integration_id)
    return end


async def exchange_recorded_until(database: Database, tenant_id: str, integration_id: str) -> datetime | None:
    """None when nothing is recorded."""
    end: datetime | None = await database.value(sql.exchange_recorded_until, tenant_id, integration_id)
    return end


async def exchange_page(
    database: Database, tenant_id: str, integration_id: str, before: int, limit: int
) -> list[tuple[str, bytes]]:
    """(id, serialized exchange), newest first, up to `limit` and about 1 MiB."""
    rows = await database.rows(sql.exchange_page, tenant_id, integration_id, before, limit, MAX_BYTES)
    return [(str(row["exchange_id"]), row["payload"]) for row in rows]

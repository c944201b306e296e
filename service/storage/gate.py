"""When a request may leave: request slots shared by all processes, and pauses of a whole integration."""

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from service.domain.target import Target
from service.errors import DatabaseUnavailable, PartnerRateLimited
from service.storage.connection import Connection
from service.storage.pool import Database
from service.storage.statements import Statements

sql = Statements.beside(__file__)

_LEASE_MARGIN_S = 15.0
_ASK_AGAIN_S = 0.02


class SlotGate:
    """The bridge's `Gate`. Callers of this process queue here, so that only the first of them asks the database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._queues: defaultdict[tuple[str, str], asyncio.Lock] = defaultdict(asyncio.Lock)

    @asynccontextmanager
    async def slot(self, target: Target, *, timeout_s: float) -> AsyncIterator[None]:
        holder = uuid4()
        try:
            try:
                async with asyncio.timeout(timeout_s), self._queues[target.tenant_id, target.integration_id]:
                    while not await self._take(target, holder):
                        await asyncio.sleep(_ASK_AGAIN_S * (0.5 + random.random()))
            except TimeoutError:
                raise PartnerRateLimited(
                    "every request slot of the integration is taken", partner=target.partner, retry_after_s=1.0
                ) from None
            yield
        finally:
            # What the partner answered matters more; the lease frees the slot.
            with suppress(DatabaseUnavailable):
                await _to_its_end(
                    self._database.run(sql.gate_slot_give, target.tenant_id, target.integration_id, holder)
                )

    async def _take(self, target: Target, holder: UUID) -> bool:
        lease = timedelta(seconds=target.timeout_s + _LEASE_MARGIN_S)
        key = (target.tenant_id, target.integration_id)
        slots = target.max_concurrent_requests
        asked = self._database.value(sql.gate_slot_take, *key, slots, holder, lease)
        return await _to_its_end(asked) is not None


async def _to_its_end(statement: Coroutine[Any, Any, Any]) -> Any:
    """A caller who leaves meanwhile is let go afterwards: cut short, a slot could be taken after it was given back."""
    task = asyncio.create_task(statement)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        with suppress(DatabaseUnavailable):
            await task
        raise


async def gate_pause(conn: Connection, tenant_id: str, integration_id: str, delay_s: float) -> None:
    """Holds an integration back and counts the failure."""
    await conn.run(sql.gate_pause, tenant_id, integration_id, timedelta(seconds=delay_s))


async def gate_resume(conn: Connection, tenant_id: str, integration_id: str) -> None:
    """Lets an integration go on at once and forgets its failures."""
    await conn.run(sql.gate_resume, tenant_id, integration_id)

"""evbridge.v1.ReconciliationService."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

from evbridge.v1.reconciliation_pb2 import ReconcileCdrsRequest, ReconcileCdrsResponse

from service.domain.caller import Caller, waits_elsewhere
from service.resources.reconciliation import reconciliation
from service.storage.pool import Database

_AT_ONCE: Final = 2


class ReconciliationService:
    """However many ask, few read at a time. They take turns by message, so a slow reader holds up nobody."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def ReconcileCdrs(
        self, request: ReconcileCdrsRequest, caller: Caller
    ) -> AsyncGenerator[ReconcileCdrsResponse, None]:
        waits_elsewhere()
        async with aclosing(reconciliation(self._database, caller.tenant_id, request)) as responses:
            while True:
                async with self._turns:
                    response = await anext(responses, None)
                if response is None:
                    return
                yield response

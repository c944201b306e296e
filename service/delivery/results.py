"""Brings the results of commands to who sent them: each until it is taken, for an hour."""

import asyncio
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from evbridge.v1.integration_pb2 import Integration, IntegrationType

from service.errors import EvbridgeError
from service.resources.command import Commander
from service.storage.command import DueResult, command_again, command_claim, command_sent
from service.storage.connection import describe
from service.storage.integration import integration_get
from service.storage.pool import Database
from service.workers import finish

log = logging.getLogger(__name__)

_AT_ONCE: Final = 16
_LIMIT_S: Final = 15.0
"""Shorter than a claim lasts."""


class Results:
    """`commanders`: by the type of the integration. Nobody waits for a partner that does not answer."""

    def __init__(self, database: Database, commanders: Mapping[IntegrationType.ValueType, Commander]) -> None:
        self._database = database
        self._commanders = commanders
        self._under_way: set[asyncio.Task[None]] = set()

    async def due(self) -> bool:
        """Begins to bring the next one. False when there is none, or enough are on their way."""
        if len(self._under_way) >= _AT_ONCE or (due := await command_claim(self._database)) is None:
            return False
        task = asyncio.create_task(self._bring(due))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return True

    async def stop(self, limit_s: float) -> None:
        """What is cut off is brought by the next worker that claims it."""
        await finish(self._under_way, limit_s)

    async def _bring(self, due: DueResult) -> None:
        command, problem = due.command, ""
        try:
            payload = await integration_get(self._database, due.tenant_id, command.integration_id)
            commander = self._commanders[Integration.FromString(payload).type]
            async with asyncio.timeout(_LIMIT_S):
                await commander.tell(due.tenant_id, command, due.response_url)
            command.result_sent_time.FromDatetime(datetime.now(UTC))
        except EvbridgeError as error:
            problem = error.message
        except TimeoutError:
            problem = "no answer in time"
        except Exception as error:
            log.error("a result could not be brought", exc_info=error, extra={"database": describe(error)})
            return
        if problem and not due.is_last:
            await command_again(self._database, due.tenant_id, command)
            return
        command.description = problem and f"the sender did not take the result: {problem}"[:500]
        await command_sent(self._database, due.tenant_id, command)

"""Questions that services of the tenant's answer while a partner waits.

They are rows, so who asks, who listens and who answers may be different processes; whoever waits looks again.
"""

import asyncio
import time
from collections.abc import AsyncGenerator
from typing import Final
from uuid import UUID, uuid4

from service.errors import ResourceNotFound, ServerStopping
from service.storage.connection import Connection
from service.storage.pool import Database
from service.storage.question import (
    Kind,
    listener_gone,
    listener_seen,
    question_answer,
    question_answered,
    question_ask,
    question_take,
)

__all__ = ["Kind", "Questions"]

HANDED_AGAIN_S: Final = 3.0
_LOOK_S: Final = 0.025
_SEEN_EVERY_S: Final = 2.0
_HEARD_S: Final = 10.0
"""How long somebody who does not say so any more is taken to listen."""
_AT_ONCE: Final = 100
_GRACE_S: Final = 0.25
"""An answer that was taken at the last moment is seen."""


class Questions:
    """`stop` ends who listens."""

    def __init__(self, database: Database, still_there_s: float) -> None:
        self.database = database
        self._still_there_s = still_there_s
        self._stopped = False

    def stop(self) -> None:
        self._stopped = True

    async def ask(
        self, tenant_id: str, kind: Kind, question_id: UUID, integration_id: str, payload: bytes, lasts_s: float
    ) -> bytes | None:
        """The answer to a partner's question; None when nobody listens to it, or nobody answers in time."""
        end = time.monotonic() + lasts_s
        of = (self.database, tenant_id, kind, question_id, integration_id)
        if not await question_ask(*of, payload, lasts_s=lasts_s, heard_s=_HEARD_S):
            return None
        answer = None
        while answer is None and time.monotonic() < end + _GRACE_S:
            await asyncio.sleep(_LOOK_S)
            answer = await question_answered(self.database, tenant_id, question_id)
        return answer

    async def listen(self, tenant_id: str, kind: Kind, integration_id: str) -> AsyncGenerator[list[bytes], None]:
        """Questions of one partner, or of all, as they come; none at first, and now and then, to say that it listens.

        Raises ServerStopping.
        """
        listener, seen, told = uuid4(), 0.0, 0.0
        try:
            while not self._stopped:
                now = time.monotonic()
                if now - seen >= _SEEN_EVERY_S or not seen:
                    await listener_seen(self.database, tenant_id, kind, listener, integration_id)
                    seen = now
                questions = (
                    []
                    if not told
                    else await question_take(
                        self.database, tenant_id, kind, integration_id, again_s=HANDED_AGAIN_S, limit=_AT_ONCE
                    )
                )
                if questions or now - told >= self._still_there_s or not told:
                    told = now
                    yield questions
                else:
                    await asyncio.sleep(_LOOK_S)
            raise ServerStopping("the server is stopping", retry_after_s=0.5)
        finally:
            await listener_gone(self.database, tenant_id, kind, listener)


async def question_answered_by(conn: Connection, tenant_id: str, kind: Kind, question_id: str, answer: bytes) -> None:
    """Raises ResourceNotFound for one that does not wait for an answer."""
    if not await question_answer(conn, tenant_id, kind, UUID(question_id), answer):
        raise ResourceNotFound.of("question", question_id)

"""Questions that services of the tenant's answer while a partner waits.

They are rows, so who asks, who listens and who answers may be different processes. Notices wake whoever waits.
"""

import time
from collections.abc import AsyncGenerator
from typing import Final
from uuid import UUID, uuid4

from evbridge.v1.authorization_pb2 import AuthorizationQuestion
from evbridge.v1.command_pb2 import Command
from evbridge.v1.session_pb2 import ChargingPreferencesQuestion

from service.errors import ResourceNotFound, ServerStopping
from service.storage.connection import Connection
from service.storage.notices import Notices
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

__all__ = ["Kind", "Question", "Questions"]

Question = AuthorizationQuestion | Command | ChargingPreferencesQuestion

HANDED_AGAIN_S: Final = 3.0
_SEEN_EVERY_S: Final = 2.0
_HEARD_S: Final = 10.0
"""How long somebody who does not say so any more is taken to listen."""
_AT_ONCE: Final = 100
_GRACE_S: Final = 0.25
"""An answer that was taken at the last moment is seen."""


class Questions:
    """`stop` ends who listens."""

    def __init__(self, database: Database, notices: Notices, still_there_s: float) -> None:
        self.database = database
        self.notices = notices
        self._still_there_s = still_there_s
        self._stopped = False

    def stop(self) -> None:
        self._stopped = True
        self.notices.stir()

    async def ask(self, tenant_id: str, kind: Kind, question: Question, lasts_s: float) -> bytes | None:
        """The answer to a partner's question; None when nobody listens to it, or nobody answers in time."""
        question_id, payload = UUID(question.id), question.SerializeToString()
        end = time.monotonic() + lasts_s + _GRACE_S
        of = (self.database, tenant_id, kind, question_id, question.integration_id)
        answer = None
        with self.notices.about(str(question_id)) as news:
            if await question_ask(*of, payload, lasts_s=lasts_s, heard_s=_HEARD_S):
                self.notices.tell(_listeners(tenant_id, kind))
                while answer is None and (left_s := end - time.monotonic()) > 0:
                    await news.wait(left_s)
                    answer = await question_answered(self.database, tenant_id, question_id)
        return answer

    async def listen(self, tenant_id: str, kind: Kind, integration_id: str) -> AsyncGenerator[list[bytes], None]:
        """Questions of one partner, or of all, as they come; none at first, and now and then, to say that it listens.

        Raises ServerStopping.
        """
        listener, seen, told = uuid4(), 0.0, 0.0
        of = (self.database, tenant_id, kind)
        with self.notices.about(_listeners(tenant_id, kind)) as news:
            try:
                while not self._stopped:
                    now = time.monotonic()
                    if now - seen >= _SEEN_EVERY_S or not seen:
                        await listener_seen(*of, listener, integration_id)
                        seen = now
                    questions: list[bytes] = []
                    if told:
                        questions = await question_take(*of, integration_id, again_s=HANDED_AGAIN_S, limit=_AT_ONCE)
                    if questions or now - told >= self._still_there_s or not told:
                        told = now
                        yield questions
                    else:
                        await news.wait(_SEEN_EVERY_S)
                raise ServerStopping("the server is stopping", retry_after_s=0.5)
            finally:
                await listener_gone(*of, listener)


def _listeners(tenant_id: str, kind: Kind) -> str:
    """The topic of those who listen."""
    return f"{tenant_id}/{kind:d}"


async def question_answered_by(conn: Connection, tenant_id: str, kind: Kind, question_id: str, answer: bytes) -> None:
    """Raises ResourceNotFound for one that does not wait for an answer."""
    if not await question_answer(conn, tenant_id, kind, UUID(question_id), answer):
        raise ResourceNotFound.of("question", question_id)

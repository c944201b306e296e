"""What services of the tenant's do with what partners ask of one kind: they listen, and answer."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import datetime
from uuid import UUID

from evbridge.v1.authorization_pb2 import AnswerAuthorizationRequest, ServeAuthorizationsRequest
from evbridge.v1.command_pb2 import AnswerCommandRequest, ServeCommandsRequest
from evbridge.v1.session_pb2 import AnswerChargingPreferencesRequest, ServeChargingPreferencesRequest
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from service.domain.caller import Caller, waits_elsewhere
from service.domain.pages import framed
from service.resources.mutation import mutate
from service.resources.question import Kind, Questions, question_answered_by
from service.storage.connection import Connection
from service.storage.keyring import Keyring

Serve = ServeAuthorizationsRequest | ServeCommandsRequest | ServeChargingPreferencesRequest
Answer = AnswerAuthorizationRequest | AnswerCommandRequest | AnswerChargingPreferencesRequest


class Asked:
    def __init__(self, questions: Questions, keyring: Keyring, kind: Kind) -> None:
        self._questions = questions
        self._keyring = keyring
        self._kind = kind

    async def serve(self, request: Serve, caller: Caller) -> AsyncGenerator[bytes, None]:
        waits_elsewhere()
        async for asked in self._questions.listen(caller.tenant_id, self._kind, request.integration_id):
            yield framed(asked)

    async def answer(
        self,
        request: Answer,
        caller: Caller,
        said: Message,
        reply: Callable[[Connection], Awaitable[Message]] | None = None,
    ) -> bytes:
        """Hands `said` to who asked, together with what `reply` does."""

        async def work(conn: Connection, now: datetime) -> Message:
            answer = said.SerializeToString(deterministic=True)
            await question_answered_by(conn, caller.tenant_id, self._kind, request.id, answer)
            return await reply(conn) if reply else Empty()

        replied = await mutate(self._questions.database, self._keyring, request, caller, work)
        self._questions.notices.tell(str(UUID(request.id)))
        return replied

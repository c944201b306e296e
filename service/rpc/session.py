"""evbridge.v1.SessionService."""

from datetime import datetime

from evbridge.v1.session_pb2 import (
    BatchGetSessionsRequest,
    BatchUpsertSessionsRequest,
    BatchUpsertSessionsResponse,
    CreateSessionRequest,
    GetSessionRequest,
    ListSessionsRequest,
    UpdateSessionRequest,
)

from service.domain.caller import Caller
from service.domain.keys import key_of
from service.domain.pages import batch_response, key_before, list_response, page_size
from service.resources.mutation import add_results, mutate, mutate_one, put
from service.resources.noun import Upsert
from service.resources.session import SESSIONS
from service.storage.connection import Connection
from service.storage.keyring import Keyring
from service.storage.pool import Database
from service.storage.session import session_get, session_get_many, session_page


class SessionService:
    def __init__(self, database: Database, keyring: Keyring) -> None:
        self._database = database
        self._keyring = keyring

    async def CreateSession(self, request: CreateSessionRequest, caller: Caller) -> bytes:
        upsert = Upsert(SESSIONS, request.session, "session", may_exist=False)
        return await mutate_one(self._database, self._keyring, request, caller, upsert)

    async def GetSession(self, request: GetSessionRequest, caller: Caller) -> bytes:
        return await session_get(self._database, caller.tenant_id, key_of(request.key))

    async def BatchGetSessions(self, request: BatchGetSessionsRequest, caller: Caller) -> bytes:
        return batch_response(
            await session_get_many(self._database, caller.tenant_id, [key_of(key) for key in request.keys])
        )

    async def ListSessions(self, request: ListSessionsRequest, caller: Caller) -> bytes:
        after, size = key_before(request), page_size(request.page_size)
        rows = await session_page(self._database, caller.tenant_id, request, after, size + 1)
        return list_response(request, rows, size)

    async def UpdateSession(self, request: UpdateSessionRequest, caller: Caller) -> bytes:
        mask = request.update_mask.paths
        upsert = Upsert(SESSIONS, request.session, "session", may_be_missing=request.allow_missing, mask=mask)
        return await mutate_one(self._database, self._keyring, request, caller, upsert)

    async def BatchUpsertSessions(self, request: BatchUpsertSessionsRequest, caller: Caller) -> bytes:
        async def work(conn: Connection, now: datetime) -> BatchUpsertSessionsResponse:
            upserts = [
                Upsert(SESSIONS, session, f"sessions[{number}]", may_be_missing=request.allow_missing)
                for number, session in enumerate(request.sessions)
            ]
            response = BatchUpsertSessionsResponse()
            add_results(response, "session", await put(conn, caller, now, upserts))
            return response

        return await mutate(self._database, self._keyring, request, caller, work)

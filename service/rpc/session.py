"""evbridge.v1.SessionService."""

from collections.abc import AsyncGenerator, Mapping
from functools import partial
from typing import Final

from evbridge.v1.integration_pb2 import Integration, IntegrationType
from evbridge.v1.session_pb2 import (
    AnswerChargingPreferencesRequest,
    BatchGetSessionsRequest,
    BatchUpsertSessionsRequest,
    BatchUpsertSessionsResponse,
    CreateSessionRequest,
    GetSessionRequest,
    ListSessionsRequest,
    ServeChargingPreferencesRequest,
    Session,
    SetChargingPreferencesRequest,
    SetChargingPreferencesResponse,
    UpdateSessionRequest,
)

from service.domain.audit import event_of_partner_call
from service.domain.caller import Caller, time_to_wait_s, waits_elsewhere
from service.domain.integration import speaker
from service.domain.keys import key_of
from service.domain.pages import batch_response, key_before, list_response, page_size
from service.errors import InvalidArgument
from service.resources.audit import audited
from service.resources.charging_preferences import PreferencesTeller
from service.resources.mutation import mutate_many, mutate_one
from service.resources.noun import Upsert
from service.resources.question import Kind, Questions
from service.resources.session import SESSIONS
from service.rpc.question import Asked
from service.storage.integration import integration_get
from service.storage.keyring import Keyring
from service.storage.pool import Database
from service.storage.session import session_get, session_get_many, session_page

_SET: Final = "evbridge.v1.SessionService/SetChargingPreferences"


class SessionService:
    """`tellers`: of charging preferences, by the type of the integration."""

    def __init__(
        self,
        database: Database,
        keyring: Keyring,
        questions: Questions,
        tellers: Mapping[IntegrationType.ValueType, PreferencesTeller],
    ) -> None:
        self._database = database
        self._keyring = keyring
        self._questions = Asked(questions, keyring, Kind.CHARGING_PREFERENCES)
        self._tellers = tellers

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
        upserts = [
            Upsert(SESSIONS, session, f"sessions[{number}]", may_be_missing=request.allow_missing)
            for number, session in enumerate(request.sessions)
        ]
        return await mutate_many(self._database, self._keyring, request, caller, upserts, BatchUpsertSessionsResponse)

    async def SetChargingPreferences(
        self, request: SetChargingPreferencesRequest, caller: Caller
    ) -> SetChargingPreferencesResponse:
        key, id = key_of(request.key), request.key.integration_id
        session = Session.FromString(await session_get(self._database, caller.tenant_id, key))
        integration = Integration.FromString(await integration_get(self._database, caller.tenant_id, id))
        lacking = InvalidArgument.field("key.integration_id", "is an integration whose partner takes no preferences")
        teller = speaker(integration, self._tellers, lacking)
        waits_elsewhere()
        wanted = request.charging_preferences
        async with audited(self._database, self._keyring, caller, partial(event_of_partner_call, _SET, id, request)):
            said = await teller.tell(caller.tenant_id, id, session.id, wanted, time_to_wait_s())
        return SetChargingPreferencesResponse(response=said)

    def ServeChargingPreferences(
        self, request: ServeChargingPreferencesRequest, caller: Caller
    ) -> AsyncGenerator[bytes, None]:
        return self._questions.serve(request, caller)

    async def AnswerChargingPreferences(self, request: AnswerChargingPreferencesRequest, caller: Caller) -> bytes:
        return await self._questions.answer(request, caller, request)

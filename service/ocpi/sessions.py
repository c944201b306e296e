"""OCPI's sessions module: what a partner sees of ours, and what operators push to us. Source: OCPI 2.2.1, sessions."""

from typing import Any, Final
from uuid import uuid4

from evbridge.partner.ocpi.v2 import sessions_pb2 as ocpi
from evbridge.v1.charging_preferences_pb2 import (
    CHARGING_PREFERENCES_RESPONSE_ACCEPTED,
    CHARGING_PREFERENCES_RESPONSE_NOT_POSSIBLE,
    ChargingPreferences,
    ChargingPreferencesResponse,
)
from evbridge.v1.delivery_pb2 import OBJECT_KIND_SESSION
from evbridge.v1.location_pb2 import CAPABILITY_CHARGING_PREFERENCES_CAPABLE
from evbridge.v1.party_pb2 import PARTY_ROLE_CPO
from evbridge.v1.session_pb2 import (
    AnswerChargingPreferencesRequest,
    ChargingPreferencesQuestion,
    Session,
    SessionKey,
)

from service.bridge.edge import Reply
from service.domain.charged import has_ended
from service.domain.keys import EvseKey, ObjectKey, key_of
from service.ocpi.listener import OcpiRefused, Visit
from service.ocpi.modules import (
    caller_of,
    check_owner,
    document_in,
    done,
    key_in,
    refusing,
    sender_of,
    shown,
    timed,
    unknown,
)
from service.ocpi.pages import Documents, page
from service.partners.ocpi.charging_preferences import response_to
from service.partners.ocpi.plain import plain_from
from service.resources.charging_preferences import preferences_keep
from service.resources.question import Kind, Questions
from service.resources.received_session import received_session, session_received
from service.runs.worker import Tools
from service.storage.location import evse_find
from service.storage.session import session_find
from service.storage.view import view_by_id

_ANSWER_S: Final = 5.0
"""How long a service may take to say what can be done."""


class SessionsSender:
    """evbridge.partner.ocpi.v2.SessionsSenderService, served: the partner's view."""

    def __init__(self, tools: Tools, documents: Documents, questions: Questions) -> None:
        self._tools = tools
        self._documents = documents
        self._questions = questions

    async def ListSessions(self, request: ocpi.ListSessionsRequest, visit: Visit) -> Reply:
        return await page(self._tools, self._documents, OBJECT_KIND_SESSION, Session, visit)

    async def PutChargingPreferences(self, request: ocpi.PutChargingPreferencesRequest, visit: Visit) -> Reply:
        """A service that listens answers; without one nobody can promise anything."""
        session = await self._session(request.session_id, visit)
        document = await document_in(visit)
        with refusing():
            wanted = plain_from(ChargingPreferences, document, "charging_preferences")
        key = key_of(session)
        question = ChargingPreferencesQuestion(
            id=str(uuid4()),
            integration_id=visit.integration_id,
            key=SessionKey(country_code=key.country_code, party_id=key.party_id, id=session.id),
            charging_preferences=wanted,
        )
        said = await self._said(question, visit.tenant_id)
        if said == CHARGING_PREFERENCES_RESPONSE_ACCEPTED:
            tools, caller = self._tools, caller_of(visit)
            await preferences_keep(tools.database, tools.keyring, request, caller, key, wanted)
        return Reply(ocpi.ChargingPreferencesResponse(data=response_to(said)))

    async def _session(self, id: str, visit: Visit) -> Session:
        """One that the partner sees, and that is under way at an EVSE that takes preferences. Raises OcpiRefused."""
        database, at = self._tools.database, (visit.tenant_id, visit.integration_id)
        viewed = await view_by_id(database, *at, OBJECT_KIND_SESSION, id)
        found = viewed and (await session_find(database, visit.tenant_id, [viewed.key])).get(viewed.key)
        if not (found and viewed and viewed.shown) or visit.version == "2.1.1":
            raise unknown()
        session = Session.FromString(found)
        if has_ended(session):
            raise OcpiRefused(2001, "the session is over")
        location = ObjectKey.of(session.country_code, session.party_id, session.location_id)
        for evse in (await evse_find(database, visit.tenant_id, [EvseKey.of(location, session.evse_uid)])).values():
            if CAPABILITY_CHARGING_PREFERENCES_CAPABLE not in evse.capabilities:
                raise OcpiRefused(2001, "the EVSE takes no charging preferences", status=404)
        return session

    async def _said(
        self, question: ChargingPreferencesQuestion, tenant_id: str
    ) -> ChargingPreferencesResponse.ValueType:
        timed(question, _ANSWER_S)
        answer = await self._questions.ask(tenant_id, Kind.CHARGING_PREFERENCES, question, _ANSWER_S)
        if answer is None:
            return CHARGING_PREFERENCES_RESPONSE_NOT_POSSIBLE
        return AnswerChargingPreferencesRequest.FromString(answer).response


class SessionsReceiver:
    """evbridge.partner.ocpi.v2.SessionsReceiverService, served."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    async def GetReceivedSession(self, request: ocpi.GetReceivedSessionRequest, visit: Visit) -> Reply:
        key = key_in(request, request.session_id, visit)
        with refusing():
            return await shown(await received_session(self._tools.database, visit.tenant_id, key))

    async def PutSession(self, request: ocpi.PutSessionRequest, visit: Visit) -> Reply:
        return await self._receive(request, visit)

    async def PatchSession(self, request: ocpi.PatchSessionRequest, visit: Visit) -> Reply:
        return await self._receive(request, visit, patch=True)

    async def _receive(self, request: Any, visit: Visit, *, patch: bool = False) -> Reply:
        key, document = key_in(request, request.session_id, visit), await document_in(visit)
        check_owner(document, key)
        sender = await sender_of(self._tools, visit, key, PARTY_ROLE_CPO)
        with refusing(visit.version, "Session"):
            receipt = await session_received(self._tools.database, caller_of(visit), sender, key, document, patch=patch)
        return done(receipt, key)

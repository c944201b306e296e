"""OCPI's sessions module: what a partner sees of ours, and what operators push to us. Source: OCPI 2.2.1, sessions."""

from typing import Any

from evbridge.partner.ocpi.v2 import sessions_pb2 as ocpi
from evbridge.v1.delivery_pb2 import OBJECT_KIND_SESSION
from evbridge.v1.party_pb2 import PARTY_ROLE_CPO
from evbridge.v1.session_pb2 import Session

from service.bridge.edge import Reply
from service.ocpi.listener import Visit
from service.ocpi.modules import caller_of, check_owner, document_in, done, key_in, refusing, sender_of, shown
from service.ocpi.pages import Documents, page
from service.resources.received_session import received_session, session_received
from service.runs.worker import Tools


class SessionsSender:
    """evbridge.partner.ocpi.v2.SessionsSenderService, served: the partner's view."""

    def __init__(self, tools: Tools, documents: Documents) -> None:
        self._tools = tools
        self._documents = documents

    async def ListSessions(self, request: ocpi.ListSessionsRequest, visit: Visit) -> Reply:
        return await page(self._tools, self._documents, OBJECT_KIND_SESSION, Session, visit)


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
        with refusing():
            receipt = await session_received(self._tools.database, caller_of(visit), sender, key, document, patch=patch)
        return done(receipt, key)

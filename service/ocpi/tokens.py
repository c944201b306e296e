"""OCPI's tokens module: what a partner sees of ours, and what providers push to us. Source: OCPI 2.2.1, tokens."""

from typing import Any

from evbridge.partner.ocpi.v2 import tokens_pb2 as ocpi
from evbridge.v1.delivery_pb2 import OBJECT_KIND_TOKEN
from evbridge.v1.location_pb2 import TOKEN_TYPE_RFID, TokenType
from evbridge.v1.party_pb2 import PARTY_ROLE_EMSP
from evbridge.v1.token_pb2 import Token

from service.bridge.edge import Reply
from service.domain.keys import ObjectKey
from service.domain.received import Document
from service.domain.token import token_key_of, token_type
from service.ocpi.listener import OcpiRefused, Visit
from service.ocpi.modules import caller_of, check_owner, document_in, done, refusing, sender_of, shown
from service.ocpi.pages import Documents, page
from service.resources.received_token import received_token, token_received
from service.runs.worker import Tools


class TokensSender:
    """evbridge.partner.ocpi.v2.TokensSenderService, served: the partner's view."""

    def __init__(self, tools: Tools, documents: Documents) -> None:
        self._tools = tools
        self._documents = documents

    async def ListTokens(self, request: ocpi.ListTokensRequest, visit: Visit) -> Reply:
        return await page(self._tools, self._documents, OBJECT_KIND_TOKEN, Token, visit)


class TokensReceiver:
    """evbridge.partner.ocpi.v2.TokensReceiverService, served."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    async def GetReceivedToken(self, request: ocpi.GetReceivedTokenRequest, visit: Visit) -> Reply:
        key = _key_in(request, type_in(request.type), visit)
        with refusing():
            return await shown(await received_token(self._tools.database, visit.tenant_id, key))

    async def PutToken(self, request: ocpi.PutTokenRequest, visit: Visit) -> Reply:
        """Many name the type in the token alone."""
        document = await document_in(visit)
        named = request.type or document.get("type")
        key = _key_in(request, type_in(named if isinstance(named, str) else ""), visit)
        return await self._receive(key, document, visit, patch=False)

    async def PatchToken(self, request: ocpi.PatchTokenRequest, visit: Visit) -> Reply:
        key = _key_in(request, type_in(request.type), visit)
        return await self._receive(key, await document_in(visit), visit, patch=True)

    async def _receive(self, key: ObjectKey, document: Document, visit: Visit, *, patch: bool) -> Reply:
        check_owner(document, key)
        sender = await sender_of(self._tools, visit, key, PARTY_ROLE_EMSP)
        with refusing():
            at = (self._tools.database, caller_of(visit), sender, key)
            receipt = await token_received(*at, document, patch=patch)
        return done(receipt, key._replace(key="***"))  # what is logged names no driver


def type_in(text: str) -> TokenType.ValueType:
    """RFID where none is said. Raises OcpiRefused."""
    if not text:
        return TOKEN_TYPE_RFID
    try:
        return token_type(text)
    except ValueError:
        raise OcpiRefused(2001, "type must be that of a token, such as RFID") from None


def _key_in(request: Any, type: TokenType.ValueType, visit: Visit) -> ObjectKey:
    return token_key_of(request.country_code, request.party_id, type, request.token_uid, visit.integration_id)

"""OCPI's tokens module: what a partner sees of ours, and what providers push to us. Source: OCPI 2.2.1, tokens."""

from typing import Any, Final
from uuid import uuid4

from evbridge.partner.ocpi.v2 import tokens_pb2 as ocpi
from evbridge.v1.authorization_pb2 import (
    ALLOWED_TYPE_ALLOWED,
    ALLOWED_TYPE_BLOCKED,
    AnswerAuthorizationRequest,
    Authorization,
    AuthorizationQuestion,
)
from evbridge.v1.delivery_pb2 import OBJECT_KIND_TOKEN
from evbridge.v1.location_pb2 import TOKEN_TYPE_RFID, TokenType
from evbridge.v1.party_pb2 import PARTY_ROLE_EMSP
from evbridge.v1.token_pb2 import Token

from service.bridge.edge import Reply
from service.domain.keys import ObjectKey, PartyKey
from service.domain.received import Document
from service.domain.token import token_id, token_key, token_key_of, token_type
from service.domain.validation import validate
from service.ocpi.listener import OcpiRefused, Visit
from service.ocpi.modules import (
    caller_of,
    check_owner,
    document_in,
    done,
    enveloped,
    refusing,
    sender_of,
    shown,
    stored_of,
    timed,
)
from service.ocpi.pages import Documents, page
from service.partners.ocpi.authorization import authorization_to, place_from
from service.partners.ocpi.mapping import text_of
from service.resources.question import Kind, Questions
from service.resources.received_token import received_token, token_received
from service.runs.worker import Tools
from service.storage.token import tokens_named

_ANSWER_S: Final = 5.0
"""How long a service may think: a driver stands there."""


class TokensSender:
    """evbridge.partner.ocpi.v2.TokensSenderService, served: the partner's view."""

    def __init__(self, tools: Tools, documents: Documents, questions: Questions) -> None:
        self._tools = tools
        self._documents = documents
        self._questions = questions

    async def ListTokens(self, request: ocpi.ListTokensRequest, visit: Visit) -> Reply:
        return await page(self._tools, self._documents, OBJECT_KIND_TOKEN, Token, visit)

    async def AuthorizeToken(self, request: ocpi.AuthorizeTokenRequest, visit: Visit) -> Reply:
        """A service that listens answers, or else the token that is stored."""
        question = AuthorizationQuestion(
            id=str(uuid4()), integration_id=visit.integration_id, uid=request.token_uid, type=type_in(request.type)
        )
        if visit.call.body.strip() and (place := place_from(await document_in(visit))):
            with refusing():
                validate(place)
            question.location.CopyFrom(place)
        if token := await self._token(question, visit):
            question.token.CopyFrom(token)
        said = await self._said(question, visit.tenant_id)
        if (not said.HasField("token") and visit.version > "2.2") or not said.allowed:
            raise OcpiRefused(2004, "unknown token", status=404)
        return Reply(body=enveloped(text_of(authorization_to(said, visit.version))))

    async def _token(self, question: AuthorizationQuestion, visit: Visit) -> Token | None:
        stored = await stored_of(self._tools, visit)
        parties = {PartyKey(each.country_code, each.party_id) for each in stored.parties}
        found = await tokens_named(self._tools.database, visit.tenant_id, token_id(question.type, question.uid))
        ours = (each for each in found if not each.integration_id and token_key(each).party in parties)
        return next(ours, None)

    async def _said(self, question: AuthorizationQuestion, tenant_id: str) -> Authorization:
        timed(question, _ANSWER_S)
        answer = await self._questions.ask(tenant_id, Kind.AUTHORIZATION, question, _ANSWER_S)
        said, token = Authorization(), question.token if question.HasField("token") else None
        if answer is not None:
            given = AnswerAuthorizationRequest.FromString(answer)
            said.allowed, said.authorization_reference = given.allowed, given.authorization_reference
            token = given.token if given.HasField("token") else token
            if given.HasField("info"):
                said.info.CopyFrom(given.info)
        elif token:
            said.allowed = ALLOWED_TYPE_ALLOWED if token.valid else ALLOWED_TYPE_BLOCKED
        if token:
            said.token.CopyFrom(token)
        if question.HasField("location") and said.allowed == ALLOWED_TYPE_ALLOWED:
            said.location.CopyFrom(question.location)
            if answer is not None and given.evse_uids:
                said.location.evse_uids[:] = given.evse_uids
        return said


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
        with refusing(visit.version, "Token"):
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

"""evbridge.v1.AuthorizationService."""

import time
from collections.abc import AsyncGenerator, Mapping
from datetime import datetime
from typing import Final, Protocol

from evbridge.v1.authorization_pb2 import (
    ALLOWED_TYPE_ALLOWED,
    ALLOWED_TYPE_BLOCKED,
    AUTHORIZATION_SOURCE_FREE_VENDING,
    AUTHORIZATION_SOURCE_STORED,
    AUTHORIZATION_SOURCE_STORED_OFFLINE,
    AllowedType,
    AnswerAuthorizationRequest,
    Authorization,
    AuthorizationSource,
    AuthorizeTokenRequest,
    ServeAuthorizationsRequest,
)
from evbridge.v1.integration_pb2 import Integration, IntegrationType
from evbridge.v1.location_pb2 import TOKEN_TYPE_RFID
from evbridge.v1.token_pb2 import (
    WHITELIST_TYPE_ALLOWED,
    WHITELIST_TYPE_ALLOWED_OFFLINE,
    WHITELIST_TYPE_ALWAYS,
    Token,
)
from google.protobuf.empty_pb2 import Empty

from service.domain.caller import Caller, call_deadline, waits_elsewhere
from service.domain.pages import framed
from service.domain.partner_error import PartnerFault, PartnerOutcomeUnknown, PartnerUnavailable
from service.domain.token import token_id
from service.errors import InvalidArgument, ResourceNotFound
from service.resources.mutation import mutate
from service.resources.question import Kind, Questions, question_answered_by
from service.storage.connection import Connection
from service.storage.integration import integration_get
from service.storage.keyring import Keyring
from service.storage.pool import Database
from service.storage.token import tokens_named

_ANSWER_S: Final = 0.5
"""What is left of the caller's time when the provider's is over."""


class Authorizer(Protocol):
    """Asks one type of providers."""

    async def authorize(
        self, tenant_id: str, integration_id: str, asked: AuthorizeTokenRequest, timeout_s: float
    ) -> Authorization:
        """Raises EvbridgeError; PartnerNotFound when the provider does not know the token."""
        ...


class AuthorizationService:
    """`authorizers`: by the type of the integration."""

    def __init__(
        self,
        database: Database,
        keyring: Keyring,
        questions: Questions,
        authorizers: Mapping[IntegrationType.ValueType, Authorizer],
    ) -> None:
        self._database = database
        self._keyring = keyring
        self._questions = questions
        self._authorizers = authorizers

    async def AuthorizeToken(self, request: AuthorizeTokenRequest, caller: Caller) -> Authorization:
        token = await self._token(request, caller)
        integration_id = request.integration_id or (token.integration_id if token else "")
        if token is None and not integration_id:
            raise ResourceNotFound.of("token", token_id(request.type or TOKEN_TYPE_RFID, request.uid))
        integration = Integration()
        if integration_id:
            integration.ParseFromString(await integration_get(self._database, caller.tenant_id, integration_id))
        if request.free_vending and integration.free_vending_with_idtag_allowed:
            return _said(request, token, ALLOWED_TYPE_ALLOWED, AUTHORIZATION_SOURCE_FREE_VENDING)
        if token and not token.valid:
            return _said(request, token, ALLOWED_TYPE_BLOCKED, AUTHORIZATION_SOURCE_STORED)
        if token and (not integration_id or token.whitelist in (WHITELIST_TYPE_ALWAYS, WHITELIST_TYPE_ALLOWED)):
            return _said(request, token, ALLOWED_TYPE_ALLOWED, AUTHORIZATION_SOURCE_STORED)
        return await self._asked(request, caller, integration, token)

    async def ServeAuthorizations(
        self, request: ServeAuthorizationsRequest, caller: Caller
    ) -> AsyncGenerator[bytes, None]:
        waits_elsewhere()
        async for questions in self._questions.listen(caller.tenant_id, Kind.AUTHORIZATION, request.integration_id):
            yield framed(questions)

    async def AnswerAuthorization(self, request: AnswerAuthorizationRequest, caller: Caller) -> bytes:
        async def work(conn: Connection, now: datetime) -> Empty:
            answer = request.SerializeToString(deterministic=True)
            await question_answered_by(conn, caller.tenant_id, Kind.AUTHORIZATION, request.id, answer)
            return Empty()

        return await mutate(self._database, self._keyring, request, caller, work)

    async def _token(self, request: AuthorizeTokenRequest, caller: Caller) -> Token | None:
        """As it is kept: what was received through the integration, or ours first."""
        name = token_id(request.type or TOKEN_TYPE_RFID, request.uid)
        found = await tokens_named(self._database, caller.tenant_id, name)
        wanted = (each for each in found if request.integration_id in ("", each.integration_id))
        return next(wanted, None)

    async def _asked(
        self, request: AuthorizeTokenRequest, caller: Caller, integration: Integration, token: Token | None
    ) -> Authorization:
        authorizer = self._authorizers.get(integration.type)
        if authorizer is None:
            raise InvalidArgument.field("integration_id", "is an integration whose partner cannot be asked")
        left_s = max(call_deadline.get() - time.monotonic() - _ANSWER_S, _ANSWER_S)
        try:
            return await authorizer.authorize(caller.tenant_id, integration.id, request, left_s)
        except (PartnerUnavailable, PartnerOutcomeUnknown, PartnerFault):
            if token and token.whitelist == WHITELIST_TYPE_ALLOWED_OFFLINE:
                return _said(request, token, ALLOWED_TYPE_ALLOWED, AUTHORIZATION_SOURCE_STORED_OFFLINE)
            raise


def _said(
    request: AuthorizeTokenRequest,
    token: Token | None,
    allowed: AllowedType.ValueType,
    source: AuthorizationSource.ValueType,
) -> Authorization:
    integration_id = token.integration_id if token else request.integration_id
    said = Authorization(allowed=allowed, token=token, source=source, integration_id=integration_id)
    if request.HasField("location") and allowed == ALLOWED_TYPE_ALLOWED:
        said.location.CopyFrom(request.location)
    return said

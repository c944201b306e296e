"""evbridge.v1.AuthorizationService."""

from collections.abc import AsyncGenerator, Mapping

from evbridge.v1.authorization_pb2 import (
    ALLOWED_TYPE_ALLOWED,
    ALLOWED_TYPE_BLOCKED,
    AUTHORIZATION_SOURCE_FREE_VENDING,
    AUTHORIZATION_SOURCE_STORED,
    AUTHORIZATION_SOURCE_STORED_OFFLINE,
    AnswerAuthorizationRequest,
    Authorization,
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

from service.domain.caller import Caller, time_to_wait_s
from service.domain.integration import speaker
from service.domain.partner_error import PartnerFault, PartnerOutcomeUnknown, PartnerUnavailable
from service.domain.token import token_id
from service.errors import InvalidArgument, ResourceNotFound
from service.resources.authorization import Authorizer, authorization_of
from service.resources.question import Kind, Questions
from service.rpc.question import Asked
from service.storage.integration import integration_get
from service.storage.keyring import Keyring
from service.storage.pool import Database
from service.storage.token import tokens_named


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
        self._questions = Asked(questions, keyring, Kind.AUTHORIZATION)
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
            return authorization_of(request, token, ALLOWED_TYPE_ALLOWED, AUTHORIZATION_SOURCE_FREE_VENDING)
        if token and not token.valid:
            return authorization_of(request, token, ALLOWED_TYPE_BLOCKED, AUTHORIZATION_SOURCE_STORED)
        if token and (not integration_id or token.whitelist in (WHITELIST_TYPE_ALWAYS, WHITELIST_TYPE_ALLOWED)):
            return authorization_of(request, token, ALLOWED_TYPE_ALLOWED, AUTHORIZATION_SOURCE_STORED)
        return await self._asked(request, caller, integration, token)

    def ServeAuthorizations(self, request: ServeAuthorizationsRequest, caller: Caller) -> AsyncGenerator[bytes, None]:
        return self._questions.serve(request, caller)

    async def AnswerAuthorization(self, request: AnswerAuthorizationRequest, caller: Caller) -> bytes:
        return await self._questions.answer(request, caller, request)

    async def _token(self, request: AuthorizeTokenRequest, caller: Caller) -> Token | None:
        """As it is kept: what was received through the integration, or ours first."""
        name = token_id(request.type or TOKEN_TYPE_RFID, request.uid)
        found = await tokens_named(self._database, caller.tenant_id, name)
        wanted = (each for each in found if request.integration_id in ("", each.integration_id))
        return next(wanted, None)

    async def _asked(
        self, request: AuthorizeTokenRequest, caller: Caller, integration: Integration, token: Token | None
    ) -> Authorization:
        lacking = InvalidArgument.field("integration_id", "is an integration whose partner cannot be asked")
        authorizer = speaker(integration, self._authorizers, lacking)
        try:
            return await authorizer.authorize(caller.tenant_id, integration.id, request, time_to_wait_s())
        except (PartnerUnavailable, PartnerOutcomeUnknown, PartnerFault):
            if token and token.whitelist == WHITELIST_TYPE_ALLOWED_OFFLINE:
                return authorization_of(request, token, ALLOWED_TYPE_ALLOWED, AUTHORIZATION_SOURCE_STORED_OFFLINE)
            raise

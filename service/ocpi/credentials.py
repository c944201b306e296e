"""OCPI's credentials module: a partner registers with us, gets new tokens, unregisters.

Source: OCPI 2.2.1, credentials. The token decides what may be done: a first one registers, another one does the rest.
The partner is called back before anything is stored, in one transaction; for what becomes of answers that are lost see
service/storage/partner_token.py.
"""

import asyncio
import logging
import re

from evbridge.partner.ocpi.v2 import credentials_pb2 as ocpi
from evbridge.v1.integration_pb2 import INTEGRATION_STATUS_FAILED, Integration
from evbridge.v1.ocpi_connection_pb2 import VersionDetails
from evbridge.v1.party_pb2 import Party
from google.protobuf.message import Message

from service.bridge.edge import Refused, Reply
from service.domain.secret import Secret
from service.errors import (
    AlreadyRegistered,
    EndpointMissing,
    EvbridgeError,
    IntegrationHasNoParty,
    InvalidArgument,
    ResourceNotFound,
)
from service.ocpi.listener import OcpiRefused, Visit
from service.ocpi.modules import caller_of
from service.partners.ocpi.party import OtherParty, check_pulled, companies_of, credentials_of, hub_in, token_in
from service.resources.audit import audit_call
from service.resources.registration import Registered, own_parties, register, token_give, unregister
from service.runs.worker import Tools
from service.storage.audit import audit_place
from service.storage.connection import Connection
from service.storage.integration import integration_get, integration_lock, integration_status
from service.storage.partner_token import new_token, token_exchange

log = logging.getLogger(__name__)

_Registering = ocpi.PostCredentialsRequest | ocpi.PutCredentialsRequest
_WITH_SECRET = re.compile(r"[?#]|^[^/]*//[^/]*@")
"""A URL that may hold a secret: it is not logged, nor shown with the integration."""
_CALL_BACK_S = 25.0
"""For reading the partner's versions, while it waits for our answer."""


class Credentials:
    """evbridge.partner.ocpi.v2.CredentialsService, served."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._database = tools.database

    async def GetCredentials(self, request: ocpi.GetCredentialsRequest, visit: Visit) -> Reply:
        """With the token that the partner has just brought: only its hash is stored."""
        _, ours = await self._stored(visit)
        return self._reply(ours, visit.token, visit)

    async def PostCredentials(self, request: ocpi.PostCredentialsRequest, visit: Visit) -> Reply:
        if not visit.holder.initial:
            raise _not_allowed("the token is one of a registration: use PUT", "GET, PUT, DELETE")
        return await self._register(request, visit)

    async def PutCredentials(self, request: ocpi.PutCredentialsRequest, visit: Visit) -> Reply:
        if visit.holder.initial:
            raise _not_allowed("not registered yet: use POST", "GET, POST")
        return await self._register(request, visit)

    async def DeleteCredentials(self, request: ocpi.DeleteCredentialsRequest, visit: Visit) -> Reply:
        if visit.holder.initial:
            raise _not_allowed("not registered", "GET, POST")
        async with self._database.transaction() as conn:
            integration = await integration_lock(conn, visit.tenant_id, visit.integration_id)
            await unregister(conn, visit.tenant_id, integration)
            await self._audit(conn, request, visit)
        log.info("a partner unregistered")
        return Reply(ocpi.DeleteCredentialsResponse())

    async def _register(self, request: _Registering, visit: Visit) -> Reply:
        theirs = request.credentials
        stored, ours = await self._stored(visit)
        try:
            token = token_in(theirs, Secret(theirs.token))
            companies = await asyncio.to_thread(companies_of, theirs, ours)
            if not theirs.url:
                raise InvalidArgument.field("url", "is required: where the versions are")
        except InvalidArgument as wrong:
            raise OcpiRefused(2001, wrong.message) from None
        if _WITH_SECRET.search(theirs.url):
            raise await self._failed(visit, 3001, "url must not hold a user, a password or a query")
        details, plain = await self._call_back(stored, token, theirs.url, visit)
        found = Registered(token, plain, theirs.url, details, companies, hub_in(theirs))
        given = new_token()
        try:
            async with self._database.transaction() as conn:
                integration = await integration_lock(conn, visit.tenant_id, visit.integration_id)
                if not await token_exchange(conn, visit.holder):
                    raise OcpiRefused(2000, "another request with this token was faster", status=409)
                await register(conn, self._tools.keyring, visit.tenant_id, integration, found)
                await token_give(conn, self._tools.keyring, visit.tenant_id, visit.integration_id, given)
                await self._audit(conn, request, visit)
        except AlreadyRegistered as taken:
            raise await self._failed(visit, 2001, taken.message) from None
        log.info("a partner registered", extra={"version": visit.version})
        return self._reply(ours, given, visit)

    async def _audit(self, conn: Connection, request: Message, visit: Visit) -> None:
        """Writes down that the partner did it."""
        caller = caller_of(visit)
        caller.trail.add("integration", [visit.integration_id], 1)
        await audit_call(conn, self._tools.keyring, caller, await audit_place(conn), request)

    async def _call_back(
        self, stored: Integration, token: Secret, url: str, visit: Visit
    ) -> tuple[VersionDetails, bool]:
        """The partner's modules, and whether it takes its token plain. Raises OcpiRefused: 3001, 3002, 3003."""
        target = await self._tools.targets.target(visit.tenant_id, visit.integration_id)
        plain = visit.version == "2.1.1"
        party = OtherParty(self._tools.channel, target, self._tools.policy, token, plain=plain)
        try:
            async with asyncio.timeout(_CALL_BACK_S):
                spoken = await party.versions(url)
                if visit.version not in spoken:
                    raise await self._failed(visit, 3002, f"your versions do not name {visit.version}")
                details = await party.details(visit.version, spoken[visit.version])
            check_pulled(details, stored.models)
        except EndpointMissing as missing:
            raise await self._failed(visit, 3003, missing.message) from None
        except (EvbridgeError, TimeoutError) as error:
            problem = error.message if isinstance(error, EvbridgeError) else "no answer in time"
            raise await self._failed(visit, 3001, f"{party.url} could not be read: {problem}") from None
        return details, party.plain

    async def _failed(self, visit: Visit, ocpi_status: int, problem: str) -> OcpiRefused:
        """Tells the partner, and the one who looks at the integration, unless an earlier registration holds."""
        log.warning("a partner could not register", extra={"problem": problem})
        if visit.holder.initial:
            async with self._database.transaction() as conn:
                description = f"the partner tried to register: {problem}"
                await integration_status(
                    conn, visit.tenant_id, visit.integration_id, INTEGRATION_STATUS_FAILED, description[:500]
                )
        return OcpiRefused(ocpi_status, problem)

    async def _stored(self, visit: Visit) -> tuple[Integration, list[Party]]:
        try:
            payload = await integration_get(self._database, visit.tenant_id, visit.integration_id)
            stored = Integration.FromString(payload)
            return stored, await own_parties(self._database, visit.tenant_id, stored)
        except ResourceNotFound:
            raise OcpiRefused(2000, "no known token", status=401) from None
        except IntegrationHasNoParty:
            raise OcpiRefused(3000, "the connection names no party of ours") from None

    def _reply(self, ours: list[Party], token: Secret, visit: Visit) -> Reply:
        credentials = credentials_of(ours, token, self._tools.door.versions_url, visit.version)
        return Reply(ocpi.CredentialsResponse(data=credentials))


def _not_allowed(message: str, allowed: str) -> Refused:
    return OcpiRefused(2000, message, status=405, headers={"Allow": allowed})

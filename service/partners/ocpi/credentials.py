"""RUN_KIND_CREDENTIALS of OCPI parties: registers, rotates tokens, unregisters. We begin; for the other way round see
service/ocpi/credentials.py.

Source: OCPI 2.2.1, credentials. What a step found out is stored in one transaction, and no connection is held while the
partner is asked. Killed between any two, the exchange can be begun again: see service/storage/partner_token.py.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from evbridge.partner.ocpi.v2 import credentials_pb2 as ocpi
from evbridge.v1.integration_pb2 import Integration
from evbridge.v1.run_pb2 import CREDENTIALS_ACTION_UNREGISTER, RUN_STEP_STATE_SKIPPED

from service.domain.integration import base_url
from service.domain.partner_error import PartnerCredentialRefused, PartnerError, PartnerFault
from service.domain.secret import Secret
from service.errors import (
    AlreadyRegistered,
    CallbackFailed,
    EgressDenied,
    EndpointMissing,
    EtagMismatch,
    EvbridgeError,
    InvalidArgument,
    NoCommonVersion,
    NotRegistered,
    TokenRejected,
)
from service.partners.ocpi.party import (
    OtherParty,
    check_pulled,
    companies_of,
    credentials_of,
    credentials_url,
    highest,
    hub_in,
    token_in,
)
from service.resources.registration import INITIAL_TOKEN, Registered, own_parties, register, token_give, unregister
from service.runs.connecting import Find, connecting
from service.runs.worker import Progress, Tools
from service.storage.connection import Connection
from service.storage.integration import THEIR_TOKEN, integration_get, integration_lock, secrets_get
from service.storage.partner_token import new_token, token_end, tokens_end
from service.storage.run import RunClaim, run_hold

_STEPS = 4
_BY_CODE: dict[str, type[EvbridgeError]] = {"3001": CallbackFailed, "3002": NoCommonVersion, "3003": EndpointMissing}
_BY_CODE_TEXT = {
    "3001": "the partner could not call our versions URL",
    "3002": "the partner does not support the version after all",
    "3003": "the partner misses modules of ours that it needs",
}
_NEXT_ACTIONS = {
    TokenRejected: "ask the partner for a new first token, set it as ocpi.initial_token, and register again",
    NoCommonVersion: "ask the partner which versions of OCPI it is going to support",
    CallbackFailed: "see that EVBRIDGE_PUBLIC_URL is right and can be reached from the partner, then register again",
    EndpointMissing: "agree with the partner on the modules, then set `models` accordingly or wait for the partner",
    AlreadyRegistered: "ask the partner to unregister us or for a new first token, then register again",
    NotRegistered: "set the partner's first token as ocpi.initial_token, or issue one and let the partner begin",
    EgressDenied: "see that the partner's addresses are public, and https",
    PartnerError: "look at the partner's address and its state, then start the run again",
}


class Credentials:
    """Does what the run's `credentials_options` say."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._database = tools.database

    async def execute(self, run: RunClaim, progress: Progress) -> None:
        """Raises the reasons of RunStep.reason, and what the channel raises."""
        if run.credentials_options.action == CREDENTIALS_ACTION_UNREGISTER:
            await self._unregister(run, progress)
            return
        async with connecting(self._database, run) as find:
            await self._register(run, progress, find)

    async def _register(self, run: RunClaim, progress: Progress, find: Find) -> None:
        stored, secrets = await self._stored(run)
        begins = INITIAL_TOKEN in secrets and bool(base_url(stored))
        # A first token came with the address that the operator set; else the partner has said itself where it is.
        url = (stored.ocpi.endpoint_url if begins else "") or base_url(stored)
        token = secrets.get(INITIAL_TOKEN if begins else THEIR_TOKEN)
        party = await self._party(run, token or Secret(""), plain=stored.ocpi.plain_authorization)
        with _step(progress, 0, "versions", party):
            ours = await own_parties(self._database, run.tenant_id, stored)
            our_url = self._tools.door.versions_url
            if token is None:
                raise NotRegistered("there is no token to call the partner with")
            spoken = await party.versions(url)
            version = highest(self._tools.door.versions, spoken)
            if party.plain != stored.ocpi.plain_authorization:
                await find(lambda integration: setattr(integration.ocpi, "plain_authorization", party.plain))
        with _step(progress, 1, "details", party, f"version {version}"):
            details = await party.details(version, spoken[version])
            check_pulled(details, stored.models)
        with _step(progress, 2, "credentials", party, begins=begins):
            given = new_token()
            token_id = await self._give(run, find, given)
            credentials = credentials_of(ours, given, our_url, version)
            try:
                answer = await (party.post if begins else party.put)(credentials_url(details), credentials)
            except EvbridgeError as error:
                if _was_refused(error):
                    async with self._database.transaction() as conn:
                        await token_end(conn, run.tenant_id, run.integration_id, token_id)
                raise
            theirs: ocpi.Credentials = answer.message.data
            try:
                got = token_in(theirs, answer.secrets.get("data.token", Secret("")))
                companies = await asyncio.to_thread(companies_of, theirs, ours)
            except InvalidArgument as wrong:
                raise PartnerFault(
                    f"the partner's credentials are not valid: {wrong.message}", partner="ocpi"
                ) from None
            versions_url = theirs.url if party.calls(theirs.url) else url
            found = Registered(got, party.plain, versions_url, details, companies, hub_in(theirs))
            await self._store(run, stored, found)
        with _step(progress, 3, "confirmation", party):
            await self._confirm(run, progress, find, found)
        progress.count(_STEPS, _STEPS)

    async def _confirm(self, run: RunClaim, progress: Progress, find: Find, found: Registered) -> None:
        """Uses the new token once, so that the partner knows that it arrived, and remembers the form that it takes.

        A partner that does not let its credentials be read is registered with all the same.
        """
        party = await self._party(run, found.token, plain=found.plain_authorization)
        try:
            await party.get(credentials_url(found.details))
        except PartnerCredentialRefused:
            raise
        except PartnerError as error:
            progress.report.steps[-1].description = f"the partner is registered, but: {error.message}"
        if party.plain != found.plain_authorization:
            await find(lambda integration: setattr(integration.ocpi, "plain_authorization", party.plain))

    async def _unregister(self, run: RunClaim, progress: Progress) -> None:
        stored, secrets = await self._stored(run)
        url = credentials_url(stored.version_details)
        progress.count(0, 2, "tells the partner")
        if THEIR_TOKEN in secrets and url:
            progress.begin("credentials")
            party = await self._party(run, secrets[THEIR_TOKEN], plain=stored.ocpi.plain_authorization)
            progress.report.steps[-1].url = url
            try:
                await party.delete(url)
            except EvbridgeError as error:
                progress.close(RUN_STEP_STATE_SKIPPED, f"the partner could not be told: {error.message}")
        else:
            progress.skip("credentials", "we are not registered with the partner")
        progress.count(1, 2, "forgets all tokens")
        progress.begin("removal")
        async with self._database.transaction() as conn:
            integration = await integration_lock(conn, run.tenant_id, run.integration_id)
            await run_hold(conn, run)
            await unregister(conn, run.tenant_id, integration)
        progress.count(2, 2)

    async def _stored(self, run: RunClaim) -> tuple[Integration, dict[str, Secret]]:
        async with self._database.connection() as conn:
            payload = await integration_get(conn, run.tenant_id, run.integration_id)
            secrets = await secrets_get(conn, self._tools.keyring, run.tenant_id, run.integration_id)
        return Integration.FromString(payload), secrets

    async def _party(self, run: RunClaim, token: Secret, *, plain: bool) -> OtherParty:
        target = await self._tools.targets.target(run.tenant_id, run.integration_id)
        return OtherParty(self._tools.channel, target, self._tools.policy, token, plain=plain)

    async def _give(self, run: RunClaim, find: Find, token: Secret) -> int:
        """Lets our new token open our endpoints, which the partner calls while we register. Returns its id."""
        token_id = 0

        async def give(conn: Connection) -> None:
            nonlocal token_id
            if run.credentials_options.revoke_now:
                await tokens_end(conn, run.tenant_id, run.integration_id)
            token_id = await token_give(conn, self._tools.keyring, run.tenant_id, run.integration_id, token)

        await find(lambda _: None, give)
        return token_id

    async def _store(self, run: RunClaim, stored: Integration, found: Registered) -> None:
        """Also when the integration was changed meanwhile, since the partner took us; not when it leads elsewhere."""
        async with self._database.transaction() as conn:
            integration = await integration_lock(conn, run.tenant_id, run.integration_id)
            await run_hold(conn, run)
            if integration.ocpi.endpoint_url != stored.ocpi.endpoint_url:
                raise EtagMismatch("the address was changed during the exchange")
            await register(conn, self._tools.keyring, run.tenant_id, integration, found)


def _was_refused(error: EvbridgeError) -> bool:
    """Whether the partner has said that it does not take our credentials."""
    return isinstance(error, PartnerError) and (error.partner_code in _BY_CODE or 400 <= error.http_status < 408)


@contextmanager
def _step(
    progress: Progress, done: int, name: str, party: OtherParty, description: str = "", *, begins: bool | None = None
) -> Iterator[None]:
    """A step that says how it failed, and what to do about it. `begins`: it registers, or renews that."""
    progress.count(done, _STEPS, name)
    progress.begin(name, description)
    step = progress.report.steps[-1]
    try:
        yield
    except EvbridgeError as error:
        typed = _typed(error, begins=begins)
        if isinstance(error, PartnerError):
            step.http_status = error.http_status
            step.ocpi_status = int(error.partner_code) if error.partner_code.isdecimal() else 0
        step.reason = typed.reason
        step.next_action = next((text for kind, text in _NEXT_ACTIONS.items() if isinstance(typed, kind)), "")
        raise typed from None
    finally:
        step.url = party.url


def _typed(error: EvbridgeError, *, begins: bool | None) -> EvbridgeError:
    if not isinstance(error, PartnerError):
        return error
    if isinstance(error, PartnerCredentialRefused):
        return TokenRejected("the partner takes our token neither in base64 nor as it is")
    if error.http_status == 405 and begins is not None:
        if begins:
            return AlreadyRegistered("the partner still knows us as registered")
        return NotRegistered("the partner does not know us as registered")
    if kind := _BY_CODE.get(error.partner_code):
        return kind(_BY_CODE_TEXT[error.partner_code])
    return error

"""Who is calling, by the credential in the metadata of a call."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from functools import partial

from google.rpc import code_pb2 as codes

from service.bridge.egress import Egress, EgressPolicy, UrlRefused, check_url
from service.domain.caller import Caller
from service.errors import CredentialExpired, CredentialRequired, EvbridgeError, JwtInvalid, ServerBusy
from service.identity.issuer_keys import IssuerKeys
from service.identity.jwt import JwtVerifier, looks_like_jwt
from service.settings import SettingError, Settings
from service.storage.api_key import PURPOSE, api_key_holder, api_key_use, looks_like_key, tenant_exists
from service.storage.keyring import Keyring
from service.storage.pool import Database


class Authenticator:
    """Turns `authorization: Bearer <credential>` into a Caller: an API key, or with `jwt` a token of the issuer.

    Answers are kept for `ttl_s`: so long a revoked key lives.
    """

    def __init__(
        self,
        database: Database,
        keyring: Keyring,
        jwt: JwtVerifier | None = None,
        *,
        ttl_s: float = 5.0,
        capacity: int = 10_000,
    ) -> None:
        self._database = database
        self._keyring = keyring
        self._jwt = jwt
        self._ttl_s = ttl_s
        self._capacity = capacity
        # By SHA-256 of the header, so that memory holds no key. Only good keys are kept: bad ones cannot fill it.
        self._known: dict[bytes, tuple[float, Caller]] = {}

        self._looking: dict[bytes, asyncio.Task[Caller]] = {}
        self._strangers = 0
        self._writing: set[asyncio.Task[None]] = set()

    async def caller(self, metadata: dict[str, str | bytes]) -> Caller:
        """Raises CredentialRequired, CredentialExpired, JwtInvalid, JwtKeysUnavailable, ServerBusy."""
        header = metadata.get("authorization", "")
        if not isinstance(header, str) or not header:
            raise CredentialRequired("send a key: authorization: Bearer <key>")
        name = hashlib.sha256(header.encode()).digest()
        known = self._known.get(name)
        return known[1] if known and known[0] >= time.monotonic() else await self._ask(name, header)

    async def _ask(self, name: bytes, header: str) -> Caller:
        """Looks the credential up, once for all calls that come with the same header meanwhile.

        Those that were never good share a few look-ups, so that a flood of guesses leaves the database to the others.
        """
        if (asking := self._looking.get(name)) is None:
            asking = self._looking[name] = asyncio.create_task(self._look_up(name, header))
            asking.add_done_callback(partial(self._asked, name))
        # Shielded, because the first of its callers may go away before the others.
        return await asyncio.shield(asking)

    def _asked(self, name: bytes, task: asyncio.Task[Caller]) -> None:
        del self._looking[name]
        if not task.cancelled():
            task.exception()  # known now, although all who asked may have gone away

    async def _look_up(self, name: bytes, header: str) -> Caller:
        scheme, _, credential = header.partition(" ")
        verify = self._verification(credential)
        if scheme.lower() != "bearer" or verify is None:
            raise _unknown_key()
        stranger = name not in self._known
        if stranger and self._strangers >= _MAX_STRANGERS:
            raise ServerBusy("too many unknown credentials are being looked up", retry_after_s=1.0)
        self._strangers += stranger
        try:
            caller, lasts_s = await verify(credential)
        except EvbridgeError as error:
            if error.code == codes.UNAUTHENTICATED:
                self._known.pop(name, None)
            raise
        finally:
            self._strangers -= stranger
        if len(self._known) >= self._capacity:
            self._known.clear()
        self._known[name] = (time.monotonic() + min(self._ttl_s, lasts_s), caller)
        return caller

    def _verification(self, credential: str) -> Callable[[str], Awaitable[tuple[Caller, float]]] | None:
        """What finds the caller of a credential, and for how many seconds it is one."""
        if looks_like_key(credential):
            return self._of_key
        return partial(self._of_jwt, self._jwt) if self._jwt and looks_like_jwt(credential) else None

    async def _of_key(self, key: str) -> tuple[Caller, float]:
        holder = await api_key_holder(self._database, self._keyring.digests(PURPOSE, key.encode()))
        if holder is None:
            raise _unknown_key()
        if holder.lasts_s <= 0:
            end = f"{holder.expire_time:%Y-%m-%dT%H:%M:%SZ}"
            raise CredentialExpired(f"the key expired at {end}", expire_time=end)
        if holder.use_due:  # beside the call, which need not wait for a write
            writing = asyncio.create_task(self._used(holder.caller))
            self._writing.add(writing)
            writing.add_done_callback(self._writing.discard)
        return holder.caller, holder.lasts_s

    async def _of_jwt(self, jwt: JwtVerifier, token: str) -> tuple[Caller, float]:
        caller, lasts_s = await jwt.caller(token)
        if not await tenant_exists(self._database, caller.tenant_id):
            raise JwtInvalid("the tenant that the token names does not exist", problem="tenant")
        return caller, lasts_s

    async def _used(self, caller: Caller) -> None:
        with suppress(EvbridgeError):  # a database that takes no writes is no reason to refuse reads
            await api_key_use(self._database, caller.tenant_id, caller.actor)


@asynccontextmanager
async def authenticating(
    settings: Settings, database: Database, keyring: Keyring, egress: Egress, policy: EgressPolicy
) -> AsyncIterator[Authenticator]:
    """With the keys of the issuer that the settings name, if they name one, up to date while entered.

    Raises SettingError for an address that may not be called.
    """
    if not settings.jwt_issuer:
        yield Authenticator(database, keyring)
        return
    try:
        check_url(settings.jwt_jwks_url, policy)
    except UrlRefused as refused:
        raise SettingError(f"EVBRIDGE_JWT_JWKS_URL {refused}") from None
    async with aclosing(IssuerKeys(egress, settings.jwt_jwks_url)) as keys:
        await keys.start()
        yield Authenticator(database, keyring, JwtVerifier(settings, keys))


_MAX_STRANGERS = 4


def _unknown_key() -> CredentialRequired:
    return CredentialRequired("the key is unknown or revoked")

"""Who is calling, by the credential in the metadata of a call."""

import asyncio
import hashlib
import time
from contextlib import suppress
from functools import partial

from service.domain.caller import Caller
from service.errors import CredentialExpired, CredentialRequired, EvbridgeError, ServerBusy
from service.storage.api_key import PURPOSE, api_key_holder, api_key_use, looks_like_key
from service.storage.keyring import Keyring
from service.storage.pool import Database


class Authenticator:
    """Turns `authorization: Bearer <key>` into a Caller. Answers are kept for `ttl_s`: so long a revoked key lives."""

    def __init__(self, database: Database, keyring: Keyring, ttl_s: float = 5.0, capacity: int = 10_000) -> None:
        self._database = database
        self._keyring = keyring
        self._ttl_s = ttl_s
        self._capacity = capacity
        # By SHA-256 of the header, so that memory holds no key. Only good keys are kept: bad ones cannot fill it.
        self._known: dict[bytes, tuple[float, Caller]] = {}

        self._looking: dict[bytes, asyncio.Task[Caller]] = {}
        self._strangers = 0
        self._writing: set[asyncio.Task[None]] = set()

    async def caller(self, metadata: dict[str, str | bytes]) -> Caller:
        """Raises CredentialRequired, CredentialExpired, ServerBusy."""
        header = metadata.get("authorization", "")
        if not isinstance(header, str) or not header:
            raise CredentialRequired("send a key: authorization: Bearer <key>")
        name = hashlib.sha256(header.encode()).digest()
        known = self._known.get(name)
        return known[1] if known and known[0] >= time.monotonic() else await self._ask(name, header)

    async def _ask(self, name: bytes, header: str) -> Caller:
        """Asks the database, once for all calls that come with the same header meanwhile.

        Keys that were never good share a few look-ups, so that a flood of guesses leaves the database to the others.
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
        if scheme.lower() != "bearer" or not looks_like_key(credential):
            raise _unknown_key()
        stranger = name not in self._known
        if stranger and self._strangers >= _MAX_STRANGERS:
            raise ServerBusy("too many unknown keys are being looked up", retry_after_s=1.0)
        self._strangers += stranger
        try:
            caller, lasts_s = await self._of_key(credential)
        except (CredentialRequired, CredentialExpired):
            self._known.pop(name, None)
            raise
        finally:
            self._strangers -= stranger
        if len(self._known) >= self._capacity:
            self._known.clear()
        self._known[name] = (time.monotonic() + min(self._ttl_s, lasts_s), caller)
        return caller

    async def _of_key(self, key: str) -> tuple[Caller, float]:
        """The caller, and how long it is one."""
        holder = await api_key_holder(self._database, self._keyring.digests(PURPOSE, key.encode()))
        if holder is None:
            raise _unknown_key()
        if holder.lasts_s <= 0:
            end = f"{holder.expire_time:%Y-%m-%dT%H:%M:%SZ}"
            raise CredentialExpired(f"the key's time was over at {end}", expire_time=end)
        if holder.use_due:  # beside the call, which need not wait for a write
            writing = asyncio.create_task(self._used(holder.caller))
            self._writing.add(writing)
            writing.add_done_callback(self._writing.discard)
        return holder.caller, holder.lasts_s

    async def _used(self, caller: Caller) -> None:
        with suppress(EvbridgeError):  # a database that takes no writes is no reason to refuse reads
            await api_key_use(self._database, caller.tenant_id, caller.actor)


_MAX_STRANGERS = 4


def _unknown_key() -> CredentialRequired:
    return CredentialRequired("the key is unknown or revoked")

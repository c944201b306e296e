"""Who is calling, by the key in the metadata of a call."""

import asyncio
import hashlib
import time
from functools import partial

from service.domain.caller import Caller, role_name
from service.errors import CredentialRequired, RoleRequired, ServerBusy
from service.storage.api_key import PURPOSE, api_key_caller, looks_like_key
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

    async def caller(self, metadata: dict[str, str | bytes], role: int) -> Caller:
        """Raises CredentialRequired, RoleRequired when the key's role is below `role`, ServerBusy."""
        header = metadata.get("authorization", "")
        if not isinstance(header, str) or not header:
            raise CredentialRequired("send a key: authorization: Bearer <key>")
        name = hashlib.sha256(header.encode()).digest()
        known = self._known.get(name)
        caller = known[1] if known and known[0] >= time.monotonic() else await self._ask(name, header)
        if caller.role < role:
            needed, has = (role_name(number) for number in (role, caller.role))
            raise RoleRequired(f"the method needs the role {needed}", required=needed, role=has)
        return caller

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
        scheme, _, key = header.partition(" ")
        if scheme.lower() != "bearer" or not looks_like_key(key):
            raise _unknown_key()
        stranger = name not in self._known
        if stranger and self._strangers >= _MAX_STRANGERS:
            raise ServerBusy("too many unknown keys are being looked up", retry_after_s=1.0)
        self._strangers += stranger
        try:
            caller = await api_key_caller(self._database, self._keyring.digests(PURPOSE, key.encode()))
        finally:
            self._strangers -= stranger
        if caller is None:
            self._known.pop(name, None)
            raise _unknown_key()
        if len(self._known) >= self._capacity:
            self._known.clear()
        self._known[name] = (time.monotonic() + self._ttl_s, caller)
        return caller


_MAX_STRANGERS = 4


def _unknown_key() -> CredentialRequired:
    return CredentialRequired("the key is unknown or revoked")

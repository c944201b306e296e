"""API keys: `evb_<key id>_<secret>`, stored as keyed hashes, shown once.

A key is 32 random bytes, so its HMAC is looked up as it stands: an attacker cannot choose a digest, and the comparison
that decides is constant-time.
"""

import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from service.domain.caller import Caller
from service.domain.secret import Secret
from service.storage.connection import Connection
from service.storage.keyring import Keyring
from service.storage.pool import Database
from service.storage.statements import Statements

sql = Statements.beside(__file__)
PURPOSE = "api-key"
_SHAPE = re.compile(r"evb_[a-z0-9]{8}_[A-Za-z0-9_-]{43}", re.ASCII)


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it can be listed."""

    tenant_id: str
    key_id: str
    name: str
    role: int
    create_time: datetime
    revoke_time: datetime | None


def looks_like_key(text: str) -> bool:
    return _SHAPE.fullmatch(text) is not None


async def api_key_caller(database: Database, digests: Sequence[bytes]) -> Caller | None:
    """The caller whose key has one of these digests (one per key of the keyring); None when unknown or revoked."""
    row = await database.row(sql.api_key_find, digests)
    if row is None or not any(hmac.compare_digest(row["digest"], digest) for digest in digests):
        return None
    return Caller(row["tenant_id"], row["key_id"], row["role"])


async def api_key_create(conn: Connection, keyring: Keyring, tenant_id: str, name: str, role: int) -> Secret:
    """Makes a key, and its tenant if need be. The returned text exists nowhere else."""
    key_id = "".join(secrets.choice("abcdefghjkmnpqrstuvwxyz23456789") for _ in range(8))
    key = f"evb_{key_id}_{secrets.token_urlsafe(32)}"
    await tenant_ensure(conn, tenant_id)
    await conn.run(sql.api_key_insert, tenant_id, key_id, name, role, keyring.digest(PURPOSE, key.encode()))
    return Secret(key)


async def tenant_ensure(conn: Connection, tenant_id: str) -> None:
    await conn.run(sql.tenant_ensure, tenant_id)


async def api_key_first(database: Database, keyring: Keyring, tenant_id: str, role: int) -> Secret | None:
    """Makes a key if the database has none, once among all processes that start at the same time."""
    async with database.transaction() as conn:
        await conn.run(sql.api_key_first_lock)
        if await conn.value(sql.api_key_any):
            return None
        return await api_key_create(conn, keyring, tenant_id, "first", role)


async def api_key_list(database: Database, tenant_id: str = "") -> list[ApiKey]:
    """Keys in the order they were made, of one tenant or of all."""
    return [ApiKey(**dict(row)) for row in await database.rows(sql.api_key_list, tenant_id)]


async def api_key_revoke(database: Database, tenant_id: str, key_id: str) -> bool:
    """False when the tenant has no such key in force."""
    return await database.value(sql.api_key_revoke, tenant_id, key_id) is not None

"""API keys: `evb_<key id>_<secret>`, stored as keyed hashes, shown once.

A key is 32 random bytes, so its HMAC is looked up as it stands: an attacker cannot choose a digest, and the comparison
that decides is constant-time.
"""

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from asyncpg import Record
from evbridge.v1.api_key_pb2 import Key

from service.domain.caller import Caller, Limits
from service.domain.secret import Secret
from service.errors import ResourceNotFound
from service.storage.connection import Connection
from service.storage.keyring import Keyring
from service.storage.pool import Database
from service.storage.statements import Statements

sql = Statements.beside(__file__)
PURPOSE = "api-key"
_SHAPE = re.compile(r"evb_[a-z0-9]{8}_[A-Za-z0-9_-]{43}", re.ASCII)
_ID_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"


@dataclass(frozen=True, slots=True)
class KeyHolder:
    """Whose key it is, until when, and whether it is time to remember that it is used."""

    caller: Caller
    expire_time: datetime | None
    lasts_s: float
    use_due: bool


def looks_like_key(text: str) -> bool:
    return _SHAPE.fullmatch(text) is not None


def new_key() -> Secret:
    return key_of(secrets.token_bytes(32))


def key_of(material: bytes) -> Secret:
    """The key that 32 bytes nobody can guess make."""
    id = "".join(_ID_LETTERS[byte % len(_ID_LETTERS)] for byte in hashlib.sha256(material).digest()[:8])
    return Secret(f"evb_{id}_{base64.urlsafe_b64encode(material).rstrip(b'=').decode()}")


def key_id_of(key: Secret) -> str:
    return key.reveal().split("_", 2)[1]


async def api_key_holder(database: Database, digests: Sequence[bytes]) -> KeyHolder | None:
    """Whose key has one of these digests (one per key of the keyring); None when unknown or revoked."""
    row = await database.row(sql.api_key_find, digests)
    if row is None or not any(hmac.compare_digest(row["digest"], digest) for digest in digests):
        return None
    limits = Limits(
        frozenset(row["services"]), frozenset(row["integrations"]), row["calls_per_minute"], row["expire_time"]
    )
    caller = Caller(row["tenant_id"], row["key_id"], row["role"], limits=limits)
    return KeyHolder(caller, row["expire_time"], row["lasts_s"], row["use_due"])


async def api_key_use(database: Database, tenant_id: str, key_id: str) -> None:
    """Remembers that the key is used now."""
    await database.run(sql.api_key_use, tenant_id, key_id)


async def api_key_create(conn: Connection, keyring: Keyring, tenant_id: str, name: str, role: int) -> Secret:
    """Makes a key without limits, and its tenant if need be. The returned text exists nowhere else."""
    key = new_key()
    await api_key_insert(conn, keyring, tenant_id, Key(name=name, role=role), key)  # type: ignore[arg-type]
    return key


async def api_key_insert(conn: Connection, keyring: Keyring, tenant_id: str, described: Key, key: Secret) -> None:
    """Stores a key, and its tenant if need be. Fills in what is output only."""
    described.id = key_id_of(key)
    expires = described.expire_time.ToDatetime(UTC) if described.HasField("expire_time") else None
    limits = (*map(list, (described.services, described.integrations)), described.calls_per_minute, expires)
    digest = keyring.digest(PURPOSE, key.reveal().encode())
    await tenant_ensure(conn, tenant_id)
    made = await conn.value(
        sql.api_key_insert, tenant_id, described.id, described.name, described.role, digest, *limits
    )
    described.create_time.FromDatetime(made)


async def tenant_exists(database: Database, tenant_id: str) -> bool:
    return bool(await database.value(sql.tenant_exists, tenant_id))


async def tenant_ensure(conn: Connection, tenant_id: str) -> None:
    await conn.run(sql.tenant_ensure, tenant_id)


async def api_key_first(database: Database, keyring: Keyring, tenant_id: str, role: int) -> Secret | None:
    """Makes a key if the database has none, once among all processes that start at the same time."""
    async with database.transaction() as conn:
        await conn.run(sql.api_key_first_lock)
        if await conn.value(sql.api_key_any):
            return None
        return await api_key_create(conn, keyring, tenant_id, "first", role)


async def api_key_get(on: Database | Connection, tenant_id: str, key_id: str) -> Key:
    """Raises ResourceNotFound."""
    row = await on.row(sql.api_key_get, tenant_id, key_id)
    if row is None:
        raise ResourceNotFound.of("key", key_id)
    return _key(row)


async def api_key_page(
    database: Database, tenant_id: str, after: str, limit: int, *, ended: bool
) -> list[tuple[str, bytes]]:
    """(id, serialized key) after the id `after`, up to `limit`; with `ended` also those that work no more."""
    rows = await database.rows(sql.api_key_page, tenant_id, after, limit, ended)
    return [(row["key_id"], _key(row).SerializeToString()) for row in rows]


async def api_key_list(database: Database, tenant_id: str = "") -> list[tuple[str, Key]]:
    """(tenant, key) in the order the keys were made, of one tenant or of all."""
    return [(row["tenant_id"], _key(row)) for row in await database.rows(sql.api_key_list, tenant_id)]


async def api_key_revoke(on: Database | Connection, tenant_id: str, key_id: str) -> bool:
    """False when the tenant has no such key in force."""
    return await on.value(sql.api_key_revoke, tenant_id, key_id) is not None


def _key(row: Record) -> Key:
    limits = {name: row[name] for name in ("services", "integrations", "calls_per_minute")}
    key = Key(id=row["key_id"], name=row["name"], role=row["role"], **limits)
    for field, column in _TIMES.items():
        if row[column] is not None:
            getattr(key, field).FromDatetime(row[column])
    return key


_TIMES = {
    "create_time": "create_time",
    "expire_time": "expire_time",
    "revoke_time": "revoke_time",
    "last_use_time": "use_time",
}

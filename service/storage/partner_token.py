"""Tokens that open our OCPI endpoints to a partner: `evbo_<secret>`, stored as keyed hashes.

A token that the partner may or may not have got goes on opening until it uses a newer one: that is how a lost answer
locks nobody out, and how each exchange ends with one token.
"""

import base64
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from evbridge.v1.registration_pb2 import PartnerToken

from service.domain.secret import Secret
from service.storage.connection import Connection
from service.storage.pool import Database
from service.storage.statements import Statements

sql = Statements.beside(__file__)
PURPOSE = "partner-token"
_SHAPE = re.compile(r"evbo_[A-Za-z0-9_-]{43}", re.ASCII)
_MAX_UNCONFIRMED = 8


@dataclass(frozen=True, slots=True)
class TokenHolder:
    """Whose token it is. `unused`: for a minute or more; `confirmed`: all older ones have ended; `exchanges`: so far.

    `platform`: parties behind it have integrations of their own.
    """

    tenant_id: str
    integration_id: str
    token_id: int
    initial: bool
    confirmed: bool
    exchanges: int
    enabled: bool
    unused: bool
    platform: bool

    @property
    def key(self) -> tuple[str, str, int]:
        return self.tenant_id, self.integration_id, self.token_id


def looks_like_token(text: str) -> bool:
    return _SHAPE.fullmatch(text) is not None


def new_token() -> Secret:
    return token_of(secrets.token_bytes(32))


def token_of(material: bytes) -> Secret:
    """The token that 32 bytes nobody can guess make."""
    return Secret(f"evbo_{base64.urlsafe_b64encode(material).rstrip(b'=').decode()}")


async def token_holder(database: Database, digests: Sequence[bytes]) -> TokenHolder | None:
    """Whose token has one of these digests (one per key of the keyring); None when nobody's."""
    row = await database.row(sql.partner_token_find, digests)
    if row is None or not any(hmac.compare_digest(row["digest"], digest) for digest in digests):
        return None
    return TokenHolder(**{name: value for name, value in row.items() if name != "digest"})


async def token_add(
    conn: Connection, tenant_id: str, integration_id: str, digest: bytes, *, initial: bool = False
) -> int:
    """Stores a token of an integration that is locked. There is one initial token at most."""
    if initial:
        await conn.run(sql.partner_token_end_initial, tenant_id, integration_id)
    token_id: int = await conn.value(sql.partner_token_add, tenant_id, integration_id, initial, digest)
    await conn.run(sql.partner_token_keep_newest, tenant_id, integration_id, _MAX_UNCONFIRMED)
    return token_id


async def token_use(conn: Connection, holder: TokenHolder, *, confirms: bool) -> None:
    """Remembers that it was used; one that is not initial ends all older ones when the use `confirms` it."""
    confirmed = confirms and not holder.initial
    await conn.run(sql.partner_token_use, *holder.key, confirmed)
    if confirmed and not holder.confirmed:
        await conn.run(sql.partner_token_end_older, *holder.key)


async def token_exchange(conn: Connection, holder: TokenHolder) -> bool:
    """Whether it may be exchanged for a newer one: it has not ended, nor was exchanged by another request meanwhile.

    It cannot end before the transaction does.
    """
    return await conn.run(sql.partner_token_exchange, *holder.key, holder.exchanges) == 1


async def token_end(conn: Connection, tenant_id: str, integration_id: str, token_id: int) -> None:
    await conn.run(sql.partner_token_end, tenant_id, integration_id, token_id)


async def tokens_end(conn: Connection, tenant_id: str, integration_id: str) -> None:
    """All of the integration's."""
    await conn.run(sql.partner_token_end_all, tenant_id, integration_id)


async def token_list(database: Database, tenant_id: str, integration_id: str) -> list[PartnerToken]:
    """Oldest first."""
    tokens = []
    for row in await database.rows(sql.partner_token_list, tenant_id, integration_id):
        token = PartnerToken(id=row["token_id"], initial=row["initial"], confirmed=row["confirmed"])
        token.create_time.FromDatetime(row["create_time"])
        if row["use_time"]:
            token.last_use_time.FromDatetime(row["use_time"])
        tokens.append(token)
    return tokens

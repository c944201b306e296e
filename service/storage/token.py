"""Tokens as rows: the serialized message and the columns that lists filter by."""

from collections.abc import Collection, Mapping, Sequence

from evbridge.v1.token_pb2 import ListTokensRequest, Token

from service.domain.keys import ObjectKey, columns
from service.domain.pages import MAX_BYTES
from service.domain.token import token_key
from service.errors import EtagMismatch, ResourceNotFound
from service.storage.connection import Connection
from service.storage.pool import Database
from service.storage.statements import Statement, Statements

sql = Statements.beside(__file__)


async def token_get(database: Database, tenant_id: str, key: ObjectKey) -> bytes:
    """The serialized token. Raises ResourceNotFound, also when it was deleted."""
    payload: bytes | None = await database.value(sql.token_get, tenant_id, *key)
    if payload is None:
        raise ResourceNotFound.of("token", key.shown)
    return payload


async def token_get_many(database: Database, tenant_id: str, keys: Sequence[ObjectKey]) -> list[bytes]:
    """The serialized tokens in the order of the keys. Raises ResourceNotFound for the first that does not exist."""
    found = await token_find(database, tenant_id, set(keys))
    for key in keys:
        if key not in found:
            raise ResourceNotFound.of("token", key.shown)
    return [found[key] for key in keys]


async def token_find(database: Database, tenant_id: str, keys: Collection[ObjectKey]) -> dict[ObjectKey, bytes]:
    """Those of the tokens that exist, serialized."""
    rows = await database.rows(sql.token_get_many, tenant_id, *columns(keys))
    return {ObjectKey.in_row(row): row["payload"] for row in rows}


async def tokens_named(database: Database, tenant_id: str, name: str) -> list[Token]:
    """Of whichever party, ours first: `name` is the type and the uid, `service.domain.token.token_id`."""
    return [
        Token.FromString(row["payload"]) for row in await database.rows(sql.tokens_named, tenant_id, name.casefold())
    ]


async def token_lock(conn: Connection, tenant_id: str, keys: Collection[ObjectKey]) -> dict[ObjectKey, Token | None]:
    """The tokens there are, kept from other writers until the transaction ends; None where a tombstone is."""
    return {
        ObjectKey.in_row(row): (None if row["delete_time"] else Token.FromString(row["payload"]))
        for row in await conn.rows(sql.token_lock, tenant_id, *columns(keys))
    }


async def token_put(
    conn: Connection, tenant_id: str, tokens: Sequence[Token], locked: Mapping[ObjectKey, Token | None]
) -> None:
    """Writes over what `token_lock` found. Raises EtagMismatch when another writer was first with a new token."""
    new = [token for token in tokens if token_key(token) not in locked]
    if new and await _write(conn, sql.token_insert, tenant_id, new) < len(new):
        raise EtagMismatch("one of the tokens was created by another call at this moment")
    if replaced := [token for token in tokens if token_key(token) in locked]:
        await _write(conn, sql.token_replace, tenant_id, replaced)


async def _write(conn: Connection, statement: Statement, tenant_id: str, tokens: Sequence[Token]) -> int:
    return await conn.run(
        statement,
        tenant_id,
        *columns([token_key(token) for token in tokens]),
        [token.type for token in tokens],
        [token.contract_id.casefold() for token in tokens],
        [token.group_id.casefold() for token in tokens],
        [token.whitelist for token in tokens],
        [token.valid for token in tokens],
        [token.etag for token in tokens],
        [token.SerializeToString() for token in tokens],
    )


async def token_tombstone(conn: Connection, tenant_id: str, key: ObjectKey) -> None:
    await conn.run(sql.token_tombstone, tenant_id, *key)


async def token_page(
    database: Database, tenant_id: str, request: ListTokensRequest, after: str, limit: int
) -> list[tuple[str, bytes]]:
    """(key, serialized token) after the key `after`, in their order, up to `limit` and about 1 MiB."""
    rows = await database.rows(
        sql.token_page,
        tenant_id,
        *ObjectKey.parsed(after, request.integration_id),
        request.country_code.upper(),
        request.party_id.upper(),
        request.type,
        request.contract_id.casefold(),
        request.group_id.casefold(),
        request.whitelist,
        request.valid if request.HasField("valid") else None,
        limit,
        MAX_BYTES,
    )
    return [(row["object_id"], row["payload"]) for row in rows]

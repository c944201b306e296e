"""Tokens as rows: the serialized message and the columns that lists filter by."""

from collections.abc import Sequence
from typing import Any

from evbridge.v1.token_pb2 import ListTokensRequest, Token

from service.domain.keys import ObjectKey
from service.domain.pages import MAX_BYTES
from service.domain.token import token_key
from service.storage.connection import Connection
from service.storage.owned import OwnedRows
from service.storage.pool import Database
from service.storage.statements import Statements

sql = Statements.beside(__file__)


def _columns(tokens: Sequence[Token]) -> tuple[list[Any], ...]:
    return (
        [token.type for token in tokens],
        [token.contract_id.casefold() for token in tokens],
        [token.group_id.casefold() for token in tokens],
        [token.whitelist for token in tokens],
        [token.valid for token in tokens],
        [token.etag for token in tokens],
        [token.SerializeToString() for token in tokens],
    )


_ROWS = OwnedRows("token", Token, sql, token_key, _columns)

token_get = _ROWS.get
token_get_many = _ROWS.get_many
token_find = _ROWS.find
token_lock = _ROWS.lock
token_put = _ROWS.put


async def tokens_named(database: Database, tenant_id: str, name: str) -> list[Token]:
    """Of whichever party, ours first: `name` is the type and the uid, `service.domain.token.token_id`."""
    return [
        Token.FromString(row["payload"]) for row in await database.rows(sql.tokens_named, tenant_id, name.casefold())
    ]


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

"""Where personal data is found, and how it goes. Tables without an index for it are searched block by block."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from evbridge.v1.command_pb2 import Command
from evbridge.v1.delivery_pb2 import ObjectKind
from evbridge.v1.run_pb2 import RunFinding
from evbridge.v1.token_pb2 import Token

from service.domain.keys import ObjectKey, PartyKey, columns
from service.storage.connection import Connection
from service.storage.pool import Database
from service.storage.statements import Statement, Statements

sql = Statements.beside(__file__)

_BLOCKS = 256
"""How many are searched at once: some megabytes, and what is stored apart of their rows."""

_WHOLE = {
    "question": sql.personal_questions,
    "idempotency": sql.personal_answers,
    "exchange": sql.personal_exchanges,
    "quarantine": sql.personal_quarantine,
    "partner_document": sql.personal_documents_orphaned,
}

Block = tuple[int, int]


class Subject(NamedTuple):
    """Whose data, all folded: that of a contract, or with "" that of a party's token, whose key is its type and uid."""

    contract: str
    party: PartyKey = PartyKey("", "")
    token: str = ""

    @property
    def uid(self) -> str:
        return self.token.partition("/")[2]

    @property
    def of_token(self) -> tuple[str, str, str]:
        return self.contract, "".join(self.party), self.token

    @property
    def of_charged(self) -> tuple[str, str, str]:
        return self.contract, "".join(self.party), self.uid


async def personal_tokens(database: Database, tenant_id: str, subject: Subject) -> dict[ObjectKey, Token]:
    rows = await database.rows(sql.personal_tokens, tenant_id, *subject.of_token)
    return {ObjectKey.in_row(row): Token.FromString(row["payload"]) for row in rows}


async def personal_sessions(database: Database, tenant_id: str, subject: Subject) -> list[ObjectKey]:
    rows = await database.rows(sql.personal_sessions, tenant_id, *subject.of_charged)
    return [ObjectKey.in_row(row) for row in rows]


async def personal_cdrs(database: Database, tenant_id: str, subject: Subject) -> list[ObjectKey]:
    rows = await database.rows(sql.personal_cdrs, tenant_id, *subject.of_charged)
    return [ObjectKey.in_row(row) for row in rows]


async def personal_sessions_old(database: Database, days: int, limit: int) -> list[tuple[str, ObjectKey]]:
    """(tenant, key) of those that last changed so many days ago and lead to drivers, the oldest first."""
    return await _old(database, sql.personal_sessions_old, days, limit)


async def personal_cdrs_old(database: Database, days: int, limit: int) -> list[tuple[str, ObjectKey]]:
    """The same of CDRs."""
    return await _old(database, sql.personal_cdrs_old, days, limit)


async def _old(database: Database, statement: Statement, days: int, limit: int) -> list[tuple[str, ObjectKey]]:
    rows = await database.rows(statement, timedelta(days=days), limit)
    return [(row["tenant_id"], ObjectKey.in_row(row)) for row in rows]


async def personal_on_the_way(
    conn: Connection, tenant_id: str, kind: ObjectKind.ValueType, object_ids: Collection[str]
) -> set[str]:
    """Which of the objects of ours have a delivery that has not ended; none begins until the transaction ends."""
    rows = await conn.rows(sql.personal_on_the_way, tenant_id, kind, [*object_ids])
    return {row["object_id"] for row in rows}


async def personal_documents(
    conn: Connection, tenant_id: str, kind: ObjectKind.ValueType, object_ids: Collection[str]
) -> dict[bytes, bytes]:
    """What partners see, were shown and were sent of the objects of ours, by its hash."""
    rows = await conn.rows(sql.personal_documents, tenant_id, kind, [*object_ids])
    return {row["hash"]: row["payload"] for row in rows}


async def personal_documents_replace(
    conn: Connection, tenant_id: str, documents: Mapping[bytes, tuple[bytes, bytes]]
) -> None:
    """`documents`: the hash of one that goes -> the hash and the content of what comes in its place."""
    hashes, payloads = zip(*documents.values(), strict=True)
    await conn.run(sql.personal_documents_replace, tenant_id, [*documents], hashes, payloads)
    await personal_documents_delete(conn, tenant_id, documents.keys() - {*hashes})


async def personal_documents_delete(conn: Connection, tenant_id: str, hashes: Collection[bytes]) -> None:
    """Those that nothing names any more."""
    await conn.run(sql.personal_documents_delete, tenant_id, [*hashes])


async def personal_peers(
    conn: Connection, tenant_id: str, kind: ObjectKind.ValueType, object_ids: Collection[str]
) -> dict[tuple[str, str], bytes]:
    """(integration, object) -> what that partner holds of it."""
    rows = await conn.rows(sql.personal_peers, tenant_id, kind, [*object_ids])
    return {(row["integration_id"], row["object_id"]): row["sent_document"] for row in rows}


async def personal_peers_replace(
    conn: Connection, tenant_id: str, kind: ObjectKind.ValueType, peers: Mapping[tuple[str, str], bytes]
) -> None:
    integrations, objects = zip(*peers, strict=True)
    await conn.run(sql.personal_peers_replace, tenant_id, kind, integrations, objects, [*peers.values()])


async def personal_tokens_delete(conn: Connection, tenant_id: str, keys: Collection[ObjectKey]) -> None:
    """With all that is stored of them but their documents and changes."""
    await conn.run(sql.personal_tokens_delete, tenant_id, *columns(keys))


async def personal_received_delete(
    conn: Connection, tenant_id: str, kind: ObjectKind.ValueType, keys: Collection[ObjectKey]
) -> None:
    """What partners sent of the objects."""
    integrations, objects = [key.integration_id for key in keys], [str(key) for key in keys]
    await conn.run(sql.personal_received_delete, tenant_id, kind, integrations, objects)


async def blocks(database: Database, table: str) -> AsyncIterator[tuple[Block, Block]]:
    """Where the rows of a table are, in pieces: from one place up to another."""
    count = await database.value(sql.personal_blocks, table)
    for first in range(0, count, _BLOCKS):
        yield (first, 0), (first + _BLOCKS, 0)


async def personal_delete(
    conn: Connection, tenant_id: str, table: str, first: Block, end: Block, patterns: Sequence[str]
) -> int:
    """The rows there that hold one of the patterns, each of which is gone as a whole."""
    return await conn.run(_WHOLE[table], tenant_id, first, end, patterns)


async def personal_changes_replace(
    conn: Connection, tenant_id: str, first: Block, end: Block, ids: Mapping[str, str]
) -> None:
    """Changes of tokens: the id that each has there -> the one that it has afterwards."""
    await conn.run(sql.personal_changes, tenant_id, first, end, [*ids], [*ids.values()])


async def personal_commands(
    conn: Connection, tenant_id: str, first: Block, end: Block, patterns: Sequence[str]
) -> dict[Any, Command]:
    """By their ids; nobody else changes them until the transaction ends."""
    rows = await conn.rows(sql.personal_commands, tenant_id, first, end, patterns)
    return {row["command_id"]: Command.FromString(row["payload"]) for row in rows}


async def personal_command_replace(conn: Connection, tenant_id: str, id: Any, command: Command) -> None:
    await conn.run(sql.personal_command_replace, tenant_id, id, command.SerializeToString())


async def personal_findings(
    conn: Connection, tenant_id: str, first: Block, end: Block, patterns: Sequence[str]
) -> dict[tuple[Any, ...], RunFinding]:
    """By what names them."""
    rows = await conn.rows(sql.personal_findings, tenant_id, first, end, patterns)
    return {(row["run_id"], row["lease_token"], row["number"]): RunFinding.FromString(row["payload"]) for row in rows}


async def personal_finding_replace(conn: Connection, tenant_id: str, key: tuple[Any, ...], finding: RunFinding) -> None:
    await conn.run(sql.personal_finding_replace, tenant_id, *key, finding.SerializeToString())

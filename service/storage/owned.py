"""Rows of objects that a party owns: the key, the columns that lists filter by, and the serialized message."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message

from service.domain.keys import ObjectKey, columns
from service.errors import EtagMismatch, ResourceNotFound
from service.storage.connection import Connection
from service.storage.pool import Database
from service.storage.statements import Statement, Statements

M = TypeVar("M", bound=Message)


class OwnedRows(Generic[M]):
    """The rows of one noun, by the statements of its file: `token_get`, `_get_many`, `_lock`, `_insert`, `_replace`.

    `key_of` makes the key of an object; `columns_of` has what the last two statements take after the keys, as lists.
    """

    def __init__(
        self,
        noun: str,
        message: type[M],
        statements: Statements,
        key_of: Callable[[Any], ObjectKey],
        columns_of: Callable[[Sequence[M]], Sequence[list[Any]]],
    ) -> None:
        self._noun = noun
        self._message = message
        self._statements = statements
        self._key_of = key_of
        self._columns_of = columns_of

    async def get(self, database: Database | Connection, tenant_id: str, key: ObjectKey) -> bytes:
        """The serialized object. Raises ResourceNotFound, also when it was deleted."""
        payload: bytes | None = await database.value(self._statement("get"), tenant_id, *key)
        if payload is None:
            raise ResourceNotFound.of(self._noun, key.shown)
        return payload

    async def get_many(self, database: Database, tenant_id: str, keys: Sequence[ObjectKey]) -> list[bytes]:
        """Serialized objects in the order of the keys. Raises ResourceNotFound for the first that does not exist."""
        return in_order(self._noun, keys, await self.find(database, tenant_id, set(keys)))

    async def find(
        self, database: Database | Connection, tenant_id: str, keys: Collection[ObjectKey]
    ) -> dict[ObjectKey, bytes]:
        """Those of the objects that exist, serialized."""
        rows = await database.rows(self._statement("get_many"), tenant_id, *columns(keys))
        return {ObjectKey.in_row(row): row["payload"] for row in rows}

    async def lock(self, conn: Connection, tenant_id: str, keys: Collection[ObjectKey]) -> dict[ObjectKey, M | None]:
        """The objects there are, kept from other writers until the transaction ends; None where a tombstone is."""
        return {
            ObjectKey.in_row(row): None if row.get("delete_time") else self._message.FromString(row["payload"])
            for row in await conn.rows(self._statement("lock"), tenant_id, *columns(keys))
        }

    async def put(
        self, conn: Connection, tenant_id: str, objects: Sequence[M], locked: Mapping[ObjectKey, M | None]
    ) -> None:
        """Writes over what `lock` found. Raises EtagMismatch when another writer was first with a new object."""
        await self.insert(conn, tenant_id, objects, locked)
        if replaced := [each for each in objects if self._key_of(each) in locked]:
            await self.write(conn, "replace", tenant_id, replaced)

    async def insert(
        self, conn: Connection, tenant_id: str, objects: Sequence[M], locked: Mapping[ObjectKey, M | None]
    ) -> None:
        """Writes those that `lock` did not find. Raises EtagMismatch when another writer was first with one."""
        new = [each for each in objects if self._key_of(each) not in locked]
        if new and await self.write(conn, "insert", tenant_id, new) < len(new):
            raise EtagMismatch(f"another call created a {self._noun} of this request at this moment")

    async def write(self, conn: Connection, verb: str, tenant_id: str, objects: Sequence[M], *more: list[Any]) -> int:
        """Runs the statement that ends in `verb`, and tells how many rows it wrote."""
        keys = columns(self._key_of(each) for each in objects)
        return await conn.run(self._statement(verb), tenant_id, *keys, *self._columns_of(objects), *more)

    def _statement(self, verb: str) -> Statement:
        statement: Statement = getattr(self._statements, f"{self._noun}_{verb}")
        return statement


def in_order(noun: str, keys: Sequence[ObjectKey], found: Mapping[ObjectKey, bytes]) -> list[bytes]:
    """What was found, in the order of the keys. Raises ResourceNotFound for the first that was not."""
    for key in keys:
        if key not in found:
            raise ResourceNotFound.of(noun, key.shown)
    return [found[key] for key in keys]

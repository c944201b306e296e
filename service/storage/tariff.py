"""Tariffs as rows: the serialized message and the columns that lists filter by."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from evbridge.v1.tariff_pb2 import ListTariffsRequest, Tariff

from service.domain.keys import ObjectKey
from service.domain.pages import MAX_BYTES
from service.errors import EtagMismatch, ResourceNotFound
from service.storage.pool import Connection, Database
from service.storage.statements import Statement, Statements

sql = Statements.beside(__file__)


@dataclass(frozen=True, slots=True)
class StoredTariff:
    """A row held under lock; `tariff` is None where only a tombstone is."""

    etag: str
    tariff: Tariff | None


async def tariff_get(database: Database, tenant_id: str, key: ObjectKey) -> bytes:
    """The serialized tariff. Raises ResourceNotFound, also when it was deleted."""
    payload: bytes | None = await database.value(sql.tariff_get, tenant_id, *key)
    if payload is None:
        raise ResourceNotFound.of("tariff", str(key))
    return payload


async def tariff_get_many(database: Database, tenant_id: str, keys: Sequence[ObjectKey]) -> list[bytes]:
    """The serialized tariffs in the order of the keys. Raises ResourceNotFound for the first that does not exist."""
    rows = await database.rows(sql.tariff_get_many, tenant_id, *_columns(set(keys)))
    found = {ObjectKey(row["country_code"], row["party_id"], row["key"]): row["payload"] for row in rows}
    for key in keys:
        if key not in found:
            raise ResourceNotFound.of("tariff", str(key))
    return [found[key] for key in keys]


async def tariff_lock(conn: Connection, tenant_id: str, keys: Collection[ObjectKey]) -> dict[ObjectKey, StoredTariff]:
    """The rows there are, kept from other writers until the transaction ends."""
    return {
        ObjectKey(row["country_code"], row["party_id"], row["key"]): StoredTariff(
            row["etag"], None if row["delete_time"] else Tariff.FromString(row["payload"])
        )
        for row in await conn.rows(sql.tariff_lock, tenant_id, *_columns(set(keys)))
    }


async def tariff_put(conn: Connection, tenant_id: str, new: Sequence[Tariff], replaced: Sequence[Tariff]) -> None:
    """Writes rows that were not there and rows that were.

    Raises EtagMismatch when another writer was first with a new row.
    """
    if new:
        written = await _write(conn, sql.tariff_insert, tenant_id, new)
        if written < len(new):
            raise EtagMismatch("one of the tariffs was created by another call at this moment")
    if replaced:
        await _write(conn, sql.tariff_replace, tenant_id, replaced)


async def _write(conn: Connection, statement: Statement, tenant_id: str, tariffs: Sequence[Tariff]) -> int:
    keys = [key_of(tariff) for tariff in tariffs]
    return await conn.run(
        statement,
        tenant_id,
        *_columns(keys),
        [tariff.type for tariff in tariffs],
        [tariff.currency for tariff in tariffs],
        [tariff.etag for tariff in tariffs],
        [tariff.SerializeToString() for tariff in tariffs],
    )


async def tariff_bury(conn: Connection, tenant_id: str, key: ObjectKey) -> None:
    """Leaves a tombstone."""
    await conn.run(sql.tariff_bury, tenant_id, *key)


async def tariff_page(
    database: Database, tenant_id: str, request: ListTariffsRequest, after: str, limit: int
) -> list[tuple[str, bytes]]:
    """(key, serialized tariff) after the key `after`, in their order, up to `limit` and about 1 MiB."""
    filters = (request.country_code.upper(), request.party_id.upper(), request.type, request.currency)
    rows = await database.rows(sql.tariff_page, tenant_id, *ObjectKey.parsed(after), *filters, limit, MAX_BYTES)
    return [(str(ObjectKey(row["country_code"], row["party_id"], row["key"])), row["payload"]) for row in rows]


def key_of(tariff: Tariff) -> ObjectKey:
    return ObjectKey.of(tariff.country_code, tariff.party_id, tariff.id)


def _columns(keys: Iterable[ObjectKey]) -> tuple[list[str], list[str], list[str]]:
    ordered = list(keys)
    return [key.country_code for key in ordered], [key.party_id for key in ordered], [key.key for key in ordered]

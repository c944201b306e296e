"""Tariffs as rows: the serialized message and the columns that lists filter by."""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from evbridge.v1.tariff_pb2 import ListTariffsRequest, Tariff

from service.domain.keys import OURS, ObjectKey, columns, key_of
from service.domain.pages import MAX_BYTES
from service.domain.tariff import end_of
from service.errors import ResourceNotFound, TariffRevisionNotKept
from service.storage.connection import Connection
from service.storage.owned import OwnedRows
from service.storage.pool import Database
from service.storage.statements import Statements

sql = Statements.beside(__file__)


def _columns(tariffs: Sequence[Tariff]) -> tuple[list[Any], ...]:
    return (
        [tariff.type for tariff in tariffs],
        [tariff.currency for tariff in tariffs],
        [tariff.etag for tariff in tariffs],
        [tariff.SerializeToString() for tariff in tariffs],
        [tariff.origin.integration_id for tariff in tariffs],
        [end_of(tariff) for tariff in tariffs],
    )


_ROWS = OwnedRows("tariff", Tariff, sql, key_of, _columns)

tariff_get = _ROWS.get
tariff_get_many = _ROWS.get_many
tariff_find = _ROWS.find
tariff_lock = _ROWS.lock


async def tariff_at(database: Database, tenant_id: str, key: ObjectKey, time: datetime) -> Tariff:
    """The tariff as it was then; one that is younger, as it was first.

    Raises ResourceNotFound when it was deleted before, TariffRevisionNotKept when that content is no longer kept.
    """
    payload: bytes | None = await database.value(sql.tariff_at, tenant_id, *key, time)
    if payload is None:
        raise ResourceNotFound.of("tariff", key.shown)
    tariff = Tariff.FromString(payload)
    if time < tariff.last_updated.ToDatetime(tzinfo=UTC) and tariff.last_updated != tariff.create_time:
        since = tariff.last_updated.ToJsonString()
        raise TariffRevisionNotKept(f"what the tariff said before {since} is not kept", id=key.shown, kept_since=since)
    return tariff


async def tariffs_hold(conn: Connection, tenant_id: str, keys: Collection[ObjectKey]) -> set[ObjectKey]:
    """Those of the tariffs that exist; they cannot be deleted until the transaction ends."""
    return {ObjectKey(*row) for row in await conn.rows(sql.tariff_hold, tenant_id, *columns(keys))}


async def tariffs_share(conn: Connection, tenant_id: str, keys: Collection[ObjectKey]) -> dict[ObjectKey, Tariff]:
    """Those of the tariffs that exist, kept as they are until the transaction ends."""
    rows = await conn.rows(sql.tariff_share, tenant_id, *columns(keys))
    return {ObjectKey.in_row(row): Tariff.FromString(row["payload"]) for row in rows}


async def tariff_companions(
    conn: Connection, tenant_id: str, keys: Collection[ObjectKey]
) -> set[tuple[ObjectKey, ObjectKey]]:
    """(one of the tariffs, another) that one EVSE names, perhaps at different connectors."""
    rows = await conn.rows(sql.tariff_companions, tenant_id, *columns(keys))
    return {(key, key._replace(key=row["other_key"])) for row in rows for key in (ObjectKey.in_row(row),)}


async def tariff_imported(database: Database, tenant_id: str, integration_id: str) -> set[str]:
    """The ids that the partner gave the tariffs that were imported through the integration."""
    rows = await database.rows(sql.tariff_imported, tenant_id, integration_id, OURS)
    return {Tariff.FromString(row["payload"]).origin.external_id for row in rows}


async def tariff_put(
    conn: Connection, tenant_id: str, tariffs: Sequence[Tariff], locked: Mapping[ObjectKey, Tariff | None]
) -> None:
    """Writes over what `tariff_lock` found and keeps what is replaced.

    Raises EtagMismatch when another writer was first with a new tariff.
    """
    await _ROWS.insert(conn, tenant_id, tariffs, locked)
    if replaced := [tariff for tariff in tariffs if key_of(tariff) in locked]:
        ends = [tariff.last_updated.ToDatetime(tzinfo=UTC) for tariff in replaced]
        await conn.run(sql.tariff_keep, tenant_id, *columns([key_of(tariff) for tariff in replaced]), ends)
        ends_before = [end_of(locked[key_of(tariff)]) for tariff in replaced]
        await _ROWS.write(conn, "replace", tenant_id, replaced, ends_before)


async def tariff_tombstone(conn: Connection, tenant_id: str, key: ObjectKey) -> None:
    """Leaves a tombstone, and keeps what the tariff said: the tombstone goes earlier."""
    await conn.run(sql.tariff_tombstone, tenant_id, *key)
    await conn.run(sql.tariff_keep, tenant_id, *columns([key]), [None])


async def tariff_page(
    database: Database, tenant_id: str, request: ListTariffsRequest, after: str, limit: int
) -> list[tuple[str, bytes]]:
    """(key, serialized tariff) after the key `after`, in their order, up to `limit` and about 1 MiB."""
    filters = (request.country_code.upper(), request.party_id.upper(), request.type, request.currency)
    key, origin = ObjectKey.parsed(after, request.integration_id), request.origin_integration_id
    rows = await database.rows(sql.tariff_page, tenant_id, *key, *filters, limit, MAX_BYTES, origin)
    return [(row["object_id"], row["payload"]) for row in rows]


async def tariff_locations(conn: Connection, tenant_id: str, key: ObjectKey) -> int:
    """How many locations name the tariff."""
    count: int = await conn.value(sql.tariff_locations, tenant_id, *key)
    return count


async def tariff_rules(conn: Connection, tenant_id: str, key: ObjectKey) -> int:
    """How many publication rules name the tariff."""
    count: int = await conn.value(sql.tariff_rules, tenant_id, str(key))
    return count

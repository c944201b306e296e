"""CDRs as rows: the serialized message and the columns that lists filter by. What they say is written once."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from evbridge.v1.cdr_pb2 import Cdr, ListCdrsRequest

from service.domain.keys import ObjectKey, columns, key_of
from service.storage.charged import charged_columns, charged_filters
from service.storage.connection import Connection
from service.storage.owned import OwnedRows
from service.storage.pool import Database
from service.storage.statements import Statements

sql = Statements.beside(__file__)


def _columns(cdrs: Sequence[Cdr]) -> tuple[list[Any], ...]:
    return (
        [cdr.currency for cdr in cdrs],
        [cdr.session_id.casefold() for cdr in cdrs],
        [cdr.credit_reference_id.casefold() for cdr in cdrs],
        [cdr.audit.state for cdr in cdrs],
        *charged_columns(cdrs, [cdr.cdr_location.id for cdr in cdrs]),
    )


_ROWS = OwnedRows("cdr", Cdr, sql, key_of, _columns)

cdr_get = _ROWS.get
cdr_get_many = _ROWS.get_many
cdr_find = _ROWS.find
cdr_lock = _ROWS.lock
cdr_put = _ROWS.insert


async def cdr_credits(conn: Connection, tenant_id: str, keys: Collection[ObjectKey]) -> dict[ObjectKey, str]:
    """Those of the CDRs that are taken back, each with the folded id of the credit CDR."""
    rows = await conn.rows(sql.cdr_credits, tenant_id, *columns(keys))
    return {ObjectKey.in_row(row): row["credit_key"] for row in rows}


async def cdr_replace(
    conn: Connection, tenant_id: str, cdrs: Sequence[Cdr], locked: Mapping[ObjectKey, Cdr | None]
) -> None:
    """Writes over CDRs that `cdr_lock` found, of which the token alone is another."""
    tokens = [cdr.cdr_token for cdr in cdrs]
    await conn.run(
        sql.cdr_replace,
        tenant_id,
        *columns([key_of(cdr) for cdr in cdrs]),
        [token.uid.casefold() for token in tokens],
        [token.contract_id.casefold() for token in tokens],
        [cdr.etag for cdr in cdrs],
        [cdr.SerializeToString() for cdr in cdrs],
    )


async def cdr_page(
    database: Database, tenant_id: str, request: ListCdrsRequest, after: str, limit: int
) -> list[tuple[str, bytes]]:
    """(place, serialized CDR) after the place `after`, by their start, up to `limit` and about 1 MiB."""
    ids = (request.session_id.casefold(), request.credit_reference_id.casefold())
    own = (*ids, request.currency, request.audit_state)
    rows = await database.rows(sql.cdr_page, tenant_id, *charged_filters(request, after, limit), *own)
    return [(row["place"], row["payload"]) for row in rows]


async def cdr_audit_due(database: Database) -> tuple[str, ObjectKey, Cdr] | None:
    """(tenant, key, CDR) of the one whose audit is due the longest; it is the caller's for a minute."""
    row = await database.row(sql.cdr_audit_due)
    return None if row is None else (row["tenant_id"], ObjectKey.in_row(row), Cdr.FromString(row["payload"]))


async def cdr_audited(conn: Connection, tenant_id: str, key: ObjectKey, cdr: Cdr, wanted: ObjectKey | None) -> bool:
    """Stores what its audit found, and the tariff that it `wanted`.

    False when another audit was first, or it is gone or changed.
    """
    payload = cdr.SerializeToString()
    found = (cdr.audit.state, payload, cdr.etag, str(wanted or ""))
    return bool(await conn.value(sql.cdr_audited, tenant_id, *key, *found))


async def cdr_audit_alone(conn: Connection, tenant_id: str, integration_id: str) -> None:
    """No tariff arrives through the integration until the transaction ends."""
    await conn.run(sql.cdr_audit_alone, tenant_id, integration_id)


async def cdr_audit_again(
    conn: Connection, tenant_id: str, integration_id: str, tariffs: Collection[ObjectKey]
) -> None:
    """Those CDRs are due that could not be priced without one of these tariffs, which have just been stored."""
    await conn.run(sql.cdr_audit_beside, tenant_id, integration_id)
    await conn.run(sql.cdr_audit_again, tenant_id, integration_id, [*map(str, tariffs)])

"""Invoice reconciliation records as rows: the serialized message and the columns that lists filter by."""

from collections.abc import Sequence
from datetime import UTC
from typing import Any

from evbridge.v1.invoice_reconciliation_pb2 import (
    InvoiceReconciliationRecord,
    ListInvoiceReconciliationRecordsRequest,
)

from service.domain.keys import ObjectKey, key_of
from service.domain.pages import MAX_BYTES
from service.storage.connection import Connection
from service.storage.owned import OwnedRows
from service.storage.pool import Database
from service.storage.statements import Statements

sql = Statements.beside(__file__)


def _columns(records: Sequence[InvoiceReconciliationRecord]) -> tuple[list[Any], ...]:
    return (
        [record.invoice_id.casefold() for record in records],
        ["\n".join(record.cdrs).casefold() for record in records],
        [record.recipient_integration_id for record in records],
        [record.last_updated.ToDatetime(tzinfo=UTC) for record in records],
        [record.etag for record in records],
        [record.SerializeToString() for record in records],
    )


_ROWS = OwnedRows("invoice_reconciliation", InvoiceReconciliationRecord, sql, key_of, _columns)

invoice_reconciliation_get = _ROWS.get
invoice_reconciliation_get_many = _ROWS.get_many
invoice_reconciliation_find = _ROWS.find
invoice_reconciliation_lock = _ROWS.lock
invoice_reconciliation_put = _ROWS.put


async def invoice_reconciliation_tombstone(conn: Connection, tenant_id: str, key: ObjectKey) -> str:
    """Returns the integration that the record went to; "" of one that was received."""
    recipient_id: str = await conn.value(sql.invoice_reconciliation_tombstone, tenant_id, *key)
    return recipient_id


async def invoice_reconciliation_page(
    database: Database, tenant_id: str, request: ListInvoiceReconciliationRecordsRequest, after: str, limit: int
) -> list[tuple[str, bytes]]:
    """(key, serialized record) after the key `after`, in their order, up to `limit` and about 1 MiB."""
    rows = await database.rows(
        sql.invoice_reconciliation_page,
        tenant_id,
        *ObjectKey.parsed(after, request.integration_id),
        request.country_code.upper(),
        request.party_id.upper(),
        request.invoice_id.casefold(),
        request.cdr_id.casefold(),
        request.recipient_integration_id,
        request.updated_from.ToDatetime(tzinfo=UTC) if request.HasField("updated_from") else None,
        request.updated_to.ToDatetime(tzinfo=UTC) if request.HasField("updated_to") else None,
        limit,
        MAX_BYTES,
    )
    return [(row["object_id"], row["payload"]) for row in rows]

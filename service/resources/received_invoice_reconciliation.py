"""Invoice reconciliation records that partners send. See service.resources.received."""

from datetime import datetime
from functools import partial

from evbridge.v1.delivery_pb2 import OBJECT_KIND_INVOICE_RECONCILIATION_RECORD

from service.domain.caller import Caller
from service.domain.keys import ObjectKey
from service.errors import ResourceNotFound
from service.resources.documents import Sender, invoice_reconciliation_of
from service.resources.mutation import record
from service.resources.received import change_of, check_party, transact
from service.resources.received_object import Whole, object_received, objects_received, received_object
from service.storage.changes import DELETE
from service.storage.connection import Connection
from service.storage.invoice_reconciliation import (
    invoice_reconciliation_lock,
    invoice_reconciliation_put,
    invoice_reconciliation_tombstone,
)
from service.storage.pool import Database
from service.storage.received import documents_delete

_RECORDS = Whole(
    "invoice_reconciliation",
    "id",
    OBJECT_KIND_INVOICE_RECONCILIATION_RECORD,
    invoice_reconciliation_of,
    invoice_reconciliation_lock,
    invoice_reconciliation_put,
)

invoice_reconciliations_received = partial(objects_received, _RECORDS)
invoice_reconciliation_received = partial(object_received, _RECORDS)
received_invoice_reconciliation = partial(received_object, _RECORDS)


async def invoice_reconciliation_removed(database: Database, caller: Caller, sender: Sender, key: ObjectKey) -> None:
    """Raises ResourceNotFound."""
    check_party(sender, key)

    async def work(conn: Connection, now: datetime) -> None:
        stored = (await invoice_reconciliation_lock(conn, caller.tenant_id, [key])).get(key)
        if stored is None:
            raise ResourceNotFound.of("invoice_reconciliation", key.shown)
        await invoice_reconciliation_tombstone(conn, caller.tenant_id, key)
        await documents_delete(
            conn, caller.tenant_id, sender.integration_id, OBJECT_KIND_INVOICE_RECONCILIATION_RECORD, str(key)
        )
        await record(conn, caller, OBJECT_KIND_INVOICE_RECONCILIATION_RECORD, [change_of(key, DELETE, stored.etag)])

    await transact(database, work)

"""Invoice reconciliation records of ours: how they are stored and deleted, and whom they go to."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from evbridge.v1.delivery_pb2 import OBJECT_KIND_INVOICE_RECONCILIATION_RECORD
from evbridge.v1.invoice_reconciliation_pb2 import InvoiceReconciliationRecord, InvoiceReconciliationRecordKey

from service.domain.keys import ObjectKey, key_of
from service.errors import EvbridgeError, FieldViolation, InvalidArgument, ResourceNotFound
from service.resources.noun import Pending, dangling
from service.resources.objects import Owned
from service.storage.changes import delivery_mark_at
from service.storage.connection import Connection
from service.storage.integration import integration_hold, integration_takes
from service.storage.invoice_reconciliation import (
    invoice_reconciliation_lock,
    invoice_reconciliation_put,
    invoice_reconciliation_tombstone,
)


class InvoiceReconciliationRecords(Owned[InvoiceReconciliationRecord]):
    """Each goes to the integration that it names, and is deleted where it went before."""

    noun = "invoice_reconciliation"
    kind = OBJECT_KIND_INVOICE_RECONCILIATION_RECORD
    key = InvoiceReconciliationRecordKey
    lock = staticmethod(invoice_reconciliation_lock)

    async def write(
        self,
        conn: Connection,
        tenant_id: str,
        objects: Sequence[InvoiceReconciliationRecord],
        locked: Mapping[ObjectKey, InvoiceReconciliationRecord | None],
    ) -> None:
        await invoice_reconciliation_put(conn, tenant_id, objects, locked)
        due: dict[str, set[ObjectKey]] = {}
        for each in objects:
            for one in (each, locked.get(key_of(each)) or each):
                due.setdefault(one.recipient_integration_id, set()).add(key_of(each))
        for integration_id in sorted(due):
            await delivery_mark_at(conn, tenant_id, integration_id, self.kind, sorted(due[integration_id]))

    async def remove(self, conn: Connection, tenant_id: str, key: ObjectKey) -> None:
        recipient_id = await invoice_reconciliation_tombstone(conn, tenant_id, key)
        await delivery_mark_at(conn, tenant_id, recipient_id, self.kind, [key])

    async def refused(
        self, conn: Connection, tenant_id: str, pending: Mapping[Any, Pending[InvoiceReconciliationRecord]]
    ) -> Mapping[Any, EvbridgeError]:
        refused = dict(await super().refused(conn, tenant_id, pending))
        named = {each.wanted.recipient_integration_id for each in pending.values()} - {""}
        takes = {id: await _takes(conn, tenant_id, id) for id in sorted(named)}
        for key, each in pending.items():
            if key not in refused and (error := _unaddressed(each, takes)):
                refused[key] = error
        return refused


async def _takes(conn: Connection, tenant_id: str, integration_id: str) -> Collection[int] | None:
    """What is delivered through the integration, which stays until the transaction ends; None when there is none."""
    try:
        await integration_hold(conn, tenant_id, integration_id)
    except ResourceNotFound:
        return None
    return await integration_takes(conn, tenant_id, integration_id)


def _unaddressed(
    pending: Pending[InvoiceReconciliationRecord], takes: Mapping[str, Collection[int] | None]
) -> EvbridgeError | None:
    """Why it goes nowhere."""
    id, path = pending.wanted.recipient_integration_id, f"{pending.path}.recipient_integration_id"
    if not id:
        return InvalidArgument.field(path, "is required: the integration with the partner that the invoice is for")
    kinds = takes[id]
    if kinds is None:
        return dangling("integration", id, (FieldViolation(path, "is not an integration"),))
    if OBJECT_KIND_INVOICE_RECONCILIATION_RECORD not in kinds:
        return InvalidArgument.field(path, "is not an integration with an OCPI party: only those take such records")
    return None


INVOICE_RECONCILIATION_RECORDS = InvoiceReconciliationRecords()

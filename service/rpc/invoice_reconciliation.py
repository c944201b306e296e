"""evbridge.v1.InvoiceReconciliationService."""

from evbridge.v1.invoice_reconciliation_pb2 import (
    BatchGetInvoiceReconciliationRecordsRequest,
    BatchUpsertInvoiceReconciliationRecordsRequest,
    BatchUpsertInvoiceReconciliationRecordsResponse,
    CreateInvoiceReconciliationRecordRequest,
    DeleteInvoiceReconciliationRecordRequest,
    GetInvoiceReconciliationRecordRequest,
    ListInvoiceReconciliationRecordsRequest,
    UpdateInvoiceReconciliationRecordRequest,
)

from service.domain.caller import Caller
from service.domain.keys import key_of
from service.domain.pages import batch_response, key_before, list_response, page_size
from service.resources.invoice_reconciliation import INVOICE_RECONCILIATION_RECORDS
from service.resources.mutation import mutate_delete, mutate_many, mutate_one
from service.resources.noun import Upsert
from service.storage.invoice_reconciliation import (
    invoice_reconciliation_get,
    invoice_reconciliation_get_many,
    invoice_reconciliation_page,
)
from service.storage.keyring import Keyring
from service.storage.pool import Database


class InvoiceReconciliationService:
    def __init__(self, database: Database, keyring: Keyring) -> None:
        self._database = database
        self._keyring = keyring

    async def CreateInvoiceReconciliationRecord(
        self, request: CreateInvoiceReconciliationRecordRequest, caller: Caller
    ) -> bytes:
        upsert = Upsert(INVOICE_RECONCILIATION_RECORDS, request.record, "record", may_exist=False)
        return await mutate_one(self._database, self._keyring, request, caller, upsert)

    async def GetInvoiceReconciliationRecord(
        self, request: GetInvoiceReconciliationRecordRequest, caller: Caller
    ) -> bytes:
        return await invoice_reconciliation_get(self._database, caller.tenant_id, key_of(request.key))

    async def BatchGetInvoiceReconciliationRecords(
        self, request: BatchGetInvoiceReconciliationRecordsRequest, caller: Caller
    ) -> bytes:
        keys = [key_of(key) for key in request.keys]
        return batch_response(await invoice_reconciliation_get_many(self._database, caller.tenant_id, keys))

    async def ListInvoiceReconciliationRecords(
        self, request: ListInvoiceReconciliationRecordsRequest, caller: Caller
    ) -> bytes:
        after, size = key_before(request), page_size(request.page_size)
        rows = await invoice_reconciliation_page(self._database, caller.tenant_id, request, after, size + 1)
        return list_response(request, rows, size)

    async def UpdateInvoiceReconciliationRecord(
        self, request: UpdateInvoiceReconciliationRecordRequest, caller: Caller
    ) -> bytes:
        upsert = Upsert(
            INVOICE_RECONCILIATION_RECORDS,
            request.record,
            "record",
            may_be_missing=request.allow_missing,
            mask=request.update_mask.paths,
        )
        return await mutate_one(self._database, self._keyring, request, caller, upsert)

    async def BatchUpsertInvoiceReconciliationRecords(
        self, request: BatchUpsertInvoiceReconciliationRecordsRequest, caller: Caller
    ) -> bytes:
        upserts = [
            Upsert(INVOICE_RECONCILIATION_RECORDS, each, f"records[{number}]", may_be_missing=request.allow_missing)
            for number, each in enumerate(request.records)
        ]
        answer = BatchUpsertInvoiceReconciliationRecordsResponse
        return await mutate_many(self._database, self._keyring, request, caller, upserts, answer, "record")

    async def DeleteInvoiceReconciliationRecord(
        self, request: DeleteInvoiceReconciliationRecordRequest, caller: Caller
    ) -> bytes:
        key = key_of(request.key)
        return await mutate_delete(self._database, self._keyring, request, caller, INVOICE_RECONCILIATION_RECORDS, key)

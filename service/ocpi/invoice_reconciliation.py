"""OCPI's invoice reconciliation module: which CDRs our invoices are about, and those of partners that invoice us.

Source: OCPI 2.3.0, invoice reconciliation. Either side may be the operator, so every partner is offered both.
"""

from evbridge.partner.ocpi.v2 import invoice_reconciliation_pb2 as ocpi
from evbridge.v1.delivery_pb2 import OBJECT_KIND_INVOICE_RECONCILIATION_RECORD
from evbridge.v1.invoice_reconciliation_pb2 import InvoiceReconciliationRecord
from evbridge.v1.party_pb2 import PARTY_ROLE_UNSPECIFIED

from service.bridge.edge import Reply
from service.domain.keys import ObjectKey
from service.domain.received import Document
from service.ocpi.listener import Visit
from service.ocpi.modules import (
    caller_of,
    check_owner,
    document_in,
    done,
    enveloped,
    key_in,
    key_in_body,
    refusing,
    sender_of,
    shown,
)
from service.ocpi.pages import Documents, page
from service.resources.received_invoice_reconciliation import (
    invoice_reconciliation_received,
    invoice_reconciliation_removed,
    received_invoice_reconciliation,
)
from service.runs.worker import Tools


class InvoiceReconciliationSender:
    """evbridge.partner.ocpi.v2.InvoiceReconciliationSenderService, served: the partner's view."""

    def __init__(self, tools: Tools, documents: Documents) -> None:
        self._tools = tools
        self._documents = documents

    async def ListInvoiceReconciliationRecords(
        self, request: ocpi.ListInvoiceReconciliationRecordsRequest, visit: Visit
    ) -> Reply:
        return await page(
            self._tools, self._documents, OBJECT_KIND_INVOICE_RECONCILIATION_RECORD, InvoiceReconciliationRecord, visit
        )


class InvoiceReconciliationReceiver:
    """evbridge.partner.ocpi.v2.InvoiceReconciliationReceiverService, served. Both POST and PUT store what is newer."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    async def GetReceivedInvoiceReconciliationRecord(
        self, request: ocpi.GetReceivedInvoiceReconciliationRecordRequest, visit: Visit
    ) -> Reply:
        key = key_in(request, request.record_id, visit)
        with refusing():
            return await shown(await received_invoice_reconciliation(self._tools.database, visit.tenant_id, key))

    async def PostInvoiceReconciliationRecord(
        self, request: ocpi.PostInvoiceReconciliationRecordRequest, visit: Visit
    ) -> Reply:
        document = await document_in(visit)
        return await self._receive(key_in_body(document, visit), document, visit)

    async def PutInvoiceReconciliationRecord(
        self, request: ocpi.PutInvoiceReconciliationRecordRequest, visit: Visit
    ) -> Reply:
        key, document = key_in(request, request.record_id, visit), await document_in(visit)
        check_owner(document, key)
        return await self._receive(key, document, visit)

    async def DeleteInvoiceReconciliationRecord(
        self, request: ocpi.DeleteInvoiceReconciliationRecordRequest, visit: Visit
    ) -> Reply:
        key = key_in(request, request.record_id, visit)
        sender = await sender_of(self._tools, visit, key, PARTY_ROLE_UNSPECIFIED)
        with refusing():
            await invoice_reconciliation_removed(self._tools.database, caller_of(visit), sender, key)
        return Reply(body=enveloped())

    async def _receive(self, key: ObjectKey, document: Document, visit: Visit) -> Reply:
        sender = await sender_of(self._tools, visit, key, PARTY_ROLE_UNSPECIFIED)
        with refusing():
            receipt = await invoice_reconciliation_received(
                self._tools.database, caller_of(visit), sender, key, document
            )
        return done(receipt, key)

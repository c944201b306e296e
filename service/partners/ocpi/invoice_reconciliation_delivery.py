"""Brings an invoice reconciliation record to the partner that the invoice is for, and deletes it there.

Source: OCPI 2.3.0, invoice reconciliation, Receiver interface. One that the partner may have is sent by PUT, which
may be repeated; a partner that does not have it says so, and is sent it by POST.
"""

import asyncio

from evbridge.partner.ocpi.v2.invoice_reconciliation_pb2 import (
    DeleteInvoiceReconciliationRecordRequest,
    PostInvoiceReconciliationRecordRequest,
    PutInvoiceReconciliationRecordRequest,
)
from evbridge.partner.ocpi.v2.invoice_reconciliation_pb2_grpc import InvoiceReconciliationReceiverServiceStub
from evbridge.v1.delivery_pb2 import PEER_OBJECT_STATE_LINKED, PEER_OBJECT_STATE_NONE
from evbridge.v1.invoice_reconciliation_pb2 import InvoiceReconciliationRecord
from google.protobuf.struct_pb2 import Struct

from service.bridge.channel import PartnerChannel
from service.delivery.disclosures import sending
from service.delivery.worker import Delivered
from service.domain.keys import ObjectKey
from service.domain.partner_error import PartnerNotFound
from service.partners.ocpi.mapping import object_to, struct_of
from service.storage.delivery import Claim
from service.storage.peer import Peer
from service.storage.pool import Database


class InvoiceReconciliationDelivery:
    """One attempt, at the receiver at `url`."""

    def __init__(
        self, database: Database, channel: PartnerChannel, claim: Claim, peer: Peer, *, version: str, url: str
    ) -> None:
        self._database = database
        self._claim = claim
        self._peer = peer
        self._version = version
        self._at = {"integration_id": claim.integration_id, "url": url}
        self._records = channel.stub(InvoiceReconciliationReceiverServiceStub, claim.tenant_id)

    async def deliver(self, wanted: InvoiceReconciliationRecord) -> Delivered:
        """Raises LeaseLost, and what the channel raises."""
        payload = wanted.SerializeToString()
        linked = self._peer.state == PEER_OBJECT_STATE_LINKED and not self._claim.verify
        if linked and self._peer.sent_document == payload:
            return Delivered(self._peer, 0, "the partner already holds this state", answered=False)
        body = await asyncio.to_thread(_body, wanted, self._version)
        async with sending(self._database, self._claim, self._peer, payload, wanted):
            if self._peer.state == PEER_OBJECT_STATE_NONE or not await self._put(wanted, body):
                await self._records.PostInvoiceReconciliationRecord(
                    PostInvoiceReconciliationRecordRequest(**self._at, object=body)
                )
        held = Peer(PEER_OBJECT_STATE_LINKED, wanted.id, sent_document=payload)
        return Delivered(held, 0, "stored at the partner")

    async def delete(self, key: ObjectKey) -> Delivered:
        """Raises LeaseLost, and what the channel raises."""
        if self._peer.state == PEER_OBJECT_STATE_NONE:
            return Delivered(None, 0, "the partner does not see it", answered=False)
        sent = InvoiceReconciliationRecord.FromString(self._peer.sent_document or b"")
        request = DeleteInvoiceReconciliationRecordRequest(
            **self._at, country_code=key.country_code, party_id=key.party_id, record_id=sent.id or key.key
        )
        try:
            async with sending(self._database, self._claim, self._peer, self._peer.sent_document, None):
                await self._records.DeleteInvoiceReconciliationRecord(request)
        except PartnerNotFound as error:
            _check_said(error)
            return Delivered(None, 0, "was already gone at the partner")
        return Delivered(None, 0, "deleted at the partner")

    async def _put(self, wanted: InvoiceReconciliationRecord, body: Struct) -> bool:
        """False when the partner says that it has no such record."""
        request = PutInvoiceReconciliationRecordRequest(
            **self._at,
            country_code=wanted.country_code,
            party_id=wanted.party_id,
            record_id=wanted.id,
            object=body,
        )
        try:
            await self._records.PutInvoiceReconciliationRecord(request)
        except PartnerNotFound as error:
            _check_said(error)
            return False
        return True


def _check_said(error: PartnerNotFound) -> None:
    """Raises it unless the partner says it: an outage may answer 404, too."""
    if not error.partner_code.startswith("2"):
        raise error


def _body(record: InvoiceReconciliationRecord, version: str) -> Struct:
    return struct_of(object_to(record, version).object)

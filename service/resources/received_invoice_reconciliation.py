"""Invoice reconciliation records that partners send. See service.resources.received."""

from functools import partial

from evbridge.v1.delivery_pb2 import OBJECT_KIND_INVOICE_RECONCILIATION_RECORD

from service.resources.documents import invoice_reconciliation_of
from service.resources.received_object import Whole, object_received, object_removed, objects_received, received_object
from service.storage.invoice_reconciliation import (
    invoice_reconciliation_lock,
    invoice_reconciliation_put,
    invoice_reconciliation_tombstone,
)

_RECORDS = Whole(
    "invoice_reconciliation",
    "id",
    OBJECT_KIND_INVOICE_RECONCILIATION_RECORD,
    invoice_reconciliation_of,
    invoice_reconciliation_lock,
    invoice_reconciliation_put,
    tombstone=invoice_reconciliation_tombstone,
)

invoice_reconciliations_received = partial(objects_received, _RECORDS)
invoice_reconciliation_received = partial(object_received, _RECORDS)
received_invoice_reconciliation = partial(received_object, _RECORDS)
invoice_reconciliation_removed = partial(object_removed, _RECORDS)

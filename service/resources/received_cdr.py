"""CDRs that operators send: recorded once. See service.resources.received."""

from functools import partial

from evbridge.v1.delivery_pb2 import OBJECT_KIND_CDR

from service.resources.documents import cdr_of
from service.resources.received_object import Whole, object_received, objects_received, received_object
from service.storage.cdr import cdr_lock, cdr_put

_CDRS = Whole("cdr", "id", OBJECT_KIND_CDR, cdr_of, cdr_lock, cdr_put, once=True)

cdrs_received = partial(objects_received, _CDRS)
cdr_received = partial(object_received, _CDRS)
received_cdr = partial(received_object, _CDRS)

"""Sessions that operators send. See service.resources.received."""

from functools import partial

from evbridge.v1.delivery_pb2 import OBJECT_KIND_SESSION

from service.domain.received import session_merged
from service.resources.documents import session_of
from service.resources.received_object import Whole, object_received, objects_received, received_object
from service.storage.session import session_lock, session_put

_SESSIONS = Whole("session", "id", OBJECT_KIND_SESSION, session_of, session_lock, session_put, session_merged)

sessions_received = partial(objects_received, _SESSIONS)
session_received = partial(object_received, _SESSIONS)
received_session = partial(received_object, _SESSIONS)

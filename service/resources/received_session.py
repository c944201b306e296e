"""Sessions that operators send. See service.resources.received."""

from functools import partial

from evbridge.v1.delivery_pb2 import OBJECT_KIND_SESSION
from evbridge.v1.session_pb2 import Session, SessionStatus

from service.domain.charged import changes_ended
from service.domain.received import session_merged
from service.errors import FieldViolation
from service.resources.documents import Notices, session_of
from service.resources.received_object import Whole, object_received, objects_received, received_object
from service.storage.session import session_lock, session_put


def _remarks(before: Session, new: Session) -> Notices:
    """OCPI has no session change that has ended; yet it is the operator's, so his newest word is stored."""
    if not changes_ended(before, new):
        return ()
    ended = SessionStatus.Name(before.status).removeprefix("SESSION_STATUS_")
    return (FieldViolation("status", f"was {ended}, after which nothing may change: stored all the same"),)


_SESSIONS = Whole(
    "session", "id", OBJECT_KIND_SESSION, session_of, session_lock, session_put, session_merged, remarks=_remarks
)

sessions_received = partial(objects_received, _SESSIONS)
session_received = partial(object_received, _SESSIONS)
received_session = partial(received_object, _SESSIONS)

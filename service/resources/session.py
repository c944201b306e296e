"""Sessions of ours: how they are stored."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from evbridge.v1.delivery_pb2 import OBJECT_KIND_SESSION
from evbridge.v1.session_pb2 import Session, SessionKey

from service.domain.charged import changes_ended
from service.errors import EvbridgeError, SessionEnded
from service.resources.charged import Charged
from service.resources.noun import Pending
from service.storage.connection import Connection
from service.storage.session import session_lock, session_put


class Sessions(Charged[Session]):
    noun = "session"
    kind = OBJECT_KIND_SESSION
    key = SessionKey
    lock = staticmethod(session_lock)
    put = staticmethod(session_put)

    async def refused(
        self, conn: Connection, tenant_id: str, pending: Mapping[Any, Pending[Session]]
    ) -> Mapping[Any, EvbridgeError]:
        """Also those that have ended. What is imported is the word of the operator's system."""
        ended = {
            key: SessionEnded(f"{key.shown} has ended, and changes no more", id=key.shown)
            for key, each in pending.items()
            if each.before and not each.imported and changes_ended(each.before, each.wanted)
        }
        return ended | dict(await super().refused(conn, tenant_id, pending))

    def stamp(self, wanted: Session, before: Session | None, now: datetime) -> None:
        if before and before.HasField("charging_preferences"):
            wanted.charging_preferences.CopyFrom(before.charging_preferences)


SESSIONS = Sessions()

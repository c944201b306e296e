"""Sessions of ours: how they are stored."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from evbridge.v1.delivery_pb2 import OBJECT_KIND_SESSION
from evbridge.v1.session_pb2 import Session, SessionKey

from service.domain.charged import changes_ended
from service.domain.keys import ObjectKey
from service.errors import EvbridgeError, SessionEnded
from service.resources.charged import Charged, mark_recipients
from service.resources.noun import Pending
from service.storage.connection import Connection
from service.storage.session import session_lock, session_put


class Sessions(Charged[Session]):
    noun = "session"
    kind = OBJECT_KIND_SESSION
    key = SessionKey

    async def lock(
        self, conn: Connection, tenant_id: str, keys: Collection[ObjectKey]
    ) -> Mapping[ObjectKey, Session | None]:
        return await session_lock(conn, tenant_id, keys)

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

    async def write(
        self, conn: Connection, tenant_id: str, objects: Sequence[Session], locked: Mapping[ObjectKey, Session | None]
    ) -> None:
        await session_put(conn, tenant_id, objects, locked)
        await mark_recipients(conn, tenant_id, self.kind, objects, locked)

    def stamp(self, wanted: Session, before: Session | None, now: datetime) -> None:
        if before and before.HasField("charging_preferences"):
            wanted.charging_preferences.CopyFrom(before.charging_preferences)

    async def remove(self, conn: Connection, tenant_id: str, key: ObjectKey) -> None:
        raise AssertionError("a session is not deleted")


SESSIONS = Sessions()

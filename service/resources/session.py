"""Sessions of ours: how they are stored."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from evbridge.v1.delivery_pb2 import OBJECT_KIND_SESSION
from evbridge.v1.session_pb2 import Session, SessionKey

from service.domain.keys import ObjectKey
from service.resources.charged import Charged, mark_recipients
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

"""How drivers want to be charged: who tells operators, and what is kept of it in sessions of ours."""

from datetime import datetime
from typing import Protocol

from evbridge.v1.charging_preferences_pb2 import ChargingPreferences, ChargingPreferencesResponse
from evbridge.v1.delivery_pb2 import OBJECT_KIND_SESSION
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from service.domain.caller import Caller
from service.domain.keys import ObjectKey
from service.resources.mutation import mutate, record
from service.storage.changes import UPDATE, Change
from service.storage.connection import Connection
from service.storage.keyring import Keyring
from service.storage.pool import Database
from service.storage.session import session_lock, session_put


class PreferencesTeller(Protocol):
    """Tells one type of operators."""

    async def tell(
        self, tenant_id: str, integration_id: str, session_id: str, wanted: ChargingPreferences, timeout_s: float
    ) -> ChargingPreferencesResponse.ValueType:
        """Raises EvbridgeError."""
        ...


async def preferences_keep(
    database: Database, keyring: Keyring, request: Message, caller: Caller, key: ObjectKey, wanted: ChargingPreferences
) -> None:
    """In the session, whose content they do not change: its partner is not told them back."""

    async def work(conn: Connection, now: datetime) -> Empty:
        locked = await session_lock(conn, caller.tenant_id, [key])
        if session := locked.get(key):
            session.charging_preferences.CopyFrom(wanted)
            await session_put(conn, caller.tenant_id, [session], locked)
            await record(conn, caller, OBJECT_KIND_SESSION, [Change(str(key), UPDATE, session.etag)])
            caller.trail.name(["charging_preferences"])
        return Empty()

    await mutate(database, keyring, request, caller, work)

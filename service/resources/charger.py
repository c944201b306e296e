"""Chargers: how they are stored, imported and deleted."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from evbridge.v1.charger_pb2 import Charger
from evbridge.v1.delivery_pb2 import OBJECT_KIND_CHARGER
from evbridge.v1.types_pb2 import Origin

from service.domain.caller import Caller
from service.domain.charger import keep_sockets
from service.domain.keys import charger_key
from service.resources.mutation import put_one
from service.resources.noun import Noun, Upsert
from service.storage.charger import charger_delete, charger_insert, charger_lock_many, charger_replace
from service.storage.connection import Connection


class Chargers(Noun[Charger]):
    noun = "charger"
    kind = OBJECT_KIND_CHARGER
    lock = staticmethod(charger_lock_many)
    remove = staticmethod(charger_delete)

    def key_of(self, sent: Charger) -> str:
        return charger_key(sent.id)

    async def write(
        self, conn: Connection, tenant_id: str, objects: Sequence[Charger], locked: Mapping[str, Charger | None]
    ) -> None:
        await charger_replace(conn, tenant_id, [each for each in objects if self.key_of(each) in locked])
        for charger in objects:
            if self.key_of(charger) not in locked:
                await charger_insert(conn, tenant_id, charger)

    def keep(self, wanted: Charger, before: Charger | None) -> None:
        if before:
            wanted.id = before.id

    def stamp(self, wanted: Charger, before: Charger | None, now: datetime) -> None:
        if before:
            keep_sockets(wanted, before)


CHARGERS = Chargers()


async def charger_import(conn: Connection, caller: Caller, now: datetime, sent: Charger, origin: Origin) -> bool:
    """Stores a charger as the partner has it, and says whether that changed something.

    Raises ResourceExists when another of ours has its id, and InvalidArgument.
    """
    stored = await put_one(conn, caller, now, Upsert(CHARGERS, sent, "charger", origin=origin))
    return stored.update_time.ToDatetime(now.tzinfo) >= now

"""evbridge.v1.ChargerService."""

from datetime import datetime

from evbridge.v1.charger_pb2 import (
    Charger,
    CreateChargerRequest,
    DeleteChargerRequest,
    GetChargerRequest,
    ListChargersRequest,
    UpdateChargerRequest,
)
from evbridge.v1.delivery_pb2 import OBJECT_KIND_CHARGER
from google.protobuf.empty_pb2 import Empty

from service.domain.caller import Caller
from service.domain.charger import keep_sockets
from service.domain.content import etag_of
from service.domain.keys import charger_key
from service.domain.masks import merged
from service.domain.origin import keep_origin
from service.domain.pages import key_before, list_response, page_size
from service.domain.validation import validate
from service.domain.versions import check_etag, time_after
from service.errors import ResourceNotFound
from service.resources.charger import charger_create, clean
from service.resources.mutation import mutate
from service.storage.changes import DELETE, UPDATE, change_record
from service.storage.charger import (
    charger_delete,
    charger_get,
    charger_lock,
    charger_page,
    charger_replace,
)
from service.storage.connection import Connection
from service.storage.keyring import Keyring
from service.storage.pool import Database


class ChargerService:
    def __init__(self, database: Database, keyring: Keyring) -> None:
        self._database = database
        self._keyring = keyring

    async def CreateCharger(self, request: CreateChargerRequest, caller: Caller) -> bytes:
        async def work(conn: Connection, now: datetime) -> Charger:
            return await charger_create(conn, caller, now, request.charger)

        return await mutate(self._database, self._keyring, request, caller, work)

    async def GetCharger(self, request: GetChargerRequest, caller: Caller) -> bytes:
        return await charger_get(self._database, caller.tenant_id, charger_key(request.id))

    async def ListChargers(self, request: ListChargersRequest, caller: Caller) -> bytes:
        after, size = key_before(request), page_size(request.page_size)
        rows = await charger_page(self._database, caller.tenant_id, request, after, size + 1)
        return list_response(request, rows, size)

    async def UpdateCharger(self, request: UpdateChargerRequest, caller: Caller) -> bytes:
        key = charger_key(request.charger.id)

        async def work(conn: Connection, now: datetime) -> Charger:
            stored = await charger_lock(conn, caller.tenant_id, key)
            if stored is None:
                if not request.allow_missing:
                    raise ResourceNotFound.of("charger", key)
                validate(request.charger, prefix="charger.")
                return await charger_create(conn, caller, now, request.charger)
            check_etag(request.charger.etag, stored.etag, "charger", key)
            charger = merged(stored, request.charger, request.update_mask.paths)
            charger.id = stored.id
            validate(charger, prefix="charger.")
            clean(charger)
            keep_origin(charger, stored)
            keep_sockets(charger, stored)
            charger.etag = etag_of(charger)
            if charger.etag == stored.etag:
                return stored
            charger.create_time.CopyFrom(stored.create_time)
            charger.update_time.FromDatetime(time_after(stored.update_time, now))
            await charger_replace(conn, caller.tenant_id, [charger])
            await change_record(conn, caller, OBJECT_KIND_CHARGER, key, UPDATE, charger.etag)
            return charger

        return await mutate(self._database, self._keyring, request, caller, work)

    async def DeleteCharger(self, request: DeleteChargerRequest, caller: Caller) -> bytes:
        key = charger_key(request.id)

        async def work(conn: Connection, now: datetime) -> Empty:
            stored = await charger_lock(conn, caller.tenant_id, key)
            if stored is None:
                if request.allow_missing:
                    return Empty()
                raise ResourceNotFound.of("charger", key)
            check_etag(request.etag, stored.etag, "charger", key)
            await charger_delete(conn, caller.tenant_id, key)
            await change_record(conn, caller, OBJECT_KIND_CHARGER, key, DELETE, stored.etag)
            return Empty()

        return await mutate(self._database, self._keyring, request, caller, work)

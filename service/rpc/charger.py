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
from evbridge.v1.types_pb2 import Origin
from google.protobuf.empty_pb2 import Empty

from service.domain.caller import Caller
from service.domain.charger import keep_sockets
from service.domain.content import etag_of
from service.domain.fields import clear_output_only
from service.domain.keys import charger_key
from service.domain.masks import merged
from service.domain.origin import keep_origin, keep_overrides, set_origin
from service.domain.pages import key_before, list_response, page_size
from service.domain.validation import validate
from service.domain.versions import check_etag, time_after
from service.errors import ResourceExists, ResourceNotFound
from service.resources.mutation import mutate
from service.storage.changes import CREATE, DELETE, UPDATE, change_record
from service.storage.charger import (
    charger_delete,
    charger_get,
    charger_insert,
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
            return await _create(conn, caller, now, request.charger)

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
                return await _create(conn, caller, now, request.charger)
            check_etag(request.charger.etag, stored.etag, "charger", key)
            charger = merged(stored, request.charger, request.update_mask.paths)
            charger.id = stored.id
            validate(charger, prefix="charger.")
            _clean(charger)
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


async def charger_import(conn: Connection, caller: Caller, now: datetime, sent: Charger, origin: Origin) -> bool:
    """Stores a charger as the partner has it, and says whether that changed something.

    Raises ResourceExists when another of ours has its id, and InvalidArgument.
    """
    key = charger_key(sent.id)
    stored = await charger_lock(conn, caller.tenant_id, key)
    if stored and stored.origin.integration_id != origin.integration_id:
        raise ResourceExists(f"charger {key} exists already", resource="charger", id=key)
    charger = Charger()
    charger.CopyFrom(sent)
    if stored:
        keep_overrides(charger, stored)
    validate(charger, prefix="charger.")
    set_origin(charger, stored, origin)
    charger.etag = etag_of(charger)
    if stored and charger.etag == stored.etag:
        return False
    charger.update_time.FromDatetime(time_after(stored.update_time, now) if stored else now)
    charger.create_time.CopyFrom(stored.create_time if stored else charger.update_time)
    charger.origin.synced_time.CopyFrom(charger.update_time)
    await (
        charger_replace(conn, caller.tenant_id, [charger])
        if stored
        else charger_insert(conn, caller.tenant_id, charger)
    )
    operation = UPDATE if stored else CREATE
    await change_record(conn, caller, OBJECT_KIND_CHARGER, key, operation, charger.etag)
    return True


async def _create(conn: Connection, caller: Caller, now: datetime, sent: Charger) -> Charger:
    """Raises ResourceExists, and EtagMismatch for an etag: there is none yet."""
    key = charger_key(sent.id)
    check_etag(sent.etag, "", "charger", key)
    charger = Charger()
    charger.CopyFrom(sent)
    _clean(charger)
    charger.create_time.FromDatetime(now)
    charger.update_time.FromDatetime(now)
    charger.etag = etag_of(charger)
    await charger_insert(conn, caller.tenant_id, charger)
    await change_record(conn, caller, OBJECT_KIND_CHARGER, key, CREATE, charger.etag)
    return charger


def _clean(charger: Charger) -> None:
    """Takes out what only we may set, and fields that we do not know."""
    charger.DiscardUnknownFields()
    clear_output_only(charger)

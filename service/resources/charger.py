"""Chargers: how they are created and imported."""

from datetime import datetime

from evbridge.v1.charger_pb2 import Charger
from evbridge.v1.delivery_pb2 import OBJECT_KIND_CHARGER
from evbridge.v1.types_pb2 import Origin

from service.domain.caller import Caller
from service.domain.content import etag_of
from service.domain.fields import clear_output_only
from service.domain.keys import charger_key
from service.domain.origin import keep_overrides, set_origin
from service.domain.validation import validate
from service.domain.versions import check_etag, time_after
from service.errors import ResourceExists
from service.storage.changes import CREATE, UPDATE, change_record
from service.storage.charger import charger_insert, charger_lock, charger_replace
from service.storage.connection import Connection


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


async def charger_create(conn: Connection, caller: Caller, now: datetime, sent: Charger) -> Charger:
    """Raises ResourceExists, and EtagMismatch for an etag: there is none yet."""
    key = charger_key(sent.id)
    check_etag(sent.etag, "", "charger", key)
    charger = Charger()
    charger.CopyFrom(sent)
    clean(charger)
    charger.create_time.FromDatetime(now)
    charger.update_time.FromDatetime(now)
    charger.etag = etag_of(charger)
    await charger_insert(conn, caller.tenant_id, charger)
    await change_record(conn, caller, OBJECT_KIND_CHARGER, key, CREATE, charger.etag)
    return charger


def clean(charger: Charger) -> None:
    """Takes out what only we may set, and fields that we do not know."""
    charger.DiscardUnknownFields()
    clear_output_only(charger)

"""Tariffs that partners send. See service.resources.received."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial

from evbridge.v1.delivery_pb2 import OBJECT_KIND_TARIFF
from evbridge.v1.tariff_pb2 import Tariff

from service.bridge.json_text import parse_json
from service.domain.caller import Caller
from service.domain.content import etag_of
from service.domain.keys import ObjectKey
from service.domain.received import Document, merged
from service.errors import EvbridgeError, ResourceNotFound
from service.resources.documents import (
    Held,
    Notices,
    Sender,
    by_size,
    tariff_of,
)
from service.resources.mutation import record
from service.resources.received import (
    Outcome,
    Receipt,
    change_of,
    check_party,
    check_patch,
    document_text,
    is_outdated,
    kept_documents,
    raised,
    time_of,
    transact,
)
from service.storage.changes import CREATE, DELETE, UPDATE
from service.storage.connection import Connection
from service.storage.pool import Database
from service.storage.received import Stored, documents_delete, documents_get, documents_put
from service.storage.tariff import tariff_lock, tariff_put, tariff_tombstone


async def tariffs_received(
    database: Database, caller: Caller, sender: Sender, documents: Sequence[tuple[ObjectKey, Document]]
) -> list[Receipt | EvbridgeError]:
    """Stores a page of tariffs, as `locations_received` does."""
    sent = dict(documents)

    async def work(conn: Connection, now: datetime) -> list[Receipt | EvbridgeError]:
        locked = await tariff_lock(conn, caller.tenant_id, sent.keys())
        kept = await kept_documents(conn, caller, sender, sent.keys(), OBJECT_KIND_TARIFF)
        return await _store_tariffs(conn, caller, now, sender, [*sent.items()], locked, kept)

    results = dict(zip(sent, await transact(database, work), strict=True))
    return [results[key] for key, _ in documents]


async def tariff_received(
    database: Database, caller: Caller, sender: Sender, key: ObjectKey, document: Document, *, patch: bool = False
) -> Receipt:
    """Stores a tariff; a patch is merged into the one that is held. Raises what `location_received` does."""
    check_patch(document, patch=patch)

    async def work(conn: Connection, now: datetime) -> Receipt | EvbridgeError:
        locked = await tariff_lock(conn, caller.tenant_id, [key])
        kept = await kept_documents(conn, caller, sender, [key], OBJECT_KIND_TARIFF)
        sent, held = document, Held(None, kept[key])
        if patch:
            kept_document = partial(held.document, sender, "", "tariff", key.shown)
            sent = merged(await by_size(kept_document, held.texts("")), document)
        (receipt,) = await _store_tariffs(conn, caller, now, sender, [(key, sent)], locked, kept)
        return receipt

    return raised(await transact(database, work))


async def tariff_removed(database: Database, caller: Caller, sender: Sender, key: ObjectKey) -> None:
    """Raises ResourceNotFound."""

    check_party(sender, key)

    async def work(conn: Connection, now: datetime) -> None:
        stored = (await tariff_lock(conn, caller.tenant_id, [key])).get(key)
        if stored is None:
            raise ResourceNotFound.of("tariff", key.shown)
        await tariff_tombstone(conn, caller.tenant_id, key)
        await documents_delete(conn, caller.tenant_id, sender.integration_id, OBJECT_KIND_TARIFF, str(key))
        await record(conn, caller, OBJECT_KIND_TARIFF, [change_of(key, DELETE, stored.etag)])

    await transact(database, work)


async def received_tariff(database: Database, tenant_id: str, key: ObjectKey) -> Document:
    """A tariff as the partner sent it. Raises ResourceNotFound."""
    rows = await documents_get(database, tenant_id, key.integration_id, OBJECT_KIND_TARIFF, [str(key)])
    if not rows:
        raise ResourceNotFound.of("tariff", key.shown)
    document: Document = await by_size(partial(parse_json, rows[0].document), rows[0].document)
    return document


async def _store_tariffs(
    conn: Connection,
    caller: Caller,
    now: datetime,
    sender: Sender,
    sent: Sequence[tuple[ObjectKey, Document]],
    locked: Mapping[ObjectKey, Tariff | None],
    kept: Mapping[ObjectKey, Mapping[str, Stored]],
) -> list[Receipt | EvbridgeError]:
    receipts: list[Receipt | EvbridgeError] = []
    changed: dict[ObjectKey, Tariff] = {}
    documents: list[Stored] = []
    for key, document in sent:
        await asyncio.sleep(0)
        try:
            check_party(sender, key)
            tariff, notices, kept_now = await by_size(partial(_tariff_read, sender, key, document, now), document)
            if is_outdated(tariff.last_updated, Held(None, kept[key]), "", now):
                receipts.append(Receipt(Outcome.OLDER, notices))
                continue
            documents.append(kept_now)
        except EvbridgeError as error:
            receipts.append(error)
            continue
        tariff.create_time.FromDatetime(now)
        before = locked.get(key)
        if before:
            tariff.id = before.id
            tariff.create_time.CopyFrom(before.create_time)
        if before and before.etag == tariff.etag:
            receipts.append(Receipt(Outcome.UNCHANGED, notices))
        else:
            changed[key] = tariff
            receipts.append(Receipt(Outcome.UPDATED if before else Outcome.CREATED, notices))
    await tariff_put(conn, caller.tenant_id, [changed[key] for key in sorted(changed)], locked)
    await documents_put(conn, caller.tenant_id, sender.integration_id, OBJECT_KIND_TARIFF, documents)
    changes = [change_of(key, UPDATE if locked.get(key) else CREATE, each.etag) for key, each in changed.items()]
    await record(conn, caller, OBJECT_KIND_TARIFF, changes)
    return receipts


def _tariff_read(sender: Sender, key: ObjectKey, document: Document, now: datetime) -> tuple[Tariff, Notices, Stored]:
    text = document_text(document)
    tariff, notices = tariff_of(sender, key, document)
    if not tariff.HasField("last_updated"):
        tariff.last_updated.FromDatetime(now)
    tariff.etag = etag_of(tariff)
    return tariff, notices, Stored(str(key), "", sender.version, time_of(tariff.last_updated), text)

"""Objects that partners send whole, one document each, whichever kind they are of. See service.resources.received."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

from evbridge.v1.delivery_pb2 import ObjectKind

from service.bridge.json_text import parse_json
from service.domain.caller import Caller
from service.domain.content import etag_of
from service.domain.keys import ObjectKey
from service.domain.personal_data import is_erased
from service.domain.received import Document, merged
from service.errors import EvbridgeError, InvalidArgument, ResourceNotFound
from service.resources.documents import Held, Notices, Sender, by_size
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


class Whole(NamedTuple):
    """A kind of such objects. `id`: the field that names one. `read` raises InvalidArgument.

    `join` puts a patch into what is held, of a version of OCPI. `once`: they are recorded, and never change.
    `remarks` are what is to be said when one becomes another. `tombstone` deletes one, where a partner may do that.
    """

    noun: str
    id: str
    kind: ObjectKind.ValueType
    read: Callable[[Sender, ObjectKey, Document], tuple[Any, Notices]]
    lock: Callable[[Connection, str, Collection[ObjectKey]], Awaitable[Mapping[ObjectKey, Any]]]
    put: Callable[[Connection, str, Sequence[Any], Mapping[ObjectKey, Any]], Awaitable[None]]
    join: Callable[[Document, Document, str], Document] = lambda kept, patch, version: merged(kept, patch)
    once: bool = False
    remarks: Callable[[Any, Any], Notices] = lambda before, new: ()
    tombstone: Callable[[Connection, str, ObjectKey], Awaitable[object]] | None = None


async def objects_received(
    of: Whole, database: Database, caller: Caller, sender: Sender, documents: Sequence[tuple[ObjectKey, Document]]
) -> list[Receipt | EvbridgeError]:
    """Stores a page of objects, as `locations_read` and what that returns do."""
    sent = dict(documents)

    async def work(conn: Connection, now: datetime) -> list[Receipt | EvbridgeError]:
        locked = await of.lock(conn, caller.tenant_id, sent.keys())
        kept = await kept_documents(conn, caller, sender, sent.keys(), of.kind)
        return await _store(of, conn, caller, now, sender, [*sent.items()], locked, kept)

    results = dict(zip(sent, await transact(database, work), strict=True))
    return [results[key] for key, _ in documents]


async def object_received(
    of: Whole,
    database: Database,
    caller: Caller,
    sender: Sender,
    key: ObjectKey,
    document: Document,
    *,
    patch: bool = False,
) -> Receipt:
    """Stores an object; a patch is merged into the one that is held. Raises what `location_received` does."""
    check_patch(document, patch=patch)

    async def work(conn: Connection, now: datetime) -> Receipt | EvbridgeError:
        locked = await of.lock(conn, caller.tenant_id, [key])
        kept = await kept_documents(conn, caller, sender, [key], of.kind)
        sent, held = document, Held(None, kept[key])
        if patch:
            kept_document = partial(held.document, sender, "", of.noun, key.shown)
            sent = of.join(await by_size(kept_document, held.texts("")), document, sender.version)
        (receipt,) = await _store(of, conn, caller, now, sender, [(key, sent)], locked, kept)
        return receipt

    return raised(await transact(database, work))


async def object_removed(of: Whole, database: Database, caller: Caller, sender: Sender, key: ObjectKey) -> None:
    """Raises ResourceNotFound."""
    check_party(sender, key)
    tombstone = of.tombstone
    assert tombstone is not None  # noqa: S101

    async def work(conn: Connection, now: datetime) -> None:
        stored = (await of.lock(conn, caller.tenant_id, [key])).get(key)
        if stored is None:
            raise ResourceNotFound.of(of.noun, key.shown)
        await tombstone(conn, caller.tenant_id, key)
        await documents_delete(conn, caller.tenant_id, sender.integration_id, of.kind, str(key))
        await record(conn, caller, of.kind, [change_of(key, DELETE, stored.etag)])

    await transact(database, work)


async def received_object(of: Whole, database: Database, tenant_id: str, key: ObjectKey) -> Document:
    """An object as the partner sent it, with what patches changed. Raises ResourceNotFound."""
    rows = await documents_get(database, tenant_id, key.integration_id, of.kind, [str(key)])
    if not rows:
        raise ResourceNotFound.of(of.noun, key.shown)
    document: Document = await by_size(partial(parse_json, rows[0].document), rows[0].document)
    return document


async def _store(
    of: Whole,
    conn: Connection,
    caller: Caller,
    now: datetime,
    sender: Sender,
    sent: Sequence[tuple[ObjectKey, Document]],
    locked: Mapping[ObjectKey, Any],
    kept: Mapping[ObjectKey, Mapping[str, Stored]],
) -> list[Receipt | EvbridgeError]:
    receipts: list[Receipt | EvbridgeError] = []
    changed: dict[ObjectKey, Any] = {}
    documents: list[Stored] = []
    for key, document in sent:
        await asyncio.sleep(0)
        try:
            check_party(sender, key)
            new, notices, kept_now = await by_size(partial(_read, of, sender, key, document, now), document)
            if is_outdated(new.last_updated, Held(None, {} if of.once else kept[key]), "", now):
                receipts.append(Receipt(Outcome.OLDER, notices))
                continue
            before = locked.get(key)
            if before and is_erased(before):
                receipts.append(Receipt(Outcome.UNCHANGED, notices))
                continue
            if of.once and before and before.etag != new.etag:
                raise InvalidArgument.field(of.id, f"is that of a {of.noun} which is recorded with other content")
        except EvbridgeError as error:
            receipts.append(error)
            continue
        if not (of.once and before):
            documents.append(kept_now)
        new.create_time.FromDatetime(now)
        if before:
            setattr(new, of.id, getattr(before, of.id))
            new.create_time.CopyFrom(before.create_time)
        if before and before.etag == new.etag:
            receipts.append(Receipt(Outcome.UNCHANGED, notices))
        else:
            changed[key] = new
            remarks = of.remarks(before, new) if before else ()
            receipts.append(Receipt(Outcome.UPDATED if before else Outcome.CREATED, notices + remarks))
    await of.put(conn, caller.tenant_id, [changed[key] for key in sorted(changed)], locked)
    await documents_put(conn, caller.tenant_id, sender.integration_id, of.kind, documents)
    changes = [change_of(key, UPDATE if locked.get(key) else CREATE, each.etag) for key, each in changed.items()]
    await record(conn, caller, of.kind, changes)
    return receipts


def _read(of: Whole, sender: Sender, key: ObjectKey, document: Document, now: datetime) -> tuple[Any, Notices, Stored]:
    text = document_text(document)
    new, notices = of.read(sender, key, document)
    if not new.HasField("last_updated"):
        new.last_updated.FromDatetime(now)
    new.etag = etag_of(new)
    return new, notices, Stored(str(key), "", sender.version, time_of(new.last_updated), text)

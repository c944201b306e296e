"""What partners send: their locations, EVSEs, connectors and tariffs, stored below the integration they came through.

The partner's clock orders them: what is older than what is held is ignored, part by part. Each document is kept as it
was sent, so that a patch is merged into it and members that we do not know come back; what callers read is made of it,
repaired where it breaks the contract (see service.domain.repair). Nothing here is delivered, and no call changes it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import NamedTuple, TypeVar

from evbridge.v1.delivery_pb2 import OBJECT_KIND_EVSE, OBJECT_KIND_LOCATION, OBJECT_KIND_TARIFF
from evbridge.v1.location_pb2 import EVSE_STATUS_REMOVED, Evse, Location
from evbridge.v1.tariff_pb2 import Tariff
from google.protobuf.timestamp_pb2 import Timestamp

from service.bridge.json_text import parse_json, text_of
from service.domain.caller import Caller
from service.domain.content import etag_of
from service.domain.keys import EvseKey, ObjectKey
from service.domain.location import location_etag
from service.domain.received import Document, is_older, item, item_id, merged, settle_times, with_item
from service.errors import EtagMismatch, EvbridgeError, FieldViolation, InvalidArgument, ResourceNotFound
from service.resources.documents import Sender, evse_of, location_of, tariff_of
from service.resources.mutation import record
from service.storage.changes import CREATE, DELETE, UPDATE, Change, change_time
from service.storage.connection import Connection
from service.storage.location import StoredEvse, evse_lock, evse_put, location_lock, location_put, location_tombstone
from service.storage.pool import Database
from service.storage.received import Stored, document_get, documents_delete, documents_get, documents_put
from service.storage.tariff import tariff_lock, tariff_put, tariff_tombstone

T = TypeVar("T")

MAX_DOCUMENT = 1 << 20
"""Characters of one document as it is kept, without the EVSEs of a location."""
_AHEAD = timedelta(days=1)
_MAX_EVSES = 1000


class Place(NamedTuple):
    """Where in a location a document belongs: the location itself, an EVSE, or a connector of it."""

    evse_uid: str = ""
    connector_id: str = ""


WHOLE = Place()


class Outcome(Enum):
    """What became of a document. OLDER: it was ignored."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    OLDER = "older"


class Receipt(NamedTuple):
    """What became of a document, and what was repaired in it, by paths of ours."""

    outcome: Outcome
    notices: tuple[FieldViolation, ...] = ()


class _Sent(NamedTuple):
    """A location as it was read: each part with its document. `named`: its EVSEs, when the document lists them all."""

    key: ObjectKey
    own: tuple[Document, Location] | None
    evses: Mapping[str, tuple[Document, Evse]]
    named: tuple[str, ...] | None
    notices: tuple[FieldViolation, ...]


class _Older(Exception):
    """What was sent is older than what is held."""


async def location_received(
    database: Database,
    caller: Caller,
    sender: Sender,
    key: ObjectKey,
    document: Document,
    place: Place = WHOLE,
    *,
    patch: bool = False,
) -> Receipt:
    """Stores a location, an EVSE or a connector; a patch is merged into what is held.

    An EVSE that a whole location lists no more is REMOVED; one without the member `evses` says nothing about them.
    Raises ResourceNotFound for a party that is none of the sender's and for what is not held, to which the document
    belongs; InvalidArgument for what cannot be repaired, another id than the key's, a patch without `last_updated`, and
    a time more than a day ahead.
    """
    _check_party(sender, key)
    if patch and not document.get("last_updated"):
        raise InvalidArgument.field("last_updated", "is required, for example 2030-06-03T19:30:00Z")
    whole = None if patch or place.evse_uid else await _whole(sender, key, document)

    async def work(conn: Connection, now: datetime) -> Receipt:
        if patch and place.evse_uid and not place.connector_id and document.keys() <= {"status", "last_updated"}:
            return await _status_received(conn, caller, now, sender, key, place.evse_uid, document)
        locked = await location_lock(conn, caller.tenant_id, [key])
        kept = await _kept(conn, caller, sender, [key])
        try:
            sent = whole or _part(sender, key, locked.get(key), kept.get(str(key), {}), document, place, patch)
        except _Older:
            return Receipt(Outcome.OLDER)
        (receipt,) = await _store_locations(conn, caller, now, sender, [sent], locked, kept)
        if isinstance(receipt, EvbridgeError):
            raise receipt
        return receipt

    return await _transact(database, work)


async def locations_received(
    database: Database, caller: Caller, sender: Sender, documents: Sequence[tuple[ObjectKey, Document]]
) -> list[Receipt | EvbridgeError]:
    """Stores a page of whole locations; what is wrong with one costs no other. Of two with a key the last counts."""
    results: dict[ObjectKey, Receipt | EvbridgeError] = {}
    sent: dict[ObjectKey, _Sent] = {}
    for key, document in dict(documents).items():
        try:
            _check_party(sender, key)
            sent[key] = await _whole(sender, key, document)
        except EvbridgeError as error:
            results[key] = error

    async def work(conn: Connection, now: datetime) -> list[Receipt | EvbridgeError]:
        locked = await location_lock(conn, caller.tenant_id, sent.keys())
        kept = await _kept(conn, caller, sender, sent.keys())
        return await _store_locations(conn, caller, now, sender, [*sent.values()], locked, kept)

    results |= zip(sent, await _transact(database, work) if sent else (), strict=True)
    return [results[key] for key, _ in documents]


async def tariffs_received(
    database: Database, caller: Caller, sender: Sender, documents: Sequence[tuple[ObjectKey, Document]]
) -> list[Receipt | EvbridgeError]:
    """Stores a page of tariffs, as `locations_received` does."""
    sent = dict(documents)

    async def work(conn: Connection, now: datetime) -> list[Receipt | EvbridgeError]:
        locked = await tariff_lock(conn, caller.tenant_id, sent.keys())
        kept = await _kept(conn, caller, sender, sent.keys(), tariffs=True)
        return await _store_tariffs(conn, caller, now, sender, [*sent.items()], locked, kept)

    results = dict(zip(sent, await _transact(database, work), strict=True))
    return [results[key] for key, _ in documents]


async def tariff_received(
    database: Database, caller: Caller, sender: Sender, key: ObjectKey, document: Document, *, patch: bool = False
) -> Receipt:
    """Stores a tariff; a patch is merged into the one that is held. Raises what `location_received` does."""
    if patch and not document.get("last_updated"):
        raise InvalidArgument.field("last_updated", "is required, for example 2030-06-03T19:30:00Z")

    async def work(conn: Connection, now: datetime) -> Receipt:
        locked = await tariff_lock(conn, caller.tenant_id, [key])
        kept = await _kept(conn, caller, sender, [key], tariffs=True)
        sent = merged(_held(sender, kept.get(str(key), {}), "", "tariff", key.shown), document) if patch else document
        (receipt,) = await _store_tariffs(conn, caller, now, sender, [(key, sent)], locked, kept)
        if isinstance(receipt, EvbridgeError):
            raise receipt
        return receipt

    return await _transact(database, work)


async def location_removed(database: Database, caller: Caller, sender: Sender, key: ObjectKey) -> None:
    """Takes a location away that the partner has no more. Raises ResourceNotFound."""

    _check_party(sender, key)

    async def work(conn: Connection, now: datetime) -> None:
        stored = (await location_lock(conn, caller.tenant_id, [key])).get(key)
        if stored is None:
            raise ResourceNotFound.of("location", key.shown)
        await location_tombstone(conn, caller.tenant_id, key)
        await documents_delete(conn, caller.tenant_id, sender.integration_id, OBJECT_KIND_LOCATION, str(key))
        await record(conn, caller, OBJECT_KIND_LOCATION, [_change(key, DELETE, stored.etag)])

    await _transact(database, work)


async def locations_gone(database: Database, caller: Caller, keys: Sequence[ObjectKey]) -> int:
    """Marks every EVSE of locations that the partner shows no more REMOVED; tells how many locations had another.

    The partner's times stay, so what it shows again is taken again.
    """

    async def work(conn: Connection, now: datetime) -> int:
        locked = await location_lock(conn, caller.tenant_id, keys)
        integration_id = keys[0].integration_id
        kept = await documents_get(conn, caller.tenant_id, integration_id, OBJECT_KIND_LOCATION, [*map(str, keys)])
        changed: dict[ObjectKey, Location] = {}
        gone: dict[str, Change] = {}
        for key, before in locked.items():
            living = (
                [uid for uid, evse in _evses(before).items() if evse.status != EVSE_STATUS_REMOVED] if before else []
            )
            if not (before and living):
                continue
            wanted = changed[key] = Location()
            wanted.CopyFrom(before)
            for evse in wanted.evses:
                if evse.uid.casefold() in living:
                    evse.status = EVSE_STATUS_REMOVED
                    evse.status_time.FromDatetime(now)
            gone |= {f"{key}/{uid}": Change(f"{key}/{uid}", UPDATE, "", integration_id) for uid in living}
        await location_put(conn, caller.tenant_id, [changed[key] for key in sorted(changed)], locked)
        removed = [
            each._replace(document=text_of(parse_json(each.document) | {"status": "REMOVED"}))
            for each in kept
            if f"{each.object_id}/{each.part}" in gone
        ]
        await documents_put(conn, caller.tenant_id, integration_id, OBJECT_KIND_LOCATION, removed)
        await record(conn, caller, OBJECT_KIND_EVSE, [*gone.values()])
        return len(changed)

    return await _transact(database, work)


async def tariff_removed(database: Database, caller: Caller, sender: Sender, key: ObjectKey) -> None:
    """Raises ResourceNotFound."""

    _check_party(sender, key)

    async def work(conn: Connection, now: datetime) -> None:
        stored = (await tariff_lock(conn, caller.tenant_id, [key])).get(key)
        if stored is None:
            raise ResourceNotFound.of("tariff", key.shown)
        await tariff_tombstone(conn, caller.tenant_id, key)
        await documents_delete(conn, caller.tenant_id, sender.integration_id, OBJECT_KIND_TARIFF, str(key))
        await record(conn, caller, OBJECT_KIND_TARIFF, [_change(key, DELETE, stored.etag)])

    await _transact(database, work)


async def received_location(database: Database, tenant_id: str, key: ObjectKey, place: Place = WHOLE) -> Document:
    """A location, an EVSE or a connector as the partner sent it, with what patches changed. Raises ResourceNotFound."""
    rows = await documents_get(database, tenant_id, key.integration_id, OBJECT_KIND_LOCATION, [str(key)])
    parts: dict[str, Document] = {row.part: parse_json(row.document) for row in rows}
    if "" not in parts:
        raise ResourceNotFound.of("location", key.shown)
    own = parts.pop("")
    if not place.evse_uid:
        order = {uid: number for number, uid in enumerate(own.get("evses", ()))}
        evses = [parts[uid] for uid in sorted(parts, key=lambda uid: (order.get(uid, len(order)), uid))]
        return own | {"evses": evses} if evses or "evses" in own else own
    evse = parts.get(place.evse_uid.casefold())
    if evse is None:
        raise ResourceNotFound.of("evse", f"{key.shown}/{place.evse_uid}")
    if not place.connector_id:
        return evse
    connector = item(evse.get("connectors"), "connectors", place.connector_id)
    if connector is None:
        raise ResourceNotFound.of("connector", f"{key.shown}/{place.evse_uid}/{place.connector_id}")
    return connector


async def received_tariff(database: Database, tenant_id: str, key: ObjectKey) -> Document:
    """A tariff as the partner sent it. Raises ResourceNotFound."""
    rows = await documents_get(database, tenant_id, key.integration_id, OBJECT_KIND_TARIFF, [str(key)])
    if not rows:
        raise ResourceNotFound.of("tariff", key.shown)
    document: Document = parse_json(rows[0].document)
    return document


async def _transact(database: Database, work: Callable[[Connection, datetime], Awaitable[T]]) -> T:
    """Once more when another call created an object at the same moment: it is locked then."""
    for last in (False, True):
        try:
            async with database.transaction() as conn:
                return await work(conn, await change_time(conn))
        except EtagMismatch:
            if last:
                raise
    raise AssertionError


def _check_party(sender: Sender, key: ObjectKey) -> None:
    if key.integration_id != sender.integration_id:
        raise ValueError("the key is on another side")
    if key.party not in sender.parties:
        raise ResourceNotFound.of("party", str(key.party))


async def _kept(
    conn: Connection, caller: Caller, sender: Sender, keys: Iterable[ObjectKey], *, tariffs: bool = False
) -> dict[str, dict[str, Stored]]:
    """The documents of objects that are locked, by the objects' ids and the parts."""
    kind = OBJECT_KIND_TARIFF if tariffs else OBJECT_KIND_LOCATION
    kept: dict[str, dict[str, Stored]] = {}
    for row in await documents_get(conn, caller.tenant_id, sender.integration_id, kind, [*map(str, keys)]):
        kept.setdefault(row.object_id, {})[row.part] = row
    return kept


def _held(sender: Sender, kept: Mapping[str, Stored], part: str, noun: str, id: str) -> Document:
    """The document that a patch is merged into. Raises ResourceNotFound, also for one of another version of OCPI."""
    stored = kept.get(part)
    if stored is None or stored.version != sender.version:
        raise ResourceNotFound.of(noun, id)
    document: Document = parse_json(stored.document)
    return document


async def _whole(sender: Sender, key: ObjectKey, document: Document) -> _Sent:
    """A location that was sent whole. An EVSE that cannot be repaired is left out, which does not remove it."""
    listed = document.get("evses")
    items = listed if isinstance(listed, list) else []
    named = tuple(item_id(each, "evses") for each in items)
    message, notices = location_of(sender, key, document)
    own = document | {"evses": [*named]} if isinstance(listed, list) else document  # their order
    evses: dict[str, tuple[Document, Evse]] = {}
    for number, each in enumerate(items):
        await asyncio.sleep(0)
        try:
            evse, more = evse_of(sender, each)
            evses[evse.uid.casefold()] = each, evse
        except InvalidArgument as error:
            left_out = "the EVSE is left out"
            more = tuple(FieldViolation(path, f"{why}: {left_out}") for path, why in map(_words, error.violations))
        notices += tuple(FieldViolation(f"evses[{number}].{path}", why) for path, why in map(_words, more))
    return _Sent(key, (own, message), evses, named if isinstance(listed, list) else None, notices)


def _part(
    sender: Sender,
    key: ObjectKey,
    before: Location | None,
    kept: Mapping[str, Stored],
    document: Document,
    place: Place,
    patch: bool,
) -> _Sent:
    """What a patch, an EVSE or a connector makes of the location that is held. Raises ResourceNotFound, _Older."""
    if before is None:
        raise ResourceNotFound.of("location", key.shown)
    if place.evse_uid:
        evse, notices = _evse_part(sender, key, before, kept, document, place, patch)
        return _Sent(key, None, {evse[1].uid.casefold(): evse}, None, notices)
    held = _held(sender, kept, "", "location", key.shown)
    own = merged(held, {name: value for name, value in document.items() if name != "evses"})
    message, notices = location_of(sender, key, own)
    evses: dict[str, tuple[Document, Evse]] = {}
    for each in document.get("evses") or ():
        uid = item_id(each, "evses")
        whole = merged(_held(sender, kept, uid, "evse", f"{key.shown}/{uid}"), each) if uid in kept else each
        found, more = evse_of(sender, whole)
        evses[uid], notices = (whole, found), notices + more
    return _Sent(key, (own, message), evses, None, notices)


def _evse_part(
    sender: Sender,
    key: ObjectKey,
    before: Location,
    kept: Mapping[str, Stored],
    document: Document,
    place: Place,
    patch: bool,
) -> tuple[tuple[Document, Evse], tuple[FieldViolation, ...]]:
    uid, id = place.evse_uid.casefold(), place.connector_id.casefold()
    name, sent_to = ("id", place.connector_id) if id else ("uid", place.evse_uid)
    whole = document = {name: sent_to} | document
    if not isinstance(document[name], str) or document[name].casefold() != (id or uid):
        raise InvalidArgument.field(name, f"is not {sent_to}, to which it was sent")
    if patch or id:
        held = _held(sender, kept, uid, "evse", f"{key.shown}/{place.evse_uid}")
        whole = merged(held, document)
    if id:
        connectors = held.get("connectors")
        connectors = connectors if isinstance(connectors, list) else []
        if patch and item(connectors, "connectors", id) is None:
            raise ResourceNotFound.of("connector", f"{key.shown}/{place.evse_uid}/{place.connector_id}")
        whole = held | {"connectors": with_item(connectors, document, "connectors", patch=patch)}
    evse, notices = evse_of(sender, whole)
    if patch and not id and uid in kept and _time(evse.last_updated) < kept[uid].last_updated:
        raise _Older
    connector = next((each for each in evse.connectors if each.id.casefold() == id), None)
    if connector is not None and connector.HasField("last_updated"):
        stored = _evses(before)[uid].connectors if uid in _evses(before) else ()
        if any(each.id.casefold() == id and is_older(connector.last_updated, each.last_updated) for each in stored):
            raise _Older
        if is_older(evse.last_updated, connector.last_updated):
            whole["last_updated"] = document["last_updated"]
    return (whole, evse), notices


async def _status_received(
    conn: Connection,
    caller: Caller,
    now: datetime,
    sender: Sender,
    key: ObjectKey,
    uid: str,
    document: Document,
) -> Receipt:
    """The patch that comes most often, of a status alone: the location is not read for it."""
    name = EvseKey.of(key, uid)
    stored = (await evse_lock(conn, caller.tenant_id, [name])).get(name)
    kind = OBJECT_KIND_LOCATION
    kept = await document_get(conn, caller.tenant_id, sender.integration_id, kind, str(key), name.key)
    if stored is None or kept is None:
        raise ResourceNotFound.of("evse", f"{key.shown}/{uid}")
    whole = merged(_held(sender, {name.key: kept}, name.key, "evse", f"{key.shown}/{uid}"), document)
    sent, notices = evse_of(sender, whole)
    _check_time(sent.last_updated, now)
    if _time(sent.last_updated) < kept.last_updated:
        return Receipt(Outcome.OLDER)
    changed = sent.status != stored.evse.status
    if changed:
        stored.evse.status = sent.status
        stored.evse.status_time.CopyFrom(sent.last_updated)
        stored.evse.last_updated.CopyFrom(sent.last_updated)
        await evse_put(conn, caller.tenant_id, {name: StoredEvse(stored.position, stored.evse)})
        await record(conn, caller, OBJECT_KIND_EVSE, [Change(str(name), UPDATE, "", sender.integration_id)])
    documents = [_document(sender, key, name.key, _time(sent.last_updated), whole)]
    await documents_put(conn, caller.tenant_id, sender.integration_id, kind, documents)
    return Receipt(Outcome.UPDATED if changed else Outcome.UNCHANGED, notices)


async def _store_locations(
    conn: Connection,
    caller: Caller,
    now: datetime,
    sender: Sender,
    sent: Sequence[_Sent],
    locked: Mapping[ObjectKey, Location | None],
    kept: Mapping[str, Mapping[str, Stored]],
) -> list[Receipt | EvbridgeError]:
    receipts: list[Receipt | EvbridgeError] = []
    changed: dict[ObjectKey, Location] = {}
    documents: list[Stored] = []
    statuses: list[Change] = []
    for each in sent:
        before = locked.get(each.key)
        await asyncio.sleep(0)
        try:
            wanted, parts, created = _combined(sender, each, before, kept.get(str(each.key), {}), now)
        except _Older:
            receipts.append(Receipt(Outcome.OLDER, each.notices))
            continue
        except EvbridgeError as error:
            receipts.append(error)
            continue
        documents += parts
        outcome = Outcome.CREATED if created else Outcome.UNCHANGED
        stored = _evses(before) if before else {}
        for uid, evse in _evses(wanted).items():
            if before and (uid not in stored or stored[uid].status != evse.status):
                statuses.append(Change(f"{each.key}/{uid}", UPDATE, "", sender.integration_id))
                outcome = Outcome.CREATED if created else Outcome.UPDATED
        if before is None or before.etag != wanted.etag:
            outcome = Outcome.CREATED if created else Outcome.UPDATED
        if outcome != Outcome.UNCHANGED:
            changed[each.key] = wanted
        receipts.append(Receipt(outcome, each.notices))
    await location_put(conn, caller.tenant_id, [changed[key] for key in sorted(changed)], locked)
    kind = OBJECT_KIND_LOCATION
    await documents_put(conn, caller.tenant_id, sender.integration_id, kind, documents)
    changes = [
        _change(key, UPDATE if before else CREATE, wanted.etag)
        for key, wanted in changed.items()
        if (before := locked.get(key)) is None or before.etag != wanted.etag
    ]
    await record(conn, caller, kind, changes)
    await record(conn, caller, OBJECT_KIND_EVSE, statuses)
    return receipts


def _combined(
    sender: Sender, sent: _Sent, before: Location | None, kept: Mapping[str, Stored], now: datetime
) -> tuple[Location, list[Stored], bool]:
    """The location with what is newer of what was sent, the documents to keep, and whether it, or its EVSE, is new.

    Raises _Older when all that was sent is older.
    """
    wanted, documents = Location(), list[Stored]()
    wanted.CopyFrom(sent.own[1] if sent.own else before or Location())
    if sent.own:
        if not wanted.HasField("last_updated"):
            wanted.last_updated.FromDatetime(now)
        _check_time(wanted.last_updated, now)
        if "" in kept and _time(wanted.last_updated) < kept[""].last_updated:
            raise _Older
        documents.append(_document(sender, sent.key, "", _time(wanted.last_updated), sent.own[0]))
    otherwise = Timestamp()
    otherwise.CopyFrom(wanted.last_updated)
    if not sent.own:
        otherwise.FromDatetime(now)
    evses = _evses(before) if before else {}
    created = before is None or (sent.own is None and not sent.evses.keys() <= evses.keys())
    for uid, (document, evse) in sent.evses.items():
        settle_times(evse, otherwise)
        _check_time(evse.last_updated, now)
        if uid in kept and _time(evse.last_updated) < kept[uid].last_updated:
            continue
        stored = evses.get(uid)
        same = stored is not None and stored.status == evse.status
        evse.status_time.CopyFrom(stored.status_time if stored and same else evse.last_updated)
        evse.uid = stored.uid if stored else evse.uid
        evses[uid] = evse
        documents.append(_document(sender, sent.key, uid, _time(evse.last_updated), document))
    if not documents:
        raise _Older
    for uid in evses.keys() - {*sent.named, *sent.evses} if sent.named is not None else ():
        if evses[uid].status != EVSE_STATUS_REMOVED and not is_older(wanted.last_updated, evses[uid].last_updated):
            evse = Evse()
            evse.CopyFrom(evses[uid])
            evse.status = EVSE_STATUS_REMOVED
            evse.status_time.CopyFrom(wanted.last_updated)
            evse.last_updated.CopyFrom(wanted.last_updated)
            evses[uid] = evse
            if uid in kept:
                gone = parse_json(kept[uid].document) | {"status": "REMOVED"}
                documents.append(_document(sender, sent.key, uid, _time(evse.last_updated), gone))
    if len(evses) > _MAX_EVSES:
        raise InvalidArgument.field("evses", f"are more than {_MAX_EVSES}, those that are REMOVED counted")
    del wanted.evses[:]
    wanted.evses.extend(evses.values())
    wanted.create_time.CopyFrom(before.create_time if before else wanted.create_time)
    if before:
        wanted.id = before.id
    else:
        wanted.create_time.FromDatetime(now)
    wanted.etag = location_etag(wanted)
    return wanted, documents, created


async def _store_tariffs(
    conn: Connection,
    caller: Caller,
    now: datetime,
    sender: Sender,
    sent: Sequence[tuple[ObjectKey, Document]],
    locked: Mapping[ObjectKey, Tariff | None],
    kept: Mapping[str, Mapping[str, Stored]],
) -> list[Receipt | EvbridgeError]:
    receipts: list[Receipt | EvbridgeError] = []
    changed: dict[ObjectKey, Tariff] = {}
    documents: list[Stored] = []
    for key, document in sent:
        before = locked.get(key)
        await asyncio.sleep(0)
        try:
            _check_party(sender, key)
            tariff, notices = tariff_of(sender, key, document)
            if not tariff.HasField("last_updated"):
                tariff.last_updated.FromDatetime(now)
            _check_time(tariff.last_updated, now)
            text = _document(sender, key, "", _time(tariff.last_updated), document)
        except EvbridgeError as error:
            receipts.append(error)
            continue
        held = kept.get(str(key), {}).get("")
        if held and text.last_updated < held.last_updated:
            receipts.append(Receipt(Outcome.OLDER, notices))
            continue
        documents.append(text)
        tariff.etag = etag_of(tariff)
        if before and before.etag == tariff.etag:
            receipts.append(Receipt(Outcome.UNCHANGED, notices))
            continue
        tariff.id = before.id if before else tariff.id
        tariff.create_time.FromDatetime(now)
        if before:
            tariff.create_time.CopyFrom(before.create_time)
        changed[key] = tariff
        receipts.append(Receipt(Outcome.UPDATED if before else Outcome.CREATED, notices))
    await tariff_put(conn, caller.tenant_id, [changed[key] for key in sorted(changed)], locked)
    kind = OBJECT_KIND_TARIFF
    await documents_put(conn, caller.tenant_id, sender.integration_id, kind, documents)
    changes = [_change(key, UPDATE if locked.get(key) else CREATE, each.etag) for key, each in changed.items()]
    await record(conn, caller, kind, changes)
    return receipts


def _words(violation: FieldViolation) -> tuple[str, str]:
    return violation.path, violation.description


def _evses(location: Location) -> dict[str, Evse]:
    return {evse.uid.casefold(): evse for evse in location.evses}


def _check_time(time: Timestamp, now: datetime) -> None:
    if _time(time) > now + _AHEAD:
        raise InvalidArgument.field("last_updated", "is more than a day ahead")


def _document(sender: Sender, key: ObjectKey, part: str, time: datetime, document: Document) -> Stored:
    """Raises InvalidArgument for one that is too large."""
    text = text_of(document)
    if len(text) > MAX_DOCUMENT:
        raise InvalidArgument.field(part and f"evses[{part}]", f"is larger than {MAX_DOCUMENT:,} characters")
    return Stored(str(key), part, sender.version, time, text)


def _change(key: ObjectKey, operation: str, etag: str) -> Change:
    return Change(str(key), operation, etag, key.integration_id)


def _time(timestamp: Timestamp) -> datetime:
    return timestamp.ToDatetime(tzinfo=UTC)

"""Locations, EVSEs and connectors that partners send. See service.resources.received."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import NamedTuple

from evbridge.v1.delivery_pb2 import OBJECT_KIND_EVSE, OBJECT_KIND_LOCATION
from evbridge.v1.location_pb2 import EVSE_STATUS_REMOVED, Evse, Location
from evbridge.v1.tariff_pb2 import Tariff
from google.protobuf.timestamp_pb2 import Timestamp

from service.bridge.json_text import parse_json, text_of
from service.domain.caller import Caller
from service.domain.keys import EvseKey, ObjectKey
from service.domain.location import location_etag, tariffs_shared
from service.domain.received import Document, is_older, item, merged, settle_times
from service.domain.tariff import first_together
from service.errors import EvbridgeError, FieldViolation, InvalidArgument, ResourceNotFound
from service.resources.documents import (
    MAX_EVSES,
    WHOLE,
    Held,
    Notices,
    Older,
    Place,
    Sender,
    Sent,
    by_groups,
    by_size,
    evse_of,
    part_sent,
    parts_of,
    too_many_evses,
    whole_of,
    wholes_sent,
)
from service.resources.mutation import record
from service.resources.objects import active_together
from service.resources.received import (
    Outcome,
    Receipt,
    change_of,
    check_party,
    check_patch,
    check_time,
    is_outdated,
    kept_documents,
    raised,
    stored_document,
    time_of,
    transact,
)
from service.storage.changes import CREATE, UPDATE, Change
from service.storage.connection import Connection
from service.storage.location import StoredEvse, evse_lock, evse_put, location_lock, location_put
from service.storage.pool import Database
from service.storage.received import Stored, document_get, documents_get, documents_put
from service.storage.tariff import tariff_find

MAX_LOCATION = 2 << 20
"""Characters of a location's documents, those of its EVSEs taken in."""
_LONGEST_STATUS = 100


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
    check_party(sender, key)
    check_patch(document, patch=patch)
    whole: Sent | None = None
    if not (patch or place.evse_uid):
        (read,) = await by_size(partial(wholes_sent, sender, [(key, document)]), document)
        if isinstance(read, InvalidArgument):
            raise read
        whole = read

    async def work(conn: Connection, now: datetime) -> Receipt | EvbridgeError:
        if patch and place.evse_uid and not place.connector_id and _is_status(document):
            return await _status_received(conn, caller, now, sender, key, place, document)
        locked, held = await _locked(conn, caller, sender, [key])
        try:
            sent = whole or await _part_sent(sender, key, held[key], document, place, patch=patch)
        except Older:
            return Receipt(Outcome.OLDER)
        (receipt,) = await _store_locations(conn, caller, now, sender, [sent], locked, held)
        return receipt

    return raised(await transact(database, work))


async def locations_read(
    database: Database, caller: Caller, sender: Sender, documents: Sequence[tuple[ObjectKey, Document]]
) -> Callable[[], Awaitable[list[Receipt | EvbridgeError]]]:
    """Reads a page of whole locations, and returns what stores it: others may be stored meanwhile.

    What is wrong with one costs no other. Of two with a key the last counts. What is held just so is not even read.
    """
    results: dict[ObjectKey, Receipt | EvbridgeError] = {}
    sent: dict[ObjectKey, Sent] = {}
    kept = await kept_documents(database, caller, sender, [key for key, _ in documents], OBJECT_KIND_LOCATION)
    given = dict(documents)
    for key in [*given]:
        try:
            check_party(sender, key)
        except EvbridgeError as error:
            results[key] = error
            del given[key]
    read = await by_groups(partial(_unless_held, sender, kept), given.items())
    for key, each in zip(given, read, strict=True):
        if isinstance(each, Sent):
            sent[key] = each
        else:
            results[key] = each or Receipt(Outcome.UNCHANGED)

    async def work(conn: Connection, now: datetime) -> list[Receipt | EvbridgeError]:
        locked, held = await _locked(conn, caller, sender, sent.keys())
        return await _store_locations(conn, caller, now, sender, [*sent.values()], locked, held)

    async def store() -> list[Receipt | EvbridgeError]:
        stored = await transact(database, work) if sent else ()
        return [(results | dict(zip(sent, stored, strict=True)))[key] for key, _ in documents]

    return store


def _unless_held(
    sender: Sender,
    kept: Mapping[ObjectKey, Mapping[str, Stored]],
    documents: Sequence[tuple[ObjectKey, Document]],
) -> list[Sent | InvalidArgument | None]:
    """None for what is held just so."""
    other = [each for each in documents if not Held(None, kept[each[0]]).equals(sender, parts_of(each[1]))]
    sent = dict(zip(dict(other), wholes_sent(sender, other), strict=True))
    return [sent.get(key) for key, _ in documents]


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
            evses = Held(before, {}).evses()
            living = [uid for uid, evse in evses.items() if evse.status != EVSE_STATUS_REMOVED]
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

    return await transact(database, work)


async def received_location(database: Database, tenant_id: str, key: ObjectKey, place: Place = WHOLE) -> Document:
    """A location, an EVSE or a connector as the partner sent it, with what patches changed. Raises ResourceNotFound."""
    rows = await documents_get(database, tenant_id, key.integration_id, OBJECT_KIND_LOCATION, [str(key)])
    texts = {row.part: row.document for row in rows}
    if "" not in texts:
        raise ResourceNotFound.of("location", key.shown)
    if place.evse_uid:
        texts = {part: text for part, text in texts.items() if part == place.evse_uid.casefold()}
    parts: dict[str, Document] = await by_size(
        lambda: {part: parse_json(text) for part, text in texts.items()}, [*texts.values()]
    )
    if not place.evse_uid:
        return whole_of(parts)
    evse = parts.get(place.evse_uid.casefold())
    if evse is None:
        raise ResourceNotFound.of("evse", Place(place.evse_uid).shown(key))
    if not place.connector_id:
        return evse
    connector = item(evse.get("connectors"), "connectors", place.connector_id)
    if connector is None:
        raise ResourceNotFound.of("connector", place.shown(key))
    return connector


async def _part_sent(
    sender: Sender, key: ObjectKey, held: Held, document: Document, place: Place, *, patch: bool
) -> Sent:
    read = partial(part_sent, sender, key, held, document, place, patch=patch)
    parts = [place.evse_uid.casefold()] if place.evse_uid else parts_of(document)
    return await by_size(read, document, held.texts(*parts))


def _is_status(document: Document) -> bool:
    """Whether a patch is of a status alone, or of what cannot make an EVSE much larger."""
    return document.keys() <= {"status", "last_updated"} and all(
        isinstance(value, str) and len(value) <= _LONGEST_STATUS for value in document.values()
    )


async def _locked(
    conn: Connection, caller: Caller, sender: Sender, keys: Collection[ObjectKey]
) -> tuple[Mapping[ObjectKey, Location | None], dict[ObjectKey, Held]]:
    """What `location_lock` finds, and that with the documents."""
    locked = await location_lock(conn, caller.tenant_id, keys)
    kept = await kept_documents(conn, caller, sender, keys, OBJECT_KIND_LOCATION)
    return locked, {key: Held(locked.get(key), kept[key]) for key in keys}


async def _status_received(
    conn: Connection,
    caller: Caller,
    now: datetime,
    sender: Sender,
    key: ObjectKey,
    place: Place,
    document: Document,
) -> Receipt:
    """The patch that comes most often, of a status alone: the location is not read for it."""
    name, side = EvseKey.of(key, place.evse_uid), (caller.tenant_id, sender.integration_id, OBJECT_KIND_LOCATION)
    stored = (await evse_lock(conn, caller.tenant_id, [name])).get(name)
    kept = await document_get(conn, *side, str(key), name.key)
    if stored is None or kept is None:
        raise ResourceNotFound.of("evse", place.shown(key))
    held = Held(None, {name.key: kept})

    def read() -> tuple[Evse, Notices, Stored]:
        whole = merged(held.document(sender, name.key, "evse", place.shown(key)), document)
        sent, notices = evse_of(sender, whole)
        return sent, notices, stored_document(sender, key, name.key, time_of(sent.last_updated), whole)

    sent, notices, document_now = await by_size(read, kept.document)
    check_time(sent.last_updated, now)
    if time_of(sent.last_updated) < kept.last_updated:
        return Receipt(Outcome.OLDER)
    changed = sent.status != stored.evse.status
    if changed:
        stored.evse.status = sent.status
        stored.evse.status_time.CopyFrom(sent.last_updated)
        stored.evse.last_updated.CopyFrom(sent.last_updated)
        await evse_put(conn, caller.tenant_id, {name: StoredEvse(stored.position, stored.evse)})
        await record(conn, caller, OBJECT_KIND_EVSE, [Change(str(name), UPDATE, "", sender.integration_id)])
    await documents_put(conn, *side, [document_now])
    return Receipt(Outcome.UPDATED if changed else Outcome.UNCHANGED, notices)


class _Combined(NamedTuple):
    """A location with what is newer of what was sent, the documents to keep, the folded uids with another status."""

    location: Location
    documents: list[Stored]
    statuses: list[str]
    outcome: Outcome


async def _store_locations(
    conn: Connection,
    caller: Caller,
    now: datetime,
    sender: Sender,
    sent: Sequence[Sent],
    locked: Mapping[ObjectKey, Location | None],
    held: Mapping[ObjectKey, Held],
) -> list[Receipt | EvbridgeError]:
    receipts: list[Receipt | EvbridgeError] = []
    combined: dict[ObjectKey, _Combined] = {}
    for each in sent:
        await asyncio.sleep(0)
        try:
            combine = partial(_combined, sender, each, held[each.key], now)
            new = combined[each.key] = await by_size(combine, each.documents, [*held[each.key].documents])
            receipts.append(Receipt(new.outcome, each.notices))
        except Older:
            receipts.append(Receipt(Outcome.OLDER, each.notices))
        except EvbridgeError as error:
            receipts.append(error)
    changed = {key: new for key, new in sorted(combined.items()) if new.outcome != Outcome.UNCHANGED}
    together = await _together(conn, caller, {key: (new.location, held[key].location) for key, new in changed.items()})
    for number, (each, receipt) in enumerate(zip(sent, receipts, strict=True)):
        if isinstance(receipt, Receipt) and each.key in together:
            receipts[number] = receipt._replace(notices=(*receipt.notices, *together[each.key]))
    await location_put(conn, caller.tenant_id, [new.location for new in changed.values()], locked)
    side = (caller.tenant_id, sender.integration_id, OBJECT_KIND_LOCATION)
    await documents_put(conn, *side, [document for new in combined.values() for document in new.documents])
    changes = [
        change_of(key, UPDATE if before else CREATE, new.location.etag)
        for key, new in changed.items()
        if (before := held[key].location) is None or before.etag != new.location.etag
    ]
    await record(conn, caller, OBJECT_KIND_LOCATION, changes)
    statuses = [f"{key}/{uid}" for key, new in changed.items() for uid in new.statuses]
    await record(conn, caller, OBJECT_KIND_EVSE, [Change(id, UPDATE, "", sender.integration_id) for id in statuses])
    return receipts


async def _together(
    conn: Connection, caller: Caller, locations: Mapping[ObjectKey, tuple[Location, Location | None]]
) -> dict[ObjectKey, list[FieldViolation]]:
    """By locations, as they are and as they were: where a connector newly has two tariffs of one type at once."""
    shared = {key: [*tariffs_shared(*each)] for key, each in locations.items()}
    named = {tariff for places in shared.values() for _, tariffs in places for tariff in tariffs}
    stored = await tariff_find(conn, caller.tenant_id, named) if named else {}
    found: dict[ObjectKey, list[FieldViolation]] = {}
    for key, places in shared.items():
        for path, tariffs in places:
            held = (Tariff.FromString(stored[tariff]) for tariff in tariffs if tariff in stored)
            if pair := first_together(held):
                found.setdefault(key, []).extend(active_together(path, *pair).violations)
    return found


def _combined(sender: Sender, sent: Sent, held: Held, now: datetime) -> _Combined:
    """Raises Older when all that was sent is older, InvalidArgument."""
    before, wanted, documents = held.location, Location(), list[Stored]()
    wanted.CopyFrom(sent.own[1] if sent.own else before or Location())
    otherwise = Timestamp()
    otherwise.FromDatetime(now)
    if sent.own:
        if not wanted.HasField("last_updated"):
            wanted.last_updated.CopyFrom(otherwise)
        otherwise.CopyFrom(wanted.last_updated)
        if is_outdated(wanted.last_updated, held, "", now):
            raise Older
        documents.append(stored_document(sender, sent.key, "", time_of(wanted.last_updated), sent.own[0]))
    known = held.evses()
    evses = {**known}
    is_new = before is None or (sent.own is None and not sent.evses.keys() <= evses.keys())
    for uid, (document, evse) in sent.evses.items():
        settle_times(evse, otherwise)
        if not is_outdated(evse.last_updated, held, uid, now):
            stored = evses.get(uid)
            has_same_status = stored is not None and stored.status == evse.status
            evse.status_time.CopyFrom(stored.status_time if stored and has_same_status else evse.last_updated)
            evse.uid = stored.uid if stored else evse.uid
            evses[uid] = evse
            documents.append(stored_document(sender, sent.key, uid, time_of(evse.last_updated), document))
    if not documents:
        raise Older
    for uid in evses.keys() - {*sent.named, *sent.evses} if sent.named is not None else ():
        if evses[uid].status != EVSE_STATUS_REMOVED and not is_older(otherwise, evses[uid].last_updated):
            evses[uid] = _removed(evses[uid], otherwise)
            if uid in held.documents:
                gone = parse_json(held.documents[uid].document) | {"status": "REMOVED"}
                documents.append(stored_document(sender, sent.key, uid, time_of(otherwise), gone))
    if len(evses) > MAX_EVSES:
        raise too_many_evses()
    _check_size(held, documents)
    del wanted.evses[:]
    wanted.evses.extend(evses.values())
    wanted.etag = location_etag(wanted)
    wanted.create_time.FromDatetime(now)
    if before:
        wanted.id = before.id
        wanted.create_time.CopyFrom(before.create_time)
    statuses = [uid for uid, evse in evses.items() if before and (uid not in known or known[uid].status != evse.status)]
    is_changed = statuses or before is None or before.etag != wanted.etag
    outcome = Outcome.CREATED if is_new else Outcome.UPDATED if is_changed else Outcome.UNCHANGED
    return _Combined(wanted, documents, statuses, outcome)


def _check_size(held: Held, documents: Sequence[Stored]) -> None:
    """Raises InvalidArgument when these make the location too large; one that is so already may become smaller."""
    sizes = {part: len(stored.document) for part, stored in held.documents.items()}
    before = sum(sizes.values())
    size = sum((sizes | {each.part: len(each.document) for each in documents}).values())
    if size > max(MAX_LOCATION, before):
        problem = f"makes the location larger than {MAX_LOCATION:,} characters, EVSEs that are REMOVED counted"
        raise InvalidArgument.field("evses", problem)


def _removed(evse: Evse, time: Timestamp) -> Evse:
    removed = Evse()
    removed.CopyFrom(evse)
    removed.status = EVSE_STATUS_REMOVED
    removed.status_time.CopyFrom(time)
    removed.last_updated.CopyFrom(time)
    return removed

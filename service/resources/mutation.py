"""The only way to write: one transaction, an answer that can be repeated, a rehearsal, an audit event.

What callers change are objects of a `Noun`: `put` merges, validates, cleans, stamps, writes and records them, one or
many at once; `delete` deletes one.
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any

from evbridge.v1.delivery_pb2 import (
    OBJECT_KIND_CDR,
    OBJECT_KIND_EVSE,
    OBJECT_KIND_LOCATION,
    OBJECT_KIND_SESSION,
    OBJECT_KIND_TARIFF,
    OBJECT_KIND_TOKEN,
    ObjectKind,
)
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from service.domain.audit import event_of
from service.domain.caller import Caller
from service.domain.fields import fields_changed
from service.domain.keys import ObjectKey
from service.domain.status import status_of
from service.domain.versions import check_etag, time_after
from service.errors import EvbridgeError, InvalidArgument, ResourceNotFound
from service.resources.audit import audit_call, audited
from service.resources.noun import M, Noun, Pending, Upsert, etag_in
from service.storage.audit import audit_place
from service.storage.changes import (
    CREATE,
    DELETE,
    UPDATE,
    Change,
    change_record_many,
    idempotency_claim,
    idempotency_keep,
)
from service.storage.connection import Connection
from service.storage.keyring import Keyring
from service.storage.pool import Database

PURPOSE = "request-id"


class _Rehearsed(Exception):
    """Rolls the transaction of a `validate_only` request back."""


async def mutate(
    database: Database,
    keyring: Keyring,
    request: Message,
    caller: Caller,
    work: Callable[[Connection, datetime], Awaitable[Message]],
) -> bytes:
    """Runs `work` in a transaction, with the audit event of the call, and returns its answer serialized.

    With a `request_id` the answer is stored in the same transaction and given again to the same request; the request is
    remembered as a keyed hash, for it may hold a secret. With `validate_only` all is done and then undone.
    """
    method = type(request).__name__
    sent: Any = request
    request_id = getattr(request, "request_id", "").lower()  # a UUID, in any case the same
    answer = b""
    try:
        async with database.transaction() as conn:
            if request_id:
                sent.request_id = request_id
                digests = keyring.digests(PURPOSE, request.SerializeToString(deterministic=True))
                given = await idempotency_claim(conn, caller.tenant_id, method, request_id, digests)
                if given is not None:
                    return given
            place = await audit_place(conn)
            answer = (await work(conn, place.time)).SerializeToString()
            if getattr(request, "validate_only", False):
                raise _Rehearsed
            if request_id:
                await idempotency_keep(conn, caller.tenant_id, method, request_id, answer)
            await audit_call(conn, keyring, caller, place, request)
    except _Rehearsed:
        pass
    return answer


async def mutate_in_steps(
    database: Database, keyring: Keyring, request: Any, caller: Caller, work: Callable[[], Awaitable[Message]]
) -> bytes:
    """The same for work in transactions of its own that may be done again, as it is when it was cut.

    It is the work that undoes what it does for a `validate_only` request.
    """
    method, request_id = type(request).__name__, request.request_id.lower()
    if request.validate_only:
        return (await work()).SerializeToString()

    async def audited_work() -> bytes:
        async with audited(database, keyring, caller, lambda: event_of(request, caller.trail)):
            return (await work()).SerializeToString()

    if not request_id:
        return await audited_work()
    request.request_id = request_id
    digests = keyring.digests(PURPOSE, request.SerializeToString(deterministic=True))
    async with database.transaction() as conn:
        given = await idempotency_claim(conn, caller.tenant_id, method, request_id, digests)
    if given is not None:
        return given
    answer = await audited_work()
    async with database.transaction() as conn:
        await idempotency_keep(conn, caller.tenant_id, method, request_id, answer)
    return answer


async def mutate_one(
    database: Database, keyring: Keyring, request: Message, caller: Caller, upsert: Upsert[M]
) -> bytes:
    """Stores what the upsert asks for, as `mutate` does it. Raises what is wrong with it."""
    return await mutate(database, keyring, request, caller, lambda conn, now: put_one(conn, caller, now, upsert))


async def mutate_many(
    database: Database,
    keyring: Keyring,
    request: Message,
    caller: Caller,
    upserts: Sequence[Upsert[M]],
    response: Callable[[], Message],
    field: str = "",
) -> bytes:
    """Stores what the upserts of one noun ask for, as `mutate` does it: a `response` with a result for each.

    The object stands in the result's `field`, which most often is called as the noun is.
    """

    async def work(conn: Connection, now: datetime) -> Message:
        made = response()
        add_results(made, field or upserts[0].noun.noun, await put(conn, caller, now, upserts))
        return made

    return await mutate(database, keyring, request, caller, work)


async def put_one(conn: Connection, caller: Caller, now: datetime, upsert: Upsert[M]) -> M:
    """Stores what the upsert asks for. Raises what is wrong with it."""
    (result,) = await put(conn, caller, now, [upsert])
    if isinstance(result, EvbridgeError):
        raise result
    return result


async def put(conn: Connection, caller: Caller, now: datetime, upserts: Sequence[Upsert[M]]) -> list[M | EvbridgeError]:
    """Stores each object that is right, and returns the error of each that is not. What did not change is not written.

    The upserts are of one noun, and there is at least one.
    """
    noun = upserts[0].noun
    locked = await noun.lock(conn, caller.tenant_id, {upsert.key for upsert in upserts if not upsert.violation})
    results = [*_resolved(upserts, locked)]
    pending = {
        upsert.key: Pending(upsert.path, result, locked.get(upsert.key), upsert.origin is not None)
        for upsert, result in zip(upserts, results, strict=True)
        if not isinstance(result, EvbridgeError)
    }
    refused = await noun.refused(conn, caller.tenant_id, pending) if pending else {}
    stored = await store(conn, caller, now, noun, {key: pending[key] for key in pending if key not in refused}, locked)
    caller.trail.name(path for upsert in upserts if upsert.key in stored for path in upsert.secrets())
    caller.trail.refused += len(upserts) - len(stored)
    return [
        result if isinstance(result, EvbridgeError) else refused.get(upsert.key) or stored[upsert.key]
        for upsert, result in zip(upserts, results, strict=True)
    ]


async def store(
    conn: Connection,
    caller: Caller,
    now: datetime,
    noun: Noun[M],
    pending: Mapping[Any, Pending[M]],
    locked: Mapping[Any, M | None],
) -> dict[Any, M]:
    """Stamps objects that are right, by their keys, and writes and records those that changed."""
    stored = {key: _stamped(noun, each, now) for key, each in pending.items()}
    changed = {key: each for key, each in stored.items() if each is not pending[key].before}
    await noun.write(conn, caller.tenant_id, [changed[key] for key in sorted(changed)], locked)
    changes = [Change(str(key), UPDATE if locked.get(key) else CREATE, etag_in(each)) for key, each in changed.items()]
    await change_record_many(conn, caller, noun.kind, changes)
    caller.trail.add(_type(noun.kind), map(noun.shown, stored), len(changed))
    for key, each in changed.items():
        caller.trail.name(fields_changed(pending[key].before, each))
    return stored


async def mutate_delete(
    database: Database, keyring: Keyring, request: Message, caller: Caller, noun: Noun[M], key: Any
) -> bytes:
    """Deletes an object, as `mutate` does it. Raises what `delete` does."""
    return await mutate(database, keyring, request, caller, lambda conn, now: delete(conn, caller, noun, key, request))


async def delete(conn: Connection, caller: Caller, noun: Noun[M], key: Any, request: Any) -> Empty:
    """Raises ResourceNotFound unless `allow_missing`, EtagMismatch, and what keeps the object from being deleted."""
    noun.check_ours(key)
    stored = (await noun.lock(conn, caller.tenant_id, [key])).get(key)
    if stored is None:
        if request.allow_missing:
            return Empty()
        raise ResourceNotFound.of(noun.noun, noun.shown(key))
    check_etag(request.etag, etag_in(stored), noun.noun, noun.shown(key))
    await noun.remove(conn, caller.tenant_id, key)
    await change_record_many(conn, caller, noun.kind, [Change(str(key), DELETE, etag_in(stored))])
    caller.trail.add(_type(noun.kind), [noun.shown(key)], 1)
    return Empty()


def add_results(response: Any, noun: str, results: Iterable[Message | EvbridgeError]) -> None:
    """Adds to a batch's response what became of each object: its error, or itself in the field called `noun`."""
    for result in results:
        response.results.add(**({"error": status_of(result)} if isinstance(result, EvbridgeError) else {noun: result}))


async def record(conn: Connection, caller: Caller, kind: ObjectKind.ValueType, changes: Sequence[Change]) -> None:
    """Records who changed what, and makes the objects due wherever they are delivered."""
    await change_record_many(conn, caller, kind, changes)
    caller.trail.add(_type(kind), (_shown(kind, each.object_id) for each in changes), len(changes))


def _resolved(upserts: Sequence[Upsert[M]], locked: Mapping[Any, M | None]) -> Iterator[M | EvbridgeError]:
    """What each upsert wants, or what is wrong with it."""
    seen: set[Any] = set()
    for upsert in upserts:
        try:
            if upsert.key in seen:
                raise InvalidArgument.field(f"{upsert.path}.id", "stands in the request twice")
            seen.add(upsert.key)
            yield upsert.resolved(locked.get(upsert.key))
        except EvbridgeError as error:
            yield error


def _stamped(noun: Noun[M], pending: Pending[M], now: datetime) -> M:
    """With its times and its etag; what was stored before when nothing changed."""
    wanted: Any = pending.wanted
    before: Any = pending.before
    if before:
        now = time_after(getattr(before, noun.time), now)
    noun.stamp(wanted, before, now)
    wanted.etag = noun.etag(wanted)
    if before:
        wanted.create_time.CopyFrom(before.create_time)
        getattr(wanted, noun.time).CopyFrom(getattr(before, noun.time))
        if noun.unchanged(wanted, before):
            unchanged: M = before
            return unchanged
    getattr(wanted, noun.time).FromDatetime(now)
    if not before:
        wanted.create_time.FromDatetime(now)
    if pending.imported:
        wanted.origin.synced_time.FromDatetime(now)
    return pending.wanted


_OF_PARTIES = {
    OBJECT_KIND_CDR,
    OBJECT_KIND_EVSE,
    OBJECT_KIND_LOCATION,
    OBJECT_KIND_SESSION,
    OBJECT_KIND_TARIFF,
    OBJECT_KIND_TOKEN,
}


def _shown(kind: ObjectKind.ValueType, object_id: str) -> str:
    return ObjectKey.parsed(object_id).shown if kind in _OF_PARTIES else object_id


@cache
def _type(kind: ObjectKind.ValueType) -> str:
    return ObjectKind.Name(kind).removeprefix("OBJECT_KIND_").lower()

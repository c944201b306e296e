"""The audit trail: events as they are written, signed one by one, and sealed in a chain for each tenant.

Writers do not wait for each other: an event is signed with a keyed digest when it is written, in the transaction of
what it is about, and sealed some seconds later with its neighbours. A seal holds the digest of the one before. Who
can write to the database but has no key can neither make up nor change an event, nor take out one that is sealed.
"""

import hmac
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256

from evbridge.v1.audit_pb2 import AuditEvent
from evbridge.v1.error_reason_pb2 import ERROR_REASON_UNSPECIFIED, ErrorReason
from evbridge.v1.error_reason_pb2 import PARTNER_OUTCOME_UNKNOWN as OUTCOME_UNKNOWN
from google.protobuf.message import DecodeError, Message
from opentelemetry import trace

from service.domain.audit import event_of, event_of_command
from service.domain.caller import Caller
from service.errors import EvbridgeError
from service.storage.audit import (
    AuditPlace,
    AuditRow,
    Seal,
    Unsealed,
    audit_abandon,
    audit_digests,
    audit_end,
    audit_events,
    audit_expired,
    audit_forget,
    audit_insert,
    audit_place,
    audit_seal_insert,
    audit_seal_last,
    audit_seals,
    audit_unsealed,
)
from service.storage.connection import Connection
from service.storage.keyring import Keyring, associated
from service.storage.pool import Database
from service.telemetry import log_fields

log = logging.getLogger(__name__)

_EVENT, _SEAL, _ANCHOR, _TOKEN = "audit-event", "audit-seal", "audit-anchor", "audit-token"
_HIDDEN = "token-"
_ABANDONED = timedelta(minutes=10)
_MAX_PROBLEMS = 20


async def audit_call(conn: Connection, keyring: Keyring, caller: Caller, place: AuditPlace, request: Message) -> None:
    """Writes the event of a call that changed what its caller's trail says."""
    await _write(conn, keyring, caller, place, event_of(request, caller.trail))


async def audit_command(conn: Connection, keyring: Keyring, caller: Caller, command: str) -> None:
    """Writes the event of a command, `evbridge keys create`, that changed what its caller's trail says."""
    await _write(conn, keyring, caller, await audit_place(conn), event_of_command(command, caller.trail))


@asynccontextmanager
async def audited(
    database: Database, keyring: Keyring, caller: Caller, describe: Callable[[], AuditEvent]
) -> AsyncIterator[None]:
    """The event of what is no transaction, as a call to a partner: written before, and ended with what became of it."""
    event = describe()
    event.reason = OUTCOME_UNKNOWN
    async with database.transaction() as conn:
        place = await audit_place(conn)
        await _write(conn, keyring, caller, place, event, open=True)
    reason: ErrorReason.ValueType = OUTCOME_UNKNOWN
    try:
        yield
        reason = ERROR_REASON_UNSPECIFIED
    except EvbridgeError as error:
        reason = error.reason
        raise
    finally:
        event = describe()
        event.reason = reason
        row = _row(keyring, caller, place, event, open=False)
        with suppress(EvbridgeError):  # the event says then that nobody knows
            await audit_end(database, caller.tenant_id, row)


def audit_object_ids(keyring: Keyring, tenant_id: str, object_id: str) -> list[str]:
    """By what events are found that are about an object."""
    name = object_id.casefold()
    return [name, *(_HIDDEN + each.hex() for each in keyring.digests(_TOKEN, associated(tenant_id, name)))]


async def _write(
    conn: Connection, keyring: Keyring, caller: Caller, place: AuditPlace, event: AuditEvent, *, open: bool = False
) -> None:
    await audit_insert(conn, caller.tenant_id, _row(keyring, caller, place, event, open=open))


def _row(keyring: Keyring, caller: Caller, place: AuditPlace, event: AuditEvent, *, open: bool) -> AuditRow:
    """Signed. The uid of a token leads to a driver, who may be erased: events have a digest in its place."""
    event.id = str(place.event_id)
    event.event_time.FromDatetime(place.time)
    event.actor, event.address = caller.actor, caller.address
    event.request_id = event.request_id or (log_fields.get() or {}).get("request_id", "")
    span = trace.get_current_span().get_span_context()
    if span.is_valid:
        event.trace_id = trace.format_trace_id(span.trace_id)
    if event.object_type == "token":
        event.object_ids[:] = [audit_object_ids(keyring, caller.tenant_id, id)[1] for id in event.object_ids]
    payload = event.SerializeToString()
    digest = keyring.digest(_EVENT, _signed(caller.tenant_id, place.event_id, payload))
    return AuditRow(place.event_id, place.time, event.actor, event.rpc, _object_id(event), open, digest, payload)


class Sealer:
    """Seals what is written, of all tenants, a round after it was seen: by then nothing can come in between."""

    def __init__(self, database: Database, keyring: Keyring) -> None:
        self._database = database
        self._keyring = keyring
        self._seen: dict[str, Unsealed] = {}

    async def due(self) -> bool:
        """Whether there is more to seal at once."""
        unsealed = {each.tenant_id: each for each in await audit_unsealed(self._database)}
        ready = [
            seen
            for tenant_id, seen in self._seen.items()
            if tenant_id in unsealed and unsealed[tenant_id].open >= seen.next
        ]
        more = [await self._seal(each.tenant_id, each.event_id) for each in ready]
        done = {each.tenant_id for each, left in zip(ready, more, strict=True) if not left}
        waiting = {id: seen for id, seen in self._seen.items() if id in unsealed and id not in done}
        self._seen = unsealed | waiting
        return any(more)

    async def _seal(self, tenant_id: str, last: int) -> bool:
        """Seals the next events up to the last. Whether there are more."""
        async with self._database.transaction() as conn:
            await audit_abandon(conn, tenant_id, _ABANDONED)
            seal_id, sealed, previous = await audit_seal_last(conn, tenant_id)
            events = await audit_digests(conn, tenant_id, sealed, last)
            if not events:
                return False
            seal = Seal(seal_id + 1, events[-1][0], len(events), _hash(events), previous, b"", None, datetime.min)
            seal = seal._replace(digest=self._keyring.digest(_SEAL, _sealed(tenant_id, seal)))
            if not await audit_seal_insert(conn, tenant_id, seal):
                return False
        # What was logged elsewhere shows later whether the end of the chain was taken away.
        told = {"tenant": tenant_id, "seal": seal.seal_id, "events": seal.event_count, "digest": seal.digest.hex()}
        log.info("audit events sealed", extra=told)
        return seal.last_event_id < last


async def audit_sweep(database: Database, keyring: Keyring, days: int) -> None:
    """Lets older events go, as far as they are sealed; the seal that stays is signed as the beginning of the chain."""
    while expired := await audit_expired(database, days):
        for tenant_id, seal_id, last_event_id, digest in expired:
            anchor = keyring.digest(_ANCHOR, associated(tenant_id, str(seal_id)) + digest)
            await audit_forget(database, tenant_id, seal_id, last_event_id, anchor)


@dataclass
class Chain:
    """What was found of a tenant's events: how many are sealed and how many not, since when, and what is wrong."""

    tenant_id: str
    events: int = 0
    seal: Seal | None = None
    """The last one."""
    unsealed: int = 0
    unsealed_since: datetime | None = None
    problems: list[str] = field(default_factory=list)

    def wrong(self, problem: str) -> None:
        if len(self.problems) < _MAX_PROBLEMS:
            self.problems.append(problem)


async def chain_verified(database: Database, keyring: Keyring, tenant_id: str) -> Chain:
    """Reads all there is of a tenant. What the sweep lets go meanwhile is no problem."""
    while True:
        chain = Chain(tenant_id)
        first = await _verify(database, keyring, chain)
        if not chain.problems or first == await _first_seal(database, tenant_id):
            return chain


async def _first_seal(database: Database, tenant_id: str) -> int:
    async for seal in audit_seals(database, tenant_id):
        return seal.seal_id
    return 0


async def _verify(database: Database, keyring: Keyring, chain: Chain) -> int:
    """The number of the first seal."""
    first, before = 0, None
    async for seal in audit_seals(database, chain.tenant_id):
        first = first or seal.seal_id
        _check_seal(keyring, chain, seal, before)
        after = before.last_event_id if before else 0
        digests = []
        async for row in audit_events(database, chain.tenant_id, after, seal.last_event_id):
            _check_event(keyring, chain, row)
            digests.append((row.event_id, row.digest))
        if seal.anchor is None and (len(digests), _hash(digests)) != (seal.event_count, seal.events_hash):
            chain.wrong(
                f"seal {seal.seal_id} holds {seal.event_count} events from {after + 1} to {seal.last_event_id}: the "
                f"{len(digests)} that are there are not the same"
            )
        chain.events += len(digests)
        chain.seal = before = seal
    async for row in audit_events(database, chain.tenant_id, before.last_event_id if before else 0):
        _check_event(keyring, chain, row)
        chain.unsealed += 1
        chain.unsealed_since = chain.unsealed_since or row.event_time
    return first


def _check_seal(keyring: Keyring, chain: Chain, seal: Seal, before: Seal | None) -> None:
    if not _is_signed(keyring, _SEAL, _sealed(chain.tenant_id, seal), seal.digest):
        chain.wrong(f"seal {seal.seal_id} is not as it was made, or its key is not in the keyring any more")
    if before is not None:
        if seal.seal_id != before.seal_id + 1 or seal.previous != before.digest:
            chain.wrong(f"seal {seal.seal_id} does not follow seal {before.seal_id}")
    elif seal.anchor is not None:
        if not _is_signed(keyring, _ANCHOR, associated(chain.tenant_id, str(seal.seal_id)) + seal.digest, seal.anchor):
            chain.wrong(f"seal {seal.seal_id} is not the one up to which events were let go")
    elif seal.seal_id != 1 or seal.previous:
        chain.wrong(f"the chain begins with seal {seal.seal_id}: what was before it is gone")


def _check_event(keyring: Keyring, chain: Chain, row: AuditRow) -> None:
    event = AuditEvent()
    with suppress(DecodeError):
        event.ParseFromString(row.payload)
    columns = (str(row.event_id), row.event_time, row.actor, row.rpc, row.object_id)
    said = (event.id, event.event_time.ToDatetime(UTC), event.actor, event.rpc, _object_id(event))
    signed = _signed(chain.tenant_id, row.event_id, row.payload)
    if columns != said or not _is_signed(keyring, _EVENT, signed, row.digest):
        chain.wrong(f"event {row.event_id} is not as it was written, or its key is not in the keyring any more")


def _object_id(event: AuditEvent) -> str:
    """By what it is found; nothing when it is about several."""
    return event.object_ids[0].casefold() if len(event.object_ids) == 1 else ""


def _signed(tenant_id: str, event_id: int, payload: bytes) -> bytes:
    return associated(tenant_id, str(event_id)) + payload


def _sealed(tenant_id: str, seal: Seal) -> bytes:
    numbers = (seal.seal_id, seal.last_event_id, seal.event_count)
    return associated(tenant_id, *map(str, numbers), seal.events_hash.hex(), seal.previous.hex())


def _hash(events: list[tuple[int, bytes]]) -> bytes:
    return sha256(b"".join(event_id.to_bytes(8) + digest for event_id, digest in events)).digest()


def _is_signed(keyring: Keyring, purpose: str, data: bytes, digest: bytes) -> bool:
    return any(hmac.compare_digest(digest, each) for each in keyring.digests(purpose, data))

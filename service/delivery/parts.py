"""An object that a partner holds as several: its parts go one after another, each remembered before it is sent.

So an attempt goes on where the one before stopped, and a part whose creation was not answered is looked up before it is
made again. An update that may have been lost is repeated; what we send wins over what was changed at the partner.
"""

import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Protocol, Self, TypeVar

from evbridge.v1.delivery_pb2 import PEER_OBJECT_STATE_LINKED, PEER_OBJECT_STATE_NONE, ObjectKind
from google.protobuf.message import Message

from service.delivery.disclosures import disclosed, sending
from service.delivery.worker import Delivered
from service.domain.partner_error import PartnerChanged, PartnerNotFound, PartnerOutcomeUnknown
from service.errors import DeliveryUnfinished
from service.storage.delivery import Claim
from service.storage.peer import (
    PartKey,
    Peer,
    peer_acknowledged,
    peer_get,
    peer_part_acknowledged,
    peer_part_sending,
    peer_parts,
)
from service.storage.pool import Database

LIMIT_S = 90.0
"""How long an attempt begins new parts; the next one goes on, after what else is due."""

M = TypeVar("M", bound=Message)


class Calls(Protocol[M]):
    """How a partner is asked about one kind of parts. Each raises what the channel raises."""

    @property
    def partner(self) -> str: ...

    @property
    def kind(self) -> ObjectKind.ValueType: ...

    @property
    def form(self) -> type[M]: ...

    async def create(self, wanted: M) -> str:
        """The partner's id of what it made; "" when its answer names none."""
        ...

    async def update(self, external_id: str, wanted: M, cleared: Sequence[str]) -> None:
        """`cleared`: paths that are not set any more, and were. Raises PartnerNotFound."""
        ...

    def listed(self, wanted: M) -> AsyncIterator[tuple[str, bool]]:
        """Of all that the partner has and that may be the part: its id there, and whether it looks like it."""
        ...


class Parts:
    """One attempt to bring one object, and what the partner is known to hold of it."""

    def __init__(self, database: Database, claim: Claim, held: dict[PartKey, Peer]) -> None:
        self._database = database
        self._claim = claim
        self._object = PartKey(claim.object_kind)
        self._held = held
        self._brought: set[PartKey] = set()
        self._requests = 0
        self._end = time.monotonic() + LIMIT_S

    @classmethod
    async def of(cls, database: Database, claim: Claim) -> Self:
        async with database.connection() as conn:
            held = await peer_parts(conn, claim)
            held[PartKey(claim.object_kind)] = await peer_get(conn, claim.peer_key)
        return cls(database, claim, held)

    @property
    def held(self) -> Mapping[PartKey, Peer]:
        """What the partner is known to hold, by part."""
        return self._held

    @property
    def peer(self) -> Peer:
        """What the partner is known to hold of the object itself."""
        return self._held[self._object]

    def sent(self, calls: Calls[M], *ids: str) -> M:
        """The part as it was last sent; empty when it was not."""
        peer = self._held.get(PartKey(calls.kind, ids), Peer())
        return calls.form.FromString(peer.sent_document or b"")

    def all_sent(self, calls: Calls[M]) -> Iterator[tuple[PartKey, M]]:
        """The parts of a kind as they were last sent."""
        for key in [*self._held]:
            if key.kind == calls.kind:
                yield key, self.sent(calls, *key.ids)

    def external_ids(self, kind: ObjectKind.ValueType) -> set[str]:
        """The partner's ids of the parts of a kind."""
        return {peer.external_id for key, peer in self._held.items() if key.kind == kind}

    def left(self, calls: Calls[M]) -> Iterator[tuple[PartKey, M]]:
        """Those that this attempt has not brought."""
        return ((key, sent) for key, sent in self.all_sent(calls) if key not in self._brought)

    async def bring(self, calls: Calls[M], wanted: M, *ids: str, may_create: bool = True) -> str:
        """The partner's id of the part once it holds `wanted`; nothing is sent when it does already.

        Without ids it is the object itself. "" for one that it does not have and may not be made. Raises
        DeliveryUnfinished, LeaseLost, PartnerChanged when it was deleted there, unless it may overwrite that, and what
        the calls raise.
        """
        key = PartKey(calls.kind, ids)
        peer = self._held.get(key, Peer())
        self._brought.add(key)
        document = wanted.SerializeToString(deterministic=True)
        if self._is_certain(key, peer) and peer.sent_document == document:
            return peer.external_id
        if self._requests and time.monotonic() > self._end:
            raise DeliveryUnfinished("it has more parts than fit into one attempt; the next goes on", retry_after_s=0.0)
        if peer.state != PEER_OBJECT_STATE_NONE and not peer.external_id:
            peer = replace(peer, external_id=await self._found(calls, wanted))
        if not peer.external_id and not may_create:
            return ""
        external_id = await self._sent(calls, key, peer, wanted)
        await self._acknowledged(key, Peer(PEER_OBJECT_STATE_LINKED, external_id, sent_document=document))
        return external_id

    def delivered(self, description: str = "", remark: str = "") -> Delivered:
        """The attempt's success; without a description it says what was done, and the remark."""
        done = f"stored at the partner by {self._requests} requests{remark}"
        done = done if self._requests else "the partner already holds this state"
        return Delivered(self.peer, 0, (description or done)[:500], answered=self._requests > 0)

    def _is_certain(self, key: PartKey, peer: Peer) -> bool:
        """Asked to look again, it sends the object again and of its parts what was not acknowledged."""
        again = self._claim.verify and key == self._object
        return peer.state == PEER_OBJECT_STATE_LINKED and bool(peer.external_id) and not again

    async def _sent(self, calls: Calls[M], key: PartKey, peer: Peer, wanted: M) -> str:
        """The partner's id of the part, once it is updated or created."""
        if peer.external_id:
            try:
                async with self._sending(calls, key, peer, wanted) as cleared:
                    await calls.update(peer.external_id, wanted, cleared)
                return peer.external_id
            except PartnerNotFound:
                # An outage may answer so, too: it is gone when the list does not have it either.
                if peer.external_id in [id async for id, _ in calls.listed(wanted)]:
                    raise
                if not self._claim.overwrite:
                    raise PartnerChanged("the object was removed at the partner", partner=calls.partner) from None
                peer = Peer()
        async with self._sending(calls, key, peer, wanted):
            if not (created := await calls.create(wanted)):
                raise PartnerOutcomeUnknown("the answer names no id", partner=calls.partner)
        return created

    async def _found(self, calls: Calls[M], wanted: M) -> str:
        """The partner's id of a part whose creation was not answered; "" when it was not made."""
        async for id, alike in calls.listed(wanted):
            if alike:
                return id
        return ""

    @asynccontextmanager
    async def _sending(self, calls: Calls[M], key: PartKey, peer: Peer, wanted: M) -> AsyncIterator[list[str]]:
        """Remembers what is sent while entered, with the paths that it clears.

        Until it is acknowledged, what either version sets may stand there.
        """
        both = calls.form.FromString(peer.sent_document or b"")
        cleared = sorted(_cleared(both, wanted))
        both.MergeFrom(wanted)
        held = both.SerializeToString()
        if key == self._object:
            noted = sending(self._database, self._claim, peer, held, wanted)
        else:
            await peer_part_sending(self._database, self._claim, key, peer, held)
            noted = disclosed(self._database, self._claim, wanted, key)
        self._requests += 1
        async with noted:
            yield cleared

    async def _acknowledged(self, key: PartKey, peer: Peer) -> None:
        async with self._database.transaction() as conn:
            if key == self._object:
                await peer_acknowledged(conn, self._claim, peer)
            else:
                await peer_part_acknowledged(conn, self._claim, key, peer)
        self._held[key] = peer


class Rehearsal(Parts):
    """An attempt that sends nothing: `wanted` are the parts as it would bring them."""

    def __init__(self, database: Database, claim: Claim, held: dict[PartKey, Peer]) -> None:
        super().__init__(database, claim, held)
        self.wanted: dict[PartKey, Message] = {}

    async def bring(self, calls: Calls[M], wanted: M, *ids: str, may_create: bool = True) -> str:
        """A part that is not there yet has the id 0."""
        key = PartKey(calls.kind, ids)
        self._brought.add(key)
        external_id = self._held.get(key, Peer()).external_id
        if external_id or may_create:
            self.wanted[key] = calls.form.FromString(wanted.SerializeToString())
        return external_id or "0"


def _cleared(sent: Any, wanted: Any, prefix: str = "") -> Iterator[str]:
    """The paths of what was sent once and is not set any more."""
    for field, value in sent.ListFields():
        if field.is_repeated:
            if not getattr(wanted, field.name):
                yield prefix + field.name
        elif not wanted.HasField(field.name):
            yield prefix + field.name
        elif field.message_type and field.message_type.file.package.startswith("evbridge."):
            yield from _cleared(value, getattr(wanted, field.name), f"{prefix}{field.name}.")

"""Pushes a session to the eMSP: as a whole first, and then what changed of it.

Source: OCPI 2.2.1, sessions, Receiver interface.
"""

import asyncio
from datetime import timedelta
from typing import Any, Final

from evbridge.partner.ocpi.v2.sessions_pb2 import PatchSessionRequest, PutSessionRequest
from evbridge.partner.ocpi.v2.sessions_pb2_grpc import SessionsReceiverServiceStub
from evbridge.v1.delivery_pb2 import PEER_OBJECT_STATE_LINKED
from evbridge.v1.session_pb2 import Session
from google.protobuf.struct_pb2 import Struct

from service.bridge.channel import PartnerChannel
from service.delivery.disclosures import sending
from service.delivery.worker import Delivered
from service.domain.partner_error import PartnerNotFound, PartnerRejected
from service.partners.ocpi.mapping import object_to, struct_of
from service.storage.changes import change_time
from service.storage.delivery import Claim
from service.storage.peer import Peer
from service.storage.pool import Database

_PROGRESS: Final = ("charging_periods", "kwh", "total_cost", "last_updated")
"""What changes as a session goes on, and is told every so often."""


class SessionDelivery:
    """One attempt, at the receiver at `url`. `interval`: how often progress is told; 0 each time."""

    def __init__(
        self, database: Database, channel: PartnerChannel, claim: Claim, peer: Peer, *, version: str, url: str
    ) -> None:
        self._database = database
        self._claim = claim
        self._peer = peer
        self._version = version
        self._to: Any = {"integration_id": claim.integration_id, "url": url}
        self._sessions = channel.stub(SessionsReceiverServiceStub, claim.tenant_id)

    async def deliver(self, wanted: Session, interval: timedelta) -> Delivered:
        sent = self._sent()
        if sent is not None:
            if _without(sent, "last_updated") == _without(wanted, "last_updated"):
                return Delivered(self._peer, 0, "the partner already holds this state", answered=False)
            again_s = await self._held_back_s(sent, wanted, interval)
            if again_s > 0:
                held = f"held back: charging periods are told every {interval}"
                return Delivered(self._peer, 0, held, answered=False, again_s=again_s)
        whole, lost, patch = await asyncio.to_thread(_told, sent, wanted, self._version)
        names: Any = {"country_code": wanted.country_code, "party_id": wanted.party_id, "session_id": wanted.id}
        async with sending(self._database, self._claim, self._peer, wanted.SerializeToString(), wanted):
            if patch is None or not await self._patched(PatchSessionRequest(**self._to, **names), patch):
                request = PutSessionRequest(**self._to, **names)
                request.object.CopyFrom(whole)
                await self._sessions.PutSession(request)
        remark = f"; OCPI {self._version} has no place for {', '.join(lost)}" if lost else ""
        holding = Peer(PEER_OBJECT_STATE_LINKED, wanted.id, sent_document=wanted.SerializeToString())
        return Delivered(holding, 0, f"stored at the partner{remark}"[:500])

    async def _patched(self, request: PatchSessionRequest, patch: Struct) -> bool:
        """False when the partner has no such session, or does not take the patch: then it gets the whole one."""
        request.object.CopyFrom(patch)
        try:
            await self._sessions.PatchSession(request)
        except (PartnerNotFound, PartnerRejected):
            return False
        return True

    def _sent(self) -> Session | None:
        """What the partner has for certain. A patch that was not acknowledged may have added its periods."""
        if self._claim.verify or self._peer.state != PEER_OBJECT_STATE_LINKED or not self._peer.sent_document:
            return None
        return Session.FromString(self._peer.sent_document)

    async def _held_back_s(self, sent: Session, wanted: Session, interval: timedelta) -> float:
        """For how long nothing is told, since nothing but progress is new."""
        if not interval or _without(sent, *_PROGRESS) != _without(wanted, *_PROGRESS):
            return 0.0
        async with self._database.connection() as conn:
            now = await change_time(conn)
        due = sent.last_updated.ToDatetime(tzinfo=now.tzinfo) + interval
        return (due - now).total_seconds()


def _told(sent: Session | None, wanted: Session, version: str) -> tuple[Struct, list[str], Struct | None]:
    """The object of the version, the paths of what is not in it, and the patch that makes it of what was sent."""
    written = object_to(wanted, version)
    patch = None if sent is None else _patch(object_to(sent, version).object, written.object, version)
    lost = [loss.path for loss in written.losses]
    return struct_of(written.object), lost, None if patch is None else struct_of(patch)


def _patch(before: dict[str, Any], after: dict[str, Any], version: str) -> dict[str, Any] | None:
    """The members that are new; None when only the whole object says what changed.

    Periods of a patch are added to those that are there, and nothing can be taken away.
    """
    if before.keys() - after.keys():
        return None
    patch = {name: value for name, value in after.items() if name not in before or before[name] != value}
    if "charging_periods" in patch:
        old, new = before.get("charging_periods") or [], after["charging_periods"]
        if version == "2.1.1" or new[: len(old)] != old:
            return None
        patch["charging_periods"] = new[len(old) :]
    return patch | {"last_updated": after["last_updated"]}


def _without(session: Session, *names: Any) -> Session:
    plain = Session()
    plain.CopyFrom(session)
    for name in names:
        plain.ClearField(name)
    return plain

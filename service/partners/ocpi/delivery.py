"""Pushes what OCPI parties are shown to them, as far as `models` say so and the party has a receiver.

Source: OCPI 2.1.1, 2.2.1 and 2.3.0, locations, tariffs, tokens and hub client info, Receiver interface. Nothing that
failed is sent again as it was: the next attempt sends what the partner sees by then.
"""

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Any, Final, TypeVar

from evbridge.partner.ocpi.v2.hub_client_info_pb2 import PutClientInfoRequest
from evbridge.partner.ocpi.v2.hub_client_info_pb2_grpc import HubClientInfoReceiverServiceStub
from evbridge.partner.ocpi.v2.locations_pb2 import PatchEvseRequest, PutLocationRequest
from evbridge.partner.ocpi.v2.locations_pb2_grpc import LocationsReceiverServiceStub
from evbridge.partner.ocpi.v2.tariffs_pb2 import DeleteTariffRequest, PutTariffRequest
from evbridge.partner.ocpi.v2.tariffs_pb2_grpc import TariffsReceiverServiceStub
from evbridge.partner.ocpi.v2.tokens_pb2 import PatchTokenRequest, PutTokenRequest
from evbridge.partner.ocpi.v2.tokens_pb2_grpc import TokensReceiverServiceStub
from evbridge.v1.cdr_pb2 import Cdr
from evbridge.v1.delivery_pb2 import (
    OBJECT_KIND_CDR,
    OBJECT_KIND_EVSE,
    OBJECT_KIND_HUB_CLIENT,
    OBJECT_KIND_INVOICE_RECONCILIATION_RECORD,
    OBJECT_KIND_LOCATION,
    OBJECT_KIND_SESSION,
    OBJECT_KIND_TARIFF,
    OBJECT_KIND_TOKEN,
    PEER_OBJECT_STATE_LINKED,
    PEER_OBJECT_STATE_NONE,
)
from evbridge.v1.hub_client_pb2 import HubClient
from evbridge.v1.invoice_reconciliation_pb2 import InvoiceReconciliationRecord
from evbridge.v1.location_pb2 import EVSE_STATUS_REMOVED, Evse, Location
from evbridge.v1.session_pb2 import Session
from evbridge.v1.tariff_pb2 import Tariff
from evbridge.v1.token_pb2 import Token
from google.protobuf.message import Message

from service.bridge.channel import PartnerChannel
from service.delivery.disclosures import sending
from service.delivery.worker import Delivered
from service.domain.hub_client import hub_client_key
from service.domain.keys import ObjectKey
from service.domain.location import tariffs_named
from service.domain.partner_error import PartnerNotFound
from service.errors import TariffNotDelivered, TariffStillNamed
from service.partners.ocpi.cdr_delivery import CdrDelivery
from service.partners.ocpi.invoice_reconciliation_delivery import InvoiceReconciliationDelivery
from service.partners.ocpi.mapping import object_to, struct_of
from service.partners.ocpi.pushes import Pushes
from service.partners.ocpi.reach import reached_by
from service.partners.ocpi.session_delivery import SessionDelivery
from service.storage.changes import delivery_mark_at
from service.storage.delivery import Claim, delivery_resume
from service.storage.peer import (
    PartKey,
    Peer,
    peer_acknowledged,
    peer_naming,
    peer_tariffs_missing,
)
from service.storage.pool import Database
from service.storage.view import Viewed, view_look

M = TypeVar("M", Location, Tariff, Token, HubClient)

MAX_PATCHES: Final = 20
"""Where the statuses of more EVSEs have changed, the location is sent whole."""

_KEPT = "the partner already holds this state"
_UNSEEN = "the partner does not see it"


class OcpiDeliverer:
    """Brings what one OCPI party sees of one object to its receiver."""

    def __init__(self, database: Database, channel: PartnerChannel) -> None:
        self._database = database
        self._channel = channel

    async def at_once(self, tenant_id: str, integration_id: str) -> int:
        """All requests that may be under way but one, which is left for calls."""
        target = await self._channel.target(tenant_id, integration_id)
        return max(1, target.max_concurrent_requests - 1)

    async def deliver(self, claim: Claim) -> Delivered:
        """Raises TariffNotDelivered, TariffStillNamed, LeaseLost, and what the channel and a mapping raise."""
        key = ObjectKey.parsed(claim.object_id)
        viewed, peer, integration, _ = await view_look(self._database, claim.peer_key)
        pushes = Pushes(await reached_by(self._database, claim.tenant_id, integration))
        if claim.object_kind in (OBJECT_KIND_SESSION, OBJECT_KIND_CDR):
            return await self._charged(claim, pushes, peer, viewed)
        if claim.object_kind == OBJECT_KIND_INVOICE_RECONCILIATION_RECORD:
            return await self._invoice_reconciliation(claim, pushes, peer, viewed)
        if not pushes.url(claim.object_kind):
            # What it was sent before is sent again once it is pushed again.
            return Delivered(None, 0, pushes.reason(claim.object_kind), answered=False)
        attempt = _Attempt(self._database, self._channel, claim, pushes, peer)
        if claim.object_kind == OBJECT_KIND_LOCATION:
            return await attempt.location(viewed)
        if claim.object_kind == OBJECT_KIND_TOKEN:
            return await attempt.token(viewed)
        if claim.object_kind == OBJECT_KIND_HUB_CLIENT:
            return await attempt.hub_client(viewed)
        return await attempt.tariff(key, viewed)

    async def _charged(self, claim: Claim, pushes: Pushes, peer: Peer, viewed: Viewed | None) -> Delivered:
        """A session or a CDR. What the partner was sent stays known, whatever is pushed: nothing takes it back."""
        known = None if peer.state == PEER_OBJECT_STATE_NONE else peer
        if not (url := pushes.url(claim.object_kind)):
            return Delivered(known, 0, pushes.reason(claim.object_kind), answered=False)
        if viewed is None:
            return Delivered(known, 0, _UNSEEN, answered=False)
        if claim.object_kind == OBJECT_KIND_CDR:
            of = (self._database, self._channel, claim, viewed.parsed(Cdr))
            return await CdrDelivery(*of, version=pushes.partner.version, url=url).deliver(peer)
        interval = timedelta(minutes=pushes.partner.integration.charging_period_interval_minutes)
        sending = SessionDelivery(self._database, self._channel, claim, peer, version=pushes.partner.version, url=url)
        return await sending.deliver(viewed.parsed(Session), interval)

    async def _invoice_reconciliation(
        self, claim: Claim, pushes: Pushes, peer: Peer, viewed: Viewed | None
    ) -> Delivered:
        """What the partner was sent stays known, so that it is deleted there whenever that is possible."""
        if not (url := pushes.url(claim.object_kind)):
            known = None if peer.state == PEER_OBJECT_STATE_NONE else peer
            return Delivered(known, 0, pushes.reason(claim.object_kind), answered=False)
        of = (self._database, self._channel, claim, peer)
        sending = InvoiceReconciliationDelivery(*of, version=pushes.partner.version, url=url)
        if viewed is None or not viewed.shown:
            return await sending.delete(ObjectKey.parsed(claim.object_id))
        return await sending.deliver(viewed.parsed(InvoiceReconciliationRecord))


class _Attempt:
    def __init__(self, database: Database, channel: PartnerChannel, claim: Claim, pushes: Pushes, peer: Peer) -> None:
        self._database = database
        self._claim = claim
        self._pushes = pushes
        self._peer = peer
        self._url = pushes.url(claim.object_kind)
        self._locations = channel.stub(LocationsReceiverServiceStub, claim.tenant_id)
        self._tariffs = channel.stub(TariffsReceiverServiceStub, claim.tenant_id)
        self._tokens = channel.stub(TokensReceiverServiceStub, claim.tenant_id)
        self._hub_clients = channel.stub(HubClientInfoReceiverServiceStub, claim.tenant_id)

    async def location(self, viewed: Viewed | None) -> Delivered:
        """Of one that is known to be there only statuses are sent when nothing else has changed."""
        if viewed is None or not (viewed.shown or self._is_known):
            return Delivered(None, 0, _UNSEEN, answered=False)
        wanted = viewed.parsed(Location)
        if self._pushes.partner.version == "2.1.1" and not wanted.publish:
            if not self._is_known:
                return Delivered(None, 0, "not sent: OCPI 2.1.1 cannot say that it is not published", answered=False)
            _withdraw(wanted)
        sent = self._sent(Location)
        statuses = _statuses(sent, wanted) if sent else None
        if statuses == []:
            return await self._released(Delivered(self._peer, 0, _KEPT, answered=False))
        await self._check_tariffs(wanted)
        if statuses and len(statuses) <= MAX_PATCHES:
            try:
                for evse in statuses:
                    await self._patch(wanted, evse)
                return Delivered(_holding(wanted), 0, f"{len(statuses)} EVSEs have their new status at the partner")
            except PartnerNotFound:
                pass  # It lost the location, or the EVSE.
        request = PutLocationRequest(country_code=wanted.country_code, party_id=wanted.party_id, location_id=wanted.id)
        return await self._released(await self._put(self._locations.PutLocation, request, wanted))

    async def _released(self, delivered: Delivered) -> Delivered:
        """Makes tariffs due that wait for it to name them no more: whoever brought it may have died before this."""
        assert delivered.peer is not None  # noqa: S101
        if self._claim.failed_attempts > 1 or {*self._peer.tariff_keys} - {*delivered.peer.tariff_keys}:
            async with self._database.transaction() as conn:
                await peer_acknowledged(conn, self._claim, delivered.peer)
            await delivery_resume(self._database, self._claim, OBJECT_KIND_TARIFF, TariffStillNamed.reason)
        return delivered

    async def tariff(self, key: ObjectKey, viewed: Viewed | None) -> Delivered:
        if viewed is None:
            return await self._delete(key)
        wanted = viewed.parsed(Tariff)
        if self._sent(Tariff) == wanted:
            delivered = Delivered(self._peer, 0, _KEPT, answered=False)
        else:
            request = PutTariffRequest(country_code=wanted.country_code, party_id=wanted.party_id, tariff_id=wanted.id)
            delivered = await self._put(self._tariffs.PutTariff, request, wanted)
            assert delivered.peer is not None  # noqa: S101
            async with self._database.transaction() as conn:
                await peer_acknowledged(conn, self._claim, delivered.peer)
        # Each time: whoever brought it the last time may have died before this.
        await delivery_resume(self._database, self._claim, OBJECT_KIND_LOCATION, TariffNotDelivered.reason)
        return delivered

    async def token(self, viewed: Viewed | None) -> Delivered:
        """Of one that is known to be there only the validity is sent when nothing else has changed."""
        if viewed is None or not (viewed.shown or self._is_known):
            return Delivered(None, 0, _UNSEEN, answered=False)
        wanted, sent = viewed.parsed(Token), self._sent(Token)
        if sent == wanted:
            return Delivered(self._peer, 0, _KEPT, answered=False)
        if sent and _without_validity(sent) == _without_validity(wanted):
            try:
                await self._patch_validity(wanted)
                return Delivered(_holding(wanted), 0, "the partner knows whether it is valid")
            except PartnerNotFound:
                pass
        return await self._put(self._tokens.PutToken, self._named(PutTokenRequest, wanted), wanted)

    async def hub_client(self, viewed: Viewed | None) -> Delivered:
        if viewed is None or not (viewed.shown or self._is_known):
            return Delivered(None, 0, _UNSEEN, answered=False)
        wanted = viewed.parsed(HubClient)
        if self._sent(HubClient) == wanted:
            return Delivered(self._peer, 0, _KEPT, answered=False)
        request = PutClientInfoRequest(country_code=wanted.country_code, party_id=wanted.party_id)
        return await self._put(self._hub_clients.PutClientInfo, request, wanted)

    def _named(self, request: Any, token: Token) -> Any:
        """A request about the token, which in its version is RFID unless the URL says otherwise."""
        type = object_to(token, self._pushes.partner.version).object["type"]
        made = request(country_code=token.country_code, party_id=token.party_id, token_uid=token.uid)
        if type != "RFID":
            made.type = type
        return made

    async def _patch_validity(self, token: Token) -> None:
        request = self._named(PatchTokenRequest, token)
        request.integration_id, request.url = self._claim.integration_id, self._url
        written = object_to(token, self._pushes.partner.version).object
        request.object.update({name: written[name] for name in ("valid", "last_updated")})
        async with self._sending(token.SerializeToString(), token):
            await self._tokens.PatchToken(request)

    @property
    def _is_known(self) -> bool:
        """Whether the partner may have it."""
        return self._peer.state != PEER_OBJECT_STATE_NONE

    def _sent(self, form: Any) -> Any:
        """What the partner has for certain, or None."""
        if self._claim.verify or self._peer.state != PEER_OBJECT_STATE_LINKED or not self._peer.sent_document:
            return None
        return form.FromString(self._peer.sent_document)

    async def _check_tariffs(self, location: Location) -> None:
        """Raises TariffNotDelivered when the partner does not have one that the location names; it is due then."""
        if not self._pushes.url(OBJECT_KIND_TARIFF):
            return
        at = (self._claim.tenant_id, self._claim.integration_id, OBJECT_KIND_TARIFF)
        async with self._database.transaction() as conn:
            missing = await peer_tariffs_missing(conn, self._claim, {key for _, key in tariffs_named(location)})
            if missing:
                await delivery_mark_at(conn, *at, missing)
        if missing:
            raise TariffNotDelivered("waits until the partner has its tariffs", id=str(missing[0]))

    async def _patch(self, location: Location, evse: Evse) -> None:
        bare = Evse(uid=evse.uid, status=evse.status, last_updated=evse.last_updated)
        written = object_to(bare, self._pushes.partner.version).object
        request = PatchEvseRequest(
            integration_id=self._claim.integration_id,
            url=self._url,
            country_code=location.country_code,
            party_id=location.party_id,
            location_id=location.id,
            evse_uid=evse.uid,
        )
        request.object.update({name: written[name] for name in ("status", "last_updated")})
        part = PartKey(OBJECT_KIND_EVSE, (evse.uid.casefold(),))
        async with self._sending(location.SerializeToString(), evse, _tariff_keys(location), part):
            await self._locations.PatchEvse(request)

    async def _put(self, call: Any, request: Any, wanted: M) -> Delivered:
        request.integration_id, request.url = self._claim.integration_id, self._url
        lost = await asyncio.to_thread(_write, request, wanted, self._pushes.partner.version)
        async with self._sending(wanted.SerializeToString(), wanted, _tariff_keys(wanted)):
            await call(request)
        remark = f"; OCPI {self._pushes.partner.version} has no place for {', '.join(lost)}" if lost else ""
        return Delivered(_holding(wanted), 0, f"stored at the partner{remark}"[:500])

    async def _delete(self, key: ObjectKey) -> Delivered:
        if not self._is_known:
            return Delivered(None, 0, _UNSEEN, answered=False)
        if naming := await peer_naming(self._database, self._claim):
            raise TariffStillNamed("waits until no location at the partner names it", id=str(naming))
        request = DeleteTariffRequest(
            integration_id=self._claim.integration_id,
            url=self._url,
            country_code=key.country_code,
            party_id=key.party_id,
            tariff_id=Tariff.FromString(self._peer.sent_document or b"").id or key.key,
        )
        try:
            async with self._sending(self._peer.sent_document, None):
                await self._tariffs.DeleteTariff(request)
        except PartnerNotFound as error:
            if not error.partner_code.startswith("2"):  # An outage may answer 404, too.
                raise
            return Delivered(None, 0, "was already gone at the partner")
        return Delivered(None, 0, "deleted at the partner")

    def _sending(
        self, held: bytes | None, document: Message | None, tariff_keys: Sequence[str] = (), part: PartKey | None = None
    ) -> AbstractAsyncContextManager[None]:
        return sending(self._database, self._claim, self._peer, held, document, tariff_keys, part)


def _tariff_keys(wanted: Any) -> tuple[str, ...]:
    return tuple(sorted({str(key) for _, key in tariffs_named(wanted)})) if isinstance(wanted, Location) else ()


def _withdraw(location: Location) -> None:
    location.publish = True
    for evse in location.evses:
        evse.status = EVSE_STATUS_REMOVED


def _holding(wanted: Location | Tariff | Token | HubClient) -> Peer:
    if isinstance(wanted, HubClient):
        id = hub_client_key(wanted).shown
    else:
        id = wanted.uid if isinstance(wanted, Token) else wanted.id
    return Peer(
        PEER_OBJECT_STATE_LINKED, id, sent_document=wanted.SerializeToString(), tariff_keys=_tariff_keys(wanted)
    )


def _write(request: Any, wanted: M, version: str) -> list[str]:
    """Puts it into the request; the paths of what is not in that."""
    written = object_to(wanted, version)
    request.object.CopyFrom(struct_of(written.object))
    return [loss.path for loss in written.losses]


def _statuses(sent: Location, wanted: Location) -> list[Evse] | None:
    """The EVSEs whose status is another one; None when something else is, too."""
    if _without_statuses(sent) != _without_statuses(wanted):
        return None
    pairs = zip(sent.evses, wanted.evses, strict=True)
    return [evse for before, evse in pairs if before.status != evse.status]


def _without_validity(token: Token) -> Token:
    plain = Token()
    plain.CopyFrom(token)
    for name in ("valid", "last_updated"):
        plain.ClearField(name)
    return plain


def _without_statuses(location: Location) -> Location:
    plain = Location()
    plain.CopyFrom(location)
    plain.ClearField("last_updated")
    for evse in plain.evses:
        for name in ("status", "status_time", "last_updated"):
            evse.ClearField(name)
    return plain

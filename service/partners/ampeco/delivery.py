"""The way of tariffs and locations to AMPECO: as many calls as they have parts there, in the order that they need.

AMPECO counts no versions and knows no idempotency key. So each part is a `peer_object` of its own, written down before
its request leaves: an attempt goes on where the one before stopped, and a create whose answer was lost is looked up by
its external id before it is made again. An update that may have been lost is repeated; what we send wins over what
was changed there. AMPECO documents no way to delete: charge points and EVSEs that are no longer shown are disabled
there, locations and tariffs stay.
"""

import re
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar, cast

import grpc
from evbridge.partner.ampeco.v3 import charge_point_pb2, evse_pb2, location_pb2, tariff_group_pb2, tariff_pb2
from evbridge.partner.ampeco.v3.charge_point_pb2_grpc import ChargePointServiceStub
from evbridge.partner.ampeco.v3.evse_pb2_grpc import EvseServiceStub
from evbridge.partner.ampeco.v3.location_pb2_grpc import LocationServiceStub
from evbridge.partner.ampeco.v3.tariff_group_pb2_grpc import TariffGroupServiceStub
from evbridge.partner.ampeco.v3.tariff_pb2_grpc import TariffServiceStub
from evbridge.v1.charger_pb2 import Charger
from evbridge.v1.delivery_pb2 import (
    OBJECT_KIND_CHARGER,
    OBJECT_KIND_CONNECTOR,
    OBJECT_KIND_EVSE,
    OBJECT_KIND_LOCATION,
    OBJECT_KIND_TARIFF,
    PEER_OBJECT_STATE_LINKED,
    PEER_OBJECT_STATE_NONE,
    ObjectKind,
)
from evbridge.v1.integration_pb2 import Integration
from evbridge.v1.location_pb2 import EVSE_STATUS_REMOVED, Evse, Location
from evbridge.v1.tariff_pb2 import Tariff
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from service.bridge.channel import TENANT_METADATA, PartnerChannel
from service.delivery.worker import Delivered
from service.domain.keys import ObjectKey, charger_key
from service.domain.mapping import Mapped
from service.domain.publication import Publication
from service.errors import (
    DeliveryUnfinished,
    FieldViolation,
    PartnerChanged,
    PartnerNotFound,
    PartnerOutcomeUnknown,
    ResourceNotFound,
    TariffNotDelivered,
    TariffNotRepresentable,
)
from service.partners.ampeco.mapping import charge_point_to, connector_to, evse_to, location_to
from service.partners.ampeco.mapping_tariff import Billing, tariff_to
from service.resources.publication import publication_at, sees_tariff
from service.storage.changes import delivery_mark_at
from service.storage.charger import charger_get
from service.storage.delivery import (
    BELOW,
    Claim,
    Peer,
    delivery_renew,
    delivery_resume,
    peer_acknowledged,
    peer_get,
    peer_sending,
    peers_below,
)
from service.storage.integration import integration_get
from service.storage.location import location_get
from service.storage.pool import Database
from service.storage.tariff import tariff_get

PARTNER = "ampeco"
LIMIT_S = 90.0
"""How long an attempt begins new parts; the next one goes on, after what else is due."""
_GROUP_ID = "group"

M = TypeVar("M", bound=Message)


def billing_of(integration: Integration) -> Billing:
    connection = integration.ampeco
    taxes = {Decimal(tax.vat.value) if tax.HasField("vat") else None: tax.tax_id for tax in connection.taxes}
    return Billing(connection.currency, taxes)


class _Noun(NamedTuple):
    """A kind of part at AMPECO: an Evse is made by CreateEvse with an `evse` and changed by UpdateEvse of an `evse_id`.

    `filters` narrow down the list in which `same` finds the part that was sent.
    """

    name: str
    module: Any
    stub: Any
    field: str
    change: str = "Update"
    filters: Callable[[Any], dict[str, Any]] = lambda wanted: {"cursor": ""}
    same: Callable[[Any, Any], bool] = lambda held, wanted: held.external_id == wanted.external_id


# AMPECO filters tariffs by no external id. A group has none: its name is the tariff's. Nor has a connector: one of the
# same type will do that is linked to none of ours.
_TARIFF = _Noun("Tariff", tariff_pb2, TariffServiceStub, "tariff", "Replace")
_GROUP = _Noun(
    "TariffGroup",
    tariff_group_pb2,
    TariffGroupServiceStub,
    "group",
    "Replace",
    same=lambda held, wanted: held.name == wanted.name,
)
_LOCATION = _Noun(
    "Location",
    location_pb2,
    LocationServiceStub,
    "location",
    filters=lambda wanted: {"cursor": "", "filter_external_id": wanted.external_id},
)
_CHARGE_POINT = _Noun(
    "ChargePoint",
    charge_point_pb2,
    ChargePointServiceStub,
    "charge_point",
    filters=lambda wanted: {"cursor": "", "filter_location_id": wanted.location_id},
)
_EVSE = _Noun(
    "Evse",
    evse_pb2,
    EvseServiceStub,
    "evse",
    filters=lambda wanted: {"cursor": "", "filter_charge_point_id": wanted.charge_point_id},
)
_CONNECTOR = _Noun(
    "Connector",
    evse_pb2,
    EvseServiceStub,
    "connector",
    filters=lambda _: {},
    same=lambda held, wanted: held.type == wanted.type,
)


class AmpecoDeliverer:
    """Brings the current state of one tariff or location to one AMPECO, as far as its rules show it."""

    def __init__(self, database: Database, channel: PartnerChannel) -> None:
        self._database = database
        self._channel = channel

    async def deliver(self, claim: Claim) -> Delivered:
        """Raises TariffNotRepresentable, TariffNotDelivered, DeliveryUnfinished, PartnerChanged for what was deleted
        there, LeaseLost, and what the channel raises.
        """
        key = ObjectKey.parsed(claim.object_id)
        publication = await publication_at(self._database, claim.tenant_id, claim.integration_id)
        async with self._database.connection() as conn:
            peer = await peer_get(conn, claim)
            parts = await peers_below(conn, claim)
        attempt = _Attempt(self._database, self._channel, claim, parts)
        if claim.object_kind == OBJECT_KIND_TARIFF:
            return await self._deliver_tariff(claim, attempt, peer, await self._tariff(claim, key, publication))
        location = await self._location(claim, key, publication)
        if location is None and peer.state == PEER_OBJECT_STATE_NONE:
            return Delivered(None, 0, "the partner does not see it", answered=False)
        if location is None:
            await attempt.disable()
            return attempt.delivered(peer, "not shown any more: its charge points are disabled there")
        return await attempt.location(peer, location)

    async def _deliver_tariff(self, claim: Claim, attempt: "_Attempt", peer: Peer, tariff: Tariff | None) -> Delivered:
        if tariff is None:
            if peer.state == PEER_OBJECT_STATE_NONE:
                return Delivered(None, 0, "the partner does not see it", answered=False)
            return attempt.delivered(peer, "the partner does not see it any more; AMPECO keeps its tariffs")
        integration = Integration.FromString(
            await integration_get(self._database, claim.tenant_id, claim.integration_id)
        )
        return await attempt.tariff(peer, tariff, billing_of(integration))

    async def _tariff(self, claim: Claim, key: ObjectKey, publication: Publication) -> Tariff | None:
        """The tariff if the partner sees it, and it does not come from there."""
        try:
            tariff = Tariff.FromString(await tariff_get(self._database, claim.tenant_id, key))
        except ResourceNotFound:
            return None
        if tariff.origin.integration_id == claim.integration_id:
            return None
        sees, _ = await sees_tariff(self._database, claim.tenant_id, publication, key)
        return tariff if sees else None

    async def _location(self, claim: Claim, key: ObjectKey, publication: Publication) -> Location | None:
        """The location as the partner sees it, unless it comes from there."""
        try:
            location = Location.FromString(await location_get(self._database, claim.tenant_id, key))
        except ResourceNotFound:
            return None
        return None if location.origin.integration_id == claim.integration_id else publication.location(location)


class _Attempt:
    """One attempt to deliver one object. `parts` are what the partner is known to hold below it."""

    def __init__(
        self, database: Database, channel: PartnerChannel, claim: Claim, parts: dict[tuple[int, str], Peer]
    ) -> None:
        self._claim = claim
        self._database = database
        # Grpc-shaped as far as a stub looks.
        self._channel = cast(grpc.aio.Channel, channel)
        self._parts = parts
        self._shown: set[tuple[int, str]] = set()
        self._lost: set[str] = set()
        self._calls = 0
        self._end = time.monotonic() + LIMIT_S

    async def tariff(self, peer: Peer, tariff: Tariff, billing: Billing) -> Delivered:
        try:
            mapped = tariff_to(tariff, billing)
        except TariffNotRepresentable as error:
            raise _with_paths(error) from None
        theirs = self._noting(mapped)
        if not theirs.pricing.tax_id:
            theirs.pricing.ClearField("tax_id")
        peer = await self._bring(_TARIFF, self._claim, peer, theirs)
        # What an EVSE names is a group: one for each tariff, which nothing else is in.
        part = self._part(OBJECT_KIND_TARIFF, _GROUP_ID)
        group = tariff_group_pb2.TariffGroup(name=theirs.external_id, tariff_ids=[int(peer.external_id)])
        await self._bring(_GROUP, part, self._known(part), group)
        # Each time: whoever brought it the last time may have died before this.
        await delivery_resume(self._database, self._claim, OBJECT_KIND_LOCATION, TariffNotDelivered.reason)
        return self.delivered(peer, self._said())

    async def location(self, peer: Peer, location: Location) -> Delivered:
        groups = await self._tariff_groups(location)
        peer = await self._bring(_LOCATION, self._claim, peer, self._noting(location_to(location)))
        for evses in _by_charger(location):
            charge_point = await self._charge_point(int(peer.external_id), _charger_id(evses[0]))
            for evse in evses:
                await self._evse(int(charge_point.external_id), evse, groups.get(evse.uid))
        await self.disable()
        return self.delivered(peer, self._said())

    def delivered(self, peer: Peer, description: str) -> Delivered:
        return Delivered(peer, 0, description, answered=self._calls > 0)

    async def disable(self) -> None:
        """Disables the charge points and EVSEs that AMPECO has of the location and that were not brought just now."""
        for noun, kind, form in (
            (_CHARGE_POINT, OBJECT_KIND_CHARGER, charge_point_pb2.ChargePoint),
            (_EVSE, OBJECT_KIND_EVSE, evse_pb2.Evse),
        ):
            for known_kind, id in [*self._parts]:
                if known_kind == kind and (kind, id) not in self._shown:
                    peer = self._parts[kind, id]
                    wanted = form.FromString(peer.sent_document or b"")
                    wanted.status = "disabled"
                    part = replace(self._claim, object_kind=kind, object_id=id)
                    await self._bring(noun, part, peer, wanted, may_create=False)

    async def _tariff_groups(self, location: Location) -> dict[str, int]:
        """The group of the tariff that each EVSE (by uid) shows, where it shows one.

        Raises TariffNotRepresentable when its connectors do not all show the same one, for AMPECO has one for the whole
        EVSE, and TariffNotDelivered when AMPECO does not have it yet; it is due then.
        """
        shown: dict[str, ObjectKey] = {}
        several: list[FieldViolation] = []
        for row, evse in enumerate(location.evses):
            ids = {tuple(connector.tariff_ids) for connector in evse.connectors}
            if len(ids) > 1 or any(len(each) > 1 for each in ids):
                several.append(FieldViolation(f"evses[{row}].connectors", "AMPECO has one tariff for the whole EVSE"))
                continue
            for (id,) in ids - {()}:
                shown[evse.uid] = ObjectKey.of(location.country_code, location.party_id, id)
        if several:
            error = TariffNotRepresentable("its connectors would have other prices there", violations=tuple(several))
            raise _with_paths(error)
        async with self._database.transaction() as conn:
            peers = {
                key: await peer_get(conn, self._named(OBJECT_KIND_TARIFF, str(key), _GROUP_ID))
                for key in {*shown.values()}
            }
            missing = sorted(key for key, peer in peers.items() if peer.state != PEER_OBJECT_STATE_LINKED)
            if missing:
                names = (self._claim.tenant_id, self._claim.integration_id)
                await delivery_mark_at(conn, *names, OBJECT_KIND_TARIFF, missing)
        if missing:
            raise TariffNotDelivered("waits for its tariffs to be at the partner", id=str(missing[0]))
        return {uid: int(peers[key].external_id) for uid, key in shown.items()}

    async def _charge_point(self, location_id: int, charger_id: str) -> Peer:
        part = self._part(OBJECT_KIND_CHARGER, charger_key(charger_id))
        try:
            charger = Charger.FromString(
                await charger_get(self._database, self._claim.tenant_id, charger_key(charger_id))
            )
        except ResourceNotFound:  # known only by the EVSEs that name it
            charger = Charger(id=charger_id)
        charger.name = charger.name or charger.id
        wanted = self._noting(charge_point_to(charger, location_id))
        return await self._bring(_CHARGE_POINT, part, self._known(part), wanted)

    async def _evse(self, charge_point_id: int, evse: Evse, tariff_group_id: int | None) -> None:
        part = self._part(OBJECT_KIND_EVSE, evse.uid.casefold())
        known = self._known(part)
        # It keeps its number on the charge point; a new one gets the next.
        sent = map(_sent_evse, self._below(OBJECT_KIND_EVSE))
        taken = (int(each.network_id) for each in sent if each.charge_point_id == charge_point_id)
        network_id = int(_sent_evse(known).network_id or 1 + max(taken, default=0))
        wanted = self._noting(evse_to(evse, charge_point_id, network_id, tariff_group_id=tariff_group_id))
        peer = await self._bring(_EVSE, part, known, wanted)
        place = {"charge_point_id": charge_point_id, "evse_id": int(peer.external_id)}
        for connector in evse.connectors:
            part = self._part(OBJECT_KIND_CONNECTOR, evse.uid.casefold(), connector.id.casefold())
            await self._bring(_CONNECTOR, part, self._known(part), connector_to(connector).message, place)

    async def _bring(
        self,
        noun: _Noun,
        part: Claim,
        peer: Peer,
        wanted: Any,
        place: Mapping[str, int] = MappingProxyType({}),
        *,
        may_create: bool = True,
    ) -> Peer:
        """What the partner holds of the part once it holds `wanted`; nothing is sent when it does already.

        Raises PartnerChanged when it was deleted there, unless told to overwrite that.
        """
        self._shown.add((part.object_kind, part.object_id))
        document = wanted.SerializeToString(deterministic=True)
        # Asked to look again, it sends the object again and of its parts what was not acknowledged.
        certain = (
            peer.state == PEER_OBJECT_STATE_LINKED
            and peer.external_id
            and not (self._claim.verify and part is self._claim)
        )
        if certain and peer.sent_document == document:
            return peer
        if self._calls and time.monotonic() > self._end:
            raise DeliveryUnfinished("it has more parts than fit into one attempt; the next goes on", retry_after_s=0.0)
        if peer.state != PEER_OBJECT_STATE_NONE and not peer.external_id:
            peer = replace(peer, external_id=await self._found(noun, wanted, place))
        if not peer.external_id and not may_create:
            return peer
        # Until it is acknowledged, what either version sets may stand there.
        both = type(wanted).FromString(peer.sent_document or b"")
        cleared = sorted(_cleared(both, wanted))
        both.MergeFrom(wanted)
        await peer_sending(self._database, part, peer, both.SerializeToString())
        self._calls += 1
        external_id = await self._sent(noun, peer, wanted, cleared, place)
        peer = Peer(PEER_OBJECT_STATE_LINKED, external_id, sent_document=document)
        self._parts[part.object_kind, part.object_id] = peer
        async with self._database.transaction() as conn:
            await peer_acknowledged(conn, part, peer)
        return peer

    async def _sent(self, noun: _Noun, peer: Peer, wanted: Any, cleared: list[str], place: Mapping[str, int]) -> str:
        """AMPECO's id of the part, once it is changed or created."""
        if peer.external_id:
            # An EVSE without a tariff group would be free of charge; that is never said by leaving something out.
            mask = FieldMask(paths=[path for path in cleared if path != "tariff_group_id"])
            name = {f"{_snake(noun.name)}_id": int(peer.external_id)}
            try:
                await self._call(noun, noun.change, place, **name, **{noun.field: wanted}, update_mask=mask)
                return peer.external_id
            except PartnerNotFound:
                # An outage may answer so, too: it is gone when the list does not have it either.
                if peer.external_id in [str(each.id) async for each in self._listed(noun, wanted, place)]:
                    raise
                if not self._claim.overwrite:
                    raise PartnerChanged("the object was removed at the partner", partner=PARTNER) from None
                await delivery_renew(self._database, self._claim)
        created = (await self._call(noun, "Create", place, **{noun.field: wanted})).data.id
        if not created:
            raise PartnerOutcomeUnknown("the answer names no id", partner=PARTNER)
        return str(created)

    async def _call(self, noun: _Noun, verb: str, place: Mapping[str, int], **members: Any) -> Any:
        request = getattr(noun.module, f"{verb}{noun.name}Request")(**self._through, **place, **members)
        return await getattr(noun.stub(self._channel), verb + noun.name)(request, metadata=self._metadata)

    async def _found(self, noun: _Noun, wanted: Any, place: Mapping[str, int]) -> str:
        """AMPECO's id of a part whose create was not answered; "" when it was not made."""
        linked = {peer.external_id for peer in self._below(OBJECT_KIND_CONNECTOR)}
        async for each in self._listed(noun, wanted, place):
            if noun.same(each, wanted) and not (noun is _CONNECTOR and str(each.id) in linked):
                return str(each.id)
        return ""

    async def _listed(self, noun: _Noun, wanted: Any, place: Mapping[str, int]) -> AsyncIterator[Any]:
        """What AMPECO has of the kind, and that may be the part."""
        form = getattr(noun.module, f"List{noun.name}sRequest")
        stream = getattr(noun.stub(self._channel), f"Stream{noun.name}s")
        async for page in stream(form(**self._through, **place, **noun.filters(wanted)), metadata=self._metadata):
            for each in page.data:
                yield each

    @property
    def _through(self) -> dict[str, str]:
        return {"integration_id": self._claim.integration_id}

    @property
    def _metadata(self) -> tuple[tuple[str, str], ...]:
        return ((TENANT_METADATA, self._claim.tenant_id),)

    def _named(self, kind: ObjectKind.ValueType, *ids: str) -> Claim:
        return replace(self._claim, object_kind=kind, object_id=BELOW.join(ids))

    def _part(self, kind: ObjectKind.ValueType, *ids: str) -> Claim:
        return self._named(kind, self._claim.object_id, *ids)

    def _known(self, part: Claim) -> Peer:
        return self._parts.get((part.object_kind, part.object_id), Peer())

    def _below(self, kind: ObjectKind.ValueType) -> list[Peer]:
        return [peer for (known, _), peer in self._parts.items() if known == kind]

    def _noting(self, mapped: Mapped[M]) -> M:
        """The message, after noting what it lacks."""
        self._lost.update(loss.path for loss in mapped.losses)
        return mapped.message

    def _said(self) -> str:
        if not self._calls:
            return "the partner holds this state already"
        lost = f"; it has no place for {', '.join(sorted(self._lost))}" if self._lost else ""
        return f"stored at the partner by {self._calls} requests{lost}"[:500]


def _by_charger(location: Location) -> list[list[Evse]]:
    """The EVSEs of each charger, without those that are REMOVED."""
    found: dict[str, list[Evse]] = {}
    for evse in location.evses:
        if evse.status != EVSE_STATUS_REMOVED:
            found.setdefault(charger_key(_charger_id(evse)), []).append(evse)
    return [*found.values()]


def _charger_id(evse: Evse) -> str:
    """An EVSE that names no charger has one of its own."""
    return evse.charger_id or evse.uid


def _sent_evse(peer: Peer) -> evse_pb2.Evse:
    return evse_pb2.Evse.FromString(peer.sent_document or b"")


def _snake(name: str) -> str:
    return re.sub("(?<!^)(?=[A-Z])", "_", name).lower()


def _cleared(sent: Message, wanted: Message, prefix: str = "") -> Iterator[str]:
    """The paths of what was sent once and is not set any more."""
    for field, value in sent.ListFields():
        if field.is_repeated:
            if not getattr(wanted, field.name):
                yield prefix + field.name
        elif not wanted.HasField(field.name):
            yield prefix + field.name
        elif field.message_type and field.message_type.file.package.startswith("evbridge."):
            yield from _cleared(value, getattr(wanted, field.name), f"{prefix}{field.name}.")


def _with_paths(error: TariffNotRepresentable) -> TariffNotRepresentable:
    """The error with the fields in its message, which is what a delivery keeps of it."""
    error.message = f"{error.message}: {', '.join(each.path for each in error.violations)}"[:500]
    return error

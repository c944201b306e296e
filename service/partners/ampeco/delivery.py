"""Brings tariffs and locations to AMPECO: which parts they have there, and the order that these need.

AMPECO documents no way to delete: charge points and EVSEs that are no longer shown are disabled there, locations and
tariffs stay.
"""

from collections.abc import Iterator
from typing import Any, TypeVar

from evbridge.partner.ampeco.v3.charge_point_pb2 import ChargePoint
from evbridge.partner.ampeco.v3.evse_pb2 import Evse as AmpecoEvse
from evbridge.partner.ampeco.v3.tariff_group_pb2 import TariffGroup
from evbridge.v1.charger_pb2 import Charger
from evbridge.v1.delivery_pb2 import (
    OBJECT_KIND_CONNECTOR,
    OBJECT_KIND_LOCATION,
    OBJECT_KIND_TARIFF,
    PEER_OBJECT_STATE_NONE,
)
from evbridge.v1.integration_pb2 import Integration
from evbridge.v1.location_pb2 import EVSE_STATUS_REMOVED, Evse, Location
from evbridge.v1.tariff_pb2 import Tariff
from google.protobuf.message import Message

from service.bridge.channel import PartnerChannel
from service.delivery.parts import Parts, Rehearsal
from service.delivery.views import view_shown
from service.delivery.worker import Delivered
from service.domain.keys import ObjectKey, charger_key
from service.domain.mapping import Mapped
from service.errors import FieldViolation, ResourceNotFound, TariffNotDelivered, TariffNotRepresentable
from service.partners.ampeco.calls import Ampeco, PartCalls
from service.partners.ampeco.mapping_charger import charge_point_to
from service.partners.ampeco.mapping_evse import connector_to, evse_to
from service.partners.ampeco.mapping_location import location_to
from service.partners.ampeco.mapping_tariff import billing_of, tariff_to
from service.storage.changes import delivery_mark_at
from service.storage.charger import charger_get
from service.storage.delivery import Claim, delivery_resume
from service.storage.integration import integration_get
from service.storage.peer import PartKey, peer_part_ids
from service.storage.pool import Database

GROUP = PartKey(OBJECT_KIND_TARIFF, ("group",))
"""What an EVSE names is a group: each tariff has one, which nothing else is in."""

M = TypeVar("M", bound=Message)
P = TypeVar("P", ChargePoint, AmpecoEvse)


class AmpecoDeliverer:
    """Brings the current state of one tariff or location to one AMPECO, as far as its rules show it."""

    def __init__(self, database: Database, channel: PartnerChannel) -> None:
        self._database = database
        self._channel = channel

    async def at_once(self, tenant_id: str, integration_id: str) -> int:
        """One: what it holds as several resources is put together of several requests."""
        return 1

    async def deliver(self, claim: Claim) -> Delivered:
        """Raises TariffNotRepresentable, TariffNotDelivered, what Parts raise, and what the channel raises."""
        form: Any = Tariff if claim.object_kind == OBJECT_KIND_TARIFF else Location
        parts = await Parts.of(self._database, claim)
        return await self.attempt(claim, parts, await view_shown(self._database, claim, form))

    async def attempt(self, claim: Claim, parts: Parts, shown: Any) -> Delivered:
        """Brings what is shown, None: nothing. Raises what `deliver` does."""
        attempt = _Attempt(self._database, Ampeco(self._channel, claim), claim, parts)
        if claim.object_kind == OBJECT_KIND_TARIFF:
            return await attempt.tariff(shown)
        return await attempt.location(shown)


class _Attempt:
    def __init__(self, database: Database, ampeco: Ampeco, claim: Claim, parts: Parts) -> None:
        self._database = database
        self._ampeco = ampeco
        self._claim = claim
        self._parts = parts
        self._lost: set[str] = set()
        self._rehearsed = isinstance(parts, Rehearsal)

    async def tariff(self, tariff: Tariff | None) -> Delivered:
        if tariff is None:
            return self._unseen("the partner does not see it any more; AMPECO keeps its tariffs")
        claim = self._claim
        integration = Integration.FromString(
            await integration_get(self._database, claim.tenant_id, claim.integration_id)
        )
        wanted = self._note_losses(tariff_to(tariff, billing_of(integration)))
        if not wanted.pricing.tax_id:
            wanted.pricing.ClearField("tax_id")
        tariff_id = await self._parts.bring(self._ampeco.tariffs(), wanted)
        group = TariffGroup(name=wanted.external_id, tariff_ids=[int(tariff_id)])
        await self._parts.bring(self._ampeco.tariff_groups(), group, *GROUP.ids)
        # Each time: whoever brought it the last time may have died before this.
        if not self._rehearsed:
            await delivery_resume(self._database, claim, OBJECT_KIND_LOCATION, TariffNotDelivered.reason)
        return self._delivered()

    async def location(self, location: Location | None) -> Delivered:
        if location is None:
            await self._disable()
            return self._unseen("not shown any more: its charge points are disabled there")
        groups = await self._tariff_groups(location)
        location_id = await self._parts.bring(self._ampeco.locations(), self._note_losses(location_to(location)))
        for evses in _by_charger(location):
            charge_point_id = await self._charge_point(int(location_id), _charger_id(evses[0]))
            for evse in evses:
                await self._evse(charge_point_id, evse, groups.get(evse.uid))
        await self._disable()
        return self._delivered()

    async def _disable(self) -> None:
        """Disables the charge points and EVSEs that AMPECO has of the location and that were not brought just now."""
        await self._disable_all(self._ampeco.charge_points())
        await self._disable_all(self._ampeco.evses())

    async def _disable_all(self, calls: PartCalls[P]) -> None:
        for part, sent in self._parts.left(calls):
            sent.status = "disabled"
            await self._parts.bring(calls, sent, *part.ids, may_create=False)

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
            problem = "its connectors would have other prices there"
            raise TariffNotRepresentable.at(several, problem, partner="ampeco", id=location.id)
        async with self._database.transaction() as conn:
            groups = await peer_part_ids(conn, self._claim, OBJECT_KIND_TARIFF, {*shown.values()}, GROUP)
            missing = [] if self._rehearsed else sorted({*shown.values()} - groups.keys())
            if missing:
                at = (self._claim.tenant_id, self._claim.integration_id)
                await delivery_mark_at(conn, *at, OBJECT_KIND_TARIFF, missing)
        if missing:
            raise TariffNotDelivered("waits until the partner has its tariffs", id=str(missing[0]))
        return {uid: int(groups[key]) for uid, key in shown.items() if key in groups}

    async def _charge_point(self, location_id: int, charger_id: str) -> int:
        key = charger_key(charger_id)
        try:
            charger = Charger.FromString(await charger_get(self._database, self._claim.tenant_id, key))
        except ResourceNotFound:  # known only by the EVSEs that name it
            charger = Charger(id=charger_id)
        charger.name = charger.name or charger.id
        wanted = self._note_losses(charge_point_to(charger, location_id))
        return int(await self._parts.bring(self._ampeco.charge_points(), wanted, key))

    async def _evse(self, charge_point_id: int, evse: Evse, tariff_group_id: int | None) -> None:
        calls, uid = self._ampeco.evses(), evse.uid.casefold()
        # It keeps its number on the charge point; a new one gets the next.
        taken = (
            int(sent.network_id) for _, sent in self._parts.all_sent(calls) if sent.charge_point_id == charge_point_id
        )
        network_id = int(self._parts.sent(calls, uid).network_id or 1 + max(taken, default=0))
        wanted = self._note_losses(evse_to(evse, charge_point_id, network_id, tariff_group_id=tariff_group_id))
        evse_id = await self._parts.bring(calls, wanted, uid)
        for connector in evse.connectors:
            others = self._parts.external_ids(OBJECT_KIND_CONNECTOR)
            connectors = self._ampeco.connectors(charge_point_id, int(evse_id), others)
            await self._parts.bring(connectors, connector_to(connector).message, uid, connector.id.casefold())

    def _unseen(self, description: str) -> Delivered:
        if self._parts.peer.state == PEER_OBJECT_STATE_NONE:
            return Delivered(None, 0, "the partner does not see it", answered=False)
        return self._parts.delivered(description)

    def _delivered(self) -> Delivered:
        lost = ", ".join(sorted(self._lost))
        return self._parts.delivered(remark=f"; it has no place for {lost}" if lost else "")

    def _note_losses(self, mapped: Mapped[M]) -> M:
        """The message; what it lacks stands in the delivery's description."""
        self._lost.update(loss.path for loss in mapped.losses)
        return mapped.message


def _by_charger(location: Location) -> Iterator[list[Evse]]:
    """The EVSEs of each charger, without those that are REMOVED."""
    found: dict[str, list[Evse]] = {}
    for evse in location.evses:
        if evse.status != EVSE_STATUS_REMOVED:
            found.setdefault(charger_key(_charger_id(evse)), []).append(evse)
    yield from found.values()


def _charger_id(evse: Evse) -> str:
    """An EVSE that names no charger has one of its own."""
    return evse.charger_id or evse.uid

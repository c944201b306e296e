"""Chargers as AMPECO's charge points and back."""

from typing import Final

from evbridge.partner.ampeco.v3 import charge_point_pb2
from evbridge.v1.charger_pb2 import Charger

from service.domain.mapping import Mapped, mapped
from service.partners.ampeco.mapping import id_here

_CHARGER: Final = {
    "site_id": "The charge point names AMPECO's location instead.",
    "active_connection": "AMPECO hears from the charge point itself.",
}


def charge_point_to(
    charger: Charger, location_id: int, *, communication_mode: str = "none"
) -> Mapped[charge_point_pb2.ChargePoint]:
    """One of ours as a public charge point of AMPECO's location. Its sockets travel as EVSEs, see `evse_to`.

    `communication_mode` says how AMPECO reaches it: not at all, unless somebody connects it.
    """
    message = _charge_point_to(charger)
    message.location_id, message.type, message.status = location_id, "public", "enabled"
    message.communication_mode = communication_mode
    found = _charge_point_from(message)
    found.ClearField("site_id")
    return mapped(charger, message, found, _CHARGER, apart=("sockets", "etag"))


def charge_point_from(charge_point: charge_point_pb2.ChargePoint) -> Mapped[Charger]:
    """AMPECO's as one of ours, without sockets. Its site is AMPECO's location."""
    message = _charge_point_from(charge_point)
    back = _charge_point_to(message)
    if message.site_id:
        back.location_id = int(message.site_id)
    return mapped(charge_point, message, back, {})


def _charge_point_to(charger: Charger) -> charge_point_pb2.ChargePoint:
    sent = charge_point_pb2.ChargePoint(external_id=charger.id)
    if charger.name:
        sent.name = charger.name
    return sent


def _charge_point_from(remote: charge_point_pb2.ChargePoint) -> Charger:
    charger = Charger(id=id_here(remote), name=remote.name)
    if remote.HasField("location_id"):
        charger.site_id = str(remote.location_id)
    if remote.HasField("network_status"):
        charger.active_connection = remote.network_status == "available"
    return charger

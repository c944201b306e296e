"""What a location takes from a charger: an EVSE for each socket, under a uid that the socket keeps."""

from collections.abc import Iterator
from uuid import uuid4

from evbridge.v1.charger_pb2 import Charger, Socket
from evbridge.v1.location_pb2 import EVSE_STATUS_UNKNOWN, Connector, Evse


def name_evses(charger: Charger) -> bool:
    """Mints a uid for the EVSE of each socket that has none. Says whether there was such a socket."""
    nameless = [socket for socket in charger.sockets if not socket.evse_uid]
    for socket in nameless:
        socket.evse_uid = uuid4().hex
    return bool(nameless)


def keep_sockets(charger: Charger, before: Charger) -> None:
    """A socket that stays keeps the first spelling of its id, and its EVSE."""
    stored = {socket.id.casefold(): socket for socket in before.sockets}
    for socket in charger.sockets:
        if old := stored.get(socket.id.casefold()):
            socket.id, socket.evse_uid = old.id, old.evse_uid


def evses_of(charger: Charger) -> Iterator[Evse]:
    """One EVSE per socket, with one connector."""
    for socket in charger.sockets:
        yield Evse(
            uid=socket.evse_uid,
            status=socket.status or EVSE_STATUS_UNKNOWN,
            connectors=[_connector(socket)],
            charger_id=charger.id,
        )


def sockets_of(evse: Evse) -> Iterator[Socket]:
    """A socket for each connector of an EVSE, without a status: that is the EVSE's."""
    for connector in evse.connectors:
        yield Socket(
            id=connector.id,
            standard=connector.standard,
            format=connector.format,
            power_type=connector.power_type,
            max_voltage=connector.max_voltage,
            max_amperage=connector.max_amperage,
            max_electric_power=connector.max_electric_power if connector.HasField("max_electric_power") else None,
            tariff_ids=connector.tariff_ids,
            evse_uid=evse.uid,
        )


def _connector(socket: Socket) -> Connector:
    return Connector(
        id=socket.id,
        standard=socket.standard,
        format=socket.format,
        power_type=socket.power_type,
        max_voltage=socket.max_voltage,
        max_amperage=socket.max_amperage,
        max_electric_power=socket.max_electric_power if socket.HasField("max_electric_power") else None,
        tariff_ids=socket.tariff_ids,
    )

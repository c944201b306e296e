"""EVSEs and their connectors in AMPECO's form and back."""

from typing import Final

from evbridge.partner.ampeco.v3 import charge_point_pb2, evse_pb2
from evbridge.v1.location_pb2 import (
    Capability,
    Connector,
    ConnectorFormat,
    ConnectorType,
    Evse,
    EvseStatus,
    PowerType,
)

from service.domain.mapping import Mapped, mapped
from service.partners.ampeco.mapping import id_here, time_of

# Ours, AMPECO's; of two for one, the first is written and both are read. Type 3 does not say A or C there, and AMPECO's
# avcon, inductive and nacs are no standards of OCPI 2.2.1.
_STANDARDS: Final = (
    (ConnectorType.CONNECTOR_TYPE_CHADEMO, "chademo"),
    (ConnectorType.CONNECTOR_TYPE_CHAOJI, "chaoji"),
    (ConnectorType.CONNECTOR_TYPE_DOMESTIC_E, "type-e-french"),
    (ConnectorType.CONNECTOR_TYPE_DOMESTIC_F, "schuko"),
    (ConnectorType.CONNECTOR_TYPE_DOMESTIC_G, "type-g-british"),
    (ConnectorType.CONNECTOR_TYPE_DOMESTIC_J, "type-j-swiss"),
    (ConnectorType.CONNECTOR_TYPE_GBT_AC, "gb-t-ac"),
    (ConnectorType.CONNECTOR_TYPE_GBT_DC, "gb-t-dc"),
    (ConnectorType.CONNECTOR_TYPE_IEC_62196_T1, "type1"),
    (ConnectorType.CONNECTOR_TYPE_IEC_62196_T1, "j1772"),
    (ConnectorType.CONNECTOR_TYPE_IEC_62196_T1_COMBO, "ccs1"),
    (ConnectorType.CONNECTOR_TYPE_IEC_62196_T2, "type2"),
    (ConnectorType.CONNECTOR_TYPE_IEC_62196_T2_COMBO, "ccs2"),
    (ConnectorType.CONNECTOR_TYPE_NEMA_5_20, "nema-5-20"),
    (ConnectorType.CONNECTOR_TYPE_NEMA_6_30, "nema-6-30"),
    (ConnectorType.CONNECTOR_TYPE_NEMA_6_50, "nema-6-50"),
)
_STANDARD_TO: Final = dict(reversed(_STANDARDS))
_STANDARD_FROM: Final = {remote: ours for ours, remote in _STANDARDS}
# AMPECO's CEE plugs tell no phases; those stand in the EVSE. Ours, AMPECO's, its phases.
_CEE: Final = (
    (ConnectorType.CONNECTOR_TYPE_IEC_60309_2_SINGLE_16, "cee16", "single_phase"),
    (ConnectorType.CONNECTOR_TYPE_IEC_60309_2_THREE_16, "cee16", "three_phase"),
    (ConnectorType.CONNECTOR_TYPE_IEC_60309_2_THREE_32, "cee32", "three_phase"),
)
_CEE_TO: Final = {ours: remote for ours, remote, _ in _CEE}
_CEE_FROM: Final = {(remote, phases): ours for ours, remote, phases in _CEE}
_FORMATS: Final = {
    "socket": ConnectorFormat.CONNECTOR_FORMAT_SOCKET,
    "cable": ConnectorFormat.CONNECTOR_FORMAT_CABLE,
}
_PHASES: Final = {
    "single_phase": PowerType.POWER_TYPE_AC_1_PHASE,
    "split_phase": PowerType.POWER_TYPE_AC_2_PHASE_SPLIT,
    "three_phase": PowerType.POWER_TYPE_AC_3_PHASE,
}
# What AMPECO tells its OCPI parties for a range of voltages.
_VOLTAGES: Final = {"220-240": 230, "110-130": 120}
_STATUS_TO: Final = {
    EvseStatus.EVSE_STATUS_INOPERATIVE: "disabled",
    EvseStatus.EVSE_STATUS_PLANNED: "disabled",
    EvseStatus.EVSE_STATUS_REMOVED: "disabled",
    EvseStatus.EVSE_STATUS_OUTOFORDER: "out of order",
}
_STATUS_FROM: Final = {
    "disabled": EvseStatus.EVSE_STATUS_INOPERATIVE,
    "out of order": EvseStatus.EVSE_STATUS_OUTOFORDER,
}
# OCPP's states, in lower case, letters alone.
_HARDWARE_STATUS: Final = {
    "available": EvseStatus.EVSE_STATUS_AVAILABLE,
    "preparing": EvseStatus.EVSE_STATUS_CHARGING,
    "occupied": EvseStatus.EVSE_STATUS_CHARGING,
    "charging": EvseStatus.EVSE_STATUS_CHARGING,
    "suspendedev": EvseStatus.EVSE_STATUS_CHARGING,
    "suspendedevse": EvseStatus.EVSE_STATUS_CHARGING,
    "finishing": EvseStatus.EVSE_STATUS_CHARGING,
    "reserved": EvseStatus.EVSE_STATUS_RESERVED,
    "unavailable": EvseStatus.EVSE_STATUS_INOPERATIVE,
    "faulted": EvseStatus.EVSE_STATUS_OUTOFORDER,
}
_ELECTRICAL: Final = "AMPECO has one for the whole EVSE, or none that says this."
_CONNECTOR: Final = {
    "id": "AMPECO makes its own.",
    "standard": "AMPECO has no such plug, or one for several.",
    "power_type": _ELECTRICAL,
    "max_voltage": _ELECTRICAL,
    "max_amperage": _ELECTRICAL,
    "max_electric_power": _ELECTRICAL,
    "tariff_ids": "AMPECO takes a tariff group of the EVSE.",
}
_EVSE: Final = {
    "status": "AMPECO hears it from the charge point itself.",
    "capabilities": "AMPECO has no such capability of an EVSE.",
    **{f"connectors.{name}": reason for name, reason in _CONNECTOR.items()},
}
_EVSE_THERE: Final = {
    "status": "OCPI knows one status.",
    "connectors": "OCPI has no such plug.",
    "tariff_group_id": "It stands for tariffs, which come on their own.",
}


def evse_to(
    evse: Evse, charge_point_id: int, network_id: int, *, tariff_group_id: int | None = None
) -> Mapped[evse_pb2.Evse]:
    """One of ours as a write of AMPECO's. Its connectors travel on their own, their losses stand here too.

    `network_id` is its number on the charge point, from 1; also its label on site when it has none. `tariff_group_id`
    is the group that holds the tariffs of its connectors.
    """
    given, message = Evse(), _evse_to(evse)
    given.CopyFrom(evse)
    message.charge_point_id, message.network_id = charge_point_id, str(network_id)
    if not message.physical_reference:
        message.physical_reference = str(network_id)
    if tariff_group_id is not None:
        message.tariff_group_id = tariff_group_id
        for connector in given.connectors:
            connector.ClearField("tariff_ids")
    found = evse_pb2.Evse()
    found.CopyFrom(message)
    found.connectors.extend(_connector_to(connector) for connector in evse.connectors)
    return mapped(given, message, _evse_from(found, None), _EVSE, apart=("charger_id",))


def evse_from(evse: evse_pb2.Evse, charge_point: charge_point_pb2.ChargePoint | None = None) -> Mapped[Evse]:
    """AMPECO's, with its connectors, as one of ours. The charge point adds its id, a capability and its own status."""
    message = _evse_from(evse, charge_point)
    back = _evse_to(message)
    back.network_id, back.charge_point_id = evse.network_id, evse.charge_point_id
    back.connectors.extend(_connector_to(connector) for connector in message.connectors)
    return mapped(evse, message, back, _EVSE_THERE)


def connector_to(connector: Connector) -> Mapped[evse_pb2.Connector]:
    """One of ours as a write of AMPECO's; its electrical data stand in the EVSE."""
    message = _connector_to(connector)
    found = _connector_from(message, _evse_to(Evse(connectors=[connector])))
    return mapped(connector, message, found, _CONNECTOR)


def _evse_to(evse: Evse) -> evse_pb2.Evse:
    sent = evse_pb2.Evse(external_id=evse.uid, status=_STATUS_TO.get(evse.status, "enabled"))
    if evse.physical_reference:
        sent.physical_reference = evse.physical_reference
    if Capability.CAPABILITY_RESERVABLE in evse.capabilities:
        sent.allows_reservation = True
    for connector in evse.connectors[:1]:
        sent.current_type = "dc" if connector.power_type == PowerType.POWER_TYPE_DC else "ac"
        sent.power_options.max_voltage = str(connector.max_voltage)
        sent.power_options.max_amperage = connector.max_amperage
        if connector.HasField("max_electric_power"):
            sent.power_options.max_power = connector.max_electric_power
        for phases, power_type in _PHASES.items():
            if power_type == connector.power_type:
                sent.power_options.phases = phases
    return sent


def _evse_from(remote: evse_pb2.Evse, charge_point: charge_point_pb2.ChargePoint | None) -> Evse:
    evse = Evse(uid=id_here(remote), physical_reference=remote.physical_reference)
    hardware = "".join(filter(str.isalpha, remote.hardware_status.lower()))
    evse.status = _STATUS_FROM.get(remote.status) or _HARDWARE_STATUS.get(hardware, EvseStatus.EVSE_STATUS_UNKNOWN)
    if remote.allows_reservation:
        evse.capabilities.append(Capability.CAPABILITY_RESERVABLE)
    if charge_point is not None:
        evse.charger_id = id_here(charge_point)
        evse.status = _STATUS_FROM.get(charge_point.status, evse.status)
        if "remote_start_stop_capable" in charge_point.capabilities:
            evse.capabilities.append(Capability.CAPABILITY_REMOTE_START_STOP_CAPABLE)
    evse.connectors.extend(_connector_from(connector, remote) for connector in remote.connectors)
    if changed := time_of(remote.last_updated_at):
        evse.last_updated.CopyFrom(changed)
    return evse


def _connector_to(connector: Connector) -> evse_pb2.Connector:
    sent = evse_pb2.Connector(status="enabled")
    if plug := _STANDARD_TO.get(connector.standard) or _CEE_TO.get(connector.standard):
        sent.type = plug
    for format, number in _FORMATS.items():
        if number == connector.format:
            sent.format = format
    return sent


def _connector_from(remote: evse_pb2.Connector, evse: evse_pb2.Evse) -> Connector:
    power = evse.power_options
    connector = Connector(id=str(remote.id) if remote.HasField("id") else "")
    connector.standard = (
        _STANDARD_FROM.get(remote.type)
        or _CEE_FROM.get((remote.type, power.phases))
        or ConnectorType.CONNECTOR_TYPE_UNSPECIFIED
    )
    connector.format = _FORMATS.get(remote.format, ConnectorFormat.CONNECTOR_FORMAT_UNSPECIFIED)
    if evse.current_type == "dc":
        connector.power_type = PowerType.POWER_TYPE_DC
    else:
        connector.power_type = _PHASES.get(power.phases, PowerType.POWER_TYPE_UNSPECIFIED)
    voltage = power.max_voltage
    connector.max_voltage = _VOLTAGES.get(voltage) or _bounded(float(voltage) if voltage.isdecimal() else 0)
    connector.max_amperage = _bounded(power.max_amperage)
    if power.HasField("max_power"):
        connector.max_electric_power = _bounded(power.max_power)
    return connector


def _bounded(number: float) -> int:
    """Whole V, A or W; 0 for what no hardware has."""
    return int(number) if 0 <= number < 2**31 else 0

"""AMPECO: its errors, and our locations, chargers and EVSEs in its form and back. The contract says the rest.

Its objects name no party, so the key of one of ours is its external id there. Texts without a language are written in
one locale.
"""

from collections.abc import Iterable
from typing import Any, Final

import evbridge.partner.ampeco.v3.ampeco_pb2 as wire
from evbridge.partner.ampeco.v3 import charge_point_pb2, evse_pb2, location_pb2
from evbridge.v1.charger_pb2 import Charger
from evbridge.v1.location_pb2 import (
    Capability,
    Connector,
    ConnectorFormat,
    ConnectorType,
    Evse,
    EvseStatus,
    Facility,
    Hours,
    Location,
    ParkingType,
    PowerType,
)
from evbridge.v1.tariff_pb2 import Tariff
from evbridge.v1.types_pb2 import IMAGE_CATEGORY_LOCATION
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from service.bridge.json_text import CodecError, parse_tolerantly
from service.bridge.ports import Refusal
from service.domain.country import ALPHA_2, alpha_3
from service.domain.geography import decimal_degrees
from service.domain.mapping import Mapped, mapped
from service.errors import FieldViolation

# The language of texts that name none, such as the name of a location.
LOCALE: Final = "en"


def explain(status: int, body: bytes) -> Refusal:
    """The message and, of a 422, the first complaint about each field. Never raises."""
    try:
        document = parse_tolerantly(body)
    except CodecError:
        return Refusal()
    members = document if isinstance(document, dict) else {}
    complaints = members.get("errors")
    return Refusal(
        message=_complaint(members.get("message")),
        violations=tuple(
            FieldViolation("/" + str(field).replace("~", "~0").replace("/", "~1").replace(".", "/"), _complaint(texts))
            for field, texts in (complaints.items() if isinstance(complaints, dict) else ())
        ),
    )


def _complaint(value: Any) -> str:
    first = value[0] if isinstance(value, list) and value else value
    return first if isinstance(first, str) else ""


def is_roaming(object: location_pb2.Location | charge_point_pb2.ChargePoint | evse_pb2.Evse) -> bool:
    """Whether it is another operator's, shown by roaming."""
    return bool(object.roaming_operator_id)


def is_private(charge_point: charge_point_pb2.ChargePoint) -> bool:
    """Whether it serves those alone whom a partner lets in."""
    return charge_point.type == "private"


def is_personal(charge_point: charge_point_pb2.ChargePoint) -> bool:
    """Whether it serves the one user who owns it."""
    return charge_point.type == "personal"


def is_demo(charge_point: charge_point_pb2.ChargePoint) -> bool:
    """Whether it is simulated."""
    return charge_point.status == "demo"


def external_id(object: Location | Tariff) -> str:
    """The external id of one of ours. One without a party came from there and keeps the external id it had."""
    return f"{object.country_code}*{object.party_id}*{object.id}" if object.country_code else object.external_id


def key_of_ours(remote: Any) -> dict[str, str] | None:
    """What the external id says of the key of one of ours, as `external_id` wrote it; None when it is another's."""
    match remote.external_id.split("*", 2):
        case [country_code, party_id, id] if len(country_code) == 2 and len(party_id) == 3 and id:
            return {"country_code": country_code, "party_id": party_id, "id": id}
    return None


def set_key(object: Any, remote: Any) -> None:
    """The key of one of ours; of another the id AMPECO gave it, without a party."""
    if key := key_of_ours(remote):
        object.country_code, object.party_id, object.id = key.values()
    else:
        object.id = str(remote.id) if remote.HasField("id") else ""
        object.external_id = remote.external_id


def _translate(texts: Any, text: str) -> None:
    if text:
        texts.add(locale=LOCALE, translation=text)


def _text(texts: Iterable[wire.Translation]) -> str:
    """The one in LOCALE, else the first."""
    by_locale = {text.locale: text.translation for text in reversed(list(texts))}
    return by_locale.get(LOCALE) or next(reversed(by_locale.values()), "")


def time_of(text: str) -> Timestamp | None:
    time = Timestamp()
    try:
        time.FromJsonString(text)
    except ValueError:
        return None
    return time


def _copy(source: Message, target: Message, names: Iterable[tuple[str, str]]) -> None:
    """Sets the texts of the target that the source has."""
    for given, taken in names:
        if value := getattr(source, given):
            setattr(target, taken, value)


# Location

_SAME: Final = (("city", "city"), ("postal_code", "post_code"), ("time_zone", "timezone"))
_DAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
# Where AMPECO takes a state; elsewhere the same is a region.
_WITH_STATES: Final = frozenset({"USA", "AUS", "CAN", "UMI", "ROU"})
_PARKING_TYPES: Final = {
    name.removeprefix("PARKING_TYPE_"): number
    for name, number in ParkingType.items()
    if name not in ("PARKING_TYPE_UNSPECIFIED", "PARKING_TYPE_OTHER", "PARKING_TYPE_UNKNOWN")
}
_FACILITIES: Final = {name.removeprefix("FACILITY_"): number for name, number in Facility.items() if number}
_IMAGE_TYPES: Final = {"image/gif": "gif", "image/jpeg": "jpeg", "image/png": "png", "image/svg+xml": "svg"}
_LOCATION: Final = {
    "publish": "AMPECO's status of a location cannot be written.",
    "publish_allowed_to": "AMPECO shows a location to everybody or nobody.",
    "country": "It is not a country of ISO 3166-1.",
    "parking_type": "AMPECO has no such kind.",
    "opening_times.exceptional_openings": "AMPECO knows weekly hours alone.",
    "opening_times.exceptional_closings": "AMPECO knows weekly hours alone.",
    "images": "Images cannot be written.",
    "external_id": "Its place is taken by our own key.",
}
_LOCATION_THERE: Final = {
    "geoposition": "It is kept with 7 decimals.",
    "facilities": "OCPI has no such facility.",
    "external_app_data": "It belongs to other applications.",
}


def location_to(location: Location) -> Mapped[location_pb2.Location]:
    """One of ours as a write of AMPECO's. Its EVSEs travel on their own, see `evse_to`."""
    message = _location_to(location)
    return mapped(location, message, _location_from(message), _LOCATION, apart=("evses", "etag"))


def location_from(location: location_pb2.Location) -> Mapped[Location]:
    """AMPECO's as one of ours, without EVSEs; without a party unless its external id is a key of ours."""
    message = _location_from(location)
    return mapped(location, message, _location_to(message), _LOCATION_THERE)


def _location_to(location: Location) -> location_pb2.Location:
    sent = location_pb2.Location()
    _copy(location, sent, _SAME)
    if key := external_id(location):
        sent.external_id = key
    _translate(sent.name, location.name)
    _translate(sent.street_address, location.address)
    if location.state:
        setattr(sent, "state" if location.country in _WITH_STATES else "region", location.state)
    if country := ALPHA_2.get(location.country):
        sent.country = country
    if location.HasField("coordinates"):
        # A double keeps 15 digits; 3 and 7 are needed.
        sent.geoposition.latitude = float(location.coordinates.latitude)
        sent.geoposition.longitude = float(location.coordinates.longitude)
    sent.facilities.extend(name for name, number in _FACILITIES.items() if number in location.facilities)
    for name, number in _PARKING_TYPES.items():
        if number == location.parking_type:
            sent.parking_type = name
    if location.HasField("opening_times"):
        sent.working_hours.is_always_open = location.opening_times.twentyfourseven
        for hours in location.opening_times.regular_hours:
            day = getattr(sent.working_hours.hours, _DAYS[hours.weekday - 1])
            day.add(start=hours.period_begin, end=hours.period_end)
    if location.HasField("charging_when_closed"):
        sent.working_hours.stop_session_outside_working_hours = not location.charging_when_closed
    return sent


def _location_from(remote: location_pb2.Location) -> Location:
    location = Location()
    _copy(remote, location, ((there, here) for here, there in _SAME))
    set_key(location, remote)
    location.name = _text(remote.name)
    location.address = _text(remote.street_address) or _text(remote.address)
    location.state = remote.state or remote.region
    location.country = alpha_3(remote.country)
    place = remote.geoposition
    # 0, 0 stands for a place that nobody has entered.
    if place.HasField("latitude") and place.HasField("longitude") and (place.latitude or place.longitude):
        location.coordinates.latitude = decimal_degrees(repr(place.latitude))
        location.coordinates.longitude = decimal_degrees(repr(place.longitude))
    location.facilities.extend(_FACILITIES[name] for name in remote.facilities if name in _FACILITIES)
    location.parking_type = _PARKING_TYPES.get(remote.parking_type, ParkingType.PARKING_TYPE_UNSPECIFIED)
    _hours_from(remote.working_hours, location)
    for role in ("operator", "suboperator", "owner"):
        if name := getattr(remote.roaming, role).name:
            getattr(location, role).name = name
    for image in remote.images or [remote.location_image]:
        if type := _IMAGE_TYPES.get(image.mime_type):
            location.images.add(
                url=image.original, thumbnail=image.thumbnail, type=type, category=IMAGE_CATEGORY_LOCATION
            )
    if remote.HasField("status"):
        location.publish = remote.status == "enabled"
    if changed := time_of(remote.last_updated_at):
        location.last_updated.CopyFrom(changed)
    return location


def _hours_from(remote: location_pb2.LocationWorkingHours, location: Location) -> None:
    if remote.HasField("is_always_open") or remote.hours.ListFields():
        hours: Hours = location.opening_times
        hours.twentyfourseven = remote.is_always_open
        for weekday, day in enumerate(_DAYS, 1):
            for interval in getattr(remote.hours, day):
                hours.regular_hours.add(weekday=weekday, period_begin=interval.start, period_end=interval.end)
    if remote.HasField("stop_session_outside_working_hours"):
        location.charging_when_closed = not remote.stop_session_outside_working_hours


# Charge point

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
    charger = Charger(id=_id(remote), name=remote.name)
    if remote.HasField("location_id"):
        charger.site_id = str(remote.location_id)
    if remote.HasField("network_status"):
        charger.active_connection = remote.network_status == "available"
    return charger


def _id(remote: charge_point_pb2.ChargePoint | evse_pb2.Evse) -> str:
    """Ours where we gave it one, else AMPECO's."""
    return remote.external_id or (str(remote.id) if remote.HasField("id") else "")


# EVSE and connector

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
    evse = Evse(uid=_id(remote), physical_reference=remote.physical_reference)
    hardware = "".join(filter(str.isalpha, remote.hardware_status.lower()))
    evse.status = _STATUS_FROM.get(remote.status) or _HARDWARE_STATUS.get(hardware, EvseStatus.EVSE_STATUS_UNKNOWN)
    if remote.allows_reservation:
        evse.capabilities.append(Capability.CAPABILITY_RESERVABLE)
    if charge_point is not None:
        evse.charger_id = _id(charge_point)
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

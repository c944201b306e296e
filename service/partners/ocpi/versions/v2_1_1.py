"""OCPI 2.1.1: objects do not say who owns them, a connector has one tariff, some members have other names.

Source: OCPI 2.1.1, locations, tariffs and tokens.
"""

from collections.abc import Callable
from decimal import Decimal, InvalidOperation

from evbridge.options.v1.options_pb2 import OCPI_RELEASE_UNSPECIFIED
from evbridge.v1.location_pb2 import Connector, Evse, Location
from evbridge.v1.tariff_pb2 import Tariff
from evbridge.v1.token_pb2 import Token

from service.partners.ocpi.versions.form import Object, pruned, renamed, replaced

_LOCATION = {"parking_type": "type"}
_LOCATION_BACK = {new: old for old, new in _LOCATION.items()}
_CONNECTOR = {"max_voltage": "voltage", "max_amperage": "amperage"}
_CONNECTOR_BACK = {new: old for old, new in _CONNECTOR.items()}
_INSTEAD = {
    "ALONG_MOTORWAY": "OTHER",
    "ON_DRIVEWAY": "OTHER",
    "AC_2_PHASE": "AC_1_PHASE",
    "AC_2_PHASE_SPLIT": "AC_1_PHASE",
}
"""The nearest that says no more than is true."""
_TOKEN = {"contract_id": "auth_id"}
_TOKEN_BACK = {new: old for old, new in _TOKEN.items()}
_TOKEN_TYPES = {"AD_HOC_USER": "OTHER", "APP_USER": "OTHER", "EMAID": "OTHER"}
_MAX_ADDRESS = 45
_DECIMALS = 6


def location_to(ours: Object) -> Object:
    wire = renamed(pruned(Location.DESCRIPTOR, ours, OCPI_RELEASE_UNSPECIFIED, _INSTEAD), _LOCATION)
    wire = {"type": "UNKNOWN", "postal_code": ""} | wire
    wire["address"] = str(wire.get("address", ""))[:_MAX_ADDRESS]
    wire = _with_points(replaced(wire, "related_locations", _point_to), _point_to)
    return _with_waste(replaced(wire, "evses", _evse_to), {"category": "source"})


def evse_to(ours: Object) -> Object:
    return _evse_to(pruned(Evse.DESCRIPTOR, ours, OCPI_RELEASE_UNSPECIFIED, _INSTEAD))


def connector_to(ours: Object) -> Object:
    return _connector_to(pruned(Connector.DESCRIPTOR, ours, OCPI_RELEASE_UNSPECIFIED, _INSTEAD))


def tariff_to(ours: Object) -> Object:
    """Without what prices reservations, which it does not know."""
    elements = [each for each in ours["elements"] if not (each.get("restrictions") or {}).get("reservation")]
    wire = pruned(Tariff.DESCRIPTOR, ours | {"elements": elements}, OCPI_RELEASE_UNSPECIFIED)
    return _with_waste(wire, {"category": "source"})


def token_to(ours: Object) -> Object:
    return renamed(pruned(Token.DESCRIPTOR, ours, OCPI_RELEASE_UNSPECIFIED, _TOKEN_TYPES), _TOKEN)


def token_from(wire: Object) -> Object:
    return renamed(wire, _TOKEN_BACK)


def location_from(wire: Object) -> Object:
    ours = {"publish": True} | renamed(wire, _LOCATION_BACK)
    hours = ours.get("opening_times")
    if isinstance(hours, dict) and hours.get("twentyfourseven") is None:
        ours["opening_times"] = hours | {"twentyfourseven": not hours.get("regular_hours")}
    return _with_waste(replaced(ours, "evses", evse_from), {"source": "category"})


def evse_from(wire: Object) -> Object:
    return replaced(wire, "connectors", connector_from)


def connector_from(wire: Object) -> Object:
    ours = renamed(wire, _CONNECTOR_BACK)
    tariff_id = ours.pop("tariff_id", None)
    return ours if tariff_id is None else {"tariff_ids": [tariff_id]} | ours


def tariff_from(wire: Object) -> Object:
    return _with_waste(wire, {"source": "category"})


def _evse_to(wire: Object) -> Object:
    return replaced(_with_points(wire, _point_to), "connectors", _connector_to)


def _connector_to(wire: Object) -> Object:
    wire = renamed(wire, _CONNECTOR)
    tariff_ids = wire.pop("tariff_ids", None)
    return wire | {"tariff_id": tariff_ids[0]} if tariff_ids else wire


def _with_points(wire: Object, change: Callable[[Object], Object]) -> Object:
    point = wire.get("coordinates")
    return wire | {"coordinates": change(point)} if isinstance(point, dict) else wire


def _point_to(point: Object) -> Object:
    """Degrees have six decimals."""
    return point | {name: _degrees(point[name]) for name in ("latitude", "longitude") if name in point}


def _degrees(text: str) -> str:
    try:
        return f"{Decimal(text):.{_DECIMALS}f}"
    except InvalidOperation:
        return text


def _with_waste(value: Object, names: dict[str, str]) -> Object:
    mix = value.get("energy_mix")
    if not isinstance(mix, dict):
        return value
    return value | {"energy_mix": replaced(mix, "environ_impact", lambda impact: renamed(impact, names))}


TO = {"Location": location_to, "Evse": evse_to, "Connector": connector_to, "Tariff": tariff_to, "Token": token_to}
FROM = {
    "Location": location_from,
    "Evse": evse_from,
    "Connector": connector_from,
    "Tariff": tariff_from,
    "Token": token_from,
}

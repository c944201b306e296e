"""OCPI 2.1.1: objects do not say who owns them, a connector has one tariff, some members have other names.

A session and a CDR hold a whole location, and of their token the contract alone.

Source: OCPI 2.1.1, locations, tariffs, tokens, sessions and cdrs.
"""

import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any

from evbridge.options.v1.options_pb2 import OCPI_RELEASE_UNSPECIFIED
from evbridge.v1.cdr_pb2 import Cdr
from evbridge.v1.location_pb2 import Connector, Evse, Location
from evbridge.v1.session_pb2 import Session
from evbridge.v1.tariff_pb2 import Tariff
from evbridge.v1.token_pb2 import Token

from service.bridge.json_text import CodecError
from service.partners.ocpi.versions.form import Object, pruned, renamed, replaced

_LOCATION = {"parking_type": "type"}
_LOCATION_BACK = {new: old for old, new in _LOCATION.items()}
_CONNECTOR = {"max_voltage": "voltage", "max_amperage": "amperage"}
_CONNECTOR_BACK = {new: old for old, new in _CONNECTOR.items()}
_SESSION = {"start_date_time": "start_datetime", "end_date_time": "end_datetime"}
_SESSION_BACK = {new: old for old, new in _SESSION.items()}
_CDR = {"end_date_time": "stop_date_time"}
_CDR_BACK = {new: old for old, new in _CDR.items()}
_PLACE = ("id", "name", "address", "city", "postal_code", "country", "coordinates")
"""Of a location, what a CDR of later versions has too."""
_ISSUER = re.compile(r"([A-Za-z]{2})[-*]?([A-Za-z0-9]{3})[-*]?[A-Za-z0-9*-]{2,}")
"""A contract of eMI3 begins with the party that made it."""
_INSTEAD = {
    "COMMAND": "AUTH_REQUEST",
    "RESERVATION": "PENDING",
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
_NOBODY = ("ZZ", "ZZZ")
"""Who issued a token of which the contract does not say it."""


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


def session_to(ours: Object) -> Object:
    """Raises CodecError without a location."""
    place = ours.get("location")
    if not isinstance(place, dict):
        raise CodecError("/location_id", "names no location that is stored here")
    wire = renamed(pruned(Session.DESCRIPTOR, ours, OCPI_RELEASE_UNSPECIFIED, _INSTEAD), _SESSION)
    return _charged_to(wire) | {"location": location_to(place)}


def cdr_to(ours: Object) -> Object:
    """What it does not say of the EVSE is unknown, and 0 where a number is required."""
    wire = renamed(pruned(Cdr.DESCRIPTOR, ours, OCPI_RELEASE_UNSPECIFIED, _INSTEAD), _CDR)
    place, time = ours["cdr_location"], ours["last_updated"]
    connector = {
        "id": place["connector_id"],
        **{name: place[f"connector_{name}"] for name in ("standard", "format", "power_type")},
        "max_voltage": 0,
        "max_amperage": 0,
        "last_updated": time,
    }
    evse = {
        "uid": place["evse_uid"],
        "evse_id": place["evse_id"],
        "status": "UNKNOWN",
        "connectors": [connector],
        "last_updated": time,
    }
    location = {name: place[name] for name in _PLACE if name in place} | {"evses": [evse], "last_updated": time}
    shown = pruned(Evse.DESCRIPTOR, evse, OCPI_RELEASE_UNSPECIFIED, _INSTEAD)
    location = {"type": "UNKNOWN", "postal_code": ""} | location | {"evses": [_evse_to(shown)]}
    tariffs = [{"last_updated": time} | tariff_to(each) for each in ours.get("tariffs", ())]
    return (
        _charged_to(wire) | {"location": _with_points(location, _point_to)} | ({"tariffs": tariffs} if tariffs else {})
    )


def _charged_to(wire: Object) -> Object:
    """An amount is one number, without VAT."""
    contract_id = wire.pop("cdr_token")["contract_id"]
    cost = {"total_cost": wire["total_cost"]["excl_vat"]} if "total_cost" in wire else {}
    return wire | {"auth_id": contract_id} | cost


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


def session_from(wire: Object) -> Object:
    ours = _charged_from(renamed(wire, _SESSION_BACK))
    location, evse, connector = _places(ours.pop("location", None))
    ids = {"location_id": location.get("id"), "evse_uid": evse.get("uid"), "connector_id": connector.get("id")}
    return {name: id for name, id in ids.items() if id is not None} | ours


def cdr_from(wire: Object) -> Object:
    ours = replaced(_charged_from(renamed(wire, _CDR_BACK)), "tariffs", tariff_from)
    location, evse, connector = _places(ours.pop("location", None))
    if location:
        place = {name: location[name] for name in _PLACE if name in location}
        place |= {"evse_uid": evse.get("uid"), "evse_id": evse.get("evse_id") or "#NA"}
        place |= {f"connector_{name}": connector.get(name) for name in ("id", "standard", "format", "power_type")}
        ours = {"cdr_location": place} | ours
    return ours


def _charged_from(wire: Object) -> Object:
    """Of the token only the contract is known, and who made it where that says so."""
    ours = dict(wire)
    cost, contract_id = ours.get("total_cost"), ours.pop("auth_id", None)
    if cost is not None and not isinstance(cost, dict):
        ours["total_cost"] = {"excl_vat": cost}
    if isinstance(contract_id, str):
        issuer = _ISSUER.fullmatch(contract_id)
        country_code, party_id = issuer.groups() if issuer else _NOBODY
        token = {"country_code": country_code, "party_id": party_id, "uid": "#NA", "type": "OTHER"}
        ours = {"cdr_token": token | {"contract_id": contract_id}} | ours
    return ours


def _places(location: Any) -> tuple[Object, Object, Object]:
    """A location, its first EVSE and its first connector; empty where one is not there."""
    found: list[Object] = [location if isinstance(location, dict) else {}]
    for name in ("evses", "connectors"):
        items = found[-1].get(name)
        first = items[0] if isinstance(items, list) and items else {}
        found.append(first if isinstance(first, dict) else {})
    return found[0], found[1], found[2]


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


TO = {
    "Location": location_to,
    "Evse": evse_to,
    "Connector": connector_to,
    "Tariff": tariff_to,
    "Token": token_to,
    "Session": session_to,
    "Cdr": cdr_to,
}
FROM = {
    "Location": location_from,
    "Evse": evse_from,
    "Connector": connector_from,
    "Tariff": tariff_from,
    "Token": token_from,
    "Session": session_from,
    "Cdr": cdr_from,
}

_NAMES = {
    "Token": _TOKEN,
    "Session": _SESSION | {"cdr_token": "auth_id"},
    "Cdr": _CDR | {"cdr_token": "auth_id", "cdr_location": "location"},
}


def member(noun: str, path: str) -> str:
    """What a field of ours, such as `start_date_time`, is called in the object of the noun."""
    first = re.split(r"[.\[]", path, maxsplit=1)[0]
    name = _NAMES.get(noun, {}).get(first, first)
    return name if name == "auth_id" else name + path[len(first) :]

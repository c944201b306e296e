"""OCPI 2.3.0: ours but for the names in a price limit. Source: OCPI 2.3.0, tariffs, PriceLimit."""

from evbridge.options.v1.options_pb2 import OCPI_RELEASE_2_3_0
from evbridge.v1.location_pb2 import Connector, Evse, Location
from evbridge.v1.tariff_pb2 import Tariff
from evbridge.v1.token_pb2 import Token

from service.partners.ocpi.versions.form import Object, pruned, renamed

_LIMITS = ("min_price", "max_price")
_LIMIT = {"excl_vat": "before_taxes", "incl_vat": "after_taxes"}
_LIMIT_BACK = {new: old for old, new in _LIMIT.items()}


def location_to(ours: Object) -> Object:
    return without_old_parking(pruned(Location.DESCRIPTOR, ours, OCPI_RELEASE_2_3_0))


def evse_to(ours: Object) -> Object:
    return pruned(Evse.DESCRIPTOR, ours, OCPI_RELEASE_2_3_0)


def connector_to(ours: Object) -> Object:
    return pruned(Connector.DESCRIPTOR, ours, OCPI_RELEASE_2_3_0)


def tariff_to(ours: Object) -> Object:
    """`tax_included` is required; a tariff of ours that does not say has prices without taxes."""
    wire: Object = {"tax_included": "NO"} | pruned(Tariff.DESCRIPTOR, ours, OCPI_RELEASE_2_3_0)
    return wire | {name: renamed(wire[name], _LIMIT) for name in _LIMITS if name in wire}


def token_to(ours: Object) -> Object:
    return pruned(Token.DESCRIPTOR, ours, OCPI_RELEASE_2_3_0)


def tariff_from(wire: Object) -> Object:
    limits = {name: wire[name] for name in _LIMITS if isinstance(wire.get(name), dict)}
    return wire | {name: renamed(limit, _LIMIT_BACK) for name, limit in limits.items()}


def same(wire: Object) -> Object:
    return wire


def without_old_parking(wire: Object) -> Object:
    """OTHER and UNKNOWN are of 2.1.1 alone."""
    return {name: value for name, value in wire.items() if name != "parking_type" or value not in ("OTHER", "UNKNOWN")}


TO = {"Location": location_to, "Evse": evse_to, "Connector": connector_to, "Tariff": tariff_to, "Token": token_to}
FROM = {"Location": same, "Evse": same, "Connector": same, "Tariff": tariff_from, "Token": same}

"""OCPI 2.3.0: ours but for the names in a price limit, and the taxes of a price.

Source: OCPI 2.3.0, tariffs, PriceLimit, and types, Price.
"""

from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any

from evbridge.options.v1.options_pb2 import OCPI_RELEASE_2_3_0
from evbridge.v1.cdr_pb2 import Cdr
from evbridge.v1.hub_client_pb2 import HubClient
from evbridge.v1.invoice_reconciliation_pb2 import InvoiceReconciliationRecord
from evbridge.v1.location_pb2 import Connector, Evse, Location
from evbridge.v1.session_pb2 import Session
from evbridge.v1.tariff_pb2 import Tariff
from evbridge.v1.token_pb2 import Token

from service.bridge.json_text import Number
from service.partners.ocpi.versions.form import Object, pruned, renamed, replaced

_LIMITS = ("min_price", "max_price")
_LIMIT = {"excl_vat": "before_taxes", "incl_vat": "after_taxes"}
_LIMIT_BACK = {new: old for old, new in _LIMIT.items()}
_COSTS = (
    *("total_cost", "total_fixed_cost", "total_energy_cost", "total_time_cost", "total_parking_cost"),
    "total_reservation_cost",
)


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


def session_to(ours: Object) -> Object:
    return _with_costs(pruned(Session.DESCRIPTOR, ours, OCPI_RELEASE_2_3_0), _cost_to)


def cdr_to(ours: Object) -> Object:
    wire = with_times(pruned(Cdr.DESCRIPTOR, ours, OCPI_RELEASE_2_3_0))
    return _with_costs(replaced(wire, "tariffs", tariff_to), _cost_to)


def session_from(wire: Object) -> Object:
    return _with_costs(wire, _cost_from)


def cdr_from(wire: Object) -> Object:
    return _with_costs(replaced(wire, "tariffs", tariff_from), _cost_from)


def invoice_reconciliation_to(ours: Object) -> Object:
    return pruned(InvoiceReconciliationRecord.DESCRIPTOR, ours, OCPI_RELEASE_2_3_0)


def with_times(wire: Object) -> Object:
    """The tariffs of a CDR are as old as it is, where they do not say."""
    return replaced(wire, "tariffs", lambda tariff: {"last_updated": wire["last_updated"]} | tariff)


def _with_costs(value: Object, change: Callable[[Object], Object]) -> Object:
    return value | {name: change(value[name]) for name in _COSTS if isinstance(value.get(name), dict)}


def _cost_to(cost: Object) -> Object:
    excl, incl = _number(cost.get("excl_vat")), _number(cost.get("incl_vat"))
    if excl is None or incl is None:
        return renamed(cost, _LIMIT)
    return {"before_taxes": cost["excl_vat"], "taxes": [{"name": "VAT", "amount": Number(f"{incl - excl:f}")}]}


def _cost_from(cost: Object) -> Object:
    """The names of before are read too. Taxes that are no numbers leave the amount with them unknown."""
    ours = renamed(cost, _LIMIT_BACK)
    taxes = ours.pop("taxes", None)
    listed = taxes if isinstance(taxes, list) else []
    amounts = [_number(each.get("amount")) if isinstance(each, dict) else None for each in listed]
    excl, known = _number(ours.get("excl_vat")), [each for each in amounts if each is not None]
    if excl is None or not amounts or len(known) < len(amounts):
        return ours
    return {"incl_vat": Number(f"{sum(known, excl):f}")} | ours


def _number(value: Any) -> Decimal | None:
    """The number, as far as it is one of a usual size."""
    try:
        number = Decimal(value) if isinstance(value, str | int) and len(str(value)) < 60 else None
    except InvalidOperation:
        return None
    return number if number is not None and number.is_finite() and abs(number.adjusted()) < 30 else None


def same(wire: Object) -> Object:
    return wire


def without_old_parking(wire: Object) -> Object:
    """OTHER and UNKNOWN are of 2.1.1 alone."""
    return {name: value for name, value in wire.items() if name != "parking_type" or value not in ("OTHER", "UNKNOWN")}


def hub_client_to(ours: Object) -> Object:
    """It has no role HUB."""
    return pruned(HubClient.DESCRIPTOR, ours, OCPI_RELEASE_2_3_0, {"HUB": "OTHER"})


TO = {
    "Location": location_to,
    "Evse": evse_to,
    "Connector": connector_to,
    "Tariff": tariff_to,
    "Token": token_to,
    "Session": session_to,
    "Cdr": cdr_to,
    "HubClient": hub_client_to,
    "InvoiceReconciliationRecord": invoice_reconciliation_to,
}
FROM = {
    "Location": same,
    "Evse": same,
    "Connector": same,
    "Tariff": tariff_from,
    "Token": same,
    "HubClient": same,
    "Session": session_from,
    "Cdr": cdr_from,
    "InvoiceReconciliationRecord": same,
}

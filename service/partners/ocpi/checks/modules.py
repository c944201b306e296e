"""What can be read of a party's modules: the lists of a sender, and what a receiver says of what it does not have."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from evbridge.v1.cdr_pb2 import Cdr
from evbridge.v1.hub_client_pb2 import HubClient
from evbridge.v1.invoice_reconciliation_pb2 import InvoiceReconciliationRecord
from evbridge.v1.location_pb2 import Location
from evbridge.v1.session_pb2 import Session
from evbridge.v1.tariff_pb2 import Tariff
from evbridge.v1.token_pb2 import Token

UNKNOWN: Final = "evbridge-asks-for-nothing"
"""A segment that no URL of the party has."""
_NOTHING: Final = f"ZZ/ZZZ/{UNKNOWN}"


class Module(NamedTuple):
    """`type` is that of the objects in its list, None without one; `ids` tell one of a party's objects from another.

    `nothing` is the path of an object that a receiver does not have, "" where none can be asked for.
    """

    type: Any = None
    nothing: str = _NOTHING
    ids: tuple[str, ...] = ("id",)
    since: str = "2.1.1"
    shows_one: bool = False
    """A sender shows an object by its id as well."""

    wants_date_from: bool = False
    routed: bool = True


MODULES: Final[Mapping[str, Module]] = {
    "locations": Module(Location, shows_one=True),
    "tariffs": Module(Tariff),
    "sessions": Module(Session, wants_date_from=True),
    "cdrs": Module(Cdr, nothing=""),
    "tokens": Module(Token, ids=("uid", "type")),
    "hubclientinfo": Module(HubClient, nothing="ZZ/ZZZ", ids=("role",), since="2.2.1", routed=False),
    "invoicereconciliation": Module(InvoiceReconciliationRecord, since="2.3.0"),
    "commands": Module(nothing=""),
    "chargingprofiles": Module(nothing="", since="2.2.1"),
}
"""In the order in which they are asked for."""

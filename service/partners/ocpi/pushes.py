"""What is pushed to an OCPI party, and where: as far as `models` say so and the party has a receiver."""

from dataclasses import dataclass
from typing import Final

from evbridge.v1.delivery_pb2 import (
    OBJECT_KIND_CDR,
    OBJECT_KIND_HUB_CLIENT,
    OBJECT_KIND_INVOICE_RECONCILIATION_RECORD,
    OBJECT_KIND_LOCATION,
    OBJECT_KIND_SESSION,
    OBJECT_KIND_TARIFF,
    OBJECT_KIND_TOKEN,
    ObjectKind,
)
from evbridge.v1.ocpi_connection_pb2 import INTERFACE_ROLE_RECEIVER, INTERFACE_ROLE_UNSPECIFIED
from evbridge.v1.party_pb2 import PARTY_ROLE_CPO, PARTY_ROLE_EMSP

from service.partners.ocpi.reach import Reached

_MODULES: Final = {
    OBJECT_KIND_LOCATION: "locations",
    OBJECT_KIND_TARIFF: "tariffs",
    OBJECT_KIND_TOKEN: "tokens",
    OBJECT_KIND_SESSION: "sessions",
    OBJECT_KIND_CDR: "cdrs",
    OBJECT_KIND_HUB_CLIENT: "hubclientinfo",
    OBJECT_KIND_INVOICE_RECONCILIATION_RECORD: "invoicereconciliation",
}


@dataclass(frozen=True, slots=True)
class Pushes:
    """What is pushed through an integration, and where."""

    partner: Reached

    def url(self, kind: ObjectKind.ValueType) -> str:
        """Where objects of the kind go; "" for one that is not pushed."""
        return self._receiver(_MODULES[kind]) if self._wanted(kind) else ""

    def reason(self, kind: ObjectKind.ValueType) -> str:
        """Why objects of the kind are not pushed."""
        if not self._wanted(kind):
            return f"not pushed: `models` asks for no push of {_MODULES[kind]}"
        if not self.partner.version:
            return "not pushed: the partner is not registered"
        if not self.partner.has(_MODULES[kind]):
            return f"not pushed: OCPI {self.partner.version} has no {_MODULES[kind]}"
        return f"SERVED_BY_PULL: the partner has no receiver of {_MODULES[kind]} and asks for them"

    def _wanted(self, kind: ObjectKind.ValueType) -> bool:
        models = self.partner.integration.models
        wanted = {
            OBJECT_KIND_LOCATION: models.push_location,
            OBJECT_KIND_TARIFF: models.push_tariff,
            OBJECT_KIND_TOKEN: models.push_token,
            OBJECT_KIND_SESSION: models.push_session,
            OBJECT_KIND_CDR: models.push_cdr,
            OBJECT_KIND_HUB_CLIENT: models.push_hub_client,
            OBJECT_KIND_INVOICE_RECONCILIATION_RECORD: models.push_invoice_reconciliation,
        }
        return wanted[kind]

    def _receiver(self, module: str) -> str:
        """In 2.1.1 modules have no side: a party that only is what owns such objects has no receivers of them there."""
        roles = {each.role for each in self.partner.lender.partner_company_details}
        owner = PARTY_ROLE_EMSP if module == "tokens" else PARTY_ROLE_CPO
        without_side = [INTERFACE_ROLE_UNSPECIFIED] if roles != {owner} else []
        return self.partner.endpoint(module, INTERFACE_ROLE_RECEIVER, *without_side)

"""What we offer OCPI parties: every module, on which of its sides and as which of our roles."""

from collections.abc import Sequence
from typing import Any

from google.protobuf.descriptor_pool import Default

from service.ocpi.cdrs import CdrsReceiver, CdrsSender
from service.ocpi.commands import ChargingProfilesReceiver, ChargingProfilesSender, CommandsReceiver, CommandsSender
from service.ocpi.credentials import Credentials
from service.ocpi.hub_clients import HubClientInfoReceiver, HubClientInfoSender
from service.ocpi.invoice_reconciliation import InvoiceReconciliationReceiver, InvoiceReconciliationSender
from service.ocpi.listener import Endpoint, Ours, Side
from service.ocpi.locations import LocationsReceiver, LocationsSender
from service.ocpi.pages import Documents
from service.ocpi.sessions import SessionsReceiver, SessionsSender
from service.ocpi.tariffs import TariffsReceiver, TariffsSender
from service.ocpi.tokens import TokensReceiver, TokensSender
from service.partners.ocpi.party import VERSIONS
from service.resources.question import Questions
from service.runs.worker import Tools

_SINCE_2_2 = ("2.3.0", "2.2.1")
_SINCE_2_3 = ("2.3.0",)


def endpoints(served: Tools, questions: Questions) -> list[Endpoint]:
    documents, sent = Documents(), CommandsSender(served, questions.notices)
    received = CommandsReceiver(served, questions)
    return [
        _endpoint("credentials", "SENDER", "", Credentials(served)),
        _endpoint("locations", "SENDER", "cpo", LocationsSender(served, documents)),
        _endpoint("locations", "RECEIVER", "emsp", LocationsReceiver(served)),
        _endpoint("tariffs", "SENDER", "cpo", TariffsSender(served, documents)),
        _endpoint("tariffs", "RECEIVER", "emsp", TariffsReceiver(served)),
        _endpoint("tokens", "SENDER", "emsp", TokensSender(served, documents, questions)),
        _endpoint("tokens", "RECEIVER", "cpo", TokensReceiver(served)),
        _endpoint("sessions", "SENDER", "cpo", SessionsSender(served, documents, questions)),
        _endpoint("sessions", "RECEIVER", "emsp", SessionsReceiver(served)),
        _endpoint("cdrs", "SENDER", "cpo", CdrsSender(served, documents)),
        _endpoint("cdrs", "RECEIVER", "emsp", CdrsReceiver(served)),
        _endpoint("hubclientinfo", "SENDER", "hub", HubClientInfoSender(served, documents), _SINCE_2_2),
        _endpoint("hubclientinfo", "RECEIVER", "", HubClientInfoReceiver(served), _SINCE_2_2),
        _endpoint("invoicereconciliation", "SENDER", "", InvoiceReconciliationSender(served, documents), _SINCE_2_3),
        _endpoint("invoicereconciliation", "RECEIVER", "", InvoiceReconciliationReceiver(served), _SINCE_2_3),
        _endpoint("commands", "SENDER", "emsp", sent),
        _endpoint("commands", "RECEIVER", "cpo", received),
        _endpoint("chargingprofiles", "SENDER", "emsp", ChargingProfilesSender(sent), _SINCE_2_2),
        _endpoint("chargingprofiles", "RECEIVER", "cpo", ChargingProfilesReceiver(received), _SINCE_2_2),
    ]


def _endpoint(identifier: str, side: Side, ours: Ours, serves: Any, versions: Sequence[str] = VERSIONS) -> Endpoint:
    """With the service of the contract that `serves` is named after."""
    service = Default().FindServiceByName(f"evbridge.partner.ocpi.v2.{type(serves).__name__}Service")
    return Endpoint(identifier, side, ours, service, serves, versions)

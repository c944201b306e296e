"""The lists of an OCPI party that are pulled, and what becomes of their objects here."""

from typing import Final

from evbridge.partner.ocpi.v2.cdrs_pb2 import ListCdrsRequest
from evbridge.partner.ocpi.v2.hub_client_info_pb2 import ListClientInfoRequest
from evbridge.partner.ocpi.v2.invoice_reconciliation_pb2 import ListInvoiceReconciliationRecordsRequest
from evbridge.partner.ocpi.v2.locations_pb2 import ListLocationsRequest
from evbridge.partner.ocpi.v2.sessions_pb2 import ListSessionsRequest
from evbridge.partner.ocpi.v2.tariffs_pb2 import ListTariffsRequest
from evbridge.partner.ocpi.v2.tokens_pb2 import ListTokensRequest
from evbridge.v1.delivery_pb2 import (
    OBJECT_KIND_CDR,
    OBJECT_KIND_HUB_CLIENT,
    OBJECT_KIND_INVOICE_RECONCILIATION_RECORD,
    OBJECT_KIND_LOCATION,
    OBJECT_KIND_SESSION,
    OBJECT_KIND_TARIFF,
    OBJECT_KIND_TOKEN,
)
from evbridge.v1.party_pb2 import PARTY_ROLE_EMSP, PARTY_ROLE_HUB, PARTY_ROLE_UNSPECIFIED

from service.partners.ocpi.taking import Listed, at_once
from service.resources.received_cdr import cdrs_received
from service.resources.received_hub_client import hub_clients_gone, hub_clients_received
from service.resources.received_invoice_reconciliation import invoice_reconciliations_received
from service.resources.received_location import locations_gone, locations_read
from service.resources.received_session import sessions_received
from service.resources.received_tariff import tariffs_received
from service.resources.received_token import tokens_gone, tokens_received

_SERVICES = "/evbridge.partner.ocpi.v2"
LISTS: Final = (
    Listed(
        "tariffs",
        "pull_tariff",
        OBJECT_KIND_TARIFF,
        f"{_SERVICES}.TariffsSenderService/StreamTariffs",
        ListTariffsRequest,
        at_once(tariffs_received),
    ),
    Listed(
        "locations",
        "pull_location",
        OBJECT_KIND_LOCATION,
        f"{_SERVICES}.LocationsSenderService/StreamLocations",
        ListLocationsRequest,
        locations_read,
        gone=locations_gone,
    ),
    Listed(
        "tokens",
        "pull_tokens_all",
        OBJECT_KIND_TOKEN,
        f"{_SERVICES}.TokensSenderService/StreamTokens",
        ListTokensRequest,
        at_once(tokens_received),
        PARTY_ROLE_EMSP,
        "uid",
        gone=tokens_gone,
    ),
    Listed(
        "sessions",
        "pull_session",
        OBJECT_KIND_SESSION,
        f"{_SERVICES}.SessionsSenderService/StreamSessions",
        ListSessionsRequest,
        at_once(sessions_received),
        lasts=True,
    ),
    Listed(
        "cdrs",
        "pull_cdr",
        OBJECT_KIND_CDR,
        f"{_SERVICES}.CdrsSenderService/StreamCdrs",
        ListCdrsRequest,
        at_once(cdrs_received),
        lasts=True,
    ),
    Listed(
        "hubclientinfo",
        "pull_hub_client",
        OBJECT_KIND_HUB_CLIENT,
        f"{_SERVICES}.HubClientInfoSenderService/StreamClientInfo",
        ListClientInfoRequest,
        at_once(hub_clients_received),
        PARTY_ROLE_HUB,
        "role",
        gone=hub_clients_gone,
    ),
    Listed(
        "invoicereconciliation",
        "pull_invoice_reconciliation",
        OBJECT_KIND_INVOICE_RECONCILIATION_RECORD,
        f"{_SERVICES}.InvoiceReconciliationSenderService/StreamInvoiceReconciliationRecords",
        ListInvoiceReconciliationRecordsRequest,
        at_once(invoice_reconciliations_received),
        PARTY_ROLE_UNSPECIFIED,
        lasts=True,
    ),
)

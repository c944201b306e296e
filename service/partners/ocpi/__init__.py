"""OCPI parties, as far as we call them."""

from evbridge.v1.delivery_pb2 import (
    OBJECT_KIND_CDR,
    OBJECT_KIND_HUB_CLIENT,
    OBJECT_KIND_INVOICE_RECONCILIATION_RECORD,
    OBJECT_KIND_LOCATION,
    OBJECT_KIND_SESSION,
    OBJECT_KIND_TARIFF,
    OBJECT_KIND_TOKEN,
)
from evbridge.v1.integration_pb2 import INTEGRATION_TYPE_OCPI
from evbridge.v1.run_pb2 import RUN_KIND_CREDENTIALS, RUN_KIND_DIAGNOSE, RUN_KIND_SYNC

from service.partners.ocpi import errors
from service.partners.ocpi.authorization import OcpiAuthorizer
from service.partners.ocpi.charging_preferences import OcpiPreferences
from service.partners.ocpi.commands import OcpiCommander
from service.partners.ocpi.comparison import OcpiComparer
from service.partners.ocpi.credentials import Credentials
from service.partners.ocpi.delivery import OcpiDeliverer
from service.partners.ocpi.diagnosis import OcpiDiagnosis
from service.partners.ocpi.sync import OcpiSync
from service.partners.partner import Partner

PARTNER = Partner(
    "ocpi",
    INTEGRATION_TYPE_OCPI,
    contract="evbridge.partner.ocpi.v2",
    behaviour=errors,
    takes=(
        OBJECT_KIND_TARIFF,
        OBJECT_KIND_LOCATION,
        OBJECT_KIND_TOKEN,
        OBJECT_KIND_SESSION,
        OBJECT_KIND_CDR,
        OBJECT_KIND_HUB_CLIENT,
        OBJECT_KIND_INVOICE_RECONCILIATION_RECORD,
    ),
    deliverer=OcpiDeliverer,
    comparer=OcpiComparer,
    authorizer=OcpiAuthorizer,
    commander=OcpiCommander,
    preferences=OcpiPreferences,
    runs={RUN_KIND_DIAGNOSE: OcpiDiagnosis, RUN_KIND_CREDENTIALS: Credentials, RUN_KIND_SYNC: OcpiSync},
)

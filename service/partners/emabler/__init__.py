"""eMabler: its integrations are read and changed by its own rpcs."""

from evbridge.v1.integration_pb2 import INTEGRATION_TYPE_EMABLER

from service.partners.emabler import errors
from service.partners.partner import Partner

PARTNER = Partner(
    "emabler",
    INTEGRATION_TYPE_EMABLER,
    contract="evbridge.partner.emabler.v2",
    behaviour=errors,
)

"""Salesforce organisations, as far as access tokens go."""

from evbridge.v1.integration_pb2 import INTEGRATION_TYPE_SALESFORCE
from evbridge.v1.run_pb2 import RUN_KIND_DIAGNOSE, RUN_KIND_TOKEN_EXCHANGE

from service.partners.partner import Partner
from service.runs.diagnosis import TokenDiagnosis
from service.runs.token_exchange import TokenExchange

PARTNER = Partner(
    "salesforce",
    INTEGRATION_TYPE_SALESFORCE,
    runs={RUN_KIND_DIAGNOSE: TokenDiagnosis, RUN_KIND_TOKEN_EXCHANGE: TokenExchange},
)

"""Chargeprice: companies are delivered to it."""

from evbridge.v1.delivery_pb2 import OBJECT_KIND_COMPANY
from evbridge.v1.integration_pb2 import INTEGRATION_TYPE_CHARGEPRICE
from evbridge.v1.run_pb2 import RUN_KIND_DIAGNOSE

from service.partners.chargeprice import mapping
from service.partners.chargeprice.delivery import ChargepriceDeliverer
from service.partners.chargeprice.diagnosis import ChargepriceDiagnosis
from service.partners.partner import Partner

PARTNER = Partner(
    "chargeprice",
    INTEGRATION_TYPE_CHARGEPRICE,
    contract="evbridge.partner.chargeprice.v1",
    behaviour=mapping,
    takes=(OBJECT_KIND_COMPANY,),
    deliverer=ChargepriceDeliverer,
    comparer=ChargepriceDeliverer,
    runs={RUN_KIND_DIAGNOSE: ChargepriceDiagnosis},
)

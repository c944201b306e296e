"""AMPECO: tariffs and locations are delivered to it, what it holds is imported, and it tells of sessions."""

from evbridge.v1.delivery_pb2 import OBJECT_KIND_LOCATION, OBJECT_KIND_TARIFF
from evbridge.v1.integration_pb2 import INTEGRATION_TYPE_AMPECO
from evbridge.v1.run_pb2 import RUN_KIND_SYNC

from service.partners.ampeco import mapping
from service.partners.ampeco.comparison import AmpecoComparer
from service.partners.ampeco.delivery import AmpecoDeliverer
from service.partners.ampeco.sync import AmpecoSync
from service.partners.ampeco.webhook import AmpecoWebhook
from service.partners.partner import Partner

PARTNER = Partner(
    "ampeco",
    INTEGRATION_TYPE_AMPECO,
    contract="evbridge.partner.ampeco.v3",
    behaviour=mapping,
    takes=(OBJECT_KIND_TARIFF, OBJECT_KIND_LOCATION),
    deliverer=AmpecoDeliverer,
    comparer=AmpecoComparer,
    runs={RUN_KIND_SYNC: AmpecoSync},
    webhooks={"WebhookService": AmpecoWebhook},
)

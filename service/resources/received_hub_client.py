"""What hubs say of who is connected to them. See service.resources.received."""

from functools import partial

from evbridge.v1.delivery_pb2 import OBJECT_KIND_HUB_CLIENT

from service.resources.documents import hub_client_of
from service.resources.received_object import Whole, object_received, received_object
from service.storage.hub_client import hub_client_lock, hub_client_put

_HUB_CLIENTS = Whole("hub_client", "party_id", OBJECT_KIND_HUB_CLIENT, hub_client_of, hub_client_lock, hub_client_put)

hub_client_received = partial(object_received, _HUB_CLIENTS)
received_hub_client = partial(received_object, _HUB_CLIENTS)

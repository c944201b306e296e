"""What hubs say of who is connected to them. See service.resources.received."""

from collections.abc import Sequence
from datetime import datetime
from functools import partial

from evbridge.v1.delivery_pb2 import OBJECT_KIND_HUB_CLIENT
from evbridge.v1.hub_client_pb2 import HUB_CLIENT_STATUS_SUSPENDED

from service.bridge.json_text import parse_json, text_of
from service.domain.caller import Caller
from service.domain.content import etag_of
from service.domain.keys import ObjectKey
from service.resources.documents import hub_client_of
from service.resources.mutation import record
from service.resources.received import change_of, transact
from service.resources.received_object import Whole, object_received, objects_received, received_object
from service.storage.changes import UPDATE
from service.storage.connection import Connection
from service.storage.hub_client import hub_client_lock, hub_client_put
from service.storage.pool import Database
from service.storage.received import documents_get, documents_put

_HUB_CLIENTS = Whole("hub_client", "party_id", OBJECT_KIND_HUB_CLIENT, hub_client_of, hub_client_lock, hub_client_put)

hub_clients_received = partial(objects_received, _HUB_CLIENTS)
hub_client_received = partial(object_received, _HUB_CLIENTS)
received_hub_client = partial(received_object, _HUB_CLIENTS)


async def hub_clients_gone(database: Database, caller: Caller, keys: Sequence[ObjectKey]) -> int:
    """Suspends parties that the hub does not list any more, as OCPI has it; tells how many were not.

    The hub's times stay, so what it shows again is taken again.
    """

    async def work(conn: Connection, now: datetime) -> int:
        locked = await hub_client_lock(conn, caller.tenant_id, keys)
        at = (caller.tenant_id, keys[0].integration_id, OBJECT_KIND_HUB_CLIENT)
        gone = {key: each for key, each in locked.items() if each and each.status != HUB_CLIENT_STATUS_SUSPENDED}
        for client in gone.values():
            client.status = HUB_CLIENT_STATUS_SUSPENDED
            client.etag = etag_of(client)
        await hub_client_put(conn, caller.tenant_id, [gone[key] for key in sorted(gone)], locked)
        kept = await documents_get(conn, *at, [*map(str, gone)])
        written = [
            each._replace(document=text_of(parse_json(each.document) | {"status": "SUSPENDED"})) for each in kept
        ]
        await documents_put(conn, *at, written)
        changes = [change_of(key, UPDATE, each.etag) for key, each in gone.items()]
        await record(conn, caller, OBJECT_KIND_HUB_CLIENT, changes)
        return len(gone)

    return await transact(database, work)

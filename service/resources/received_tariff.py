"""Tariffs that partners send. See service.resources.received."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from evbridge.v1.delivery_pb2 import OBJECT_KIND_TARIFF
from evbridge.v1.tariff_pb2 import Tariff

from service.domain.caller import Caller
from service.domain.keys import ObjectKey, key_of
from service.errors import ResourceNotFound
from service.resources.documents import Sender, tariff_of
from service.resources.mutation import record
from service.resources.received import change_of, check_party, transact
from service.resources.received_object import Whole, object_received, objects_received, received_object
from service.storage.cdr import cdr_audit_again
from service.storage.changes import DELETE
from service.storage.connection import Connection
from service.storage.pool import Database
from service.storage.received import documents_delete
from service.storage.tariff import tariff_lock, tariff_put, tariff_tombstone


async def _put(conn: Connection, tenant_id: str, tariffs: Sequence[Tariff], locked: Mapping[ObjectKey, Any]) -> None:
    """CDRs that could not be priced without them are priced again."""
    await tariff_put(conn, tenant_id, tariffs, locked)
    keys = [key_of(tariff) for tariff in tariffs]
    if keys:
        await cdr_audit_again(conn, tenant_id, keys[0].integration_id, keys)


_TARIFFS = Whole("tariff", "id", OBJECT_KIND_TARIFF, tariff_of, tariff_lock, _put)

tariffs_received = partial(objects_received, _TARIFFS)
tariff_received = partial(object_received, _TARIFFS)
received_tariff = partial(received_object, _TARIFFS)


async def tariff_removed(database: Database, caller: Caller, sender: Sender, key: ObjectKey) -> None:
    """Raises ResourceNotFound."""

    check_party(sender, key)

    async def work(conn: Connection, now: datetime) -> None:
        stored = (await tariff_lock(conn, caller.tenant_id, [key])).get(key)
        if stored is None:
            raise ResourceNotFound.of("tariff", key.shown)
        await tariff_tombstone(conn, caller.tenant_id, key)
        await documents_delete(conn, caller.tenant_id, sender.integration_id, OBJECT_KIND_TARIFF, str(key))
        await record(conn, caller, OBJECT_KIND_TARIFF, [change_of(key, DELETE, stored.etag)])

    await transact(database, work)

"""Tariffs that partners send. See service.resources.received."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from evbridge.v1.delivery_pb2 import OBJECT_KIND_TARIFF
from evbridge.v1.tariff_pb2 import Tariff

from service.domain.keys import ObjectKey, key_of
from service.resources.documents import tariff_of
from service.resources.received_object import Whole, object_received, object_removed, objects_received, received_object
from service.storage.cdr import cdr_audit_again
from service.storage.connection import Connection
from service.storage.tariff import tariff_lock, tariff_put, tariff_tombstone


async def _put(conn: Connection, tenant_id: str, tariffs: Sequence[Tariff], locked: Mapping[ObjectKey, Any]) -> None:
    """CDRs that could not be priced without them are priced again."""
    await tariff_put(conn, tenant_id, tariffs, locked)
    keys = [key_of(tariff) for tariff in tariffs]
    if keys:
        await cdr_audit_again(conn, tenant_id, keys[0].integration_id, keys)


_TARIFFS = Whole("tariff", "id", OBJECT_KIND_TARIFF, tariff_of, tariff_lock, _put, tombstone=tariff_tombstone)

tariffs_received = partial(objects_received, _TARIFFS)
tariff_received = partial(object_received, _TARIFFS)
received_tariff = partial(received_object, _TARIFFS)
tariff_removed = partial(object_removed, _TARIFFS)

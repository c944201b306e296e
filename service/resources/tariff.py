"""Tariffs of ours: how they are stored and deleted."""

from collections.abc import Collection, Mapping, Sequence

from evbridge.v1.delivery_pb2 import OBJECT_KIND_TARIFF
from evbridge.v1.tariff_pb2 import Tariff, TariffKey

from service.domain.keys import ObjectKey
from service.errors import TariffInUse
from service.resources.objects import Owned
from service.storage.connection import Connection
from service.storage.tariff import tariff_locations, tariff_lock, tariff_put, tariff_rules, tariff_tombstone


class Tariffs(Owned[Tariff]):
    noun = "tariff"
    kind = OBJECT_KIND_TARIFF
    key = TariffKey

    async def lock(
        self, conn: Connection, tenant_id: str, keys: Collection[ObjectKey]
    ) -> Mapping[ObjectKey, Tariff | None]:
        return await tariff_lock(conn, tenant_id, keys)

    async def write(
        self, conn: Connection, tenant_id: str, objects: Sequence[Tariff], locked: Mapping[ObjectKey, Tariff | None]
    ) -> None:
        await tariff_put(conn, tenant_id, objects, locked)

    async def remove(self, conn: Connection, tenant_id: str, key: ObjectKey) -> None:
        locations = await tariff_locations(conn, tenant_id, key)
        rules = await tariff_rules(conn, tenant_id, key)
        if locations or rules:
            raise TariffInUse(
                f"{locations} locations and {rules} publication rules name the tariff",
                locations=str(locations),
                rules=str(rules),
            )
        await tariff_tombstone(conn, tenant_id, key)


TARIFFS = Tariffs()

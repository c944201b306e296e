"""Tariffs of ours: how they are stored and deleted."""

from collections.abc import Collection, Mapping
from typing import Any

from evbridge.v1.delivery_pb2 import OBJECT_KIND_TARIFF
from evbridge.v1.tariff_pb2 import Tariff, TariffKey

from service.domain.keys import ObjectKey, key_of
from service.domain.tariff import are_together, validity
from service.errors import EvbridgeError, TariffInUse
from service.resources.noun import Pending
from service.resources.objects import Owned, active_together
from service.storage.connection import Connection
from service.storage.location import evses_naming
from service.storage.publication import rules_naming
from service.storage.tariff import (
    tariff_companions,
    tariff_locations,
    tariff_lock,
    tariff_put,
    tariff_rules,
    tariff_tombstone,
    tariffs_share,
)

_EVSES = 200  # are read at once


class Tariffs(Owned[Tariff]):
    noun = "tariff"
    kind = OBJECT_KIND_TARIFF
    key = TariffKey
    lock = staticmethod(tariff_lock)
    write = staticmethod(tariff_put)

    async def refused(
        self, conn: Connection, tenant_id: str, pending: Mapping[Any, Pending[Tariff]]
    ) -> Mapping[Any, EvbridgeError]:
        """Those too that would hold beside another of their type at a connector.

        A connector names both, or a rule assigns both. Those of one request are judged as they are wanted, and as they
        were once they are refused.
        """
        refused = dict(await super().refused(conn, tenant_id, pending))
        moved = {key for key, each in pending.items() if each.before and validity(each.wanted) != validity(each.before)}
        if not moved:
            return refused
        assigned = await _assigned_together(conn, tenant_id, moved)
        pairs = assigned | await tariff_companions(conn, tenant_id, moved)
        stored = await tariffs_share(conn, tenant_id, {other for _, other in pairs if other not in pending})
        while True:
            now = stored | {
                key: each.before or each.wanted if key in refused else each.wanted for key, each in pending.items()
            }
            for key, other in sorted(pairs):
                if key in refused or other not in now or not are_together(now[key], now[other]):
                    continue
                if (key, other) in assigned or await _on_one_connector(conn, tenant_id, key, other):
                    refused[key] = active_together(pending[key].path, now[key], now[other])
                    break
            else:
                return refused

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


async def _assigned_together(
    conn: Connection, tenant_id: str, keys: Collection[ObjectKey]
) -> set[tuple[ObjectKey, ObjectKey]]:
    """(one of the tariffs, another of its party) that one rule assigns."""
    rules = [{*map(key_of, rule.assigned_tariffs)} for rule in await rules_naming(conn, tenant_id, keys)]
    return {
        (key, other)
        for named in rules
        for key in named.intersection(keys)
        for other in named
        if other != key and other.party == key.party
    }


async def _on_one_connector(conn: Connection, tenant_id: str, one: ObjectKey, other: ObjectKey) -> bool:
    after = ("", "")
    while found := await evses_naming(conn, tenant_id, one, other, after, _EVSES):
        connectors = (connector for _, evse in found for connector in evse.connectors)
        if any({one.key, other.key} <= {id.casefold() for id in each.tariff_ids} for each in connectors):
            return True
        after = found[-1][0]
    return False


TARIFFS = Tariffs()

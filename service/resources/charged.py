"""What sessions and CDRs of ours have in common: whom they go to."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from evbridge.v1.cdr_pb2 import Cdr
from evbridge.v1.delivery_pb2 import ObjectKind
from evbridge.v1.session_pb2 import Session

from service.domain.charged import token_party
from service.domain.keys import ObjectKey, key_of
from service.errors import EvbridgeError, FieldViolation, ResourceNotFound
from service.resources.noun import Pending, dangling
from service.resources.objects import Owned
from service.storage.changes import Recipient, delivery_mark_recipients
from service.storage.connection import Connection
from service.storage.integration import integration_hold

M = TypeVar("M", Session, Cdr)


class Charged(Owned[M]):
    """One kind of such objects. They go to the integration that they name, or to those of the token's eMSP."""

    @abstractmethod
    async def put(
        self, conn: Connection, tenant_id: str, objects: Sequence[M], locked: Mapping[ObjectKey, M | None]
    ) -> None:
        """Stores objects, as `write` has to."""

    async def write(
        self, conn: Connection, tenant_id: str, objects: Sequence[M], locked: Mapping[ObjectKey, M | None]
    ) -> None:
        await self.put(conn, tenant_id, objects, locked)
        await _mark_recipients(conn, tenant_id, self.kind, objects, locked)

    async def remove(self, conn: Connection, tenant_id: str, key: ObjectKey) -> None:
        raise AssertionError(f"a {self.noun} is not deleted")

    def clean(self, wanted: M) -> None:
        wanted.cdr_token.country_code, wanted.cdr_token.party_id = token_party(wanted)

    async def refused(
        self, conn: Connection, tenant_id: str, pending: Mapping[Any, Pending[M]]
    ) -> Mapping[Any, EvbridgeError]:
        refused = dict(await super().refused(conn, tenant_id, pending))  # type: ignore[arg-type]
        for key, each in sorted(pending.items()):
            if not (key in refused or not (id := each.wanted.recipient_integration_id)):
                try:
                    await integration_hold(conn, tenant_id, id)
                except ResourceNotFound:
                    where = FieldViolation(f"{each.path}.recipient_integration_id", "is not an integration")
                    refused[key] = dangling("integration", id, (where,))
        return refused


async def _mark_recipients(
    conn: Connection,
    tenant_id: str,
    kind: ObjectKind.ValueType,
    objects: Sequence[Session] | Sequence[Cdr],
    locked: Mapping[ObjectKey, Any],
) -> None:
    """Makes the objects due where they go, and where they went before."""
    recipients: dict[ObjectKey, set[Recipient]] = {}
    for each in objects:
        key = key_of(each)
        versions = (each, locked.get(key) or each)
        recipients[key] = {Recipient("".join(token_party(one)), one.recipient_integration_id) for one in versions}
    await delivery_mark_recipients(conn, tenant_id, kind, recipients)

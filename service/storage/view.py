"""What one partner sees: a row for each object that it was ever shown. Marks that are worked off are the only writer.

The rows are in the order in which the partner was first shown the objects. A document is kept once for all partners
that see the same.
"""

from collections.abc import Collection
from datetime import datetime
from hashlib import sha256
from typing import Any, NamedTuple, TypeVar

from evbridge.v1.cdr_pb2 import Cdr
from evbridge.v1.delivery_pb2 import ObjectKind
from evbridge.v1.hub_client_pb2 import HubClient
from evbridge.v1.integration_pb2 import Integration
from evbridge.v1.invoice_reconciliation_pb2 import InvoiceReconciliationRecord
from evbridge.v1.location_pb2 import Location
from evbridge.v1.session_pb2 import Session
from evbridge.v1.tariff_pb2 import Tariff
from evbridge.v1.token_pb2 import Token

from service.domain.keys import ObjectKey
from service.domain.pages import MAX_BYTES
from service.errors import ResourceNotFound
from service.storage.connection import Connection
from service.storage.delivery import Claim, PeerKey, lease_held
from service.storage.peer import Peer, peer_in
from service.storage.pool import Database
from service.storage.statements import Statements

sql = Statements.beside(__file__)

M = TypeVar("M", Location, Tariff, Token, Session, Cdr, InvoiceReconciliationRecord, HubClient)


class Viewed(NamedTuple):
    """What a partner sees of an object, since `last_updated`. `position` orders a view and is its pages' cursor.

    Not `shown`: it was withdrawn or deleted, and the document of a location shows its EVSEs as REMOVED.
    """

    key: ObjectKey
    position: int
    last_updated: datetime
    hash: bytes
    shown: bool
    document: bytes

    def parsed(self, form: type[M]) -> M:
        """The document, updated when the view was."""
        message = form.FromString(self.document)
        message.last_updated.FromDatetime(self.last_updated)
        return message


async def view_get(
    database: Database | Connection, tenant_id: str, integration_id: str, kind: ObjectKind.ValueType, key: ObjectKey
) -> Viewed | None:
    """None for an object that the partner was never shown, and for one that was deleted there."""
    row = await database.row(sql.view_get, tenant_id, integration_id, kind, key.country_code, key.party_id, key.key)
    return None if row is None else _viewed(row)


class Looked(NamedTuple):
    """`viewed` with the integration, what the partner is known to hold, and the database's time."""

    viewed: Viewed | None
    peer: Peer
    integration: Integration
    now: datetime


async def view_look(database: Database, peer_key: PeerKey) -> Looked:
    """All that an attempt has to know of its partner. Raises ResourceNotFound for no integration."""
    tenant_id, integration_id, kind, object_id = peer_key
    key = ObjectKey.parsed(object_id)
    names = (key.country_code, key.party_id, key.key)
    row = await database.row(sql.view_look, tenant_id, integration_id, kind, *names, object_id)
    if row is None:
        raise ResourceNotFound.of("integration", integration_id)
    viewed = None if row["document"] is None else _viewed(row)
    return Looked(viewed, peer_in(row), Integration.FromString(row["integration"]), row["now"])


async def view_by_id(
    database: Database, tenant_id: str, integration_id: str, kind: ObjectKind.ValueType, id: str
) -> Viewed | None:
    """The object of whichever party of ours that has this id."""
    row = await database.row(sql.view_by_id, tenant_id, integration_id, kind, id.casefold())
    return None if row is None else _viewed(row)


async def view_page(
    database: Database,
    tenant_id: str,
    integration_id: str,
    kind: ObjectKind.ValueType,
    *,
    limit: int,
    after: int = 0,
    offset: int = 0,
    date_from: datetime | None = None,
    date_to: datetime | None = None,
) -> list[Viewed]:
    """What was updated from `date_from` on and before `date_to`, oldest first, up to `limit` and about 1 MiB.

    It begins behind the position `after`, and leaves out `offset` of what is there.
    """
    view = (tenant_id, integration_id, kind)
    rows = await database.rows(sql.view_page, *view, after, date_from, date_to, offset, limit, MAX_BYTES)
    return [*map(_viewed, rows)]


async def view_count(
    database: Database,
    tenant_id: str,
    integration_id: str,
    kind: ObjectKind.ValueType,
    *,
    date_from: datetime | None = None,
    date_to: datetime | None = None,
) -> int:
    """How many objects all pages hold."""
    count: int = await database.value(sql.view_count, tenant_id, integration_id, kind, date_from, date_to)
    return count


async def view_names(database: Database, tenant_id: str, integration_id: str, tariff: ObjectKey) -> bool:
    """Whether a location that the partner is shown names the tariff."""
    named: bool = await database.value(sql.view_names, tenant_id, integration_id, str(tariff))
    return named


async def view_put(
    on: Database | Connection,
    claim: Claim,
    kind: ObjectKind.ValueType,
    key: ObjectKey,
    document: bytes | None,
    tariffs: Collection[ObjectKey] = (),
    *,
    shown: bool,
    replace: bool = True,
) -> None:
    """Moves `last_updated` with the document. Without one the partner sees nothing any more.

    Without `replace` an object that the partner is shown stays as it is. Raises LeaseLost.
    """
    hash = None if document is None else sha256(document).digest()
    whose = (claim.tenant_id, claim.integration_id, claim.delivery_id, claim.lease_token)
    names = (kind, key.country_code, key.party_id, key.key)
    seen = (shown, hash, sorted(map(str, tariffs)), replace, document)
    lease_held(await on.value(sql.view_put, *whose, *names, *seen))


def _viewed(row: Any) -> Viewed:
    return Viewed(
        ObjectKey(row["country_code"], row["party_id"], row["key"]),
        row["position"],
        row["last_updated"],
        row["hash"],
        row["shown"],
        row["document"],
    )

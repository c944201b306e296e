"""What partners are known to hold of objects, as rows."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple

from evbridge.v1.delivery_pb2 import (
    PEER_OBJECT_STATE_LINKED,
    PEER_OBJECT_STATE_NONE,
    PEER_OBJECT_STATE_UNKNOWN,
    ObjectKind,
    PeerObjectState,
)

from service.domain.keys import ObjectKey
from service.errors import ResourceNotFound
from service.storage.connection import Connection
from service.storage.delivery import Claim, PeerKey, delivery_hold, delivery_renew, lease_held
from service.storage.pool import Database
from service.storage.statements import Statements

sql = Statements.beside(__file__)


class PartKey(NamedTuple):
    """A part of an object: an EVSE `("e1",)` of a location, a connector `("e1", "1")` of that. No ids: the object."""

    kind: ObjectKind.ValueType
    ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Peer:
    """What the partner is known to hold. `acknowledged_*` describe the state of it that we last saw.

    `tariff_keys` are those that it names there, or may; deliverers that delete tariffs keep them.
    """

    state: PeerObjectState.ValueType = PEER_OBJECT_STATE_NONE
    external_id: str = ""
    acknowledged_version: int = 0
    acknowledged_hash: bytes | None = None
    sent_document: bytes | None = None
    tariff_keys: tuple[str, ...] = ()


async def peer_get(conn: Connection, key: PeerKey) -> Peer:
    row = await conn.row(sql.peer_get, *key)
    return Peer() if row is None else peer_in(row)


def peer_in(row: Any) -> Peer:
    """What a row with its columns says; one that has none of them says that nothing is held."""
    if row["state"] is None:
        return Peer()
    version, hash = row["acknowledged_version"], row["acknowledged_hash"]
    return Peer(row["state"], row["external_id"], version, hash, row["sent_document"], tuple(row["tariff_keys"]))


async def peers_known(
    conn: Connection,
    tenant_id: str,
    integration_id: str,
    object_kind: ObjectKind.ValueType,
    keys: Collection[ObjectKey],
) -> set[ObjectKey]:
    """Those of the objects that were once sent to the partner, also when they have been deleted here since."""
    ids = {str(key): key for key in keys}
    rows = await conn.rows(sql.peers_known, tenant_id, integration_id, object_kind, [*ids])
    return {ids[row["object_id"]] for row in rows}


async def peers_linked(
    conn: Connection,
    tenant_id: str,
    integration_id: str,
    object_kind: ObjectKind.ValueType,
    keys: Collection[ObjectKey],
) -> set[ObjectKey]:
    """Those of the objects that the partner holds for certain."""
    ids = {str(key): key for key in keys}
    rows = await conn.rows(sql.peers_linked, tenant_id, integration_id, object_kind, [*ids])
    return {ids[row["object_id"]] for row in rows}


async def peer_example(database: Database, claim: Claim) -> Peer | None:
    """Any other object of the kind that the partner holds under an id, or a URL, of its own."""
    row = await database.row(sql.peer_example, *claim.peer_key[:3])
    return None if row is None else Peer(PEER_OBJECT_STATE_LINKED, **dict(row))


async def peer_cdr_at(database: Database, tenant_id: str, url: str) -> ObjectKey:
    """The CDR of ours that a partner holds at the URL. Raises ResourceNotFound."""
    found: str | None = await database.value(sql.peer_cdr_at, tenant_id, url)
    if found is None:
        raise ResourceNotFound.of("cdr", url)
    return ObjectKey.parsed(found)


async def peer_tariffs_missing(conn: Connection, claim: Claim, tariffs: Collection[ObjectKey]) -> list[ObjectKey]:
    """Those that the partner is shown and does not hold for certain."""
    rows = await conn.rows(sql.peer_tariffs_missing, claim.tenant_id, claim.integration_id, [*map(str, tariffs)])
    return [ObjectKey.parsed(row["object_id"]) for row in rows]


async def peer_naming(database: Database, claim: Claim) -> ObjectKey | None:
    """A location that names the tariff of the claim at the partner, or may."""
    found: str | None = await database.value(sql.peer_naming, claim.tenant_id, claim.integration_id, claim.object_id)
    return None if found is None else ObjectKey.parsed(found)


async def peer_acknowledged(conn: Connection, claim: Claim, peer: Peer) -> None:
    """Raises LeaseLost."""
    await delivery_hold(conn, claim)
    state = (peer.external_id, peer.acknowledged_version, peer.acknowledged_hash, peer.sent_document)
    await conn.run(sql.peer_acknowledged, *claim.peer_key, *state, [*peer.tariff_keys])


async def peer_gone(conn: Connection, claim: Claim) -> None:
    """The partner does not hold the object any more. Raises LeaseLost."""
    await delivery_hold(conn, claim)
    await conn.run(sql.peer_gone, *claim.peer_key)


async def peer_delivered(
    on: Database | Connection,
    claim: Claim,
    peer: Peer | None,
    *,
    duration_s: float,
    description: str,
    sent_version: int = 0,
    again_s: float | None = None,
) -> None:
    """Ends a claim with success: the partner holds that, or nothing. One held back is due again after `again_s`.

    Raises LeaseLost.
    """
    again = None if again_s is None else timedelta(seconds=again_s)
    holds = peer or Peer()
    state = (holds.external_id, holds.acknowledged_version, holds.acknowledged_hash, holds.sent_document)
    fence = (claim.delivery_id, claim.lease_token, claim.generation)
    told = (timedelta(seconds=duration_s), description, sent_version)
    ends = (*fence, again, peer is not None, *state, [*holds.tariff_keys], *told)
    lease_held(await on.value(sql.peer_delivered, *claim.peer_key, *ends))


async def peer_parts(conn: Connection, claim: Claim) -> dict[PartKey, Peer]:
    """What the partner is known to hold of the object's parts."""
    rows = await conn.rows(sql.peer_parts, *claim.peer_key)
    return {
        PartKey(row["part_kind"], tuple(row["part_id"])): Peer(
            row["state"], row["external_id"], sent_document=row["sent_document"]
        )
        for row in rows
    }


async def peer_part_ids(
    conn: Connection, claim: Claim, kind: ObjectKind.ValueType, keys: Collection[ObjectKey], part: PartKey
) -> dict[ObjectKey, str]:
    """The partner's id of that part of each of those objects; without those it does not hold for certain."""
    ids = {str(key): key for key in keys}
    rows = await conn.rows(sql.peer_part_ids, claim.tenant_id, claim.integration_id, kind, [*ids], *part)
    return {ids[row["object_id"]]: row["external_id"] for row in rows}


async def part_found(
    database: Database, tenant_id: str, integration_id: str, kind: ObjectKind.ValueType, external_id: str
) -> tuple[ObjectKey, PartKey] | None:
    """The part that has this id at the partner, and the object that it is of."""
    row = await database.row(sql.peer_part_found, tenant_id, integration_id, kind, external_id)
    if row is None:
        return None
    return ObjectKey.parsed(row["object_id"]), PartKey(row["part_kind"], tuple(row["part_id"]))


async def peer_part_sending(database: Database, claim: Claim, part: PartKey, peer: Peer, document: bytes) -> None:
    """As `disclosure_sending`, for a part, without its disclosure. Raises LeaseLost."""
    async with database.transaction() as conn:
        await delivery_hold(conn, claim)
        await delivery_renew(conn, claim)
        state = (PEER_OBJECT_STATE_UNKNOWN, peer.external_id, document)
        await conn.run(sql.peer_part_put, *claim.peer_key, *part, *state)


async def peer_part_acknowledged(conn: Connection, claim: Claim, part: PartKey, peer: Peer) -> None:
    """Raises LeaseLost."""
    await delivery_hold(conn, claim)
    await conn.run(sql.peer_part_put, *claim.peer_key, *part, peer.state, peer.external_id, peer.sent_document)

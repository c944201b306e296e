"""What partners were sent and shown: by the hash of each document, which is kept once."""

from collections.abc import Collection, Sequence
from datetime import timedelta
from hashlib import sha256
from typing import Any
from uuid import UUID

from evbridge.v1.delivery_pb2 import ObjectKind
from evbridge.v1.disclosure_pb2 import DISCLOSURE_METHOD_SENT, Disclosure
from evbridge.v1.error_reason_pb2 import PARTNER_OUTCOME_UNKNOWN
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message

from service.domain.keys import stored_ids
from service.domain.partner_error import PartnerError
from service.errors import EvbridgeError, ResourceNotFound
from service.storage.delivery import Claim, lease_held
from service.storage.object_id import object_ids_shown
from service.storage.peer import PartKey, Peer
from service.storage.pool import Database
from service.storage.slices import in_slices
from service.storage.statements import Statements
from service.storage.view import Viewed

sql = Statements.beside(__file__)


async def disclosure_begin(database: Database, claim: Claim, part: PartKey, document: Message | None) -> UUID:
    """Before the document of an object, or of a part of it, is sent; None: it is asked to be deleted."""
    what = _disclosed(claim, part, document)
    id: UUID = await database.value(sql.disclosure_begin, claim.tenant_id, claim.integration_id, *what)
    return id


async def disclosure_sending(
    database: Database,
    claim: Claim,
    peer: Peer,
    held: bytes | None,
    part: PartKey,
    document: Message | None,
    tariff_keys: Sequence[str] = (),
) -> UUID:
    """The same, for what is sent on top of the state `peer`: once it has arrived the partner holds `held`.

    The lease begins anew, so that it outlasts the request. Raises LeaseLost: then nothing may be sent.
    """
    lease = (claim.delivery_id, claim.lease_token, timedelta(seconds=claim.lease_s))
    base = (peer.external_id, peer.acknowledged_version, peer.acknowledged_hash, held, [*tariff_keys])
    what = _disclosed(claim, part, document)
    id: UUID = lease_held(await database.value(sql.disclosure_sending, *claim.peer_key, *lease, *base, *what))
    return id


def _disclosed(claim: Claim, part: PartKey, document: Message | None) -> tuple[Any, ...]:
    """What is sent, as columns, its outcome unknown."""
    payload = None if document is None else document.SerializeToString(deterministic=True)
    return (
        part.kind,
        "/".join((claim.object_id, *part.ids)),
        "" if document is None else document.DESCRIPTOR.full_name,
        None if payload is None else sha256(payload).digest(),
        payload,
        PARTNER_OUTCOME_UNKNOWN,
    )


async def disclosure_end(database: Database, claim: Claim, id: UUID, error: EvbridgeError | None) -> None:
    """What became of it."""
    http_status = error.http_status if isinstance(error, PartnerError) else 0
    await database.run(sql.disclosure_end, claim.tenant_id, id, error.reason if error else 0, http_status)


async def disclosures_shown(
    database: Database,
    tenant_id: str,
    integration_id: str,
    kind: ObjectKind.ValueType,
    form: type[Message],
    viewed: Collection[Viewed],
    *,
    request_id: str,
    correlation_id: str,
) -> None:
    """The partner was shown these objects, each once, in answer to the request that it named so."""
    if viewed:
        objects = ([str(each.key) for each in viewed], [each.hash for each in viewed])
        ids = (form.DESCRIPTOR.full_name, request_id, correlation_id)
        await database.run(sql.disclosures_shown, tenant_id, integration_id, kind, *objects, *ids)


async def disclosure_get(database: Database, tenant_id: str, id: str) -> Disclosure:
    """With its document. Raises ResourceNotFound."""
    row = await database.row(sql.disclosure_get, tenant_id, UUID(id))
    if row is None:
        raise ResourceNotFound.of("disclosure", id)
    (disclosure,) = await _disclosures(database, tenant_id, [row])
    if row["payload"] is not None:
        type_url = f"type.googleapis.com/{row['document_type']}"
        disclosure.document.CopyFrom(AnyMessage(type_url=type_url, value=row["payload"]))
    return disclosure


async def disclosure_page(
    database: Database, tenant_id: str, integration_id: str, object_id: str, before: int, limit: int
) -> list[tuple[str, bytes]]:
    """(position, serialized disclosure) before that position, newest first, without documents."""
    ids = stored_ids(object_id) if object_id else []
    rows = await database.rows(sql.disclosure_page, tenant_id, integration_id, before, ids, limit)
    found = await _disclosures(database, tenant_id, rows)
    return [(str(row["position"]), each.SerializeToString()) for row, each in zip(rows, found, strict=True)]


async def disclosure_sweep(database: Database, days: int) -> None:
    """Forgets what is older."""
    await in_slices(database, sql.disclosure_sweep, timedelta(days=days))


async def _disclosures(database: Database, tenant_id: str, rows: Collection[Any]) -> list[Disclosure]:
    return [*map(_disclosure, rows, await object_ids_shown(database, tenant_id, rows))]


def _disclosure(row: Any, object_id: str) -> Disclosure:
    return Disclosure(
        id=str(row["disclosure_id"]),
        integration_id=row["integration_id"],
        object_kind=row["object_kind"],
        object_id=object_id,
        method=row["method"],
        first_time=row["first_time"],
        latest_time=row["latest_time"] if row["method"] != DISCLOSURE_METHOD_SENT else None,
        count=row["count"],
        reason=row["reason"],
        http_status=row["http_status"],
        request_id=row["request_id"],
        correlation_id=row["correlation_id"],
        hash="" if row["hash"] is None else row["hash"].hex(),
    )

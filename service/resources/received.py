"""What partners send: their locations, EVSEs, connectors and tariffs, stored below the integration they came through.

The partner's clock orders them: what is older than what is held is ignored, part by part. Each document is kept as it
was sent, so that a patch is merged into it and members that we do not know come back; what callers read is made of it,
repaired where it breaks the contract (see service.domain.repair). Nothing here is delivered, and no call changes it.
"""

from collections.abc import Awaitable, Callable, Collection
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import NamedTuple, TypeVar

from evbridge.v1.delivery_pb2 import ObjectKind
from google.protobuf.timestamp_pb2 import Timestamp

from service.bridge.json_text import text_of
from service.domain.caller import Caller
from service.domain.keys import ObjectKey
from service.domain.received import Document
from service.errors import EtagMismatch, EvbridgeError, FieldViolation, InvalidArgument, ResourceNotFound
from service.resources.documents import (
    Held,
    Sender,
)
from service.storage.changes import Change, change_time
from service.storage.connection import Connection
from service.storage.pool import Database
from service.storage.received import Stored, documents_get

T = TypeVar("T")

MAX_DOCUMENT = 1 << 20
"""Characters of one document as it is kept, without the EVSEs of a location."""
_AHEAD = timedelta(days=1)


class Outcome(Enum):
    """What became of a document. OLDER: it was ignored."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    OLDER = "older"


class Receipt(NamedTuple):
    """What became of a document, and what was repaired in it, by paths of ours."""

    outcome: Outcome
    notices: tuple[FieldViolation, ...] = ()


async def transact(database: Database, work: Callable[[Connection, datetime], Awaitable[T]]) -> T:
    """Once more when another call created an object at the same moment: it is locked then."""
    for last in (False, True):
        try:
            async with database.transaction() as conn:
                return await work(conn, await change_time(conn))
        except EtagMismatch:
            if last:
                raise
    raise AssertionError


def raised(result: Receipt | EvbridgeError) -> Receipt:
    if isinstance(result, EvbridgeError):
        raise result
    return result


def check_party(sender: Sender, key: ObjectKey) -> None:
    if key.integration_id != sender.integration_id:
        raise ValueError("the key is on another side")
    if key.party not in sender.parties:
        raise ResourceNotFound.of("party", str(key.party))


def check_patch(document: Document, *, patch: bool) -> None:
    if patch and not document.get("last_updated"):
        raise InvalidArgument.field("last_updated", "is required, for example 2030-06-03T19:30:00Z")


async def kept_documents(
    database: Database | Connection,
    caller: Caller,
    sender: Sender,
    keys: Collection[ObjectKey],
    kind: ObjectKind.ValueType,
) -> dict[ObjectKey, dict[str, Stored]]:
    """The documents of each object, by their parts."""
    kept: dict[ObjectKey, dict[str, Stored]] = {key: {} for key in keys}
    for row in await documents_get(database, caller.tenant_id, sender.integration_id, kind, [*map(str, kept)]):
        kept[ObjectKey.parsed(row.object_id, sender.integration_id)][row.part] = row
    return kept


def is_outdated(time: Timestamp, held: Held, part: str, now: datetime) -> bool:
    """Whether the document that is held is newer. Raises InvalidArgument for a time that is far ahead."""
    check_time(time, now)
    return part in held.documents and time_of(time) < held.documents[part].last_updated


def check_time(time: Timestamp, now: datetime) -> None:
    if time_of(time) > now + _AHEAD:
        raise InvalidArgument.field("last_updated", "is more than a day ahead")


def stored_document(sender: Sender, key: ObjectKey, part: str, time: datetime, document: Document) -> Stored:
    """Raises InvalidArgument for one that is too large."""
    return Stored(str(key), part, sender.version, time, document_text(document, part))


def document_text(document: Document, part: str = "") -> str:
    text = text_of(document)
    if len(text) > MAX_DOCUMENT:
        raise InvalidArgument.field(part and f"evses[{part}]", f"is larger than {MAX_DOCUMENT:,} characters")
    return text


def change_of(key: ObjectKey, operation: str, etag: str) -> Change:
    return Change(str(key), operation, etag, key.integration_id)


def time_of(timestamp: Timestamp) -> datetime:
    return timestamp.ToDatetime(tzinfo=UTC)

"""What partners sent and we could not take, as rows: by the object's id, or by the text of one that has none."""

from collections.abc import Collection, Sequence
from hashlib import blake2b
from itertools import islice
from typing import Any, Final, NamedTuple
from uuid import UUID

from evbridge.v1.delivery_pb2 import ObjectKind
from evbridge.v1.quarantine_pb2 import QuarantinedObject, QuarantineViolation

from service.errors import FieldViolation, ResourceNotFound
from service.storage.connection import Connection
from service.storage.pool import Database
from service.storage.run import RunClaim
from service.storage.statements import Statements

sql = Statements.beside(__file__)

MAX_OBJECTS: Final = 10_000
"""Of an integration."""
MAX_DOCUMENT: Final = 1 << 16
_MAX_VIOLATIONS = 20
_MAX_CHARACTERS = 300


class Quarantined(NamedTuple):
    """An object that cannot be taken. `key` is the id that it is stored by, "" without one; `shown` is for people."""

    key: str
    shown: str
    violations: Sequence[FieldViolation]
    text: str

    @property
    def stored_key(self) -> str:
        return self.key or "#" + blake2b(self.text.encode(errors="surrogatepass"), digest_size=16).hexdigest()


class Again(NamedTuple):
    """One that is quarantined, and was kept whole."""

    position: int
    key: str
    document: str

    @property
    def object_id(self) -> str:
        return "" if self.key.startswith("#") else self.key


async def quarantine_put(
    conn: Connection, run: RunClaim, kind: ObjectKind.ValueType, version: str, found: Collection[Quarantined]
) -> None:
    """Keeps what the run found; of two with a key the last one."""
    rows = {key: (payload, document) for key, payload, document in map(_row, found)}
    if rows:
        payloads, documents = zip(*rows.values(), strict=True)
        of = (run.tenant_id, run.integration_id, kind, run.run_id, version)
        await conn.run(sql.quarantine_put, *of, [*rows], payloads, documents, MAX_OBJECTS)


async def quarantine_release(
    conn: Connection, run: RunClaim, kind: ObjectKind.ValueType, keys: Collection[str]
) -> None:
    """These were taken."""
    if keys:
        await conn.run(sql.quarantine_release, run.tenant_id, run.integration_id, kind, [*keys])


async def quarantine_leave(
    conn: Connection, run: RunClaim, kind: ObjectKind.ValueType, *, only_nameless: bool = False
) -> None:
    """The partner does not show any more what the run did not find again."""
    await conn.run(sql.quarantine_leave, run.tenant_id, run.integration_id, kind, run.run_id, only_nameless)


async def quarantine_again(
    database: Database, run: RunClaim, kind: ObjectKind.ValueType, version: str, after: int, limit: int
) -> list[Again]:
    """Objects that were kept whole, after a position."""
    of = (run.tenant_id, run.integration_id, kind, after, version, MAX_DOCUMENT, limit)
    return [Again(**row) for row in await database.rows(sql.quarantine_again, *of)]


async def quarantine_get(database: Database, tenant_id: str, id: str) -> QuarantinedObject:
    """With its document. Raises ResourceNotFound."""
    row = await database.row(sql.quarantine_get, tenant_id, UUID(id))
    if row is None:
        raise ResourceNotFound.of("quarantined object", id)
    found = _object(row)
    found.document = row["document"][:MAX_DOCUMENT]
    return found


async def quarantine_delete(conn: Connection, tenant_id: str, id: str) -> None:
    """Raises ResourceNotFound."""
    if not await conn.run(sql.quarantine_delete, tenant_id, UUID(id)):
        raise ResourceNotFound.of("quarantined object", id)


async def quarantine_page(
    database: Database, tenant_id: str, integration_id: str, kind: ObjectKind.ValueType, before: int, limit: int
) -> list[tuple[str, bytes]]:
    """(position, serialized object) before that position, newest first, without documents."""
    rows = await database.rows(sql.quarantine_page, tenant_id, integration_id, before, kind, limit)
    return [(str(row["position"]), _object(row).SerializeToString()) for row in rows]


def _row(found: Quarantined) -> tuple[str, bytes, str]:
    payload = QuarantinedObject(
        object_id=found.shown[:_MAX_CHARACTERS],
        size=len(found.text),
        violations=[
            QuarantineViolation(path=each.path[:_MAX_CHARACTERS], description=each.description[:_MAX_CHARACTERS])
            for each in islice(found.violations, _MAX_VIOLATIONS)
        ],
    )
    # One more than is shown says that it was cut.
    return found.stored_key, payload.SerializeToString(), found.text[: MAX_DOCUMENT + 1]


def _object(row: Any) -> QuarantinedObject:
    found = QuarantinedObject.FromString(row["payload"])
    found.id, found.run_id = str(row["quarantine_id"]), str(row["run_id"])
    found.integration_id, found.object_kind, found.count = row["integration_id"], row["object_kind"], row["count"]
    found.first_time.FromDatetime(row["first_time"])
    found.latest_time.FromDatetime(row["latest_time"])
    return found

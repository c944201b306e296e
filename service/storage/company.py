"""Companies as rows: the serialized message, its lock version and the columns that lists filter by."""

from collections.abc import Collection
from uuid import UUID

from evbridge.v1.company_pb2 import Company, ListCompaniesRequest

from service.domain.pages import MAX_BYTES
from service.errors import ResourceNotFound, VersionConflict
from service.storage.connection import Connection
from service.storage.pool import Database
from service.storage.statements import Statements

sql = Statements.beside(__file__)


async def company_get(database: Database, tenant_id: str, company_id: str) -> bytes:
    """The serialized company. Raises ResourceNotFound, also when it was deleted."""
    payload: bytes | None = await database.value(sql.company_get, tenant_id, UUID(company_id))
    if payload is None:
        raise ResourceNotFound.of("company", company_id)
    return payload


async def company_find(database: Database, tenant_id: str, ids: Collection[str]) -> dict[str, bytes]:
    """Those of the companies that exist, serialized."""
    rows = await database.rows(sql.company_find, tenant_id, [*map(UUID, ids)])
    return {str(row["company_id"]): row["payload"] for row in rows}


async def company_lock(conn: Connection, tenant_id: str, ids: Collection[str]) -> dict[str, Company | None]:
    """The companies there are, kept from other writers until the transaction ends; None where a tombstone is."""
    rows = await conn.rows(sql.company_lock, tenant_id, [*map(UUID, ids)])
    return {str(row["company_id"]): None if row["delete_time"] else Company.FromString(row["payload"]) for row in rows}


async def company_put(conn: Connection, tenant_id: str, company: Company, *, is_new: bool) -> None:
    """Writes over a row that is locked, or a new one. Raises VersionConflict when another writer was first with it."""
    written = await conn.value(
        sql.company_insert if is_new else sql.company_replace,
        tenant_id,
        UUID(company.id),
        company.version,
        company.is_cpo,
        company.is_emp,
        company.etag,
        company.SerializeToString(),
    )
    if written is None:
        raise VersionConflict("the company was created by another call at this moment", version=str(company.version))


async def company_tombstone(conn: Connection, tenant_id: str, company_id: str) -> None:
    """Leaves a tombstone; it goes when no partner holds the company any more."""
    await conn.run(sql.company_tombstone, tenant_id, UUID(company_id))


async def company_page(
    database: Database, tenant_id: str, request: ListCompaniesRequest, after: UUID, limit: int
) -> list[tuple[str, bytes]]:
    """(id, serialized company) after the id `after`, in their order, up to `limit` and about 1 MiB."""
    rows = await database.rows(
        sql.company_page,
        tenant_id,
        after,
        request.is_cpo if request.HasField("is_cpo") else None,
        request.is_emp if request.HasField("is_emp") else None,
        limit,
        MAX_BYTES,
    )
    return [(str(row["company_id"]), row["payload"]) for row in rows]


async def company_current(conn: Connection, tenant_id: str, company_id: str) -> Company | None:
    """What partners should hold now; None when they should hold nothing."""
    payload: bytes | None = await conn.value(sql.company_get, tenant_id, UUID(company_id))
    return None if payload is None else Company.FromString(payload)

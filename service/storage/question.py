"""Questions of partners that a service of the tenant's answers, and who listens for them. They outlive processes."""

from datetime import timedelta
from enum import IntEnum
from uuid import UUID

from service.storage.connection import Connection
from service.storage.pool import Database
from service.storage.statements import Statements

sql = Statements.beside(__file__)


class Kind(IntEnum):
    """What is asked."""

    AUTHORIZATION = 1
    COMMAND = 2
    CHARGING_PREFERENCES = 3


async def question_ask(
    database: Database,
    tenant_id: str,
    kind: Kind,
    question_id: UUID,
    integration_id: str,
    payload: bytes,
    *,
    lasts_s: float,
    heard_s: float,
) -> bool:
    """False, and nothing is asked, when nobody was seen listening to the partner within `heard_s`."""
    times = (timedelta(seconds=lasts_s), timedelta(seconds=heard_s))
    return (
        await database.value(sql.question_ask, tenant_id, question_id, kind, integration_id, payload, *times)
        is not None
    )


async def question_answered(database: Database, tenant_id: str, question_id: UUID) -> bytes | None:
    """None while it is not."""
    answer: bytes | None = await database.value(sql.question_answered, tenant_id, question_id)
    return answer


async def question_take(
    database: Database, tenant_id: str, kind: Kind, integration_id: str, *, again_s: float, limit: int
) -> list[bytes]:
    """Questions, of one partner or of all, that are now the caller's; after `again_s` they are somebody else's."""
    rows = await database.rows(sql.question_take, tenant_id, kind, timedelta(seconds=again_s), limit, integration_id)
    return [row["payload"] for row in rows]


async def question_answer(conn: Connection, tenant_id: str, kind: Kind, question_id: UUID, answer: bytes) -> bool:
    """False when there is none that waits for it."""
    return await conn.value(sql.question_answer, tenant_id, question_id, kind, answer) is not None


async def listener_seen(database: Database, tenant_id: str, kind: Kind, listener_id: UUID, integration_id: str) -> None:
    await database.run(sql.listener_seen, tenant_id, kind, listener_id, integration_id)


async def listener_gone(database: Database, tenant_id: str, kind: Kind, listener_id: UUID) -> None:
    await database.run(sql.listener_gone, tenant_id, kind, listener_id)

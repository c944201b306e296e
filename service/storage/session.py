"""Sessions as rows: the serialized message and the columns that lists filter by."""

from collections.abc import Sequence
from typing import Any

from evbridge.v1.session_pb2 import ListSessionsRequest, Session

from service.domain.keys import key_of
from service.storage.charged import charged_columns, charged_filters
from service.storage.owned import OwnedRows
from service.storage.pool import Database
from service.storage.statements import Statements

sql = Statements.beside(__file__)


def _columns(sessions: Sequence[Session]) -> tuple[list[Any], ...]:
    places = [session.location_id for session in sessions]
    return ([session.status for session in sessions], *charged_columns(sessions, places))


_ROWS = OwnedRows("session", Session, sql, key_of, _columns)

session_get = _ROWS.get
session_get_many = _ROWS.get_many
session_find = _ROWS.find
session_lock = _ROWS.lock
session_put = _ROWS.put


async def session_page(
    database: Database, tenant_id: str, request: ListSessionsRequest, after: str, limit: int
) -> list[tuple[str, bytes]]:
    """(place, serialized session) after the place `after`, by their start, up to `limit` and about 1 MiB."""
    filters = charged_filters(request, after, limit)
    rows = await database.rows(sql.session_page, tenant_id, *filters, request.status)
    return [(row["place"], row["payload"]) for row in rows]

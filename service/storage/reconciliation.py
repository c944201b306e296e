"""Sessions and CDRs of a period page by page, beside what they have to agree with."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from service.domain.keys import OURS
from service.errors import ResourceNotFound
from service.storage.pool import Database
from service.storage.statements import Statement, Statements

sql = Statements.beside(__file__)
_ROWS = 100
_BYTES = 256 << 10
"""Of the CDRs of a page, about: they are parsed on the event loop."""


Invoices = Callable[[Sequence[Any]], Awaitable[dict[tuple[str, str, str], list[str]]]]


class Scope(NamedTuple):
    """What is reconciled: of the integration's partner, in the period, what is stored under `held`."""

    tenant_id: str
    integration_id: str
    held: str
    token_parties: list[str]
    start: datetime
    end: datetime


async def reconciliation_scopes(
    database: Database, tenant_id: str, integration_id: str, start: datetime, end: datetime
) -> tuple[Scope, Scope]:
    """Of what is ours, and of what was received. Raises ResourceNotFound."""
    parties = await database.value(sql.reconciliation_parties, tenant_id, integration_id)
    if parties is None:
        raise ResourceNotFound.of("integration", integration_id)
    ours = Scope(tenant_id, integration_id, OURS, parties, start, end)
    return ours, ours._replace(held=integration_id)


def reconciliation_cdrs(database: Database, scope: Scope) -> AsyncGenerator[list[Any], None]:
    """Rows with the payload, has_session, original, credits, delivery_state, delivery_reason and peer_state."""
    return _pages(database, sql.reconciliation_cdrs, scope, _BYTES)


async def reconciliation_invoices(database: Database, scope: Scope) -> Invoices:
    """What says of a page of CDRs which invoices each is on, by its country, party and folded id."""
    used = await database.value(sql.reconciliation_invoices_used, *scope[:2])

    async def named(rows: Sequence[Any]) -> dict[tuple[str, str, str], list[str]]:
        columns = [[row[name] for row in rows] for name in ("country_code", "party_id", "key")]
        found = await database.rows(sql.reconciliation_invoices, *scope[:3], *columns) if used else ()
        return {(row["country_code"], row["party_id"], row["key"]): row["invoices"] for row in found}

    return named


def reconciliation_sessions(database: Database, scope: Scope) -> AsyncGenerator[list[Any], None]:
    """Rows, with the payload of those that no CDR bills."""
    return _pages(database, sql.reconciliation_sessions, scope)


async def _pages(database: Database, page: Statement, scope: Scope, *more: Any) -> AsyncGenerator[list[Any], None]:
    after: tuple[Any, ...] = (scope.start, "", "", "")
    while rows := await database.rows(page, *scope, *after, _ROWS, *more):
        yield rows
        after = tuple(rows[-1][name] for name in ("start_time", "country_code", "party_id", "key"))

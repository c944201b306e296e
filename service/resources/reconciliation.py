"""A period's sessions and CDRs against each other, in memory that does not grow with them."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC

from evbridge.v1.reconciliation_pb2 import ReconcileCdrsRequest, ReconcileCdrsResponse
from evbridge.v1.session_pb2 import Session

from service.domain.reconciliation import Held, Totals, cdr_findings, session_finding
from service.storage.pool import Database
from service.storage.reconciliation import (
    reconciliation_cdrs,
    reconciliation_invoices,
    reconciliation_scopes,
    reconciliation_sessions,
)

_PROGRESS = 10_000
"""How many are looked at in silence."""
_TOTALS = 500


async def reconciliation(
    database: Database, tenant_id: str, request: ReconcileCdrsRequest
) -> AsyncGenerator[ReconcileCdrsResponse, None]:
    """Raises ResourceNotFound."""
    period = (request.start_time.ToDatetime(tzinfo=UTC), request.end_time.ToDatetime(tzinfo=UTC))
    scopes = await reconciliation_scopes(database, tenant_id, request.integration_id, *period)
    totals, response, told = Totals(), ReconcileCdrsResponse(), 0
    for scope in scopes:
        invoices = await reconciliation_invoices(database, scope)
        async with aclosing(reconciliation_cdrs(database, scope)) as pages:
            async for rows in pages:
                named = await invoices(rows)
                for _, country_code, party_id, key, *columns in rows:
                    held = Held.of(*columns, invoices=named.get((country_code, party_id, key), ()))
                    totals.add(held.cdr, invoiced=bool(held.invoices))
                    response.findings.extend(cdr_findings(held))
                response.cdr_count += len(rows)
                if response.findings or response.cdr_count - told >= _PROGRESS:
                    told = response.cdr_count
                    yield response
                    response = _next(response)
    told = 0
    for scope in scopes:
        async with aclosing(reconciliation_sessions(database, scope)) as pages:
            async for rows in pages:
                unbilled = (row["payload"] for row in rows if row["payload"] is not None)
                response.findings.extend(session_finding(Session.FromString(payload)) for payload in unbilled)
                response.session_count += len(rows)
                if response.findings or response.session_count - told >= _PROGRESS:
                    told = response.session_count
                    yield response
                    response = _next(response)
    for total in totals.messages():
        response.totals.append(total)
        if len(response.totals) == _TOTALS:
            yield response
            response = _next(response)
    response.complete = True
    yield response


def _next(response: ReconcileCdrsResponse) -> ReconcileCdrsResponse:
    return ReconcileCdrsResponse(cdr_count=response.cdr_count, session_count=response.session_count)

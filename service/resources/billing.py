"""What a session of ours costs, and the CDR that it becomes when it has ended."""

from datetime import UTC

from evbridge.v1.cdr_pb2 import Cdr
from evbridge.v1.pricing_pb2 import Quote
from evbridge.v1.session_pb2 import Session
from evbridge.v1.tariff_pb2 import TARIFF_TYPE_UNSPECIFIED, Tariff

from service.domain.billing import Place, cdr_of, quote_of
from service.domain.keys import ObjectKey, key_of
from service.domain.pricing.jobs import run_if_small
from service.processes.pool import Processes
from service.resources.pricing import tariff_named, tariff_shown
from service.storage.pool import Database
from service.storage.tariff import tariff_at


async def tariff_of(
    database: Database, tenant_id: str, session: Session, place: Place, provider_id: str = ""
) -> Tariff | None:
    """The one that its connector had at its start: as the token's provider sees it, else as the connector names it.

    The provider is the integration that the token was received through. None when there is none. Raises
    ResourceNotFound, TariffRevisionNotKept.
    """
    start = session.start_date_time
    named = next((period.tariff_id for period in session.charging_periods if period.tariff_id), "")
    if named:
        then = start.ToDatetime(tzinfo=UTC)
        return await tariff_at(database, tenant_id, ObjectKey.of(*key_of(session).party, named), then)
    if provider_id:
        seen = await tariff_shown(
            database, tenant_id, provider_id, place.location, place.at, TARIFF_TYPE_UNSPECIFIED, start, start
        )
        if seen:
            return seen
    return await tariff_named(database, tenant_id, place.location, place.at, start)


async def billed(processes: Processes, tenant_id: str, session: Session, place: Place, tariff: Tariff | None) -> Cdr:
    """The CDR of a session that ended. Raises InvalidArgument when the session or the tariff cannot be priced."""
    if tariff is None:
        return cdr_of(session, place, None, Quote())
    request = quote_of(session, tariff, place.location)
    answer = run_if_small("QuotePrice", request)
    if answer is None:
        answer = await processes.run(f"{tenant_id}/billing", "QuotePrice", request.SerializeToString())
    return cdr_of(session, place, tariff, Quote.FromString(answer))

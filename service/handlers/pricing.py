"""The methods of evbridge.v1.TariffService that price sessions and judge tariffs. They store nothing."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal

from evbridge.v1.location_pb2 import Location
from evbridge.v1.pricing_pb2 import AuditedCdr
from evbridge.v1.tariff_pb2 import (
    AuditCdrRequest,
    AuditCdrResponse,
    ComparedQuote,
    ComparedTariff,
    CompareTariffsRequest,
    CompareTariffsResponse,
    LintTariffRequest,
    LintTariffResponse,
    PartnerConnector,
    QuotePriceRequest,
    Tariff,
)
from google.protobuf.timestamp_pb2 import Timestamp

from service.domain.caller import Caller
from service.domain.keys import ObjectKey, key_of
from service.domain.location import connector_at
from service.domain.pages import whole_response
from service.domain.pricing.audit import audit, session_of_cdr, tariffs_named
from service.domain.pricing.clock import zone_of
from service.domain.pricing.lint import lint, references
from service.domain.pricing.numbers import number, seconds, timestamp
from service.domain.pricing.quote import check, quote, session_of
from service.domain.pricing.session import Session
from service.domain.pricing.tariff import Compiled, in_force
from service.domain.publication import Publication
from service.domain.status import status_of
from service.errors import EvbridgeError, InvalidArgument, ResourceNotFound, TariffNotShown
from service.storage.location import location_get
from service.storage.party import parties_hold
from service.storage.pool import Database
from service.storage.publication import rules_now
from service.storage.tariff import tariff_at, tariff_get, tariff_locations

_TOLERANCE = Decimal("0.005")
_MOST_TARIFFS = 20
"""As many as a CDR may bring along."""


class Pricing:
    """Computes in threads: a long session under a large tariff takes a second."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def QuotePrice(self, request: QuotePriceRequest, caller: Caller) -> bytes:
        session, options = session_of(request), request.options
        tariff = await self._tariff(request, caller, session)
        found = await asyncio.to_thread(quote, Compiled.of(tariff, options), session, options)
        return whole_response(found, "session")

    async def CompareTariffs(self, request: CompareTariffsRequest, caller: Caller) -> bytes:
        session, options = session_of(request), request.options
        check(options)
        results = []
        for index, source in enumerate(request.tariffs):
            result = ComparedQuote(index=index)
            try:
                tariff = await self._tariff(source, caller, session)
                found = await asyncio.to_thread(quote, Compiled.of(tariff, options), session, options)
                result.quote.CopyFrom(found)
            except EvbridgeError as error:
                result.error.CopyFrom(status_of(error))
            results.append(result)
        return whole_response(CompareTariffsResponse(results=sorted(results, key=_rank)), "tariffs")

    async def LintTariff(self, request: LintTariffRequest, caller: Caller) -> LintTariffResponse:
        zone = zone_of(request.time_zone, "time_zone") if request.time_zone else None
        tariff = request.tariff
        if request.HasField("key"):
            tariff = Tariff.FromString(await tariff_get(self._database, caller.tenant_id, key_of(request.key)))
        findings = await asyncio.to_thread(
            lint, Compiled(tariff, request.ocpi_version, request.whole_elements), zone, datetime.now(UTC)
        )
        key = key_of(tariff)
        async with self._database.transaction() as conn:
            owned = bool(await parties_hold(conn, caller.tenant_id, [key.party]))
            locations = await tariff_locations(conn, caller.tenant_id, key)
        return LintTariffResponse(findings=[*findings, *references(owned, locations)])

    async def AuditCdr(self, request: AuditCdrRequest, caller: Caller) -> bytes:
        cdr, session = request.cdr, session_of_cdr(request.cdr)
        tariffs = await self._tariffs_of(cdr, session, request.tariffs, caller)
        tolerance = number(request.tolerance) if request.HasField("tolerance") else _TOLERANCE
        found, differences, others = await asyncio.to_thread(audit, cdr, session, tariffs, request.options, tolerance)
        return whole_response(
            AuditCdrResponse(quote=found, differences=differences, other_readings=others), "cdr.charging_periods"
        )

    async def _tariff(self, source: QuotePriceRequest | ComparedTariff, caller: Caller, session: Session) -> Tariff:
        """Raises ResourceNotFound, TariffRevisionNotKept, TariffNotShown."""
        if source.HasField("tariff"):
            return source.tariff
        start = timestamp(session.start)
        if source.HasField("partner_connector"):
            return await self._tariff_seen(source.partner_connector, caller, start)
        return await self._tariff_then(caller, key_of(source.key), start)

    async def _tariff_then(self, caller: Caller, key: ObjectKey, start: Timestamp) -> Tariff:
        """Raises ResourceNotFound, TariffRevisionNotKept."""
        return await tariff_at(self._database, caller.tenant_id, key, start.ToDatetime(tzinfo=UTC))

    async def _tariff_seen(self, place: PartnerConnector, caller: Caller, start: Timestamp) -> Tariff:
        """Raises ResourceNotFound, TariffRevisionNotKept, TariffNotShown."""
        at = place.at if place.HasField("at") else start
        rules, _ = await rules_now(self._database, caller.tenant_id, place.integration_id)
        key = key_of(place.location)
        location = Location.FromString(await location_get(self._database, caller.tenant_id, key))
        named = connector_at(location, place.evse_uid, place.connector_id)
        if named is None:
            raise ResourceNotFound.of("connector", f"{key}/{place.evse_uid}/{place.connector_id}")
        seen = [ids for row, column, ids in Publication(rules, at).connectors(location) if (row, column) == named]
        keys = [ObjectKey.of(*key.party, id) for ids in seen for id in ids]
        tariff = in_force([await self._tariff_then(caller, key, start) for key in keys], place.type, seconds(at))
        if tariff is None:
            raise TariffNotShown(
                "the partner sees no tariff of that type on the connector at that time",
                integration_id=place.integration_id,
                connector_id=place.connector_id,
            )
        return tariff

    async def _tariffs_of(
        self, cdr: AuditedCdr, session: Session, tariffs: Sequence[Tariff], caller: Caller
    ) -> list[Tariff]:
        """Those its periods name, of its own or the stored ones; the first of its own when they name none.

        Raises InvalidArgument when there is none or too many are named, ResourceNotFound, TariffRevisionNotKept.
        """
        named = tariffs_named(cdr)
        if len(named) > _MOST_TARIFFS:
            raise InvalidArgument.field("cdr.charging_periods", f"name more than {_MOST_TARIFFS} tariffs")
        if not named and not tariffs:
            raise InvalidArgument.field("tariffs", "are needed when no period names a tariff")
        own = {tariff.id.casefold(): tariff for tariff in reversed(tariffs)}
        start = timestamp(session.start)
        return [
            own.get(id.casefold())
            or await self._tariff_then(caller, ObjectKey.of(cdr.country_code, cdr.party_id, id), start)
            for id in named
        ] or [tariffs[0]]


def _rank(result: ComparedQuote) -> tuple[bool, str, Decimal, int]:
    """By currency, then by what the driver pays; what could not be priced comes last."""
    if result.HasField("error"):
        return True, "", Decimal(), result.index
    total = result.quote.total_cost
    paid = total.incl_vat if total.HasField("incl_vat") else total.excl_vat
    return False, result.quote.currency, number(paid), result.index

"""evbridge.v1.PricingService."""

from datetime import UTC

from evbridge.v1.location_pb2 import Location
from evbridge.v1.pricing_pb2 import (
    AuditCdrRequest,
    ComparedTariff,
    CompareTariffsRequest,
    CompareTariffsResponse,
    LintTariffRequest,
    LintTariffResponse,
    PartnerConnector,
    QuotePriceRequest,
)
from evbridge.v1.tariff_pb2 import Tariff
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from service.domain.caller import Caller, waits_elsewhere
from service.domain.keys import ObjectKey, key_of
from service.domain.location import connector_at
from service.domain.pages import whole_response
from service.domain.pricing.jobs import run_if_small, start_of
from service.domain.pricing.lint import references
from service.domain.status import status_of
from service.errors import EvbridgeError, ResourceNotFound, TariffNotShown
from service.processes.pool import Processes
from service.resources.pricing import tariff_shown, tariffs_of
from service.storage.location import location_get
from service.storage.party import parties_hold
from service.storage.pool import Database
from service.storage.tariff import tariff_at, tariff_get, tariff_locations


class PricingService:
    """Looks up what is stored; what is computed is computed in other processes unless it is little."""

    def __init__(self, database: Database, processes: Processes) -> None:
        self._database = database
        self._processes = processes

    async def QuotePrice(self, request: QuotePriceRequest, caller: Caller) -> bytes:
        start = start_of(request)
        if not request.HasField("tariff"):
            request.tariff.CopyFrom(await self._tariff(request, caller, start))
        return whole_response(await self._run("QuotePrice", request, caller), "session")

    async def CompareTariffs(self, request: CompareTariffsRequest, caller: Caller) -> bytes:
        start, missing = start_of(request), CompareTariffsResponse()
        for index, source in enumerate(request.tariffs):
            try:
                if not source.HasField("tariff"):
                    source.tariff.CopyFrom(await self._tariff(source, caller, start))
            except EvbridgeError as error:
                missing.results.add(index=index, error=status_of(error))
        found = await self._run("CompareTariffs", request, caller)
        return whole_response(found + missing.SerializeToString(), "tariffs")

    async def LintTariff(self, request: LintTariffRequest, caller: Caller) -> bytes:
        if request.HasField("key"):
            stored = await tariff_get(self._database, caller.tenant_id, key_of(request.key))
            request.tariff.MergeFromString(stored)
        findings = await self._run("LintTariff", request, caller)
        key = key_of(request.tariff)
        async with self._database.connection() as conn:
            owned = bool(await parties_hold(conn, caller.tenant_id, [key.party]))
            locations = await tariff_locations(conn, caller.tenant_id, key)
        return findings + LintTariffResponse(findings=references(owned, locations)).SerializeToString()

    async def AuditCdr(self, request: AuditCdrRequest, caller: Caller) -> bytes:
        tariffs = await tariffs_of(self._database, caller.tenant_id, request.cdr, request.tariffs)
        del request.tariffs[:]
        request.tariffs.extend(tariffs)
        return whole_response(await self._run("AuditCdr", request, caller), "cdr.charging_periods")

    async def _run(self, method: str, request: Message, caller: Caller) -> bytes:
        small = run_if_small(method, request)
        if small is not None:
            return small
        waits_elsewhere()
        return await self._processes.run(caller.actor, method, request.SerializeToString())

    async def _tariff(self, source: QuotePriceRequest | ComparedTariff, caller: Caller, start: Timestamp) -> Tariff:
        """The stored one that is meant. Raises ResourceNotFound, TariffRevisionNotKept, TariffNotShown."""
        if source.HasField("partner_connector"):
            return await self._tariff_shown(source.partner_connector, caller, start)
        return await self._tariff_at(caller, key_of(source.key), start)

    async def _tariff_at(self, caller: Caller, key: ObjectKey, start: Timestamp) -> Tariff:
        """Raises ResourceNotFound, TariffRevisionNotKept."""
        return await tariff_at(self._database, caller.tenant_id, key, start.ToDatetime(tzinfo=UTC))

    async def _tariff_shown(self, place: PartnerConnector, caller: Caller, start: Timestamp) -> Tariff:
        """Raises ResourceNotFound, TariffRevisionNotKept, TariffNotShown."""
        at = place.at if place.HasField("at") else start
        key = key_of(place.location)
        location = Location.FromString(await location_get(self._database, caller.tenant_id, key))
        named = connector_at(location, place.evse_uid, place.connector_id)
        if named is None:
            raise ResourceNotFound.of("connector", f"{key}/{place.evse_uid}/{place.connector_id}")
        tariff = await tariff_shown(
            self._database, caller.tenant_id, place.integration_id, location, named, place.type, start, at
        )
        if tariff is None:
            raise TariffNotShown(
                "the partner sees no tariff of that type on the connector at that time",
                integration_id=place.integration_id,
                connector_id=place.connector_id,
            )
        return tariff

"""evbridge.v1.WatchService."""

from collections.abc import AsyncGenerator, Callable
from typing import Any

from evbridge.v1.watch_pb2 import (
    WATCH_SIDE_ALL,
    WATCH_SIDE_RECEIVED,
    WatchCdrsRequest,
    WatchCommandsRequest,
    WatchCompaniesRequest,
    WatchDeliveriesRequest,
    WatchEvseStatusRequest,
    WatchHubClientsRequest,
    WatchIntegrationsRequest,
    WatchInvoiceReconciliationRecordsRequest,
    WatchLocationsRequest,
    WatchSessionsRequest,
    WatchTariffsRequest,
    WatchTokensRequest,
)

from service.domain.caller import Caller, waits_elsewhere
from service.storage.feed import FeedChange
from service.watch.feed import Feed
from service.watch.nouns import (
    CDRS,
    COMMANDS,
    COMPANIES,
    DELIVERIES,
    EVSE_STATUS,
    HUB_CLIENTS,
    INTEGRATIONS,
    INVOICE_RECONCILIATION_RECORDS,
    LOCATIONS,
    SESSIONS,
    TARIFFS,
    TOKENS,
    Noun,
)
from service.watch.watching import watch

Responses = AsyncGenerator[bytes, None]


class WatchService:
    def __init__(self, feed: Feed) -> None:
        self._feed = feed

    def WatchLocations(self, request: WatchLocationsRequest, caller: Caller) -> Responses:
        return self._watch(LOCATIONS, request, caller, _side(request))

    def WatchEvseStatus(self, request: WatchEvseStatusRequest, caller: Caller) -> Responses:
        return self._watch(EVSE_STATUS, request, caller, _side(request))

    def WatchTariffs(self, request: WatchTariffsRequest, caller: Caller) -> Responses:
        return self._watch(TARIFFS, request, caller, _side(request))

    def WatchSessions(self, request: WatchSessionsRequest, caller: Caller) -> Responses:
        return self._watch(SESSIONS, request, caller, _side(request))

    def WatchCdrs(self, request: WatchCdrsRequest, caller: Caller) -> Responses:
        return self._watch(CDRS, request, caller, _side(request))

    def WatchTokens(self, request: WatchTokensRequest, caller: Caller) -> Responses:
        return self._watch(TOKENS, request, caller, _side(request))

    def WatchInvoiceReconciliationRecords(
        self, request: WatchInvoiceReconciliationRecordsRequest, caller: Caller
    ) -> Responses:
        return self._watch(INVOICE_RECONCILIATION_RECORDS, request, caller, _side(request))

    def WatchHubClients(self, request: WatchHubClientsRequest, caller: Caller) -> Responses:
        only = request.integration_id
        return self._watch(HUB_CLIENTS, request, caller, lambda change: change.integration_id == only)

    def WatchCommands(self, request: WatchCommandsRequest, caller: Caller) -> Responses:
        only = request.integration_id
        return self._watch(COMMANDS, request, caller, lambda change: only in ("", change.integration_id))

    def WatchIntegrations(self, request: WatchIntegrationsRequest, caller: Caller) -> Responses:
        only = request.integration_id
        return self._watch(INTEGRATIONS, request, caller, lambda change: only in ("", change.object_id))

    def WatchCompanies(self, request: WatchCompaniesRequest, caller: Caller) -> Responses:
        return self._watch(COMPANIES, request, caller, lambda change: True)

    def WatchDeliveries(self, request: WatchDeliveriesRequest, caller: Caller) -> Responses:
        only = request.integration_id
        return self._watch(DELIVERIES, request, caller, lambda change: only in ("", change.integration_id))

    def _watch(self, noun: Noun, request: Any, caller: Caller, wanted: Callable[[FeedChange], bool]) -> Responses:
        waits_elsewhere()
        return watch(self._feed, noun, caller.tenant_id, request, wanted)


def _side(request: Any) -> Callable[[FeedChange], bool]:
    side, only = request.side, request.integration_id
    if side == WATCH_SIDE_ALL:
        return lambda change: True
    if side == WATCH_SIDE_RECEIVED and not only:
        return lambda change: change.integration_id != ""
    return lambda change: change.integration_id == only

"""What can be watched: which changes concern a noun, what is sent for them, and all there is of it."""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from itertools import chain
from typing import Any, Protocol
from uuid import UUID

from evbridge.v1.cdr_pb2 import CdrKey, ListCdrsRequest
from evbridge.v1.command_pb2 import Command, ListCommandsRequest
from evbridge.v1.company_pb2 import ListCompaniesRequest
from evbridge.v1.delivery_pb2 import (
    OBJECT_KIND_CDR,
    OBJECT_KIND_COMMAND,
    OBJECT_KIND_COMPANY,
    OBJECT_KIND_DELIVERY,
    OBJECT_KIND_EVSE,
    OBJECT_KIND_HUB_CLIENT,
    OBJECT_KIND_INTEGRATION,
    OBJECT_KIND_INVOICE_RECONCILIATION_RECORD,
    OBJECT_KIND_LOCATION,
    OBJECT_KIND_SESSION,
    OBJECT_KIND_TARIFF,
    OBJECT_KIND_TOKEN,
    ListDeliveriesRequest,
)
from evbridge.v1.hub_client_pb2 import HubClientKey, ListHubClientsRequest
from evbridge.v1.integration_pb2 import ListIntegrationsRequest
from evbridge.v1.invoice_reconciliation_pb2 import (
    InvoiceReconciliationRecordKey,
    ListInvoiceReconciliationRecordsRequest,
)
from evbridge.v1.location_pb2 import Evse, ListLocationsRequest, Location, LocationKey
from evbridge.v1.session_pb2 import ListSessionsRequest, SessionKey
from evbridge.v1.tariff_pb2 import ListTariffsRequest, TariffKey
from evbridge.v1.token_pb2 import ListTokensRequest, TokenKey
from evbridge.v1.watch_pb2 import (
    WATCH_SIDE_ALL,
    WATCH_SIDE_UNSPECIFIED,
    CdrChange,
    CommandChange,
    CompanyChange,
    DeliveryChange,
    EvseStatusChange,
    HubClientChange,
    IntegrationChange,
    InvoiceReconciliationRecordChange,
    LocationChange,
    SessionChange,
    TariffChange,
    TokenChange,
    WatchIntegrationsRequest,
)

from service.domain.hub_client import hub_client_parts
from service.domain.keys import OURS, EvseKey, ObjectKey
from service.domain.pages import HIGHEST_POSITION, LOWEST, MAX_SIZE, framed, id_at
from service.domain.token import token_parts
from service.storage.cdr import cdr_find, cdr_page
from service.storage.command import command_find, command_page
from service.storage.company import company_find, company_page
from service.storage.delivery import delivery_find, delivery_page
from service.storage.feed import FeedChange
from service.storage.hub_client import hub_client_find, hub_client_page
from service.storage.integration import integration_find, integration_page
from service.storage.invoice_reconciliation import invoice_reconciliation_find, invoice_reconciliation_page
from service.storage.location import evse_find, location_find, location_page
from service.storage.pool import Database
from service.storage.session import session_find, session_page
from service.storage.tariff import tariff_find, tariff_page
from service.storage.token import token_find, token_page

Rows = Awaitable[list[tuple[str, bytes]]]


class Noun(Protocol):
    name: str
    kinds: Collection[int]
    """Of the objects whose changes concern it."""

    async def find(self, database: Database, tenant_id: str, changes: Sequence[FeedChange]) -> list[bytes]:
        """The messages that are sent for the changes, serialized: objects as they are now."""

    def pages(self, database: Database, tenant_id: str, request: Any) -> AsyncIterator[list[bytes]]:
        """All there is that the watch request wants, as such messages."""


class Whole:
    """A noun whose change holds all of it: the key in field 1, the object, unparsed, in field 2.

    `parsed` makes the key of an object's id and side, `named` the change's fields of the key. `id_of` finds the
    id in the place of an object in a page.
    """

    def __init__(
        self,
        kind: int,
        change: Callable[..., Any],
        parsed: Callable[[str, str], Any],
        named: Callable[[Any], dict[str, Any]],
        find: Callable[[Database, str, Collection[Any]], Awaitable[Mapping[Any, bytes]]],
        page: Callable[[Database, str, Any, str, str], Rows],
        sides: Callable[[Database, str, Any], Awaitable[list[str]]],
        id_of: Callable[[str], str] = str,
    ) -> None:
        self.name = change.__name__
        self.kinds: Collection[int] = (kind,)
        self._change = change
        self._parsed = parsed
        self._named = named
        self._find = find
        self._page = page
        self._sides = sides
        self._id_of = id_of

    async def find(self, database: Database, tenant_id: str, changes: Sequence[FeedChange]) -> list[bytes]:
        keys = [self._parsed(change.object_id, change.integration_id) for change in changes]
        found = await self._find(database, tenant_id, set(keys))
        return [
            self._element(key, found.get(key), change_time=change.time)
            for key, change in zip(keys, changes, strict=True)
        ]

    async def pages(self, database: Database, tenant_id: str, request: Any) -> AsyncIterator[list[bytes]]:
        for side in await self._sides(database, tenant_id, request):
            last = ""
            while rows := await self._page(database, tenant_id, request, side, last):
                yield [self._element(self._parsed(self._id_of(place), side), payload) for place, payload in rows]
                last = rows[-1][0]

    def _element(self, key: Any, payload: bytes | None, **others: Any) -> bytes:
        head: bytes = self._change(**self._named(key), **others).SerializeToString()
        return head if payload is None else head + framed([payload], 2)


class EvseStatuses:
    """EVSEs, when their status or their location changes."""

    name = EvseStatusChange.__name__
    kinds: Collection[int] = (OBJECT_KIND_EVSE, OBJECT_KIND_LOCATION)

    async def find(self, database: Database, tenant_id: str, changes: Sequence[FeedChange]) -> list[bytes]:
        keys = {
            change: EvseKey.parsed(change.object_id, change.integration_id)
            for change in changes
            if change.object_kind == OBJECT_KIND_EVSE
        }
        whole = {
            change: ObjectKey.parsed(change.object_id, change.integration_id)
            for change in changes
            if change not in keys
        }
        evses = await evse_find(database, tenant_id, {*chain.from_iterable(keys.values())})
        locations = await location_find(database, tenant_id, {*whole.values()})
        elements: list[bytes] = []
        for change in changes:
            if change in keys:  # one whose whole location comes too comes with that
                may_be = [key for key in keys[change] if key.location not in locations]
                found = [(key.location, evses[key]) for key in may_be if key in evses]
            else:
                location = whole[change]
                evses_now = _evses(locations[location]) if location in locations else [Evse()]
                found = [(location, evse) for evse in evses_now]
            elements += [_status(location, evse, change_time=change.time) for location, evse in found]
        return elements

    async def pages(self, database: Database, tenant_id: str, request: Any) -> AsyncIterator[list[bytes]]:
        for side in await _sides(database, tenant_id, request):
            last, wanted = "", ListLocationsRequest(integration_id=side)
            while rows := await location_page(database, tenant_id, wanted, last, MAX_SIZE):
                yield [_status(ObjectKey.parsed(id, side), evse) for id, payload in rows for evse in _evses(payload)]
                last = rows[-1][0]


async def _sides(database: Database, tenant_id: str, request: Any) -> list[str]:
    """Whose objects the request wants: OURS, and integrations that some were received through."""
    if request.integration_id or request.side == WATCH_SIDE_UNSPECIFIED:
        return [request.integration_id]
    sides = [OURS] if request.side == WATCH_SIDE_ALL else []
    async for page in INTEGRATIONS.pages(database, tenant_id, WatchIntegrationsRequest()):
        sides += [IntegrationChange.FromString(each).id for each in page]
    return sides


async def _ours(database: Database, tenant_id: str, request: Any) -> list[str]:
    return [OURS]


def _evses(payload: bytes) -> Sequence[Evse]:
    return Location.FromString(payload).evses


def _status(location: ObjectKey, evse: Evse, **others: Any) -> bytes:
    change = EvseStatusChange(
        location_key=LocationKey(**_parts(location)),
        evse_uid=evse.uid,
        evse_id=evse.evse_id,
        status=evse.status,
        status_time=evse.status_time if evse.HasField("status_time") else None,
        **others,
    )
    return change.SerializeToString()


def _parts(key: ObjectKey) -> dict[str, str]:
    names = {"country_code": key.country_code, "party_id": key.party_id, "id": key.key}
    return {**names, "integration_id": key.integration_id}


async def _hub(database: Database, tenant_id: str, request: Any) -> list[str]:
    return [request.integration_id]


async def _integration_page(
    database: Database, tenant_id: str, request: Any, side: str, last: str
) -> list[tuple[str, bytes]]:
    if not request.integration_id:
        return await integration_page(database, tenant_id, ListIntegrationsRequest(), last, MAX_SIZE)
    return [] if last else [*(await integration_find(database, tenant_id, [request.integration_id])).items()]


async def _command_page(
    database: Database, tenant_id: str, request: Any, side: str, last: str
) -> list[tuple[str, bytes]]:
    """By its position, which has the length of a time, and its id."""
    wanted, before = ListCommandsRequest(integration_id=request.integration_id), int(last[:20] or HIGHEST_POSITION)
    rows = await command_page(database, tenant_id, wanted, before, MAX_SIZE)
    return [(f"{position:0>20}{Command.FromString(payload).id}", payload) for position, payload in rows]


def _company_page(database: Database, tenant_id: str, request: Any, side: str, last: str) -> Rows:
    return company_page(database, tenant_id, ListCompaniesRequest(), UUID(last) if last else LOWEST, MAX_SIZE)


def _delivery_page(database: Database, tenant_id: str, request: Any, side: str, last: str) -> Rows:
    wanted = ListDeliveriesRequest(integration_id=request.integration_id)
    return delivery_page(database, tenant_id, wanted, UUID(last) if last else LOWEST, MAX_SIZE)


def _owned(
    kind: int,
    change: Callable[..., Any],
    key: Callable[..., Any],
    find: Callable[[Database, str, Collection[ObjectKey]], Awaitable[Mapping[ObjectKey, bytes]]],
    page: Callable[[Database, str, Any, str, int], Rows],
    wanted: Callable[..., Any],
    parts: Callable[[ObjectKey], dict[str, Any]] = _parts,
    sides: Callable[[Database, str, Any], Awaitable[list[str]]] = _sides,
    id_of: Callable[[str], str] = str,
) -> Whole:
    """A noun whose objects a party owns: the message of its key, and the request that lists those of a side."""

    def page_of(database: Database, tenant_id: str, request: Any, side: str, last: str) -> Rows:
        return page(database, tenant_id, wanted(integration_id=side), last, MAX_SIZE)

    return Whole(kind, change, ObjectKey.parsed, lambda of: {"key": key(**parts(of))}, find, page_of, sides, id_of)


def _plain(id: str, integration_id: str) -> str:
    return id


def _id(id: str) -> dict[str, Any]:
    return {"id": id}


LOCATIONS = _owned(
    OBJECT_KIND_LOCATION, LocationChange, LocationKey, location_find, location_page, ListLocationsRequest
)
EVSE_STATUS = EvseStatuses()
TARIFFS = _owned(OBJECT_KIND_TARIFF, TariffChange, TariffKey, tariff_find, tariff_page, ListTariffsRequest)
HUB_CLIENTS = _owned(
    OBJECT_KIND_HUB_CLIENT,
    HubClientChange,
    HubClientKey,
    hub_client_find,
    hub_client_page,
    ListHubClientsRequest,
    parts=hub_client_parts,
    sides=_hub,
)
TOKENS = _owned(OBJECT_KIND_TOKEN, TokenChange, TokenKey, token_find, token_page, ListTokensRequest, parts=token_parts)
SESSIONS = _owned(
    OBJECT_KIND_SESSION, SessionChange, SessionKey, session_find, session_page, ListSessionsRequest, id_of=id_at
)
CDRS = _owned(OBJECT_KIND_CDR, CdrChange, CdrKey, cdr_find, cdr_page, ListCdrsRequest, id_of=id_at)
INVOICE_RECONCILIATION_RECORDS = _owned(
    OBJECT_KIND_INVOICE_RECONCILIATION_RECORD,
    InvoiceReconciliationRecordChange,
    InvoiceReconciliationRecordKey,
    invoice_reconciliation_find,
    invoice_reconciliation_page,
    ListInvoiceReconciliationRecordsRequest,
)
INTEGRATIONS = Whole(
    OBJECT_KIND_INTEGRATION, IntegrationChange, _plain, _id, integration_find, _integration_page, _ours
)
COMMANDS = Whole(OBJECT_KIND_COMMAND, CommandChange, _plain, _id, command_find, _command_page, _ours, id_at)
COMPANIES = Whole(OBJECT_KIND_COMPANY, CompanyChange, _plain, _id, company_find, _company_page, _ours)
DELIVERIES = Whole(OBJECT_KIND_DELIVERY, DeliveryChange, _plain, _id, delivery_find, _delivery_page, _ours)

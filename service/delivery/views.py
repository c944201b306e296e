"""Keeps what a partner sees of an object that is due there: the only place that writes it.

Only a change of what is seen moves the view: it may be one of the object or of the rules that reach it. A tariff is
shown before a location that names it, and stays for as long as one does. No location names one that has ended. A token
is shown by who speaks for its owner, and by who speaks for a hub those that are connected to it. Sessions, CDRs and
invoice reconciliation records are seen where they go, whatever the rules.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple, TypeVar

from evbridge.v1.cdr_pb2 import Cdr
from evbridge.v1.delivery_pb2 import (
    OBJECT_KIND_CDR,
    OBJECT_KIND_HUB_CLIENT,
    OBJECT_KIND_INVOICE_RECONCILIATION_RECORD,
    OBJECT_KIND_LOCATION,
    OBJECT_KIND_SESSION,
    OBJECT_KIND_TARIFF,
    OBJECT_KIND_TOKEN,
    ObjectKind,
)
from evbridge.v1.hub_client_pb2 import HubClient
from evbridge.v1.integration_pb2 import Integration
from evbridge.v1.invoice_reconciliation_pb2 import InvoiceReconciliationRecord
from evbridge.v1.location_pb2 import Location
from evbridge.v1.session_pb2 import Session
from evbridge.v1.tariff_pb2 import Tariff
from evbridge.v1.token_pb2 import Token

from service.domain.charged import token_party
from service.domain.hub_client import connected
from service.domain.integration import token_parties
from service.domain.keys import ObjectKey, PartyKey
from service.domain.location import tariffs_named
from service.domain.publication import Publication
from service.domain.view import (
    cdr_shown,
    hub_client_shown,
    invoice_reconciliation_shown,
    location_shown,
    session_shown,
    tariff_shown,
    token_shown,
)
from service.errors import ResourceNotFound
from service.resources.publication import Ended, publication_at, seen_location, sees_tariff, timestamp_of
from service.storage.cdr import cdr_find
from service.storage.changes import Recipient, delivery_mark_at
from service.storage.clock import Clock
from service.storage.connection import Connection
from service.storage.delivery import Claim
from service.storage.hub_client import hub_client_statuses
from service.storage.invoice_reconciliation import invoice_reconciliation_find
from service.storage.location import location_get
from service.storage.party import hubs_among
from service.storage.pool import Database
from service.storage.session import session_find
from service.storage.tariff import tariff_get
from service.storage.token import token_get
from service.storage.view import Looked, Viewed, view_get, view_look, view_names, view_put

M = TypeVar("M", Location, Tariff, Token, Session, Cdr, InvoiceReconciliationRecord, HubClient)
C = TypeVar("C", Session, Cdr)
Shown = Location | Tariff | Token | Session | Cdr | InvoiceReconciliationRecord | HubClient | None


async def view_refresh(database: Database, claim: Claim, clock: Clock) -> str:
    """Brings the partner's view of the object to what it is now, and says what became of it. Raises LeaseLost."""
    return await _View(database, claim, clock).refresh()


class Look(NamedTuple):
    """What is known of a view and, as of now, what the partner is to see of the object and how that is shown to it."""

    viewed: Viewed | None
    seen: Any
    shown: Any


async def view_now(database: Database, claim: Claim, clock: Clock) -> Look:
    """Changes nothing; all that `view_refresh` would have to write, it would write from this."""
    return await _View(database, claim, clock).now()


async def view_shown(database: Database, claim: Claim, form: type[M]) -> M | None:
    """The object as the partner sees it; None when it does not."""
    key = ObjectKey.parsed(claim.object_id)
    viewed = await view_get(database, claim.tenant_id, claim.integration_id, claim.object_kind, key)
    return viewed.parsed(form) if viewed and viewed.shown else None


class _View:
    """What one partner sees of one object. Nobody sees what was imported from him."""

    def __init__(self, database: Database, claim: Claim, clock: Clock) -> None:
        self._database = database
        self._claim = claim
        self._clock = clock
        self._at = (claim.tenant_id, claim.integration_id)
        self._key = ObjectKey.parsed(claim.object_id)

    async def now(self) -> Look:
        return await _LOOKS[self._claim.object_kind](self)

    async def refresh(self) -> str:
        viewed, seen, shown = await self.now()
        if _is_same(viewed, shown, seen):
            return _outcome(seen, changed=False)
        if self._claim.object_kind == OBJECT_KIND_LOCATION:
            return await self._put_location(viewed, seen, shown)
        return await self._put(seen, shown)

    async def _put_location(self, viewed: Viewed | None, seen: Location | None, shown: Location | None) -> str:
        """Tariffs that the partner sees by it, or not any more, are due there."""
        before = viewed.parsed(Location) if viewed else None
        named, named_before = _named(shown), _named(before)
        if named == named_before:
            return await self._put(seen, shown, named)
        tariffs = {key: await self._ours(key) for key in sorted(named - named_before)}
        async with self._database.transaction() as conn:
            for key, tariff in tariffs.items():
                if document := _document(tariff_shown(tariff)):
                    await view_put(conn, self._claim, OBJECT_KIND_TARIFF, key, document, shown=True, replace=False)
            outcome = await self._put(seen, shown, named, conn)
            await delivery_mark_at(conn, *self._at, OBJECT_KIND_TARIFF, named ^ named_before)
        return outcome

    async def _location(self) -> Look:
        viewed, _, _, now = await self._looked()
        before = viewed.parsed(Location) if viewed else None
        seen = await self._seen_location(now)
        return Look(viewed, seen, location_shown(seen, before, timestamp_of(now)))

    async def _tariff(self) -> Look:
        viewed, _, _, now = await self._looked()
        seen = await self._seen_tariff(now)
        return Look(viewed, seen, tariff_shown(seen))

    async def _token(self) -> Look:
        viewed, _, integration, _ = await self._looked()
        seen = await self._seen_token(integration)
        return Look(viewed, seen, token_shown(seen, viewed.parsed(Token) if viewed else None))

    async def _session(self) -> Look:
        at = (self._database, self._claim.tenant_id)
        viewed, _, integration, _ = await self._looked()
        seen = _addressed(integration, (await session_find(*at, [self._key])).get(self._key), Session)
        location = await self._location_of(seen) if seen else None
        before = viewed.parsed(Session) if viewed else None
        told = integration.state_of_charge_sent
        shown = session_shown(seen, before, location, state_of_charge=told) if seen else None
        return Look(viewed, seen, shown)

    async def _cdr(self) -> Look:
        viewed, _, integration, _ = await self._looked()
        found = await cdr_find(self._database, self._claim.tenant_id, [self._key])
        seen = _addressed(integration, found.get(self._key), Cdr)
        return Look(viewed, seen, cdr_shown(seen) if seen else None)

    async def _invoice_reconciliation(self) -> Look:
        viewed, *_ = await self._looked()
        found = await invoice_reconciliation_find(self._database, self._claim.tenant_id, [self._key])
        record = InvoiceReconciliationRecord.FromString(found.get(self._key, b""))
        seen = record if record.recipient_integration_id == self._claim.integration_id else None
        return Look(viewed, seen, invoice_reconciliation_shown(seen))

    async def _hub_client(self) -> Look:
        viewed, _, integration, _ = await self._looked()
        if any((each.country_code, each.party_id) == self._key.party for each in integration.partner_company_details):
            return Look(viewed, None, None)  # The partner itself.
        named = [each.country_code + each.party_id for each in integration.parties]
        hubs = await hubs_among(self._database, self._claim.tenant_id, named)
        at = (self._database, self._claim.tenant_id, self._key, hubs)
        seen = connected(self._key, await hub_client_statuses(*at, without=integration.id))
        return Look(viewed, seen, hub_client_shown(seen, viewed.parsed(HubClient) if viewed else None))

    async def _put(
        self, seen: Shown, shown: Shown, tariffs: Collection[ObjectKey] = (), on: Connection | None = None
    ) -> str:
        """Raises LeaseLost."""
        what = (self._claim.object_kind, self._key, _document(shown), tariffs)
        await view_put(on or self._database, self._claim, *what, shown=seen is not None)
        return _outcome(seen, changed=True)

    async def _location_of(self, session: Session) -> Location | None:
        try:
            key = ObjectKey.of(session.country_code, session.party_id, session.location_id)
            return Location.FromString(await location_get(self._database, self._claim.tenant_id, key))
        except ResourceNotFound:
            return None

    async def _looked(self) -> Looked:
        return await view_look(self._database, self._claim.peer_key)

    async def _seen_location(self, now: datetime) -> Location | None:
        try:
            location = Location.FromString(await location_get(self._database, self._claim.tenant_id, self._key))
        except ResourceNotFound:
            return None
        publication = await self._publication(now)
        return await seen_location(publication, Ended(self._database, self._at[0], publication.at), location)

    async def _seen_tariff(self, now: datetime) -> Tariff | None:
        if (tariff := await self._ours(self._key)) is None:
            return None
        sees, _ = await sees_tariff(self._database, self._claim.tenant_id, await self._publication(now), tariff)
        return tariff if sees or await view_names(self._database, *self._at, self._key) else None

    async def _seen_token(self, integration: Integration) -> Token | None:
        if self._key.party not in {PartyKey(each.country_code, each.party_id) for each in integration.parties}:
            return None
        try:
            return Token.FromString(await token_get(self._database, self._claim.tenant_id, self._key))
        except ResourceNotFound:
            return None

    async def _ours(self, key: ObjectKey) -> Tariff | None:
        try:
            tariff = Tariff.FromString(await tariff_get(self._database, self._claim.tenant_id, key))
        except ResourceNotFound:
            return None
        return None if tariff.origin.integration_id == self._claim.integration_id else tariff

    async def _publication(self, now: datetime) -> Publication:
        return await publication_at(self._database, *self._at, timestamp_of(now + self._clock.ahead))


_LOOKS: Final[Mapping[ObjectKind.ValueType, Callable[[_View], Awaitable[Look]]]] = {
    OBJECT_KIND_TARIFF: _View._tariff,
    OBJECT_KIND_LOCATION: _View._location,
    OBJECT_KIND_TOKEN: _View._token,
    OBJECT_KIND_SESSION: _View._session,
    OBJECT_KIND_CDR: _View._cdr,
    OBJECT_KIND_HUB_CLIENT: _View._hub_client,
    OBJECT_KIND_INVOICE_RECONCILIATION_RECORD: _View._invoice_reconciliation,
}
VIEWED: Final[Collection[ObjectKind.ValueType]] = frozenset(_LOOKS)


def _addressed(integration: Integration, payload: bytes | None, form: type[C]) -> C | None:
    """A session or a CDR that goes through the integration."""
    if payload is None:
        return None
    charged = form.FromString(payload)
    recipient = Recipient("".join(token_party(charged)), charged.recipient_integration_id)
    return charged if recipient.is_through(integration.id, token_parties(integration)) else None


def _is_same(viewed: Viewed | None, shown: Shown, seen: Shown) -> bool:
    if viewed is None:
        return shown is None
    return viewed.shown == (seen is not None) and viewed.document == _document(shown)


def _outcome(seen: Shown, *, changed: bool) -> str:
    if seen is None:
        return "the partner does not see it any more" if changed else "the partner does not see it"
    return "the partner sees its new state" if changed else "the partner sees this state already"


def _document(shown: Shown) -> bytes | None:
    return shown.SerializeToString(deterministic=True) if shown else None


def _named(location: Location | None) -> set[ObjectKey]:
    return {key for _, key in tariffs_named(location)} if location else set()

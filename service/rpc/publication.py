"""evbridge.v1.PublicationService, and `publish_to` of the objects that are published."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from typing import NamedTuple
from uuid import uuid4

from evbridge.v1.delivery_pb2 import OBJECT_KIND_LOCATION, OBJECT_KIND_TARIFF
from evbridge.v1.location_pb2 import ListLocationsRequest, Location
from evbridge.v1.publication_pb2 import (
    HIDDEN_REASON_RULES,
    CreatePublicationRuleRequest,
    DeletePublicationRuleRequest,
    GetPartnerViewRequest,
    GetPublicationRuleRequest,
    ListPartnerLocationsRequest,
    ListPartnerTariffsRequest,
    ListPublicationRulesRequest,
    PartnerView,
    PublicationImpact,
    PublicationRule,
    PublicationRuleChange,
    UpdatePublicationRuleRequest,
)
from evbridge.v1.tariff_pb2 import ListTariffsRequest, Tariff
from google.protobuf.timestamp_pb2 import Timestamp

from service.domain.caller import Caller
from service.domain.keys import key_of
from service.domain.pages import MAX_BYTES, key_before, list_response, page_response, page_size
from service.domain.publication import (
    EVERYONE,
    ImpactCount,
    Publication,
    Viewer,
    affected,
    later,
    locations_named,
    tariffs_named,
)
from service.errors import InvalidPageToken
from service.resources.mutation import delete, mutate, put_one
from service.resources.noun import Upsert
from service.resources.publication import (
    BATCH,
    Ended,
    Rules,
    check_room,
    hold,
    publication_at,
    seen_location,
    sees_tariff,
    timestamp_of,
)
from service.storage.connection import Connection
from service.storage.integration import integration_takes
from service.storage.keyring import Keyring
from service.storage.location import location_get, location_page
from service.storage.pool import Database
from service.storage.publication import (
    mark_affected,
    rule_get,
    rule_page,
    rules_all,
    rules_hold,
    rules_viewer,
)
from service.storage.tariff import tariff_get, tariff_page

_MAX_LOOKED = 2_000
_PLACE = re.compile("([a-z0-9-]*)/([0-9]{1,7})/([a-z0-9-]*)")


class _Change(NamedTuple):
    """The rules of an integration before and after, and when they are to be compared."""

    before: dict[str, PublicationRule]
    after: dict[str, PublicationRule]
    rule: PublicationRule | None
    at: Timestamp
    viewer: Viewer


class _Judged(NamedTuple):
    """An object's key, what the partner sees of it (serialized; empty for nothing), how many were looked at to know."""

    key: str
    seen: bytes
    looked: int


_ListRequest = ListPartnerLocationsRequest | ListPartnerTariffsRequest
_ChangeRequest = CreatePublicationRuleRequest | UpdatePublicationRuleRequest | DeletePublicationRuleRequest
_ViewRequest = GetPartnerViewRequest | _ListRequest


class PublicationService:
    def __init__(self, database: Database, keyring: Keyring) -> None:
        self._database = database
        self._keyring = keyring

    async def CreatePublicationRule(self, request: CreatePublicationRuleRequest, caller: Caller) -> bytes:
        async def work(conn: Connection, now: datetime) -> _Change:
            sent = request.rule
            sent.id = sent.id or f"rule-{uuid4().hex[:8]}"
            await hold(conn, caller, sent.integration_id, "rule.integration_id")
            rules = await rules_all(conn, caller.tenant_id, sent.integration_id)
            if sent.id not in rules:
                check_room(sent.integration_id, len(rules))
            rule = await put_one(conn, caller, now, Upsert(Rules(rules.values()), sent, "rule", may_exist=False))
            return await _changed(conn, caller, now, rules, {**rules, rule.id: rule}, rule.id)

        return await self._change(request, caller, work)

    async def GetPublicationRule(self, request: GetPublicationRuleRequest, caller: Caller) -> bytes:
        return await rule_get(self._database, caller.tenant_id, request.integration_id, request.id)

    async def ListPublicationRules(self, request: ListPublicationRulesRequest, caller: Caller) -> bytes:
        size = page_size(request.page_size)
        rows = await rule_page(
            self._database, caller.tenant_id, request.integration_id, _place_before(request), size + 1
        )
        return list_response(request, [("/".join(map(str, place)), payload) for place, payload in rows], size)

    async def UpdatePublicationRule(self, request: UpdatePublicationRuleRequest, caller: Caller) -> bytes:
        async def work(conn: Connection, now: datetime) -> _Change:
            sent, mask = request.rule, [*request.update_mask.paths]
            rules = await self._held(conn, caller, sent.integration_id)
            upsert = Upsert(Rules(rules.values()), sent, "rule", may_be_missing=False, mask=mask)
            rule = await put_one(conn, caller, now, upsert)
            return await _changed(conn, caller, now, rules, {**rules, rule.id: rule}, rule.id)

        return await self._change(request, caller, work)

    async def DeletePublicationRule(self, request: DeletePublicationRuleRequest, caller: Caller) -> bytes:
        async def work(conn: Connection, now: datetime) -> _Change:
            rules = await self._held(conn, caller, request.integration_id)
            name = f"{request.integration_id}/{request.id}"
            await delete(conn, caller, Rules(rules.values()), name, request)
            others = {id: rule for id, rule in rules.items() if id != request.id}
            return await _changed(conn, caller, now, rules, others, request.id)

        return await self._change(request, caller, work)

    async def GetPartnerView(self, request: GetPartnerViewRequest, caller: Caller) -> PartnerView:
        publication = await self._publication(request, caller)
        if request.HasField("location"):
            payload = await location_get(self._database, caller.tenant_id, key_of(request.location))
            location = Location.FromString(payload)
            seen = await seen_location(publication, Ended(self._database, caller.tenant_id, publication.at), location)
            return PartnerView(location=seen) if seen else _hidden(publication, location)
        tariff = Tariff.FromString(await tariff_get(self._database, caller.tenant_id, key_of(request.tariff)))
        sees, _ = await sees_tariff(self._database, caller.tenant_id, publication, tariff)
        return PartnerView(tariff=tariff) if sees else _hidden(publication, tariff)

    async def ListPartnerLocations(self, request: ListPartnerLocationsRequest, caller: Caller) -> bytes:
        publication = await self._publication(request, caller)

        ended = Ended(self._database, caller.tenant_id, publication.at)

        async def judged() -> AsyncIterator[_Judged]:
            async for key, location in self._locations(caller, key_before(request)):
                seen = await seen_location(publication, ended, location)
                yield _Judged(key, seen.SerializeToString() if seen else b"", 1)

        return await _page(request, judged())

    async def ListPartnerTariffs(self, request: ListPartnerTariffsRequest, caller: Caller) -> bytes:
        publication = await self._publication(request, caller)

        async def judged() -> AsyncIterator[_Judged]:
            after = key_before(request)
            while rows := await tariff_page(self._database, caller.tenant_id, ListTariffsRequest(), after, BATCH):
                for after, payload in rows:
                    tariff = Tariff.FromString(payload)
                    sees, looked = await sees_tariff(self._database, caller.tenant_id, publication, tariff)
                    yield _Judged(after, payload if sees else b"", 1 + looked)

        return await _page(request, judged())

    async def _publication(self, request: _ViewRequest, caller: Caller) -> Publication:
        """What the partner sees at the instant that is asked for. Raises ResourceNotFound for no integration."""
        at = request.at if request.HasField("at") else None
        return await publication_at(self._database, caller.tenant_id, request.integration_id, at)

    async def _locations(self, caller: Caller, after: str = "") -> AsyncIterator[tuple[str, Location]]:
        """(key, location) of all after the key `after`, in their order."""
        while rows := await location_page(self._database, caller.tenant_id, ListLocationsRequest(), after, BATCH):
            for after, payload in rows:
                yield after, Location.FromString(payload)

    async def _held(self, conn: Connection, caller: Caller, integration_id: str) -> dict[str, PublicationRule]:
        """The rules of an integration by their ids, kept from other writers; none when there is no integration."""
        await rules_hold(conn, caller.tenant_id, integration_id)
        return await rules_all(conn, caller.tenant_id, integration_id)

    async def _change(
        self, request: _ChangeRequest, caller: Caller, work: Callable[[Connection, datetime], Awaitable[_Change]]
    ) -> bytes:
        """Makes the change; a rehearsal counts afterwards what it would do, when nothing is held any more."""
        made: list[_Change] = []

        async def change(conn: Connection, now: datetime) -> PublicationRuleChange:
            made.append(await work(conn, now))
            return PublicationRuleChange(rule=made[0].rule, notices=await _notices(conn, caller, made[0]))

        answer = await mutate(self._database, self._keyring, request, caller, change)
        if request.validate_only:
            impact = await self._impact(caller, made[0])
            answer += PublicationRuleChange(impact=impact).SerializeToString()
        return answer

    async def _impact(self, caller: Caller, change: _Change) -> PublicationImpact:
        before, after = (
            Publication(rules.values(), change.at, change.viewer) for rules in (change.before, change.after)
        )
        count = ImpactCount(before, after)
        async for _, location in self._locations(caller):
            count.add(location)
        return count.impact()


def _hidden(publication: Publication, object: Location | Tariff) -> PartnerView:
    return PartnerView(hidden_reason=publication.barred(object) or HIDDEN_REASON_RULES)


async def _notices(conn: Connection, caller: Caller, change: _Change) -> list[str]:
    """What a person should know who made the rule."""
    rule, notices = change.rule, []
    if rule is None:
        return []
    takes = await integration_takes(conn, caller.tenant_id, rule.integration_id)
    if not {OBJECT_KIND_LOCATION, OBJECT_KIND_TARIFF}.intersection(takes):
        notices.append(
            "neither locations nor tariffs are delivered through this integration: the rule counts for what "
            "GetPartnerView, ListPartnerLocations and ListPartnerTariffs show"
        )
    named = {key.party for _, key in (*locations_named(rule), *tariffs_named(rule))}
    if others := sorted(party for party in named if not change.viewer.meets(party)):
        more = f" and {len(others) - 10} others" if len(others) > 10 else ""
        notices.append(
            f"the rule names objects of {', '.join(map(str, others[:10]))}{more}, which the partner does not see: the "
            "integration does not speak for their parties (see its `parties`)"
        )
    return notices


async def _changed(
    conn: Connection,
    caller: Caller,
    now: datetime,
    before: dict[str, PublicationRule],
    after: dict[str, PublicationRule],
    id: str,
) -> _Change:
    """Makes due what the change of one rule may concern, and says what changed."""
    versions = [rules[id] for rules in (before, after) if id in rules]
    at = later(timestamp_of(now), versions[-1].valid_from) if versions else timestamp_of(now)
    if before != after:
        integration_id = versions[0].integration_id
        await mark_affected(conn, caller.tenant_id, integration_id, affected(versions, after.values()))
    viewer = EVERYONE
    if versions:
        viewer = await rules_viewer(conn, caller.tenant_id, versions[0].integration_id)
    return _Change(before, after, after.get(id), at, viewer)


async def _page(request: _ListRequest, judged: AsyncIterator[_Judged]) -> bytes:
    """A list response with what is seen. It ends when the page is full, or after looking at enough."""
    size, looked, length = page_size(request.page_size), 0, 0
    seen: list[bytes] = []
    async for key, payload, cost in judged:
        looked += cost
        if payload:
            seen.append(payload)
            length += len(payload)
        if len(seen) == size or looked >= _MAX_LOOKED or length >= MAX_BYTES:
            return page_response(request, seen, key)
    return page_response(request, seen, "")


def _place_before(request: ListPublicationRulesRequest) -> tuple[str, int, str]:
    """The place of the last rule of the page before: integration, priority, id. Raises InvalidPageToken."""
    place = _PLACE.fullmatch(key_before(request) or "/0/")
    if not place:
        raise InvalidPageToken("the page token is damaged")
    integration_id, priority, id = place.groups()
    return integration_id, int(priority), id

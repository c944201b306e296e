"""evbridge.v1.PublicationService, and `publish_to` of the objects that are published."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from typing import NamedTuple
from uuid import uuid4

from evbridge.v1.delivery_pb2 import OBJECT_KIND_LOCATION, OBJECT_KIND_PUBLICATION_RULE, OBJECT_KIND_TARIFF
from evbridge.v1.location_pb2 import ListLocationsRequest, Location
from evbridge.v1.publication_pb2 import (
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
from service.domain.content import etag_of
from service.domain.fields import clear_output_only
from service.domain.keys import ObjectKey, key_of
from service.domain.masks import merged
from service.domain.pages import MAX_BYTES, key_before, list_response, page_response, page_size
from service.domain.publication import (
    ImpactCount,
    Publication,
    affected,
    later,
    locations_named,
    tariffs_named,
)
from service.domain.validation import validate
from service.domain.versions import check_etag
from service.errors import FieldViolation, InvalidPageToken, ResourceExists, ResourceNotFound
from service.resources.mutation import Mutation, mutate
from service.resources.objects import dangling
from service.resources.publication import (
    BATCH,
    NOUN,
    check_room,
    hold,
    name_of,
    publication_at,
    rule_store,
    sees_tariff,
    timestamp_of,
)
from service.storage.changes import DELETE, change_record
from service.storage.connection import Connection
from service.storage.integration import integration_takes
from service.storage.keyring import Keyring
from service.storage.location import location_get, location_known, location_page
from service.storage.pool import Database
from service.storage.publication import (
    mark_affected,
    rule_delete,
    rule_get,
    rule_page,
    rules_all,
    rules_hold,
)
from service.storage.tariff import tariff_get, tariff_page, tariffs_hold

_MAX_LOOKED = 2_000
_PLACE = re.compile("([a-z0-9-]*)/([0-9]{1,7})/([a-z0-9-]*)")


class _Change(NamedTuple):
    """The rules of an integration before and after, and when they are to be compared."""

    before: dict[str, PublicationRule]
    after: dict[str, PublicationRule]
    rule: PublicationRule | None
    at: Timestamp


class _Judged(NamedTuple):
    """An object's key, what the partner sees of it (serialized; empty for nothing), how many were looked at to know."""

    key: str
    seen: bytes
    looked: int


_ListRequest = ListPartnerLocationsRequest | ListPartnerTariffsRequest
_ViewRequest = GetPartnerViewRequest | _ListRequest


class PublicationService:
    def __init__(self, database: Database, keyring: Keyring) -> None:
        self._database = database
        self._keyring = keyring

    async def CreatePublicationRule(self, request: CreatePublicationRuleRequest, caller: Caller) -> bytes:
        async def work(conn: Connection, now: datetime) -> _Change:
            rule = _cleaned(request.rule)
            rule.id = rule.id or f"rule-{uuid4().hex[:8]}"
            check_etag(rule.etag, "", NOUN, name_of(rule))
            await hold(conn, caller, rule.integration_id, "rule.integration_id")
            rules = await rules_all(conn, caller.tenant_id, rule.integration_id)
            if rule.id in rules:
                raise ResourceExists(f"rule {name_of(rule)} exists already", resource=NOUN, id=name_of(rule))
            check_room(rule.integration_id, len(rules))
            await _check_references(conn, caller, rule, PublicationRule())
            await rule_store(conn, caller, now, rule, None)
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
            sent = request.rule
            await rules_hold(conn, caller.tenant_id, sent.integration_id)
            rules = await rules_all(conn, caller.tenant_id, sent.integration_id)
            stored = rules.get(sent.id)
            if stored is None:
                raise ResourceNotFound.of(NOUN, name_of(sent))
            check_etag(sent.etag, stored.etag, NOUN, name_of(sent))
            wanted = merged(stored, sent, request.update_mask.paths)
            wanted.integration_id, wanted.id = stored.integration_id, stored.id
            validate(wanted, prefix="rule.")
            rule = _cleaned(wanted)
            await _check_references(conn, caller, rule, stored)
            if etag_of(rule) == stored.etag:
                rule = stored
            else:
                await rule_store(conn, caller, now, rule, stored)
            return await _changed(conn, caller, now, rules, {**rules, rule.id: rule}, rule.id)

        return await self._change(request, caller, work)

    async def DeletePublicationRule(self, request: DeletePublicationRuleRequest, caller: Caller) -> bytes:
        async def work(conn: Connection, now: datetime) -> _Change:
            name = (request.integration_id, request.id)
            await rules_hold(conn, caller.tenant_id, request.integration_id)
            rules = await rules_all(conn, caller.tenant_id, request.integration_id)
            stored = rules.get(request.id)
            if stored is None:
                if request.allow_missing:
                    return await _changed(conn, caller, now, rules, rules, request.id)
                raise ResourceNotFound.of(NOUN, "/".join(name))
            check_etag(request.etag, stored.etag, NOUN, name_of(stored))
            await rule_delete(conn, caller.tenant_id, *name)
            await change_record(conn, caller, OBJECT_KIND_PUBLICATION_RULE, name_of(stored), DELETE, stored.etag)
            others = {id: rule for id, rule in rules.items() if id != stored.id}
            return await _changed(conn, caller, now, rules, others, stored.id)

        return await self._change(request, caller, work)

    async def GetPartnerView(self, request: GetPartnerViewRequest, caller: Caller) -> PartnerView:
        publication = await self._publication(request, caller)
        if request.HasField("location"):
            payload = await location_get(self._database, caller.tenant_id, key_of(request.location))
            return PartnerView(location=publication.location(Location.FromString(payload)))
        key = key_of(request.tariff)
        payload = await tariff_get(self._database, caller.tenant_id, key)
        sees, _ = await sees_tariff(self._database, caller.tenant_id, publication, key)
        return PartnerView(tariff=Tariff.FromString(payload) if sees else None)

    async def ListPartnerLocations(self, request: ListPartnerLocationsRequest, caller: Caller) -> bytes:
        publication = await self._publication(request, caller)

        async def judged() -> AsyncIterator[_Judged]:
            async for key, location in self._locations(caller, key_before(request)):
                seen = publication.location(location)
                yield _Judged(key, seen.SerializeToString() if seen else b"", 1)

        return await _page(request, judged())

    async def ListPartnerTariffs(self, request: ListPartnerTariffsRequest, caller: Caller) -> bytes:
        publication = await self._publication(request, caller)

        async def judged() -> AsyncIterator[_Judged]:
            after = key_before(request)
            while rows := await tariff_page(self._database, caller.tenant_id, ListTariffsRequest(), after, BATCH):
                for after, payload in rows:
                    sees, looked = await sees_tariff(
                        self._database, caller.tenant_id, publication, ObjectKey.parsed(after)
                    )
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

    async def _change(
        self, request: Mutation, caller: Caller, work: Callable[[Connection, datetime], Awaitable[_Change]]
    ) -> bytes:
        """Makes the change; a rehearsal counts afterwards what it would do, when nothing is held any more."""
        made: list[_Change] = []

        async def change(conn: Connection, now: datetime) -> PublicationRuleChange:
            made.append(await work(conn, now))
            return PublicationRuleChange(rule=made[0].rule, notices=await _notices(conn, caller, made[0].rule))

        answer = await mutate(self._database, self._keyring, request, caller, change)
        if request.validate_only:
            impact = await self._impact(caller, made[0])
            answer += PublicationRuleChange(impact=impact).SerializeToString()
        return answer

    async def _impact(self, caller: Caller, change: _Change) -> PublicationImpact:
        before, after = Publication(change.before.values(), change.at), Publication(change.after.values(), change.at)
        count = ImpactCount(before, after)
        async for _, location in self._locations(caller):
            count.add(location)
        return count.impact()


async def _notices(conn: Connection, caller: Caller, rule: PublicationRule | None) -> list[str]:
    """What a person should know who made the rule."""
    if rule is None:
        return []
    takes = await integration_takes(conn, caller.tenant_id, rule.integration_id)
    if {OBJECT_KIND_LOCATION, OBJECT_KIND_TARIFF}.intersection(takes):
        return []
    return [
        "neither locations nor tariffs are delivered through this integration: the rule counts for what "
        "GetPartnerView, ListPartnerLocations and ListPartnerTariffs show"
    ]


async def _check_references(conn: Connection, caller: Caller, rule: PublicationRule, before: PublicationRule) -> None:
    """Raises ReferenceNotFound unless the locations and tariffs exist that it names and `before` does not.

    The tariffs cannot be deleted until the transaction ends.
    """
    for resource, named, exist in (
        ("location", locations_named, location_known),
        ("tariff", tariffs_named, tariffs_hold),
    ):
        known = {key for _, key in named(before)}
        new = [(path, key) for path, key in named(rule) if key not in known]
        found = await exist(conn, caller.tenant_id, {key for _, key in new}) if new else set()
        if missing := [(path, key) for path, key in new if key not in found]:
            violations = tuple(FieldViolation(f"rule.{path}", f"is no {resource} of the tenant") for path, _ in missing)
            raise dangling(resource, missing[0][1].shown, violations)


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
    return _Change(before, after, after.get(id), at)


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


def _cleaned(sent: PublicationRule) -> PublicationRule:
    """A copy without what only we may set, and without fields that we do not know."""
    rule = PublicationRule()
    rule.CopyFrom(sent)
    rule.DiscardUnknownFields()
    clear_output_only(rule)
    return rule


def _place_before(request: ListPublicationRulesRequest) -> tuple[str, int, str]:
    """The place of the last rule of the page before: integration, priority, id. Raises InvalidPageToken."""
    place = _PLACE.fullmatch(key_before(request) or "/0/")
    if not place:
        raise InvalidPageToken("the page token is damaged")
    integration_id, priority, id = place.groups()
    return integration_id, int(priority), id

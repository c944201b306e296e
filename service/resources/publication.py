"""Rules of publication: how they are stored, `publish_to`, and what a partner sees."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from uuid import uuid4

from evbridge.v1.delivery_pb2 import OBJECT_KIND_LOCATION, OBJECT_KIND_PUBLICATION_RULE, OBJECT_KIND_TARIFF
from evbridge.v1.location_pb2 import Location
from evbridge.v1.publication_pb2 import PUBLICATION_EFFECT_VISIBLE, PublicationRule
from evbridge.v1.tariff_pb2 import Tariff
from google.protobuf.timestamp_pb2 import Timestamp

from service.domain.caller import Caller
from service.domain.keys import ObjectKey, PartyKey, key_of
from service.domain.location import tariffs_named as tariffs_of
from service.domain.location import unname
from service.domain.publication import MAX_RULES, Publication, locations_named, tariffs_named
from service.domain.tariff import first_together, has_ended
from service.errors import EvbridgeError, FieldViolation, InvalidArgument, TooManyRules
from service.resources.mutation import store
from service.resources.noun import Noun, Pending, dangling
from service.resources.objects import active_together
from service.storage.connection import Connection
from service.storage.location import location_known, location_naming
from service.storage.pool import Database
from service.storage.publication import (
    rule_count,
    rule_delete,
    rule_growing,
    rule_put,
    rules_hold,
    rules_now,
    rules_viewer,
)
from service.storage.tariff import tariff_find, tariffs_hold, tariffs_share

NOUN = "publication_rule"


_LAST = 1_000_000  # the priority of what publish_to makes


BATCH = 200  # so many locations are judged without a pause, a few milliseconds


class Rules(Noun[PublicationRule]):
    """Those of one integration, which are held already: those that are there are given."""

    noun = NOUN
    kind = OBJECT_KIND_PUBLICATION_RULE

    def __init__(self, there: Iterable[PublicationRule]) -> None:
        self._there = {name_of(rule): rule for rule in there}

    def key_of(self, sent: PublicationRule) -> str:
        return name_of(sent)

    async def lock(
        self, conn: Connection, tenant_id: str, keys: Collection[str]
    ) -> Mapping[str, PublicationRule | None]:
        return self._there

    async def write(
        self,
        conn: Connection,
        tenant_id: str,
        objects: Sequence[PublicationRule],
        locked: Mapping[str, PublicationRule | None],
    ) -> None:
        for rule in objects:
            await rule_put(conn, tenant_id, rule)

    async def remove(self, conn: Connection, tenant_id: str, key: str) -> None:
        await rule_delete(conn, tenant_id, *key.split("/"))

    async def refused(
        self, conn: Connection, tenant_id: str, pending: Mapping[str, Pending[PublicationRule]]
    ) -> Mapping[str, EvbridgeError]:
        """Those that name a location or a tariff that does not exist, and did not before.

        And those that newly assign two tariffs of one type which hold at the same time. The tariffs cannot be deleted
        until the transaction ends.
        """
        refused: dict[str, EvbridgeError] = {}
        for name, (path, rule, before, _) in pending.items():
            for resource, named, exist in (
                ("location", locations_named, location_known),
                ("tariff", tariffs_named, tariffs_hold),
            ):
                known = {key for _, key in named(before or PublicationRule())}
                new = [(place, key) for place, key in named(rule) if key not in known]
                found = await exist(conn, tenant_id, {key for _, key in new}) if new else set()
                if missing := [(place, key) for place, key in new if key not in found or key.integration_id]:
                    words = f"is no {resource} of the tenant"
                    violations = tuple(FieldViolation(f"{path}.{place}", words) for place, _ in missing)
                    refused.setdefault(name, dangling(resource, missing[0][1].shown, violations))
            if name not in refused and (pair := await _assigned_together(conn, tenant_id, rule, before)):
                refused[name] = active_together(f"{path}.assigned_tariffs", *pair)
        return refused


async def _assigned_together(
    conn: Connection, tenant_id: str, rule: PublicationRule, before: PublicationRule | None
) -> tuple[Tariff, Tariff] | None:
    """Two tariffs of one party that the rule newly assigns to the same connectors and that hold at the same time."""
    assigned = {*map(key_of, rule.assigned_tariffs)}
    if len(assigned) < 2 or (before and assigned == {*map(key_of, before.assigned_tariffs)}):
        return None
    by_party: dict[PartyKey, list[Tariff]] = {}
    for key, tariff in (await tariffs_share(conn, tenant_id, assigned)).items():
        by_party.setdefault(key.party, []).append(tariff)
    return next(filter(None, map(first_together, by_party.values())), None)


async def publication_at(
    database: Database, tenant_id: str, integration_id: str, at: Timestamp | None = None
) -> Publication:
    """What the partner sees at that instant, or now. Raises ResourceNotFound for no integration."""
    rules, viewer, now = await rules_now(database, tenant_id, integration_id)
    return Publication(rules, at or timestamp_of(now), viewer)


class Ended:
    """Which tariffs of a tenant have ended by an instant. Each is looked up once."""

    def __init__(self, database: Database, tenant_id: str, at: Timestamp) -> None:
        self._database = database
        self._tenant_id = tenant_id
        self._at = at.ToDatetime(UTC)
        self._known: dict[ObjectKey, bool] = {}

    async def among(self, keys: Collection[ObjectKey]) -> set[ObjectKey]:
        if new := [key for key in keys if key not in self._known]:
            found = await tariff_find(self._database, self._tenant_id, new)
            for key in new:
                self._known[key] = key in found and has_ended(Tariff.FromString(found[key]), self._at)
        return {key for key in keys if self._known[key]}


async def seen_location(publication: Publication, ended: Ended, location: Location) -> Location | None:
    """The location as the partner sees it; None when it does not. No connector names a tariff that has ended."""
    seen = publication.location(location)
    if seen and (gone := await ended.among({key for _, key in tariffs_of(seen)})):
        unname(seen, gone)
    return seen


async def sees_tariff(database: Database, tenant_id: str, publication: Publication, tariff: Tariff) -> tuple[bool, int]:
    """Whether the partner sees the tariff, and how many locations were looked at to know. None sees one that ended."""
    if publication.barred(tariff):
        return False, 0
    key = key_of(tariff)
    named = publication.tariff(key)
    if named is not None:
        return named, 0
    after, looked = "", 0
    while rows := await location_naming(database, tenant_id, key, after, BATCH):
        for _, payload in rows:
            looked += 1
            if publication.shows(Location.FromString(payload), key):
                return True, looked
        after = rows[-1][0]
    return False, looked


async def publish(
    conn: Connection, caller: Caller, now: datetime, integration_ids: Sequence[str], published: Location | Tariff
) -> None:
    """Makes an object visible to integrations, in a rule of each that grows.

    Raises ReferenceNotFound for an integration that does not exist, InvalidArgument for one that does not speak for the
    object's party, TooManyRules when one has no room for a new rule.
    """
    party = PartyKey(published.country_code, published.party_id)
    kind = OBJECT_KIND_TARIFF if isinstance(published, Tariff) else OBJECT_KIND_LOCATION
    # In one order, so that two calls wait for each other and never for themselves.
    for number, integration_id in sorted(enumerate(integration_ids), key=lambda each: each[1]):
        path = f"publish_to[{number}]"
        await hold(conn, caller, integration_id, path)
        if not (await rules_viewer(conn, caller.tenant_id, integration_id)).meets(party):
            raise InvalidArgument.field(path, f"does not speak for {party}: add the party to its `parties` first")
        before = await rule_growing(conn, caller.tenant_id, integration_id, kind)
        rule = PublicationRule()
        if before:
            rule.CopyFrom(before)
        else:
            check_room(integration_id, await rule_count(conn, caller.tenant_id, integration_id))
            rule.integration_id, rule.id = integration_id, f"publish-to-{uuid4().hex[:16]}"
            rule.priority, rule.effect, rule.from_publish_to = _LAST, PUBLICATION_EFFECT_VISIBLE, True
        named = rule.tariffs.keys if kind == OBJECT_KIND_TARIFF else rule.connectors.locations
        named.add(country_code=published.country_code, party_id=published.party_id, id=published.id)
        rules, name = Rules([before] if before else []), name_of(rule)
        pending = {name: Pending("publish_to", rule, before)}
        await store(conn, caller, now, rules, pending, await rules.lock(conn, caller.tenant_id, [name]))


async def hold(conn: Connection, caller: Caller, integration_id: str, path: str) -> None:
    """Keeps other writers from the rules of an integration. Raises ReferenceNotFound."""
    if not await rules_hold(conn, caller.tenant_id, integration_id):
        violation = FieldViolation(path, "is not an integration of the tenant")
        raise dangling("integration", integration_id, (violation,))


def check_room(integration_id: str, rules: int) -> None:
    """Raises TooManyRules when there is none for another."""
    if rules >= MAX_RULES:
        raise TooManyRules(
            f"integration {integration_id} already has {rules} publication rules",
            integration_id=integration_id,
            limit=str(MAX_RULES),
        )


def name_of(rule: PublicationRule) -> str:
    return f"{rule.integration_id}/{rule.id}"


def timestamp_of(time: datetime) -> Timestamp:
    timestamp = Timestamp()
    timestamp.FromDatetime(time)
    return timestamp

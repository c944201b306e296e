"""Rules of publication: how they are stored, `publish_to`, and what a partner sees."""

from collections.abc import Sequence
from datetime import datetime
from uuid import uuid4

from evbridge.v1.delivery_pb2 import OBJECT_KIND_LOCATION, OBJECT_KIND_PUBLICATION_RULE, OBJECT_KIND_TARIFF
from evbridge.v1.location_pb2 import Location
from evbridge.v1.publication_pb2 import PUBLICATION_EFFECT_VISIBLE, PublicationRule
from evbridge.v1.tariff_pb2 import Tariff
from google.protobuf.timestamp_pb2 import Timestamp

from service.domain.caller import Caller
from service.domain.content import etag_of
from service.domain.keys import ObjectKey
from service.domain.publication import MAX_RULES, Publication
from service.domain.versions import time_after
from service.errors import FieldViolation, TooManyRules
from service.resources.objects import dangling
from service.storage.changes import CREATE, UPDATE, change_record
from service.storage.connection import Connection
from service.storage.location import location_naming
from service.storage.pool import Database
from service.storage.publication import rule_count, rule_growing, rule_put, rules_hold, rules_now

NOUN = "publication_rule"


_LAST = 1_000_000  # the priority of what publish_to makes


BATCH = 200  # so many locations are judged without a pause, a few milliseconds


async def publication_at(
    database: Database, tenant_id: str, integration_id: str, at: Timestamp | None = None
) -> Publication:
    """What the partner sees at that instant, or now. Raises ResourceNotFound for no integration."""
    rules, now = await rules_now(database, tenant_id, integration_id)
    return Publication(rules, at or timestamp_of(now))


async def sees_tariff(
    database: Database, tenant_id: str, publication: Publication, tariff: ObjectKey
) -> tuple[bool, int]:
    """Whether the partner sees the tariff, and how many locations were looked at to know."""
    named = publication.tariff(tariff)
    if named is not None:
        return named, 0
    after, looked = "", 0
    while rows := await location_naming(database, tenant_id, tariff, after, BATCH):
        for _, payload in rows:
            looked += 1
            if publication.shows(Location.FromString(payload), tariff):
                return True, looked
        after = rows[-1][0]
    return False, looked


async def publish(
    conn: Connection, caller: Caller, now: datetime, integration_ids: Sequence[str], published: Location | Tariff
) -> None:
    """Makes an object visible to integrations, in a rule of each that grows.

    Raises ReferenceNotFound for an integration that does not exist, TooManyRules when one has no room for a new rule.
    """
    kind = OBJECT_KIND_TARIFF if isinstance(published, Tariff) else OBJECT_KIND_LOCATION
    # In one order, so that two calls wait for each other and never for themselves.
    for number, integration_id in sorted(enumerate(integration_ids), key=lambda each: each[1]):
        await hold(conn, caller, integration_id, f"publish_to[{number}]")
        before = await rule_growing(conn, caller.tenant_id, integration_id, kind)
        rule = PublicationRule(
            integration_id=integration_id,
            id=f"publish-to-{uuid4().hex[:16]}",
            priority=_LAST,
            effect=PUBLICATION_EFFECT_VISIBLE,
            from_publish_to=True,
        )
        if before:
            rule.CopyFrom(before)
        else:
            check_room(integration_id, await rule_count(conn, caller.tenant_id, integration_id))
        named = rule.tariffs.keys if kind == OBJECT_KIND_TARIFF else rule.connectors.locations
        named.add(country_code=published.country_code, party_id=published.party_id, id=published.id)
        await rule_store(conn, caller, now, rule, before)


async def hold(conn: Connection, caller: Caller, integration_id: str, path: str) -> None:
    """Keeps other writers from the rules of an integration. Raises ReferenceNotFound."""
    if not await rules_hold(conn, caller.tenant_id, integration_id):
        violation = FieldViolation(path, "is no integration of the tenant")
        raise dangling("integration", integration_id, (violation,))


def check_room(integration_id: str, rules: int) -> None:
    """Raises TooManyRules when there is none for another."""
    if rules >= MAX_RULES:
        raise TooManyRules(
            f"integration {integration_id} has {rules} publication rules already",
            integration_id=integration_id,
            limit=str(MAX_RULES),
        )


async def rule_store(
    conn: Connection, caller: Caller, now: datetime, rule: PublicationRule, before: PublicationRule | None
) -> None:
    """Stores a rule with its times and its etag."""
    rule.etag = etag_of(rule)
    rule.create_time.FromDatetime(now)
    rule.update_time.FromDatetime(now)
    if before:
        rule.create_time.CopyFrom(before.create_time)
        rule.update_time.FromDatetime(time_after(before.update_time, now))
    await rule_put(conn, caller.tenant_id, rule)
    operation = UPDATE if before else CREATE
    await change_record(conn, caller, OBJECT_KIND_PUBLICATION_RULE, name_of(rule), operation, rule.etag)


def name_of(rule: PublicationRule) -> str:
    return f"{rule.integration_id}/{rule.id}"


def timestamp_of(time: datetime) -> Timestamp:
    timestamp = Timestamp()
    timestamp.FromDatetime(time)
    return timestamp

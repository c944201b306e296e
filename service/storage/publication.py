"""Publication rules as rows: the serialized message, its place in the order, and the tariffs that it names."""

from collections.abc import Collection
from datetime import datetime

from evbridge.v1.delivery_pb2 import OBJECT_KIND_LOCATION, OBJECT_KIND_TARIFF, ObjectKind
from evbridge.v1.publication_pb2 import PublicationRule

from service.domain.keys import ObjectKey, PartyKey
from service.domain.pages import MAX_BYTES
from service.domain.publication import MAX_NAMED, Affected, Viewer, affected, next_due, tariffs_named
from service.errors import ResourceNotFound
from service.storage.changes import delivery_mark_at
from service.storage.clock import Clock
from service.storage.connection import Connection
from service.storage.marking import mark_all
from service.storage.pool import Database
from service.storage.statements import Statements

sql = Statements.beside(__file__)


async def rule_get(database: Database, tenant_id: str, integration_id: str, id: str) -> bytes:
    """The serialized rule. Raises ResourceNotFound."""
    payload: bytes | None = await database.value(sql.publication_rule_get, tenant_id, integration_id, id)
    if payload is None:
        raise ResourceNotFound.of("publication_rule", f"{integration_id}/{id}")
    return payload


async def rules_now(
    database: Database, tenant_id: str, integration_id: str
) -> tuple[list[PublicationRule], Viewer, datetime]:
    """The rules of an integration, in no order, who sees by them, and the database's time.

    Raises ResourceNotFound for no integration.
    """
    rows = await database.rows(sql.publication_rules_now, tenant_id, integration_id)
    if not rows:
        raise ResourceNotFound.of("integration", integration_id)
    rules = [PublicationRule.FromString(row["payload"]) for row in rows if row["payload"]]
    return rules, _viewer(integration_id, rows[0]["parties"]), rows[0]["now"]


async def rules_hold(conn: Connection, tenant_id: str, integration_id: str) -> bool:
    """Keeps the rules of an integration from other writers until the transaction ends. False when there is none."""
    return await conn.value(sql.publication_hold, tenant_id, integration_id) is not None


async def rules_viewer(conn: Connection, tenant_id: str, integration_id: str) -> Viewer:
    """Who sees by the rules of an integration."""
    return _viewer(integration_id, await conn.value(sql.publication_parties, tenant_id, integration_id) or [])


async def rules_all(conn: Connection, tenant_id: str, integration_id: str) -> dict[str, PublicationRule]:
    """The rules of an integration by their ids."""
    rows = await conn.rows(sql.publication_rules, tenant_id, integration_id)
    return {row["rule_id"]: PublicationRule.FromString(row["payload"]) for row in rows}


async def rule_count(conn: Connection, tenant_id: str, integration_id: str) -> int:
    count: int = await conn.value(sql.publication_rule_count, tenant_id, integration_id)
    return count


async def rule_growing(
    conn: Connection, tenant_id: str, integration_id: str, kind: ObjectKind.ValueType
) -> PublicationRule | None:
    """The rule that publish_to adds objects of this kind to, if there is one with room."""
    payload: bytes | None = await conn.value(sql.publication_rule_growing, tenant_id, integration_id, kind)
    return None if payload is None else PublicationRule.FromString(payload)


async def rule_put(conn: Connection, tenant_id: str, rule: PublicationRule) -> None:
    """Creates or replaces a rule of an integration that is held."""
    await conn.run(
        sql.publication_rule_put,
        tenant_id,
        rule.integration_id,
        rule.id,
        rule.priority,
        sorted({str(key) for _, key in tariffs_named(rule)}),
        _growing(rule),
        rule.etag,
        rule.SerializeToString(),
        next_due(rule, None),
    )


async def rules_due(database: Database, clock: Clock) -> bool:
    """Makes due what a rule that came into force, or ended, may concern. False when there is none."""
    async with database.transaction() as conn:
        now = await clock.now(conn)
        due = await conn.row(sql.publication_due, now)
        if due is None:
            return False
        names = (due["tenant_id"], due["integration_id"])
        await rules_hold(conn, *names)
        rules = await rules_all(conn, *names)
        turned = [rules[row["rule_id"]] for row in await conn.rows(sql.publication_turned, *names, now)]
        await mark_affected(conn, *names, affected(turned, rules.values()))
        for rule in turned:
            await conn.run(sql.publication_due_set, *names, rule.id, next_due(rule, now))
    return True


async def mark_affected(conn: Connection, tenant_id: str, integration_id: str, affected: Affected) -> None:
    """Makes due what a change of rules may concern."""
    for kind, keys in ((OBJECT_KIND_LOCATION, affected.locations), (OBJECT_KIND_TARIFF, affected.tariffs)):
        if keys is None:
            await mark_all(conn, tenant_id, integration_id, kind)
        else:
            await delivery_mark_at(conn, tenant_id, integration_id, kind, keys)


async def rule_delete(conn: Connection, tenant_id: str, integration_id: str, id: str) -> None:
    await conn.run(sql.publication_rule_delete, tenant_id, integration_id, id)


async def rules_naming(conn: Connection, tenant_id: str, tariffs: Collection[ObjectKey]) -> list[PublicationRule]:
    """The rules of all integrations that name one of the tariffs."""
    rows = await conn.rows(sql.publication_rule_naming, tenant_id, [*map(str, tariffs)])
    return [PublicationRule.FromString(row["payload"]) for row in rows]


async def rule_page(
    database: Database, tenant_id: str, integration_id: str, after: tuple[str, int, str], limit: int
) -> list[tuple[tuple[str, int, str], bytes]]:
    """(place, serialized rule) after the place (integration, priority, id), up to `limit` and about 1 MiB."""
    rows = await database.rows(sql.publication_rule_page, tenant_id, *after, integration_id, limit, MAX_BYTES)
    return [((row["integration_id"], row["priority"], row["rule_id"]), row["payload"]) for row in rows]


def _viewer(integration_id: str, parties: list[str]) -> Viewer:
    return Viewer(integration_id, frozenset(PartyKey(party[:2], party[2:]) for party in parties))


def _growing(rule: PublicationRule) -> int:
    """The kind of objects that publish_to may add, 0 for none."""
    named = len(rule.tariffs.keys) + len(rule.connectors.locations)
    if not rule.from_publish_to or named >= MAX_NAMED:
        return 0
    return OBJECT_KIND_TARIFF if rule.HasField("tariffs") else OBJECT_KIND_LOCATION

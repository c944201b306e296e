"""`evbridge status`."""

import argparse
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final

from evbridge.v1.delivery_pb2 import DeliverySummary, ObjectKind
from evbridge.v1.integration_pb2 import Integration
from evbridge.v1.partner_pb2 import BreakerState, OperationClass, PartnerStatus

from service.app import targets_of
from service.cli.common import known_tenant, printable
from service.cli.status.condition import Condition, Urgency, at, conditions, counted
from service.domain.integration import type_name
from service.errors import ResourceNotFound
from service.resources.partner import partner_status
from service.settings import Settings
from service.storage.integration import integration_get
from service.storage.opening import keyring, migrated_url, opened
from service.storage.pool import Database
from service.storage.status import Trouble, failed_runs, troubles
from service.storage.target import IntegrationTargets

_LATE: Final = timedelta(minutes=1)
_INDENT: Final = "\n" + 9 * " "


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tenant", default="", help="only this one (default: all)")
    parser.epilog = (
        "The most urgent first: NOW wants somebody at once, MORNING can wait for office hours, what WAITS goes on by "
        "itself or when its pause is ended."
    )


async def run(settings: Settings, arguments: argparse.Namespace) -> None:
    keys, told = keyring(settings), list[tuple[Urgency, str]]()
    async with migrated_url(settings, brief=True) as url, opened(settings, url) as database:
        if arguments.tenant:
            await known_tenant(database, arguments.tenant)
        targets = targets_of(database, keys)
        for trouble in await troubles(database, _LATE, arguments.tenant):
            with suppress(ResourceNotFound):  # deleted meanwhile
                told.append(await _told(database, targets, trouble))
    counts = Counter(urgency for urgency, _ in told)
    parts = [f"{counts[urgency]} {urgency.name}" for urgency in Urgency if counts[urgency]]
    of = counted(len(told), "integration", "integrations")
    print(f"{of}: {', '.join(parts)}" if told else "there is no integration yet")
    for urgency in Urgency:
        for each, text in told:
            if each is urgency:
                print(f"\n{text}")


async def _told(database: Database, targets: IntegrationTargets, trouble: Trouble) -> tuple[Urgency, str]:
    """How urgent an integration is, and what is said of it. Raises ResourceNotFound."""
    key, now = (trouble.tenant_id, trouble.integration_id), datetime.now(UTC)
    integration = Integration.FromString(await integration_get(database, *key))
    details = list[str]()
    try:
        status = await partner_status(database, await targets.target(*key))
    except ResourceNotFound as missing:  # its platform, for one
        found = [Condition(Urgency.MORNING, f"it cannot be called: {missing.message}")]
    else:
        found = conditions(integration, status, trouble, await failed_runs(database, *key), now)
        details = _details(status, now)
    title = f"{trouble.tenant_id} {integration.id} ({type_name(integration.type)})"
    lines = [line for each in found for line in _lines(each, now)]
    return found[0].urgency, _INDENT.join([f"{found[0].urgency.name:<8} {title}", *lines, *details])


def _lines(condition: Condition, now: datetime) -> list[str]:
    lasting = f", for {_lasting(now - condition.since)}" if condition.since else ""
    advice = [f"to do: {condition.advice}"] if condition.advice else []
    return [f"{printable(condition.what)}{lasting}", *advice]


def _details(status: PartnerStatus, now: datetime) -> list[str]:
    lines = []
    if status.object_kinds:
        kinds = ", ".join(_word(ObjectKind.Name(kind), "OBJECT_KIND_") for kind in status.object_kinds)
        lines += [f"takes {kinds}", _counts(status.deliveries, now)]
    for budget in status.budgets:
        open = budget.HasField("reset_time") and budget.reset_time.ToDatetime(UTC) > now
        left = budget.limit - (budget.used if open else 0)
        lines.append(f"{left} of {budget.limit} requests left in {_lasting(budget.period.ToTimedelta())}")
    for breaker in status.breakers:
        if breaker.failures:
            name = _word(OperationClass.Name(breaker.operation_class), "OPERATION_CLASS_")
            lines.append(f"breaker of {name}s {_word(BreakerState.Name(breaker.state), 'BREAKER_STATE_')}")
    for what, until in (
        ("deliveries wait", status.delivery_resume_time),
        ("the limit is reached", status.limit_reset_time),
    ):
        if until.seconds:
            lines.append(f"{what} until {at(until)}")
    return lines


def _counts(deliveries: DeliverySummary, now: datetime) -> str:
    counts = {
        "pending": deliveries.pending_count,
        "in progress": deliveries.in_progress_count,
        "delivered": deliveries.delivered_count,
        "parked": deliveries.parked_count,
        "discarded": deliveries.discarded_count,
    }
    text = ", ".join(f"{count} {state}" for state, count in counts.items() if count) or "nothing to deliver yet"
    if deliveries.HasField("oldest_pending_time"):
        text += f"; the oldest waits for {_lasting(now - deliveries.oldest_pending_time.ToDatetime(UTC))}"
    if attempts := deliveries.recent_attempt_count:
        text += f"; {deliveries.recent_success_count} of {attempts} attempts of the last hour succeeded"
    return text


def _lasting(time: timedelta) -> str:
    """In the largest unit that it fills: "3 minutes"."""
    seconds = max(0, int(time.total_seconds()))
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1)):
        if seconds >= length or length == 1:
            return counted(seconds // length, unit, f"{unit}s")
    raise AssertionError


def _word(name: str, prefix: str) -> str:
    return name.removeprefix(prefix).lower().replace("_", " ")

"""`evbridge status`."""

import argparse
from datetime import UTC, datetime

from evbridge.v1.delivery_pb2 import DeliverySummary, ObjectKind
from evbridge.v1.integration_pb2 import Integration, IntegrationStatus, ListIntegrationsRequest
from evbridge.v1.partner_pb2 import BreakerState, OperationClass, PartnerStatus
from google.protobuf.timestamp_pb2 import Timestamp

from service.app import targets_of
from service.cli.common import known_tenant, printable
from service.domain.integration import type_name
from service.errors import ResourceNotFound
from service.resources.partner import partner_status
from service.settings import Settings
from service.storage.api_key import api_key_list
from service.storage.integration import integration_page
from service.storage.opening import keyring, migrated_url, opened

_PAGE = 100


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tenant", default="", help="only this one (default: all)")


async def run(settings: Settings, arguments: argparse.Namespace) -> None:
    keys = keyring(settings)
    async with migrated_url(settings, brief=True) as url, opened(settings, url) as database:
        if arguments.tenant:
            await known_tenant(database, arguments.tenant)
        targets = targets_of(database, keys)
        for tenant in sorted({tenant for tenant, _ in await api_key_list(database, arguments.tenant)}):
            after = ""
            while rows := await integration_page(database, tenant, ListIntegrationsRequest(), after, _PAGE):
                for after, payload in rows:
                    integration = Integration.FromString(payload)
                    try:
                        status = await partner_status(database, await targets.target(tenant, after))
                    except ResourceNotFound as missing:  # its platform, for one
                        print(f"{_title(tenant, integration)}\n  cannot be called: {missing.message}")
                        continue
                    print("\n".join(_lines(tenant, integration, status)))


def _title(tenant: str, integration: Integration) -> str:
    state = _word(IntegrationStatus.Name(integration.status), "INTEGRATION_STATUS_")
    why = f": {printable(integration.status_description)}" if integration.status_description else ""
    return f"{tenant} {integration.id} ({type_name(integration.type)}) {state}{why}"


def _lines(tenant: str, integration: Integration, status: PartnerStatus) -> list[str]:
    lines = [_title(tenant, integration)]
    if status.object_kinds:
        kinds = ", ".join(_word(ObjectKind.Name(kind), "OBJECT_KIND_") for kind in status.object_kinds)
        lines += [f"  takes {kinds}", f"  {_counts(status.deliveries)}"]
    for budget in status.budgets:
        open = budget.HasField("reset_time") and budget.reset_time.ToDatetime(UTC) > datetime.now(UTC)
        left = budget.limit - (budget.used if open else 0)
        lines.append(f"  {left} of {budget.limit} requests left in {_lasting(budget.period.seconds)}")
    for breaker in status.breakers:
        if breaker.failures:
            name = _word(OperationClass.Name(breaker.operation_class), "OPERATION_CLASS_")
            lines.append(f"  breaker of {name}s {_word(BreakerState.Name(breaker.state), 'BREAKER_STATE_')}")
    for what, until in (
        ("deliveries wait", status.delivery_resume_time),
        ("the limit is reached", status.limit_reset_time),
    ):
        if until.seconds:
            lines.append(f"  {what} until {until.ToDatetime():%Y-%m-%d %H:%M:%S} UTC")
    return lines


def _counts(deliveries: DeliverySummary) -> str:
    counts = {
        "pending": deliveries.pending_count,
        "in progress": deliveries.in_progress_count,
        "delivered": deliveries.delivered_count,
        "parked": deliveries.parked_count,
        "discarded": deliveries.discarded_count,
    }
    text = ", ".join(f"{count} {state}" for state, count in counts.items() if count) or "nothing to deliver yet"
    if deliveries.HasField("oldest_pending_time"):
        text += f"; the oldest for {_lasting(_age_s(deliveries.oldest_pending_time))}"
    if attempts := deliveries.recent_attempt_count:
        text += f"; {deliveries.recent_success_count} of {attempts} attempts of the last hour succeeded"
    return text


def _age_s(time: Timestamp) -> int:
    return max(0, int((datetime.now(UTC) - time.ToDatetime(UTC)).total_seconds()))


def _lasting(seconds: int) -> str:
    """In the largest unit that it fills: "3 minutes"."""
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1)):
        if seconds >= length or length == 1:
            count = seconds // length
            return f"{count} {unit}{'' if count == 1 else 's'}"
    raise AssertionError


def _word(name: str, prefix: str) -> str:
    return name.removeprefix(prefix).lower().replace("_", " ")

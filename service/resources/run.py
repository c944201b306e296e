"""Runs: which kinds an integration knows, and how one begins."""

from collections.abc import Collection
from contextlib import suppress

from evbridge.options.v1.options_pb2 import ROLE_WRITER
from evbridge.v1.integration_pb2 import Integration, IntegrationType
from evbridge.v1.run_pb2 import RUN_KIND_SYNC, CredentialsOptions, Run, RunKind, SyncOptions

from service.domain.caller import Caller
from service.errors import RunInProgress, RunUnsupported
from service.storage.connection import Connection
from service.storage.integration import integration_lock, integration_replace
from service.storage.notified import notified_begin, notified_is_due
from service.storage.pool import Database
from service.storage.pull import pull_due
from service.storage.run import run_start

Supported = Collection[tuple[RunKind.ValueType, IntegrationType.ValueType]]


def check_supported(supported: Supported, kind: RunKind.ValueType, type: IntegrationType.ValueType) -> None:
    """Raises RunUnsupported unless an integration of the type knows the kind."""
    if (kind, type) not in supported:
        raise RunUnsupported(
            f"an integration of {IntegrationType.Name(type)} knows no {RunKind.Name(kind)}",
            kind=RunKind.Name(kind),
            type=IntegrationType.Name(type),
        )


SCHEDULE = "schedule"
NOTIFICATION = "notification"
"""In the place of the id of the key that asked for a run."""


async def syncs_due(database: Database, supported: Supported) -> bool:
    """Starts a run for one integration whose lists are due. False when there is none."""
    types = [type for kind, type in supported if kind == RUN_KIND_SYNC]
    async with database.transaction() as conn:
        due = await pull_due(conn, types)
        if due is None:
            return False
        tenant_id, integration_id = due
        integration = await integration_lock(conn, tenant_id, integration_id)
        with suppress(RunInProgress):
            await run_begin(conn, Caller(tenant_id, SCHEDULE, ROLE_WRITER), integration, RUN_KIND_SYNC, supported)
    return True


async def notified_due(database: Database, supported: Supported) -> bool:
    """Starts a run for one integration whose partner notified us. False when there is none.

    While another one is under way it waits.
    """
    async with database.transaction() as conn:
        due = await notified_begin(conn)
        if due is None:
            return False
        tenant_id, integration_id, is_noted = due
        if not is_noted:  # all was read by the run before
            return True
        integration = await integration_lock(conn, tenant_id, integration_id)
        caller, options = Caller(tenant_id, NOTIFICATION, ROLE_WRITER), SyncOptions(notified=True)
        try:
            await run_begin(conn, caller, integration, RUN_KIND_SYNC, supported, options)
        except RunInProgress:
            await notified_is_due(conn, tenant_id, integration_id)
    return True


async def run_begin(
    conn: Connection,
    caller: Caller,
    integration: Integration,
    kind: RunKind.ValueType,
    supported: Supported,
    sync_options: SyncOptions | None = None,
    credentials_options: CredentialsOptions | None = None,
) -> Run:
    """Starts a run of an integration that is locked, and names it there. Raises RunUnsupported, RunInProgress."""
    check_supported(supported, kind, integration.type)
    run = await run_start(conn, caller, integration.id, kind, sync_options, credentials_options)
    integration.latest_run_id = run.id
    await integration_replace(conn, caller.tenant_id, integration)
    return run

"""Runs: which kinds an integration knows, and how one begins."""

from collections.abc import Collection

from evbridge.v1.integration_pb2 import Integration, IntegrationType
from evbridge.v1.run_pb2 import CredentialsOptions, Run, RunKind, SyncOptions

from service.domain.caller import Caller
from service.errors import RunUnsupported
from service.storage.connection import Connection
from service.storage.integration import integration_replace
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

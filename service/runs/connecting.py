"""What an exchange with a partner finds out about its integration, and the status while it lasts."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Protocol

from evbridge.v1.integration_pb2 import (
    INTEGRATION_STATUS_ACTIVE,
    INTEGRATION_STATUS_CONNECTING,
    INTEGRATION_STATUS_FAILED,
    INTEGRATION_STATUS_PENDING,
    Integration,
    IntegrationStatus,
)
from evbridge.v1.run_pb2 import RUN_KIND_CREDENTIALS, RUN_KIND_TOKEN_EXCHANGE

from service.errors import EtagMismatch, EvbridgeError, ResourceNotFound
from service.storage.connection import Connection
from service.storage.integration import integration_lock, integration_replace
from service.storage.pool import Database
from service.storage.run import RunClaim, run_hold

_CHANGED = "the integration was changed during the exchange"
_CUT_SHORT = "the exchange was cut short"
_EXCHANGES = frozenset({RUN_KIND_CREDENTIALS, RUN_KIND_TOKEN_EXCHANGE})

Change = Callable[[Integration], None]
Also = Callable[[Connection], Awaitable[None]]


class Find(Protocol):
    async def __call__(self, change: Change, also: Also | None = None) -> None: ...


async def found(database: Database, run: RunClaim, change: Change, also: Also | None = None) -> None:
    """Stores what `change` writes into output-only fields of the run's integration, and does what `also` does with it.

    Raises ResourceNotFound, and LeaseLost when the run is somebody else's by now.
    """
    async with database.transaction() as conn:
        integration = await integration_lock(conn, run.tenant_id, run.integration_id)
        await run_hold(conn, run)
        change(integration)
        await integration_replace(conn, run.tenant_id, integration)
        if also:
            await also(conn)


async def connecting_ended(conn: Connection, run: RunClaim, error: EvbridgeError | None) -> None:
    """Sees that a run that ends leaves no integration CONNECTING, as one whose process died would."""
    if run.kind not in _EXCHANGES:
        return
    with suppress(ResourceNotFound):
        integration = await integration_lock(conn, run.tenant_id, run.integration_id)
        if integration.status == INTEGRATION_STATUS_CONNECTING:
            integration.status = INTEGRATION_STATUS_FAILED if error else INTEGRATION_STATUS_PENDING
            integration.status_description = error.message if error else _CUT_SHORT
            await integration_replace(conn, run.tenant_id, integration)


@asynccontextmanager
async def connecting(database: Database, run: RunClaim) -> AsyncIterator[Find]:
    """CONNECTING while entered, then ACTIVE or FAILED, or PENDING when cut short. A disabled one stays SUSPENDED.

    What is yielded is `found` for this exchange. It raises EtagMismatch once a caller has changed the integration: the
    answers may be another partner's. That leaves the integration PENDING, too.
    """
    begun = ""

    async def set_status(status: IntegrationStatus.ValueType, description: str = "") -> None:
        def change(integration: Integration) -> None:
            nonlocal begun
            begun = begun or integration.etag
            if integration.enabled:
                integration.status, integration.status_description = (
                    (status, description) if integration.etag == begun else (INTEGRATION_STATUS_PENDING, _CHANGED)
                )

        await found(database, run, change)

    async def find(change: Change, also: Also | None = None) -> None:
        def checked(integration: Integration) -> None:
            if integration.etag != begun:
                raise EtagMismatch(_CHANGED)
            change(integration)

        await found(database, run, checked, also)

    await set_status(INTEGRATION_STATUS_CONNECTING)
    status, description = INTEGRATION_STATUS_PENDING, _CUT_SHORT
    try:
        yield find
        status, description = INTEGRATION_STATUS_ACTIVE, ""
    except EvbridgeError as error:
        status, description = INTEGRATION_STATUS_FAILED, error.message
        raise
    finally:
        await set_status(status, description)

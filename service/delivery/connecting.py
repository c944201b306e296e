"""What an exchange with a partner finds out about its integration, and the status that tells how it goes."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from evbridge.v1.integration_pb2 import (
    INTEGRATION_STATUS_ACTIVE,
    INTEGRATION_STATUS_CONNECTING,
    INTEGRATION_STATUS_FAILED,
    INTEGRATION_STATUS_PENDING,
    Integration,
    IntegrationStatus,
)

from service.errors import EtagMismatch, EvbridgeError
from service.storage.integration import integration_lock, integration_replace
from service.storage.pool import Database
from service.storage.run import RunClaim, run_hold

_CHANGED = "the integration was changed during the exchange"

Find = Callable[[Callable[[Integration], None]], Awaitable[None]]


async def found(database: Database, run: RunClaim, change: Callable[[Integration], None]) -> None:
    """Stores what `change` writes into output-only fields of the run's integration.

    Raises ResourceNotFound, and RunEnded when the run is somebody else's by now.
    """
    async with database.transaction() as conn:
        integration = await integration_lock(conn, run.tenant_id, run.integration_id)
        await run_hold(conn, run)
        change(integration)
        await integration_replace(conn, run.tenant_id, integration)


@asynccontextmanager
async def connecting(database: Database, run: RunClaim) -> AsyncIterator[Find]:
    """CONNECTING while entered, then ACTIVE or FAILED, or PENDING when cut short. A disabled one stays SUSPENDED.

    What is yielded is `found` for this exchange. It raises EtagMismatch once a caller has changed the integration: the
    answers may be another partner's. That leaves the integration PENDING, too.
    """
    begun = ""

    async def tell(status: IntegrationStatus.ValueType, description: str = "") -> None:
        def change(integration: Integration) -> None:
            nonlocal begun
            begun = begun or integration.etag
            if integration.enabled:
                integration.status, integration.status_description = (
                    (status, description) if integration.etag == begun else (INTEGRATION_STATUS_PENDING, _CHANGED)
                )

        await found(database, run, change)

    async def find(change: Callable[[Integration], None]) -> None:
        def checked(integration: Integration) -> None:
            if integration.etag != begun:
                raise EtagMismatch(_CHANGED)
            change(integration)

        await found(database, run, checked)

    await tell(INTEGRATION_STATUS_CONNECTING)
    status, description = INTEGRATION_STATUS_PENDING, "the exchange was cut short"
    try:
        yield find
        status, description = INTEGRATION_STATUS_ACTIVE, ""
    except EvbridgeError as error:
        status, description = INTEGRATION_STATUS_FAILED, error.message
        raise
    finally:
        await tell(status, description)

"""What a migration does that SQL cannot: its file names the step, which runs in its transaction."""

from collections.abc import Awaitable, Callable
from typing import Final

import asyncpg
from evbridge.v1.integration_pb2 import Integration
from evbridge.v1.location_pb2 import Location
from evbridge.v1.tariff_pb2 import Tariff

from service.domain.integration import platform_party, pull_minutes
from service.domain.rules import clamp_times
from service.storage.statements import Statement, Statements

sql = Statements.beside(__file__)

_AT_ONCE: Final = 500
# Table -> the message in its payloads, and the statement that changes one unless somebody else did meanwhile.
_TABLES: Final[dict[str, tuple[type[Tariff | Location], Statement]]] = {
    "tariff": (Tariff, sql.payload_of_tariff),
    "tariff_revision": (Tariff, sql.payload_of_tariff_revision),
    "location": (Location, sql.payload_of_location),
    "evse": (Location, sql.payload_of_evse),
}


async def printable_times(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Makes the times in stored payloads the nearest that there are."""
    async for row in connection.cursor(sql.payloads.text, prefetch=_AT_ONCE):
        kind, statement = _TABLES[row["stored_in"]]
        message = kind.FromString(row["payload"])
        if clamp_times(message):
            await connection.execute(statement.text, row["ctid"], row["payload"], message.SerializeToString())


async def platforms(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Fills the columns of OCPI parties behind platforms."""
    async for row in connection.cursor(sql.integrations_of_ocpi.text, prefetch=_AT_ONCE):
        integration = Integration.FromString(row["payload"])
        if integration.ocpi.platform_integration_id:
            values = (integration.ocpi.platform_integration_id, platform_party(integration))
            await connection.execute(sql.integration_platform.text, row["tenant_id"], row["integration_id"], *values)


async def pull_schedules(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Fills the column that says how often lists are pulled, where it was never filled."""
    async for row in connection.cursor(sql.integrations_unscheduled.text, prefetch=_AT_ONCE):
        if minutes := pull_minutes(Integration.FromString(row["payload"]).models):
            await connection.execute(sql.integration_schedule.text, row["tenant_id"], row["integration_id"], minutes)


STEPS: Final[dict[str, Callable[["asyncpg.Connection[asyncpg.Record]"], Awaitable[None]]]] = {
    "printable_times": printable_times,
    "platforms": platforms,
    "pull_schedules": pull_schedules,
}

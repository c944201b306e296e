"""What stands in the way of integrations, for who is on call."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from evbridge.v1.error_reason_pb2 import ErrorReason
from evbridge.v1.run_pb2 import RunKind

from service.storage.pool import Database
from service.storage.statements import Statements

sql = Statements.beside(__file__)
_MAX_COUNT: Final = 1000
_NEWEST_RUNS: Final = 50


@dataclass(frozen=True, slots=True)
class Trouble:
    """Times are None where there is none of it."""

    tenant_id: str
    integration_id: str
    failing_since: datetime | None
    """Since when no delivery succeeds, because of the partner as a whole."""
    failure: ErrorReason.ValueType | None
    """Why the newest one failed."""
    untaken: int
    """How many deliveries are due that no process takes."""
    untaken_since: datetime | None
    parked_since: datetime | None
    parked_reasons: Sequence[ErrorReason.ValueType]


class FailedRun(NamedTuple):
    """The last run of its kind."""

    kind: RunKind.ValueType
    reason: ErrorReason.ValueType
    end_time: datetime


async def troubles(database: Database, late: timedelta, tenant_id: str = "") -> list[Trouble]:
    """Of each integration of one tenant or of all. What is due has waited for `late`."""
    return [Trouble(**row) for row in await database.rows(sql.status_troubles, tenant_id, late, _MAX_COUNT)]


async def failed_runs(database: Database, tenant_id: str, integration_id: str) -> list[FailedRun]:
    rows = await database.rows(sql.status_failed_runs, tenant_id, integration_id, _NEWEST_RUNS)
    return [FailedRun(*row) for row in rows]

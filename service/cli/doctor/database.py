"""Checks of the database and of the work in it."""

from datetime import UTC, datetime, timedelta
from typing import Final

from service.cli.doctor.check import Check, Seen, database_of, keys_of
from service.domain.verdict import Verdict, failed, passed, warned
from service.resources.audit import chain_verified
from service.storage.doctor import parked, server_state, stuck, tenants

_CLOCKS_DIFFER: Final = timedelta(seconds=5)
_LATE: Final = timedelta(minutes=5)
_MAX_NAMED: Final = 5


async def _server(seen: Seen) -> Verdict:
    if seen.database is None:
        return failed(seen.unreachable)
    state = await server_state(seen.database)
    told = f"PostgreSQL {state.version}"
    return failed(f"{told}, which takes no writes") if state.read_only else passed(told)


async def _migrations(seen: Seen) -> Verdict:
    database_of(seen)
    if seen.pending:
        return failed(f"{len(seen.pending)} are pending, the first {seen.pending[0]}")
    return passed("none is pending")


async def _clock(seen: Seen) -> Verdict:
    before = datetime.now(UTC)
    time = (await server_state(database_of(seen))).time
    after = datetime.now(UTC)
    apart = max(before - time, time - after, timedelta(0))
    told = f"{apart.total_seconds():.1f} s apart"
    return warned(told) if apart > _CLOCKS_DIFFER else passed(told)


async def _leases(seen: Seen) -> Verdict:
    found = await stuck(database_of(seen), _LATE)
    told = ", ".join(
        f"{count} {what}"
        for count, what in (
            (found.deliveries, "deliveries and"),
            (found.runs, "runs whose worker is gone"),
            (found.queued, "runs and"),
            (found.untaken, "deliveries that nobody takes"),
        )
    )
    return warned(told) if any(found) else passed("no work waits for a worker")


async def _parked(seen: Seen) -> Verdict:
    found = await parked(database_of(seen))
    named = [f"{count} of {tenant} {integration}" for (tenant, integration), count in found.items()]
    more = f" and {len(named) - _MAX_NAMED} integrations more" if named[_MAX_NAMED:] else ""
    return warned(", ".join(named[:_MAX_NAMED]) + more) if named else passed("no delivery is parked")


async def _chain(seen: Seen) -> Verdict:
    database, keys = database_of(seen), keys_of(seen)
    events, problems = 0, list[str]()
    for tenant in await tenants(database):
        chain = await chain_verified(database, keys, tenant)
        events += chain.events
        problems += [f"{tenant}: {problem}" for problem in chain.problems]
    return failed("; ".join(problems)) if problems else passed(f"{events} sealed events are as they were sealed")


async def _unsealed(seen: Seen) -> Verdict:
    database, keys = database_of(seen), keys_of(seen)
    count, since = 0, None
    for tenant in await tenants(database):
        chain = await chain_verified(database, keys, tenant)
        count += chain.unsealed
        since = min(filter(None, (since, chain.unsealed_since)), default=None)
    if since is None:
        return passed("every event is sealed")
    told = f"{count} events, the oldest of {since:%Y-%m-%d %H:%M:%S} UTC"
    return warned(told) if datetime.now(UTC) - since > _LATE else passed(told)


CHECKS: Final = (
    Check(
        "database.server",
        "a PostgreSQL server that answers and takes writes",
        "See that it runs, that this machine reaches it, and that EVBRIDGE_DATABASE_URL names the primary.",
        _server,
    ),
    Check("database.migrations", "the schema of this build", "Run `evbridge migrate`.", _migrations),
    Check(
        "database.clock",
        "clocks less than 5 s apart",
        "Let both machines take their time from NTP.",
        _clock,
    ),
    Check(
        "work.leases",
        "no work that is due for 5 minutes without a worker",
        "See that a process runs with EVBRIDGE_DELIVERY=true and look for errors in its log.",
        _leases,
    ),
    Check(
        "work.parked",
        "no parked deliveries",
        "Read why with ListDeliveries, mend the cause, then RetryDelivery or DiscardDelivery.",
        _parked,
    ),
    Check(
        "audit.chain",
        "events and seals as they were made, in each tenant",
        "Keep the database as it is and the logs of the seals: somebody changed it past evbridge, or a secrets key is "
        "missing.",
        _chain,
    ),
    Check(
        "audit.unsealed",
        "events sealed within 5 minutes",
        "See that a process runs with EVBRIDGE_DELIVERY=true: it seals them.",
        _unsealed,
    ),
)

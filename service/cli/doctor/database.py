"""Checks of the database and of the work in it."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from service.cli.doctor.check import SOON, Check, NotSeen, Seen, database_of, keys_of
from service.domain.verdict import Verdict, failed, joined, passed, warned, word
from service.resources.audit import Chain, chain_verified
from service.storage.api_key import api_key_list
from service.storage.doctor import parked, pgbouncer_version, server_state, stuck_runs, tenants
from service.storage.status import troubles

_CLOCKS_DIFFER: Final = timedelta(seconds=5)
_LATE: Final = timedelta(minutes=5)
_MAX_NAMED: Final = 5
_PGBOUNCER: Final = (1, 21)


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


async def _durability(seen: Seen) -> Verdict:
    state = await server_state(database_of(seen))
    names, commits = state.synchronous_standbys, f"synchronous_commit is {state.synchronous_commit}"
    if not state.crash_safe:
        return warned("fsync or full_page_writes is off: when its machine crashes, the database can be lost")
    if state.synchronous_commit == "off":
        return warned(f"{commits}: what was acknowledged in the last moment before a crash is lost")
    if names and state.synchronous_commit == "local":
        return warned(f"{commits}: standbys are named ({names}), and no write waits for them")
    if names and not state.standbys:
        return failed(f"every write waits for standbys ({names}), and none is there")
    waited = names or "none of them, so a failover loses the last moment"
    standbys = f"{state.standbys} standbys, writes wait for {waited}" if state.standbys else "no standby"
    return passed(f"{commits}; {standbys}")


async def _pgbouncer(seen: Seen) -> Verdict:
    if not seen.settings.pgbouncer:
        raise NotSeen("EVBRIDGE_PGBOUNCER is not set")
    version = await pgbouncer_version(seen.settings.database_url)
    if version is None:
        database_of(seen)
        return passed("it keeps prepared statements; this user may not see its version")
    told = f"PgBouncer {'.'.join(map(str, version))}"
    return failed(told) if version < _PGBOUNCER else passed(told)


async def _api_keys(seen: Seen) -> Verdict:
    now, told = datetime.now(UTC), list[str]()
    for tenant, key in await api_key_list(database_of(seen)):
        end = key.expire_time.ToDatetime(UTC)
        if key.HasField("expire_time") and not key.HasField("revoke_time") and abs(end - now) < SOON:
            name = f" ({word(key.name)})" if key.name else ""
            told.append(f"{key.id}{name} of {tenant} {'ended' if end < now else 'ends'} {end:%Y-%m-%d %H:%M} UTC")
    return warned(joined(told)) if told else passed("none ends within two weeks")


async def _untaken(seen: Seen) -> Verdict:
    database = database_of(seen)
    runs = await stuck_runs(database, _LATE)
    deliveries = sum(each.untaken for each in await troubles(database, _LATE))
    if deliveries or any(runs):
        untaken = f"{deliveries} deliveries and {runs.queued} runs that nobody takes"
        return warned(f"{untaken}, {runs.abandoned} runs whose worker is gone")
    return passed("no work waits for a worker")


async def _parked(seen: Seen) -> Verdict:
    found = await parked(database_of(seen))
    named = [f"{count} of {tenant} {integration}" for (tenant, integration), count in found.items()]
    more = f" and {len(named) - _MAX_NAMED} integrations more" if named[_MAX_NAMED:] else ""
    return warned(", ".join(named[:_MAX_NAMED]) + more) if named else passed("no delivery is parked")


async def _chains(seen: Seen) -> Sequence[Chain]:
    database, keys = database_of(seen), keys_of(seen)
    if seen.chains is None:
        seen.chains = [await chain_verified(database, keys, tenant) for tenant in await tenants(database)]
    return seen.chains


async def _chain(seen: Seen) -> Verdict:
    chains = await _chains(seen)
    if problems := [f"{chain.tenant_id}: {problem}" for chain in chains for problem in chain.problems]:
        return failed("; ".join(problems))
    return passed(f"{sum(chain.events for chain in chains)} sealed events are as they were sealed")


async def _unsealed(seen: Seen) -> Verdict:
    chains = await _chains(seen)
    count = sum(chain.unsealed for chain in chains)
    since = min((chain.unsealed_since for chain in chains if chain.unsealed_since), default=None)
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
        "database.durability",
        "what is acknowledged stays, whatever crashes",
        "On the server: fsync, full_page_writes and synchronous_commit = on; bring its standbys back, or take them out "
        "of synchronous_standby_names.",
        _durability,
    ),
    Check(
        "database.pgbouncer",
        "1.21 or later, in transaction mode, max_prepared_statements above 0",
        "Take a newer PgBouncer, or let EVBRIDGE_DATABASE_URL lead to the server itself.",
        _pgbouncer,
    ),
    Check(
        "keys.api",
        "API keys that do not end within two weeks",
        "Make another (`evbridge keys create`), give it to who uses this one, then `evbridge keys revoke` this one.",
        _api_keys,
    ),
    Check(
        "work.untaken",
        "no work that is due for 5 minutes without a worker",
        "See that a process runs with EVBRIDGE_DELIVERY=true and look for errors in its log.",
        _untaken,
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

"""The change feed, in the order of transactions, as far as all of them have ended.

A cursor on a sequence would lose what commits late. A transaction's number is lost by a crash when nothing of it was on
the disk, and given out again; so a place in the feed is only where something durable is: behind a change, or a beat.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import NamedTuple

from service.errors import DatabaseUnavailable
from service.storage.pool import Database
from service.storage.statements import Statements

sql = Statements.beside(__file__)

_NOWHERE = (1 << 63) - 1
_MAX_READ = 5_000
_MAX_SWEPT = 5_000


class FeedChange(NamedTuple):
    """That an object changed. `integration_id` is '' for what is ours."""

    transaction_id: int
    object_kind: int
    object_id: str
    integration_id: str
    time: datetime


@dataclass(frozen=True, slots=True)
class FeedPage:
    """What a read found. `place` is where to go on, `complete` how far all transactions were seen, or more.

    `database` stands for the server, its timeline and the database; a place means nothing elsewhere. `floors`: below or
    at which transaction the changes of a tenant are gone.
    """

    changes: dict[str, list[FeedChange]]
    floors: dict[str, int]
    place: int
    complete: int
    newest: int
    database: bytes


async def feed_read(database: Database, tenant_ids: Collection[str], place: int | None) -> FeedPage:
    """The tenants' changes from `place` on, in whole transactions and order; a part of them when they are many.

    None: where the feed is now. Raises DatabaseUnavailable.
    """
    rows = await database.rows(sql.feed_read, [*tenant_ids], _NOWHERE if place is None else place, _MAX_READ)
    if not rows or rows[0]["timeline"] is None:
        raise DatabaseUnavailable("the database takes no writes at the moment", retry_after_s=1.0)
    changes: dict[str, list[FeedChange]] = {}
    floors: dict[str, int] = {}
    for row in rows:
        floors[row["tenant_id"]] = row["change_floor"] or 0
        if row["transaction_id"] is not None:
            change = FeedChange(*(row[name] for name in (*FeedChange._fields[:-1], "create_time")))
            changes.setdefault(row["tenant_id"], []).append(change)
    open, cut, beat = rows[0]["open"], rows[0]["cut"], rows[0]["beat"] or 0
    last = max((found[-1].transaction_id for found in changes.values()), default=0)
    identity = "/".join(str(rows[0][name]) for name in ("system", "timeline", "database"))
    return FeedPage(
        changes,
        floors,
        place=max(place or 0, last + 1, cut or min(open, beat + 1)),
        complete=cut or open,
        newest=open,
        database=blake2b(identity.encode(), digest_size=8).digest(),
    )


async def feed_held_s(database: Database) -> float:
    """How long the oldest transaction with changes has been open; the feed waits for it."""
    seconds: float = await database.value(sql.feed_held)
    return seconds


async def feed_sweep(database: Database, age: timedelta) -> None:
    """Forgets older changes."""
    while await database.value(sql.feed_sweep, age, _MAX_SWEPT) == _MAX_SWEPT:
        pass

"""The clock by which rules and tariffs begin and end."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from service.storage.changes import change_time
from service.storage.connection import Connection


@dataclass(slots=True)
class Clock:
    """The database's, and in a rehearsal `ahead` of it."""

    ahead: timedelta = timedelta(0)

    async def now(self, conn: Connection) -> datetime:
        """Within a transaction always the same."""
        return await change_time(conn) + self.ahead

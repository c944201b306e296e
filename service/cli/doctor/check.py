"""What a check of `evbridge doctor` is, and what it is given."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import asyncpg

from service.domain.verdict import Finding, Outcome, Verdict, failed, skipped
from service.errors import EvbridgeError
from service.resources.audit import Chain
from service.settings import SettingError, Settings
from service.storage.connection import refusal
from service.storage.keyring import Keyring, KeyringInvalid
from service.storage.pool import Database

SOON: Final = timedelta(days=14)
"""In which what ends has to be renewed."""


@dataclass
class Seen:
    """What was found before the checks: `database` is None when it cannot be asked, `keys` when there are none."""

    settings: Settings
    environ: Mapping[str, str]
    problems: list[str]
    """What is wrong with the settings."""
    database: Database | None = None
    unreachable: str = ""
    """Why the database cannot be asked."""
    pending: Sequence[str] = ()
    """The migrations that this build has and the database has not."""
    keys: Keyring | None = None
    keyless: str = ""
    """Why there are no keys."""
    chains: Sequence[Chain] | None = None
    """Of each tenant, once they are read: that can take minutes."""


class NotSeen(Exception):
    """A check cannot be made; says why."""


def database_of(seen: Seen) -> Database:
    """Raises NotSeen."""
    if seen.database is None:
        raise NotSeen("the database could not be asked")
    return seen.database


def keys_of(seen: Seen) -> Keyring:
    """Raises NotSeen."""
    if seen.keys is None:
        raise NotSeen("there are no secrets keys")
    return seen.keys


@dataclass(frozen=True, slots=True)
class Check:
    """`wanted` says how it should be, `advice` what to do otherwise."""

    id: str
    wanted: str
    advice: str
    judge: Callable[[Seen], Verdict | Awaitable[Verdict]]

    async def finding(self, seen: Seen) -> Finding:
        try:
            verdict = self.judge(seen)
            outcome, told = verdict if isinstance(verdict, Verdict) else await verdict
        except NotSeen as reason:
            outcome, told = skipped(str(reason))
        except EvbridgeError as error:
            outcome, told = failed(error.message)
        except (SettingError, KeyringInvalid, OSError) as error:
            outcome, told = failed(str(error))
        except asyncpg.PostgresError as error:
            outcome, told = failed(refusal(error))
        todo = outcome in (Outcome.WARN, Outcome.FAIL)
        return Finding(self.id, outcome, self.wanted, told, self.advice if todo else "")

"""Who is calling, as the credential says, and how long they wait."""

import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Final, cast
from urllib.parse import unquote

from evbridge.options.v1.options_pb2 import Role

from service.domain.audit import Trail

call_deadline: ContextVar[float] = ContextVar("call_deadline")
"""When the call under way ends at the latest, by the monotonic clock."""

_ANSWER_S: Final = 0.5
"""What is kept of a call's time to bring its answer home."""


def time_to_wait_s() -> float:
    """How long the call under way may wait for somebody else."""
    return max(call_deadline.get() - time.monotonic() - _ANSWER_S, _ANSWER_S)


end_of_work: ContextVar[Callable[[], None]] = ContextVar("end_of_work", default=lambda: None)


def waits_elsewhere() -> None:
    """Says that the call under way is about to wait for a partner, a run or another process: another may work now."""
    end_of_work.get()()


@dataclass(frozen=True, slots=True)
class Limits:
    """What a key is limited to beside its role: services by their full names, integrations, calls in a minute, an end.

    What is empty is no limit.
    """

    services: frozenset[str] = frozenset()
    integrations: frozenset[str] = frozenset()
    calls_per_minute: int = 0
    expire_time: datetime | None = None


UNLIMITED = Limits()


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever calls, through whichever door.

    `actor` names them in logs, in the change feed and in runs: the id of an API key, `jwt/<subject>` for a token's,
    `integration/<id>` for a partner, a word without `/` for work of our own. `role` is an `evbridge.options.v1.Role`;
    `address` the one the call came from, without its port, "" for work of our own.

    What a handler puts into `trailers` (ASCII) goes out as trailing metadata when the call ends well; the `trail`
    gathers what the call changes.
    """

    tenant_id: str
    actor: str
    role: int
    address: str = ""
    limits: Limits = UNLIMITED
    trailers: list[tuple[str, str]] = field(default_factory=list)
    trail: Trail = field(default_factory=Trail)

    def of_call(self, peer: str) -> "Caller":
        """The same for one call that came from `peer`, as grpc names it: `ipv4:127.0.0.1:50123`."""
        return Caller(self.tenant_id, self.actor, self.role, _address(peer), self.limits)


@lru_cache
def _address(peer: str) -> str:
    return unquote(peer.partition(":")[2].rpartition(":")[0]).strip("[]")


def role_name(role: int) -> str:
    """As people write it: `ADMIN`."""
    return Role.Name(cast(Role.ValueType, role)).removeprefix("ROLE_")

"""Who is calling, as the credential says, and how long they wait."""

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import cast

from evbridge.options.v1.options_pb2 import Role

call_deadline: ContextVar[float] = ContextVar("call_deadline")
"""When the call under way ends at the latest, by the monotonic clock."""

end_of_work: ContextVar[Callable[[], None]] = ContextVar("end_of_work", default=lambda: None)


def waits_elsewhere() -> None:
    """Says that the call under way is about to wait for a partner, a run or another process: another may work now."""
    end_of_work.get()()


@dataclass(frozen=True, slots=True)
class Caller:
    """The tenant and the role (`evbridge.options.v1.Role`) of an API key. `key_id` is its public name.

    What a handler puts into `trailers` (ASCII) goes out as trailing metadata when the call ends well.
    """

    tenant_id: str
    key_id: str
    role: int
    trailers: list[tuple[str, str]] = field(default_factory=list)


def role_name(role: int) -> str:
    """As people write it: `ADMIN`."""
    return Role.Name(cast(Role.ValueType, role)).removeprefix("ROLE_")

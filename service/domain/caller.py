"""Who is calling, as the credential says, and how long this call may take."""

from dataclasses import dataclass, field
from typing import cast

from evbridge.options.v1.options_pb2 import Role


@dataclass(frozen=True, slots=True)
class Caller:
    """The tenant and the role (`evbridge.options.v1.Role`) of an API key. `key_id` is its public name.

    `time_left_s` is what the caller's deadline left when the call arrived, None without one. What a handler puts into
    `trailers` (ASCII) goes out as trailing metadata when the call ends well.
    """

    tenant_id: str
    key_id: str
    role: int
    time_left_s: float | None = None
    trailers: list[tuple[str, str]] = field(default_factory=list)


def role_name(role: int) -> str:
    """As people write it: `ADMIN`."""
    return Role.Name(cast(Role.ValueType, role)).removeprefix("ROLE_")

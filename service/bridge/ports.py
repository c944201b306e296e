"""What the channel needs from the rest of the house, as Protocols. Storage and the demo satisfy them; app.py joins."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from service.domain.target import Target
from service.errors import FieldViolation

__all__ = ["Behaviour", "Exchange", "Gate", "Recorder", "Refusal", "Target", "Targets"]


class Targets(Protocol):
    """Knows the integrations."""

    async def target(self, tenant_id: str, integration_id: str) -> Target:
        """Raises ResourceNotFound for an integration the tenant does not have."""
        ...


class Gate(Protocol):
    """Decides when a request may leave."""

    def slot(self, target: Target, *, timeout_s: float) -> AbstractAsyncContextManager[None]:
        """Holds one of the integration's request slots, shared by all processes, while entered.

        Raises PartnerRateLimited when none became free within `timeout_s`.
        """
        ...


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a partner's error body says, in its own words: they are bounded and redacted before a caller sees them.

    A violation's path is a JSON pointer into the body that was sent (RFC 6901, with the partner's names).
    """

    code: str = ""
    message: str = ""
    violations: tuple[FieldViolation, ...] = ()


class Behaviour(Protocol):
    """What the contract cannot say about a partner; a module under service/bridge/partners is one."""

    def explain(self, status: int, body: bytes) -> Refusal:
        """Reads the body of an answer that is not 2xx. Never raises: what it cannot read is an empty Refusal."""
        ...


@dataclass(frozen=True, slots=True)
class Exchange:
    """One HTTP request to a partner and its answer, with the credential redacted. `status` is 0 without an answer."""

    integration_id: str
    operation: str
    method: str
    url: str
    request_headers: dict[str, str]
    request_body: bytes
    status: int
    response_body: bytes
    duration_s: float


Recorder = Callable[[Exchange], None]
"""Is shown every exchange. Off (None) unless someone asked."""

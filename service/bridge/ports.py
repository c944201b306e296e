"""What the channel needs from the rest of the house, as Protocols. Storage and the demo satisfy them; app.py joins."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from service.domain.budget import Passage
from service.domain.exchange import Exchange
from service.domain.target import Target
from service.errors import FieldViolation

__all__ = ["Behaviour", "Exchange", "Gate", "Passage", "Recorder", "Refusal", "Target", "Targets"]


class Targets(Protocol):
    """Knows the integrations."""

    async def target(self, tenant_id: str, integration_id: str) -> Target:
        """Raises ResourceNotFound for an integration the tenant does not have."""
        ...


class Gate(Protocol):
    """Decides when a request may leave, by what all processes sent and by what became of it."""

    def passage(self, target: Target, *, safe: bool, timeout_s: float) -> AbstractAsyncContextManager[Passage]:
        """Entered for one request, which is `safe` when it only reads; left with its outcome, a PartnerError or none.

        Raises PartnerRateLimited when a budget or every slot of the integration is used up for longer than `timeout_s`,
        PartnerUnavailable when requests of this kind failed too often. Both say when to try again.
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


Recorder = Callable[[Exchange], None]
"""Is shown exchanges: every one, or those that someone asked to see."""

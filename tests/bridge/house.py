"""What the channel needs from the rest of the house, in a few lines: one integration, one slot, a recorder."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from service.bridge.ports import Exchange, Passage
from service.domain.secret import Secret
from service.domain.target import Target
from service.errors import PartnerRateLimited, ResourceNotFound

KEY = "key-4711-canary"


@dataclass
class House:
    """Integration "cp" of the tenant "acme", and what went through it."""

    base_url: str
    timeout_s: float = 15.0
    key: str = KEY
    free_slots: int = 1
    recorded: bool = True
    slot_timeouts_s: list[float] = field(default_factory=list)
    passages: list[Passage] = field(default_factory=list)
    exchanges: list[Exchange] = field(default_factory=list)

    async def target(self, tenant_id: str, integration_id: str) -> Target:
        if (tenant_id, integration_id) != ("acme", "cp"):
            raise ResourceNotFound.of("integration", integration_id)
        return Target(tenant_id, integration_id, "chargeprice", self.base_url, Secret(self.key), 1, self.timeout_s)

    @asynccontextmanager
    async def passage(self, target: Target, *, safe: bool, timeout_s: float) -> AsyncIterator[Passage]:
        self.slot_timeouts_s.append(timeout_s)
        if not self.free_slots:
            raise PartnerRateLimited("all slots are taken", partner=target.partner)
        self.free_slots -= 1
        self.passages.append(Passage(self.recorded))
        try:
            yield self.passages[-1]
        finally:
            self.free_slots += 1

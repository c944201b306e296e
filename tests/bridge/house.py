"""What the channel needs from the rest of the house, in a few lines: one integration, one slot, a recorder."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from service.bridge.ports import Exchange
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
    partner: str = "chargeprice"
    departures: dict[str, Any] = field(default_factory=dict)
    free_slots: int = 1
    slot_timeouts_s: list[float] = field(default_factory=list)
    exchanges: list[Exchange] = field(default_factory=list)

    async def target(self, tenant_id: str, integration_id: str) -> Target:
        if (tenant_id, integration_id) != ("acme", "cp"):
            raise ResourceNotFound.of("integration", integration_id)
        target = Target(tenant_id, integration_id, self.partner, self.base_url, Secret(self.key), 1, self.timeout_s)
        return replace(target, **self.departures)

    @asynccontextmanager
    async def slot(self, target: Target, *, timeout_s: float) -> AsyncIterator[None]:
        self.slot_timeouts_s.append(timeout_s)
        if not self.free_slots:
            raise PartnerRateLimited("all slots are taken", partner=target.partner)
        self.free_slots -= 1
        try:
            yield
        finally:
            self.free_slots += 1

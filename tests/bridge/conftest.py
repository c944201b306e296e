"""Partners on loopback and a channel to them."""

from collections.abc import AsyncIterator, Callable

import pytest
from evbridge.partner.chargeprice.v1 import company_pb2

from service.bridge.channel import PartnerChannel
from service.bridge.egress import Egress, EgressPolicy
from service.bridge.registry import Registry
from service.partners.chargeprice import mapping as chargeprice
from service.partners.chargeprice.simulator import Simulator
from tests.bridge.fake_ports import KEY, FakePorts


@pytest.fixture
async def egress() -> AsyncIterator[Egress]:
    opened = Egress(EgressPolicy(allow_loopback=True, allow_plain_http=True))
    yield opened
    await opened.aclose()


@pytest.fixture
def connect(egress: Egress) -> Callable[[FakePorts], PartnerChannel]:
    registry = Registry.of([company_pb2.DESCRIPTOR])
    return lambda ports: PartnerChannel(
        registry, ports, ports, egress, {"chargeprice": chargeprice}, ports.exchanges.append
    )


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    made = Simulator(api_key=KEY)
    yield made
    await made.stop()


@pytest.fixture
async def ports(simulator: Simulator) -> FakePorts:
    """The integration leads to the simulator."""
    return FakePorts(await simulator.start())

"""What a partner is to evbridge: each room beside this file declares one, and service/app.py lists them."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from evbridge.v1.delivery_pb2 import ObjectKind
from evbridge.v1.integration_pb2 import IntegrationType
from evbridge.v1.run_pb2 import RunKind

from service.bridge.channel import PartnerChannel
from service.bridge.ports import Behaviour
from service.bridge.registry import Registry, contract_files
from service.delivery.comparison import Comparer
from service.delivery.worker import Deliverer
from service.resources.authorization import Authorizer
from service.resources.charging_preferences import PreferencesTeller
from service.resources.command import Commander
from service.runs.worker import Executor, Tools
from service.storage.pool import Database

if TYPE_CHECKING:
    from service.simulator.front import Front


@dataclass(frozen=True, slots=True)
class Partner:
    """A kind of partner, and the type of the integrations with it.

    `contract` is the package of its API's protos, `behaviour` what they cannot say. It `takes` objects of these kinds:
    `deliverer` brings them; without one it is shown them when it asks. `comparer` reads what it holds of them,
    `authorizer` asks it whether a token may charge, `commander` sends it commands, `preferences` tells it how drivers
    want to be charged. `runs` makes the executor of each kind of run that it knows. `webhooks` are the services of its
    contract that it calls here, by name, and make what has a method for each of their rpcs: request, Call -> Reply.
    """

    name: str
    type: IntegrationType.ValueType
    contract: str = ""
    behaviour: Behaviour | None = None
    takes: Collection[ObjectKind.ValueType] = ()
    deliverer: Callable[[Database, PartnerChannel], Deliverer] | None = None
    comparer: Callable[[Database, PartnerChannel], Comparer] | None = None
    authorizer: Callable[[Database, PartnerChannel], Authorizer] | None = None
    commander: Callable[[Tools], Commander] | None = None
    preferences: Callable[[Database, PartnerChannel], PreferencesTeller] | None = None
    runs: Mapping[RunKind.ValueType, Callable[[Tools], Executor]] = field(default_factory=dict)
    webhooks: Mapping[str, Callable[[Tools], Any]] = field(default_factory=dict)

    def simulator(self, *, api_key: str) -> "Front":
        """Plays it: the `Simulator` of the room's simulator.py or, without one, what its contract says."""
        room = f"service.partners.{self.name}"
        simulator: Front
        if find_spec(room) and find_spec(f"{room}.simulator"):
            simulator = import_module(f"{room}.simulator").Simulator(api_key=api_key)
        else:
            operations = Registry.of(contract_files(self.contract)).operations.values()
            simulator = import_module("service.simulator.simulator").Simulator(operations, api_key=api_key)
        return simulator

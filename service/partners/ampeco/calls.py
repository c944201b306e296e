"""How each kind of part is made, changed and found again at AMPECO.

AMPECO counts no versions and knows no idempotency key. A part is found by the external id that we gave it, in a list
that is narrowed down as far as AMPECO filters.
"""

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from evbridge.partner.ampeco.v3.charge_point_pb2 import (
    ChargePoint,
    CreateChargePointRequest,
    GetChargePointRequest,
    ListChargePointsRequest,
    UpdateChargePointRequest,
)
from evbridge.partner.ampeco.v3.charge_point_pb2_grpc import ChargePointServiceStub
from evbridge.partner.ampeco.v3.evse_pb2 import (
    Connector,
    CreateConnectorRequest,
    CreateEvseRequest,
    Evse,
    GetConnectorRequest,
    GetEvseRequest,
    ListConnectorsRequest,
    ListEvsesRequest,
    UpdateConnectorRequest,
    UpdateEvseRequest,
)
from evbridge.partner.ampeco.v3.evse_pb2_grpc import EvseServiceStub
from evbridge.partner.ampeco.v3.location_pb2 import (
    CreateLocationRequest,
    GetLocationRequest,
    ListLocationsRequest,
    Location,
    UpdateLocationRequest,
)
from evbridge.partner.ampeco.v3.location_pb2_grpc import LocationServiceStub
from evbridge.partner.ampeco.v3.tariff_group_pb2 import (
    CreateTariffGroupRequest,
    GetTariffGroupRequest,
    ListTariffGroupsRequest,
    ReplaceTariffGroupRequest,
    TariffGroup,
)
from evbridge.partner.ampeco.v3.tariff_group_pb2_grpc import TariffGroupServiceStub
from evbridge.partner.ampeco.v3.tariff_pb2 import (
    CreateTariffRequest,
    GetTariffRequest,
    ListTariffsRequest,
    ReplaceTariffRequest,
    Tariff,
)
from evbridge.partner.ampeco.v3.tariff_pb2_grpc import TariffServiceStub
from evbridge.v1.delivery_pb2 import (
    OBJECT_KIND_CHARGER,
    OBJECT_KIND_CONNECTOR,
    OBJECT_KIND_EVSE,
    OBJECT_KIND_LOCATION,
    OBJECT_KIND_TARIFF,
    ObjectKind,
)
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from service.bridge.channel import PartnerChannel
from service.storage.delivery import Claim

M = TypeVar("M", bound=Message)

Rpc = Callable[..., Any]


def _same_external_id(held: Any, wanted: Any) -> bool:
    return bool(held.external_id == wanted.external_id)


@dataclass(frozen=True, slots=True)
class PartCalls(Generic[M]):
    """An rpc, and how its request is made, to create a part, to update it, to list those that it may be, to read it.

    `looks_like`: whether one that AMPECO holds is the part that was sent.
    """

    kind: ObjectKind.ValueType
    form: type[M]
    creating: tuple[Rpc, Callable[[M], Message]]
    updating: tuple[Rpc, Callable[[int, M, FieldMask], Message]]
    listing: tuple[Rpc, Callable[[M], Message]]
    reading: tuple[Rpc, Callable[[int], Message]]
    looks_like: Callable[[Any, M], bool] = _same_external_id
    partner: str = "ampeco"

    async def create(self, wanted: M) -> str:
        rpc, request = self.creating
        answer = await rpc(request(wanted))
        return str(answer.data.id or "")

    async def update(self, external_id: str, wanted: M, cleared: Sequence[str]) -> None:
        # An EVSE without a tariff group would be free of charge; leaving one out never asks for that.
        mask = FieldMask(paths=[path for path in cleared if path != "tariff_group_id"])
        rpc, request = self.updating
        await rpc(request(int(external_id), wanted, mask))

    async def read(self, external_id: str) -> M:
        """Raises PartnerNotFound."""
        rpc, request = self.reading
        found: M = (await rpc(request(int(external_id)))).data
        return found

    async def listed(self, wanted: M) -> AsyncIterator[tuple[str, bool]]:
        rpc, request = self.listing
        async for page in rpc(request(wanted)):
            for each in page.data:
                yield str(each.id), self.looks_like(each, wanted)


class Ampeco:
    """What is called at the AMPECO of one delivery."""

    def __init__(self, channel: PartnerChannel, claim: Claim) -> None:
        self._channel = channel
        self._tenant_id = claim.tenant_id
        self._at = claim.integration_id

    def tariffs(self) -> PartCalls[Tariff]:
        """AMPECO filters them by no external id."""
        at, stub = self._at, self._channel.stub(TariffServiceStub, self._tenant_id)
        return PartCalls(
            OBJECT_KIND_TARIFF,
            Tariff,
            (stub.CreateTariff, lambda wanted: CreateTariffRequest(integration_id=at, tariff=wanted)),
            (
                stub.ReplaceTariff,
                lambda id, wanted, mask: ReplaceTariffRequest(
                    integration_id=at, tariff_id=id, tariff=wanted, update_mask=mask
                ),
            ),
            (stub.StreamTariffs, lambda _: ListTariffsRequest(integration_id=at, cursor="")),
            (stub.GetTariff, lambda id: GetTariffRequest(integration_id=at, tariff_id=id)),
        )

    def tariff_groups(self) -> PartCalls[TariffGroup]:
        """One has no external id: its name is the tariff's."""
        at, stub = self._at, self._channel.stub(TariffGroupServiceStub, self._tenant_id)
        return PartCalls(
            OBJECT_KIND_TARIFF,
            TariffGroup,
            (stub.CreateTariffGroup, lambda wanted: CreateTariffGroupRequest(integration_id=at, group=wanted)),
            (
                stub.ReplaceTariffGroup,
                lambda id, wanted, mask: ReplaceTariffGroupRequest(
                    integration_id=at, tariff_group_id=id, group=wanted, update_mask=mask
                ),
            ),
            (stub.StreamTariffGroups, lambda _: ListTariffGroupsRequest(integration_id=at, cursor="")),
            (stub.GetTariffGroup, lambda id: GetTariffGroupRequest(integration_id=at, tariff_group_id=id)),
            looks_like=lambda held, wanted: bool(held.name == wanted.name),
        )

    def locations(self) -> PartCalls[Location]:
        at, stub = self._at, self._channel.stub(LocationServiceStub, self._tenant_id)
        return PartCalls(
            OBJECT_KIND_LOCATION,
            Location,
            (stub.CreateLocation, lambda wanted: CreateLocationRequest(integration_id=at, location=wanted)),
            (
                stub.UpdateLocation,
                lambda id, wanted, mask: UpdateLocationRequest(
                    integration_id=at, location_id=id, location=wanted, update_mask=mask
                ),
            ),
            (
                stub.StreamLocations,
                lambda wanted: ListLocationsRequest(
                    integration_id=at, cursor="", filter_external_id=wanted.external_id
                ),
            ),
            (stub.GetLocation, lambda id: GetLocationRequest(integration_id=at, location_id=id)),
        )

    def charge_points(self) -> PartCalls[ChargePoint]:
        at, stub = self._at, self._channel.stub(ChargePointServiceStub, self._tenant_id)
        return PartCalls(
            OBJECT_KIND_CHARGER,
            ChargePoint,
            (stub.CreateChargePoint, lambda wanted: CreateChargePointRequest(integration_id=at, charge_point=wanted)),
            (
                stub.UpdateChargePoint,
                lambda id, wanted, mask: UpdateChargePointRequest(
                    integration_id=at, charge_point_id=id, charge_point=wanted, update_mask=mask
                ),
            ),
            (
                stub.StreamChargePoints,
                lambda wanted: ListChargePointsRequest(
                    integration_id=at, cursor="", filter_location_id=wanted.location_id
                ),
            ),
            (stub.GetChargePoint, lambda id: GetChargePointRequest(integration_id=at, charge_point_id=id)),
        )

    def evses(self) -> PartCalls[Evse]:
        at, stub = self._at, self._channel.stub(EvseServiceStub, self._tenant_id)
        return PartCalls(
            OBJECT_KIND_EVSE,
            Evse,
            (stub.CreateEvse, lambda wanted: CreateEvseRequest(integration_id=at, evse=wanted)),
            (
                stub.UpdateEvse,
                lambda id, wanted, mask: UpdateEvseRequest(
                    integration_id=at, evse_id=id, evse=wanted, update_mask=mask
                ),
            ),
            (
                stub.StreamEvses,
                lambda wanted: ListEvsesRequest(
                    integration_id=at, cursor="", filter_charge_point_id=wanted.charge_point_id
                ),
            ),
            (stub.GetEvse, lambda id: GetEvseRequest(integration_id=at, evse_id=id)),
        )

    def connectors(self, charge_point_id: int, evse_id: int, others: Collection[str]) -> PartCalls[Connector]:
        """One has no external id: any of the same type will do, but our `others`, by AMPECO's ids."""
        at, stub = self._at, self._channel.stub(EvseServiceStub, self._tenant_id)
        place = {"charge_point_id": charge_point_id, "evse_id": evse_id}
        return PartCalls(
            OBJECT_KIND_CONNECTOR,
            Connector,
            (stub.CreateConnector, lambda wanted: CreateConnectorRequest(integration_id=at, connector=wanted, **place)),
            (
                stub.UpdateConnector,
                lambda id, wanted, mask: UpdateConnectorRequest(
                    integration_id=at, connector_id=id, connector=wanted, update_mask=mask, **place
                ),
            ),
            (stub.StreamConnectors, lambda _: ListConnectorsRequest(integration_id=at, **place)),
            (stub.GetConnector, lambda id: GetConnectorRequest(integration_id=at, connector_id=id, **place)),
            looks_like=lambda held, wanted: held.type == wanted.type and str(held.id) not in others,
        )

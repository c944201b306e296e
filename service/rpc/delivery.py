"""evbridge.v1.DeliveryService."""

from collections.abc import Mapping
from datetime import datetime

from evbridge.v1.delivery_pb2 import (
    CompareWithPartnerRequest,
    CompareWithPartnerResponse,
    Delivery,
    DiscardDeliveryRequest,
    GetDeliveryRequest,
    ListDeliveriesRequest,
    RedeliverAllRequest,
    RedeliverAllResponse,
    RetryDeliveryRequest,
    RetryParkedDeliveriesRequest,
    RetryParkedDeliveriesResponse,
)
from evbridge.v1.integration_pb2 import Integration, IntegrationType

from service.delivery.comparison import Comparer, differences
from service.domain.caller import Caller
from service.domain.integration import speaker
from service.domain.pages import list_response, page_size, uuid_before
from service.errors import InvalidArgument
from service.resources.mutation import mutate
from service.storage.connection import Connection
from service.storage.delivery import (
    delivery_discard,
    delivery_get,
    delivery_integration,
    delivery_key,
    delivery_page,
    delivery_retry,
    delivery_retry_parked,
)
from service.storage.gate import gate_resume
from service.storage.integration import integration_get, integration_hold
from service.storage.keyring import Keyring
from service.storage.marking import redeliver_all
from service.storage.pool import Database


class DeliveryService:
    """`comparers`: by the type of the integration."""

    def __init__(
        self, database: Database, keyring: Keyring, comparers: Mapping[IntegrationType.ValueType, Comparer]
    ) -> None:
        self._database = database
        self._keyring = keyring
        self._comparers = comparers

    async def GetDelivery(self, request: GetDeliveryRequest, caller: Caller) -> Delivery:
        return await delivery_get(self._database, caller.tenant_id, request.id)

    async def ListDeliveries(self, request: ListDeliveriesRequest, caller: Caller) -> bytes:
        after, size = uuid_before(request), page_size(request.page_size)
        rows = await delivery_page(self._database, caller.tenant_id, request, after, size + 1)
        return list_response(request, rows, size)

    async def RetryDelivery(self, request: RetryDeliveryRequest, caller: Caller) -> bytes:
        async def work(conn: Connection, now: datetime) -> Delivery:
            key = (caller.tenant_id, await delivery_integration(conn, caller.tenant_id, request.id))
            await integration_hold(conn, *key)
            await gate_resume(conn, *key)
            await delivery_retry(conn, caller.tenant_id, request.id, request.overwrite_partner_change)
            return await delivery_get(conn, caller.tenant_id, request.id)

        return await mutate(self._database, self._keyring, request, caller, work)

    async def CompareWithPartner(
        self, request: CompareWithPartnerRequest, caller: Caller
    ) -> CompareWithPartnerResponse:
        key = await delivery_key(self._database, caller.tenant_id, request.delivery_id)
        payload = await integration_get(self._database, caller.tenant_id, key.integration_id)
        integration = Integration.FromString(payload)
        lacking = InvalidArgument.field("delivery_id", "is of a partner whose copy cannot be read")
        comparer = speaker(integration, self._comparers, lacking)
        compared = await comparer.compare(key)
        response = CompareWithPartnerResponse(differences=differences(compared))
        for name in ("ours", "sent", "remote"):
            if (message := getattr(compared, name)) is not None:
                getattr(response, name).Pack(message, deterministic=True)  # a Struct has no order
        return response

    async def RetryParkedDeliveries(self, request: RetryParkedDeliveriesRequest, caller: Caller) -> bytes:
        async def work(conn: Connection, now: datetime) -> RetryParkedDeliveriesResponse:
            key = (caller.tenant_id, request.integration_id)
            await integration_hold(conn, *key)
            await gate_resume(conn, *key)
            count = await delivery_retry_parked(conn, *key, request.object_kind)
            return RetryParkedDeliveriesResponse(delivery_count=count)

        return await mutate(self._database, self._keyring, request, caller, work)

    async def DiscardDelivery(self, request: DiscardDeliveryRequest, caller: Caller) -> bytes:
        async def work(conn: Connection, now: datetime) -> Delivery:
            key = (caller.tenant_id, await delivery_integration(conn, caller.tenant_id, request.id))
            await integration_hold(conn, *key)
            await delivery_discard(conn, caller.tenant_id, request.id)
            return await delivery_get(conn, caller.tenant_id, request.id)

        return await mutate(self._database, self._keyring, request, caller, work)

    async def RedeliverAll(self, request: RedeliverAllRequest, caller: Caller) -> bytes:
        async def work(conn: Connection, now: datetime) -> RedeliverAllResponse:
            key = (caller.tenant_id, request.integration_id)
            await integration_hold(conn, *key)
            await gate_resume(conn, *key)
            return RedeliverAllResponse(delivery_count=await redeliver_all(conn, *key, request.object_kind))

        return await mutate(self._database, self._keyring, request, caller, work)

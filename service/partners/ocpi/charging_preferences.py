"""Charging preferences: how an operator is told, and what it says. Source: OCPI 2.2.1, sessions, Sender interface."""

from typing import Any, Final

from evbridge.partner.ocpi.v2.sessions_pb2 import PutChargingPreferencesRequest
from evbridge.partner.ocpi.v2.sessions_pb2_grpc import SessionsSenderServiceStub
from evbridge.v1.charging_preferences_pb2 import ChargingPreferences, ChargingPreferencesResponse
from evbridge.v1.ocpi_connection_pb2 import INTERFACE_ROLE_SENDER

from service.bridge.channel import PartnerChannel
from service.domain.partner_error import PartnerFault
from service.errors import InvalidArgument
from service.partners.ocpi.plain import plain_to
from service.partners.ocpi.reach import reached
from service.storage.pool import Database

_NAME: Final = "CHARGING_PREFERENCES_RESPONSE_"


class OcpiPreferences:
    """Tells operators how drivers want to be charged."""

    def __init__(self, database: Database, channel: PartnerChannel) -> None:
        self._database = database
        self._channel = channel

    async def tell(
        self, tenant_id: str, integration_id: str, session_id: str, wanted: ChargingPreferences, timeout_s: float
    ) -> ChargingPreferencesResponse.ValueType:
        """Raises EndpointMissing, NotRegistered, InvalidArgument in OCPI 2.1.1, and what the channel raises."""
        there = await reached(self._database, tenant_id, integration_id)
        if there.version == "2.1.1":
            raise InvalidArgument.field("charging_preferences", "do not exist in OCPI 2.1.1")
        url = there.url("sessions", INTERFACE_ROLE_SENDER)
        request = PutChargingPreferencesRequest(integration_id=integration_id, url=url, session_id=session_id)
        request.object.update(plain_to(wanted))
        stub = self._channel.stub(SessionsSenderServiceStub, tenant_id)
        answer: Any = await stub.PutChargingPreferences(request, timeout=timeout_s)
        known = ChargingPreferencesResponse.DESCRIPTOR.values_by_name.get(_NAME + answer.data)
        if known is None or not known.number:
            raise PartnerFault(
                "the partner's answer does not say whether they are possible", partner="ocpi", http_status=200
            )
        return known.number  # type: ignore[return-value]


def response_to(said: ChargingPreferencesResponse.ValueType) -> str:
    return ChargingPreferencesResponse.Name(said).removeprefix(_NAME)

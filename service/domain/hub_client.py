"""The names of a hub's clients, since a party may be connected in several roles, and how they are connected to us."""

from collections.abc import Collection, Iterable
from typing import Any

from evbridge.v1.hub_client_pb2 import (
    HUB_CLIENT_STATUS_CONNECTED,
    HUB_CLIENT_STATUS_OFFLINE,
    HUB_CLIENT_STATUS_PLANNED,
    HUB_CLIENT_STATUS_SUSPENDED,
    HubClient,
    HubClientStatus,
)
from evbridge.v1.integration_pb2 import INTEGRATION_STATUS_FAILED, INTEGRATION_STATUS_SUSPENDED, Integration
from evbridge.v1.party_pb2 import PARTY_ROLE_HUB, Party, PartyRole

from service.domain.keys import ObjectKey

_PREFIX = "PARTY_ROLE_"
_BEST = (
    HUB_CLIENT_STATUS_CONNECTED,
    HUB_CLIENT_STATUS_OFFLINE,
    HUB_CLIENT_STATUS_SUSPENDED,
    HUB_CLIENT_STATUS_PLANNED,  # it has never been connected
)


def hub_client_key(client: HubClient) -> ObjectKey:
    return _key(client, client.integration_id)


def hub_client_parts(key: ObjectKey) -> dict[str, Any]:
    """The fields of a HubClientKey."""
    names = {"country_code": key.country_code, "party_id": key.party_id, "integration_id": key.integration_id}
    return {**names, "role": PartyRole.Value(_PREFIX + key.key.upper())}


def hubs_of(parties: Iterable[Party]) -> list[str]:
    """Those of our parties that are hubs, such as "NLHUB"."""
    return [party.country_code + party.party_id for party in parties if PARTY_ROLE_HUB in party.roles]


def connected_through(integration: Integration) -> dict[str, HubClientStatus.ValueType]:
    """The partner's parties, by the names that they are stored under, as a hub sees them."""
    ocpi = integration.ocpi
    if not ocpi.their_token_set:
        planned = ocpi.planned_parties if integration.enabled and not ocpi.platform_integration_id else ()
        return {str(_key(each)): HUB_CLIENT_STATUS_PLANNED for each in planned}
    status = HUB_CLIENT_STATUS_CONNECTED
    if not integration.enabled or integration.status == INTEGRATION_STATUS_SUSPENDED:
        status = HUB_CLIENT_STATUS_SUSPENDED
    elif integration.status == INTEGRATION_STATUS_FAILED:
        status = HUB_CLIENT_STATUS_OFFLINE
    return {str(_key(each)): status for each in integration.partner_company_details}


def connected(key: ObjectKey, statuses: Collection[int]) -> HubClient | None:
    """A party that is connected in one way or several: the best counts. None for one that is not."""
    status = next((each for each in _BEST if each in statuses), None)
    if status is None:
        return None
    parts = hub_client_parts(key)
    return HubClient(**parts, status=status)


def _key(party: Any, integration_id: str = "") -> ObjectKey:
    role = PartyRole.Name(party.role).removeprefix(_PREFIX)
    return ObjectKey.of(party.country_code, party.party_id, role, integration_id)

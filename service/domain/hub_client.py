"""The names of a hub's clients: a party may be connected in several roles."""

from typing import Any

from evbridge.v1.hub_client_pb2 import HubClient
from evbridge.v1.party_pb2 import PartyRole

from service.domain.keys import ObjectKey

_PREFIX = "PARTY_ROLE_"


def hub_client_key(client: HubClient) -> ObjectKey:
    role = PartyRole.Name(client.role).removeprefix(_PREFIX)
    return ObjectKey.of(client.country_code, client.party_id, role, client.integration_id)


def hub_client_parts(key: ObjectKey) -> dict[str, Any]:
    """The fields of a HubClientKey."""
    names = {"country_code": key.country_code, "party_id": key.party_id, "integration_id": key.integration_id}
    return {**names, "role": PartyRole.Value(_PREFIX + key.key.upper())}

"""Who a partner may send objects of, and how they are read."""

from collections.abc import Iterable

from evbridge.v1.integration_pb2 import Integration
from evbridge.v1.party_pb2 import PARTY_ROLE_HUB, PARTY_ROLE_UNSPECIFIED, PartyRole

from service.domain.keys import PartyKey
from service.partners.ocpi.mapping import object_from
from service.resources.documents import Sender


def owners(stored: Integration, role: PartyRole.ValueType) -> list[PartyKey]:
    """The partner's parties that are registered with the role (unspecified: any), or the one behind a platform."""
    if stored.ocpi.platform_party_id:
        return [PartyKey(stored.ocpi.platform_party_country_code, stored.ocpi.platform_party_id)]
    companies = stored.partner_company_details
    named = (each for each in companies if role in (PARTY_ROLE_UNSPECIFIED, each.role))
    return [PartyKey(each.country_code, each.party_id) for each in named]


def sender_of(
    stored: Integration,
    version: str,
    role: PartyRole.ValueType,
    named: Iterable[PartyKey],
    owner: PartyKey | None,
) -> Sender:
    """The partner, as far as it is registered with the role; a hub brings what any party owns that is `named`.

    `owner` holds where an object says none.
    """
    parties = {*owners(stored, role)}
    if stored.ocpi.hub_party_id or any(each.role == PARTY_ROLE_HUB for each in stored.partner_company_details):
        parties |= {*named}
    return Sender(
        stored.id,
        frozenset(parties),
        version,
        lambda type, document: object_from(type, document, version, owner),
    )

"""Registrations with OCPI parties, whichever side begins: what is stored of one, and how it ends.

Every function is one step, in the caller's transaction.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from evbridge.v1.delivery_pb2 import OBJECT_KIND_UNSPECIFIED
from evbridge.v1.integration_pb2 import (
    INTEGRATION_STATUS_ACTIVE,
    INTEGRATION_STATUS_UNREGISTERED,
    INTEGRATION_TYPE_OCPI,
    Integration,
    IntegrationType,
)
from evbridge.v1.ocpi_connection_pb2 import PartnerCompany, VersionDetails
from evbridge.v1.party_pb2 import PARTY_ROLE_EMSP, Party

from service.domain.integration import token_parties
from service.domain.keys import PartyKey
from service.domain.secret import Secret
from service.errors import AlreadyRegistered, IntegrationHasNoParty, OcpiNotServed, RunUnsupported
from service.storage.changes import delivery_mark_issued
from service.storage.connection import Connection
from service.storage.integration import (
    THEIR_TOKEN,
    integration_lock,
    integration_replace,
    integrations_behind,
    secret_forget,
    secrets_forget,
    secrets_put,
    token_parties_taken,
)
from service.storage.keyring import Keyring
from service.storage.marking import redeliver_all
from service.storage.partner_token import PURPOSE, token_add, tokens_end
from service.storage.party import parties_get
from service.storage.pool import Database
from service.storage.pull import pull_soon

INITIAL_TOKEN = "ocpi.initial_token"  # noqa: S105


@dataclass(slots=True)
class Door:
    """Where OCPI parties reach us: `url` is "" while nothing listens for them. `versions`: the highest first."""

    url: str = ""
    versions: Sequence[str] = ()

    @property
    def versions_url(self) -> str:
        """Raises OcpiNotServed."""
        if not self.url:
            raise OcpiNotServed("this server does not listen for OCPI parties: set EVBRIDGE_OCPI_LISTEN")
        return f"{self.url}/ocpi/versions"


@dataclass(frozen=True, slots=True)
class Registered:
    """What the exchange of credentials found out about a partner."""

    token: Secret
    plain_authorization: bool
    versions_url: str
    details: VersionDetails
    companies: list[PartnerCompany]
    hub_party_id: str = ""


async def ocpi_lock(conn: Connection, tenant_id: str, integration_id: str) -> Integration:
    """Raises ResourceNotFound, and RunUnsupported for an integration of another type."""
    integration = await integration_lock(conn, tenant_id, integration_id)
    check_registers(integration)
    return integration


def check_registers(integration: Integration) -> None:
    """Raises RunUnsupported for an integration of another type than OCPI, and for a party behind a platform."""
    type = IntegrationType.Name(integration.type)
    if integration.type != INTEGRATION_TYPE_OCPI or integration.ocpi.platform_integration_id:
        what = f"an integration of {type}" if not integration.HasField("ocpi") else "a party behind a platform"
        raise RunUnsupported(f"{what} does not register", kind="RUN_KIND_CREDENTIALS", type=type)


async def own_parties(on: Connection | Database, tenant_id: str, integration: Integration) -> list[Party]:
    """Who we are to the partner. Raises IntegrationHasNoParty."""
    keys = [PartyKey(party.country_code, party.party_id) for party in integration.parties]
    parties = await parties_get(on, tenant_id, keys) if keys else []
    if not parties:
        raise IntegrationHasNoParty(
            "the integration names none of our parties, and the partner has to know who we are: add one to `parties`",
            id=integration.id,
        )
    return parties


async def token_give(
    conn: Connection, keyring: Keyring, tenant_id: str, integration_id: str, token: Secret, *, initial: bool = False
) -> int:
    """Lets the token open our endpoints; `initial`, to register with. The integration is locked."""
    digest = keyring.digest(PURPOSE, token.reveal().encode())
    return await token_add(conn, tenant_id, integration_id, digest, initial=initial)


async def register(
    conn: Connection, keyring: Keyring, tenant_id: str, integration: Integration, found: Registered
) -> None:
    """Stores a registration. The integration is locked, and stored by this.

    Sessions and CDRs go to who issued the token, so an eMSP that we are, or that another integration is registered
    with, is left out of what a hub says. Raises AlreadyRegistered when another partner says that it is one.
    """
    ocpi = integration.ocpi
    ocpi.initial_token_set, ocpi.our_token_set, ocpi.their_token_set = False, True, True
    ocpi.plain_authorization, ocpi.partner_versions_url = found.plain_authorization, found.versions_url
    ocpi.hub_party_id = found.hub_party_id
    ocpi.ClearField("planned_parties")
    if integration.version_details != found.details:
        # A partner that begins anew may have lost what it had; another version writes it in another way.
        for id in (integration.id, *await integrations_behind(conn, tenant_id, integration.id)):
            await redeliver_all(conn, tenant_id, id, OBJECT_KIND_UNSPECIFIED)
    integration.version_details.CopyFrom(found.details)
    del integration.partner_company_details[:]
    integration.partner_company_details.extend(found.companies)
    if taken := await token_parties_taken(conn, tenant_id, integration.id, token_parties(integration)):
        if not found.hub_party_id:
            named = ", ".join(f"{party[:2]}*{party[2:]}" for party in sorted(taken))
            raise AlreadyRegistered(
                f"the partner says that it is {named}, who is registered elsewhere already: that has to end first"
            )
        del integration.partner_company_details[:]
        integration.partner_company_details.extend(
            each
            for each in found.companies
            if each.role != PARTY_ROLE_EMSP or each.country_code + each.party_id not in taken
        )
    if integration.enabled:
        integration.status, integration.status_description = INTEGRATION_STATUS_ACTIVE, ""
    await integration_replace(conn, tenant_id, integration)
    await delivery_mark_issued(conn, tenant_id, integration.id, token_parties(integration))
    if integration.models.pull_hub_client:
        await pull_soon(conn, tenant_id, integration.id)
    await secret_forget(conn, tenant_id, integration.id, INITIAL_TOKEN)
    await secrets_put(conn, keyring, tenant_id, integration.id, {THEIR_TOKEN: found.token})


async def unregister(conn: Connection, tenant_id: str, integration: Integration) -> None:
    """Ends a registration, and every token of both sides. The integration is locked, and stored by this."""
    ocpi = integration.ocpi
    ocpi.initial_token_set = ocpi.our_token_set = ocpi.their_token_set = False
    ocpi.partner_versions_url = ocpi.hub_party_id = ""
    integration.ClearField("version_details")
    integration.ClearField("partner_company_details")
    if integration.enabled:
        integration.status, integration.status_description = INTEGRATION_STATUS_UNREGISTERED, ""
    await integration_replace(conn, tenant_id, integration)
    await secrets_forget(conn, tenant_id, integration.id)
    await tokens_end(conn, tenant_id, integration.id)

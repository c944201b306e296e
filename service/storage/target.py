"""The target that the bridge needs of an integration."""

from collections.abc import Iterable

from evbridge.options.v1 import options_pb2 as options
from evbridge.v1.integration_pb2 import Integration

from service.domain.integration import (
    base_url,
    connection_of,
    credential_of,
    credential_query,
    grant_of,
    module_hosts,
    partner_name,
    paths,
    query,
    routing,
    secret_paths,
)
from service.domain.secret import Secret
from service.domain.target import Target
from service.errors import ResourceNotFound
from service.storage.integration import THEIR_TOKEN, secrets_opened
from service.storage.keyring import Keyring
from service.storage.pool import Database
from service.storage.statements import Statements

sql = Statements.beside(__file__)

DEFAULT_CONCURRENCY = 4


class IntegrationTargets:
    """The bridge's `Targets`, read fresh for every call so that a new address or secret holds at once.

    `partners` say how those are spoken to that have a contract.
    """

    def __init__(self, database: Database, keyring: Keyring, partners: Iterable[options.Partner]) -> None:
        self._database = database
        self._keyring = keyring
        self._partners = {partner.name: partner for partner in partners}

    async def target(self, tenant_id: str, integration_id: str) -> Target:
        rows = await self._database.rows(sql.integration_target, tenant_id, integration_id)
        if not rows:
            raise ResourceNotFound.of("integration", integration_id)
        integration = lender = Integration.FromString(rows[0]["payload"])
        # What a platform lends to the parties behind it.
        if platform_id := integration.ocpi.platform_integration_id:
            if rows[0]["lender"] is None:
                raise ResourceNotFound.of("integration", platform_id)
            lender = Integration.FromString(rows[0]["lender"])
        secrets = secrets_opened(self._keyring, tenant_id, lender.id, rows)
        name, limits = partner_name(integration), integration.limits
        partner = self._partners.get(name, options.Partner())
        connection = connection_of(integration)
        held = (THEIR_TOKEN, *secret_paths(lender))
        secret = next((secrets[path] for path in held if path in secrets), Secret(""))
        return Target(
            tenant_id=tenant_id,
            integration_id=integration_id,
            partner=name,
            base_url=base_url(lender),
            credential=credential_of(lender, secret),
            max_concurrent_requests=(
                limits.max_concurrent_requests or partner.max_concurrent_requests or DEFAULT_CONCURRENCY
            ),
            requests_per_minute=limits.requests_per_minute or partner.requests_per_minute,
            requests_per_day=limits.requests_per_day or partner.requests_per_day,
            credential_query=credential_query(connection),
            query=query(connection),
            paths=paths(connection),
            grant=grant_of(integration, secret),
            secret=secret,
            integration=integration,
            hosts=module_hosts(lender),
            routing={} if lender.version_details.version == "2.1.1" else routing(integration),
        )

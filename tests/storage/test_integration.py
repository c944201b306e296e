"""What the bridge is told of an integration: address, credential and limits, whatever its type."""

from typing import Any

import pytest
from evbridge.options.v1 import options_pb2 as options
from evbridge.v1.integration_pb2 import Integration

from service.domain.fields import take_secrets
from service.domain.integration import credential_of, grant_of
from service.domain.secret import Secret
from service.errors import ResourceNotFound
from service.storage.api_key import api_key_create
from service.storage.integration import integration_insert, secrets_put
from service.storage.keyring import Keyring
from service.storage.pool import Database
from service.storage.target import DEFAULT_CONCURRENCY, IntegrationTargets
from tests.front_door import an_integration_of

PARTNERS = [options.Partner(name="ampeco", max_concurrent_requests=2)]
TARGETS: list[tuple[Integration, dict[str, Any]]] = [
    (
        an_integration_of("ocpi", "token-a"),
        {"base_url": "http://127.0.0.1:9/ocpi/versions", "credential": "dG9rZW4tYQ==", "grant": None},
    ),
    (an_integration_of("ocpi", ""), {"credential": ""}),
    (an_integration_of("utility_cloud", "secret"), {"base_url": "http://127.0.0.1:9", "credential": ""}),
    (an_integration_of("salesforce"), {"partner": "salesforce", "max_concurrent_requests": DEFAULT_CONCURRENCY}),
    (an_integration_of("emabler", "key"), {"credential": "key", "grant": None}),
    (an_integration_of("emabler", limits={"max_concurrent_requests": 9}), {"max_concurrent_requests": 9}),
    (
        an_integration_of("ampeco", limits={"requests_per_minute": 60, "requests_per_day": 1000}),
        {"max_concurrent_requests": 2, "requests_per_minute": 60, "requests_per_day": 1000},
    ),
    (an_integration_of("ampeco"), {"partner": "ampeco", "requests_per_minute": 0, "requests_per_day": 0}),
]


@pytest.mark.parametrize(("integration", "expected"), TARGETS)
async def test_a_target_follows_from_the_contract(
    database: Database, keyring: Keyring, integration: Integration, expected: dict[str, Any]
) -> None:
    stored = Integration(id="one")
    stored.MergeFrom(integration)
    async with database.transaction() as conn:
        await api_key_create(conn, keyring, "acme", "test", 3)
        secrets = take_secrets(stored)
        await integration_insert(conn, "acme", stored)
        await secrets_put(conn, keyring, "acme", "one", secrets)
    targets = IntegrationTargets(database, keyring, PARTNERS)
    target = await targets.target("acme", "one")
    told = {name: getattr(target, name) for name in expected}
    if "credential" in told:
        told["credential"] = target.credential.reveal()
    assert told == expected
    with pytest.raises(ResourceNotFound):
        await targets.target("acme", "other")


def test_a_secret_that_is_exchanged_for_tokens_is_in_the_grant_alone() -> None:
    for type, token_url, hosts in (
        ("utility_cloud", "http://127.0.0.1:9/token", None),
        ("salesforce", "http://127.0.0.1:9/services/oauth2/token", ("other.example",)),
    ):
        integration = an_integration_of(type, "secret", etag="1")
        if type == "salesforce":
            integration.salesforce.allowed_hosts.append("other.example")
        grant = grant_of(integration, Secret("secret"))
        assert grant is not None
        assert (grant.token_url, grant.client_id, grant.allowed_hosts) == (token_url, "evbridge", hosts)
        assert (grant.client_secret.reveal(), grant.version) == ("secret", "1")


def test_a_token_of_ocpi_is_sent_in_base64_unless_the_partner_wants_it_plain() -> None:
    integration = an_integration_of("ocpi")
    assert credential_of(integration, Secret("token-a")).reveal() == "dG9rZW4tYQ=="
    integration.ocpi.plain_authorization = True
    assert credential_of(integration, Secret("token-a")).reveal() == "token-a"

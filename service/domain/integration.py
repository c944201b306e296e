"""What the contract says about the connections of integrations, whatever their type: addresses, secrets, defaults."""

import base64
from collections.abc import Collection, Iterator, Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit

from evbridge.options.v1 import options_pb2 as options
from evbridge.v1.integration_pb2 import Integration, IntegrationModels, IntegrationType
from evbridge.v1.party_pb2 import PARTY_ROLE_EMSP
from google.api.field_behavior_pb2 import REQUIRED, field_behavior
from google.protobuf.message import Message

from service.domain.secret import Secret
from service.domain.target import Grant
from service.errors import IntegrationDisabled, InvalidArgument

T = TypeVar("T")

_PULL_MINUTES = 240


def pull_minutes(models: IntegrationModels) -> int:
    """Every how many minutes lists are pulled; 0 when none is."""
    names = (
        *("pull_location", "pull_tariff", "pull_tokens_all", "pull_session", "pull_cdr"),
        *("pull_hub_client", "pull_invoice_reconciliation"),
    )
    pulls = any(getattr(models, name) for name in names)
    return (models.pull_interval_minutes or _PULL_MINUTES) if pulls else 0


def token_parties(integration: Integration) -> list[str]:
    """The parties under which the partner issues tokens, such as DEEMP; of a party behind a platform, that one."""
    if integration.ocpi.platform_party_id:
        return [integration.ocpi.platform_party_country_code + integration.ocpi.platform_party_id]
    companies = integration.partner_company_details
    return sorted({each.country_code + each.party_id for each in companies if each.role == PARTY_ROLE_EMSP})


def speaker(integration: Integration, by_type: Mapping[IntegrationType.ValueType, T], lacking: InvalidArgument) -> T:
    """Who speaks with the partner. Raises `lacking` when nobody does with one of the type, IntegrationDisabled."""
    found = by_type.get(integration.type)
    if found is None:
        raise lacking
    if not integration.enabled:
        raise IntegrationDisabled.of(integration.id)
    return found


def type_name(type: IntegrationType.ValueType) -> str:
    """What the connection of this type is called: `utility_cloud`."""
    return IntegrationType.Name(type).removeprefix("INTEGRATION_TYPE_").lower()


def partner_name(integration: Integration) -> str:
    """Whose contract its calls follow: the type is named after its partner unless it has none of its own."""
    return integration.http.partner or type_name(integration.type)


def connection_of(integration: Integration) -> Message:
    connection: Message = getattr(integration, type_name(integration.type))
    return connection


def fill_defaults(connection: Message) -> None:
    """Fills what is empty and has a default."""
    for field in connection.DESCRIPTOR.fields:
        default = field.GetOptions().Extensions[options.default_value]
        if default and not getattr(connection, field.name):
            setattr(connection, field.name, default)


def addresses(connection: Message) -> dict[str, str]:
    """Field -> URL, empty ones too; the first is where requests go."""
    fields = [field.name for field in connection.DESCRIPTOR.fields if field.GetOptions().Extensions[options.url]]
    return {name: getattr(connection, name) for name in fields}


def hosts(connection: Message) -> Iterator[tuple[str, str]]:
    """(path, host) of those that a partner may send us to."""
    for field in connection.DESCRIPTOR.fields:
        if field.GetOptions().Extensions[options.host]:
            for position, host in enumerate(getattr(connection, field.name)):
                yield f"{field.name}[{position}]", host


def query(connection: Message) -> tuple[tuple[str, str], ...]:
    """The parameters that travel with every request."""
    named = ((field.GetOptions().Extensions[options.query], value) for field, value in connection.ListFields())
    return tuple((name, value) for name, value in named if name)


def credential_query(connection: Message) -> str:
    """The parameter of the query that carries the credential; "" when the partner's contract says how it travels."""
    values = (enum.values_by_number[value] for field, value in connection.ListFields() if (enum := field.enum_type))
    names = (value.GetOptions().Extensions[options.credential_query] for value in values)
    return next(filter(None, names), "")


def paths(connection: Message) -> dict[str, str]:
    """Name of an operation, as gRPC calls it -> its path."""
    named = ((field.GetOptions().Extensions[options.path_of], value) for field, value in connection.ListFields())
    return {f"/{name}": value for name, value in named if name}


def secret_paths(integration: Integration, *, required: bool = False) -> list[str]:
    """The paths of the secrets that its connection takes, or of those that it cannot do without."""
    return [
        f"{type_name(integration.type)}.{field.name}"
        for field in connection_of(integration).DESCRIPTOR.fields
        if field.GetOptions().Extensions[options.secret]
        and (not required or REQUIRED in field.GetOptions().Extensions[field_behavior])
    ]


def credential_of(integration: Integration, secret: Secret) -> Secret:
    """What is sent of a connection's secret: nothing of one that is exchanged for tokens, OCPI's in base64."""
    if grant_of(integration, secret):
        return Secret("")
    if integration.HasField("ocpi"):
        return credentials_token(secret, plain=integration.ocpi.plain_authorization)
    return secret


def credentials_token(token: Secret, *, plain: bool) -> Secret:
    """An OCPI token as it stands in the Authorization header (2.2.1, transport and format, Authorization header)."""
    return token if plain else Secret(base64.b64encode(token.reveal().encode()).decode())


def base_url(integration: Integration) -> str:
    """Where requests go."""
    return integration.ocpi.partner_versions_url or next(iter(addresses(connection_of(integration)).values()))


def routing(integration: Integration) -> dict[str, str]:
    """The headers that say from which party to which (OCPI 2.2.1, transport and format, Message routing headers)."""
    ocpi, headers = integration.ocpi, {}
    if integration.parties:
        headers = routing_from(integration.parties[0])
    theirs = {(each.country_code, each.party_id) for each in integration.partner_company_details}
    if ocpi.platform_party_id:
        theirs = {(ocpi.platform_party_country_code, ocpi.platform_party_id)}
    if len(theirs) == 1:
        country_code, party_id = theirs.pop()
        headers |= {"OCPI-to-country-code": country_code, "OCPI-to-party-id": party_id}
    return headers


def routing_from(owner: Any) -> dict[str, str]:
    """Those that say whose a request is: a party, or what names the party that owns the object; none for all else."""
    country_code, party_id = (getattr(owner, name, "") for name in ("country_code", "party_id"))
    return {"OCPI-from-country-code": country_code, "OCPI-from-party-id": party_id} if party_id else {}


def platform_party(integration: Integration) -> str:
    """Who an OCPI party is at its platform, such as "FRXYZ"; "" for one that is behind none."""
    ocpi = integration.ocpi
    return ocpi.platform_party_country_code + ocpi.platform_party_id if ocpi.platform_integration_id else ""


def module_hosts(integration: Integration) -> tuple[str, ...]:
    """Hosts of the modules of the agreed version, each with its port when that is not the scheme's."""
    return tuple(dict.fromkeys(urlsplit(each.url).netloc for each in integration.version_details.endpoints))


def grant_of(integration: Integration, secret: Secret) -> Grant | None:
    """For the types that are asked with OAuth 2.0 client credentials."""
    if integration.HasField("utility_cloud"):
        cloud = integration.utility_cloud
        return Grant(cloud.token_url, cloud.client_id, secret, cloud.scope, version=integration.etag)
    if integration.HasField("salesforce"):
        force = integration.salesforce
        return Grant(
            f"{force.endpoint_url}/services/oauth2/token",
            force.client_id,
            secret,
            allowed_hosts=tuple(force.allowed_hosts),
            version=integration.etag,
        )
    return None


def mark_secrets(integration: Integration, stored: Collection[str]) -> None:
    """Sets `<secret>_set` for every secret that its connection takes, by the paths of those that are stored."""
    connection = connection_of(integration)
    for path in secret_paths(integration):
        setattr(connection, f"{path.rpartition('.')[2]}_set", path in stored)

"""The other party of an exchange of credentials: how it is asked, what it says, and what we say of ourselves.

Source: OCPI 2.1.1, 2.2.1 and 2.3.0, versions and credentials.
"""

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any

from evbridge.partner.ocpi.v2 import credentials_pb2 as ocpi
from evbridge.partner.ocpi.v2.versions_pb2 import Endpoint, GetVersionDetailsRequest, ListVersionsRequest
from evbridge.v1.integration_pb2 import IntegrationModels
from evbridge.v1.ocpi_connection_pb2 import (
    INTERFACE_ROLE_RECEIVER,
    INTERFACE_ROLE_SENDER,
    INTERFACE_ROLE_UNSPECIFIED,
    PartnerCompany,
    VersionDetails,
)
from evbridge.v1.party_pb2 import (
    PARTY_ROLE_CPO,
    PARTY_ROLE_EMSP,
    PARTY_ROLE_HUB,
    PARTY_ROLE_OPEN_DATA,
    PARTY_ROLE_UNDEFINED,
    PARTY_ROLE_UNSPECIFIED,
    Party,
    PartyRole,
)
from evbridge.v1.types_pb2 import IMAGE_CATEGORY_UNSPECIFIED, BusinessDetails, ImageCategory

from service.bridge.addresses import EgressPolicy, UrlRefused, check_url
from service.bridge.channel import PartnerChannel
from service.bridge.codec import Decoded
from service.domain.integration import credentials_token
from service.domain.partner_error import PartnerCredentialRefused, PartnerFault
from service.domain.secret import Secret
from service.domain.target import Target
from service.domain.validation import validate
from service.errors import EndpointMissing, InvalidArgument, NoCommonVersion

VERSIONS = ("2.3.0", "2.2.1", "2.1.1")
"""Those that we speak, the highest first."""
_SERVICES = "/evbridge.partner.ocpi.v2"
_MAX_TOKEN = 64
_MAX_NAME = 255
_MAX_ENDPOINTS = 100
MAX_ROLES = 1000
"""A hub names the parties behind it, since 2.3.0."""
_SIDES = {"SENDER": INTERFACE_ROLE_SENDER, "RECEIVER": INTERFACE_ROLE_RECEIVER}
_ROLES = {
    name.removeprefix("PARTY_ROLE_"): role
    for name, role in PartyRole.items()
    if role not in (PARTY_ROLE_UNSPECIFIED, PARTY_ROLE_OPEN_DATA, PARTY_ROLE_UNDEFINED)
}
_PULLED = {
    "pull_location": "locations",
    "pull_tariff": "tariffs",
    "pull_session": "sessions",
    "pull_cdr": "cdrs",
    "pull_tokens_all": "tokens",
    "pull_hub_client": "hubclientinfo",
    "pull_invoice_reconciliation": "invoicereconciliation",
}


class OtherParty:
    """Asks one party at URLs that it gave out, with one token, in the form that it takes: found out by trial.

    `url` is the one that was called last. Every method raises what the channel raises.
    """

    def __init__(
        self, channel: PartnerChannel, target: Target, policy: EgressPolicy, token: Secret, *, plain: bool
    ) -> None:
        self._channel = channel
        self._target = target
        self._policy = policy
        self._token = token
        self._form_known = False
        self.plain = plain
        self.url = ""

    async def versions(self, url: str) -> dict[str, str]:
        """Version -> the URL of its details."""
        reply = (await self._call("VersionsService/ListVersions", ListVersionsRequest(), url)).message
        return {each.version: each.url for each in reply.data}

    async def details(self, version: str, url: str) -> VersionDetails:
        """The modules of a version, without those whose URL we do not call. Raises EndpointMissing for credentials."""
        self._form_known = False  # some decode the token where they list their versions, and not in 2.1.1
        reply = await self._call("VersionsService/GetVersionDetails", GetVersionDetailsRequest(), url)
        endpoints = reply.message.data.endpoints
        if len(endpoints) > _MAX_ENDPOINTS:
            raise PartnerFault(f"the version has more than {_MAX_ENDPOINTS} modules", partner="ocpi", http_status=200)
        details = VersionDetails(version=version)
        for each in filter(self._is_called, endpoints):
            role = _SIDES.get(each.role, INTERFACE_ROLE_UNSPECIFIED)
            details.endpoints.add(identifier=each.identifier, role=role, url=each.url)
        if not credentials_url(details):
            raise EndpointMissing(
                f"the partner's version {version} has no credentials module at an address that may be called"
            )
        return details

    async def get(self, url: str) -> None:
        """Reads its credentials."""
        await self._call("CredentialsService/GetCredentials", ocpi.GetCredentialsRequest(), url)

    async def post(self, url: str, ours: ocpi.Credentials) -> Decoded:
        """Registers."""
        return await self._call(
            "CredentialsService/PostCredentials", ocpi.PostCredentialsRequest(credentials=ours), url
        )

    async def put(self, url: str, ours: ocpi.Credentials) -> Decoded:
        """Gives it new credentials."""
        request = ocpi.PutCredentialsRequest(credentials=ours)
        return await self._call("CredentialsService/PutCredentials", request, url)

    async def delete(self, url: str) -> None:
        """Unregisters."""
        await self._call("CredentialsService/DeleteCredentials", ocpi.DeleteCredentialsRequest(), url)

    async def _call(self, method: str, request: Any, url: str) -> Decoded:
        self.url = url
        operation = self._channel.registry.operations[f"{_SERVICES}.{method}"]
        setattr(request, operation.integration_field, self._target.integration_id)
        if operation.address_field:
            setattr(request, operation.address_field, url)
        refusal: PartnerCredentialRefused | None = None
        for plain in (self.plain,) if self._form_known else (self.plain, not self.plain):
            credential = credentials_token(self._token, plain=plain)
            target = replace(self._target, base_url=url, credential=credential, secret=self._token)
            try:
                answer = await self._channel.call(operation, request, tenant_id=target.tenant_id, target=target)
            except PartnerCredentialRefused as error:
                refusal = refusal or error
                continue
            self.plain, self._form_known = plain, True
            return answer
        assert refusal is not None  # noqa: S101
        raise refusal

    def calls(self, url: str) -> bool:
        """Whether the egress guard lets us call it."""
        try:
            check_url(url, self._policy)
        except UrlRefused:
            return False
        return True

    def _is_called(self, endpoint: Endpoint) -> bool:
        """Whether it is sound, and its URL one that we call."""
        name = endpoint.identifier
        return name.isprintable() and 0 < len(name) <= _MAX_NAME and self.calls(endpoint.url)


def highest(offered: Sequence[str], spoken: Collection[str]) -> str:
    """The highest of the versions that both sides speak. Raises NoCommonVersion."""
    for version in offered:
        if version in spoken:
            return version
    raise NoCommonVersion(f"the partner speaks none of OCPI {', '.join(offered)}")


def credentials_url(details: VersionDetails) -> str:
    """Where its credentials module is, whatever its role; "" without one."""
    return next((each.url for each in details.endpoints if each.identifier == "credentials"), "")


def check_pulled(details: VersionDetails, models: IntegrationModels) -> None:
    """Raises EndpointMissing when the partner does not offer what we are to pull."""
    offered = {each.identifier for each in details.endpoints if each.role != INTERFACE_ROLE_RECEIVER}
    if missing := [module for flag, module in _PULLED.items() if getattr(models, flag) and module not in offered]:
        raise EndpointMissing(f"the partner offers no {' and no '.join(missing)} to pull, which `models` asks for")


def credentials_of(parties: Iterable[Party], token: Secret, versions_url: str, version: str) -> ocpi.Credentials:
    """Ours, as a version writes them: 2.1.1 knows one party."""
    credentials = ocpi.Credentials(token=token.reveal(), url=versions_url)
    if version == "2.1.1":
        party = next(iter(parties))
        credentials.country_code, credentials.party_id = party.country_code, party.party_id
        credentials.business_details.CopyFrom(_company(party.business_details))
        return credentials
    for party in parties:
        for role in dict.fromkeys(_role(role, version) for role in party.roles):
            credentials.roles.add(
                role=role,
                country_code=party.country_code,
                party_id=party.party_id,
                business_details=_company(party.business_details),
            )
        if version >= "2.3.0" and PARTY_ROLE_HUB in party.roles:
            credentials.hub_party_id = party.country_code + party.party_id
    return credentials


def companies_of(credentials: ocpi.Credentials, ours: Iterable[Party]) -> list[PartnerCompany]:
    """Who the other party is, in each of its roles; in 2.1.1, which tells none, it is what we are not.

    Raises InvalidArgument, whose path is one in the credentials, for a role that nobody can have.
    """
    roles = [*credentials.roles]
    if len(roles) > MAX_ROLES:
        raise InvalidArgument.field("roles", f"are more than {MAX_ROLES:,}")
    if not roles and credentials.HasField("party_id"):
        we_operate = any(PARTY_ROLE_CPO in party.roles for party in ours)
        roles = [
            ocpi.CredentialsRole(
                role=PartyRole.Name(PARTY_ROLE_EMSP if we_operate else PARTY_ROLE_CPO).removeprefix("PARTY_ROLE_"),
                country_code=credentials.country_code,
                party_id=credentials.party_id,
                business_details=credentials.business_details,
            )
        ]
    if not roles:
        raise InvalidArgument.field("roles", "is required: who the party is")
    return [_partner_company(each, f"roles[{number}].") for number, each in enumerate(roles)]


def token_in(credentials: ocpi.Credentials, token: Secret) -> Secret:
    """The token of credentials that were received. Raises InvalidArgument for one that nobody can send."""
    text = token.reveal()
    if not (0 < len(text) <= _MAX_TOKEN and text.isascii() and text.isprintable() and " " not in text):
        raise InvalidArgument.field("token", f"must be 1 to {_MAX_TOKEN} printable ASCII characters without spaces")
    return token


def hub_in(credentials: ocpi.Credentials) -> str:
    """The hub among the other parties, such as "NLHUB"; "" without one that can be."""
    hub = credentials.hub_party_id.upper()
    return hub if re.fullmatch("[A-Z]{2}[A-Z0-9]{3}", hub, re.ASCII) else ""


def _role(role: PartyRole.ValueType, version: str) -> str:
    name = PartyRole.Name(role).removeprefix("PARTY_ROLE_")
    return name if name in _ROLES and (name, version) != ("HUB", "2.3.0") else "OTHER"


def _company(details: BusinessDetails) -> ocpi.BusinessDetails:
    company = ocpi.BusinessDetails(name=details.name)
    if details.website:
        company.website = details.website
    if details.HasField("logo"):
        logo = details.logo
        category = ImageCategory.Name(logo.category).removeprefix("IMAGE_CATEGORY_")
        company.logo.CopyFrom(ocpi.Image(url=logo.url, category=category, type=logo.type))
        for name in ("thumbnail", "width", "height"):
            if value := getattr(logo, name):
                setattr(company.logo, name, value)
    return company


def _partner_company(role: ocpi.CredentialsRole, path: str) -> PartnerCompany:
    """A logo that we could not show is left out."""
    known = _ROLES.get(role.role, _ROLES["OTHER"])
    country_code, party_id = role.country_code.upper(), role.party_id.upper()
    party = Party(country_code=country_code, party_id=party_id, roles=[known])
    party.business_details.CopyFrom(_business_details(role.business_details, with_logo=True))
    try:
        validate(party, prefix=path)
    except InvalidArgument:
        party.business_details.CopyFrom(_business_details(role.business_details, with_logo=False))
        validate(party, prefix=path)
    return PartnerCompany(
        role=known, country_code=country_code, party_id=party_id, business_details=party.business_details
    )


def _business_details(company: ocpi.BusinessDetails, *, with_logo: bool) -> BusinessDetails:
    details = BusinessDetails(name=company.name)
    if with_logo:
        details.website = company.website
        if company.HasField("logo"):
            logo: Any = company.logo
            details.logo.url, details.logo.thumbnail, details.logo.type = logo.url, logo.thumbnail, logo.type
            categories = dict(ImageCategory.items())
            details.logo.category = categories.get(f"IMAGE_CATEGORY_{logo.category}", IMAGE_CATEGORY_UNSPECIFIED)
            for name in ("width", "height"):
                if logo.HasField(name):
                    setattr(details.logo, name, getattr(logo, name))
    return details

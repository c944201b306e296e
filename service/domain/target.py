"""Where the requests of one integration go."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from evbridge.v1.integration_pb2 import Integration

from service.domain.secret import Secret


@dataclass(frozen=True, slots=True)
class Grant:
    """What access tokens are given out for: OAuth 2.0 client credentials (RFC 6749, 4.4).

    The answer may say where to call, on the host of `token_url` or one of `allowed_hosts`; None: it is not heard.
    `version` changes with the integration, so that a token is never one of an older secret or address.
    """

    token_url: str
    client_id: str
    client_secret: Secret
    scope: str = ""
    allowed_hosts: tuple[str, ...] | None = None
    version: str = ""


@dataclass(frozen=True, slots=True)
class AccessToken:
    """`base_url` is where it is to be used, empty for the target's own. `lifetime_s` is None when nobody said."""

    value: Secret
    base_url: str = ""
    lifetime_s: float | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """`base_url` is absolute, without user, query or fragment; the credential travels only to its origin.

    `secret` is what is stored: as it is, or in another form, it makes the credential. It is no more shown than that.
    `integration` is as it was when all this was read.
    `timeout_s` bounds one request, from connecting to the last byte of the answer. A budget of 0 is unlimited. With a
    `grant` the credential is the token it was exchanged for, empty until then.

    `hosts` are those besides that of `base_url` that the credential may go to, by the same scheme, and
    `routing` are the headers of what goes to a party behind it.

    The rest is where an integration departs from its partner's contract: the parameter of the query that carries the
    credential instead of a header; parameters of every request, which are in no log or trace; and templates by the
    names of operations, for paths that are other ones here.
    """

    tenant_id: str
    integration_id: str
    partner: str
    base_url: str
    credential: Secret
    max_concurrent_requests: int
    timeout_s: float = 15.0
    requests_per_minute: int = 0
    requests_per_day: int = 0
    credential_query: str = ""
    query: tuple[tuple[str, str], ...] = ()
    paths: Mapping[str, str] = field(default_factory=dict)
    grant: Grant | None = None
    secret: Secret = Secret("")
    integration: Integration = field(default_factory=Integration)
    hosts: tuple[str, ...] = ()
    routing: Mapping[str, str] = field(default_factory=dict)

"""Where the requests of one integration go."""

from dataclasses import dataclass

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

    `timeout_s` bounds one request, from connecting to the last byte of the answer. A budget of 0 is unlimited. With a
    `grant` the credential is the token it was exchanged for, empty until then.
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
    grant: Grant | None = None

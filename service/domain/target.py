"""Where the requests of one integration go."""

from dataclasses import dataclass

from service.domain.secret import Secret


@dataclass(frozen=True, slots=True)
class Target:
    """`base_url` is absolute, without user, query or fragment; the credential travels only to its origin.

    `timeout_s` bounds one request, from connecting to the last byte of the answer. A budget of 0 is unlimited.
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

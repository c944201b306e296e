"""Where the requests of one integration go."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from service.domain.secret import Secret


@dataclass(frozen=True, slots=True)
class Target:
    """`base_url` is absolute, without user, query or fragment; the credential travels only to its origin.

    `timeout_s` bounds one request, from connecting to the last byte of the answer.

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
    credential_query: str = ""
    query: tuple[tuple[str, str], ...] = ()
    paths: Mapping[str, str] = field(default_factory=dict)

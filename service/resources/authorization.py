"""Whether a token may charge: what is said without asking the provider, and who asks it."""

from typing import Protocol

from evbridge.v1.authorization_pb2 import (
    ALLOWED_TYPE_ALLOWED,
    AllowedType,
    Authorization,
    AuthorizationSource,
    AuthorizeTokenRequest,
)
from evbridge.v1.token_pb2 import Token


class Authorizer(Protocol):
    """Asks one type of providers."""

    async def authorize(
        self, tenant_id: str, integration_id: str, asked: AuthorizeTokenRequest, timeout_s: float
    ) -> Authorization:
        """Raises EvbridgeError; PartnerNotFound when the provider does not know the token."""
        ...


def authorization_of(
    request: AuthorizeTokenRequest,
    token: Token | None,
    allowed: AllowedType.ValueType,
    source: AuthorizationSource.ValueType,
) -> Authorization:
    """What is said of a token as it is kept, if it is."""
    integration_id = token.integration_id if token else request.integration_id
    said = Authorization(allowed=allowed, token=token, source=source, integration_id=integration_id)
    if request.HasField("location") and allowed == ALLOWED_TYPE_ALLOWED:
        said.location.CopyFrom(request.location)
    return said

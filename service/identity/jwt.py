"""JSON Web Tokens of one issuer, beside API keys (RFC 7519; RFC 8725 says what to beware of)."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import jwt
from evbridge.options.v1.options_pb2 import ROLE_ADMIN, ROLE_READER, ROLE_WRITER

from service.domain.caller import Caller, role_name
from service.domain.keys import LOWER_CASE_ID
from service.errors import CredentialExpired, JwtInvalid
from service.identity.issuer_keys import IssuerKeys
from service.settings import Settings

_ROLES = {role_name(role).lower(): role for role in (ROLE_READER, ROLE_WRITER, ROLE_ADMIN)}
_CLAIMS = ("exp", "iss", "aud", "sub")
_MAX_SUBJECT = 200
_PROBLEMS: Mapping[type[Exception], tuple[str, str]] = {
    jwt.InvalidSignatureError: ("signature", "the token's signature is wrong"),
    jwt.InvalidAlgorithmError: ("algorithm", "the token is signed by an algorithm that is not its key's"),
    jwt.ImmatureSignatureError: ("not_yet", "the token is not valid yet"),
    jwt.InvalidAudienceError: ("audience", "the token is for another audience"),
    jwt.InvalidIssuerError: ("issuer", "the token is from another issuer"),
    jwt.MissingRequiredClaimError: ("claim", f"the token lacks one of the claims {', '.join(_CLAIMS)}"),
}


def looks_like_jwt(text: str) -> bool:
    return text.count(".") == 2


class JwtVerifier:
    """Tells who a token is about, by what the settings say of its issuer."""

    def __init__(self, settings: Settings, keys: IssuerKeys) -> None:
        self._keys = keys
        self._issuer = settings.jwt_issuer
        self._audience = settings.jwt_audience
        self._algorithms = settings.jwt_algorithms.split(",")
        self._leeway_s = settings.jwt_leeway_s
        self._tenant_claim = settings.jwt_tenant_claim
        self._role_claim = settings.jwt_role_claim

    async def caller(self, token: str) -> tuple[Caller, float]:
        """Whom it is about, and for how many seconds; the tenant may be none. Signatures are verified beside the loop.

        Raises JwtInvalid, JwtKeysUnavailable, CredentialExpired.
        """
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, RecursionError):
            raise JwtInvalid("the token is malformed", problem="malformed") from None
        if header.get("alg") not in self._algorithms:
            accepted = ", ".join(self._algorithms)
            raise JwtInvalid(f"the token is not signed by one of {accepted}", problem="algorithm")
        if not header.get("kid"):
            raise JwtInvalid("the token does not name the key it is signed with (kid)", problem="key")
        claims = await asyncio.to_thread(self._claims, token, self._keys.find(header["kid"]))
        caller = Caller(self._tenant(claims), _actor(claims["sub"]), self._role(claims))
        return caller, int(claims["exp"]) + self._leeway_s - time.time()

    def _claims(self, token: str, key: jwt.PyJWK) -> dict[str, Any]:
        try:
            return jwt.decode(
                token,
                key,
                algorithms=self._algorithms,
                audience=self._audience,
                issuer=self._issuer,
                leeway=self._leeway_s,
                options={"require": list(_CLAIMS)},
            )
        except jwt.ExpiredSignatureError:
            raise CredentialExpired("the token has expired") from None
        except (jwt.PyJWTError, OverflowError, RecursionError) as error:
            problem, message = _PROBLEMS.get(type(error), ("malformed", "the token is malformed"))
            raise JwtInvalid(message, problem=problem) from None

    def _tenant(self, claims: Mapping[str, Any]) -> str:
        tenant = _claim(claims, self._tenant_claim)
        if not (isinstance(tenant, str) and LOWER_CASE_ID.fullmatch(tenant)):
            raise JwtInvalid(f"the token names no tenant in its claim {self._tenant_claim}", problem="tenant")
        return tenant

    def _role(self, claims: Mapping[str, Any]) -> int:
        """The highest, where the claim is a list with others that are none of ours."""
        named = _claim(claims, self._role_claim)
        names = named if isinstance(named, list) else [named]
        known = [_ROLES[name] for name in names if isinstance(name, str) and name in _ROLES]
        if not known:
            roles = ", ".join(_ROLES)
            raise JwtInvalid(f"the token's claim {self._role_claim} has none of {roles}", problem="role")
        return max(known)


def _actor(subject: str) -> str:
    if not (0 < len(subject) <= _MAX_SUBJECT and subject.isprintable()):
        raise JwtInvalid("the token's subject is no name of up to 200 printable characters", problem="subject")
    return f"jwt/{subject}"


def _claim(claims: Mapping[str, Any], name: str) -> Any:
    """The claim of this name, or else the one at the end of a path: `realm_access.roles`."""
    if name in claims:
        return claims[name]
    found: Any = claims
    for step in name.split("."):
        found = found.get(step) if isinstance(found, dict) else None
    return found

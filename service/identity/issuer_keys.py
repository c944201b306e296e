"""The keys that an issuer of tokens signs with: its JWK Set (RFC 7517), read through the egress guard and kept.

They are read again when a token names one that is not among them, though not within a minute of the last time:
strangers can make up as many names as they like.
"""

import asyncio
import json
import logging
import time
from contextlib import suppress

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from service.bridge.egress import Egress, EgressError
from service.bridge.ports import Target
from service.bridge.transcode import HttpRequest
from service.domain.secret import Secret
from service.errors import JwtInvalid, JwtKeysUnavailable
from service.settings import JWT_ALGORITHMS

log = logging.getLogger(__name__)

_TIMEOUT_S = 5.0
_MAX_BYTES = 256 << 10
_MAX_KEYS = 100
_RSA_BITS = range(2048, 8193)
_LEAST_S = 60.0
_REFRESH_S = 300.0
_FIRST_PAUSE_S = 1.0
_KEPT_S = 24 * 3600.0


class IssuerKeys:
    """Kept up to date from `start` to `aclose`. What was read last holds for a day while nothing can be read."""

    def __init__(self, egress: Egress, url: str) -> None:
        self._egress = egress
        # No integration's: the issuer is the operator's choice, and is shown no credential.
        self._target = Target("", "", "", url, Secret(""), 1)
        self._keys: dict[str, jwt.PyJWK] = {}
        self._read_at = float("-inf")
        self._wanted = asyncio.Event()
        self._following: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Reads the keys, or says in the log why not, and goes on reading them."""
        loaded = await self._load()
        self._following = asyncio.create_task(self._follow(loaded))

    async def aclose(self) -> None:
        if self._following is not None:
            self._following.cancel()
            with suppress(asyncio.CancelledError):
                await self._following

    def find(self, id: str) -> jwt.PyJWK:
        """Raises JwtInvalid for a key that the issuer does not name, JwtKeysUnavailable while it is not known."""
        if time.monotonic() - self._read_at > _KEPT_S:
            raise JwtKeysUnavailable("the issuer's keys could not be read", retry_after_s=5.0)
        key = self._keys.get(id)
        if key is None:
            self._wanted.set()
            raise JwtInvalid("the token is signed with a key that its issuer does not name", problem="key")
        return key

    async def _follow(self, loaded: bool) -> None:
        pause_s = _FIRST_PAUSE_S
        while True:
            if loaded:
                pause_s = _FIRST_PAUSE_S
                await asyncio.sleep(_LEAST_S)
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._wanted.wait(), _REFRESH_S - _LEAST_S)
            else:
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, _LEAST_S)
            loaded = await self._load()

    async def _load(self) -> bool:
        self._wanted.clear()
        try:
            answer = await self._egress.request(
                self._target,
                HttpRequest("GET", "", (), None),
                headers={"Accept": "application/json"},
                credential_header="",
                credential_prefix="",
                timeout_s=_TIMEOUT_S,
            )
            if answer.status != 200 or answer.body is None or len(answer.body) > _MAX_BYTES:
                raise ValueError(f"HTTP status {answer.status}, or too large")
            self._keys = await asyncio.to_thread(_read, answer.body)
        except (EgressError, ValueError) as problem:
            log.warning("the issuer's keys cannot be read", extra={"problem": str(problem)})
            return False
        self._read_at = time.monotonic()
        return True


def _read(body: bytes) -> dict[str, jwt.PyJWK]:
    """The keys to verify signatures with, by their ids. Raises ValueError when there is none."""
    try:
        described = json.loads(body)["keys"][:_MAX_KEYS]
    except (ValueError, LookupError, TypeError, RecursionError):
        raise ValueError("the answer is no JWK Set") from None
    keys = {}
    for each in described:
        if not (isinstance(each, dict) and isinstance(each.get("kid"), str) and each.get("use", "sig") == "sig"):
            continue
        with suppress(jwt.PyJWTError, TypeError, ValueError):
            key = jwt.PyJWK(each)
            weak = isinstance(key.key, RSAPublicKey) and key.key.key_size not in _RSA_BITS
            if key.algorithm_name in JWT_ALGORITHMS and not weak:
                keys[each["kid"]] = key
    if not keys:
        raise ValueError("the JWK Set has no key that signatures are verified with")
    return keys

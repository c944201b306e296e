"""OAuth 2.0 client credentials (RFC 6749, 4.4): grants are exchanged for access tokens, which are kept while they hold.

A token is text that a header can carry, and a bearer's also when the partner names no type. How long it holds is in
`expires_in`, where the partner says so. What a partner says beside that is neither kept nor repeated.
"""

import asyncio
import base64
import re
import time
from dataclasses import replace
from typing import Any, Final
from urllib.parse import quote_plus, urlencode, urlsplit

from opentelemetry import trace

from service.bridge.addresses import check_given
from service.bridge.egress import AddressDenied, Answer, Egress, EgressError
from service.bridge.json_text import CodecError, parse_tolerantly
from service.bridge.ports import AccessToken, Grant, Target, Tokens
from service.bridge.transcode import HttpRequest
from service.domain.partner_error import (
    PartnerCredentialRefused,
    PartnerError,
    PartnerFault,
    PartnerRateLimited,
    PartnerUnavailable,
)
from service.domain.secret import Secret
from service.errors import EgressDenied
from service.telemetry import TO_PARTNERS

_MAX_ANSWER_BYTES: Final = 64 * 1024
_MAX_LIFETIME_S: Final = 86_400.0
_EARLY_S: Final = 60.0
"""How long before its end a token is asked for anew, and at most a tenth of its lifetime."""
_CODES: Final = frozenset(f"invalid_{what}" for what in ("request", "client", "grant", "scope")) | {
    "unauthorized_client",
    "unsupported_grant_type",
}
"""Of RFC 6749, 5.2."""
_TOKEN: Final = re.compile(r"[!-~]{1,16384}")
_Key = tuple[str, str, str]


class OAuth:
    """Made inside a running event loop. Callers that need a token of one integration at once wait for one exchange."""

    def __init__(self, tokens: Tokens, egress: Egress) -> None:
        self._tokens = tokens
        self._egress = egress
        self._under_way: dict[_Key, asyncio.Task[AccessToken]] = {}
        self._tracer = trace.get_tracer("evbridge.bridge")

    async def authorise(self, target: Target, *, refused: bool, timeout_s: float) -> Target:
        """The target with a token as its credential, and the address to use it at; as it is without a grant.

        With `refused` the target's credential is a token that the partner did not take. Raises what `ask` raises, and
        PartnerUnavailable after `timeout_s`.
        """
        if target.grant is None:
            return target
        spent = target.credential.reveal() if refused else ""
        try:
            async with asyncio.timeout(timeout_s):
                token = await self._kept(target, spent)
                if token is None:
                    token = await asyncio.shield(self._asking(target, spent))
        except TimeoutError:
            raise PartnerUnavailable("no access token came in time", partner=target.partner) from None
        return replace(target, credential=token.value, base_url=token.base_url or target.base_url)

    async def exchange(self, target: Target) -> AccessToken:
        """Asks for a token and keeps it in place of the one before. Raises what `ask` raises."""
        asked = time.monotonic()
        token = await self.ask(target)
        await self._tokens.keep(target, token, age_s=time.monotonic() - asked)
        return token

    async def ask(self, target: Target) -> AccessToken:
        """Asks for a token of a target with a grant.

        Raises PartnerCredentialRefused for a client that the partner does not accept, EgressDenied for an address that
        is not called or that it may not send us to, and other PartnerErrors.
        """
        assert target.grant is not None  # noqa: S101
        try:
            answer = await self._post(target, target.grant)
        except AddressDenied as error:
            host = urlsplit(target.grant.token_url).hostname or ""
            raise EgressDenied(f"a request for an access token was held back: {error}", host=host) from None
        except EgressError as error:
            raise PartnerUnavailable(f"no access token: {error}", partner=target.partner) from None
        members = _members(answer)
        if answer.status not in (200, 201):
            raise _refused(target, answer.status, members)
        value, address = members.get("access_token"), members.get("instance_url")
        bearer = str(members.get("token_type") or "Bearer").lower() == "bearer"
        if not (bearer and isinstance(value, str) and _TOKEN.fullmatch(value)):
            raise PartnerFault(
                f"{target.partner} answered with no bearer token", partner=target.partner, http_status=answer.status
            )
        base_url = ""
        if isinstance(address, str) and target.grant.allowed_hosts is not None:
            base_url = check_given(address, target.grant.token_url, target.grant.allowed_hosts)
        return AccessToken(Secret(value), base_url, _lifetime_s(members.get("expires_in")))

    async def _kept(self, target: Target, spent: str) -> AccessToken | None:
        token = await self._tokens.get(target)
        return None if token is None or token.value.reveal() == spent else token

    def _asking(self, target: Target, spent: str) -> asyncio.Task[AccessToken]:
        """The exchange under way, or a new one. It goes on when a caller gives up, for the others."""
        assert target.grant is not None  # noqa: S101
        key = (target.tenant_id, target.integration_id, target.grant.version)
        if (task := self._under_way.get(key)) is None:
            task = self._under_way[key] = asyncio.create_task(self._renewed(target, spent))
            task.add_done_callback(lambda ended: self._ended(key, ended))
        return task

    async def _renewed(self, target: Target, spent: str) -> AccessToken:
        if token := await self._kept(target, spent):  # since the caller looked
            return token
        await self._tokens.forget(target)
        return await self.exchange(target)

    def _ended(self, key: _Key, task: asyncio.Task[AccessToken]) -> None:
        del self._under_way[key]
        if not task.cancelled():
            task.exception()  # seen, also when nobody waits any more

    async def _post(self, target: Target, grant: Grant) -> Answer:
        """Raises EgressError. The client authenticates by HTTP Basic: every server must know it (RFC 6749, 2.3.1)."""
        form = {"grant_type": "client_credentials"} | ({"scope": grant.scope} if grant.scope else {})
        client = f"{quote_plus(grant.client_id)}:{quote_plus(grant.client_secret.reveal())}"
        headers = {"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded"}
        with self._tracer.start_as_current_span(
            "oauth.token",
            kind=trace.SpanKind.CLIENT,
            attributes={"http.request.method": "POST", "evbridge.integration.id": target.integration_id},
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            TO_PARTNERS.inject(headers)
            answer = await self._egress.request(
                replace(
                    target,
                    base_url=grant.token_url,
                    credential=Secret(base64.b64encode(client.encode()).decode()),
                ),
                HttpRequest("POST", "", (), urlencode(form).encode()),
                headers=headers,
                credential_header="Authorization",
                credential_prefix="Basic ",
                timeout_s=target.timeout_s,
            )
            span.set_attribute("http.response.status_code", answer.status)
            return answer


def _members(answer: Answer) -> dict[str, Any]:
    """The members of the JSON object in the body, none when there is no such object."""
    try:
        members = parse_tolerantly((answer.body or b"")[: _MAX_ANSWER_BYTES + 1])
    except CodecError:
        return {}
    return members if isinstance(members, dict) else {}


def _refused(target: Target, status: int, members: dict[str, Any]) -> PartnerError:
    code = members.get("error")
    error_class: type[PartnerError] = PartnerFault
    if status in (400, 401, 403):
        error_class = PartnerCredentialRefused
    elif status == 429:
        error_class = PartnerRateLimited
    elif status in (408, 502, 503, 504):
        error_class = PartnerUnavailable
    return error_class(
        f"{target.partner} gave out no access token: HTTP status {status}",
        partner=target.partner,
        http_status=status,
        partner_code=code if isinstance(code, str) and code in _CODES else "",
    )


def _lifetime_s(expires_in: Any) -> float | None:
    """For how long a token is used that holds for `expires_in` seconds; some say that as text."""
    try:
        seconds = min(float(expires_in), _MAX_LIFETIME_S)
    except (TypeError, ValueError, OverflowError):
        return None
    return max(0.0, seconds - min(_EARLY_S, seconds / 10))  # in this order, which makes 0 of NaN

"""A partner that gives out access tokens (OAuth 2.0 client credentials, RFC 6749, 4.4) and has no other API."""

import base64
import binascii
import json
import secrets
from collections import OrderedDict
from functools import partial
from typing import ClassVar, Final
from urllib.parse import parse_qsl, unquote_plus

from aiohttp import web
from aiohttp.typedefs import Handler

from service.bridge.edge import Edge, Refused, read
from service.simulator.front import Front
from service.simulator.objects import Object

MAX_TOKENS: Final = 1000


class Simulator(Front):
    """It accepts any client with its secret. The last tokens hold; a request with one of them finds nothing (404)."""

    asked_at: ClassVar[str] = "/token"

    def __init__(self, *, api_key: str) -> None:
        super().__init__(type(self).__module__.rpartition(".")[2], ())
        self._api_key = api_key
        self._tokens: OrderedDict[str, None] = OrderedDict()
        self._edge = Edge(
            (),
            error_body=self.error_body,
            middlewares=(self.middleware, web.middleware(partial(self._answer))),
            drain_s=0.5,
        )

    def rpc(self, method: str, path: str) -> str:
        return ""

    def granted(self, token: str) -> Object:
        """What the partner says beside the token."""
        return {"access_token": token, "token_type": "Bearer", "expires_in": 3600}

    def error_body(self, refused: Refused) -> bytes:
        return json.dumps({"error": refused.code.lower()}).encode()

    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if (request.method, request.path) == ("POST", self.asked_at):
            return web.json_response(self.granted(self._token(request, await read(request))))
        if request.headers.get("Authorization", "").removeprefix("Bearer ") not in self._tokens:
            raise Refused(401)
        return await handler(request)

    def _token(self, request: web.Request, body: bytes) -> str:
        """A new token. Raises Refused as RFC 6749, 5.2 has it."""
        form = dict(parse_qsl(body.decode("ascii", "replace"), max_num_fields=100))
        if form.get("grant_type") != "client_credentials":
            raise Refused(400, "UNSUPPORTED_GRANT_TYPE")
        if not secrets.compare_digest(_secret(request, form).encode(), self._api_key.encode()):
            raise Refused(401, "INVALID_CLIENT")
        token = secrets.token_urlsafe(32)
        self._tokens[token] = None
        if len(self._tokens) > MAX_TOKENS:
            self._tokens.popitem(last=False)
        return token


def _secret(request: web.Request, form: dict[str, str]) -> str:
    """The client's, which stands in the header or in the form (RFC 6749, 2.3.1)."""
    scheme, _, encoded = request.headers.get("Authorization", "").partition(" ")
    if scheme != "Basic":
        return form.get("client_secret", "")
    try:
        return unquote_plus(base64.b64decode(encoded, validate=True).decode().partition(":")[2])
    except (binascii.Error, ValueError):
        return ""

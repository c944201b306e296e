"""What was exchanged with a partner, and how much of it may be kept for people to see."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from evbridge.v1 import partner_pb2

MAX_TEXT: Final = 4096
_MAX_HEADER = 256
_MAX_PARSED = 1 << 18
_HIDDEN = "***"

# What stands below a name with one of these in it (its letters and digits alone, in lower case) is nobody's business.
_SECRET = ("password", "secret", "token", "apikey", "authorization", "cookie", "credential", "privatekey", "signature")
_PERSONAL = (
    "email",
    "phone",
    "mobile",
    "firstname",
    "middlename",
    "lastname",
    "surname",
    "fullname",
    "birth",
    "personalid",
    "taxid",
    "iban",
    "bankaccount",
    "cardnumber",
    "licenseplate",
    "idtag",
    "contractid",
    "authid",
    "visualnumber",
)
_NEVER_SHOWN = re.compile("|".join((*_SECRET, *_PERSONAL)))
_NOT_IN_A_NAME = re.compile("[^a-z0-9]")


@dataclass(frozen=True, slots=True)
class Exchange:
    """One HTTP request to a partner and its answer, with the credential redacted. `status` is 0 without an answer.

    What stands under a name of `personal` is personal data, by the contract.
    """

    tenant_id: str
    integration_id: str
    operation: str
    method: str
    url: str
    request_headers: dict[str, str]
    request_body: bytes
    status: int
    response_headers: dict[str, str]
    response_body: bytes
    duration_s: float
    personal: frozenset[str] = frozenset()


def kept(exchange: Exchange, now: datetime) -> partner_pb2.Exchange:
    """What is kept of an exchange that ended `now`."""
    shown = partner_pb2.Exchange(
        operation=exchange.operation.removeprefix("/"),
        http_method=exchange.method,
        url=_url(exchange.url, exchange.personal),
        request_headers=_headers(exchange.request_headers),
        request_body=_text(exchange.request_body, exchange.personal),
        http_status=exchange.status,
        response_headers=_headers(exchange.response_headers),
        response_body=_text(exchange.response_body, exchange.personal),
    )
    duration = timedelta(seconds=exchange.duration_s)
    shown.start_time.FromDatetime(now - duration)
    shown.duration.FromTimedelta(duration)
    return shown


def is_hidden(name: str) -> bool:
    """Whether nobody sees what a member, a parameter or a header of this name holds."""
    return _NEVER_SHOWN.search(_NOT_IN_A_NAME.sub("", name.lower())) is not None


def _url(url: str, personal: frozenset[str]) -> str:
    parts = urlsplit(url)
    query = [
        (name, _HIDDEN if name in personal or is_hidden(name) else value)
        for name, value in parse_qsl(parts.query, keep_blank_values=True)
    ]
    return parts._replace(query=urlencode(query, quote_via=quote, safe="*")).geturl()


def _headers(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: _HIDDEN if is_hidden(name) else _readable(value)[:_MAX_HEADER] for name, value in headers.items()}


def _readable(text: str) -> str:
    """A header is not always UTF-8: what is not arrives as halves of surrogate pairs."""
    return text.encode(errors="replace").decode()


def _text(body: bytes, personal: frozenset[str]) -> str:
    """The body without what must not be seen; only what is JSON has names to know that by."""
    if len(body) > _MAX_PARSED:
        return f"({len(body)} bytes)"
    try:
        value = _shown(json.loads(body), personal) if body else None
        shown = json.dumps(value, ensure_ascii=False, separators=(",", ":")) if body else ""
    except (ValueError, RecursionError):
        return f"({len(body)} bytes that are not JSON)"
    return shown.encode(errors="replace")[:MAX_TEXT].decode(errors="ignore")


def _shown(value: Any, personal: frozenset[str]) -> Any:
    if isinstance(value, dict):
        return {
            name: _HIDDEN if item and (name in personal or is_hidden(name)) else _shown(item, personal)
            for name, item in value.items()
        }
    return [_shown(item, personal) for item in value] if isinstance(value, list) else value

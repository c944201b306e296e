"""What people see of a request to a partner: in previews, recorded exchanges and traces. The credential is in none."""

from importlib.metadata import version
from urllib.parse import quote

from service.bridge.ports import Target
from service.bridge.registry import Operation
from service.bridge.transcode import HttpRequest

_USER_AGENT = f"evbridge/{version('evbridge')}"


def shown_url(target: Target, request: HttpRequest, *, with_values: bool = True) -> str:
    """The URL for people. Query values can hold personal data, so traces see their names only."""
    pairs = [f"{quote(name, '')}={quote(value, '') if with_values else 'REDACTED'}" for name, value in request.query]
    names = (target.credential_query, *(name for name, _ in target.query))
    pairs += [f"{quote(name, '')}=***" for name in names if name]
    return f"{target.base_url}{request.shown_path or request.path}" + ("?" + "&".join(pairs) if pairs else "")


def shown_headers(operation: Operation, target: Target, request: HttpRequest) -> dict[str, str]:
    """The headers that the contract asks for, with the credential redacted."""
    if credential_query(operation, target):
        return plain_headers(request)
    return plain_headers(request) | {operation.partner.credential_header: f"{operation.partner.credential_prefix}***"}


def plain_headers(request: HttpRequest) -> dict[str, str]:
    """Those that say nothing about the caller."""
    headers = {"Accept": "application/json", "User-Agent": _USER_AGENT}
    return headers if request.body is None else {**headers, "Content-Type": "application/json"}


def credential_query(operation: Operation, target: Target) -> str:
    """The parameter of the query that carries the credential, empty when a header does."""
    return target.credential_query or operation.partner.credential_query

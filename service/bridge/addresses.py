"""Which addresses may be called: one table for sockets and resolvers, one spelling of a base URL. Pure.

Python's `is_global` is not the table: it lets multicast, 6to4, NAT64 of private addresses and others through.
"""

import ipaddress
import re
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from service.errors import EgressDenied


def _networks(*texts: str) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    return tuple(map(ipaddress.ip_network, texts))


_DENIED = _networks(
    "0.0.0.0/8",  # this network
    "10.0.0.0/8",  # private
    "100.64.0.0/10",  # carrier-grade NAT, and Alibaba's metadata
    "127.0.0.0/8",  # loopback
    "168.63.129.16/32",  # Azure's host agent, on a public address
    "169.254.0.0/16",  # link-local, and the metadata of most clouds
    "172.16.0.0/12",  # private
    "192.0.0.0/24",  # protocol assignments, and Oracle's metadata
    "192.0.2.0/24",  # documentation
    "192.88.99.0/24",  # 6to4 relays
    "192.168.0.0/16",  # private
    "198.18.0.0/15",  # benchmarking
    "198.51.100.0/24",  # documentation
    "203.0.113.0/24",  # documentation
    "224.0.0.0/4",  # multicast
    "240.0.0.0/4",  # reserved, broadcast
    "2001::/23",  # protocol assignments: Teredo, benchmarking, ORCHID
    "2001:db8::/32",  # documentation
    "2002::/16",  # 6to4
    "3fff::/20",  # documentation
)
_GLOBAL = _networks("0.0.0.0/0", "2000::/3")
"""All that is handed out as global unicast. Loopback, ULA, link- and site-local, multicast, IPv4-compatible, segment
routing (5f00::/16) and local NAT64 lie outside."""
_CARRIES_IPV4 = _networks("::ffff:0:0/96", "64:ff9b::/96")
"""IPv4-mapped, and what DNS64 answers in networks without IPv4: judged by the IPv4 address inside."""
_LOOPBACK = _networks("127.0.0.0/8", "::1/128")

_BASE_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>[^\s/:@\\]+|\[[^\s/@\\]+\])(?::(?P<port>\d{1,5}))?(?P<path>/.*)?"
)
_PATH = re.compile(r"(?:/(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})+)*")
_NOT_IN_A_HOST = re.compile(r"[^a-z0-9.:-]")
_HOST_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_THIS_MACHINE = (
    "has a host that is not public; EVBRIDGE_EGRESS_ALLOW_LOOPBACK=true, which is for tests, allows this machine"
)
_DEFAULT_PORTS = {"http": 80, "https": 443}


class EgressError(Exception):
    """Base of what a request can fail with. The texts are ours and hold no secret."""


class AddressDenied(EgressError, OSError):
    """The address is not one we call. Nothing was sent."""


class UrlRefused(ValueError):
    """The text is not a base URL a partner may have; says why, in words for a field violation."""


@dataclass(frozen=True, slots=True)
class EgressPolicy:
    """What is allowed beyond https to public addresses. Both switches are for development and tests."""

    allow_loopback: bool = False
    allow_plain_http: bool = False

    def check_address(self, address: str, port: int) -> None:
        """Raises AddressDenied unless a socket may be opened to the numeric `address`."""
        try:
            ip = ipaddress.ip_address(address)
        except ValueError:
            raise AddressDenied("not a numeric address") from None
        if "%" in address:
            raise AddressDenied("the address names a network interface")
        if port == 0:
            raise AddressDenied("port 0 cannot be called")
        if self.allow_loopback and _within(ip, _LOOPBACK):
            return
        if not _is_public(ip):
            raise AddressDenied("the address is not public")


def _is_public(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    if _within(ip, _CARRIES_IPV4):
        return _is_public(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF))
    return _within(ip, _GLOBAL) and not _within(ip, _DENIED)


def _within(
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address,
    networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...],
) -> bool:
    return any(ip in network for network in networks)


def check_url(url: str, policy: EgressPolicy) -> str:
    """The normal form of a base URL, without a slash at its end.

    Raises UrlRefused. Only one spelling of a host passes: a canonical IP literal that the policy allows, or a plain
    ASCII name whose last label begins with a letter; resolvers read 127.1, 0x7f000001 or circled digits as addresses.
    """
    if len(url) > 255:
        raise UrlRefused("is longer than 255 characters")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise UrlRefused("holds a space, a control character or a character outside ASCII")
    scheme, separator, rest = url.partition("://")
    parts = _BASE_URL.fullmatch(scheme.lower() + separator + rest)
    if parts is None:
        raise UrlRefused("is not an http or https URL with a plain host, without user and backslash")
    if "?" in url or "#" in url:
        raise UrlRefused("has a query or a fragment")
    scheme, path = parts["scheme"], (parts["path"] or "").rstrip("/")
    if scheme == "http" and not policy.allow_plain_http:
        raise UrlRefused("is not https; EVBRIDGE_EGRESS_ALLOW_HTTP=true, which is for tests, allows http")
    if not _PATH.fullmatch(path) or any(unquote(segment) in (".", "..") for segment in path.split("/")):
        raise UrlRefused("has a path with empty segments, dot segments or characters that need encoding")
    port = int(parts["port"] or _DEFAULT_PORTS[scheme])
    if not 0 < port < 65536:
        raise UrlRefused("has a port outside 1 to 65535")
    host = _check_host(parts["host"].lower(), port, policy)
    return f"{scheme}://{host}{'' if port == _DEFAULT_PORTS[scheme] else f':{port}'}{path}"


def check_host(host: str, policy: EgressPolicy) -> None:
    """Raises UrlRefused for what could not be the host, with or without a port, of a base URL."""
    try:
        bare = urlsplit(f"https://{host}").netloc == host
    except ValueError:
        bare = False
    if not bare:
        raise UrlRefused("is not a host, such as acme.my.salesforce.com")
    check_url(f"https://{host}", policy)


def check_given(url: str, base_url: str, more_hosts: Collection[str] = ()) -> str:
    """The URL that a partner gave out, on the origin of `base_url` or, by the same scheme, on one of `more_hosts`.

    Raises EgressDenied, which names the host. Its spelling is judged when it is called.
    """
    host = ""
    try:
        host = urlsplit(url).hostname or ""
        own = origin(base_url)
        if origin(url) in {own, *(origin(f"{own[0]}://{each}") for each in more_hosts)}:
            return url
    except ValueError:
        pass
    raise leads_away(host)


def leads_away(host: str) -> EgressDenied:
    """The error for a URL of a partner's that is elsewhere; `host` is that of the URL."""
    host = _NOT_IN_A_HOST.sub("", host)[:255]
    return EgressDenied(f"the partner's answer leads to {host or 'no host'}, which is not its own address", host=host)


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port. Raises ValueError when the text is no URL."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)


def server(base_url: str) -> tuple[str, int]:
    """Host and port, empty and 0 when the text is no URL: the egress judges, and refuses, that."""
    try:
        return origin(base_url)[1:]
    except ValueError:
        return "", 0


def _check_host(host: str, port: int, policy: EgressPolicy) -> str:
    literal = host.removeprefix("[").removesuffix("]")
    try:
        ip = ipaddress.ip_address(literal)
    except ValueError:
        labels = host.split(".")
        if len(host) > 253 or not all(map(_HOST_LABEL.fullmatch, labels)) or not labels[-1][0].isalpha():
            raise UrlRefused("has a host that is neither a plain name nor a canonical IP address") from None
        if labels[-1] == "localhost" and not policy.allow_loopback:
            raise UrlRefused(_THIS_MACHINE) from None
        return host
    if (ip.version == 6) != (host != literal):
        raise UrlRefused("has a host that is neither a plain name nor a canonical IP address")
    try:
        policy.check_address(literal, port)
    except AddressDenied:
        raise UrlRefused(_THIS_MACHINE if _within(ip, _LOOPBACK) else "has a host that is not public") from None
    return f"[{ip.compressed}]" if ip.version == 6 else literal

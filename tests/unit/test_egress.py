"""What may be called, what may come back, and that a credential stays where it belongs. Loopback servers only."""

# ruff: noqa: RUF001 (the look-alike characters are the point)

import asyncio
import ipaddress
import re
import socket
import traceback
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from hypothesis import given
from hypothesis import strategies as st

from service.bridge import egress as egress_module
from service.bridge.addresses import check_given
from service.bridge.egress import (
    MAX_ANSWER_BYTES,
    AddressDenied,
    Answer,
    AnswerLost,
    AnswerTimeout,
    ConnectFailed,
    ConnectTimeout,
    Egress,
    EgressError,
    EgressPolicy,
    UrlRefused,
    check_host,
    check_url,
)
from service.bridge.transcode import HttpRequest
from service.domain.secret import Secret
from service.domain.target import Target
from service.errors import EgressDenied

STRICT = EgressPolicy()
LOOPBACK = EgressPolicy(allow_loopback=True, allow_plain_http=True)
PLAIN = EgressPolicy(allow_plain_http=True)
KEY = "key-4711-canary"

_DENIED = """
0.0.0.0 0.0.0.1 0.255.255.255 10.0.0.0 10.0.0.1 10.255.255.255 100.64.0.1 100.100.100.200 100.127.255.255 127.0.0.1
127.0.0.53 127.1.2.3 127.255.255.254 168.63.129.16 169.254.0.1 169.254.169.254 169.254.170.2 169.254.255.255
172.16.0.1 172.31.255.255 192.0.0.1 192.0.0.9 192.0.0.170 192.0.0.192 192.0.0.255 192.0.2.1 192.88.99.1 192.88.99.3
192.168.0.1 192.168.255.255 198.18.0.1 198.19.255.255 198.51.100.7 203.0.113.9 224.0.0.1 224.0.0.251 239.255.255.255
240.0.0.1 250.1.2.3 255.255.255.255 :: ::1 ::2 ::127.0.0.1 ::10.0.0.1 ::8.8.8.8 ::169.254.169.254 ::ffff:127.0.0.1
::ffff:10.0.0.1 ::ffff:169.254.169.254 ::ffff:192.168.1.1 ::ffff:0.0.0.0 ::ffff:255.255.255.255 ::ffff:0:127.0.0.1
64:ff9b::127.0.0.1 64:ff9b::10.0.0.1 64:ff9b::169.254.169.254 64:ff9b:1::1 64:ff9b:1::8.8.8.8 100::1 100:0:0:1::1
2001::1 2001:0:4136:e378:8000:63bf:3fff:fdd2 2001:0:7f00:1::1 2001:1::1 2001:2::1 2001:3::1 2001:10::1 2001:20::1
2001:db8::1 2001:db8:ffff::1 2002:7f00:1::1 2002:a00:1::1 2002:a9fe:a9fe::1 2002:808:808::1 3fff::1 3fff:fff:ffff::1
4000::1 5f00::1 fc00::1 fd00::1 fd00:ec2::254 fdff::1 fe80::1 febf::1 fec0::1 feff::1 ff01::1 ff02::1 ff02::fb ff0e::1
fe80::1%lo ::1%lo 2606:4700::1111%eth0
"""
DENIED = _DENIED.split()

_ALLOWED = """
1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.1 93.184.216.34 100.63.255.255 100.128.0.1 126.255.255.255 128.0.0.1
168.63.129.15 169.253.255.255 172.15.255.255 172.32.0.1 191.255.255.255 192.0.1.1 192.167.255.255 192.169.0.1
198.17.255.255 198.20.0.1 203.0.112.255 223.255.255.255 2606:4700:4700::1111 2001:4860:4860::8888 2001:200::1 2003::1
2a00:1450:4001:82a::200e 2600:: 3ffe::1 ::ffff:8.8.8.8 64:ff9b::8.8.8.8
"""
ALLOWED = _ALLOWED.split()


@pytest.mark.parametrize("address", DENIED)
def test_an_address_that_is_not_public_is_denied(address: str) -> None:
    with pytest.raises(AddressDenied):
        STRICT.check_address(address, 443)


@pytest.mark.parametrize("address", ALLOWED)
def test_a_public_address_is_allowed(address: str) -> None:
    STRICT.check_address(address, 443)


@pytest.mark.parametrize("address", DENIED)
def test_allow_loopback_opens_loopback_and_nothing_else(address: str) -> None:
    if address in ("127.0.0.1", "127.0.0.53", "127.1.2.3", "127.255.255.254", "::1"):
        LOOPBACK.check_address(address, 80)
    else:
        with pytest.raises(AddressDenied):
            LOOPBACK.check_address(address, 80)


@pytest.mark.parametrize("address", ["", "localhost", "127.1", "0x7f000001", "2130706433", "0177.0.0.1", "１.１.１.１"])
def test_what_is_not_a_numeric_address_is_denied(address: str) -> None:
    with pytest.raises(AddressDenied):
        STRICT.check_address(address, 443)


def test_port_0_is_denied() -> None:
    with pytest.raises(AddressDenied):
        STRICT.check_address("8.8.8.8", 0)


@given(st.ip_addresses(v=4), st.sampled_from(["::ffff:0:0", "64:ff9b::"]))
def test_an_ipv4_address_inside_an_ipv6_one_is_judged_as_itself(inner: ipaddress.IPv4Address, prefix: str) -> None:
    outer = ipaddress.IPv6Address(int(ipaddress.IPv6Address(prefix)) | int(inner))
    assert _allowed(str(outer)) == _allowed(str(inner))


@given(st.ip_addresses())
def test_nothing_that_python_knows_as_local_is_allowed(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    if ip.is_private or ip.is_loopback or ip.is_link_local or ip.is_multicast or ip.is_reserved:
        outside = ip.version == 6 and ip in ipaddress.ip_network("64:ff9b::/96")
        mapped = ip.version == 6 and ip.ipv4_mapped is not None
        assert outside or mapped or not _allowed(str(ip))


def _allowed(address: str) -> bool:
    try:
        STRICT.check_address(address, 443)
    except AddressDenied:
        return False
    return True


# Base URLs as people and attackers spell them.

REFUSED = [
    "",
    "api.example.com",
    "//api.example.com",
    "https:",
    "https://",
    "https:///v1",
    "https:api.example.com",
    "https:/api.example.com",
    "http://api.example.com",
    "ftp://api.example.com",
    "file:///etc/passwd",
    "gopher://127.0.0.1:70/",
    "http+unix://%2Fvar%2Frun%2Fdocker.sock/",
    "https+unix://api.example.com",
    "javascript:alert(1)",
    "https://127.0.0.1",
    "https://127.1",
    "https://127.0.1",
    "https://0x7f000001",
    "https://0x7f.0.0.1",
    "https://0x7f.1",
    "https://2130706433",
    "https://017700000001",
    "https://0177.0.0.1",
    "https://0",
    "https://0.0.0.0",
    "https://127.0.0.1.",
    "https://127.0.0.01",
    "https://①②⑦.⓪.⓪.①",
    "https://１２７.０.０.１",
    "https://127。0。0。1",
    "https://127．0．0．1",
    "https://api。example。com",
    "https://ⓔxample.com",
    "https://bücher.example",
    "https://[::1]",
    "https://[::1%lo]",
    "https://[::1%25lo]",
    "https://[fe80::1%25eth0]",
    "https://[2606:4700::1111%25eth0]",
    "https://[::ffff:127.0.0.1]",
    "https://[::ffff:7f00:1]",
    "https://[64:ff9b::7f00:1]",
    "https://[2002:7f00:1::]",
    "https://[fd00:ec2::254]",
    "https://[127.0.0.1]",
    "https://[8.8.8.8]",
    "https://[api.example.com]",
    "https://[::1",
    "https://::1",
    "https://2606:4700::1111",
    "https://169.254.169.254/latest/meta-data",
    "https://localhost",
    "https://LOCALHOST:8443",
    "https://metadata.localhost",
    "https://api.example.com.",
    "https://api..example.com",
    "https://.example.com",
    "https://-api.example.com",
    "https://api-.example.com",
    "https://api_1.example.com",
    "https://" + "a" * 64 + ".example.com",
    "https://api.example.c0m.1",
    "https://api.example.0x1",
    "https://ok@127.0.0.1",
    "https://user:password@api.example.com",
    "https://api.example.com@evil.example",
    "https://api.example.com:443@evil.example",
    "https://api.example.com\\@evil.example",
    "https://api.example.com\\v1",
    "https:\\\\api.example.com",
    "https://api.example.com%2eevil.example",
    "https://api%00.example.com",
    "https://api.example.com:0",
    "https://api.example.com:65536",
    "https://api.example.com:99999",
    "https://api.example.com:",
    "https://api.example.com:+443",
    "https://api.example.com:４４３",
    "https://api.example.com:http",
    "https://api.example.com:443:443",
    "https://api.example.com?key=1",
    "https://api.example.com/v1?key=1",
    "https://api.example.com/?",
    "https://api.example.com/#",
    "https://api.example.com#fragment",
    "https://api.example.com/v1/../../admin",
    "https://api.example.com/./v1",
    "https://api.example.com/%2e%2e/admin",
    "https://api.example.com/%2E./admin",
    "https://api.example.com//v1",
    "https://api.example.com/v 1",
    "https://api.example.com/v1%",
    "https://api.example.com/v1%zz",
    'https://api.example.com/"v1"',
    "https://api.example.com/ü",
    " https://api.example.com",
    "https://api.example.com ",
    "https://api.example.com\n",
    "https://api.example.com\r\nHost: evil.example",
    "https://api.example.com\t/v1",
    "https://api.\texample.com",
    "https://api.example.com\x00",
    "https://api.example.com\x7f",
    "https://api.example.com\u2028",
    "https://api.example.com/" + "v" * 256,
]

NORMAL_FORMS = {
    "https://api.chargeprice.app": "https://api.chargeprice.app",
    "https://api.chargeprice.app/": "https://api.chargeprice.app",
    "HTTPS://API.Chargeprice.APP/": "https://api.chargeprice.app",
    "https://api.example.com:443/v1/": "https://api.example.com/v1",
    "https://api.example.com:0443": "https://api.example.com",
    "https://api.example.com:8443/Public-API/v1%20x": "https://api.example.com:8443/Public-API/v1%20x",
    "https://xn--bcher-kva.example/a;b=c,(d)": "https://xn--bcher-kva.example/a;b=c,(d)",
    "https://partner": "https://partner",
    "https://3com.example": "https://3com.example",
    "https://8.8.8.8/x": "https://8.8.8.8/x",
    "https://[2606:4700:0000::1111]:8443": "https://[2606:4700::1111]:8443",
    "https://[2606:4700::1111]/": "https://[2606:4700::1111]",
}


@pytest.mark.parametrize("url", REFUSED)
def test_a_base_url_in_a_dubious_spelling_is_refused_when_saved(url: str) -> None:
    with pytest.raises(UrlRefused) as refused:
        check_url(url, STRICT)
    assert re.fullmatch(
        r"[a-z0-9 ,]+(ASCII|IP address|URL with a plain host, without user and backslash"
        r"|https; EVBRIDGE_EGRESS_ALLOW_HTTP=true, which is for tests, allows http"
        r"|public; EVBRIDGE_EGRESS_ALLOW_LOOPBACK=true, which is for tests, allows this machine)?[a-z0-9 ,]*",
        str(refused.value),
    ), "the reason is in our words and does not repeat the input"


@pytest.mark.parametrize(("url", "normal"), NORMAL_FORMS.items())
def test_a_good_base_url_is_brought_into_one_form(url: str, normal: str) -> None:
    assert check_url(url, STRICT) == normal
    assert check_url(normal, STRICT) == normal


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9:8443", "[::1]", "localhost", "demo.localhost"])
def test_the_refusal_of_this_machine_names_the_setting(host: str) -> None:
    with pytest.raises(UrlRefused, match="EVBRIDGE_EGRESS_ALLOW_LOOPBACK=true"):
        check_url(f"https://{host}", STRICT)
    with pytest.raises(UrlRefused) as refused:  # the control: of a private address no setting is named
        check_url("https://10.0.0.1", STRICT)
    assert "EVBRIDGE" not in str(refused.value)


def test_plain_http_and_loopback_are_there_for_development() -> None:
    assert check_url("http://127.0.0.1:8081/", LOOPBACK) == "http://127.0.0.1:8081"
    assert check_url("http://localhost:80", LOOPBACK) == "http://localhost"
    assert check_url("http://[::1]:8081", LOOPBACK) == "http://[::1]:8081"
    for url in ("http://10.0.0.1", "http://127.1", "http://[::1%lo]"):
        with pytest.raises(UrlRefused):
            check_url(url, LOOPBACK)


@given(st.text(alphabet="0123456789abcdefxX.:[]%@/\\?#-_１①。\t\r\n ", max_size=40))
def test_no_spelling_smuggles_an_address_past_the_table(rest: str) -> None:
    try:
        host = urlsplit(check_url(f"https://{rest}", STRICT)).hostname
    except UrlRefused:
        return
    assert host is not None
    try:
        # What the C library's resolver would take for an address.
        numeric = socket.inet_ntoa(socket.inet_aton(host))
    except OSError:
        return
    assert numeric == host
    assert _allowed(host)


# Requests.


class FakeResolver(AbstractResolver):
    """Gives the next of its answers to each look-up, the last one again and again."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.names: list[str] = []

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        self.names.append(host)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if not answer:
            raise OSError(None, f"no such name: {host}")
        return [
            ResolveResult(hostname=host, host=address, port=port, family=socket.AF_INET, proto=0, flags=0)
            for address in answer
        ]

    async def close(self) -> None:
        pass


class Wire:
    """A server as bare as it gets: hands each request's head to `answer`, which writes what it likes."""

    def __init__(self, answer: Callable[["Wire", bytes, asyncio.StreamWriter], Awaitable[None]]) -> None:
        self.received: list[bytes] = []
        self.connections = 0
        self.port = 0
        self._answer = answer

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while not writer.is_closing():
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
                await reader.readexactly(int(length[1]) if length else 0)
                self.received.append(head)
                await self._answer(self, head, writer)
        except (OSError, EOFError):
            pass
        finally:
            writer.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@asynccontextmanager
async def wire(answer: Callable[[Wire, bytes, asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[Wire]:
    stub = Wire(answer)
    server = await asyncio.start_server(stub.serve, "127.0.0.1", 0)
    stub.port = server.sockets[0].getsockname()[1]
    try:
        yield stub
    finally:
        server.close()


def answering(
    body: bytes, *headers: str, status: str = "200 OK"
) -> Callable[[Wire, bytes, asyncio.StreamWriter], Awaitable[None]]:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]

    async def answer(_: Wire, __: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write("".join(f"{line}\r\n" for line in lines).encode() + b"\r\n" + body)
        await writer.drain()

    return answer


@asynccontextmanager
async def egress(policy: EgressPolicy = LOOPBACK, resolver: AbstractResolver | None = None) -> AsyncIterator[Egress]:
    opened = Egress(policy, resolver)
    try:
        yield opened
    finally:
        await opened.aclose()


async def send(
    through: Egress,
    base_url: str,
    method: str = "GET",
    path: str = "/v1/companies",
    timeout_s: float = 20.0,
    key: str = KEY,
) -> Answer:
    body = b'{"a": 1}' if method in ("PUT", "POST", "PATCH") else None
    return await through.request(
        Target("acme", "cp", "chargeprice", base_url, Secret(key), 1),
        HttpRequest(method, path, (("filter[id]", "a b&c"),), body),
        headers={"Accept": "application/json"},
        credential_header="API-Key",
        credential_prefix="",
        timeout_s=timeout_s,
    )


async def test_a_request_carries_path_query_headers_and_credential() -> None:
    async with wire(answering(b'{"data": []}', "X-Trace: 1")) as partner, egress() as out:
        answer = await send(out, partner.url, path="/v1/companies/a%2Fb")
    assert (answer.status, answer.headers["x-trace"], answer.body) == (200, "1", b'{"data": []}')
    head = partner.received[0].decode()
    assert head.startswith("GET /v1/companies/a%2Fb?filter%5Bid%5D=a%20b%26c HTTP/1.1\r\n")
    assert f"API-Key: {KEY}\r\n" in head


@pytest.mark.parametrize(
    "base_url", ["http://127.0.0.1:{}", "http://[::1]:{}", "http://[::ffff:127.0.0.1]:{}", "http://localhost:{}",
                 "http://0x7f000001:{}", "http://2130706433:{}", "http://127.1:{}", "https://127.0.0.1:{}"]
)  # fmt: skip
async def test_loopback_in_any_spelling_is_not_reached(base_url: str) -> None:
    async with wire(answering(b"{}")) as canary, egress(PLAIN) as out:
        with pytest.raises(AddressDenied):
            await send(out, base_url.format(canary.port))
    assert canary.connections == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "0x7f000001", "localhost"])
async def test_the_socket_is_guarded_even_when_a_spelling_slipped_past_the_url_check(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(egress_module, "check_url", lambda url, policy: url)
    async with wire(answering(b"{}")) as canary, egress(PLAIN) as out:
        with pytest.raises(AddressDenied):
            await send(out, f"http://{host}:{canary.port}")
    assert canary.connections == 0


@pytest.mark.parametrize(
    "answer",
    [["127.0.0.1"], ["93.184.216.34", "127.0.0.1"], ["127.0.0.1", "93.184.216.34"], ["93.184.216.34", "::1"],
     ["93.184.216.34", "fe80::1%lo"], ["10.0.0.1"], ["169.254.169.254"]],
)  # fmt: skip
async def test_a_name_with_one_denied_address_is_not_called_at_all(answer: list[str]) -> None:
    async with wire(answering(b"{}")) as canary, egress(PLAIN, FakeResolver(answer)) as out:
        with pytest.raises(AddressDenied):
            await send(out, f"http://partner.example:{canary.port}")
    assert canary.connections == 0


async def test_a_name_that_moves_to_a_denied_address_is_refused_from_then_on() -> None:
    resolver = FakeResolver(["127.0.0.1"], ["169.254.169.254"])
    async with wire(answering(b"{}")) as partner, egress(LOOPBACK, resolver) as out:
        base_url = f"http://partner.example:{partner.port}"
        assert (await send(out, base_url, "PUT")).status == 200
        with pytest.raises(AddressDenied):
            await send(out, base_url, "PUT")
    assert len(partner.received) == 1


async def test_a_redirect_is_an_answer_and_is_not_followed() -> None:
    async with wire(answering(b"{}")) as canary:
        for status in ("301 Moved", "302 Found", "303 See Other", "307 Temporary Redirect", "308 Permanent Redirect"):
            location = f"Location: {canary.url}/v1/companies"
            async with wire(answering(b"", location, status=status)) as partner, egress() as out:
                for method in ("GET", "PUT", "POST"):
                    assert (await send(out, partner.url, method)).status == int(status[:3])
    assert canary.received == []


@pytest.mark.parametrize("path", ["@evil.example/", ".evil.example/", ":1@evil.example/"])
async def test_a_path_cannot_lead_the_credential_to_another_host(path: str) -> None:
    async with egress() as out:
        with pytest.raises(AddressDenied):
            await send(out, "http://localhost:80", path=path)


async def test_cookies_are_not_kept() -> None:
    resolver = FakeResolver(["127.0.0.1"])
    async with wire(answering(b"{}", "Set-Cookie: session=1")) as partner, egress(resolver=resolver) as out:
        for _ in range(2):
            await send(out, f"http://partner.example:{partner.port}")
    assert len(partner.received) == 2
    assert all(b"cookie" not in head.lower() for head in partner.received)


async def test_the_environments_proxy_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with wire(answering(b"{}")) as proxy, wire(answering(b"{}")) as partner, egress() as out:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("http_proxy", proxy.url)
        await send(out, partner.url)
    assert (proxy.connections, partner.connections) == (0, 1)


# Bodies.

_TEXT = b'{"data": [' + b"1," * 5000 + b"1]}"


def _gzip(text: bytes, wbits: int = 31) -> bytes:
    compressor = zlib.compressobj(wbits=wbits)
    return compressor.compress(text) + compressor.flush()


@pytest.mark.parametrize(
    ("sent", "encoding", "read"),
    [
        (_TEXT, "identity", _TEXT),
        (_gzip(_TEXT), "gzip", _TEXT),
        (_gzip(_TEXT), "X-GZIP", _TEXT),
        (_gzip(_TEXT, 15), "deflate", _TEXT),
        (b"", "gzip", b""),
        (_gzip(b""), "gzip", b""),
        (bytes(MAX_ANSWER_BYTES), "identity", bytes(MAX_ANSWER_BYTES)),
        (bytes(MAX_ANSWER_BYTES + 1), "identity", None),
        (_gzip(bytes(MAX_ANSWER_BYTES)), "gzip", bytes(MAX_ANSWER_BYTES)),
        (_gzip(bytes(MAX_ANSWER_BYTES + 1)), "gzip", None),
        *((_gzip(bytes(size)), "gzip", bytes(size)) for size in (262_143, 262_144, 262_145, 524_288, 524_289)),
        (_gzip(bytes(262_144)) + _gzip(b"1"), "gzip", bytes(262_144) + b"1"),
        (_gzip(_TEXT)[:-1], "gzip", None),
        (_gzip(_TEXT) + b"more", "gzip", None),
        (_gzip(_TEXT) + _gzip(b"[]"), "gzip", _TEXT + b"[]"),
        (_gzip(_TEXT) + bytes(600) + _gzip(b"") + bytes(1), "gzip", _TEXT),
        (_gzip(_TEXT) + _gzip(b"[]")[:-1], "gzip", None),
        (_gzip(bytes(MAX_ANSWER_BYTES)) + _gzip(b"1"), "gzip", None),
        (_gzip(b"") * 1000, "gzip", b""),
        (_gzip(b"") * 1001, "gzip", None),
        (_gzip(b"[]") + bytes(MAX_ANSWER_BYTES), "gzip", None),
        (_TEXT, "", _TEXT),
        (_TEXT, "None", _TEXT),
        (_TEXT, "gzip", None),
        (_TEXT, "br", None),
        (_gzip(_TEXT), "gzip, gzip", None),
    ],
    ids=lambda value: repr(value)[:12] + (f"...{len(value)}" if isinstance(value, bytes) else ""),
)
async def test_a_body_is_read_whole_within_the_limit_or_not_at_all(
    sent: bytes, encoding: str, read: bytes | None
) -> None:
    async with wire(answering(sent, f"Content-Encoding: {encoding}")) as partner, egress() as out:
        answer = await send(out, partner.url)
    assert answer.status == 200
    assert answer.body == read


async def test_a_bomb_is_not_unpacked() -> None:
    async with wire(answering(_gzip(bytes(256 * 1024 * 1024)), "Content-Encoding: gzip")) as partner, egress() as out:
        tracemalloc.start()
        try:
            assert (await send(out, partner.url)).body is None
            assert tracemalloc.get_traced_memory()[1] < 4 * MAX_ANSWER_BYTES
        finally:
            tracemalloc.stop()


async def test_an_endless_body_is_left_at_the_limit() -> None:
    async def endless(_: Wire, __: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"10000\r\n" + bytes(65536) + b"\r\n")
            await writer.drain()

    async with wire(endless) as partner, egress() as out:
        assert await send(out, partner.url, "PUT") == Answer(200, {"Transfer-Encoding": "chunked"}, None)


# Failures.


async def _drip(_: Wire, __: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.02)


async def _silence(_: Wire, __: bytes, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(3600)


async def _hang_up(_: Wire, __: bytes, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def _half(_: Wire, __: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
    writer.close()


async def _not_http(_: Wire, head: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(b"SSH-2.0-OpenSSH_9.2\r\n" + head)
    writer.close()


FAILURES = {
    "drip": (_drip, AnswerTimeout),
    "silence": (_silence, AnswerTimeout),
    "hang up": (_hang_up, AnswerLost),
    "half a body": (_half, AnswerLost),
    "not http": (_not_http, AnswerLost),
    "long header": (answering(b"{}", "X: " + "x" * 20000), AnswerLost),
    "many headers": (answering(b"{}", *(f"X-{n}: {n}" for n in range(200))), AnswerLost),
}


@pytest.mark.parametrize("method", ["GET", "PUT", "POST"])
@pytest.mark.parametrize("failure", FAILURES)
async def test_a_request_without_a_whole_answer_may_have_taken_effect(failure: str, method: str) -> None:
    behave, expected = FAILURES[failure]
    async with wire(behave) as partner, egress() as out:
        with pytest.raises(EgressError) as raised:
            await send(out, partner.url, method, timeout_s=0.5 if expected is AnswerTimeout else 20)
    assert type(raised.value) is expected
    assert partner.received
    assert _keeps_the_secret(raised.value)


@pytest.mark.parametrize("method", ["GET", "PUT"])
async def test_a_request_that_found_no_connection_was_never_sent(method: str) -> None:
    async with wire(answering(b"{}")) as partner:
        pass
    async with egress(resolver=FakeResolver([])) as out:
        for base_url in (partner.url, f"https://127.0.0.1:{partner.port}", "http://nowhere.example"):
            with pytest.raises(ConnectFailed) as raised:
                await send(out, base_url, method)
            assert _keeps_the_secret(raised.value)


async def test_a_server_that_speaks_no_tls_gets_no_request() -> None:
    async with wire(_hang_up) as partner, egress() as out:
        with pytest.raises(ConnectFailed) as raised:
            await send(out, f"https://127.0.0.1:{partner.port}", timeout_s=0.5)
    assert partner.received == []
    assert _keeps_the_secret(raised.value)


@pytest.mark.parametrize("key", ["a\r\nX-Injected: 1", "a\nb", "a\x00b", "schlüssel"])
async def test_a_credential_that_is_no_header_value_is_not_sent(key: str) -> None:
    async with wire(answering(b"{}")) as partner, egress() as out:
        with pytest.raises(ConnectFailed) as raised:
            await send(out, partner.url, key=key)
    assert partner.connections == 0
    assert key not in str(raised.value)


@pytest.mark.parametrize("method", ["PUT", "DELETE", "POST", "PATCH", "GET"])
async def test_a_request_on_a_dying_connection_arrives_once(method: str) -> None:
    """aiohttp repeats some methods by itself; whether a request may be repeated is not its to decide."""

    async def first_well_then_hang_up(server: Wire, head: bytes, writer: asyncio.StreamWriter) -> None:
        if len(server.received) == 1:
            await answering(b"{}")(server, head, writer)
        else:
            writer.close()

    async with wire(first_well_then_hang_up) as partner, egress() as out:
        assert (await send(out, partner.url, method)).status == 200
        with pytest.raises(AnswerLost):
            await send(out, partner.url, method)
    assert len(partner.received) == 2
    assert partner.connections == (1 if method == "GET" else 2)


async def test_reads_share_a_connection() -> None:
    async with wire(answering(b"{}")) as partner, egress() as out:
        for _ in range(5):
            await send(out, partner.url)
    assert (partner.connections, len(partner.received)) == (1, 5)


def _keeps_the_secret(error: BaseException) -> bool:
    """Nothing of aiohttp hangs on the exception, so no formatter, debugger or error tracker finds the headers."""
    told = "".join(traceback.format_exception(error)) + repr(error) + str(error)
    return KEY not in told and error.__cause__ is None and error.__context__ is None


GIVEN = {
    "http://a.example/other": True,
    "http://A.example:80": True,
    "http://b.example:81/x": True,
    "http://c.example": True,
    "http://c.example:80": True,
    "http://c.example:443": False,
    "http://a.example:81": False,
    "https://a.example": False,
    "http://b.example": False,
    "http://a.example.evil.example": False,
    "//a.example/x": False,
    "/x": False,
    "": False,
    "http://[": False,
    "http://a.example:port": False,
}


@pytest.mark.parametrize("host", ["a.example", "a.example:8443", "8.8.8.8", "[2606:4700::1111]:443"])
def test_a_host_is_what_may_be_the_host_of_a_base_url(host: str) -> None:
    check_host(host, STRICT)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "127.0.0.1",
        "10.0.0.1:443",
        "127.1",
        "2130706433",
        "0x7f000001",
        "localhost",
        "a.localhost",
        "a..example",
        "a.example:0",
        "a.example:65536",
        "a.example:",
        "a.example/x",
        "u@a.example",
        "a.example?",
        "a.example#",
        "[",
    ],
)
def test_a_host_that_no_base_url_may_have_is_refused(host: str) -> None:
    with pytest.raises(UrlRefused):
        check_host(host, STRICT)


@pytest.mark.parametrize(("url", "accepted"), GIVEN.items())
def test_a_url_that_a_partner_gives_out_stays_with_its_host(url: str, accepted: bool) -> None:
    try:
        assert check_given(url, "http://a.example/here", ["b.example:81", "c.example"]) == url
    except EgressDenied:
        assert not accepted
    else:
        assert accepted


@pytest.mark.parametrize("timeout_s", [0.0, -1.0])
async def test_without_time_nothing_is_sent(timeout_s: float) -> None:
    async with wire(answering(b"{}")) as stub, egress() as through:
        with pytest.raises(ConnectTimeout):
            await send(through, stub.url, timeout_s=timeout_s)
        assert stub.received == []


async def test_a_hundred_requests_under_way_do_not_hold_up_another() -> None:
    everyone = asyncio.Barrier(101)

    async def answer(stub: Wire, request: bytes, writer: asyncio.StreamWriter) -> None:
        await everyone.wait()
        await answering(b"{}")(stub, request, writer)

    async with wire(answer) as stub, egress() as through:
        answers = await asyncio.gather(*(send(through, stub.url) for _ in range(101)))
    assert {each.status for each in answers} == {200}

"""The door of OCPI parties: who gets in, and that whatever is sent is answered in OCPI's envelope."""

import asyncio
import base64
import io
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from evbridge.v1.integration_pb2 import GetIntegrationRequest, Integration, UpdateIntegrationRequest
from evbridge.v1.registration_pb2 import IssueInitialTokenRequest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings

from service.app import Evbridge
from service.ocpi import listener
from service.storage.statements import Statement
from tests.conftest import Tenant
from tests.front_door import fails
from tests.ocpi.door import ID, VERSIONS, Ask, Partner, ask, encoded, mutated, partner, plain, text

__all__ = ["ask", "partner"]


async def test_versions_and_details_are_ours(ask: Ask, partner: Partner, running: Evbridge) -> None:
    answer = await ask("GET", "/ocpi/versions", partner.initial)
    assert (answer.status, answer.code) == (200, 1000)
    assert answer.body["data"] == [
        {"version": version, "url": f"{running.ocpi_url}/ocpi/{version}"} for version in VERSIONS
    ]
    for version in VERSIONS:
        answer = await ask("GET", f"/ocpi/{version}/", partner.initial)
        (module,) = (each for each in answer.body["data"]["endpoints"] if each["identifier"] == "credentials")
        assert module["url"] == f"{running.ocpi_url}/ocpi/{version}/credentials"
        assert module.get("role") == ("SENDER" if version > "2.2" else None)


FORMS: dict[str, Callable[[str], str]] = {
    "as it is": plain,
    "base64": encoded,
    "base64 without its end": lambda token: encoded(token).rstrip("="),
    "base64 with a line end, as in the specification": lambda token: encoded(token + "\n"),
    "another case": lambda token: encoded(token).replace("Token", "token"),
    "more spaces": lambda token: plain(token).replace(" ", "  "),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
async def test_a_token_is_read_in_every_form(ask: Ask, partner: Partner, form: Callable[[str], str]) -> None:
    assert (await ask("GET", "/ocpi/versions", form(text(partner.registered)))).status == 200


STRANGERS = {
    "nothing": "",
    "no scheme": "evbo_x",
    "another scheme": "Bearer evbo_" + 43 * "x",
    "unknown": plain("evbo_" + 43 * "x"),
    "unknown in base64": encoded("evbo_" + 43 * "x"),
    "of another shape": plain("token-a"),
    "no base64": plain("%%%"),
    "no text": f"Token {base64.b64encode(bytes(range(255))).decode()}",
    "endless": plain("x" * 4000),
}


@pytest.mark.parametrize("token", STRANGERS.values(), ids=STRANGERS)
async def test_a_stranger_is_refused_before_a_body_is_read(ask: Ask, running: Evbridge, token: str) -> None:
    for path in ("/ocpi/versions", "/ocpi/2.2.1/credentials", "/nothing"):
        answer = await ask("GET", path, token)
        assert (answer.status, answer.code, answer.headers["WWW-Authenticate"]) == (401, 2000, "Token")
    host, _, port = running.ocpi_url.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"POST /ocpi/2.2.1/credentials HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\nContent-Length: 900\r\n\r\n"
    writer.write(head.encode())
    assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 401 ")
    writer.close()


async def test_the_token_decides_what_may_be_done_with_credentials(ask: Ask, partner: Partner) -> None:
    path = "/ocpi/2.2.1/credentials"
    body = {"token": "token-b", "url": "http://127.0.0.1:9/versions", "roles": ROLES}
    assert (await ask("POST", path, partner.registered, json=body)).status == 405
    assert (await ask("PUT", path, partner.initial, json=body)).status == 405
    refused = await ask("DELETE", path, partner.initial)
    assert (refused.status, refused.code, refused.headers["Allow"]) == (405, 2000, "GET, POST")
    assert (await ask("PATCH", path, partner.registered, json=body)).status == 405
    for token in (partner.initial, partner.registered):
        answer = await ask("GET", path, token)
        assert answer.body["data"]["token"] == text(token)
        assert answer.body["data"]["url"].endswith("/ocpi/versions")
    # The one of a registration was used for more than reading versions, which ends the older one here, not the newer.
    assert (await ask("DELETE", path, partner.registered)).code == 1000
    for token in (partner.initial, partner.registered):
        assert (await ask("GET", path, token)).status == 401


async def test_a_use_is_remembered(ask: Ask, partner: Partner, tenant: Tenant, running: Evbridge) -> None:
    used = Statement(
        "used", "SELECT initial, confirmed, use_time IS NOT NULL FROM partner_token WHERE tenant_id = $1 ORDER BY 1"
    )

    async def seen() -> list[tuple[bool, ...]]:
        return [tuple(row) for row in await running.database.rows(used, tenant.name)]

    assert await seen() == [(False, False, False), (True, False, False)]
    await ask("GET", "/ocpi/versions", partner.registered)
    assert await seen() == [(False, False, True), (True, False, False)]
    await ask("GET", "/ocpi/2.2.1/credentials", partner.registered)
    assert await seen() == [(False, True, True), (True, False, False)]


async def test_ids_of_a_request_stand_in_its_answer(ask: Ask, partner: Partner) -> None:
    ids = {"X-Request-ID": "r-1", "X-Correlation-ID": "c-1"}
    for path, token in (("/ocpi/versions", partner.initial), ("/ocpi/versions", ""), ("/nothing", partner.initial)):
        answer = await ask("GET", path, token, headers=ids)
        assert {name: answer.headers[name] for name in ids} == ids


async def test_one_partner_has_a_share_and_another_has_its_own(
    ask: Ask, partner: Partner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "MAX_REQUESTS_PER_PARTNER", 0)
    answer = await ask("GET", "/ocpi/versions", partner.registered)
    assert (answer.status, answer.code, answer.headers["Retry-After"]) == (429, 2000, "1")
    monkeypatch.undo()
    answers = await asyncio.gather(*(ask("GET", "/ocpi/versions", partner.registered) for _ in range(20)))
    assert {answer.status for answer in answers} == {200}


async def test_a_token_is_made_for_the_own_integrations_alone(
    partner: Partner, new_tenant: Callable[[], Awaitable[Tenant]]
) -> None:
    stranger = await new_tenant()
    request = IssueInitialTokenRequest(integration_id=ID)
    assert (await fails(stranger.admin.registration.IssueInitialToken(request))).reason == "RESOURCE_NOT_FOUND"


async def test_without_a_party_of_ours_there_are_no_details(ask: Ask, partner: Partner, tenant: Tenant) -> None:
    request = UpdateIntegrationRequest(integration=Integration(id=ID))
    request.update_mask.paths.append("parties")
    await tenant.admin.integrations.UpdateIntegration(request)
    for path in ("/ocpi/2.2.1", "/ocpi/2.2.1/credentials"):
        answer = await ask("GET", path, partner.initial)
        assert (answer.status, answer.code) == (200, 3000)


ROLES = [{"role": "CPO", "country_code": "NL", "party_id": "TNM", "business_details": {"name": "The New"}}]
BODY = {"token": "token-b", "url": "http://127.0.0.1:9/versions", "roles": ROLES}
# A body of POST credentials; HTTP status; status code of OCPI's.
BODIES: dict[str, tuple[Any, int, int]] = {
    "nothing": (b"", 400, 2000),
    "no JSON": (b"{", 400, 2000),
    "no UTF-8": (b'{"token": "\xff"}', 400, 2000),
    "deep": (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, 400, 2000),
    "a number that is none": (b'{"token": NaN}', 400, 2000),
    "a list": (b"[]", 400, 2000),
    "no members": (b"{}", 200, 2001),
    "another type": (json.dumps(BODY | {"token": {"a": 1}}).encode(), 200, 2001),
    "a token of lines": (json.dumps(BODY | {"token": "a\nb"}).encode(), 200, 2001),
    "a long token": (json.dumps(BODY | {"token": "x" * 65}).encode(), 200, 2001),
    "no roles": (json.dumps(BODY | {"roles": []}).encode(), 200, 2001),
    "more roles than a hub has": (json.dumps(BODY | {"roles": [{}] * 1001}).encode(), 200, 2001),
    "a country of no letters": (json.dumps(BODY | {"roles": [ROLES[0] | {"country_code": "12"}]}).encode(), 200, 2001),
    "no url": (json.dumps(BODY | {"url": None}).encode(), 200, 2001),
    "a url inside": (json.dumps(BODY | {"url": "http://10.0.0.1/versions"}).encode(), 200, 3001),
    "a url of another scheme": (json.dumps(BODY | {"url": "ftp://x.example"}).encode(), 200, 3001),
    "nobody there": (json.dumps(BODY).encode(), 200, 3001),
    "too much": (b'"' + b"x" * (1 << 20) + b'"', 413, 2000),
}


@pytest.mark.parametrize("url", ["http://me:hidden@x.example/versions", "http://x.example/versions?key=hidden"])
async def test_a_secret_in_a_url_is_not_shown(ask: Ask, partner: Partner, tenant: Tenant, url: str) -> None:
    answer = await ask("POST", "/ocpi/2.2.1/credentials", partner.initial, json=BODY | {"url": url})
    assert answer.code == 3001
    shown = await tenant.reader.integrations.GetIntegration(GetIntegrationRequest(id=ID))
    assert shown.status_description and "hidden" not in f"{shown}{answer.body}"


@pytest.mark.parametrize(("body", "status", "code"), BODIES.values(), ids=BODIES)
async def test_a_body_that_will_not_do_has_a_status_of_http_or_of_ocpi(
    ask: Ask, partner: Partner, body: bytes, status: int, code: int
) -> None:
    answer = await ask("POST", "/ocpi/2.2.1/credentials", partner.initial, data=io.BytesIO(body))
    assert (answer.status, answer.code) == (status, code), answer.body
    assert answer.body["status_message"]


async def test_a_body_that_ends_too_early_is_no_fault(partner: Partner, running: Evbridge) -> None:
    host, _, port = running.ocpi_url.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"POST /ocpi/2.2.1/credentials HTTP/1.1\r\nHost: x\r\nAuthorization: {partner.initial}\r\n"
    writer.write(head.encode() + b"Content-Length: 900\r\n\r\n{")
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    assert not answer or b'"status_code"' in answer


async def test_whatever_is_sent_there_is_an_envelope_and_no_fault(
    ask: Ask, partner: Partner, soak: Callable[[int], int]
) -> None:
    bodies: list[bytes] = []

    @hypothesis_settings(max_examples=soak(1000), suppress_health_check=list(HealthCheck), derandomize=True)
    @given(mutated(BODY | {"business_details": {"name": "x"}, "party_id": "TNM"}))
    def collect(body: bytes) -> None:
        bodies.append(body)

    collect()
    for number, body in enumerate(bodies):
        method, token = (("POST", partner.initial), ("PUT", partner.registered))[number % 2]
        path = f"/ocpi/{VERSIONS[number % 3]}/credentials"
        answer = await ask(method, path, token, data=body)
        assert answer.status in (200, 400), (body, answer)
        assert answer.code != 1000 and answer.code // 1000 in (2, 3), (body, answer)


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"])
@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/ocpi",
        "/ocpi/versions",
        "/ocpi/9.9.9",
        "/ocpi/2.2.1",
        "/ocpi/2.2.1//credentials",
        "/ocpi/2.2.1/credentials/x",
        "/ocpi/cpo/2.2.1/nothing",
        "/ocpi/%ff/%00",
        "/ocpi/2.2.1?" + "a=b&" * 200,
    ],
)
async def test_every_path_and_method_is_answered_in_an_envelope(
    ask: Ask, partner: Partner, method: str, path: str
) -> None:
    answer = await ask(method, path, partner.initial)
    assert answer.status in ((200, 400, 404, 405) if method == "GET" else (400, 404, 405))

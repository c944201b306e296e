"""Partners that register with us: several at once, with addresses that are none of theirs, and what the log keeps."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from evbridge.v1.integration_pb2 import CreateIntegrationRequest, GetIntegrationRequest
from evbridge.v1.ocpi_connection_pb2 import INTERFACE_ROLE_BOTH, OcpiConnection
from evbridge.v1.party_pb2 import PartyKey
from evbridge.v1.registration_pb2 import IssueInitialTokenRequest

from service.partners.ocpi.party import OtherParty
from tests.conftest import Tenant
from tests.front_door import an_integration_of
from tests.ocpi.door import ID, VERSIONS, Ask, Partner, ask, encoded, partner, text
from tests.ocpi.party import TOKEN, Party, Said

__all__ = ["ask", "partner"]

PATH = "/ocpi/2.2.1/credentials"
ROLES = [{"role": "CPO", "country_code": "NL", "party_id": "TNM", "business_details": {"name": "The New"}}]


@dataclass
class Awaited(Party):
    """Answers nobody before as many as `of` have asked for its versions."""

    of: int = 1
    asked: int = 0
    all_asked: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, request: web.Request) -> web.Response:
        if request.path.endswith("/versions"):
            self.asked += 1
            if self.asked >= self.of:
                self.all_asked.set()
            await self.all_asked.wait()
        return await super().answer(request)


@pytest.fixture
async def other() -> AsyncIterator[Party]:
    async with Party().listening() as party:
        yield party


def body(party: Party, **changes: Any) -> dict[str, Any]:
    return {"token": TOKEN, "url": f"{party.url}/ocpi/versions", "roles": ROLES} | changes


@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_of_two_requests_at_once_with_one_token_one_counts(ask: Ask, partner: Partner, method: str) -> None:
    token = partner.initial if method == "POST" else partner.registered
    async with Awaited(of=2).listening() as party:
        answers = await asyncio.gather(*(ask(method, PATH, token, json=body(party)) for _ in range(2)))
        assert Counter((answer.status, answer.code) for answer in answers) == {(200, 1000): 1, (409, 2000): 1}
        (won,) = (answer for answer in answers if answer.code == 1000)
        # Its answer may have been lost: another request is none too many, and what was lost ends with the next use.
        again = await ask(method, PATH, token, json=body(party))
        assert again.code == 1000
    new = encoded(again.body["data"]["token"])
    assert (await ask("GET", PATH, new)).code == 1000
    for old in (partner.initial, partner.registered, encoded(won.body["data"]["token"])):
        assert (await ask("GET", PATH, old)).status == 401


def roles(*parties: tuple[str, str, str]) -> list[dict[str, Any]]:
    return [
        {"role": role, "country_code": country_code, "party_id": party_id, "business_details": {"name": "The New"}}
        for role, country_code, party_id in parties
    ]


async def test_nobody_is_shown_what_is_for_a_provider_that_is_registered_elsewhere(
    ask: Ask, partner: Partner, tenant: Tenant, other: Party
) -> None:
    """As a control, who is registered as that provider may say so again."""
    emp, new = ("EMSP", "DE", "EMP"), ("EMSP", "NL", "TNM")
    assert (await ask("POST", PATH, partner.initial, json=body(other, roles=roles(emp)))).code == 1000
    integration = an_integration_of(
        "ocpi",
        "",
        id="second",
        parties=[PartyKey(country_code="DE", party_id="ABC")],
        ocpi=OcpiConnection(initial_role=INTERFACE_ROLE_BOTH),
    )
    await tenant.admin.integrations.CreateIntegration(CreateIntegrationRequest(integration=integration))
    issued = await tenant.admin.registration.IssueInitialToken(IssueInitialTokenRequest(integration_id="second"))
    for taken in (emp, ("EMSP", "DE", "ABC")):
        refused = await ask("POST", PATH, encoded(issued.token), json=body(other, roles=roles(new, taken)))
        assert (refused.status, refused.code) == (200, 2001)
        assert f"DE*{taken[2]}, who is registered elsewhere" in refused.body["status_message"]
    stored = await tenant.reader.integrations.GetIntegration(GetIntegrationRequest(id="second"))
    assert not (stored.ocpi.their_token_set or stored.partner_company_details)
    assert "DE*ABC" in stored.status_description
    hub = body(other, roles=roles(("HUB", "NL", "HUB"), new, emp), hub_party_id="NLHUB")
    answer = await ask("POST", "/ocpi/2.3.0/credentials", encoded(issued.token), json=hub)
    assert answer.code == 1000
    stored = await tenant.reader.integrations.GetIntegration(GetIntegrationRequest(id="second"))
    assert [each.party_id for each in stored.partner_company_details] == ["HUB", "TNM"]
    assert (await ask("PUT", PATH, partner.registered, json=body(other, roles=roles(emp)))).code == 1000


INSIDE = [
    "http://169.254.169.254/latest/meta-data/iam",
    "http://[::ffff:169.254.169.254]/ocpi",
    "http://[::ffff:a9fe:a9fe]/ocpi",
    "http://[fd00:ec2::254]/ocpi",
    "http://[64:ff9b::a9fe:a9fe]/ocpi",
    "http://2852039166/ocpi",
    "http://0xa9fea9fe/ocpi",
    "http://0251.0376.0251.0376/ocpi",
    "http://169.254.43518/ocpi",
    "http://10.0.0.1/ocpi",
    "http://0.0.0.0/ocpi",
    "http://user@10.0.0.1/ocpi",
    "http://10.0.0.1%2f@x.example/ocpi",
    "http://metadata.google.internal./ocpi",
    "http://169。254。169。254/ocpi",
    "file:///etc/passwd",
    "gopher://127.0.0.1:25/",
]


@pytest.mark.parametrize("url", INSIDE)
async def test_no_address_inside_is_called_for_a_partner(
    ask: Ask, partner: Partner, tenant: Tenant, other: Party, url: str
) -> None:
    def of_versions(said: Said) -> None:
        if said.path.endswith("/versions"):
            for version in said.body["data"]:
                version["url"] = url

    def of_details(said: Said) -> None:
        if said.path.endswith("/2.2.1"):
            for endpoint in said.body["data"]["endpoints"]:
                endpoint["url"] = url

    def elsewhere(said: Said) -> None:
        said.status, said.body, said.headers["Location"] = 302, b"", url

    credentials = (3001, body(other, url=url), lambda said: None)
    ways = [credentials, *((code, body(other), way) for code, way in ((3001, of_versions), (3003, of_details)))]
    for code, sent, way in [*ways, (3001, body(other), elsewhere)]:
        other.change = way  # type: ignore[assignment]
        answer = await ask("POST", PATH, partner.initial, json=sent)
        assert (answer.status, answer.code) == (200, code), (way, answer.body)
        assert "Errno" not in answer.body["status_message"]
    integration = await tenant.reader.integrations.GetIntegration(GetIntegrationRequest(id=ID))
    assert not integration.ocpi.their_token_set
    other.change = lambda said: None
    assert (await ask("POST", PATH, partner.initial, json=body(other))).code == 1000


def logged(caplog: pytest.LogCaptureFixture) -> str:
    """With the fields beside the messages."""
    return caplog.text + "".join(str(vars(record)) for record in caplog.records)


FAILURES: dict[str, Any] = {
    "refuses the token": lambda said: setattr(said, "status", 401),
    "an error with the token in it": lambda said: (
        setattr(said, "status", 500),
        setattr(said, "body", f'{{"status_message": "{TOKEN}"}}'.encode()),
    ),
    "no JSON but the token": lambda said: setattr(said, "body", TOKEN.encode()),
    "the token as a version": lambda said: said.body.update(data=[{"version": TOKEN, "url": TOKEN}]),
    "the token as a URL": lambda said: said.body.update(data=[{"version": "2.2.1", "url": f"http://{TOKEN}.example"}]),
    "the token as a status": lambda said: said.body.update(status_code=2001, status_message=TOKEN),
}


@pytest.mark.parametrize("change", FAILURES.values(), ids=FAILURES)
async def test_a_token_stands_in_no_log_answer_or_status_however_an_exchange_fails(
    ask: Ask, partner: Partner, tenant: Tenant, other: Party, caplog: pytest.LogCaptureFixture, change: Any
) -> None:
    caplog.set_level(logging.DEBUG)
    for version in VERSIONS:
        for where in ("/versions", f"/{version}"):

            def changed(said: Said, where: str = where) -> None:
                if said.path.endswith(where):
                    change(said)

            other.change = changed
            answer = await ask("POST", f"/ocpi/{version}/credentials", partner.initial, json=body(other))
            integration = await tenant.reader.integrations.GetIntegration(GetIntegrationRequest(id=ID))
            told = f"{answer.body} {integration}"
            assert answer.code == 3001 or answer.code == 3002, answer.body
            for secret in (TOKEN, text(partner.initial), partner.initial.removeprefix("Token ")):
                assert secret not in told
                assert secret not in logged(caplog)


async def test_a_control_a_token_that_is_logged_is_found(
    ask: Ask,
    partner: Partner,
    other: Party,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = OtherParty.versions

    async def telling(party: OtherParty, url: str) -> dict[str, str]:
        logging.getLogger("service").warning("asked", extra={"problem": party._token.reveal()})
        return await seen(party, url)

    monkeypatch.setattr(OtherParty, "versions", telling)
    await ask("POST", PATH, partner.initial, json=body(other))
    assert TOKEN in logged(caplog)

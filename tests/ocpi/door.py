"""A partner at the door of OCPI parties: requests with a token of its own, whose answers are envelopes."""

import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
from evbridge.v1.integration_pb2 import CreateIntegrationRequest
from evbridge.v1.ocpi_connection_pb2 import INTERFACE_ROLE_BOTH, OcpiConnection
from evbridge.v1.party_pb2 import CreatePartyRequest, PartyKey
from evbridge.v1.registration_pb2 import IssueInitialTokenRequest
from hypothesis import strategies as st

from service.app import Evbridge
from service.resources.registration import token_give
from service.storage.partner_token import new_token
from tests.conftest import Tenant
from tests.front_door import a_party, an_integration_of

ID = "roaming"
VERSIONS = ("2.3.0", "2.2.1", "2.1.1")


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Any
    body: dict[str, Any]

    @property
    def code(self) -> int:
        code: int = self.body["status_code"]
        return code


Ask = Callable[..., Awaitable[Answer]]


@pytest.fixture
async def ask(running: Evbridge) -> AsyncIterator[Ask]:
    """Sends a request, and demands an envelope."""
    async with aiohttp.ClientSession() as http:

        async def sent(method: str, path: str, token: str = "", **more: Any) -> Answer:
            headers = more.pop("headers", {}) | ({"Authorization": token} if token else {})
            async with http.request(method, running.ocpi_url + path, headers=headers, **more) as answer:
                assert answer.content_type == "application/json"
                body = json.loads(await answer.read() or b"{}") if method != "HEAD" else {"status_code": 0}
                if method != "HEAD":
                    assert {"status_code", "timestamp"} <= body.keys() <= {"data", "status_message", *body}
                assert answer.status != 500
                return Answer(answer.status, answer.headers, body)

        yield sent


@dataclass(frozen=True)
class Partner:
    """Tokens of one partner as they stand in the header."""

    initial: str
    registered: str


def plain(token: str) -> str:
    return f"Token {token}"


def encoded(token: str) -> str:
    return f"Token {base64.b64encode(token.encode()).decode()}"


@pytest.fixture
async def partner(tenant: Tenant, running: Evbridge) -> Partner:
    return await partner_of(tenant, running)


async def partner_of(tenant: Tenant, running: Evbridge) -> Partner:
    await tenant.admin.parties.CreateParty(CreatePartyRequest(party=a_party()))
    integration = an_integration_of(
        "ocpi",
        "",
        id=ID,
        parties=[PartyKey(country_code="DE", party_id="ABC")],
        ocpi=OcpiConnection(initial_role=INTERFACE_ROLE_BOTH),
    )
    await tenant.admin.integrations.CreateIntegration(CreateIntegrationRequest(integration=integration))
    registered = new_token()
    async with running.database.transaction() as conn:
        await token_give(conn, running.keyring, tenant.name, ID, registered)
    issued = await tenant.admin.registration.IssueInitialToken(IssueInitialTokenRequest(integration_id=ID))
    return Partner(encoded(issued.token), encoded(registered.reveal()))


def text(header: str) -> str:
    return base64.b64decode(header.removeprefix("Token ")).decode()


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=70),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def mutated(draw: st.DrawFn, valid: Any) -> bytes:
    """An object in which some places are changed or taken away, and now and then bytes are."""
    body: Any = json.loads(json.dumps(valid))
    for _ in range(draw(st.integers(1, 3))):
        place = body
        while True:
            key = draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
            if not isinstance(place[key], dict | list) or not place[key] or draw(st.booleans()):
                break
            place = place[key]
        if draw(st.booleans()):
            place[key] = draw(JSON)
        elif isinstance(place, dict):
            del place[key]
        if not body:
            break
    text = json.dumps(body).encode()
    if draw(st.integers(0, 3)) == 0:
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(st.binary(max_size=4)) + text[at + draw(st.integers(0, 4)) :]
    return text

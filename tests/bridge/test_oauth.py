"""Calls to partners that want access tokens: asked for once, kept sealed, asked for again when they are over."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest
from evbridge.options.v1 import options_pb2 as options
from evbridge.v1.integration_pb2 import Integration
from evbridge.v1.salesforce_connection_pb2 import SalesforceConnection
from google.protobuf.descriptor_pb2 import MethodOptions

from service.bridge.channel import PartnerChannel
from service.bridge.egress import Egress
from service.bridge.oauth import OAuth
from service.bridge.ports import Exchange
from service.bridge.registry import Registry
from service.domain.delivery import RetryPolicy
from service.domain.partner_error import PartnerCredentialRefused, PartnerUnavailable
from service.domain.secret import Secret
from service.domain.target import AccessToken
from service.errors import EgressDenied
from service.storage.access_token import AccessTokens, sql
from service.storage.api_key import api_key_create
from service.storage.gate import PartnerGate
from service.storage.integration import integration_insert, integration_replace, secrets_put
from service.storage.keyring import Keyring
from service.storage.pool import Database
from service.storage.statements import Statement
from service.storage.target import IntegrationTargets
from tests.contracts import INTEGRATION_ID, contract, field, message
from tests.front_door import an_integration_of
from tests.partners import TokenPartner

REGISTRY = Registry.of(
    [
        contract(
            message("Request", field("integration_id", "string", INTEGRATION_ID), field("id", "string")),
            message("Reply", field("name", "string")),
            rpcs=[
                {
                    "name": "Get",
                    "request": "Request",
                    "response": "Reply",
                    "http": {"get": "/things/{id}"},
                    "idempotency_level": MethodOptions.NO_SIDE_EFFECTS,
                }
            ],
            partner=options.Partner(
                name="salesforce",
                credential_header=options.CredentialHeader(name="Authorization", prefix="Bearer "),
            ),
        )
    ]
)
(GET,) = REGISTRY.operations.values()
PAST = Statement("tokens end", "UPDATE access_token SET expire_time = now()")


@pytest.fixture
async def partner() -> AsyncIterator[TokenPartner]:
    async with TokenPartner().listening() as listening:
        yield listening


@pytest.fixture
async def integration(database: Database, keyring: Keyring, partner: TokenPartner) -> Integration:
    """Integration "crm" of the tenant "acme"; many requests may be under way."""
    connection = SalesforceConnection(endpoint_url=partner.url, client_id="evbridge")
    made = an_integration_of("salesforce", "", id="crm", etag="1", salesforce=connection)
    made.limits.max_concurrent_requests = 64
    async with database.transaction() as conn:
        await api_key_create(conn, keyring, "acme", "test", 3)
        await integration_insert(conn, "acme", made)
        await secrets_put(conn, keyring, "acme", "crm", {"salesforce.client_secret": Secret("partner-key")})
    return made


class Process:
    """What one process has for itself."""

    def __init__(self, database: Database, keyring: Keyring, egress: Egress) -> None:
        self.targets = IntegrationTargets(database, keyring, [])
        self.tokens = AccessTokens(database, keyring)
        self.oauth = OAuth(self.tokens, egress)
        self.exchanges: list[Exchange] = []
        self.channel = PartnerChannel(
            REGISTRY,
            self.targets,
            PartnerGate(database, RetryPolicy(base_s=1.0, max_attempts=5)),
            egress,
            {},
            listen=self.exchanges.append,
            authorise=self.oauth.authorise,
        )

    async def get(self) -> str:
        request = GET.request_type(integration_id="crm", id="1")  # type: ignore[call-arg]
        name: str = (await self.channel.call(GET, request, tenant_id="acme")).message.name
        return name


@pytest.fixture
def process(database: Database, keyring: Keyring, egress: Egress, integration: Integration) -> Callable[[], Process]:
    return lambda: Process(database, keyring, egress)


async def test_a_token_is_asked_for_once_and_serves_every_process(
    process: Callable[[], Process], partner: TokenPartner
) -> None:
    for one in (process(), process()):
        for _ in range(2):
            assert await one.get() == "thing"
    assert (len(partner.asked), partner.called) == (1, ["token-1"] * 4)


async def test_many_callers_at_once_wait_for_one_exchange(
    process: Callable[[], Process], partner: TokenPartner
) -> None:
    one = process()
    assert await asyncio.gather(*(one.get() for _ in range(30))) == ["thing"] * 30
    assert len(partner.asked) == 1


async def test_a_token_that_is_over_is_asked_for_anew(
    process: Callable[[], Process], partner: TokenPartner, database: Database
) -> None:
    one = process()
    await one.get()
    await database.run(PAST)
    await one.get()
    assert partner.called == ["token-1", "token-2"]


async def used_after_a_late_answer(process: Callable[[], Process], partner: TokenPartner) -> str:
    """The token that is used once an exchange is answered that began before the one that was answered first."""
    answer = partner.thinking
    answer.clear()
    late = asyncio.create_task(process().get())
    while not partner.asked:
        await asyncio.sleep(0.01)
    partner.thinking = asyncio.Event()
    partner.thinking.set()
    await process().get()
    answer.set()
    await late
    await process().get()
    assert partner.called[:2] == ["token-2", "token-1"]
    return partner.called[2]


async def test_a_token_is_not_replaced_by_one_that_was_asked_for_before_it(
    process: Callable[[], Process], partner: TokenPartner
) -> None:
    assert await used_after_a_late_answer(process, partner) == "token-2"


async def test_a_control_that_keeps_what_comes_last_uses_the_older_one(
    process: Callable[[], Process], partner: TokenPartner, monkeypatch: pytest.MonkeyPatch
) -> None:
    unfenced, _, fence = sql.access_token_keep.text.rpartition("WHERE ")
    assert "ask_time" in fence
    monkeypatch.setattr(sql, "access_token_keep", Statement("unfenced", unfenced), raising=False)
    assert await used_after_a_late_answer(process, partner) == "token-1"


async def test_a_token_that_the_partner_revoked_costs_one_more_and_the_call_succeeds(
    process: Callable[[], Process], partner: TokenPartner
) -> None:
    one = process()
    await one.get()
    partner.revoked.add("token-1")
    assert await asyncio.gather(*(one.get() for _ in range(30))) == ["thing"] * 30
    assert len(partner.asked) == 2
    assert set(partner.called) == {"token-1", "token-2"}


async def test_a_partner_that_takes_no_token_is_asked_twice_and_no_more(
    process: Callable[[], Process], partner: TokenPartner
) -> None:
    partner.revoked |= {"token-1", "token-2"}
    with pytest.raises(PartnerCredentialRefused):
        await process().get()
    assert (len(partner.asked), partner.called) == (2, ["token-1", "token-2"])


async def test_a_refused_client_is_an_error_of_the_call_which_is_not_sent(
    process: Callable[[], Process], partner: TokenPartner
) -> None:
    partner.secret = "other-key"
    with pytest.raises(PartnerCredentialRefused) as caught:
        await process().get()
    assert (caught.value.http_status, caught.value.partner_code) == (401, "invalid_client")
    assert not partner.called
    assert "partner-key" not in f"{caught.value.message}{caught.value.metadata}"


async def test_a_caller_that_gives_up_leaves_the_others_their_token(
    process: Callable[[], Process], partner: TokenPartner
) -> None:
    one = process()
    partner.thinking.clear()
    first, second = (asyncio.create_task(one.get()) for _ in range(2))
    while not partner.asked:
        await asyncio.sleep(0.01)
    first.cancel()
    partner.thinking.set()
    assert await second == "thing"
    assert len(partner.asked) == 1


async def test_a_token_that_does_not_come_in_time_is_an_error_and_is_kept_for_the_next(
    process: Callable[[], Process], partner: TokenPartner
) -> None:
    one = process()
    partner.thinking.clear()
    target = await one.targets.target("acme", "crm")
    with pytest.raises(PartnerUnavailable):
        await one.oauth.authorise(target, refused=False, timeout_s=0.01)
    partner.thinking.set()
    assert await one.get() == "thing"
    assert len(partner.asked) == 1


async def test_calls_go_to_the_instance_that_the_partner_named(
    process: Callable[[], Process], partner: TokenPartner
) -> None:
    one = process()
    partner.answer = {"instance_url": partner.url}
    assert await one.get() == "thing"
    assert one.exchanges[0].url == f"{partner.url}/things/1"
    assert one.exchanges[0].request_headers["Authorization"] == "Bearer ***"


@pytest.mark.parametrize(
    "said",
    [
        {"answer": {"token_type": None}},
        {"answer": {"token_type": ""}},
        {"answer": {"token_type": "BEARER"}},
        {"status": 201},
        {"stamp": "t" * 8000},
        {"answer": {"scope": "s" * 30_000}},
    ],
    ids=lambda said: repr(said)[:30],
)
async def test_a_token_is_taken_however_the_partner_hands_it_out(
    process: Callable[[], Process], partner: TokenPartner, said: dict[str, Any]
) -> None:
    for name, value in said.items():
        setattr(partner, name, value)
    one = process()
    for _ in range(2):
        assert await one.get() == "thing"
    assert (len(partner.asked), partner.called) == (1, [f"{partner.stamp}-1"] * 2)


async def test_no_token_leaves_for_an_instance_elsewhere(
    process: Callable[[], Process], partner: TokenPartner, database: Database, integration: Integration
) -> None:
    one = process()
    partner.answer = {"instance_url": "http://10.0.0.1"}
    with pytest.raises(EgressDenied) as caught:
        await one.get()
    assert caught.value.metadata == {"host": "10.0.0.1"}
    # Even a host that was listed is judged when it is called.
    integration.salesforce.allowed_hosts.append("10.0.0.1")
    async with database.transaction() as conn:
        await integration_replace(conn, "acme", integration)
    with pytest.raises(EgressDenied) as caught:
        await one.get()
    assert caught.value.metadata == {"host": "10.0.0.1"}
    assert not partner.called


async def test_a_token_is_of_one_version_of_its_integration(
    process: Callable[[], Process], partner: TokenPartner, database: Database, integration: Integration
) -> None:
    one = process()
    await one.get()
    integration.etag = "2"
    async with database.transaction() as conn:
        await integration_replace(conn, "acme", integration)
    await one.get()
    assert partner.called == ["token-1", "token-2"]


async def test_a_row_that_was_tampered_with_is_no_token(
    process: Callable[[], Process], partner: TokenPartner, database: Database
) -> None:
    one = process()
    await one.get()
    await database.run(Statement("elsewhere", "UPDATE access_token SET base_url = 'http://elsewhere.example'"))
    assert await one.get() == "thing"
    assert partner.called == ["token-1", "token-2"]


LIFETIMES: list[tuple[Any, float | None]] = [
    (3600, 3540),
    ("3600", 3540),
    (100, 90),
    (1e12, 86340),
    (0, 0),
    (-5, 0),
    (None, None),
    ("soon", None),
    ("nan", 0),
    (10**400, None),
    ([], None),
]


@pytest.mark.parametrize(("expires_in", "lifetime_s"), LIFETIMES)
async def test_a_token_is_used_until_shortly_before_its_end(
    process: Callable[[], Process], partner: TokenPartner, expires_in: Any, lifetime_s: float | None
) -> None:
    one = process()
    partner.answer = {"expires_in": expires_in}
    assert (await one.oauth.ask(await one.targets.target("acme", "crm"))).lifetime_s == lifetime_s


async def test_what_is_kept_is_what_comes_back_and_another_row_cannot_hold_it(
    process: Callable[[], Process], database: Database
) -> None:
    one = process()
    target = await one.targets.target("acme", "crm")
    assert await one.tokens.get(target) is None
    await one.tokens.keep(target, AccessToken(Secret("a-token"), "http://a.example", 60.0))
    found = await one.tokens.get(target)
    assert found is not None and (found.value.reveal(), found.base_url) == ("a-token", "http://a.example")
    for elsewhere in (replace(target, tenant_id="other"), replace(target, integration_id="other")):
        assert await one.tokens.get(elsewhere) is None
        await one.tokens.keep(elsewhere, AccessToken(Secret("b-token")))
        assert await one.tokens.get(elsewhere) is None
    await one.tokens.forget(target)
    assert await one.tokens.get(target) is None

"""A provider's tokens at an operator, both evbridges: pushed, invalidated, pulled, and what the door takes of them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from evbridge.v1.integration_pb2 import Integration, IntegrationModels, UpdateIntegrationRequest
from evbridge.v1.location_pb2 import TOKEN_TYPE_APP_USER, TOKEN_TYPE_OTHER, TOKEN_TYPE_RFID
from evbridge.v1.partner_pb2 import ListExchangesRequest, SetExchangeRecordingRequest
from evbridge.v1.party_pb2 import PARTY_ROLE_EMSP, CreatePartyRequest, PartyKey
from evbridge.v1.run_pb2 import RUN_STATE_SUCCEEDED
from evbridge.v1.token_pb2 import (
    BatchUpsertTokensRequest,
    DeleteTokenRequest,
    GetTokenRequest,
    ListTokensRequest,
    Token,
    TokenKey,
)
from evbridge.v1.watch_pb2 import WATCH_SIDE_RECEIVED, WatchTokensRequest

from tests.front_door import a_party, a_token, at_rest, fails
from tests.rpc.test_registration import ID, SPOKEN, Side, Sides, outcome, sides

__all__ = ["sides"]
HIS = {"country_code": "DE", "party_id": "MSP"}


@asynccontextmanager
async def registered(
    sides: Sides, version: str = "2.3.0", models: IntegrationModels | None = None
) -> AsyncIterator[tuple[Side, Side]]:
    """An operator and a provider that know each other; the provider pushes tokens, if it does."""
    async with sides(*({"ocpi_versions": each} for each in SPOKEN[version])) as (cpo, emsp):
        if models:
            request = UpdateIntegrationRequest(integration=Integration(id=ID, models=models))
            await emsp.client.integrations.UpdateIntegration(request)
        await cpo.given(*(await emsp.issue()))
        assert outcome(await cpo.registers()) == "OK"
        cpo.wire.carried.clear()
        yield cpo, emsp


async def store(side: Side, *tokens: Token) -> None:
    request = BatchUpsertTokensRequest(tokens=tokens, allow_missing=True)
    response = await side.client.tokens.BatchUpsertTokens(request)
    assert not any(result.HasField("error") for result in response.results), response


async def pushed(emsp: Side, cpo: Side) -> list[tuple[str, str]]:
    """The method and the place of the requests that reached the operator, once nothing is due any more."""
    await at_rest(emsp.client, ID)
    carried = [(method, "/".join(path.split("/")[4:])) for method, path in cpo.wire.carried]
    cpo.wire.carried.clear()
    return carried


async def received(cpo: Side, uid: str, type: Any = TOKEN_TYPE_RFID) -> Token:
    key = TokenKey(**HIS, uid=uid, type=type, integration_id=ID)
    token: Token = await cpo.client.tokens.GetToken(GetTokenRequest(key=key))
    return token


@pytest.mark.parametrize("version", SPOKEN)
async def test_a_token_is_pushed_whole_then_its_validity_then_it_is_withdrawn(sides: Sides, version: str) -> None:
    async with registered(sides, version, IntegrationModels(push_token=True)) as (cpo, emsp):
        card = a_token(**HIS, uid="04AB", visual_number="17")
        await store(emsp, card)
        at = "tokens/DE/MSP/04AB"
        assert await pushed(emsp, cpo) == [("PUT", at)]
        there = await received(cpo, "04ab")
        assert (there.contract_id, there.visual_number, there.whitelist) == (card.contract_id, "17", card.whitelist)
        assert there.valid
        assert (there.country_code, there.party_id, there.integration_id) == ("DE", "MSP", ID)
        await store(emsp, a_token(**HIS, uid="04AB", visual_number="17", valid=False))
        assert await pushed(emsp, cpo) == [("PATCH", at)]
        assert not (await received(cpo, "04AB")).valid
        await store(emsp, card)
        assert await pushed(emsp, cpo) == [("PATCH", at)]
        key = TokenKey(**HIS, uid="04AB")
        await emsp.client.tokens.DeleteToken(DeleteTokenRequest(key=key))
        assert await pushed(emsp, cpo) == [("PATCH", at)]
        assert not (await received(cpo, "04AB")).valid


@pytest.mark.parametrize(("version", "there"), [("2.3.0", TOKEN_TYPE_APP_USER), ("2.1.1", TOKEN_TYPE_OTHER)])
async def test_the_type_is_part_of_its_name(sides: Sides, version: str, there: Any) -> None:
    async with registered(sides, version, IntegrationModels(push_token=True)) as (cpo, emsp):
        await store(emsp, a_token(**HIS, uid="U1"), a_token(**HIS, uid="U1", type=TOKEN_TYPE_APP_USER, issuer="App"))
        assert await pushed(emsp, cpo) == [("PUT", "tokens/DE/MSP/U1")] * 2
        assert ((await received(cpo, "U1")).issuer, (await received(cpo, "U1", there)).issuer) == ("Wattwerk", "App")


@pytest.mark.parametrize("version", SPOKEN)
async def test_tokens_are_pulled_and_what_is_listed_no_more_is_invalid(sides: Sides, version: str) -> None:
    async with registered(sides, version) as (cpo, emsp):
        await store(emsp, *(a_token(**HIS, uid=f"U{number}") for number in range(3)))
        assert await pushed(emsp, cpo) == [], "models ask for no push"
        models = IntegrationModels(pull_tokens_all=True)
        update = UpdateIntegrationRequest(integration=Integration(id=ID, models=models))
        await cpo.client.integrations.UpdateIntegration(update)
        run = await cpo.synced()
        assert run.state == RUN_STATE_SUCCEEDED
        tokens = await cpo.client.tokens.ListTokens(ListTokensRequest(integration_id=ID))
        assert [token.uid for token in tokens.tokens] == ["U0", "U1", "U2"]
        watched = cpo.client.watch.WatchTokens(WatchTokensRequest(snapshot=True, side=WATCH_SIDE_RECEIVED))
        first: Any = await watched.read()  # type: ignore[attr-defined]
        assert [(change.key.uid, change.key.type) for change in first.changes] == [
            (f"u{number}", TOKEN_TYPE_RFID) for number in range(3)
        ]


async def test_only_tokens_of_parties_that_an_integration_speaks_for_are_shown(sides: Sides) -> None:
    async with registered(sides, models=IntegrationModels(push_token=True)) as (cpo, emsp):
        other = a_party(party_id="OTH", roles=[PARTY_ROLE_EMSP])
        await emsp.client.parties.CreateParty(CreatePartyRequest(party=other))
        await store(emsp, a_token(country_code="DE", party_id="OTH", uid="U1"), a_token(**HIS, uid="U2"))
        assert await pushed(emsp, cpo) == [("PUT", "tokens/DE/MSP/U2")]
        parties = [PartyKey(country_code="DE", party_id="OTH")]
        update = UpdateIntegrationRequest(integration=Integration(id=ID, parties=parties))
        await emsp.client.integrations.UpdateIntegration(update)
        while (await received(cpo, "U2")).valid:  # who does not speak for it any more withdraws it
            await asyncio.sleep(0.05)


async def test_what_is_received_is_the_providers_and_names_no_driver_in_recordings(sides: Sides) -> None:
    async with registered(sides, models=IntegrationModels(push_token=True)) as (cpo, emsp):
        recording = SetExchangeRecordingRequest(integration_id=ID)
        recording.until.FromDatetime(datetime.now(UTC) + timedelta(hours=1))
        await emsp.client.partners.SetExchangeRecording(recording)
        await store(emsp, a_token(**HIS, uid="04AB", contract_id="DE-MSP-C1", group_id="G-1"))
        await at_rest(emsp.client, ID)
        exchanges: list[Any] = []
        while not exchanges:  # they are written beside the calls
            response = await emsp.client.partners.ListExchanges(ListExchangesRequest(integration_id=ID))
            exchanges = list(response.exchanges)
        (exchange,) = exchanges
        assert exchange.url.endswith("/tokens/DE/MSP/***")
        assert '"uid":"***"' in exchange.request_body
        assert not any(said in exchange.request_body for said in ("04AB", "DE-MSP-C1", "G-1"))
        key = TokenKey(**HIS, uid="04AB", integration_id=ID)
        refused = await fails(cpo.client.tokens.DeleteToken(DeleteTokenRequest(key=key)))
        assert refused.reason == "RECEIVED_IS_READ_ONLY"

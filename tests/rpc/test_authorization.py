"""AuthorizationService: an operator asks, a provider answers; and what is answered without a question."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import grpc
import pytest
from evbridge.v1.authorization_pb2 import (
    ALLOWED_TYPE_ALLOWED,
    ALLOWED_TYPE_BLOCKED,
    ALLOWED_TYPE_NO_CREDIT,
    AUTHORIZATION_SOURCE_FREE_VENDING,
    AUTHORIZATION_SOURCE_PARTNER,
    AUTHORIZATION_SOURCE_STORED,
    AUTHORIZATION_SOURCE_STORED_OFFLINE,
    AnswerAuthorizationRequest,
    Authorization,
    AuthorizationQuestion,
    AuthorizeTokenRequest,
    LocationReferences,
    ServeAuthorizationsRequest,
)
from evbridge.v1.integration_pb2 import Integration, IntegrationModels, UpdateIntegrationRequest
from evbridge.v1.location_pb2 import TOKEN_TYPE_APP_USER
from evbridge.v1.party_pb2 import PARTY_ROLE_EMSP, UpdatePartyRequest
from evbridge.v1.token_pb2 import (
    WHITELIST_TYPE_ALLOWED_OFFLINE,
    WHITELIST_TYPE_ALWAYS,
    WHITELIST_TYPE_NEVER,
)
from evbridge.v1.types_pb2 import DisplayText
from google.protobuf.field_mask_pb2 import FieldMask

from service.app import evbridge
from service.resources import question as questions
from service.storage import notices
from service.storage.question import question_answered
from tests.conftest import Tenant
from tests.front_door import Client, a_party, a_token, fails, notices_heard, settings
from tests.ocpi.door import Ask, Partner, ask, partner
from tests.questions import answering
from tests.rpc.test_ocpi_tokens import HIS, pushed, registered, store
from tests.rpc.test_registration import ID, SPOKEN, Side, Sides, sides

__all__ = ["ask", "partner", "sides"]
PLACE = LocationReferences(location_id="L1", evse_uids=["E1", "E2"])
ENABLED = FieldMask(paths=["enabled"])
PUSHES = IntegrationModels(push_token=True)


async def authorize(cpo: Side, uid: str, **more: Any) -> Authorization:
    request = AuthorizeTokenRequest(**{"uid": uid, "integration_id": ID, **more})
    authorization: Authorization = await cpo.client.authorizations.AuthorizeToken(request)
    return authorization


def serving(
    emsp: Side, answer: Callable[[AuthorizationQuestion], AnswerAuthorizationRequest | None]
) -> AbstractAsyncContextManager[list[AuthorizationQuestion]]:
    """A service of the provider's that answers; what it was asked."""

    async def say(question: AuthorizationQuestion) -> None:
        if (given := answer(question)) is not None:
            await emsp.client.authorizations.AnswerAuthorization(given)

    stream: Any = emsp.client.authorizations.ServeAuthorizations(ServeAuthorizationsRequest(), timeout=120.0)
    return answering(stream, "questions", say)


@pytest.mark.parametrize("version", SPOKEN)
async def test_a_provider_is_asked_and_its_tokens_answer(sides: Sides, version: str) -> None:
    async with registered(sides, version) as (cpo, emsp):
        await store(emsp, a_token(**HIS, uid="04AB", whitelist=WHITELIST_TYPE_NEVER))
        await store(emsp, a_token(**HIS, uid="GONE", valid=False))
        said = await authorize(cpo, "04ab", location=PLACE)
        assert (said.allowed, said.source) == (ALLOWED_TYPE_ALLOWED, AUTHORIZATION_SOURCE_PARTNER)
        assert said.location == PLACE
        assert said.token.contract_id == ("DE-ABC-C12345678-X" if version > "2.2" else "")
        assert (await authorize(cpo, "GONE")).allowed == ALLOWED_TYPE_BLOCKED
        unknown = await fails(authorize(cpo, "NOBODY"))
        assert (unknown.code, unknown.reason) == (grpc.StatusCode.NOT_FOUND, "PARTNER_NOT_FOUND")


async def test_a_hub_that_does_not_know_the_provider_says_nothing_of_the_token(sides: Sides) -> None:
    async with registered(sides, models=PUSHES) as (cpo, emsp):
        await store(emsp, a_token(**HIS, uid="OFF", whitelist=WHITELIST_TYPE_ALLOWED_OFFLINE))
        await pushed(emsp, cpo)
        emsp.wire.faults = [("POST", "/authorize", "code:4001")]
        away = await fails(authorize(cpo, "NOBODY"))
        assert (away.reason, away.metadata["partner_code"]) == ("PARTNER_UNAVAILABLE", "4001")
        emsp.wire.faults = [("POST", "/authorize", "code:4001")]
        assert (await authorize(cpo, "OFF")).source == AUTHORIZATION_SOURCE_STORED_OFFLINE
        emsp.wire.faults = [("POST", "/authorize", "code:2004")]
        assert (await fails(authorize(cpo, "OFF"))).reason == "PARTNER_NOT_FOUND", "the provider's own word"


async def test_an_answer_that_is_a_list_of_one_is_that_one(sides: Sides) -> None:
    async with registered(sides) as (cpo, emsp):
        await store(emsp, a_token(**HIS, uid="04AB", whitelist=WHITELIST_TYPE_NEVER))
        plain = await authorize(cpo, "04AB")
        emsp.wire.faults = [("POST", "/authorize", "listed:1")]
        assert await authorize(cpo, "04AB") == plain
        for count in (0, 2):
            emsp.wire.faults = [("POST", "/authorize", f"listed:{count}")]
            failure = await fails(authorize(cpo, "04AB"))
            assert "does not say what is allowed" in failure.message, failure


@pytest.mark.parametrize("version", SPOKEN)
async def test_a_service_that_listens_answers(sides: Sides, version: str) -> None:
    async with registered(sides, version) as (cpo, emsp):
        await store(emsp, a_token(**HIS, uid="04AB"))

        def answer(question: AuthorizationQuestion) -> AnswerAuthorizationRequest:
            if question.uid == "POOR":
                unknown = a_token(**HIS, uid="POOR")
                return AnswerAuthorizationRequest(id=question.id, allowed=ALLOWED_TYPE_NO_CREDIT, token=unknown)
            info = DisplayText(language="en", text="Welcome")
            return AnswerAuthorizationRequest(
                id=question.id,
                allowed=ALLOWED_TYPE_ALLOWED,
                evse_uids=["E2"],
                authorization_reference="REF-1",
                info=info,
            )

        async with serving(emsp, answer) as asked:
            said = await authorize(cpo, "04AB", location=PLACE)
            assert (said.allowed, said.info.text, [*said.location.evse_uids]) == (
                ALLOWED_TYPE_ALLOWED,
                "Welcome",
                ["E2"],
            )
            assert said.authorization_reference == ("REF-1" if version > "2.2" else "")
            assert (await authorize(cpo, "POOR")).allowed == ALLOWED_TYPE_NO_CREDIT
            assert [(each.uid, each.integration_id, each.HasField("token")) for each in asked] == [
                ("04AB", ID, True),
                ("POOR", ID, False),
            ]
            late = AnswerAuthorizationRequest(id=asked[0].id, allowed=ALLOWED_TYPE_BLOCKED)
            refused = await fails(emsp.client.authorizations.AnswerAuthorization(late))
            assert refused.reason == "RESOURCE_NOT_FOUND", "another answer was given"


async def test_an_answer_about_another_token_is_refused(sides: Sides) -> None:
    async with registered(sides) as (cpo, emsp):

        def answer(question: AuthorizationQuestion) -> AnswerAuthorizationRequest:
            token = a_token(**HIS, uid="04ab" if question.uid == "04AB" else "OTHER")
            return AnswerAuthorizationRequest(id=question.id, allowed=ALLOWED_TYPE_ALLOWED, token=token)

        async with serving(emsp, answer) as asked:
            assert (await authorize(cpo, "04AB")).allowed == ALLOWED_TYPE_ALLOWED, "case says nothing"
            refused = await fails(authorize(cpo, "MINE"))
            assert refused.reason == "PARTNER_FAULT"
            assert "another token" in refused.message
            assert [each.uid for each in asked] == ["04AB", "MINE"]


@pytest.mark.parametrize("place", [{"location_id": "\ud800"}, {"location_id": "L1", "evse_uids": ["\ud800"]}])
async def test_a_place_that_is_none_is_refused(ask: Ask, partner: Partner, tenant: Tenant, place: Any) -> None:
    await tenant.admin.parties.UpdateParty(UpdatePartyRequest(party=a_party(roles=[PARTY_ROLE_EMSP])))
    answer = await ask("POST", "/ocpi/emsp/2.2.1/tokens/04AB/authorize", partner.registered, json=place)
    assert answer.code == 2001


async def test_a_service_that_does_not_answer_leaves_it_to_the_stored_token(sides: Sides) -> None:
    async with registered(sides) as (cpo, emsp):
        await store(emsp, a_token(**HIS, uid="04AB"))
        async with serving(emsp, lambda question: None) as asked:
            assert (await authorize(cpo, "04AB")).allowed == ALLOWED_TYPE_ALLOWED
            assert asked and {each.uid for each in asked} == {"04AB"}


@pytest.mark.parametrize("notified", [True, False])
async def test_a_question_is_asked_and_answered_at_different_processes(
    notified: bool,
    ask: Ask,
    partner: Partner,
    tenant: Tenant,
    shared_database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who waits looks once, when there is something to see; without notices, again and again."""
    monkeypatch.setattr(notices, "LOOK_ANYWAY_S", 60.0 if notified else 0.025)
    if not notified:
        monkeypatch.setattr(notices.Notices, "tell", lambda *_: None)
    looks: list[Any] = []

    async def looked(*of: Any) -> bytes | None:
        looks.append(of)
        return await question_answered(*of)

    monkeypatch.setattr(questions, "question_answered", looked)
    await tenant.admin.parties.UpdateParty(UpdatePartyRequest(party=a_party(roles=[PARTY_ROLE_EMSP])))
    async with evbridge(settings(shared_database_url)) as other, grpc.aio.insecure_channel(other.address) as there:
        await notices_heard(other.database, 2)
        service = Client(there, tenant.keys["writer"]).authorizations
        stream: Any = service.ServeAuthorizations(ServeAuthorizationsRequest())
        assert not (await stream.read()).questions
        path = "/ocpi/emsp/2.2.1/tokens/POOR/authorize"
        asked = asyncio.create_task(ask("POST", path, partner.registered))
        while not (handed := (await stream.read()).questions):
            pass
        await asyncio.sleep(0.2)
        token = a_token(country_code="DE", party_id="ABC", uid="POOR")
        given = AnswerAuthorizationRequest(id=handed[0].id, allowed=ALLOWED_TYPE_NO_CREDIT, token=token)
        await service.AnswerAuthorization(given)
        assert (await asked).body["data"]["allowed"] == "NO_CREDIT"
        stream.cancel()
    assert (len(looks) == 1) == notified


async def test_the_whitelist_mode_says_who_is_asked(sides: Sides) -> None:
    async with registered(sides, models=PUSHES) as (cpo, emsp):
        modes = {"ALW": WHITELIST_TYPE_ALWAYS, "OFF": WHITELIST_TYPE_ALLOWED_OFFLINE, "NEV": WHITELIST_TYPE_NEVER}
        await store(emsp, *(a_token(**HIS, uid=uid, whitelist=mode) for uid, mode in modes.items()))
        await pushed(emsp, cpo)
        emsp.wire.carried.clear()
        assert (await authorize(cpo, "ALW", integration_id="")).source == AUTHORIZATION_SOURCE_STORED
        assert emsp.wire.carried == [], "nobody was asked"
        for uid in ("OFF", "NEV"):
            assert (await authorize(cpo, uid, integration_id="")).source == AUTHORIZATION_SOURCE_PARTNER
        emsp.wire.to = "http://127.0.0.1:1"  # where nobody listens
        assert (await authorize(cpo, "OFF")).source == AUTHORIZATION_SOURCE_STORED_OFFLINE
        assert (await fails(authorize(cpo, "NEV"))).reason.startswith("PARTNER_")


async def test_a_provider_is_not_asked_through_a_disabled_integration(sides: Sides) -> None:
    async with registered(sides) as (cpo, emsp):
        await store(emsp, a_token(**HIS, uid="NEV", whitelist=WHITELIST_TYPE_NEVER))
        assert (await authorize(cpo, "NEV")).source == AUTHORIZATION_SOURCE_PARTNER
        disabled = UpdateIntegrationRequest(integration=Integration(id=ID, enabled=False), update_mask=ENABLED)
        await cpo.client.integrations.UpdateIntegration(disabled)
        emsp.wire.carried.clear()
        refused = await fails(authorize(cpo, "NEV"))
        assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "INTEGRATION_DISABLED")
        assert emsp.wire.carried == []


async def test_what_needs_no_question(sides: Sides) -> None:
    async with registered(sides) as (cpo, _):
        own = a_token(country_code="DE", party_id="CPO", uid="OWN", type=TOKEN_TYPE_APP_USER)
        await store(cpo, own)
        said = await authorize(cpo, "own", type=TOKEN_TYPE_APP_USER, integration_id="")
        assert (said.allowed, said.source) == (ALLOWED_TYPE_ALLOWED, AUTHORIZATION_SOURCE_STORED)
        nobody = await fails(authorize(cpo, "X", integration_id=""))
        assert (nobody.code, nobody.reason) == (grpc.StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND")
        assert (await fails(authorize(cpo, "ANY", free_vending=True))).reason == "PARTNER_NOT_FOUND"
        update = UpdateIntegrationRequest(integration=Integration(id=ID, free_vending_with_idtag_allowed=True))
        await cpo.client.integrations.UpdateIntegration(update)
        said = await authorize(cpo, "ANY", free_vending=True)
        assert (said.allowed, said.source) == (ALLOWED_TYPE_ALLOWED, AUTHORIZATION_SOURCE_FREE_VENDING)

"""Two evbridges register with each other over real HTTP, in every version, and go on whichever side dies."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from evbridge.v1 import error_reason_pb2 as reasons
from evbridge.v1.integration_pb2 import (
    INTEGRATION_STATUS_ACTIVE,
    CreateIntegrationRequest,
    GetIntegrationRequest,
    Integration,
    UpdateIntegrationRequest,
)
from evbridge.v1.ocpi_connection_pb2 import INTERFACE_ROLE_BOTH, OcpiConnection
from evbridge.v1.party_pb2 import PARTY_ROLE_CPO, PARTY_ROLE_EMSP, CreatePartyRequest, PartyKey
from evbridge.v1.registration_pb2 import (
    IssueInitialTokenRequest,
    ListPartnerTokensRequest,
    PartnerToken,
    RegisterIntegrationRequest,
    RotateCredentialsRequest,
    UnregisterIntegrationRequest,
)
from evbridge.v1.run_pb2 import RUN_STATE_FAILED, Run, WaitRunRequest

from service.app import Evbridge, evbridge
from service.storage.api_key import api_key_create
from tests.front_door import Client, a_party, an_integration_of, settings

ID = "roaming"


@dataclass
class Side:
    """One evbridge with one party, and its integration with the other side."""

    running: Evbridge
    client: Client

    async def get(self) -> Integration:
        return await self.client.integrations.GetIntegration(GetIntegrationRequest(id=ID))

    async def tokens(self) -> list[PartnerToken]:
        request = ListPartnerTokensRequest(integration_id=ID)
        return list((await self.client.registration.ListPartnerTokens(request)).tokens)

    async def issue(self) -> tuple[str, str]:
        issued = await self.client.registration.IssueInitialToken(IssueInitialTokenRequest(integration_id=ID))
        return issued.token, issued.versions_url

    async def given(self, token: str, url: str) -> None:
        ocpi = OcpiConnection(endpoint_url=url, initial_token=token, initial_role=INTERFACE_ROLE_BOTH)
        await self.client.integrations.UpdateIntegration(
            UpdateIntegrationRequest(integration=Integration(id=ID, ocpi=ocpi))
        )

    async def ran(self, run: Run) -> Run:
        return await self.client.runs.WaitRun(WaitRunRequest(id=run.id))

    async def registers(self) -> Run:
        return await self.ran(
            await self.client.registration.RegisterIntegration(RegisterIntegrationRequest(integration_id=ID))
        )

    async def rotates(self, **more: Any) -> Run:
        return await self.ran(
            await self.client.registration.RotateCredentials(RotateCredentialsRequest(integration_id=ID, **more))
        )

    async def unregisters(self) -> Run:
        return await self.ran(
            await self.client.registration.UnregisterIntegration(UnregisterIntegrationRequest(integration_id=ID))
        )


def outcome(run: Run) -> str:
    return reasons.ErrorReason.Name(run.reason) if run.state == RUN_STATE_FAILED else "OK"


@asynccontextmanager
async def side(database_url: str, party_id: str, role: Any, **changes: Any) -> AsyncIterator[Side]:
    async with evbridge(settings(database_url, ocpi_listen="127.0.0.1:0", **changes)) as running:
        async with running.database.transaction() as conn:
            key = (await api_key_create(conn, running.keyring, "acme", "", 3)).reveal()
        async with grpc.aio.insecure_channel(running.address) as channel:
            client = Client(channel, key)
            party = a_party(party_id=party_id, roles=[role])
            await client.parties.CreateParty(CreatePartyRequest(party=party))
            integration = an_integration_of(
                "ocpi",
                "",
                id=ID,
                parties=[PartyKey(country_code="DE", party_id=party_id)],
                ocpi=OcpiConnection(initial_role=INTERFACE_ROLE_BOTH),
            )
            await client.integrations.CreateIntegration(CreateIntegrationRequest(integration=integration))
            yield Side(running, client)


@pytest.fixture
async def sides(
    new_database: Callable[[], Awaitable[str]],
) -> AsyncIterator[tuple[Side, Side]]:
    async with AsyncExitStack() as stack:
        cpo = await stack.enter_async_context(side(await new_database(), "CPO", PARTY_ROLE_CPO))
        emsp = await stack.enter_async_context(side(await new_database(), "MSP", PARTY_ROLE_EMSP))
        yield cpo, emsp


async def test_they_register_rotate_and_unregister(sides: tuple[Side, Side]) -> None:
    cpo, emsp = sides
    await cpo.given(*(await emsp.issue()))
    registered = await cpo.registers()
    assert outcome(registered) == "OK", registered
    assert [step.name for step in registered.steps] == ["versions", "details", "credentials", "confirmation"]
    for us, party_id in ((cpo, "MSP"), (emsp, "CPO")):
        integration = await us.get()
        assert integration.status == INTEGRATION_STATUS_ACTIVE
        assert integration.version_details.version == "2.3.0"
        assert [each.party_id for each in integration.partner_company_details] == [party_id]
        assert integration.ocpi.our_token_set and integration.ocpi.their_token_set
        assert not integration.ocpi.initial_token_set
    assert [token.confirmed for token in await emsp.tokens()] == [True]
    assert [token.confirmed for token in await cpo.tokens()] == [False]
    assert outcome(await emsp.rotates()) == "OK"
    assert [token.confirmed for token in await cpo.tokens()] == [True]
    assert outcome(await emsp.unregisters()) == "OK"
    assert not await cpo.tokens() and not await emsp.tokens()
    await asyncio.sleep(0)

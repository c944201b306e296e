"""The circle with a company that others wrote, on either side: token, authorisation, start, session, stop and CDR.

What extrawest_ocpi has no client for, asking whether a token may charge and sending commands, the test sends for it.
We have to bear that it answers an object as a list of one, that ids come back in lower case, and that the path of
`Location` names Python's enums.

In 2.1.1 it wants `end_date_time` of a CDR, which is called `stop_date_time` there: the circle ends with the session,
and whoever has the CDR is told that it was refused, or cannot be read.
"""

import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
from evbridge.v1 import error_reason_pb2 as reasons
from evbridge.v1.authorization_pb2 import (
    ALLOWED_TYPE_ALLOWED,
    AUTHORIZATION_SOURCE_PARTNER,
    AuthorizeTokenRequest,
    LocationReferences,
)
from evbridge.v1.cdr_pb2 import CDR_AUDIT_STATE_EQUAL, CDR_AUDIT_STATE_PENDING, CreateCdrRequest, ListCdrsRequest
from evbridge.v1.command_pb2 import (
    COMMAND_RESULT_TYPE_ACCEPTED,
    COMMAND_STATE_ENDED,
    SendCommandRequest,
    StartSession,
    StopSession,
)
from evbridge.v1.delivery_pb2 import DELIVERY_STATE_DELIVERED, DELIVERY_STATE_PARKED, OBJECT_KIND_CDR
from evbridge.v1.integration_pb2 import Integration, IntegrationModels, UpdateIntegrationRequest
from evbridge.v1.location_pb2 import CreateLocationRequest
from evbridge.v1.party_pb2 import PARTY_ROLE_CPO, PARTY_ROLE_EMSP
from evbridge.v1.session_pb2 import SESSION_STATUS_COMPLETED, ListSessionsRequest
from evbridge.v1.tariff_pb2 import CreateTariffRequest
from evbridge.v1.token_pb2 import WHITELIST_TYPE_NEVER, BatchUpsertTokensRequest, ListTokensRequest
from google.protobuf.timestamp_pb2 import Timestamp

from tests.charged import SESSION_START_S, a_cdr, a_cdr_token, a_period, a_session
from tests.circle import HERS, HIS, Operator, until
from tests.front_door import a_connector, a_location, a_tariff, a_token, an_evse, at_rest
from tests.ocpi.test_extrawest import playing, said
from tests.rpc.test_ocpi_charged_received import written
from tests.rpc.test_registration import ID, Side, outcome, side

VERSIONS = ("2.1.1", "2.2.1")
TOKEN = "first-token-of-the-company"
UID = "04A1B2"
TIME = Timestamp(seconds=SESSION_START_S)
CARD = a_cdr_token(**HIS, uid=UID, contract_id="DE-MSP-C12345678-X")
KEPT = a_token(**HIS, uid=UID, contract_id=CARD.contract_id, whitelist=WHITELIST_TYPE_NEVER, last_updated=TIME)
POINT = a_connector(tariff_ids=["T9"], last_updated=TIME)  # in 2.1.1 it wants one of each
PLACE = a_location(**HERS, id="L1", evses=[an_evse("E1", connectors=[POINT], last_updated=TIME)], last_updated=TIME)
BEGUN = a_session(**HERS, id="S1", cdr_token=CARD, location=PLACE, last_updated=TIME)


@dataclass
class Company:
    """`token` opens its endpoints."""

    url: str
    token: str
    version: str
    http: aiohttp.ClientSession

    async def held(self) -> dict[str, Any]:
        async with self.http.get(f"{self.url}/held") as answer:
            found: dict[str, Any] = await answer.json()
            return found

    async def hold(self, module: str, id: str, message: Any) -> None:
        async with self.http.put(f"{self.url}/held/{module}/{id}", json=written(message, self.version)) as answer:
            assert answer.status == 200

    async def push(self, module: str, id: str) -> None:
        """What it holds, to us."""
        partner = (await self.held())["partner"]
        details = partner["url"].replace("versions", self.version)
        receivers = [{"endpoints_url": details, "auth_token": partner["token"]}]
        body = {"module_id": module, "object_id": id, "receivers": receivers}
        headers = {"Authorization": f"Token {encoded(self.token, self.version)}"}
        async with self.http.post(f"{self.url}/push/{self.version}", json=body, headers=headers) as answer:
            told = await answer.json()
            (response,) = told["receiver_responses"]
            assert response["status_code"] in (200, 201), told

    async def asks(self, us: Side, role: str, path: str, body: dict[str, Any]) -> Any:
        """What we answer to a request that it has no client for."""
        token = (await self.held())["partner"]["token"]
        headers = {"Authorization": f"Token {encoded(token, self.version)}"}
        async with self.http.post(
            f"{us.wire.url}/ocpi/{role}/{self.version}/{path}", json=body, headers=headers
        ) as answer:
            told = await answer.json()
            assert told["status_code"] == 1000, told
            return told["data"]


def encoded(token: str, version: str) -> str:
    return base64.b64encode(token.encode()).decode() if version > "2.2" else token


Met = Callable[[str, str], Any]


@pytest.fixture
def met(new_database: Callable[[], Awaitable[str]]) -> Met:
    """A company that has a role, and us, who have the other one and registered with it."""

    @asynccontextmanager
    async def made(role: str, version: str, **models: bool) -> AsyncIterator[tuple[Side, Company]]:
        party, own = ("MSP", PARTY_ROLE_EMSP) if role == "CPO" else ("CPO", PARTY_ROLE_CPO)
        async with (
            playing("extrawest_company.py", role, TOKEN) as process,
            side(await new_database(), party, own, ocpi_versions=version) as us,
            aiohttp.ClientSession() as http,
        ):
            company = Company(await said(process), await said(process), version, http)
            request = UpdateIntegrationRequest(integration=Integration(id=ID, models=IntegrationModels(**models)))
            await us.client.integrations.UpdateIntegration(request)
            await us.given(TOKEN, f"{company.url}/ocpi/versions")
            run = await us.registers()
            assert outcome(run) == "OK", run
            yield us, company

    return made


@pytest.mark.timeout(600)
@pytest.mark.parametrize("version", VERSIONS)
async def test_its_driver_charges_at_an_operator_of_ours(met: Met, version: str) -> None:
    models = {"push_session": True, "push_cdr": True, "pull_tokens_all": True}
    async with met("EMSP", version, **models) as (us, company), Operator(us).serving() as operator:
        await us.client.tariffs.CreateTariff(CreateTariffRequest(tariff=a_tariff(**HERS, id="T9")))
        await us.client.locations.CreateLocation(CreateLocationRequest(location=PLACE))
        await company.hold("tokens", UID, KEPT)
        assert outcome(await us.synced()) == "OK"
        (token,) = (await us.client.tokens.ListTokens(ListTokensRequest(integration_id=ID))).tokens
        assert token.uid.upper() == UID
        await company.push("tokens", UID)
        (token,) = (await us.client.tokens.ListTokens(ListTokensRequest(integration_id=ID))).tokens

        place = LocationReferences(location_id="L1", evse_uids=["E1"])
        allowed = await us.client.authorizations.AuthorizeToken(AuthorizeTokenRequest(uid=UID, location=place))
        assert (allowed.allowed, allowed.source) == (ALLOWED_TYPE_ALLOWED, AUTHORIZATION_SOURCE_PARTNER)

        async def command(name: str, body: dict[str, Any]) -> None:
            answer = f"{company.url}/ocpi/emsp/{version}/commands/{name}"
            taken = await company.asks(us, "cpo", f"commands/{name}", body | {"response_url": answer})
            assert taken["result"] == "ACCEPTED", taken

            async def told() -> bool:
                result = (await company.held()).get("commands", {}).get(name.lower(), {})
                return bool(result.get("result") == "ACCEPTED")

            await until(told)

        async def follows(name: str, value: Any) -> None:
            async def so() -> bool:
                (session,) = (await company.held()).get("sessions", {}).values() or [{}]
                return bool(session.get(name) == value)

            await until(so)

        await command("START_SESSION", {"token": written(KEPT, version), "location_id": "L1", "evse_uid": "E1"})
        (session,) = operator.sessions.values()
        await follows("status", "ACTIVE")
        session.charging_periods.append(a_period(0, "20", tariff_id="T9"))
        session.kwh.value = "20"
        await operator.told(session)
        await follows("kwh", 20)
        await command("STOP_SESSION", {"session_id": session.id})
        await follows("status", "COMPLETED")

        cdr = a_cdr(**HERS, id="C1", session_id=session.id, cdr_token=CARD, tariffs=[a_tariff(**HERS, id="T9")])
        await us.client.cdrs.CreateCdr(CreateCdrRequest(cdr=cdr))
        if version == "2.1.1":
            (told,) = [each for each in await at_rest(us.client, ID) if each.object_kind == OBJECT_KIND_CDR]
            assert (told.state, reasons.ErrorReason.Name(told.reason)) == (DELIVERY_STATE_PARKED, "PARTNER_REJECTED")
            assert "cdrs" not in await company.held()
            return
        assert {each.state for each in await at_rest(us.client, ID)} == {DELIVERY_STATE_DELIVERED}
        ((id, bill),) = (await company.held())["cdrs"].items()
        assert (id, bill["total_energy"]) == ("c1", 20)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("version", VERSIONS)
async def test_our_driver_charges_at_its_operator(met: Met, version: str) -> None:
    models = {"push_token": True, "pull_location": True, "pull_tariff": True, "pull_session": True, "pull_cdr": True}
    async with met("CPO", version, **models) as (us, company):
        await us.client.tokens.BatchUpsertTokens(BatchUpsertTokensRequest(tokens=[KEPT], allow_missing=True))
        assert {each.state for each in await at_rest(us.client, ID)} == {DELIVERY_STATE_DELIVERED}
        assert [*(await company.held())["tokens"]] == [UID.lower()]
        asked = await company.asks(us, "emsp", f"tokens/{UID}/authorize", {"location_id": "L1"})
        assert asked["allowed"] == "ALLOWED"

        await company.hold("locations", "L1", PLACE)
        await company.hold("tariffs", "T9", a_tariff(**HERS, id="T9", last_updated=TIME))
        assert outcome(await us.synced()) == "OK"

        async def command(**request: Any) -> None:
            sent = SendCommandRequest(integration_id=ID, **request)
            command = await us.client.commands.SendCommand(sent, timeout=60.0)  # type: ignore[call-arg]
            assert (command.state, command.result.result) == (COMMAND_STATE_ENDED, COMMAND_RESULT_TYPE_ACCEPTED), (
                command
            )

        await command(start_session=StartSession(token=KEPT, location_id="L1", evse_uid="E1"))
        await company.hold("sessions", "S1", BEGUN)
        await company.push("sessions", "S1")
        await command(stop_session=StopSession(session_id="S1"))
        end = Timestamp(seconds=SESSION_START_S + 3600)
        ended = {"end_date_time": end, "status": SESSION_STATUS_COMPLETED, "last_updated": end}
        ended["charging_periods"] = [a_period(0, "20", tariff_id="T9")]
        await company.hold("sessions", "S1", a_session(**HERS, id="S1", cdr_token=CARD, location=PLACE, **ended))
        await company.push("sessions", "S1")
        (session,) = (await us.client.sessions.ListSessions(ListSessionsRequest(integration_id=ID))).sessions
        assert session.status == SESSION_STATUS_COMPLETED

        bill = a_cdr(**HERS, id="C1", session_id="S1", cdr_token=CARD, tariffs=[a_tariff(**HERS, id="T9")])
        bill.last_updated.CopyFrom(end)
        await company.hold("cdrs", "C1", bill)
        if version == "2.1.1":
            run = await us.synced()
            assert (outcome(run), run.steps[-1].name) == ("PARTNER_FAULT", "cdrs")
            return
        await company.push("cdrs", "C1")
        assert outcome(await us.synced()) == "OK"

        async def audited() -> bool:
            (cdr,) = (await us.client.cdrs.ListCdrs(ListCdrsRequest(integration_id=ID))).cdrs
            assert cdr.audit.state in (CDR_AUDIT_STATE_PENDING, CDR_AUDIT_STATE_EQUAL), cdr.audit
            return bool(cdr.audit.state == CDR_AUDIT_STATE_EQUAL)

        await until(audited)

"""The demo's end: one driver's evening between two companies, which are two tenants of the server, in ten lines."""

import asyncio
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
from evbridge.v1 import authorization_pb2, cdr_pb2, command_pb2, command_pb2_grpc, session_pb2
from evbridge.v1.reconciliation_pb2 import ReconcileCdrsRequest
from evbridge.v1.reconciliation_pb2_grpc import ReconciliationServiceStub
from google.protobuf.json_format import ParseDict

from service.demo.data import Credential, made
from service.demo.story import say

_OPERATOR = {"country_code": "BE", "party_id": "BEC"}
_PROVIDER = {"country_code": "NL", "party_id": "DRV"}
_NAMED = _PROVIDER | {"uid": "04A1B2C3", "type": "TOKEN_TYPE_RFID"}
_CDR_TOKEN = _NAMED | {"contract_id": "NL-DRV-C12345678-X"}
_CARD = _CDR_TOKEN | {"issuer": "Drivers", "valid": True, "whitelist": "WHITELIST_TYPE_NEVER"}
_PLACE = {"location_id": "LOC1", "evse_uid": "3256", "connector_id": "1"}
_PRICE = {"type": "TARIFF_DIMENSION_TYPE_ENERGY", "price": {"value": "0.45"}, "step_size": 1}
_TARIFF = _OPERATOR | {"id": "evening", "currency": "EUR", "elements": [{"price_components": [_PRICE]}]}
_CDR_PLACE = {
    "id": "LOC1",
    "address": "F.Rooseveltlaan 3A",
    "city": "Gent",
    "country": "BEL",
    "coordinates": {"latitude": "51.047599", "longitude": "3.729944"},
    "evse_uid": "3256",
    "evse_id": "BE*BEC*E041503001",
    "connector_id": "1",
    "connector_standard": "CONNECTOR_TYPE_IEC_62196_T2",
    "connector_format": "CONNECTOR_FORMAT_SOCKET",
    "connector_power_type": "POWER_TYPE_AC_3_PHASE",
}


class Circle:
    """`ours` is the operator's credential, `theirs` the provider's."""

    def __init__(self, channel: grpc.aio.Channel, ours: Credential, theirs: Credential) -> None:
        self._channel = channel
        self._ours = ours
        self._theirs = theirs
        self._listens = asyncio.Event()
        now = datetime.now(UTC)
        self._start, self._end = (f"{now - timedelta(hours=hours):%Y-%m-%dT%H:%M:%SZ}" for hours in (1, 0))
        self._session: dict[str, Any] = {
            **_OPERATOR,
            **_PLACE,
            "id": "S1",
            "start_date_time": self._start,
            "kwh": {"value": "0"},
            "cdr_token": _CDR_TOKEN,
            "auth_method": "AUTH_METHOD_COMMAND",
            "currency": "EUR",
            "status": "SESSION_STATUS_ACTIVE",
        }

    async def tell(self) -> None:
        say("17. One driver's evening between two companies, two tenants of this server: the whole circle in ten lines")
        await self._know_each_other()
        await self._authorise()
        operator = asyncio.create_task(self._take_commands())
        try:
            await self._listens.wait()
            await self._charge()
        finally:
            operator.cancel()
            await asyncio.gather(operator, return_exceptions=True)
        await self._bill()
        await self._reconcile("the operator", self._ours, "drivers")
        await self._reconcile("the provider", self._theirs, "becharged")

    async def _operator(self, rpc: str, **request: Any) -> Any:
        return (await made(self._channel, self._ours, rpc, request)).answer

    async def _provider(self, rpc: str, **request: Any) -> Any:
        return (await made(self._channel, self._theirs, rpc, request)).answer

    async def _know_each_other(self) -> None:
        named = {"roles": ["PARTY_ROLE_EMSP"], "business_details": {"name": "Drivers"}}
        await self._provider("PartyService/CreateParty", party=_PROVIDER | named)
        connection: dict[str, Any] = {"type": "INTEGRATION_TYPE_OCPI", "enabled": True}
        becharged = {"id": "becharged", "parties": [_PROVIDER], "models": {"push_token": True}}
        waits = {"ocpi": {"initial_role": "INTERFACE_ROLE_RECEIVER"}}
        await self._provider("IntegrationService/CreateIntegration", integration=connection | becharged | waits)
        first = await self._provider("RegistrationService/IssueInitialToken", integration_id="becharged")
        drivers = {"id": "drivers", "parties": [_OPERATOR], "models": {"push_session": True, "push_cdr": True}}
        begins = {"endpoint_url": first.versions_url, "initial_token": first.token}
        begins["initial_role"] = "INTERFACE_ROLE_SENDER"
        connection |= {"ocpi": begins}
        await self._operator("IntegrationService/CreateIntegration", integration=connection | drivers)
        run = await self._operator("RegistrationService/RegisterIntegration", integration_id="drivers")
        await self._operator("RunService/WaitRun", id=run.id)
        version = (await self._operator("IntegrationService/GetIntegration", id="drivers")).version_details.version
        _line("register", f"BE*BEC and NL*DRV speak OCPI {version}", version)

    async def _authorise(self) -> None:
        await self._provider("TokenService/BatchUpsertTokens", tokens=[_CARD], allow_missing=True)
        await self._seen(
            lambda token: token.valid,
            "TokenService/GetToken",
            self._operator,
            key=_NAMED | {"integration_id": "drivers"},
        )
        _line("token", f"{_NAMED['uid']} was pushed to the operator", True)
        said = await self._operator("AuthorizationService/AuthorizeToken", uid=_NAMED["uid"])
        is_asked = said.source == authorization_pb2.AUTHORIZATION_SOURCE_PARTNER
        allowed = authorization_pb2.AllowedType.Name(said.allowed).removeprefix("ALLOWED_TYPE_")
        _line("authorise", f"the provider is asked and says {allowed}", is_asked and allowed == "ALLOWED")

    async def _charge(self) -> None:
        await self._command("start", {"start_session": {"token": _CARD, **_PLACE}})
        for kwh in ("5", "20"):
            await self._told(kwh=kwh)
        _line("charge", "the provider followed it to 20 kWh", True)
        await self._command("stop", {"stop_session": {"session_id": "S1"}})

    async def _command(self, name: str, request: dict[str, Any]) -> None:
        status = "COMPLETED" if name == "stop" else "ACTIVE"
        command = await self._provider("CommandService/SendCommand", integration_id="becharged", **request)
        wanted = session_pb2.SessionStatus.Value(f"SESSION_STATUS_{status}")
        await self._session_at_provider(lambda session: session.status == wanted)
        result = command_pb2.CommandResultType.Name(command.result.result).removeprefix("COMMAND_RESULT_TYPE_")
        _line(name, f"the charger's result is {result}, and session S1 is {status}", result == "ACCEPTED")

    async def _take_commands(self) -> None:
        """The operator's service: what it is told to do is done at once."""
        commands = command_pb2_grpc.CommandServiceStub(self._channel)
        stream = commands.ServeCommands(command_pb2.ServeCommandsRequest(), metadata=self._ours, timeout=60)
        async for response in stream:
            self._listens.set()
            for command in response.commands:
                taken = {"result": "COMMAND_RESPONSE_TYPE_ACCEPTED", "timeout_s": 30}
                await self._operator("CommandService/AnswerCommand", id=command.id, response=taken)
                if command.HasField("stop_session"):
                    self._session |= {"status": "SESSION_STATUS_COMPLETED", "end_date_time": self._end}
                await self._store()
                done = {"result": "COMMAND_RESULT_TYPE_ACCEPTED"}
                await self._operator("CommandService/ReportCommandResult", id=command.id, result=done)

    async def _told(self, kwh: str) -> None:
        self._session["kwh"] = {"value": kwh}
        await self._store()
        await self._session_at_provider(lambda session: session.kwh.value == kwh)

    async def _store(self) -> None:
        await self._operator("SessionService/UpdateSession", session=self._session, allow_missing=True)

    async def _session_at_provider(self, fits: Callable[[Any], bool]) -> None:
        key = _OPERATOR | {"id": "S1", "integration_id": "becharged"}
        await self._seen(fits, "SessionService/GetSession", self._provider, key=key)

    async def _bill(self) -> None:
        energy = {"type": "CDR_DIMENSION_TYPE_ENERGY", "volume": {"value": "20"}}
        same = ("start_date_time", "end_date_time", "cdr_token", "auth_method", "currency")
        cdr = {name: self._session[name] for name in same} | {
            **_OPERATOR,
            "id": "C1",
            "session_id": "S1",
            "cdr_location": _CDR_PLACE,
            "tariffs": [_TARIFF],
            "charging_periods": [
                {"start_date_time": self._start, "tariff_id": "evening", "dimensions": [energy]},
            ],
            "total_energy": {"value": "20"},
            "total_time": {"value": "1"},
            "total_cost": {"excl_vat": {"value": "9"}},
        }
        await self._operator("CdrService/CreateCdr", cdr=cdr)
        key = _OPERATOR | {"id": "C1", "integration_id": "becharged"}
        pending = cdr_pb2.CDR_AUDIT_STATE_PENDING
        held = await self._seen(lambda cdr: cdr.audit.state > pending, "CdrService/GetCdr", self._provider, key=key)
        _line("bill", f"CDR C1 is at the provider: 20 kWh, {held.total_cost.excl_vat.value} EUR", True)
        state = cdr_pb2.CdrAuditState.Name(held.audit.state).removeprefix("CDR_AUDIT_STATE_")
        cost = held.audit.computed_cost.excl_vat.value
        _line("audit", f"priced again by its tariff it costs {cost} EUR: {state}", state == "EQUAL")

    async def _reconcile(self, who: str, credential: Credential, integration_id: str) -> None:
        period = {"integration_id": integration_id, "start_time": self._start, "end_time": self._end}
        request = ParseDict(period, ReconcileCdrsRequest())
        stream = ReconciliationServiceStub(self._channel).ReconcileCdrs(request, metadata=credential, timeout=30)
        parts = [part async for part in stream]
        found = sum(len(part.findings) for part in parts)
        last, (total,) = parts[-1], [total for part in parts for total in part.totals]
        counts = f"{last.session_count} session, {last.cdr_count} CDR, {total.total_cost.excl_vat.value} EUR"
        _line("reconcile", f"{who} has {counts}, and {found} findings", last.complete and not found)

    async def _seen(self, fits: Callable[[Any], bool], rpc: str, company: Any, **request: Any) -> Any:
        """What is read, once it is there and fits."""
        async with asyncio.timeout(60):
            while True:
                try:
                    if fits(found := await company(rpc, **request)):
                        return found
                except grpc.aio.AioRpcError as error:
                    if error.code() != grpc.StatusCode.NOT_FOUND:
                        raise
                await asyncio.sleep(0.05)


def _line(step: str, text: str, is_right: Any) -> None:
    print(f"  {step:<10} {text}")
    if not is_right:
        sys.exit(f"the circle did not close at {step!r}")

"""The whole circle between an operator and a provider, both evbridges: from a driver's token to the month's bill.

Each step is what the people and the services of two companies do, over and over until it has worked: so that a fault
on the way costs time, and never a CDR.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from itertools import count
from typing import Any, Final, TypeVar
from uuid import uuid4

import grpc
from evbridge.v1.authorization_pb2 import (
    ALLOWED_TYPE_ALLOWED,
    AUTHORIZATION_SOURCE_PARTNER,
    AuthorizeTokenRequest,
    LocationReferences,
)
from evbridge.v1.cdr_pb2 import (
    CDR_AUDIT_STATE_EQUAL,
    CDR_AUDIT_STATE_PENDING,
    CdrKey,
    CreateCdrRequest,
    GetCdrRequest,
    ListCdrsRequest,
)
from evbridge.v1.cdr_token_pb2 import AUTH_METHOD_AUTH_REQUEST
from evbridge.v1.command_pb2 import (
    COMMAND_RESPONSE_TYPE_ACCEPTED,
    COMMAND_RESPONSE_TYPE_REJECTED,
    COMMAND_RESULT_TYPE_ACCEPTED,
    AnswerCommandRequest,
    Command,
    CommandResponse,
    CommandResult,
    ReportCommandResultRequest,
    SendCommandRequest,
    ServeCommandsRequest,
    StartSession,
    StopSession,
)
from evbridge.v1.integration_pb2 import Integration, IntegrationModels, UpdateIntegrationRequest
from evbridge.v1.session_pb2 import (
    SESSION_STATUS_ACTIVE,
    SESSION_STATUS_COMPLETED,
    GetSessionRequest,
    Session,
    SessionKey,
    UpdateSessionRequest,
)
from evbridge.v1.token_pb2 import WHITELIST_TYPE_NEVER, BatchUpsertTokensRequest, GetTokenRequest, TokenKey
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.decimal_pb2 import Decimal

from tests.charged import SESSION_START_S, a_cdr, a_cdr_token, a_period, a_session
from tests.front_door import a_tariff, a_token
from tests.rpc.test_reconciliation import reasons, reconciled
from tests.rpc.test_registration import ID, Side

T = TypeVar("T")

HERS: Final = {"country_code": "DE", "party_id": "CPO"}
HIS: Final = {"country_code": "DE", "party_id": "MSP"}
APART_S: Final = 7200
LIMIT_S: Final = 120.0
_MAY_PASS = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)


@contextmanager
def outliving(*codes: grpc.StatusCode) -> Iterator[None]:
    """Goes on after what becomes of a call whose server dies, or that fails with one of these codes."""
    try:
        yield
    except grpc.aio.UsageError:
        pass  # its channel is closed
    except asyncio.CancelledError:
        if (task := asyncio.current_task()) and task.cancelling():
            raise
    except grpc.aio.AioRpcError as error:
        if error.code() not in (*_MAY_PASS, *codes):
            raise


async def insisted(call: Callable[[], Awaitable[T]]) -> T:
    """The answer of a call that is made again as long as what is wrong may pass."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            with outliving():
                return await call()
            await asyncio.sleep(0.05)


async def until(reached: Callable[[], Awaitable[bool]]) -> None:
    """Looks until it is so; what is not there yet is looked for again."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            with outliving(grpc.StatusCode.NOT_FOUND):
                if await reached():
                    return
            await asyncio.sleep(0.05)


async def agreed(cpo: Side, emsp: Side) -> None:
    """What the two push to each other."""
    for side, models in (
        (cpo, IntegrationModels(push_session=True, push_cdr=True)),
        (emsp, IntegrationModels(push_token=True)),
    ):
        request = UpdateIntegrationRequest(integration=Integration(id=ID, models=models))
        await side.client.integrations.UpdateIntegration(request)


class Operator:
    """The operator's service: takes commands, and knows by the token what charges."""

    def __init__(self, side: Side) -> None:
        self._side = side
        self.sessions: dict[str, Session] = {}
        self.started = count()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["Operator"]:
        task = asyncio.create_task(self._serve())
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def told(self, session: Session) -> None:
        """Stores how far the session is, as one of ours."""
        request = UpdateSessionRequest(session=session, allow_missing=True, update_mask=FieldMask(paths=["*"]))
        await insisted(lambda: self._side.client.sessions.UpdateSession(request))

    async def _serve(self) -> None:
        while True:
            with outliving():
                stream: Any = self._side.client.commands.ServeCommands(ServeCommandsRequest(), timeout=LIMIT_S)  # type: ignore[call-arg]
                while response := await stream.read():
                    for command in response.commands:
                        await self._take(command)
            await asyncio.sleep(0.05)

    async def _take(self, command: Command) -> None:
        """One that comes once more is done already, and an old one is refused."""
        session = self._meant(command)
        if session is None:
            refused = CommandResponse(result=COMMAND_RESPONSE_TYPE_REJECTED)
            await self._say("AnswerCommand", AnswerCommandRequest(id=command.id, response=refused))
            return
        if command.HasField("stop_session") and session.status == SESSION_STATUS_ACTIVE:
            session.status = SESSION_STATUS_COMPLETED
            session.end_date_time.seconds = session.start_date_time.seconds + 3600
        taken = CommandResponse(result=COMMAND_RESPONSE_TYPE_ACCEPTED, timeout_s=30)
        await self._say("AnswerCommand", AnswerCommandRequest(id=command.id, response=taken))
        await self.told(session)
        result = CommandResult(result=COMMAND_RESULT_TYPE_ACCEPTED)
        await self._say("ReportCommandResult", ReportCommandResultRequest(id=command.id, result=result))

    def _meant(self, command: Command) -> Session | None:
        if command.HasField("stop_session"):
            return next((each for each in self.sessions.values() if each.id == command.stop_session.session_id), None)
        token = command.start_session.token
        session = self.sessions.get(token.uid)
        if session is None:
            start = Timestamp(seconds=SESSION_START_S + next(self.started) * APART_S)
            card = a_cdr_token(**HIS, uid=token.uid, contract_id=token.contract_id)
            session = self.sessions[token.uid] = a_session(
                **HERS, id=f"S-{token.uid}", start_date_time=start, cdr_token=card, auth_method=AUTH_METHOD_AUTH_REQUEST
            )
        return session if session.status == SESSION_STATUS_ACTIVE else None

    async def _say(self, name: str, request: Any) -> None:
        with suppress(grpc.aio.AioRpcError):  # who asked does not wait any more
            await insisted(lambda: getattr(self._side.client.commands, name)(request))


class Circle:
    """One driver's evening. Every driver has a card and a contract of his own."""

    def __init__(self, cpo: Side, emsp: Side, operator: Operator, driver: str = "") -> None:
        self._cpo = cpo
        self._emsp = emsp
        self._operator = operator
        self.driver = driver or f"U{uuid4().hex[:12].upper()}"
        self.card = a_token(**HIS, uid=self.driver, contract_id=f"DE-MSP-{self.driver}", whitelist=WHITELIST_TYPE_NEVER)
        self.cdr_id = f"C-{self.driver}"

    @property
    def session(self) -> Session:
        """As the operator knows it."""
        return self._operator.sessions[self.driver]

    @property
    def steps(self) -> tuple[Callable[[], Coroutine[Any, Any, None]], ...]:
        return (
            self.issue,
            self.authorise,
            self.start,
            self.charge,
            self.stop,
            self.bill,
            self.audit,
            self.reconcile,
        )

    async def runs(self) -> None:
        for step in self.steps:
            await step()

    async def issue(self) -> None:
        """The provider has a new card, which the operator learns of."""
        request = BatchUpsertTokensRequest(tokens=[self.card], allow_missing=True)
        await insisted(lambda: self._emsp.client.tokens.BatchUpsertTokens(request))
        key = TokenKey(**HIS, uid=self.driver, type=self.card.type, integration_id=ID)

        async def known() -> bool:
            return bool((await self._cpo.client.tokens.GetToken(GetTokenRequest(key=key))).valid)

        await until(known)

    async def authorise(self) -> None:
        request = AuthorizeTokenRequest(
            uid=self.driver, location=LocationReferences(location_id="L1", evse_uids=["E1"])
        )
        said = await insisted(lambda: self._cpo.client.authorizations.AuthorizeToken(request))
        assert (said.allowed, said.source) == (ALLOWED_TYPE_ALLOWED, AUTHORIZATION_SOURCE_PARTNER)

    async def start(self) -> None:
        """Once more each time that the driver was told that it may not have worked."""
        start = StartSession(token=self.card, location_id="L1", evse_uid="E1", connector_id="1")
        await self._commanded(lambda: SendCommandRequest(integration_id=ID, id=str(uuid4()), start_session=start))
        await until(lambda: self._held(lambda held: held.status == SESSION_STATUS_ACTIVE))

    async def charge(self) -> None:
        session = self.session
        start_s = session.start_date_time.seconds - SESSION_START_S
        for number, energy in enumerate(("5", "15")):
            session.charging_periods.append(a_period(start_s + 900 * number, energy))
            session.kwh.value = str(sum(int(each.dimensions[0].volume.value) for each in session.charging_periods))
            await self._operator.told(session)
            await until(lambda: self._held(lambda held: held.kwh == session.kwh))

    async def stop(self) -> None:
        stop = StopSession(session_id=self.session.id)
        await self._commanded(lambda: SendCommandRequest(integration_id=ID, id=str(uuid4()), stop_session=stop))
        await until(lambda: self._held(lambda held: held.status == SESSION_STATUS_COMPLETED))

    async def bill(self) -> None:
        await self.record()
        await until(lambda: self._found(lambda held: held.total_energy == Decimal(value="20")))

    async def record(self) -> None:
        """The CDR, of the operator's: 20 kWh for 5 EUR, by the tariff that it names."""
        session = self.session
        cdr = a_cdr(
            **HERS,
            id=self.cdr_id,
            session_id=session.id,
            start_date_time=session.start_date_time,
            end_date_time=session.end_date_time,
            cdr_token=session.cdr_token,
            auth_method=session.auth_method,
            charging_periods=session.charging_periods,
            tariffs=[a_tariff(**HERS, id="T9")],
        )
        request = CreateCdrRequest(cdr=cdr, request_id=str(uuid4()))
        await insisted(lambda: self._cpo.client.cdrs.CreateCdr(request))

    async def audit(self) -> None:
        await until(lambda: self._found(lambda held: held.audit.state > CDR_AUDIT_STATE_PENDING))
        assert await self._found(lambda held: held.audit.state == CDR_AUDIT_STATE_EQUAL)

    async def reconcile(self) -> None:
        """One session and one CDR, with nothing to say of them, at both."""
        start = self.session.start_date_time
        period = {"start_time": start, "end_time": Timestamp(seconds=start.seconds + 1)}
        for side in (self._cpo, self._emsp):
            await until(lambda side=side: _acknowledged(side, period))  # type: ignore[misc]
            found = await insisted(lambda side=side: reconciled(side.client, **period))  # type: ignore[misc]
            assert (reasons(found), found.session_count, found.cdr_count) == ([], 1, 1), found
            assert [total.total_cost.excl_vat.value for total in found.totals] == ["5"]

    async def _commanded(self, made: Callable[[], SendCommandRequest]) -> None:
        async def send() -> Command:
            request = made()
            command: Command = await self._emsp.client.commands.SendCommand(request, timeout=LIMIT_S / 2)  # type: ignore[call-arg]
            return command

        command = await insisted(send)
        assert command.result.result == COMMAND_RESULT_TYPE_ACCEPTED, command

    async def _held(self, fits: Callable[[Session], bool]) -> bool:
        key = SessionKey(**HERS, id=self.session.id, integration_id=ID)
        return fits(await self._emsp.client.sessions.GetSession(GetSessionRequest(key=key)))

    async def _found(self, fits: Callable[[Any], bool]) -> bool:
        key = CdrKey(**HERS, id=self.cdr_id, integration_id=ID)
        return fits(await self._emsp.client.cdrs.GetCdr(GetCdrRequest(key=key)))


async def _acknowledged(side: Side, period: Any) -> bool:
    """The CDR is there before the operator hears that it is."""
    said = {reason for reason, _ in reasons(await reconciled(side.client, **period))}
    return not said & {"CDR_NOT_DELIVERED", "CDR_OUTCOME_UNKNOWN"}


async def cdrs_at(side: Side, integration_id: str) -> list[str]:
    """The ids of all CDRs of ours, or of those that came through an integration."""
    ids, token = [], ""
    while True:
        page = await side.client.cdrs.ListCdrs(ListCdrsRequest(integration_id=integration_id, page_token=token))
        ids += [cdr.id for cdr in page.cdrs]
        if not (token := page.next_page_token):
            return sorted(ids)

"""CommandService: a provider sends commands to an operator, both evbridges, in every version."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import grpc
import pytest
from evbridge.v1.charging_profile_pb2 import (
    CHARGING_RATE_UNIT_W,
    ActiveChargingProfile,
    ChargingProfile,
    ChargingProfilePeriod,
)
from evbridge.v1.command_pb2 import (
    COMMAND_DIRECTION_RECEIVED,
    COMMAND_RESPONSE_TYPE_ACCEPTED,
    COMMAND_RESPONSE_TYPE_REJECTED,
    COMMAND_RESPONSE_TYPE_UNKNOWN_SESSION,
    COMMAND_RESULT_TYPE_ACCEPTED,
    COMMAND_RESULT_TYPE_EVSE_OCCUPIED,
    COMMAND_RESULT_TYPE_REJECTED,
    COMMAND_RESULT_TYPE_UNKNOWN,
    COMMAND_STATE_ACCEPTED,
    COMMAND_STATE_ENDED,
    COMMAND_STATE_PENDING,
    COMMAND_STATE_REFUSED,
    AnswerCommandRequest,
    CancelReservation,
    ClearChargingProfile,
    Command,
    CommandResponse,
    CommandResult,
    GetActiveChargingProfile,
    GetCommandRequest,
    ListCommandsRequest,
    ReportCommandResultRequest,
    ReserveNow,
    SendCommandRequest,
    ServeCommandsRequest,
    SetChargingProfile,
    StartSession,
    StopSession,
    UnlockConnector,
)
from evbridge.v1.party_pb2 import PARTY_ROLE_EMSP, UpdatePartyRequest
from evbridge.v1.watch_pb2 import WatchCommandsRequest
from google.type.decimal_pb2 import Decimal

from service.partners.ocpi.commands import result_from
from tests.conftest import Tenant
from tests.front_door import a_party, a_token, fails
from tests.ocpi.door import Ask, Partner, ask, partner
from tests.questions import answering
from tests.rpc.test_ocpi_tokens import HIS, registered
from tests.rpc.test_registration import ID, SPOKEN, Side, Sides, sides
from tests.rpc.test_watch import watching

__all__ = ["ask", "partner", "sides"]
TAKEN = CommandResponse(result=COMMAND_RESPONSE_TYPE_ACCEPTED, timeout_s=30)


def starting(**changes: Any) -> SendCommandRequest:
    start = StartSession(token=a_token(**HIS, uid="04AB"), location_id="L1", evse_uid="E1", connector_id="1")
    return SendCommandRequest(integration_id=ID, start_session=start, **changes)


async def send(emsp: Side, request: SendCommandRequest, timeout: float = 20.0) -> Command:
    command: Command = await emsp.client.commands.SendCommand(request, timeout=timeout)  # type: ignore[call-arg]
    return command


async def get(side: Side, id: str) -> Command:
    command: Command = await side.client.commands.GetCommand(GetCommandRequest(id=id))
    return command


async def answer(cpo: Side, command: Command, response: CommandResponse) -> None:
    await cpo.client.commands.AnswerCommand(AnswerCommandRequest(id=command.id, response=response))


async def report(cpo: Side, command: Command, result: Any) -> None:
    request = ReportCommandResultRequest(id=command.id, result=CommandResult(result=result))
    await cpo.client.commands.ReportCommandResult(request)


def serving(cpo: Side, serve: Callable[[Command], Any]) -> AbstractAsyncContextManager[list[Command]]:
    """A service of the operator's; the commands that it was handed."""
    stream: Any = cpo.client.commands.ServeCommands(ServeCommandsRequest(), timeout=120.0)  # type: ignore[call-arg]
    return answering(stream, "commands", serve)


@pytest.mark.parametrize("version", SPOKEN)
async def test_each_command_is_taken_and_its_result_comes_back(sides: Sides, version: str) -> None:
    later = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    reserve = ReserveNow(token=a_token(**HIS, uid="04AB"), reservation_id="17", location_id="L1", evse_uid="E1")
    reserve.expiry_date.FromDatetime(later)
    requests = [
        starting(),
        SendCommandRequest(integration_id=ID, stop_session=StopSession(session_id="S1")),
        SendCommandRequest(integration_id=ID, reserve_now=reserve),
        SendCommandRequest(
            integration_id=ID, unlock_connector=UnlockConnector(location_id="L1", evse_uid="E1", connector_id="1")
        ),
    ]
    cancel = SendCommandRequest(integration_id=ID, cancel_reservation=CancelReservation(reservation_id="17"))
    async with registered(sides, version) as (cpo, emsp):

        async def serve(command: Command) -> None:
            await answer(cpo, command, TAKEN)
            await report(cpo, command, COMMAND_RESULT_TYPE_ACCEPTED)

        async with serving(cpo, serve) as handed:
            for request in requests + ([cancel] if version > "2.2" else []):
                command = await send(emsp, request)
                assert command.state == COMMAND_STATE_ENDED, command
                assert command.result.result == COMMAND_RESULT_TYPE_ACCEPTED
                received = await get(cpo, handed[-1].id)
                assert received.direction == COMMAND_DIRECTION_RECEIVED
                assert received.WhichOneof("request") == request.WhichOneof("request")
            assert handed[0].start_session.token.uid == "04AB"
            assert handed[0].start_session.connector_id == ("1" if version > "2.2" else "")
            assert handed[1].stop_session.session_id == "S1"
            assert (handed[2].reserve_now.reservation_id, handed[2].reserve_now.expiry_date) == (
                "17",
                reserve.expiry_date,
            )
            assert handed[3].unlock_connector == requests[3].unlock_connector
        if version == "2.1.1":
            assert (await fails(send(emsp, cancel))).reason == "INVALID_FIELD"


async def test_nobody_who_listens_and_a_service_that_refuses_are_clear_answers(sides: Sides) -> None:
    async with registered(sides) as (cpo, emsp):
        command = await send(emsp, starting())
        assert (command.state, command.response.result) == (COMMAND_STATE_REFUSED, COMMAND_RESPONSE_TYPE_REJECTED)
        assert "Nobody" in command.response.messages[0].text

        async def serve(command: Command) -> None:
            await answer(cpo, command, CommandResponse(result=COMMAND_RESPONSE_TYPE_UNKNOWN_SESSION))

        async with serving(cpo, serve) as handed:
            command = await send(emsp, starting())
            assert command.response.result == COMMAND_RESPONSE_TYPE_UNKNOWN_SESSION
            refused = await fails(report(cpo, handed[0], COMMAND_RESULT_TYPE_ACCEPTED))
            assert refused.reason == "RESOURCE_NOT_FOUND", "it was not taken"
        page = await emsp.client.commands.ListCommands(ListCommandsRequest(integration_id=ID))
        assert [each.state for each in page.commands] == [COMMAND_STATE_REFUSED] * 2


async def test_a_late_result_is_kept_and_a_repeated_call_sends_nothing(sides: Sides) -> None:
    async with registered(sides, "2.2.1") as (cpo, emsp):

        async def serve(command: Command) -> None:
            await answer(cpo, command, TAKEN)

        async with serving(cpo, serve) as handed:
            request = starting(id=str(uuid4()))
            command = await send(emsp, request, timeout=4.0)
            assert (command.state, command.HasField("result")) == (COMMAND_STATE_ACCEPTED, False)
            assert command.HasField("expire_time")
            refused = await fails(report(emsp, command, COMMAND_RESULT_TYPE_ACCEPTED))
            assert refused.reason == "RESOURCE_NOT_FOUND", "it is the operator who says what a charger did"
            await report(cpo, handed[0], COMMAND_RESULT_TYPE_EVSE_OCCUPIED)
            again = await send(emsp, request)
            assert (again.state, again.result.result) == (COMMAND_STATE_ENDED, COMMAND_RESULT_TYPE_EVSE_OCCUPIED)
            assert len(handed) == 1
            other = SendCommandRequest(integration_id=ID, id=request.id, stop_session=StopSession(session_id="S"))
            assert (await fails(send(emsp, other))).reason == "RESOURCE_EXISTS"
            while not (await get(cpo, handed[0].id)).HasField("result_sent_time"):
                await asyncio.sleep(0.05)


async def test_commands_are_watched_from_where_a_watch_ended(sides: Sides) -> None:
    async with registered(sides) as (cpo, emsp), serving(cpo, lambda command: answer(cpo, command, TAKEN)) as handed:
        commands = emsp.client.watch.WatchCommands
        async with watching(commands, WatchCommandsRequest(integration_id=ID)) as watch:
            sent = await send(emsp, starting(), timeout=2.0)
            taken = await watch.until(lambda change: change.command.state == COMMAND_STATE_ACCEPTED)
            assert (taken.id, taken.command.start_session.location_id) == (sent.id, "L1")
        await report(cpo, handed[0], COMMAND_RESULT_TYPE_EVSE_OCCUPIED)
        async with watching(commands, WatchCommandsRequest(resume_token=watch.token)) as resumed:
            ended = await resumed.until(lambda change: change.command.state == COMMAND_STATE_ENDED)
            assert ended.command.result.result == COMMAND_RESULT_TYPE_EVSE_OCCUPIED
            other = await send(
                emsp, SendCommandRequest(integration_id=ID, stop_session=StopSession(session_id="S")), timeout=2.0
            )
        async with watching(commands, WatchCommandsRequest(snapshot=True)) as snapshot:
            assert [change.id for change in snapshot.changes] == [other.id, sent.id]
        async with watching(commands, WatchCommandsRequest(snapshot=True, integration_id="other")) as nothing:
            assert nothing.changes == []


async def test_an_answer_that_is_lost_leaves_the_command_open_for_its_result(sides: Sides) -> None:
    async with registered(sides) as (cpo, emsp):

        async def serve(command: Command) -> None:
            await answer(cpo, command, TAKEN)

        async with serving(cpo, serve) as handed:
            cpo.wire.faults = [("POST", "/START_SESSION", "lose_answer")]
            request = starting(id=str(uuid4()))
            failure = await fails(send(emsp, request))
            assert (failure.code, failure.reason) == (grpc.StatusCode.UNAVAILABLE, "PARTNER_OUTCOME_UNKNOWN")
            assert (await get(emsp, request.id)).state == COMMAND_STATE_PENDING
            await report(cpo, handed[0], COMMAND_RESULT_TYPE_REJECTED)
            assert (await send(emsp, request)).result.result == COMMAND_RESULT_TYPE_REJECTED
            assert len(handed) == 1, "a charger may have done it: it is sent once"


async def test_a_response_that_is_a_list_of_one_is_that_one(sides: Sides) -> None:
    async with registered(sides) as (cpo, emsp):

        async def serve(command: Command) -> None:
            await answer(cpo, command, TAKEN)
            await report(cpo, command, COMMAND_RESULT_TYPE_REJECTED)

        async with serving(cpo, serve):
            cpo.wire.faults = [("POST", "/START_SESSION", "listed:1")]
            assert (await send(emsp, starting(id=str(uuid4())))).result.result == COMMAND_RESULT_TYPE_REJECTED
            for count in (0, 2):
                cpo.wire.faults = [("POST", "/START_SESSION", f"listed:{count}")]
                failure = await fails(send(emsp, starting(id=str(uuid4()))))
                assert "does not say whether it takes the command" in failure.message, failure


@pytest.mark.parametrize("version", SPOKEN)
async def test_charging_profiles_are_set_cleared_and_read(sides: Sides, version: str) -> None:
    period = ChargingProfilePeriod(start_period=0, limit=Decimal(value="11000.5"))
    profile = ChargingProfile(charging_rate_unit=CHARGING_RATE_UNIT_W, duration=900, charging_profile_period=[period])
    profile.start_date_time.FromJsonString("2030-06-03T19:30:00Z")
    planned = ActiveChargingProfile(start_date_time=profile.start_date_time, charging_profile=profile)
    setting = SetChargingProfile(session_id="S1", charging_profile=profile)
    reading = GetActiveChargingProfile(session_id="S1", duration_s=900)
    requests = [
        SendCommandRequest(integration_id=ID, set_charging_profile=setting),
        SendCommandRequest(integration_id=ID, get_active_charging_profile=reading),
        SendCommandRequest(integration_id=ID, clear_charging_profile=ClearChargingProfile(session_id="S1")),
    ]
    async with registered(sides, version) as (cpo, emsp):
        if version == "2.1.1":
            assert (await fails(send(emsp, requests[0]))).reason == "INVALID_FIELD"
            return

        async def serve(command: Command) -> None:
            await answer(cpo, command, TAKEN)
            asked = command.WhichOneof("request")
            result = CommandResult(result=COMMAND_RESULT_TYPE_ACCEPTED)
            if asked == "get_active_charging_profile":
                result.profile.CopyFrom(planned)
            elif asked == "clear_charging_profile":
                result.result = COMMAND_RESULT_TYPE_UNKNOWN
            request = ReportCommandResultRequest(id=command.id, result=result)
            await cpo.client.commands.ReportCommandResult(request)

        async with serving(cpo, serve) as handed:
            done = [await send(emsp, request) for request in requests]
        assert [each.state for each in done] == [COMMAND_STATE_ENDED] * 3
        assert handed[0].set_charging_profile == setting
        assert handed[1].get_active_charging_profile == reading
        assert done[1].result.profile == planned
        assert done[2].result.result == COMMAND_RESULT_TYPE_UNKNOWN


async def test_a_result_is_brought_once_the_sender_is_there_again(sides: Sides) -> None:
    async with registered(sides) as (cpo, emsp):

        async def serve(command: Command) -> None:
            await answer(cpo, command, TAKEN)

        async with serving(cpo, serve) as handed:
            request = starting(id=str(uuid4()))
            assert (await send(emsp, request, timeout=2.0)).state == COMMAND_STATE_ACCEPTED
            there, emsp.wire.to = emsp.wire.to, "http://127.0.0.1:1"  # where nobody listens
            emsp.wire.carried.clear()
            await report(cpo, handed[0], COMMAND_RESULT_TYPE_ACCEPTED)
            while not emsp.wire.carried:
                await asyncio.sleep(0.05)
            assert not (await get(cpo, handed[0].id)).HasField("result_sent_time")
            emsp.wire.to = there
            while not (await get(cpo, handed[0].id)).HasField("result_sent_time"):
                await asyncio.sleep(0.05)
            assert (await get(emsp, request.id)).state == COMMAND_STATE_ENDED


STOP = {"session_id": "S1", "response_url": "http://169.254.169.254/latest/meta-data"}


@pytest.mark.parametrize(
    ("command", "body", "word"),
    [
        ("STOP_SESSION", STOP, "response_url"),
        ("STOP_SESSION", {"session_id": "S1"}, "response_url"),
        ("STOP_SESSION", STOP | {"session_id": 7}, "session_id"),
        ("STOP_SESSION", {"response_url": "http://x.example"}, "session_id"),
        ("START_SESSION", STOP | {"location_id": "L1"}, "token"),
        ("MAKE_COFFEE", STOP, "command"),
        ("STOP_SESSION", STOP | {"session_id": "\ud800"}, "session_id"),
        ("STOP_SESSION", STOP | {"session_id": "S1", "response_url": "http://x.example/\0"}, "response_url"),
        ("STOP_SESSION", STOP | {"session_id": "S1", "response_url": "http://x.example/?id=1"}, "query"),
        ("RESERVE_NOW", {"expiry_date": "0001-01-01T00:00:00+23:59"}, "expiry_date"),
    ],
)
async def test_a_command_that_is_not_understood_or_leads_elsewhere_is_refused(
    ask: Ask, partner: Partner, tenant: Tenant, command: str, body: dict[str, Any], word: str
) -> None:
    refused = await ask("POST", f"/ocpi/cpo/2.2.1/commands/{command}", partner.registered, json=body)
    assert (refused.status, refused.body["status_code"]) == (200, 2001)
    assert word in refused.body["status_message"]
    assert not (await tenant.reader.commands.ListCommands(ListCommandsRequest())).commands


def test_half_a_character_in_a_text_costs_that_character() -> None:
    result = result_from({"result": "ACCEPTED", "message": [{"language": "\ud800", "text": "no \ud800"}]})
    assert result.messages[0].text == "no \ufffd"


async def test_a_result_of_no_command_of_ours_is_unknown(ask: Ask, partner: Partner, tenant: Tenant) -> None:
    await tenant.admin.parties.UpdateParty(UpdatePartyRequest(party=a_party(roles=[PARTY_ROLE_EMSP])))
    for id in (uuid4(), "17"):
        path = f"/ocpi/emsp/2.2.1/commands/STOP_SESSION/{id}"
        answer = await ask("POST", path, partner.registered, json={"result": "ACCEPTED"})
        assert answer.status == 404

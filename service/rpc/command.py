"""evbridge.v1.CommandService."""

from collections.abc import AsyncGenerator, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final
from uuid import uuid4

from evbridge.v1.command_pb2 import (
    COMMAND_DIRECTION_SENT,
    COMMAND_STATE_PENDING,
    AnswerCommandRequest,
    Command,
    GetCommandRequest,
    ListCommandsRequest,
    ReportCommandResultRequest,
    SendCommandRequest,
    ServeCommandsRequest,
)
from evbridge.v1.integration_pb2 import Integration, IntegrationType

from service.domain.audit import event_of_partner_call
from service.domain.caller import Caller, time_to_wait_s, waits_elsewhere
from service.domain.integration import speaker
from service.domain.pages import list_response, page_size, position_before
from service.domain.partner_error import PartnerFault, PartnerOutcomeUnknown
from service.errors import EvbridgeError, InvalidArgument, ResourceExists
from service.resources.audit import audited
from service.resources.command import Commander, command_answered, command_awaited, command_ended, command_failed
from service.resources.mutation import mutate
from service.resources.question import Kind, Questions
from service.rpc.question import Asked
from service.storage.command import command_get, command_insert, command_page
from service.storage.connection import Connection
from service.storage.integration import integration_get
from service.storage.keyring import Keyring
from service.storage.pool import Database

_SEND: Final = "evbridge.v1.CommandService/SendCommand"


class CommandService:
    """`commanders`: by the type of the integration."""

    def __init__(
        self,
        database: Database,
        keyring: Keyring,
        questions: Questions,
        commanders: Mapping[IntegrationType.ValueType, Commander],
    ) -> None:
        self._database = database
        self._keyring = keyring
        self._notices = questions.notices
        self._questions = Asked(questions, keyring, Kind.COMMAND)
        self._commanders = commanders

    async def SendCommand(self, request: SendCommandRequest, caller: Caller) -> bytes:
        command = _command(request)
        payload = await integration_get(self._database, caller.tenant_id, request.integration_id)
        integration = Integration.FromString(payload)
        lacking = InvalidArgument.field("integration_id", "is an integration whose partner takes no commands")
        commander = speaker(integration, self._commanders, lacking)
        waits_elsewhere()
        if await command_insert(self._database, caller.tenant_id, command, ""):
            describe = partial(event_of_partner_call, _SEND, integration.id, request)
            async with audited(self._database, self._keyring, caller, describe):
                await self._sent(commander, command, caller)
        else:
            await self._check_same(command, caller)
        return await command_awaited(self._database, self._notices, caller.tenant_id, command.id, time_to_wait_s())

    async def GetCommand(self, request: GetCommandRequest, caller: Caller) -> bytes:
        return await command_get(self._database, caller.tenant_id, request.id)

    async def ListCommands(self, request: ListCommandsRequest, caller: Caller) -> bytes:
        before, size = position_before(request), page_size(request.page_size)
        rows = await command_page(self._database, caller.tenant_id, request, before, size + 1)
        return list_response(request, rows, size)

    def ServeCommands(self, request: ServeCommandsRequest, caller: Caller) -> AsyncGenerator[bytes, None]:
        return self._questions.serve(request, caller)

    async def AnswerCommand(self, request: AnswerCommandRequest, caller: Caller) -> bytes:
        async def reply(conn: Connection) -> Command:
            return await command_answered(conn, caller.tenant_id, request.id, request.response)

        return await self._questions.answer(request, caller, request.response, reply)

    async def ReportCommandResult(self, request: ReportCommandResultRequest, caller: Caller) -> bytes:
        async def work(conn: Connection, now: datetime) -> Command:
            return await command_ended(conn, caller.tenant_id, request.id, request.result, is_ours=True)

        return await mutate(self._database, self._keyring, request, caller, work)

    async def _sent(self, commander: Commander, command: Command, caller: Caller) -> None:
        of = (self._database, caller.tenant_id, command.id)
        try:
            response = await commander.send(caller.tenant_id, command, time_to_wait_s())
        except EvbridgeError as error:
            may_have_arrived = isinstance(error, PartnerOutcomeUnknown | PartnerFault)
            await command_failed(*of, error.message, for_certain=not may_have_arrived)
            raise
        else:
            await command_answered(*of, response)
        finally:
            self._notices.tell(command.id)

    async def _check_same(self, command: Command, caller: Caller) -> None:
        """Raises ResourceExists when the id names another command."""
        stored = Command.FromString(await command_get(self._database, caller.tenant_id, command.id))
        asked = str(command.WhichOneof("request"))
        same = stored.WhichOneof("request") == asked and getattr(stored, asked) == getattr(command, asked)
        if not same or (stored.integration_id, stored.direction) != (command.integration_id, command.direction):
            raise ResourceExists(
                f"there is another command with the id {command.id}", resource="command", id=command.id
            )


def _command(request: Any) -> Command:
    asked = request.WhichOneof("request")
    command = Command(
        id=request.id.lower() or str(uuid4()),
        integration_id=request.integration_id,
        direction=COMMAND_DIRECTION_SENT,
        state=COMMAND_STATE_PENDING,
        **{asked: getattr(request, asked)},
    )
    command.create_time.FromDatetime(datetime.now(UTC))
    return command

"""OCPI's commands module: what providers ask of our chargers, and what operators say of theirs.

Source: OCPI 2.2.1, commands.
"""

import json
from datetime import UTC, datetime
from typing import Final
from uuid import UUID, uuid4

from evbridge.partner.ocpi.v2 import charging_profiles_pb2 as profiles
from evbridge.partner.ocpi.v2 import commands_pb2 as ocpi
from evbridge.v1.charging_profile_pb2 import ChargingProfile
from evbridge.v1.command_pb2 import (
    COMMAND_DIRECTION_RECEIVED,
    COMMAND_RESPONSE_TYPE_REJECTED,
    COMMAND_STATE_PENDING,
    ClearChargingProfile,
    Command,
    CommandResponse,
    GetActiveChargingProfile,
    SetChargingProfile,
)
from evbridge.v1.integration_pb2 import Integration
from evbridge.v1.party_pb2 import PARTY_ROLE_EMSP
from google.protobuf.message import Message

from service.bridge.addresses import UrlRefused, check_given, check_url
from service.bridge.edge import Reply
from service.domain.validation import validate
from service.errors import EgressDenied
from service.ocpi.listener import OcpiRefused, Visit
from service.ocpi.modules import document_in, enveloped, refusing, stored_of, unknown
from service.partners.ocpi.commands import command_from, response_to, result_from
from service.partners.ocpi.plain import plain_from
from service.partners.ocpi.received import owners
from service.resources.command import command_answered, command_ended
from service.resources.question import Kind, Questions
from service.runs.worker import Tools
from service.storage.command import command_get, command_insert
from service.storage.integration import integration_get
from service.storage.notices import Notices

_ANSWER_S: Final = 10.0
"""How long a service may take to say whether it takes a command."""
_NOBODY: Final = "Nobody here takes commands at the moment."


class CommandsReceiver:
    """evbridge.partner.ocpi.v2.CommandsReceiverService, served."""

    def __init__(self, tools: Tools, questions: Questions) -> None:
        self._tools = tools
        self._database = tools.database
        self._questions = questions

    async def PostCommand(self, request: ocpi.PostCommandRequest, visit: Visit) -> Reply:
        document = await document_in(visit)
        owner = next(iter(owners(await stored_of(self._tools, visit), PARTY_ROLE_EMSP)), None)
        with refusing():
            command, response_url = command_from(request.command, document, visit.version, owner)
        return await self.received(command, response_url, visit)

    async def received(self, command: Command, response_url: str, visit: Visit) -> Reply:
        """Keeps it, has it answered, and says what was answered. Raises OcpiRefused."""
        await self._check(response_url, visit)
        command.id, command.integration_id = str(uuid4()), visit.integration_id
        command.direction, command.state = COMMAND_DIRECTION_RECEIVED, COMMAND_STATE_PENDING
        command.create_time.FromDatetime(datetime.now(UTC))
        await command_insert(self._database, visit.tenant_id, command, response_url)
        response = await self._answered(command, visit)
        return Reply(body=enveloped(json.dumps(response_to(response, visit.version))))

    async def _check(self, response_url: str, visit: Visit) -> None:
        """The result goes to the partner's own address, or to one that the integration names, and nowhere else.

        What could not be called then is refused now: afterwards nobody hears of it.
        """
        target = await self._tools.targets.target(visit.tenant_id, visit.integration_id)
        try:
            check_url(response_url, self._tools.policy)
            check_given(response_url, target.base_url, target.hosts)
        except UrlRefused as wrong:
            raise OcpiRefused(2001, f"response_url {wrong}") from None
        except EgressDenied:
            raise OcpiRefused(2001, "response_url must be at the address of your versions or modules") from None

    async def _answered(self, command: Command, visit: Visit) -> CommandResponse:
        """What a service says, which is stored then; or that there is none."""
        answer = await self._questions.ask(visit.tenant_id, Kind.COMMAND, command, _ANSWER_S)
        if answer is not None:
            return CommandResponse.FromString(answer)
        refused = CommandResponse(result=COMMAND_RESPONSE_TYPE_REJECTED)
        refused.messages.add(language="en", text=_NOBODY)
        await command_answered(self._database, visit.tenant_id, command.id, refused)
        return refused


class ChargingProfilesReceiver:
    """evbridge.partner.ocpi.v2.ChargingProfilesReceiverService, served: requests are commands."""

    def __init__(self, commands: CommandsReceiver) -> None:
        self._commands = commands

    async def GetActiveProfile(self, request: profiles.GetActiveProfileRequest, visit: Visit) -> Reply:
        asked = GetActiveChargingProfile(session_id=request.session_id, duration_s=request.duration)
        return await self._received(Command(get_active_charging_profile=asked), asked, request.response_url, visit)

    async def PutProfile(self, request: profiles.PutProfileRequest, visit: Visit) -> Reply:
        document = await document_in(visit)
        with refusing():
            profile = plain_from(ChargingProfile, document.get("charging_profile"), "charging_profile")
        asked = SetChargingProfile(session_id=request.session_id, charging_profile=profile)
        url = document.get("response_url")
        url = url if isinstance(url, str) else ""
        return await self._received(Command(set_charging_profile=asked), asked, url, visit)

    async def DeleteProfile(self, request: profiles.DeleteProfileRequest, visit: Visit) -> Reply:
        asked = ClearChargingProfile(session_id=request.session_id)
        return await self._received(Command(clear_charging_profile=asked), asked, request.response_url, visit)

    async def _received(self, command: Command, asked: Message, response_url: str, visit: Visit) -> Reply:
        with refusing():
            validate(asked)
        return await self._commands.received(command, response_url, visit)


class ChargingProfilesSender:
    """evbridge.partner.ocpi.v2.ChargingProfilesSenderService, served: results of requests of ours."""

    def __init__(self, commands: "CommandsSender") -> None:
        self._commands = commands

    async def PostProfileResult(self, request: profiles.PostProfileResultRequest, visit: Visit) -> Reply:
        return await self._commands.ended(request.command_id, visit)


class CommandsSender:
    """evbridge.partner.ocpi.v2.CommandsSenderService, served: results of commands of ours."""

    def __init__(self, tools: Tools, notices: Notices) -> None:
        self._database = tools.database
        self._notices = notices

    async def PostCommandResult(self, request: ocpi.PostCommandResultRequest, visit: Visit) -> Reply:
        return await self.ended(request.command_id, visit)

    async def ended(self, command_id: str, visit: Visit) -> Reply:
        """Keeps the result in the body. Raises OcpiRefused."""
        try:
            id = str(UUID(command_id))
        except ValueError:
            raise unknown() from None
        document = await document_in(visit)
        with refusing():
            through = await self._through(id, visit)
            await command_ended(
                self._database, visit.tenant_id, id, result_from(document), is_ours=False, integrations=through
            )
        self._notices.tell(id)
        return Reply(body=enveloped())

    async def _through(self, id: str, visit: Visit) -> tuple[str, ...]:
        """The integrations that the partner may answer for: its own, and that of a party behind it."""
        command = Command.FromString(await command_get(self._database, visit.tenant_id, id))
        payload = await integration_get(self._database, visit.tenant_id, command.integration_id)
        platform_id = Integration.FromString(payload).ocpi.platform_integration_id
        behind = (command.integration_id,) if platform_id == visit.integration_id else ()
        return (visit.integration_id, *behind)

"""Commands as OCPI writes them: how an operator is sent one, what it answers, and how a result is told.

Source: OCPI 2.1.1, 2.2.1 and 2.3.0, commands. In 2.1.1 results are written as responses, reservations have numbers
and are not cancelled.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from evbridge.partner.ocpi.v2.charging_profiles_pb2 import (
    DeleteProfileRequest,
    GetActiveProfileRequest,
    PutProfileRequest,
)
from evbridge.partner.ocpi.v2.charging_profiles_pb2_grpc import ChargingProfilesReceiverServiceStub
from evbridge.partner.ocpi.v2.commands_pb2 import PostCommandRequest, SendCommandResultRequest
from evbridge.partner.ocpi.v2.commands_pb2_grpc import CommandResultsServiceStub, CommandsReceiverServiceStub
from evbridge.v1.charging_profile_pb2 import ActiveChargingProfile
from evbridge.v1.command_pb2 import (
    COMMAND_RESPONSE_TYPE_REJECTED,
    COMMAND_RESULT_TYPE_FAILED,
    Command,
    CommandResponse,
    CommandResponseType,
    CommandResult,
    CommandResultType,
)
from evbridge.v1.ocpi_connection_pb2 import INTERFACE_ROLE_RECEIVER
from evbridge.v1.token_pb2 import Token
from google.protobuf.json_format import MessageToDict

from service.bridge.tidy import whole
from service.bridge.values import Trail, read_raw
from service.domain.keys import PartyKey
from service.domain.partner_error import PartnerFault
from service.domain.received import is_text
from service.domain.repair import repaired
from service.domain.validation import validate
from service.errors import InvalidArgument
from service.partners.ocpi.mapping import CodecError, answered, object_from, object_to
from service.partners.ocpi.plain import plain_from, plain_to
from service.partners.ocpi.reach import reached
from service.runs.worker import Tools

Object = dict[str, Any]

TYPES: Final[Mapping[str, str]] = {
    "start_session": "START_SESSION",
    "stop_session": "STOP_SESSION",
    "reserve_now": "RESERVE_NOW",
    "cancel_reservation": "CANCEL_RESERVATION",
    "unlock_connector": "UNLOCK_CONNECTOR",
}
PROFILES: Final[Mapping[str, str]] = {
    "set_charging_profile": "SET_CHARGING_PROFILE",
    "clear_charging_profile": "CLEAR_CHARGING_PROFILE",
    "get_active_charging_profile": "GET_ACTIVE_CHARGING_PROFILE",
}
"""Which are a module of their own, and not in 2.1.1."""
_FIELDS: Final = {name: field for field, name in TYPES.items()}
_TIMEOUT_S: Final = 30
"""Where the operator does not say when a result comes."""
_LATER: Final = ("connector_id", "authorization_reference")
"""Members of what 2.1.1 has without them; UNLOCK_CONNECTOR had its connector then."""


class Received(NamedTuple):
    """A command of a partner, without its id, and where its result goes."""

    command: Command
    response_url: str


class OcpiCommander:
    """Speaks with one type of partners about commands."""

    def __init__(self, tools: Tools) -> None:
        self._database = tools.database
        self._channel = tools.channel
        self._door = tools.door

    async def send(self, tenant_id: str, command: Command, timeout_s: float) -> CommandResponse:
        """Raises EndpointMissing, NotRegistered, OcpiNotServed, InvalidArgument, and what the channel raises."""
        there = await reached(self._database, tenant_id, command.integration_id)
        asked = str(command.WhichOneof("request"))
        module = "chargingprofiles" if asked in PROFILES else "commands"
        if there.version == "2.1.1" and asked in PROFILES:
            raise InvalidArgument.field(asked, "does not exist in OCPI 2.1.1")
        url = there.url(module, INTERFACE_ROLE_RECEIVER)
        here = f"{self._door.versions_url.removesuffix('versions')}emsp/{there.version}/{module}"
        answer_to = f"{here}/{TYPES.get(asked) or PROFILES[asked]}/{command.id}"
        at: Object = {"integration_id": command.integration_id, "url": url}
        if asked in PROFILES:
            profiles = self._channel.stub(ChargingProfilesReceiverServiceStub, tenant_id)
            answer: Any = await _profile_asked(profiles, command, at, answer_to, timeout_s)
        else:
            request = PostCommandRequest(**at, command=TYPES[asked])
            request.object.update(command_to(command, there.version) | {"response_url": answer_to})
            commands = self._channel.stub(CommandsReceiverServiceStub, tenant_id)
            answer = await commands.PostCommand(request, timeout=timeout_s)
        return response_from(answered(answer.data))

    async def tell(self, tenant_id: str, command: Command, response_url: str) -> None:
        """Brings the result of a command to who sent it. Raises what the channel raises."""
        there = await reached(self._database, tenant_id, command.integration_id)
        request = SendCommandResultRequest(integration_id=command.integration_id, url=response_url)
        request.object.update(result_to(command.result, there.version))
        stub = self._channel.stub(CommandResultsServiceStub, tenant_id)
        await stub.SendCommandResult(request)


async def _profile_asked(stub: Any, command: Command, at: Object, answer_to: str, timeout_s: float) -> Any:
    if command.HasField("set_charging_profile"):
        wanted = command.set_charging_profile
        put = PutProfileRequest(**at, session_id=wanted.session_id)
        put.object.update({"charging_profile": plain_to(wanted.charging_profile), "response_url": answer_to})
        return await stub.PutProfile(put, timeout=timeout_s)
    if command.HasField("clear_charging_profile"):
        cleared = command.clear_charging_profile.session_id
        delete = DeleteProfileRequest(**at, session_id=cleared, response_url=answer_to)
        return await stub.DeleteProfile(delete, timeout=timeout_s)
    asked = command.get_active_charging_profile
    get = GetActiveProfileRequest(**at, session_id=asked.session_id, duration=asked.duration_s, response_url=answer_to)
    return await stub.GetActiveProfile(get, timeout=timeout_s)


def command_to(command: Command, version: str) -> Object:
    """Without its `response_url`. Raises InvalidArgument for what the version cannot say."""
    field = str(command.WhichOneof("request"))
    asked = getattr(command, field)
    made: Object = MessageToDict(asked, preserving_proto_field_name=True)
    if "token" in made:
        token = Token()
        token.CopyFrom(asked.token)
        if not token.HasField("last_updated"):
            token.last_updated.FromDatetime(datetime.now(UTC).replace(microsecond=0))
        made["token"] = read_raw(object_to(token, version).object, Trail())
    if "expiry_date" in made:
        made["expiry_date"] = f"{asked.expiry_date.ToDatetime():%Y-%m-%dT%H:%M:%SZ}"
    if version == "2.1.1":
        if field == "cancel_reservation":
            raise InvalidArgument.field("cancel_reservation", "does not exist in OCPI 2.1.1")
        if field != "unlock_connector":
            made = {name: value for name, value in made.items() if name not in _LATER}
        if (id := made.get("reservation_id")) is not None:
            if not (id.isascii() and id.isdecimal() and len(id) < 10):
                raise InvalidArgument.field("reserve_now.reservation_id", "must be a number in OCPI 2.1.1, such as 17")
            made["reservation_id"] = int(id)
    return made


def command_from(type: str, value: Object, version: str, owner: PartyKey | None) -> Received:
    """Raises InvalidArgument for what is not understood."""
    if (field := _FIELDS.get(type)) is None:
        raise InvalidArgument.field("command", f"must be one of {', '.join(_FIELDS)}")
    command = Command()
    asked: Any = getattr(command, field)
    asked.SetInParent()
    for each in asked.DESCRIPTOR.fields:
        given = value.get(each.name)
        if given is None or each.name == "token":
            continue
        if each.name == "expiry_date":
            asked.expiry_date.FromDatetime(_time(given))
        elif isinstance(given, str) and not is_text(given):
            raise InvalidArgument.field(each.name, "must not hold NUL or half of a character")
        elif isinstance(given, str) or (each.name == "reservation_id" and str(given).isdecimal()):
            setattr(asked, each.name, str(given))
        else:
            raise InvalidArgument.field(each.name, "must be a text")
    if "token" in asked.DESCRIPTOR.fields_by_name:
        try:
            asked.token.CopyFrom(repaired(object_from(Token, value.get("token"), version, owner).message)[0])
        except CodecError as error:
            raise InvalidArgument.field("token", error.problem) from None
    validate(asked)
    url = value.get("response_url")
    if not (isinstance(url, str) and 0 < len(url) <= 2048):
        raise InvalidArgument.field("response_url", "is required: the URL that the result goes to")
    return Received(command, url)


def response_to(response: CommandResponse, version: str) -> Object:
    made: Object = {"result": CommandResponseType.Name(response.result).removeprefix("COMMAND_RESPONSE_TYPE_")}
    if version == "2.1.1":
        return made
    return made | {"timeout": response.timeout_s} | _messages_to(response.messages)


def response_from(value: Any) -> CommandResponse:
    """Raises PartnerFault for one that does not say whether the command is taken."""
    text = value.get("result") if isinstance(value, dict) else None
    known = CommandResponseType.DESCRIPTOR.values_by_name.get(f"COMMAND_RESPONSE_TYPE_{text}")
    if text == "TIMEOUT":  # 2.1.1 has it here, too
        known = CommandResponseType.DESCRIPTOR.values_by_number[COMMAND_RESPONSE_TYPE_REJECTED]
    if known is None or not known.number:
        raise PartnerFault(
            "the partner's answer does not say whether it takes the command", partner="ocpi", http_status=200
        )
    response = CommandResponse(result=known.number)  # type: ignore[arg-type]
    timeout = value.get("timeout")
    is_number = isinstance(timeout, int | float) and 0 <= timeout <= 3600
    response.timeout_s = int(timeout) if is_number else _TIMEOUT_S
    _read_messages(response, value)
    return response


def result_to(result: CommandResult, version: str) -> Object:
    name = CommandResultType.Name(result.result).removeprefix("COMMAND_RESULT_TYPE_")
    if version == "2.1.1":
        return {"result": name if name in ("ACCEPTED", "REJECTED", "TIMEOUT", "NOT_SUPPORTED") else "REJECTED"}
    profile = {"profile": plain_to(result.profile)} if result.HasField("profile") else {}
    return {"result": name} | profile | _messages_to(result.messages)


def result_from(value: Object) -> CommandResult:
    """Raises InvalidArgument for one that says nothing."""
    text = value.get("result")
    known = CommandResultType.DESCRIPTOR.values_by_name.get(f"COMMAND_RESULT_TYPE_{text}")
    number = COMMAND_RESULT_TYPE_FAILED if text == "UNKNOWN_SESSION" else known.number if known else 0
    if not number:
        raise InvalidArgument.field("result", "must be what became of a command, such as ACCEPTED")
    result = CommandResult(result=number)  # type: ignore[arg-type]
    if isinstance(value.get("profile"), dict):
        result.profile.CopyFrom(plain_from(ActiveChargingProfile, value["profile"], "profile"))
    _read_messages(result, value)
    return result


def _messages_to(messages: Any) -> Object:
    texts = [{"language": each.language, "text": each.text} for each in messages]
    return {"message": texts} if texts else {}


def _read_messages(message: Any, value: Any) -> None:
    """2.2 had one text, later versions have several. What is none is left out."""
    given = value.get("message")
    for each in (given if isinstance(given, list) else [given])[:20]:
        if isinstance(each, dict) and isinstance(each.get("text"), str) and each["text"]:
            language = whole(str(each.get("language", "")))[:2].lower()
            message.messages.add(language=language, text=whole(each["text"][:512]))


def _time(given: Any) -> datetime:
    try:
        time = datetime.fromisoformat(given)
        return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    except (OverflowError, TypeError, ValueError):
        raise InvalidArgument.field("expiry_date", "must be a time, such as 2030-06-03T19:30:00Z") from None

"""AMPECO's 184 documented operations, called through a real channel: what a partner that knows no proto received.

It is compared with the list of operations, which tests/bridge/test_ampeco_contract.py explains. What the list leaves
open is not: the items of some arrays.
"""

import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

import grpc
import protovalidate
import pytest
from evbridge.options.v1 import options_pb2 as options
from evbridge.v1.integration_pb2 import CreateIntegrationRequest
from google.protobuf.descriptor import FieldDescriptor, FileDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from service.app import Evbridge
from service.bridge.registry import Registry
from tests.bridge.test_ampeco_contract import (
    FILES,
    OPERATIONS,
    always_travels,
    body_of,
    by_call,
    called,
    copied,
    json_type,
    rpc_of,
    ways,
)
from tests.conftest import Tenant
from tests.front_door import CONNECTIONS, Failure, an_integration_of, failure_of
from tests.golden.recorder import Recorder
from tests.rpc.test_contract import serving_things
from tests.valid import travels, valid

EITHER = {"payter": ("preauthorize_amount", "transaction_timeout")}
"""Of the form of a body, the fields that are never set together."""

JSON_TYPES = {dict: "object", list: "array", str: "string", bool: "boolean", int: "integer", float: "number"}


@dataclass(frozen=True)
class Call:
    """A call of an operation's rpc; `member` is the one of its oneof that is set."""

    operation: Mapping[str, Any]
    rpc: MethodDescriptor
    request: Message
    member: str = ""

    @property
    def body(self) -> Any:
        body = getattr(self.request, body_of(self.rpc).name)
        return body[0] if body_of(self.rpc).is_repeated else body

    def __str__(self) -> str:
        return called(self.operation["method"], self.operation["path"])

    def without(self, *way: FieldDescriptor) -> "Call":
        """The same call, the field at the end of the way cleared in its body."""
        request = type(self.request)()
        request.CopyFrom(self.request)
        changed = replace(self, request=request)
        *above, last = way
        within = changed.body
        for each in above:
            within = getattr(within, each.name)
        within.ClearField(last.name)
        return changed


def calls(files: Iterable[FileDescriptor] = FILES) -> Iterator[Call]:
    """Each operation with a valid request; one for every form that its body may take."""
    contract = by_call(files)
    for operation in OPERATIONS:
        rpc = contract[called(operation["method"], operation["path"])]
        members = [each.name for oneof in body_of(rpc).message_type.oneofs for each in oneof.fields if is_form(each)]
        for choice, member in enumerate(members or [""]):
            for left_out in EITHER.get(member, ("",)):
                request = valid(rpc.input_type, choice)
                request.integration_id = "ampeco"
                for number, each in enumerate(variables(rpc), 101):
                    if each.cpp_type == FieldDescriptor.CPPTYPE_INT64:
                        setattr(request, each.name, number)
                call = Call(operation, rpc, request, member)
                if left_out:
                    getattr(call.body, member).ClearField(left_out)
                yield call


def variables(rpc: MethodDescriptor) -> list[FieldDescriptor]:
    """What a path says of the call."""
    return [each for each in rpc.input_type.fields if travels(each) and each is not body_of(rpc)]


def is_form(field: FieldDescriptor) -> bool:
    return bool(field.containing_oneof.GetOptions().Extensions[options.inlined])


def answer_to(rpc: MethodDescriptor) -> dict[str, Any]:
    """What AMPECO answers at the least."""
    data = rpc.output_type.fields_by_name.get("data")
    return {"data": [] if data.is_repeated else {}} if data and data.message_type else {}


@dataclass(frozen=True)
class Ampeco:
    """AMPECO as an integration of one tenant: `exchanges` is what its recorder plays, `received` what it was asked."""

    channel: grpc.aio.Channel
    key: str
    exchanges: list[dict[str, Any]]
    received: list[dict[str, Any]]

    async def call(self, call: Call) -> dict[str, Any]:
        """What arrives. Raises AioRpcError."""
        answer = {"status": 200, "body": answer_to(call.rpc)}
        self.exchanges[len(self.received) :] = [{"request": {"headers": ["Authorization"]}, "answer": answer}]
        rpc = self.channel.unary_unary(
            f"/{call.rpc.containing_service.full_name}/{call.rpc.name}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=GetMessageClass(call.rpc.output_type).FromString,
        )
        before = len(self.received)
        await rpc(call.request, metadata=(("authorization", f"Bearer {self.key}"),), timeout=20)
        (received,) = self.received[before:]
        return received

    async def refusal(self, call: Call) -> Failure | None:
        """None when the call succeeds."""
        try:
            await self.call(call)
        except grpc.aio.AioRpcError as error:
            return failure_of(error)
        return None


@asynccontextmanager
async def ampeco_of(tenant: Tenant, channel: grpc.aio.Channel) -> AsyncIterator[Ampeco]:
    exchanges: list[dict[str, Any]] = []
    async with Recorder(exchanges) as recorder:
        connection = type(CONNECTIONS["ampeco"])(base_url=recorder.url, api_token="partner-key")
        integration = an_integration_of("ampeco", id="ampeco", ampeco=connection)
        await tenant.admin.integrations.CreateIntegration(CreateIntegrationRequest(integration=integration))
        yield Ampeco(channel, tenant.keys["admin"], exchanges, recorder.received)


@pytest.fixture
async def ampeco(tenant: Tenant, channel: grpc.aio.Channel) -> AsyncIterator[Ampeco]:
    async with ampeco_of(tenant, channel) as made:
        yield made


def members(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Each member of a JSON value with its path, as the list of operations writes them."""
    for item in value if isinstance(value, list) else ():
        yield from members(item, f"{path}[]" if path else "")
    for name, item in value.items() if isinstance(value, dict) else ():
        here = f"{path}.{name}" if path else name
        yield here, item
        yield from members(item, here)


def fits(item: Any, said: str) -> bool:
    kind = said.rstrip("?")
    if item is None:
        return said.endswith("?")
    if kind.startswith("array of "):
        return isinstance(item, list) and all(fits(each, kind.removeprefix("array of ")) for each in item)
    return JSON_TYPES[type(item)] == kind or (kind == "number" and type(item) is int)


def shared() -> dict[str, dict[str, str]]:
    """By a body's message, all that is documented for the operations that share it: the other ones may carry it too."""
    found: dict[str, dict[str, str]] = {}
    for operation in OPERATIONS:
        of_message = found.setdefault(body_of(rpc_of(operation)).message_type.full_name, {})
        of_message |= {name: said for name, said in operation["fields"].items() if not said.endswith("!")}
    return found


SHARED = shared()


def plain(variable: str) -> str:
    """A variable of a path as AMPECO and the contract both name it."""
    return variable.replace("_", "").lower().removesuffix("id")


def departures(call: Call, received: Mapping[str, Any]) -> Iterator[str]:
    """Where a request is not as the operation's documentation says."""
    operation = call.operation
    values = {plain(each.name): quote(str(getattr(call.request, each.name)), safe="") for each in variables(call.rpc)}
    path = re.sub(r"\{(\w+)\}", lambda name: values[plain(name[1])], operation["path"])
    if (received["method"], received["path"], received["query"]) != (operation["method"], path, []):
        yield f"{call} is called as {received['method']} {received['path']} {received['query']}"
    if received["headers"] != {"Authorization": "Bearer partner-key"}:
        yield f"{call} has the headers {received['headers']}"
    own = {name: said for name, said in operation["fields"].items() if not said.endswith("!")}
    documented = SHARED[body_of(call.rpc).message_type.full_name] | own
    parents = {name.rpartition(".")[0].removesuffix("[]") for name in documented}
    for name, item in members(received["body"]):
        around = name.rpartition(".")[0].removesuffix("[]")
        if name in documented and not fits(item, documented[name]):
            yield f"{call} receives {name} as {JSON_TYPES.get(type(item), 'null')}, not {documented[name]}"
        elif name not in documented and around in parents:
            yield f"{call} receives {name}, which is not documented"


async def walk(ampeco: Ampeco, files: Iterable[FileDescriptor] = FILES) -> list[str]:
    """All departures from the documentation, and all documented members that no request carried."""
    found: dict[str, None] = {}
    carried: dict[str, set[str]] = {}
    for call in calls(files):
        received = await ampeco.call(call)
        found |= dict.fromkeys(departures(call, received))
        carried.setdefault(str(call), set()).update(name for name, _ in members(received["body"]))
    for operation in OPERATIONS:
        call = called(operation["method"], operation["path"])
        writable = {name for name, said in operation["fields"].items() if not said.endswith("!")}
        found |= {f"{call} never receives {name}": None for name in sorted(writable - carried[call])}
    return list(found)


async def test_every_operation_arrives_as_it_is_documented(ampeco: Ampeco) -> None:
    assert await walk(ampeco) == []
    assert len({(each["method"], each["path"]) for each in ampeco.received}) == 184


@pytest.mark.parametrize(
    ("changed", "change", "departure"),
    [
        (
            "Evse.network_id",
            lambda field: setattr(field, "json_name", "network_id"),
            "PATCH /public-api/resources/evses/v2.1/{} receives network_id, which is not documented",
        ),
        (
            "Tax.tax_identification_number_id",
            lambda field: setattr(field, "type", field.TYPE_STRING),
            "PATCH /public-api/resources/taxes/v2.0/{} receives taxIdentificationNumberId as string, not integer?",
        ),
        (
            "Tax.name",
            lambda field: setattr(field, "type", field.TYPE_INT64),
            "POST /public-api/resources/taxes/v2.0 receives name as integer, not string",
        ),
    ],
    ids=["another wire name", "a string for a number", "a number for a string"],
)
async def test_a_contract_that_is_wrong_is_noticed(
    running: Evbridge,
    tenant: Tenant,
    changed: str,
    change: Callable[[Any], None],
    departure: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A validator knows messages by their names, and these are other ones.
    monkeypatch.setattr("service.domain.validation._validator", protovalidate.Validator())
    files = copied(change, changed)
    async with (
        serving_things(running, registry=Registry.of(files)) as channel,
        ampeco_of(tenant, channel) as ampeco,
    ):
        assert departure in await walk(ampeco, files)


async def test_a_masked_field_that_is_not_set_arrives_as_null_and_a_list_or_map_empty(ampeco: Ampeco) -> None:
    wrong, cleared = [], 0
    for call in calls():
        masks = [each.name for each in call.rpc.input_type.fields if each.name == "update_mask"]
        nullable = [name for name, said in call.operation["fields"].items() if "." not in name and said.endswith("?")]
        for name in nullable if masks else ():
            (way, *_) = ways(body_of(call.rpc).message_type, name)
            if len(way) > 1:
                continue  # inside a form of the body, which is written whole
            emptied = call.without(*way)
            emptied.request.update_mask.paths.append(way[0].name)
            received = await ampeco.call(emptied)
            cleared += 1
            wrong += departures(call, received)
            empty: Any = [] if json_type(way[0]) == "array" else {} if way[0].is_repeated else None
            if received["body"].get(name, "absent") != empty:
                wrong.append(f"{call} does not clear {name}")
    assert wrong == []
    assert cleared > 100


async def test_a_change_carries_nothing_but_what_is_set(ampeco: Ampeco) -> None:
    wrong, sent = [], 0
    for call in calls():
        if call.operation["method"] == "PATCH" and not call.operation["required"] and not call.member:
            call.body.Clear()
            received = await ampeco.call(call)
            sent += 1
            if received["body"] != {}:
                wrong.append(f"{call} carries {received['body']}")
    assert wrong == []
    assert sent > 30


def required(call: Call) -> Iterator[tuple[str, Call]]:
    """What AMPECO requires, and the call without it: variables of the path, members of the body."""
    for each in variables(call.rpc):
        request = type(call.request)()
        request.CopyFrom(call.request)
        request.ClearField(each.name)
        yield each.name, replace(call, request=request)
    names = [name for name in call.operation["required"] if not call.operation["fields"][name].endswith("!")]
    forms = [each for each in call.operation.get("variants", ()) if is_about(each["title"], call)]
    for name in names + [name for form in forms for name in form["required"]]:
        for way in ways(body_of(call.rpc).message_type, name):
            if (len(way) == 1 or way[0].name == call.member) and not always_travels(way[-1]):
                yield way[-1].name, call.without(*way)


def is_about(title: str, call: Call) -> bool:
    """Whether a documented form of a body is the one of the call; forms without a title are numbered."""
    if title.isdecimal():
        fields = [each for oneof in body_of(call.rpc).message_type.oneofs for each in oneof.fields if is_form(each)]
        return fields[int(title) - 1].name == call.member
    return call.member.replace("_", "") in re.sub(r"\W", "", title).lower()


async def test_without_a_required_field_nothing_is_sent_and_the_field_is_named(ampeco: Ampeco) -> None:
    wrong, refused = [], 0
    for call in calls():
        for name, lacking in required(call):
            failure = await ampeco.refusal(lacking)
            if failure is None or failure.code != grpc.StatusCode.INVALID_ARGUMENT:
                wrong.append(f"{call} is sent without {name}")
            elif not re.search(rf"\b{name}\b", f"{failure.violations}"):
                wrong.append(f"{call} without {name}: {failure.violations}")
            refused += 1
    assert wrong == []
    assert refused > 400
    assert ampeco.received == []

"""What no honest client sends: bytes that are no message, and messages that no form was made for.

Everything is made from the contract, so a new rpc or field is tried without being added here.
"""

import itertools
import random
import string
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from operator import attrgetter
from typing import Any
from uuid import uuid4

import grpc
import pytest
from evbridge.options.v1 import options_pb2
from evbridge.v1 import company_pb2, delivery_pb2, integration_pb2
from evbridge.v1.api_key_pb2 import CreateKeyRequest
from evbridge.v1.charger_pb2 import CreateChargerRequest
from evbridge.v1.command_pb2 import Command
from evbridge.v1.company_pb2 import UpsertCompanyRequest
from evbridge.v1.integration_pb2 import CreateIntegrationRequest
from evbridge.v1.partner_pb2 import (
    GetPartnerStatusRequest,
    ListExchangesRequest,
    PreviewRequest,
    SetExchangeRecordingRequest,
)
from evbridge.v1.publication_pb2 import CreatePublicationRuleRequest
from evbridge.v1.reconciliation_pb2 import ReconcileCdrsRequest
from evbridge.v1.run_pb2 import RUN_KIND_DIAGNOSE, CancelRunRequest, ListRunFindingsRequest, StartRunRequest
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.struct_pb2 import Struct

from service.app import Evbridge, evbridge
from service.domain.pages import token_after
from service.storage.api_key import api_key_create
from service.storage.command import command_insert
from service.storage.statements import Statement
from tests.conftest import created
from tests.front_door import Client, Failure, a_charger, a_company, a_rule, an_integration, failure_of, settings
from tests.rpc.test_access import METHODS as EVERY_METHOD

# Without those that call partners: what is wild about them would leave this machine.
METHODS = [
    method
    for method in EVERY_METHOD
    if method.full_name.startswith("evbridge.v1.") and method.name != "CompareWithPartner"
]
Code = grpc.StatusCode
CLEAR = {
    Code.INVALID_ARGUMENT,
    Code.NOT_FOUND,
    Code.ALREADY_EXISTS,
    Code.ABORTED,
    Code.FAILED_PRECONDITION,
}


class Caller:
    """Sends bytes to any rpc with a good admin key, and knows a valid request for each."""

    def __init__(self, channel: grpc.aio.Channel, key: str) -> None:
        self._channel = channel
        self.key = key
        self.ids: dict[str, str] = {}

    async def send(self, method: MethodDescriptor, request: bytes, *more: tuple[str, str | bytes]) -> Failure | None:
        """None when it was OK; a stream is, once it has begun."""
        new = self._channel.unary_stream if method.server_streaming else self._channel.unary_unary
        rpc: Any = new(f"/{method.containing_service.full_name}/{method.name}")
        call = rpc(request, metadata=(("authorization", f"Bearer {self.key}"), *more), timeout=20)
        try:
            await (call.read() if method.server_streaming else call)
            call.cancel()
        except grpc.aio.AioRpcError as error:
            return failure_of(error)
        return None

    def valid(self, method: MethodDescriptor) -> Message:
        """A request that would succeed, about stored objects or a new one; empty where neither is known."""
        request: Message = GetMessageClass(method.input_type)()
        if isinstance(request, UpsertCompanyRequest):
            request.company.CopyFrom(a_company())
        elif isinstance(request, CreateIntegrationRequest):
            request.integration.CopyFrom(an_integration())
        elif isinstance(request, CreateChargerRequest):
            request.charger.CopyFrom(a_charger())
        elif method.name == "UpdateCharger":
            request.charger.id = self.ids["Charger"]  # type: ignore[attr-defined]
        elif method.name == "UpdateIntegration":
            request.integration.id = self.ids["Integration"]  # type: ignore[attr-defined]
        elif isinstance(request, CreatePublicationRuleRequest):
            request.rule.CopyFrom(a_rule(integration_id=self.ids["Integration"]))
        elif method.name == "UpdatePublicationRule":
            request.rule.integration_id = self.ids["Integration"]  # type: ignore[attr-defined]
            request.rule.id = self.ids["PublicationRule"]  # type: ignore[attr-defined]
        elif isinstance(request, CreateKeyRequest):
            request.key.role = options_pb2.ROLE_READER
        elif isinstance(request, PreviewRequest):
            request.operation = "evbridge.partner.chargeprice.v1.CompanyService/ListCompanies"
            request.request["integration_id"] = self.ids["Integration"]
        elif isinstance(request, GetPartnerStatusRequest | SetExchangeRecordingRequest | ListExchangesRequest):
            request.integration_id = self.ids["Integration"]
        elif isinstance(request, ListRunFindingsRequest):
            request.run_id = self.ids["Run"]
        elif isinstance(request, ReconcileCdrsRequest):
            request.end_time.seconds = 1
            request.start_time.seconds = 0
        elif method.name.startswith("Answer") or method.name in ("ReportCommandResult", "SendCommand"):
            request.id = str(uuid4())  # type: ignore[attr-defined]
        elif "id" in method.input_type.fields_by_name:
            noun = next(noun for noun in self.ids if method.name.endswith(noun))
            request.id = self.ids[noun]  # type: ignore[attr-defined]
            if "validate_only" in method.input_type.fields_by_name:
                request.validate_only = True  # type: ignore[attr-defined]
        if "integration_id" in method.input_type.fields_by_name:
            request.integration_id = self.ids["Integration"]  # type: ignore[attr-defined]
        return request


SENT = """
INSERT INTO disclosure (tenant_id, integration_id, object_kind, object_id, method, document_type)
VALUES ($1, $2, 1, $3, 1, '') RETURNING disclosure_id
"""
QUARANTINED = """
INSERT INTO quarantine (tenant_id, integration_id, object_kind, key, version, run_id, payload, document)
VALUES ($1, $2, 5, 'NLTNMl1', '2.2.1', $3, '', '{}') RETURNING quarantine_id
"""


@pytest.fixture(scope="module")
async def idle(postgres: str, template_database: str) -> AsyncIterator[Evbridge]:
    """A server that delivers nothing: wild integrations may name any address."""
    async with (
        created(postgres, template_database) as url,
        evbridge(settings(url, delivery=False)) as started,
    ):
        yield started


@pytest.fixture
async def caller(idle: Evbridge) -> AsyncIterator[Caller]:
    """Of a tenant of its own."""
    running, tenant_id = idle, f"wild-{uuid4()}"
    async with grpc.aio.insecure_channel(running.address) as channel:
        async with running.database.transaction() as conn:
            key = (await api_key_create(conn, running.keyring, tenant_id, "", 3)).reveal()
        made, client = Caller(channel, key), Client(channel, key)
        request = CreateIntegrationRequest(integration=an_integration())
        made.ids["Integration"] = (await client.integrations.CreateIntegration(request)).id
        rule = a_rule(integration_id=made.ids["Integration"])
        await client.publication.CreatePublicationRule(CreatePublicationRuleRequest(rule=rule))
        made.ids["PublicationRule"] = rule.id
        made.ids["Key"] = key.split("_")[1]
        made.ids["Charger"] = (await client.chargers.CreateCharger(CreateChargerRequest(charger=a_charger()))).id
        run = StartRunRequest(integration_id=made.ids["Integration"], kind=RUN_KIND_DIAGNOSE)
        made.ids["Run"] = (await client.runs.StartRun(run)).id
        await client.runs.CancelRun(CancelRunRequest(id=made.ids["Run"]))  # nobody waits for one that has ended
        company = await client.companies.UpsertCompany(UpsertCompanyRequest(company=a_company()))
        page = await client.deliveries.ListDeliveries(delivery_pb2.ListDeliveriesRequest())
        made.ids |= {"Company": company.id, "Delivery": page.deliveries[0].id}
        sent = Statement("sent", SENT)
        command = Command(id=str(uuid4()), integration_id=made.ids["Integration"], direction=1, state=1)
        await command_insert(running.database, tenant_id, command, "")
        made.ids["Command"] = command.id
        made.ids["Disclosure"] = str(await running.database.value(sent, tenant_id, made.ids["Integration"], company.id))
        kept = Statement("quarantined", QUARANTINED)
        row = (tenant_id, made.ids["Integration"], made.ids["Run"])
        made.ids["QuarantinedObject"] = str(await running.database.value(kept, *row))
        yield made


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))


def tag(number: int, wire_type: int) -> bytes:
    return varint(number << 3 | wire_type)


def block(number: int, data: bytes) -> bytes:
    return tag(number, 2) + varint(len(data)) + data


def a_number(dice: random.Random) -> int:
    return dice.choice([*range(1, 16), 2046, 19_000, (1 << 29) - 1])


def invalid_text(dice: random.Random, request: Message) -> bytes:
    """Bytes that are no UTF-8 in a string field, at any depth."""
    bad = dice.choice([b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"a\x80", b"\xf4\x90\x80\x80"])
    descriptor, path = request.DESCRIPTOR, []
    while True:
        field = dice.choice(descriptor.fields)
        path.append(field.number)
        if field.message_type is None:
            break
        descriptor = field.message_type
    for number in reversed(path):
        bad = block(number, bad)
    return request.SerializeToString() + bad


def broken(dice: random.Random, request: Message) -> bytes:
    """Bytes that are no message, or hardly one."""
    whole = request.SerializeToString()
    match dice.randrange(9):
        case 0:
            return dice.randbytes(dice.randrange(1, 200))
        case 1:
            return (whole or b"\x0a\x05")[: dice.randrange(max(1, len(whole)))]
        case 2:
            flipped = bytearray(whole or b"\0")
            for _ in range(dice.randrange(1, 4)):
                flipped[dice.randrange(len(flipped))] ^= 1 << dice.randrange(8)
            return bytes(flipped)
        case 3:  # another wire type, 6 and 7 being none
            return whole + tag(a_number(dice), dice.randrange(8)) + dice.randbytes(dice.randrange(12))
        case 4:
            return invalid_text(dice, request)
        case 5:  # an integer that never ends, or ends too late
            return (
                whole + tag(a_number(dice), 0) + b"\xff" * dice.randrange(8, 40) + dice.choice([b"", b"\x01", b"\x7f"])
            )
        case 6:  # groups inside groups
            depth = dice.choice([50, 99, 101, 10_000])
            number = a_number(dice)
            return tag(number, 3) * depth + (tag(number, 4) * depth if dice.random() < 0.5 else b"")
        case 7:  # messages inside messages
            for _ in range(dice.choice([50, 101, 2_000])):
                whole = block(a_number(dice), whole)
            return whole
        case _:  # a length beyond the end, and beyond every memory
            return whole + tag(a_number(dice), 2) + varint(dice.choice([1, 1 << 20, (1 << 31) - 1, 1 << 31, 1 << 63]))


TEXTS = (
    *("", "\0", "a\0b", " ", "*", "%", "%00", "..", "../../etc/passwd", "a/b", "null", "' OR 1=1 --", "$1", "{}"),
    *("\ufeff", "\u202e", "\u0130", "ß" * 300, "😀" * 64, "\n", "\x7f", "\x1b[2J", "A" * 63, "a" * 64, "x" * 5_000),
    *("https://", "http://[", "http://[::1", "https://a:b@c", "https://a:99999", "//", "https://xn--", "http://0x7f.1"),
    *("id", "integration.id", "chargeprice.api_key", "a.b.c", "company", "etag"),
)
INTEGERS = (0, 1, -1, 2, 6, 99, 1000, 2**31 - 1, -(2**31), 2**63 - 1, -(2**63), 253402300800)


def wild_value(dice: random.Random, field: FieldDescriptor, known: list[str]) -> Any:
    """Any value that the field's type can hold; `known` are strings that mean something to the server."""
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING if field.type == FieldDescriptor.TYPE_BYTES:
            return dice.randbytes(dice.randrange(40))
        case FieldDescriptor.CPPTYPE_STRING:
            random_text = "".join(dice.choices(string.printable + "äß\0€", k=dice.randrange(30)))
            return dice.choice([dice.choice(TEXTS), str(uuid4()), random_text, *known])
        case FieldDescriptor.CPPTYPE_BOOL:
            return dice.random() < 0.5
        case FieldDescriptor.CPPTYPE_INT32 | FieldDescriptor.CPPTYPE_ENUM:
            return dice.choice([value for value in INTEGERS if -(2**31) <= value < 2**31])
        case _:
            return dice.choice(INTEGERS)


def make_wild(dice: random.Random, message: Message, known: list[str], share: float) -> None:
    """Changes about `share` of the fields."""
    if isinstance(message, Struct):
        values = [None, float("nan"), 1e300, -1, True, "\0", "ß" * 300, [], [[{}]], {"a": {"b": [1]}}, *known]
        names = ["integration_id", "filter_id", "page_size", "pageNumber", "filter_is_cpo", "q", "", "\0"]
        message.update({name: dice.choice(values) for name in names if dice.random() < share})
        return
    for field in message.DESCRIPTOR.fields:
        present = field.has_presence and message.HasField(field.name)
        if field.message_type and (present or dice.random() < share) and not field.is_repeated:
            getattr(message, field.name).SetInParent()
            make_wild(dice, getattr(message, field.name), known, share)
        if dice.random() >= share:
            continue
        if field.is_repeated:
            values = getattr(message, field.name)
            for _ in range(dice.choice([0, 1, 3, 30])):
                if field.message_type:
                    make_wild(dice, values.add(), known, share)
                else:
                    values.append(wild_value(dice, field, known))
        elif field.message_type is None:
            setattr(message, field.name, wild_value(dice, field, known))
        elif dice.random() < 0.3:
            message.ClearField(field.name)


def wild(dice: random.Random, caller: Caller, method: MethodDescriptor) -> Message:
    request = caller.valid(method)
    make_wild(dice, request, [*caller.ids.values()], dice.choice([0.05, 0.2, 0.6]))
    if "page_token" in method.input_type.fields_by_name and dice.random() < 0.5:
        # A token is not signed: a client can write one that names any key.
        request.page_token = token_after(request, wild_value(dice, TOKEN, [*caller.ids.values()]))  # type: ignore[attr-defined]
    return request


TOKEN = company_pb2.ListCompaniesRequest.DESCRIPTOR.fields_by_name["page_token"]


def judge(request: bytes, failure: Failure | None) -> str:
    """What came of it. Fails unless it is OK, or clear and with a reason."""
    if failure is None:
        return "OK"
    assert failure.code in CLEAR, (failure, request[:2_000])
    assert failure.reason, (failure, request[:2_000])
    return failure.code.name


async def test_a_malformed_request_has_a_clear_answer(caller: Caller, soak: Callable[[int], int]) -> None:
    dice = random.Random(1)
    seen: Counter[str] = Counter()
    for number in range(soak(20_000)):
        method = METHODS[number % len(METHODS)]
        valid = caller.valid(method)
        request = broken(dice, valid) if number % 2 else wild(dice, caller, method).SerializeToString()
        seen[judge(request, await caller.send(method, request))] += 1
    # Some bytes are valid by chance, and the wild ones do get past the validation.
    assert {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "ABORTED"} <= set(seen)


@pytest.mark.parametrize(
    "method", [method for method in METHODS if "request_id" in method.input_type.fields_by_name], ids=attrgetter("name")
)
async def test_the_same_request_id_is_answered_as_before(caller: Caller, method: MethodDescriptor) -> None:
    """Nothing is added to a request, an id say, before it is compared with the one before."""
    request: Any = caller.valid(method)
    request.request_id = str(uuid4())
    first, again = [await caller.send(method, request.SerializeToString()) for _ in range(2)]
    assert again == first


def undecodable(dice: random.Random, method: MethodDescriptor) -> Iterator[bytes]:
    request_type = GetMessageClass(method.input_type)
    while True:
        try:
            request_type.FromString(data := broken(dice, request_type()))
        except DecodeError:
            yield data


async def test_a_control_server_without_the_guard_answers_unknown(caller: Caller) -> None:
    """What the test above would see if a deserializer raised."""
    method = METHODS[0]
    requests = undecodable(random.Random(1), method)
    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(
        lambda request, context: request, request_deserializer=GetMessageClass(method.input_type).FromString
    )
    handlers = grpc.method_handlers_generic_handler(method.containing_service.full_name, {method.name: handler})
    server.add_generic_rpc_handlers((handlers,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            unguarded = Caller(channel, caller.key)
            for request in (next(requests) for _ in range(20)):
                naive, guarded = await unguarded.send(method, request), await caller.send(method, request)
                assert naive and guarded
                assert (naive.code, naive.reason) == (Code.UNKNOWN, "")
                assert (guarded.code, guarded.reason) == (Code.INVALID_ARGUMENT, "MALFORMED_REQUEST")
    finally:
        await server.stop(None)


def texts_of(message: Message) -> Iterator[tuple[Message, FieldDescriptor]]:
    """Every singular string field, in messages that are there and in those that may be."""
    for field in message.DESCRIPTOR.fields:
        if field.is_repeated:
            continue
        if field.type == FieldDescriptor.TYPE_STRING:
            yield message, field
        elif field.message_type and field.message_type.file.package.startswith("evbridge."):
            getattr(message, field.name).SetInParent()
            yield from texts_of(getattr(message, field.name))


async def test_a_text_that_postgresql_cannot_hold_has_a_clear_answer(caller: Caller) -> None:
    for method, text in itertools.product(METHODS, ["\0", "a\0b"]):
        for place in range(len([*texts_of(caller.valid(method))])):
            request = caller.valid(method)
            message, field = [*texts_of(request)][place]
            setattr(message, field.name, text)
            judge(request.SerializeToString(), await caller.send(method, request.SerializeToString()))


A_UUID = "1e49b853-36fc-47ed-9826-97828b5b2fdd"
KEYS = ["\0", "a\0b", "x", "1", "'", "ß", "z" * 700, A_UUID[:-1], "{" + A_UUID + "}"]


async def test_a_page_token_written_by_hand_has_a_clear_answer(caller: Caller) -> None:
    for method, key in itertools.product(METHODS, KEYS):
        request: Any = caller.valid(method)
        if "page_token" in request.DESCRIPTOR.fields_by_name:
            request.page_token = token_after(request, key)
            failure = await caller.send(method, request.SerializeToString())
            assert failure is None or failure.reason == "INVALID_PAGE_TOKEN", (method.name, key)


METADATA: dict[str, tuple[tuple[str, str | bytes], ...]] = {
    "binary": (("anything-bin", bytes(range(256))), ("authorization-bin", b"\0\xff")),
    "large": (("x-large", "v" * 6_000),),
    "many": tuple((f"x-{number}", "v") for number in range(200)),
    "a long request id": (("x-request-id", '"}~ ' * 200),),
    "a trace that is none": (("traceparent", "00-zz-zz-zz"), ("tracestate", "=,=,;"), ("baggage", "a=%ff%00,=;")),
    "a trace of zeros": (("traceparent", f"00-{'0' * 32}-{'0' * 16}-00"), ("tracestate", "a=b," * 100)),
    "a trace of the future": (("traceparent", f"fe-{'a' * 32}-{'b' * 16}-ff-more"), ("baggage", "k=v," * 1_000)),
}


async def test_wild_metadata_changes_nothing(caller: Caller) -> None:
    for method, kind in itertools.product(METHODS, METADATA):
        plain = await caller.send(method, caller.valid(method).SerializeToString())
        wild = await caller.send(method, caller.valid(method).SerializeToString(), *METADATA[kind])
        assert wild == plain, (method.name, kind)


async def test_the_last_of_several_credentials_counts(caller: Caller) -> None:
    failure = await caller.send(METHODS[0], b"", ("authorization", "Bearer other"))
    assert failure is not None
    assert failure.code is Code.UNAUTHENTICATED


async def test_an_error_about_very_much_still_fits_its_trailers(caller: Caller) -> None:
    """Clients refuse trailers from 8 KiB on, and with them the code and the reason."""
    mapping = company_pb2.ExternalSourceMapping()
    for field in mapping.DESCRIPTOR.fields:
        getattr(mapping, field.name).extend(["ß" * 256] * 1_000)
    company = a_company(external_source_mapping=mapping, supported_emp_ids=["x"] * 1_000, name="", url="x" * 100_000)
    patch = integration_pb2.UpdateIntegrationRequest()
    patch.integration.id = caller.ids["Integration"]
    patch.update_mask.paths.append("ß" * 100_000)
    for method in METHODS:
        request: Message
        if method.name == "UpsertCompany":
            request = UpsertCompanyRequest(company=company)
        elif method.name == "UpdateIntegration":
            request = patch
        else:
            request = GetMessageClass(method.input_type)()
            for message, field in texts_of(request):
                setattr(message, field.name, "ß" * 10_000)
        failure = await caller.send(method, request.SerializeToString())
        assert failure is not None
        assert failure.code is Code.INVALID_ARGUMENT, failure
        assert failure.violations

"""AMPECO's contract against the list of its operations in ampeco_operations.json, facts of its documentation 3.110.

A field of the list is a path on the wire (`[]` goes into the items of an array) and a JSON type, with `?` when null is
allowed and `!` when it is read-only. `enums` are the values AMPECO spells out, `variants` the forms a body may take.
`deprecated` is told by release 3.168.
"""

import json
import pkgutil
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from buf.validate import validate_pb2
from evbridge.options.v1 import options_pb2 as options
from evbridge.partner.ampeco import v3
from google.api import annotations_pb2 as annotations
from google.api import field_behavior_pb2 as behavior
from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor, MethodDescriptor
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto, MethodOptions
from google.protobuf.descriptor_pool import Default, DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from service.domain.validation import validate
from service.errors import InvalidArgument

OPERATIONS: list[dict[str, Any]] = json.loads(Path(__file__).with_name("ampeco_operations.json").read_text())
FILES: list[FileDescriptor] = [
    import_module(module.name).DESCRIPTOR
    for module in pkgutil.iter_modules(v3.__path__, f"{v3.__name__}.")
    if module.name.endswith("_pb2")
]


def rpcs(files: Iterable[FileDescriptor]) -> Iterator[MethodDescriptor]:
    return (rpc for file in files for service in file.services_by_name.values() for rpc in service.methods)


def called(method: str, path: str) -> str:
    """What is called, whatever its variables are named."""
    return f"{method} {re.sub(r'{[^}]*}', '{}', path)}"


def by_call(files: Iterable[FileDescriptor]) -> dict[str, MethodDescriptor]:
    """The rpcs with an HTTP rule. Two for the same call are an error."""
    found = {}
    for rpc in rpcs(files):
        rule = rpc.GetOptions().Extensions[annotations.http]
        if verb := rule.WhichOneof("pattern"):
            call = called(verb.upper(), getattr(rule, verb))
            assert call not in found, f"{call} has two rpcs"
            found[call] = rpc
    return found


RPCS = by_call(FILES)


def rpc_of(operation: Mapping[str, Any]) -> MethodDescriptor:
    return RPCS[called(operation["method"], operation["path"])]


def body_of(rpc: MethodDescriptor) -> FieldDescriptor:
    field: FieldDescriptor = rpc.input_type.fields_by_name[rpc.GetOptions().Extensions[annotations.http].body]
    return field


def members(message: Descriptor) -> Iterator[tuple[str, tuple[FieldDescriptor, ...]]]:
    """The members of the object on the wire, each with the fields that lead to it: two inside an inlined oneof."""
    for field in message.fields:
        around = field.containing_oneof
        if around and around.GetOptions().Extensions[options.inlined]:
            yield from ((name, (field, *way)) for name, way in members(field.message_type))
        elif not field.GetOptions().Extensions[options.sink]:
            yield field.json_name, (field,)


def ways(message: Descriptor, path: str) -> list[tuple[FieldDescriptor, ...]]:
    """The fields that lead to a path on the wire; more than one way when several variants have it."""
    name, _, below = path.partition(".")
    found = [way for member, way in members(message) if member == name.removesuffix("[]")]
    if not below:
        return found
    return [(*way, *on) for way in found if way[-1].message_type for on in ways(way[-1].message_type, below)]


def json_type(field: FieldDescriptor) -> str:
    if field.is_repeated and not (field.message_type and field.message_type.GetOptions().map_entry):
        return "array"
    if field.message_type:
        return "number" if field.message_type.full_name == "google.type.Decimal" else "object"
    if field.cpp_type in (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_INT64):
        return "integer"
    return {
        FieldDescriptor.CPPTYPE_STRING: "string",
        FieldDescriptor.CPPTYPE_BOOL: "boolean",
        FieldDescriptor.CPPTYPE_DOUBLE: "number",
    }[field.cpp_type]


def fits(field: FieldDescriptor, type_: str, path: str) -> bool:
    """Whether the field carries the JSON type. AMPECO calls some ids and counts numbers that are integers."""
    found = json_type(field)
    if type_.startswith("array of "):
        items = {"string": FieldDescriptor.CPPTYPE_STRING, "integer": FieldDescriptor.CPPTYPE_INT64}
        return found == "array" and field.cpp_type == items[type_.removeprefix("array of ")]
    whole = re.search(r"(^|\.)(id|stackLevel)$|Id$", path)
    return found == type_ or bool(type_ == "number" and found == "integer" and whole)


def differences(files: Iterable[FileDescriptor]) -> list[str]:
    """Where the contract and the list of operations disagree."""
    contract, found = by_call(files), []
    for operation in OPERATIONS:
        call = called(operation["method"], operation["path"])
        if call not in contract:
            found.append(f"{call} has no rpc")
            continue
        rpc = contract[call]
        if rpc.GetOptions().deprecated != operation.get("deprecated", False):
            found.append(f"{call} is deprecated in one of the two")
        for path, said in operation["fields"].items():
            if said.endswith("!"):
                continue
            reached = ways(body_of(rpc).message_type, path)
            if not reached:
                found.append(f"{call} cannot write {path}")
            found += [
                f"{call} writes {path} as {json_type(way[-1])}, not {said}"
                for way in reached
                if not fits(way[-1], said.removesuffix("?"), path)
            ]
    return found


def test_every_operation_has_one_rpc_that_writes_all_its_fields_with_their_types() -> None:
    assert len(OPERATIONS) == len({called(each["method"], each["path"]) for each in OPERATIONS}) == 184
    assert differences(FILES) == []


def copied(change: Callable[[FieldDescriptorProto], None], field: str) -> list[FileDescriptor]:
    """The contract in a pool of its own, with one field changed: `Location.name`."""
    pool, done = DescriptorPool(), set()

    def add(file: FileDescriptor) -> None:
        if file.name in done:
            return
        done.add(file.name)
        for needed in file.dependencies:
            add(needed)
        proto = FileDescriptorProto.FromString(file.serialized_pb)
        for message in proto.message_type:
            for each in message.field:
                if file in FILES and f"{message.name}.{each.name}" == field:
                    change(each)
        pool.Add(proto)

    for file in FILES:
        add(file)
    return [pool.FindFileByName(file.name) for file in FILES]


@pytest.mark.parametrize(
    "field, change, difference",
    [
        (
            "Evse.network_id",
            lambda field: setattr(field, "json_name", "network_id"),
            "PATCH /public-api/resources/evses/v2.1/{} cannot write networkId",
        ),
        (
            "SubscriptionPlanAllowance.combined",
            lambda field: setattr(field, "type", field.TYPE_STRING),
            "POST /public-api/resources/subscription-plans/v2.0 writes allowance.combined as string, not integer?",
        ),
    ],
    ids=["another wire name", "a string for a number"],
)
def test_a_contract_that_differs_is_noticed(
    field: str, change: Callable[[FieldDescriptorProto], None], difference: str
) -> None:
    assert difference in differences(copied(change, field))


def example(field: FieldDescriptor) -> Any:
    """A value of the field, one of those its rules name."""
    rules = field.GetOptions().Extensions[validate_pb2.field]
    if field.message_type:
        return None if field.message_type.GetOptions().map_entry else GetMessageClass(field.message_type)()
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        text = (rules.repeated.items if field.is_repeated else rules).string
        return text.const or (getattr(text, "in") or ["DE"])[0]
    return True if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL else 1


def put(message: Message, way: Iterable[FieldDescriptor], value: Any = ...) -> None:
    """Sets the field at the end of the way, an example unless a value is given."""
    *above, last = way
    for field in above:
        inside = getattr(message, field.name)
        message = inside.add() if field.is_repeated else inside
        if not field.is_repeated:
            message.SetInParent()
    given = example(last) if value is ... else value
    if json_type(last) == "object" and last.is_repeated:
        getattr(message, last.name)["en"] = "DE"
    elif last.is_repeated:
        getattr(message, last.name).append(given)
    elif last.message_type:
        getattr(message, last.name).SetInParent()
    else:
        setattr(message, last.name, given)


def complaints(message: Message) -> str:
    """All that the rules say against a message, paths included."""
    try:
        validate(message)
    except InvalidArgument as error:
        return "\n".join(f"{violation.path}: {violation.description}" for violation in error.violations)
    return ""


def request_with(rpc: MethodDescriptor, names: Iterable[str], through: FieldDescriptor | None = None) -> Message:
    """A request whose body has these members, those of a variant in the one that is given."""
    field = body_of(rpc)
    request = GetMessageClass(rpc.input_type)()
    for each in rpc.input_type.fields:
        if each is not field and not each.message_type:
            put(request, (each,))
    body = getattr(request, field.name)
    body = body.add() if field.is_repeated else body
    body.SetInParent()
    if through:
        getattr(body, through.name).SetInParent()
    for name in names:
        way = next(way for way in ways(field.message_type, name) if len(way) == 1 or way[0] is through)
        put(body, way)
    return request


def always_travels(field: FieldDescriptor) -> bool:
    return behavior.REQUIRED in field.GetOptions().Extensions[behavior.field_behavior] and field.is_repeated


@pytest.mark.parametrize(
    "operation",
    [each for each in OPERATIONS if each["required"]],
    ids=lambda operation: called(operation["method"], operation["path"]),
)
def test_a_request_without_a_required_field_is_refused_unless_the_field_is_read_only(
    operation: dict[str, Any],
) -> None:
    rpc = rpc_of(operation)
    required = [name for name in operation["required"] if not operation["fields"][name].endswith("!")]
    for missing in required:
        field = ways(body_of(rpc).message_type, missing)[0][-1]
        said = complaints(request_with(rpc, (name for name in required if name != missing)))
        assert field.name in said or always_travels(field), missing
    assert "is required" not in complaints(request_with(rpc, required))


def test_six_operations_require_a_read_only_id_that_no_request_needs() -> None:
    asked = [each for each in OPERATIONS if any(each["fields"][name].endswith("!") for name in each["required"])]
    assert len(asked) == 6
    for operation in asked:
        others = [name for name in operation["required"] if not operation["fields"][name].endswith("!")]
        said = complaints(request_with(rpc_of(operation), others))
        assert not re.search(rf"^{body_of(rpc_of(operation)).name}\b", said, re.MULTILINE), said


@pytest.mark.parametrize(
    "operation, variant",
    [(operation, variant) for operation in OPERATIONS for variant in operation.get("variants", ())],
    ids=lambda each: each.get("title") or called(each["method"], each["path"]),
)
def test_every_form_of_a_body_can_be_written_and_its_required_fields_are_asked_for(
    operation: dict[str, Any], variant: dict[str, Any]
) -> None:
    rpc = rpc_of(operation)
    body = body_of(rpc).message_type
    (choice,) = [oneof for oneof in body.oneofs if oneof.GetOptions().Extensions[options.inlined]]
    around = {name for name, way in members(body) if len(way) == 1}
    fitting = [
        through
        for through in (None, *choice.fields)
        if set(variant["fields"]) <= around | {name for name, way in members(body) if way[0] is through}
    ]
    assert fitting
    # Several fit when a form has no field of its own; the one named as AMPECO names it is meant.
    wanted = re.sub(r"\W", "", variant["title"]).lower()
    through = next((each for each in fitting if each and each.name.replace("_", "") == wanted), fitting[0])
    for missing in variant["required"]:
        request = request_with(rpc, (name for name in variant["required"] if name != missing), through)
        if "terminalType" in variant["required"] and missing != "terminalType":
            getattr(request, body_of(rpc).name).terminal_type = variant["title"]
        field = next(way for way in ways(body, missing) if len(way) == 1 or way[0] is through)[-1]
        assert field.name in complaints(request), missing


def test_values_that_are_spelled_out_are_checked_before_a_call() -> None:
    wrong = []
    for operation in OPERATIONS:
        body = body_of(rpc_of(operation)).message_type
        for path, values in operation.get("enums", {}).items():
            for way in ways(body, path):
                good = ["DE"] if values == "ISO 3166-1" else values
                for value in [*good, 99 if isinstance(good[0], int) else "?"]:
                    if len(good) > 1 and len(ways(body, path)) > 1 and value in good:
                        continue  # each variant takes some of the values
                    message = GetMessageClass(body)()
                    put(message, way, value)
                    path_said = r"(\[0\])?\.".join(field.name for field in way)
                    refused = re.search(rf"^{path_said}(\[0\])?: (?!.*required)", complaints(message), re.MULTILINE)
                    if bool(refused) != (value not in good):
                        wrong.append(f"{operation['path']} {path}: {value}")
    assert wrong == []


def test_reads_have_no_side_effects_and_deletes_money_and_users_need_an_admin() -> None:
    admin = re.compile(r"transactions|/users/|/users$|vouchers|top-up|settlement|consents|invites|payment$|assign-user")
    for rpc in rpcs(FILES):
        option, rule = rpc.GetOptions(), rpc.GetOptions().Extensions[annotations.http]
        verb = rule.WhichOneof("pattern")
        role = option.Extensions[options.role]
        if verb in (None, "get"):
            assert (option.idempotency_level, role) == (MethodOptions.NO_SIDE_EFFECTS, options.ROLE_READER), rpc.name
        elif admin.search(getattr(rule, verb)):
            assert role == options.ROLE_ADMIN, rpc.full_name
        if verb == "put":
            assert option.idempotency_level == MethodOptions.IDEMPOTENT, rpc.full_name


@pytest.mark.parametrize(
    "path",
    [
        "resources/locations/v2.0",
        "resources/charge-points/v2.0",
        "resources/evses/v2.1",
        "resources/charge-points/v2.0/{}/evses/{}/connectors",
        "resources/tariffs/v1.0",
        "resources/tariff-groups/v1.0",
        "resources/sessions/v1.0",
    ],
)
def test_what_pulls_need_can_be_listed_streamed_and_got(path: str) -> None:
    listing, get = RPCS[f"GET /public-api/{path}"], RPCS[f"GET /public-api/{path}/{{}}"]
    (items,) = [field for field in listing.output_type.fields if field.GetOptions().Extensions[options.items]]
    assert items.message_type == get.output_type.fields_by_name["data"].message_type
    (stream,) = [
        rpc
        for rpc in listing.containing_service.methods
        if rpc.GetOptions().Extensions[options.pages_of] == listing.name
    ]
    assert stream.server_streaming
    assert stream.input_type == listing.input_type


def test_one_file_says_whose_contract_it_is() -> None:
    said = [option for file in FILES if (option := file.GetOptions().Extensions[options.partner]).name]
    assert [(each.name, each.wire_names, each.credential_header.prefix) for each in said] == [
        ("ampeco", options.WIRE_NAMES_JSON, "Bearer ")
    ]
    assert Counter(file.package for file in FILES) == {"evbridge.partner.ampeco.v3": len(FILES)}
    assert Default().FindFileByName(FILES[0].name) is FILES[0]

"""Small contracts for tests, each in a descriptor pool of its own."""

from collections.abc import Iterable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from evbridge.options.v1 import options_pb2 as options
from google.api import annotations_pb2, field_behavior_pb2
from google.protobuf import descriptor_pb2, empty_pb2, field_mask_pb2, struct_pb2, timestamp_pb2, wrappers_pb2
from google.protobuf.descriptor import Descriptor, FileDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.type import decimal_pb2

Option = tuple[Any, Any]
REQUIRED: Option = (field_behavior_pb2.field_behavior, [field_behavior_pb2.REQUIRED])
MASK = "google.protobuf.FieldMask"
SINK: Option = (options.sink, True)
ALSO_NAMED = options.also_named
ITEMS: Option = (options.items, True)
SECRET: Option = (options.secret, True)
PERSONAL: Option = (options.personal_data, True)
INTEGRATION_ID: Option = (options.integration_id, True)
ADDRESS: Option = (options.address, True)
PARTNER = options.Partner(name="example", wire_names=options.WIRE_NAMES_FIELD)

_IMPORTS = (empty_pb2, field_mask_pb2, struct_pb2, timestamp_pb2, wrappers_pb2, decimal_pb2)
_FIELD = descriptor_pb2.FieldDescriptorProto
_SCALARS = {name.removeprefix("TYPE_").lower(): number for name, number in _FIELD.Type.items()}


def field(
    name: str,
    kind: str,
    *marks: Option,
    repeated: bool = False,
    implicit: bool = False,
    json_name: str = "",
    oneof: str = "",
) -> dict[str, Any]:
    """A field. `kind` is a scalar of the language, "enum:Name", "map:string:kind", or a message's name."""
    return locals()


def message(name: str, *fields: dict[str, Any]) -> descriptor_pb2.DescriptorProto:
    """A oneof whose name starts with "inlined" is inlined."""
    made = descriptor_pb2.DescriptorProto(name=name)
    for oneof in dict.fromkeys(each["oneof"] for each in fields if each["oneof"]):
        made.oneof_decl.add(name=oneof).options.Extensions[options.inlined] = oneof.startswith("inlined")
    for number, each in enumerate(fields, 1):
        kind = each["kind"]
        proto = made.field.add(name=each["name"], number=number, label=_FIELD.LABEL_OPTIONAL)
        if each["repeated"] or kind.startswith("map:"):
            proto.label = _FIELD.LABEL_REPEATED
        if kind.startswith("map:"):
            _, key, value = kind.split(":")
            entry = "".join(part.capitalize() for part in each["name"].split("_")) + "Entry"
            nested = message(entry, field("key", key, implicit=True), field("value", value, implicit=True))
            nested.options.map_entry = True
            made.nested_type.append(nested)
            kind = f"{name}.{entry}"
        _set_type(proto, kind)
        if each["json_name"]:
            proto.json_name = each["json_name"]
        for extension, value in each["marks"]:
            _set_option(proto.options, extension, value)
        if each["oneof"]:
            proto.oneof_index = [oneof.name for oneof in made.oneof_decl].index(each["oneof"])
    for number, each in enumerate(fields):
        proto = made.field[number]
        scalar = proto.type != _FIELD.TYPE_MESSAGE and proto.label == _FIELD.LABEL_OPTIONAL
        if scalar and not each["implicit"] and not each["oneof"]:  # synthetic oneofs stand after the real ones
            proto.proto3_optional = True
            proto.oneof_index = len(made.oneof_decl)
            made.oneof_decl.add(name=f"_{proto.name}")
    return made


def contract(
    *messages: descriptor_pb2.DescriptorProto,
    rpcs: Iterable[dict[str, Any]] = (),
    partner: options.Partner | None = PARTNER,
) -> FileDescriptor:
    """A file of package "example" with a service Example and three enums.

    Colour: RED, GREEN. PartyRole: three values behind UNSPECIFIED, the first called "OpenData", and integers stand for
    all. Shade: two values, both called "grey".

    An rpc is {"name", "request", "response", "http": HttpRule's fields, and options of MethodDescriptorProto}.
    """
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="example", syntax="proto3")
    file.dependency.extend(each.DESCRIPTOR.name for each in _IMPORTS)
    if partner is not None:
        file.options.Extensions[options.partner].CopyFrom(partner)
    colour = file.enum_type.add(name="Colour")
    for number, name in enumerate(("RED", "GREEN")):
        colour.value.add(name=name, number=number)
    role = file.enum_type.add(name="PartyRole")
    role.options.Extensions[options.ordinals] = True
    for number, name in enumerate(("UNSPECIFIED", "OPEN_DATA", "CPO", "EMSP")):
        role.value.add(name=f"PARTY_ROLE_{name}", number=number)
    role.value[1].options.Extensions[options.wire_name] = "OpenData"
    shade = file.enum_type.add(name="Shade")
    for number, name in enumerate(("LIGHT", "DARK")):
        shade.value.add(name=f"SHADE_{name}", number=number).options.Extensions[options.wire_name] = "grey"
    file.message_type.extend(messages)
    for rpc in rpcs:
        service = file.service[0] if file.service else file.service.add(name="Example")
        method = service.method.add(
            name=rpc["name"], input_type=_full_name(rpc["request"]), output_type=_full_name(rpc["response"])
        )
        method.server_streaming = rpc.get("server_streaming", False)
        method.options.idempotency_level = rpc.get("idempotency_level", 0)
        method.options.Extensions[options.role] = rpc.get("role", options.ROLE_READER)
        method.options.Extensions[options.pages_of] = rpc.get("pages_of", "")
        if "http" in rpc:
            method.options.Extensions[annotations_pb2.http].CopyFrom(
                type(method.options.Extensions[annotations_pb2.http])(**rpc["http"])
            )
    pool = DescriptorPool()
    for each in _IMPORTS:
        pool.AddSerializedFile(each.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    return pool.FindFileByName("example.proto")


def _full_name(name: str) -> str:
    return f".{name}" if name.startswith("google.") else f".example.{name}"


def _set_type(proto: descriptor_pb2.FieldDescriptorProto, kind: str) -> None:
    if kind in _SCALARS:
        proto.type = _SCALARS[kind]
    elif kind.startswith("enum:"):
        proto.type, proto.type_name = _FIELD.TYPE_ENUM, _full_name(kind.removeprefix("enum:"))
    else:
        proto.type, proto.type_name = _FIELD.TYPE_MESSAGE, _full_name(kind)


def _set_option(target: descriptor_pb2.FieldOptions, extension: Any, value: Any) -> None:
    if isinstance(value, list):
        target.Extensions[extension].extend(value)
    elif isinstance(value, Message):
        target.Extensions[extension].CopyFrom(value)
    else:
        target.Extensions[extension] = value


@cache
def every_message() -> tuple[Descriptor, ...]:
    """The messages of all our contracts, in the order of their names."""
    generated = Path(options.__file__).parents[3]
    modules = sorted(path.relative_to(generated) for path in generated.glob("evbridge/**/*_pb2.py"))
    files = [import_module(".".join(path.with_suffix("").parts)).DESCRIPTOR for path in modules]
    found = [message for file in files for each in file.message_types_by_name.values() for message in _with_inner(each)]
    return tuple(sorted(found, key=lambda message: message.full_name))


def _with_inner(message: Descriptor) -> list[Descriptor]:
    return [message, *(found for inner in message.nested_types for found in _with_inner(inner))]

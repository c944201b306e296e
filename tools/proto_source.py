"""Prints a proto2 file descriptor as .proto source, so that tools which only read sources can import it.

The printed text compiles to the same descriptor again; comments are lost, because a descriptor in a wheel has none.
It knows what buf/validate/validate.proto needs and refuses the rest of the language by name.
"""

from collections.abc import Iterator
from io import StringIO
from typing import cast

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from google.protobuf.descriptor_pb2 import DescriptorProto, EnumDescriptorProto, FieldDescriptorProto
from google.protobuf.message import Message

INDENT = "  "
MAX_FIELD_NUMBER = 536870911
MAX_ENUM_NUMBER = 2147483647


class Unprintable(Exception):
    """The file uses a part of the language this printer does not know."""


def print_source(pool: descriptor_pool.DescriptorPool, file_name: str) -> str:
    """Returns the source of a file in the pool, which also holds descriptor.proto and everything the file imports.

    Raises Unprintable when the file is not proto2, or uses services, groups, public imports, and the like.
    """
    file = _parse_with_options_of(pool, pool.FindFileByName(file_name).serialized_pb)
    if file.syntax not in ("", "proto2"):
        raise Unprintable(f"{file_name}: syntax {file.syntax}")
    _refuse(file, "service", "public_dependency", "weak_dependency", "option_dependency", "edition")
    return "\n".join(_file(file)) + "\n"


def _parse_with_options_of(
    pool: descriptor_pool.DescriptorPool, serialized: bytes
) -> descriptor_pb2.FileDescriptorProto:
    """Parses with the pool's own descriptor.proto: only its classes know the custom options the pool declares."""
    message_class = message_factory.GetMessageClass(pool.FindMessageTypeByName("google.protobuf.FileDescriptorProto"))
    return cast(descriptor_pb2.FileDescriptorProto, message_class.FromString(serialized))


def _refuse(proto: Message, *names: str) -> None:
    present = {field.name for field, _ in proto.ListFields()}
    if unknown := present.intersection(names):
        raise Unprintable(f"{getattr(proto, 'name', '')}: {', '.join(sorted(unknown))}")


def _file(file: descriptor_pb2.FileDescriptorProto) -> Iterator[str]:
    yield 'syntax = "proto2";'
    yield ""
    yield f"package {file.package};"
    yield ""
    yield from (f'import "{name}";' for name in file.dependency)
    yield ""
    yield from (f"option {option};" for option in _options(file.options))
    for field in file.extension:
        yield ""
        yield f"extend {field.extendee} {{"
        yield from _indented(_field(field))
        yield "}"
    for message in file.message_type:
        yield ""
        yield from _message(message)
    for enum in file.enum_type:
        yield ""
        yield from _enum(enum)


def _message(message: DescriptorProto) -> Iterator[str]:
    _refuse(message, "extension")
    yield f"message {message.name} {{"
    yield from _indented(f"option {option};" for option in _options(message.options))
    for nested in message.nested_type:
        yield from _indented(_message(nested))
    for enum in message.enum_type:
        yield from _indented(_enum(enum))
    entered: set[int] = set()
    for field in message.field:
        if not field.HasField("oneof_index"):
            yield from _indented(_field(field))
        elif field.oneof_index not in entered:  # a oneof stands where its first member does
            entered.add(field.oneof_index)
            yield from _indented(_oneof(message, field.oneof_index))
    for extensions in message.extension_range:
        _refuse(extensions, "options")
        yield f"{INDENT}extensions {_range(extensions.start, extensions.end - 1, MAX_FIELD_NUMBER)};"
    for reserved in message.reserved_range:
        yield f"{INDENT}reserved {_range(reserved.start, reserved.end - 1, MAX_FIELD_NUMBER)};"
    yield from (f'{INDENT}reserved "{name}";' for name in message.reserved_name)
    yield "}"


def _oneof(message: DescriptorProto, index: int) -> Iterator[str]:
    oneof = message.oneof_decl[index]
    yield f"oneof {oneof.name} {{"
    yield from _indented(f"option {option};" for option in _options(oneof.options))
    for field in message.field:
        if field.HasField("oneof_index") and field.oneof_index == index:
            yield from _indented(_field(field))
    yield "}"


def _field(field: FieldDescriptorProto) -> Iterator[str]:
    _refuse(field, "default_value")
    if field.type == FieldDescriptorProto.TYPE_GROUP:
        raise Unprintable(f"{field.name}: group")
    label = "" if field.HasField("oneof_index") else _word(FieldDescriptorProto.Label.Name(field.label)) + " "
    type_name = field.type_name or _word(FieldDescriptorProto.Type.Name(field.type))
    declaration = f"{label}{type_name} {field.name} = {field.number}"
    options = [option.splitlines() for option in _options(field.options)]
    if not options:
        yield f"{declaration};"
        return
    yield f"{declaration} ["
    for option in options[:-1]:
        option[-1] += ","
    yield from _indented(line for option in options for line in option)
    yield "];"


def _enum(enum: EnumDescriptorProto) -> Iterator[str]:
    yield f"enum {enum.name} {{"
    yield from _indented(f"option {option};" for option in _options(enum.options))
    for value in enum.value:
        _refuse(value, "options")
        yield f"{INDENT}{value.name} = {value.number};"
    for reserved in enum.reserved_range:  # unlike a message's, an enum's range includes its end
        yield f"{INDENT}reserved {_range(reserved.start, reserved.end, MAX_ENUM_NUMBER)};"
    yield from (f'{INDENT}reserved "{name}";' for name in enum.reserved_name)
    yield "}"


def _options(options: Message) -> Iterator[str]:
    """Yields `name = value` for each option that is set; the value of a message spans lines."""
    for field, value in options.ListFields():
        name = f"({field.full_name})" if field.is_extension else field.name
        for item in value if field.is_repeated else [value]:
            text = StringIO()
            text_format.PrintFieldValue(field, item, text)
            yield f"{name} = {text.getvalue().strip()}"


def _range(first: int, last: int, maximum: int) -> str:
    if first == last:
        return str(first)
    return f"{first} to {'max' if last == maximum else last}"


def _word(enum_value_name: str) -> str:
    """`TYPE_SINT32` -> `sint32`."""
    return enum_value_name.partition("_")[2].lower()


def _indented(lines: Iterator[str]) -> Iterator[str]:
    return (f"{INDENT}{line}" for line in lines)

"""What the contract says about fields, compiled once per message type: output-only ones, secrets, integrations."""

from collections.abc import Iterator
from functools import cache

from evbridge.options.v1 import options_pb2 as options
from google.api import field_behavior_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from service.domain.masks import copy_field
from service.domain.secret import Secret


def _output_only(field: FieldDescriptor) -> bool:
    return field_behavior_pb2.OUTPUT_ONLY in field.GetOptions().Extensions[field_behavior_pb2.field_behavior]


def _secret(field: FieldDescriptor) -> bool:
    return bool(field.GetOptions().Extensions[options.secret])


@cache
def _fields(descriptor: Descriptor) -> tuple[tuple[str, ...], ...]:
    """The names of its output-only fields, its secrets, and the messages of ours around the ones and the others."""
    output_only, secrets, around_output_only, around_secrets = [], [], [], []
    for field in descriptor.fields:
        if _output_only(field):
            output_only.append(field.name)
        elif _secret(field):
            secrets.append(field.name)
        elif (type := field.message_type) and type.file.package.startswith("evbridge."):
            inside = _fields(type)
            around_output_only += [field.name] if inside[0] or inside[2] else []
            around_secrets += [field.name] if inside[1] or inside[3] else []
    return tuple(output_only), tuple(secrets), tuple(around_output_only), tuple(around_secrets)


def _inside(message: Message, names: tuple[str, ...]) -> Iterator[tuple[str, Message]]:
    """(path, message) for those of the fields that are set, and for each item of those that are lists."""
    for name in names:
        value = getattr(message, name)
        if not isinstance(value, Message):
            yield from ((f"{name}[{number}]", item) for number, item in enumerate(value))
        elif message.HasField(name):
            yield name, value


@cache
def _naming(descriptor: Descriptor) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of its fields that name integrations, and of the messages of ours around such fields."""
    naming = [field.name for field in descriptor.fields if field.GetOptions().Extensions[options.integration_id]]
    around = [
        field.name
        for field in descriptor.fields
        if (type := field.message_type) and type.file.package.startswith("evbridge.") and any(_naming(type))
    ]
    return tuple(naming), tuple(around)


def integrations_named(message: Message) -> Iterator[str]:
    """The integrations that the message says it is about; "" for each field that could say one and does not.

    What a message says holds for those inside it that say nothing: of a rule for a partner, the keys of our locations.
    """
    naming, around = _naming(message.DESCRIPTOR)
    for name in naming:
        yield getattr(message, name)
    for _, inner in _inside(message, around):
        yield from (id for id in integrations_named(inner) if id or not naming)


def clear_output_only(message: Message) -> None:
    """Clears every output-only field, in sub-messages and lists too."""
    output_only, _, below, _ = _fields(message.DESCRIPTOR)
    for name in output_only:
        message.ClearField(name)
    for _, inner in _inside(message, below):
        clear_output_only(inner)


def keep_output_only(message: Message, before: Message) -> None:
    """Makes every output-only field what it is in `before`, in sub-messages that both have too; lists stay."""
    output_only, _, below, _ = _fields(message.DESCRIPTOR)
    for name in output_only:
        copy_field(message, before, message.DESCRIPTOR.fields_by_name[name])  # type: ignore[arg-type]
    kept = dict(_inside(before, below))
    for name, inner in _inside(message, below):
        if name in below and name in kept:
            keep_output_only(inner, kept[name])


@cache
def _lower_case(descriptor: Descriptor) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of the texts that are stored in lower case, and of the messages of ours around such."""
    texts = tuple(each.name for each in descriptor.fields if each.GetOptions().Extensions[options.lower_case])
    around = tuple(
        each.name
        for each in descriptor.fields
        if (type := each.message_type) and type.file.package.startswith("evbridge.") and any(_lower_case(type))
    )
    return texts, around


def lower_codes(message: Message) -> None:
    """Writes what the contract stores in lower case so."""
    texts, around = _lower_case(message.DESCRIPTOR)
    for name in texts:
        setattr(message, name, getattr(message, name).lower())
    for _, inner in _inside(message, around):
        lower_codes(inner)


def take_secrets(message: Message) -> dict[str, Secret]:
    """Moves the secrets out of a message: path -> secret, for those that are set. The message holds none afterwards."""
    return dict(_take(message, ""))


def hide_secrets(message: Message) -> None:
    """Puts "***" in the place of each secret that is set."""
    _, secrets, _, below = _fields(message.DESCRIPTOR)
    for name in secrets:
        if getattr(message, name):
            setattr(message, name, "***")
    for _, inner in _inside(message, below):
        hide_secrets(inner)


def secrets_set(message: Message, prefix: str = "") -> Iterator[str]:
    """The paths of the secrets that are set."""
    _, secrets, _, below = _fields(message.DESCRIPTOR)
    yield from (prefix + name for name in secrets if getattr(message, name))
    for path, inner in _inside(message, below):
        yield from secrets_set(inner, f"{prefix}{path}.")


def fields_changed(before: Message | None, after: Message, prefix: str = "") -> Iterator[str]:
    """The paths of the fields that differ, without what only we set. A list, and a message of others, is one value."""
    before = type(after)() if before is None else before
    ours = (*_fields(after.DESCRIPTOR)[0], "etag")
    for field in after.DESCRIPTOR.fields:
        old, new = getattr(before, field.name), getattr(after, field.name)
        if field.name in ours or (old == new and _has(before, field.name) == _has(after, field.name)):
            continue
        inside = None if field.is_repeated else field.message_type
        if inside and inside.file.package.startswith("evbridge."):
            yield from fields_changed(old, new, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name


def _has(message: Message, name: str) -> bool:
    return message.DESCRIPTOR.fields_by_name[name].has_presence and message.HasField(name)


def _take(message: Message, prefix: str) -> Iterator[tuple[str, Secret]]:
    _, secrets, _, below = _fields(message.DESCRIPTOR)
    for name in secrets:
        if text := getattr(message, name):
            yield prefix + name, Secret(text)
        message.ClearField(name)
    for path, inner in _inside(message, below):
        yield from _take(inner, f"{prefix}{path}.")

"""JSON text <-> message, for bodies as partners write them; compiled once per descriptor, pure.

Objects are read and written in messages.py, single values in values.py. All this differs from protobuf's own JSON
mapping where partners do:

- names: an explicit json_name, else the field's name or its json_name, by one switch per partner;
- every scalar that is present travels, with false, 0 and ""; a REQUIRED field always travels, as null or [] when there
  is nothing;
- null is "not set", but a REQUIRED message of the body itself must not be null: {"data": null} is no document;
- a lenient codec takes what partners write instead of what the contract says (tidy.py), and counts it;
- a member may have other names on reading (`also_named`);
- a member nobody knows goes into the sink (a Struct) or is dropped; one that no message can hold costs itself alone;
- an unknown enum value, a wrong envelope or a missing REQUIRED member is an error, never an empty message (204 has no
  body: the channel answers for it);
- one bad object of a page (a field marked `items`) costs that object alone;
- the fields of a message in an `inlined` oneof stand in the object around it;
- fields that name the integration or an address, and masks, never travel: a masked field that is not set is null.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from service.bridge import tidy
from service.bridge.json_text import CodecError, parse_json, parse_tolerantly
from service.bridge.messages import compile_field, compile_message, fields_to_clear, message_in
from service.bridge.values import WELL_KNOWN_TYPES, Trail, Unwritable
from service.bridge.wire import fields_on_the_wire, is_map, travels
from service.domain.secret import Secret
from service.errors import InvalidArgument

__all__ = ["Codec", "CodecError", "Decoded", "compile_codec"]

_MANY = 200


class Decoded(NamedTuple):
    """A message, why objects of its pages were left out, and how often something else was read than the contract says.

    `repair` is an example of that. `secrets` were taken out of the message, by their paths. `headers` are those of the
    answer, `next_link` leads from a page to the next one. `value` is what was parsed, of an operation that is raw.
    """

    message: Any
    rejects: tuple[CodecError, ...] = ()
    repairs: int = 0
    repair: CodecError | None = None
    secrets: Mapping[str, Secret] = {}
    headers: Mapping[str, str] = {}
    next_link: str = ""
    value: Any = None


class Codec:
    """Reads and writes the body that one message type makes. See compile_codec.

    `member` is the field that is the body, None when the message itself is; `form` is the message whose members the
    body has, None when it is a list or a single value.
    """

    def __init__(
        self, descriptor: Descriptor, field_names: bool, member: str | None, without: frozenset[str], lenient: bool
    ) -> None:
        self._new = GetMessageClass(descriptor)
        self._lenient = lenient
        self._field_names = field_names
        self.member = descriptor.fields_by_name[member] if member else None
        if self.member:
            self._type = compile_field(self.member, field_names)
            self.form = message_in(self.member)
        else:
            self._type = compile_message(descriptor, field_names, without)
            self.form = descriptor
        self._lists = [field.name for field in descriptor.fields if field.is_repeated and _is_ours(field)]
        self._may_be_blank = not member and not any(travels(field, without) for field in descriptor.fields)
        # Nothing is read into a body that is [] unless it has no members: it may stand for "there is none".
        self._means = self._type.means if self._may_be_blank or self.form is None else tidy.same

    def encode(self, message: Message, clear: frozenset[str] = frozenset()) -> str:
        """Returns the JSON text; "" for google.protobuf.Empty.

        `clear` holds dotted paths of fields, from the message that is the body: what is not set there travels as null
        (repeated: []). Raises InvalidArgument for a path that does not exist and for a value JSON cannot carry.
        """
        body, above = message, tuple[str, ...]()
        if self.member:
            above = (self.member.name,)
            if not self.member.is_repeated and not message.HasField(self.member.name):
                raise InvalidArgument.field(self.member.name, "is required: it is the body")
            body = getattr(message, self.member.name)
        if self.form is not None and self.form.full_name == "google.protobuf.Empty":
            return ""
        try:
            return self._type.write(body, fields_to_clear(self.form, clear, above)) if clear else self._type.write(body)
        except Unwritable as fault:
            raise InvalidArgument.field(".".join((*above, *fault.path)), fault.problem) from None

    def decode(self, text: bytes | str) -> Decoded:
        """Returns the message and what was left out of its pages. Raises CodecError."""
        if self._may_be_blank and not text.strip():
            return Decoded(self._new())
        try:
            value = parse_json(text)
        except CodecError:
            if not self._lenient:
                raise
            trail = Trail(lenient=True)
            value = parse_tolerantly(text)
            trail.repaired("is not quite JSON")
            return self._carefully(value, trail)
        return self.decode_value(value)

    def decode_value(self, value: Any) -> Decoded:
        """As decode, of what parse_json returned. Raises CodecError."""
        try:
            return self._read(value, Trail(quick=True))
        except (ValueError, TypeError, OverflowError):
            return self._carefully(value, Trail(lenient=self._lenient))

    def field_path(self, names: Sequence[str]) -> str:
        """Where in our message the value stands that has these names and positions on the wire; "" when nowhere."""
        path = self.member.name if self.member else ""
        within = self.member.message_type if self.member else self.form
        for name in names:
            if name.isdecimal() and path:
                path += f"[{name}]"
                continue
            fields = dict(fields_on_the_wire(within, self._field_names)) if within else {}
            if name not in fields:
                return ""
            path = ".".join((*([path] if path else []), *(field.name for field in fields[name])))
            within = fields[name][-1].message_type
        return path

    def _carefully(self, value: Any, trail: Trail) -> Decoded:
        """Reads what a quick reading could not."""
        return self._read(trail.tidied(self._means, value), trail)

    def _read(self, value: Any, trail: Trail) -> Decoded:
        members = self._type.read(value, trail)
        if self.member:
            members = {self.member.name: members}
        pages = {name: members.pop(name) for name in self._lists if len(members.get(name, ())) > _MANY}
        message = self._new(**members)
        for name, items in pages.items():  # not by the constructor, which lets no other thread run
            add = getattr(message, name).add
            for item in items:
                add(**item)
        return Decoded(message, tuple(trail.rejects), trail.repairs, trail.repair)


def compile_codec(
    descriptor: Descriptor,
    *,
    field_names: bool,
    member: str | None = None,
    without: frozenset[str] = frozenset(),
    lenient: bool = False,
) -> Codec:
    """Returns the codec of a message type; the same one for the same arguments.

    `field_names` names members by field instead of json_name. With `member` the body is that field's value, not the
    object around it. `without` are fields of the message itself that something else than the body carries. A
    `lenient` one reads what partners write as they mean it.
    """
    key = (descriptor, field_names, member, without, lenient)
    if key not in _codecs:
        _codecs[key] = Codec(*key)
    return _codecs[key]


def _is_ours(field: FieldDescriptor) -> bool:
    """Whether it holds messages that are read as the members of an object."""
    message = field.message_type
    return message is not None and not is_map(field) and message.full_name not in WELL_KNOWN_TYPES


_codecs: dict[tuple[Descriptor, bool, str | None, frozenset[str], bool], Codec] = {}

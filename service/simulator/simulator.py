"""A partner that answers from its own contract: it stores what is written, assigns ids, lists and refuses.

The HTTP rules decide. GET reads the object of a path, or lists a collection; POST to a collection creates, elsewhere it
is an action and is answered with an empty message; PUT replaces, PATCH merges (RFC 7396: null clears), DELETE removes.
What a path goes through must exist. A module beside this one says what a contract cannot: ids, pages, errors. State is
in memory, and bounded.
"""

import json
import re
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import reduce
from typing import Any, ClassVar
from urllib.parse import quote, unquote

from evbridge.options.v1 import options_pb2 as options
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from service.bridge.codec import Codec
from service.bridge.edge import Call, Edge, Refused, Reply
from service.bridge.registry import Operation, Parameter
from service.bridge.values import WELL_KNOWN_TYPES
from service.bridge.wire import also_named, fields_on_the_wire, inlined, marked, wire_name
from service.domain.fields import take_secrets
from service.domain.validation import validate
from service.errors import FieldViolation, InvalidArgument
from service.simulator.front import Front
from service.simulator.objects import Object, Objects


class Simulator(Front):
    """One partner with one credential. `objects` is its state by path."""

    created_status: ClassVar[int] = 201
    unauthenticated_status: ClassVar[int] = 401
    invalid_status: ClassVar[int] = 400
    error_type: ClassVar[str] = "application/json"

    def __init__(self, operations: Iterable[Operation], *, api_key: str) -> None:
        self.objects = Objects()
        self._last_id = 0
        self._api_key = api_key
        self._operations = tuple(operations)
        self._partner = self._operations[0].partner
        super().__init__(self._partner.name, map(_rpc, self._operations))
        items = {_shape(each) for each in self._operations if each.http_method != "POST"}
        self._collections = {
            _shape(each)
            for each in self._operations
            if each.http_method == "POST" and (knows(each, "id") or (*_shape(each), None) in items)
        }
        self._edge = Edge(
            ((each, self._serve) for each in self._operations),
            error_body=self.error_body,
            error_type=self.error_type,
            unreadable=lambda fault: Refused(self.invalid_status, problems={fault.pointer: fault.problem}),
            authenticate=self._authenticate,
            middlewares=(self.middleware,),
            repeated=self._partner.unique_id_headers,
            drain_s=0.5,
        )

    # What a partner may do in its own way.

    def new_id(self) -> Any:
        """The id of a new object."""
        self._last_id += 1
        return str(self._last_id)

    def check(self, operation: Operation, request: Message) -> None:
        """Judges a request before it is carried out. Raises Refused."""
        try:
            validate(request)
        except InvalidArgument as error:
            problems = dict(filter(None, (_problem(operation, violation) for violation in error.violations)))
            if problems:
                raise Refused(self.invalid_status, problems=problems) from None

    def got(self, operation: Operation, request: Message, call: Call) -> Any:
        """The body that GET answers with. Raises Refused."""
        if _lists(operation):
            return self.page(operation, request, self.objects.below(call.path), call)
        if call.path not in self.objects:
            raise Refused(404)
        return self.shown(operation, self.read(call.path, self.objects[call.path]))

    def shown(self, operation: Operation, held: Object) -> Object:
        """The answer with an object: what the contract knows of it."""
        known = {name: held[name] for name in held.keys() & _members(operation)}
        return {"data": known} if _object_in(operation.reply)[1] else known

    def written(self, operation: Operation, request: Message, before: Object | None, sent: Object) -> Object:
        """What is held once `sent` has taken the place of `before`. Raises Refused."""
        return sent

    async def acted(self, operation: Operation, request: Message) -> Object | None:
        """Does what a POST asks for that creates nothing. The body of its answer, None for an empty one."""
        return None

    def holds(self, path: str) -> bool:
        """Whether there is the object that a longer path goes through."""
        return path in self.objects

    def read(self, path: str, held: Object) -> Object:
        """What GET shows of an object."""
        return held

    def removed(self, path: str) -> None:
        """Is told before an object goes. Raises Refused."""

    def page(self, operation: Operation, request: Message, found: Iterator[Object], call: Call) -> Any:
        """The body that lists these objects."""
        items = _items(operation.reply)
        return {wire_name(items, self._partner.field_names): list(found)} if items else list(found)

    def error_body(self, refused: Refused) -> bytes:
        return json.dumps({"code": refused.code}).encode()

    # What all do alike.

    @asynccontextmanager
    async def _authenticate(self, call: Call) -> AsyncIterator[None]:
        partner = self._partner
        given = (
            dict(call.query).get(partner.credential_query)
            if partner.credential_query
            else call.headers.get(partner.credential_header)
        )
        if given != partner.credential_prefix + self._api_key:
            raise Refused(self.unauthenticated_status)
        yield

    async def _serve(self, operation: Operation, request: Message, call: Call) -> Reply:
        self.check(operation, request)
        call = replace(call, path="/".join(quote(unquote(segment), safe="") for segment in call.path.split("/")))
        if not all(map(self.holds, self._goes_through(operation, call.path))):
            raise Refused(404)
        match operation.http_method:
            case "GET":
                return _reply(operation, self.got(operation, request, call))
            case "DELETE":
                return self._delete(operation, call.path)
            case "POST" if _shape(operation) not in self._collections:
                done = await self.acted(operation, request)
                return _empty(operation) if done is None else _reply(operation, done)
        if operation.body is None or operation.body.form is None:
            return _empty(operation)  # a list or a single value is no object to hold
        return (self._create if operation.http_method == "POST" else self._change)(operation, request, call)

    def _delete(self, operation: Operation, path: str) -> Reply:
        if path not in self.objects:
            raise Refused(404)
        self.removed(path)
        for each in [each for each in self.objects if f"{each}/".startswith(f"{path}/")]:
            del self.objects[each]
        return _empty(operation)

    def _create(self, operation: Operation, request: Message, call: Call) -> Reply:
        sent, path = _sent(operation, call), call.path
        while path == call.path or path in self.objects:
            sent["id"] = self.new_id()
            path = f"{call.path}/{quote(str(sent['id']), safe='')}"
        return self._hold(operation, request, path, None, sent)

    def _change(self, operation: Operation, request: Message, call: Call) -> Reply:
        sent, before = _sent(operation, call), self.objects.get(call.path)
        if operation.http_method == "PATCH":
            sent = merged(before or {}, sent)
        last = operation.path[-1]
        if isinstance(last, Parameter) and knows(operation, "id"):
            sent["id"] = reduce(getattr, last.name.split("."), request)
        return self._hold(operation, request, call.path, before, sent)

    def _hold(self, operation: Operation, request: Message, path: str, before: Object | None, sent: Object) -> Reply:
        held = self.written(operation, request, before, sent)
        reply = _reply(operation, self.shown(operation, held))
        self.objects[path] = held
        return reply if before is not None else replace(reply, status=self.created_status)

    def _goes_through(self, operation: Operation, path: str) -> Iterator[str]:
        """The objects a path names on its way that only a POST can have made."""
        shape, segments = _shape(operation), path.split("/")
        for length, segment in enumerate(shape):
            if segment is None and shape[:length] in self._collections:
                yield "/".join(segments[: length + 2])

    def rpc(self, method: str, path: str) -> str:
        with suppress(Refused):
            return _rpc(self._edge.route(method, path)[0])
        return ""


def _rpc(operation: Operation) -> str:
    return operation.name.rpartition("/")[2]


def _shape(operation: Operation) -> tuple[str | None, ...]:
    """The path with None for each variable."""
    return tuple(None if isinstance(segment, Parameter) else segment for segment in operation.path)


def _object_in(codec: Codec) -> tuple[Descriptor | None, bool]:
    """The message that is the object itself, and whether it stands in a "data" around it."""
    data = codec.form.fields_by_name.get("data") if codec.form else None
    enveloped = data is not None and data.message_type and data.message_type.full_name not in WELL_KNOWN_TYPES
    return (data.message_type, True) if data and enveloped else (codec.form, False)


def knows(operation: Operation, name: str) -> bool:
    """Whether the object an operation answers with has a member of this wire name."""
    return name in _members(operation)


def _members(operation: Operation) -> frozenset[str]:
    form, _ = _object_in(operation.reply)
    ways = fields_on_the_wire(form, operation.partner.field_names) if form else ()
    return frozenset(each for name, way in ways for each in (name, *also_named(way[-1])))


def _items(codec: Codec) -> FieldDescriptor | None:
    """The field that holds a page of objects."""
    return next((each for each in codec.form.fields if marked(each, options.items)), None) if codec.form else None


def _lists(operation: Operation) -> bool:
    """Whether the answer is a collection; an object may hold a list too."""
    member = operation.reply.member
    paged = _items(operation.reply) is not None or (member is not None and member.is_repeated)
    return paged and not isinstance(operation.path[-1], Parameter)


def _sent(operation: Operation, call: Call) -> Object:
    body = json.loads(call.body)
    sent: Object = body["data"] if operation.body and _object_in(operation.body)[1] else body
    return sent


def _reply(operation: Operation, body: Any) -> Reply:
    """Secrets are not said back. Raises CodecError when the body does not have the form the contract gives it."""
    decoded = operation.reply.decode(json.dumps(body))
    for reject in decoded.rejects:
        raise reject
    take_secrets(decoded.message)
    return Reply(decoded.message)


def _empty(operation: Operation) -> Reply:
    """The least the contract allows: every message of the answer is there, with nothing in it."""
    message = operation.response_type()
    for each in message.DESCRIPTOR.fields:
        if each.message_type and not each.is_repeated and each.message_type.full_name not in WELL_KNOWN_TYPES:
            getattr(message, each.name).SetInParent()
    return Reply(message, status=200 if operation.reply.encode(message) else 204)


def merged(held: Object, patch: Object) -> Object:
    """The object with a merge patch applied (RFC 7396): null removes, objects merge, all else replaces."""
    result = dict(held)
    for name, value in patch.items():
        if isinstance(value, dict):
            below = held.get(name)
            result[name] = merged(below if isinstance(below, dict) else {}, value)
        elif value is None:
            result.pop(name, None)
        else:
            result[name] = value
    return result


def _problem(operation: Operation, violation: FieldViolation) -> tuple[str, str] | None:
    """Where in the body a rule of the contract is broken (a JSON pointer), and how. None when it is not in the body."""
    if operation.body is None:
        return None
    names = re.findall(r"[^.\[\]]+", violation.path)
    if operation.body.member:
        if names[:1] != [operation.body.member.name]:
            return None
        names = names[1:]
    within = operation.body.form
    pointer = ""
    for name in names:
        found = within.fields_by_name.get(name) if within else None
        if found is None:
            pointer += f"/{name}" if name.isdecimal() else ""  # a oneof is not on the wire
        elif not inlined(found.containing_oneof):
            pointer += f"/{wire_name(found, operation.partner.field_names)}"
        within = found.message_type if found else within
    return pointer, violation.description

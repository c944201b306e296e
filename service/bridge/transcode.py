"""Operation + message <-> the parts of an HTTP request and its answer. Pure.

The one place where a value becomes part of a URL. A fault of our caller's message is InvalidArgument, one of the bytes
that came over HTTP CodecError.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote

from google.protobuf.message import Message

from service.bridge.codec import Codec, CodecError, Decoded
from service.bridge.json_text import parse_json
from service.bridge.registry import Operation, Parameter
from service.bridge.values import Unwritable, from_url_text, to_url_text
from service.domain.keys import is_segment
from service.errors import InvalidArgument


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """`path` is percent-encoded, empty or starts with a slash; `query` is not encoded yet; `body` may be None.

    `headers` are sent in place of those that the bridge would send under these names. `shown_path` is what people see
    of a path that holds personal data.
    """

    method: str
    path: str
    query: tuple[tuple[str, str], ...]
    body: bytes | None
    headers: Mapping[str, str] = field(default_factory=dict)
    shown_path: str = ""


def to_http(operation: Operation, request: Message) -> HttpRequest:
    """Returns the request as the partner takes it.

    A field that the request's mask names, from the message that is the body, and that is not set travels as null.
    Raises InvalidArgument for a path of the mask that is no field, and for a value no URL or JSON can carry.
    """
    clear = frozenset(getattr(request, operation.mask_field).paths) if operation.mask_field else frozenset()
    segments = [
        segment if isinstance(segment, str) else quote(_segment(request, segment), safe="")
        for segment in operation.path
    ]
    personal = [isinstance(segment, Parameter) and segment.is_personal for segment in operation.path]
    return HttpRequest(
        operation.http_method,
        "".join(f"/{segment}" for segment in segments),
        tuple((each.name, text) for each in operation.query for text in _texts(request, each)),
        operation.body.encode(request, clear).encode() if operation.body else None,
        shown_path="".join(
            "/***" if is_hidden else f"/{segment}" for segment, is_hidden in zip(segments, personal, strict=True)
        )
        if any(personal)
        else "",
    )


def from_http(
    operation: Operation, variables: Mapping[str, str], query: Iterable[tuple[str, str]], body: bytes
) -> Message:
    """Returns the request that to_http would have written so; `variables` as `match` returned them.

    What is null or [] stands in the mask. A query parameter the contract does not know is ignored. Raises CodecError.
    """
    message = operation.request_type()
    if operation.body:
        decoded = operation.body.decode(body)
        if decoded.rejects:
            raise decoded.rejects[0]
        message = decoded.message
        if operation.mask_field:
            getattr(message, operation.mask_field).paths.extend(_cleared(operation.body, parse_json(body)))
    for segment in operation.path:
        if isinstance(segment, Parameter):
            *above, name = segment.name.split(".")
            setattr(_below(message, above), name, _value(segment, variables[segment.name]))
    known = {parameter.name: parameter for parameter in operation.query}
    for name, text in query:
        if (parameter := known.get(name)) is None:
            continue
        value = _value(parameter, text)
        if parameter.field.is_repeated:
            getattr(message, parameter.field.name).append(value)
        else:
            setattr(message, parameter.field.name, value)
    return message


def reply_to_http(operation: Operation, reply: Message) -> bytes:
    """Returns the body of an answer, empty for google.protobuf.Empty. Raises InvalidArgument."""
    return operation.reply.encode(reply).encode()


def reply_from_http(operation: Operation, body: bytes) -> Decoded:
    """Returns the reply and the objects of its pages that were left out. Raises CodecError."""
    return operation.reply.decode(body)


def match(operation: Operation, method: str, raw_path: str) -> Mapping[str, str] | None:
    """Returns the decoded values of the path's variables, or None when the operation is another one.

    `raw_path` is as it was on the wire: a "%2F" inside a segment belongs to its value.
    """
    segments = raw_path.split("/")[1:] if raw_path != "/" else []
    if method != operation.http_method or len(segments) != len(operation.path) or not raw_path.startswith("/"):
        return None
    variables = {}
    for segment, raw in zip(operation.path, segments, strict=True):
        try:
            text = unquote(raw, errors="strict")
        except UnicodeDecodeError:
            return None
        if isinstance(segment, Parameter):
            if not is_segment(text):
                return None
            variables[segment.name] = text
        elif text != unquote(segment):
            return None
    return variables


def _cleared(codec: Codec, value: Any, above: tuple[str, ...] = ()) -> Iterator[str]:
    """The paths, from the message that is the body, of what is null or an empty list there."""
    for name, item in value.items() if isinstance(value, dict) else ():
        names = (*above, name)
        path = codec.field_path(names)
        if path and isinstance(item, dict):
            yield from _cleared(codec, item, names)
        elif path and item in (None, []):
            yield path[len(codec.field_path(())) :].removeprefix(".")


def _segment(request: Message, variable: Parameter) -> str:
    *above, name = variable.name.split(".")
    within = _below(request, above)
    if not within.HasField(name):
        raise InvalidArgument.field(variable.name, "is required: it is part of the address")
    text = _text(variable, getattr(within, name))
    if not is_segment(text):
        raise InvalidArgument.field(variable.name, 'must not be empty and have no part that is "." or ".."')
    return text


def _below(message: Message, names: Iterable[str]) -> Message:
    for name in names:
        message = getattr(message, name)
    return message


def _texts(request: Message, parameter: Parameter) -> list[str]:
    name = parameter.field.name
    if parameter.field.is_repeated:
        return [_text(parameter, value) for value in getattr(request, name)]
    return [_text(parameter, getattr(request, name))] if request.HasField(name) else []


def _text(parameter: Parameter, value: Any) -> str:
    try:
        return to_url_text(parameter.type, value)
    except Unwritable as fault:
        raise InvalidArgument.field(parameter.field.name, fault.problem) from None


def _value(parameter: Parameter, text: str) -> Any:
    try:
        return from_url_text(parameter.type, text)
    except CodecError:
        raise CodecError(f"/{parameter.name}", "is not a value of its type") from None

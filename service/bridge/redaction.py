"""What a partner says without the credential it was called with: a partner may say that back, wherever it can. Pure."""

import re
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from service.bridge.codec import Decoded
from service.bridge.json_text import CodecError
from service.bridge.wire import is_map
from service.domain.target import Target

SHORTEST: Final = 8
"""Characters of a credential that is looked for in data, which may hold a shorter word by chance."""

_HIDDEN: Final = "***"
_LETTERS_AND_DIGITS = re.compile("[A-Za-z0-9]+")


def redacted_text(text: str, target: Target) -> str:
    """The text without the credential and the secret it was made of, in the spelling of a URL or of JSON too."""
    for secret in _secrets(target):
        text = _hidden(text, secret)
    return text


def redacted_body(body: bytes, target: Target, shortest: int = 0) -> bytes:
    """The body without credentials of that many characters or more."""
    for secret in _secrets(target):
        if len(secret) >= shortest and _searched_for(secret) in body:
            text = body.decode("utf-8", "surrogateescape")
            body = _hidden(text, secret).encode("utf-8", "surrogateescape")
    return body


def redacted_reply(reply: Decoded, target: Target) -> Decoded:
    """The reply, its message changed in place."""
    for secret in _secrets(target):
        if len(secret) < SHORTEST:
            continue
        # A text stands in one piece in what a message is serialised to, which is searched far faster than the message.
        if _searched_for(secret) in reply.message.SerializeToString():
            _hide(reply.message, secret)
        rejects = tuple(
            CodecError(each.pointer, each.problem, _hidden(each.object_id, secret), _hidden(each.text, secret))
            for each in reply.rejects
        )
        reply = reply._replace(rejects=rejects)
    return reply


def _secrets(target: Target) -> list[str]:
    """The longest first: one may hold the other."""
    return sorted({target.credential.reveal(), target.secret.reveal()} - {""}, key=len, reverse=True)


def _searched_for(secret: str) -> bytes:
    return max(_LETTERS_AND_DIGITS.findall(secret), key=len, default="").encode()


def _hide(message: Message, secret: str) -> None:
    for field, value in message.ListFields():
        if field.message_type and is_map(field):
            _hide_in_map(value, field.message_type.fields_by_name["value"], secret)
        elif field.message_type:
            for inner in value if field.is_repeated else (value,):
                _hide(inner, secret)
        elif field.type == FieldDescriptor.TYPE_STRING:
            if field.is_repeated:
                value[:] = [_hidden(text, secret) for text in value]
            else:
                setattr(message, field.name, _hidden(value, secret))


def _hide_in_map(members: Any, of: FieldDescriptor, secret: str) -> None:
    for key in list(members):
        if of.message_type:
            _hide(members[key], secret)
        elif of.type == FieldDescriptor.TYPE_STRING:
            members[key] = _hidden(members[key], secret)
        shown = _hidden(key, secret) if isinstance(key, str) else key
        if shown != key:
            if of.message_type:
                members[shown].CopyFrom(members[key])
            else:
                members[shown] = members[key]
            del members[key]


def _hidden(text: str, secret: str) -> str:
    return re.sub("".join(map(_spellings, secret)), _HIDDEN, text)


def _spellings(character: str) -> str:
    """A pattern: as it is, or what JSON and URLs may make of it; some write "/" as "\\/" and "+" as "\\u002b".

    Nobody escapes letters and digits, and a pattern that begins with one is found fast.
    """
    if character.isascii() and character.isalnum():
        return character
    in_json, in_url = f"u{ord(character):04x}", "".join(f"%{byte:02x}" for byte in character.encode())
    return rf"(?:\\?(?:{re.escape(character)}|(?i:{in_json}))|(?i:{in_url}))"

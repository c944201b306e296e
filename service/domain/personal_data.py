"""What leads to a driver, and the pseudonyms that are put in its place. Pure."""

import json
import re
from collections.abc import Callable, Collection
from functools import cache
from typing import Any, Final

from evbridge.options.v1 import options_pb2 as options
from evbridge.v1.cdr_pb2 import Cdr
from evbridge.v1.session_pb2 import Session
from evbridge.v1.token_pb2 import Token
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

Pseudonym = Callable[[str], str]
"""The pseudonym of an id, in any case the same. One of a pseudonym is itself."""

PREFIX: Final = "erased-"
_PSEUDONYM = re.compile(rf"{PREFIX}[0-9a-f]{{24}}")
_WILD, _ITSELF = re.compile(r"[\\%_]"), r"\\\g<0>"
_DISTINCT = 6
"""Characters of an id that nothing else holds by chance."""


def pseudonym_of(digest: bytes) -> str:
    """It is as long as OCPI lets the uid of a token and the id of a contract be."""
    return f"{PREFIX}{digest[:12].hex()}"


def is_pseudonym(text: str) -> bool:
    return _PSEUDONYM.fullmatch(text) is not None


def is_erased(charged: Any) -> bool:
    """Whether the session or CDR leads to a driver no more; of another object False."""
    return isinstance(charged, Session | Cdr) and is_pseudonym(charged.cdr_token.contract_id)


def erase_charged(charged: Session | Cdr, pseudonym: Pseudonym) -> None:
    """In place. Without the id of a contract it has one afterwards, which says that it is erased."""
    token = charged.cdr_token
    token.contract_id = token.contract_id or token.uid
    erase_fields(charged, pseudonym)


def erase_fields(message: Message, pseudonym: Pseudonym) -> None:
    """Puts pseudonyms in the place of all that the contract calls personal data, in messages below too."""
    texts, around = _personal(message.DESCRIPTOR)
    for name in texts:
        if text := getattr(message, name):
            setattr(message, name, pseudonym(text))
    for name in around:
        value = getattr(message, name)
        if not isinstance(value, Message):
            for each in value:
                erase_fields(each, pseudonym)
        elif message.HasField(name):
            erase_fields(value, pseudonym)


def names_of(token: Token) -> set[str]:
    """What leads to the driver of a token, folded; its group is not his alone."""
    named = (token.uid, token.contract_id, token.visual_number, token.energy_contract.contract_id)
    return {name.casefold() for name in named if name and not is_pseudonym(name)}


def replaced(text: str, names: Collection[str], pseudonym: Pseudonym) -> str:
    """The text with pseudonyms in the place of the names, in any case, where they are words of their own."""
    either = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    return re.sub(rf"(?<!\w)(?:{either})(?!\w)", lambda found: pseudonym(found[0]), text, flags=re.IGNORECASE)


def text_patterns(names: Collection[str]) -> list[str]:
    """For LIKE, what is looked for in folded JSON. A short name is no part of a text, but a whole value."""
    written = (json.dumps(name) for name in names)
    return [_like(text[1:-1] if len(text) >= _DISTINCT + 2 else text) for text in written]


def message_patterns(names: Collection[str]) -> list[str]:
    """The same for serialized messages as PostgreSQL escapes them: of a short name the whole field, with its length."""
    lengths = ("" if len(name) >= _DISTINCT else chr(len(name)) for name in names)
    return [_like(length + name.replace("\\", "\\\\")) for length, name in zip(lengths, names, strict=True)]


def _like(text: str) -> str:
    return f"%{_WILD.sub(_ITSELF, text)}%"


@cache
def _personal(descriptor: Descriptor) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of the texts that are personal data, and of the messages of ours around such."""
    texts = tuple(each.name for each in descriptor.fields if each.GetOptions().Extensions[options.personal_data])
    around = tuple(
        each.name
        for each in descriptor.fields
        if (type := each.message_type)
        and type is not descriptor
        and type.file.package.startswith("evbridge.")
        and any(_personal(type))
    )
    return texts, around

"""What an object says, apart from when and how it was stored."""

import base64
import hashlib

from google.protobuf.message import Message

from service.domain.fields import clear_output_only


def content_hash(message: Message, *more: bytes) -> bytes:
    """16 bytes over the content: output-only fields and the etag left out, `more` (hashes of secrets) taken in."""
    content = type(message)()
    content.CopyFrom(message)
    clear_output_only(content)
    if "etag" in content.DESCRIPTOR.fields_by_name:
        content.ClearField("etag")
    digest = hashlib.blake2b(content.SerializeToString(deterministic=True), digest_size=16)
    for part in more:
        digest.update(part)
    return digest.digest()


def etag_of(message: Message, *more: bytes) -> str:
    """The content hash as 26 lower-case letters and digits."""
    return base64.b32encode(content_hash(message, *more)).decode().rstrip("=").lower()

"""How a job and its answer travel between two processes of ours."""

import json
import struct

from service.errors import FieldViolation, InvalidArgument

JOB = struct.Struct("!16sI")
"""The job's name and the size of its request, which follows."""
HEADER = struct.Struct("!BI")
"""The kind of the answer and its size, which follows."""
MADE, REFUSED, FAILED = range(3)


def violations_to_text(error: InvalidArgument) -> bytes:
    pairs = [(violation.path, violation.description) for violation in error.violations]
    return json.dumps([error.message, pairs]).encode()


def violations_of_text(text: bytes) -> InvalidArgument:
    message, pairs = json.loads(text)
    return InvalidArgument(message, violations=tuple(FieldViolation(*pair) for pair in pairs))

"""What an audit event says of a call: ids of objects and names of fields, never values."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from itertools import islice
from typing import Final

from evbridge.v1.audit_pb2 import AuditEvent
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

_MAX_IDS: Final = 10
_MAX_FIELDS: Final = 50
_IDS: Final = {"id", "delivery_id", "integration_id"}
_HOW: Final = _IDS | {"request_id", "validate_only", "update_mask", "allow_missing", "etag"}
"""Fields of a request that name an object, or say how it is to be changed and not what."""


@dataclass(slots=True)
class Objects:
    """Objects of one type: the ids of the first, and how many there are that changed."""

    ids: list[str] = field(default_factory=list)
    count: int = 0


@dataclass(slots=True)
class Trail:
    """What a call has changed so far, by the type of the objects; the fields; and how many objects it refused."""

    objects: dict[str, Objects] = field(default_factory=dict)
    fields: dict[str, None] = field(default_factory=dict)
    refused: int = 0

    def add(self, type: str, ids: Iterable[str], changed: int) -> None:
        """Objects with these ids were dealt with; some of them changed."""
        objects = self.objects.setdefault(type, Objects())
        objects.ids += islice(ids, _MAX_IDS - len(objects.ids))
        objects.count += changed

    def name(self, paths: Iterable[str]) -> None:
        """Fields were changed."""
        for path in paths if len(self.fields) < _MAX_FIELDS else ():
            self.fields[path] = None


def event_of(request: Message, trail: Trail) -> AuditEvent:
    """What a request and a trail say of a call; others know who called, when and from where."""
    rpc, noun = _rpc(request.DESCRIPTOR)
    event = AuditEvent(rpc=rpc, request_id=getattr(request, "request_id", ""))
    _tell(event, trail, noun)
    if not trail.objects:
        for name, type in (("id", noun), ("delivery_id", noun), ("integration_id", "integration")):
            if id := getattr(request, name, ""):
                event.object_type, event.object_count = type, 1
                event.object_ids.append(id)
                break
    if not trail.fields:
        event.fields.extend(_set_by(request, without=noun))
    return event


def event_of_command(command: str, trail: Trail) -> AuditEvent:
    """What there is to say of a command at the command line, `evbridge keys create`."""
    event = AuditEvent(rpc=command)
    _tell(event, trail, "")
    return event


def event_of_partner_call(rpc: str, integration_id: str, request: Message) -> AuditEvent:
    """What there is to say of a call to a partner before it is made."""
    event = AuditEvent(rpc=rpc, object_type="integration", object_ids=[integration_id])
    event.fields.extend(_set_by(request, without=""))
    return event


def _tell(event: AuditEvent, trail: Trail, noun: str) -> None:
    """Of several types of objects those that are called `noun`, or those of which there are most."""
    if trail.objects:
        type = max(trail.objects, key=lambda each: (each == noun, trail.objects[each].count))
        event.object_type, event.object_count = type, trail.objects[type].count
        event.object_ids.extend(trail.objects[type].ids)
    event.refused_count = trail.refused
    event.fields.extend([*trail.fields][:_MAX_FIELDS])


def _set_by(request: Message, without: str) -> list[str]:
    names = (field.name for field, _ in request.ListFields())
    return [name for name in names if name not in _HOW and name != without][:_MAX_FIELDS]


@cache
def _rpc(request: Descriptor) -> tuple[str, str]:
    """The rpc that takes such requests, and the noun that its service is named after."""
    service, method = next(
        (service, method)
        for service in request.file.services_by_name.values()
        for method in service.methods
        if method.input_type is request
    )
    noun = re.sub("(?<=.)([A-Z])", r"_\1", service.name.removesuffix("Service")).lower()
    return f"{service.full_name}/{method.name}", noun

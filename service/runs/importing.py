"""What an import counts and reports while it reads what a partner holds."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, TypeVar

from google.protobuf.message import Message

from service.bridge.codec import CodecError, compile_codec
from service.domain.repair import repaired
from service.errors import EvbridgeError, FieldViolation
from service.runs.worker import MAX_FINDINGS, Progress
from service.storage.quarantine import Quarantined

R = TypeVar("R", bound=Message)

MAX_NAMED = 3
"""So many refused objects a step names."""


def violations_of(error: EvbridgeError, noun: str = "") -> list[FieldViolation]:
    """Of an object that cannot be taken. `noun` is what the error's paths begin with."""
    found = [FieldViolation(each.path.removeprefix(f"{noun}."), each.description) for each in error.violations]
    return found or [FieldViolation("", error.message)]


def unreadable(reject: CodecError) -> Quarantined:
    """An object of a page. Its own pointer is "/name" where that of the page is "/data/3/name"."""
    pointer = "/".join(["", *reject.pointer.split("/")[3:]]) if reject.pointer.count("/") > 2 else ""
    found = [FieldViolation(pointer, reject.problem)]
    return Quarantined(reject.object_id, reject.object_id, found, reject.text)


def text_of(given: Message | None) -> str:
    """As the partner writes it."""
    if given is None:
        return ""
    descriptor: Any = given.DESCRIPTOR
    return compile_codec(descriptor, field_names=False).encode(given)


@dataclass(slots=True)
class ImportStep:
    """What became of one kind of objects; as text, for people. Single ones are reported to `progress`."""

    name: str
    progress: Progress
    read: int = 0
    again: int = 0
    changed: int = 0
    gone: int = 0
    statuses: int = 0
    unreadable: int = 0
    repaired: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    named: list[str] = field(default_factory=list)
    quarantined: list[Quarantined] = field(default_factory=list)

    def refuse(self, id: object, error: EvbridgeError, noun: str = "", given: Message | None = None) -> None:
        """The object of that id cannot be taken. `noun` is what the error's paths begin with, `given` what was read."""
        found = violations_of(error, noun)
        self.progress.refused(str(id), found)
        self._quarantine(Quarantined(str(id), str(id), found, text_of(given)))
        self.refused += 1
        if len(self.named) == MAX_NAMED:
            return
        wrong = ", ".join(": ".join(filter(None, (each.path, each.description))) for each in found)
        self.named.append(f"{id}: {wrong}")

    def reject(self, reject: CodecError) -> None:
        """An object cannot be read."""
        self.unreadable += 1
        self.progress.refused(reject.object_id, [FieldViolation(reject.pointer, reject.problem)])
        self._quarantine(unreadable(reject))

    def _quarantine(self, found: Quarantined) -> None:
        if len(self.quarantined) < MAX_FINDINGS:
            self.quarantined.append(found)

    def repair(self, id: object, given: R, *more: FieldViolation) -> R:
        """The object as it can be taken. `more` was repaired before. Raises InvalidArgument."""
        made, notices = repaired(given)
        if notices := (*more, *notices):
            self.repaired += 1
            self.progress.repaired(str(id), notices)
        return made

    def __str__(self) -> str:
        counts = [
            (self.read, "read"),
            (self.again, "shown again"),
            (self.changed, "changed"),
            (self.statuses, "statuses set alone"),
            (self.gone, "gone"),
            (self.unreadable, "unreadable"),
        ]
        counts += [(count, f"left out as {why}") for why, count in sorted(self.left_out.items())]
        counts += [(self.repaired, "repaired"), (self.refused, "refused")]
        summary = ", ".join(f"{count} {what}" for count, what in counts if count)
        return "; ".join([summary or "nothing", *(text[:150] for text in self.named)])

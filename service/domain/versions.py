"""Lock versions: 1 to create, the current one + 1 to replace. Etags. Times of changes."""

from datetime import datetime, timedelta

from google.protobuf.timestamp_pb2 import Timestamp

from service.errors import EtagMismatch, VersionConflict


def check_version(sent: int, current: int) -> None:
    """`current` is 0 when nothing is stored. Raises VersionConflict."""
    if sent != current + 1:
        raise VersionConflict(
            f"version {sent} does not follow the current version {current}: send version {current + 1}",
            version=str(sent),
            current_version=str(current),
            expected_version=str(current + 1),
        )


def check_etag(sent: str, current: str, resource: str, id: str) -> None:
    """An empty `sent` guards nothing. Raises EtagMismatch."""
    if sent and sent != current:
        raise EtagMismatch(f"{resource} {id} changed since it was read", resource=resource, id=id)


def time_after(before: Timestamp, now: datetime) -> datetime:
    """The time of a change: now, but after the change before.

    The transaction may have begun before the change that it waited for.
    """
    return max(now, before.ToDatetime(tzinfo=now.tzinfo) + timedelta(microseconds=1))

"""What rows of sessions and CDRs have in common: the columns of a token and a place, the filters of their lists."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from evbridge.v1.cdr_pb2 import Cdr, ListCdrsRequest
from evbridge.v1.session_pb2 import ListSessionsRequest, Session
from google.protobuf.timestamp_pb2 import Timestamp

from service.domain.charged import token_party
from service.domain.keys import ObjectKey
from service.domain.pages import MAX_BYTES, id_at, time_at


def charged_columns(objects: Sequence[Session] | Sequence[Cdr], locations: Sequence[str]) -> tuple[list[Any], ...]:
    """From `start_time` to `payload`, as `unnest` takes them."""
    return (
        [_time(each.start_date_time) for each in objects],
        [_time(each.last_updated) for each in objects],
        ["".join(token_party(each)) for each in objects],
        [each.cdr_token.uid.casefold() for each in objects],
        [each.cdr_token.contract_id.casefold() for each in objects],
        [id.casefold() for id in locations],
        [each.recipient_integration_id for each in objects],
        [each.etag for each in objects],
        [each.SerializeToString() for each in objects],
    )


def charged_filters(request: ListSessionsRequest | ListCdrsRequest, after: str, limit: int) -> tuple[Any, ...]:
    """What both kinds of lists filter by, and how much a page holds. Raises InvalidPageToken."""
    key = ObjectKey.parsed(id_at(after))
    times = (request.start_time_from, request.start_time_to, request.updated_from, request.updated_to)
    names = ("start_time_from", "start_time_to", "updated_from", "updated_to")
    return (
        request.integration_id,
        time_at(after),
        *key[:3],
        request.country_code.upper(),
        request.party_id.upper(),
        request.token_country_code.upper(),
        request.token_party_id.upper(),
        request.token_uid.casefold(),
        request.contract_id.casefold(),
        request.location_id.casefold(),
        *(_time(time) if request.HasField(name) else None for name, time in zip(names, times, strict=True)),  # type: ignore[arg-type]
        limit,
        MAX_BYTES,
    )


def _time(timestamp: Timestamp) -> datetime:
    return timestamp.ToDatetime(tzinfo=UTC)

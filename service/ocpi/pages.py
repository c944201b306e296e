"""Lists of what a partner sees, page by page, as OCPI counts them; and its documents, written for a version.

Source: OCPI 2.2.1, transport and format, Pagination.
"""

import asyncio
import logging
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final
from urllib.parse import urlencode

from evbridge.v1.cdr_pb2 import Cdr
from evbridge.v1.delivery_pb2 import ObjectKind
from evbridge.v1.hub_client_pb2 import HubClient
from evbridge.v1.invoice_reconciliation_pb2 import InvoiceReconciliationRecord
from evbridge.v1.location_pb2 import Location
from evbridge.v1.session_pb2 import Session
from evbridge.v1.tariff_pb2 import Tariff
from evbridge.v1.token_pb2 import Token

from service.bridge.edge import Reply
from service.errors import InvalidArgument, ObjectNotRepresentable, TariffNotRepresentable
from service.ocpi.listener import OcpiRefused, Visit
from service.ocpi.modules import enveloped
from service.partners.ocpi.mapping import object_to, text_of
from service.runs.worker import Tools
from service.storage.disclosure import disclosures_shown
from service.storage.view import Viewed, view_count, view_page

Shown = Location | Tariff | Token | Session | Cdr | InvoiceReconciliationRecord | HubClient

log = logging.getLogger(__name__)

MAX_PAGE: Final = 100
_MAX_CACHED: Final = 32 << 20
"""Characters of documents that are kept."""
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request asks for. `after` is the position that our own links go on from, whatever the offset says."""

    offset: int
    limit: int
    after: int
    date_from: datetime | None
    date_to: datetime | None


class Documents:
    """Documents as a version writes them. They are kept as long as there is room, for most are asked for again."""

    def __init__(self) -> None:
        self._texts: OrderedDict[tuple[bytes, datetime, str], str] = OrderedDict()
        self._size = 0

    async def texts(self, form: type[Any], viewed: Sequence[Viewed], version: str) -> list[str]:
        """JSON of each; "" for one that the version cannot say."""
        missing = [each for each in viewed if (each.hash, each.last_updated, version) not in self._texts]
        made = await asyncio.to_thread(_written, form, missing, version) if missing else []
        fresh = {(each.hash, each.last_updated): text for each, text in zip(missing, made, strict=True)}
        texts = []
        for each in viewed:
            text = fresh.get((each.hash, each.last_updated))
            texts.append(self._texts[each.hash, each.last_updated, version] if text is None else text)
        for (hash, last_updated), text in fresh.items():
            self._keep((hash, last_updated, version), text)
        return texts

    def _keep(self, key: tuple[bytes, datetime, str], text: str) -> None:
        self._size += len(text) - len(self._texts.pop(key, ""))
        self._texts[key] = text
        while self._size > _MAX_CACHED:
            self._size -= len(self._texts.popitem(last=False)[1])


def _written(form: type[Any], viewed: Sequence[Viewed], version: str) -> list[str]:
    texts = []
    for each in viewed:
        try:
            texts.append(text_of(object_to(each.parsed(form), version).object))
        except (InvalidArgument, ObjectNotRepresentable, TariffNotRepresentable) as wrong:
            name = each.key.shown if form is not Token else str(each.key.party)
            log.info("not shown", extra={"object": name, "version": version, "problem": wrong.message})
            texts.append("")
    return texts


async def page(
    tools: Tools,
    documents: Documents,
    kind: ObjectKind.ValueType,
    form: type[Shown],
    visit: Visit,
) -> Reply:
    """One page of the objects of a kind that the partner sees, the oldest first. Raises OcpiRefused."""
    asked = asked_for(dict(visit.call.query))
    view = (tools.database, visit.tenant_id, visit.integration_id, kind)
    read = partial(view_page, *view, date_from=asked.date_from, date_to=asked.date_to)
    found = await read(limit=asked.limit + 1, after=asked.after, offset=0 if asked.after else asked.offset)
    shown = found[: asked.limit]
    # A page ends at a number of bytes too.
    more = len(found) > asked.limit or bool(shown and await read(limit=1, after=shown[-1].position))
    if more or asked.after or asked.offset:
        total = await view_count(*view, date_from=asked.date_from, date_to=asked.date_to)
    else:
        # What came meanwhile is not counted either.
        total = len(shown)
    headers = {"X-Total-Count": str(total), "X-Limit": str(MAX_PAGE)}
    if more:
        headers["Link"] = f'<{_next_url(tools, visit, asked, shown)}>; rel="next"'
    texts = await documents.texts(form, shown, visit.version)
    await disclose(tools, kind, form, [each for each, text in zip(shown, texts, strict=True) if text], visit)
    return Reply(body=enveloped(f"[{','.join(filter(None, texts))}]"), headers=headers)


async def disclose(
    tools: Tools,
    kind: ObjectKind.ValueType,
    form: type[Shown],
    shown: Sequence[Viewed],
    visit: Visit,
) -> None:
    """Keeps that the partner is shown these, before it is."""
    named = (visit.call.headers.get(name, "") for name in ("X-Request-ID", "X-Correlation-ID"))
    request_id, correlation_id = (text[:255] if text.isascii() and text.isprintable() else "" for text in named)
    at = (tools.database, visit.tenant_id, visit.integration_id)
    await disclosures_shown(*at, kind, form, shown, request_id=request_id, correlation_id=correlation_id)


def asked_for(query: Mapping[str, str]) -> Asked:
    """Raises OcpiRefused for what is no number or no time."""
    limit = _number(query, "limit", MAX_PAGE)
    if limit == 0:
        raise OcpiRefused(2001, "limit must be 1 or more")
    return Asked(
        _number(query, "offset", 0),
        min(limit, MAX_PAGE),
        _number(query, "after", 0),
        _time(query, "date_from"),
        _time(query, "date_to"),
    )


def _number(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):
        raise OcpiRefused(2001, f"{name} must be a whole number, such as 50")
    return int(text)


def _time(query: Mapping[str, str], name: str) -> datetime | None:
    text = query.get(name, "")
    if not text:
        return None
    try:
        if not _TIME.fullmatch(text):
            raise ValueError
        return datetime.fromisoformat(text.removesuffix("Z")).replace(tzinfo=UTC)
    except ValueError:
        raise OcpiRefused(2001, f"{name} must be a time in UTC, such as 2030-06-03T19:30:00Z") from None


def _next_url(tools: Tools, visit: Visit, asked: Asked, shown: Sequence[Viewed]) -> str:
    """It keeps the filters, and where the next page begins twice: for us, and for who counts along."""
    path = visit.call.path.rstrip("/")
    kept = {name: value for name, value in visit.call.query if name in ("date_from", "date_to")}
    where = {"offset": asked.offset + len(shown), "limit": asked.limit, "after": shown[-1].position}
    return f"{tools.door.url}{path}?{urlencode(where | kept)}"

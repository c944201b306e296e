"""Where the next page of a partner's list is, however the partner pages. Pure.

Source: OCPI 2.2.1, transport and format, Pagination.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit

from service.bridge.json_text import Number

MAX_EMPTY: Final = 10
"""Empty pages in a row that are followed; the objects of a page may all be hidden from us."""
_MAX_DIGITS: Final = 17


class Following(NamedTuple):
    """The next page: "" after the last one. `problem`: why some objects may not have been shown, "" if all were."""

    link: str
    problem: str = ""


class Paging:
    """The pages of one list, told one after another. `query` is what the first one was asked for."""

    def __init__(self, query: Mapping[str, str]) -> None:
        self._query = query
        self._shown: list[Any] = []
        self._empty = 0

    def after(self, link: str, data: Sequence[Any], next_link: str, total: int, before: int) -> Following:
        """What follows the page at `link`, "" for the first one.

        `total` is its X-Total-Count, 0 without one, and `before` that of the page before it. When that fell, objects
        that were not read may have moved into pages that were: the list is read on from as much earlier.
        """
        offset, shown = _offset(link), [*map(_name, data)]
        again, self._shown = bool(shown) and shown == self._shown, shown
        self._empty = 0 if data else self._empty + 1
        end = None if offset is None else offset + len(data)
        more, problem = end is not None and total > end, ""
        if offset and 0 < total < before:
            self._shown = []
            return Following(self._at(link, max(0, offset - (before - total))), "the list shrank as it was read")
        if again:
            return Following("", "the same page came again")
        if next_link and not _leads_on(link, next_link, offset):
            next_link, problem = "", "a page led back" if data and not (total and end is not None) else ""
        if not data and next_link and (self._empty == MAX_EMPTY or not (more or offset is None)):
            next_link, problem = "", "" if total and not more else "the pages were empty from some place on"
        if not next_link and more and data and end is not None:
            next_link = self._at(link, end)
        return Following(next_link, problem)

    def _at(self, link: str, offset: int) -> str:
        query = dict(parse_qsl(urlsplit(link).query, keep_blank_values=True)) if link else self._query
        return "?" + urlencode({**query, "offset": str(offset)})


def total_count(header: str) -> int:
    """0 for what says nothing."""
    return int(header) if header.isascii() and header.isdecimal() and len(header) <= _MAX_DIGITS else 0


def _leads_on(link: str, next_link: str, offset: int | None) -> bool:
    """Whether the next page is another one: a smaller offset leads back, and so does the page's own URL."""
    following = _offset(next_link)
    if offset is not None and following is not None and "offset=" in next_link:
        return following > offset
    return next_link != link


def _offset(link: str) -> int | None:
    """How many objects come before the page; None when its URL does not say so."""
    if not link:
        return 0
    try:
        given = dict(parse_qsl(urlsplit(link).query)).get("offset")
    except ValueError:
        return None
    return int(given) if given and given.isascii() and given.isdecimal() and len(given) <= _MAX_DIGITS else None


def _name(value: Any) -> Any:
    """What tells two objects of a list apart."""
    id = value.get("id") if isinstance(value, dict) else None
    return id if isinstance(id, str) and not isinstance(id, Number) else value

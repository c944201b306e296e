"""Judges the list of a module, and its receiver."""

from collections.abc import Callable
from functools import partial
from typing import Any

from service.bridge.addresses import origin
from service.domain.keys import PartyKey
from service.domain.verdict import (
    Outcome,
    Verdict,
    failed,
    fails_with,
    joined,
    passed,
    shown,
    skipped,
    warned,
)
from service.partners.ocpi.checks import answers
from service.partners.ocpi.checks.evidence import (
    CLOCKS_DIFFER,
    LIMIT,
    Evidence,
    Seen,
    is_callable,
    newest,
    query_of,
    text_in,
    time_in,
)
from service.partners.ocpi.checks.modules import MODULES
from service.partners.ocpi.files import Entry, entry_of

_FIRST = "HTTP 401: a first token opens versions and credentials only"
_NOBODY = PartyKey("ZZ", "ZZZ")
"""Whose the objects of 2.1.1 are, which does not say."""


def listed(m: str, e: Evidence) -> Verdict:
    if not e.list_url(m):
        return skipped(f"no {m} to read in {e.version}" if e.offers(m) else _not_offered(e))
    seen = e.seen(f"{m} first")
    if seen.status == 401:
        return skipped(_FIRST)
    if seen.status in (404, 405) and e.version < "2.2":
        return skipped(f"HTTP {seen.status}: may be a receiver, which {e.version} does not say")
    if (page := e.listed(m)) is None:
        return failed(f"{seen.words}{', data is no list' if seen.ok else ''}")
    return passed(f"{seen.words}, {len(page)} objects")


def _of_page(judge: Callable[[str, Evidence, list[dict[str, Any]]], Verdict]) -> Callable[[str, Evidence], Verdict]:
    """Skips a check of a list that cannot be read."""

    def judged(m: str, e: Evidence) -> Verdict:
        if (page := e.listed(m)) is None:
            outcome, why = listed(m, e)
            return skipped(why if outcome is Outcome.SKIPPED else f"no {m} could be read")
        return judge(m, e, page)

    return judged


def _of_objects(judge: Callable[[str, Evidence, list[dict[str, Any]]], Verdict]) -> Callable[[str, Evidence], Verdict]:
    """Skips a check of objects where there are none."""

    @_of_page
    def judged(m: str, e: Evidence, page: list[dict[str, Any]]) -> Verdict:
        return judge(m, e, page) if page else skipped("the list is empty")

    return judged


@_of_page
def stranger(m: str, e: Evidence, _: list[dict[str, Any]]) -> Verdict:
    return answers.refused(f"{m} stranger", e)


@_of_page
def total(m: str, e: Evidence, page: list[dict[str, Any]]) -> Verdict:
    first, small = (e.seen(f"{m} {name}").count("X-Total-Count") for name in ("first", "limit"))
    if first is None:
        return failed("none that is a whole number")
    if first < len(page):
        return failed(f"{first}, with {len(page)} objects")
    if small != first and e.listed(m, "limit") is not None:
        return failed(f"{first}, and {small} with a smaller limit")
    return passed(str(first))


@_of_page
def x_limit(m: str, e: Evidence, page: list[dict[str, Any]]) -> Verdict:
    limit = e.seen(f"{m} first").count("X-Limit")
    if limit is None:
        return failed("none that is a whole number")
    small = e.seen(f"{m} limit").count("X-Limit")
    if limit >= len(page) and small not in (limit, None):
        return warned(f"{limit}, and {small} with a smaller limit")
    return (failed if limit < len(page) else passed)(f"{limit}, with {len(page)} objects")


@_of_page
def limit(m: str, e: Evidence, _: list[dict[str, Any]]) -> Verdict:
    page = e.listed(m, "limit")
    if page is None:
        return failed(e.seen(f"{m} limit").words)
    return (failed if len(page) > LIMIT else passed)(f"{len(page)} objects for limit={LIMIT}")


@_of_page
def link(m: str, e: Evidence, _: list[dict[str, Any]]) -> Verdict:
    seen, page = e.seen(f"{m} limit"), e.listed(m, "limit") or []
    total, url = seen.count("X-Total-Count"), seen.next_link
    if e.seen(f"{m} beyond").next_link:
        return failed("one behind the last page")
    if total is None or not page:
        return skipped("it is not known whether there is a next page")
    if len(page) >= total:
        return failed("one on the last page") if url else passed("none on the last page")
    if not url:
        return failed(f"none after {len(page)} of {total} objects")
    if not is_callable(url.partition("?")[0], e.policy):
        return failed(f"{shown(url)}, which cannot be called")
    if origin(url) != origin(e.list_url(m)):
        return failed(f"{shown(url)}, which is on another origin")
    return passed("a next page")


@_of_page
def link_filters(m: str, e: Evidence, _: list[dict[str, Any]]) -> Verdict:
    url = e.seen(f"{m} filtered").next_link
    if not url:
        return skipped("no list with a filter has a next page")
    kept = dict(query_of(url))
    return (passed if "date_from" in kept else failed)(f"{joined(map(shown, kept)) or 'no parameter'}")


@_of_page
def next_page(m: str, e: Evidence, _: list[dict[str, Any]]) -> Verdict:
    if not e.seen(f"{m} limit").next_link:
        return skipped("no page has a next one")
    if f"{m} next" not in e.answers:
        return skipped("its URL is none to call")
    page, after = e.listed(m, "limit") or [], e.listed(m, "next")
    if not after:
        return failed("it is empty" if after is not None else e.seen(f"{m} next").words)
    again = {_id(m, each) for each in page} & {_id(m, each) for each in after}
    return failed(f"{len(again)} objects on both") if again else passed(f"{len(after)} other objects")


@_of_objects
def stable(m: str, e: Evidence, page: list[dict[str, Any]]) -> Verdict:
    small = e.listed(m, "limit") or []
    same = [_id(m, each) for each in page][: len(small)] == [_id(m, each) for each in small]
    return (passed if same else failed)("the same objects first" if same else "other objects with another limit")


@_of_page
def beyond(m: str, e: Evidence, _: list[dict[str, Any]]) -> Verdict:
    page = e.listed(m, "beyond")
    if page is None:
        return failed(e.seen(f"{m} beyond").words)
    return (failed if page else passed)(f"{len(page)} objects")


def _filtered(m: str, e: Evidence, page: list[dict[str, Any]], *, parameter: str) -> Verdict:
    if not (text := newest(page)):
        return skipped("no last_updated can be read")
    bound, found = time_in(text), e.listed(m, parameter)
    if found is None:
        return failed(e.seen(f"{m} {parameter}").words)
    times = [time for each in found if (time := time_in(each.get("last_updated"))) and bound]
    outside = [time for time in times if bound and (time < bound if parameter == "date_from" else time >= bound)]
    if parameter == "date_from" and not found:
        return failed(f"no object, with one of {shown(text)}")
    if outside:
        return failed(f"{len(outside)} of {len(found)} objects are outside")
    return passed(f"{len(found)} objects")


date_from = _of_objects(partial(_filtered, parameter="date_from"))
date_to = _of_objects(partial(_filtered, parameter="date_to"))


@_of_objects
def objects(m: str, e: Evidence, page: list[dict[str, Any]]) -> Verdict:
    entries = [_entry(m, e.version, place, each) for place, each in enumerate(page)]
    wrong = [entry for entry in entries if entry.message is None]
    odd = [entry for entry in entries if entry.notices]
    named = joined(
        f"{shown(notice.pointer)} {notice.problem}" for entry in wrong or odd for notice in entry.notices[:1]
    )
    if wrong:
        return failed(f"{len(wrong)} of {len(page)} cannot be read: {named}")
    return warned(f"{len(odd)} of {len(page)} are read in part: {named}") if odd else passed(f"{len(page)} are sound")


def _entry(m: str, version: str, place: int, value: dict[str, Any]) -> Entry:
    old, type = version == "2.1.1", MODULES[m].type
    return entry_of(f"/data/{place}", value, version, _NOBODY if old else None, "Etc/UTC" if old else "", type)


@_of_objects
def ids(m: str, e: Evidence, page: list[dict[str, Any]]) -> Verdict:
    ids = [_id(m, each) for each in page]
    missing = [f"/data/{place} has none" for place, each in enumerate(page) if not text_in(each, MODULES[m].ids[0])]
    again = [f"/data/{place} is there twice" for place, id in enumerate(ids) if ids.index(id) < place]
    return fails_with(missing + again, f"{len(ids)} ids")


def _id(m: str, value: dict[str, Any]) -> tuple[str, ...]:
    """Whose it is and its id, whose case does not matter. A token's is personal: no text has one."""
    return tuple(text_in(value, name).casefold() for name in ("country_code", "party_id", *MODULES[m].ids))


@_of_objects
def last_updated(m: str, e: Evidence, page: list[dict[str, Any]]) -> Verdict:
    times = {f"/data/{place}": each.get("last_updated") for place, each in enumerate(page)}
    wrong = [f"{pointer}: {shown(str(each))}" for pointer, each in times.items() if time_in(each) is None]
    wrong += [
        f"{pointer} is in the future: {each}"
        for pointer, each in times.items()
        if (time := time_in(each)) and time > e.now + CLOCKS_DIFFER
    ]
    return fails_with(wrong, "UTC, and not in the future")


@_of_page
def slash(m: str, e: Evidence, _: list[dict[str, Any]]) -> Verdict:
    return answers.like_versions(f"{m} slash", e)


@_of_objects
def single(m: str, e: Evidence, page: list[dict[str, Any]]) -> Verdict:
    seen = e.seen(f"{m} object")
    if not seen.ok:
        return failed(seen.words)
    found = text_in(seen.envelope.get("data"), "id")
    same = found.casefold() == text_in(page[0], "id").casefold()
    return (passed if same else failed)(f"{seen.words}, id {shown(found)}")


@_of_page
def unknown(m: str, e: Evidence, _: list[dict[str, Any]]) -> Verdict:
    return _not_there(e.seen(f"{m} nothing"))


def receiver_token(m: str, e: Evidence) -> Verdict:
    if not e.receiver_url(m):
        return _no_receiver(m, e)
    name = f"{m} receiver stranger"
    if e.seen(name).status in (404, 405) and not MODULES[m].nothing:
        return skipped(f"HTTP {e.seen(name).status}: there is nothing to GET")
    return answers.refused(name, e)


def receiver_unknown(m: str, e: Evidence) -> Verdict:
    if not e.receiver_url(m):
        return _no_receiver(m, e)
    seen = e.seen(f"{m} receiver nothing")
    return skipped(_FIRST) if seen.status == 401 else _not_there(seen)


def _no_receiver(m: str, e: Evidence) -> Verdict:
    if not e.offers(m):
        return skipped(_not_offered(e))
    return skipped("2.1.1 does not say who receives" if e.version == "2.1.1" else f"no receiver of {m}")


def _not_offered(e: Evidence) -> str:
    return f"the module is not offered in {e.version or 'any version'}"


def _not_there(seen: Seen) -> Verdict:
    if seen.status == 200 and seen.code // 1000 == 2:
        return warned(seen.words)
    return (passed if seen.status == 404 else failed)(seen.words)

"""What an OCPI party has to do, as a list of checks on what it answered. Pure.

Source: OCPI 2.1.1, 2.2.1 and 2.3.0: transport and format, status codes, versions, locations, tariffs.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import partial
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl

from service.bridge.addresses import EgressPolicy, UrlRefused, check_url, origin
from service.domain.keys import PartyKey
from service.partners.ocpi.files import Entry, entry_of
from service.partners.ocpi.party import VERSIONS

MODULES: Final = ("locations", "tariffs")
"""Those whose lists are read."""
LIMIT: Final = 2
"""How many objects the page holds at most that is asked for to see paging."""
CLOCKS_DIFFER: Final = timedelta(minutes=5)
UNKNOWN: Final = "evbridge-asks-for-nothing"
"""A segment that no URL of the party has."""

_NOBODY = PartyKey("ZZ", "ZZZ")
"""Whose the objects of 2.1.1 are, which does not say."""
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?Z?", re.ASCII)
_MAX_TIME = 25
_NEXT = re.compile(r'<([^<>]*)>\s*;[^,]*\brel\s*=\s*"?next\b', re.IGNORECASE)
_MAX_SHOWN = 60
_MAX_VERSIONS = 100
_MAX_ENDPOINTS = 100
_MAX_OBJECTS = 1000
_MAX_NAMED = 3


class Outcome(Enum):
    PASS = "PASS"  # noqa: S105
    WARN = "WARN"
    """Allowed, or against a recommendation: partners may stumble over it."""
    FAIL = "FAIL"
    SKIPPED = "SKIPPED"


class Verdict(NamedTuple):
    """`seen` says in words what the party did."""

    outcome: Outcome
    seen: str


class Finding(NamedTuple):
    """The result of one check; `advice` is empty unless there is something to do."""

    check: str
    outcome: Outcome
    wanted: str
    seen: str
    advice: str


@dataclass(frozen=True, slots=True)
class Seen:
    """What came back of a GET of `url`; status 0 when nothing did, and `problem` says why there is no `body` of JSON.

    `sent` and `headers` are those of the request that answers repeat, and of the answer, in lower case.
    """

    url: str
    status: int = 0
    sent: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    problem: str = ""

    @property
    def envelope(self) -> dict[str, Any]:
        return self.body if isinstance(self.body, dict) else {}

    @property
    def code(self) -> int:
        """OCPI's, 0 without one."""
        code = self.envelope.get("status_code")
        return code if type(code) is int else 0

    @property
    def ok(self) -> bool:
        return self.status == 200 and self.code // 1000 == 1

    @property
    def words(self) -> str:
        if not self.status:
            return self.problem
        return f"HTTP {self.status}, {self.problem or (f'status_code {self.code}' if self.code else 'no status_code')}"

    @property
    def next_link(self) -> str:
        """The URL of the next page, empty without one."""
        found = _NEXT.search(self.headers.get("link", ""))
        return found[1] if found else ""

    def count(self, header: str) -> int | None:
        """A header that holds a whole number."""
        text = self.headers.get(header.lower(), "")
        return int(text) if re.fullmatch("[0-9]{1,9}", text, re.ASCII) else None


class NotAsked(Exception):
    """There is no such answer, and why."""


@dataclass(slots=True)
class Evidence:
    """All that was asked, by name: "versions", "details 2.2.1", "locations limit". `now` is when.

    `ended` says why no more was asked, when that came before the end.
    """

    versions_url: str
    policy: EgressPolicy
    now: datetime
    answers: dict[str, Seen] = field(default_factory=dict)
    version: str = ""
    """The one that is looked at closely: the highest that both speak."""

    ended: str = ""

    def seen(self, name: str) -> Seen:
        """Raises NotAsked."""
        if name not in self.answers:
            raise NotAsked(self.ended or "was not asked")
        return self.answers[name]

    def is_ok(self, name: str) -> bool:
        return name in self.answers and self.answers[name].ok

    @property
    def versions(self) -> Seen:
        """The answer to the form of the token that is taken."""
        plain = self.is_ok("plain token") and not self.is_ok("versions")
        return self.seen("plain token" if plain else "versions")

    @property
    def spoken(self) -> dict[str, str]:
        """Version -> the URL of its details."""
        listed = objects(self.versions)[:_MAX_VERSIONS]
        return {text_in(each, "version"): text_in(each, "url") for each in listed}

    @property
    def details(self) -> dict[str, list[dict[str, Any]]]:
        """Version -> its endpoints, of those whose details could be read."""
        asked = {version: self.answers.get(f"details {version}") for version in VERSIONS}
        found = {version: seen.envelope.get("data") for version, seen in asked.items() if seen}
        return {
            version: [each for each in data["endpoints"][:_MAX_ENDPOINTS] if isinstance(each, dict)]
            for version, data in found.items()
            if isinstance(data, dict) and isinstance(data.get("endpoints"), list)
        }

    def module_url(self, module: str) -> str:
        """Where its objects can be read; empty when they cannot."""
        for each in self.details.get(self.version, ()):
            if text_in(each, "identifier") == module and each.get("role") != "RECEIVER":
                return text_in(each, "url") if is_callable(text_in(each, "url"), self.policy) else ""
        return ""

    def listed(self, module: str, page: str = "first") -> list[dict[str, Any]] | None:
        """The objects of a page; None when there is no such page."""
        name = f"{module} {page}"
        listed = self.is_ok(name) and isinstance(self.seen(name).envelope.get("data"), list)
        return objects(self.seen(name)) if listed else None


def text_in(value: Any, name: str) -> str:
    """A member that is a text; empty for any other."""
    found = value.get(name) if isinstance(value, dict) else None
    return found if type(found) is str else ""


def objects(seen: Seen) -> list[dict[str, Any]]:
    """The first ones in the list of an answer."""
    data = seen.envelope.get("data")
    return [each for each in data[:_MAX_OBJECTS] if isinstance(each, dict)] if isinstance(data, list) else []


def query_of(url: str) -> tuple[tuple[str, str], ...]:
    """The parameters of a URL; none when they are too many."""
    try:
        return (*parse_qsl(url.partition("?")[2], keep_blank_values=True, max_num_fields=100),)
    except ValueError:
        return ()


def is_callable(url: str, policy: EgressPolicy) -> bool:
    try:
        check_url(url, policy)
    except UrlRefused:
        return False
    return True


def time_in(value: Any) -> datetime | None:
    """An instant as OCPI writes it: UTC, with Z or nothing."""
    if type(value) is not str or len(value) > _MAX_TIME or not (found := _TIME.fullmatch(value)):
        return None
    try:
        return datetime.fromisoformat(found[1] + (found[2] or "")[:7]).replace(tzinfo=UTC)
    except ValueError:
        return None


def newest(page: Iterable[dict[str, Any]]) -> str:
    """The latest `last_updated` of a page as the party wrote it; empty without one."""
    times = [(time, each["last_updated"]) for each in page if (time := time_in(each.get("last_updated")))]
    return max(times, default=(None, ""))[1]


def shown(text: str) -> str:
    """A partner's text in a message of ours."""
    cut = text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."
    return repr(cut) if cut.isascii() else ascii(cut)


def _word(text: str) -> str:
    """As `shown`, without quotation marks where they say nothing."""
    return text if re.fullmatch("[A-Za-z0-9._-]{1,60}", text, re.ASCII) else shown(text)


def _named(items: Iterable[str]) -> str:
    found = list(dict.fromkeys(items))
    more = f" and {len(found) - _MAX_NAMED} more" if len(found) > _MAX_NAMED else ""
    return ", ".join(found[:_MAX_NAMED]) + more


_passed = partial(Verdict, Outcome.PASS)
_failed = partial(Verdict, Outcome.FAIL)
_warned = partial(Verdict, Outcome.WARN)
_skipped = partial(Verdict, Outcome.SKIPPED)


def _fails_with(problems: Iterable[str], otherwise: str, outcome: Outcome = Outcome.FAIL) -> Verdict:
    found = list(problems)
    return Verdict(outcome, _named(found)) if found else _passed(otherwise)


# The versions, and what every answer has.


def _https(e: Evidence) -> Verdict:
    urls = [e.versions_url, *e.spoken.values(), *(text_in(each, "url") for _, each in _endpoints(e))]
    plain = [url for url in urls if url.lower().startswith("http:")]
    if plain and all(_host(url) in ("localhost", "127.0.0.1", "::1") for url in plain):
        return _skipped("http on this machine")
    return _fails_with(map(shown, plain), "every URL is https")


def _host(url: str) -> str:
    try:
        return origin(url)[1]
    except ValueError:
        return ""


def _answer(e: Evidence) -> Verdict:
    seen = e.versions
    return (_passed if seen.ok else _failed)(seen.words)


def _envelopes(e: Evidence) -> Verdict:
    return _fails_with(_broken(e, lambda seen: seen.status == 200), "every answer of HTTP 200 has one")


def _error_envelopes(e: Evidence) -> Verdict:
    if not any(seen.status >= 400 for seen in e.answers.values()):
        return _skipped("no answer was an error of HTTP")
    return _fails_with(_broken(e, lambda seen: seen.status >= 400), "every error of HTTP has one", Outcome.WARN)


def _broken(e: Evidence, concerns: Callable[[Seen], bool]) -> Iterator[str]:
    for name, seen in e.answers.items():
        if not concerns(seen):
            continue
        if seen.problem:
            yield f"{name}: {seen.problem}"
        elif not isinstance(seen.body, dict):
            yield f"{name}: no JSON object"
        elif not seen.code:
            yield f"{name}: status_code is no whole number"
        elif seen.status >= 400 and seen.code // 1000 == 1:
            yield f"{name}: HTTP {seen.status} with status_code {seen.code}"
        elif "timestamp" not in seen.body:
            yield f"{name}: no timestamp"


def _content_type(e: Evidence) -> Verdict:
    wrong = {
        name: kind
        for name, seen in e.answers.items()
        if seen.status == 200
        and (kind := seen.headers.get("content-type", "").partition(";")[0].strip().lower()) != "application/json"
    }
    return _fails_with((f"{name}: {shown(kind)}" for name, kind in wrong.items()), "application/json")


def _timestamps(e: Evidence) -> Verdict:
    stamps = {name: seen.envelope.get("timestamp") for name, seen in e.answers.items() if seen.envelope}
    wrong = (f"{name}: {shown(str(each))}" for name, each in stamps.items() if each is not None and not time_in(each))
    return _fails_with(wrong, "UTC, as OCPI writes it")


def _clock(e: Evidence) -> Verdict:
    time = time_in(e.versions.envelope.get("timestamp"))
    if time is None:
        return _skipped("no timestamp that can be read")
    away_s = round((time - e.now).total_seconds())
    return (_warned if abs(away_s) > CLOCKS_DIFFER.total_seconds() else _passed)(f"{away_s:+} s from ours")


def _version_list(e: Evidence) -> Verdict:
    data = e.versions.envelope.get("data")
    if not isinstance(data, list) or not data:
        return _failed("data is no list with versions")
    names = [text_in(each, "version") for each in data[:_MAX_VERSIONS]]
    wrong = [f"/data/{place} has no version" for place, name in enumerate(names) if not name]
    wrong += [f"{shown(name)} twice" for name in names if name and names.count(name) > 1]
    wrong += [
        f"{shown(name)} at {shown(url)}, which cannot be called"
        for name, url in e.spoken.items()
        if not is_callable(url, e.policy)
    ]
    return _fails_with(wrong, _named(map(_word, names)))


def _common(e: Evidence) -> Verdict:
    common = [version for version in VERSIONS if version in e.spoken]
    return _passed(", ".join(common)) if common else _failed(f"only {_named(map(shown, e.spoken)) or 'none'}")


def _details(e: Evidence) -> Verdict:
    asked = {version: e.seen(f"details {version}") for version in VERSIONS if version in e.spoken}
    wrong = []
    for version, seen in asked.items():
        data = seen.envelope.get("data")
        if not seen.ok:
            wrong.append(f"{version}: {seen.words}")
        elif version not in e.details:
            wrong.append(f"{version}: no list of endpoints")
        elif text_in(data, "version") != version:
            wrong.append(f"{version}: calls itself {shown(text_in(data, 'version'))}")
    return _fails_with(wrong, _named(f"{version}: {len(each)} endpoints" for version, each in e.details.items()))


def _of_details(judge: Callable[[Evidence], Verdict]) -> Callable[[Evidence], Verdict]:
    """Skips a check of details that cannot be read."""
    return lambda e: judge(e) if e.details else _skipped("no details could be read")


def _endpoints(e: Evidence) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each with its version and identifier in words."""
    for version, each in ((version, each) for version, endpoints in e.details.items() for each in endpoints):
        yield f"{version} {_word(text_in(each, 'identifier') or 'without identifier')}", each


@_of_details
def _endpoint_urls(e: Evidence) -> Verdict:
    wrong = (
        f"{name} at {shown(text_in(each, 'url'))}"
        for name, each in _endpoints(e)
        if not text_in(each, "identifier") or not is_callable(text_in(each, "url"), e.policy)
    )
    return _fails_with(wrong, f"{len([*_endpoints(e)])} endpoints")


@_of_details
def _roles(e: Evidence) -> Verdict:
    wrong = (
        f"{name}: {shown(str(each.get('role')))}"
        for name, each in _endpoints(e)
        if not name.startswith("2.1.1 ") and each.get("role") not in ("SENDER", "RECEIVER")
    )
    return _fails_with(wrong, "SENDER or RECEIVER since 2.2")


@_of_details
def _duplicates(e: Evidence) -> Verdict:
    # Whatever role it has, there is one module of credentials; 2.1.1 has no roles.
    keys = [
        name + (f" {role}" if (role := text_in(each, "role")) and not name.endswith(" credentials") else "")
        for name, each in _endpoints(e)
    ]
    return _fails_with((key for key in keys if keys.count(key) > 1), "none")


@_of_details
def _credentials_module(e: Evidence) -> Verdict:
    missing = (
        f"none in {version}"
        for version, endpoints in e.details.items()
        if "credentials" not in [text_in(each, "identifier") for each in endpoints]
    )
    return _fails_with(missing, "in every version")


@_of_details
def _origins(e: Evidence) -> Verdict:
    home = _host(e.versions_url)
    urls = [*e.spoken.values(), *(text_in(each, "url") for _, each in _endpoints(e))]
    elsewhere = {host for url in urls if (host := _host(url)) not in ("", home)}
    return _fails_with(map(shown, sorted(elsewhere)), "all on the host of the versions", Outcome.WARN)


def _token_form(e: Evidence) -> Verdict:
    names = {"base64": "versions", "plain": "plain token"}
    taken = [form for form, name in names.items() if e.is_ok(name)]
    old = e.spoken and all(version < "2.2" for version in e.spoken)
    said = f"{' and '.join(taken)}{' are' if taken[1:] else ' is'} taken"
    return (_passed if "base64" in taken or old else _failed)(said)


def _refused(name: str, e: Evidence) -> Verdict:
    seen = e.seen(name)
    return (_passed if seen.status == 401 else _failed)(seen.words)


def _like_versions(name: str, e: Evidence) -> Verdict:
    seen = e.seen(name)
    return (_passed if seen.ok else _warned)(seen.words)


def _repeated(header: str, e: Evidence) -> Verdict:
    asked = {name: seen for name, seen in e.answers.items() if seen.status == 200}
    wrong = (
        f"{name}: {shown(got) if got else 'none'}"
        for name, seen in asked.items()
        if (got := seen.headers.get(header, "")) != seen.sent.get(header)
    )
    return _fails_with(wrong, f"repeated in {len(asked)} answers")


def _not_found(e: Evidence) -> Verdict:
    seen = e.seen("unknown path")
    return (_passed if seen.status == 404 else _warned)(seen.words)


# The lists of a module.


def _page(m: str, e: Evidence) -> Verdict:
    if not e.module_url(m):
        return _skipped(f"no {m} to read in {e.version or 'any version'}")
    seen = e.seen(f"{m} first")
    if seen.status == 401:
        return _skipped("HTTP 401: a first token opens versions and credentials only")
    if seen.status in (404, 405) and e.version < "2.2":
        return _skipped(f"HTTP {seen.status}: may be a receiver, which {e.version} does not say")
    if (page := e.listed(m)) is None:
        return _failed(f"{seen.words}{', data is no list' if seen.ok else ''}")
    return _passed(f"{seen.words}, {len(page)} objects")


def _of_page(judge: Callable[[str, Evidence, list[dict[str, Any]]], Verdict]) -> Callable[[str, Evidence], Verdict]:
    """Skips a check of a list that cannot be read."""

    def judged(m: str, e: Evidence) -> Verdict:
        if (page := e.listed(m)) is None:
            outcome, why = _page(m, e)
            return _skipped(why if outcome is Outcome.SKIPPED else f"no {m} could be read")
        return judge(m, e, page)

    return judged


def _of_objects(judge: Callable[[str, Evidence, list[dict[str, Any]]], Verdict]) -> Callable[[str, Evidence], Verdict]:
    """Skips a check of objects where there are none."""

    @_of_page
    def judged(m: str, e: Evidence, page: list[dict[str, Any]]) -> Verdict:
        return judge(m, e, page) if page else _skipped("the list is empty")

    return judged


@_of_page
def _stranger(m: str, e: Evidence, _: list[dict[str, Any]]) -> Verdict:
    return _refused(f"{m} stranger", e)


@_of_page
def _total(m: str, e: Evidence, page: list[dict[str, Any]]) -> Verdict:
    first, small = (e.seen(f"{m} {name}").count("X-Total-Count") for name in ("first", "limit"))
    if first is None:
        return _failed("none that is a whole number")
    if first < len(page):
        return _failed(f"{first}, with {len(page)} objects")
    if small != first and e.listed(m, "limit") is not None:
        return _failed(f"{first}, and {small} with a smaller limit")
    return _passed(str(first))


@_of_page
def _x_limit(m: str, e: Evidence, page: list[dict[str, Any]]) -> Verdict:
    limit = e.seen(f"{m} first").count("X-Limit")
    if limit is None:
        return _failed("none that is a whole number")
    small = e.seen(f"{m} limit").count("X-Limit")
    if limit >= len(page) and small not in (limit, None):
        return _warned(f"{limit}, and {small} with a smaller limit")
    return (_failed if limit < len(page) else _passed)(f"{limit}, with {len(page)} objects")


@_of_page
def _limit(m: str, e: Evidence, _: list[dict[str, Any]]) -> Verdict:
    page = e.listed(m, "limit")
    if page is None:
        return _failed(e.seen(f"{m} limit").words)
    return (_failed if len(page) > LIMIT else _passed)(f"{len(page)} objects for limit={LIMIT}")


@_of_page
def _link(m: str, e: Evidence, _: list[dict[str, Any]]) -> Verdict:
    seen, page = e.seen(f"{m} limit"), e.listed(m, "limit") or []
    total, url = seen.count("X-Total-Count"), seen.next_link
    if e.seen(f"{m} beyond").next_link:
        return _failed("one behind the last page")
    if total is None or not page:
        return _skipped("it is not known whether there is a next page")
    if len(page) >= total:
        return _failed("one on the last page") if url else _passed("none on the last page")
    if not url:
        return _failed(f"none after {len(page)} of {total} objects")
    if not is_callable(url.partition("?")[0], e.policy):
        return _failed(f"{shown(url)}, which cannot be called")
    if origin(url) != origin(e.module_url(m)):
        return _failed(f"{shown(url)}, which is on another origin")
    return _passed("a next page")


@_of_page
def _link_filters(m: str, e: Evidence, _: list[dict[str, Any]]) -> Verdict:
    url = e.seen(f"{m} filtered").next_link
    if not url:
        return _skipped("no list with a filter has a next page")
    kept = dict(query_of(url))
    return (_passed if "date_from" in kept else _failed)(f"{_named(map(shown, kept)) or 'no parameter'}")


@_of_page
def _next_page(m: str, e: Evidence, _: list[dict[str, Any]]) -> Verdict:
    if not e.seen(f"{m} limit").next_link:
        return _skipped("no page has a next one")
    if f"{m} next" not in e.answers:
        return _skipped("its URL is none to call")
    page, after = e.listed(m, "limit") or [], e.listed(m, "next")
    if not after:
        return _failed("it is empty" if after is not None else e.seen(f"{m} next").words)
    again = {*map(_id, page)} & {*map(_id, after)}
    return _fails_with((f"{shown(each)} on both" for each in sorted(again)), f"{len(after)} other objects")


@_of_objects
def _stable(m: str, e: Evidence, page: list[dict[str, Any]]) -> Verdict:
    small = e.listed(m, "limit") or []
    same = [*map(_id, page)][: len(small)] == [*map(_id, small)]
    return (_passed if same else _failed)("the same objects first" if same else "other objects with another limit")


@_of_page
def _beyond(m: str, e: Evidence, _: list[dict[str, Any]]) -> Verdict:
    page = e.listed(m, "beyond")
    if page is None:
        return _failed(e.seen(f"{m} beyond").words)
    return (_failed if page else _passed)(f"{len(page)} objects")


def _filtered(m: str, e: Evidence, page: list[dict[str, Any]], *, parameter: str) -> Verdict:
    if not (text := newest(page)):
        return _skipped("no last_updated can be read")
    bound, found = time_in(text), e.listed(m, parameter)
    if found is None:
        return _failed(e.seen(f"{m} {parameter}").words)
    times = [time for each in found if (time := time_in(each.get("last_updated"))) and bound]
    outside = [time for time in times if bound and (time < bound if parameter == "date_from" else time >= bound)]
    if parameter == "date_from" and not found:
        return _failed(f"no object, with one of {shown(text)}")
    if outside:
        return _failed(f"{len(outside)} of {len(found)} objects are outside")
    return _passed(f"{len(found)} objects")


@_of_objects
def _objects(m: str, e: Evidence, page: list[dict[str, Any]]) -> Verdict:
    entries = [_entry(m, e.version, place, each) for place, each in enumerate(page)]
    wrong = [entry for entry in entries if entry.message is None]
    odd = [entry for entry in entries if entry.notices]
    named = _named(
        f"{shown(notice.pointer)} {notice.problem}" for entry in wrong or odd for notice in entry.notices[:1]
    )
    if wrong:
        return _failed(f"{len(wrong)} of {len(page)} cannot be read: {named}")
    return _warned(f"{len(odd)} of {len(page)} are read in part: {named}") if odd else _passed(f"{len(page)} are sound")


def _entry(m: str, version: str, place: int, value: dict[str, Any]) -> Entry:
    old = version == "2.1.1"
    shape = value if m == "locations" else {"elements": [], **value}
    return entry_of(f"/data/{place}", shape, version, _NOBODY if old else None, "Etc/UTC" if old else "")


@_of_objects
def _ids(m: str, e: Evidence, page: list[dict[str, Any]]) -> Verdict:
    ids = [*map(_id, page)]
    missing = [f"/data/{place} has none" for place, id in enumerate(ids) if id.endswith(" ")]
    return _fails_with(missing + [f"{shown(id)} twice" for id in ids if ids.count(id) > 1], f"{len(ids)} ids")


def _id(value: dict[str, Any]) -> str:
    """Whose it is and its id, whose case does not matter."""
    return " ".join(text_in(value, name).casefold() for name in ("country_code", "party_id", "id"))


@_of_objects
def _last_updated(m: str, e: Evidence, page: list[dict[str, Any]]) -> Verdict:
    times = {f"/data/{place}": each.get("last_updated") for place, each in enumerate(page)}
    wrong = [f"{pointer}: {shown(str(each))}" for pointer, each in times.items() if time_in(each) is None]
    wrong += [
        f"{pointer} is in the future: {each}"
        for pointer, each in times.items()
        if (time := time_in(each)) and time > e.now + CLOCKS_DIFFER
    ]
    return _fails_with(wrong, "UTC, and not in the future")


@_of_page
def _slash(m: str, e: Evidence, _: list[dict[str, Any]]) -> Verdict:
    return _like_versions(f"{m} slash", e)


@_of_objects
def _object(m: str, e: Evidence, page: list[dict[str, Any]]) -> Verdict:
    seen = e.seen(f"{m} object")
    if not seen.ok:
        return _failed(seen.words)
    found = text_in(seen.envelope.get("data"), "id")
    same = found.casefold() == text_in(page[0], "id").casefold()
    return (_passed if same else _failed)(f"{seen.words}, id {shown(found)}")


@_of_page
def _no_object(m: str, e: Evidence, _: list[dict[str, Any]]) -> Verdict:
    seen = e.seen(f"{m} nothing")
    if seen.status == 200 and seen.code // 1000 == 2:
        return _warned(seen.words)
    return (_passed if seen.status == 404 else _failed)(seen.words)


@dataclass(frozen=True, slots=True)
class Check:
    """`wanted` says what the specification wants, `advice` what the party should do."""

    id: str
    wanted: str
    advice: str
    judge: Callable[[Evidence], Verdict]


def _check(m: str, id: str, wanted: str, advice: str, judge: Callable[[str, Evidence], Verdict]) -> Check:
    return Check(f"{m}.{id}", wanted, advice, partial(judge, m))


def _list_checks(m: str) -> Iterator[Check]:
    check = partial(_check, m)
    yield check("page", "HTTP 200 with a list", f"Serve GET of {m} as a list in an envelope.", _page)
    yield check("token", "HTTP 401 without a token", f"Refuse GET of {m} without a token with HTTP 401.", _stranger)
    yield check(
        "total",
        "X-Total-Count: how many objects there are, whatever the limit",
        "Send X-Total-Count with every page: the number of objects that the filters match.",
        _total,
    )
    yield check(
        "x-limit",
        "X-Limit: the most objects that a page can have",
        "Send X-Limit with every page: your upper limit, not the number of objects.",
        _x_limit,
    )
    yield check("limit", "no more objects than limit asks for", "Honour the parameter limit.", _limit)
    yield check(
        "link",
        'Link with rel="next" on every page but the last one',
        "Send the whole URL of the next page, on your own origin, until the last page.",
        _link,
    )
    yield check("link-filters", "Link keeps the filters", "Repeat date_from and date_to in Link.", _link_filters)
    yield check("next-page", "the next page has other objects", "Count offset from the first object.", _next_page)
    yield check("stable", "the same objects in the same order", "Sort by creation, the oldest first.", _stable)
    yield check(
        "beyond",
        "an empty list behind the last object",
        "Answer an offset behind the last object with HTTP 200 and an empty list.",
        _beyond,
    )
    yield check(
        "date-from",
        "date_from is inclusive",
        "Show objects whose last_updated is date_from or later, and no others.",
        _of_objects(partial(_filtered, parameter="date_from")),
    )
    yield check(
        "date-to",
        "date_to is exclusive",
        "Show objects whose last_updated is before date_to, and no others.",
        _of_objects(partial(_filtered, parameter="date_to")),
    )
    yield check("objects", "sound objects of the version", "Repair the members that are named.", _objects)
    yield check("ids", "each object once, with an id", "See that ids are unique, whatever their case.", _ids)
    yield check(
        "last-updated",
        "last_updated in UTC, not in the future",
        "Write 2030-01-31T12:00:00Z, and see that your clock is right.",
        _last_updated,
    )
    yield check("slash", "the URL with a slash at its end means the same", "Serve both forms.", _slash)
    if m == "locations":
        yield check("object", "one location by its id", "Serve GET of {url}/{location_id}.", _object)
        yield check(
            "no-object", "HTTP 404 for an unknown id", "Answer an id that you do not know with HTTP 404.", _no_object
        )


CHECKS: Final[tuple[Check, ...]] = (
    Check("versions.answer", "HTTP 200 with status_code 1000", "See that the URL and the token are right.", _answer),
    Check("versions.https", "https", "Serve OCPI over TLS alone, and give out https URLs.", _https),
    Check(
        "versions.list",
        "a list of versions with URLs",
        "Name each version once, with the URL of its details.",
        _version_list,
    ),
    Check("versions.common", "2.1.1, 2.2.1 or 2.3.0", "Speak a version that partners speak too.", _common),
    Check(
        "versions.slash",
        "the URL with a slash at its end means the same",
        "Serve both forms.",
        partial(_like_versions, "versions slash"),
    ),
    Check(
        "details.answer", "each version's endpoints", "Serve the details at the URL that the versions name.", _details
    ),
    Check(
        "details.endpoints", "identifiers with URLs that can be called", "Give out whole, public URLs.", _endpoint_urls
    ),
    Check("details.roles", "SENDER or RECEIVER since 2.2", "Name the role of each endpoint.", _roles),
    Check("details.duplicates", "each module once in each role", "Leave out the repeated endpoints.", _duplicates),
    Check("details.credentials", "the module credentials", "Offer it in every version.", _credentials_module),
    Check(
        "details.hosts",
        "one host, as partners guard where tokens go",
        "Serve all modules from the host of the versions, or tell partners which hosts are yours.",
        _origins,
    ),
    Check("token.form", "base64 since 2.2", "Decode the token of the header from base64.", _token_form),
    Check("token.missing", "HTTP 401", "Refuse requests without a token with HTTP 401.", partial(_refused, "no token")),
    Check(
        "token.wrong", "HTTP 401", "Refuse tokens that you do not know with HTTP 401.", partial(_refused, "wrong token")
    ),
    Check(
        "token.scheme",
        "the word Token in any case, as HTTP has it",
        "Compare the scheme without regard to case.",
        partial(_like_versions, "token in lower case"),
    ),
    Check(
        "answers.envelope",
        "an envelope with status_code and timestamp",
        "Wrap every answer in an envelope.",
        _envelopes,
    ),
    Check("answers.content-type", "application/json", "Send Content-Type: application/json.", _content_type),
    Check("answers.timestamp", "UTC, with Z or nothing, 25 characters", "Write 2030-01-31T12:00:00Z.", _timestamps),
    Check("answers.clock", "our clocks agree", "See that your clock is set by NTP.", _clock),
    Check(
        "answers.request-id",
        "X-Request-ID repeated",
        "Repeat the header of the request in the answer.",
        partial(_repeated, "x-request-id"),
    ),
    Check(
        "answers.correlation-id",
        "X-Correlation-ID repeated",
        "Repeat the header of the request in the answer.",
        partial(_repeated, "x-correlation-id"),
    ),
    Check("errors.not-found", "HTTP 404 for what does not exist", "Answer unknown paths with HTTP 404.", _not_found),
    Check(
        "errors.envelope",
        "errors of HTTP in an envelope too",
        "Wrap them as well, with a status_code of 2000 or more.",
        _error_envelopes,
    ),
    *(check for module in MODULES for check in _list_checks(module)),
)
"""In the order in which a report shows them."""


def findings(evidence: Evidence) -> list[Finding]:
    """What every check finds. Without an answer that lists versions, only the first one is made."""
    found: list[Finding] = []
    for check in CHECKS:
        if found and found[0].outcome is not Outcome.PASS:
            outcome, seen = _skipped("the versions could not be read")
        else:
            try:
                outcome, seen = check.judge(evidence)
            except NotAsked as why:
                outcome, seen = _skipped(str(why))
        advice = check.advice if outcome in (Outcome.WARN, Outcome.FAIL) else ""
        found.append(Finding(check.id, outcome, check.wanted, seen, advice))
    return found

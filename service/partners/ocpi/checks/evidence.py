"""What an OCPI party answered."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import parse_qsl

from service.bridge.addresses import EgressPolicy, UrlRefused, check_url
from service.partners.ocpi.checks.modules import MODULES
from service.partners.ocpi.party import VERSIONS

LIMIT: Final = 2
"""How many objects the page holds at most that is asked for to see paging."""
CLOCKS_DIFFER: Final = timedelta(minutes=5)

_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?Z?", re.ASCII)
_MAX_TIME = 25
_NEXT = re.compile(r'<([^<>]*)>\s*;[^,]*\brel\s*=\s*"?next\b', re.IGNORECASE)
MAX_VERSIONS = 100
_MAX_ENDPOINTS = 100
_MAX_OBJECTS = 1000


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
        listed = objects(self.versions)[:MAX_VERSIONS]
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

    def offers(self, module: str) -> bool:
        """In the version that is looked at."""
        return module in (text_in(each, "identifier") for each in self.details.get(self.version, ()))

    def list_url(self, module: str) -> str:
        """Where the list of its objects is; empty when there is none to read."""
        return self._module_url(module, receiver=False) if MODULES[module].type else ""

    def receiver_url(self, module: str) -> str:
        """Where its receiver is; empty without one, and in 2.1.1, which does not say."""
        return self._module_url(module, receiver=True)

    def _module_url(self, module: str, *, receiver: bool) -> str:
        for each in self.details.get(self.version, ()):
            if text_in(each, "identifier") == module and (each.get("role") == "RECEIVER") is receiver:
                known = self.version >= MODULES[module].since and is_callable(text_in(each, "url"), self.policy)
                return text_in(each, "url") if known else ""
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

"""Judges the versions, and what every answer has."""

from collections.abc import Callable, Iterator
from typing import Any

from service.bridge.addresses import origin
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
    word,
)
from service.partners.ocpi.checks.evidence import (
    CLOCKS_DIFFER,
    MAX_VERSIONS,
    Evidence,
    Seen,
    is_callable,
    text_in,
    time_in,
)
from service.partners.ocpi.party import VERSIONS


def https(e: Evidence) -> Verdict:
    urls = [e.versions_url, *e.spoken.values(), *(text_in(each, "url") for _, each in _endpoints(e))]
    plain = [url for url in urls if url.lower().startswith("http:")]
    if plain and all(_host(url) in ("localhost", "127.0.0.1", "::1") for url in plain):
        return skipped("http on this machine")
    return fails_with(map(shown, plain), "every URL is https")


def _host(url: str) -> str:
    try:
        return origin(url)[1]
    except ValueError:
        return ""


def answer(e: Evidence) -> Verdict:
    seen = e.versions
    return (passed if seen.ok else failed)(seen.words)


def envelopes(e: Evidence) -> Verdict:
    return fails_with(_broken(e, lambda seen: seen.status == 200), "every answer of HTTP 200 has one")


def error_envelopes(e: Evidence) -> Verdict:
    if not any(seen.status >= 400 for seen in e.answers.values()):
        return skipped("no answer was an error of HTTP")
    return fails_with(_broken(e, lambda seen: seen.status >= 400), "every error of HTTP has one", Outcome.WARN)


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


def content_type(e: Evidence) -> Verdict:
    wrong = {
        name: kind
        for name, seen in e.answers.items()
        if seen.status == 200
        and (kind := seen.headers.get("content-type", "").partition(";")[0].strip().lower()) != "application/json"
    }
    return fails_with((f"{name}: {shown(kind)}" for name, kind in wrong.items()), "application/json")


def timestamps(e: Evidence) -> Verdict:
    stamps = {name: seen.envelope.get("timestamp") for name, seen in e.answers.items() if seen.envelope}
    wrong = (f"{name}: {shown(str(each))}" for name, each in stamps.items() if each is not None and not time_in(each))
    return fails_with(wrong, "UTC, as OCPI writes it")


def clock(e: Evidence) -> Verdict:
    time = time_in(e.versions.envelope.get("timestamp"))
    if time is None:
        return skipped("no timestamp that can be read")
    away_s = round((time - e.now).total_seconds())
    return (warned if abs(away_s) > CLOCKS_DIFFER.total_seconds() else passed)(f"{away_s:+} s from ours")


def version_list(e: Evidence) -> Verdict:
    data = e.versions.envelope.get("data")
    if not isinstance(data, list) or not data:
        return failed("data is no list with versions")
    names = [text_in(each, "version") for each in data[:MAX_VERSIONS]]
    wrong = [f"/data/{place} has no version" for place, name in enumerate(names) if not name]
    wrong += [f"{shown(name)} twice" for name in names if name and names.count(name) > 1]
    wrong += [
        f"{shown(name)} at {shown(url)}, which cannot be called"
        for name, url in e.spoken.items()
        if not is_callable(url, e.policy)
    ]
    return fails_with(wrong, joined(map(word, names)))


def common(e: Evidence) -> Verdict:
    common = [version for version in VERSIONS if version in e.spoken]
    return passed(", ".join(common)) if common else failed(f"only {joined(map(shown, e.spoken)) or 'none'}")


def details(e: Evidence) -> Verdict:
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
    return fails_with(wrong, joined(f"{version}: {len(each)} endpoints" for version, each in e.details.items()))


def _of_details(judge: Callable[[Evidence], Verdict]) -> Callable[[Evidence], Verdict]:
    """Skips a check of details that cannot be read."""
    return lambda e: judge(e) if e.details else skipped("no details could be read")


def _endpoints(e: Evidence) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each with its version and identifier in words."""
    for version, each in ((version, each) for version, endpoints in e.details.items() for each in endpoints):
        yield f"{version} {word(text_in(each, 'identifier') or 'without identifier')}", each


@_of_details
def endpoint_urls(e: Evidence) -> Verdict:
    wrong = (
        f"{name} at {shown(text_in(each, 'url'))}"
        for name, each in _endpoints(e)
        if not text_in(each, "identifier") or not is_callable(text_in(each, "url"), e.policy)
    )
    return fails_with(wrong, f"{len([*_endpoints(e)])} endpoints")


@_of_details
def roles(e: Evidence) -> Verdict:
    wrong = (
        f"{name}: {shown(str(each.get('role')))}"
        for name, each in _endpoints(e)
        if not name.startswith("2.1.1 ") and each.get("role") not in ("SENDER", "RECEIVER")
    )
    return fails_with(wrong, "SENDER or RECEIVER since 2.2")


@_of_details
def duplicates(e: Evidence) -> Verdict:
    # Whatever role it has, there is one module of credentials; 2.1.1 has no roles.
    keys = [
        name + (f" {role}" if (role := text_in(each, "role")) and not name.endswith(" credentials") else "")
        for name, each in _endpoints(e)
    ]
    return fails_with((key for key in keys if keys.count(key) > 1), "none")


@_of_details
def credentials_module(e: Evidence) -> Verdict:
    missing = (
        f"none in {version}"
        for version, endpoints in e.details.items()
        if "credentials" not in [text_in(each, "identifier") for each in endpoints]
    )
    return fails_with(missing, "in every version")


@_of_details
def origins(e: Evidence) -> Verdict:
    home = _host(e.versions_url)
    urls = [*e.spoken.values(), *(text_in(each, "url") for _, each in _endpoints(e))]
    elsewhere = {host for url in urls if (host := _host(url)) not in ("", home)}
    return fails_with(map(shown, sorted(elsewhere)), "all on the host of the versions", Outcome.WARN)


def token_form(e: Evidence) -> Verdict:
    names = {"base64": "versions", "plain": "plain token"}
    taken = [form for form, name in names.items() if e.is_ok(name)]
    old = e.spoken and all(version < "2.2" for version in e.spoken)
    said = f"{' and '.join(taken)}{' are' if taken[1:] else ' is'} taken"
    return (passed if "base64" in taken or old else failed)(said)


def refused(name: str, e: Evidence) -> Verdict:
    seen = e.seen(name)
    return (passed if seen.status == 401 else failed)(seen.words)


def like_versions(name: str, e: Evidence) -> Verdict:
    seen = e.seen(name)
    return (passed if seen.ok else warned)(seen.words)


def repeated(header: str, e: Evidence) -> Verdict:
    asked = {name: seen for name, seen in e.answers.items() if seen.status == 200}
    wrong = (
        f"{name}: {shown(got) if got else 'none'}"
        for name, seen in asked.items()
        if (got := seen.headers.get(header, "")) != seen.sent.get(header)
    )
    return fails_with(wrong, f"repeated in {len(asked)} answers")


def not_found(e: Evidence) -> Verdict:
    seen = e.seen("unknown path")
    return (passed if seen.status == 404 else warned)(seen.words)

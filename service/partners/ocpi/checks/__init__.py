"""What an OCPI party has to do, as a list of checks on what it answered. Pure.

Source: OCPI 2.1.1, 2.2.1 and 2.3.0: transport and format, status codes, versions, and the modules.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

from service.domain.verdict import Finding, Outcome, Verdict, skipped
from service.partners.ocpi.checks import answers, lists
from service.partners.ocpi.checks.evidence import Evidence, NotAsked
from service.partners.ocpi.checks.modules import MODULES


@dataclass(frozen=True, slots=True)
class Check:
    """`wanted` says what the specification wants, `advice` what the party should do."""

    id: str
    wanted: str
    advice: str
    judge: Callable[[Evidence], Verdict]


def _check(m: str, id: str, wanted: str, advice: str, judge: Callable[[str, Evidence], Verdict]) -> Check:
    return Check(f"{m}.{id}", wanted, advice, partial(judge, m))


def _module_checks(m: str) -> Iterator[Check]:
    module = MODULES[m]
    if module.type:
        yield from _list_checks(m)
    if module.shows_one:
        yield from _single_checks(m)
    yield _check(
        m,
        "receiver-token",
        "HTTP 401 without a token, of the receiver too",
        f"Refuse what comes to the receiver of {m} without a token with HTTP 401.",
        lists.receiver_token,
    )
    if module.nothing:
        yield _check(
            m,
            "receiver-no-object",
            "HTTP 404 for what the receiver does not have",
            "Answer GET of an object that you were not sent with HTTP 404.",
            lists.receiver_unknown,
        )


def _list_checks(m: str) -> Iterator[Check]:
    check = partial(_check, m)
    yield check("page", "HTTP 200 with a list", f"Serve GET of {m} as a list in an envelope.", lists.listed)
    yield check(
        "token", "HTTP 401 without a token", f"Refuse GET of {m} without a token with HTTP 401.", lists.stranger
    )
    yield check(
        "total",
        "X-Total-Count: how many objects there are, whatever the limit",
        "Send X-Total-Count with every page: the number of objects that the filters match.",
        lists.total,
    )
    yield check(
        "x-limit",
        "X-Limit: the most objects that a page can have",
        "Send X-Limit with every page: your upper limit, not the number of objects.",
        lists.x_limit,
    )
    yield check("limit", "no more objects than limit asks for", "Honour the parameter limit.", lists.limit)
    yield check(
        "link",
        'Link with rel="next" on every page but the last one',
        "Send the whole URL of the next page, on your own origin, until the last page.",
        lists.link,
    )
    yield check("link-filters", "Link keeps the filters", "Repeat date_from and date_to in Link.", lists.link_filters)
    yield check("next-page", "the next page has other objects", "Count offset from the first object.", lists.next_page)
    yield check("stable", "the same objects in the same order", "Sort by creation, the oldest first.", lists.stable)
    yield check(
        "beyond",
        "an empty list behind the last object",
        "Answer an offset behind the last object with HTTP 200 and an empty list.",
        lists.beyond,
    )
    yield check(
        "date-from",
        "date_from is inclusive",
        "Show objects whose last_updated is date_from or later, and no others.",
        lists.date_from,
    )
    yield check(
        "date-to",
        "date_to is exclusive",
        "Show objects whose last_updated is before date_to, and no others.",
        lists.date_to,
    )
    yield check("objects", "sound objects of the version", "Repair the members that are named.", lists.objects)
    yield check("ids", "each object once, with an id", "See that ids are unique, whatever their case.", lists.ids)
    yield check(
        "last-updated",
        "last_updated in UTC, not in the future",
        "Write 2030-01-31T12:00:00Z, and see that your clock is right.",
        lists.last_updated,
    )
    yield check("slash", "the URL with a slash at its end means the same", "Serve both forms.", lists.slash)


def _single_checks(m: str) -> Iterator[Check]:
    check = partial(_check, m)
    yield check("object", "one object by its id", "Serve GET of {url}/{id}.", lists.single)
    yield check(
        "no-object", "HTTP 404 for an unknown id", "Answer an id that you do not know with HTTP 404.", lists.unknown
    )


CHECKS: Final[tuple[Check, ...]] = (
    Check(
        "versions.answer", "HTTP 200 with status_code 1000", "See that the URL and the token are right.", answers.answer
    ),
    Check("versions.https", "https", "Serve OCPI over TLS alone, and give out https URLs.", answers.https),
    Check(
        "versions.list",
        "a list of versions with URLs",
        "Name each version once, with the URL of its details.",
        answers.version_list,
    ),
    Check("versions.common", "2.1.1, 2.2.1 or 2.3.0", "Speak a version that partners speak too.", answers.common),
    Check(
        "versions.slash",
        "the URL with a slash at its end means the same",
        "Serve both forms.",
        partial(answers.like_versions, "versions slash"),
    ),
    Check(
        "details.answer",
        "each version's endpoints",
        "Serve the details at the URL that the versions name.",
        answers.details,
    ),
    Check(
        "details.endpoints",
        "identifiers with URLs that can be called",
        "Give out whole, public URLs.",
        answers.endpoint_urls,
    ),
    Check("details.roles", "SENDER or RECEIVER since 2.2", "Name the role of each endpoint.", answers.roles),
    Check(
        "details.duplicates", "each module once in each role", "Leave out the repeated endpoints.", answers.duplicates
    ),
    Check("details.credentials", "the module credentials", "Offer it in every version.", answers.credentials_module),
    Check(
        "details.hosts",
        "one host, as partners guard where tokens go",
        "Serve all modules from the host of the versions, or tell partners which hosts are yours.",
        answers.origins,
    ),
    Check("token.form", "base64 since 2.2", "Decode the token of the header from base64.", answers.token_form),
    Check(
        "token.missing",
        "HTTP 401",
        "Refuse requests without a token with HTTP 401.",
        partial(answers.refused, "no token"),
    ),
    Check(
        "token.wrong",
        "HTTP 401",
        "Refuse tokens that you do not know with HTTP 401.",
        partial(answers.refused, "wrong token"),
    ),
    Check(
        "token.scheme",
        "the word Token in any case, as HTTP has it",
        "Compare the scheme without regard to case.",
        partial(answers.like_versions, "token in lower case"),
    ),
    Check(
        "answers.envelope",
        "an envelope with status_code and timestamp",
        "Wrap every answer in an envelope.",
        answers.envelopes,
    ),
    Check("answers.content-type", "application/json", "Send Content-Type: application/json.", answers.content_type),
    Check(
        "answers.timestamp", "UTC, with Z or nothing, 25 characters", "Write 2030-01-31T12:00:00Z.", answers.timestamps
    ),
    Check("answers.clock", "our clocks agree", "See that your clock is set by NTP.", answers.clock),
    Check(
        "answers.request-id",
        "X-Request-ID repeated",
        "Repeat the header of the request in the answer.",
        partial(answers.repeated, "x-request-id"),
    ),
    Check(
        "answers.correlation-id",
        "X-Correlation-ID repeated",
        "Repeat the header of the request in the answer.",
        partial(answers.repeated, "x-correlation-id"),
    ),
    Check(
        "errors.not-found", "HTTP 404 for what does not exist", "Answer unknown paths with HTTP 404.", answers.not_found
    ),
    Check(
        "errors.envelope",
        "errors of HTTP in an envelope too",
        "Wrap them as well, with a status_code of 2000 or more.",
        answers.error_envelopes,
    ),
    *(check for module in MODULES for check in _module_checks(module)),
)
"""In the order in which a report shows them."""


def findings(evidence: Evidence) -> list[Finding]:
    """What every check finds. Without an answer that lists versions, only the first one is made."""
    found: list[Finding] = []
    for check in CHECKS:
        if found and found[0].outcome is not Outcome.PASS:
            outcome, seen = skipped("the versions could not be read")
        else:
            try:
                outcome, seen = check.judge(evidence)
            except NotAsked as why:
                outcome, seen = skipped(str(why))
        advice = check.advice if outcome in (Outcome.WARN, Outcome.FAIL) else ""
        found.append(Finding(check.id, outcome, check.wanted, seen, advice))
    return found

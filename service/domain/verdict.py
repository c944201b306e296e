"""What a check finds, in words."""

import re
from collections.abc import Iterable
from enum import Enum
from functools import partial
from typing import NamedTuple

_MAX_SHOWN = 60
_MAX_NAMED = 3


class Outcome(Enum):
    PASS = "PASS"  # noqa: S105
    WARN = "WARN"
    """Allowed, or against a recommendation: partners may stumble over it."""
    FAIL = "FAIL"
    SKIPPED = "SKIPPED"


class Verdict(NamedTuple):
    """`seen` says in words what there was."""

    outcome: Outcome
    seen: str


class Finding(NamedTuple):
    """The result of one check; `advice` is empty unless there is something to do."""

    check: str
    outcome: Outcome
    wanted: str
    seen: str
    advice: str


def shown(text: str) -> str:
    """A partner's text in a message of ours."""
    cut = text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."
    return repr(cut) if cut.isascii() else ascii(cut)


def word(text: str) -> str:
    """As `shown`, without quotation marks where they say nothing."""
    return text if re.fullmatch("[A-Za-z0-9._-]{1,60}", text, re.ASCII) else shown(text)


def joined(items: Iterable[str]) -> str:
    found = list(dict.fromkeys(items))
    more = f" and {len(found) - _MAX_NAMED} more" if len(found) > _MAX_NAMED else ""
    return ", ".join(found[:_MAX_NAMED]) + more


passed = partial(Verdict, Outcome.PASS)
failed = partial(Verdict, Outcome.FAIL)
warned = partial(Verdict, Outcome.WARN)
skipped = partial(Verdict, Outcome.SKIPPED)


def fails_with(problems: Iterable[str], otherwise: str, outcome: Outcome = Outcome.FAIL) -> Verdict:
    found = list(problems)
    return Verdict(outcome, joined(found)) if found else passed(otherwise)

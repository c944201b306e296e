"""Priced sessions as folders: tariff.json and session.json as `evbridge quote` takes them, expected.json, why.md.

expected.json is a part of the answer of `evbridge quote --json`: what it names must be so, lists have just its items.
"""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from service.domain.pricing.quote import quoted
from service.ocpi.objects import pricing_of, quote_text

CASES = sorted(path.parent for path in Path(__file__).parent.glob("cases/*/tariff.json"))


def read(text: str | bytes) -> Any:
    return json.loads(text, parse_float=Decimal, parse_int=Decimal)


def differences(expected: Any, found: Any, path: str = "") -> list[str]:
    """Where `found` is not what `expected` says."""
    if isinstance(expected, dict):
        names = expected if isinstance(found, dict) else {}
        missing = [] if isinstance(found, dict) else [f"{path}: {found} is no object"]
        return missing + [
            line for name in names for line in differences(expected[name], found.get(name), f"{path}.{name}")
        ]
    if isinstance(expected, list):
        items = found or []
        if len(items) != len(expected):
            return [f"{path}: {len(items)} items, not {len(expected)}: {items}"]
        return [
            line
            for place, (item, other) in enumerate(zip(expected, items, strict=True))
            for line in differences(item, other, f"{path}[{place}]")
        ]
    return [] if expected == found else [f"{path}: {found}, not {expected}"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_session_costs_what_its_folder_says(case: Path) -> None:
    request, _, notices = pricing_of((case / "tariff.json").read_bytes(), (case / "session.json").read_bytes())
    quote = quoted(request.tariff, request, request.options)
    quote.notices.extend(notices)
    expected = read((case / "expected.json").read_text())
    assert expected["total_cost"]
    assert not differences(expected, read(quote_text(quote)))


def test_there_are_enough_cases_and_each_says_why() -> None:
    assert len(CASES) >= 60
    assert all(len((case / "why.md").read_text().split()) >= 10 for case in CASES)

"""Writes the tables of docs/ that repeat the code: `python -m tools.docs`, or with `--check` only tells what is stale.

A table stands between `<!-- table: NAME, written by make gen -->` and the next empty line.
"""

import argparse
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import fields

from service.partners.ocpi.checks import CHECKS
from service.partners.ocpi.checks.modules import MODULES
from service.settings import Settings
from tools import sbom
from tools.third_party import ROOT

_REASONS = ROOT / "protos" / "evbridge" / "v1" / "error_reason.proto"
_VALUE = re.compile(r"((?:  //.*\n)+)  ([A-Z_]+) = [1-9]")


def refreshed(page: str) -> str:
    """The page with its tables as the code has them."""
    for name, rows in _TABLES.items():
        mark = f"<!-- table: {name}, written by make gen -->\n"
        before, found, after = page.partition(mark)
        if found:
            page = before + mark + "\n".join(rows()) + "\n\n" + after.partition("\n\n")[2]
    return page


def _settings() -> Iterator[str]:
    yield from ("| variable | default | meaning |", "|---|---|---|")
    for field in fields(Settings):
        shown = str(field.default).lower() if isinstance(field.default, bool) else str(field.default)
        default = f"`{shown}`" if shown else ""
        yield f"| `{field.metadata['name']}` | {default} | {field.metadata['help']} |"


def _reasons() -> Iterator[str]:
    """The first paragraph of each comment: its code, if calls end with it, then what to know."""
    yield from ("| reason | code | what it means, and what to do |", "|---|---|---|")
    for comment, name in _VALUE.findall(_REASONS.read_text(encoding="utf-8")):
        paragraph = comment.replace("  //", "").split("\n\n")[0]
        code, means = re.findall(r"^(?:([A-Z_]{6,})\. )?(.*)", " ".join(paragraph.split()))[0]
        yield f"| `{name}` | {code} | {means} |"


def _checks() -> Iterator[str]:
    yield from ("| check | wanted | what to do otherwise |", "|---|---|---|")
    told = set()
    for check in CHECKS:
        of, _, name = check.id.partition(".")
        id, advice = check.id, check.advice
        if of in MODULES:
            id, advice = f"MODULE.{name}", advice.replace(of, "the module")
        if id not in told:
            told.add(id)
            yield f"| `{id}` | {check.wanted} | {advice} |"


def _licenses() -> Iterator[str]:
    yield from ("| license | packages |", "|---|---|")
    names = defaultdict(list)
    for package in sbom.packages(sbom.LOCK.read_text(encoding="utf-8")):
        names[package.license].append(package.name)
    for license, of in sorted(names.items()):
        yield f"| {license} | {', '.join(of)} |"


_TABLES = {"settings": _settings, "reasons": _reasons, "checks": _checks, "licenses": _licenses}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.docs", description="Writes the tables of docs/.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a table is stale")
    check = parser.parse_args().check
    stale = False
    for path in sorted((ROOT / "docs").rglob("*.md")):
        page = path.read_text(encoding="utf-8")
        if (wanted := refreshed(page)) != page:
            stale = True
            print(f"{'stale' if check else 'refreshed'}: {path.relative_to(ROOT)}")
            if not check:
                path.write_text(wanted, encoding="utf-8")
    if check and stale:
        print("the tables of docs/ do not match the code: run `make gen` and commit the result", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

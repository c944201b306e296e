"""`evbridge reconcile`."""

import argparse
import csv
import re
import sys
from collections.abc import Iterable
from contextlib import ExitStack, aclosing
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

from evbridge.v1.delivery_pb2 import DeliveryState
from evbridge.v1.reconciliation_pb2 import (
    ReconcileCdrsRequest,
    ReconciliationFinding,
    ReconciliationReason,
    ReconciliationSide,
    ReconciliationTotal,
)
from google.protobuf.json_format import MessageToJson

from service.cli.common import known_tenant
from service.domain.keys import key_of
from service.domain.time_zones import time_zone, time_zones
from service.resources.reconciliation import reconciliation
from service.settings import Settings
from service.storage.opening import migrated_url, opened

_TOTALS = (
    *("side", "currency", "operator", "provider", "tariffs", "cdrs", "credits"),
    *("total_excl_vat", "total_incl_vat", "without_vat", "total_kwh", "invoiced"),
)
_FINDINGS = (
    *("reason", "side", "start", "operator", "cdr", "session", "credited_cdr", "currency"),
    *("total_excl_vat", "total_incl_vat", "computed_excl_vat", "computed_incl_vat"),
    *("differences", "delivery", "description"),
)
_MONTH = re.compile(r"([0-9]{4})-(0[1-9]|1[0-2])")
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("integration", help="the id of the integration with the partner")
    parser.add_argument("month", type=_month, help="in which sessions and CDRs began, for example 2026-11")
    parser.add_argument("--tenant", default="default", help="whose (default: %(default)s)")
    parser.add_argument("--time-zone", default="UTC", help="in which the month begins (default: %(default)s)")
    parser.add_argument(
        "--to",
        type=Path,
        default=Path(),
        metavar="DIRECTORY",
        help="where totals.csv, findings.csv and reconciliation.jsonl are written (default: here)",
    )


def _month(text: str) -> tuple[int, int]:
    if not (parts := _MONTH.fullmatch(text)) or not 1970 <= int(parts[1]) < 9999:
        raise argparse.ArgumentTypeError(f"{text!r} is not a month such as 2026-11")
    return int(parts[1]), int(parts[2])


async def run(settings: Settings, arguments: argparse.Namespace) -> None:
    if arguments.time_zone not in time_zones():
        sys.exit(f"evbridge: {arguments.time_zone!r} is not a time zone such as Europe/Berlin")
    request = ReconcileCdrsRequest(integration_id=arguments.integration)
    (year, month), zone = arguments.month, time_zone(arguments.time_zone)
    request.start_time.FromDatetime(datetime(year, month, 1, tzinfo=zone))
    request.end_time.FromDatetime(datetime(year + month // 12, month % 12 + 1, 1, tzinfo=zone))
    async with migrated_url(settings) as url, opened(settings, url) as database:
        await known_tenant(database, arguments.tenant)
        with _Files(arguments.to) as files:
            async with aclosing(reconciliation(database, arguments.tenant, request)) as responses:
                async for response in responses:
                    files.add(response.findings, response.totals)
    print(f"{response.cdr_count} CDRs, {response.session_count} sessions, {files.findings} findings")


class _Files:
    """The files, which have their names once they are whole."""

    def __init__(self, directory: Path) -> None:
        self.findings = 0
        self._directory = directory
        self._opened = ExitStack()

    def __enter__(self) -> "_Files":
        self._directory.mkdir(parents=True, exist_ok=True)
        self._lines = self._open("reconciliation.jsonl")
        self._total_rows = _rows(self._open("totals.csv"), _TOTALS)
        self._finding_rows = _rows(self._open("findings.csv"), _FINDINGS)
        return self

    def __exit__(self, error: Any, *_: Any) -> None:
        self._opened.close()
        for name in ("reconciliation.jsonl", "totals.csv", "findings.csv"):
            unfinished = self._directory / f"{name}.part"
            if error is None:
                unfinished.replace(self._directory / name)
            else:
                unfinished.unlink(missing_ok=True)

    def add(self, findings: Iterable[ReconciliationFinding], totals: Iterable[ReconciliationTotal]) -> None:
        for finding in findings:
            self.findings += 1
            self._lines.write(f'{{"finding": {MessageToJson(finding, indent=None)}}}\n')
            self._finding_rows.writerow([_cell(text) for text in _finding(finding)])
        for total in totals:
            self._lines.write(f'{{"total": {MessageToJson(total, indent=None)}}}\n')
            self._total_rows.writerow([_cell(text) for text in _total(total)])

    def _open(self, name: str) -> TextIO:
        file = (self._directory / f"{name}.part").open("w", encoding="utf-8", newline="")
        return self._opened.enter_context(file)


def _rows(file: TextIO, names: tuple[str, ...]) -> Any:
    """RFC 4180: commas, CRLF, quotes where they are needed."""
    rows = csv.writer(file, lineterminator="\r\n")
    rows.writerow(names)
    return rows


def _cell(text: str) -> str:
    """What somebody else wrote must not become a formula in a spreadsheet; a number stays one."""
    return f"'{text}" if text[:1] in tuple("=+-@\t\r\n") and not _NUMBER.fullmatch(text) else text


def _total(total: ReconciliationTotal) -> list[str]:
    return [
        _word(ReconciliationSide.Name(total.side), "RECONCILIATION_SIDE_"),
        total.currency,
        f"{total.country_code}*{total.party_id}",
        f"{total.token_country_code}*{total.token_party_id}",
        "(others)" if total.other_tariffs else " ".join(total.tariff_ids),
        str(total.cdr_count),
        str(total.credit_count),
        total.total_cost.excl_vat.value,
        total.total_cost.incl_vat.value,
        str(total.without_vat_count),
        total.total_energy.value,
        str(total.invoiced_count),
    ]


def _finding(finding: ReconciliationFinding) -> list[str]:
    about = finding.cdr if finding.HasField("cdr") else finding.session
    state = finding.delivery_state
    return [
        _word(ReconciliationReason.Name(finding.reason), "RECONCILIATION_REASON_"),
        _word(ReconciliationSide.Name(finding.side), "RECONCILIATION_SIDE_"),
        finding.start_date_time.ToJsonString(),
        str(key_of(about).party),
        finding.cdr.id,
        finding.session.id,
        finding.credited_cdr.id,
        finding.currency,
        finding.total_cost.excl_vat.value,
        finding.total_cost.incl_vat.value,
        finding.computed_cost.excl_vat.value,
        finding.computed_cost.incl_vat.value,
        "; ".join(f"{each.path}: {each.difference.value or each.message}" for each in finding.differences),
        _word(DeliveryState.Name(state), "DELIVERY_STATE_") if state else "",
        finding.description,
    ]


def _word(name: str, prefix: str) -> str:
    return name.removeprefix(prefix)

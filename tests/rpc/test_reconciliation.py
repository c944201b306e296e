"""ReconciliationService through the front door, and the files that `evbridge reconcile` writes of the same."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from evbridge.v1.cdr_pb2 import BatchCreateCdrsRequest, Cdr
from evbridge.v1.delivery_pb2 import DELIVERY_STATE_PARKED, OBJECT_KIND_CDR
from evbridge.v1.integration_pb2 import CreateIntegrationRequest
from evbridge.v1.party_pb2 import CreatePartyRequest
from evbridge.v1.reconciliation_pb2 import (
    RECONCILIATION_SIDE_RECEIVED,
    RECONCILIATION_SIDE_SENT,
    ReconcileCdrsRequest,
    ReconcileCdrsResponse,
    ReconciliationFinding,
    ReconciliationReason,
    ReconciliationTotal,
)
from evbridge.v1.session_pb2 import SESSION_STATUS_COMPLETED, SESSION_STATUS_INVALID
from evbridge.v1.types_pb2 import Price
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.decimal_pb2 import Decimal

from service.domain.reconciliation import Held, Totals, cdr_findings
from tests.charged import SESSION_START_S, a_cdr, a_period
from tests.conftest import Tenant
from tests.front_door import Client, a_party, a_tariff, an_integration, at_rest, command, environment, fails
from tests.rpc.test_ocpi_charged import audited, bill, charging, delivery, tell
from tests.rpc.test_ocpi_push import HERS
from tests.rpc.test_registration import ID, SPOKEN, Sides, sides

__all__ = ["sides"]
MONTH = {
    "start_time": Timestamp(seconds=SESSION_START_S),
    "end_time": Timestamp(seconds=SESSION_START_S + 1),
}


def price(excl: str, incl: str = "") -> Price:
    cost = Price(excl_vat=Decimal(value=excl))
    if incl:
        cost.incl_vat.value = incl
    return cost


async def reconciled(client: Client, id: str = ID, **changes: Any) -> ReconcileCdrsResponse:
    """All that is said, as one message."""
    whole = ReconcileCdrsResponse()
    stub: Any = client.reconciliation
    async for part in stub.ReconcileCdrs(ReconcileCdrsRequest(**{"integration_id": id, **MONTH, **changes})):
        assert not whole.complete
        whole.findings.extend(part.findings)
        whole.totals.extend(part.totals)
        whole.cdr_count, whole.session_count, whole.complete = part.cdr_count, part.session_count, part.complete
    assert whole.complete
    return whole


def reason(finding: ReconciliationFinding) -> str:
    return ReconciliationReason.Name(finding.reason).removeprefix("RECONCILIATION_REASON_")


def reasons(found: ReconcileCdrsResponse) -> list[tuple[str, str]]:
    return sorted((reason(each), each.cdr.id or each.session.id) for each in found.findings)


@pytest.mark.parametrize("version", SPOKEN)
async def test_both_sides_find_what_does_not_add_up(sides: Sides, version: str) -> None:
    old = version == "2.1.1"  # it has no id of a session in a CDR, and no credit CDR
    async with charging(sides, version) as (cpo, emsp):
        for id in ("S1", "S2"):
            await tell(cpo, id=id, status=SESSION_STATUS_COMPLETED, start_date_time=MONTH["start_time"])
        await tell(cpo, id="S3", status=SESSION_STATUS_INVALID)
        await tell(cpo, id="S4")  # under way
        tariff = a_tariff(**HERS, id="T9")
        await bill(cpo, "C1", tariffs=[tariff])
        await bill(cpo, "C2", tariffs=[tariff], session_id="S9", total_cost=price("5.01", "5.96"))
        if not old:
            await bill(cpo, "C1-C", credit=True, credit_reference_id="C1", total_cost=price("-5", "-5.95"))
        await at_rest(cpo.client, ID)
        for id in ("C1", "C2"):
            await audited(emsp, id)
        sent, received = await reconciled(cpo.client), await reconciled(emsp.client)
        pair = [] if old else [("CREDIT_PAIR", "C1-C")]
        without = [] if old else [("CDR_WITHOUT_SESSION", "C2")]
        unbilled = [("SESSION_WITHOUT_CDR", "S2")]
        assert reasons(sent) == [("CDR_WITHOUT_SESSION", "C2"), *pair, *unbilled]
        seen = [each for each in reasons(received) if each[1] != "C1-C" or each[0].startswith("CREDIT")]
        # Both sessions have the token and the start of the CDR, which says no more in 2.1.1.
        assert seen == sorted([*without, *pair, ("PRICE_DIFFERENT", "C2"), *([] if old else unbilled)])
        (dear,) = [each for each in received.findings if reason(each) == "PRICE_DIFFERENT"]
        assert (dear.total_cost.excl_vat.value, dear.computed_cost.excl_vat.value) == ("5.01", "5")
        lines = {each.path: each.difference.value for each in dear.differences}
        assert lines["total_cost.excl_vat"] == "0.01"
        assert (sent.session_count, received.session_count) == (2, 2)
        for found, side in ((sent, RECONCILIATION_SIDE_SENT), (received, RECONCILIATION_SIDE_RECEIVED)):
            assert {each.side for each in [*found.totals, *found.findings]} == {side}
            totals = {(*each.tariff_ids,): each for each in found.totals}
            assert totals[("T9",)].total_cost.excl_vat.value == "10.01"
            assert sum(each.cdr_count for each in found.totals) == found.cdr_count == (2 if old else 3)
            if not old:
                back = totals[()]
                assert (back.total_cost, back.total_energy.value) == (price("-5", "-5.95"), "-20")
                assert (back.cdr_count, back.credit_count) == (1, 1)


async def test_a_cdr_whose_outcome_is_unknown_is_shown_as_such(sides: Sides) -> None:
    async with charging(sides) as (cpo, emsp):
        emsp.wire.faults.append(("POST", "/cdrs", "cut"))
        await tell(cpo, status=SESSION_STATUS_COMPLETED)
        await bill(cpo, "C1")
        assert (await delivery(cpo, OBJECT_KIND_CDR)).state == DELIVERY_STATE_PARKED
        found = await reconciled(cpo.client)
        assert reasons(found) == [("CDR_OUTCOME_UNKNOWN", "C1")]
        assert found.findings[0].delivery_state == DELIVERY_STATE_PARKED
        assert reasons(await reconciled(emsp.client)) == [("SESSION_WITHOUT_CDR", "S1")]  # it never came
        await bill(cpo, "C2")
        await at_rest(cpo.client, ID)
        assert reasons(await reconciled(cpo.client)) == []  # both are there


@pytest.fixture
async def billed(tenant: Tenant) -> Tenant:
    """250 CDRs of one second, more than a page, and what no spreadsheet should compute."""
    await tenant.admin.parties.CreateParty(CreatePartyRequest(party=a_party()))
    await tenant.admin.integrations.CreateIntegration(CreateIntegrationRequest(integration=an_integration(id="cp")))
    one = {"recipient_integration_id": "cp", "session_id": ""}
    many = [a_cdr(id=f"C{number}", total_cost=price("0.1"), **one) for number in range(249)]
    odd = a_cdr(id='=SUM(A1),"', total_cost=price("0.000000000001"), **one)
    answer = await tenant.writer.cdrs.BatchCreateCdrs(BatchCreateCdrsRequest(cdrs=[*many, odd]))
    assert all(result.HasField("cdr") for result in answer.results)
    outside = a_cdr(id="later", start_date_time=MONTH["end_time"], **one)
    elsewhere = a_cdr(id="elsewhere", **{**one, "recipient_integration_id": ""})
    await tenant.writer.cdrs.BatchCreateCdrs(BatchCreateCdrsRequest(cdrs=[outside, elsewhere]))
    return tenant


async def test_each_cdr_of_the_period_is_seen_once_and_the_sum_is_exact(billed: Tenant) -> None:
    found = await reconciled(billed.reader, "cp")
    assert len({each.cdr.id for each in found.findings}) == len(found.findings) == found.cdr_count == 250
    assert {reason(each) for each in found.findings} == {"CDR_NOT_DELIVERED"}
    (total,) = found.totals
    assert total == ReconciliationTotal(
        side=RECONCILIATION_SIDE_SENT,
        currency="EUR",
        country_code="DE",
        party_id="ABC",
        token_country_code="DE",
        token_party_id="EMP",
        cdr_count=250,
        total_cost=price("24.900000000001"),
        without_vat_count=250,
        total_energy=Decimal(value="5000"),
    )


async def test_the_files_hold_the_same_and_no_formula(billed: Tenant, shared_database_url: str, tmp_path: Path) -> None:
    month = ("2026-09", "--time-zone", "Europe/Berlin", "--to", str(tmp_path), "--tenant", billed.name)
    ended = await command(environment(shared_database_url), "reconcile", "cp", *month)
    assert (ended.code, ended.err, ended.out) == (0, "", "251 CDRs, 0 sessions, 251 findings\n")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["findings.csv", "reconciliation.jsonl", "totals.csv"]
    written = (tmp_path / "findings.csv").read_bytes().decode()
    assert written.count("\r\n") == written.count("\n") == 252
    rows = [*csv.DictReader(written.splitlines())]
    assert "'=SUM(A1),\"" in {row["cdr"] for row in rows}
    (total,) = csv.DictReader((tmp_path / "totals.csv").read_text().splitlines())
    assert (total["total_excl_vat"], total["total_incl_vat"], total["cdrs"]) == ("29.900000000001", "", "251")
    lines = [json.loads(line) for line in (tmp_path / "reconciliation.jsonl").read_text().splitlines()]
    assert [[*line] for line in lines] == [["finding"]] * 251 + [["total"]]
    missing = await command(environment(shared_database_url), "reconcile", "other", *month)
    assert (missing.code, missing.out, "other" in missing.err) == (1, "", True)
    assert len([*tmp_path.iterdir()]) == 3


async def test_what_cannot_be_reconciled_is_refused(tenant: Tenant) -> None:
    stub: Any = tenant.reader.reconciliation
    failure = await fails(stub.ReconcileCdrs(ReconcileCdrsRequest(integration_id="none", **MONTH)).read())
    assert (failure.code.name, failure.reason) == ("NOT_FOUND", "RESOURCE_NOT_FOUND")
    upside_down = {"start_time": MONTH["end_time"], "end_time": MONTH["start_time"]}
    failure = await fails(stub.ReconcileCdrs(ReconcileCdrsRequest(integration_id="none", **upside_down)).read())
    assert (failure.code.name, failure.reason) == ("INVALID_ARGUMENT", "INVALID_FIELD")


def test_totals_are_no_more_than_so_many() -> None:
    totals = Totals(most=2)
    for number in range(5):
        totals.add(a_cdr(charging_periods=[a_period(0, "1", tariff_id=f"T{number}")]))
    found = [([*each.tariff_ids], each.other_tariffs, each.cdr_count) for each in totals.messages()]
    assert found == [([], True, 3), (["T0"], False, 1), (["T1"], False, 1)]


@pytest.mark.parametrize(
    ("original", "credits", "cost", "wanted"),
    [
        (a_cdr(), 1, price("-5", "-5.95"), "CREDIT_PAIR"),
        (a_cdr(), 1, price("-4", "-5.95"), "CREDIT_UNMATCHED"),
        (a_cdr(), 2, price("-5", "-5.95"), "CREDIT_UNMATCHED"),
        (None, 1, price("-5", "-5.95"), "CREDIT_UNMATCHED"),
    ],
)
def test_a_credit_cdr_and_what_it_takes_back_are_nothing_together(
    original: Cdr | None, credits: int, cost: Price, wanted: str
) -> None:
    credit = a_cdr(credit=True, credit_reference_id="C1", total_cost=cost)
    (found,) = cdr_findings(Held(credit, original=original, credits=credits))
    assert (reason(found), found.credited_cdr.id) == (wanted, "C1")

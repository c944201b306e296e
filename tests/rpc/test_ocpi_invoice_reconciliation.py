"""Invoice reconciliation between an operator and a provider, both evbridge: pushed, corrected, deleted, pulled."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from evbridge.v1.delivery_pb2 import (
    DELIVERY_STATE_DELIVERED,
    OBJECT_KIND_INVOICE_RECONCILIATION_RECORD,
    CompareWithPartnerRequest,
    GetDeliveryRequest,
)
from evbridge.v1.integration_pb2 import CreateIntegrationRequest, IntegrationModels
from evbridge.v1.invoice_reconciliation_pb2 import (
    CreateInvoiceReconciliationRecordRequest,
    DeleteInvoiceReconciliationRecordRequest,
    InvoiceReconciliationRecord,
    InvoiceReconciliationRecordKey,
    ListInvoiceReconciliationRecordsRequest,
    UpdateInvoiceReconciliationRecordRequest,
)
from evbridge.v1.party_pb2 import CreatePartyRequest
from evbridge.v1.run_pb2 import RUN_STATE_SUCCEEDED

from service.storage.retention import charged_sweep, retention_sweep
from service.storage.statements import Statement
from tests.front_door import a_party, a_record, an_integration_of, at_rest
from tests.rpc.test_ocpi_charged import TRACES, audited, bill, delivery, pulling
from tests.rpc.test_ocpi_push import HERS, pushing
from tests.rpc.test_reconciliation import reason, reconciled
from tests.rpc.test_registration import ID, SPOKEN, Side, Sides, outcome, sides

__all__ = ["sides"]
HIS = {"country_code": "DE", "party_id": "MSP"}
KIND = OBJECT_KIND_INVOICE_RECONCILIATION_RECORD
PUSHES = IntegrationModels(push_invoice_reconciliation=True)
MODULE = "/ocpi/2.3.0/invoicereconciliation"
R1 = f"{MODULE}/DE/CPO/R1"


@asynccontextmanager
async def registered(
    sides: Sides, version: str = "2.3.0", models: IntegrationModels = PUSHES
) -> AsyncIterator[tuple[Side, Side]]:
    """An operator and a provider that know each other and push what they invoice, if `models` say so."""
    async with sides(*({"ocpi_versions": each} for each in SPOKEN[version])) as (cpo, emsp):
        await cpo.given(*(await emsp.issue()))
        assert outcome(await cpo.registers()) == "OK"
        for side in (cpo, emsp):
            await pushing(side, models)
            side.wire.carried.clear()
        yield cpo, emsp


async def issue(side: Side, **changes: Any) -> InvoiceReconciliationRecord:
    record = a_record(**{**HERS, "id": "R1", "recipient_integration_id": ID, **changes})
    request = UpdateInvoiceReconciliationRecordRequest(record=record, allow_missing=True)
    stored: InvoiceReconciliationRecord = await side.client.invoice_reconciliation.UpdateInvoiceReconciliationRecord(
        request
    )
    return stored


async def withdraw(side: Side, **changes: Any) -> None:
    key = InvoiceReconciliationRecordKey(**{**HERS, "id": "R1", **changes})
    request = DeleteInvoiceReconciliationRecordRequest(key=key)
    await side.client.invoice_reconciliation.DeleteInvoiceReconciliationRecord(request)


async def held(side: Side) -> dict[str, tuple[str, list[str]]]:
    """What was received: the invoice and its CDRs, by the record's id."""
    request = ListInvoiceReconciliationRecordsRequest(integration_id=ID)
    page = await side.client.invoice_reconciliation.ListInvoiceReconciliationRecords(request)
    return {each.id: (each.invoice_id, [*each.cdrs]) for each in page.records}


async def arrived(sender: Side, receiver: Side) -> list[tuple[str, str]]:
    """The requests that reached the receiver, once nothing is due any more."""
    await at_rest(sender.client, ID)
    carried = [each for each in receiver.wire.carried if "invoice" in each[1]]
    receiver.wire.carried.clear()
    return carried


async def reached(receiver: Side, method: str) -> None:
    async with asyncio.timeout(60):
        while (method, R1) not in receiver.wire.carried:
            await asyncio.sleep(0.02)


async def test_a_record_is_posted_then_corrected_then_deleted(sides: Sides) -> None:
    async with registered(sides) as (cpo, emsp):
        issued = await issue(cpo)
        assert await arrived(cpo, emsp) == [("POST", MODULE)]
        assert await held(emsp) == {"R1": ("2026/11-0042", ["C1", "C2"])}
        await issue(cpo, cdrs=["C1", "C3"])
        assert await arrived(cpo, emsp) == [("PUT", R1)]
        assert await held(emsp) == {"R1": (issued.invoice_id, ["C1", "C3"])}
        request = CompareWithPartnerRequest(delivery_id=(await delivery(cpo, KIND)).id)
        compared = await cpo.client.deliveries.CompareWithPartner(request)
        assert not compared.differences, compared
        emsp.wire.carried.clear()
        await withdraw(cpo)
        assert await arrived(cpo, emsp) == [("DELETE", R1)]
        assert await held(emsp) == {}
        create = CreateInvoiceReconciliationRecordRequest(record=a_record(**HERS, id="R1"))
        await cpo.client.invoice_reconciliation.CreateInvoiceReconciliationRecord(create)
        assert await arrived(cpo, emsp) == [("POST", MODULE)]
        assert [*await held(emsp)] == ["R1"]


async def test_with_reverse_billing_it_is_the_provider_who_issues_it(sides: Sides) -> None:
    async with registered(sides) as (cpo, emsp):
        await issue(emsp, **HIS)
        assert await arrived(emsp, cpo) == [("POST", MODULE)]
        assert await held(cpo) == {"R1": ("2026/11-0042", ["C1", "C2"])}
        await withdraw(emsp, **HIS)
        assert await arrived(emsp, cpo) == [("DELETE", f"{MODULE}/DE/MSP/R1")]
        assert await held(cpo) == {}


@pytest.mark.parametrize("kind", ["cut", "lose_answer", "late"])
async def test_one_whose_answer_is_lost_is_there_once_as_it_was_issued(sides: Sides, kind: str) -> None:
    async with registered(sides) as (cpo, emsp):
        emsp.wire.faults.append(("POST", MODULE, kind))
        await issue(cpo)
        requests = await arrived(cpo, emsp)
        assert [each for each in requests if each == ("POST", MODULE)] == [("POST", MODULE)]
        assert requests[-1] == ("PUT", R1)
        assert (await delivery(cpo, KIND)).state == DELIVERY_STATE_DELIVERED
        await issue(cpo, cdrs=["C9"])
        await at_rest(cpo.client, ID)
        await emsp.wire.catches_up()  # what is older than what is held changes nothing
        assert await held(emsp) == {"R1": ("2026/11-0042", ["C9"])}


def answering(monkeypatch: pytest.MonkeyPatch, side: Side, method: str, answer: Callable[[], web.Response]) -> None:
    """The side answers so to requests of the method, and does not get them."""
    forward = side.wire._forward

    async def said(request: web.Request) -> web.StreamResponse:
        return answer() if request.method == method else await forward(request)

    monkeypatch.setattr(side.wire, "_forward", said)


async def test_a_partner_that_has_no_such_record_is_sent_it_as_a_new_one(
    sides: Sides, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with registered(sides) as (cpo, emsp):
        await issue(cpo)
        await arrived(cpo, emsp)
        unknown = {"status_code": 2003, "timestamp": "2026-11-30T00:00:00Z"}
        answering(monkeypatch, emsp, "PUT", lambda: web.json_response(unknown, status=404))
        await issue(cpo, cdrs=["C1"])
        assert await arrived(cpo, emsp) == [("PUT", R1), ("POST", MODULE)]
        assert await held(emsp) == {"R1": ("2026/11-0042", ["C1"])}


async def test_an_outage_that_answers_404_is_not_taken_for_the_partners_word(
    sides: Sides, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with registered(sides) as (cpo, emsp):
        await issue(cpo)
        await arrived(cpo, emsp)
        with monkeypatch.context() as outage:
            for method in ("PUT", "DELETE"):
                answering(outage, emsp, method, lambda: web.Response(status=404))
            await issue(cpo, cdrs=["C1"])
            await reached(emsp, "PUT")
            await withdraw(cpo)
            await reached(emsp, "DELETE")
        requests = await arrived(cpo, emsp)
        assert (requests[-1], ("POST", MODULE) in requests) == (("DELETE", R1), False)
        assert await held(emsp) == {}


async def test_what_is_for_another_partner_or_belongs_to_him_no_more_is_not_shown(sides: Sides) -> None:
    async with registered(sides) as (cpo, emsp):
        other = an_integration_of("ocpi", "token", id="other")
        await cpo.client.integrations.CreateIntegration(CreateIntegrationRequest(integration=other))
        await issue(cpo, recipient_integration_id="other")
        assert await arrived(cpo, emsp) == []
        await issue(cpo, recipient_integration_id=ID)
        assert await arrived(cpo, emsp) == [("POST", MODULE)]
        await issue(cpo, recipient_integration_id="other")
        assert await arrived(cpo, emsp) == [("DELETE", R1)]
        assert await held(emsp) == {}


async def test_what_is_not_pushed_is_asked_for(sides: Sides) -> None:
    async with registered(sides, models=IntegrationModels()) as (cpo, emsp):
        await pulling(emsp, IntegrationModels(pull_invoice_reconciliation=True))
        await arrived(cpo, emsp)
        for number in range(3):
            await issue(cpo, id=f"R{number}")
        assert await arrived(cpo, emsp) == []
        run = await emsp.synced()
        assert (run.state, [step.name for step in run.steps]) == (RUN_STATE_SUCCEEDED, ["invoicereconciliation"]), run
        assert [*await held(emsp)] == ["R0", "R1", "R2"]
        await issue(cpo, cdrs=["C7"])
        await at_rest(cpo.client, ID)
        await emsp.synced()
        assert (await held(emsp))["R1"] == ("2026/11-0042", ["C7"])


@pytest.mark.parametrize("version", ["2.1.1", "2.2.1"])
async def test_a_version_without_the_module_neither_offers_nor_sends_it(sides: Sides, version: str) -> None:
    async with registered(sides, version) as (cpo, emsp):
        for side in (cpo, emsp):
            offered = {each.identifier for each in (await side.get()).version_details.endpoints}
            assert "cdrs" in offered and "invoicereconciliation" not in offered
        await issue(cpo)
        assert await arrived(cpo, emsp) == []
        get = GetDeliveryRequest(id=(await delivery(cpo, KIND)).id)
        (attempt,) = (await cpo.client.deliveries.GetDelivery(get)).attempts
        assert attempt.description == f"not pushed: OCPI {version} has no invoicereconciliation"


async def test_records_go_with_the_cdrs_and_tombstones_before(sides: Sides) -> None:
    async with registered(sides) as (cpo, emsp):
        await issue(cpo)
        await issue(cpo, id="R2")
        await withdraw(cpo, id="R2")
        await at_rest(cpo.client, ID)
        for side in (cpo, emsp):
            age = "UPDATE invoice_reconciliation SET update_time = now() - interval '1000 days',"
            age += " delete_time = delete_time - interval '60 days'"
            await side.running.database.run(Statement("age", age))
            await retention_sweep(side.running.database, 30)
            await charged_sweep(side.running.database, 400, 2000)
            left = await side.running.database.rows(Statement("left", "SELECT key FROM invoice_reconciliation"))
            assert [row["key"] for row in left] == ["r1"]
            await charged_sweep(side.running.database, 400, 400)
            left = await side.running.database.rows(Statement("left", "SELECT key FROM invoice_reconciliation"))
            assert not left
        row = await emsp.running.database.row(Statement("traces", TRACES), KIND)
        assert [*(row or ())] == [0, 0, 0, 0]


@pytest.mark.parametrize("reverse", [False, True])
async def test_reconciling_says_which_cdrs_are_invoiced_and_which_twice(sides: Sides, reverse: bool) -> None:
    """The same at both sides, whoever of the two writes the invoices."""
    async with registered(sides) as (cpo, emsp):
        both = IntegrationModels(push_cdr=True, push_invoice_reconciliation=True)
        await pushing(cpo, both)
        for id in ("C1", "C2", "C3"):
            await bill(cpo, id)
        await at_rest(cpo.client, ID)
        for id in ("C1", "C2", "C3"):
            await audited(emsp, id)
        issuer, owner = (emsp, HIS) if reverse else (cpo, HERS)
        assert await invoiced(cpo) == await invoiced(emsp) == (0, [])
        await issue(issuer, **owner, invoice_id="I-1", cdrs=["c1", "C2", "C9"])
        await issue(issuer, **owner, id="R2", invoice_id="i-1", cdrs=["C1"])  # the same invoice
        await at_rest(issuer.client, ID)
        assert await invoiced(cpo) == await invoiced(emsp) == (2, [])
        await issue(issuer, **owner, id="R2", invoice_id="I-2", cdrs=["C1"])
        await at_rest(issuer.client, ID)
        twice = ("C1", "2 invoices are about it: i-1, i-2")
        assert await invoiced(cpo) == await invoiced(emsp) == (2, [twice])
        await withdraw(issuer, **owner)
        await at_rest(issuer.client, ID)
        assert await invoiced(cpo) == await invoiced(emsp) == (1, [])


async def test_a_record_of_another_operator_or_for_another_partner_invoices_nothing_here(sides: Sides) -> None:
    async with registered(sides) as (cpo, _):
        other = an_integration_of("ocpi", "token", id="other")
        await cpo.client.integrations.CreateIntegration(CreateIntegrationRequest(integration=other))
        await cpo.client.parties.CreateParty(CreatePartyRequest(party=a_party(party_id="OTH")))
        await bill(cpo, "C1")
        await issue(cpo, party_id="OTH", cdrs=["C1"])
        await issue(cpo, recipient_integration_id="other", cdrs=["C1"])
        assert await invoiced(cpo) == (0, [])


async def invoiced(side: Side) -> tuple[int, list[tuple[str, str]]]:
    """How many CDRs are, and those that are twice."""
    found = await reconciled(side.client)
    twice = [(each.cdr.id, each.description) for each in found.findings if reason(each) == "CDR_INVOICED_TWICE"]
    return sum(each.invoiced_count for each in found.totals), twice

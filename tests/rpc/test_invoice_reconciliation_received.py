"""What partners that invoice us say of it at our OCPI door: the operator NL*TNM, or a provider."""

from typing import Any

import pytest
from evbridge.v1.invoice_reconciliation_pb2 import (
    InvoiceReconciliationRecord,
    ListInvoiceReconciliationRecordsRequest,
)
from evbridge.v1.party_pb2 import PARTY_ROLE_EMSP
from evbridge.v1.watch_pb2 import WATCH_SIDE_RECEIVED, WatchInvoiceReconciliationRecordsRequest

from service.app import Evbridge
from tests.conftest import Tenant
from tests.ocpi.door import ID, Ask, Partner, ask, partner
from tests.rpc.test_ocpi_received import companies, operator
from tests.rpc.test_watch import watching

__all__ = ["ask", "operator", "partner"]

MODULE = "/ocpi/2.3.0/invoicereconciliation"
R1 = f"{MODULE}/NL/TNM/R1"
# Every field that OCPI 2.3.0 has, and one that it has not.
RECORD: dict[str, Any] = {
    "country_code": "NL",
    "party_id": "TNM",
    "id": "R1",
    "invoice_id": "INV-2026-11",
    "cdrs": ["CDR-1", "CDR-2"],
    "last_updated": "2026-11-30T10:00:00Z",
    "nltnm_due_date": "2026-12-14",
}


async def received(tenant: Tenant) -> list[InvoiceReconciliationRecord]:
    request = ListInvoiceReconciliationRecordsRequest(integration_id=ID)
    page = await tenant.reader.invoice_reconciliation.ListInvoiceReconciliationRecords(request)
    return list(page.records)


async def test_a_record_is_stored_shown_as_it_was_sent_updated_by_what_is_newer_and_deleted(
    ask: Ask, operator: Partner, tenant: Tenant
) -> None:
    token = operator.registered
    request = WatchInvoiceReconciliationRecordsRequest(side=WATCH_SIDE_RECEIVED)
    async with watching(tenant.reader.watch.WatchInvoiceReconciliationRecords, request) as watch:
        for status in (201, 200):
            posted = await ask("POST", MODULE, token, json=RECORD)
            assert (posted.status, posted.code) == (status, 1000)
        (stored,) = await received(tenant)
        assert (stored.invoice_id, [*stored.cdrs], stored.recipient_integration_id) == (
            "INV-2026-11",
            ["CDR-1", "CDR-2"],
            "",
        )
        assert stored.last_updated.ToJsonString() == RECORD["last_updated"]
        shown = await ask("GET", R1, token)
        assert (shown.code, shown.body["data"]) == (1000, RECORD)
        older = {"last_updated": "2026-11-30T09:59:59Z", "cdrs": ["CDR-9"]}
        newer = {"last_updated": "2026-11-30T10:00:01Z", "cdrs": ["CDR-3"]}
        for change, cdrs in ((older, ["CDR-1", "CDR-2"]), (newer, ["CDR-3"]), ({}, ["CDR-3"])):
            put = await ask("PUT", R1, token, json=RECORD | change)
            assert (put.status, put.code) == (200, 1000)
            assert [[*each.cdrs] for each in await received(tenant)] == [cdrs]
        assert [(await ask("DELETE", R1, token)).code, (await ask("DELETE", R1, token)).code] == [1000, 2003]
        assert await received(tenant) == []
        gone = await ask("GET", R1, token)
        assert (gone.status, gone.code) == (404, 2003)
        await watch.until(lambda change: not change.HasField("record"))
    assert (await ask("PATCH", R1, token, json=RECORD)).status == 405
    assert (await ask("DELETE", MODULE, token)).status == 405


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"id": ""}, 200, 2001),
        ({"id": "a/../b"}, 200, 2001),
        ({"party_id": "XYZ"}, 404, 2001),
        ({"country_code": 1}, 200, 2001),
        ({"invoice_id": None}, 200, 2001),
        ({"invoice_id": "I" * 256}, 200, 2001),
        ({"cdrs": []}, 200, 2001),
        ({"cdrs": None}, 200, 2001),
        # Whoever left out the CDR that is wrong would invoice another sum.
        ({"cdrs": ["CDR-1", ""]}, 200, 2001),
        ({"cdrs": ["CDR-1", {"id": "CDR-2"}]}, 200, 2001),
        ({"cdrs": ["CDR-1", None]}, 200, 2001),
        ({"cdrs": ["CDR-1", "C" * 40]}, 200, 2001),
        ({"cdrs": 5}, 200, 2001),
        ({"cdrs": "CDR-1"}, 200, 2001),
        ({"cdrs": ["C"] * 10_001}, 200, 2001),
        ({"last_updated": "yesterday"}, 200, 2001),
        ({"last_updated": "2199-01-01T00:00:00Z"}, 200, 2001),
    ],
)
async def test_what_cannot_be_kept_whole_is_refused(
    ask: Ask, operator: Partner, tenant: Tenant, changes: dict[str, Any], status: int, code: int
) -> None:
    answer = await ask("POST", MODULE, operator.registered, json=RECORD | changes)
    assert (answer.status, answer.code) == (status, code), answer.body
    assert await received(tenant) == []


async def test_the_owner_in_the_url_is_that_of_the_record(ask: Ask, operator: Partner) -> None:
    other = await ask("PUT", f"{MODULE}/NL/XYZ/R1", operator.registered, json=RECORD)
    named = await ask("PUT", f"{MODULE}/NL/TNM/R2", operator.registered, json=RECORD)
    assert ((other.status, other.code), (named.status, named.code)) == ((404, 2001), (200, 2001))


async def test_a_provider_that_bills_in_reverse_may_send_them_too(
    ask: Ask, operator: Partner, tenant: Tenant, running: Evbridge
) -> None:
    await companies(running, tenant, PARTY_ROLE_EMSP)
    assert (await ask("POST", MODULE, operator.registered, json=RECORD)).status == 201
    await companies(running, tenant)
    stranger = await ask("POST", MODULE, operator.registered, json=RECORD)
    assert (stranger.status, stranger.code) == (404, 2001)


async def test_both_sides_are_offered_since_2_3_0(ask: Ask, operator: Partner) -> None:
    for version, sides in (("2.3.0", {"SENDER", "RECEIVER"}), ("2.2.1", set()), ("2.1.1", set())):
        details = await ask("GET", f"/ocpi/{version}", operator.registered)
        offered = [each for each in details.body["data"]["endpoints"] if each["identifier"] == "invoicereconciliation"]
        assert {each["role"] for each in offered} == sides
        assert all(each["url"].endswith(MODULE) for each in offered)
        listed = await ask("GET", f"/ocpi/{version}/invoicereconciliation", operator.registered)
        assert listed.status == (200 if sides else 404)

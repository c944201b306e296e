"""InvoiceReconciliationService through the front door."""

from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from evbridge.v1.integration_pb2 import CreateIntegrationRequest
from evbridge.v1.invoice_reconciliation_pb2 import (
    BatchGetInvoiceReconciliationRecordsRequest,
    BatchUpsertInvoiceReconciliationRecordsRequest,
    CreateInvoiceReconciliationRecordRequest,
    DeleteInvoiceReconciliationRecordRequest,
    GetInvoiceReconciliationRecordRequest,
    InvoiceReconciliationRecord,
    InvoiceReconciliationRecordKey,
    ListInvoiceReconciliationRecordsRequest,
    UpdateInvoiceReconciliationRecordRequest,
)
from evbridge.v1.party_pb2 import CreatePartyRequest
from evbridge.v1.watch_pb2 import WatchInvoiceReconciliationRecordsRequest
from google.protobuf.timestamp_pb2 import Timestamp

from tests.conftest import Tenant
from tests.front_door import a_party, a_record, an_integration_of, fails
from tests.rpc.test_watch import watching


@pytest.fixture
async def operator(tenant: Tenant) -> Tenant:
    """DE*ABC, which invoices the party of `roaming`, and may invoice that of `other`."""
    await tenant.admin.parties.CreateParty(CreatePartyRequest(party=a_party()))
    for type, id in (("ocpi", "roaming"), ("ocpi", "other"), ("chargeprice", "no-party")):
        integration = an_integration_of(type, "token", id=id)
        await tenant.admin.integrations.CreateIntegration(CreateIntegrationRequest(integration=integration))
    return tenant


def key(record: InvoiceReconciliationRecord) -> InvoiceReconciliationRecordKey:
    return InvoiceReconciliationRecordKey(country_code="de", party_id="abc", id=record.id.upper())


async def upsert(tenant: Tenant, *records: InvoiceReconciliationRecord) -> list[InvoiceReconciliationRecord]:
    request = BatchUpsertInvoiceReconciliationRecordsRequest(records=records, allow_missing=True)
    response = await tenant.writer.invoice_reconciliation.BatchUpsertInvoiceReconciliationRecords(request)
    assert not any(result.HasField("error") for result in response.results), response
    return [result.record for result in response.results]


async def test_a_record_is_created_corrected_and_deleted(operator: Tenant) -> None:
    records = operator.writer.invoice_reconciliation
    create = CreateInvoiceReconciliationRecordRequest(record=a_record(id="Nov-1"))
    created = await records.CreateInvoiceReconciliationRecord(create)
    assert (created.invoice_id, [*created.cdrs], created.create_time) == (
        "2026/11-0042",
        ["C1", "C2"],
        created.last_updated,
    )
    get = GetInvoiceReconciliationRecordRequest(key=key(created))
    assert await operator.reader.invoice_reconciliation.GetInvoiceReconciliationRecord(get) == created
    again = await fails(records.CreateInvoiceReconciliationRecord(create))
    assert (again.code, again.reason) == (grpc.StatusCode.ALREADY_EXISTS, "RESOURCE_EXISTS")
    change = UpdateInvoiceReconciliationRecordRequest(
        record=a_record(id="NOV-1", invoice_id="", recipient_integration_id="", cdrs=["C1"])
    )
    changed = await records.UpdateInvoiceReconciliationRecord(change)
    assert (changed.id, changed.invoice_id, [*changed.cdrs]) == ("Nov-1", created.invoice_id, ["C1"])
    old = DeleteInvoiceReconciliationRecordRequest(key=key(created), etag=created.etag)
    assert (await fails(records.DeleteInvoiceReconciliationRecord(old))).reason == "ETAG_MISMATCH"
    await records.DeleteInvoiceReconciliationRecord(DeleteInvoiceReconciliationRecordRequest(key=key(created)))
    gone = await fails(records.GetInvoiceReconciliationRecord(get))
    assert (gone.code, gone.reason) == (grpc.StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND")


@pytest.mark.parametrize(
    ("changes", "reason", "path"),
    [
        ({"recipient_integration_id": ""}, "INVALID_FIELD", "record.recipient_integration_id"),
        ({"recipient_integration_id": "nowhere"}, "REFERENCE_NOT_FOUND", "record.recipient_integration_id"),
        ({"recipient_integration_id": "no-party"}, "INVALID_FIELD", "record.recipient_integration_id"),
        ({"party_id": "XYZ"}, "REFERENCE_NOT_FOUND", "record.party_id"),
        ({"cdrs": []}, "INVALID_FIELD", "record.cdrs"),
        ({"cdrs": ["C1", ""]}, "INVALID_FIELD", "record.cdrs[1]"),
        ({"cdrs": ["C"] * 10_001}, "INVALID_FIELD", "record.cdrs"),
        ({"invoice_id": ""}, "INVALID_FIELD", "record.invoice_id"),
        ({"id": "a/../b"}, "INVALID_FIELD", "record.id"),
        ({"integration_id": "roaming"}, "RECEIVED_IS_READ_ONLY", None),
    ],
)
async def test_what_cannot_be_one_is_refused(
    operator: Tenant, changes: dict[str, Any], reason: str, path: str | None
) -> None:
    request = CreateInvoiceReconciliationRecordRequest(record=a_record(**changes))
    refused = await fails(operator.writer.invoice_reconciliation.CreateInvoiceReconciliationRecord(request))
    assert (refused.reason, next(iter(refused.violations), None)) == (reason, path)


async def test_lists_find_what_a_billing_team_looks_for(operator: Tenant) -> None:
    first, second = await upsert(
        operator,
        a_record(id="r1", invoice_id="I-1", cdrs=["C1", "c2"]),
        a_record(id="r2", invoice_id="I-2", cdrs=["C3"], recipient_integration_id="other"),
    )
    earlier, later = Timestamp(), Timestamp()
    earlier.FromDatetime(datetime.now(UTC) - timedelta(days=1))
    later.FromDatetime(datetime.now(UTC) + timedelta(days=1))
    for filters, found in (
        ({}, ["r1", "r2"]),
        ({"invoice_id": "i-2"}, ["r2"]),
        ({"cdr_id": "C2"}, ["r1"]),
        ({"cdr_id": "C"}, []),
        ({"recipient_integration_id": "other"}, ["r2"]),
        ({"party_id": "abc", "country_code": "de"}, ["r1", "r2"]),
        ({"party_id": "XYZ"}, []),
        ({"updated_from": earlier, "updated_to": later}, ["r1", "r2"]),
        ({"updated_from": later}, []),
        ({"updated_to": earlier}, []),
        ({"integration_id": "roaming"}, []),
    ):
        request = ListInvoiceReconciliationRecordsRequest(**filters)  # type: ignore[arg-type]
        listed = await operator.reader.invoice_reconciliation.ListInvoiceReconciliationRecords(request)
        assert [record.id for record in listed.records] == found, filters
    page = ListInvoiceReconciliationRecordsRequest(page_size=1)
    listed = await operator.reader.invoice_reconciliation.ListInvoiceReconciliationRecords(page)
    page.page_token = listed.next_page_token
    following = await operator.reader.invoice_reconciliation.ListInvoiceReconciliationRecords(page)
    assert ([*listed.records], [*following.records], following.next_page_token) == ([first], [second], "")
    both = BatchGetInvoiceReconciliationRecordsRequest(keys=[key(second), key(first)])
    batch = await operator.reader.invoice_reconciliation.BatchGetInvoiceReconciliationRecords(both)
    assert [*batch.records] == [second, first]


async def test_records_are_watched(operator: Tenant) -> None:
    (stored,) = await upsert(operator, a_record())
    request = WatchInvoiceReconciliationRecordsRequest(snapshot=True)
    async with watching(operator.reader.watch.WatchInvoiceReconciliationRecords, request) as watch:
        assert (await watch.until(lambda change: change.HasField("record"))).record == stored
        delete = DeleteInvoiceReconciliationRecordRequest(key=key(stored))
        await operator.writer.invoice_reconciliation.DeleteInvoiceReconciliationRecord(delete)
        gone = await watch.until(lambda change: not change.HasField("record"))
        assert gone.key.id == stored.id.casefold()

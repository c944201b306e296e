"""CdrService through the front door."""

from typing import Any
from uuid import uuid4

import pytest
from evbridge.v1.cdr_pb2 import (
    BatchCreateCdrsRequest,
    BatchGetCdrsRequest,
    Cdr,
    CdrKey,
    CreateCdrRequest,
    GetCdrRequest,
    ListCdrsRequest,
)
from evbridge.v1.party_pb2 import CreatePartyRequest
from evbridge.v1.pricing_pb2 import CDR_DIMENSION_TYPE_POWER, CdrDimension
from evbridge.v1.types_pb2 import Price
from evbridge.v1.watch_pb2 import WatchCdrsRequest
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import code_pb2
from google.type.decimal_pb2 import Decimal

from tests.charged import SESSION_START_S, a_cdr, a_cdr_token, a_period
from tests.conftest import Tenant
from tests.filled import filled, unset
from tests.front_door import a_party, a_tariff, fails
from tests.rpc.test_watch import watching

VALUES = {
    "evbridge.v1.Cdr.integration_id": None,  # ours
    "evbridge.v1.Cdr.recipient_integration_id": None,
    "evbridge.v1.Cdr.credit": None,
    "evbridge.v1.Cdr.credit_reference_id": None,
    "evbridge.v1.Cdr.country_code": "DE",
    "evbridge.v1.Cdr.party_id": "ABC",
    "evbridge.v1.Cdr.currency": "EUR",
    "evbridge.v1.Cdr.start_date_time": Timestamp(seconds=1, nanos=5000),
    "evbridge.v1.Cdr.end_date_time": Timestamp(seconds=2),
    "evbridge.v1.Cdr.tariffs": a_tariff(),
    "evbridge.v1.Cdr.charging_periods": a_period(0, "2"),
    "evbridge.v1.CdrLocation.country": "DEU",
    "evbridge.v1.CdrLocation.postal_code": "10117",
    "evbridge.v1.GeoLocation.latitude": "52.520008",
    "evbridge.v1.GeoLocation.longitude": "13.404954",
    "evbridge.v1.CdrToken.country_code": "DE",
    "evbridge.v1.CdrToken.party_id": "EMP",
    "google.type.Decimal": Decimal(value="12.3400"),
}


@pytest.fixture
async def party(tenant: Tenant) -> Tenant:
    """A tenant that is the party DE*ABC."""
    await tenant.admin.parties.CreateParty(CreatePartyRequest(party=a_party()))
    return tenant


def key(cdr: Cdr) -> CdrKey:
    return CdrKey(country_code=cdr.country_code, party_id=cdr.party_id, id=cdr.id)


async def create(tenant: Tenant, cdr: Cdr) -> Cdr:
    return await tenant.writer.cdrs.CreateCdr(CreateCdrRequest(cdr=cdr))


def a_credit(of: Cdr, **changes: Any) -> Cdr:
    cost = Price(excl_vat=Decimal(value="-5.00"), incl_vat=Decimal(value="-5.95"))
    return a_cdr(**{"id": f"{of.id}-C", "credit": True, "credit_reference_id": of.id, "total_cost": cost, **changes})


async def listed(tenant: Tenant, **filters: Any) -> list[str]:
    page = await tenant.reader.cdrs.ListCdrs(ListCdrsRequest(**filters))
    return [cdr.id for cdr in page.cdrs]


async def test_every_field_is_stored_and_comes_back(party: Tenant) -> None:
    sent = filled(Cdr.DESCRIPTOR, VALUES)
    stored = await create(party, sent)
    left = [path for path in unset(stored) if not path.startswith(("tariffs", "charging_periods"))]
    assert left == ["credit", "credit_reference_id", "recipient_integration_id", "audit", "origin", "integration_id"]
    got = await party.reader.cdrs.GetCdr(GetCdrRequest(key=key(stored)))
    assert got == stored
    for name in ("create_time", "last_updated", "etag"):
        got.ClearField(name)
    assert got == sent


async def test_a_cdr_is_recorded_once_and_never_changes(party: Tenant) -> None:
    made = await create(party, a_cdr(id="C1"))
    assert await create(party, a_cdr(id="c1")) == made  # the same once more
    failure = await fails(create(party, a_cdr(id="C1", total_energy=Decimal(value="21"))))
    assert (failure.code.name, failure.reason) == ("ALREADY_EXISTS", "CDR_RECORDED")
    assert await party.reader.cdrs.GetCdr(GetCdrRequest(key=key(made))) == made


async def test_a_credit_cdr_takes_one_back_once_and_whole(party: Tenant) -> None:
    made = await create(party, a_cdr(id="C1"))
    half = a_credit(made, total_cost=Price(excl_vat=Decimal(value="-2.5")))
    assert [*(await fails(create(party, half))).violations] == ["cdr.total_cost.excl_vat", "cdr.total_cost.incl_vat"]
    credit = await create(party, a_credit(made))
    assert await create(party, a_credit(made)) == credit
    failure = await fails(create(party, a_credit(made, id="C1-D")))
    assert (failure.code.name, failure.reason) == ("FAILED_PRECONDITION", "CDR_CREDITED")
    missing = await fails(create(party, a_credit(made, id="C2-C", credit_reference_id="C2")))
    assert (missing.reason, [*missing.violations]) == ("REFERENCE_NOT_FOUND", ["cdr.credit_reference_id"])
    assert await listed(party, credit_reference_id="c1") == ["C1-C"]
    twice = [a_cdr(id="C3"), a_credit(a_cdr(id="C4")), a_cdr(id="C4")]
    answer = await party.writer.cdrs.BatchCreateCdrs(BatchCreateCdrsRequest(cdrs=twice))
    assert [result.error.code for result in answer.results] == [code_pb2.OK, code_pb2.FAILED_PRECONDITION, code_pb2.OK]
    both = [a_credit(a_cdr(id="C3")), a_credit(a_cdr(id="C3"), id="C3-D")]
    answer = await party.writer.cdrs.BatchCreateCdrs(BatchCreateCdrsRequest(cdrs=both))
    assert [result.error.code for result in answer.results] == [code_pb2.OK, code_pb2.FAILED_PRECONDITION]


POWER = CdrDimension(type=CDR_DIMENSION_TYPE_POWER, volume=Decimal(value="11"))


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"charging_periods": []}, "cdr.charging_periods"),
        ({"charging_periods": [a_period(0, "20", dimensions=[POWER])]}, "cdr.charging_periods[0].dimensions[0].type"),
        ({"credit": True}, "cdr.credit_reference_id"),
        ({"credit_reference_id": "C1"}, "cdr.credit"),
        ({"id": "x" * 37}, "cdr.id"),
        ({"total_cost": None}, "cdr.total_cost"),
        ({"end_date_time": Timestamp(seconds=1)}, "cdr"),
    ],
)
async def test_what_is_wrong_is_named(party: Tenant, changes: dict[str, Any], path: str) -> None:
    failure = await fails(create(party, a_cdr(**changes)))
    assert (failure.reason, [*failure.violations]) == ("INVALID_FIELD", [path])


async def test_lists_are_in_the_order_of_time_and_filtered(party: Tenant) -> None:
    made = [
        a_cdr(id="B", session_id="S9"),
        a_cdr(id="A", start_date_time=Timestamp(seconds=SESSION_START_S + 60), currency="NOK"),
        a_cdr(id="C", cdr_token=a_cdr_token(party_id="OTH"), start_date_time=Timestamp(seconds=SESSION_START_S - 60)),
    ]
    request = BatchCreateCdrsRequest(cdrs=made, request_id=str(uuid4()))
    answer = await party.writer.cdrs.BatchCreateCdrs(request)
    assert await party.writer.cdrs.BatchCreateCdrs(request) == answer
    assert await listed(party) == ["C", "B", "A"]
    assert await listed(party, session_id="s9") == ["B"]
    assert await listed(party, currency="NOK") == ["A"]
    assert await listed(party, token_party_id="OTH") == ["C"]
    assert await listed(party, location_id="l1", contract_id="deempc12345678x") == ["C", "B", "A"]
    got = await party.reader.cdrs.BatchGetCdrs(BatchGetCdrsRequest(keys=[key(each) for each in made]))
    assert [cdr.id for cdr in got.cdrs] == ["B", "A", "C"]


async def test_cdrs_are_watched(party: Tenant) -> None:
    async with watching(party.reader.watch.WatchCdrs, WatchCdrsRequest()) as watch:
        made = await create(party, a_cdr())
        assert (await watch.until(lambda change: True)).cdr == made

"""Sessions and CDRs as each version of OCPI writes them, and how patches of sessions are put together."""

from typing import Any

import pytest
from evbridge.v1.cdr_pb2 import Cdr
from evbridge.v1.cdr_token_pb2 import AUTH_METHOD_AUTH_REQUEST, AUTH_METHOD_COMMAND
from evbridge.v1.pricing_pb2 import CDR_DIMENSION_TYPE_POWER, CdrDimension
from evbridge.v1.session_pb2 import SESSION_STATUS_PENDING, SESSION_STATUS_RESERVATION, Session
from evbridge.v1.types_pb2 import Price
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.decimal_pb2 import Decimal
from hypothesis import given
from hypothesis import strategies as st

from service.bridge.json_text import Number
from service.domain.keys import PartyKey
from service.domain.received import session_merged
from service.errors import ObjectNotRepresentable
from service.partners.ocpi.mapping import object_from, object_to
from tests.charged import a_cdr, a_period, a_session
from tests.front_door import a_connector, a_location, a_tariff, an_evse
from tests.ocpi_schema import SCHEMAS, complaints

OWNER = PartyKey("DE", "ABC")
NOW = Timestamp(seconds=1_790_003_600)
COST = Price(excl_vat=Decimal(value="5.10"), incl_vat=Decimal(value="6.069"))


def a_told_session(**changes: Any) -> Session:
    """As a party is told it, with its location."""
    place = a_location(
        id="L1", evses=[an_evse("E1", connectors=[a_connector(last_updated=NOW)], last_updated=NOW)], last_updated=NOW
    )
    changes = {"charging_periods": [a_period(0, "2.5")], "total_cost": COST, "location": place, **changes}
    return a_session(last_updated=NOW, **changes)


@pytest.mark.parametrize("version", SCHEMAS)
def test_a_session_follows_the_version_and_comes_back(version: str) -> None:
    session = a_told_session()
    written = object_to(session, version)
    assert not [*complaints(version, "Session", written.object)]
    back = object_from(Session, written.object, version, OWNER).message
    same = ("id", "kwh", "status", "start_date_time", "location_id", "evse_uid", "connector_id", "charging_periods")
    for name in same:
        assert getattr(back, name) == getattr(session, name)
    lost = {loss.path for loss in written.losses}
    old = {"cdr_token.uid", "cdr_token.type", "total_cost.incl_vat"}
    assert lost == (old if version == "2.1.1" else set())


@pytest.mark.parametrize("version", SCHEMAS)
def test_a_cdr_follows_the_version_and_comes_back(version: str) -> None:
    cdr = a_cdr(tariffs=[a_tariff()], total_cost=COST, total_energy_cost=COST, last_updated=NOW)
    written = object_to(cdr, version)
    assert not [*complaints(version, "CDR", written.object)]
    back = object_from(Cdr, written.object, version, OWNER).message
    for name in ("id", "end_date_time", "cdr_location", "total_energy", "charging_periods"):
        assert getattr(back, name) == getattr(cdr, name)
    assert back.total_cost.excl_vat == COST.excl_vat
    assert (back.total_cost == COST, back.total_energy_cost == COST) == ((version != "2.1.1",) * 2)
    assert [tariff.id for tariff in back.tariffs] == [cdr.tariffs[0].id]
    lost = {loss.path for loss in written.losses}
    assert {"session_id", "total_energy_cost"} <= lost if version == "2.1.1" else not lost


def test_what_2_1_1_cannot_say_is_said_in_the_nearest_way_or_refused() -> None:
    session = a_told_session(auth_method=AUTH_METHOD_COMMAND, status=SESSION_STATUS_RESERVATION)
    power = CdrDimension(type=CDR_DIMENSION_TYPE_POWER, volume=Decimal(value="11"))
    session.charging_periods[0].dimensions.append(power)
    written = object_to(session, "2.1.1")
    back = object_from(Session, written.object, "2.1.1", OWNER).message
    assert (back.auth_method, back.status) == (AUTH_METHOD_AUTH_REQUEST, SESSION_STATUS_PENDING)
    assert "charging_periods[0].dimensions[1]" in {loss.path for loss in written.losses}
    for refused in (a_told_session(location=None), a_cdr(credit=True, last_updated=NOW)):
        with pytest.raises(ObjectNotRepresentable):
            object_to(refused, "2.1.1")


@pytest.mark.parametrize(
    ("contract_id", "issuer"),
    [("DEEMPC12345678X", "DEEMP"), ("de-emp-C12345678", "deemp"), ("DE*8AA*123456*2", "DE8AA"), ("4711", "ZZZZZ")],
)
def test_2_1_1_says_who_issued_a_token_by_its_contract(contract_id: str, issuer: str) -> None:
    wire = object_to(a_told_session(), "2.1.1").object | {"auth_id": contract_id}
    token = object_from(Session, wire, "2.1.1", OWNER).message.cdr_token
    assert (token.country_code + token.party_id, token.contract_id) == (issuer, contract_id)


@pytest.mark.parametrize(
    ("cost", "incl_vat"),
    [
        ({"before_taxes": 5, "taxes": [{"name": "VAT", "amount": Number("0.95")}]}, "5.95"),
        ({"before_taxes": 5, "taxes": [{"name": "A", "amount": 1}, {"name": "B", "amount": Number("0.5")}]}, "6.5"),
        ({"before_taxes": 5}, ""),
        ({"before_taxes": 5, "taxes": [{"name": "VAT"}]}, ""),
        ({"before_taxes": 5, "taxes": "none"}, ""),
        ({"excl_vat": 5, "incl_vat": 6}, "6"),
    ],
)
def test_the_taxes_of_2_3_0_add_up(cost: dict[str, Any], incl_vat: str) -> None:
    wire = object_to(a_told_session(), "2.3.0").object | {"total_cost": cost}
    found = object_from(Session, wire, "2.3.0", OWNER).message.total_cost
    assert (found.excl_vat.value, found.incl_vat.value) == ("5", incl_vat)


def period(minute: int, wh: int = 1) -> dict[str, Any]:
    return {"start_date_time": f"2026-01-01T10:{minute:02}:00Z", "dimensions": [{"type": "ENERGY", "volume": wh}]}


def patch(second: int, *periods: dict[str, Any], **others: Any) -> dict[str, Any]:
    return {"last_updated": f"2026-01-01T12:00:{second:02}Z", "charging_periods": [*periods], **others}


@given(st.permutations(range(1, 6)), st.lists(st.integers(1, 5), max_size=3))
def test_periods_add_up_in_whichever_order_patches_come_and_however_often(order: list[int], again: list[int]) -> None:
    held = {"kwh": 0, **patch(0, period(0))}
    for number in [*order, *again]:
        held = session_merged(held, patch(number, period(number), kwh=number), "2.2.1")
    assert held == {"kwh": 5, **patch(5, *(period(number) for number in range(6)))}


def test_a_period_that_is_sent_again_takes_the_place_of_the_first_unless_it_is_older() -> None:
    held = session_merged(patch(5, period(0, 1)), patch(6, period(0, 2)), "2.2.1")
    assert held["charging_periods"] == [period(0, 2)]
    assert session_merged(held, patch(4, period(0, 9)), "2.2.1") == held
    assert session_merged(held, patch(7), "2.2.1")["charging_periods"] == [period(0, 2)]
    assert session_merged(held, patch(7, period(3)), "2.1.1")["charging_periods"] == [period(3)]

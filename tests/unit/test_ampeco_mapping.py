"""Our objects in AMPECO's form and back: nothing is lost in silence, and no price is approximated."""

import json
from decimal import Decimal
from typing import Any

import pytest
from evbridge.partner.ampeco.v3 import charge_point_pb2, evse_pb2, location_pb2, tariff_pb2
from evbridge.v1.charger_pb2 import Charger
from evbridge.v1.location_pb2 import Connector, ConnectorType, Evse, EvseStatus, Location
from evbridge.v1.tariff_pb2 import Tariff
from google.protobuf.json_format import MessageToJson
from google.protobuf.text_format import Parse
from hypothesis import given
from hypothesis import strategies as st

from service.domain.country import ALPHA_2, ALPHA_3, alpha_3
from service.domain.fields import clear_output_only
from service.errors import TariffNotRepresentable
from service.partners.ampeco import mapping as ampeco
from service.partners.ampeco.mapping_charger import charge_point_from, charge_point_to
from service.partners.ampeco.mapping_evse import connector_to, evse_from, evse_to
from service.partners.ampeco.mapping_location import location_from, location_to
from service.partners.ampeco.mapping_tariff import Billing, tariff_from, tariff_to
from tests.filling import DEGREES, filled, silently_lost

TIME = st.sampled_from(["00:00", "07:30", "24:00"])
ID = st.sampled_from(["1", "AC*1", "site 4"])
OURS: dict[str, st.SearchStrategy[Any]] = {
    "coordinates": st.fixed_dictionaries({"latitude": DEGREES, "longitude": DEGREES}),
    "latitude": DEGREES,
    "longitude": DEGREES,
    "weekday": st.integers(1, 7),
    "period_begin": TIME,
    "period_end": TIME,
    "country": st.sampled_from(["NOR", "USA", "DEU", "XXX"]),
    "country_code": st.sampled_from(["NO", "de"]),
    "party_id": st.just("ABC"),
    "id": ID,
    "twentyfourseven": st.booleans(),
    "status_schedule": st.just([]),
}
THEIRS: dict[str, st.SearchStrategy[Any]] = {
    "country": st.sampled_from(["NO", "US", "XX"]),
    "locale": st.sampled_from(["en", "de"]),
    "external_id": st.sampled_from(["NO*ABC*1", "X-1", "a*b*c"]),
    "type": st.sampled_from(["type2", "nacs", "cee16", "free", "public", "personal"]),
    "status": st.sampled_from(["enabled", "disabled", "out of order", "demo"]),
    "parking_type": st.sampled_from(["ON_STREET", "ON_THE_MOON"]),
    "facilities": st.just(["WIFI", "SAUNA"]),
    "current_type": st.sampled_from(["ac", "dc"]),
    "phases": st.sampled_from(["single_phase", "three_phase", "?"]),
    "max_voltage": st.sampled_from(["230", "220-240", "many"]),
}
# Their beginning and end are times, not texts as those above.
EXCEPTIONAL = {"exceptional_openings": st.just([]), "exceptional_closings": st.just([])}


def written(message: Any, *clear: str) -> Any:
    """What a caller can write of it."""
    copy = type(message)()
    copy.CopyFrom(message)
    clear_output_only(copy)
    for name in clear:
        copy.ClearField(name)
    return copy


@given(filled(Location, OURS | EXCEPTIONAL | {"evses": st.just([])}))
def test_nothing_of_a_location_is_lost_in_silence(location: Location) -> None:
    there = location_to(location)
    back = location_from(there.message).message
    assert silently_lost(written(location, "etag"), back, there.losses) == []


@given(filled(location_pb2.Location, THEIRS))
def test_nothing_of_a_location_of_theirs_is_lost_in_silence(theirs: location_pb2.Location) -> None:
    here = location_from(theirs)
    back = location_to(here.message).message
    assert silently_lost(written(theirs), back, here.losses) == []


@given(filled(Evse, OURS))
def test_nothing_of_an_evse_is_lost_in_silence(evse: Evse) -> None:
    there = evse_to(evse, 7, 1)
    there.message.connectors.extend(connector_to(connector).message for connector in evse.connectors)
    charge_point = charge_point_to(Charger(id=evse.charger_id), 3).message
    back = evse_from(there.message, charge_point).message
    assert silently_lost(written(evse), back, there.losses) == []


@given(filled(evse_pb2.Evse, THEIRS))
def test_nothing_of_an_evse_of_theirs_is_lost_in_silence(theirs: evse_pb2.Evse) -> None:
    here = evse_from(theirs)
    back = evse_to(here.message, theirs.charge_point_id, 1).message
    assert silently_lost(written(theirs, "network_id", "charge_point_id"), back, here.losses) == []


@given(filled(Connector, OURS))
def test_nothing_of_a_connector_is_lost_in_silence(connector: Connector) -> None:
    there = connector_to(connector)
    evse = evse_to(Evse(connectors=[connector]), 7, 1).message
    evse.connectors.append(there.message)
    (back,) = evse_from(evse).message.connectors
    assert silently_lost(written(connector), back, there.losses) == []


@given(filled(Charger, OURS))
def test_nothing_of_a_charger_is_lost_in_silence(charger: Charger) -> None:
    there = charge_point_to(charger, 3)
    back = charge_point_from(there.message).message
    back.ClearField("site_id")
    assert silently_lost(written(charger, "etag", "sockets"), back, there.losses) == []


@given(filled(charge_point_pb2.ChargePoint, THEIRS))
def test_nothing_of_a_charge_point_is_lost_in_silence(theirs: charge_point_pb2.ChargePoint) -> None:
    here = charge_point_from(theirs)
    back = charge_point_to(here.message, theirs.location_id).message
    assert silently_lost(written(theirs), back, here.losses) == []


def test_a_location_in_their_words() -> None:
    location = Parse(
        """
        country_code: "NO" party_id: "ABC" id: "L1" publish: true name: "Sognsvann" address: "Ankerveien 1"
        city: "Oslo" postal_code: "0851" state: "Oslo" country: "NOR" time_zone: "Europe/Oslo" parking_type: PARKING_TYPE_PARKING_LOT
        coordinates { latitude: "59.970000" longitude: "-10.7300001" } facilities: FACILITY_WIFI site_id: "4711"
        charging_when_closed: false
        opening_times { twentyfourseven: false regular_hours { weekday: 7 period_begin: "08:00" period_end: "22:00" } }
        """,  # noqa: E501
        Location(),
    )
    there = location_to(location)
    assert json.loads(MessageToJson(there.message)) == {
        "externalId": "NO*ABC*L1",
        "name": [{"locale": "en", "translation": "Sognsvann"}],
        "streetAddress": [{"locale": "en", "translation": "Ankerveien 1"}],
        "city": "Oslo",
        "postCode": "0851",
        "region": "Oslo",
        "country": "NO",
        "timezone": "Europe/Oslo",
        "parkingType": "PARKING_LOT",
        "geoposition": {"latitude": 59.97, "longitude": -10.7300001},
        "facilities": ["WIFI"],
        "workingHours": {
            "isAlwaysOpen": False,
            "stopSessionOutsideWorkingHours": True,
            "hours": {"sunday": [{"start": "08:00", "end": "22:00"}]},
        },
    }
    assert {loss.path for loss in there.losses} == {"publish", "site_id"}


@pytest.mark.parametrize(
    ("status", "hardware", "charge_point", "ours"),
    [
        ("enabled", "available", "enabled", EvseStatus.EVSE_STATUS_AVAILABLE),
        ("enabled", "suspended_ev", "enabled", EvseStatus.EVSE_STATUS_CHARGING),
        ("enabled", "SuspendedEVSE", "demo", EvseStatus.EVSE_STATUS_CHARGING),
        ("enabled", "", "enabled", EvseStatus.EVSE_STATUS_UNKNOWN),
        ("enabled", "something new", "enabled", EvseStatus.EVSE_STATUS_UNKNOWN),
        ("disabled", "available", "enabled", EvseStatus.EVSE_STATUS_INOPERATIVE),
        ("enabled", "available", "out of order", EvseStatus.EVSE_STATUS_OUTOFORDER),
    ],
)
def test_what_is_shut_is_never_available(
    status: str, hardware: str, charge_point: str, ours: EvseStatus.ValueType
) -> None:
    evse = evse_pb2.Evse(status=status, hardware_status=hardware)
    assert evse_from(evse, charge_point_pb2.ChargePoint(status=charge_point)).message.status == ours


def test_a_group_of_tariffs_carries_the_tariffs_of_the_connectors() -> None:
    evse = Evse(uid="1", connectors=[Connector(id="1", tariff_ids=["AC"])])
    assert "connectors[0].tariff_ids[0]" in {loss.path for loss in evse_to(evse, 7, 1).losses}
    there = evse_to(evse, 7, 1, tariff_group_id=9)
    assert there.message.tariff_group_id == 9
    assert not any("tariff_ids" in loss.path for loss in there.losses)


def test_a_plug_that_does_not_tell_its_phases_takes_those_of_the_evse() -> None:
    evse = evse_pb2.Evse(
        current_type="ac", power_options={"phases": "three_phase"}, connectors=[evse_pb2.Connector(type="cee16")]
    )
    (found,) = evse_from(evse).message.connectors
    assert found.standard == ConnectorType.CONNECTOR_TYPE_IEC_60309_2_THREE_16


def test_every_country_has_two_codes() -> None:
    assert len(ALPHA_2) == len(ALPHA_3) == 249 + 1  # Kosovo's are user-assigned
    assert (ALPHA_2["NOR"], ALPHA_3["DE"]) == ("NO", "DEU")


@pytest.mark.parametrize(
    ("code", "ours"),
    [("DE", "DEU"), ("de", "DEU"), (" deu", "DEU"), ("XK", "XKX"), ("XX", ""), ("Germany", ""), ("", "")],
)
def test_a_country_is_known_by_either_code_in_any_case(code: str, ours: str) -> None:
    assert alpha_3(code) == ours


def test_what_is_left_out_of_an_import_can_be_told() -> None:
    assert ampeco.is_roaming(location_pb2.Location(roaming_operator_id=1))
    assert not ampeco.is_roaming(evse_pb2.Evse())
    assert ampeco.is_private(charge_point_pb2.ChargePoint(type="private"))
    assert ampeco.is_personal(charge_point_pb2.ChargePoint(type="personal"))
    assert ampeco.is_demo(charge_point_pb2.ChargePoint(status="demo"))


@pytest.mark.parametrize(("voltage", "ours"), [("220-240", 230), ("400", 400), ("many", 0), ("9" * 40, 0), ("", 0)])
def test_only_a_voltage_that_is_one_is_taken(voltage: str, ours: int) -> None:
    power = {"max_voltage": voltage, "max_power": 2**40}
    evse = evse_pb2.Evse(power_options=power, connectors=[evse_pb2.Connector()])
    (connector,) = evse_from(evse).message.connectors
    assert (connector.max_voltage, connector.max_electric_power) == (ours, 0)


# Tariffs

BILLING = Billing("EUR", {None: 1, Decimal("25"): 2})
TARIFF = """
    country_code: "NO" party_id: "ABC" id: "AC" currency: "EUR" name: "AC by day"
    tariff_alt_text { language: "no" text: "per kWh" }
    elements { price_components { type: TARIFF_DIMENSION_TYPE_FLAT price { value: "1.00" } vat { value: "25" } step_size: 0 } }
    elements {
      price_components { type: TARIFF_DIMENSION_TYPE_ENERGY price { value: "0.35" } vat { value: "25.0" } step_size: 1 }
      price_components { type: TARIFF_DIMENSION_TYPE_TIME price { value: "6" } vat { value: "25" } step_size: 900 }
      price_components { type: TARIFF_DIMENSION_TYPE_PARKING_TIME price { value: "12" } vat { value: "25" } step_size: 60 }
    }
"""  # noqa: E501


def tariff(more: str = "", **replaced: str) -> Tariff:
    text = TARIFF
    for old, new in replaced.items():
        text = text.replace(old, new)
    return Parse(text + more, Tariff())


def prices(tariff: Tariff) -> dict[int, tuple[Decimal, int, Decimal | None]]:
    """What counts: the first component of each dimension. Wh are whole, a session has no blocks."""
    found: dict[int, tuple[Decimal, int, Decimal | None]] = {}
    for element in tariff.elements:
        for one in element.price_components:
            step = one.step_size if one.type in (3, 4) else 1
            vat = Decimal(one.vat.value) if one.HasField("vat") else None
            found.setdefault(one.type, (Decimal(one.price.value), step, vat))
    return found


def test_a_tariff_in_their_words() -> None:
    there = tariff_to(tariff(), BILLING)
    assert json.loads(MessageToJson(there.message)) == {
        "name": "AC by day",
        "type": "duration+energy",
        "description": {"no": "per kWh"},
        "externalId": "NO*ABC*AC",
        "pricing": {
            "connectionFee": {"value": "1"},
            "pricePerKwh": {"value": "0.35"},
            "pricePeriodInMinutes": "15",
            "pricePerPeriod": {"value": "1.5"},
            "idleFeePerMinute": {"value": "0.2"},
            "taxID": "2",
        },
    }
    assert there.losses == ()


@pytest.mark.parametrize(
    ("given", "path"),
    [
        (tariff('max_price { excl_vat { value: "9" } }'), "max_price"),
        (tariff('min_price { excl_vat { value: "1" } incl_vat { value: "2" } }'), "min_price.incl_vat"),
        (tariff("start_date_time { seconds: 1 }"), "start_date_time"),
        (tariff("end_date_time { seconds: 1 }"), "end_date_time"),
        (tariff("type: TARIFF_TYPE_AD_HOC_PAYMENT"), "type"),
        (tariff("use_type: TARIFF_USE_TYPE_COST"), "use_type"),
        (tariff(EUR="NOK"), "currency"),
        (tariff('elements { restrictions { start_time: "08:00" } }'), "elements[2].restrictions.start_time"),
        (tariff(**{'"0.35"': '"0.350001"'}), "elements[1].price_components[0].price"),
        (tariff(**{"25.0": "24"}), "elements[1].price_components[0].vat"),
        (tariff(**{'"6"': '"6.01"', "900": "60"}), "elements[1].price_components[1].price"),
        (tariff(**{"size: 900": "size: 30"}), "elements[1].price_components[1].step_size"),
        (tariff(**{"step_size: 60": "step_size: 120"}), "elements[1].price_components[2].step_size"),
        (tariff(**{"step_size: 1 }": "step_size: 500 }"}), "elements[1].price_components[0].step_size"),
        (tariff(TYPE_ENERGY="TYPE_SOCKET_COUNT"), "elements[1].price_components[0].type"),
        (
            tariff(**{"step_size: 900": 'step_size: 900 price_cap { value: "1" }'}),
            "elements[1].price_components[1].price_cap",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_tariff_that_would_have_other_prices_is_refused(given: Tariff, path: str) -> None:
    with pytest.raises(TariffNotRepresentable) as refused:
        tariff_to(given, BILLING)
    assert path in {violation.path for violation in refused.value.violations}


def test_a_price_that_never_counts_is_named() -> None:
    more = 'elements { price_components { type: TARIFF_DIMENSION_TYPE_FLAT price { value: "7" } step_size: 1 } }'
    there = tariff_to(tariff(more), BILLING)
    assert [loss.path for loss in there.losses] == ["elements[2].price_components[0]"]
    assert there.message.pricing.connection_fee.value == "1"


COMPONENT = st.tuples(
    st.sampled_from([1, 2, 3, 4, 5]), st.decimals(0, 100, places=3), st.sampled_from([0, 1, 60, 900, 1800, 7])
).map(lambda made: {"type": made[0], "price": {"value": f"{made[1]:f}"}, "step_size": made[2]})
ELEMENTS = st.lists(
    st.fixed_dictionaries({"price_components": st.lists(COMPONENT, min_size=1, max_size=2)}), min_size=1, max_size=3
)


WORDS = {"language": st.sampled_from(["en", "no"]), "use_type": st.sampled_from([0, 2])}
BOUND = st.none() | st.fixed_dictionaries({"excl_vat": st.fixed_dictionaries({"value": st.just("0.50")})})
REFUSED = ("type", "max_price", "start_date_time", "end_date_time")


@given(filled(Tariff, OURS | WORDS), ELEMENTS, BOUND)
def test_a_tariff_comes_back_with_its_prices_or_is_refused(given: Tariff, elements: Any, bound: Any) -> None:
    for name in ("elements", "min_price", *REFUSED):
        given.ClearField(name)
    given.MergeFrom(Tariff(currency="EUR", elements=elements, min_price=bound))
    try:
        there = tariff_to(given, BILLING)
    except TariffNotRepresentable as refused:
        assert refused.violations
        return
    back = tariff_from(there.message, BILLING).message
    assert prices(back) == prices(given)
    assert Decimal(back.min_price.excl_vat.value or 0) == Decimal(given.min_price.excl_vat.value or 0)
    assert silently_lost(written(given, "etag", "elements", "min_price"), back, there.losses) == []


THEIR_TARIFFS = {
    "type": st.sampled_from(["free", "flat rate", "standard", "standard_tod"]),
    "time_limit_minutes": st.floats(1, 80),  # 0 is no limit, and false is what is not set
    **{
        inner.name: st.just(True)
        for field in tariff_pb2.Tariff.DESCRIPTOR.fields
        for inner in (field.message_type.fields if field.message_type else ())
        if inner.cpp_type == inner.CPPTYPE_BOOL
    },
}


@given(filled(tariff_pb2.Tariff, THEIRS | THEIR_TARIFFS))
def test_a_tariff_of_theirs_comes_back_or_is_refused(theirs: tariff_pb2.Tariff) -> None:
    try:
        here = tariff_from(theirs, BILLING)
    except TariffNotRepresentable as refused:
        assert refused.violations
        return
    back = tariff_to(here.message, Billing(here.message.currency, BILLING.taxes)).message
    assert silently_lost(written(theirs, "type", "pricing"), back, here.losses) == []


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ('type: "standard_tod"', "type"),
        ('type: "free" restrictions { start_date: "2026-01-01" }', "restrictions"),
        ('type: "standard" pricing { tax_id: 1 duration_fee_limit { value: "5" } }', "pricing.duration_fee_limit"),
        ('type: "standard" pricing { tax_id: 1 multi_idle_fee { first_unit: 0 } }', "pricing.multi_idle_fee"),
        ('type: "standard" pricing { tax_id: 7 price_per_kwh { value: "1" } }', "pricing.tax_id"),
        ('type: "standard" pricing { tax_id: 1 price_per_period { value: "1" } }', "pricing.price_period_in_minutes"),
        (
            'type: "standard" pricing { tax_id: 1 price_per_period { value: "1" } price_period_in_minutes: 7 }',
            "pricing.price_per_period",
        ),
        ('type: "flat rate" pricing { tax_id: 1 connection_fee { value: "1" } }', "pricing.connection_fee"),
        ('type: "standard" pricing { tax_id: 1 }', "pricing"),
    ],
)
def test_a_tariff_of_theirs_that_ocpi_cannot_say_is_refused(text: str, path: str) -> None:
    with pytest.raises(TariffNotRepresentable) as refused:
        tariff_from(Parse(text, tariff_pb2.Tariff()), BILLING)
    assert path in {violation.path for violation in refused.value.violations}


def test_false_and_zero_in_an_answer_bind_nothing() -> None:
    answer = Parse(
        """
        id: 3 name: "Flat" type: "flat rate" currency: "EUR" stop_session {} display {} partner {}
        restrictions { apply_to_ad_hoc_users: false }
        pricing { price_per_session { value: "2.5" } tax_id: 2 charge_point_electricity_rate: false
                  duration_fee_grace_period: 0 price_periods {} }
        """,
        tariff_pb2.Tariff(),
    )
    here = tariff_from(answer, BILLING)
    assert here.losses == ()
    assert here.message.id == "3"
    assert prices(here.message) == {2: (Decimal("2.5"), 1, Decimal(25))}

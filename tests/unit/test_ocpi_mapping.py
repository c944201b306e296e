"""Our locations and tariffs as objects of OCPI 2.1.1, 2.2.1 and 2.3.0, and back: nothing is lost in silence.

EVBRIDGE_OCPI_EXAMPLES names a folder of wire examples of 2.2.1, for example the specification's: `location_*.json` and
`tariff_*.json` are read beside ours.
"""

import json
import os
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from evbridge.options.v1 import options_pb2 as options
from evbridge.v1.location_pb2 import Connector, Evse, Location
from evbridge.v1.tariff_pb2 import Tariff
from google.protobuf.message import Message
from google.protobuf.text_format import Parse
from hypothesis import assume, given
from hypothesis import strategies as st

from service.domain.fields import clear_output_only
from service.domain.keys import PartyKey
from service.domain.mapping import Loss
from service.domain.validation import validate
from service.errors import EvbridgeError, InvalidArgument, TariffNotRepresentable
from service.partners.ocpi.files import entry_of
from service.partners.ocpi.mapping import VERSIONS, CodecError, object_from, object_to, parsed, text_of
from tests.filling import DEGREES, filled, silently_lost
from tests.ocpi_schema import complaints

EXAMPLES = Path(__file__).parents[1] / "ocpi" / "examples"
TYPES: dict[str, Any] = {"location": Location, "evse": Evse, "connector": Connector, "tariff": Tariff}
OWNER = PartyKey("DE", "ABC")
ID = st.sampled_from(["1", "AC*1", "site 4"])
SPECIAL: dict[str, st.SearchStrategy[Any]] = {
    "latitude": DEGREES,
    "longitude": DEGREES,
    "country_code": st.just("DE"),
    "party_id": st.just("ABC"),
    "publish": st.sampled_from([True, True, False]),
    "language": st.sampled_from(["en", "de"]),
    "evbridge.v1.PriceComponent.type": st.sampled_from([1, 2, 3, 4, 4, 7]),
}
VALUES = st.sampled_from([*VERSIONS])


def travelling(message: Any) -> Any:
    """What of it a party may be shown: no field that is ours alone or set by us."""
    copy = type(message)()
    copy.CopyFrom(message)
    clear_output_only(copy)
    _clear_ours(copy)
    return copy


def _clear_ours(message: Message) -> None:
    for field, value in message.ListFields():
        if field.GetOptions().Extensions[options.ocpi_since] == options.OCPI_RELEASE_NONE:
            message.ClearField(field.name)
        elif field.message_type and field.message_type.full_name.startswith("evbridge."):
            for inner in value if field.is_repeated else [value]:
                _clear_ours(inner)


def back(type: Any, text: str, version: str) -> Any:
    return object_from(type, parsed(text.encode()), version, OWNER, "Europe/Berlin").message


@pytest.mark.parametrize("type", TYPES.values(), ids=TYPES)
@given(data=st.data(), version=VALUES)
def test_each_field_is_found_again_or_named_as_lost(type: Any, data: st.DataObject, version: str) -> None:
    message = data.draw(filled(type, SPECIAL, always=("last_updated", "country_code", "party_id", "id")))
    try:
        made, losses = object_to(message, version)
    except EvbridgeError as refused:
        assert isinstance(refused, TariffNotRepresentable | InvalidArgument)
        assume(False)
    assert [*complaints(version, type.__name__, made)] == []
    assert silently_lost(travelling(message), back(type, text_of(made), version), losses) == []


def test_a_forgotten_field_and_a_foreign_member_would_be_found() -> None:
    """The control of the test above."""
    location = Parse(WHOLE, Location())
    made, losses = object_to(location, "2.2.1")
    lost = silently_lost(travelling(location), back(Location, text_of(made | {"name": None}), "2.2.1"), losses)
    assert lost == ["name"]
    assert {"/type is missing", "/country_code is not known"} < {*complaints("2.1.1", "Location", made)}


def examples() -> Iterator[tuple[str, str, Any]]:
    """(file, version, type)."""
    for path in sorted(EXAMPLES.glob("*.json")):
        kind, _, version = path.stem.partition("_")
        yield str(path), version, TYPES[kind]
    if folder := os.environ.get("EVBRIDGE_OCPI_EXAMPLES"):
        for kind, pattern in (("location", "location_example*.json"), ("tariff", "tariff*_*.json")):
            yield from ((str(path), "2.2.1", TYPES[kind]) for path in sorted(Path(folder).glob(pattern)))


def test_every_example_is_valid_and_comes_back_equal() -> None:
    for path, version, type in examples():
        text = Path(path).read_bytes()
        message, notices = object_from(type, parsed(text), version, OWNER)
        assert notices == (), path
        validate(message)
        made, losses = object_to(message, version)
        assert losses == (), path
        assert exact(text_of(made)) == exact(text.decode()), path


def exact(text: str) -> Any:
    return json.loads(text, parse_float=Decimal)


WHOLE = """
    country_code: "DE" party_id: "ABC" id: "L1" publish: true name: "Town hall" address: "Platz 1" city: "Berlin"
    country: "DEU" time_zone: "Europe/Berlin" coordinates { latitude: "52.5200081" longitude: "13.40495" }
    parking_type: PARKING_TYPE_ON_DRIVEWAY site_id: "4711" help_phone: "110"
    last_updated { seconds: 1 nanos: 123456789 }
    evses {
        uid: "1" status: EVSE_STATUS_AVAILABLE last_updated { seconds: 1 } charger_id: "C1"
        connectors {
            id: "1" standard: CONNECTOR_TYPE_IEC_62196_T2 format: CONNECTOR_FORMAT_SOCKET
            power_type: POWER_TYPE_AC_2_PHASE max_voltage: 230 max_amperage: 16 tariff_ids: "T1" tariff_ids: "T2"
            last_updated { seconds: 1 }
        }
    }
    evses {
        uid: "2" status: EVSE_STATUS_AVAILABLE last_updated { seconds: 1 }
        connectors {
            id: "1" standard: CONNECTOR_TYPE_MCS format: CONNECTOR_FORMAT_CABLE power_type: POWER_TYPE_DC
            max_voltage: 1250 max_amperage: 3000 last_updated { seconds: 1 }
        }
    }
"""
CONNECTOR = {"id": "1", "standard": "IEC_62196_T2", "format": "SOCKET", "last_updated": "1970-01-01T00:00:01Z"}
EVSE = {"uid": "1", "status": "AVAILABLE", "last_updated": "1970-01-01T00:00:01Z"}
OLD = {
    "id": "L1",
    "type": "OTHER",
    "name": "Town hall",
    "address": "Platz 1",
    "city": "Berlin",
    "postal_code": "",
    "country": "DEU",
    "time_zone": "Europe/Berlin",
    "last_updated": "1970-01-01T00:00:01.123Z",
    "coordinates": {"latitude": "52.520008", "longitude": "13.404950"},
    "evses": [
        EVSE
        | {
            "connectors": [
                CONNECTOR | {"power_type": "AC_1_PHASE", "voltage": 230, "amperage": 16, "tariff_id": "T1"},
            ]
        }
    ],
}


def test_a_location_in_2_1_1_has_its_names_and_says_no_more_than_is_true() -> None:
    made, losses = object_to(Parse(WHOLE, Location()), "2.1.1")
    assert exact(text_of(made)) == OLD
    assert [loss.path for loss in losses] == [
        "coordinates.latitude",
        "parking_type",
        "evses[0].connectors[0].power_type",
        "evses[0].connectors[0].tariff_ids[1]",
        "evses[1]",
        "help_phone",
    ]
    assert losses[-1] == Loss("help_phone", "OCPI 2.1.1 has no place for it")


def test_what_drivers_must_not_see_is_not_told_where_that_cannot_be_said() -> None:
    location = Parse(WHOLE, Location())
    location.publish = False
    with pytest.raises(InvalidArgument, match="publish"):
        object_to(location, "2.1.1")
    assert object_to(location, "2.2.1").object["publish"] is False


def test_the_end_of_a_day_is_written_as_ocpi_does() -> None:
    location = Parse(WHOLE, Location())
    location.opening_times.twentyfourseven = False
    location.opening_times.regular_hours.add(weekday=1, period_begin="08:00", period_end="24:00")
    made, losses = object_to(location, "2.3.0")
    assert made["opening_times"]["regular_hours"] == [{"weekday": 1, "period_begin": "08:00", "period_end": "00:00"}]
    assert [loss.path for loss in losses] == ["opening_times.regular_hours[0].period_end"]


def test_a_connector_that_a_version_cannot_name_is_refused() -> None:
    connector = Parse(WHOLE, Location()).evses[1].connectors[0]
    with pytest.raises(InvalidArgument) as refused:
        object_to(connector, "2.2.1")
    assert [violation.path for violation in refused.value.violations] == ["standard"]
    assert object_to(connector, "2.3.0").object["standard"] == "MCS"


TARIFF = """
    country_code: "DE" party_id: "ABC" id: "T" currency: "EUR" last_updated { seconds: 1 }
    elements { price_components { type: TARIFF_DIMENSION_TYPE_ENERGY price { value: "0.25" } step_size: 1 } %s } %s
"""
RESERVATION = (
    "elements { price_components { type: TARIFF_DIMENSION_TYPE_FLAT price { value: '1' } step_size: 1 }"
    " restrictions { reservation: RESERVATION_RESTRICTION_TYPE_RESERVATION } }"
)
REFUSED = [
    ("2.3.0", "", "elements { price_components { type: TARIFF_DIMENSION_TYPE_MONTHLY_FLAT } }", "elements[1]"),
    ("2.2.1", "", "tax_included: TAX_INCLUDED_YES", "tax_included"),
    ("2.1.1", "", "min_price { excl_vat { value: '1' } }", "min_price"),
    ("2.1.1", "restrictions { max_current { value: '16' } }", "", "elements[0].restrictions.max_current"),
    ("2.1.1", "restrictions { reservation: RESERVATION_RESTRICTION_TYPE_RESERVATION }", "", "elements"),
]


@pytest.mark.parametrize(("version", "element", "more", "path"), REFUSED)
def test_a_tariff_that_would_have_other_prices_is_refused(version: str, element: str, more: str, path: str) -> None:
    tariff = Parse(TARIFF % (element, more), Tariff())
    with pytest.raises(TariffNotRepresentable) as refused:
        object_to(tariff, version)
    assert refused.value.violations[0].path.startswith(path)
    newer = {"2.1.1": "2.2.1", "2.2.1": "2.3.0"}.get(version)
    assert newer is None or object_to(tariff, newer).losses == ()


def test_2_1_1_is_not_told_what_a_reservation_costs() -> None:
    made, losses = object_to(Parse(TARIFF % ("", RESERVATION), Tariff()), "2.1.1")
    assert len(made["elements"]) == 1
    assert [loss.path for loss in losses] == ["elements[1]"]


def test_2_3_0_says_whether_taxes_are_in_a_price_and_names_its_limits() -> None:
    tariff = Parse(TARIFF % ("", "max_price { excl_vat { value: '10' } incl_vat { value: '11.9' } }"), Tariff())
    made = exact(text_of(object_to(tariff, "2.3.0").object))
    assert made["tax_included"] == "NO"
    assert made["max_price"] == {"before_taxes": 10, "after_taxes": Decimal("11.9")}


def received(**changes: Any) -> Any:
    return json.loads((EXAMPLES / "location_2.2.1.json").read_text()) | changes


def evse_of(**changes: Any) -> Any:
    evse = received()["evses"][0] | {"uid": "2"}
    return received(evses=[*received()["evses"], evse | changes])


CONNECTORS = received()["evses"][0]["connectors"]
WIRE = [(path.stem.partition("_")[0], json.loads(path.read_text())) for path in sorted(EXAMPLES.glob("*.json"))]
UNREAD = [
    (received(colour="blue"), "/colour", lambda it: it.name == "Hafen"),
    (received(facilities=["SAUNA", "WIFI"]), "/facilities/0", lambda it: [*it.facilities] == [20]),
    (received(parking_type="ON_THE_MOON"), "/parking_type", lambda it: not it.parking_type),
    (evse_of(status="SLEEPING"), "/evses/1/status", lambda it: it.evses[1].status == 9),
    (evse_of(connectors=[]), "", lambda it: len(it.evses) == 2),
    (
        evse_of(connectors=[CONNECTORS[0] | {"standard": "USB_C"}, CONNECTORS[1]]),
        "/evses/1/connectors/0/standard",
        lambda it: [each.id for each in it.evses[1].connectors] == ["2"],
    ),
    (
        evse_of(connectors=[CONNECTORS[0] | {"standard": "USB_C"}]),
        "/evses/1/connectors/0/standard",
        lambda it: [each.uid for each in it.evses] == ["1001"],
    ),
    (received(images=[{"url": "https://example.com/1"}]), "/images/0/category", lambda it: not it.images),
    (received(last_updated="2026-03-01T08:00:00"), "", lambda it: it.last_updated.seconds == 1772352000),
    (received(site_id="4711", etag="x"), "/site_id", lambda it: not it.site_id),
    (received(name=None, owner=None), "", lambda it: not it.name and not it.HasField("owner")),
]


@pytest.mark.parametrize(("value", "pointer", "holds"), UNREAD)
def test_what_nobody_knows_costs_itself_alone_and_is_named(value: Any, pointer: str, holds: Any) -> None:
    message, notices = object_from(Location, parsed(json.dumps(value).encode()), "2.2.1")
    assert holds(message)
    assert [notice.pointer for notice in notices][:1] == [pointer][: bool(pointer)]


@pytest.mark.parametrize(
    ("value", "pointer"),
    [
        (received(coordinates="north"), "/coordinates"),
        (received(evses={"uid": "1"}), "/evses"),
        (received(address=None), "/address"),
        (received(coordinates={"latitude": "53.54321"}), "/coordinates/longitude"),
        (received(evses=["1"]), "/evses/0"),
    ],
)
def test_what_cannot_be_read_is_refused_at_its_place(value: Any, pointer: str) -> None:
    with pytest.raises(CodecError) as refused:
        object_from(Location, parsed(json.dumps(value).encode()), "2.2.1")
    assert refused.value.pointer.startswith(pointer)


JUNK = st.one_of(
    st.sampled_from([None, True, -1, "", "x", [], {}, [[]], [None], {"a": 1}, 10**30, 1.5, float("nan"), "\ud800"]),
    st.text(max_size=3),
)


def spoiled(value: Any, data: st.DataObject) -> Any:
    """With junk somewhere: in place of a member or an item, or as a new one."""
    if not (isinstance(value, dict | list) and value) or data.draw(st.integers(0, 3)) == 0:
        return data.draw(JUNK)
    copy: Any = value.copy()
    if isinstance(copy, dict):
        name = data.draw(st.sampled_from([*copy, "new"]))
        copy[name] = spoiled(copy.get(name), data)
    else:
        place = data.draw(st.integers(0, len(copy) - 1))
        copy[place] = spoiled(copy[place], data)
    return copy


@given(data=st.data(), version=VALUES)
def test_whatever_is_received_is_read_or_refused_at_a_place(data: st.DataObject, version: str) -> None:
    kind, written = data.draw(st.sampled_from(WIRE))
    value = spoiled(written, data)
    entry = entry_of("f#", parsed(json.dumps(value).encode()), version, OWNER, "Europe/Berlin")
    assert all(pointer.startswith("f#") and problem for pointer, problem in entry.notices)
    assert entry.message is not None or entry.notices
    try:
        message = object_from(TYPES[kind], parsed(json.dumps(value).encode()), version, OWNER).message
    except CodecError as refused:
        assert refused.problem
    else:
        assert message.IsInitialized()


def test_a_price_that_is_not_understood_is_kept_in_mind() -> None:
    value = json.loads((EXAMPLES / "tariff_2.2.1.json").read_text())
    value["elements"][0]["restrictions"]["max_speed"] = 3
    value["elements"][0]["price_components"].append({"type": "MOONLIGHT", "price": 1, "step_size": 1})
    value["brand"] = "x"
    message, notices = object_from(Tariff, parsed(json.dumps(value).encode()), "2.2.1")
    assert [*message.not_understood] == [
        "/elements/0/price_components/2/type",
        "/elements/0/restrictions/max_speed",
    ]
    assert len(notices) == 3


@pytest.mark.parametrize(
    ("digits", "text"),
    [("1e3", "1000"), ("0.1234567890126", "0.123456789013"), ("2.50", "2.50"), ("1E-400", "0"), ("1e400", "1e400")],
)
def test_numbers_are_read_without_an_exponent_and_with_12_decimals(digits: str, text: str) -> None:
    value = (EXAMPLES / "tariff_2.1.1.json").read_text().replace("0.25", digits)
    message = object_from(Tariff, parsed(value.encode()), "2.1.1", OWNER).message
    assert message.elements[0].price_components[0].price.value == text
